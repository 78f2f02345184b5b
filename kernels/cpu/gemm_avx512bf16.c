/* SPDX-License-Identifier: MIT */
/*
 * gemm_avx512bf16.c - gemm_avx512.c with weights rounded by instruction
 *
 * VCVTNE2PS2BF16 rounds 32 values where plain AVX-512 needs some 15
 * operations. The products stay fused multiply-adds on floats: the dot
 * product instruction of this extension adds in another order.
 */
#include "kernels/cpu/dequant_avx512.h"
#include "kernels/cpu/panel_avx512.h"
#include "kernels/cpu/gemm_driver.h"
#include "kernels/cpu/isa.h"

void avx512bf16_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	gemm_run(p, lo, hi, scratch);
}
