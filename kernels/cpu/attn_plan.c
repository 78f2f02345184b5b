/* SPDX-License-Identifier: MIT */
/*
 * attn_plan.c - cut an attention call into items
 *
 * An item is a block of rows with all query heads of one KV head: K and V are
 * read once for up to ATTN_MAX_ROWS query rows.
 *
 * A sequence of many rows (a prompt) is cut into blocks of them. Sequences of
 * few rows (decodes) are sorted by their pages, one segment after the other:
 * while some of them have the same pages, a run takes their rows together, and
 * where they part, each group goes on for itself (a cascade; the shared prefix
 * of parallel samples is read once for all of them). What is left over is runs
 * of one sequence each.
 *
 *	order	0 1 2 3			sequences, sorted
 *	runs	[A A A A] [B B] [C]	A: segments 0-7 of all four
 *		          [D] [E]	B: 8-11 of two, C: 8-20 of one, ...
 *
 * When a step has few items but long sequences, the segments of a run are
 * shared out over several items. A row whose segments are in several items
 * has partial records, which attn_merge() folds in order. Only such few rows
 * have them: their records are small beside the K and V they stand for. How a
 * call is cut changes no bit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/attn_plan.h"

#define FEW_ROWS	 16 /* at most this many query rows: runs, and parts */
#define SPLIT_MIN	 2 /* segments that a split item has at least */
#define ITEMS_PER_THREAD 4

/* Some segments of sequences that have the same pages there. */
struct kern_attn_run {
	u32 first, nr_seqs; /* in the plan's order */
	u32 seg0, seg1;
	u32 row, nr_rows; /* in the plan's rows */
};

/* What the steps of one plan share. */
struct planner {
	struct kern_attn_plan *plan;
	const struct kern_attn *a;
	u32 group; /* query heads of a KV head */
	u32 block; /* rows of an item */
	u32 nr_few; /* sequences in plan->order */
	u32 seg; /* that sequences are sorted by just now */
	u32 target; /* segments of an item of a split run */
};

static int grow(void *list, u32 *max, u64 want, size_t size)
{
	void *more;

	if (want <= *max)
		return 0;
	if (want > UINT32_MAX / 2)
		return -ENOMEM;
	more = realloc(*(void **)list, want * 2 * size);
	if (!more)
		return -ENOMEM;
	*(void **)list = more;
	*max = (u32)want * 2;
	return 0;
}

/* The segments that rows [row, row + nr) of a sequence read. */
static void block_segments(const struct kern_attn_seq *s, u32 row, u32 nr,
			   u32 *seg0, u32 *seg1)
{
	*seg0 = attn_row_lo(s, row) / KERN_ATTN_SEGMENT;
	*seg1 = DIV_ROUND_UP(attn_row_hi(s, row + nr - 1), KERN_ATTN_SEGMENT);
}

static void seq_segments(const struct planner *p, u32 seq, u32 *seg0, u32 *seg1)
{
	const struct kern_attn_seq *s = &p->a->seqs[seq];

	block_segments(s, 0, s->nr_rows, seg0, seg1);
}

/* The page that its first row's first key lies in. */
static u32 first_page(const struct planner *p, u32 seq)
{
	return attn_row_lo(&p->a->seqs[seq], 0) / p->a->kv.page_tokens;
}

static bool has_few_rows(const struct planner *p, u32 seq)
{
	return (u64)p->a->seqs[seq].nr_rows * p->group <= FEW_ROWS;
}

/* ---- runs ---- */

/* The table's entries of a segment, NULL if it is not full or not read. */
static const u32 *segment_pages(const struct planner *p, u32 seq, u32 seg)
{
	const struct kern_attn_seq *s = &p->a->seqs[seq];
	u32 per_page = p->a->kv.page_tokens, seg0, seg1;

	seq_segments(p, seq, &seg0, &seg1);
	if (KERN_ATTN_SEGMENT % per_page || seg >= seg1 ||
	    seg >= s->kv_len / KERN_ATTN_SEGMENT)
		return NULL;
	return s->table + (size_t)seg * (KERN_ATTN_SEGMENT / per_page);
}

