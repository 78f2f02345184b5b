/* SPDX-License-Identifier: MIT */
/*
 * backend.c - the engine's pages from the core of the simulated world
 *
 * What libkv does, without rings, and without content. A step is
 *
 *	reserved	mm_reserve(); one that waits is waited for in the
 *			world's time
 *	marked		so that none of its spaces leaves the device
 *	ended		completed, lengths, epoch
 *
 * One reservation can be under way for the step after the one that runs
 * (step_prefetch()); it is taken if that step turns out to be the same, and
 * gives way to another one when it was answered. Each attempt has a number of
 * its own; completed is one below the lowest number that is open.
 */
#include "tools/kvbench/sim/backend.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kv/step.h>

#include "runtime/engine/kv_none.h"

struct attempt {
	struct kv_resv_item item[KV_RESV_MAX];
	u32 nr;
	u64 step; /* 0: none */
	bool waits;
	int res;
	u64 extra;
};

struct simkv {
	struct kv_backend b;
	struct world *w;
	struct world_client c;
	struct world_cond cond;
	const struct simkv_shape *shape;
	struct kv_geometry geom[KV_AREA_MAX];
	u32 geom_id[KV_AREA_MAX];
	u64 issued, ticket, epoch, lost, wanted;
	u64 published[KV_SPACE_MAX];
	struct attempt now, ahead;
	u64 len[KV_RESV_MAX]; /* before the commit at hand */
	u32 nr_bad; /* steps that libkv would have refused */
	char error[128];
};

static struct simkv *to_sim(struct kv_backend *b)
{
	return container_of(b, struct simkv, b);
}

static int fail(struct simkv *s, int rc, const char *what)
{
	snprintf(s->error, sizeof(s->error), "%s: %s", what, strerror(-rc));
	return rc;
}

/* ---- spaces ---- */

static void set_len(struct simkv *s, u32 space, u64 len)
{
	kv_store_release(&s->c.status->space[space].len, len);
}

static u64 len_of(const struct simkv *s, u32 space)
{
	return kv_load_relaxed(&s->c.status->space[space].len);
}

static int sim_space_create(struct kv_backend *b, u32 *space)
{
	struct simkv *s = to_sim(b);
	struct kv_space_args a = { .nr_areas = (u16)b->nr_areas };
	u32 i;
	int rc;

	for (i = 0; i < b->nr_areas; i++)
		a.area[i] = (struct kv_area_args){
			.geom = s->geom_id[i],
			.window = s->shape->area[i].window,
			.nr_heads = s->geom[i].nr_kv_heads,
		};
	rc = mm_space_create(world_mm(s->w), s->c.index, &a);
	world_drain(s->w);
	if (rc < 0)
		return fail(s, rc, "no space");
	*space = (u32)rc;
	set_len(s, *space, 0);
	kv_step_mark(&s->c.status->space[*space], 0);
	s->published[*space] = 0;
	return 0;
}

static int sim_space_fork(struct kv_backend *b, u32 parent, u64 len, u32 *space)
{
	struct simkv *s = to_sim(b);
	int rc = mm_space_fork(world_mm(s->w), s->c.index, parent, len);

	world_drain(s->w);
	if (rc < 0)
		return fail(s, rc, "fork");
	*space = (u32)rc;
	set_len(s, *space, len);
	kv_step_mark(&s->c.status->space[*space], 0);
	s->published[*space] = min(s->published[parent], len);
	return 0;
}

static int sim_space_truncate(struct kv_backend *b, u32 space, u64 len)
{
	struct simkv *s = to_sim(b);
	int rc;

	set_len(s, space, len);
	growing_drop(world_growing(s->w), s->c.index, space);
	rc = mm_space_truncate(world_mm(s->w), s->c.index, space, len);
	world_drain(s->w);
	s->published[space] = min(s->published[space], len);
	return rc < 0 ? fail(s, rc, "truncate") : 0;
}

static void sim_space_destroy(struct kv_backend *b, u32 space)
{
	struct simkv *s = to_sim(b);

	growing_drop(world_growing(s->w), s->c.index, space);
	mm_space_destroy(world_mm(s->w), s->c.index, space);
	world_drain(s->w);
}

static const u32 *sim_space_table(struct kv_backend *b, u32 space, u32 area)
{
	return NULL; /* there is nothing to look up */
}

/* ---- steps ---- */

static void advance(struct simkv *s)
{
	u64 to = s->issued;

	if (s->now.step)
		to = s->now.step - 1;
	if (s->ahead.step)
		to = min(to, s->ahead.step - 1);
	kv_step_end(&s->c.status->rank[0], to);
}

static void close_attempt(struct simkv *s, struct attempt *a)
{
	a->step = 0;
	advance(s);
}

