/* SPDX-License-Identifier: MIT */
/*
 * exec.c - whole operations: share the rows, columns or items out
 *
 * An operation too small to be worth waking anybody runs on the caller. How
 * the work is cut never changes a bit of the result: every kernel computes an
 * element from its own inputs, in an order of its own.
 */
#include <errno.h>
#include <float.h>
#include <math.h>

#include "kernels/cpu/pool.h"
#include "kernels/include/kern.h"

#define ROWS_PER_ITEM_ELEMENTS 16384 /* elements of an item of rows */
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
	/* Dear elements; but an item computes powers, whatever its rows. */
	run_rows(x, rope_table_item, p, t, 4 * (u64)p->rot);
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

/*
 * ---- products: items are runs of columns, of half the rows or of all ----
 *
 * Many rows are cut in two parts, whose weights are unpacked once for each, if
 * a part of x fits the cache of a thread. For that x is packed and read, and y
 * written and read, by the thread that has the same rows in the operations
 * before and after.
 */

#define GEMM_BATCH 8 /* products that one job holds */
/*
 * Rows that are packed at a time: memory for them is bounded, and a pass reads
 * all weights once for each part.
 */
#define GEMM_PASS      512u
#define GEMM_PARTS     2u
#define GEMM_PART_ROWS 192u /* of a part, at least */
#define GEMM_PART_X    (1u << 20) /* bytes, at most: half of a large L2 */
#define GEMM_UNIT      32u /* columns; items begin at multiples of it */
#define GEMM_ITEMS     4u /* of a thread, so that it can be helped */
#define GEMM_COLUMNS   512u /* of an item, at most */
#define PACKED_COLUMNS 256u /* likewise, of x that is packed */

/* How units are cut; columns of several products lie one behind the other. */
struct cut {
	u32 units; /* of all columns, or heads of all rows */
	u32 items; /* of each part */
};

/*
 * In proportion, so that items differ by a unit at most, and into as many for
 * each thread: a last item that is the larger part of a thread's work leaves
 * the others waiting, and nobody can help with what has begun.
 */
static struct cut cut_units(const struct kern_exec *x, u32 units, u32 parts,
			    u32 most)
{
	u32 threads = pool_nr_threads(x->pool);
	u32 items = min(units, threads * GEMM_ITEMS / parts);
	u32 each = threads % parts ? threads : threads / parts;

	items = max(items, DIV_ROUND_UP(units, most));
	return (struct cut){ units, min(ALIGN_UP(items, each), units) };
}

/* First unit of an item; of the one behind the last: units. */
static u32 first_unit(const struct cut *c, u32 item)
{
	return (u32)((u64)c->units * item / c->items);
}

static u32 nr_parts(const struct kern_exec *x, u32 rows, u32 k)
{
	u64 bytes = kern_packed_bytes(x->kern, rows, k);

	if (pool_nr_threads(x->pool) < GEMM_PARTS ||
	    rows < GEMM_PARTS * GEMM_PART_ROWS ||
	    bytes > GEMM_PARTS * GEMM_PART_X)
		return 1;
	return GEMM_PARTS;
}

/* First row of a part, of @rows; of the one behind the last: @rows. */
static u32 part_row(u32 part, u32 parts, u32 rows)
{
	return min(ALIGN_UP(rows * part / parts, KERN_PACK_ROWS), rows);
}

/* Rows m .. m + rows of it, as far as it has them. */
static struct kern_gemm gemm_rows(const struct kern_gemm *p, u32 m, u32 rows)
{
	struct kern_gemm g = *p;
	size_t y = (size_t)m * p->y_stride;

	g.m = 0;
	if (p->m <= m)
		return g;
	g.m = min(p->m - m, rows);
	g.x += (size_t)m * p->x_stride;
	if (g.y)
		g.y += y;
	if (g.residual)
		g.residual += y;
	if (g.best)
		g.best += m;
	if (g.keep)
		g.keep += m;
	return g;
}

/*
 * The best of a row, of all items: whoever has a better one puts it there. An
 * item begins a little below what there is, so that it finds an equal one as
 * well, which may be the first.
 */

/* By a number that is no denormal, since those count as 0. */
static struct kern_best just_below(const struct kern_best *best)
{
	struct kern_best b;

	__atomic_load(best, &b, __ATOMIC_RELAXED);
	b.max = fminf(b.max, FLT_MAX);
	b.max -= fmaxf(fabsf(b.max) * 0x1p-20f, FLT_MIN);
	return (struct kern_best){ b.max, 0 };
}

static bool is_better(struct kern_best a, struct kern_best than)
{
	return a.max > than.max || (a.max == than.max && a.id < than.id);
}

