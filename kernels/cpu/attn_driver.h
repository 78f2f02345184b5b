/* SPDX-License-Identifier: MIT */
#ifndef CPU_ATTN_DRIVER_H
#define CPU_ATTN_DRIVER_H
/*
 * attn_driver.h - attention on the panels and tiles of the product
 *
 * Included after panel_x.h of one instruction set. The steps of an item that
 * attn_item.h leaves open, for both definitions of attention:
 *
 *	load_q		fp32, or in two parts of bf16; padded with zeros to 32
 *			dimensions
 *	qk		32 keys to a panel, the tile for each 6 rows
 *	softmax		per row: scale, max, exp, sum over the keys it sees
 *	pv		6 rows x 64 dimensions in registers, keys in order
 *
 * AVX2 has another qk for fp32 and up to 6 rows: attn_few.h.
 *
 * Rows of a block see different keys at the causal and the window's edge:
 * where they see the same of a few keys pv runs them together, else row by
 * row, so a row multiplies only what it sees and adds in ref's order.
 *
 * Pages follow each other in no order that hardware could guess. So a decode
 * fetches what it is about to read, a row or a line for each key that it
 * computes with: many at a time would wait for each other. A block of a prompt
 * does not.
 */
#include "kernels/cpu/attn_item.h"
#include "kernels/cpu/tile.h"

struct attn_own {
	float q[ATTN_MAX_ROWS][ATTN_MAX_DIM];
	float low[ATTN_MAX_ROWS][ATTN_MAX_DIM]; /* in bf16: the rest of q */
	float s[ATTN_MAX_ROWS][SEGMENT]; /* scores, then weights */
	u32 panel[ATTN_MAX_DIM / 2 * PANEL_COLS];
	u16 gather[16][ATTN_MAX_DIM];
} __attribute__((aligned(64)));

/*
 * How far ahead K is fetched. Rows of K and V lie side by side, so rows of
 * one of them are in half of the sets of L1: with heads of 256 it has room for
 * 32. V goes by PV_KEYS, with as many on their way.
 */
#define K_AHEAD 16u

/* A row of K or V, towards L1. */
vec_inline void fetch_row(const u8 *row, u32 bytes)
{
#pragma GCC unroll 8
	for (u32 i = 0; i < bytes; i += 64)
		__builtin_prefetch(row + i, 0, 3);
}

/* While scores of key j are computed: K, and behind the last of [lo, hi) V. */
vec_inline void fetch_beside_k(const struct attn_work *w, u32 dim, u32 j,
			       u32 lo, u32 hi)
{
	u32 ahead = j + K_AHEAD;
	u64 off = w->p->kv.k_off;

	if (!w->fetch || ahead < lo)
		return;
	if (ahead >= hi) {
		ahead = ahead - hi + lo;
		off = w->p->kv.v_off;
	}
	if (ahead < hi)
		fetch_row(w->s->key[ahead] + off, 2 * dim);
}

#include "kernels/cpu/attn_few.h"
#include "kernels/cpu/attn_pv.h"

_Static_assert(NEXT_KEYS == PV_KEYS, "what is fetched beside the last V");
_Static_assert(sizeof(struct attn_scratch) + sizeof(struct attn_own) <=
		       KERN_SCRATCH_BYTES,
	       "a thread's scratch holds them");

static void load_q(struct attn_work *w)
{
	u32 padded = ALIGN_UP(w->dim, 32u);

	w->few = !is_bf16(w) && w->rows <= TILE_ROWS ? few_blocks(w->dim) : 0;
	for (u32 i = 0; w->few && i < w->rows; i++)
		few_load_q(query_of(w, i), w->few, w->own->q[i]);
	if (w->few)
		return;
	for (u32 i = 0; i < w->rows; i++) {
		const float *q = query_of(w, i);
		float *to = w->own->q[i], *low = w->own->low[i];

		for (u32 d = 0; d < w->dim; d += 16) {
			struct v16 x = v16_load(q + d);
			struct v16 high = is_bf16(w) ? v16_round_bf16(x) : x;

			v16_store(to + d, high);
			if (is_bf16(w))
				v16_store(low + d,
					  v16_round_bf16(v16_sub(x, high)));
		}
		memset(to + w->dim, 0, (padded - w->dim) * sizeof(*to));
		memset(low + w->dim, 0, (padded - w->dim) * sizeof(*low));
	}
}

