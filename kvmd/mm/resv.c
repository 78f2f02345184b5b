/* SPDX-License-Identifier: MIT */
/*
 * resv.c - a step's reservation: count, make room, commit
 *
 * All or nothing, but for what windows have left, which goes in any case where
 * memory is short. The first pass validates every item and counts frames and
 * leaves; it changes nothing. Then room is made: leaves (the only thing that
 * can fail), extents, slabs. The last pass cannot fail.
 *
 * Per item and area a step touches pages [p0, p1]:
 *
 *	below p0	what the first row reads must be there; pages wholly
 *			below a window leave, pinned to the steps before: when
 *			memory is short at once, else with the commit
 *	present		writable: nothing. Read-only with one reference left:
 *			made writable. Shared: a new frame takes its place
 *			and the tokens in use are copied by the client, first
 *			thing in the step; the source is pinned to the step
 *	past the end	fresh frames, not scrubbed (the client's own)
 *	swapped		read first (swap.c); the reservation waits for it
 *
 * Each space that changed is bumped after all its entries (K6), and every
 * space of the batch is taken as busy with the step from now on.
 */
#include <errno.h>

#include "kvmd/mm/resv.h"
#include "include/kv/usdt.h"
#include "kvmd/mm/background.h"
#include "kvmd/mm/compact.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/oplog.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/reclaim.h"
#include "kvmd/mm/spare.h"
#include "kvmd/mm/swap.h"

USDT_SEMAPHORE(kvmd, cow);

/* May its one mapper write to it where it is? */
static bool frame_is_private(const struct mm *mm, u32 frame)
{
	return mm_frames(mm)[frame].refs == 1 &&
	       mm_frames(mm)[frame].state != FRAME_PUB;
}

/* Pages [@p0, @end) of @a that are read-only: how many take a new frame? */
static u32 count_cow(const struct mm *mm, const struct client *c,
		     const struct space_area *a, u32 p0, u32 end)
{
	u32 page, frame, n = 0;
	kv_pte_t pte;

	for (page = p0; page < end; page++) {
		pte = *pte_at(c, a, page);
		if (pte & (KV_PTE_WRITE | KV_PTE_SWAPPED))
			continue;
		frame = pte_frame(mm, c, a, pte);
		n += frame == MM_NONE || !frame_is_private(mm, frame);
	}
	return n;
}

static int plan_area(const struct mm *mm, const struct client *c,
		     const struct space_area *a, const struct kv_resv_item *it,
		     struct resv_plan *p)
{
	u32 shift = c->cls[a->geom].page_shift, p0, end, need, n;
	u64 cap = (u64)KV_AREA_PAGES << shift;

	if (it->pos >= cap || it->nr_tokens > cap - it->pos)
		return -E2BIG;
	if (it->pos > (u64)a->page_end << shift)
		return -EINVAL;
	p0 = (u32)(it->pos >> shift);
	end = (u32)((it->pos + it->nr_tokens - 1) >> shift) + 1;
	need = area_first_needed(c, a, it->pos);
	if (need < a->page_first)
		return -ENODATA;
	n = count_cow(mm, c, a, p0, min(end, a->page_end));
	p->nr_cow += n;
	p->need[a->geom] += n;
	if (end > a->page_end) {
		p->need[a->geom] += end - a->page_end;
		p->leaves += pgtable_leaves_missing(a, a->page_end, end);
	}
	if (likely(!a->nr_out) || swap_plan_area(mm, c, a, it, p))
		return 0;
	return -ENODATA;
}

u64 resv_age(const struct mm *mm, const struct client *c,
	     const struct kv_resv_item *items, u32 nr)
{
	u64 age = ~0ull;
	u32 i;

	for (i = 0; i < nr; i++)
		if (items[i].space < c->space_top)
			age = min(age,
				  mm_spaces(mm, c)[items[i].space].created_ns);
	return age;
}

