/* SPDX-License-Identifier: MIT */
/*
 * test_gemm_int16.c - every int16 row's matrix product gives refint16's bits
 *
 * san: address
 */
#define INTS_SUITE    gemm_int16
#define INTS_NUMERICS KERN_NUMERICS_INT16
#define INTS_WORST    5e-6 /* 1e-6 seen: most of x is exact */
#include "selftests/kernels/gemm_ints.h"

TEST_HARNESS_MAIN
