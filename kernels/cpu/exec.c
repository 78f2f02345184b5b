/* SPDX-License-Identifier: MIT */
/*
 * exec.c - whole operations: share the rows, columns or items out
 *
 * An operation too small to be worth waking anybody runs on the caller. How
 * the work is cut never changes a bit of the result: every kernel computes an
 * element from its own inputs, in an order of its own.
 */
#include <errno.h>

#include "kernels/cpu/pool.h"
#include "kernels/include/kern.h"

#define ROWS_PER_ITEM_ELEMENTS 16384 /* elements of an item of rows */
#define GEMM_COLUMN_STEP       32u /* items begin at multiples of this */
#define GEMM_MAX_COLUMNS       512u
#define ITEMS_PER_THREAD       4u
#define COPY_ITEM	       8

/* A range of rows is cut into items of step rows. */
struct rows_job {
	const struct kern_ops *kern;
	const void *p;
	u32 t, step;
};

static void run_rows(struct kern_exec *x, pool_fn fn, const void *p, u32 t,
		     u64 row_elements)
{
	u64 step = ROWS_PER_ITEM_ELEMENTS / max(row_elements, (u64)1);
	struct rows_job job = {
		.kern = x->kern,
		.p = p,
		.t = t,
		.step = (u32)max(step, (u64)1),
	};

	if (t)
		pool_run(x->pool, fn, &job, DIV_ROUND_UP(t, job.step));
}

#define ROWS_FN(op)                                               \
	static void op##_item(void *arg, u32 item, void *scratch) \
	{                                                         \
		const struct rows_job *j = arg;                   \
		u32 lo = item * j->step;                          \
                                                                  \
		j->kern->op(j->p, lo, min(lo + j->step, j->t));   \
	}

ROWS_FN(dequant)
ROWS_FN(embed)
ROWS_FN(round)
ROWS_FN(add)
ROWS_FN(softcap)
ROWS_FN(rope_table)
ROWS_FN(rope)
ROWS_FN(logits)
ROWS_FN(copy)

static void exec_dequant(struct kern_exec *x, const struct kern_dequant *p,
			 u32 t)
{
	run_rows(x, dequant_item, p, t, p->w.cols);
}

static void exec_embed(struct kern_exec *x, const struct kern_embed *p, u32 t)
{
	run_rows(x, embed_item, p, t, p->w.cols);
}

struct norms {
	const struct kern_rmsnorm *p;
	u32 nr;
};

static void rmsnorm_item(void *arg, u32 item, void *scratch)
{
	const struct rows_job *j = arg;
	const struct norms *l = j->p;
	u32 lo = item * j->step, hi = min(lo + j->step, j->t);

	for (u32 r = lo; r < hi; r++)
		for (u32 i = 0; i < l->nr; i++)
			j->kern->rmsnorm(&l->p[i], r, r + 1);
}

static void exec_rmsnorm(struct kern_exec *x, const struct kern_rmsnorm *p,
			 u32 nr, u32 t)
{
	const struct norms l = { p, nr };
	u64 elements = 0;

	for (u32 i = 0; i < nr; i++)
		elements += (u64)p[i].heads * p[i].len;
	run_rows(x, rmsnorm_item, &l, t, elements);
}

static void exec_round(struct kern_exec *x, const struct kern_round *p, u32 t)
{
	run_rows(x, round_item, p, t, p->len);
}

static void exec_add(struct kern_exec *x, const struct kern_add *p, u32 t)
{
	run_rows(x, add_item, p, t, p->len);
}

static void exec_softcap(struct kern_exec *x, const struct kern_softcap *p,
			 u32 t)
{
	run_rows(x, softcap_item, p, t, p->len);
}

static void exec_rope_table(struct kern_exec *x,
			    const struct kern_rope_table *p, u32 t)
{
	/* A sine and a cosine cost as much as some 32 plain elements. */
	run_rows(x, rope_table_item, p, t, 32 * (u64)p->rot);
}

static void exec_rope(struct kern_exec *x, const struct kern_rope *p, u32 t)
{
	run_rows(x, rope_item, p, t,
		 (u64)(p->nr_heads + 2 * p->kv.nr_kv_heads) * p->kv.head_dim);
}

static void exec_logits(struct kern_exec *x, const struct kern_logits *p,
			u32 rows)
{
	run_rows(x, logits_item, p, rows, p->len);
}

static void exec_copy(struct kern_exec *x, const struct kern_copy *list, u32 nr)
{
	run_rows(x, copy_item, list, nr, ROWS_PER_ITEM_ELEMENTS / COPY_ITEM);
}

/* ---- products: items are runs of columns of one after the other ---- */

#define GEMM_BATCH 8 /* products that one job holds */
/*
 * Rows that are packed at a time: memory for them is bounded, and a pass reads
 * all weights once.
 */
#define GEMM_PASS 512u

struct gemm_job {
	const struct kern_ops *kern;
	const struct kern_gemm *p;
	u32 nr;
	u32 step[GEMM_BATCH]; /* columns of an item */
	u32 first[GEMM_BATCH + 1]; /* first item of each */
};

