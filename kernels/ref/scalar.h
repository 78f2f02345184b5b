/* SPDX-License-Identifier: MIT */
#ifndef REF_SCALAR_H
#define REF_SCALAR_H
/*
 * scalar.h - the elementary functions, one value at a time
 *
 * exp and tanh are fixed polynomials of fused multiply-adds, so that every
 * instruction set can give the same bits; libm's differ between versions.
 * Error: exp 1.1 ulp, tanh 2 ulp. The vector twins are in cpu/vec_math.h.
 */
#include <math.h>
#include <string.h>

#include "kernels/include/kern.h"

#define REF_EXP_MAX    88.0f /* larger arguments are taken as this */
#define REF_EXP_MIN    -87.0f /* smaller ones give 0 */
#define REF_LOG2E      1.44269504088896341f
#define REF_LN2_HI     0.693359375f
#define REF_LN2_LO     -2.12194440e-4f
#define REF_TANH_SMALL 0.625f
#define REF_GELU_2SQRT 1.5957691216057308f /* 2 sqrt(2 / pi) */
#define REF_GELU_CUBE  0.044715f

static inline u32 ref_float_bits(float f)
{
	u32 u;

	memcpy(&u, &f, sizeof(u));
	return u;
}

static inline float ref_bits_float(u32 u)
{
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

static inline float ref_f16_to_f32(u16 h)
{
	u32 sign = (u32)(h & 0x8000) << 16, exp = h >> 10 & 31, m = h & 0x3ff;

	if (exp == 31)
		return ref_bits_float(sign | 0x7f800000 | m << 13);
	if (exp)
		return ref_bits_float(sign | (exp + 112) << 23 | m << 13);
	return ref_bits_float(sign | ref_float_bits((float)m * 0x1p-24f));
}

/* e^x = 2^n e^r with |r| <= ln(2) / 2 */
static inline float ref_expf(float x)
{
	float n, r, p;

	if (x < REF_EXP_MIN)
		return 0;
	x = x > REF_EXP_MAX ? REF_EXP_MAX : x;
	if (x != x)
		return x;
	n = rintf(x * REF_LOG2E);
	r = fmaf(n, -REF_LN2_HI, x);
	r = fmaf(n, -REF_LN2_LO, r);
	p = 1.9875691500e-4f;
	p = fmaf(p, r, 1.3981999507e-3f);
	p = fmaf(p, r, 8.3334519073e-3f);
	p = fmaf(p, r, 4.1665795894e-2f);
	p = fmaf(p, r, 1.6666665459e-1f);
	p = fmaf(p, r, 5.0000001201e-1f);
	p = fmaf(p, r * r, r) + 1.0f;
	return ref_bits_float(ref_float_bits(p) + ((u32)(s32)n << 23));
}

static inline float ref_tanhf(float x)
{
	float z = x * x, p;

	if (fabsf(x) >= REF_TANH_SMALL) {
		p = ref_expf(2.0f * fabsf(x));
		return copysignf(1.0f - 2.0f / (p + 1.0f), x);
	}
	p = -5.70498872745e-3f;
	p = fmaf(p, z, 2.06390887954e-2f);
	p = fmaf(p, z, -5.37397155531e-2f);
	p = fmaf(p, z, 1.33314422036e-1f);
	p = fmaf(p, z, -3.33332819422e-1f);
	return fmaf(p * z, x, x);
}

/* x / (1 + e^-x) */
static inline float ref_silu(float x)
{
	return x / (1.0f + ref_expf(-x));
}

/* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): a logistic of twice that */
static inline float ref_gelu_tanh(float x)
{
	float u = fmaf(REF_GELU_CUBE * x * x, x, x) * REF_GELU_2SQRT;

	return x / (1.0f + ref_expf(-u));
}

/* Sum of 16 partial sums: halves are added until one is left. */
static inline float ref_fold16(float *lane)
{
	for (int half = 8; half; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

#endif
