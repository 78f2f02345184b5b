/* SPDX-License-Identifier: MIT */
#ifndef REF_STRIP_H
#define REF_STRIP_H
/*
 * strip.h - the numbers of a strip's layout, for each type (pack.h)
 */
#include "kernels/include/kern.h"
#include "kernels/include/pack.h"

#define STRIP_VEC 64u /* bytes of a vector: a dword for each row */

/* Bytes of a strip of 256 k, at most. */
#define STRIP_BLOCK_MAX 4352u

struct strip_type {
	u32 bits; /* of a quant; 0: not packed */
	u32 quant_bytes; /* of 32 k */
	u32 scale_len; /* k that scale_bytes belong to */
	u32 scale_bytes;
	u32 zero; /* the quant that means 0; 0 where there is a min */
};

/* KV_DTYPE_* -> its numbers; all zero for what is not packed */
static inline struct strip_type strip_type(u32 dtype)
{
	switch (dtype) {
	case KV_DTYPE_Q4_0:
		return (struct strip_type){ 4, 4 * STRIP_VEC, 32, 32, 8 };
	case KV_DTYPE_Q5_0:
		return (struct strip_type){ 5, 5 * STRIP_VEC, 32, 32, 16 };
	case KV_DTYPE_Q8_0:
		return (struct strip_type){ 8, 8 * STRIP_VEC, 32, 32, 128 };
	case KV_DTYPE_Q4_K:
		return (struct strip_type){ 4, 4 * STRIP_VEC, 256, 320, 0 };
	case KV_DTYPE_Q5_K:
		return (struct strip_type){ 5, 5 * STRIP_VEC, 256, 320, 0 };
	case KV_DTYPE_Q6_K:
		return (struct strip_type){ 6, 6 * STRIP_VEC, 256, 288, 32 };
	}
	return (struct strip_type){ 0 };
}

/* Bytes of all quants, in front of the scales. */
static inline size_t strip_quant_bytes(const struct strip_type *t, u32 cols)
{
	return (size_t)(cols / 32) * t->quant_bytes;
}

/* 32 k of a row: element k = scale[k / 16] * (q[k] - zero) - min */
struct strip_quants {
	u8 q[32];
	float scale[2];
	float min; /* 0 where the type has a zero point */
};

/*
 * Columns k .. k + 31 of a row of strips, or of blocks, which then go through
 * a strip. @k: a multiple of 32.
 */
void ref_strip_quants(const struct kern_mat *w, u32 row, u32 k,
		      struct strip_quants *out);

/* ---- what products of integers make of 32 elements of x (ints.h) ---- */

/*
 * The largest magnitude, in bf16, of which they are quantised; below it they
 * are 0, at the end and above no numbers.
 */
#define INTS_TOP_MIN 0x0800u /* 2^-111 */
#define INTS_TOP_END 0x7f80u

/* A sum of magnitudes of bytes below which these are too coarse (int8). */
#define INT8_FINE 500u

#endif
