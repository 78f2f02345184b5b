/* SPDX-License-Identifier: MIT */
#ifndef CPU_ATTN_PV_H
#define CPU_ATTN_PV_H
/*
 * attn_pv.h - weights times values, up to 6 rows x 64 dimensions in registers
 *
 * Included after panel_x.h of one instruction set. Rows of p are SEGMENT
 * floats apart, rows of o ATTN_MAX_DIM; v has the address of each key's row,
 * the values lie at + off. Each 16 of o are in v16_split_bf16()'s order.
 */
#include "kernels/cpu/attn_plan.h"
#include "kernels/cpu/vec.h"

#define PV_BLOCK 32u /* keys that bf16 attention sums up by themselves */
#define PV_KEYS	 8u /* keys that go through all dimensions together */

/*
 * acc[m][d] += p_j v_j, a chain over the keys lo, lo + step ... below hi. With
 * @fetch the lines that begin there, at + *fetch, of the keys PV_KEYS behind,
 * come to L1 meanwhile: one for each key, as more at once would wait for each
 * other.
 */
vec_inline void pv_chain(const int mr, const int nd, const u32 step,
			 const float *p, const u8 *const *v, size_t off, u32 lo,
			 u32 hi, struct v16 (*acc)[4], const u64 *fetch)
{
	for (size_t j = lo; j < hi; j += step) {
		const u16 *row = (const u16 *)(const void *)(v[j] + off);
		struct v16 x[4];

		for (int d = 0; fetch && d < nd; d += 2)
			__builtin_prefetch(v[j + PV_KEYS] + *fetch + 32 * d, 0,
					   3);
#pragma GCC unroll 4
		for (int d = 0; d < nd; d++)
			x[d] = v16_split_bf16(row + 16 * d);
#pragma GCC unroll 6
		for (int m = 0; m < mr; m++) {
			struct v16 e = v16_set1(p[m * KERN_ATTN_SEGMENT + j]);

#pragma GCC unroll 4
			for (int d = 0; d < nd; d++)
				acc[m][d] = v16_fma(e, x[d], acc[m][d]);
		}
	}
}

/* o[m][d .. d + 16 nd) += sum over keys [lo, hi) of p_j v_j, one chain */
vec_inline void pv_keys(const int mr, const int nd, const float *p,
			const u8 *const *v, size_t off, u32 lo, u32 hi,
			float *o, const u64 *fetch)
{
	struct v16 acc[TILE_ROWS][4];

#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
		for (int d = 0; d < nd; d++)
			acc[m][d] = v16_load(o + m * ATTN_MAX_DIM + 16 * d);
	pv_chain(mr, nd, 1, p, v, off, lo, hi, acc, fetch);
#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
		for (int d = 0; d < nd; d++)
			v16_store(o + m * ATTN_MAX_DIM + 16 * d, acc[m][d]);
}

vec_inline void pv_clear(const int mr, const int nd, struct v16 (*acc)[4])
{
#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
		for (int d = 0; d < nd; d++)
			acc[m][d] = v16_zero();
}

/* The same for keys of one block: o += E + O, chains over even and odd keys. */
vec_inline void pv_block(const int mr, const int nd, const float *p,
			 const u8 *const *v, size_t off, u32 lo, u32 hi,
			 float *o, const u64 *fetch)
{
	struct v16 even[TILE_ROWS][4], odd[TILE_ROWS][4];

	pv_clear(mr, nd, even);
	pv_chain(mr, nd, 2, p, v, off, ALIGN_UP(lo, 2u), hi, even, fetch);
	pv_clear(mr, nd, odd);
	pv_chain(mr, nd, 2, p, v, off, lo | 1, hi, odd, fetch);
#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
		for (int d = 0; d < nd; d++) {
			float *to = o + m * ATTN_MAX_DIM + 16 * d;

			v16_store(to, v16_add(v16_load(to),
					      v16_add(even[m][d], odd[m][d])));
		}
}

/* A row of sums that are whole, in the order of dimensions. */
vec_inline void pv_unsplit(float *o, u32 dim)
{
	for (u32 d = 0; d < dim; d += 16)
		v16_store(o + d, v16_unsplit(v16_load(o + d)));
}

#endif
