/* SPDX-License-Identifier: MIT */
#ifndef CPU_ATTN_ITEM_H
#define CPU_ATTN_ITEM_H
/*
 * attn_item.h - an item of paged attention, whatever multiplies it
 *
 * An item is a block of query rows (tokens x heads of one KV head), at most
 * ATTN_MAX_ROWS, which may belong to several sequences as long as these share
 * the pages of its keys:
 *
 *	load_q		the rows to scratch
 *	for each segment of 256 keys
 *	  find_rows	one address per key, by the block table
 *	  attend	scores, softmax, weights times values
 *	  fold		into the running state, or to the plan's records
 *	write_out
 *
 * load_q() and attend() are of the file that includes this one:
 * attn_driver.h on vector registers, attn_amx.c on tiles. Only addresses of
 * keys that some row of the block sees are ever formed.
 */
#include "kernels/cpu/attn_plan.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/vec_math.h"

#define SEGMENT	  KERN_ATTN_SEGMENT
#define NEXT_KEYS 8u /* of the next segment, to fetch meanwhile */

struct attn_scratch {
	float o[ATTN_MAX_ROWS][ATTN_MAX_DIM]; /* of this segment */
	float run_o[ATTN_MAX_ROWS][ATTN_MAX_DIM];
	/* row of each key and of the next segment's first; K and V are in it */
	const u8 *key[SEGMENT + NEXT_KEYS];
	float max[ATTN_MAX_ROWS], sum[ATTN_MAX_ROWS];
	float run_max[ATTN_MAX_ROWS], run_sum[ATTN_MAX_ROWS];
	u32 lo[ATTN_MAX_ROWS], hi[ATTN_MAX_ROWS]; /* in the segment */
} __attribute__((aligned(64)));

/* What the steps of one item share. */
struct attn_work {
	const struct kern_attn *p;
	const struct kern_attn_plan *plan;
	const struct kern_attn_item *it;
	const struct kern_attn_seq *seq; /* for the keys */
	struct attn_scratch *s;
	struct attn_own *own; /* the including file's scratch */
	u32 numerics; /* enum kern_numerics */
	u32 group, rows, dim;
	u32 keys_end; /* no row of the item sees one from here on */
	u32 known; /* s->key has rows below, of the segment and the next */
	u32 few; /* attn_few.h: blocks of a head, 0: panels */
	bool fetch; /* keys ahead of their turn: unless is_prompt() */
};

static bool is_bf16(const struct attn_work *w)
{
	return w->numerics == KERN_NUMERICS_BF16_ATTN;
}

/* The item's queries, to where attend() wants them. */
static void load_q(struct attn_work *w);

/*
 * Keys [lo, hi) of the segment at @first, of which each row sees [s->lo,
 * s->hi): s->max, s->sum and s->o of each row that sees any.
 */
static void attend(struct attn_work *w, u32 first, u32 lo, u32 hi);

static const struct kern_attn_row *row_of(const struct attn_work *w, u32 i)
{
	return &w->plan->rows[w->it->row + i / w->group];
}

/* Row of q and of the result. */
static u32 token_of(const struct attn_work *w, u32 i)
{
	const struct kern_attn_row *r = row_of(w, i);

	return w->p->seqs[r->seq].row0 + r->row;
}

/* Query row i, w->dim floats. */
static const float *query_of(const struct attn_work *w, u32 i)
{
	u32 head = w->it->kv_head * w->group + i % w->group;

	return w->p->q + (size_t)token_of(w, i) * w->p->q_stride +
	       (size_t)head * w->dim;
}

/* The keys [lo, hi) of the segment at @first that each row sees. */
static void find_ranges(struct attn_work *w, u32 first, u32 *lo, u32 *hi)
{
	*lo = SEGMENT;
	*hi = 0;
	for (u32 i = 0; i < w->rows; i++) {
		const struct kern_attn_row *r = row_of(w, i);
		const struct kern_attn_seq *s = &w->p->seqs[r->seq];
		u32 l = max(attn_row_lo(s, r->row), first) - first;
		u32 h = max(attn_row_hi(s, r->row), first) - first;

		h = min(h, (u32)SEGMENT);
		if (l >= h)
			l = h = 0; /* sees none */
		else
			*lo = min(*lo, l);
		*hi = max(*hi, h);
		w->s->lo[i] = l;
		w->s->hi[i] = h;
	}
}

static void find_rows(struct attn_work *w, u32 first, u32 lo, u32 hi)
{
	const struct kern_kv *kv = &w->p->kv;
	const u8 *base =
		kv->base + kv->layer_off + w->it->kv_head * kv->head_stride;

	for (u32 j = lo; j < hi;) {
		u32 slot = (first + j) % kv->page_tokens;
		u32 end = min(hi, j + kv->page_tokens - slot);
		const u8 *row =
			base + kern_kv_row(kv, w->seq->table, first + j);

		for (; j < end; j++, row += kv->tok_stride)
			w->s->key[j] = row;
	}
}

/*
 * What is added to a segment's output. In bf16 a zero of it is +0: numerics.rst
 * on attention in bf16. Its sign could tell whether keys were skipped or
 * multiplied by 0. -0 changes nothing.
 */
