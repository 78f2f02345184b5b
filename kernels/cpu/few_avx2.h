/* SPDX-License-Identifier: MIT */
#ifndef CPU_FEW_AVX2_H
#define CPU_FEW_AVX2_H
/*
 * few_avx2.h - up to 6 rows of x times rows of bf16 as they lie
 *
 * A sum of a product has 2 chains for each 32 k, over the even and the odd ones
 * (ref/gemm.c). A panel has 32 rows of w in the lanes, and pays for being
 * written with the many rows of x that read it. Here the blocks of 32 k lie in
 * the lanes: a row of w is transposed from where it is, one multiply-add takes
 * a step of all its chains, and the sums of 8 groups are transposed again, to
 * be added in order. A row of fewer than 8 blocks shares the lanes with others:
 *
 *	lane h * nb + b of group g	block b of row g + 8 h, of nb blocks
 *
 * so 8 groups have 64 / nb rows of w. A row of x lies as it is used, 16 times
 * the even and the odd member of a pair in 8 lanes.
 */
#include "kernels/cpu/panel_avx2.h"

#define FEW_LANES 8u
#define FEW_PAIRS 16u /* of a block */
#define FEW_X	  (2 * FEW_PAIRS * FEW_LANES)

/* A row of x, 32 nb floats, as few_chains() takes it: FEW_X of them. */
static void few_load_x(const float *x, u32 nb, float *to)
{
	const u32 *row[FEW_LANES];

	for (u32 k = 0; k < 2 * FEW_PAIRS; k += FEW_LANES) {
		for (u32 i = 0; i < FEW_LANES; i++)
			row[i] = (const u32 *)(const void *)(x + 32 * (i % nb) +
							     k);
		transpose8(row, (u32 *)(void *)(to + k * FEW_LANES), FEW_LANES);
	}
}

/* Rows of w of a group, one for each nb lanes, as pairs of k. */
vec_inline void few_load_w(const u32 nb, const u8 *const *row,
			   u32 (*pair)[FEW_LANES])
{
#pragma GCC unroll 4
	for (u32 c = 0; c < FEW_PAIRS; c += 4) {
		__m256i a[4];

#pragma GCC unroll 4
		for (u32 i = 0; i < 4; i++)
			a[i] = two_quads(row[i / nb] + 64 * (i % nb) + 4 * c,
					 row[(i + 4) / nb] +
						 64 * ((i + 4) % nb) + 4 * c);
		transpose4(a, pair[c], FEW_LANES);
	}
}

/* The sums of each block of a group; rows of x are FEW_X floats apart. */
vec_inline void few_chains(const int mr, const u32 (*pair)[FEW_LANES],
			   const float *x, __m256 *sum)
{
	__m256 odd[TILE_ROWS];

#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
		sum[m] = odd[m] = _mm256_setzero_ps();
	for (u32 k = 0; k < FEW_PAIRS; k++, x += 2 * FEW_LANES) {
		__m256 even_k = panel_half(pair[k], 0);
		__m256 odd_k = panel_half(pair[k], 1);

#pragma GCC unroll 6
		for (int m = 0; m < mr; m++) {
			const float *xm = x + m * FEW_X;

			sum[m] = _mm256_fmadd_ps(_mm256_load_ps(xm), even_k,
						 sum[m]);
			odd[m] = _mm256_fmadd_ps(_mm256_load_ps(xm + FEW_LANES),
						 odd_k, odd[m]);
		}
	}
#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
		sum[m] = _mm256_add_ps(sum[m], odd[m]);
}

/* Group g of 8: its sums go beside those of the others, for each row of x. */
vec_inline void few_group(const u32 nb, const int mr, const u8 *const *row,
			  const float *x, u32 g,
			  float (*part)[FEW_LANES][FEW_LANES])
{
	u32 pair[FEW_PAIRS][FEW_LANES] __attribute__((aligned(32)));
	__m256 sum[TILE_ROWS];

	few_load_w(nb, row, pair);
	few_chains(mr, pair, x, sum);
#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
		_mm256_store_ps(part[m][g], sum[m]);
}

/* Sums of 8 groups to those of 64 / nb rows of w, on to what s has if @more. */
vec_inline void few_add(const u32 nb, const bool more,
			const float (*sum)[FEW_LANES], float *s)
{
	float lane[FEW_LANES][FEW_LANES] __attribute__((aligned(32)));
	const u32 *row[FEW_LANES];

	for (u32 i = 0; i < FEW_LANES; i++)
		row[i] = (const u32 *)(const void *)sum[i];
	transpose8(row, (u32 *)(void *)lane, FEW_LANES);
	for (u32 h = 0; h < FEW_LANES / nb; h++) {
		__m256 c = more ? _mm256_loadu_ps(s + FEW_LANES * h)
				: _mm256_setzero_ps();

		for (u32 b = 0; b < nb; b++)
			c = _mm256_add_ps(c, _mm256_load_ps(lane[h * nb + b]));
		_mm256_storeu_ps(s + FEW_LANES * h, c);
	}
}

#endif