static void on_granted(struct world_client *c, int res, u64 extra)
{
	struct simkv *s = container_of(c, struct simkv, c);
	struct attempt *a = s->ahead.waits ? &s->ahead : &s->now;

	if (s->now.waits)
		a = &s->now;
	a->waits = false;
	a->res = res;
	a->extra = extra;
	world_raise(s->w, &s->cond);
}

static void on_wanted(struct world_client *c, u64 bytes)
{
	struct simkv *s = container_of(c, struct simkv, c);

	s->wanted = max(s->wanted, bytes);
}

/* Tokens that a space has, or will have when the step at hand has run. */
static u64 end_of(const struct simkv *s, u32 space)
{
	u64 end = len_of(s, space);
	u32 i;

	for (i = 0; s->now.step && i < s->now.nr; i++)
		if (s->now.item[i].space == space)
			end = max(end, s->now.item[i].pos +
					       s->now.item[i].nr_tokens);
	return end;
}

static bool is_bad(struct simkv *s, const struct kv_resv_item *items, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++) {
		if (items[i].nr_tokens &&
		    items[i].pos <= end_of(s, items[i].space))
			continue;
		s->nr_bad++;
		return true;
	}
	return false;
}

static void post(struct simkv *s, struct attempt *a,
		 const struct kv_resv_item *items, u32 nr, bool wait)
{
	static struct kv_copy copies[KV_RESV_MAX * KV_AREA_MAX];
	struct mm_resv r = {
		.step = ++s->issued,
		.items = a->item,
		.nr_items = nr,
		.flags = wait ? KV_SQE_WAIT : 0,
		.out_room = (u32)sizeof(copies),
	};
	u32 seq;

	memcpy(a->item, items, nr * sizeof(*items));
	a->nr = nr;
	a->step = r.step;
	a->extra = 0;
	a->res = mm_reserve(world_mm(s->w), s->c.index, &r, copies, &seq,
			    &a->extra);
	a->waits = a->res == -EINPROGRESS;
	s->ticket = a->extra;
	world_drain(s->w);
}

/* Until the attempt has its end, or the time is over and it is taken back. */
static void settle(struct simkv *s, struct attempt *a, u64 ns)
{
	u64 until = ns == ~0ull ? ~0ull : world_now(s->w) + ns;

	while (a->waits) {
		s->cond.raised = false;
		if (world_wait(s->w, &s->cond,
			       until == ~0ull ? ~0ull
					      : until - world_now(s->w)) ||
		    !a->waits)
			continue;
		mm_cancel(world_mm(s->w), s->c.index, s->ticket);
		world_drain(s->w);
		until = ~0ull; /* its end comes in any case */
	}
	if (a->res == -ECANCELED)
		a->res = -ETIMEDOUT;
}

static void drop_ahead(struct simkv *s)
{
	if (!s->ahead.step)
		return;
	settle(s, &s->ahead, ~0ull);
	close_attempt(s, &s->ahead);
}

/* What was asked for ahead, if it was granted for this very step. */
static bool take_ahead(struct simkv *s, const struct kv_resv_item *items,
		       u32 nr)
{
	struct attempt *a = &s->ahead;

	if (!a->step)
		return false;
	settle(s, a, ~0ull);
	if (a->res < 0 || a->nr != nr ||
	    memcmp(a->item, items, nr * sizeof(*items)) != 0) {
		close_attempt(s, a);
		return false;
	}
	s->now = *a;
	a->step = 0;
	return true;
}

static int sim_step_prepare(struct kv_backend *b,
			    const struct kv_resv_item *items, u32 nr,
			    int timeout_ms)
{
	struct simkv *s = to_sim(b);
	struct attempt *a = &s->now;
	u64 ns = timeout_ms > 0 ? (u64)timeout_ms * WORLD_MS : ~0ull;
	u32 i;

	if (is_bad(s, items, nr))
		return fail(s, -EINVAL, "a step beyond a space's end");
	if (!take_ahead(s, items, nr)) {
		post(s, a, items, nr, timeout_ms != 0);
		settle(s, a, ns);
	}
	if (a->res < 0) {
		close_attempt(s, a);
		if (a->res == -ENODATA)
			s->lost = a->extra;
		return fail(s, a->res, "a step's pages");
	}
	s->epoch = kv_load_acquire(&s->c.table->epoch);
	for (i = 0; i < nr; i++)
		kv_step_mark(&s->c.status->space[items[i].space], a->step);
	return 0;
}

