/* SPDX-License-Identifier: MIT */
/*
 * vec_ops.h - rows of weights, norms, activations, rope, logits on vec.h
 *
 * Included by one .c per instruction set, which puts these functions into its
 * row. Orders of addition are those of ref/; ragged ends are loaded as zeros,
 * which change no sum, and are not stored.
 */
#include "kernels/cpu/dequant_vec.h"
#include "kernels/cpu/topk.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/vec_math.h"

/* for (i, n) over the vectors of [0, len), n lanes used in each */
#define for_each_vec(i, n, len) \
	for (u32 i = 0, n; i < (len) && (n = min((len)-i, 16u)); i += 16)

vec_inline struct v16 load_upto(const float *p, u32 n)
{
	return n == 16 ? v16_load(p) : v16_load_n(p, n);
}

vec_inline void store_upto(float *p, struct v16 a, u32 n)
{
	if (n == 16)
		v16_store(p, a);
	else
		v16_store_n(p, a, n);
}

vec_inline void store_bf16_upto(u16 *p, struct v16 a, u32 n)
{
	if (n == 16)
		v16_store_bf16(p, a);
	else
		v16_store_bf16_n(p, a, n);
}

/* ---- rows of weights ---- */

static void vec_dequant(const struct kern_dequant *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++) {
		size_t at = (size_t)r * p->w.cols;

		if (p->f32)
			vec_row(&p->w, p->row0 + r,
				(struct sink){ p->f32 + at, true });
		if (p->bf16)
			vec_row(&p->w, p->row0 + r,
				(struct sink){ p->bf16 + at, false });
	}
}

static void vec_embed(const struct kern_embed *p, u32 lo, u32 hi)
{
	struct v16 scale = v16_set1(p->scale);

	for (u32 t = lo; t < hi; t++) {
		float *out = p->out + (size_t)t * p->w.cols;

		vec_row(&p->w, p->ids[t], (struct sink){ out, true });
		for_each_vec(i, n, p->w.cols)
		{
			struct v16 v = v16_mul(load_upto(out + i, n), scale);

			store_upto(out + i, v, n);
		}
	}
}

/* ---- norms and activations ---- */

static float inverse_rms(const float *x, u32 len, float eps)
{
	struct v16 s = v16_zero();

	for_each_vec(i, n, len)
	{
		struct v16 v = load_upto(x + i, n);

		s = v16_fma(v, v, s);
	}
	return 1.0f / sqrtf(v16_fold(s) / (float)len + eps);
}

static void vec_rmsnorm(const struct kern_rmsnorm *p, u32 lo, u32 hi)
{
	for (u32 r = lo * p->heads; r < hi * p->heads; r++) {
		size_t head = (size_t)(r % p->heads) * p->len;
		size_t at = (size_t)(r / p->heads) * p->out_stride + head;
		const float *x =
			p->x + (size_t)(r / p->heads) * p->x_stride + head;
		struct v16 inv = v16_set1(inverse_rms(x, p->len, p->eps));

		for_each_vec(i, n, p->len)
		{
			struct v16 y = v16_mul(load_upto(x + i, n), inv);

			if (p->weight)
				y = v16_mul(y, load_upto(p->weight + i, n));
			if (p->add)
				y = v16_add(y, load_upto(p->add + at + i, n));
			if (p->bf16)
				store_bf16_upto(p->bf16 + at + i, y, n);
			if (p->f32)
				store_upto(p->f32 + at + i, y, n);
		}
	}
}

static void vec_round(const struct kern_round *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++) {
		const float *x = p->x + (size_t)r * p->x_stride;
		u16 *out = p->out + (size_t)r * p->out_stride;

		for_each_vec(i, n, p->len)
			store_bf16_upto(out + i, load_upto(x + i, n), n);
	}
}

static void vec_add(const struct kern_add *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++) {
		size_t at = (size_t)r * p->len;

		for_each_vec(i, n, p->len)
			store_upto(p->out + at + i,
				   v16_add(load_upto(p->a + at + i, n),
					   load_upto(p->b + at + i, n)),
				   n);
	}
}

static void vec_gated(const struct kern_gated *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++) {
		const float *gate = p->gate + (size_t)r * p->stride;
		const float *up = p->up + (size_t)r * p->stride;
		u16 *out = p->out + (size_t)r * p->out_stride;

		for_each_vec(i, n, p->len) store_bf16_upto(
			out + i,
			v16_gated(p->act, load_upto(gate + i, n),
				  load_upto(up + i, n)),
			n);
	}
}

