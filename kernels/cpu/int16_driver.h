/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT16_DRIVER_H
#define CPU_INT16_DRIVER_H
/*
 * int16_driver.h - the loops around the tile of int16 products
 *
 *	for each 512 columns of the thread's share
 *	  for each 256 rows of x or fewer
 *	    for each 256 k				(more, in a decode)
 *	      quantise the rows				160 KiB, L2
 *	      for each strip
 *	        for each 256 k
 *	          unpack 16 x 256 weights		8 KiB, L1
 *							(not for a row or two)
 *	          the blocks of all rows
 *	    add bias and residual, store
 *
 * In a decode a strip is followed along k, in the order of memory. Sums stay in
 * scratch until they are whole, so y may be the residual.
 */
#include "kernels/cpu/int16_tile.h"
#include "kernels/cpu/store_sums.h"
#include "kernels/cpu/strip_rows.h"

#define INT16_COLS   512u
#define INT16_STRIPS (INT16_COLS / KERN_STRIP)
#define INT16_PASS   256u /* rows */
#define INT16_STEP   (32 * INT16_BLOCKS) /* k */
#define INT16_X	     (INT16_PASS * INT16_BLOCKS) /* blocks of x */

struct int16_scratch {
	struct int16_x x[INT16_X]; /* [row][block] */
	float c[INT16_STRIPS][INT16_PASS][KERN_STRIP];
	struct int16_panel panel;
	struct strip_rows rows;
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct int16_scratch) <= KERN_SCRATCH_BYTES,
	       "a thread's scratch holds it");

/* Up to 256 k of the strip at row n, from k0 on, by all rows of the pass. */
static void int16_step(const struct kern_gemm *p, u32 n, u32 k0, u32 nr,
		       const struct int16_x *x, u32 x_stride, u32 mr,
		       float (*c)[KERN_STRIP], struct int16_scratch *s)
{
	struct int16_w w = {
		.at = p->w.layout == KERN_LAYOUT_STRIP
			      ? strip_at(&p->w, n, k0)
			      : strip_of_rows(&p->w, n, k0, nr, &s->rows),
	};

	if (mr > INT16_FEW) {
		int16_fill(p->w.dtype, w.at, nr / 32, &s->panel);
		w.panel = &s->panel;
	}
	int16_rows(p->w.dtype, &w, nr / 32, x, x_stride, mr, c);
}

/* Rows m .. m + mr of columns n0 .. n1, at most a pass of INT16_COLS. */
static void int16_group(const struct kern_gemm *p, u32 n0, u32 n1, u32 m,
			u32 mr, struct int16_scratch *s)
{
	u32 strips = DIV_ROUND_UP(n1 - n0, KERN_STRIP);
	u32 most = INT16_X / mr / INT16_BLOCKS * INT16_BLOCKS; /* blocks */
	u32 stride = min(most, p->w.cols / 32);

	for (u32 i = 0; i < strips; i++)
		memset(s->c[i], 0, mr * sizeof(s->c[i][0]));
	for (u32 k0 = 0; k0 < p->w.cols; k0 += stride * 32) {
		u32 nr = min(p->w.cols - k0, stride * 32);

		for (u32 i = 0; i < mr; i++)
			int16_row(p->x + (size_t)(m + i) * p->x_stride + k0,
				  nr / 32, p->w.dtype, s->x + i * stride);
		for (u32 i = 0; i < strips; i++)
			for (u32 k = 0; k < nr; k += INT16_STEP)
				int16_step(p, n0 + i * KERN_STRIP, k0 + k,
					   min(nr - k, INT16_STEP),
					   s->x + k / 32, stride, mr, s->c[i],
					   s);
	}
	for (u32 r = 0; r < mr; r++)
		for (u32 i = 0; i < strips; i++) {
			u32 n = n0 + i * KERN_STRIP;

			store_sums(p, m + r, n, min(n1 - n, KERN_STRIP),
				   s->c[i][r]);
		}
}

static void int16_all(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	u32 passes = DIV_ROUND_UP(p->m, INT16_PASS), rows;

	if (!passes)
		return;
	rows = DIV_ROUND_UP(p->m, passes);
	for (u32 n = lo; n < hi; n += INT16_COLS)
		for (u32 m = 0; m < p->m; m += rows)
			int16_group(p, n, min(hi, n + INT16_COLS), m,
				    min(p->m - m, rows), scratch);
}

#endif