static void gemm_item(void *arg, u32 item, void *scratch)
{
	const struct gemm_job *j = arg;
	u32 i = 0, lo;

	while (item >= j->first[i + 1])
		i++;
	lo = (item - j->first[i]) * j->step[i];
	j->kern->gemm(&j->p[i], lo, min(lo + j->step[i], j->p[i].w.rows),
		      scratch);
}

static u32 gemm_step(const struct kern_gemm *p, u32 nr_threads)
{
	u32 step = p->w.rows / (nr_threads * ITEMS_PER_THREAD);

	step = ALIGN_UP(step, GEMM_COLUMN_STEP);
	return max(min(step, GEMM_MAX_COLUMNS), GEMM_COLUMN_STEP);
}

static void gemm_run(struct kern_exec *x, const struct kern_gemm *p, u32 nr)
{
	struct gemm_job j = { .kern = x->kern, .p = p, .nr = nr };

	for (u32 i = 0; i < nr; i++) {
		j.step[i] = gemm_step(&p[i], pool_nr_threads(x->pool));
		j.first[i + 1] = j.first[i];
		if (p[i].m)
			j.first[i + 1] += DIV_ROUND_UP(p[i].w.rows, j.step[i]);
	}
	if (j.first[nr])
		pool_run(x->pool, gemm_item, &j, j.first[nr]);
}

struct pack_job {
	const struct kern_ops *kern;
	const struct kern_gemm *p;
	void *to;
};

static void pack_item(void *arg, u32 item, void *scratch)
{
	const struct pack_job *j = arg;

	j->kern->gemm_pack(j->p, j->to, item, item + 1);
}

/* The order that gemm_pack() gives x may depend on how w lies. */
static bool same_x(const struct kern_gemm *a, const struct kern_gemm *b)
{
	return a->x == b->x && a->x_stride == b->x_stride && a->m == b->m &&
	       a->w.cols == b->w.cols && a->w.layout == b->w.layout;
}

/*
 * What rows one x has is packed once for all the products with it, and once for
 * all their columns. Without memory for that they are slower.
 */
static void gemm_pack(struct kern_exec *x, struct kern_gemm *p, u32 nr)
{
	u64 bytes = 0, at = 0;
	u8 *to;

	for (u32 i = 0; i < nr; i++)
		if (!i || !same_x(&p[i], &p[i - 1]))
			bytes += kern_packed_bytes(p[i].m, p[i].w.cols);
	to = pool_shared(x->pool, bytes);
	for (u32 i = 0; to && i < nr; i++) {
		struct pack_job j = { x->kern, &p[i], to + at };

		if (p[i].m <= KERN_PACK_ROWS)
			continue;
		if (i && same_x(&p[i], &p[i - 1])) {
			p[i].packed = p[i - 1].packed;
			continue;
		}
		p[i].packed = j.to;
		at += kern_packed_bytes(p[i].m, p[i].w.cols);
		pool_run(x->pool, pack_item, &j,
			 DIV_ROUND_UP(p[i].m, KERN_PACK_ROWS));
	}
}

/* Rows of a pass: as many in each, so that none is left with a few. */
static u32 pass_rows(u32 m)
{
	u32 passes = max(DIV_ROUND_UP(m, GEMM_PASS), 1u);

	return ALIGN_UP(DIV_ROUND_UP(m, passes), KERN_PACK_ROWS);
}

/* Rows m .. m + rows of each. */
static void gemm_pass(struct kern_exec *x, const struct kern_gemm *p, u32 nr,
		      u32 m, u32 rows)
{
	struct kern_gemm part[GEMM_BATCH];

	for (u32 i = 0; i < nr; i++) {
		size_t y = (size_t)m * p[i].y_stride;

		part[i] = p[i];
		part[i].m = 0;
		if (p[i].m <= m)
			continue;
		part[i].m = min(p[i].m - m, rows);
		part[i].x += (size_t)m * p[i].x_stride;
		part[i].y += y;
		if (p[i].residual)
			part[i].residual += y;
	}
	gemm_pack(x, part, nr);
	gemm_run(x, part, nr);
}

static void exec_gemm(struct kern_exec *x, const struct kern_gemm *p, u32 nr)
{
	for (u32 n; nr; p += n, nr -= n) {
		u32 most = 0, rows;

		n = min(nr, (u32)GEMM_BATCH);
		for (u32 i = 0; i < n; i++)
			most = max(most, p[i].m);
		if (!x->kern->gemm_pack || most <= KERN_PACK_ROWS) {
			gemm_run(x, p, n);
			continue;
		}
		rows = pass_rows(most);
		for (u32 m = 0; m < most; m += rows)
			gemm_pass(x, p, n, m, rows);
	}
}

/*
 * ---- gated products: an item makes both sums of its columns, and is the only
 * one to see them. They lie behind a thread's scratch ----
 */

#define GATED_COLUMNS 256u /* of an item, at most */

