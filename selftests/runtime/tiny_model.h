/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_TINY_MODEL_H
#define SELFTESTS_TINY_MODEL_H
/*
 * tiny_model.h - small random networks, and what they should answer
 *
 * tiny_build() writes a GGUF of either architecture with random weights of a
 * given type and keeps every tensor's values as doubles, decoded by code of
 * its own. tiny_forward() computes the logits of a sequence from those, in
 * fp64, one token after the other, without batches, pages or op tables: it
 * shares nothing with the product but the file.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/include/dtype.h"
#include "selftests/harness.h"
#include "selftests/runtime/model/gguf_write.h"

struct tiny_cfg {
	bool gemma; /* else qwen2 */
	u32 type; /* enum kv_dtype of the matrices */
	u32 vec_type; /* of norms and biases; 0: F32 */
	u32 layers, dim, ffn, heads, kv_heads, head_dim, vocab;
	u32 window; /* gemma only */
	u32 context; /* 0: 4096 */
	bool own_head; /* an output.weight */
	double rope_base; /* 0: 10000 */
	double linear; /* rope scaling factor, 0: none */
	double softcap_attn, softcap_logits;
	u64 seed;
};

struct tiny_tensor {
	char name[64];
	u32 rows, cols;
	double *w;
};

struct tiny {
	struct tiny_cfg c;
	u8 *buf;
	size_t len;
	struct tiny_tensor *t;
	u32 nr;
};

/* The usual small ones: window shorter than a test's sequence. */
static inline struct tiny_cfg tiny_gemma(u32 type)
{
	return (struct tiny_cfg){
		.gemma = true,
		.type = type,
		.layers = 7,
		.dim = 256,
		.ffn = 256,
		.heads = 4,
		.kv_heads = 1,
		.head_dim = 64,
		.vocab = 96,
		.window = 24,
		.rope_base = 1e6,
		.seed = 1,
	};
}

static inline struct tiny_cfg tiny_qwen(u32 type)
{
	return (struct tiny_cfg){
		.type = type,
		.layers = 3,
		.dim = 256,
		.ffn = 512,
		.heads = 4,
		.kv_heads = 2,
		.head_dim = 64,
		.vocab = 96,
		.rope_base = 1e6,
		.seed = 2,
	};
}

static inline double tiny_normal(u64 *seed)
{
	double s = 0;

	for (int i = 0; i < 12; i++)
		s += test_uniform(seed);
	return s - 6;
}

static inline double tiny_half(const u8 *p)
{
	_Float16 h;

	memcpy(&h, p, 2);
	return (double)h;
}

static inline void tiny_put_half(u8 *p, double v)
{
	_Float16 h = (_Float16)v;

	memcpy(p, &h, 2);
}

/* Random bytes for one block, its scales such that values are about @sd. */
static inline void tiny_block(u32 type, u8 *b, double sd, u64 *seed)
{
	const struct dtype_info *d = dtype_info(type);
	double f = 0.75 + (double)(test_rand(seed) & 255) / 512;

	for (u32 i = 0; d && i < d->block_bytes; i++)
		b[i] = (u8)test_rand(seed);
	switch (type) {
	case KV_DTYPE_Q4_0:
		tiny_put_half(b, f * sd / 4.6);
		break;
	case KV_DTYPE_Q5_0:
		tiny_put_half(b, f * sd / 9.2);
		break;
	case KV_DTYPE_Q8_0:
		tiny_put_half(b, f * sd / 74);
		break;
	case KV_DTYPE_Q4_K: /* scale and min are up to 63, 32 on average */
		tiny_put_half(b, f * sd / 230);
		tiny_put_half(b + 2, 7.5 * f * sd / 230);
		break;
	case KV_DTYPE_Q5_K:
		tiny_put_half(b, f * sd / 460);
		tiny_put_half(b + 2, 15.5 * f * sd / 460);
		break;
	case KV_DTYPE_Q6_K:
		tiny_put_half(b + 208, f * sd / 1370);
		break;
	}
}

/* 6-bit scale and min of sub-block s, packed in 12 bytes. */
static inline void tiny_scale_min(const u8 *p, int s, int *sc, int *mn)
{
	u8 out[16];
	int i;

	for (i = 0; i < 4; i++) {
		out[i] = p[i] & 0x3f;
		out[i + 8] = p[i + 4] & 0x3f;
		out[i + 4] = (u8)((p[i + 8] & 0x0f) + ((p[i] >> 6) * 16));
		out[i + 12] = (u8)((p[i + 8] / 16) + ((p[i + 4] >> 6) * 16));
	}
	*sc = out[s];
	*mn = out[s + 8];
}

