/* SPDX-License-Identifier: MIT */
/*
 * bench_radix.c - what the order of requests makes of a cache of prefixes
 *
 * On a simulated machine, over a pool that is counted in tokens (kv_ideal.c) or
 * the pager's core (sim/backend.c): the engine decides all, nothing is
 * computed. The prompts are those of few-shot tasks, conversations, trees of
 * thought and agents (radix_load.c).
 *
 *	optimum	each token of the prompts' tree is computed once
 *	offline	128 are there at once, in random order; the pool holds the
 *		longest and no more
 *	online	128 wait at any time, the next one comes when one has gone in;
 *		programs come one after another, mixed over 256 prompts;
 *		the pool holds sixteen of the longest, four run; what was never
 *		mapped is evicted first
 *	pager	the same, but pages are the pager's, with all that it costs:
 *		whole ones, extents, watermarks, its policy of eviction. The
 *		pool is one for all programs, as a machine has one
 *	block	the same trees of thought, where only blocks of 16 tokens match
 *
 * A share is what was mapped over what an optimum maps.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/engine/engine.h"
#include "runtime/model/model.h"
#include "tools/kvbench/radix_load.h"
#include "tools/kvbench/sim/backend.h"

#define RADIX_VOCAB    32000u
#define RADIX_QUEUE    128u
#define RADIX_PROGRAMS 24u
#define RADIX_MIXED    256u /* how far prompts of a program lie apart */
#define RADIX_POOL     16u /* of the longest prompt */
#define RADIX_MOST_S   100000u /* of simulated time */

/* As many as are put in order: what the queue holds offline. */
static const u32 offline_programs[RADIX_KINDS] = { 4, 32, 1, 4 };

/* One engine of the simulated world, on a pager or on a pool of tokens. */
struct sim {
	const struct radix_load *l;
	struct world *w;
	struct engine *e;
	struct request **req; /* [l->nr] */
	u32 queue;
	int rc;
	char *err;
};

static double sim_now(void *ctx)
{
	return (double)world_now(((struct sim *)ctx)->w) * 1e-9;
}

static int sim_run(void *ctx, const struct forward_batch *b)
{
	world_sleep(((struct sim *)ctx)->w,
		    2 * WORLD_MS + b->nr_tokens * 500 * WORLD_US);
	return 0;
}

static u32 sim_token(void *ctx, const struct seq *s)
{
	(void)ctx;
	(void)s;
	return 1;
}

static void sim_nap(void *ctx)
{
	world_sleep(((struct sim *)ctx)->w, 200 * WORLD_US);
}

static int submit(struct engine *e, const struct radix_load *l, u32 i,
		  u32 max_new, struct request **out, char *err)
{
	const struct request_params p = { .prompt = l->ids[i],
					  .nr_prompt = l->len[i],
					  .max_new = max_new,
					  .n = 1,
					  .ignore_eog = true,
					  .sampling = SAMPLING_GREEDY };

	return engine_submit(e, &p, out, err);
}

/* A task: @queue of them at a time. */
static void sim_task(void *arg)
{
	struct sim *s = arg;
	u32 i, sent = 0, waiting;

	do {
		for (i = waiting = 0; i < sent; i++)
			waiting += s->req[i]->state == REQUEST_WAITING;
		for (; sent < s->l->nr && waiting < s->queue && s->rc >= 0;
		     waiting++) {
			s->rc = submit(s->e, s->l, sent, 1, &s->req[sent],
				       s->err);
			sent++;
		}
		if (s->rc >= 0)
			s->rc = engine_step(s->e, s->err);
	} while (s->rc > 0 || (!s->rc && sent < s->l->nr));
}

/* Where K and V are, and of how many tokens. */
struct pool {
	u32 tokens;
	bool is_paged; /* by the pager's core; else it counts tokens */
};