int resv_plan(struct mm *mm, struct client *c, struct resv_plan *p)
{
	u32 i, k;
	int rc;

	if (!p->step || !p->nr_items || p->nr_items > KV_RESV_MAX)
		return -EINVAL;
	p->priority = 0;
	p->leaves = 0;
	p->nr_cow = 0;
	p->is_exact = false;
	p->nr_swapped = 0;
	p->nr_moving = 0;
	p->lost = 0;
	p->reclaiming = false;
	for (k = 0; k < KV_GEOM_MAX; k++)
		p->need[k] = 0;
	mm->resv_seq++;
	for (i = 0; i < p->nr_items; i++) {
		const struct kv_resv_item *it = &p->items[i];
		struct space *sp = space_find(mm, c, it->space);

		if (!sp)
			return -ENOENT;
		if (!it->nr_tokens || sp->mark == mm->resv_seq)
			return -EINVAL;
		if (p->step <= sp->resv)
			return -EBUSY;
		sp->mark = mm->resv_seq;
		p->priority = max(p->priority, sp->priority);
		for (k = 0; k < sp->nr_areas; k++) {
			rc = plan_area(mm, c, &sp->area[k], it, p);
			if (rc)
				return rc;
		}
	}
	return 0;
}

/* The space of an item that resv_plan() has accepted. */
static struct space *item_space(const struct mm *mm, const struct client *c,
				const struct kv_resv_item *it)
{
	return &mm_spaces(mm, c)[it->space];
}

/* Visit the read-only pages that an item writes in one area. */
#define for_each_written(page, a, it, shift)                                \
	for ((page) = (u32)((it)->pos >> (shift));                          \
	     (page) < (a)->page_end &&                                      \
	     (page) <= (u32)(((it)->pos + (it)->nr_tokens - 1) >> (shift)); \
	     (page)++)

/*
 * The exact number of copies. Where every mapper of a page is in the batch,
 * the last one to write keeps the frame: count the batch's mappers of each
 * shared frame. Only done when the bound does not fit.
 */
static void plan_exact_area(struct mm *mm, struct client *c,
			    struct space_area *a, const struct kv_resv_item *it,
			    struct resv_plan *p)
{
	u32 shift = c->cls[a->geom].page_shift, page, frame;
	u32 *marks = mm_marks(mm), *seen = mm_seen(mm);

	for_each_written(page, a, it, shift)
	{
		kv_pte_t pte = *pte_at(c, a, page);

		frame = pte_frame(mm, c, a, pte);
		if ((pte & KV_PTE_WRITE) || frame == MM_NONE ||
		    mm_frames(mm)[frame].refs < 2 ||
		    mm_frames(mm)[frame].state == FRAME_PUB)
			continue;
		if (marks[frame] != mm->mark_seq) {
			marks[frame] = mm->mark_seq;
			seen[frame] = 0;
		}
		if (++seen[frame] == mm_frames(mm)[frame].refs) {
			p->need[a->geom]--;
			p->nr_cow--;
		}
	}
}

static void plan_exact(struct mm *mm, struct client *c, struct resv_plan *p)
{
	struct space *sp;
	u32 i, k;

	mm->mark_seq++;
	p->is_exact = true; /* what is saved is taken off once */
	for (i = 0; i < p->nr_items; i++) {
		sp = item_space(mm, c, &p->items[i]);
		for (k = 0; k < sp->nr_areas; k++)
			plan_exact_area(mm, c, &sp->area[k], &p->items[i], p);
	}
}

static enum ticket_block find_room(struct mm *mm, struct client *c,
				   struct resv_plan *p, u32 *extents)
{
	u32 want, coming;

	*extents = slab_extents_short(c, p->need);
	if (unlikely(c->revoke.state == MM_REVOKE_FENCED ||
		     c->revoke.state == MM_REVOKE_KILLED))
		return BLOCK_REVOKE; /* no step begins, whatever it has */
	if (!*extents)
		return BLOCK_NONE;
	if (p->nr_cow > 1 && !p->is_exact) {
		plan_exact(mm, c, p);
		*extents = slab_extents_short(c, p->need);
		if (!*extents)
			return BLOCK_NONE;
	}
	want = *extents;
	if (unlikely(c->revoke.state))
		return BLOCK_REVOKE;
	if (want > extent_tenant_room(mm, c->tenant))
		extent_reclaim(mm, c->tenant, c, false);
	if (want > extent_tenant_room(mm, c->tenant))
		return BLOCK_TENANT;
	want += p->promised;
	if (want <= mm->by_state[EXTENT_READY].nr)
		return BLOCK_NONE;
	want -= mm->by_state[EXTENT_READY].nr;
	if (want > extent_nr_coming(mm) + extent_nr_possible(mm))
		extent_reclaim(mm, MM_NONE, c, false);
	coming = extent_nr_coming(mm) + extent_nr_possible(mm);
	return want <= coming ? BLOCK_SOON : BLOCK_DEVICE;
}

