/* SPDX-License-Identifier: MIT */
#ifndef CPU_GEMM_FEW_H
#define CPU_GEMM_FEW_H
/*
 * gemm_few.h - few rows of x times weights in BF16
 *
 * few_avx2.h's products: 256 k of 32 rows of w, 8 of them at a time, from where
 * they lie; only the end of a row is copied first, for its zeros. While a row
 * is multiplied what follows of it is fetched; behind its end that is the row
 * that takes its place. Types that have to be decoded gain nothing so: that is
 * what they take their time for. AVX-512 takes panels for any rows.
 *
 * Included by gemm_driver.h.
 */
#ifdef __AVX512F__

static bool gemm_takes_few(const struct kern_gemm *p)
{
	return false;
}

static void gemm_few(const struct kern_gemm *p, u32 n0, u32 n1,
		     struct gemm_scratch *s)
{
}

#else

#include "kernels/cpu/few_avx2.h"

_Static_assert(PANEL_K == FEW_X, "8 blocks of 32 k");

static bool gemm_takes_few(const struct kern_gemm *p)
{
	return p->m <= TILE_ROWS && p->w.layout == KERN_LAYOUT_GGUF &&
	       p->w.dtype == KV_DTYPE_BF16;
}

/* Columns k0 .. k0 + nr of row n of w; zeros up to PANEL_K. */
static const u8 *few_row(const struct kern_mat *w, u32 n, u32 k0, u32 nr,
			 u16 (*to)[PANEL_K])
{
	if (nr == PANEL_K) {
		const u8 *row = (const u8 *)w->data + n * w->stride + 2 * k0;
		const u8 *ahead =
			k0 + 2 * PANEL_K <= w->cols
				? row + 2 * PANEL_K
				: row - 2 * k0 + PANEL_COLS * w->stride;

		for (u32 i = 0; i < 2 * PANEL_K; i += 64)
			__builtin_prefetch(ahead + i, 0, 3);
		return row;
	}
	dequant_rows(w, n, 1, k0, nr, to);
	memset(*to + ALIGN_UP(nr, 32u), 0,
	       (PANEL_K - ALIGN_UP(nr, 32u)) * sizeof(**to));
	return (const u8 *)*to;
}

/* Sums of up to 8 rows of w from n on, to or onto those of mr rows of x. */
vec_inline void few_sums(const int mr, const struct kern_gemm *p, u32 n, u32 n1,
			 u32 k0, u32 nr, struct gemm_scratch *s, float *c)
{
	const float *x = (const float *)(const void *)s->panel[0];
	float part[TILE_ROWS][FEW_LANES][FEW_LANES]
		__attribute__((aligned(32)));

	for (u32 g = 0; g < FEW_LANES; g++) {
		const u8 *row = few_row(&p->w, min(n + g, n1 - 1), k0, nr,
					&s->rows.rows[g]);

		few_group(8, mr, &row, x, g, part);
	}
	for (int m = 0; m < mr; m++)
		few_add(8, true, part[m], c + m * PANEL_COLS);
}

static void few_rows(const struct kern_gemm *p, u32 n, u32 n1, u32 k0, u32 nr,
		     struct gemm_scratch *s, float *c)
{
#define FEW_SUMS(mr)                                  \
	case mr:                                      \
		few_sums(mr, p, n, n1, k0, nr, s, c); \
		break
	switch (p->m) {
		FEW_SUMS(1);
		FEW_SUMS(2);
		FEW_SUMS(3);
		FEW_SUMS(4);
		FEW_SUMS(5);
		FEW_SUMS(6);
	}
#undef FEW_SUMS
}

/* Columns n0 .. n1 of y, at most PANEL_COLS. */
static void gemm_few(const struct kern_gemm *p, u32 n0, u32 n1,
		     struct gemm_scratch *s)
{
	float *c = s->c[0][0][0], *x = (float *)(void *)s->panel[0];

	memset(c, 0, sizeof(s->c[0][0]));
	for (u32 k0 = 0; k0 < p->w.cols; k0 += PANEL_K) {
		u32 nr = min(p->w.cols - k0, (u32)PANEL_K);
		u32 end = ALIGN_UP(nr, 32u);

		load_x(p, 0, p->m, k0, nr, s);
		for (u32 m = 0; m < p->m; m++) {
			memset(s->x[m] + end, 0,
			       (PANEL_K - end) * sizeof(s->x[m][0]));
			few_load_x(s->x[m], 8, x + m * FEW_X);
		}
		for (u32 n = n0; n < n1; n += FEW_LANES)
			few_rows(p, n, n1, k0, nr, s, c + n - n0);
	}
	for (u32 m = 0; m < p->m; m++)
		store_sums(p, m, n0, n1 - n0, c + m * PANEL_COLS, 16);
}

#endif /* AVX2 */

#endif
