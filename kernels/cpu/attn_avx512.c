/* SPDX-License-Identifier: MIT */
/*
 * attn_avx512.c - paged attention in registers of 16 floats
 */
#include "kernels/cpu/panel_avx512.h"
#include "kernels/cpu/attn_driver.h"
#include "kernels/cpu/isa.h"

void avx512_attn(const struct kern_attn *p, const struct kern_attn_plan *plan,
		 u32 lo, u32 hi, void *scratch)
{
	attn_run(p, plan, KERN_NUMERICS_BF16, lo, hi, scratch);
}

void avx512_attn_bf16(const struct kern_attn *p,
		      const struct kern_attn_plan *plan, u32 lo, u32 hi,
		      void *scratch)
{
	attn_run(p, plan, KERN_NUMERICS_BF16_ATTN, lo, hi, scratch);
}

void avx512_attn_merge(const struct kern_attn *p,
		       const struct kern_attn_plan *plan, u32 lo, u32 hi)
{
	attn_merge_run(p, plan, lo, hi);
}
