/* SPDX-License-Identifier: MIT */
/*
 * pointwise.c - operations in which no element meets another
 */
#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"

void ref_round(const struct kern_round *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++)
		for (u32 i = 0; i < p->len; i++)
			p->out[(size_t)r * p->out_stride + i] =
				kern_f32_to_bf16(
					p->x[(size_t)r * p->x_stride + i]);
}

void ref_add(const struct kern_add *p, u32 lo, u32 hi)
{
	for (size_t i = (size_t)lo * p->len; i < (size_t)hi * p->len; i++)
		p->out[i] = p->a[i] + p->b[i];
}

void ref_gated(const struct kern_gated *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++) {
		const float *gate = p->gate + (size_t)r * p->stride;
		const float *up = p->up + (size_t)r * p->stride;
		u16 *out = p->out + (size_t)r * p->out_stride;

		for (u32 i = 0; i < p->len; i++) {
			float g = p->act == KERN_ACT_SILU
					  ? ref_silu(gate[i])
					  : ref_gelu_tanh(gate[i]);

			out[i] = kern_f32_to_bf16(g * up[i]);
		}
	}
}

void ref_softcap(const struct kern_softcap *p, u32 lo, u32 hi)
{
	for (size_t i = (size_t)lo * p->len; i < (size_t)hi * p->len; i++)
		p->x[i] = p->cap * ref_tanhf(p->x[i] / p->cap);
}

void ref_copy(const struct kern_copy *list, u32 lo, u32 hi)
{
	for (u32 i = lo; i < hi; i++)
		memcpy(list[i].dst, list[i].src, list[i].bytes);
}