static struct v16 settling_zero(const struct attn_work *w)
{
	return v16_set1(is_bf16(w) ? 0.0f : -0.0f);
}

/* (max, sum, o + zero) into the running state of a row. */
static void fold(float *run_max, float *run_sum, float *run_o, float max_,
		 float sum, const float *o, struct v16 zero, u32 dim)
{
	float m = max_ > *run_max ? max_ : *run_max;
	float a = ref_expf(*run_max - m), b = ref_expf(max_ - m);
	struct v16 av = v16_set1(a), bv = v16_set1(b);

	*run_max = m;
	*run_sum = fmaf(*run_sum, a, sum * b);
	for (u32 d = 0; d < dim; d += 16) {
		struct v16 x = v16_add(v16_load(o + d), zero);

		v16_store(run_o + d,
			  v16_fma(v16_load(run_o + d), av, v16_mul(x, bv)));
	}
}

static void write_out(const struct kern_attn *p, size_t row, u32 head,
		      float sum, const float *o)
{
	size_t at = (row * p->nr_heads + head) * p->kv.head_dim;
	struct v16 inv = v16_set1(sum == 0 ? 0 : 1.0f / sum);

	for (u32 d = 0; d < p->kv.head_dim; d += 16) {
		struct v16 y = v16_mul(v16_load(o + d), inv);

		if (p->f32)
			v16_store(p->f32 + at + d, y);
		if (p->bf16)
			v16_store_bf16(p->bf16 + at + d, y);
	}
}

static void finish_segment(struct attn_work *w, u32 seg)
{
	struct attn_scratch *s = w->s;
	struct v16 zero = settling_zero(w);

	for (u32 i = 0; i < w->rows; i++) {
		const struct kern_attn_row *row = row_of(w, i);
		bool seen = s->lo[i] < s->hi[i];
		float *rec;

		if (row->part == KERN_ATTN_WHOLE) {
			if (seen)
				fold(&s->run_max[i], &s->run_sum[i],
				     s->run_o[i], s->max[i], s->sum[i], s->o[i],
				     zero, w->dim);
			continue;
		}
		rec = attn_part(w->p, w->plan, row, w->it->kv_head, seg,
				i % w->group);
		rec[0] = seen ? s->max[i] : -INFINITY;
		rec[1] = seen ? s->sum[i] : 0;
		for (u32 d = 0; seen && d < w->dim; d += 16)
			v16_store(rec + 2 + d,
				  v16_add(v16_load(s->o[i] + d), zero));
	}
}

static void run_item(struct attn_work *w)
{
	struct attn_scratch *s = w->s;

	load_q(w);
	for (u32 i = 0; i < w->rows; i++) {
		s->run_max[i] = -INFINITY;
		s->run_sum[i] = 0;
		memset(s->run_o[i], 0, w->dim * sizeof(float));
	}
	for (u32 seg = w->it->seg0; seg < w->it->seg1; seg++) {
		u32 lo, hi;

		find_ranges(w, seg * SEGMENT, &lo, &hi);
		if (lo < hi) {
			w->known = min(hi + NEXT_KEYS,
				       w->keys_end - seg * SEGMENT);
			find_rows(w, seg * SEGMENT, lo, w->known);
			attend(w, seg * SEGMENT, lo, hi);
		}
		finish_segment(w, seg);
	}
	for (u32 i = 0; i < w->rows; i++)
		if (row_of(w, i)->part == KERN_ATTN_WHOLE)
			write_out(w->p, token_of(w, i),
				  w->it->kv_head * w->group + i % w->group,
				  s->run_sum[i], s->run_o[i]);
}

/*
 * One of several blocks of a prompt's rows: the others have the same keys, in a
 * cache if they fit one, and each takes long to compute with them.
 */
static bool is_prompt(const struct attn_work *w)
{
	return w->p->seqs[row_of(w, 0)->seq].nr_rows > w->it->nr_rows;
}

/* Of the keys that some row sees; all of them are in the table of w->seq. */
static u32 keys_end(const struct attn_work *w)
{
	u32 end = 0;

	for (u32 i = 0; i < w->rows; i += w->group) {
		const struct kern_attn_row *r = row_of(w, i);

		end = max(end, attn_row_hi(&w->p->seqs[r->seq], r->row));
	}
	return min(end, w->it->seg1 * SEGMENT);
}

static void attn_run(const struct kern_attn *p,
		     const struct kern_attn_plan *plan, u32 numerics, u32 lo,
		     u32 hi, void *scratch)
{
	struct attn_scratch *s = scratch;

	for (u32 i = lo; i < hi; i++) {
		struct attn_work w = {
			.p = p,
			.plan = plan,
			.it = &plan->items[i],
			.seq = &p->seqs[plan->items[i].seq],
			.s = s,
			.own = (struct attn_own *)(s + 1),
			.numerics = numerics,
			.group = p->nr_heads / p->kv.nr_kv_heads,
			.dim = p->kv.head_dim,
		};

		w.rows = w.it->nr_rows * w.group;
		w.keys_end = keys_end(&w);
		w.fetch = !is_prompt(&w);
		run_item(&w);
	}
}

#endif
