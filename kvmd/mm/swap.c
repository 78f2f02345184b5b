/* SPDX-License-Identifier: MIT */
/*
 * swap.c - pages that leave the device and come back
 *
 * A page whose spaces are idle may live in a slot of a swap tier instead of a
 * frame. Nobody but kvmd notices until a step wants it; then its reservation
 * waits until the page is back.
 *
 *	frame	used ---> out ---> free		in ---> used
 *	entry	present   moving   swapped		present
 *	slot	free      writing  held    reading	free
 *
 *	out	K0-K4 of the step protocol as in move.c, for all pages of a
 *		space that can leave, with one barrier. A page that somebody
 *		shares leaves for all of its mappers, or stays. While it is
 *		written its entries are moving and keep the frame
 *	back	the write failed, or a step asked for the page meanwhile: the
 *		entries are present again, nothing was lost
 *	in	a frame is filled that no entry names. When the host has found
 *		its checksum right, every entry that names the slot names the
 *		frame
 *	lost	the read failed, or it is not what was written: the entries say
 *		so, and a step that wants the page is told where to begin again
 *
 * Who owns what. A slot belongs to the client whose page it is and lives as
 * long as an entry names it or the host works on it; the host's work is told
 * by mm_swap_done(), and until then neither slot nor frame are used for
 * anything else, whatever happens to the entries: the last one gone, what is
 * left is freed there. A client that dies takes its entries along; its slots
 * are freed at once, its frames when the last page on its way has arrived.
 *
 * Which pages leave is decided in reclaim.c, where they go in slot.c; demote.c
 * moves them on from there.
 *
 * The bandwidth. At most SWAP_IO_MAX pages are on their way, and of a tenant no
 * more than its weight's share of these while others want some too: whoever
 * comes finds what is on its way soon gone, and the host, which serves tenants
 * by weight, finds pages of each. A page is on the account of the tenant for
 * whom it moves: who waits for memory pays for what leaves for it, whosesoever
 * it is; what nobody waits for is its owner's.
 */
#include "kvmd/mm/swap.h"
#include "kvmd/mm/demote.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/rmap.h"
#include "kvmd/mm/ticket.h"
#include "lib/hash.h"

#define SLOTS_AHEAD 8u

/* ---- entries ---- */

/* Every space that may map the page of a slot. */
#define SLOT_FAMILY(mm, c, s) (&mm_families(mm, c)[(s)->family].spaces)

/* The entry of @sp that names @slot, or NULL. */
static kv_pte_t *slot_pte(const struct mm *mm, const struct client *c,
			  const struct space *sp, u32 slot)
{
	const struct slot *s = &mm_slots(mm)[slot];
	const struct space_area *a = &sp->area[s->area];
	kv_pte_t *p;

	if (s->page < a->page_first || s->page >= a->page_end)
		return NULL;
	p = pte_at(c, a, s->page);
	return pte_slot(mm, c, a, *p) == slot ? p : NULL;
}

/* The entry of @sp for the page of a slot, wherever the page is now. */
static kv_pte_t *page_pte(const struct mm *mm, const struct client *c,
			  const struct space *sp, u32 slot)
{
	const struct slot *s = &mm_slots(mm)[slot];

	return s->state == SLOT_WRITING ? rmap_pte(mm, c, sp, s->frame)
					: slot_pte(mm, c, sp, slot);
}

/* Every entry of a page says @pte from now on; @out: not present. */
static void set_entries(struct mm *mm, struct client *c, u32 slot, u64 pte,
			bool out)
{
	const struct slot *s = &mm_slots(mm)[slot];
	struct space *sps = mm_spaces(mm, c);
	kv_pte_t *p;
	u32 i;

	ilist_for_each (i, SLOT_FAMILY(mm, c, s), ILINKS(sps, sibling)) {
		p = page_pte(mm, c, &sps[i], slot);
		if (!p)
			continue;
		kv_move_end(p, pte_make(0, pte, sps[i].gen + 1));
		sps[i].area[s->area].nr_out -= !out;
		space_bump(mm, c, &sps[i]);
	}
}

/* The page is in @frame, for @refs entries. */
static void map_frame(struct mm *mm, struct client *c, u32 slot, u32 frame,
		      u32 refs)
{
	const struct frame_class *cls = &c->cls[mm_slots(mm)[slot].geom];

	set_entries(mm, c, slot, rmap_present(mm, cls, frame, refs), false);
}

