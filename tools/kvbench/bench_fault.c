/* SPDX-License-Identifier: MIT */
/*
 * bench_fault.c - what a missing page costs the client that wants it
 *
 *	fresh	a step of one token at the start of a new page
 *	prefix	an empty space maps a published prefix of 64 pages
 *	cow	the first write to a page that a fork shares, with 15 tokens
 *		in use, the copy included
 *	tree	one space of 32,768 tokens becomes 64
 *
 * Over libkv against a private kvmd, synchronously: from the call until the
 * step may run. Minor faults: memory is there, and no I/O is needed.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"
#include "include/kv/errbuf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAULT_DEVICE  "1G"
#define FAULT_MAX     20000u
#define FRESH_PAGES   16u
#define PREFIX_TOKENS 1024u
#define TREE_TOKENS   32768u
#define TREE_BRANCHES 64u
#define COW_TOKENS    47u /* 15 of the third page in use */

enum fault_kind { KIND_FRESH, KIND_PREFIX, KIND_COW, KIND_TREE, KIND_NR };

static const char *const kind_names[KIND_NR] = { "fresh", "prefix", "cow",
						 "tree" };

struct fault_result {
	double p50[KIND_NR], p99[KIND_NR]; /* seconds */
	u32 rounds[KIND_NR];
	double cow_bytes, memcpy_bw;
};

static double samples[FAULT_MAX];

static void note_samples(struct fault_result *r, enum fault_kind k, u32 n)
{
	r->p50[k] = bench_median(samples, n);
	r->p99[k] = bench_percentile(samples, n, 99);
	r->rounds[k] = n;
}

/* A step in two parts: what it waits for, and the rest. */
static int timed_step(struct bench_client *c, u32 space, u64 pos, u32 nr,
		      bool copies, double *took)
{
	struct kv_resv_item it = { .space = space,
				   .nr_tokens = nr,
				   .pos = pos };
	struct kv_step *st;
	double start = clock_s();
	int rc = kv_step_prepare(c->kv, &it, 1, KV_STEP_WAIT, 10000, &st);

	if (rc)
		return rc;
	if (copies)
		kv_step_run_copies(c->kv, st);
	*took = clock_s() - start;
	if (!copies)
		kv_step_run_copies(c->kv, st);
	kv_step_complete(c->kv, st);
	return kv_step_commit(c->kv, st);
}

static int run_fresh(const struct bench_opts *o, struct bench_client *c,
		     struct fault_result *r)
{
	double end = clock_s() + o->seconds;
	u32 space, n = 0, page = 0;
	int rc = kv_space_create(c->kv, &c->args, &space);

	while (!rc && n < FAULT_MAX && (n < 10 || clock_s() < end)) {
		rc = timed_step(c, space, page * 16u, 16, false, &samples[n]);
		n++;
		/* so many fit in the extents that a client keeps */
		if (++page == FRESH_PAGES && !rc) {
			rc = kv_space_truncate(c->kv, space, 0);
			page = 0;
		}
	}
	note_samples(r, KIND_FRESH, n);
	return rc ? rc : kv_space_destroy(c->kv, space);
}

/* Fill a space in pieces: a window's pages go again as it moves on. */
static int fill_space(struct bench_client *c, u32 space, u32 tokens)
{
	double took;
	u32 pos, n;
	int rc = 0;

	for (pos = 0; !rc && pos < tokens; pos += n) {
		n = min(512u, tokens - pos);
		rc = timed_step(c, space, pos, n, false, &took);
	}
	return rc;
}

/* Published, and copied by now. */
static int publish_prefix(struct bench_client *c, const u32 *ids)
{
	u64 len = 0;
	u32 space;
	int rc = kv_space_create(c->kv, &c->args, &space), i;

	if (!rc)
		rc = fill_space(c, space, PREFIX_TOKENS);
	/* memory for it is populated on the way */
	for (i = 0; !rc && len < PREFIX_TOKENS && i < 1000; i++) {
		rc = kv_prefix_publish(c->kv, space, ids, PREFIX_TOKENS,
				       KV_PUBLISH_RESUME, &len);
		usleep(1000);
	}
	for (i = 0, len = 0; !rc && len < PREFIX_TOKENS && i < 1000; i++) {
		rc = kv_space_create(c->kv, &c->args, &space);
		if (!rc)
			rc = kv_prefix_map(c->kv, space, ids, PREFIX_TOKENS,
					   &len);
		usleep(1000);
	}
	return rc ? rc : len == PREFIX_TOKENS ? 0 : -ETIME;
}

