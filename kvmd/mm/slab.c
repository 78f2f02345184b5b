/* SPDX-License-Identifier: MIT */
/*
 * slab.c - frames of one client and geometry, in runs of chunks
 *
 * A slab is a run of 1, 2 or 4 chunks of one extent, cut into frames of one
 * class. It exists while one of its frames is used:
 *
 *	chunks free -> head + bodies -> chunks free
 *
 * A reservation that has made room keeps empty slabs (keep_slabs) until it is
 * done: what it frees on its way may not take away what it counted on.
 *
 * Frames never used before are handed out by a bump index, others from the
 * slab's free list, so that making a slab costs nothing per frame.
 *
 *	frame:	free -> used (refs entries) -> leaving -> free
 *		(and out or in: swap.c)
 *
 * A leaving frame has no entry, but a step that was launched earlier may
 * still read it: it waits on its client's list, oldest first, until the
 * client has completed its pin (K7). The list is looked at from its head
 * only; pins come in nearly rising order, and a client that reports nonsense
 * holds up nobody but itself.
 *
 * Fragmentation. Slabs with a free frame are kept in SLAB_BUCKETS lists by
 * how full they are. A frame comes from the fullest, so that the emptiest
 * run out and their chunks return; a chunk comes from the extent with the
 * fewest free ones, without breaking a pair that a 2-chunk slab could use,
 * so that extents run out too. The slabs of all geometries of a client share
 * its extents.
 */
#include "kvmd/mm/slab.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/room.h"
#include "kvmd/mm/ticket.h"

/* Free masks of an extent in the order in which a slab prefers them. */
static const u8 prefer_one[] = { 1, 2,	4,  8,	5, 6,  9, 10,
				 7, 11, 13, 14, 3, 12, 15 };
static const u8 prefer_two[] = { 3, 12, 7, 11, 13, 14, 15 };
static const u8 prefer_four[] = { 15 };

void slab_class_init(struct frame_class *cls)
{
	u32 b;

	cls->unit_shift = (u8)__builtin_ctz(cls->geom.unit_bytes);
	cls->page_shift = (u8)__builtin_ctz(cls->geom.page_tokens);
	cls->page_units = cls->geom.page_bytes >> cls->unit_shift;
	cls->recip = ((1ull << 32) + cls->page_units - 1) / cls->page_units;
	for (b = 0; b < SLAB_BUCKETS; b++)
		ilist_init(&cls->bucket[b]);
}

static void bucket_del(struct mm *mm, struct frame_class *cls, u32 head)
{
	struct chunk *k = &mm_chunks(mm)[head];

	if (k->bucket == SLAB_FULL)
		return;
	ilist_del(&cls->bucket[k->bucket], ILINKS(mm_chunks(mm), link), head);
	if (ilist_is_empty(&cls->bucket[k->bucket]))
		cls->buckets &= (u16) ~(1u << k->bucket);
}

void slab_bucket_add(struct mm *mm, struct frame_class *cls, u32 head)
{
	struct chunk *k = &mm_chunks(mm)[head];
	u32 pages = cls->geom.slab_pages;
	u32 b = k->nr_used * SLAB_BUCKETS / pages;

	if (k->nr_used == pages) {
		k->bucket = SLAB_FULL;
		k->bucket_low = (u16)pages;
		k->bucket_high = (u16)(pages + 1);
		return;
	}
	k->bucket = (u8)b;
	k->bucket_low = (u16)DIV_ROUND_UP(b * pages, SLAB_BUCKETS);
	k->bucket_high =
		(u16)min(DIV_ROUND_UP((b + 1) * pages, SLAB_BUCKETS), pages);
	ilist_add_head(&cls->bucket[b], ILINKS(mm_chunks(mm), link), head);
	cls->buckets |= (u16)(1u << b);
}

static void bucket_move(struct mm *mm, struct frame_class *cls, u32 head)
{
	bucket_del(mm, cls, head);
	slab_bucket_add(mm, cls, head);
}

/* Where in @mask a run of @chunks goes; the mask has room for it. */
static u32 run_position(u32 mask, u32 chunks)
{
	if (chunks == 4)
		return 0;
	if (chunks == 2)
		return (mask & 3) == 3 ? 0 : 2;
	if ((mask & 3) == 1 || (mask & 3) == 2)
		return (u32)__builtin_ctz(mask & 3);
	if ((mask & 12) == 4 || (mask & 12) == 8)
		return (u32)__builtin_ctz(mask & 12);
	return (u32)__builtin_ctz(mask);
}

