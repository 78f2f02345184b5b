/* SPDX-License-Identifier: MIT */
/*
 * gemm_int16_vnni.c - int16 products with VPDPWSSD
 */
#include "kernels/cpu/int16_driver.h"
#include "kernels/cpu/isa.h"

void avx512vnni_gemm_int16(const struct kern_gemm *p, u32 lo, u32 hi,
			   void *scratch)
{
	if (strip_type(p->w.dtype).bits)
		ints_all(p, lo, hi, scratch, int16_group);
	else
		avx512_gemm(p, lo, hi, scratch);
}
