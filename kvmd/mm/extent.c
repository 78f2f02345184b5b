/* SPDX-License-Identifier: MIT */
/*
 * extent.c - who has which 8 MiB of the device, and on whose account
 *
 *	bare -> filling -> ready -> granted -> quarantine -> scrubbing -> ready
 *	  ^________________|___________________________________|
 *
 * A bare, filling, ready or scrubbing extent is nobody's. A granted one is a
 * client's and charged to its tenant until its memory may be reused; then
 * the charge ends and the memory is scrubbed before anybody else sees it.
 *
 * An extent that a live client gives back is wholly free: every frame in it
 * has passed its pin, so no kernel reads or writes it, and it passes through
 * quarantine at once. The extents of a client that is going stay there,
 * whatever its pins say, until mm_client_gone(): only then has its device
 * stream ended for certain (K8).
 *
 * A client keeps at most one empty extent, and none while its tenant is over
 * its limit or somebody waits for memory. Ready extents are a small reserve
 * of populated memory; more is asked for when it runs low, less is kept when
 * weights need the room.
 *
 * A refused populate is not repeated for MM_BACKOFF_NS or until memory comes
 * back by itself.
 */
#include "kvmd/mm/extent.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/room.h"

static u64 tenant_used(const struct tenant *t)
{
	return t->held + t->charged;
}

static void set_state(struct mm *mm, u32 i, enum extent_state to)
{
	struct extent *e = &mm_extents(mm)[i];

	if (e->state != EXTENT_GRANTED)
		ilist_del(&mm->by_state[e->state], ILINKS(mm_extents(mm), link),
			  i);
	e->state = to;
	if (to != EXTENT_GRANTED)
		ilist_add_tail(&mm->by_state[to], ILINKS(mm_extents(mm), link),
			       i);
}

void extent_init(struct mm *mm)
{
	u32 i;

	for (i = 0; i < EXTENT_NR_STATES; i++)
		ilist_init(&mm->by_state[i]);
	for (i = 0; i < mm->nr_extents; i++) {
		mm_extents(mm)[i].client = MM_NONE;
		ilist_add_tail(&mm->by_state[EXTENT_BARE],
			       ILINKS(mm_extents(mm), link), i);
	}
}

u64 extent_device_left(const struct mm *mm)
{
	u64 backed = (u64)(mm->nr_extents - mm->by_state[EXTENT_BARE].nr) *
		     KV_EXTENT_SIZE;

	return mm->cfg.device_bytes - backed - mm->charged;
}

u32 extent_nr_possible(const struct mm *mm)
{
	u64 left;

	if (mm->backoff)
		return 0;
	left = extent_device_left(mm);
	left -= min(left, mm->room_bytes);
	return (u32)min((u64)mm->by_state[EXTENT_BARE].nr,
			left / KV_EXTENT_SIZE);
}

u32 extent_nr_coming(const struct mm *mm)
{
	return mm->by_state[EXTENT_FILLING].nr +
	       mm->by_state[EXTENT_SCRUBBING].nr;
}

void extent_refill(struct mm *mm)
{
	u32 have = mm->by_state[EXTENT_READY].nr + extent_nr_coming(mm);
	u32 want = mm->cfg.ready_extents + mm->demand;
	u32 i;

	while (have < want && extent_nr_possible(mm)) {
		i = mm->by_state[EXTENT_BARE].first;
		mm_extents(mm)[i].backed = 1;
		set_state(mm, i, EXTENT_FILLING);
		mm_queue(mm, MM_REQ_POPULATE, NULL, i, 0);
		mm_trace(mm, KV_TP_POPULATE, MM_NONE, i);
		have++;
	}
}

u32 extent_tenant_room(const struct mm *mm, u32 tenant)
{
	const struct tenant *t = &mm->tenants[tenant];
	u64 cap = min(t->limits.max_bytes, mm->cfg.device_bytes);
	u64 used = tenant_used(t);

	return used >= cap ? 0 : (u32)((cap - used) / KV_EXTENT_SIZE);
}

