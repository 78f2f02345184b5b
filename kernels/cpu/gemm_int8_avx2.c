/* SPDX-License-Identifier: MIT */
/*
 * gemm_int8_avx2.c - int8 products with VPMADDUBSW
 */
#include "kernels/cpu/int8_tile.h"
#include "kernels/cpu/int8_driver.h"
#include "kernels/cpu/isa.h"

void avx2_gemm_int8(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	if (strip_type(p->w.dtype).bits)
		ints_all(p, lo, hi, scratch, int8_group);
	else
		avx2_gemm(p, lo, hi, scratch);
}