/* What an entry of a page in @slot says. */
static u64 slot_entry(const struct mm *mm, u32 slot)
{
	u64 tier = slot_tier(mm, slot) + 1;

	return slot | KV_PTE_SWAPPED | tier << KV_PTE_TIER_SHIFT;
}

void swap_set_slot(struct mm *mm, struct client *c, u32 from, u32 to)
{
	set_entries(mm, c, from, slot_entry(mm, to), true);
}

/* ---- out ---- */

/*
 * May a frame leave? Not one that a step uses or may still use, that is on its
 * way already, or that a space shares which has to stay.
 *
 * @age: raised to when a space that maps it was last used
 */
static bool frame_can_leave(const struct mm *mm, const struct client *c,
			    u32 frame, u64 *age)
{
	const struct frame *f = &mm_frames(mm)[frame];
	const struct space *sps = mm_spaces(mm, c);
	u32 i;

	if (f->state != FRAME_USED || f->pin > c->completed)
		return false;
	rmap_for_each(i, mm, c, frame)
	{
		if (sps[i].keep == mm->keep_seq ||
		    space_is_busy(mm, c, &sps[i]))
			return false;
		*age = max(*age, sps[i].used_ns);
	}
	return true;
}

/* K0 to K2 for one page. Return: false if there is no room for it. */
static bool leave_begin(struct mm *mm, struct client *c, u32 geom, u32 frame)
{
	struct frame *f = &mm_frames(mm)[frame];
	struct slot *s;
	u32 payer = mm->payer == MM_NONE ? c->tenant : mm->payer, slot;

	if (!swap_has_turn(mm, payer))
		return false;
	slot = slot_alloc(mm, c, geom, 0, SLOT_WRITING);
	if (slot == MM_NONE) {
		mm->tenants[c->tenant].events.swap_fail++;
		return false;
	}
	s = &mm_slots(mm)[slot];
	s->frame = frame;
	s->family = f->family;
	s->area = f->area;
	s->page = f->page;
	s->fresh = true;
	s->key = hash_add(c->cls[geom].fingerprint, ++mm->swap_keys);
	swap_io_begun(mm, c, s, payer);
	f->state = FRAME_OUT;
	f->next = slot;
	rmap_begin(mm, c, frame);
	mm_trace(mm, KV_TP_SWAP_OUT, client_index(mm, c), slot);
	return true;
}

/* The slot is not needed after all; the frame is what it was. */
static void leave_back(struct mm *mm, struct client *c, u32 slot)
{
	struct slot *s = &mm_slots(mm)[slot];
	struct frame *f = &mm_frames(mm)[s->frame];

	f->state = FRAME_USED;
	if (f->refs)
		map_frame(mm, c, slot, s->frame, f->refs);
	else
		frame_drop(mm, c, s->geom, s->frame);
	mm->counts.swap_back += f->refs > 0;
	slot_free(mm, c, slot);
	mm_trace(mm, KV_TP_SWAP_BACK, client_index(mm, c), slot);
}

/* K4 and K5 for one page. Return: bytes that leave. */
static u64 leave_end(struct mm *mm, struct client *c, u32 slot)
{
	struct slot *s = &mm_slots(mm)[slot];

	s->fresh = false;
	if (frame_is_busy(mm, c, s->frame)) {
		swap_io_ended(mm, c, s);
		leave_back(mm, c, slot);
		return 0;
	}
	mm_queue_swap(mm, MM_REQ_SWAP_OUT, slot);
	return c->cls[s->geom].geom.page_bytes;
}

/* K3 to K5 for all pages of @c that have begun to leave. Return: bytes. */
static u64 leave_all(struct mm *mm, struct client *c)
{
	u32 slot, prev;
	u64 bytes = 0;

	kv_move_fence();
	for (slot = c->slots.last; slot != ILIST_NONE; slot = prev) {
		prev = mm_slots(mm)[slot].link.prev;
		if (!mm_slots(mm)[slot].fresh)
			break;
		bytes += leave_end(mm, c, slot);
	}
	return bytes;
}