static int run_prefix(const struct bench_opts *o, struct bench_client *c,
		      struct fault_result *r)
{
	static u32 ids[PREFIX_TOKENS];
	double end, start;
	u32 space, n = 0, i;
	u64 len;
	int rc;

	for (i = 0; i < PREFIX_TOKENS; i++)
		ids[i] = i;
	rc = publish_prefix(c, ids);
	end = clock_s() + o->seconds;
	while (!rc && n < FAULT_MAX && (n < 10 || clock_s() < end)) {
		rc = kv_space_create(c->kv, &c->args, &space);
		start = clock_s();
		if (!rc)
			rc = kv_prefix_map(c->kv, space, ids, PREFIX_TOKENS,
					   &len);
		samples[n++] = clock_s() - start;
		if (!rc)
			rc = kv_space_destroy(c->kv, space);
	}
	note_samples(r, KIND_PREFIX, n);
	return rc;
}

static int run_cow(const struct bench_opts *o, struct bench_client *c,
		   struct fault_result *r)
{
	double end;
	u32 space, child, n = 0;
	int rc = kv_space_create(c->kv, &c->args, &space);

	if (!rc)
		rc = fill_space(c, space, COW_TOKENS);
	end = clock_s() + o->seconds;
	while (!rc && n < FAULT_MAX && (n < 10 || clock_s() < end)) {
		rc = kv_space_fork(c->kv, space, COW_TOKENS, &child);
		if (!rc)
			rc = timed_step(c, child, COW_TOKENS, 1, true,
					&samples[n]);
		n++;
		if (!rc)
			rc = kv_space_destroy(c->kv, child);
	}
	note_samples(r, KIND_COW, n);
	/* K and V of 3 and 15 layers, 256 bf16 */
	r->cow_bytes = 15.0 * 2 * (3 + 15) * 256 * 2;
	return rc ? rc : kv_space_destroy(c->kv, space);
}

static int run_tree(const struct bench_opts *o, struct bench_client *c,
		    struct fault_result *r)
{
	u32 space, child[TREE_BRANCHES], n = 0, i;
	double end, start;
	int rc = kv_space_create(c->kv, &c->args, &space);

	if (!rc)
		rc = fill_space(c, space, TREE_TOKENS);
	end = clock_s() + o->seconds;
	while (!rc && n < 200 && (n < 3 || clock_s() < end)) {
		start = clock_s();
		for (i = 0; !rc && i < TREE_BRANCHES; i++)
			rc = kv_space_fork(c->kv, space, TREE_TOKENS,
					   &child[i]);
		samples[n++] = clock_s() - start;
		for (i = 0; !rc && i < TREE_BRANCHES; i++)
			rc = kv_space_destroy(c->kv, child[i]);
	}
	note_samples(r, KIND_TREE, n);
	return rc ? rc : kv_space_destroy(c->kv, space);
}

/* Bytes per second of memcpy() of what one copy on write moves. */
static double memcpy_bw(size_t bytes)
{
	char *from = malloc(bytes), *to = malloc(bytes);
	double start, best = 0;
	u32 i;

	for (i = 0; from && to && i < 50; i++) {
		memset(from, (int)i, bytes);
		start = clock_s();
		memcpy(to, from, bytes);
		__asm__ __volatile__("" : : "r"(to) : "memory");
		best = max(best, (double)bytes / (clock_s() - start));
	}
	free(from);
	free(to);
	return best;
}

static int run_all(const struct bench_opts *o, struct fault_result *r,
		   char *err)
{
	struct bench_client c = { 0 };
	struct private_kvmd *d;
	int rc = private_kvmd_start(FAULT_DEVICE, NULL, &d, err);

	if (rc)
		return rc;
	rc = bench_client_open(&c, private_kvmd_socket(d), false);
	if (!rc)
		rc = run_fresh(o, &c, r);
	if (!rc)
		rc = run_prefix(o, &c, r);
	if (!rc)
		rc = run_cow(o, &c, r);
	if (!rc)
		rc = run_tree(o, &c, r);
	if (rc)
		err_set(err, rc, "%s: %s", strerror(-rc),
			c.err[0] ? c.err
			: c.kv	 ? kv_error(c.kv)
				 : "no client");
	r->memcpy_bw = memcpy_bw((size_t)r->cow_bytes);
	bench_client_close(&c);
	private_kvmd_stop(d);
	return rc;
}