static void merge_best(struct kern_best *best, struct kern_best mine)
{
	struct kern_best was;

	__atomic_load(best, &was, __ATOMIC_RELAXED);
	while (is_better(mine, was) &&
	       !__atomic_compare_exchange(best, &was, &mine, false,
					  __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

/* What a thread has behind the scratch of its kernels. */
static void *own_memory(void *scratch)
{
	return (u8 *)scratch + KERN_SCRATCH_BYTES;
}

/* Columns lo .. hi. The best of them, if wanted, are the thread's at first. */
static void gemm_columns(const struct kern_ops *kern, const struct kern_gemm *p,
			 u32 lo, u32 hi, void *scratch)
{
	struct kern_gemm g;

	if (!p->best) {
		kern->gemm(p, lo, hi, scratch);
		return;
	}
	g = *p;
	g.best = own_memory(scratch);
	for (u32 m = 0; m < p->m; m++)
		g.best[m] = just_below(&p->best[m]);
	kern->gemm(&g, lo, hi, scratch);
	for (u32 m = 0; m < p->m; m++)
		merge_best(&p->best[m], g.best[m]);
}

_Static_assert(GEMM_PASS * sizeof(struct kern_best) <=
		       POOL_SCRATCH_BYTES - KERN_SCRATCH_BYTES,
	       "a thread has memory for the best of a pass");

struct gemm_job {
	const struct kern_ops *kern;
	u32 nr, parts;
	struct kern_gemm p[GEMM_PARTS * GEMM_BATCH]; /* [parts][nr] */
	u32 first[GEMM_BATCH + 1]; /* unit of each */
	struct cut cut;
};

static void gemm_item(void *arg, u32 item, void *scratch)
{
	const struct gemm_job *j = arg;
	const struct kern_gemm *p = &j->p[item / j->cut.items * j->nr];
	u32 lo = first_unit(&j->cut, item % j->cut.items);
	u32 hi = first_unit(&j->cut, item % j->cut.items + 1);

	for (u32 i = 0; i < j->nr; i++, p++) {
		u32 from = max(lo, j->first[i]), to = min(hi, j->first[i + 1]);

		if (from >= to || !p->m)
			continue;
		from = (from - j->first[i]) * GEMM_UNIT;
		to = (to - j->first[i]) * GEMM_UNIT;
		gemm_columns(j->kern, p, from, min(to, p->w.rows), scratch);
	}
}

/* What is to be packed: one of each product whose x is its own. */
struct pack_job {
	const struct kern_ops *kern;
	const struct kern_gemm *p[GEMM_PARTS * GEMM_BATCH];
	u8 *to[GEMM_PARTS * GEMM_BATCH];
	u32 first[GEMM_PARTS * GEMM_BATCH + 1]; /* item of each */
	u32 nr;
};

static void pack_item(void *arg, u32 item, void *scratch)
{
	const struct pack_job *j = arg;
	u32 i = 0;

	while (item >= j->first[i + 1])
		i++;
	item -= j->first[i];
	j->kern->gemm_pack(j->p[i], j->to[i], item, item + 1);
}

/* The order that gemm_pack() gives x may depend on how w lies. */
static bool same_x(const struct kern_gemm *a, const struct kern_gemm *b)
{
	return a->x == b->x && a->x_stride == b->x_stride && a->m == b->m &&
	       a->w.cols == b->w.cols && a->w.layout == b->w.layout;
}

/* Is x packed for so many rows? */
static bool packs(const struct kern_exec *x, u32 rows)
{
	return x->kern->gemm_pack && rows > x->kern->pack_rows;
}

/*
 * p: [parts][nr]. What rows one x has is packed once for all the products of
 * the part with it, and once for all their columns. Without memory for that
 * they are slower.
 */
static void gemm_pack(struct kern_exec *x, struct kern_gemm *p, u32 nr,
		      u32 parts)
{
	struct pack_job j = { .kern = x->kern };
	u64 bytes = 0;
	u8 *to;

	for (u32 i = 0; i < parts * nr; i++)
		if (i % nr == 0 || !same_x(&p[i], &p[i - 1]))
			bytes +=
				kern_packed_bytes(x->kern, p[i].m, p[i].w.cols);
	to = pool_shared(x->pool, bytes);
	for (u32 i = 0; to && i < parts * nr; i++) {
		if (!packs(x, p[i].m))
			continue;
		if (i % nr && same_x(&p[i], &p[i - 1])) {
			p[i].packed = p[i - 1].packed;
			continue;
		}
		p[i].packed = j.to[j.nr] = to;
		to += kern_packed_bytes(x->kern, p[i].m, p[i].w.cols);
		j.p[j.nr] = &p[i];
		j.first[j.nr + 1] =
			j.first[j.nr] + DIV_ROUND_UP(p[i].m, KERN_PACK_ROWS);
		j.nr++;
	}
	pool_run(x->pool, pack_item, &j, j.first[j.nr]);
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
	struct gemm_job j = { .kern = x->kern, .nr = nr };
	bool pack = packs(x, rows);
	u32 k = 0;

	for (u32 i = 0; i < nr; i++)
		k = max(k, p[i].w.cols);
	j.parts = pack ? nr_parts(x, rows, k) : 1;
	for (u32 r = 0; r < j.parts; r++) {
		u32 lo = part_row(r, j.parts, rows);
		u32 hi = part_row(r + 1, j.parts, rows);

		for (u32 i = 0; i < nr; i++)
			j.p[r * nr + i] = gemm_rows(&p[i], m + lo, hi - lo);
	}
	for (u32 i = 0; i < nr; i++) {
		u32 cols = p[i].m > m ? p[i].w.rows : 0;

		j.first[i + 1] = j.first[i] + DIV_ROUND_UP(cols, GEMM_UNIT);
	}
	j.cut = cut_units(x, j.first[nr], j.parts,
			  (pack ? PACKED_COLUMNS : GEMM_COLUMNS) / GEMM_UNIT);
	if (pack)
		gemm_pack(x, j.p, nr, j.parts);
	pool_run(x->pool, gemm_item, &j, j.parts * j.cut.items);
}

static void exec_gemm(struct kern_exec *x, const struct kern_gemm *p, u32 nr)
{
	for (u32 n; nr; p += n, nr -= n) {
		bool passes = x->kern->gemm_pack;
		u32 most = 0, rows;

		n = min(nr, (u32)GEMM_BATCH);
		for (u32 i = 0; i < n; i++) {
			most = max(most, p[i].m);
			passes |= p[i].best != NULL;
		}
		rows = passes ? pass_rows(most) : most;
		for (u32 m = 0; m < most; m += rows)
			gemm_pass(x, p, n, m, min(most - m, rows));
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
	struct cut cut;
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
	u32 lo = first_unit(&j->cut, item) * GEMM_UNIT;
	u32 hi = min(first_unit(&j->cut, item + 1) * GEMM_UNIT, p->gate.rows);
	float *gate = own_memory(scratch);
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

/* Rows m .. m + rows. Two products are more to unpack: they have one part. */
static void gated_pass(struct kern_exec *x, const struct kern_gemm_gated *p,
		       u32 m, u32 rows)
{
	struct gated_job j = { .kern = x->kern, .p = *p };
	struct kern_gemm g = { .w = p->gate, .x_stride = p->x_stride };

	j.p.m = g.m = rows;
	j.p.x = g.x = p->x + (size_t)m * p->x_stride;
	j.p.out += (size_t)m * p->out_stride;
	if (packs(x, rows) && p->gate.layout == p->up.layout)
		gemm_pack(x, &g, 1, 1);
	j.p.packed = g.packed;
	j.cut = cut_units(x, DIV_ROUND_UP(p->gate.rows, GEMM_UNIT), 1,
			  GATED_COLUMNS / GEMM_UNIT);
	pool_run(x->pool, gated_item, &j, j.cut.items);
}

static void exec_gemm_gated(struct kern_exec *x,
			    const struct kern_gemm_gated *p)
{
	u32 rows = pass_rows(p->m);

	for (u32 m = 0; m < p->m; m += rows)
		gated_pass(x, p, m, min(p->m - m, rows));
}

/*
 * ---- attention: the items of the plan, then the merges, whose heads are cut
 * as if those of all rows lay side by side: a lone row has as many threads ----
 */

#define MERGE_ALONE 8192 /* elements that the caller folds by itself */

struct attn_job {
	const struct kern_ops *kern;
	const struct kern_attn *p;
	const struct kern_attn_plan *plan;
	struct cut merges;
};

static void attn_item(void *arg, u32 item, void *scratch)
{
	const struct attn_job *j = arg;

	j->kern->attn(j->p, j->plan, item, item + 1, scratch);
}

static void attn_merge_item(void *arg, u32 item, void *scratch)
{
	const struct attn_job *j = arg;

	j->kern->attn_merge(j->p, j->plan, first_unit(&j->merges, item),
			    first_unit(&j->merges, item + 1));
}

static struct cut cut_merges(const struct kern_exec *x,
			     const struct kern_attn *p,
			     const struct kern_attn_plan *plan)
{
	u64 elements = (u64)plan->nr_parts * p->kv.head_dim;
	u32 heads = plan->nr_merges * p->nr_heads;

	if (elements <= MERGE_ALONE)
		return (struct cut){ heads, min(heads, 1u) };
	return cut_units(x, heads, 1, p->nr_heads);
}

static void exec_attn(struct kern_exec *x, const struct kern_attn *p,
		      const struct kern_attn_plan *plan)
{
	struct attn_job j = { x->kern, p, plan, cut_merges(x, p, plan) };

	pool_run(x->pool, attn_item, &j, plan->nr_items);
	pool_run(x->pool, attn_merge_item, &j, j.merges.items);
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
