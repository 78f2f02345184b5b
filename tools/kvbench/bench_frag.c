/* SPDX-License-Identifier: MIT */
/*
 * bench_frag.c - what a client is charged for, over what its pages fill
 *
 * Sequences of four geometries come, grow, fork, are cut back and go through
 * the real core, until the pool has been filled and left again some times;
 * then a random part of them goes at once, and nothing happens any more. What
 * is left lies strewn over the extents; compaction has ten seconds.
 *
 *	pinned	bytes of extents that the client is charged for
 *	held	bytes of its frames in use
 *	moved	bytes copied for each byte of an extent that came empty
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/mmhost.h"

#include <errno.h>
#include <string.h>

#define FRAG_GEOMS 4u
#define FRAG_SEQS  1200u
#define FRAG_TURNS 10000u /* of a millisecond, in which nothing happens */

struct frag_seq {
	bool live;
	u32 geom, space, len;
};

struct frag {
	struct mmhost h;
	struct bench_rng rng;
	u32 geom[FRAG_GEOMS];
	struct frag_seq seq[FRAG_SEQS];
	double before, after, moved; /* ratios */
	u64 held; /* bytes */
};

static u32 frag_roll(struct frag *f, u32 n)
{
	return (u32)(bench_rand(&f->rng) % n);
}

static int frag_create(struct frag *f, struct frag_seq *q)
{
	struct kv_space_args args = { .nr_areas = 1 };
	int rc;

	q->geom = frag_roll(f, FRAG_GEOMS);
	args.area[0].geom = f->geom[q->geom];
	args.area[0].nr_heads = 1;
	rc = mm_space_create(f->h.mm, f->h.client, &args);
	if (rc < 0)
		return rc;
	q->space = (u32)rc;
	q->len = 0;
	q->live = true;
	return 0;
}

static int frag_destroy(struct frag *f, struct frag_seq *q)
{
	q->live = false;
	return mm_space_destroy(f->h.mm, f->h.client, q->space);
}

static int frag_append(struct frag *f, struct frag_seq *q)
{
	struct kv_resv_item item = { .space = q->space,
				     .nr_tokens = 1 + frag_roll(f, 100),
				     .pos = q->len };
	struct kv_copy copies[KV_AREA_MAX];
	int rc;

	rc = mmhost_reserve(&f->h, &item, 1, copies);
	if (rc == -EAGAIN)
		return frag_destroy(f, q); /* full: this one gives way */
	if (rc < 0)
		return rc;
	q->len += item.nr_tokens;
	mmhost_set_len(&f->h, q->space, q->len);
	return 0;
}

static int frag_fork(struct frag *f, const struct frag_seq *q,
		     struct frag_seq *to)
{
	int rc;

	if (to->live || !q->len)
		return 0;
	rc = mm_space_fork(f->h.mm, f->h.client, q->space,
			   1 + frag_roll(f, q->len));
	if (rc < 0)
		return rc;
	*to = *q;
	to->space = (u32)rc;
	to->len = 0;
	return frag_destroy(f, to); /* a draft that came to nothing */
}

static int frag_truncate(struct frag *f, struct frag_seq *q)
{
	q->len = q->len ? frag_roll(f, q->len) : 0;
	mmhost_set_len(&f->h, q->space, q->len);
	return mm_space_truncate(f->h.mm, f->h.client, q->space, q->len);
}

static int frag_turn(struct frag *f)
{
	struct frag_seq *q = &f->seq[frag_roll(f, FRAG_SEQS)];
	u32 what = frag_roll(f, 100);
	int rc;

	if (!q->live)
		rc = frag_create(f, q);
	else if (what < 4)
		rc = frag_destroy(f, q);
	else if (what < 8)
		rc = frag_truncate(f, q);
	else if (what < 12)
		rc = frag_fork(f, q, &f->seq[frag_roll(f, FRAG_SEQS)]);
	else
		rc = frag_append(f, q);
	mmhost_drain(&f->h);
	if (what % 4 == 0)
		mmhost_complete(&f->h);
	return rc;
}

static double frag_ratio(struct frag *f)
{
	struct mm_usage u;

	mm_usage_get(f->h.mm, &u);
	f->held = u.frame_bytes;
	return (double)u.held_bytes / (double)max(u.frame_bytes, 1ull);
}

