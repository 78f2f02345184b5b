/* SPDX-License-Identifier: MIT */
#ifndef CPU_ATTN_FEW_H
#define CPU_ATTN_FEW_H
/*
 * attn_few.h - scores of few rows, from keys as they lie in their pages
 *
 * few_avx2.h's products: a row of w is a key, and 8 groups are a batch of 64
 * keys by the blocks that a head has. AVX-512 takes panels for any rows.
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

#include "kernels/cpu/few_avx2.h"

_Static_assert(ATTN_MAX_DIM == FEW_X, "a row of q is one of few_chains()");

/* Blocks of a head, if few_scores() takes them, else 0. */
static u32 few_blocks(u32 dim)
{
	u32 nb = dim / 32;

	return dim % 32 || FEW_LANES % nb ? 0 : nb;
}

static void few_load_q(const float *q, u32 nb, float *to)
{
	few_load_x(q, nb, to);
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
	float part[TILE_ROWS][FEW_LANES][FEW_LANES]
		__attribute__((aligned(32)));

	for (u32 j = lo / batch * batch; j < hi; j += batch) {
		for (u32 g = 0; g < FEW_LANES; g++) {
			const u8 *row[FEW_LANES];

			for (u32 h = 0; h < FEW_LANES / nb; h++) {
				u32 key = j + g + FEW_LANES * h;

				fetch_beside_k(w, 32 * nb, key, lo, hi);
				key = min(max(key, lo), hi - 1);
				row[h] = w->s->key[key] + k_off;
			}
			few_group(nb, mr, row, q, g, part);
		}
		for (int m = 0; m < mr; m++)
			few_add(nb, false, part[m], s + m * SEGMENT + j);
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
