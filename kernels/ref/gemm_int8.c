/* SPDX-License-Identifier: MIT */
/*
 * gemm_int8.c - the product with int8 activations, in integers by 32 k
 *
 * Another definition than gemm.c's, and another result: x is rounded to steps
 * of the largest of its 32 neighbours, w is not rounded. Nearly all of the work
 * is integer products, whose sum is exact in any order. For each block of 32 k
 * of a row of x:
 *
 *	top	the largest |x|
 *	inv	127 / top
 *	scale	top / 127
 *	q	rint(x inv), -127 .. 127
 *
 * Where one element is much larger than the others, these are left with few
 * steps. So if the sum of |q| is below INT8_FINE, the block becomes two, of
 * both bytes of a finer q:
 *
 *	f	rint(x (256 inv)), -32512 .. 32512
 *	q	floor((f + 128) / 256), with scale
 *	low q	f - 256 q, -128 .. 127, with scale / 256
 *
 * The sum c, from 0, takes 256 k after 256 k (the last may be fewer); of these
 * first the 8 blocks in turn, then in turn those low blocks that there are.
 * Each is a step, with the quants v of a row of w, without their zero point:
 *
 *	isum = sum of q v		exact
 *	c = fma(w's scale * scale, isum, c)
 *	c = fma(-w's min, scale * (sum of q), c)	where the type has mins
 *
 * Q6_K, whose scales are of 16 k, has such a step for each half of a block.
 * Below 2^-111, where 256 inv or scale / 256 would leave fp32's range, top is 0
 * and so is the block. A block that has an infinity or a NaN is NaN.
 *
 * Types that have no integer quants are multiplied as gemm.c does.
 */
#include <stdlib.h>

#include "kernels/ref/ints.h"
#include "kernels/ref/scalar.h"

#define STEP 8 /* blocks, before their low ones */

/* Return: whether there is a low block. */
static bool quantise(const u16 *x, struct ref_ints *b, struct ref_ints *low)
{
	u32 top = ref_ints_begin(x, b), sum = 0;
	float inv;

	if (!top)
		return false;
	b->scale = kern_bf16_to_f32((u16)top) / 127.0f;
	inv = 127.0f / kern_bf16_to_f32((u16)top);
	for (u32 k = 0; k < INTS_BLOCK; k++) {
		b->q[k] = (s32)lrintf(kern_bf16_to_f32(x[k]) * inv);
		sum += (u32)abs(b->q[k]);
	}
	if (sum >= INT8_FINE)
		return false;
	low->scale = b->scale * 0x1p-8f;
	for (u32 k = 0; k < INTS_BLOCK; k++) {
		s32 f = (s32)lrintf(kern_bf16_to_f32(x[k]) * (inv * 256.0f));

		b->q[k] = (f + 128) >> 8;
		low->q[k] = f - 256 * b->q[k];
	}
	return true;
}

static float dot(const u16 *x, const struct strip_quants *w, u32 nr, u32 dtype)
{
	float c = 0;

	for (u32 b0 = 0; b0 < nr; b0 += STEP) {
		struct ref_ints high, low[STEP];
		bool fine[STEP];
		u32 n = min(nr - b0, (u32)STEP);

		for (u32 b = 0; b < n; b++, x += INTS_BLOCK) {
			fine[b] = quantise(x, &high, &low[b]);
			c = ref_ints_add(&high, &w[b0 + b], dtype, c);
		}
		for (u32 b = 0; b < n; b++)
			if (fine[b])
				c = ref_ints_add(&low[b], &w[b0 + b], dtype, c);
	}
	return c;
}

void ref_gemm_int8(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	ref_ints_gemm(p, lo, hi, scratch, dot);
}
