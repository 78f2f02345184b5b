/* SPDX-License-Identifier: MIT */
/*
 * ints.c - see ints.h
 */
#include "kernels/ref/ints.h"

#include "kernels/ref/scalar.h"

u32 ref_ints_begin(const u16 *x, struct ref_ints *b)
{
	u32 top = 0;

	for (u32 k = 0; k < INTS_BLOCK; k++)
		top = max(top, x[k] & 0x7fffu);
	*b = (struct ref_ints){ .scale = 0 };
	if (top >= INTS_TOP_END)
		b->scale = ref_bits_float(0x7fc00000);
	return top < INTS_TOP_MIN || top >= INTS_TOP_END ? 0 : top;
}

float ref_ints_add(const struct ref_ints *x, const struct strip_quants *w,
		   u32 dtype, float c)
{
	struct strip_type t = strip_type(dtype);
	u32 span = dtype == KV_DTYPE_Q6_K ? 16 : INTS_BLOCK;

	for (u32 k0 = 0; k0 < INTS_BLOCK; k0 += span) {
		s32 isum = 0, qsum = 0;

		for (u32 k = k0; k < k0 + span; k++) {
			isum += x->q[k] * ((s32)w->q[k] - (s32)t.zero);
			qsum += x->q[k];
		}
		c = fmaf(w->scale[k0 / 16] * x->scale, (float)isum, c);
		if (!t.zero)
			c = fmaf(-w->min, x->scale * (float)qsum, c);
	}
	return c;
}

void ref_ints_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch,
		   ref_ints_dot *dot)
{
	struct strip_quants *w = scratch; /* [K / 32] */
	u32 nr = p->w.cols / INTS_BLOCK;

	if (!strip_type(p->w.dtype).bits) {
		ref_gemm(p, lo, hi, scratch);
		return;
	}
	for (u32 n = lo; n < hi; n++) {
		for (u32 b = 0; b < nr; b++)
			ref_strip_quants(&p->w, n, b * INTS_BLOCK, &w[b]);
		for (u32 m = 0; m < p->m; m++)
			ref_gemm_store(p, m, n,
				       dot(p->x + (size_t)m * p->x_stride, w,
					   nr, p->w.dtype));
	}
}
