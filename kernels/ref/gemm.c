/* SPDX-License-Identifier: MIT */
/*
 * gemm.c - y = x w' + bias + residual, in the order of a tile instruction
 *
 * Weights are rounded to bf16, activations come so. For each block of 32 k in
 * turn, E is the chain of fused multiply-adds from 0 over the block's even k,
 * O the same over its odd k, and the sum becomes c = c + (E + O). This is
 * what TDPBF16PS computes, and it is the definition for every M: a row's bits
 * do not depend on the rows beside it. The last block is padded with zeros.
 */
#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"

#define BLOCK 32

static float block_dot(const u16 *x, const float *w, u32 nr)
{
	float sum[2] = { 0, 0 };

	for (u32 k = 0; k < nr; k++)
		sum[k & 1] = fmaf(kern_bf16_to_f32(x[k]), w[k], sum[k & 1]);
	return sum[0] + sum[1];
}

/* c[m] = the sum for column n, for all rows. */
static void column(const struct kern_gemm *p, u32 n, float *c)
{
	for (u32 m = 0; m < p->m; m++)
		c[m] = 0;
	for (u32 k0 = 0; k0 < p->w.cols; k0 += BLOCK) {
		u32 nr = min(p->w.cols - k0, (u32)BLOCK);
		float w[BLOCK];

		for (u32 k = 0; k < nr; k++)
			w[k] = kern_bf16_to_f32(kern_f32_to_bf16(
				ref_element(&p->w, n, k0 + k)));
		for (u32 m = 0; m < p->m; m++)
			c[m] += block_dot(p->x + (size_t)m * p->x_stride + k0,
					  w, nr);
	}
}

void ref_gemm_store(const struct kern_gemm *p, u32 m, u32 n, float sum)
{
	size_t at = (size_t)m * p->y_stride + n;

	if (p->bias)
		sum += p->bias[n];
	if (p->residual)
		sum += p->residual[at];
	if (p->best && sum > p->best[m].max)
		p->best[m] = (struct kern_best){ sum, n };
	if (!p->best || (p->keep && p->keep[m]))
		p->y[at] = sum;
}

void ref_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	float *c = scratch; /* [M]; M <= KERN_SCRATCH_BYTES / 4 */

	for (u32 n = lo; n < hi; n++) {
		column(p, n, c);
		for (u32 m = 0; m < p->m; m++)
			ref_gemm_store(p, m, n, c[m]);
	}
}
