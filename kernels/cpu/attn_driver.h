/* SPDX-License-Identifier: MIT */
#ifndef CPU_ATTN_DRIVER_H
#define CPU_ATTN_DRIVER_H
/*
 * attn_driver.h - paged attention on the panels and tiles of the product
 *
 * Included after panel_x.h of one instruction set. An item is a block of
 * query rows (tokens x heads of one KV head), at most ATTN_MAX_ROWS, which may
 * belong to several sequences as long as these share the pages of its keys:
 *
 *	load_q		the rows to scratch, padded with zeros to 32 dimensions
 *	for each segment of 256 keys
 *	  find_rows	one address per key, by the block table
 *	  qk		32 keys to a panel, the tile for each 6 rows
 *	  softmax	per row: scale, max, exp, sum over the keys it sees
 *	  pv		6 rows x 64 dimensions in registers, keys in order
 *	  fold		into the running state, or to the plan's records
 *	write_out
 *
 * Rows of a block see different keys at the causal and the window's edge:
 * pv runs the keys that all 6 rows see together, the others row by row, so
 * a row multiplies only what it sees and adds in ref's order. Only addresses
 * of keys that some row of the block sees are ever formed.
 */
#include "kernels/cpu/attn_plan.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/vec_math.h"

#define SEGMENT KERN_ATTN_SEGMENT

struct attn_scratch {
	float q[ATTN_MAX_ROWS][ATTN_MAX_DIM];
	float s[ATTN_MAX_ROWS][SEGMENT]; /* scores, then weights */
	float o[ATTN_MAX_ROWS][ATTN_MAX_DIM]; /* of this segment */
	float run_o[ATTN_MAX_ROWS][ATTN_MAX_DIM];
	u32 panel[ATTN_MAX_DIM / 2 * PANEL_COLS];
	u16 gather[16][ATTN_MAX_DIM];
	const u8 *key[SEGMENT]; /* row of each key; K and V at fixed offsets */
	float max[ATTN_MAX_ROWS], sum[ATTN_MAX_ROWS];
	float run_max[ATTN_MAX_ROWS], run_sum[ATTN_MAX_ROWS];
	u32 lo[ATTN_MAX_ROWS], hi[ATTN_MAX_ROWS]; /* in the segment */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct attn_scratch) <= KERN_SCRATCH_BYTES,
	       "a thread's scratch holds it");

/* What the steps of one item share. */
struct attn_work {
	const struct kern_attn *p;
	const struct kern_attn_plan *plan;
	const struct kern_attn_item *it;
	const struct kern_attn_seq *seq; /* for the keys */
	struct attn_scratch *s;
	u32 group, rows, dim;
	u32 keys_end; /* no row of the item sees one from here on */
};

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