u64 swap_space_leave(struct mm *mm, struct client *c, struct space *sp,
		     const u32 need[KV_GEOM_MAX], u64 most)
{
	u64 bytes = 0, age = 0;
	u32 k, page, frame;

	for (k = 0; k < sp->nr_areas; k++) {
		const struct space_area *a = &sp->area[k];

		if (need[a->geom] <= c->cls[a->geom].nr_free)
			continue;
		for (page = a->page_end;
		     page-- > a->page_first && bytes < most;) {
			frame = pte_frame(mm, c, a, *pte_at(c, a, page));
			if (frame == MM_NONE ||
			    !frame_can_leave(mm, c, frame, &age))
				continue;
			if (!leave_begin(mm, c, a->geom, frame))
				return leave_all(mm, c);
			bytes += c->cls[a->geom].geom.page_bytes;
		}
	}
	return leave_all(mm, c);
}

bool swap_extent_can_leave(const struct mm *mm, const struct client *c, u32 e,
			   u64 *age)
{
	u32 k, n, frame;

	*age = 0;
	for_each_frame(frame, n, k, mm, e)
	{
		if (!frame_can_leave(mm, c, frame, age))
			return false;
	}
	return true;
}

u64 swap_extent_leave(struct mm *mm, struct client *c, u32 e)
{
	u32 k, n, frame;

	for_each_frame(frame, n, k, mm, e)
	{
		if (!leave_begin(mm, c,
				 mm_chunks(mm)[frame / FRAMES_PER_CHUNK].geom,
				 frame))
			return leave_all(mm, c);
	}
	return leave_all(mm, c);
}

static void swapped(struct mm *mm, struct client *c, u32 slot, u64 sum)
{
	struct slot *s = &mm_slots(mm)[slot];
	struct frame *f = &mm_frames(mm)[s->frame];
	struct frame_class *cls = &c->cls[s->geom];

	set_entries(mm, c, slot, slot_entry(mm, slot), true);
	s->sum = sum;
	s->refs = f->refs;
	mm_order();
	s->state = SLOT_HELD;
	mm_order();
	cls->nr_shared -= f->refs > 1;
	cls->nr_extra -= f->refs - 1;
	f->refs = 0;
	f->state = FRAME_USED;
	frame_drop(mm, c, s->geom, s->frame);
	mm->counts.swap_out++;
	mm->counts.swap_out_bytes += cls->geom.page_bytes;
	mm->tenants[s->payer].swap_out_bytes += cls->geom.page_bytes;
	mm->demote_look = true;
	mm_trace(mm, KV_TP_SWAPPED, client_index(mm, c), slot);
}

static void out_done(struct mm *mm, struct client *c, u32 slot, int err,
		     u64 sum)
{
	struct slot *s = &mm_slots(mm)[slot];

	if (err) {
		mm->counts.swap_errors++;
		mm->tenants[c->tenant].events.swap_fail++;
		mm->swap_backoff_until = mm->now_ns + MM_BACKOFF_NS;
	}
	if (err || s->wanted || !mm_frames(mm)[s->frame].refs)
		leave_back(mm, c, slot);
	else
		swapped(mm, c, slot, sum);
}

/* ---- in ---- */

/* Pages of an item: read from @first, written from @write. */
struct out_range {
	u32 first, write, end;
	u32 fresh; /* from here on none of a page's content is needed */
};

static struct out_range out_range(const struct client *c,
				  const struct space_area *a,
				  const struct kv_resv_item *it)
{
	u32 shift = c->cls[a->geom].page_shift;
	u32 end = (u32)((it->pos + it->nr_tokens - 1) >> shift) + 1;

	return (struct out_range){
		.first = max(area_first_needed(c, a, it->pos), a->page_first),
		.write = (u32)(it->pos >> shift),
		.fresh = (u32)DIV_ROUND_UP(it->pos, 1ull << shift),
		.end = min(end, a->page_end),
	};
}

/* Has the plan at hand not met this slot before? */
static bool plan_is_first(const struct mm *mm, struct slot *s)
{
	if (s->mark == (u32)mm->resv_seq)
		return false;
	s->mark = (u32)mm->resv_seq;
	s->seen = 0;
	return true;
}

/* The slot of an entry some way ahead is fetched: each lies somewhere else. */
static void slot_ahead(const struct mm *mm, const struct client *c,
		       const struct space_area *a, u32 page, u32 end)
{
	kv_pte_t pte;

	if (page + SLOTS_AHEAD >= end)
		return;
	pte = *pte_at(c, a, page + SLOTS_AHEAD);
	if (!kv_pte_is_present(pte) && kv_pte_frame(pte) < mm->lay.nr_slots)
		__builtin_prefetch(&mm_slots(mm)[kv_pte_frame(pte)], 1);
}