/* Distinct frames that the step's spaces hold and keep. Return: bytes that
 * they map of the page cache. */
static u64 count_kept(struct mm *mm, struct client *c,
		      const struct resv_plan *p, u64 frames[KV_GEOM_MAX])
{
	u32 *marks = mm_marks(mm);
	u32 seq = ++mm->mark_seq;
	u32 i, k, page, frame;
	u64 cached = 0;
	bool own;

	for (i = 0; i < p->nr_items; i++) {
		struct space *sp = item_space(mm, c, &p->items[i]);

		for (k = 0; k < sp->nr_areas; k++) {
			struct space_area *a = &sp->area[k];

			page = max(area_first_needed(c, a, p->items[i].pos),
				   a->page_first);
			for (; page < a->page_end; page++) {
				kv_pte_t pte = *pte_at(c, a, page);

				frame = pte_frame(mm, c, a, pte);
				own = frame != MM_NONE;
				if (!own)
					frame = pte_cached(mm, c, a, pte);
				if (frame == MM_NONE || marks[frame] == seq)
					continue;
				marks[frame] = seq;
				if (own)
					frames[a->geom]++;
				else
					cached +=
						c->cls[a->geom].geom.page_bytes;
			}
		}
	}
	return cached;
}

static u64 stays(u64 charged, u64 may_go)
{
	return charged - min(charged, may_go);
}

bool resv_fits_ever(struct mm *mm, struct client *c, const struct resv_plan *p)
{
	const struct tenant *t = &mm->tenants[c->tenant];
	u64 frames[KV_GEOM_MAX] = { 0 }, cap, bytes, cached;
	u32 g;

	cached = count_kept(mm, c, p, frames);
	for (g = 0; g < c->nr_geoms; g++)
		frames[g] += p->need[g];
	bytes = (u64)slab_extents_min(c, frames) * KV_EXTENT_SIZE +
		ALIGN_UP(cached, (u64)KV_EXTENT_SIZE);
	cap = min(t->limits.max_bytes, mm->cfg.device_bytes);
	return bytes <= cap &&
	       stays(t->charged, spare_bytes(mm, c->tenant, BLOCK_TENANT)) <=
		       cap - bytes &&
	       stays(mm->charged, spare_bytes(mm, c->tenant, BLOCK_DEVICE)) <=
		       mm->cfg.device_bytes - bytes;
}

/*
 * Weights that nobody has open go for what is not even on its way, if it may
 * ever fit.
 */
static bool spare_for(struct mm *mm, struct client *c,
		      const struct resv_plan *p, enum ticket_block block,
		      u32 extents, bool below_low)
{
	u64 lacks = (u64)extents * KV_EXTENT_SIZE, have;

	if (!block_is_full(block) || !spare_bytes(mm, c->tenant, block) ||
	    !resv_fits_ever(mm, c, p))
		return false;
	if (block == BLOCK_DEVICE) {
		lacks += (u64)p->promised * KV_EXTENT_SIZE;
		have = background_free(mm);
	} else {
		have = (u64)extent_tenant_room(mm, c->tenant) * KV_EXTENT_SIZE;
	}
	return spare_go(mm, c->tenant, block, below_low,
			lacks - min(lacks, have));
}

/* Pages of an area below @first, which no row from now on reads. */
static bool leave_window(struct mm *mm, struct client *c, struct space *sp,
			 u32 area, u32 first, u64 step)
{
	struct space_area *a = &sp->area[area];
	u32 n;

	if (first <= a->page_first)
		return false;
	n = pgtable_unmap(mm, c, a, &space_desc(mm, c, sp)->area[area], first,
			  a->page_end, space_pin(mm, c, sp));
	mm->counts.window_freed += n;
	mm_trace(mm, KV_TP_RESV_WINDOW, client_index(mm, c), step);
	return n;
}

/*
 * What windows have left is room for what comes: where there is none else, it
 * is made before it is known whether the reservation can be had. Without a
 * record, as the pages are gone whatever becomes of it. The last page of an
 * area stays, and with it the leaf that the plan has found.
 */
static bool leave_windows(struct mm *mm, struct client *c,
			  const struct resv_plan *p)
{
	bool any = false;
	u32 i, k;

	for (i = 0; i < p->nr_items; i++) {
		struct space *sp = item_space(mm, c, &p->items[i]);
		bool changed = false;

		for (k = 0; k < sp->nr_areas; k++) {
			const struct space_area *a = &sp->area[k];
			u32 first = area_first_needed(c, a, p->items[i].pos);

			first = min(first, max(a->page_end, 1u) - 1);
			changed |= leave_window(mm, c, sp, k, first, p->step);
		}
		if (changed)
			space_bump(mm, c, sp);
		any |= changed;
	}
	return any;
}

