/* SPDX-License-Identifier: MIT */
/*
 * attn_avx2.c - paged attention in registers of 8 floats
 */
#include "kernels/cpu/panel_avx2.h"
#include "kernels/cpu/attn_driver.h"
#include "kernels/cpu/isa.h"

void avx2_attn(const struct kern_attn *p, const struct kern_attn_plan *plan,
	       u32 lo, u32 hi, void *scratch)
{
	attn_run(p, plan, KERN_NUMERICS_BF16, lo, hi, scratch);
}

void avx2_attn_bf16(const struct kern_attn *p,
		    const struct kern_attn_plan *plan, u32 lo, u32 hi,
		    void *scratch)
{
	attn_run(p, plan, KERN_NUMERICS_BF16_ATTN, lo, hi, scratch);
}

void avx2_attn_merge(const struct kern_attn *p,
		     const struct kern_attn_plan *plan, u32 lo, u32 hi)
{
	attn_merge_run(p, plan, lo, hi);
}