static void load_q(struct attn_work *w)
{
	u32 head0 = w->it->kv_head * w->group;
	u32 padded = ALIGN_UP(w->dim, 32u);

	for (u32 i = 0; i < w->rows; i++) {
		const float *q = w->p->q +
				 (size_t)token_of(w, i) * w->p->q_stride +
				 (size_t)(head0 + i % w->group) * w->dim;

		memcpy(w->s->q[i], q, w->dim * sizeof(*q));
		memset(w->s->q[i] + w->dim, 0, (padded - w->dim) * sizeof(*q));
	}
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
 * Towards the caches, while the keys of a panel are laid out: the V rows of
 * this panel, whose turn is at the end of the segment, and the K rows of the
 * next one. Pages follow each other in no order that hardware could guess.
 */
static void prefetch_row(const u8 *row, u32 bytes)
{
	for (u32 i = 0; i < bytes; i += 64)
		__builtin_prefetch(row + i, 0, 3);
}

static void prefetch_key(const struct attn_work *w, u32 pos, u32 end)
{
	const struct kern_kv *kv = &w->p->kv;

	if (pos < end)
		prefetch_row(kv->base + kv->layer_off + kv->k_off +
				     w->it->kv_head * kv->head_stride +
				     kern_kv_row(kv, w->seq->table, pos),
			     2 * w->dim);
}

/* Keys j .. j + 31 side by side; those outside [lo, hi) as zeros. */
static void fill_keys(struct attn_work *w, u32 first, u32 j, u32 lo, u32 hi)
{
	u32 pairs = ALIGN_UP(w->dim, 32u) / 2;

	for (u32 half = 0; half < PANEL_COLS; half += 16) {
		for (u32 i = 0; i < 16; i++) {
			u32 key = j + half + i;
			u16 *to = w->s->gather[i];

			prefetch_key(w, first + key + PANEL_COLS, w->keys_end);
			if (key >= lo && key < hi) {
				prefetch_row(w->s->key[key] + w->p->kv.v_off,
					     2 * w->dim);
				memcpy(to, w->s->key[key] + w->p->kv.k_off,
				       w->dim * sizeof(*to));
			} else
				memset(to, 0, w->dim * sizeof(*to));
			memset(to + w->dim, 0,
			       (2 * pairs - w->dim) * sizeof(*to));
		}
		for (u32 d = 0; d < pairs; d += 16)
			transpose16((const u32 *)(const void *)w->s->gather[0] +
					    d,
				    ATTN_MAX_DIM / 2,
				    w->s->panel + d * PANEL_COLS + half,
				    PANEL_COLS);
	}
}

static void qk(struct attn_work *w, u32 first, u32 lo, u32 hi)
{
	struct attn_scratch *s = w->s;

	for (u32 j = lo / PANEL_COLS * PANEL_COLS; j < hi; j += PANEL_COLS) {
		fill_keys(w, first, j, lo, hi);
		for (u32 i = 0; i < w->rows; i++)
			memset(s->s[i] + j, 0, PANEL_COLS * sizeof(float));
		for (u32 i = 0; i < w->rows; i += TILE_ROWS)
			tile(min(w->rows - i, (u32)TILE_ROWS), s->q[i],
			     ATTN_MAX_DIM, s->panel, DIV_ROUND_UP(w->dim, 32u),
			     s->s[i] + j, SEGMENT);
	}
}

/* Scores of one row to weights; the keys that it does not see get 0. */
static void softmax_row(struct attn_work *w, u32 i)
{
	u32 lo = w->s->lo[i], hi = w->s->hi[i], from = lo / 16 * 16;
	struct v16 scale = v16_set1(w->p->scale), cap, m, sum = v16_zero();
	const struct v16 none = v16_set1(-INFINITY);
	float *x = w->s->s[i];

	cap = v16_set1(w->p->softcap);
	m = none;
	for (u32 j = from; j < hi; j += 16) {
		struct v16mask seen =
			v16_lanes(max(lo, j) - j, min(hi - j, 16u));
		struct v16 v = v16_mul(v16_load(x + j), scale);

		if (w->p->softcap > 0)
			v = v16_mul(cap, v16_tanh(v16_div(v, cap)));
		v16_store(x + j, v);
		m = v16_max(v16_select(seen, v, none), m);
	}
	w->s->max[i] = v16_largest(m);
	m = v16_set1(w->s->max[i]);
	for (u32 j = from; j < hi; j += 16) {
		struct v16mask seen =
			v16_lanes(max(lo, j) - j, min(hi - j, 16u));
		struct v16 e = v16_exp(v16_sub(v16_load(x + j), m));

		e = v16_select(seen, e, v16_zero());
		v16_store(x + j, e);
		sum = v16_add(sum, e);
	}
	w->s->sum[i] = v16_fold(sum);
}

/* o[m][d .. d + 16 nd) += sum over keys [lo, hi) of p_j v_j */
vec_inline void pv_keys(const int mr, const int nd, const float *p,
			const u8 *const *v, size_t off, u32 lo, u32 hi,
			float *o)
{
	struct v16 acc[TILE_ROWS][4];

#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
		for (int d = 0; d < nd; d++)
			acc[m][d] = v16_load(o + m * ATTN_MAX_DIM + 16 * d);
	for (u32 j = lo; j < hi; j++) {
		const u16 *row = (const u16 *)(const void *)(v[j] + off);
		struct v16 x[4];

#pragma GCC unroll 4
		for (int d = 0; d < nd; d++)
			x[d] = v16_load_bf16(row + 16 * d);
#pragma GCC unroll 6
		for (int m = 0; m < mr; m++) {
			struct v16 e = v16_set1(p[m * SEGMENT + j]);

#pragma GCC unroll 4
			for (int d = 0; d < nd; d++)
				acc[m][d] = v16_fma(e, x[d], acc[m][d]);
		}
	}
#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
#pragma GCC unroll 4
		for (int d = 0; d < nd; d++)
			v16_store(o + m * ATTN_MAX_DIM + 16 * d, acc[m][d]);
}

static void pv(struct attn_work *w, u32 i, u32 mr, u32 lo, u32 hi)
{
	for (u32 d = 0; d < w->dim; d += 16 * PV_VECS) {
		bool wide = d + 16 * PV_VECS <= w->dim;
		u32 end = wide ? d + 16 : w->dim;

		for (u32 e = d; e < end; e += 16) {
			const float *p = w->s->s[i];
			float *o = w->s->o[i] + e;
			size_t off = w->p->kv.v_off + 2 * e;
			const u8 *const *v = w->s->key;

#define PV(n)                                                      \
	case n:                                                    \
		if (wide)                                          \
			pv_keys(n, PV_VECS, p, v, off, lo, hi, o); \
		else                                               \
			pv_keys(n, 1, p, v, off, lo, hi, o);       \
		break
			switch (mr) {
				PV(1);
				PV(2);
				PV(3);
				PV(4);
#if TILE_ROWS > 4
				PV(5);
				PV(6);
#endif
			}
#undef PV
		}
	}
}

/* Rows i .. i + mr: the keys all of them see at once, the others apart. */
static void pv_rows(struct attn_work *w, u32 i, u32 mr)
{
	const u32 *lo = w->s->lo + i, *hi = w->s->hi + i;
	u32 from = lo[0], to = hi[0];

	for (u32 m = 0; m < mr; m++) {
		memset(w->s->o[i + m], 0, w->dim * sizeof(float));
		from = max(from, lo[m]);
		to = min(to, hi[m]);
	}
	if (from >= to) {
		for (u32 m = 0; m < mr; m++)
			pv(w, i + m, 1, lo[m], hi[m]);
		return;
	}
	for (u32 m = 0; m < mr; m++)
		if (lo[m] < from)
			pv(w, i + m, 1, lo[m], from);
	pv(w, i, mr, from, to);
	for (u32 m = 0; m < mr; m++)
		if (to < hi[m])
			pv(w, i + m, 1, to, hi[m]);
}

/* (max, sum, o) into the running state of a row. */
static void fold(float *run_max, float *run_sum, float *run_o, float max_,
		 float sum, const float *o, u32 dim)
{
	float m = max_ > *run_max ? max_ : *run_max;
	float a = ref_expf(*run_max - m), b = ref_expf(max_ - m);
	struct v16 av = v16_set1(a), bv = v16_set1(b);

	*run_max = m;
	*run_sum = fmaf(*run_sum, a, sum * b);
	for (u32 d = 0; d < dim; d += 16)
		v16_store(run_o + d, v16_fma(v16_load(run_o + d), av,
					     v16_mul(v16_load(o + d), bv)));
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

	for (u32 i = 0; i < w->rows; i++) {
		const struct kern_attn_row *row = row_of(w, i);
		bool seen = s->lo[i] < s->hi[i];
		float *rec;

		if (row->part == KERN_ATTN_WHOLE) {
			if (seen)
				fold(&s->run_max[i], &s->run_sum[i],
				     s->run_o[i], s->max[i], s->sum[i], s->o[i],
				     w->dim);
			continue;
		}
		rec = attn_part(w->p, w->plan, row, w->it->kv_head, seg,
				i % w->group);
		rec[0] = seen ? s->max[i] : -INFINITY;
		rec[1] = seen ? s->sum[i] : 0;
		if (seen)
			memcpy(rec + 2, s->o[i], w->dim * sizeof(float));
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
			find_rows(w, seg * SEGMENT, lo, hi);
			qk(w, seg * SEGMENT, lo, hi);
			for (u32 i = 0; i < w->rows; i++)
				if (s->lo[i] < s->hi[i])
					softmax_row(w, i);
			for (u32 i = 0; i < w->rows; i += TILE_ROWS)
				pv_rows(w, i, min(w->rows - i, (u32)TILE_ROWS));
		}
		finish_segment(w, seg);
	}
	for (u32 i = 0; i < w->rows; i++)
		if (row_of(w, i)->part == KERN_ATTN_WHOLE)
			write_out(w->p, token_of(w, i),
				  w->it->kv_head * w->group + i % w->group,
				  s->run_sum[i], s->run_o[i]);
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
		     const struct kern_attn_plan *plan, u32 lo, u32 hi,
		     void *scratch)
{
	for (u32 i = lo; i < hi; i++) {
		struct attn_work w = {
			.p = p,
			.plan = plan,
			.it = &plan->items[i],
			.seq = &p->seqs[plan->items[i].seq],
			.s = scratch,
			.group = p->nr_heads / p->kv.nr_kv_heads,
			.dim = p->kv.head_dim,
		};

		w.rows = w.it->nr_rows * w.group;
		w.keys_end = keys_end(&w);
		run_item(&w);
	}
}

static void merge_head(const struct kern_attn *p,
		       const struct kern_attn_plan *plan,
		       const struct kern_attn_row *row, u32 head)
{
	u32 group = p->nr_heads / p->kv.nr_kv_heads;
	float m = -INFINITY, sum = 0;
	float o[ATTN_MAX_DIM] = { 0 };

	for (u32 i = row->seg0; i < row->seg0 + row->nr_segs; i++) {
		const float *rec =
			attn_part(p, plan, row, head / group, i, head % group);

		if (rec[1] != 0)
			fold(&m, &sum, o, rec[0], rec[1], rec + 2,
			     p->kv.head_dim);
	}
	write_out(p, p->seqs[row->seq].row0 + row->row, head, sum, o);
}

static void attn_merge_run(const struct kern_attn *p,
			   const struct kern_attn_plan *plan, u32 lo, u32 hi)
{
	for (u32 i = lo; i < hi; i++)
		for (u32 h = 0; h < p->nr_heads; h++)
			merge_head(p, plan, &plan->rows[plan->merges[i]], h);
}

#endif
