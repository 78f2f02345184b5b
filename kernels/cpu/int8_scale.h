/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT8_SCALE_H
#define CPU_INT8_SCALE_H
/*
 * int8_scale.h - integer sums of a block, scaled and added to the product
 */
#include "kernels/cpu/int8_w.h"
#include "kernels/cpu/int8_x.h"

#define INT8_VECS (KERN_STRIP / VN) /* registers of 16 rows of w */

/* Where 256 k of w are: a strip, and in many rows' case it unpacked. */
struct int8_w {
	struct strip_at at;
	const struct int8_panel *panel; /* or NULL */
};

vec_inline void int8_load_scales(const u32 dtype, const bool strip,
				 const struct int8_w *w, u32 b,
				 struct int8_scales *s)
{
#pragma GCC unroll 2
	for (u32 h = 0; h < INT8_VECS; h++) {
		const struct int8_panel *p = w->panel;

		if (strip) {
			s[h] = int8_scales(dtype, w->at.scales, b, h * VN);
			continue;
		}
		s[h].scale[0] = vn_load_float(p->scale[b][0] + h * VN);
		s[h].scale[1] = vn_load_float(p->scale[b][1] + h * VN);
		s[h].min = vn_load_float(p->min[b] + h * VN);
	}
}

/* c[m] = ref's steps for a block, or for half of it, given the integer sums. */
vec_inline void int8_add(const u32 dtype, const u32 mr, const u32 half,
			 const struct int8_scales *s, const struct int8_x *x,
			 size_t x_stride, vn_int (*sum)[INT8_VECS],
			 float (*c)[KERN_STRIP])
{
#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++, x += x_stride) {
		vn_float scale = vn_set1(x->scale);

#pragma GCC unroll 2
		for (u32 h = 0; h < INT8_VECS; h++) {
			vn_float v = vn_load_float(c[m] + h * VN);
			vn_int i = sum[m][h];

			if (!int8_mins(dtype))
				i = vn_sub_int(i, vn_mask(x->zero[half]));
			v = vn_fma(vn_mul(s[h].scale[half], scale),
				   vn_to_float(i), v);
			if (int8_mins(dtype))
				v = vn_fnma(s[h].min, vn_set1(x->mins), v);
			vn_store_float(c[m] + h * VN, v);
		}
	}
}

#endif
