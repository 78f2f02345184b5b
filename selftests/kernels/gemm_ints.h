/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_GEMM_INTS_H
#define SELFTESTS_GEMM_INTS_H
/*
 * gemm_ints.h - every row's matrix product in integers gives its ref's bits
 *
 * And that the definition is what it says: near the exact product, NaN where
 * x has no number, the default's product where w has no integers.
 *
 * Included with INTS_SUITE, the tests' subject, INTS_NUMERICS, and INTS_WORST,
 * the distance from exact arithmetic as a share of the sum of magnitudes.
 */
#include "selftests/kernels/gemm_check.h"

static void check(u64 *seed, u32 type, struct shape s, bool extras)
{
	check_table(seed, INTS_NUMERICS, type, s, extras);
}

TEST(INTS_SUITE, gives_the_reference_bits_for_every_type_and_m)
{
	static const u32 ms[] = { 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 17, 33, 70 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 t = 0; t < ARRAY_SIZE(kt_types); t++)
		for (u32 i = 0; i < ARRAY_SIZE(ms); i++)
			check(&seed, kt_types[t],
			      (struct shape){ ms[i], 1 + kt_below(&seed, 70),
					      256 * (1 + kt_below(&seed, 3)) },
			      i & 1);
}

TEST(INTS_SUITE, cuts_columns_and_k_at_any_multiple_of_a_block)
{
	static const u32 ns[] = { 1,  15,  16,	17,  31,  32,
				  33, 127, 128, 129, 511, 530 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(ns); i++)
		for (u32 m = 1; m < 40; m += 19) {
			check(&seed, KV_DTYPE_Q8_0,
			      (struct shape){ m, ns[i], 32 * (1 + i) }, true);
			check(&seed, KV_DTYPE_Q5_0,
			      (struct shape){ m + 1, ns[i], 32 * (7 + i) },
			      false);
			check(&seed, KV_DTYPE_Q4_0,
			      (struct shape){ m, 3, 32 * (1 + i) }, false);
		}
}

TEST(INTS_SUITE, takes_more_rows_than_one_pass_and_more_k_than_one_step_serves)
{
	u64 seed = test_seed();

	kern_thread_init();
	check(&seed, KV_DTYPE_Q4_K, (struct shape){ 600, 40, 512 }, true);
	check(&seed, KV_DTYPE_Q6_K, (struct shape){ 385, 17, 256 }, false);
	check(&seed, KV_DTYPE_Q4_0, (struct shape){ 1, 17, 32 * 3080 }, false);
	check(&seed, KV_DTYPE_Q5_K, (struct shape){ 5, 16, 256 * 70 }, false);
}

/* The promised range: a prompt of 4096 at once. */
TEST(INTS_SUITE, takes_4096_rows_of_x)
{
	u64 seed = test_seed();

	kern_thread_init();
	check(&seed, KV_DTYPE_Q4_K, (struct shape){ 4096, 18, 256 }, true);
}

TEST(INTS_SUITE, a_row_has_the_same_bits_alone_and_in_a_batch)
{
	u64 seed = test_seed();

	kern_thread_init();
	check_alone(&seed, INTS_NUMERICS);
}

/* What is lost is x's rounding, for normal x of this length. */
TEST(INTS_SUITE, is_near_exact_arithmetic)
{
	u64 seed = test_seed();
	double worst = 0;

	kern_thread_init();
	for (u32 t = 0; t < ARRAY_SIZE(kt_int_types); t++)
		worst = max(worst, check_exact(&seed, kt_ref(INTS_NUMERICS),
					       kt_int_types[t], INTS_WORST));
	TH_LOG("worst: %.2g of the sum of magnitudes", worst);
}

/* All quants of the matrix are the largest that its type has. */
static void fill_quants(struct kern_mat *w)
{
	const struct dtype_info *d = dtype_info(w->dtype);
	bool last = w->dtype == KV_DTYPE_Q6_K; /* the scale is */
	u32 from = w->dtype == KV_DTYPE_Q4_K || w->dtype == KV_DTYPE_Q5_K ? 4
									  : 2;
	u8 *p = (u8 *)w->data;

	for (size_t i = 0; i < (size_t)w->rows * w->stride; i += d->block_bytes)
		memset(p + i + (last ? 0 : from),
		       w->dtype == KV_DTYPE_Q8_0 ? 0x7f : 0xff,
		       last ? 192 : d->block_bytes - from);
}