enum ticket_block resv_room(struct mm *mm, struct client *c,
			    struct resv_plan *p, u32 *extents)
{
	enum ticket_block block = find_room(mm, c, p, extents);

	if (block_is_full(block) && leave_windows(mm, c, p))
		block = find_room(mm, c, p, extents);
	if (spare_for(mm, c, p, block, *extents, false))
		return BLOCK_SOON;
	if (block_is_full(block) &&
	    cache_reclaim(mm, c, block == BLOCK_TENANT, *extents))
		block = find_room(mm, c, p, extents);
	if (block_is_full(block))
		p->reclaiming = compact_for(mm, c, block) ||
				reclaim(mm, c, p, block,
					(u64)*extents * KV_EXTENT_SIZE);
	if (!p->reclaiming && spare_for(mm, c, p, block, *extents, true))
		return BLOCK_SOON;
	if (block != BLOCK_NONE || !(p->nr_swapped | p->nr_moving))
		return block;
	swap_bring(mm, c, p);
	return BLOCK_IO;
}

static u32 frame_take(struct mm *mm, struct client *c, const struct space *sp,
		      u32 area, u32 page)
{
	u32 frame = frame_alloc(mm, c, sp->area[area].geom);
	struct frame *f = &mm_frames(mm)[frame];

	f->family = sp->family;
	f->page = (u16)page;
	f->area = (u8)area;
	return frame;
}

static void __cold probe_cow(const struct mm *mm, const struct client *c,
			     const struct space *sp, u32 area, u32 page,
			     u32 tokens)
{
	USDT(kvmd, cow, client_index(mm, c), space_slot(mm, c, sp), area, page,
	     tokens);
}

/*
 * Make a present page writable. @tokens of it are in use by earlier rows.
 * @cut is raised to the last step that reads it, or 1, if it is the cache's.
 * Return: true if @copy was filled in.
 */
static bool commit_write(struct mm *mm, struct client *c, struct space *sp,
			 u32 area, u32 page, u32 tokens, u64 step, u64 *cut,
			 struct kv_copy *copy)
{
	struct space_area *a = &sp->area[area];
	kv_pte_t *p = pte_at(c, a, page), pte = *p;
	u32 frame = pte_frame(mm, c, a, pte), to, entry;
	u64 pin = space_pin(mm, c, sp);

	if (likely(frame != MM_NONE) && frame_is_private(mm, frame)) {
		kv_store_relaxed(p, (pte | KV_PTE_WRITE) & ~KV_PTE_SHARED);
		return false;
	}
	to = frame_take(mm, c, sp, area, page);
	entry = frame_entry(mm, &c->cls[a->geom], to);
	*copy = (struct kv_copy){ .geom = a->geom,
				  .src = kv_pte_frame(pte),
				  .dst = entry,
				  .tokens = tokens };
	if (tokens &&
	    (likely(frame != MM_NONE) || pte_cached(mm, c, a, pte) != MM_NONE))
		op_log_cow(mm, c, sp, area, page, pte, copy);
	kv_store_relaxed(
		p, pte_make(entry, KV_PTE_PRESENT | KV_PTE_WRITE, sp->gen + 1));
	mm_order();
	if (unlikely(pte & KV_PTE_SWAPPED) && !kv_pte_is_present(pte))
		pgtable_drop_out(mm, c, a, pte);
	pin = tokens ? max(pin, step) : pin;
	if (likely(frame != MM_NONE)) {
		frame_put(mm, c, a->geom, frame, pin);
	} else if (prefix_drop_entry(mm, c, a, pte)) {
		*cut = max(*cut, pin + !pin);
	} else {
		mm->counts.invalid += kv_pte_is_present(pte);
		return false;
	}
	mm->counts.faults_cow++;
	mm_trace(mm, KV_TP_RESV_COW, client_index(mm, c), step);
	if (unlikely(usdt_on(kvmd, cow)))
		probe_cow(mm, c, sp, area, page, tokens);
	if (!tokens)
		return false;
	mm->counts.copies_tokens += tokens;
	return true;
}