/* 0: both have segment @seg, and the same pages for it. */
static int compare_pages(const struct planner *p, u32 a, u32 b, u32 seg)
{
	const u32 *x = segment_pages(p, a, seg), *y = segment_pages(p, b, seg);
	size_t bytes = KERN_ATTN_SEGMENT / p->a->kv.page_tokens * sizeof(*x);

	if (x && y)
		return memcmp(x, y, bytes);
	if (!x && !y)
		return a < b ? -1 : a > b;
	return x ? 1 : -1;
}

static int by_pages(const void *a, const void *b, void *arg)
{
	const struct planner *p = arg;
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x == y ? 0 : compare_pages(p, x, y, p->seg);
}

static int by_first_segment(const void *a, const void *b, void *arg)
{
	u32 x0, y0, end;

	seq_segments(arg, *(const u32 *)a, &x0, &end);
	seq_segments(arg, *(const u32 *)b, &y0, &end);
	return x0 < y0 ? -1 : x0 > y0;
}

static int add_run(struct planner *p, u32 first, u32 end, u32 seg0, u32 seg1)
{
	struct kern_attn_plan *plan = p->plan;
	int err = grow(&plan->runs, &plan->max_runs, (u64)plan->nr_runs + 1,
		       sizeof(*plan->runs));

	if (!err)
		plan->runs[plan->nr_runs++] = (struct kern_attn_run){
			.first = first,
			.nr_seqs = end - first,
			.seg0 = seg0,
			.seg1 = seg1,
		};
	return err;
}

/* Whether order[first .. end) read the same pages for @seg. */
static bool all_share(const struct planner *p, u32 first, u32 end, u32 seg)
{
	const u32 *order = p->plan->order;

	for (u32 i = first + 1; i < end; i++)
		if (compare_pages(p, order[first], order[i], seg))
			return false;
	return true;
}

/*
 * The runs of order[first .. end) from @seg on, where some of them may have
 * ended. Each level of the recursion parts some of them, so it is no deeper
 * than they are many.
 */
static int cascade(struct planner *p, u32 first, u32 end, u32 seg)
{
	u32 *order = p->plan->order, seg0, seg1, next;
	int err = 0;

	p->seg = seg;
	qsort_r(order + first, end - first, sizeof(*order), by_pages, p);
	for (; !err && first < end; first = next) {
		next = first + 1;
		while (next < end &&
		       !compare_pages(p, order[first], order[next], seg))
			next++;
		if (next - first == 1) {
			seq_segments(p, order[first], &seg0, &seg1);
			if (seg < seg1)
				err = add_run(p, first, next, seg, seg1);
			continue;
		}
		seg1 = seg + 1;
		while (all_share(p, first, next, seg1))
			seg1++;
		err = add_run(p, first, next, seg, seg1);
		if (!err)
			err = cascade(p, first, next, seg1);
	}
	return err;
}

/*
 * Runs of sequences that begin at @seg. Entries of pages before a window say
 * nothing: where windows begin at different pages, their first segment stays
 * apart.
 */
static int runs_from(struct planner *p, u32 first, u32 end, u32 seg)
{
	const u32 *order = p->plan->order;
	u32 page = first_page(p, order[first]), i;
	int err;

	for (i = first + 1; i < end; i++)
		if (first_page(p, order[i]) != page)
			break;
	if (i == end)
		return cascade(p, first, end, seg);
	err = cascade(p, first, end, seg + 1);
	/* now that they are in their order */
	for (i = first; !err && i < end; i++)
		err = add_run(p, i, i + 1, seg, seg + 1);
	return err;
}

static int make_runs(struct planner *p)
{
	struct kern_attn_plan *plan = p->plan;
	u32 seg, other, end, next;
	int err = 0;

	plan->nr_runs = 0;
	qsort_r(plan->order, p->nr_few, sizeof(*plan->order), by_first_segment,
		p);
	for (u32 i = 0; !err && i < p->nr_few; i = next) {
		seq_segments(p, plan->order[i], &seg, &end);
		for (next = i + 1; next < p->nr_few; next++) {
			seq_segments(p, plan->order[next], &other, &end);
			if (other != seg)
				break;
		}
		err = runs_from(p, i, next, seg);
	}
	return err;
}

/* ---- rows ---- */

static void add_rows(struct planner *p, u32 seq)
{
	struct kern_attn_plan *plan = p->plan;
	struct kern_attn_row row = { .seq = seq };
	u32 seg1, nr = p->a->seqs[seq].nr_rows;

	seq_segments(p, seq, &row.seg0, &seg1);
	row.nr_segs = seg1 - row.seg0;
	row.part = KERN_ATTN_WHOLE;
	for (row.row = 0; row.row < nr; row.row++)
		plan->rows[plan->nr_rows++] = row;
}

