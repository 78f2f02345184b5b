/* SPDX-License-Identifier: MIT */
#ifndef CPU_ATTN_FEW_H
#define CPU_ATTN_FEW_H
/*
 * attn_few.h - scores of few rows, from keys as they lie in their pages
 *
 * A score is the sum of 2 chains for each 32 dimensions, over the even and the
 * odd ones (ref/attn.c). A panel has 32 keys in the lanes, and pays for being
 * written with the many rows that read it. Here the blocks of 32 dimensions
 * lie in the lanes: a key is transposed from its page into registers' worth of
 * L1, one multiply-add takes a step of all its chains, and the sums of 8 keys
 * are transposed again, to be added in order. A key of fewer than 8 blocks
 * shares the lanes with others:
 *
 *	lane h * nb + b of group g	block b of key g + 8 h, of nb blocks
 *
 * so a batch of 8 groups has 64 / nb keys. A row of q lies as it is used, 16
 * times the even and the odd member of a pair in 8 lanes.
 *
 * Included after panel_avx2.h; AVX-512 takes panels for any rows.
 */
#include "kernels/cpu/attn_item.h"

#ifdef __AVX512F__

static u32 few_blocks(u32 dim)
{
	return 0;
}

static void few_load_q(const float *q, u32 nb, float *to)
{
}

static void few_qk(const struct attn_work *w, u32 nb, u32 mr, const float *q,
		   float *s, u32 lo, u32 hi)
{
}

#else

#define FEW_LANES 8u
#define FEW_PAIRS 16u /* of a block */

/* Blocks of a head, if few_scores() takes them, else 0. */
static u32 few_blocks(u32 dim)
{
	u32 nb = dim / 32;

	return dim % 32 || FEW_LANES % nb ? 0 : nb;
}

/* q, dim floats, in the order of few_scores(). */
static void few_load_q(const float *q, u32 nb, float *to)
{
	const u32 *row[FEW_LANES];

	for (u32 k = 0; k < 2 * FEW_PAIRS; k += FEW_LANES) {
		for (u32 i = 0; i < FEW_LANES; i++)
			row[i] = (const u32 *)(const void *)(q + 32 * (i % nb) +
							     k);
		transpose8(row, (u32 *)(void *)(to + k * FEW_LANES), FEW_LANES);
	}
}

/* Keys of a group, one for each nb lanes, as pairs of dimensions. */
vec_inline void few_load_k(const u32 nb, const u8 *const *key,
			   u32 (*pair)[FEW_LANES])
{
#pragma GCC unroll 4
	for (u32 c = 0; c < FEW_PAIRS; c += 4) {
		__m256i a[4];

#pragma GCC unroll 4
		for (u32 i = 0; i < 4; i++)
			a[i] = two_quads(key[i / nb] + 64 * (i % nb) + 4 * c,
					 key[(i + 4) / nb] +
						 64 * ((i + 4) % nb) + 4 * c);
		transpose4(a, pair[c], FEW_LANES);
	}
}

/* The chains of one group: rows of q ATTN_MAX_DIM floats apart. */
vec_inline void few_chains(const int mr, const u32 (*pair)[FEW_LANES],
			   const float *q, __m256 *sum)
{
	__m256 odd[TILE_ROWS];

#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
		sum[m] = odd[m] = _mm256_setzero_ps();
	for (u32 k = 0; k < FEW_PAIRS; k++, q += 2 * FEW_LANES) {
		__m256 even_k = panel_half(pair[k], 0);
		__m256 odd_k = panel_half(pair[k], 1);

#pragma GCC unroll 6
		for (int m = 0; m < mr; m++) {
			const float *x = q + m * ATTN_MAX_DIM;

			sum[m] = _mm256_fmadd_ps(_mm256_load_ps(x), even_k,
						 sum[m]);
			odd[m] = _mm256_fmadd_ps(_mm256_load_ps(x + FEW_LANES),
						 odd_k, odd[m]);
		}
	}
#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
		sum[m] = _mm256_add_ps(sum[m], odd[m]);
}

/* Sums of 8 groups, those of a row side by side, to scores of 8 keys a store.
 */
vec_inline void few_add(const u32 nb, const float (*sum)[FEW_LANES], float *s)
{
	float lane[FEW_LANES][FEW_LANES] __attribute__((aligned(32)));
	const u32 *row[FEW_LANES];

	for (u32 i = 0; i < FEW_LANES; i++)
		row[i] = (const u32 *)(const void *)sum[i];
	transpose8(row, (u32 *)(void *)lane, FEW_LANES);
	for (u32 h = 0; h < FEW_LANES / nb; h++) {
		__m256 c = _mm256_setzero_ps();

		for (u32 b = 0; b < nb; b++)
			c = _mm256_add_ps(c, _mm256_load_ps(lane[h * nb + b]));
		_mm256_storeu_ps(s + FEW_LANES * h, c);
	}
}

/*
 * Scores of keys [lo, hi) of a segment; others of their batches become those of
 * some key. s has rows SEGMENT apart.
 */
vec_inline void few_scores(const u32 nb, const int mr,
			   const struct attn_work *w, const float *q, float *s,
			   u32 lo, u32 hi)
{
	const u32 batch = FEW_LANES * FEW_LANES / nb;
	u64 k_off = w->p->kv.k_off;
	u32 pair[FEW_PAIRS][FEW_LANES] __attribute__((aligned(32)));
	float part[TILE_ROWS][FEW_LANES][FEW_LANES]
		__attribute__((aligned(32)));

	for (u32 j = lo / batch * batch; j < hi; j += batch) {
		for (u32 g = 0; g < FEW_LANES; g++) {
			const u8 *row[FEW_LANES];
			__m256 sum[TILE_ROWS];

			for (u32 h = 0; h < FEW_LANES / nb; h++) {
				u32 key = j + g + FEW_LANES * h;

				fetch_beside_k(w, 32 * nb, key, lo, hi);
				key = min(max(key, lo), hi - 1);
				row[h] = w->s->key[key] + k_off;
			}
			few_load_k(nb, row, pair);
			few_chains(mr, pair, q, sum);
#pragma GCC unroll 6
			for (int m = 0; m < mr; m++)
				_mm256_store_ps(part[m][g], sum[m]);
		}
		for (int m = 0; m < mr; m++)
			few_add(nb, part[m], s + m * SEGMENT + j);
	}
}

#define FEW_SCORES(nb, mr)                           \
	case mr:                                     \
		few_scores(nb, mr, w, q, s, lo, hi); \
		break
#define FEW_ROWS(nb)                       \
	case nb:                           \
		switch (mr) {              \
			FEW_SCORES(nb, 1); \
			FEW_SCORES(nb, 2); \
			FEW_SCORES(nb, 3); \
			FEW_SCORES(nb, 4); \
			FEW_SCORES(nb, 5); \
			FEW_SCORES(nb, 6); \
		}                          \
		break

static void few_qk(const struct attn_work *w, u32 nb, u32 mr, const float *q,
		   float *s, u32 lo, u32 hi)
{
	switch (nb) {
		FEW_ROWS(1);
		FEW_ROWS(2);
		FEW_ROWS(4);
		FEW_ROWS(8);
	}
}

#undef FEW_ROWS
#undef FEW_SCORES

#endif /* AVX2 */

#endif