static void sim_step_prefetch(struct kv_backend *b,
			      const struct kv_resv_item *items, u32 nr)
{
	struct simkv *s = to_sim(b);

	if (nr && (s->ahead.waits || is_bad(s, items, nr)))
		return;
	drop_ahead(s);
	if (nr)
		post(s, &s->ahead, items, nr, false);
}

static int sim_step_commit(struct kv_backend *b)
{
	struct simkv *s = to_sim(b);
	struct attempt *a = &s->now;
	u64 epoch = s->epoch, *len = s->len;
	u32 i;

	close_attempt(s, a);
	for (i = 0; i < a->nr; i++) {
		const struct kv_resv_item *it = &a->item[i];

		len[i] = len_of(s, it->space);
		epoch = kv_step_store_len(&s->c.status->space[it->space],
					  max(len[i], it->pos + it->nr_tokens),
					  s->c.table);
	}
	if (epoch == s->epoch)
		return 0;
	for (i = 0; i < a->nr; i++)
		set_len(s, a->item[i].space, len[i]);
	return fail(s, -ESTALE, "memory was revoked under a step");
}

static void sim_step_abandon(struct kv_backend *b)
{
	struct simkv *s = to_sim(b);

	close_attempt(s, &s->now);
}

/* ---- prefixes ---- */

static u64 whole_pages(const struct simkv *s, u64 nr)
{
	return nr - nr % s->geom[0].page_tokens;
}

static u32 sim_prefix_map(struct kv_backend *b, u32 space, const u32 *ids,
			  u32 nr)
{
	struct simkv *s = to_sim(b);
	u32 seq;
	int rc =
		mm_prefix_map(world_mm(s->w), s->c.index, space, ids, nr, &seq);

	world_drain(s->w);
	if (rc <= 0)
		return 0;
	set_len(s, space, (u64)rc);
	s->published[space] = whole_pages(s, (u64)rc);
	return (u32)rc;
}

static void sim_prefix_find(struct kv_backend *b, u32 space, const u32 *ids,
			    u32 nr, bool announce, struct kv_found *out)
{
	struct simkv *s = to_sim(b);
	struct mm_found f;

	*out = (struct kv_found){ 0 };
	if (mm_prefix_find(world_mm(s->w), s->c.index, space, ids, nr, &f))
		return;
	*out = (struct kv_found){
		.len = f.len,
		.soon = (u32)growing_ask(world_growing(s->w), s->c.index, space,
					 &f, ids, nr, announce),
		.known = f.known,
	};
}

static void sim_prefix_publish(struct kv_backend *b, u32 space, const u32 *ids,
			       u32 nr, bool resume)
{
	struct simkv *s = to_sim(b);
	u64 from = s->published[space];
	u32 seq;
	int rc;

	nr = (u32)min((u64)nr, len_of(s, space));
	if (nr < from || (nr == from && !(nr && resume)))
		return;
	growing_published(world_growing(s->w), s->c.index, space, nr);
	rc = mm_prefix_publish(world_mm(s->w), s->c.index, space, from,
			       ids + from, nr - (u32)from, resume, &seq);
	if (rc == -ENODATA && from)
		rc = mm_prefix_publish(world_mm(s->w), s->c.index, space, 0,
				       ids, nr, resume, &seq);
	world_drain(s->w);
	if (rc >= 0)
		s->published[space] = whole_pages(s, min((u64)rc, (u64)nr));
}

/* ---- looking ---- */

static void sim_shrink(struct kv_backend *b)
{
	struct simkv *s = to_sim(b);

	mm_shrink(world_mm(s->w), s->c.index);
	world_drain(s->w);
}

static u64 sim_swap_room(struct kv_backend *b)
{
	struct mm_usage u;
	u64 room = 0;
	u32 i;

	mm_usage_get(world_mm(to_sim(b)->w), &u);
	for (i = 0; i < WORLD_TIERS; i++)
		room += u.swap_bytes[i] - min(u.swap_bytes[i], u.swap_used[i]);
	return room;
}

static bool is_present(struct simkv *s, const struct kv_area_desc *d, u32 page)
{
	u32 leaf = kv_load_relaxed(&d->leaf[page / KV_LEAF_PTES]);

	return leaf < kv_load_relaxed(&s->c.table->nr_leaves) &&
	       kv_pte_is_present(
		       kv_step_pte(&kv_table_leaf(s->c.table, leaf)
					    ->pte[page % KV_LEAF_PTES]));
}

static u64 sim_space_out(struct kv_backend *b, u32 space, u64 pos)
{
	struct simkv *s = to_sim(b);
	const struct kv_space_desc *d = kv_table_space(s->c.table, space);
	u64 bytes = 0, seen;
	u32 a, page, pt, window;

	for (a = 0; a < b->nr_areas; a++) {
		pt = s->geom[a].page_tokens;
		window = s->shape->area[a].window;
		seen = window && pos + 1 > window ? pos + 1 - window : 0;
		for (page = (u32)seen / pt; page < DIV_ROUND_UP(pos, pt);
		     page++)
			bytes += is_present(s, &d->area[a], page)
					 ? 0
					 : s->geom[a].page_bytes;
	}
	return bytes;
}

