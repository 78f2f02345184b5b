/* SPDX-License-Identifier: MIT */
/*
 * rope.c - rotary positions, and K and V rounded into their pages
 *
 * Angles are computed in double and their sines rounded once, so a position
 * of 100,000 is as exact as position 1. Both libm's give the same floats.
 */
#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"

void ref_rope_table(const struct kern_rope_table *p, u32 lo, u32 hi)
{
	u32 half = p->rot / 2;

	for (u32 i = 0; i < half; i++) {
		double freq = pow(p->base, -2.0 * i / p->rot) * p->scale;

		if (p->freq_factors)
			freq /= (double)p->freq_factors[i];
		for (u32 t = lo; t < hi; t++) {
			float *row = p->cos_sin + (size_t)t * p->rot;
			double angle = p->pos[t] * freq;

			row[i] = (float)cos(angle);
			row[half + i] = (float)sin(angle);
		}
	}
}

/* Elements i and i + rot/2 of a rotated head; one rounding a product. */
static void rotate_pair(const float *x, const float *cs, u32 half, u32 i,
			float *lo, float *hi)
{
	float a = x[i], b = x[half + i], c = cs[i], s = cs[half + i];

	*lo = fmaf(a, c, -(b * s));
	*hi = fmaf(b, c, a * s);
}

static void rotate_q(const struct kern_rope *p, u32 t, u32 head)
{
	float *x =
		p->q + (size_t)t * p->q_stride + (size_t)head * p->kv.head_dim;
	const float *cs = p->cos_sin + (size_t)t * p->rot;
	u32 half = p->rot / 2;

	for (u32 i = 0; i < half; i++) {
		float lo, hi;

		rotate_pair(x, cs, half, i, &lo, &hi);
		x[i] = lo;
		x[half + i] = hi;
	}
}

static void write_kv(const struct kern_rope *p, u32 t, u32 head)
{
	u32 d = p->kv.head_dim, half = p->rot / 2;
	const float *k = p->k + (size_t)t * p->k_stride + (size_t)head * d;
	const float *v = p->v + (size_t)t * p->v_stride + (size_t)head * d;
	const float *cs = p->cos_sin + (size_t)t * p->rot;
	u8 *row = p->kv.base + p->kv.layer_off + p->rows[t] +
		  head * p->kv.head_stride;
	u16 *kout = (u16 *)(void *)(row + p->kv.k_off);
	u16 *vout = (u16 *)(void *)(row + p->kv.v_off);

	for (u32 i = 0; i < half; i++) {
		float lo, hi;

		rotate_pair(k, cs, half, i, &lo, &hi);
		kout[i] = kern_f32_to_bf16(lo);
		kout[half + i] = kern_f32_to_bf16(hi);
	}
	for (u32 i = p->rot; i < d; i++)
		kout[i] = kern_f32_to_bf16(k[i]);
	for (u32 i = 0; i < d; i++)
		vout[i] = kern_f32_to_bf16(v[i]);
}

void ref_rope(const struct kern_rope *p, u32 lo, u32 hi)
{
	for (u32 t = lo; t < hi; t++) {
		for (u32 h = 0; h < p->nr_heads; h++)
			rotate_q(p, t, h);
		for (u32 h = 0; h < p->kv.nr_kv_heads; h++)
			write_kv(p, t, h);
	}
}