/* Keys j .. j + 31 side by side; those outside [lo, hi) as zeros. */
static void fill_keys(struct attn_work *w, u32 j, u32 lo, u32 hi)
{
	u32 pairs = ALIGN_UP(w->dim, 32u) / 2;

	for (u32 half = 0; half < PANEL_COLS; half += 16) {
		for (u32 i = 0; i < 16; i++) {
			u32 key = j + half + i;
			u16 *to = w->own->gather[i];

			fetch_beside_k(w, w->dim, key, lo, hi);
			if (key >= lo && key < hi)
				memcpy(to, w->s->key[key] + w->p->kv.k_off,
				       w->dim * sizeof(*to));
			else
				memset(to, 0, w->dim * sizeof(*to));
			memset(to + w->dim, 0,
			       (2 * pairs - w->dim) * sizeof(*to));
		}
		for (u32 d = 0; d < pairs; d += 16)
			transpose16(
				(const u32 *)(const void *)w->own->gather[0] +
					d,
				ATTN_MAX_DIM / 2,
				w->own->panel + d * PANEL_COLS + half,
				PANEL_COLS);
	}
}

/* Scores of mr rows from i on, of the keys from j on. */
static void qk_tile(struct attn_work *w, u32 i, u32 mr, u32 j)
{
	struct attn_own *s = w->own;
	u32 blocks = DIV_ROUND_UP(w->dim, 32u);
	float *c = s->s[i] + j;

	if (!is_bf16(w)) {
		tile(mr, s->q[i], ATTN_MAX_DIM, s->panel, blocks, c, SEGMENT);
		return;
	}
	for (u32 b = 0; b < blocks; b++) {
		const u32 *panel = s->panel + b * 16 * PANEL_COLS;

		tile(mr, s->q[i] + 32 * b, ATTN_MAX_DIM, panel, 1, c, SEGMENT);
		tile(mr, s->low[i] + 32 * b, ATTN_MAX_DIM, panel, 1, c,
		     SEGMENT);
	}
}

/* Keys that none is so far ahead of; some of them came beside V. */
static void fetch_first(const struct attn_work *w, u32 lo, u32 hi)
{
	for (u32 j = lo; w->fetch && j < min(lo + K_AHEAD, hi); j++)
		fetch_row(w->s->key[j] + w->p->kv.k_off, 2 * w->dim);
}

static void qk(struct attn_work *w, u32 lo, u32 hi)
{
	struct attn_own *s = w->own;

	fetch_first(w, lo, hi);
	if (w->few) {
		few_qk(w, w->few, w->rows, s->q[0], s->s[0], lo, hi);
		return;
	}
	for (u32 j = lo / PANEL_COLS * PANEL_COLS; j < hi; j += PANEL_COLS) {
		fill_keys(w, j, lo, hi);
		for (u32 i = 0; i < w->rows; i++)
			memset(s->s[i] + j, 0, PANEL_COLS * sizeof(float));
		for (u32 i = 0; i < w->rows; i += TILE_ROWS)
			qk_tile(w, i, min(w->rows - i, (u32)TILE_ROWS), j);
	}
}

/*
 * Scores of one row to weights; the keys that it does not see get 0. Weights
 * in bf16 are rounded before they are summed up.
 */
static void softmax_row(struct attn_work *w, u32 i)
{
	u32 lo = w->s->lo[i], hi = w->s->hi[i], from = lo / 16 * 16;
	struct v16 scale = v16_set1(w->p->scale), cap, m, sum = v16_zero();
	const struct v16 none = v16_set1(-INFINITY);
	float *x = w->own->s[i];

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
		if (is_bf16(w))
			e = v16_round_bf16(e);
		v16_store(x + j, e);
		sum = v16_add(sum, e);
	}
	w->s->sum[i] = v16_fold(sum);
}

/*
 * What lies PV_KEYS behind each of the nr keys at b: V, or at the segment's end
 * K of the next. ~0: neither, or it is not known of all of them.
 */
