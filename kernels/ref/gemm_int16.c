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
#include "kernels/ref/ints.h"
#include "kernels/ref/scalar.h"

static void quantise(const u16 *x, struct ref_ints *b)
{
	u32 top = ref_ints_begin(x, b);
	float inv;

	if (!top)
		return;
	b->scale = ref_bits_float(((top >> 7) - 14) << 23);
	inv = ref_bits_float((268 - (top >> 7)) << 23);
	for (u32 k = 0; k < INTS_BLOCK; k++)
		b->q[k] = (s32)lrintf(kern_bf16_to_f32(x[k]) * inv);
}

static float dot(const u16 *x, const struct strip_quants *w, u32 nr, u32 dtype)
{
	struct ref_ints xb;
	float c = 0;

	for (u32 b = 0; b < nr; b++) {
		quantise(x + b * INTS_BLOCK, &xb);
		c = ref_ints_add(&xb, &w[b], dtype, c);
	}
	return c;
}

void ref_gemm_int16(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	ref_ints_gemm(p, lo, hi, scratch, dot);
}
