/* SPDX-License-Identifier: MIT */
#ifndef CPU_ISA_H
#define CPU_ISA_H
/*
 * isa.h - functions that have an object of their own per instruction set
 */
#include "kernels/include/kern.h"

void avx2_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void avx2_attn(const struct kern_attn *p, const struct kern_attn_plan *plan,
	       u32 lo, u32 hi, void *scratch);
void avx2_attn_bf16(const struct kern_attn *p,
		    const struct kern_attn_plan *plan, u32 lo, u32 hi,
		    void *scratch);
void avx2_attn_merge(const struct kern_attn *p,
		     const struct kern_attn_plan *plan, u32 lo, u32 hi);

void avx2_gemm_int8(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void avx2_gemm_int16(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void avx2_gemm_int16_pack(const struct kern_gemm *p, void *to, u32 lo, u32 hi);

/* Of int16 products, for the rows of kernels that have them. */
#define INT16_FEW	 2u /* rows of x that need no panel: nor are they packed */
#define INT16_PACK_BYTES 80u /* of 32 elements of x */

void amx_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void amx_gemm_pack(const struct kern_gemm *p, void *to, u32 lo, u32 hi);
void amx_gemm_gated(const struct kern_gemm_gated *p, u32 lo, u32 hi,
		    void *scratch);
void amx_attn_bf16(const struct kern_attn *p, const struct kern_attn_plan *plan,
		   u32 lo, u32 hi, void *scratch);
void amx_gemm_int8(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);

void avx512vnni_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void avx512vnni_gemm_int16(const struct kern_gemm *p, u32 lo, u32 hi,
			   void *scratch);
void avx512vnni_gemm_int16_pack(const struct kern_gemm *p, void *to, u32 lo,
				u32 hi);

void avx512bf16_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);

void avx512_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void avx512_attn(const struct kern_attn *p, const struct kern_attn_plan *plan,
		 u32 lo, u32 hi, void *scratch);
void avx512_attn_bf16(const struct kern_attn *p,
		      const struct kern_attn_plan *plan, u32 lo, u32 hi,
		      void *scratch);
void avx512_attn_merge(const struct kern_attn *p,
		       const struct kern_attn_plan *plan, u32 lo, u32 hi);

#endif