/* A run of free chunks of an extent that has one. */
static u32 run_take(struct mm *mm, struct client *c, u32 e, u32 chunks)
{
	u32 at = run_position(mm_extents(mm)[e].free_mask, chunks);

	extent_set_mask(mm, c, e,
			(u8)(mm_extents(mm)[e].free_mask &
			     ~(((1u << chunks) - 1) << at)));
	return e * KV_EXTENT_CHUNKS + at;
}

/* A run of free chunks in the client's extents; grants one if need be. */
static u32 run_alloc(struct mm *mm, struct client *c, u32 chunks)
{
	const u8 *prefer = chunks == 1	 ? prefer_one
			   : chunks == 2 ? prefer_two
					 : prefer_four;
	u32 nr = chunks == 1   ? ARRAY_SIZE(prefer_one)
		 : chunks == 2 ? ARRAY_SIZE(prefer_two)
			       : ARRAY_SIZE(prefer_four);
	u32 e = ILIST_NONE, i;

	for (i = 0; i < nr && e == ILIST_NONE; i++)
		e = c->extents[prefer[i]].first;
	if (e == ILIST_NONE)
		e = extent_grant(mm, c);
	return run_take(mm, c, e, chunks);
}

/* A slab in the chunks from @head on. Return: @head. */
static u32 slab_create(struct mm *mm, struct client *c, u32 geom, u32 head)
{
	struct frame_class *cls = &c->cls[geom];
	u32 chunks = cls->geom.slab_chunks;
	struct chunk *k = &mm_chunks(mm)[head];
	u32 i;

	for (i = 1; i < chunks; i++) {
		k[i].state = CHUNK_BODY;
		k[i].back = (u8)i;
	}
	k->back = 0;
	k->geom = (u8)geom;
	k->nr_used = 0;
	k->nr_fresh = 0;
	k->free = MM_NONE;
	k->client = client_index(mm, c);
	mm_order();
	k->state = CHUNK_HEAD;
	slab_bucket_add(mm, cls, head);
	cls->nr_slabs++;
	cls->nr_free += cls->geom.slab_pages;
	return head;
}

/*
 * Extents without a slab that a client keeps: one, for what comes next; none
 * if somebody else waits, or weights do; and all while it waits itself, or what
 * leaves for it would be scrubbed before it comes back to it.
 */
static u32 empty_to_keep(const struct mm *mm, const struct client *c)
{
	const struct tenant *t = &mm->tenants[c->tenant];

	if (t->held + t->charged > t->limits.max_bytes)
		return 0;
	if (room_is_wanted(mm))
		return 0;
	if (!ticket_needs(mm, c->tenant))
		return 1;
	return ticket_is_first(mm, c) ? c->nr_extents : 0;
}

/* A slab without a used frame: its chunks go, and perhaps its extent. */
static void slab_release(struct mm *mm, struct client *c, u32 head)
{
	struct chunk *k = &mm_chunks(mm)[head];
	struct frame_class *cls = &c->cls[k->geom];
	u32 chunks = cls->geom.slab_chunks, i;
	u32 e = head / KV_EXTENT_CHUNKS;
	u8 mask = mm_extents(mm)[e].free_mask;
	u32 keep = empty_to_keep(mm, c);

	bucket_del(mm, cls, head);
	cls->nr_slabs--;
	cls->nr_free -= cls->geom.slab_pages;
	for (i = 0; i < chunks; i++) {
		k[i].state = CHUNK_FREE;
		k[i].back = 0;
	}
	mask |= (u8)(((1u << chunks) - 1) << (head % KV_EXTENT_CHUNKS));
	extent_set_mask(mm, c, e, mask);
	extent_trim(mm, c, keep, false);
}

/* A frame of a slab that has one. */
static u32 slab_take(struct mm *mm, struct frame_class *cls, u32 head)
{
	struct chunk *k = &mm_chunks(mm)[head];
	u32 frame = k->free;

	if (frame != MM_NONE) {
		k->free = mm_frames(mm)[frame].next;
	} else {
		frame = head * FRAMES_PER_CHUNK + k->nr_fresh;
		mm_frames(mm)[frame].state = FRAME_FREE;
		mm_order();
		k->nr_fresh++;
	}
	if (++k->nr_used >= k->bucket_high)
		bucket_move(mm, cls, head);
	cls->nr_free--;
	cls->nr_used++;
	mm->counts.pages_alloc++;
	mm_frames(mm)[frame].refs = 1;
	mm_frames(mm)[frame].pin = 0;
	mm_order();
	mm_frames(mm)[frame].state = FRAME_USED;
	return frame;
}

