/* SPDX-License-Identifier: MIT */
/*
 * recover_frame.c - extents, slabs, frames and slots by what is counted
 *
 * A frame that nobody names was on its way: to an entry that never came, or
 * from one that is gone. In the second case a step may still read it. So it
 * leaves behind the pin that it has, or behind the last step that its client
 * has marked or was granted. Frames that are named get that pin too: an entry
 * that went may have been one of several.
 */
#include "kvmd/mm/recover.h"
#include "kvmd/mm/swap.h"

#define EXTENTS(mm) ILINKS(mm_extents(mm), link)

/* ---- extents ---- */

static enum client_state owner_state(const struct mm *mm,
				     const struct extent *e)
{
	return e->client < MM_CLIENT_MAX
		       ? (enum client_state)mm_clients(mm)[e->client].state
		       : CLIENT_FREE;
}

static void extent_owner(const struct mm *mm, struct extent *e)
{
	enum client_state owner = owner_state(mm, e);
	bool alive = owner == CLIENT_LIVE || owner == CLIENT_CACHE;

	if (e->state == EXTENT_GRANTED && owner == CLIENT_FREE) {
		/* Being granted, and zero; else it is not known whose. */
		e->state = e->client == MM_NONE ? EXTENT_READY
						: EXTENT_SCRUBBING;
	} else if (e->state == EXTENT_GRANTED && !alive) {
		e->state = EXTENT_QUARANTINE;
	} else if (e->state == EXTENT_QUARANTINE &&
		   (alive || owner == CLIENT_FREE)) {
		/* Given back by a client that lives: no step uses it. */
		e->state = EXTENT_SCRUBBING;
	}
	mm_order();
	if (e->state != EXTENT_GRANTED && e->state != EXTENT_QUARANTINE) {
		e->client = MM_NONE;
		e->free_mask = 0;
	}
}

/* Is chunk @i of an extent the head of a slab that is all there? */
static u32 slab_chunks(const struct mm *mm, const struct extent *e,
		       const struct chunk *k, u32 i)
{
	const struct client *c = &mm_clients(mm)[e->client];
	const struct kv_geometry *g;

	if (k->state != CHUNK_HEAD || k->client != e->client ||
	    k->geom >= c->nr_geoms)
		return 0;
	g = &c->cls[k->geom].geom;
	if (i % g->slab_chunks || k->nr_fresh > g->slab_pages)
		return 0;
	return g->slab_chunks;
}

static void recover_chunks(struct mm *mm, u32 i)
{
	const struct extent *e = &mm_extents(mm)[i];
	struct chunk *k = &mm_chunks(mm)[i * KV_EXTENT_CHUNKS];
	u32 n = 0, run, b;

	while (n < KV_EXTENT_CHUNKS) {
		run = e->state == EXTENT_GRANTED ? slab_chunks(mm, e, &k[n], n)
						 : 0;
		if (!run) {
			k[n].state = CHUNK_FREE;
			k[n++].back = 0;
			continue;
		}
		k[n].back = 0;
		for (b = 1; b < run; b++) {
			k[n + b].state = CHUNK_BODY;
			k[n + b].back = (u8)b;
		}
		n += run;
	}
}

void recover_extents(struct mm *mm)
{
	u32 i;

	for (i = 0; i < mm->nr_extents; i++) {
		struct extent *e = &mm_extents(mm)[i];

		extent_owner(mm, e);
		if (e->state != EXTENT_QUARANTINE)
			recover_chunks(mm, i);
		if (e->state != EXTENT_GRANTED)
			ilist_add_tail(&mm->by_state[e->state], EXTENTS(mm), i);
		if (e->client == MM_NONE)
			continue;
		mm->nr_granted += e->state == EXTENT_GRANTED;
		mm_clients(mm)[e->client].nr_extents++;
		mm->tenants[mm_clients(mm)[e->client].tenant].held +=
			KV_EXTENT_SIZE;
	}
}

/* ---- counting ---- */

/* Visit the heads of the slabs of those who live, and of the caches. */
#define for_each_slab(head, mm)                                        \
	for ((head) = 0; (head) < (mm)->nr_chunks; (head)++)           \
		if (mm_extents(mm)[(head) / KV_EXTENT_CHUNKS].state == \
			    EXTENT_GRANTED &&                          \
		    mm_chunks(mm)[head].state == CHUNK_HEAD)

