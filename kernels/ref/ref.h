/* SPDX-License-Identifier: MIT */
#ifndef REF_H
#define REF_H
/*
 * ref.h - the definition of every operation, in plain C
 *
 * What each does is said in kern.h; in which order it adds and rounds, here
 * and in Documentation/internals/numerics.rst. The vector rows are compared
 * with these bit for bit.
 */
#include "kernels/include/kern.h"

/* Element k of a row, exact in fp32. */
float ref_element(const struct kern_mat *w, u32 row, u32 k);
float ref_strip_element(const struct kern_mat *w, u32 row, u32 k);
/* Elements k .. k + nr of one scale: within 16, of Q6_K, or 32. */
void ref_strip_elements(const struct kern_mat *w, u32 row, u32 k, u32 nr,
			float *out);

/* Sub-block s's 6-bit scale and min out of the 12 bytes of a K block. */
void ref_k_scale_min(const u8 *p, u32 s, u32 *scale, u32 *min);

/* y[m][n] = (sum + bias) + residual */
void ref_gemm_store(const struct kern_gemm *p, u32 m, u32 n, float sum);

void ref_dequant(const struct kern_dequant *p, u32 lo, u32 hi);
void ref_embed(const struct kern_embed *p, u32 lo, u32 hi);
void ref_rmsnorm(const struct kern_rmsnorm *p, u32 lo, u32 hi);
void ref_round(const struct kern_round *p, u32 lo, u32 hi);
void ref_add(const struct kern_add *p, u32 lo, u32 hi);
void ref_gated(const struct kern_gated *p, u32 lo, u32 hi);
void ref_softcap(const struct kern_softcap *p, u32 lo, u32 hi);
void ref_gemm(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void ref_gemm_int8(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void ref_gemm_int16(const struct kern_gemm *p, u32 lo, u32 hi, void *scratch);
void ref_rope_table(const struct kern_rope_table *p, u32 lo, u32 hi);
void ref_rope(const struct kern_rope *p, u32 lo, u32 hi);
void ref_attn(const struct kern_attn *p, const struct kern_attn_plan *plan,
	      u32 lo, u32 hi, void *scratch);
void ref_attn_bf16(const struct kern_attn *p, const struct kern_attn_plan *plan,
		   u32 lo, u32 hi, void *scratch);
void ref_attn_merge(const struct kern_attn *p,
		    const struct kern_attn_plan *plan, u32 lo, u32 hi);
void ref_logits(const struct kern_logits *p, u32 lo, u32 hi);
void ref_copy(const struct kern_copy *list, u32 lo, u32 hi);

#endif