/* All values of one block. */
static inline void tiny_decode(u32 type, const u8 *b, double *out)
{
	double d = tiny_half(b), dmin = tiny_half(b + 2);
	int i, s, sc, mn;

	switch (type) {
	case KV_DTYPE_Q4_0:
		for (i = 0; i < 16; i++) {
			out[i] = d * ((b[2 + i] & 15) - 8);
			out[i + 16] = d * ((b[2 + i] >> 4) - 8);
		}
		break;
	case KV_DTYPE_Q5_0:
		for (i = 0; i < 32; i++) {
			int q = i < 16 ? b[6 + i] & 15 : b[6 + i - 16] >> 4;

			q += b[2 + i / 8] & (1 << i % 8) ? 16 : 0;
			out[i] = d * (q - 16);
		}
		break;
	case KV_DTYPE_Q8_0:
		for (i = 0; i < 32; i++)
			out[i] = d * (s8)b[2 + i];
		break;
	case KV_DTYPE_Q4_K:
	case KV_DTYPE_Q5_K:
		for (s = 0; s < 8; s++) {
			const u8 *qs = b + (type == KV_DTYPE_Q4_K ? 16 : 48);

			tiny_scale_min(b + 4, s, &sc, &mn);
			for (i = 0; i < 32; i++) {
				int q = qs[32 * (s / 2) + i];

				q = s % 2 ? q / 16 : q % 16;
				if (type == KV_DTYPE_Q5_K &&
				    b[16 + i] & (1 << s))
					q += 16;
				out[32 * s + i] = d * sc * q - dmin * mn;
			}
		}
		break;
	case KV_DTYPE_Q6_K:
		d = tiny_half(b + 208);
		for (i = 0; i < 256; i++) {
			int l = i % 32, part = i / 32, n = part / 4;
			int lo = b[64 * n + 32 * (part % 2) + l];
			int hi = b[128 + 32 * n + l] >> (2 * (part % 4)) & 3;
			int q = (part % 4 < 2 ? lo % 16 : lo / 16) + 16 * hi;

			out[i] = d * (s8)b[192 + i / 16] * (q - 32);
		}
		break;
	}
}

/* @nr values of @type, random with mean @mean: bytes out, doubles kept. */
static inline u8 *tiny_values(u32 type, size_t nr, double mean, double sd,
			      u64 *seed, double *out, size_t *bytes)
{
	const struct dtype_info *d = dtype_info(type);
	u8 *p, *b;

	if (!d)
		abort();
	*bytes = nr / d->block_len * d->block_bytes;
	p = malloc(*bytes);
	if (!p)
		abort();
	if (d->block_len > 1) {
		for (size_t i = 0; i < nr; i += d->block_len) {
			b = p + i / d->block_len * d->block_bytes;
			tiny_block(type, b, sd, seed);
			tiny_decode(type, b, out + i);
		}
		return p;
	}
	for (size_t i = 0; i < nr; i++) {
		float f = (float)(mean + sd * tiny_normal(seed));
		u32 bits;

		b = p + i * d->block_bytes;
		memcpy(&bits, &f, 4);
		if (type == KV_DTYPE_F16) {
			tiny_put_half(b, (double)f);
			out[i] = tiny_half(b);
			continue;
		}
		if (type == KV_DTYPE_BF16)
			bits &= 0xffff0000;
		memcpy(&f, &bits, 4);
		out[i] = (double)f;
		bits >>= type == KV_DTYPE_BF16 ? 16 : 0;
		memcpy(b, &bits, d->block_bytes);
	}
	return p;
}

static inline void tiny_add(struct tiny *m, struct gguf_writer *w,
			    const char *name, u32 type, u32 rows, u32 cols,
			    double mean, double sd, u64 *seed)
{
	struct tiny_tensor *t;
	size_t bytes;
	u8 *data;

	m->t = realloc(m->t, (m->nr + 1) * sizeof(*m->t));
	if (!m->t)
		abort();
	t = &m->t[m->nr++];
	snprintf(t->name, sizeof(t->name), "%s", name);
	t->rows = rows;
	t->cols = cols;
	t->w = malloc((size_t)rows * cols * sizeof(*t->w));
	if (!t->w)
		abort();
	data = tiny_values(type, (size_t)rows * cols, mean, sd, seed, t->w,
			   &bytes);
	gw_tensor(w, name, type, rows > 1 ? 2 : 1, (u64[]){ cols, rows }, data,
		  bytes);
	free(data);
}

