/* SPDX-License-Identifier: MIT */
#ifndef KERN_PACK_H
#define KERN_PACK_H
/*
 * pack.h - strips: 16 rows of a weight matrix side by side (packing version 2)
 *
 * A product wants one k of many outputs in a register; GGUF has many k of one
 * output in a block. A strip holds 16 rows of w, so 16 columns of y, with the
 * quants of GGUF in another order and its scales unchanged: no bit is added
 * to a value, and none lost. A register of 16 dwords holds a few pairs of k,
 * lane n those of row n, the even k of a pair in the lower half of the dword,
 * the odd one in the upper half, as bf16 products want them.
 *
 * For each 32 k, in turn:
 *
 *	low	4 vectors (Q8_0: none); k = 8v + 2i + h is in vector v, nibble i
 *		of half h
 *	high	Q5_0, Q5_K: 1 vector, the fifth bit of k is bit k / 2 of half
 *		k % 2; Q6_K: 2 vectors of 16 k each, two bits at 2 (k % 16 / 2)
 *	bytes	Q8_0: 8 vectors; k = 4v + 2i + h is in vector v, byte i of half
 *		h, plus 128
 *
 * and behind the quants of all k, in turn:
 *
 *	Q4_0, Q5_0, Q8_0	each 32 k: d of 16 rows (fp16)
 *	Q4_K, Q5_K		each 256 k: d and dmin of 16 rows, then for each
 *				32 k scale and min of 16 rows (bytes)
 *	Q6_K			each 256 k: d of 16 rows, then for each 16 k the
 *				scale of 16 rows (signed bytes)
 *
 * Rows that the matrix lacks in its last strip have zeros. A scale that is no
 * finite number becomes NaN: what a product makes of an infinite one is the
 * same nonsense. A zero element may differ from GGUF's in its sign, which no
 * product shows.
 */
#include "kernels/include/dtype.h"

#define KERN_STRIP	 16u /* rows of w, columns of y */
#define KERN_STRIP_ALIGN 64u

/**
 * kern_strip_bytes - bytes from one strip to the next
 * @dtype: any number
 * @cols: k, below 2^32
 *
 * Return: a multiple of KERN_STRIP_ALIGN, or 0 if matrices of this type are
 * not packed (F32, F16, BF16, unknown ones), or @cols is not whole blocks.
 */
u64 kern_strip_bytes(u32 dtype, u32 cols);

/**
 * kern_pack_strip - up to 16 rows of GGUF blocks to one strip
 * @dtype: a type that kern_strip_bytes() gives a length for
 * @cols: k, whole blocks
 * @rows: [nr_rows][dtype_row_bytes(dtype, cols)]
 * @nr_rows: 1 to 16; the strip is filled up with zeros
 * @strip: [kern_strip_bytes(dtype, cols)], aligned to 4 bytes
 */
void kern_pack_strip(u32 dtype, u32 cols, const u8 *rows, u32 nr_rows,
		     u8 *strip);

#endif
