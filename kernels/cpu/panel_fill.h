/* SPDX-License-Identifier: MIT */
#ifndef CPU_PANEL_FILL_H
#define CPU_PANEL_FILL_H
/*
 * panel_fill.h - weights into a panel
 *
 * What the product needs in front of its tiles, whatever these are. Included
 * after dequant_x.h and panel_x.h of one instruction set. Strips are
 * unpacked where they go; rows of blocks are decoded along k, 16 of them, and
 * transposed.
 */
#include "kernels/cpu/unpack.h"
#include "kernels/cpu/vec.h"

#define PANEL_K 256 /* a block of every quantised type divides it */

struct panel_rows {
	u16 rows[16][PANEL_K];
};

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
			 u32 nr, u16 (*out)[PANEL_K])
{
	struct row_bytes r = {
		.at = (const u8 *)w->data + row * w->stride +
		      dtype_row_bytes(w->dtype, k0),
		.stride = w->stride,
	};
	u32 steps = DIV_ROUND_UP(w->cols, (u32)PANEL_K);

	r.ahead_len = (u32)DIV_ROUND_UP(w->stride, (u64)steps);
	r.ahead = (const u8 *)w->data + (row + PANEL_COLS) * w->stride +
		  (size_t)(k0 / PANEL_K) * 16 * r.ahead_len;
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
		       u32 nr, struct panel_rows *r, u32 *panel)
{
	u32 pairs = ALIGN_UP(nr, 32u) / 2;

	for (u32 half = 0; half < PANEL_COLS; half += 16) {
		u32 first = n + half;
		u32 rows = first < n_end ? min(n_end - first, 16u) : 0;

		if (!rows) {
			for (u32 p = 0; p < pairs; p++)
				memset(panel + p * PANEL_COLS + half, 0,
				       16 * sizeof(*panel));
			continue;
		}
		if (w->layout == KERN_LAYOUT_STRIP) {
			unpack_strip(w, first, k0, nr, panel + half,
				     PANEL_COLS);
			continue;
		}
		dequant_rows(w, first, rows, k0, nr, r->rows);
		for (u32 i = rows; i < 16; i++)
			memset(r->rows[i], 0, sizeof(r->rows[i]));
		for (u32 p = 0; p < pairs; p += 16)
			transpose16((const u32 *)(const void *)r->rows[0] + p,
				    PANEL_K / 2, panel + p * PANEL_COLS + half,
				    PANEL_COLS);
	}
}

#endif