_Static_assert(2 * GEMM_PASS * GATED_COLUMNS * sizeof(float) <=
		       POOL_SCRATCH_BYTES - KERN_SCRATCH_BYTES,
	       "a thread has memory for its sums");

struct gated_job {
	const struct kern_ops *kern;
	struct kern_gemm_gated p;
	u32 step;
};

/* Columns lo .. hi of x w to @sums, GATED_COLUMNS a row. */
static void gated_sums(const struct gated_job *j, const struct kern_mat *w,
		       u32 lo, u32 hi, float *sums, void *scratch)
{
	const struct kern_gemm g = {
		.w = *w,
		.x = j->p.x,
		/* column lo is the first */
		.y = (float *)((uintptr_t)sums - lo * sizeof(*sums)),
		.m = j->p.m,
		.x_stride = j->p.x_stride,
		.y_stride = GATED_COLUMNS,
		.packed = j->p.packed,
	};

	j->kern->gemm(&g, lo, hi, scratch);
}

static void gated_item(void *arg, u32 item, void *scratch)
{
	const struct gated_job *j = arg;
	const struct kern_gemm_gated *p = &j->p;
	u32 lo = item * j->step, hi = min(lo + j->step, p->gate.rows);
	float *gate = (float *)(void *)((u8 *)scratch + KERN_SCRATCH_BYTES);
	float *up = gate + GEMM_PASS * GATED_COLUMNS;
	const struct kern_gated act = {
		.gate = gate,
		.up = up,
		.out = p->out + lo,
		.stride = GATED_COLUMNS,
		.out_stride = p->out_stride,
		.len = hi - lo,
		.act = p->act,
	};

	if (j->kern->gemm_gated && p->m > KERN_GATED_ROWS &&
	    p->gate.layout == p->up.layout) {
		j->kern->gemm_gated(p, lo, hi, scratch);
		return;
	}
	gated_sums(j, &p->gate, lo, hi, gate, scratch);
	gated_sums(j, &p->up, lo, hi, up, scratch);
	j->kern->gated(&act, 0, p->m);
}

static void exec_gemm_gated(struct kern_exec *x,
			    const struct kern_gemm_gated *p)
{
	u32 rows = pass_rows(p->m);

	for (u32 m = 0; m < p->m; m += rows) {
		struct gated_job j = { .kern = x->kern, .p = *p };
		struct kern_gemm g = { .w = p->gate, .x_stride = p->x_stride };

		j.p.m = g.m = min(p->m - m, rows);
		j.p.x = g.x = p->x + (size_t)m * p->x_stride;
		j.p.out += (size_t)m * p->out_stride;
		if (x->kern->gemm_pack && p->gate.layout == p->up.layout)
			gemm_pack(x, &g, 1);
		j.p.packed = g.packed;
		j.step = min(gemm_step(&g, pool_nr_threads(x->pool)),
			     GATED_COLUMNS);
		pool_run(x->pool, gated_item, &j,
			 DIV_ROUND_UP(p->gate.rows, j.step));
	}
}

/* ---- attention: the items of the plan, then the merges ---- */

struct attn_job {
	const struct kern_ops *kern;
	const struct kern_attn *p;
	const struct kern_attn_plan *plan;
};

static void attn_item(void *arg, u32 item, void *scratch)
{
	const struct attn_job *j = arg;

	j->kern->attn(j->p, j->plan, item, item + 1, scratch);
}

static void attn_merge_item(void *arg, u32 item, void *scratch)
{
	const struct attn_job *j = arg;

	j->kern->attn_merge(j->p, j->plan, item, item + 1);
}

static void exec_attn(struct kern_exec *x, const struct kern_attn *p,
		      const struct kern_attn_plan *plan)
{
	struct attn_job j = { x->kern, p, plan };

	pool_run(x->pool, attn_item, &j, plan->nr_items);
	pool_run(x->pool, attn_merge_item, &j, plan->nr_merges);
}

static const struct kern_exec_ops exec_ops = {
	.dequant = exec_dequant,
	.embed = exec_embed,
	.rmsnorm = exec_rmsnorm,
	.round = exec_round,
	.add = exec_add,
	.softcap = exec_softcap,
	.gemm = exec_gemm,
	.gemm_gated = exec_gemm_gated,
	.rope_table = exec_rope_table,
	.rope = exec_rope,
	.attn = exec_attn,
	.logits = exec_logits,
	.copy = exec_copy,
};

int kern_exec_init(struct kern_exec *x, const char *isa, u32 nr_threads)
{
	const struct kern_ops *kern = kern_select(isa);
	struct pool *pool;
	int err;

	if (!kern)
		return -EINVAL;
	err = pool_create(nr_threads, &pool);
	if (err)
		return err;
	kern_thread_init();
	*x = (struct kern_exec){ &exec_ops, kern, pool };
	return 0;
}

void kern_exec_fini(struct kern_exec *x)
{
	pool_destroy(x->pool);
	*x = (struct kern_exec){ 0 };
}
