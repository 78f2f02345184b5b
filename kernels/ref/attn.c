/* SPDX-License-Identifier: MIT */
/*
 * attn.c - paged attention, one query row at a time
 *
 * Keys are taken in segments of KERN_ATTN_SEGMENT positions, counted from
 * position 0. Inside a segment, over the keys the row sees:
 *
 *	s_j = scale * (q . k_j)		the sum in gemm.c's order
 *	m   = max s_j
 *	p_j = exp(s_j - m)
 *	l   = sum p_j			16 partial sums by j mod 16, folded
 *	o   = sum p_j v_j		one chain of FMAs by rising j
 *
 * and segments are folded into the running state (M, L, O), empty at first,
 * by rising position: M' = max(M, m), L' = L e^(M-M') + l e^(m-M'), the same
 * for O. A segment of which the row sees no key is left out. The result is
 * O * (1 / L), and 0 for a row that sees nothing. So neither chunking, nor
 * the rows beside, nor who computes which segment changes a bit.
 *
 * Attention in bf16 is another definition, in the order of a tile instruction
 * that multiplies bf16 by bf16. It differs inside a segment, where bf() rounds
 * to bf16:
 *
 *	s_j = scale * (bf(q) . k_j + bf(q - bf(q)) . k_j)
 *					32 dimensions of both after another
 *	p_j = bf(exp(s_j - m))		l is the sum of these
 *	o   = for each 32 keys in turn, counted from position 0:
 *	      o + (E + O), chains of FMAs from 0 over the even and odd keys
 *
 * of which the row sees any. A tile multiplies keys that a row does not see by
 * 0. That can change the sign of a zero, so zeros of o are made positive.
 *
 * Shared by all rows of the table: attn_row_hi() etc. in cpu/attn_plan.h.
 */
#include "kernels/cpu/attn_plan.h"
#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"

#define SEGMENT KERN_ATTN_SEGMENT
#define BLOCK	32u

static float round_bf16(float f)
{
	return kern_bf16_to_f32(kern_f32_to_bf16(f));
}

/* q in two parts of bf16, or as it is. */
static float score(const struct kern_attn *p, const float *q, bool parts,
		   const u16 *k)
{
	float c = 0;

	for (u32 d0 = 0; d0 < p->kv.head_dim; d0 += 32) {
		u32 nr = min(p->kv.head_dim - d0, 32u);
		float sum[2] = { 0, 0 }, low[2] = { 0, 0 };

		for (u32 d = d0; d < d0 + nr; d++) {
			float high = parts ? round_bf16(q[d]) : q[d];
			float key = kern_bf16_to_f32(k[d]);

			sum[d & 1] = fmaf(high, key, sum[d & 1]);
			if (parts)
				low[d & 1] = fmaf(round_bf16(q[d] - high), key,
						  low[d & 1]);
		}
		c += sum[0] + sum[1];
		if (parts)
			c += low[0] + low[1];
	}
	c *= p->scale;
	return p->softcap > 0 ? p->softcap * ref_tanhf(c / p->softcap) : c;
}

static const u16 *key_row(const struct kern_attn *p,
			  const struct kern_attn_seq *s, u32 head, u32 pos,
			  u64 off)
{
	return (const u16 *)(const void *)(p->kv.base + p->kv.layer_off +
					   kern_kv_row(&p->kv, s->table, pos) +
					   head * p->kv.head_stride + off);
}

/* Of the keys [lo, hi); the largest. */
static float scores(const struct kern_attn *p, const struct kern_attn_seq *s,
		    u32 kv_head, const float *q, bool parts, u32 lo, u32 hi,
		    float *x)
{
	float most = -INFINITY;

	for (u32 j = lo; j < hi; j++) {
		float v = score(p, q, parts,
				key_row(p, s, kv_head, j, p->kv.k_off));

		x[j - lo] = v;
		most = v > most ? v : most;
	}
	return most;
}

/* The state of keys [lo, hi) of one segment; not empty. */
typedef void fold_segment_fn(const struct kern_attn *p,
			     const struct kern_attn_seq *s, u32 kv_head,
			     const float *q, u32 lo, u32 hi,
			     struct attn_state *out);

static void fold_segment(const struct kern_attn *p,
			 const struct kern_attn_seq *s, u32 kv_head,
			 const float *q, u32 lo, u32 hi, struct attn_state *out)
{
	float x[SEGMENT], lane[16] = { 0 };
	u32 dim = p->kv.head_dim;

	out->max = scores(p, s, kv_head, q, false, lo, hi, x);
	memset(out->o, 0, dim * sizeof(*out->o));
	for (u32 j = lo; j < hi; j++) {
		const u16 *v = key_row(p, s, kv_head, j, p->kv.v_off);
		float e = ref_expf(x[j - lo] - out->max);

		lane[j % 16] += e;
		for (u32 d = 0; d < dim; d++)
			out->o[d] = fmaf(e, kern_bf16_to_f32(v[d]), out->o[d]);
	}
	out->sum = ref_fold16(lane);
}

static void fold_segment_bf16(const struct kern_attn *p,
			      const struct kern_attn_seq *s, u32 kv_head,
			      const float *q, u32 lo, u32 hi,
			      struct attn_state *out)
{
	float x[SEGMENT], lane[16] = { 0 };
	u32 dim = p->kv.head_dim;

