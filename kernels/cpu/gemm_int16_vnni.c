/* SPDX-License-Identifier: MIT */
/*
 * gemm_int16_vnni.c - int16 products with VPDPWSSD
 */
#include "kernels/cpu/int16_driver.h"

void avx512vnni_gemm_int16(const struct kern_gemm *p, u32 lo, u32 hi,
			   void *scratch)
{
	if (strip_type(p->w.dtype).bits)
		ints_all(p, lo, hi, scratch, int16_group);
	else
		avx512_gemm(p, lo, hi, scratch);
}

void avx512vnni_gemm_int16_pack(const struct kern_gemm *p, void *to, u32 lo,
				u32 hi)
{
	int16_pack(p, to, lo, hi);
}
