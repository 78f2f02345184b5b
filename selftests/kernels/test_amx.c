/* SPDX-License-Identifier: MIT */
/*
 * test_amx.c - the product on tile registers, with the tiles in plain C
 *
 * gemm_amx.c is compiled here on amx.h's emulation and AVX2, so that its
 * blocking, padding and order are checked against ref on a CPU without AMX.
 * On one that has it, the row "amx" of test_gemm runs the instructions.
 *
 * san: address
 */
#define AMX_EMULATED
#define amx_gemm       amx_gemm_emulated
#define amx_gemm_pack  amx_gemm_pack_emulated
#define amx_gemm_gated amx_gemm_gated_emulated
#include "kernels/cpu/gemm_amx.c"

#include "selftests/kernels/gemm_check.h"

static const struct kern_ops emulated = {
	.name = "amx, emulated",
	.pack_rows = KERN_PACK_ROWS,
	.pack_bytes = KERN_PACK_BF16,
	.gemm = amx_gemm,
	.gemm_pack = amx_gemm_pack,
};

static void check(u64 *seed, u32 type, struct shape s, bool extras)
{
	const struct kern_ops *const rows[] = { &emulated, NULL };

	check_rows(seed, type, s, extras, rows);
}

static void need_avx2(void)
{
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		SKIP("this CPU has no AVX2");
	kern_thread_init();
}

TEST(amx, gives_the_reference_bits_for_every_type)
{
	u64 seed = test_seed();

	need_avx2();
	for (u32 t = 0; t < ARRAY_SIZE(kt_types); t++)
		check(&seed, kt_types[t], (struct shape){ 19, 50, 512 }, t & 1);
}

/* By strips, 16 columns at a time, 64 stored together; k of two blocks. */
TEST(amx, multiplies_33_to_64_packed_rows_by_strips)
{
	static const u32 rows[] = { 33, 48, 49, 64 };
	u64 seed = test_seed();

	need_avx2();
	for (u32 t = 0; t < ARRAY_SIZE(kt_types); t++)
		check(&seed, kt_types[t],
		      (struct shape){ rows[t % ARRAY_SIZE(rows)], 70, 768 },
		      t & 1);
	for (u32 i = 0; i < ARRAY_SIZE(rows); i++)
		check(&seed, KV_DTYPE_Q5_0, (struct shape){ rows[i], 30, 672 },
		      i & 1);
}

TEST(amx, pads_rows_columns_and_k_at_every_edge_of_a_tile)
{
	static const u32 edges[] = { 1, 15, 16, 17, 31, 32, 33, 65 };
	u64 seed = test_seed();

	need_avx2();
	for (u32 i = 0; i < ARRAY_SIZE(edges); i++) {
		check(&seed, KV_DTYPE_Q8_0, (struct shape){ edges[i], 33, 96 },
		      true);
		check(&seed, KV_DTYPE_Q5_0, (struct shape){ 3, edges[i], 288 },
		      false);
		check(&seed, KV_DTYPE_BF16,
		      (struct shape){ 17, 18, 250 + edges[i] }, true);
	}
}

TEST(amx, takes_more_rows_and_columns_than_a_pass_and_a_group)
{
	u64 seed = test_seed();

	need_avx2();
	check(&seed, KV_DTYPE_Q8_0, (struct shape){ 515, 20, 64 }, true);
	check(&seed, KV_DTYPE_Q4_K, (struct shape){ 18, 300, 256 }, false);
	check(&seed, KV_DTYPE_Q6_K, (struct shape){ 1, 300, 512 }, true);
}

/*
 * One block; two, the last one shorter: of up to 640 where 256 does not divide
 * the row, else of 512.
 */
TEST(amx, takes_blocks_of_k_of_other_depths)
{
	u64 seed = test_seed();

	need_avx2();
	check(&seed, KV_DTYPE_Q8_0, (struct shape){ 65, 33, 640 }, true);
	check(&seed, KV_DTYPE_Q5_0, (struct shape){ 97, 20, 672 }, true);
	check(&seed, KV_DTYPE_Q4_K, (struct shape){ 66, 33, 768 }, false);
	check(&seed, KV_DTYPE_Q6_K, (struct shape){ 80, 17, 1280 }, true);
	check(&seed, KV_DTYPE_Q5_0, (struct shape){ 40, 20, 2912 }, false);
	check(&seed, KV_DTYPE_Q8_0, (struct shape){ 515, 20, 672 }, false);
	check(&seed, KV_DTYPE_BF16, (struct shape){ 65, 18, 283 }, true);
}