/* Fresh pages up to @end. */
static void commit_fresh(struct mm *mm, struct client *c, struct space *sp,
			 u32 area, struct kv_area_desc *d, u32 end)
{
	struct space_area *a = &sp->area[area];
	const struct frame_class *cls = &c->cls[a->geom];
	u32 page, frame;

	pgtable_add(c, a, d, a->page_end, end);
	for (page = a->page_end; page < end; page++) {
		frame = frame_take(mm, c, sp, area, page);
		kv_store_relaxed(pte_at(c, a, page),
				 pte_make(frame_entry(mm, cls, frame),
					  KV_PTE_PRESENT | KV_PTE_WRITE,
					  sp->gen + 1));
	}
	mm->counts.faults_fresh += end - a->page_end;
	a->page_end = end;
	kv_store_relaxed(&d->page_end, end);
}

/* One area of one item. Return: true if an entry changed. */
static bool commit_area(struct mm *mm, struct client *c, struct space *sp,
			u32 area, const struct kv_resv_item *it, u64 step,
			struct kv_copy *copies, u32 *nr_copies)
{
	struct space_area *a = &sp->area[area];
	struct kv_area_desc *d = &space_desc(mm, c, sp)->area[area];
	u32 shift = c->cls[a->geom].page_shift, page, end;
	u64 start, cut = 0;
	bool changed = leave_window(mm, c, sp, area,
				    area_first_needed(c, a, it->pos), step);

	end = (u32)((it->pos + it->nr_tokens - 1) >> shift) + 1;
	for_each_written(page, a, it, shift)
	{
		if (*pte_at(c, a, page) & KV_PTE_WRITE)
			continue;
		start = (u64)page << shift;
		changed = true;
		if (commit_write(mm, c, sp, area, page,
				 it->pos > start ? (u32)(it->pos - start) : 0,
				 step, &cut, &copies[*nr_copies]))
			(*nr_copies)++;
	}
	page = (u32)(it->pos >> shift);
	if (unlikely(cut || page < sp->chain))
		prefix_write(mm, c, sp, page, cut);
	if (end > a->page_end) {
		commit_fresh(mm, c, sp, area, d, end);
		changed = true;
	}
	return changed;
}

/* The page of an item's first token. */
static u32 item_page(const struct client *c, const struct space *sp,
		     const struct kv_resv_item *it)
{
	return (u32)(it->pos >> c->cls[sp->area[0].geom].page_shift);
}

int resv_commit(struct mm *mm, struct client *c, const struct resv_plan *p,
		struct kv_copy *copies)
{
	u32 self = client_index(mm, c), i, k, nr_copies = 0;
	int rc;

	if (p->leaves) {
		rc = pgtable_grow(mm, c, p->leaves);
		if (rc)
			return rc;
	}
	op_begin(c, OP_RESERVE, 0, p->step);
	if (p->ticket != MM_NONE)
		op_is_ticket(c, mm_tickets(mm)[p->ticket].id);
	c->log.mark = mm->resv_seq;
	slab_make(mm, c, p->need);
	c->keep_slabs = true;
	mm_trace(mm, KV_TP_RESV_ALLOC, self, p->step);
	for (i = 0; i < p->nr_items; i++) {
		const struct kv_resv_item *it = &p->items[i];
		struct space *sp = item_space(mm, c, it);
		bool changed = false;

		for (k = 0; k < sp->nr_areas; k++)
			changed |= commit_area(mm, c, sp, k, it, p->step,
					       copies, &nr_copies);
		mm_trace(mm, KV_TP_RESV_TABLE, self, p->step);
		sp->resv_was = sp->resv;
		mm_order();
		sp->resv = p->step;
		sp->used_ns = mm->now_ns;
		kv_store_relaxed(&space_desc(mm, c, sp)->resv_step, p->step);
		if (unlikely(sp->cached < sp->chain))
			prefix_take(mm, c, sp, item_page(c, sp, it));
		if (changed)
			space_bump(mm, c, sp);
		mm_trace(mm, KV_TP_RESV_BUMP, self, p->step);
	}
	pressure_granted(mm, c, p->step);
	c->keep_slabs = false;
	if (c->has_empty || p->nr_cow)
		slab_trim(mm, c);
	c->has_empty = false;
	compact_tell(c, p->step);
	mm->counts.reserves++;
	mm_trace(mm, KV_TP_RESV_REPLY, self, p->step);
	return op_end(c, (int)nr_copies);
}