static int frag_init(struct frag *f, u64 pool_bytes, u64 seed)
{
	static const u32 layers[FRAG_GEOMS] = { 3, 8, 20, 28 };
	u32 g;
	int rc;

	memset(f, 0, sizeof(*f));
	f->rng.s = seed;
	rc = mmhost_init(&f->h, pool_bytes, 0);
	for (g = 0; !rc && g < FRAG_GEOMS; g++) {
		rc = mmhost_geom(&f->h, 16, layers[g], 1, 256);
		f->geom[g] = (u32)rc;
		rc = min(rc, 0);
	}
	return rc;
}

static int frag_run(struct frag *f, u64 pool_bytes, u32 turns, u64 seed)
{
	struct mm_counts a, b;
	int rc = frag_init(f, pool_bytes, seed);
	u32 i;

	for (i = 0; !rc && i < turns; i++)
		rc = frag_turn(f);
	if (!rc)
		mm_counts_get(f->h.mm, &a);
	for (i = 0; !rc && i < FRAG_SEQS; i++)
		if (f->seq[i].live && frag_roll(f, 100) < 50)
			rc = frag_destroy(f, &f->seq[i]);
	if (!rc) {
		kv_store_release(&f->h.status->rank[0].completed, f->h.step);
		mm_now(f->h.mm, f->h.now_ns);
		mm_shrink(f->h.mm, f->h.client);
		mmhost_drain(&f->h);
		f->before = frag_ratio(f);
	}
	for (i = 0; !rc && i < FRAG_TURNS; i++)
		mmhost_complete(&f->h);
	if (!rc && mm_check(f->h.mm, NULL, NULL))
		rc = -EUCLEAN;
	if (!rc) {
		mm_counts_get(f->h.mm, &b);
		f->after = frag_ratio(f);
		f->moved = (double)(b.compact_bytes - a.compact_bytes) /
			   (double)max((b.compact_freed_extents -
					a.compact_freed_extents) *
					       KV_EXTENT_SIZE,
				       1ull);
	}
	if (f->h.mm)
		mmhost_fini(&f->h);
	return rc;
}

static int run_pinned(const struct bench_opts *o, struct figure_result *r)
{
	static struct frag f;
	int rc = frag_run(&f, o->tiny ? 256ull << 20 : 2ull << 30,
			  o->tiny ? 8000 : 60000, o->seed);

	r->measured = f.after;
	r->bound = 1;
	snprintf(r->bound_what, sizeof(r->bound_what), "no waste");
	snprintf(r->note, sizeof(r->note),
		 "%.3f before; %.2f bytes moved a byte freed; %llu MiB held",
		 f.before, f.moved, (unsigned long long)(f.held >> 20));
	return rc;
}

FIGURE(util_pinned, .name = "util.pinned",
       .what = "bytes charged over bytes of frames in use, four geometries "
	       "at random, when idle",
       .unit = "x", .cmp = CMP_AT_MOST, .target = 1.1, .run = run_pinned);

/* ---- kvbench frag: pools of several sizes ---- */

static const struct report_col frag_cols[] = {
	{ "pool_mib", "pool MiB", 0 }, { "held_mib", "held MiB", 0 },
	{ "before", "before", 3 },     { "after", "after", 3 },
	{ "moved", "moved/freed", 2 },
};

static int run_frag(const struct bench_opts *o, struct report *rep)
{
	static const u32 pools[] = { 256, 512, 1024, 2048, 4096 };
	static struct frag f;
	u32 i;
	int rc = 0;

	rep->cols = frag_cols;
	rep->nr_cols = ARRAY_SIZE(frag_cols);
	for (i = 0; !rc && i < (o->tiny ? 2u : ARRAY_SIZE(pools)); i++) {
		rc = frag_run(&f, (u64)pools[i] << 20, o->tiny ? 8000 : 60000,
			      o->seed);
		if (rc)
			break;
		report_row(rep, json_pack("{s:i, s:I, s:f, s:f, s:f}",
					  "pool_mib", (int)pools[i], "held_mib",
					  (json_int_t)(f.held >> 20), "before",
					  f.before, "after", f.after, "moved",
					  f.moved));
	}
	return rc;
}

SUBJECT(frag, .name = "frag",
	.what = "memory charged over memory in use, before and after "
		"compaction (mm core)",
	.run = run_frag);
