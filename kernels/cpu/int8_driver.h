/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT8_DRIVER_H
#define CPU_INT8_DRIVER_H
/*
 * int8_driver.h - the loops around the tile of int8 products
 *
 * A group (ints_driver.h):
 *
 *	for each 256 k				(more, in a decode)
 *	  quantise the rows			100 KiB, L2
 *	  for each strip
 *	    for each 256 k
 *	      unpack 16 x 256 weights		4 or 8 KiB, L1
 *						(not for a row or two)
 *	      the blocks of all rows
 *	      low blocks, of those rows that have them, 16 at a time
 *
 * In a decode a strip is followed along k, in the order of memory. Rows of GGUF
 * blocks become a strip of 256 k first; that is slow, and the same bits.
 *
 * Included after int8_tile.h, or what has its int8_rows() otherwise.
 */
#include "kernels/cpu/int8_w.h"
#include "kernels/cpu/int8_x.h"
#include "kernels/cpu/ints_driver.h"

#define INT8_BEHIND 15u /* rows that may be read behind the last */
/* blocks of x */
#define INT8_X ((INTS_PASS + INT8_BEHIND) * INTS_PANEL_BLOCKS)

#define INT8_LOWS 16u /* low blocks that are taken together */

struct int8_scratch {
	/* [row][block] */
	struct int8_x x[INT8_X], low[INT8_X];
	ints_sums c[INTS_STRIPS];
	struct int8_panel panel;
	struct strip_rows rows;
	u8 fine[INT8_X / 8];
	/* Low blocks by block, then row; 8 in front are no block's. */
	struct int8_x packed[8 + INT8_X + INT8_BEHIND];
	u16 row[8 + INT8_X];
	u32 first[INT8_X + 1]; /* of a block, in packed */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct int8_scratch) <= KERN_SCRATCH_BYTES,
	       "a thread's scratch holds it");

/* Puts the low blocks of mr rows together that are of the same k. */
static void int8_pack_low(struct int8_scratch *s, u32 blocks, u32 mr,
			  u32 stride)
{
	u32 n = 8, any = 0;

	for (u32 b = 0; b < blocks; b++) {
		const u8 *fine = s->fine + b / 8;

		if (b % 8 == 0)
			any = 0;
		for (u32 m = 0; b % 8 == 0 && m < mr; m++)
			any |= fine[m * (stride / 8)];
		s->first[b] = n;
		for (u32 m = 0; any >> b % 8 & 1 && m < mr; m++)
			if (fine[m * (stride / 8)] >> b % 8 & 1) {
				s->packed[n] = s->low[m * stride + b];
				s->row[n++] = (u16)m;
			}
	}
	s->first[blocks] = n;
}

/* Low blocks i .. i1 of x, which go with block b of w. */
static void int8_low(u32 dtype, const struct int8_w *w, u32 b, u32 i, u32 i1,
		     float (*c)[KERN_STRIP], const struct int8_scratch *s)
{
	float some[INT8_LOWS][KERN_STRIP];

	for (; i < i1; i += INT8_LOWS) {
		u32 n = min(i1 - i, INT8_LOWS);

		for (u32 m = 0; m < n; m++)
			memcpy(some[m], c[s->row[i + m]], sizeof(some[m]));
		int8_rows(dtype, w, b, b + 1, s->packed + i - b, 1, n, some);
		for (u32 m = 0; m < n; m++)
			memcpy(c[s->row[i + m]], some[m], sizeof(some[m]));
	}
}

/*
 * Up to 256 k of the strip at row n, from k0 on, which is block @first of x, by
 * all rows of the pass.
 */
static void int8_step(const struct kern_gemm *p, u32 n, u32 k0, u32 nr,
		      u32 first, u32 mr, u32 x_stride, float (*c)[KERN_STRIP],
		      struct int8_scratch *s)
{
	struct int8_w w = { .at = strip_of(&p->w, n, k0, nr, &s->rows) };

	if (mr > INT8_FEW) {
		int8_fill(p->w.dtype, INT8_Q8_PLANES, w.at, nr / 32, &s->panel);
		w.panel = &s->panel;
	} else {
		w.all = strip_all(&p->w, n);
	}
	int8_rows(p->w.dtype, &w, 0, nr / 32, s->x + first, x_stride, mr, c);
	for (u32 b = 0; b < nr / 32; b++)
		int8_low(p->w.dtype, &w, b, s->first[first + b],
			 s->first[first + b + 1], c, s);
}

/* As ints_group. */
static void int8_group(const struct kern_gemm *p, u32 n0, u32 n1, u32 m, u32 mr,
		       void *scratch)
{
	struct int8_scratch *s = scratch;
	u32 strips = DIV_ROUND_UP(n1 - n0, KERN_STRIP);
	u32 most = INT8_X / (mr + INT8_BEHIND) / 8 * 8; /* blocks */
	u32 stride = min(most, ALIGN_UP(p->w.cols / 32, 8u));

	for (u32 i = 0; i < strips; i++)
		memset(s->c[i], 0, mr * sizeof(s->c[i][0]));
	for (u32 k0 = 0; k0 < p->w.cols; k0 += stride * 32) {
		u32 nr = min(p->w.cols - k0, stride * 32);

		for (u32 i = 0; i < mr; i++)
			int8_row(p->x + (size_t)(m + i) * p->x_stride + k0,
				 nr / 32, p->w.dtype, s->x + i * stride,
				 s->low + i * stride, s->fine + i * stride / 8);
		int8_pack_low(s, nr / 32, mr, stride);
		for (u32 i = 0; i < strips; i++)
			for (u32 k = 0; k < nr; k += INTS_STEP)
				int8_step(p, n0 + i * KERN_STRIP, k0 + k,
					  min(nr - k, INTS_STEP), k / 32, mr,
					  stride, s->c[i], s);
	}
	ints_store(p, n0, n1, m, mr, s->c);
}

#endif
