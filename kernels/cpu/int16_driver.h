/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT16_DRIVER_H
#define CPU_INT16_DRIVER_H
/*
 * int16_driver.h - the loops around the tile of int16 products
 *
 * A group (ints_driver.h):
 *
 *	for each 256 k				(more, in a decode)
 *	  quantise the rows			160 KiB, L2
 *						(or they have been: int16_pack)
 *	  for each strip
 *	    for each 256 k
 *	      unpack 16 x 256 weights		8 KiB, L1
 *						(not for a row or two)
 *	      the blocks of all rows
 *
 * In a decode a strip is followed along k, in the order of memory.
 */
#include "kernels/cpu/int16_tile.h"
#include "kernels/cpu/ints_driver.h"

#define INT16_X (INTS_PASS * INTS_PANEL_BLOCKS) /* blocks of x */

struct int16_scratch {
	struct int16_x x[INT16_X]; /* [row][block] */
	ints_sums c[INTS_STRIPS];
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
	struct int16_w w = { .at = strip_of(&p->w, n, k0, nr, &s->rows) };

	if (mr > INT16_FEW) {
		int16_fill(p->w.dtype, w.at, nr / 32, &s->panel);
		w.panel = &s->panel;
	} else {
		w.all = strip_all(&p->w, n);
	}
	int16_rows(p->w.dtype, &w, nr / 32, x, x_stride, mr, c);
}

/*
 * Packed x: one step of k behind the other, each with its blocks [row][block].
 * A row needs more than the 2 bytes for an element that bf16 does.
 */
static struct int16_x *int16_packed(const struct kern_gemm *p, const void *at,
				    u32 k0)
{
	return (struct int16_x *)at + (size_t)(k0 / 32) * p->m;
}

_Static_assert(sizeof(struct int16_x) == INT16_PACK_BYTES,
	       "kern_packed_bytes() has room for it");

/* Rows in units of KERN_PACK_ROWS, as kern_ops.gemm_pack. */
static void int16_pack(const struct kern_gemm *p, void *to, u32 lo, u32 hi)
{
	u32 from = lo * KERN_PACK_ROWS, end = min(hi * KERN_PACK_ROWS, p->m);

	for (u32 k0 = 0; k0 < p->w.cols; k0 += INTS_STEP) {
		u32 nr = min(p->w.cols - k0, INTS_STEP) / 32;
		struct int16_x *x = int16_packed(p, to, k0);

		for (u32 m = from; m < end; m++)
			int16_row(p->x + (size_t)m * p->x_stride + k0, nr,
				  x + (size_t)m * nr);
	}
}

/* Rows m .. m + mr, which have been packed, by all strips. */
static void int16_packed_group(const struct kern_gemm *p, u32 n0, u32 strips,
			       u32 m, u32 mr, struct int16_scratch *s)
{
	for (u32 k0 = 0; k0 < p->w.cols; k0 += INTS_STEP) {
		u32 nr = min(p->w.cols - k0, INTS_STEP);
		const struct int16_x *x =
			int16_packed(p, p->packed, k0) + (size_t)m * (nr / 32);

		for (u32 i = 0; i < strips; i++)
			int16_step(p, n0 + i * KERN_STRIP, k0, nr, x, nr / 32,
				   mr, s->c[i], s);
	}
}

/* The same of rows that are quantised here. */
static void int16_plain_group(const struct kern_gemm *p, u32 n0, u32 strips,
			      u32 m, u32 mr, struct int16_scratch *s)
{
	u32 most = INT16_X / mr / INTS_PANEL_BLOCKS *
		   INTS_PANEL_BLOCKS; /* blocks */
	u32 stride = min(most, p->w.cols / 32);

	for (u32 k0 = 0; k0 < p->w.cols; k0 += stride * 32) {
		u32 nr = min(p->w.cols - k0, stride * 32);

		for (u32 i = 0; i < mr; i++) {
			const u16 *x =
				p->x + (size_t)(m + i) * p->x_stride + k0;
			struct int16_x *to = s->x + i * stride;

			if (mr <= INT16_FEW)
				int16_strip_row(x, nr / 32, p->w.dtype, to);
			else
				int16_row(x, nr / 32, to);
		}
		for (u32 i = 0; i < strips; i++)
			for (u32 k = 0; k < nr; k += INTS_STEP)
				int16_step(p, n0 + i * KERN_STRIP, k0 + k,
					   min(nr - k, INTS_STEP),
					   s->x + k / 32, stride, mr, s->c[i],
					   s);
	}
}

/* As ints_group. */
static void int16_group(const struct kern_gemm *p, u32 n0, u32 n1, u32 m,
			u32 mr, void *scratch)
{
	struct int16_scratch *s = scratch;
	u32 strips = DIV_ROUND_UP(n1 - n0, KERN_STRIP);

	for (u32 i = 0; i < strips; i++)
		memset(s->c[i], 0, mr * sizeof(s->c[i][0]));
	if (p->packed && mr > INT16_FEW)
		int16_packed_group(p, n0, strips, m, mr, s);
	else
		int16_plain_group(p, n0, strips, m, mr, s);
	ints_store(p, n0, n1, m, mr, s->c);
}

#endif
