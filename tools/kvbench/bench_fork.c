/* SPDX-License-Identifier: MIT */
/*
 * bench_fork.c - fork of a long space, a first write on both sides, destroy
 *
 * The space has 32,776 tokens in Gemma's two areas: 2,048 whole pages and a
 * shared tail of eight tokens. One round is what a parallel sample costs:
 *
 *	fork		the table is copied, frames are counted
 *	write parent	its tail is shared: a new page, eight tokens copied
 *	write child	nobody shares the old tail any more: nothing
 *	destroy child
 *
 * each as a request (and a step) of its own, synchronously. The parent is
 * then cut back to its length, outside of the clock. "rings" does it over
 * libkv against a private kvmd and runs the copies; "core" calls the mm core
 * in this process.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"
#include "tools/kvbench/mmhost.h"

#include <errno.h>
#include <string.h>

#define FORK_TOKENS   32776u
#define FORK_TAIL     8u
#define FORK_ROUNDS   4000u
#define FORK_DEVICE   "256M"
#define FORK_DEVICE_B (256ull << 20)

enum fork_part { PART_FORK, PART_PARENT, PART_CHILD, PART_DESTROY, PART_NR };

struct fork_result {
	double part[PART_NR], all; /* median seconds */
	double p99;
	u64 copied; /* tokens a round, all areas */
	u32 rounds;
};

struct fork_samples {
	double part[PART_NR][FORK_ROUNDS], all[FORK_ROUNDS];
};

static struct fork_samples samples;

static void summarise(struct fork_result *r, u32 n)
{
	u32 p;

	for (p = 0; p < PART_NR; p++)
		r->part[p] = bench_median(samples.part[p], n);
	r->all = bench_median(samples.all, n);
	r->p99 = bench_percentile(samples.all, n, 99);
	r->rounds = n;
}

static void note_times(u32 n, const double *t)
{
	u32 p;

	for (p = 0; p < PART_NR; p++)
		samples.part[p][n] = t[p + 1] - t[p];
	samples.all[n] = t[PART_NR] - t[0];
}

/* ---- over the rings ---- */

static int ring_round(struct bench_client *c, u32 parent, double *t,
		      u64 *copied)
{
	u32 child;
	int rc;

	t[0] = clock_s();
	rc = kv_space_fork(c->kv, parent, FORK_TOKENS, &child);
	if (rc)
		return rc;
	t[1] = clock_s();
	rc = bench_client_step(c, parent, FORK_TOKENS, 1, copied);
	t[2] = clock_s();
	if (!rc)
		rc = bench_client_step(c, child, FORK_TOKENS, 1, copied);
	t[3] = clock_s();
	if (!rc)
		rc = kv_space_destroy(c->kv, child);
	t[4] = clock_s();
	return rc ? rc : kv_space_truncate(c->kv, parent, FORK_TOKENS);
}

/* In pieces: a window's pages go again as it moves on. */
static int ring_fill(struct bench_client *c, u32 space)
{
	u32 pos, n;
	int rc = 0;

	for (pos = 0; !rc && pos < FORK_TOKENS; pos += n) {
		n = min(512u, FORK_TOKENS - pos);
		rc = bench_client_step(c, space, pos, n, NULL);
	}
	return rc;
}

static int fork_rings(const struct bench_opts *o, struct fork_result *r,
		      char *err)
{
	struct bench_client c = { 0 };
	struct private_kvmd *d;
	double t[PART_NR + 1], end;
	u64 copied = 0;
	u32 parent, n = 0;
	int rc = private_kvmd_start(FORK_DEVICE, NULL, &d, err);

	if (rc)
		return rc;
	rc = bench_client_open(&c, private_kvmd_socket(d), false);
	if (!rc)
		rc = kv_space_create(c.kv, &c.args, &parent);
	if (!rc)
		rc = ring_fill(&c, parent);
	if (!rc)
		rc = ring_round(&c, parent, t, &copied); /* warm */
	copied = 0;
	end = clock_s() + o->seconds;
	while (!rc && n < FORK_ROUNDS && (n < 10 || clock_s() < end)) {
		rc = ring_round(&c, parent, t, &copied);
		note_times(n++, t);
	}
	if (rc)
		snprintf(err, KV_ERRLEN, "%s",
			 c.err[0] ? c.err
			 : c.kv	  ? kv_error(c.kv)
				  : "no client");
	summarise(r, n);
	r->copied = n ? copied / n : 0;
	bench_client_close(&c);
	private_kvmd_stop(d);
	return rc;
}

