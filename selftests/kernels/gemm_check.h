/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_GEMM_CHECK_H
#define SELFTESTS_GEMM_CHECK_H
/*
 * gemm_check.h - a product by some kernels against ref's, bit for bit, and
 *	against exact arithmetic
 *
 * ref is the row that defines what they compute, which is that of the first.
 * The weights are given as rows of blocks and, where their type has them, as
 * strips; in two slices of columns, so that both ends of a slice are met. Some
 * elements of x are much larger than their neighbours. Each again with the best
 * of its rows asked for, of which some or none are kept.
 */
#include <math.h>

#include "selftests/kernels/kern_test.h"

static u8 scratch[KERN_SCRATCH_BYTES] __attribute__((aligned(64)));

struct shape {
	u32 m, n, k;
};

/* x packed in two parts, or NULL where the row packs none. */
static void *packed(const struct kern_ops *ops, const struct kern_gemm *p)
{
	u32 units = DIV_ROUND_UP(p->m, KERN_PACK_ROWS), half = units / 2;
	void *to;

	if (!ops->gemm_pack)
		return NULL;
	to = kt_alloc(kern_packed_bytes(ops, p->m, p->w.cols));
	ops->gemm_pack(p, to, half, units);
	ops->gemm_pack(p, to, 0, half);
	return to;
}

/* Of a row of y; what is not kept is not written. */
static void expect_best(const struct kern_gemm *p, u32 m, const float *start,
			const float *want, const char *what)
{
	size_t at = (size_t)m * p->y_stride;
	bool kept = p->keep && p->keep[m];
	struct kern_best best = KERN_BEST_NONE;

	for (u32 n = 0; n < p->w.rows; n++)
		if (want[at + n] > best.max)
			best = (struct kern_best){ want[at + n], n };
	EXPECT_EQ(best.id, p->best[m].id);
	EXPECT_EQ(best.max, p->best[m].max);
	EXPECT_SAME(p->y + at, (kept ? want : start) + at, p->y_stride, what);
}

/* p's residual is @start, so that y may stay as it is. */
static void compare_best(const struct kern_ops *ops, struct kern_gemm p,
			 u32 cut, const float *start, const float *want,
			 const char *what)
{
	struct kern_best *best = kt_alloc(p.m * sizeof(*best));
	bool *keep = kt_alloc(p.m * sizeof(*keep));

	for (u32 kept = 0; kept < 2; kept++) {
		for (u32 m = 0; m < p.m; m++) {
			best[m] = KERN_BEST_NONE;
			keep[m] = m % 3 == 1;
		}
		memcpy(p.y, start, (size_t)p.m * p.y_stride * sizeof(*p.y));
		p.residual = p.bias ? start : NULL;
		p.best = best;
		p.keep = kept ? keep : NULL;
		ops->gemm(&p, 0, cut, scratch);
		ops->gemm(&p, cut, p.w.rows, scratch);
		for (u32 m = 0; m < p.m; m++)
			expect_best(&p, m, start, want, what);
	}
	free(best);
	free(keep);
}

/* One row of the table, in two slices, from rows or from strips. */
static void compare(const struct kern_ops *ops, struct kern_gemm p, u32 cut,
		    const float *start, const float *want, float *got)
{
	void *x = packed(ops, &p);
	size_t nr = (size_t)p.m * p.y_stride;
	bool strips = p.w.layout == KERN_LAYOUT_STRIP;
	char what[96];

	memcpy(got, start, nr * sizeof(*got));
	p.y = got;
	p.residual = p.bias ? got : NULL;
	if (strips)
		cut = cut / KERN_STRIP * KERN_STRIP;
	ops->gemm(&p, cut, p.w.rows, scratch);
	ops->gemm(&p, 0, cut, scratch);
	snprintf(what, sizeof(what), "%s %s%s %ux%ux%u", ops->name,
		 dtype_name(p.w.dtype), strips ? " strips" : "", p.m, p.w.rows,
		 p.w.cols);
	EXPECT_SAME(got, want, nr, what);
	compare_best(ops, p, cut, start, want, what);
	if (!x)
		return;
	memcpy(got, start, nr * sizeof(*got));
	p.packed = x;
	ops->gemm(&p, 0, cut, scratch);
	ops->gemm(&p, cut, p.w.rows, scratch);
	EXPECT_SAME(got, want, nr, what);
	compare_best(ops, p, cut, start, want, what);
	free(x);
}