u32 extent_grant(struct mm *mm, struct client *c)
{
	struct tenant *t = &mm->tenants[c->tenant];
	u32 i = mm->by_state[EXTENT_READY].first;
	struct extent *e = &mm_extents(mm)[i];

	set_state(mm, i, EXTENT_GRANTED);
	e->seq = c->state == CLIENT_CACHE ? 0 : ++c->extent_seq;
	mm_order();
	e->client = client_index(mm, c);
	e->free_mask = EXTENT_ALL_FREE;
	ilist_add_tail(&c->extents[EXTENT_ALL_FREE],
		       ILINKS(mm_extents(mm), link), i);
	c->nr_extents++;
	c->nr_empty++;
	mm->nr_granted++;
	t->held += KV_EXTENT_SIZE;
	t->max_seen = max(t->max_seen, tenant_used(t));
	mm->counts.extents_granted++;
	if (e->seq)
		mm_queue(mm, MM_REQ_GRANT, c, i, e->seq);
	mm_trace(mm, KV_TP_GRANT, e->client, i);
	return i;
}

void extent_set_mask(struct mm *mm, struct client *c, u32 i, u8 free_mask)
{
	struct extent *e = &mm_extents(mm)[i];

	c->nr_empty -= e->free_mask == EXTENT_ALL_FREE;
	ilist_del(&c->extents[e->free_mask], ILINKS(mm_extents(mm), link), i);
	e->free_mask = free_mask;
	ilist_add_head(&c->extents[free_mask], ILINKS(mm_extents(mm), link), i);
	c->nr_empty += free_mask == EXTENT_ALL_FREE;
}

/* From quarantine: nobody's kernel can touch it any more. */
static void leave_quarantine(struct mm *mm, struct client *c, u32 i,
			     bool release)
{
	struct extent *e = &mm_extents(mm)[i];

	mm->tenants[c->tenant].held -= KV_EXTENT_SIZE;
	mm->counts.extents_returned++;
	mm->dirty = true;
	e->client = MM_NONE;
	e->free_mask = 0;
	c->nr_extents--;
	if (release || room_is_wanted(mm)) {
		set_state(mm, i, EXTENT_BARE);
		mm_queue(mm, MM_REQ_RELEASE, NULL, i, 0);
		mm_trace(mm, KV_TP_RELEASE, MM_NONE, i);
		return;
	}
	set_state(mm, i, EXTENT_SCRUBBING);
	/* who gave it back has it scrubbed, unless others wait for it */
	mm_queue(mm, MM_REQ_SCRUB, NULL, i, mm->demand ? 0 : 1 + c->tenant);
	mm_trace(mm, KV_TP_SCRUB, MM_NONE, i);
}

void extent_return(struct mm *mm, struct client *c, u32 i, bool release)
{
	struct extent *e = &mm_extents(mm)[i];

	ilist_del(&c->extents[EXTENT_ALL_FREE], ILINKS(mm_extents(mm), link),
		  i);
	c->nr_empty--;
	mm->nr_granted--;
	if (e->seq)
		mm_queue(mm, MM_REQ_WITHDRAW, c, i, e->seq);
	else
		cache_withdrawn(mm, c, i);
	set_state(mm, i, EXTENT_QUARANTINE);
	mm_trace(mm, KV_TP_WITHDRAW, e->client, i);
	leave_quarantine(mm, c, i, release);
}

u32 extent_trim(struct mm *mm, struct client *c, u32 keep, bool release)
{
	u32 n = 0;

	while (c->nr_empty > keep) {
		extent_return(mm, c, c->extents[EXTENT_ALL_FREE].last, release);
		n++;
	}
	return n;
}

u32 extent_reclaim(struct mm *mm, u32 tenant, const struct client *except,
		   bool release)
{
	struct client *cs = mm_clients(mm);
	u32 i, n = 0;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE && &cs[i] != except &&
		    (tenant == MM_NONE || cs[i].tenant == tenant))
			n += extent_trim(mm, &cs[i], 0, release);
	return n;
}