/* A token takes 18 KiB, as in Gemma 3 270M; pages of 288 KiB. */
static const struct simkv_shape pager_shape = {
	"gemma",
	16,
	1,
	{ { 18, 1, 256, 0 } },
};
#define TOKEN_BYTES (18u << 10)

static int sim_backend(const struct pool *pool, struct world *w,
		       struct kv_backend **out, char *err)
{
	int rc;

	if (!pool->is_paged)
		return kv_ideal_create(pool->tokens, out, err);
	rc = simkv_create(w, "sim", &pager_shape, out);
	return rc ? err_set(err, rc, "no client of the pager") : 0;
}

/* Tokens that were mapped. */
static int sim_load(const struct radix_load *l, const struct engine_opts *opts,
		    const struct pool *pool, u32 queue, u64 *mapped, char *err)
{
	const struct world_cfg world = {
		.device_bytes = (u64)pool->tokens * TOKEN_BYTES,
		.seed = 1,
	};
	struct model m = { .hp = { .vocab = RADIX_VOCAB, .context = 4096 },
			   .nr_areas = 1,
			   .area[0].nr_layers = 18 };
	struct kern_exec x = { 0 };
	struct engine_opts eo = *opts;
	struct sim s = { .l = l, .queue = queue, .err = err };
	const struct engine_machine machine = { .now = sim_now,
						.run = sim_run,
						.token = sim_token,
						.nap = sim_nap,
						.ctx = &s };
	struct kv_backend *b = NULL;
	int rc;

	eo.machine = &machine;
	eo.prefix_cache = true;
	s.req = calloc(l->nr, sizeof(struct request *));
	rc = s.req ? world_create(&world, &s.w) : -ENOMEM;
	if (rc)
		err_set(err, rc, "no memory for the simulation");
	if (!rc)
		rc = sim_backend(pool, s.w, &b, err);
	if (!rc)
		rc = engine_create(&m, &x, b, &eo, &s.e, err);
	if (!rc && world_spawn(s.w, sim_task, &s))
		rc = err_set(err, -ENOMEM, "no memory for the simulation");
	if (!rc) {
		rc = world_run(s.w, RADIX_MOST_S * WORLD_S);
		if (rc)
			err_set(err, rc, "the simulation stands still");
	}
	if (!rc)
		rc = s.rc;
	if (!rc)
		*mapped = engine_stats(s.e)->nr_mapped;
	engine_destroy(s.e);
	if (b)
		b->ops->destroy(b);
	world_destroy(s.w);
	free(s.req);
	return rc;
}

enum place { OFFLINE, ONLINE, PAGER };

static int programs(const struct bench_opts *o, enum place place, u32 kind,
		    struct radix_load *l)
{
	bool few = o->tiny || place == OFFLINE;

	return radix_make(l, kind,
			  few ? offline_programs[kind] : RADIX_PROGRAMS,
			  RADIX_VOCAB, o->seed + kind);
}

/* Of all kinds that the pager is given; 0: no memory. */
static u32 longest_of_all(const struct bench_opts *o)
{
	struct radix_load l;
	u32 k, longest = 0;

	for (k = 0; k < RADIX_KINDS; k++) {
		if (programs(o, PAGER, k, &l))
			return 0;
		longest = max(longest, l.longest);
		radix_free(&l);
	}
	return longest;
}

/* The mean share of all kinds of programs, the worst of them in @what. */
static int share(const struct bench_opts *o, enum engine_order order,
		 enum place place, double *mean, char what[32], char *err)
{
	struct engine_opts eo = { .order = order,
				  .max_seqs = place == OFFLINE ? 1 : 4 };
	u32 k, all = place == PAGER ? longest_of_all(o) : 0;
	double one, worst = 2;
	struct radix_load l;
	u64 mapped = 0;
	int rc = place == PAGER && !all ? -ENOMEM : 0;