void recover_count_begin(struct mm *mm)
{
	const u64 *map = mm_slot_map(mm);
	u32 head, i, nr = mm->lay.nr_slots;

	for_each_slab(head, mm)
	{
		for (i = 0; i < mm_chunks(mm)[head].nr_fresh; i++)
			mm_frames(mm)[head * FRAMES_PER_CHUNK + i].refs = 0;
	}
	for (i = bitmap_find_set(map, nr, 0); i < nr;
	     i = bitmap_find_set(map, nr, i + 1)) {
		struct slot *s = &mm_slots(mm)[i];

		if (s->state == SLOT_FREE)
			continue; /* inside of one */
		s->refs = 0;
		if (s->state == SLOT_READING)
			s->state = SLOT_HELD; /* its content is there still */
	}
}

/* ---- frames ---- */

struct slab_count {
	struct client *c;
	struct frame_class *cls;
	struct chunk *k;
	u64 pin;
	u32 *first, *last; /* frames that leave behind @pin */
};

static void frame_leaves(struct mm *mm, u32 *first, u32 *last, u32 frame)
{
	mm_frames(mm)[frame].state = FRAME_LEAVING;
	mm_frames(mm)[frame].next = MM_NONE;
	if (*last == MM_NONE)
		*first = frame;
	else
		mm_frames(mm)[*last].next = frame;
	*last = frame;
}

/* Nobody names it. Return: true if it is free. */
static bool frame_unused(struct mm *mm, struct slab_count *s, u32 frame)
{
	struct frame *f = &mm_frames(mm)[frame];
	bool leaving = f->state == FRAME_LEAVING;

	if (f->state == FRAME_FREE || f->state == FRAME_IN ||
	    f->state == FRAME_TO || s->c->state == CLIENT_CACHE)
		return true;
	if (!leaving)
		f->pin = max(f->pin, s->pin);
	if (f->pin <= s->c->completed)
		return true;
	s->c->nr_leaving++;
	s->cls->nr_leaving++;
	mm->nr_leaving++;
	if (leaving)
		frame_leaves(mm, &s->c->leaving_first, &s->c->leaving_last,
			     frame);
	else
		frame_leaves(mm, s->first, s->last, frame);
	return false;
}

static void recover_frame(struct mm *mm, struct slab_count *s, u32 frame)
{
	struct frame *f = &mm_frames(mm)[frame];
	bool copied = f->state == FRAME_PUB &&
		      mm_marks(mm)[frame] == mm->mark_seq;

	if (!f->refs && !copied && frame_unused(mm, s, frame)) {
		f->state = FRAME_FREE;
		f->next = s->k->free;
		s->k->free = frame;
		return;
	}
	s->k->nr_used++;
	s->cls->nr_used++;
	if (!f->refs && !copied)
		return;
	f->state = copied ? FRAME_PUB : FRAME_USED;
	if (s->pin > s->c->completed)
		f->pin = max(f->pin, s->pin);
	s->cls->nr_shared += f->refs > 1;
	s->cls->nr_extra += f->refs > 1 ? f->refs - 1 : 0;
}

static void recover_slab(struct mm *mm, struct slab_count *s, u32 head)
{
	struct chunk *k = s->k;
	u32 i, run = s->cls->geom.slab_chunks;

	k->nr_used = 0;
	k->free = MM_NONE;
	for (i = k->nr_fresh; i--;)
		recover_frame(mm, s, head * FRAMES_PER_CHUNK + i);
	if (!k->nr_used) {
		for (i = 0; i < run; i++) {
			k[i].state = CHUNK_FREE;
			k[i].back = 0;
		}
		return;
	}
	s->cls->nr_slabs++;
	s->cls->nr_free += s->cls->geom.slab_pages - k->nr_used;
	slab_bucket_add(mm, s->cls, head);
}

/* Its slabs are known: on the list of its client by what is free. */
static void extent_list(struct mm *mm, u32 i)
{
	struct extent *e = &mm_extents(mm)[i];
	struct client *c = &mm_clients(mm)[e->client];
	u32 n;

	e->free_mask = 0;
	for (n = 0; n < KV_EXTENT_CHUNKS; n++)
		if (mm_chunks(mm)[i * KV_EXTENT_CHUNKS + n].state == CHUNK_FREE)
			e->free_mask |= (u8)(1u << n);
	ilist_add_tail(&c->extents[e->free_mask], EXTENTS(mm), i);
	c->nr_empty += e->free_mask == EXTENT_ALL_FREE;
}