static void vec_softcap(const struct kern_softcap *p, u32 lo, u32 hi)
{
	struct v16 cap = v16_set1(p->cap);

	for (u32 r = lo; r < hi; r++) {
		float *x = p->x + (size_t)r * p->len;

		for_each_vec(i, n, p->len)
		{
			struct v16 v = load_upto(x + i, n);

			v = v16_mul(cap, v16_tanh(v16_div(v, cap)));
			store_upto(x + i, v, n);
		}
	}
}

/* ---- rope ---- */

vec_inline void rotate(const float *x, const float *cs, u32 half, u32 i, u32 n,
		       struct v16 *lo, struct v16 *hi)
{
	struct v16 a = load_upto(x + i, n), b = load_upto(x + half + i, n);
	struct v16 c = load_upto(cs + i, n), s = load_upto(cs + half + i, n);

	*lo = v16_fms(a, c, v16_mul(b, s));
	*hi = v16_fma(b, c, v16_mul(a, s));
}

static void rotate_q(const struct kern_rope *p, u32 t, u32 head)
{
	float *x =
		p->q + (size_t)t * p->q_stride + (size_t)head * p->kv.head_dim;
	const float *cs = p->cos_sin + (size_t)t * p->rot;
	u32 half = p->rot / 2;

	for_each_vec(i, n, half)
	{
		struct v16 lo, hi;

		rotate(x, cs, half, i, n, &lo, &hi);
		store_upto(x + i, lo, n);
		store_upto(x + half + i, hi, n);
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

	for_each_vec(i, n, half)
	{
		struct v16 lo, hi;

		rotate(k, cs, half, i, n, &lo, &hi);
		store_bf16_upto(kout + i, lo, n);
		store_bf16_upto(kout + half + i, hi, n);
	}
	for_each_vec(i, n, d - p->rot) store_bf16_upto(
		kout + p->rot + i, load_upto(k + p->rot + i, n), n);
	for_each_vec(i, n, d) store_bf16_upto(vout + i, load_upto(v + i, n), n);
}

static void vec_rope(const struct kern_rope *p, u32 lo, u32 hi)
{
	for (u32 t = lo; t < hi; t++) {
		for (u32 h = 0; h < p->nr_heads; h++)
			rotate_q(p, t, h);
		for (u32 h = 0; h < p->kv.nr_kv_heads; h++)
			write_kv(p, t, h);
	}
}

/* ---- logits ---- */

static float row_max(const float *x, u32 len)
{
	struct v16 m = v16_set1(-INFINITY);
	u32 whole = len / 16 * 16;
	float best;

	for (u32 i = 0; i < whole; i += 16)
		m = v16_max(v16_load(x + i), m);
	best = v16_largest(m);
	for (u32 i = whole; i < len; i++)
		best = x[i] > best ? x[i] : best;
	return best;
}

/* The first element that equals @m; 0 if none does. */
static u32 row_find(const float *x, u32 len, float m)
{
	struct v16 want = v16_set1(m);
	u32 i = 0;

	if (m == -INFINITY)
		return 0;
	for (; i + 16 <= len; i += 16) {
		u32 hit = v16mask_bits(v16_eq(v16_load(x + i), want));

		if (hit)
			return i + (u32)__builtin_ctz(hit);
	}
	for (; i < len; i++)
		if (x[i] == m)
			return i;
	return 0;
}

static double row_lse(const float *x, u32 len, float m)
{
	struct v16 mv = v16_set1(m);
	struct v16d s;

	if (m == -INFINITY)
		return (double)m;
	memset(&s, 0, sizeof(s));
	for_each_vec(i, n, len)
	{
		struct v16 e = v16_exp(v16_sub(load_upto(x + i, n), mv));

		if (n < 16)
			e = v16_select(v16_lanes(0, n), e, v16_zero());
		s = v16d_add_f32(s, e);
	}
	return (double)m + log(v16d_fold(s));
}

static void row_top(const float *x, u32 len, struct topk *top)
{
	u32 i = 0;

	for (; top->nr < top->k; i++)
		topk_push(top, x[i], i);
	for (; i + 16 <= len; i += 16) {
		struct v16 floor = v16_set1(top->floor);
		u32 hits = v16mask_bits(v16_lt(floor, v16_load(x + i)));

		for (; hits; hits &= hits - 1) {
			u32 at = i + (u32)__builtin_ctz(hits);

			if (topk_takes(top, x[at]))
				topk_push(top, x[at], at);
		}
	}
	for (; i < len; i++)
		if (topk_takes(top, x[i]))
			topk_push(top, x[i], i);
	topk_sort(top);
}

static void vec_logits(const struct kern_logits *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++) {
		const float *x = p->x + (size_t)r * p->len;
		struct topk top;
		u32 best;
		float m;

		if (p->keep && !p->keep[r])
			continue;
		best = row_find(x, p->len, row_max(x, p->len));
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