static bool sim_space_whole(struct kv_backend *b, u64 nr)
{
	const struct simkv *s = to_sim(b);
	u32 i;

	for (i = 0; i < b->nr_areas; i++)
		if (!kv_area_whole(nr, s->shape->area[i].window))
			return false;
	return true;
}

static u64 sim_space_private(struct kv_backend *b, u32 space)
{
	struct simkv *s = to_sim(b);
	struct mm_space_info si;

	return mm_space_info(world_mm(s->w), s->c.index, space, &si)
		       ? 0
		       : si.uss_bytes;
}

/* As paged_limit(): what others hold, and what each area cannot fill, is not
 * to be had. */
static u64 sim_limit(struct kv_backend *b)
{
	struct simkv *s = to_sim(b);
	struct mm_client_info ci;
	struct mm_usage u;
	u64 others, all;

	mm_usage_get(world_mm(s->w), &u);
	if (mm_client_info(world_mm(s->w), s->c.index, &ci))
		return ~0ull;
	others = u.held_bytes - min(u.held_bytes, ci.held_bytes);
	all = u.device_bytes - min(u.device_bytes, others);
	return all - min(all, (u64)b->nr_areas * KV_EXTENT_SIZE);
}

static bool sim_lost(struct kv_backend *b, u32 *space)
{
	struct simkv *s = to_sim(b);

	if (!s->lost)
		return false;
	*space = (u32)(s->lost >> 32);
	s->lost = 0;
	return true;
}

static const char *sim_error(struct kv_backend *b)
{
	return to_sim(b)->error;
}

static void sim_destroy(struct kv_backend *b)
{
	/* its table and status stay the world's */
	free(to_sim(b));
}

static u64 sim_missing(struct kv_backend *b)
{
	return to_sim(b)->now.extra;
}

static const struct kv_backend_ops sim_ops = {
	.name = "sim",
	.space_create = sim_space_create,
	.space_fork = sim_space_fork,
	.space_truncate = sim_space_truncate,
	.space_destroy = sim_space_destroy,
	.space_table = sim_space_table,
	.step_prepare = sim_step_prepare,
	.step_prefetch = sim_step_prefetch,
	.step_copies = kv_none_step_copies,
	.step_commit = sim_step_commit,
	.step_abandon = sim_step_abandon,
	.prefix_map = sim_prefix_map,
	.prefix_find = sim_prefix_find,
	.prefix_publish = sim_prefix_publish,
	.shrink = sim_shrink,
	.swap_room = sim_swap_room,
	.space_out = sim_space_out,
	.space_whole = sim_space_whole,
	.space_private = sim_space_private,
	.limit = sim_limit,
	.missing = sim_missing,
	.lost = sim_lost,
	.error = sim_error,
	.destroy = sim_destroy,
};

u64 simkv_wanted(struct kv_backend *b)
{
	struct simkv *s = to_sim(b);
	u64 wanted = s->wanted;

	s->wanted = 0;
	return wanted;
}

u32 simkv_bad(const struct kv_backend *b)
{
	return container_of(b, const struct simkv, b)->nr_bad;
}

int simkv_create(struct world *w, const char *tenant,
		 const struct simkv_shape *shape, struct kv_backend **out)
{
	struct simkv *s = calloc(1, sizeof(*s));
	u32 i;
	int rc;

	if (!s)
		return -ENOMEM;
	s->b.ops = &sim_ops;
	s->b.nr_areas = shape->nr_areas;
	s->w = w;
	s->shape = shape;
	s->c.granted = on_granted;
	s->c.wanted = on_wanted;
	rc = world_attach(w, tenant, &s->c);
	for (i = 0; !rc && i < shape->nr_areas; i++) {
		bench_geometry(&s->geom[i], shape->page_tokens,
			       shape->area[i].nr_layers,
			       shape->area[i].nr_kv_heads,
			       shape->area[i].head_dim);
		rc = mm_geom_add(world_mm(w), s->c.index, &s->geom[i],
				 &s->geom_id[i]);
		s->b.law[i] = (struct kv_area_law){
			.page_tokens = s->geom[i].page_tokens,
			.page_bytes = s->geom[i].page_bytes,
			.window = shape->area[i].window,
		};
	}
	if (rc) {
		free(s);
		return rc;
	}
	*out = &s->b;
	return 0;
}