static inline const double *tiny_get(const struct tiny *m, int layer,
				     const char *name)
{
	char full[64];

	if (layer >= 0)
		snprintf(full, sizeof(full), "blk.%d.%s", layer, name);
	else
		snprintf(full, sizeof(full), "%s", name);
	for (u32 i = 0; i < m->nr; i++)
		if (!strcmp(m->t[i].name, full))
			return m->t[i].w;
	return NULL;
}

static inline void tiny_keys(const struct tiny_cfg *c, struct gguf_writer *w)
{
	const char *a = c->gemma ? "gemma3" : "qwen2";
	char k[96];

#define TINY_U32(name, v) \
	(snprintf(k, sizeof(k), "%s." name, a), gw_u32(w, k, (v)))
#define TINY_F32(name, v) \
	(snprintf(k, sizeof(k), "%s." name, a), gw_f32(w, k, (float)(v)))
	gw_str(w, "general.architecture", a);
	TINY_U32("block_count", c->layers);
	TINY_U32("context_length", c->context ? c->context : 4096);
	TINY_U32("embedding_length", c->dim);
	TINY_U32("feed_forward_length", c->ffn);
	TINY_U32("attention.head_count", c->heads);
	TINY_U32("attention.head_count_kv", c->kv_heads);
	TINY_U32("attention.key_length", c->head_dim);
	TINY_U32("attention.value_length", c->head_dim);
	TINY_F32("attention.layer_norm_rms_epsilon", 1e-6);
	if (c->rope_base > 0)
		TINY_F32("rope.freq_base", c->rope_base);
	if (c->linear > 0) {
		snprintf(k, sizeof(k), "%s.rope.scaling.type", a);
		gw_str(w, k, "linear");
		TINY_F32("rope.scaling.factor", c->linear);
	}
	if (c->gemma && c->window)
		TINY_U32("attention.sliding_window", c->window);
	if (c->softcap_attn > 0)
		TINY_F32("attn_logit_softcapping", c->softcap_attn);
	if (c->softcap_logits > 0)
		TINY_F32("final_logit_softcapping", c->softcap_logits);
}

static inline void tiny_layer(struct tiny *m, struct gguf_writer *w, u32 l,
			      u64 *seed)
{
	const struct tiny_cfg *c = &m->c;
	u32 q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	double sd = 1 / sqrt(c->dim);
	char n[64];

#define TINY_MAT(name, rows, cols)                            \
	(snprintf(n, sizeof(n), "blk.%u." name ".weight", l), \
	 tiny_add(m, w, n, c->type, (rows), (cols), 0, 1.5 * sd, seed))
#define TINY_VEC(name, len, mean)                   \
	(snprintf(n, sizeof(n), "blk.%u." name, l), \
	 tiny_add(m, w, n, c->vec_type, 1, (len), (mean), 0.2, seed))
	TINY_MAT("attn_q", q, c->dim);
	TINY_MAT("attn_k", kv, c->dim);
	TINY_MAT("attn_v", kv, c->dim);
	TINY_MAT("attn_output", c->dim, q);
	TINY_MAT("ffn_gate", c->ffn, c->dim);
	TINY_MAT("ffn_up", c->ffn, c->dim);
	TINY_MAT("ffn_down", c->dim, c->ffn);
	TINY_VEC("attn_norm.weight", c->dim, 1);
	TINY_VEC("ffn_norm.weight", c->dim, 1);
	if (c->gemma) {
		TINY_VEC("attn_q_norm.weight", c->head_dim, 1);
		TINY_VEC("attn_k_norm.weight", c->head_dim, 1);
		TINY_VEC("post_attention_norm.weight", c->dim, 1);
		TINY_VEC("post_ffw_norm.weight", c->dim, 1);
	} else {
		TINY_VEC("attn_q.bias", q, 0);
		TINY_VEC("attn_k.bias", kv, 0);
		TINY_VEC("attn_v.bias", kv, 0);
	}
}