/* By x that is as large as its step allows, and has one sign. */
TEST(INTS_SUITE, the_largest_of_all_overflow_no_sum)
{
	enum { N = 33, K = 512, M = 9 };
	u64 seed = test_seed();
	u16 *x = kt_alloc(M * K * 2);
	float *want = kt_alloc(M * N * 4), *got = kt_alloc(M * N * 4);
	float *start = kt_alloc(M * N * 4);
	const struct kern_ops *ops;

	kern_thread_init();
	for (u32 i = 0; i < M * K; i++)
		x[i] = i / K % 2 ? 0xbfff : 0x3fff; /* +-1.99 */
	for (u32 t = 0; t < ARRAY_SIZE(kt_int_types); t++) {
		struct kern_mat w = kt_mat(&seed, kt_int_types[t], N, K), s;

		fill_quants(&w);
		s = kt_strips(&w);
		for (u32 m = 1; m <= M; m += m < 3 ? 1 : 6) {
			struct kern_gemm p = kt_gemm(s, x, want, m);

			kt_ref(INTS_NUMERICS)->gemm(&p, 0, N, scratch);
			for_each_row_of(ops, INTS_NUMERICS)
				compare(ops, p, 16, start, want, got);
		}
		free((void *)w.data);
		free((void *)s.data);
	}
	free(x);
	free(want);
	free(got);
	free(start);
}

/* A row of x with this in block 1, beside one that is sound. */
static void check_odd(u64 *seed, const struct kern_ops *ops, u32 type, u16 odd,
		      bool nan)
{
	enum { N = 20, K = 256 };
	struct kern_mat w = kt_mat(seed, type, N, K), s = kt_strips(&w);
	u16 *x = kt_bf16s(seed, 9 * K, 1);
	float *y = kt_alloc(9 * N * 4), *one = kt_alloc(N * 4);

	for (u32 m = 1; m < 10; m += 8) {
		struct kern_gemm p = kt_gemm(s, x, y, m);

		x[40] = odd;
		ops->gemm(&p, 0, N, scratch);
		for (u32 n = 0; n < N; n++)
			EXPECT_EQ(nan, (bool)isnan(y[n]));
		if (m == 1)
			continue;
		p = kt_gemm(w, x + K, one, 1);
		ops->gemm(&p, 0, N, scratch);
		EXPECT_SAME(y + N, one, N, "the row below");
	}
	free((void *)w.data);
	free((void *)s.data);
	free(x);
	free(y);
	free(one);
}

TEST(INTS_SUITE, an_infinity_or_a_nan_makes_its_row_nan_and_no_other)
{
	static const u16 odd[] = { 0x7f80, 0xff80, 0x7fc0, 0xffff, 0x7f81 };
	u64 seed = test_seed();
	const struct kern_ops *ops;

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(odd); i++)
		for (u32 t = 0; t < ARRAY_SIZE(kt_int_types); t++) {
			for_each_row_of(ops, INTS_NUMERICS) check_odd(
				&seed, ops, kt_int_types[t], odd[i], true);
			check_odd(&seed, kt_ref(INTS_NUMERICS), kt_int_types[t],
				  odd[i], true);
		}
	check_odd(&seed, kt_ref(INTS_NUMERICS), KV_DTYPE_Q4_K, 0x7f7f, false);
}

/* Blocks of x around the least that counts, and the largest there is. */
TEST(INTS_SUITE, quantises_blocks_of_any_size_as_ref_does)
{
	static const u16 tops[] = { 0x0000, 0x8000, 0x0001, 0x007f, 0x0080,
				    0x0400, 0x07ff, 0x0800, 0x8800, 0x0801,
				    0x3f80, 0x7f00, 0x7f7f, 0xff7f };
	enum { N = 16, K = 32, M = ARRAY_SIZE(tops) };
	u64 seed = test_seed();
	struct kern_mat w = kt_mat(&seed, KV_DTYPE_Q8_0, N, K);
	struct kern_mat s = kt_strips(&w);
	u16 *x = kt_bf16s(&seed, M * K, 1);
	float *want = kt_alloc(M * N * 4), *got = kt_alloc(M * N * 4);
	float *start = kt_alloc(M * N * 4);
	const struct kern_ops *ops;

	kern_thread_init();
	for (u32 m = 0; m < M; m++)
		for (u32 k = 0; k < K; k++) {
			float f = (float)kt_below(&seed, 256) / 256.0f;

			x[m * K + k] =
				k ? kern_f32_to_bf16(f *
						     kern_bf16_to_f32(tops[m]))
				  : tops[m];
		}
	for_each_row_of(ops, INTS_NUMERICS)
	{
		struct kern_gemm p = kt_gemm(s, x, want, M);

		kt_ref(INTS_NUMERICS)->gemm(&p, 0, N, scratch);
		compare(ops, p, 0, start, want, got);
		for (u32 i = 0; i < 7 * N; i++)
			EXPECT_TRUE(want[i] == 0);
	}
	free((void *)w.data);
	free((void *)s.data);
	free(x);
	free(want);
	free(got);
	free(start);
}

#endif
