/* SPDX-License-Identifier: MIT */
/*
 * test_gemm_int8.c - every int8 row's matrix product gives refint8's bits
 *
 * san: address
 */
#define INTS_SUITE    gemm_int8
#define INTS_NUMERICS KERN_NUMERICS_INT8
#define INTS_WORST    3e-3 /* one in a thousand seen: x has 255 steps */
#include "selftests/kernels/gemm_ints.h"

TEST(gemm_int8, is_never_chosen_unasked)
{
	unsetenv("KV_ISA");
	EXPECT_NE(KERN_NUMERICS_INT8, kern_select(NULL)->numerics);
}

TEST_HARNESS_MAIN