/* Write the file into memory; tiny_free() it. */
static inline void tiny_build(struct tiny *m, const struct tiny_cfg *c)
{
	struct gguf_writer w = { 0 };
	u64 seed = c->seed * 1000003 + 17;
	double sd = c->gemma ? 1 / sqrt(c->dim) : 1;

	memset(m, 0, sizeof(*m));
	m->c = *c;
	tiny_keys(c, &w);
	tiny_add(m, &w, "token_embd.weight", c->type, c->vocab, c->dim, 0, sd,
		 &seed);
	tiny_add(m, &w, "output_norm.weight", c->vec_type, 1, c->dim, 1, 0.2,
		 &seed);
	if (c->own_head)
		tiny_add(m, &w, "output.weight", c->type, c->vocab, c->dim, 0,
			 1 / sqrt(c->dim), &seed);
	for (u32 l = 0; l < c->layers; l++)
		tiny_layer(m, &w, l, &seed);
	m->buf = gw_finish(&w, &m->len);
}

static inline void tiny_free(struct tiny *m)
{
	for (u32 i = 0; i < m->nr; i++)
		free(m->t[i].w);
	free(m->t);
	free(m->buf);
	memset(m, 0, sizeof(*m));
}

/* ---- the answer, in fp64 ---- */

static inline void tiny_norm(const double *x, const double *w, u32 n,
			     double *out)
{
	double sum = 0;

	for (u32 i = 0; i < n; i++)
		sum += x[i] * x[i];
	for (u32 i = 0; i < n; i++)
		out[i] = x[i] / sqrt(sum / n + 1e-6) * w[i];
}

static inline void tiny_mul(const double *w, const double *x, u32 rows,
			    u32 cols, const double *bias, double *out)
{
	for (u32 r = 0; r < rows; r++) {
		double s = bias ? bias[r] : 0;

		for (u32 k = 0; k < cols; k++)
			s += w[(size_t)r * cols + k] * x[k];
		out[r] = s;
	}
}

static inline void tiny_rope(double *x, u32 dim, double pos, double base)
{
	for (u32 i = 0; i < dim / 2; i++) {
		double a = pos * pow(base, -2.0 * i / dim);
		double p = x[i], q = x[i + dim / 2];

		x[i] = p * cos(a) - q * sin(a);
		x[i + dim / 2] = q * cos(a) + p * sin(a);
	}
}

struct tiny_run {
	const struct tiny *m;
	double *k, *v; /* [layers][tokens][kv_heads * head_dim] */
	u32 max;
	double x[1024], h[1024], q[1024], att[1024], t[1024], g[2048], u[2048];
};

static inline void tiny_attend(struct tiny_run *r, u32 l, u32 pos, u32 window)
{
	const struct tiny_cfg *c = &r->m->c;
	u32 kv = c->kv_heads * c->head_dim, hd = c->head_dim;
	u32 from = window && pos + 1 > window ? pos + 1 - window : 0;
	double *s = malloc((pos + 1) * sizeof(*s));

	for (u32 h = 0; s && h < c->heads; h++) {
		u32 at = h / (c->heads / c->kv_heads) * hd;
		double top = -INFINITY, sum = 0;

		for (u32 j = from; j <= pos; j++) {
			const double *k = r->k + (l * r->max + j) * kv + at;

			s[j] = 0;
			for (u32 d = 0; d < hd; d++)
				s[j] += r->q[h * hd + d] * k[d];
			s[j] /= sqrt(hd);
			if (c->softcap_attn > 0)
				s[j] = c->softcap_attn *
				       tanh(s[j] / c->softcap_attn);
			top = fmax(top, s[j]);
		}
		for (u32 j = from; j <= pos; j++)
			sum += s[j] = exp(s[j] - top);
		for (u32 d = 0; d < hd; d++) {
			double o = 0;

			for (u32 j = from; j <= pos; j++)
				o += s[j] *
				     r->v[(l * r->max + j) * kv + at + d];
			r->att[h * hd + d] = o / sum;
		}
	}
	free(s);
}

