/* SPDX-License-Identifier: MIT */
/*
 * logits.c - what a sampler asks of a row of logits
 *
 * The log of the sum of exponentials adds fp32 exponentials in 16 double sums
 * (element i in sum i mod 16), folded by halves. A NaN is never the largest.
 */
#include "kernels/cpu/topk.h"
#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"

static u32 row_argmax(const float *x, u32 len)
{
	u32 best = 0;
	float m = -INFINITY;

	for (u32 i = 0; i < len; i++) {
		if (x[i] > m) {
			m = x[i];
			best = i;
		}
	}
	return best;
}

static double row_lse(const float *x, u32 len, float m)
{
	double lane[16] = { 0 };

	if (m == -INFINITY)
		return (double)m;
	for (u32 i = 0; i < len; i++)
		lane[i % 16] += (double)ref_expf(x[i] - m);
	for (int half = 8; half; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return (double)m + log(lane[0]);
}

static void row_top(const float *x, u32 len, struct topk *top)
{
	for (u32 i = 0; i < len; i++)
		if (topk_takes(top, x[i]))
			topk_push(top, x[i], i);
	topk_sort(top);
}

void ref_logits(const struct kern_logits *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++) {
		const float *x = p->x + (size_t)r * p->len;
		struct topk top;
		u32 best;
		float m;

		if (p->keep && !p->keep[r])
			continue;
		best = row_argmax(x, p->len);
		m = x[best] > -INFINITY ? x[best] : -INFINITY;
		if (p->argmax)
			p->argmax[r] = best;
		if (p->max)
			p->max[r] = m;
		if (p->lse)
			p->lse[r] = row_lse(x, p->len, m);
		if (!p->k)
			continue;
		topk_init(&top, p->top + (size_t)r * p->k,
			  p->top_ids + (size_t)r * p->k, p->k);
		row_top(x, p->len, &top);
	}
}