bool swap_plan_area(const struct mm *mm, const struct client *c,
		    const struct space_area *a, const struct kv_resv_item *it,
		    struct resv_plan *p)
{
	struct out_range r = out_range(c, a, it);
	struct slot *s;
	kv_pte_t pte;
	u32 page, slot;
	bool first;

	for (page = r.first; page < r.end; page++) {
		slot_ahead(mm, c, a, page, r.end);
		pte = *pte_at(c, a, page);
		if (kv_pte_is_present(pte))
			continue;
		slot = pte_slot(mm, c, a, pte);
		s = slot == MM_NONE ? NULL : &mm_slots(mm)[slot];
		if (s ? s->state == SLOT_READING : !pte_is_lost(pte)) {
			p->nr_moving++;
		} else if (page >= r.fresh) {
			p->need[a->geom]++;
			continue;
		} else if (!s) {
			p->lost =
				(u64)it->space << 32 |
				(((u64)page << c->cls[a->geom].page_shift) + 1);
			return false;
		}
		if (!s)
			continue;
		/* Spaces that share it have it read once. */
		first = plan_is_first(mm, s);
		if (s->state == SLOT_HELD) {
			p->nr_swapped++;
			p->need[a->geom] += first;
		}
		/* The last one to write keeps it. */
		if (page >= r.write && ++s->seen < s->refs) {
			p->need[a->geom]++;
			p->nr_cow++;
		}
	}
	return true;
}

/* Begin to read one page, if its slot is not being read already. */
static bool read_begin(struct mm *mm, struct client *c, u32 slot)
{
	struct slot *s = &mm_slots(mm)[slot];
	struct frame *f;
	u32 need[KV_GEOM_MAX] = { 0 }, extents;

	if (s->state != SLOT_HELD)
		return true;
	need[s->geom] = 1;
	extents = slab_extents_short(c, need);
	if (!swap_has_turn(mm, c->tenant) ||
	    extents > mm->by_state[EXTENT_READY].nr ||
	    extents > extent_tenant_room(mm, c->tenant))
		return false;
	slab_make(mm, c, need);
	s->frame = frame_alloc(mm, c, s->geom);
	s->state = SLOT_READING;
	f = &mm_frames(mm)[s->frame];
	f->refs = 0;
	f->state = FRAME_IN;
	f->next = slot;
	f->family = s->family;
	f->area = s->area;
	f->page = s->page;
	swap_io_begun(mm, c, s, c->tenant);
	mm->nr_reads++;
	mm_queue_swap(mm, MM_REQ_SWAP_IN, slot);
	mm_trace(mm, KV_TP_SWAP_IN, client_index(mm, c), slot);
	return true;
}

static bool bring_area(struct mm *mm, struct client *c,
		       const struct space_area *a,
		       const struct kv_resv_item *it)
{
	struct out_range r = out_range(c, a, it);
	u32 page, slot, frame;
	kv_pte_t pte;

	for (page = r.first; page < r.end; page++) {
		pte = *pte_at(c, a, page);
		if (kv_pte_is_present(pte))
			continue;
		slot = pte_slot(mm, c, a, pte);
		frame = pte_frame(mm, c, a, pte);
		if (frame != MM_NONE && mm_frames(mm)[frame].state == FRAME_OUT)
			mm_slots(mm)[mm_frames(mm)[frame].next].wanted = true;
		else if (slot != MM_NONE && page < r.fresh &&
			 !read_begin(mm, c, slot))
			return false;
	}
	return true;
}

/*
 * Does a ticket before it wait for pages that leave? Then its own do not come
 * back, and do not stay, before that one has what it wants, or they would be
 * asked to leave again, for ever. At its tenant's limit it waits for pages of
 * that tenant alone.
 */
static bool is_behind_reclaim(const struct mm *mm, const struct client *c,
			      const struct resv_plan *p)
{
	const struct client *cs = mm_clients(mm);
	u32 i;

	ilist_for_each (i, &mm->waiting, ILINKS(mm_tickets(mm), link)) {
		if (!ticket_is_before(mm, i, p))
			break;
		if (mm_tickets(mm)[i].reclaiming &&
		    (mm_tickets(mm)[i].block != BLOCK_TENANT ||
		     cs[mm_tickets(mm)[i].client].tenant == c->tenant))
			return true;
	}
	return false;
}