static inline double tiny_act(const struct tiny_cfg *c, double g)
{
	if (!c->gemma)
		return g / (1 + exp(-g));
	return 0.5 * g *
	       (1 + tanh(sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
}

/* The end of a half layer: x += y, or x += norm(y). */
static inline void tiny_close(struct tiny_run *r, const double *y,
			      const double *norm)
{
	const double *t = y;

	if (norm) {
		tiny_norm(y, norm, r->m->c.dim, r->h);
		t = r->h;
	}
	for (u32 i = 0; i < r->m->c.dim; i++)
		r->x[i] += t[i];
}

static inline void tiny_run_layer(struct tiny_run *r, u32 l, u32 pos)
{
	const struct tiny *m = r->m;
	const struct tiny_cfg *c = &m->c;
	u32 q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	double *k = r->k + (l * r->max + pos) * kv;
	double *v = r->v + (l * r->max + pos) * kv;
	bool local = c->gemma && c->window && (l + 1) % 6;
	double base = c->rope_base > 0 ? c->rope_base : 10000;
	double scale = c->linear > 0 ? 1 / c->linear : 1;

#define TINY_W(name) tiny_get(m, (int)l, name)
	if (local) {
		base = 10000;
		scale = 1;
	}
	tiny_norm(r->x, TINY_W("attn_norm.weight"), c->dim, r->h);
	tiny_mul(TINY_W("attn_q.weight"), r->h, q, c->dim,
		 TINY_W("attn_q.bias"), r->q);
	tiny_mul(TINY_W("attn_k.weight"), r->h, kv, c->dim,
		 TINY_W("attn_k.bias"), k);
	tiny_mul(TINY_W("attn_v.weight"), r->h, kv, c->dim,
		 TINY_W("attn_v.bias"), v);
	for (u32 i = 0; i < c->heads; i++) {
		double *x = r->q + i * c->head_dim;

		if (c->gemma)
			tiny_norm(x, TINY_W("attn_q_norm.weight"), c->head_dim,
				  x);
		tiny_rope(x, c->head_dim, pos * scale, base);
	}
	for (u32 i = 0; i < c->kv_heads; i++) {
		double *x = k + i * c->head_dim;

		if (c->gemma)
			tiny_norm(x, TINY_W("attn_k_norm.weight"), c->head_dim,
				  x);
		tiny_rope(x, c->head_dim, pos * scale, base);
	}
	tiny_attend(r, l, pos, local ? c->window : 0);
	tiny_mul(TINY_W("attn_output.weight"), r->att, c->dim, q, NULL, r->t);
	tiny_close(r, r->t, TINY_W("post_attention_norm.weight"));
	tiny_norm(r->x, TINY_W("ffn_norm.weight"), c->dim, r->h);
	tiny_mul(TINY_W("ffn_gate.weight"), r->h, c->ffn, c->dim, NULL, r->g);
	tiny_mul(TINY_W("ffn_up.weight"), r->h, c->ffn, c->dim, NULL, r->u);
	for (u32 i = 0; i < c->ffn; i++)
		r->g[i] = tiny_act(c, r->g[i]) * r->u[i];
	tiny_mul(TINY_W("ffn_down.weight"), r->g, c->dim, c->ffn, NULL, r->t);
	tiny_close(r, r->t, TINY_W("post_ffw_norm.weight"));
}

/* Logits [nr][vocab] of every position of a sequence. */
static inline void tiny_forward(const struct tiny *m, const u32 *ids, u32 nr,
				double *logits)
{
	const struct tiny_cfg *c = &m->c;
	size_t kv = (size_t)c->layers * nr * c->kv_heads * c->head_dim;
	const double *emb = tiny_get(m, -1, "token_embd.weight");
	const double *head = tiny_get(m, -1, "output.weight");
	struct tiny_run *r = calloc(1, sizeof(*r));

	if (!r || c->dim > 1024 || c->ffn > 2048)
		abort();
	r->m = m;
	r->max = nr;
	r->k = calloc(kv, sizeof(double));
	r->v = calloc(kv, sizeof(double));
	for (u32 p = 0; r->k && r->v && p < nr; p++) {
		double *out = logits + (size_t)p * c->vocab;

		for (u32 i = 0; i < c->dim; i++)
			r->x[i] = emb[(size_t)ids[p] * c->dim + i] *
				  (c->gemma ? sqrt(c->dim) : 1);
		for (u32 l = 0; l < c->layers; l++)
			tiny_run_layer(r, l, p);
		tiny_norm(r->x, tiny_get(m, -1, "output_norm.weight"), c->dim,
			  r->h);
		tiny_mul(head ? head : emb, r->h, c->vocab, c->dim, NULL, out);
		for (u32 i = 0; c->softcap_logits > 0 && i < c->vocab; i++)
			out[i] = c->softcap_logits *
				 tanh(out[i] / c->softcap_logits);
	}
	free(r->k);
	free(r->v);
	free(r);
}

#endif