	out->max = scores(p, s, kv_head, q, true, lo, hi, x);
	memset(out->o, 0, dim * sizeof(*out->o));
	for (u32 b = lo / BLOCK * BLOCK; b < hi; b += BLOCK) {
		float sum[2][ATTN_MAX_DIM] = { 0 };

		for (u32 j = max(b, lo); j < min(b + BLOCK, hi); j++) {
			const u16 *v = key_row(p, s, kv_head, j, p->kv.v_off);
			float e = round_bf16(ref_expf(x[j - lo] - out->max));

			lane[j % 16] += e;
			for (u32 d = 0; d < dim; d++)
				sum[j & 1][d] = fmaf(e, kern_bf16_to_f32(v[d]),
						     sum[j & 1][d]);
		}
		for (u32 d = 0; d < dim; d++)
			out->o[d] += sum[0][d] + sum[1][d];
	}
	for (u32 d = 0; d < dim; d++)
		out->o[d] += 0.0f;
	out->sum = ref_fold16(lane);
}

static void merge(struct attn_state *to, const struct attn_state *s, u32 dim)
{
	float m = s->max > to->max ? s->max : to->max;
	float a = ref_expf(to->max - m), b = ref_expf(s->max - m);

	to->max = m;
	to->sum = fmaf(to->sum, a, s->sum * b);
	for (u32 d = 0; d < dim; d++)
		to->o[d] = fmaf(to->o[d], a, s->o[d] * b);
}

static void write_out(const struct kern_attn *p, size_t row, u32 head,
		      const struct attn_state *s)
{
	size_t at = (row * p->nr_heads + head) * p->kv.head_dim;
	float inv = s->sum == 0 ? 0 : 1.0f / s->sum;

	for (u32 d = 0; d < p->kv.head_dim; d++) {
		float y = s->o[d] * inv;

		if (p->f32)
			p->f32[at + d] = y;
		if (p->bf16)
			p->bf16[at + d] = kern_f32_to_bf16(y);
	}
}

static void attn_row(const struct kern_attn *p,
		     const struct kern_attn_plan *plan,
		     const struct kern_attn_item *it,
		     const struct kern_attn_row *row, u32 g,
		     fold_segment_fn *fold)
{
	const struct kern_attn_seq *s = &p->seqs[row->seq];
	u32 r = row->row;
	u32 group = p->nr_heads / p->kv.nr_kv_heads;
	u32 head = it->kv_head * group + g, dim = p->kv.head_dim;
	const float *q =
		p->q + (size_t)(s->row0 + r) * p->q_stride + (size_t)head * dim;
	struct attn_state run = { .max = -INFINITY }, seg;

	for (u32 i = it->seg0; i < it->seg1; i++) {
		u32 lo = max(attn_row_lo(s, r), i * SEGMENT);
		u32 hi = min(attn_row_hi(s, r), (i + 1) * SEGMENT);

		seg.max = -INFINITY;
		if (lo < hi)
			fold(p, &p->seqs[it->seq], it->kv_head, q, lo, hi,
			     &seg);
		if (row->part != KERN_ATTN_WHOLE) {
			float *rec = attn_part(p, plan, row, it->kv_head, i, g);

			rec[0] = seg.max;
			rec[1] = lo < hi ? seg.sum : 0;
			if (lo < hi)
				memcpy(rec + 2, seg.o, dim * sizeof(float));
		} else if (lo < hi) {
			merge(&run, &seg, dim);
		}
	}
	if (row->part == KERN_ATTN_WHOLE)
		write_out(p, s->row0 + r, head, &run);
}

static void attn_items(const struct kern_attn *p,
		       const struct kern_attn_plan *plan, u32 lo, u32 hi,
		       fold_segment_fn *fold)
{
	u32 group = p->nr_heads / p->kv.nr_kv_heads;

	for (u32 i = lo; i < hi; i++) {
		const struct kern_attn_item *it = &plan->items[i];

		for (u32 r = it->row; r < it->row + it->nr_rows; r++)
			for (u32 g = 0; g < group; g++)
				attn_row(p, plan, it, &plan->rows[r], g, fold);
	}
}

void ref_attn(const struct kern_attn *p, const struct kern_attn_plan *plan,
	      u32 lo, u32 hi, void *scratch)
{
	attn_items(p, plan, lo, hi, fold_segment);
}

void ref_attn_bf16(const struct kern_attn *p, const struct kern_attn_plan *plan,
		   u32 lo, u32 hi, void *scratch)
{
	attn_items(p, plan, lo, hi, fold_segment_bf16);
}

static void merge_head(const struct kern_attn *p,
		       const struct kern_attn_plan *plan,
		       const struct kern_attn_row *row, u32 head)
{
	u32 group = p->nr_heads / p->kv.nr_kv_heads;
	struct attn_state run = { .max = -INFINITY }, seg;

	for (u32 i = row->seg0; i < row->seg0 + row->nr_segs; i++) {
		const float *rec =
			attn_part(p, plan, row, head / group, i, head % group);

		if (rec[1] == 0)
			continue;
		seg.max = rec[0];
		seg.sum = rec[1];
		memcpy(seg.o, rec + 2, p->kv.head_dim * sizeof(float));
		merge(&run, &seg, p->kv.head_dim);
	}
	write_out(p, p->seqs[row->seq].row0 + row->row, head, &run);
}

void ref_attn_merge(const struct kern_attn *p,
		    const struct kern_attn_plan *plan, u32 lo, u32 hi)
{
	for (u32 i = lo; i < hi; i++) {
		u32 row = plan->merges[i / p->nr_heads];

		merge_head(p, plan, &plan->rows[row], i % p->nr_heads);
	}
}