static void check_gated(u64 *seed, u32 type, struct shape s, bool strips)
{
	struct kern_mat gate = kt_mat(seed, type, s.n, s.k);
	struct kern_mat up = kt_mat(seed, type, s.n, s.k);
	struct kern_mat gs = kt_strips(&gate), us = kt_strips(&up);
	u16 *x = kt_bf16s(seed, s.m * s.k, 1);
	u16 *want = kt_alloc(s.m * s.n * 2), *got = kt_alloc(s.m * s.n * 2);
	u32 cut = kt_below(seed, s.n + 1) / KERN_STRIP * KERN_STRIP;
	struct kern_gemm_gated p = { .gate = strips ? gs : gate,
				     .up = strips ? us : up,
				     .x = x,
				     .out = got,
				     .m = s.m,
				     .x_stride = s.k,
				     .out_stride = s.n,
				     .act = s.m & 1 };
	struct kern_gemm g = kt_gemm(p.gate, x, NULL, s.m);

	kt_gated(kern_select("ref"), &p, want);
	amx_gemm_gated(&p, cut, s.n, scratch);
	amx_gemm_gated(&p, 0, cut, scratch);
	EXPECT_SAME(got, want, s.m * s.n, "gated");
	p.packed = packed(&emulated, &g);
	memset(got, 0, s.m * s.n * 2);
	amx_gemm_gated(&p, 0, s.n, scratch);
	EXPECT_SAME(got, want, s.m * s.n, "gated, packed");
	free((void *)(uintptr_t)p.packed);
	free((void *)gate.data);
	free((void *)up.data);
	free((void *)gs.data);
	free((void *)us.data);
	free(x);
	free(want);
	free(got);
}

TEST(amx, keeps_both_sums_of_a_gated_product)
{
	u64 seed = test_seed();

	need_avx2();
	check_gated(&seed, KV_DTYPE_Q5_0, (struct shape){ 66, 150, 672 }, true);
	check_gated(&seed, KV_DTYPE_Q4_K, (struct shape){ 79, 40, 768 }, true);
	check_gated(&seed, KV_DTYPE_Q8_0, (struct shape){ 515, 33, 64 }, false);
	check_gated(&seed, KV_DTYPE_Q5_0, (struct shape){ 515, 16, 672 }, true);
	check_gated(&seed, KV_DTYPE_Q4_K, (struct shape){ 70, 16, 512 }, true);
	check_gated(&seed, KV_DTYPE_Q8_0, (struct shape){ 70, 16, 64 }, true);
	check_gated(&seed, KV_DTYPE_Q5_0, (struct shape){ 97, 40, 640 }, true);
	check_gated(&seed, KV_DTYPE_BF16, (struct shape){ 17, 18, 283 }, false);
}

TEST(amx, keeps_infinities_and_flushes_denormals_as_ref_does)
{
	u64 seed = test_seed();
	struct kern_mat w = kt_mat(&seed, KV_DTYPE_BF16, 16, 64);
	u16 *x = kt_bf16s(&seed, 64 * 2, 1), *wd = (u16 *)(u64)w.data;
	float *want = kt_alloc(128), *got = kt_alloc(128);
	float start[32] = { 0 };
	struct kern_gemm p = kt_gemm(w, x, want, 2);

	need_avx2();
	wd[3] = 0x7f80; /* infinity, row 0 */
	wd[64 + 5] = 0x0001; /* the smallest denormal, row 1 */
	wd[128] = 0x0080; /* the smallest normal: its products underflow */
	x[0] = 0x3e00;
	kern_select("ref")->gemm(&p, 0, 16, scratch);
	compare(&emulated, p, 16, start, want, got);
	EXPECT_TRUE(isinf(want[0]));
	free(wd);
	free(x);
	free(want);
	free(got);
}

TEST_HARNESS_MAIN
