/* SPDX-License-Identifier: MIT */
/*
 * gemm_int16.c - the product with int16 activations, in integers by 32 k
 *
 * A definition of its own: x is rounded to steps of its 32 neighbours' largest,
 * w is not rounded. The step is a power of two, so an element is exact if it is
 * at least 1/128 of the largest: x is bf16 and has 8 bits of its own. For each
 * block of 32 k of a row of x:
 *
 *	e	the exponent of the largest |x|, 2^e <= |x| < 2^(e + 1)
 *	scale	2^(e - 14)
 *	q	rint(x / scale), -32640 .. 32640
 *
 * and the sum c, from 0, takes block after block, with the quants v of a row of
 * w, without their zero point:
 *
 *	isum = sum of q v		exact
 *	c = fma(w's scale * scale, float(isum), c)
 *	c = fma(-w's min, scale * float(sum of q), c)	where the type has mins
 *
 * Q6_K, whose scales are of 16 k, has such a step for each half of a block.
 * Where e < -111, at which 1 / scale would leave fp32's range, the block is 0;
 * a block that has an infinity or a NaN is NaN.
 *
 * Types that have no integer quants are multiplied as gemm.c does.
 */
#include <stdlib.h>

#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"
#include "kernels/ref/strip.h"

#define BLOCK 32

struct block {
	s32 q[BLOCK];
	float scale;
};

static void quantise(const u16 *x, struct block *b)
{
	u32 top = 0;
	float inv;

	for (u32 k = 0; k < BLOCK; k++)
		top = max(top, x[k] & 0x7fffu);
	*b = (struct block){ .scale = 0 };
	if (top >= INT16_TOP_END)
		b->scale = ref_bits_float(0x7fc00000);
	if (top < INT16_TOP_MIN || top >= INT16_TOP_END)
		return;
	b->scale = ref_bits_float(((top >> 7) - 14) << 23);
	inv = ref_bits_float((268 - (top >> 7)) << 23);
	for (u32 k = 0; k < BLOCK; k++)
		b->q[k] = (s32)lrintf(kern_bf16_to_f32(x[k]) * inv);
}

static float add_dot(const struct block *x, const struct strip_quants *w,
		     u32 dtype, float c)
{
	struct strip_type t = strip_type(dtype);
	u32 span = dtype == KV_DTYPE_Q6_K ? 16 : BLOCK;

	for (u32 k0 = 0; k0 < BLOCK; k0 += span) {
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

void ref_gemm_int16(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	struct strip_quants *w = scratch; /* [K / 32] */
	u32 nr = p->w.cols / BLOCK;

	if (!strip_type(p->w.dtype).bits) {
		ref_gemm(p, lo, hi, scratch);
		return;
	}
	for (u32 n = lo; n < hi; n++) {
		for (u32 b = 0; b < nr; b++)
			ref_strip_quants(&p->w, n, b * BLOCK, &w[b]);
		for (u32 m = 0; m < p->m; m++) {
			const u16 *x = p->x + (size_t)m * p->x_stride;
			float c = 0;

			for (u32 b = 0; b < nr; b++) {
				struct block xb;

				quantise(x + b * BLOCK, &xb);
				c = add_dot(&xb, &w[b], p->w.dtype, c);
			}
			ref_gemm_store(p, m, n, c);
		}
	}
}
