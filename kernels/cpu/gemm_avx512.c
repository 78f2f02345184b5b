/* SPDX-License-Identifier: MIT */
/*
 * gemm_avx512.c - quantised matrix product in registers of 16 floats
 */
#include "kernels/cpu/dequant_avx512.h"
#include "kernels/cpu/panel_avx512.h"
#include "kernels/cpu/gemm_driver.h"
#include "kernels/cpu/isa.h"

void avx512_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	gemm_run(p, lo, hi, scratch);
}