static int run_once(const struct bench_opts *o, struct fault_result *r,
		    char *note, size_t len)
{
	static struct fault_result memo;
	static bool have;
	char err[KV_ERRLEN] = "";
	int rc = 0;

	if (!have) {
		rc = run_all(o, &memo, err);
		have = !rc;
		if (rc)
			snprintf(note, len, "%s", err);
	}
	*r = memo;
	return rc;
}

static int figure_of(const struct bench_opts *o, struct figure_result *f,
		     enum fault_kind k, bool p99, double scale)
{
	struct fault_result r;
	int rc = run_once(o, &r, f->note, sizeof(f->note));

	if (rc)
		return rc;
	f->measured = (p99 ? r.p99[k] : r.p50[k]) * scale;
	snprintf(f->note, sizeof(f->note), "50 %%: %.1f us, 99 %%: %.1f us",
		 r.p50[k] * 1e6, r.p99[k] * 1e6);
	return 0;
}

static int figure_minor(const struct bench_opts *o, struct figure_result *f)
{
	return figure_of(o, f, KIND_FRESH, false, 1e6);
}

static int figure_minor99(const struct bench_opts *o, struct figure_result *f)
{
	return figure_of(o, f, KIND_FRESH, true, 1e6);
}

static int figure_prefix(const struct bench_opts *o, struct figure_result *f)
{
	return figure_of(o, f, KIND_PREFIX, false, 1e6);
}

static int figure_tree(const struct bench_opts *o, struct figure_result *f)
{
	return figure_of(o, f, KIND_TREE, false, 1e3);
}

static int figure_cow(const struct bench_opts *o, struct figure_result *f)
{
	struct fault_result r;
	int rc = run_once(o, &r, f->note, sizeof(f->note));
	double allowed;

	if (rc)
		return rc;
	allowed = 5e-6 + r.cow_bytes / (0.8 * r.memcpy_bw);
	f->measured = r.p50[KIND_COW] / allowed;
	snprintf(f->note, sizeof(f->note),
		 "%.1f us for %.0f KiB; memcpy %.1f GB/s",
		 r.p50[KIND_COW] * 1e6, r.cow_bytes / 1024, r.memcpy_bw * 1e-9);
	return 0;
}

FIGURE(fault_minor, .name = "fault.minor",
       .what = "a step's fresh page, seen by the client, median", .unit = "us",
       .cmp = CMP_AT_MOST, .target = 5, .run = figure_minor);
FIGURE(fault_minor99, .name = "fault.minor99", .what = "the same, 99 %",
       .unit = "us", .cmp = CMP_AT_MOST, .target = 50, .run = figure_minor99);
FIGURE(fault_prefix, .name = "fault.prefix",
       .what = "a published prefix of 64 pages mapped, median", .unit = "us",
       .cmp = CMP_AT_MOST, .target = 100, .run = figure_prefix);
FIGURE(fault_cow, .name = "fault.cow",
       .what = "a copy on write, over 5 us + bytes / (0.8 x memcpy)",
       .unit = "x", .cmp = CMP_AT_MOST, .target = 1, .run = figure_cow);
FIGURE(fault_tree, .name = "fault.tree",
       .what = "1 space of 32,768 tokens becomes 64", .unit = "ms",
       .cmp = CMP_AT_MOST, .target = 5, .run = figure_tree);

static const struct report_col fault_cols[] = {
	{ "kind", "kind", 0 },
	{ "p50", "50% us", 2 },
	{ "p99", "99% us", 2 },
	{ "rounds", "rounds", 0 },
};

static int run_fault(const struct bench_opts *o, struct report *rep)
{
	struct fault_result r;
	int rc = run_once(o, &r, rep->note, sizeof(rep->note)), k;

	rep->cols = fault_cols;
	rep->nr_cols = ARRAY_SIZE(fault_cols);
	for (k = 0; k < KIND_NR && !rc; k++)
		report_row(rep, json_pack("{s:s, s:f, s:f, s:i}", "kind",
					  kind_names[k], "p50", r.p50[k] * 1e6,
					  "p99", r.p99[k] * 1e6, "rounds",
					  (int)r.rounds[k]));
	return rc;
}

SUBJECT(fault, .name = "fault",
	.what = "fresh, published and copied pages, as the client sees them",
	.run = run_fault);