u32 frame_alloc(struct mm *mm, struct client *c, u32 geom)
{
	struct frame_class *cls = &c->cls[geom];
	u32 b = 31u - (u32)__builtin_clz(cls->buckets);

	return slab_take(mm, cls, cls->bucket[b].first);
}

/* May a page be moved to an extent? Not before its owner can see it there. */
static bool extent_is_known(const struct mm *mm, const struct client *c, u32 e)
{
	return (s32)(c->seq_known - mm_extents(mm)[e].seq) >= 0;
}

/* A run of chunks in use extents other than @except; a slab is made of it. */
static u32 slab_create_outside(struct mm *mm, struct client *c, u32 geom,
			       u32 except)
{
	u32 chunks = c->cls[geom].geom.slab_chunks, i, e;
	const u8 *prefer = chunks == 1 ? prefer_one : prefer_two;
	u32 nr = chunks == 1 ? ARRAY_SIZE(prefer_one) : ARRAY_SIZE(prefer_two);

	if (chunks > 2)
		return MM_NONE;
	for (i = 0; i < nr && prefer[i] != EXTENT_ALL_FREE; i++)
		ilist_for_each (e, &c->extents[prefer[i]],
				ILINKS(mm_extents(mm), link))
			if (e != except && extent_is_known(mm, c, e))
				return slab_create(mm, c, geom,
						   run_take(mm, c, e, chunks));
	return MM_NONE;
}

u32 frame_alloc_outside(struct mm *mm, struct client *c, u32 geom, u32 first,
			u32 nr)
{
	struct frame_class *cls = &c->cls[geom];
	u32 b, head;

	for (b = SLAB_BUCKETS; b--;)
		ilist_for_each (head, &cls->bucket[b],
				ILINKS(mm_chunks(mm), link))
			if (head - first >= nr &&
			    extent_is_known(mm, c, head / KV_EXTENT_CHUNKS))
				return slab_take(mm, cls, head);
	if (nr < KV_EXTENT_CHUNKS)
		return MM_NONE;
	head = slab_create_outside(mm, c, geom, first / KV_EXTENT_CHUNKS);
	return head == MM_NONE ? MM_NONE : slab_take(mm, cls, head);
}

void frame_free_now(struct mm *mm, struct client *c, u32 geom, u32 frame)
{
	struct frame_class *cls = &c->cls[geom];
	struct frame *f = &mm_frames(mm)[frame];
	u32 head = frame_head(mm, frame);
	struct chunk *k = &mm_chunks(mm)[head];

	f->state = FRAME_FREE;
	f->next = k->free;
	k->free = frame;
	cls->nr_free++;
	cls->nr_used--;
	mm->counts.pages_free++;
	c->compact.look = true;
	mm->compact_wants = true;
	c->dirty = true;
	mm->client_dirty = true;
	k->nr_used--;
	c->has_empty |= c->keep_slabs;
	if (!k->nr_used && !c->keep_slabs)
		slab_release(mm, c, head);
	else if (k->nr_used < k->bucket_low)
		bucket_move(mm, cls, head);
}

void frame_put(struct mm *mm, struct client *c, u32 geom, u32 frame, u64 pin)
{
	struct frame_class *cls = &c->cls[geom];
	struct frame *f = &mm_frames(mm)[frame];

	if (f->pin < pin)
		f->pin = pin;
	if (--f->refs) {
		cls->nr_extra--;
		cls->nr_shared -= f->refs == 1;
	} else if (f->state == FRAME_USED) {
		frame_drop(mm, c, geom, frame);
	} /* else who works on it does: swap.c, prefix.c */
}

void frame_drop(struct mm *mm, struct client *c, u32 geom, u32 frame)
{
	struct frame_class *cls = &c->cls[geom];
	struct frame *f = &mm_frames(mm)[frame];

	if (f->pin <= c->completed) {
		frame_free_now(mm, c, geom, frame);
		return;
	}
	f->state = FRAME_LEAVING;
	f->next = MM_NONE;
	if (c->leaving_last == MM_NONE)
		c->leaving_first = frame;
	else
		mm_frames(mm)[c->leaving_last].next = frame;
	c->leaving_last = frame;
	c->nr_leaving++;
	cls->nr_leaving++;
	mm->nr_leaving++;
}

