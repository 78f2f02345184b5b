/* SPDX-License-Identifier: MIT */
/*
 * attn_plan.c - cut an attention call into items
 *
 * An item is a block of rows of one sequence with all query heads of one KV
 * head: K and V are read once for up to ITEM_ROWS query rows. When a step has
 * few items but long sequences (a decode), the segments of a block are shared
 * out over several items whose partial records attn_merge() folds in order.
 * Only blocks of few query rows are split: their records are small beside
 * the K and V they stand for. How a block is cut changes no bit.
 */
#include <errno.h>
#include <stdlib.h>

#include "kernels/cpu/attn_plan.h"

#define ITEM_ROWS	 48 /* query rows wanted in an item */
#define SPLIT_ROWS	 16 /* at most this many rows: may be split */
#define SPLIT_MIN	 2 /* segments that a split item has at least */
#define ITEMS_PER_THREAD 4

static int grow(struct kern_attn_item **list, u32 *max, u64 want)
{
	struct kern_attn_item *more;

	if (want <= *max)
		return 0;
	if (want > UINT32_MAX / 2)
		return -ENOMEM;
	more = realloc(*list, want * 2 * sizeof(**list));
	if (!more)
		return -ENOMEM;
	*list = more;
	*max = (u32)want * 2;
	return 0;
}

static int add(struct kern_attn_item **list, u32 *max, u32 *nr,
	       struct kern_attn_item it)
{
	int err = grow(list, max, (u64)*nr + 1);

	if (err)
		return err;
	(*list)[(*nr)++] = it;
	return 0;
}

static u32 block_rows(const struct kern_attn *a)
{
	u32 rows = ITEM_ROWS / (a->nr_heads / a->kv.nr_kv_heads);

	return rows ? rows : 1;
}

/* The segments that rows [row, row + nr) of a sequence read. */
static void block_segments(const struct kern_attn_seq *s, u32 row, u32 nr,
			   u32 *seg0, u32 *seg1)
{
	*seg0 = attn_row_lo(s, row) / KERN_ATTN_SEGMENT;
	*seg1 = DIV_ROUND_UP(attn_row_hi(s, row + nr - 1), KERN_ATTN_SEGMENT);
}

/* Segments of work in all blocks, and the share of one item. */
static u32 split_target(const struct kern_attn *a, u32 nr_threads)
{
	u64 total = 0;
	u32 rows = block_rows(a);

	if (nr_threads < 2)
		return UINT32_MAX;
	for (u32 i = 0; i < a->nr_seqs; i++) {
		const struct kern_attn_seq *s = &a->seqs[i];

		for (u32 r = 0; r < s->nr_rows; r += rows) {
			u32 seg0, seg1;

			block_segments(s, r, min(rows, s->nr_rows - r), &seg0,
				       &seg1);
			total += (u64)(seg1 - seg0) * a->kv.nr_kv_heads;
		}
	}
	total = DIV_ROUND_UP(total, (u64)nr_threads * ITEMS_PER_THREAD);
	return (u32)max(total, (u64)SPLIT_MIN);
}

static int split_block(struct kern_attn_plan *plan, const struct kern_attn *a,
		       struct kern_attn_item it, u32 target)
{
	u32 heads = it.nr_rows * (a->nr_heads / a->kv.nr_kv_heads);
	u64 nr = (u64)(it.seg1 - it.seg0) * heads;
	u32 end = it.seg1, part = plan->nr_parts;
	int err;

	if (part + nr >= KERN_ATTN_WHOLE)
		return -ENOMEM;
	plan->nr_parts += (u32)nr;
	it.part = part;
	err = add(&plan->merges, &plan->max_merges, &plan->nr_merges, it);
	while (!err && it.seg0 < end) {
		it.seg1 = min(end, it.seg0 + target);
		err = add(&plan->items, &plan->max_items, &plan->nr_items, it);
		it.part += (it.seg1 - it.seg0) * heads;
		it.seg0 = it.seg1;
	}
	return err;
}

static int plan_seq(struct kern_attn_plan *plan, const struct kern_attn *a,
		    u32 seq, u32 target)
{
	const struct kern_attn_seq *s = &a->seqs[seq];
	u32 rows = block_rows(a), group = a->nr_heads / a->kv.nr_kv_heads;
	int err = 0;

	/* The last rows see the most keys: start the longest items first. */
	for (u32 n = DIV_ROUND_UP(s->nr_rows, rows); n && !err; n--) {
		struct kern_attn_item it = {
			.seq = seq,
			.row = (n - 1) * rows,
			.part = KERN_ATTN_WHOLE,
		};

		it.nr_rows = min(rows, s->nr_rows - it.row);
		block_segments(s, it.row, it.nr_rows, &it.seg0, &it.seg1);
		for (u32 h = 0; h < a->kv.nr_kv_heads && !err; h++) {
			it.kv_head = h;
			if (it.nr_rows * group <= SPLIT_ROWS &&
			    it.seg1 - it.seg0 > target)
				err = split_block(plan, a, it, target);
			else
				err = add(&plan->items, &plan->max_items,
					  &plan->nr_items, it);
		}
	}
	return err;
}

int kern_attn_plan(struct kern_attn_plan *plan, const struct kern_attn *a,
		   u32 nr_threads)
{
	u32 target = split_target(a, nr_threads);
	u64 want;

	plan->nr_items = plan->nr_merges = plan->nr_parts = 0;
	for (u32 i = 0; i < a->nr_seqs; i++) {
		int err = plan_seq(plan, a, i, target);

		if (err)
			return err;
	}
	want = (u64)plan->nr_parts * (2 + a->kv.head_dim);
	if (want > plan->max_part_floats) {
		float *parts = realloc(plan->parts, want * sizeof(float));

		if (!parts)
			return -ENOMEM;
		plan->parts = parts;
		plan->max_part_floats = want;
	}
	return 0;
}

void kern_attn_plan_fini(struct kern_attn_plan *plan)
{
	free(plan->items);
	free(plan->merges);
	free(plan->parts);
	*plan = (struct kern_attn_plan){ 0 };
}