	*mean = 0;
	for (k = 0; k < RADIX_KINDS && !rc; k++) {
		struct pool pool = { .is_paged = place == PAGER };

		rc = programs(o, place, k, &l);
		if (rc)
			break;
		radix_shuffle(&l, place == OFFLINE ? l.nr : RADIX_MIXED,
			      o->seed);
		pool.tokens = all ? all : l.longest;
		if (place != OFFLINE)
			pool.tokens *= RADIX_POOL;
		rc = sim_load(&l, &eo, &pool,
			      place == OFFLINE ? l.nr : RADIX_QUEUE, &mapped,
			      err);
		one = (double)mapped / (double)(l.total - l.distinct);
		*mean += one / RADIX_KINDS;
		if (one < worst) {
			worst = one;
			snprintf(what, 32, "%s %.3f", radix_name(k), one);
		}
		radix_free(&l);
	}
	return rc;
}

static int run_share(const struct bench_opts *o, enum place place,
		     struct figure_result *f)
{
	char err[KV_ERRLEN] = "";
	char what[32] = "", fcfs_what[32] = "", dfs_what[32] = "";
	double fcfs = 0, dfs = 0;
	int rc = share(o, ENGINE_ORDER_LPM, place, &f->measured, what, err);

	if (!rc)
		rc = share(o, ENGINE_ORDER_DFS, place, &dfs, dfs_what, err);
	if (!rc)
		rc = share(o, ENGINE_ORDER_FCFS, place, &fcfs, fcfs_what, err);
	snprintf(f->note, sizeof(f->note),
		 "worst %.40s; dfs %.3f (%s); fcfs %.3f (%s)", rc ? err : what,
		 dfs, dfs_what, fcfs, fcfs_what);
	return rc;
}

static int run_offline(const struct bench_opts *o, struct figure_result *f)
{
	return run_share(o, OFFLINE, f);
}

static int run_online(const struct bench_opts *o, struct figure_result *f)
{
	return run_share(o, ONLINE, f);
}

static int run_pager(const struct bench_opts *o, struct figure_result *f)
{
	return run_share(o, PAGER, f);
}

static int run_block(const struct bench_opts *o, struct figure_result *f)
{
	struct engine_opts eo = { .max_seqs = 1 };
	char err[KV_ERRLEN] = "";
	struct radix_load l;
	struct pool pool = { 0 };
	u64 token = 0, block = 0;
	int rc = radix_make(&l, RADIX_TREE, o->tiny ? 1 : RADIX_PROGRAMS,
			    RADIX_VOCAB, o->seed);

	if (rc)
		return rc;
	radix_shuffle(&l, l.nr, o->seed);
	pool.tokens = 4 * l.longest;
	rc = sim_load(&l, &eo, &pool, l.nr, &token, err);
	eo.prefix_unit = 16;
	if (!rc)
		rc = sim_load(&l, &eo, &pool, l.nr, &block, err);
	f->measured = (double)token / (double)block;
	snprintf(f->note, sizeof(f->note),
		 "%llu tokens of %llu are hits, with blocks %llu %s",
		 (unsigned long long)token, (unsigned long long)l.total,
		 (unsigned long long)block, err);
	radix_free(&l);
	return rc;
}

FIGURE(radix_offline, .name = "radix.offline",
       .what = "prefix tokens mapped, over the optimum, in a pool of the "
	       "longest prompt; mean of four programs",
       .unit = "x", .cmp = CMP_EQUAL, .target = 1, .run = run_offline);
FIGURE(radix_online, .name = "radix.online",
       .what = "the same with 128 that wait and a pool of sixteen prompts",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.96, .run = run_online);
FIGURE(radix_pager, .name = "radix.pager",
       .what = "the same through the pager, one pool for all: sixteen of the "
	       "longest of the four",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.96, .run = run_pager);
FIGURE(radix_block, .name = "radix.block",
       .what = "hit tokens by the token over those of whole blocks, trees "
	       "of thought",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 1.1, .run = run_block);