/* ---- the core alone ---- */

static int core_write(struct mmhost *h, u32 space, u64 *copied)
{
	struct kv_resv_item item = { .space = space,
				     .nr_tokens = 1,
				     .pos = FORK_TOKENS };
	struct kv_copy copies[KV_AREA_MAX];
	int n = mmhost_reserve(h, &item, 1, copies), i;

	for (i = 0; i < n; i++)
		*copied += copies[i].tokens;
	if (n < 0)
		return n;
	mmhost_set_len(h, space, FORK_TOKENS + 1);
	mmhost_complete(h);
	return 0;
}

static int core_round(struct mmhost *h, u32 parent, double *t, u64 *copied)
{
	int rc, child;

	t[0] = clock_s();
	child = mm_space_fork(h->mm, h->client, parent, FORK_TOKENS);
	if (child < 0)
		return child;
	mmhost_set_len(h, (u32)child, FORK_TOKENS);
	t[1] = clock_s();
	rc = core_write(h, parent, copied);
	t[2] = clock_s();
	if (!rc)
		rc = core_write(h, (u32)child, copied);
	t[3] = clock_s();
	if (!rc)
		rc = mm_space_destroy(h->mm, h->client, (u32)child);
	mmhost_drain(h);
	t[4] = clock_s();
	if (rc)
		return rc;
	rc = mm_space_truncate(h->mm, h->client, parent, FORK_TOKENS);
	mmhost_set_len(h, parent, FORK_TOKENS);
	mmhost_drain(h);
	return rc;
}

static int core_parent(struct mmhost *h, u32 *parent)
{
	struct kv_space_args args = { .nr_areas = 2 };
	struct kv_resv_item item = { .nr_tokens = FORK_TOKENS };
	static struct kv_copy copies[KV_AREA_MAX];
	int full = mmhost_geom(h, 16, 3, 1, 256), win, rc;

	if (full < 0)
		return full;
	win = mmhost_geom(h, 16, 15, 1, 256);
	if (win < 0)
		return win;
	args.area[0].geom = (u32)full;
	args.area[0].nr_heads = 1;
	args.area[1].geom = (u32)win;
	args.area[1].nr_heads = 1;
	args.area[1].window = 512;
	rc = mm_space_create(h->mm, h->client, &args);
	if (rc < 0)
		return rc;
	*parent = item.space = (u32)rc;
	while (item.pos < FORK_TOKENS) {
		item.nr_tokens = min(512u, FORK_TOKENS - (u32)item.pos);
		rc = mmhost_reserve(h, &item, 1, copies);
		if (rc < 0)
			return rc;
		item.pos += item.nr_tokens;
		mmhost_set_len(h, *parent, item.pos);
		mmhost_complete(h);
	}
	return 0;
}

static int fork_core(const struct bench_opts *o, struct fork_result *r)
{
	double t[PART_NR + 1], end;
	struct mmhost h;
	u64 copied = 0;
	u32 parent, n = 0;
	int rc = mmhost_init(&h, FORK_DEVICE_B, 0);

	if (rc)
		return rc;
	rc = core_parent(&h, &parent);
	if (!rc)
		rc = core_round(&h, parent, t, &copied);
	copied = 0;
	end = clock_s() + o->seconds;
	while (!rc && n < FORK_ROUNDS && (n < 10 || clock_s() < end)) {
		rc = core_round(&h, parent, t, &copied);
		note_times(n++, t);
	}
	if (!rc && mm_check(h.mm, NULL, NULL))
		rc = -EUCLEAN;
	summarise(r, n);
	r->copied = n ? copied / n : 0;
	mmhost_fini(&h);
	return rc;
}

/* ---- figures ---- */