static u64 fetch_behind(const struct attn_work *w, u32 b, u32 nr, u32 hi)
{
	u32 end = b + nr + PV_KEYS;

	if (!w->fetch)
		return ~0ull;
	if (end <= hi)
		return w->p->kv.v_off;
	if (nr == PV_KEYS && b + nr >= hi && end <= w->known)
		return w->p->kv.k_off;
	return ~0ull;
}

/* Rows i .. i + mr, keys [lo, hi) of one block. */
static void pv(struct attn_work *w, u32 i, u32 mr, u32 lo, u32 hi, u64 ahead)
{
	const u8 *const *v = w->s->key;
	const float *p = w->own->s[i];
	bool blocks = is_bf16(w);

	for (u32 d = 0; d < w->dim; d += 16 * PV_VECS) {
		bool wide = d + 16 * PV_VECS <= w->dim;
		u32 end = wide ? d + 16 : w->dim;

		for (u32 e = d; e < end; e += 16) {
			float *o = w->s->o[i] + e;
			size_t off = w->p->kv.v_off + 2 * e;
			u64 fetch = ahead + 2 * e;
			const u64 *next = ahead != ~0ull && e % 32 == 0 ? &fetch
									: NULL;

#define PV_ANY(n, nd)                                         \
	if (blocks)                                           \
		pv_block(n, nd, p, v, off, lo, hi, o, next);  \
	else if (next)                                        \
		pv_keys(n, nd, p, v, off, lo, hi, o, &fetch); \
	else                                                  \
		pv_keys(n, nd, p, v, off, lo, hi, o, NULL)
#define PV(n)                               \
	case n:                             \
		if (wide) {                 \
			PV_ANY(n, PV_VECS); \
		} else {                    \
			PV_ANY(n, 1);       \
		}                           \
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
#undef PV_ANY
		}
	}
}

/* The nr keys at b: at once if all rows see the same of them. */
static void pv_rows(struct attn_work *w, u32 i, u32 mr, u32 b, u32 nr,
		    u64 ahead)
{
	u32 from[TILE_ROWS], to[TILE_ROWS];
	bool same = true;

	for (u32 m = 0; m < mr; m++) {
		from[m] = max(w->s->lo[i + m], b);
		to[m] = min(w->s->hi[i + m], b + nr);
		same = same && from[m] == from[0] && to[m] == to[0];
	}
	if (same && from[0] < to[0]) {
		pv(w, i, mr, from[0], to[0], ahead);
		return;
	}
	for (u32 m = 0; m < mr; m++)
		if (from[m] < to[m])
			pv(w, i + m, 1, from[m], to[m], ~0ull);
}

static void attend(struct attn_work *w, u32 first, u32 lo, u32 hi)
{
	struct attn_scratch *s = w->s;
	u32 nr;

	qk(w, lo, hi);
	for (u32 i = 0; i < w->rows; i++) {
		if (s->lo[i] < s->hi[i])
			softmax_row(w, i);
		memset(s->o[i], 0, w->dim * sizeof(float));
	}
	/* with many rows a key's V is long at hand, and L1 has o besides */
	nr = is_bf16(w) || w->rows > TILE_ROWS ? PV_BLOCK : PV_KEYS;
	for (u32 b = lo / nr * nr; b < hi; b += nr)
		for (u32 i = 0; i < w->rows; i += TILE_ROWS)
			pv_rows(w, i, min(w->rows - i, (u32)TILE_ROWS), b, nr,
				i ? ~0ull : fetch_behind(w, b, nr, hi));
	for (u32 i = 0; i < w->rows; i++)
		pv_unsplit(s->o[i], w->dim);
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
			     v16_set1(-0.0f), p->kv.head_dim);
	}
	write_out(p, p->seqs[row->seq].row0 + row->row, head, sum, o);
}

static void attn_merge_run(const struct kern_attn *p,
			   const struct kern_attn_plan *plan, u32 lo, u32 hi)
{
	for (u32 i = lo; i < hi; i++) {
		u32 row = plan->merges[i / p->nr_heads];

		merge_head(p, plan, &plan->rows[row], i % p->nr_heads);
	}
}

#endif
