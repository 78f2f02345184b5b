/* SPDX-License-Identifier: MIT */
/*
 * bench_cache.c - how many blocks of prefixes a policy finds in the cache
 *
 * A trace is replayed through the prefix trees of the core with the policy that
 * evicts there; LRU, as it is defined, and one that knows the future stand
 * beside it. The gap is what lies between the last
 * two; a policy is worth what it closes of it. Without --trace it is every
 * made up trace, each with caches of a fortieth, a tenth and a third of its
 * blocks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/kvbench/bench.h"
#include "tools/kvbench/cache_trace.h"

#define CACHE_REQUESTS 3000u
#define CACHE_TINY     200u
#define CACHE_GAP_MIN  0.005 /* of a gap that is worth closing */

struct cache_row {
	const char *trace;
	u32 blocks;
	enum policy_kind kind;
	double hit_rate, lru, optimum, ns;
};

static const struct report_col cols[] = {
	{ "trace", "trace", 0 },    { "blocks", "blocks", 0 },
	{ "policy", "policy", 0 },  { "hit_rate", "hit rate", 4 },
	{ "lru", "LRU", 4 },	    { "optimum", "optimum", 4 },
	{ "gap_closed", "gap", 3 }, { "ns", "ns/block", 0 },
};

static int measure(const struct cache_trace *t, struct cache_row *row)
{
	struct cache_result ours, lru;
	double refs = t->nr_refs;
	u64 optimum;
	int rc;

	rc = cache_tree_replay(t, row->blocks, row->kind, 0, &ours);
	if (!rc)
		rc = cache_replay(t, row->blocks, POLICY_LRU, 0, &lru);
	if (!rc)
		rc = cache_optimum(t, row->blocks, &optimum);
	if (rc)
		return rc;
	row->hit_rate = (double)ours.hits / refs;
	row->lru = (double)lru.hits / refs;
	row->optimum = (double)optimum / refs;
	row->ns = ours.seconds * 1e9 / refs;
	return 0;
}

static bool has_gap(const struct cache_row *row)
{
	return row->optimum - row->lru >= CACHE_GAP_MIN;
}

static double gap_closed(const struct cache_row *row)
{
	return (row->hit_rate - row->lru) / (row->optimum - row->lru);
}

static json_t *row_json(const struct cache_row *row)
{
	json_t *v = json_pack("{s:s, s:i, s:s, s:f, s:f, s:f, s:f}", "trace",
			      row->trace, "blocks", (int)row->blocks, "policy",
			      policy_kind_name(row->kind), "hit_rate",
			      row->hit_rate, "lru", row->lru, "optimum",
			      row->optimum, "ns", row->ns);

	if (v && has_gap(row))
		json_object_set_new(v, "gap_closed",
				    json_real(gap_closed(row)));
	return v;
}

/* The next number of a list; 0: there is none, or no number. */
static u32 next_size(const char **list)
{
	char *end;
	unsigned long v = strtoul(*list, &end, 10);

	if (end == *list || (*end && *end != ',') || v > 1u << 24)
		return 0;
	*list = *end ? end + 1 : end;
	return (u32)v;
}

static int run_file(const struct bench_opts *o, enum policy_kind kind,
		    struct report *r)
{
	struct cache_row row = { .trace = strrchr(o->trace, '/'),
				 .kind = kind };
	const char *list = o->blocks ? o->blocks : "1000,3000,10000";
	struct cache_trace t = { 0 };
	int rc = cache_trace_load(o->trace, &t, r->note);

	row.trace = row.trace ? row.trace + 1 : o->trace;
	while (!rc && *list) {
		row.blocks = next_size(&list);
		if (!row.blocks) {
			rc = -EINVAL;
			snprintf(r->note, sizeof(r->note),
				 "--blocks is a list of sizes, as 1000,3000");
			break;
		}
		rc = measure(&t, &row);
		if (!rc)
			report_row(r, row_json(&row));
	}
	if (!rc && json_array_size(r->rows) == 1)
		json_object_update(r->extra, json_array_get(r->rows, 0));
	cache_trace_free(&t);
	return rc;
}

/* Calls @each for every made up trace and size. */
static int run_made(const struct bench_opts *o, enum policy_kind kind,
		    void (*each)(void *ctx, const struct cache_row *row),
		    void *ctx)
{
	static const u32 part[] = { 40, 10, 3 };
	struct cache_row row = { .kind = kind };
	struct cache_trace t;
	u32 i, k;
	int rc = 0;

	for (i = 0; !rc && cache_gen_name(i); i++) {
		row.trace = cache_gen_name(i);
		rc = cache_gen(i, o->seed,
			       o->tiny ? CACHE_TINY : CACHE_REQUESTS, &t);
		for (k = 0; !rc && k < ARRAY_SIZE(part); k++) {
			row.blocks = t.nr_blocks / part[k];
			rc = measure(&t, &row);
			if (!rc)
				each(ctx, &row);
		}
		cache_trace_free(&t);
	}
	return rc;
}

static void report_each(void *ctx, const struct cache_row *row)
{
	report_row(ctx, row_json(row));
}

static int run(const struct bench_opts *o, struct report *r)
{
	int kind = o->policy ? policy_kind_parse(o->policy) : POLICY_REUSE;

	r->cols = cols;
	r->nr_cols = ARRAY_SIZE(cols);
	if (kind < 0) {
		snprintf(r->note, sizeof(r->note), "there is no policy \"%s\"",
			 o->policy);
		return -EINVAL;
	}
	if (o->trace)
		return run_file(o, (enum policy_kind)kind, r);
	return run_made(o, (enum policy_kind)kind, report_each, r);
}

SUBJECT(cache, .name = "cache", .what = "hits in the prefix cache by policy",
	.run = run);

/* ---- figures ---- */

struct made {
	bool done;
	double sum, worst;
	u32 nr;
	char where[64];
};

static struct made made;

static void note_each(void *ctx, const struct cache_row *row)
{
	struct made *m = ctx;
	double below = 100 * (row->lru - row->hit_rate);

	if (has_gap(row)) {
		m->sum += 100 * gap_closed(row);
		m->nr++;
	}
	if (below > m->worst) {
		m->worst = below;
		snprintf(m->where, sizeof(m->where), "%s, %u blocks",
			 row->trace, row->blocks);
	}
}

static int made_once(const struct bench_opts *o)
{
	int rc = 0;

	if (!made.done)
		rc = run_made(o, POLICY_REUSE, note_each, &made);
	made.done = !rc;
	return rc;
}

static int figure_gap_run(const struct bench_opts *o, struct figure_result *r)
{
	int rc = made_once(o);

	r->measured = made.nr ? made.sum / made.nr : 0;
	snprintf(r->note, sizeof(r->note), "%u made up traces and sizes",
		 made.nr);
	return rc;
}

static int figure_lru_run(const struct bench_opts *o, struct figure_result *r)
{
	int rc = made_once(o);

	r->measured = made.worst;
	snprintf(r->note, sizeof(r->note), "worst: %s", made.where);
	return rc;
}

FIGURE(cache_gap, .name = "cache.gap", .unit = "%",
       .what = "gap from LRU to the optimum that the default policy closes",
       .cmp = CMP_AT_LEAST, .target = 20, .run = figure_gap_run);

FIGURE(cache_lru, .name = "cache.below_lru", .unit = "points",
       .what = "hit rate of the default policy below LRU's, at worst",
       .cmp = CMP_AT_MOST, .target = 0.5, .run = figure_lru_run);
