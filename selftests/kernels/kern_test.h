/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_KERN_TEST_H
#define SELFTESTS_KERN_TEST_H
/*
 * kern_test.h - seeded inputs, and every row of the ops table against ref
 */
#include "kernels/include/kern.h"
#include "kernels/include/pack.h"
#include "selftests/harness.h"

static const u32 kt_types[] = {
	KV_DTYPE_F32,  KV_DTYPE_F16,  KV_DTYPE_BF16,
	KV_DTYPE_Q4_0, KV_DTYPE_Q5_0, KV_DTYPE_Q8_0,
	KV_DTYPE_Q4_K, KV_DTYPE_Q5_K, KV_DTYPE_Q6_K,
};

/* Those with integer quants; others are the default's product everywhere. */
static const u32 kt_int_types[] = {
	KV_DTYPE_Q4_0, KV_DTYPE_Q5_0, KV_DTYPE_Q8_0,
	KV_DTYPE_Q4_K, KV_DTYPE_Q5_K, KV_DTYPE_Q6_K,
};

/*
 * for (ops) over the rows of this CPU but those that define; rows of other
 * numerics have nothing of their own but the product
 */
#define for_each_row_of(ops, how)                                              \
	for (u32 kt_i = 0;                                                     \
	     (ops = kern_isa_list()[kt_i] ? kern_select(kern_isa_list()[kt_i]) \
					  : NULL);                             \
	     kt_i++)                                                           \
		if (ops->numerics == (how) && ops != kt_ref(how))
#define for_each_row(ops) for_each_row_of(ops, KERN_NUMERICS_BF16)

/* The row that defines what those with these numerics compute. */
static inline const struct kern_ops *kt_ref(u32 numerics)
{
	if (numerics == KERN_NUMERICS_INT16)
		return kern_select("refint16");
	return kern_select(numerics == KERN_NUMERICS_INT8 ? "refint8" : "ref");
}

static inline u32 kt_below(u64 *seed, u32 n)
{
	return (u32)(test_rand(seed) % n);
}

/* Roughly normal, mean 0, variance 1. */
static inline float kt_normal(u64 *seed)
{
	u64 r = test_rand(seed);
	float s = 0;

	for (int i = 0; i < 4; i++)
		s += (float)(r >> 16 * i & 0xffff) / 65536.0f - 0.5f;
	return s * 1.7320508f;
}

static inline void *kt_alloc(size_t bytes)
{
	void *p = aligned_alloc(64, ALIGN_UP(max(bytes, (size_t)1), 64));

	if (!p)
		abort();
	memset(p, 0xa5, ALIGN_UP(max(bytes, (size_t)1), 64));
	return p;
}

static inline float *kt_floats(u64 *seed, size_t nr, float scale)
{
	float *f = kt_alloc(nr * sizeof(*f));

	for (size_t i = 0; i < nr; i++)
		f[i] = kt_normal(seed) * scale;
	return f;
}

static inline u16 *kt_bf16s(u64 *seed, size_t nr, float scale)
{
	u16 *h = kt_alloc(nr * sizeof(*h));

	for (size_t i = 0; i < nr; i++)
		h[i] = kern_f32_to_bf16(kt_normal(seed) * scale);
	return h;
}

/* A half of sensible size: 2^-12 .. 2^-4, now and then a denormal or 0. */
static inline u16 kt_half(u64 *seed)
{
	u32 r = kt_below(seed, 64);

	if (r == 0)
		return 0;
	if (r == 1)
		return (u16)(1 + kt_below(seed, 0x3ff));
	return (u16)((3 + kt_below(seed, 8)) << 10 | kt_below(seed, 1024) |
		     kt_below(seed, 2) << 15);
}

static inline void kt_put_half(u64 *seed, u8 *p)
{
	u16 h = kt_half(seed);

	memcpy(p, &h, sizeof(h));
}

/* Random bytes are valid quants; only the scales need care. */
static inline void kt_fix_scales(u64 *seed, u32 type, u8 *b)
{
	switch (type) {
	case KV_DTYPE_Q4_K:
	case KV_DTYPE_Q5_K:
		kt_put_half(seed, b + 2);
		/* fall through */
	case KV_DTYPE_Q4_0:
	case KV_DTYPE_Q5_0:
	case KV_DTYPE_Q8_0:
		kt_put_half(seed, b);
		break;
	case KV_DTYPE_Q6_K:
		kt_put_half(seed, b + 208);
		break;
	}
}

