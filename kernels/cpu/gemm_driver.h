/* SPDX-License-Identifier: MIT */
#ifndef CPU_GEMM_DRIVER_H
#define CPU_GEMM_DRIVER_H
/*
 * gemm_driver.h - the loops around the tile, the same for each vector ISA
 *
 * Included after dequant_x.h and panel_x.h of one instruction set.
 *
 *	for each group of 128 columns of the thread's share
 *	  for each 258 rows of x or fewer		(one, in a decode)
 *	    for each 256 k
 *	      unpack 128 x 256 weights into 4 panels		64 KiB, L2
 *	      for each 6 rows of x: to fp32			6 KiB, L1
 *	        for each panel: the tile			16 KiB, L1
 *	    add bias and residual, store
 *
 * Sums stay in scratch until they are whole, so y may be the residual.
 */
#include "kernels/cpu/panel_fill.h"
#include "kernels/cpu/store_sums.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"

#define GEMM_COLS   128
#define GEMM_PANELS (GEMM_COLS / PANEL_COLS)
#define GEMM_ROWS   (258 / TILE_ROWS * TILE_ROWS) /* 512 in two passes */

struct gemm_scratch {
	u32 panel[GEMM_PANELS][PANEL_K / 2 * PANEL_COLS];
	struct panel_rows rows;
	float x[TILE_ROWS][PANEL_K];
	/* [row tile][panel][row of the tile][column] */
	float c[GEMM_ROWS / TILE_ROWS][GEMM_PANELS][TILE_ROWS][PANEL_COLS];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct gemm_scratch) <= KERN_SCRATCH_BYTES,
	       "a thread's scratch holds it");

/* Rows m .. m + mr of x to fp32, zeros up to a multiple of 32. */
static void load_x(const struct kern_gemm *p, u32 m, u32 mr, u32 k0, u32 nr,
		   struct gemm_scratch *s)
{
	for (u32 i = 0; i < mr; i++) {
		const u16 *x = p->x + (size_t)(m + i) * p->x_stride + k0;
		const char *next = (const char *)(x + TILE_ROWS * p->x_stride);
		float *out = s->x[i];
		u32 k = 0;

		for (u32 b = 0; b < 2 * nr; b += 64)
			_mm_prefetch(next + b, _MM_HINT_T1);

		for (; k + 16 <= nr; k += 16)
			v16_store(out + k, v16_load_bf16(x + k));
		for (; k < ALIGN_UP(nr, 32u); k += 16)
			v16_store(out + k,
				  k < nr ? v16_load_bf16_n(x + k,
							   min(nr - k, 16u))
					 : v16_zero());
	}
}

/* Rows m0 .. m1 of columns n0 .. n1, at most GEMM_ROWS x GEMM_COLS. */
static void gemm_group(const struct kern_gemm *p, u32 n0, u32 n1, u32 m0,
		       u32 m1, struct gemm_scratch *s)
{
	u32 panels = DIV_ROUND_UP(n1 - n0, (u32)PANEL_COLS);
	u32 tiles = DIV_ROUND_UP(m1 - m0, (u32)TILE_ROWS);

	for (u32 t = 0; t < tiles; t++)
		memset(s->c[t], 0, sizeof(s->c[t]));
	for (u32 k0 = 0; k0 < p->w.cols; k0 += PANEL_K) {
		u32 nr = min(p->w.cols - k0, (u32)PANEL_K);

		for (u32 j = 0; j < panels; j++)
			fill_panel(&p->w, n0 + j * PANEL_COLS, n1, k0, nr,
				   &s->rows, s->panel[j]);
		for (u32 t = 0; t < tiles; t++) {
			u32 m = m0 + t * TILE_ROWS;
			u32 mr = min(m1 - m, (u32)TILE_ROWS);

			load_x(p, m, mr, k0, nr, s);
			for (u32 j = 0; j < panels; j++)
				tile(mr, s->x[0], PANEL_K, s->panel[j],
				     DIV_ROUND_UP(nr, 32u), s->c[t][j][0],
				     PANEL_COLS);
		}
	}
	for (u32 m = m0; m < m1; m++)
		for (u32 j = 0; j < panels; j++)
			store_sums(
				p, m, n0 + j * PANEL_COLS,
				min(n1 - n0 - j * PANEL_COLS, (u32)PANEL_COLS),
				s->c[(m - m0) / TILE_ROWS][j]
				    [(m - m0) % TILE_ROWS],
				16);
}

#include "kernels/cpu/gemm_few.h"

/*
 * Few rows of x: the weights are the traffic, so each panel is followed along
 * k, in the order of memory. Many: x is converted once for four panels.
 */
static void gemm_run(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	u32 cols = p->m <= TILE_ROWS ? PANEL_COLS : GEMM_COLS;
	u32 passes = DIV_ROUND_UP(p->m, (u32)GEMM_ROWS), rows;

	if (!passes)
		return;
	if (gemm_takes_few(p)) {
		for (u32 n = lo; n < hi; n += PANEL_COLS)
			gemm_few(p, n, min(hi, n + PANEL_COLS), scratch);
		return;
	}
	rows = ALIGN_UP(DIV_ROUND_UP(p->m, passes), (u32)TILE_ROWS);
	for (u32 n = lo; n < hi; n += cols)
		for (u32 m = 0; m < p->m; m += rows)
			gemm_group(p, n, min(hi, n + cols), m,
				   min(p->m, m + rows), scratch);
}

#endif
