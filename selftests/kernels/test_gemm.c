/* SPDX-License-Identifier: MIT */
/*
 * test_gemm.c - every row's matrix product gives ref's bits
 *
 * san: address
 */
#include "kernels/cpu/pool.h"
#include "selftests/kernels/gemm_check.h"

static void check(u64 *seed, u32 type, struct shape s, bool extras)
{
	check_table(seed, KERN_NUMERICS_BF16, type, s, extras);
}

TEST(gemm, gives_the_reference_bits_for_every_type_and_m)
{
	static const u32 ms[] = { 1, 2, 3, 5, 6, 7, 13, 33, 49, 64, 70 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 t = 0; t < ARRAY_SIZE(kt_types); t++)
		for (u32 i = 0; i < ARRAY_SIZE(ms); i++)
			check(&seed, kt_types[t],
			      (struct shape){ ms[i], 1 + kt_below(&seed, 70),
					      256 * (1 + kt_below(&seed, 3)) },
			      i & 1);
}

TEST(gemm, cuts_columns_and_k_at_any_multiple_of_a_block)
{
	static const u32 ns[] = { 1, 15, 16, 17, 31, 32, 33, 127, 128, 129 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(ns); i++) {
		check(&seed, KV_DTYPE_Q8_0,
		      (struct shape){ 4, ns[i], 32 * (1 + i) }, true);
		check(&seed, KV_DTYPE_Q5_0,
		      (struct shape){ 1, ns[i], 32 * (9 + i) }, false);
	}
}

TEST(gemm, pads_a_ragged_k_with_zeros)
{
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 k = 1; k < 300; k += 1 + kt_below(&seed, 17)) {
		check(&seed, KV_DTYPE_F32, (struct shape){ 2, 9, k }, false);
		check(&seed, KV_DTYPE_F16, (struct shape){ 1, 33, k }, true);
		check(&seed, KV_DTYPE_BF16, (struct shape){ 7, 5, k }, true);
	}
}

/* AVX2 takes them as they lie: 8 rows of w and 256 k at a time. */
TEST(gemm, multiplies_few_rows_by_bf16)
{
	static const u32 ns[] = { 1, 7, 8, 9, 31, 32, 33, 75 };
	static const u32 ks[] = { 224, 256, 288, 500, 512, 777 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 m = 1; m <= 7; m++)
		for (u32 i = 0; i < ARRAY_SIZE(ns); i++)
			check(&seed, KV_DTYPE_BF16,
			      (struct shape){ m, ns[i],
					      ks[(m + i) % ARRAY_SIZE(ks)] },
			      i & 1);
}

/* Weights of F32 may be denormals that round up to the smallest normal. */
TEST(gemm, rounds_denormal_weights_as_ref_does)
{
	u64 seed = test_seed();
	struct kern_mat w = kt_mat(&seed, KV_DTYPE_F32, 16, 64);
	u16 *x = kt_bf16s(&seed, 64, 1);
	u32 *wd = (u32 *)(u64)w.data;
	float *want = kt_alloc(64), *got = kt_alloc(64), start[16] = { 0 };
	struct kern_gemm p = kt_gemm(w, x, want, 1);
	const struct kern_ops *ops;

	kern_thread_init();
	memset(wd, 0, 16 * 64 * sizeof(*wd));
	wd[3] = 0x007fffff;
	wd[64 + 40] = 0x007f8000;
	wd[128 + 5] = 0x007f7fff; /* rounds down: is flushed */
	for (u32 k = 0; k < 64; k++)
		x[k] = 0x7e97; /* 1e38 */
	kern_select("ref")->gemm(&p, 0, 16, scratch);
	EXPECT_GT(want[0], 1);
	EXPECT_EQ(0, want[2]);
	for_each_row(ops) compare(ops, p, 16, start, want, got);
	free(wd);
	free(x);
	free(want);
	free(got);
}

TEST(gemm, takes_more_rows_than_one_pass_over_the_weights_serves)
{
	u64 seed = test_seed();

	kern_thread_init();
	check(&seed, KV_DTYPE_Q4_K, (struct shape){ 600, 40, 512 }, true);
	check(&seed, KV_DTYPE_Q6_K, (struct shape){ 259, 17, 256 }, false);
}

/* The promised range: a prompt of 4096 at once. */
TEST(gemm, takes_4096_rows_of_x)
{
	u64 seed = test_seed();

	kern_thread_init();
	check(&seed, KV_DTYPE_Q4_K, (struct shape){ 4096, 18, 256 }, true);
}

TEST(gemm, a_row_has_the_same_bits_alone_and_in_a_batch)
{
	u64 seed = test_seed();

	kern_thread_init();
	check_alone(&seed, KERN_NUMERICS_BF16);
}

/* The definition is a good sum. */
TEST(gemm, is_close_to_exact_arithmetic)
{
	u64 seed = test_seed();

	kern_thread_init();
	check_exact(&seed, kern_select(NULL), KV_DTYPE_BF16, 2e-6);
}

/* The pool's cut of several products at once leaves the same bits. */
TEST(gemm, is_the_same_on_any_number_of_threads)
{
	enum { M = 9, K = 512 };
	static const u32 ns[3] = { 700, 64, 33 };
	u64 seed = test_seed();
	u16 *x = kt_bf16s(&seed, M * K, 1);
	struct kern_gemm p[3];
	float *want[3];

	for (u32 threads = 1; threads <= 4; threads++) {
		struct kern_exec e;

		ASSERT_EQ(0, kern_exec_init(&e, NULL, threads));
		for (u32 i = 0; i < 3; i++) {
			float *y = kt_alloc(M * ns[i] * 4);

			if (threads == 1) {
				want[i] = y;
				p[i] = kt_gemm(
					kt_mat(&seed, KV_DTYPE_Q5_0, ns[i], K),
					x, want[i], M);
			} else {
				p[i].y = y;
			}
		}
		e.ops->gemm(&e, p, 3);
		for (u32 i = 0; i < 3; i++)
			EXPECT_SAME(p[i].y, want[i], M * ns[i], "threads");
		for (u32 i = 0; i < 3; i++)
			if (p[i].y != want[i])
				free(p[i].y);
		kern_exec_fini(&e);
	}
	for (u32 i = 0; i < 3; i++) {
		free((void *)p[i].w.data);
		free(want[i]);
	}
	free(x);
}

TEST_HARNESS_MAIN
