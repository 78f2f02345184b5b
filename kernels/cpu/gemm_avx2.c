/* SPDX-License-Identifier: MIT */
/*
 * gemm_avx2.c - quantised matrix product in registers of 8 floats
 */
#include "kernels/cpu/dequant_avx2.h"
#include "kernels/cpu/panel_avx2.h"
#include "kernels/cpu/gemm_driver.h"
#include "kernels/cpu/isa.h"

void avx2_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	gemm_run(p, lo, hi, scratch);
}
