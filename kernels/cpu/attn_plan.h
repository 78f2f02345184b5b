/* SPDX-License-Identifier: MIT */
#ifndef CPU_ATTN_PLAN_H
#define CPU_ATTN_PLAN_H
/*
 * attn_plan.h - what a row of attention sees, and where its parts lie
 */
#include "kernels/include/kern.h"

#define ATTN_MAX_DIM 256 /* head_dim is a multiple of 16 up to this */

/* Query rows (tokens x heads of a group) that one item holds at most. */
#define ATTN_MAX_ROWS 64

/* The fold of some keys: empty is (-inf, 0, 0). */
struct attn_state {
	float max, sum;
	float o[ATTN_MAX_DIM];
};

/* Row r of the sequence sees the keys [lo, hi). */
static inline u32 attn_row_hi(const struct kern_attn_seq *s, u32 r)
{
	return s->pos0 + r + 1;
}

static inline u32 attn_row_lo(const struct kern_attn_seq *s, u32 r)
{
	u32 hi = attn_row_hi(s, r);

	return s->window && hi > s->window ? hi - s->window : 0;
}

/* The partial record {max, sum, o[head_dim]} of a row, head and segment. */
static inline float *attn_part(const struct kern_attn *p,
			       const struct kern_attn_plan *plan,
			       const struct kern_attn_row *row, u32 kv_head,
			       u32 seg, u32 g)
{
	u32 group = p->nr_heads / p->kv.nr_kv_heads;
	u64 i = (u64)kv_head * row->nr_segs + (seg - row->seg0);

	i = row->part + i * group + g;
	return plan->parts + i * (2 + p->kv.head_dim);
}

#endif