static int rings_once(const struct bench_opts *o, struct fork_result *r,
		      char *note, size_t len)
{
	static struct fork_result memo;
	static bool have;
	char err[KV_ERRLEN] = "";
	int rc = 0;

	if (!have) {
		rc = fork_rings(o, &memo, err);
		have = !rc;
		if (rc)
			snprintf(note, len, "%s", err);
	}
	*r = memo;
	return rc;
}

static int run_rings(const struct bench_opts *o, struct figure_result *r)
{
	struct fork_result f;
	int rc = rings_once(o, &f, r->note, sizeof(r->note));

	if (rc)
		return rc;
	r->measured = f.all * 1e6;
	snprintf(r->note, sizeof(r->note),
		 "fork %.1f, writes %.1f + %.1f, destroy %.1f us; 99 %%: %.0f",
		 f.part[PART_FORK] * 1e6, f.part[PART_PARENT] * 1e6,
		 f.part[PART_CHILD] * 1e6, f.part[PART_DESTROY] * 1e6,
		 f.p99 * 1e6);
	return 0;
}

static int run_core(const struct bench_opts *o, struct figure_result *r)
{
	struct fork_result f;
	int rc = fork_core(o, &f);

	r->measured = f.all * 1e6;
	snprintf(r->note, sizeof(r->note),
		 "fork %.1f, writes %.1f + %.1f, destroy %.1f us; 99 %%: %.0f",
		 f.part[PART_FORK] * 1e6, f.part[PART_PARENT] * 1e6,
		 f.part[PART_CHILD] * 1e6, f.part[PART_DESTROY] * 1e6,
		 f.p99 * 1e6);
	return rc;
}

static int run_copied(const struct bench_opts *o, struct figure_result *r)
{
	struct fork_result f;
	int rc = rings_once(o, &f, r->note, sizeof(r->note));

	r->measured = (double)f.copied;
	if (!rc)
		snprintf(r->note, sizeof(r->note),
			 "%u tokens of the tail in each of two areas",
			 FORK_TAIL);
	return rc;
}

FIGURE(fork_rings, .name = "fork.rings",
       .what = "fork of 32,776 tokens, first write on both sides, destroy; "
	       "over the rings",
       .unit = "us", .cmp = CMP_AT_MOST, .target = 100, .run = run_rings);
FIGURE(fork_core, .name = "fork.core", .what = "the same in the core alone",
       .unit = "us", .cmp = CMP_AT_MOST, .target = 100, .run = run_core);
FIGURE(fork_copied, .name = "fork.copied",
       .what = "tokens copied by it: those of the shared tail, per area",
       .unit = "tokens", .cmp = CMP_EQUAL, .target = 2 * FORK_TAIL,
       .run = run_copied);

static const struct report_col fork_cols[] = {
	{ "where", "where", 0 },	{ "fork", "fork us", 2 },
	{ "parent", "parent us", 2 },	{ "child", "child us", 2 },
	{ "destroy", "destroy us", 2 }, { "all", "all us", 2 },
	{ "p99", "99% us", 2 },		{ "copied", "tokens copied", 0 },
	{ "rounds", "rounds", 0 },
};

static void fork_row(struct report *rep, const char *where,
		     const struct fork_result *f)
{
	report_row(rep,
		   json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:i}",
			     "where", where, "fork", f->part[PART_FORK] * 1e6,
			     "parent", f->part[PART_PARENT] * 1e6, "child",
			     f->part[PART_CHILD] * 1e6, "destroy",
			     f->part[PART_DESTROY] * 1e6, "all", f->all * 1e6,
			     "p99", f->p99 * 1e6, "copied",
			     (json_int_t)f->copied, "rounds", (int)f->rounds));
}

static int run_fork(const struct bench_opts *o, struct report *rep)
{
	struct fork_result f;
	int rc;

	rep->cols = fork_cols;
	rep->nr_cols = ARRAY_SIZE(fork_cols);
	rc = fork_core(o, &f);
	if (rc)
		return rc;
	fork_row(rep, "core", &f);
	rc = rings_once(o, &f, rep->note, sizeof(rep->note));
	if (!rc)
		fork_row(rep, "rings", &f);
	return rc;
}

SUBJECT(fork, .name = "fork",
	.what = "fork, first writes, destroy: the core and over the rings",
	.run = run_fork);
