/* SPDX-License-Identifier: MIT */
/*
 * bench_radix.c - what the order of requests makes of a cache of prefixes
 *
 * On a simulated machine, over a pool that is counted in tokens (kv_ideal.c):
 * the engine decides all, nothing is computed. The prompts are those of
 * few-shot tasks, conversations, trees of thought and agents (radix_load.c).
 *
 *	optimum	each token of the prompts' tree is computed once
 *	offline	128 are there at once, in random order; the pool holds the
 *		longest and no more
 *	online	128 wait at any time, the next one comes when one has gone in;
 *		programs come one after another, mixed over 256 prompts;
 *		the pool holds sixteen of the longest, four run
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

#define RADIX_VOCAB    32000u
#define RADIX_QUEUE    128u
#define RADIX_PROGRAMS 24u
#define RADIX_MIXED    256u /* how far prompts of a program lie apart */
#define RADIX_POOL     16u /* of the longest prompt */

/* As many as are put in order: what the queue holds offline. */
static const u32 offline_programs[RADIX_KINDS] = { 4, 32, 1, 4 };

struct sim {
	double now;
};

static double sim_now(void *ctx)
{
	return ((struct sim *)ctx)->now;
}

static int sim_run(void *ctx, const struct forward_batch *b)
{
	((struct sim *)ctx)->now += 0.002 + 0.0005 * b->nr_tokens;
	return 0;
}

static u32 sim_token(void *ctx, const struct seq *s)
{
	(void)ctx;
	(void)s;
	return 1;
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

/* @queue of them at a time; tokens that were mapped. */
static int sim_load(const struct radix_load *l, const struct engine_opts *opts,
		    u32 pool, u32 queue, u64 *mapped, char *err)
{
	struct model m = { .hp = { .vocab = RADIX_VOCAB, .context = 4096 } };
	struct kern_exec x = { 0 };
	struct engine_opts eo = *opts;
	struct sim sim = { 0 };
	const struct engine_machine machine = {
		.now = sim_now, .run = sim_run, .token = sim_token, .ctx = &sim
	};
	struct request **req = calloc(l->nr, sizeof(struct request *));
	u32 i, sent = 0, waiting;
	struct kv_backend *b = NULL;
	struct engine *e = NULL;
	int rc = req ? kv_ideal_create(pool, &b, err) : -ENOMEM;

	eo.machine = &machine;
	eo.prefix_cache = true;
	if (!rc)
		rc = engine_create(&m, &x, b, &eo, &e, err);
	while (rc >= 0 && e) {
		for (i = waiting = 0; i < sent; i++)
			waiting += req[i]->state == REQUEST_WAITING;
		for (; sent < l->nr && waiting < queue && !rc; waiting++) {
			rc = submit(e, l, sent, 1, &req[sent], err);
			sent++;
		}
		if (!rc)
			rc = engine_step(e, err);
		if (!rc && sent == l->nr)
			break;
		rc = min(rc, 0);
	}
	if (!rc)
		*mapped = engine_stats(e)->nr_mapped;
	engine_destroy(e);
	if (b)
		b->ops->destroy(b);
	free(req);
	return rc;
}

/* The mean share of all kinds of programs, the worst of them in @what. */
static int share(const struct bench_opts *o, enum engine_order order,
		 bool online, double *mean, char what[32], char *err)
{
	struct engine_opts eo = { .order = order, .max_seqs = online ? 4 : 1 };
	struct radix_load l;
	double one, worst = 2;
	u64 mapped = 0;
	u32 k;
	int rc;

	*mean = 0;
	for (k = 0; k < RADIX_KINDS; k++) {
		rc = radix_make(&l, k,
				o->tiny || !online ? offline_programs[k]
						   : RADIX_PROGRAMS,
				RADIX_VOCAB, o->seed + k);
		if (rc)
			return rc;
		radix_shuffle(&l, online ? RADIX_MIXED : l.nr, o->seed);
		rc = sim_load(&l, &eo,
			      online ? RADIX_POOL * l.longest : l.longest,
			      online ? RADIX_QUEUE : l.nr, &mapped, err);
		one = (double)mapped / (double)(l.total - l.distinct);
		*mean += one / RADIX_KINDS;
		if (one < worst) {
			worst = one;
			snprintf(what, 32, "%s %.3f", radix_name(k), one);
		}
		radix_free(&l);
		if (rc)
			return rc;
	}
	return 0;
}

static int run_share(const struct bench_opts *o, bool online,
		     struct figure_result *f)
{
	char err[KV_ERRLEN] = "";
	char what[32] = "", fcfs_what[32] = "", dfs_what[32] = "";
	double fcfs = 0, dfs = 0;
	int rc = share(o, ENGINE_ORDER_LPM, online, &f->measured, what, err);

	if (!rc)
		rc = share(o, ENGINE_ORDER_DFS, online, &dfs, dfs_what, err);
	if (!rc)
		rc = share(o, ENGINE_ORDER_FCFS, online, &fcfs, fcfs_what, err);
	snprintf(f->note, sizeof(f->note),
		 "worst %.40s; dfs %.3f (%s); fcfs %.3f (%s)", rc ? err : what,
		 dfs, dfs_what, fcfs, fcfs_what);
	return rc;
}

static int run_offline(const struct bench_opts *o, struct figure_result *f)
{
	return run_share(o, false, f);
}

static int run_online(const struct bench_opts *o, struct figure_result *f)
{
	return run_share(o, true, f);
}

static int run_block(const struct bench_opts *o, struct figure_result *f)
{
	struct engine_opts eo = { .max_seqs = 1 };
	char err[KV_ERRLEN] = "";
	struct radix_load l;
	u64 token = 0, block = 0;
	int rc = radix_make(&l, RADIX_TREE, o->tiny ? 1 : RADIX_PROGRAMS,
			    RADIX_VOCAB, o->seed);

	if (rc)
		return rc;
	radix_shuffle(&l, l.nr, o->seed);
	rc = sim_load(&l, &eo, 4 * l.longest, l.nr, &token, err);
	eo.prefix_unit = 16;
	if (!rc)
		rc = sim_load(&l, &eo, 4 * l.longest, l.nr, &block, err);
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
FIGURE(radix_block, .name = "radix.block",
       .what = "hit tokens by the token over those of whole blocks, trees "
	       "of thought",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 1.1, .run = run_block);
