/* SPDX-License-Identifier: MIT */
#ifndef CPU_VEC_MATH_H
#define CPU_VEC_MATH_H
/*
 * vec_math.h - the polynomials of ref/scalar.h, 16 values at a time
 */
#include "kernels/cpu/vec.h"
#include "kernels/ref/scalar.h"

vec_inline struct v16 v16_exp(struct v16 x)
{
	struct v16mask small = v16_lt(x, v16_set1(REF_EXP_MIN));
	struct v16 n, r, p;

	x = v16_min(v16_set1(REF_EXP_MAX), x);
	n = v16_rint(v16_mul(x, v16_set1(REF_LOG2E)));
	r = v16_fma(n, v16_set1(-REF_LN2_HI), x);
	r = v16_fma(n, v16_set1(-REF_LN2_LO), r);
	p = v16_set1(1.9875691500e-4f);
	p = v16_fma(p, r, v16_set1(1.3981999507e-3f));
	p = v16_fma(p, r, v16_set1(8.3334519073e-3f));
	p = v16_fma(p, r, v16_set1(4.1665795894e-2f));
	p = v16_fma(p, r, v16_set1(1.6666665459e-1f));
	p = v16_fma(p, r, v16_set1(5.0000001201e-1f));
	p = v16_add(v16_fma(p, v16_mul(r, r), r), v16_set1(1.0f));
	return v16_select(small, v16_zero(), v16_scale2(p, n));
}

vec_inline struct v16 v16_tanh(struct v16 x)
{
	struct v16 one = v16_set1(1.0f), a = v16_abs(x), z = v16_mul(x, x);
	struct v16 e = v16_exp(v16_mul(v16_set1(2.0f), a)), big, p;

	big = v16_sub(one, v16_div(v16_set1(2.0f), v16_add(e, one)));
	big = v16_sign(big, x);
	p = v16_set1(-5.70498872745e-3f);
	p = v16_fma(p, z, v16_set1(2.06390887954e-2f));
	p = v16_fma(p, z, v16_set1(-5.37397155531e-2f));
	p = v16_fma(p, z, v16_set1(1.33314422036e-1f));
	p = v16_fma(p, z, v16_set1(-3.33332819422e-1f));
	p = v16_fma(v16_mul(p, z), x, x);
	return v16_select(v16_lt(a, v16_set1(REF_TANH_SMALL)), p, big);
}

vec_inline struct v16 v16_silu(struct v16 x)
{
	struct v16 e = v16_exp(v16_neg(x));

	return v16_div(x, v16_add(v16_set1(1.0f), e));
}

vec_inline struct v16 v16_gelu_tanh(struct v16 x)
{
	struct v16 c = v16_mul(v16_mul(v16_set1(REF_GELU_CUBE), x), x);
	struct v16 u = v16_mul(v16_fma(c, x, x), v16_set1(REF_GELU_2SQRT));

	return v16_div(x, v16_add(v16_set1(1.0f), v16_exp(v16_neg(u))));
}

/* of struct kern_gated */
vec_inline struct v16 v16_gated(u32 act, struct v16 gate, struct v16 up)
{
	gate = act == KERN_ACT_SILU ? v16_silu(gate) : v16_gelu_tanh(gate);
	return v16_mul(gate, up);
}

#endif
