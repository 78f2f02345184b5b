/* SPDX-License-Identifier: MIT */
/*
 * gemm_int8_vnni.c - int8 products with AVX-512's VPDPBUSD
 */
#include "kernels/cpu/int8_tile.h"
#include "kernels/cpu/int8_driver.h"
#include "kernels/cpu/isa.h"

void avx512vnni_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch)
{
	if (strip_type(p->w.dtype).bits)
		ints_all(p, lo, hi, scratch, int8_group);
	else
		avx512_gemm(p, lo, hi, scratch);
}
