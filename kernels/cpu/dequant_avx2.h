/* SPDX-License-Identifier: MIT */
#ifndef CPU_DEQUANT_AVX2_H
#define CPU_DEQUANT_AVX2_H
/*
 * dequant_avx2.h - what the product's driver wants of an instruction set
 *
 * Blocks to bf16 by dequant_vec.h's plain way.
 */
#include "kernels/cpu/dequant_vec.h"

#define BLOCK_TO_BF16(type)                                    \
	static inline void type##_block(const u8 *b, u16 *out) \
	{                                                      \
		vec_##type(b, (struct sink){ out, false });    \
	}

BLOCK_TO_BF16(q4_0)
BLOCK_TO_BF16(q5_0)
BLOCK_TO_BF16(q8_0)
BLOCK_TO_BF16(q4_k)
BLOCK_TO_BF16(q5_k)
BLOCK_TO_BF16(q6_k)

/* nr elements of 1-element types; the rest of the last 32 become zeros. */
vec_inline void plain_row(u32 type, const u8 *src, u32 nr, u16 *out)
{
	u32 size = type == KV_DTYPE_F32 ? 4 : 2;

	for (u32 k = 0; k < ALIGN_UP(nr, 32u); k += 16) {
		u32 n = k < nr ? min(nr - k, 16u) : 0;

		v16_store_bf16(out + k,
			       load_plain(type, src + (size_t)k * size, n));
	}
}

#endif