static void release_one(struct mm *mm)
{
	u32 i = mm->by_state[EXTENT_READY].last;

	set_state(mm, i, EXTENT_BARE);
	mm_queue(mm, MM_REQ_RELEASE, NULL, i, 0);
	mm_trace(mm, KV_TP_RELEASE, MM_NONE, i);
}

void extent_release_empty(struct mm *mm, u64 bytes)
{
	while (extent_device_left(mm) < bytes && mm->by_state[EXTENT_READY].nr)
		release_one(mm);
	if (extent_device_left(mm) < bytes)
		extent_reclaim(mm, MM_NONE, NULL, true);
}

void extent_release_cache(struct mm *mm, u64 bytes)
{
	if (extent_device_left(mm) < bytes)
		cache_reclaim(mm, NULL, false,
			      (u32)DIV_ROUND_UP(bytes - extent_device_left(mm),
						KV_EXTENT_SIZE));
}

void extent_quarantine(struct mm *mm, struct client *c)
{
	u32 mask, i;

	for (mask = 0; mask <= EXTENT_ALL_FREE; mask++) {
		while ((i = ilist_pop(&c->extents[mask],
				      ILINKS(mm_extents(mm), link))) !=
		       ILIST_NONE) {
			set_state(mm, i, EXTENT_QUARANTINE);
			mm->nr_granted--;
			mm_trace(mm, KV_TP_QUARANTINE, client_index(mm, c), i);
		}
	}
	c->nr_empty = 0;
}

void extent_scrub_all(struct mm *mm, struct client *c)
{
	struct extent *es = mm_extents(mm);
	struct chunk *chunks = mm_chunks(mm);
	u32 i, next, self = client_index(mm, c);

	ilist_for_each_safe (i, next, &mm->by_state[EXTENT_QUARANTINE],
			     ILINKS(es, link)) {
		if (es[i].client != self)
			continue;
		for (u32 k = 0; k < KV_EXTENT_CHUNKS; k++)
			chunks[i * KV_EXTENT_CHUNKS + k].state = CHUNK_FREE;
		leave_quarantine(mm, c, i, false);
	}
}

/* Ready, unless more is ready than anybody wants. */
static void made_ready(struct mm *mm, u32 i)
{
	u32 want = max(1u, 2 * mm->cfg.ready_extents) + mm->demand;

	set_state(mm, i, EXTENT_READY);
	mm->dirty = true;
	if (mm->by_state[EXTENT_READY].nr > want || room_is_wanted(mm))
		release_one(mm);
}

/* The host answers for an extent: is it in the state that asked? */
static bool is_answer(struct mm *mm, u32 i, enum extent_state asked)
{
	if (i < mm->nr_extents && mm_extents(mm)[i].state == asked)
		return true;
	mm->counts.invalid++;
	return false;
}

void mm_populate_done(struct mm *mm, u32 i, int err)
{
	if (!is_answer(mm, i, EXTENT_FILLING))
		return;
	if (err) {
		set_state(mm, i, EXTENT_BARE);
		mm->backoff = true;
		mm->backoff_until = mm->now_ns + MM_BACKOFF_NS;
		mm->dirty = true;
	} else {
		made_ready(mm, i);
	}
	mm_trace(mm, KV_TP_POPULATED, MM_NONE, i);
}

void mm_scrub_done(struct mm *mm, u32 i, int err)
{
	if (!is_answer(mm, i, EXTENT_SCRUBBING))
		return;
	if (err) {
		/* What cannot be zeroed is not handed on; it is made anew. */
		set_state(mm, i, EXTENT_BARE);
		mm_queue(mm, MM_REQ_RELEASE, NULL, i, 0);
		mm_trace(mm, KV_TP_RELEASE, MM_NONE, i);
		mm->dirty = true;
	} else {
		mm->backoff = false;
		made_ready(mm, i);
	}
	mm_trace(mm, KV_TP_SCRUBBED, MM_NONE, i);
}
