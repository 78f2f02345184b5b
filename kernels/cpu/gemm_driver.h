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
#include "kernels/cpu/tile.h"
#include "kernels/cpu/unpack.h"
#include "kernels/cpu/vec.h"

#define GEMM_K	    256 /* a block of every quantised type divides it */
#define GEMM_COLS   128
#define GEMM_PANELS (GEMM_COLS / PANEL_COLS)
#define GEMM_ROWS   (258 / TILE_ROWS * TILE_ROWS) /* 512 in two passes */

struct gemm_scratch {
	u32 panel[GEMM_PANELS][GEMM_K / 2 * PANEL_COLS];
	u16 rows[16][GEMM_K];
	float x[TILE_ROWS][GEMM_K];
	/* [row tile][panel][row of the tile][column] */
	float c[GEMM_ROWS / TILE_ROWS][GEMM_PANELS][TILE_ROWS][PANEL_COLS];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct gemm_scratch) <= KERN_SCRATCH_BYTES,
	       "a thread's scratch holds it");

/*
 * Where the bytes of up to 16 rows of w lie, from column k0 on. While these
 * are decoded their share of the same rows of the next panel is prefetched,
 * in the order of memory.
 */
struct row_bytes {
	const u8 *at; /* of the first row */
	u64 stride;
	const u8 *ahead;
	u32 ahead_len; /* for each row */
};

vec_inline void prefetch_ahead(const struct row_bytes *r, u32 row)
{
	const u8 *b = r->ahead + (size_t)row * r->ahead_len;

	for (u32 i = 0; i < r->ahead_len; i += 64)
		_mm_prefetch((const char *)b + i, _MM_HINT_T1);
}

/* One loop per type, so that its constants stay in registers. */
#define DEQUANT_ROWS(type, block, bytes, elements)                         \
	case type:                                                         \
		for (u32 i = 0; i < rows; i++) {                           \
			const u8 *b = r.at + i * r.stride;                 \
                                                                           \
			prefetch_ahead(&r, i);                             \
			for (u32 k = 0; k < nr; k += elements, b += bytes) \
				block(b, out[i] + k);                      \
		}                                                          \
		break

/* Columns k0 .. k0 + nr of some rows, zeros up to a multiple of 32. */
static void dequant_rows(const struct kern_mat *w, u32 row, u32 rows, u32 k0,
			 u32 nr, u16 (*out)[GEMM_K])
{
	struct row_bytes r = {
		.at = (const u8 *)w->data + row * w->stride +
		      dtype_row_bytes(w->dtype, k0),
		.stride = w->stride,
	};
	u32 steps = DIV_ROUND_UP(w->cols, (u32)GEMM_K);

	r.ahead_len = (u32)DIV_ROUND_UP(w->stride, (u64)steps);
	r.ahead = (const u8 *)w->data + (row + PANEL_COLS) * w->stride +
		  (size_t)(k0 / GEMM_K) * 16 * r.ahead_len;
	switch (w->dtype) {
		DEQUANT_ROWS(KV_DTYPE_Q4_0, q4_0_block, 18, 32);
		DEQUANT_ROWS(KV_DTYPE_Q5_0, q5_0_block, 22, 32);
		DEQUANT_ROWS(KV_DTYPE_Q8_0, q8_0_block, 34, 32);
		DEQUANT_ROWS(KV_DTYPE_Q4_K, q4_k_block, 144, 256);
		DEQUANT_ROWS(KV_DTYPE_Q5_K, q5_k_block, 176, 256);
		DEQUANT_ROWS(KV_DTYPE_Q6_K, q6_k_block, 210, 256);
	default:
		for (u32 i = 0; i < rows; i++)
			plain_row(w->dtype, r.at + i * r.stride, nr, out[i]);
	}
}

/* Columns n .. n + 31 (those below n_end; zeros beyond) into one panel. */
static void fill_panel(const struct kern_mat *w, u32 n, u32 n_end, u32 k0,
		       u32 nr, struct gemm_scratch *s, u32 *panel)
{
	u32 pairs = ALIGN_UP(nr, 32u) / 2;

	for (u32 half = 0; half < PANEL_COLS; half += 16) {
		u32 first = n + half;
		u32 rows = first < n_end ? min(n_end - first, 16u) : 0;

		if (w->layout == KERN_LAYOUT_STRIP && rows) {
			unpack_strip(w, first, k0, nr, panel + half,
				     PANEL_COLS);
			continue;
		}
		dequant_rows(w, first, rows, k0, nr, s->rows);
		for (u32 i = rows; i < 16; i++)
			memset(s->rows[i], 0, sizeof(s->rows[i]));
		for (u32 p = 0; p < pairs; p += 16)
			transpose16((const u32 *)(const void *)s->rows[0] + p,
				    GEMM_K / 2, panel + p * PANEL_COLS + half,
				    PANEL_COLS);
	}
}

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

vec_inline void store_sums(const struct kern_gemm *p, u32 m, u32 n, u32 nr,
			   const float *c)
{
	size_t at = (size_t)m * p->y_stride + n;

	for (u32 i = 0; i < nr; i += 16) {
		u32 l = min(nr - i, 16u);
		struct v16 y = v16_load(c + i);

		if (p->bias)
			y = v16_add(y, v16_load_n(p->bias + n + i, l));
		if (p->residual)
			y = v16_add(y, v16_load_n(p->residual + at + i, l));
		v16_store_n(p->y + at + i, y, l);
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
	for (u32 k0 = 0; k0 < p->w.cols; k0 += GEMM_K) {
		u32 nr = min(p->w.cols - k0, (u32)GEMM_K);

		for (u32 j = 0; j < panels; j++)
			fill_panel(&p->w, n0 + j * PANEL_COLS, n1, k0, nr, s,
				   s->panel[j]);
		for (u32 t = 0; t < tiles; t++) {
			u32 m = m0 + t * TILE_ROWS;
			u32 mr = min(m1 - m, (u32)TILE_ROWS);

			load_x(p, m, mr, k0, nr, s);
			for (u32 j = 0; j < panels; j++)
				tile(mr, s->x[0], GEMM_K, s->panel[j],
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
				    [(m - m0) % TILE_ROWS]);
}

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
	rows = ALIGN_UP(DIV_ROUND_UP(p->m, passes), (u32)TILE_ROWS);
	for (u32 n = lo; n < hi; n += cols)
		for (u32 m = 0; m < p->m; m += rows)
			gemm_group(p, n, min(hi, n + cols), m,
				   min(p->m, m + rows), scratch);
}

#endif