void slab_reap(struct mm *mm, struct client *c)
{
	struct frame *frames = mm_frames(mm);
	u32 f, geom;

	while ((f = c->leaving_first) != MM_NONE &&
	       frames[f].pin <= c->completed) {
		c->leaving_first = frames[f].next;
		if (c->leaving_first == MM_NONE)
			c->leaving_last = MM_NONE;
		geom = mm_chunks(mm)[frame_head(mm, f)].geom;
		c->nr_leaving--;
		c->cls[geom].nr_leaving--;
		mm->nr_leaving--;
		frame_free_now(mm, c, geom, f);
	}
}

/* Slabs of each size, by class, that @need calls for beyond what is free. */
static void count_slabs(const struct client *c, const u32 need[KV_GEOM_MAX],
			u64 slabs[5])
{
	const struct frame_class *cls;
	u32 g;

	for (g = 0; g < c->nr_geoms; g++) {
		cls = &c->cls[g];
		if (need[g] > cls->nr_free)
			slabs[cls->geom.slab_chunks] += DIV_ROUND_UP(
				need[g] - cls->nr_free, cls->geom.slab_pages);
	}
}

/*
 * Extents that are short if free chunks of one extent with mask @skip, 0 for
 * none, are not to be used, and no wholly free extent unless @empty.
 */
static u32 extents_short(const struct client *c, const u32 need[KV_GEOM_MAX],
			 u32 skip, bool empty)
{
	u64 slabs[5] = { 0 }, extents = 0, pairs = 0, chunks = 0, whole, n;
	u32 mask, nr;

	count_slabs(c, need, slabs);
	if (!(slabs[1] | slabs[2] | slabs[4]))
		return 0;
	for (mask = 1; mask < EXTENT_ALL_FREE; mask++) {
		nr = c->extents[mask].nr - (mask == skip);
		pairs += (u64)nr * ((mask & 3) == 3 || (mask & 12) == 12);
		chunks += (u64)nr * (u32)__builtin_popcount(mask);
	}
	/* In the order of slab_make(): runs of 4, of 2, of 1. */
	whole = empty ? c->extents[EXTENT_ALL_FREE].nr : 0;
	n = min(slabs[4], whole);
	whole -= n;
	extents = slabs[4] - n;
	pairs += 2 * whole;
	chunks += 4 * whole;
	n = min(slabs[2], pairs);
	chunks -= 2 * n;
	if (slabs[2] > n) {
		n = slabs[2] - n;
		extents += (n + 1) / 2;
		chunks += 2 * (n % 2);
	}
	if (slabs[1] > chunks)
		extents += DIV_ROUND_UP(slabs[1] - chunks, 4);
	return (u32)min(extents, (u64)MM_NONE);
}

u32 slab_extents_short(const struct client *c, const u32 need[KV_GEOM_MAX])
{
	return extents_short(c, need, 0, true);
}

bool slab_fits_outside(const struct client *c, const u32 need[KV_GEOM_MAX],
		       u32 mask)
{
	return !extents_short(c, need, mask, false);
}

u32 slab_extents_min(const struct client *c, const u64 frames[KV_GEOM_MAX])
{
	const struct kv_geometry *geom;
	u64 extents = 0, chunks = 0, slabs;
	u32 g;

	for (g = 0; g < c->nr_geoms; g++) {
		geom = &c->cls[g].geom;
		slabs = DIV_ROUND_UP(frames[g], geom->slab_pages);
		if (geom->slab_chunks == 4)
			extents += slabs;
		else
			chunks += slabs * geom->slab_chunks;
	}
	return (u32)min(extents + DIV_ROUND_UP(chunks, 4), (u64)MM_NONE);
}

void slab_make(struct mm *mm, struct client *c, const u32 need[KV_GEOM_MAX])
{
	u32 size, g;

	for (size = 4; size; size /= 2)
		for (g = 0; g < c->nr_geoms; g++)
			while (c->cls[g].geom.slab_chunks == size &&
			       c->cls[g].nr_free < need[g])
				slab_create(mm, c, g, run_alloc(mm, c, size));
}

void slab_trim(struct mm *mm, struct client *c)
{
	struct chunk *chunks = mm_chunks(mm);
	u32 g, i, next;

	for (g = 0; g < c->nr_geoms; g++)
		ilist_for_each_safe (i, next, &c->cls[g].bucket[0],
				     ILINKS(chunks, link))
			if (!chunks[i].nr_used)
				slab_release(mm, c, i);
}