static void bring_all(struct mm *mm, struct client *c,
		      const struct resv_plan *p)
{
	u32 i, k;

	for (i = 0; i < p->nr_items; i++) {
		struct space *sp = &mm_spaces(mm, c)[p->items[i].space];

		sp->used_ns = mm->now_ns;
		for (k = 0; k < sp->nr_areas; k++)
			if (sp->area[k].nr_out &&
			    !bring_area(mm, c, &sp->area[k], &p->items[i]))
				return;
	}
}

void swap_bring(struct mm *mm, struct client *c, struct resv_plan *p)
{
	u64 before = mm->nr_reads;

	if (is_behind_reclaim(mm, c, p))
		return;
	swap_share_look(mm);
	bring_all(mm, c, p);
	p->nr_read = (u32)(mm->nr_reads - before);
}

static void in_done(struct mm *mm, struct client *c, u32 slot, int err)
{
	struct slot *s = &mm_slots(mm)[slot];
	struct frame *f = &mm_frames(mm)[s->frame];
	struct frame_class *cls = &c->cls[s->geom];

	if (err) {
		mm->counts.swap_errors++;
		mm->counts.swap_lost += s->refs > 0;
		set_entries(mm, c, slot, PTE_LOST, true);
		mm_trace(mm, KV_TP_SWAP_LOST, client_index(mm, c), slot);
	}
	if (err || !s->refs) {
		frame_free_now(mm, c, s->geom, s->frame);
		slot_release(mm, c, slot);
		return;
	}
	map_frame(mm, c, slot, s->frame, s->refs);
	f->state = FRAME_USED;
	f->refs = s->refs;
	cls->nr_shared += f->refs > 1;
	cls->nr_extra += f->refs - 1;
	mm->counts.swap_in++;
	mm->counts.swap_in_bytes += cls->geom.page_bytes;
	mm->tenants[s->payer].swap_in_bytes += cls->geom.page_bytes;
	slot_release(mm, c, slot);
	mm_trace(mm, KV_TP_SWAPPED_IN, client_index(mm, c), slot);
}

/* The client is gone, and nothing of it is needed. */
static void dead_done(struct mm *mm, struct client *c, u32 slot)
{
	if (mm_slots(mm)[slot].state == SLOT_FILLING)
		demote_dead(mm, c, slot);
	else
		slot_release(mm, c, slot);
	if (c->state == CLIENT_DRAINING && !c->nr_io)
		client_gone_finish(mm, c);
}

static bool is_on_its_way(const struct mm *mm, u32 slot)
{
	u8 state;

	if (slot >= mm->lay.nr_slots)
		return false;
	state = mm_slots(mm)[slot].state;
	return state == SLOT_WRITING || state == SLOT_READING ||
	       state == SLOT_FILLING;
}

void mm_swap_done(struct mm *mm, u32 slot, int err, u64 sum)
{
	struct slot *s = &mm_slots(mm)[slot];
	struct client *c;
	bool look, dirty, any;

	if (!is_on_its_way(mm, slot)) {
		mm->counts.invalid++;
		return;
	}
	c = &mm_clients(mm)[s->client];
	swap_io_ended(mm, c, s);
	look = ticket_io_ended(mm, c) || err;
	if (c->state != CLIENT_LIVE) {
		dead_done(mm, c, slot);
		return;
	}
	dirty = c->dirty;
	any = mm->client_dirty;
	if (s->state == SLOT_WRITING)
		out_done(mm, c, slot, err, sum);
	else if (s->state == SLOT_FILLING)
		demote_done(mm, c, slot, err);
	else
		in_done(mm, c, slot, err);
	/* the frame that came free is looked at together with others */
	c->dirty = dirty || look;
	mm->client_dirty = any || look;
	mm->dirty |= err != 0;
}

void swap_client_exit(struct mm *mm, struct client *c)
{
	u32 slot, next;

	ilist_for_each_safe (slot, next, &c->slots, ILINKS(mm_slots(mm), link))
		if (mm_slots(mm)[slot].state == SLOT_HELD)
			slot_release(mm, c, slot);
}