/* A matrix of random blocks that ends exactly at its last byte. */
static inline struct kern_mat kt_mat(u64 *seed, u32 type, u32 rows, u32 cols)
{
	const struct dtype_info *d = dtype_info(type);
	struct kern_mat w = {
		.rows = rows,
		.cols = cols,
		.dtype = type,
		.layout = KERN_LAYOUT_GGUF,
		.stride = dtype_row_bytes(type, cols),
	};
	size_t bytes = (size_t)w.stride * rows;
	u8 *p = malloc(max(bytes, (size_t)1));

	if (!p || !d)
		abort();
	for (size_t i = 0; i < bytes; i++)
		p[i] = (u8)test_rand(seed);
	for (size_t i = 0; i < bytes; i += d->block_bytes) {
		float f = kt_normal(seed) * 0.05f;
		u16 h = kern_f32_to_bf16(f);

		if (type == KV_DTYPE_F32)
			memcpy(p + i, &f, sizeof(f));
		else if (type == KV_DTYPE_BF16)
			memcpy(p + i, &h, sizeof(h));
		else if (type == KV_DTYPE_F16)
			kt_put_half(seed, p + i);
		else
			kt_fix_scales(seed, type, p + i);
	}
	w.data = p;
	return w;
}

/* The same matrix in strips, or one without data if its type has none. */
static inline struct kern_mat kt_strips(const struct kern_mat *w)
{
	struct kern_mat s = *w;
	u8 *p;

	s.layout = KERN_LAYOUT_STRIP;
	s.data = NULL;
	s.stride = kern_strip_bytes(w->dtype, w->cols);
	if (!s.stride)
		return s;
	p = kt_alloc(DIV_ROUND_UP(w->rows, KERN_STRIP) * s.stride);
	for (u32 r = 0; r < w->rows; r += KERN_STRIP)
		kern_pack_strip(w->dtype, w->cols,
				(const u8 *)w->data + r * w->stride,
				min(w->rows - r, KERN_STRIP),
				p + r / KERN_STRIP * s.stride);
	s.data = p;
	return s;
}

/* The first element at which two arrays of @size-byte elements differ. */
static inline bool kt_same(const void *a, const void *b, size_t nr, size_t size,
			   const char *what)
{
	const u8 *x = a, *y = b;

	for (size_t i = 0; i < nr; i++) {
		if (!memcmp(x + i * size, y + i * size, size))
			continue;
		if (size == 4) {
			float f, g;

			memcpy(&f, x + 4 * i, 4);
			memcpy(&g, y + 4 * i, 4);
			TH_LOG("%s: element %zu is %.9g, ref has %.9g", what, i,
			       (double)f, (double)g);
		} else {
			TH_LOG("%s: element %zu differs", what, i);
		}
		return false;
	}
	return true;
}

#define EXPECT_SAME(a, b, nr, what) \
	EXPECT_TRUE(kt_same(a, b, nr, sizeof(*(a)), what))

/* y = x w', nothing added, rows of x and y one behind the other. */
static inline struct kern_gemm kt_gemm(struct kern_mat w, const u16 *x,
				       float *y, u32 m)
{
	return (struct kern_gemm){ .w = w,
				   .x = x,
				   .y = y,
				   .m = m,
				   .x_stride = w.cols,
				   .y_stride = w.rows };
}

/* By two products and the activation behind them, whatever the row does. */
static inline void kt_gated(const struct kern_ops *kern,
			    const struct kern_gemm_gated *p, u16 *out)
{
	u8 *scratch = kt_alloc(KERN_SCRATCH_BYTES);
	u32 n = p->gate.rows;
	float *sums = kt_alloc(2 * p->m * n * 4);
	struct kern_gemm g = { .w = p->gate,
			       .x = p->x,
			       .y = sums,
			       .m = p->m,
			       .x_stride = p->x_stride,
			       .y_stride = n };
	const struct kern_gated act = { sums, sums + p->m * n, out, n, n,
					n,    p->act };

	kern->gemm(&g, 0, n, scratch);
	g.w = p->up;
	g.y += p->m * n;
	kern->gemm(&g, 0, n, scratch);
	kern->gated(&act, 0, p->m);
	free(sums);
	free(scratch);
}

#endif
