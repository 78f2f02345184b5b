/* SPDX-License-Identifier: MIT */
/*
 * gemm_int16_avx2.c - int16 products with VPMADDWD
 */
#include "kernels/cpu/int16_driver.h"
#include "kernels/cpu/isa.h"

void avx2_gemm_int16(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	if (strip_type(p->w.dtype).bits)
		ints_all(p, lo, hi, scratch, int16_group);
	else
		avx2_gemm(p, lo, hi, scratch);
}
