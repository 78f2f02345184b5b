/* SPDX-License-Identifier: MIT */
/*
 * gemm_int8_amx.c - int8 products on tile registers
 *
 * A block of a panel is a tile of w as it lies, 8 rows of 4 k x 16 columns;
 * of x, 16 rows with their 32 bytes are one, with struct int8_x as stride. A
 * product of the two is all that the scales allow: its integers leave the
 * tile, become floats and are scaled. So a tile has half of its k, or a
 * quarter where scales are of 16 k, and what follows costs AVX-512 about four
 * times what the product took: this gains on VNNI at best, not on bf16 tiles.
 *
 * Two products at a time, so that the next ones hide behind stores and loads.
 * Rows up to a multiple of 16 are read and multiplied, and dropped.
 */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/int8_w.h"
#include "kernels/cpu/int8_x.h"
#include "kernels/cpu/isa.h"

#define AMX_GROUP      2u /* products */
#define INT8_Q8_PLANES 1u
#define INT8_FEW       0u /* rows that need no panel */

struct amx_sums {
	s32 sum[AMX_GROUP][AMX_ROWS][AMX_COLS];
} __attribute__((aligned(64)));

/* Products i .. i + nr, of span dwords each, of 16 rows of x. */
vec_inline void amx_group(const struct int8_panel *p, const struct int8_x *x,
			  u32 x_stride, const u32 span, u32 i, u32 nr,
			  struct amx_sums *s)
{
	const u32 each = INT8_DWORDS / span; /* products of a block */
	const size_t stride = x_stride * sizeof(*x);

#define PRODUCT(n, a, b)                                                      \
	if ((n) < nr) {                                                       \
		u32 at = i + (n);                                             \
                                                                              \
		amx_zero(n);                                                  \
		amx_load(a, x[at / each].q + at % each * 4 * span, stride);   \
		amx_load(b, p->w + (size_t)at * span * STRIP_VEC, STRIP_VEC); \
		amx_product_int8(n, a, b);                                    \
		amx_store(n, s->sum[n], sizeof(s->sum[n][0]));                \
	}
	PRODUCT(0, 4, 6)
	PRODUCT(1, 5, 7)
#undef PRODUCT
}

/* c[m][0..15] += these products, of mr rows. */
vec_inline void amx_scale(const u32 dtype, const struct int8_w *w,
			  const struct int8_x *x, u32 x_stride, u32 i, u32 nr,
			  u32 mr, const struct amx_sums *s,
			  float (*c)[KERN_STRIP])
{
	const u32 each = ints_halves(dtype) ? 2 : 1;

	for (u32 at = i; at < i + nr; at++) {
		struct strip_scales scales[INTS_VECS];

		ints_load_scales(dtype, false, w->at, &w->panel->scales,
				 at / each, scales);
		if (at % each)
			for (u32 h = 0; h < INTS_VECS; h++)
				scales[h].scale[0] = scales[h].scale[1];
		for (u32 m = 0; m < mr; m++) {
			vn_int sum[1][INTS_VECS];

			for (u32 h = 0; h < INTS_VECS; h++)
				sum[0][h] = vn_load(s->sum[at - i][m] + h * VN);
			ints_add(dtype, true, 1, at % each, scales,
				 &x[(size_t)m * x_stride + at / each].x, 0, sum,
				 c + m);
		}
	}
}

vec_inline void amx_rows(const u32 dtype, const struct int8_w *w, u32 b0,
			 u32 b1, const struct int8_x *x, u32 x_stride, u32 mr,
			 float (*c)[KERN_STRIP])
{
	const u32 span = ints_halves(dtype) ? 4 : 8;
	const u32 each = INT8_DWORDS / span;
	struct amx_sums s;

	for (u32 m = 0; m < mr; m += AMX_ROWS) {
		for (u32 i = b0 * each; i < b1 * each; i += AMX_GROUP) {
			u32 nr = min(b1 * each - i, AMX_GROUP);

			amx_group(w->panel, x, x_stride, span, i, nr, &s);
			amx_scale(dtype, w, x, x_stride, i, nr,
				  min(mr - m, AMX_ROWS), &s, c + m);
		}
		x += (size_t)AMX_ROWS * x_stride;
	}
}

/* As in int8_tile.h. */
static void int8_rows(u32 type, const struct int8_w *w, u32 b0, u32 b1,
		      const struct int8_x *x, u32 x_stride, u32 mr,
		      float (*c)[KERN_STRIP])
{
	switch (type) {
		STRIP_TYPES(amx_rows(dtype, w, b0, b1, x, x_stride, mr, c))
	}
}

#include "kernels/cpu/int8_driver.h"

_Static_assert(INT8_BEHIND == AMX_ROWS - 1, "scratch has what is dropped");

void amx_gemm_int8(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	if (!strip_type(p->w.dtype).bits) {
		amx_gemm(p, lo, hi, scratch);
		return;
	}
	amx_begin_int8(p->w.dtype == KV_DTYPE_Q6_K ? 16 : 32);
	ints_all(p, lo, hi, scratch, int8_group);
	amx_end();
}
