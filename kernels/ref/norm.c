/* SPDX-License-Identifier: MIT */
/*
 * norm.c - root mean square norm
 *
 * The sum of squares runs in 16 partial sums (element i in sum i mod 16, each
 * one chain of fused multiply-adds), folded by ref_fold16().
 */
#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"

static float inverse_rms(const float *x, u32 len, float eps)
{
	float lane[16] = { 0 };

	for (u32 i = 0; i < len; i++)
		lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
	return 1.0f / sqrtf(ref_fold16(lane) / (float)len + eps);
}

void ref_rmsnorm(const struct kern_rmsnorm *p, u32 lo, u32 hi)
{
	for (u32 r = lo * p->heads; r < hi * p->heads; r++) {
		size_t head = (size_t)(r % p->heads) * p->len;
		size_t at = (size_t)(r / p->heads) * p->out_stride + head;
		const float *x =
			p->x + (size_t)(r / p->heads) * p->x_stride + head;
		float inv = inverse_rms(x, p->len, p->eps);

		for (u32 i = 0; i < p->len; i++) {
			float y = x[i] * inv;

			if (p->weight)
				y *= p->weight[i];
			if (p->add)
				y += p->add[at + i];
			if (p->bf16)
				p->bf16[at + i] = kern_f32_to_bf16(y);
			if (p->f32)
				p->f32[at + i] = y;
		}
	}
}