static void client_frames(struct mm *mm, struct client *c)
{
	u32 first = MM_NONE, last = MM_NONE, head;
	struct slab_count s = { .c = c, .first = &first, .last = &last };

	s.pin = c->state == CLIENT_LIVE ? client_pin(mm, c) : 0;
	for_each_slab(head, mm)
	{
		s.k = &mm_chunks(mm)[head];
		if (s.k->client != client_index(mm, c))
			continue;
		s.cls = &c->cls[s.k->geom];
		recover_slab(mm, &s, head);
	}
	if (first == MM_NONE)
		return;
	if (c->leaving_last == MM_NONE)
		c->leaving_first = first;
	else
		mm_frames(mm)[c->leaving_last].next = first;
	c->leaving_last = last;
}

void recover_frames(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	u32 i;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE || cs[i].state == CLIENT_CACHE)
			client_frames(mm, &cs[i]);
	for (i = 0; i < mm->nr_extents; i++)
		if (mm_extents(mm)[i].state == EXTENT_GRANTED)
			extent_list(mm, i);
}

/* ---- slots ---- */

/* Units that a slot takes; 0: it is none, or nobody names it. */
static u32 held_units(const struct mm *mm, u32 i)
{
	const struct slot *s = &mm_slots(mm)[i];
	const struct client *c;

	if (s->state != SLOT_HELD || !s->refs || s->client >= MM_CLIENT_MAX)
		return 0;
	c = &mm_clients(mm)[s->client];
	if (c->state != CLIENT_LIVE || s->geom >= c->nr_geoms)
		return 0;
	return slot_units(c, s->geom);
}

/*
 * A slot that is held, in its client's and its tier's books. What was on its
 * way to another one, or from it, is not any more: demote.c.
 */
static void slot_counts(struct mm *mm, u32 i, u32 units)
{
	struct slot *s = &mm_slots(mm)[i];
	struct client *c = &mm_clients(mm)[s->client];
	struct tenant *tenant = &mm->tenants[c->tenant];
	u32 tier = slot_tier(mm, i);
	struct swap_tier *t = &mm->tier[tier];

	s->other = MM_NONE;
	s->stored = min(s->stored, units * SLOT_UNIT);
	ilist_add_tail(&c->slots, ILINKS(mm_slots(mm), link), i);
	ilist_add_tail(&t->slots, ILINKS(mm_slots(mm), age), i);
	t->nr_used += units;
	t->stored += s->stored;
	t->pages += (u64)units * SLOT_UNIT;
	tenant->tier_used[tier] += s->stored;
	tenant->swapped += (u64)units * SLOT_UNIT;
}

static void tiers_reset(struct mm *mm)
{
	struct swap_tier *t;
	u32 i;

	swap_init(mm);
	for (i = 0; i < MM_TIER_MAX; i++) {
		t = &mm->tier[i];
		t->nr_used = t->nr_discarding = 0;
		t->stored = t->leaving = t->pages = 0;
		t->demoting = false;
		t->again_ns = 0;
	}
	mm->nr_demoting = 0;
	mm->demoting_bytes = 0;
	mm->demote_look = true;
}

/* Free units that were written, or were being discarded. */
static void count_stale(struct mm *mm, struct swap_tier *t)
{
	const u64 *stale = mm_stale_map(mm);
	u32 i;

	t->nr_stale = 0;
	for (i = bitmap_find_set(stale, t->end, t->first); i < t->end;
	     i = bitmap_find_set(stale, t->end, i + 1))
		t->nr_stale += !bitmap_test(mm_slot_map(mm), i);
}

/* In rising order, each unit once: the map says what is used until the end. */
void recover_slots(struct mm *mm)
{
	u32 i, n, nr = mm->lay.nr_slots;
	u64 *map = mm_slot_map(mm);

	tiers_reset(mm);
	for (i = bitmap_find_set(map, nr, 0); i < nr;
	     i = bitmap_find_set(map, nr, i)) {
		n = held_units(mm, i);
		if (!n) {
			mm_slots(mm)[i].state = SLOT_FREE;
			mm_order();
			bitmap_set(mm_stale_map(mm), i);
			bitmap_clear(map, i);
			continue;
		}
		slot_counts(mm, i, n);
		i += n;
	}
	for (i = 0; i < MM_TIER_MAX; i++)
		count_stale(mm, &mm->tier[i]);
}