/* One product by each of @rows, NULL at their end. */
static void check_rows(u64 *seed, u32 type, struct shape s, bool extras,
		       const struct kern_ops *const *rows)
{
	struct kern_gemm p = {
		.w = kt_mat(seed, type, s.n, s.k),
		.m = s.m,
		.x_stride = s.k + kt_below(seed, 3),
		.y_stride = s.n + kt_below(seed, 3),
	};
	u16 *x = kt_bf16s(seed, (size_t)s.m * p.x_stride, 1);
	float *bias = kt_floats(seed, s.n, 1);
	float *start = kt_floats(seed, (size_t)s.m * p.y_stride, 1);
	size_t bytes = (size_t)s.m * p.y_stride * sizeof(float);
	float *want = kt_alloc(bytes), *got = kt_alloc(bytes);
	const struct kern_ops *ref = kt_ref(rows[0]->numerics);
	u32 cut = kt_below(seed, s.n + 1);
	struct kern_mat strips = kt_strips(&p.w);
	struct kern_gemm q;

	for (u32 i = kt_below(seed, 300); i < s.m * p.x_stride;
	     i += 1 + kt_below(seed, 300))
		x[i] += 5 << 7; /* times 32 */
	p.x = x;
	p.bias = extras ? bias : NULL;
	memcpy(want, start, bytes);
	p.y = want;
	p.residual = extras ? want : NULL;
	ref->gemm(&p, 0, s.n, scratch);
	q = p;
	q.w = strips;
	if (strips.data)
		compare(ref, q, cut, start, want, got);
	for (; *rows; rows++) {
		compare(*rows, p, cut, start, want, got);
		if (strips.data)
			compare(*rows, q, cut, start, want, got);
	}
	free((void *)p.w.data);
	free((void *)strips.data);
	free(x);
	free(bias);
	free(start);
	free(want);
	free(got);
}

/* One product by every row of the table with these numerics. */
static inline void check_table(u64 *seed, u32 numerics, u32 type,
			       struct shape s, bool extras)
{
	const struct kern_ops *rows[8], *ops;
	u32 nr = 0;

	for_each_row_of(ops, numerics) rows[nr++] = ops;
	rows[nr] = NULL;
	if (nr)
		check_rows(seed, type, s, extras, rows);
}

/* Each row of x alone, against all of them at once, also with strips. */
static inline void check_alone(u64 *seed, u32 numerics)
{
	enum { M = 37, N = 100, K = 768 };
	struct kern_mat w[2] = { kt_mat(seed, KV_DTYPE_Q4_K, N, K) };
	u16 *x = kt_bf16s(seed, M * K, 1);
	float *all = kt_alloc(M * N * 4), *one = kt_alloc(N * 4);
	const struct kern_ops *ops;

	w[1] = kt_strips(&w[0]);
	for_each_row_of(ops, numerics)
	{
		for (u32 i = 0; i < 2; i++) {
			struct kern_gemm p = kt_gemm(w[i], x, all, M);

			ops->gemm(&p, 0, N, scratch);
			for (u32 m = 0; m < M; m++) {
				p = kt_gemm(w[0], x + m * K, one, 1);
				ops->gemm(&p, 0, N, scratch);
				EXPECT_SAME(one, all + m * N, N, ops->name);
			}
		}
	}
	free((void *)w[0].data);
	free((void *)w[1].data);
	free(x);
	free(all);
	free(one);
}

/*
 * @ops' product against the fp64 sum of the products of x and the exact
 * weights: each element within @share of the sum of magnitudes. Return: the
 * largest share there was.
 */
static inline double check_exact(u64 *seed, const struct kern_ops *ops,
				 u32 type, double share)
{
	enum { M = 3, N = 20, K = 2048 };
	struct kern_mat w = kt_mat(seed, type, N, K);
	u16 *x = kt_bf16s(seed, M * K, 1);
	float *y = kt_alloc(M * N * 4), *f = kt_alloc(N * K * 4);
	struct kern_gemm p = kt_gemm(w, x, y, M);
	struct kern_dequant d = { w, 0, f, NULL };
	double worst = 0;

	kt_ref(KERN_NUMERICS_BF16)->dequant(&d, 0, N);
	ops->gemm(&p, 0, N, scratch);
	for (u32 i = 0; i < M * N; i++) {
		double sum = 0, abs = 0, off;

		for (u32 k = 0; k < K; k++) {
			double v = (double)kern_bf16_to_f32(x[i / N * K + k]) *
				   (double)f[i % N * K + k];

			sum += v;
			abs += fabs(v);
		}
		off = fabs((double)y[i] - sum);
		EXPECT_LE(off, share * abs);
		worst = max(worst, off / abs);
	}
	free((void *)w.data);
	free(x);
	free(y);
	free(f);
	return worst;
}

#endif