/* The rows of few in the order of the runs, then those of many. */
static void make_rows(struct planner *p)
{
	struct kern_attn_plan *plan = p->plan;
	u32 *start = plan->order + plan->max_seqs; /* first row of each */

	plan->nr_rows = 0;
	for (u32 i = 0; i < p->nr_few; i++) {
		start[i] = plan->nr_rows;
		add_rows(p, plan->order[i]);
	}
	start[p->nr_few] = plan->nr_rows;
	for (u32 i = 0; i < plan->nr_runs; i++) {
		struct kern_attn_run *r = &plan->runs[i];

		r->row = start[r->first];
		r->nr_rows = start[r->first + r->nr_seqs] - r->row;
	}
	for (u32 i = 0; i < p->a->nr_seqs; i++)
		if (!has_few_rows(p, i))
			add_rows(p, i);
}

/* ---- items ---- */

/* Segments of work of all items, and the share that a split item gets. */
static u32 split_target(const struct planner *p, u32 nr_threads)
{
	const struct kern_attn_plan *plan = p->plan;
	u64 total = 0;

	if (nr_threads < 2)
		return UINT32_MAX;
	for (u32 i = 0; i < plan->nr_runs; i++) {
		const struct kern_attn_run *r = &plan->runs[i];

		total += (u64)DIV_ROUND_UP(r->nr_rows, p->block) *
			 (r->seg1 - r->seg0);
	}
	for (u32 i = 0; i < p->a->nr_seqs; i++) {
		const struct kern_attn_seq *s = &p->a->seqs[i];
		u32 seg0, seg1;

		if (has_few_rows(p, i))
			continue;
		for (u32 r = 0; r < s->nr_rows; r += p->block) {
			block_segments(s, r, min(p->block, s->nr_rows - r),
				       &seg0, &seg1);
			total += seg1 - seg0;
		}
	}
	total = DIV_ROUND_UP(total * p->a->kv.nr_kv_heads,
			     (u64)nr_threads * ITEMS_PER_THREAD);
	return (u32)max(total, (u64)SPLIT_MIN);
}

static u32 nr_pieces(const struct planner *p, const struct kern_attn_run *r)
{
	u32 segs = r->seg1 - r->seg0;

	return segs > p->target ? DIV_ROUND_UP(segs, p->target) : 1;
}

/* Records for the rows whose segments are in more than one item. */
static int make_parts(struct planner *p)
{
	struct kern_attn_plan *plan = p->plan;
	u32 nr_few_rows = plan->order[plan->max_seqs + p->nr_few];
	u64 nr = 0, want;

	for (u32 i = 0; i < nr_few_rows; i++)
		plan->rows[i].part = 0;
	for (u32 i = 0; i < plan->nr_runs; i++) {
		const struct kern_attn_run *r = &plan->runs[i];

		for (u32 j = r->row; j < r->row + r->nr_rows; j++)
			plan->rows[j].part += nr_pieces(p, r);
	}
	plan->nr_merges = 0;
	for (u32 i = 0; i < nr_few_rows; i++) {
		struct kern_attn_row *row = &plan->rows[i];
		bool whole = row->part == 1;

		if (nr >= KERN_ATTN_WHOLE)
			return -ENOMEM;
		row->part = whole ? KERN_ATTN_WHOLE : (u32)nr;
		if (whole)
			continue;
		nr += (u64)row->nr_segs * p->a->nr_heads;
		plan->merges[plan->nr_merges++] = i;
	}
	plan->nr_parts = (u32)nr;
	want = nr * (2 + p->a->kv.head_dim);
	if (want > plan->max_part_floats) {
		float *parts = realloc(plan->parts, want * sizeof(float));

		if (!parts)
			return -ENOMEM;
		plan->parts = parts;
		plan->max_part_floats = want;
	}
	return 0;
}

static int add_item(struct planner *p, struct kern_attn_item it)
{
	struct kern_attn_plan *plan = p->plan;
	int err = grow(&plan->items, &plan->max_items, (u64)plan->nr_items + 1,
		       sizeof(*plan->items));

	if (!err)
		plan->items[plan->nr_items++] = it;
	return err;
}

