/* SPDX-License-Identifier: MIT */
/*
 * test_amx_int8.c - int8 products on tile registers, the tiles in plain C
 *
 * As test_amx.c, for gemm_int8_amx.c: all but the instructions, against
 * refint8, on AVX2. On a CPU that has them the row "amxint8" of test_gemm_int8
 * runs them.
 *
 * san: address
 */
#define AMX_EMULATED
#define amx_gemm_int8 amx_gemm_int8_emulated
#include "kernels/cpu/gemm_int8_amx.c"

#include "selftests/kernels/gemm_check.h"

static const struct kern_ops emulated = {
	.name = "amxint8, emulated",
	.numerics = KERN_NUMERICS_INT8,
	.gemm = amx_gemm_int8,
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

TEST(amx_int8, gives_the_reference_bits_for_every_type)
{
	u64 seed = test_seed();

	need_avx2();
	for (u32 t = 0; t < ARRAY_SIZE(kt_int_types); t++)
		check(&seed, kt_int_types[t], (struct shape){ 19, 50, 512 },
		      t & 1);
}

TEST(amx_int8, pads_rows_columns_and_k_at_every_edge_of_a_tile)
{
	static const u32 edges[] = { 1, 5, 15, 16, 17, 31, 32, 33, 65 };
	u64 seed = test_seed();

	need_avx2();
	for (u32 i = 0; i < ARRAY_SIZE(edges); i++) {
		check(&seed, KV_DTYPE_Q8_0, (struct shape){ edges[i], 33, 96 },
		      true);
		check(&seed, KV_DTYPE_Q5_0,
		      (struct shape){ 13, edges[i], 32 * (1 + i) }, false);
		check(&seed, KV_DTYPE_Q6_K, (struct shape){ edges[i], 18, 256 },
		      true);
	}
}

TEST(amx_int8, takes_more_rows_and_columns_than_a_pass_and_a_group)
{
	u64 seed = test_seed();

	need_avx2();
	check(&seed, KV_DTYPE_Q8_0, (struct shape){ 389, 20, 64 }, true);
	check(&seed, KV_DTYPE_Q4_K, (struct shape){ 18, 530, 256 }, false);
	check(&seed, KV_DTYPE_Q6_K, (struct shape){ 384, 16, 256 }, true);
}

TEST_HARNESS_MAIN