/* Blocks of rows that read the same keys follow each other. */
static int add_run_items(struct planner *p, const struct kern_attn_run *r)
{
	struct kern_attn_item it = { .seq = p->plan->order[r->first] };
	u32 step = min(p->target, r->seg1 - r->seg0);
	int err = 0;

	for (u32 seg = r->seg0; seg < r->seg1; seg += step) {
		it.seg0 = seg;
		it.seg1 = min(seg + step, r->seg1);
		for (u32 h = 0; h < p->a->kv.nr_kv_heads; h++) {
			it.kv_head = h;
			for (u32 i = 0; !err && i < r->nr_rows; i += p->block) {
				it.row = r->row + i;
				it.nr_rows = min(p->block, r->nr_rows - i);
				err = add_item(p, it);
			}
		}
	}
	return err;
}

/* In the order of rows, as other operations share them out. */
static int add_blocks(struct planner *p, u32 seq, u32 row0)
{
	const struct kern_attn_seq *s = &p->a->seqs[seq];
	struct kern_attn_item it = { .seq = seq };
	int err = 0;

	for (u32 row = 0; row < s->nr_rows && !err; row += p->block) {
		it.row = row0 + row;
		it.nr_rows = min(p->block, s->nr_rows - row);
		block_segments(s, row, it.nr_rows, &it.seg0, &it.seg1);
		for (u32 h = 0; h < p->a->kv.nr_kv_heads && !err; h++) {
			it.kv_head = h;
			err = add_item(p, it);
		}
	}
	return err;
}

static int make_items(struct planner *p)
{
	struct kern_attn_plan *plan = p->plan;
	u32 row = plan->order[plan->max_seqs + p->nr_few];
	int err = 0;

	plan->nr_items = 0;
	for (u32 i = 0; !err && i < p->a->nr_seqs; i++) {
		if (has_few_rows(p, i))
			continue;
		err = add_blocks(p, i, row);
		row += p->a->seqs[i].nr_rows;
	}
	for (u32 i = 0; !err && i < plan->nr_runs; i++)
		err = add_run_items(p, &plan->runs[i]);
	return err;
}

/* Room for every row and sequence; a run of none is not counted. */
static int reserve(struct planner *p)
{
	struct kern_attn_plan *plan = p->plan;
	u64 nr_rows = 0;
	int err;

	for (u32 i = 0; i < p->a->nr_seqs; i++)
		nr_rows += p->a->seqs[i].nr_rows;
	err = grow(&plan->rows, &plan->max_rows, nr_rows, sizeof(*plan->rows));
	if (!err)
		err = grow(&plan->merges, &plan->max_merges, nr_rows,
			   sizeof(*plan->merges));
	if (!err && p->a->nr_seqs > plan->max_seqs) {
		u32 *order = realloc(plan->order, (2 * (size_t)p->a->nr_seqs +
						   1) * sizeof(*order));

		if (!order)
			return -ENOMEM;
		plan->order = order;
		plan->max_seqs = p->a->nr_seqs;
	}
	return err;
}

int kern_attn_plan(struct kern_attn_plan *plan, const struct kern_attn *a,
		   u32 nr_threads)
{
	struct planner p = { .plan = plan,
			     .a = a,
			     .group = a->nr_heads / a->kv.nr_kv_heads };
	int err;

	plan->nr_items = plan->nr_merges = plan->nr_rows = plan->nr_parts = 0;
	if (!a->nr_seqs)
		return 0;
	p.block = max(ATTN_MAX_ROWS / p.group, 1u);
	err = reserve(&p);
	if (err)
		return err;
	for (u32 i = 0; i < a->nr_seqs; i++)
		if (a->seqs[i].nr_rows && has_few_rows(&p, i))
			plan->order[p.nr_few++] = i;
	err = make_runs(&p);
	if (err)
		return err;
	make_rows(&p);
	p.target = split_target(&p, nr_threads);
	err = make_parts(&p);
	return err ? err : make_items(&p);
}

void kern_attn_plan_fini(struct kern_attn_plan *plan)
{
	free(plan->rows);
	free(plan->items);
	free(plan->merges);
	free(plan->parts);
	free(plan->order);
	free(plan->runs);
	*plan = (struct kern_attn_plan){ 0 };
}
