/* SPDX-License-Identifier: MIT */
/*
 * recover_table.c - a live client's spaces, leaf by leaf
 *
 * First all entries are looked at, put to rest and counted; when all are
 * counted, it is known who shares what, and the second walk says so. Between
 * the two nothing is freed.
 *
 *	entry			becomes
 *	present, own frame	itself
 *	present, cache's page	itself
 *	moving			present, read-only: the page is where it was,
 *				and where copies of it are elsewhere too, both
 *				are right
 *	swapped			itself; present, if the slot was still being
 *				written
 *	anything else		lost: a table that was scribbled over
 */
#include <string.h>

#include "kvmd/mm/recover.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/swap.h"

static bool has_leaf(const struct space_area *a, u32 page)
{
	return a->leaf_mask & (1u << (page / KV_LEAF_PTES));
}

static bool leaf_is_used(const struct space_area *a, u32 i)
{
	u32 lo = i * KV_LEAF_PTES, hi = lo + KV_LEAF_PTES;

	return a->page_first < a->page_end && a->page_first < hi &&
	       a->page_end > lo;
}

/* ---- ranges and leaves ---- */

static bool page_is_zero(const struct client *c, const struct space_area *a,
			 u32 page)
{
	return !has_leaf(a, page) || !*pte_at(c, a, page);
}

/* Pages that were just dropped lie at one end of the range. */
static void trim_range(struct mm *mm, const struct client *c,
		       struct space_area *a)
{
	u32 page;

	a->page_end = min(a->page_end, KV_AREA_PAGES);
	a->page_first = min(a->page_first, a->page_end);
	while (a->page_end > a->page_first &&
	       page_is_zero(c, a, a->page_end - 1))
		a->page_end--;
	while (a->page_first < a->page_end && page_is_zero(c, a, a->page_first))
		a->page_first++;
	for (page = a->page_first; page < a->page_end; page++)
		if (!has_leaf(a, page)) {
			mm->counts.invalid++; /* not by us */
			a->page_end = page;
		}
}

/* Leaves are the area's, nobody else's, and zero outside its pages. */
static void take_leaves(struct mm *mm, struct client *c, struct space_area *a)
{
	u32 i, page, n;

	for (i = 0; i < KV_AREA_LEAVES; i++) {
		if (!(a->leaf_mask & (1u << i)))
			continue;
		if (a->leaf[i] >= c->nr_leaves ||
		    bitmap_test(c->leaf_map, a->leaf[i]))
			a->leaf_mask &= ~(1u << i);
		else
			bitmap_set(c->leaf_map, a->leaf[i]);
	}
	trim_range(mm, c, a);
	for (i = 0; i < KV_AREA_LEAVES; i++) {
		if (!(a->leaf_mask & (1u << i)))
			continue;
		for (n = 0; n < KV_LEAF_PTES; n++) {
			page = i * KV_LEAF_PTES + n;
			if ((page < a->page_first || page >= a->page_end) &&
			    *pte_at(c, a, page))
				kv_store_relaxed(pte_at(c, a, page), 0);
		}
		if (leaf_is_used(a, i)) {
			c->leaves_used++;
			continue;
		}
		bitmap_clear(c->leaf_map, a->leaf[i]);
		mm_order();
		a->leaf_mask &= ~(1u << i);
	}
}

/* What a fork had copied into leaves that are nobody's now. */
static void clear_leaves(const struct client *c)
{
	u32 leaf, i;

	for (leaf = 0; leaf < c->nr_leaves; leaf++) {
		struct kv_leaf *l = kv_table_leaf(c->table, leaf);

		for (i = 0; !bitmap_test(c->leaf_map, leaf) && i < KV_LEAF_PTES;
		     i++)
			if (l->pte[i])
				kv_store_relaxed(&l->pte[i], 0);
	}
}

/* ---- entries ---- */

struct slot *slot_of(const struct mm *mm, const struct client *c,
		     const struct space *sp, u32 area, u32 page, kv_pte_t pte)
{
	u32 i = kv_pte_frame(pte);
	struct slot *s = &mm_slots(mm)[i];

	if (i >= mm->lay.nr_slots || !bitmap_test(mm_slot_map(mm), i) ||
	    s->state == SLOT_FREE || s->client != client_index(mm, c) ||
	    s->geom != sp->area[area].geom || s->family != sp->family ||
	    s->area != area || s->page != page)
		return NULL;
	return s;
}

/* The page is in @frame. */
static kv_pte_t count_frame(const struct mm *mm, const struct space *sp,
			    u32 area, u32 page, u32 frame, kv_pte_t pte)
{
	struct frame *f = &mm_frames(mm)[frame];

	if (f->state == FRAME_FREE ||
	    (f->refs &&
	     (f->family != sp->family || f->area != area || f->page != page)))
		return PTE_LOST;
	f->refs++;
	f->family = sp->family;
	f->area = (u8)area;
	f->page = (u16)page;
	return pte;
}

static kv_pte_t count_swapped(const struct mm *mm, const struct client *c,
			      const struct space *sp, u32 area, u32 page,
			      kv_pte_t pte, u32 tiers_lost)
{
	struct slot *s = slot_of(mm, c, sp, area, page, pte);
	u32 slot = kv_pte_frame(pte), frame;

	if (pte_is_lost(pte) || !s)
		return PTE_LOST;
	if (s->state == SLOT_WRITING) {
		frame = s->frame;
		if (mm_frames(mm)[frame].state != FRAME_OUT ||
		    mm_frames(mm)[frame].next != slot)
			return PTE_LOST;
		pte = frame_entry(mm, &c->cls[s->geom], frame) | KV_PTE_PRESENT;
		return count_frame(mm, sp, area, page, frame, pte);
	}
	if (tiers_lost & (1u << slot_tier(mm, slot)))
		return PTE_LOST;
	s->refs++;
	return pte;
}

static kv_pte_t count_entry(const struct mm *mm, const struct client *c,
			    const struct space *sp, u32 area, u32 page,
			    kv_pte_t pte, u32 tiers_lost)
{
	const struct space_area *a = &sp->area[area];
	u32 frame;

	if (pte & KV_PTE_MOVING)
		pte = (pte & ~(KV_PTE_MOVING | KV_PTE_WRITE)) | KV_PTE_PRESENT;
	if (!kv_pte_is_present(pte))
		return pte & KV_PTE_SWAPPED
			       ? count_swapped(mm, c, sp, area, page, pte,
					       tiers_lost)
			       : PTE_LOST;
	frame = pte_frame(mm, c, a, pte);
	if (frame != MM_NONE)
		return count_frame(mm, sp, area, page, frame, pte);
	/* prefix.c counts nodes; the entry is compared with them later. */
	frame = pte_cached(mm, c, a, pte);
	if (frame == MM_NONE)
		return PTE_LOST;
	return (pte | KV_PTE_SHARED) & ~KV_PTE_WRITE;
}

static void count_area(const struct mm *mm, const struct client *c,
		       const struct space *sp, u32 k, u32 tiers_lost)
{
	const struct space_area *a = &sp->area[k];
	kv_pte_t *p, pte;
	u32 page;

	for (page = a->page_first; page < a->page_end; page++) {
		p = pte_at(c, a, page);
		pte = count_entry(mm, c, sp, k, page, *p, tiers_lost);
		if (pte != *p)
			kv_store_relaxed(p, pte);
	}
}

/* ---- spaces ---- */

static void free_slot(const struct mm *mm, struct client *c, u32 i)
{
	struct space *sp = &mm_spaces(mm, c)[i];

	sp->state = KV_SPACE_FREE;
	sp->ref = sp->chain = sp->cached = 0;
	memset(sp->area, 0, sizeof(sp->area));
	sp->next_free = c->space_free;
	c->space_free = i;
}

static void recover_families(const struct mm *mm, struct client *c)
{
	struct family *fs = mm_families(mm, c);
	struct space *sps = mm_spaces(mm, c);
	u32 i;

	for (i = 0; i < c->family_top; i++)
		ilist_init(&fs[i].spaces);
	for (i = 0; i < c->space_top; i++)
		if (sps[i].state == KV_SPACE_LIVE)
			ilist_add_tail(&fs[sps[i].family].spaces,
				       ILINKS(sps, sibling), i);
	for (i = c->family_top; i--;) {
		if (!ilist_is_empty(&fs[i].spaces))
			continue;
		fs[i].next_free = c->family_free;
		c->family_free = i;
	}
}

void recover_spaces(struct mm *mm, struct client *c, u32 tiers_lost)
{
	struct space *sps = mm_spaces(mm, c);
	u32 i, k;

	for (i = c->space_top; i--;) {
		if (sps[i].state != KV_SPACE_LIVE ||
		    sps[i].nr_areas > KV_AREA_MAX) {
			free_slot(mm, c, i);
			continue;
		}
		c->nr_spaces++;
		for (k = 0; k < sps[i].nr_areas; k++) {
			take_leaves(mm, c, &sps[i].area[k]);
			count_area(mm, c, &sps[i], k, tiers_lost);
		}
		/* Look once more which pages can go over to the cache. */
		sps[i].cached = 0;
	}
	clear_leaves(c);
	recover_families(mm, c);
}

/* ---- when all are counted ---- */

/* Return: false if it names a page of the cache that its space has not. */
static bool cached_is_its(const struct mm *mm, const struct space *sp, u32 k,
			  u32 page, u32 frame)
{
	const struct prefix_node *x;
	u32 n;

	n = sp->ref ? mm_refs(mm)[sp->ref].node : MM_NONE;
	if (n == MM_NONE || mm_nodes(mm)[n].depth < page)
		return false;
	x = &mm_nodes(mm)[prefix_node(mm, sp, page)];
	return x->frame[k] == frame && !(x->copying & (1u << k));
}

static kv_pte_t final_pte(struct mm *mm, struct client *c,
			  const struct space *sp, u32 k, u32 page, kv_pte_t pte)
{
	u32 frame = pte_frame(mm, c, &sp->area[k], pte);

	if (frame != MM_NONE)
		return mm_frames(mm)[frame].refs > 1
			       ? (pte | KV_PTE_SHARED) & ~KV_PTE_WRITE
			       : pte;
	if (!kv_pte_is_present(pte))
		return pte;
	frame = pte_cached(mm, c, &sp->area[k], pte);
	if (frame == MM_NONE || !cached_is_its(mm, sp, k, page, frame))
		return PTE_LOST;
	mm_frames(mm)[frame].refs++;
	cached_class(mm, frame)->nr_shared += mm_frames(mm)[frame].refs == 2;
	cached_class(mm, frame)->nr_extra++;
	bitmap_set(mm_grants(mm, c),
		   frame / FRAMES_PER_CHUNK / KV_EXTENT_CHUNKS);
	return pte;
}

void recover_entries(struct mm *mm, struct client *c)
{
	struct space *sps = mm_spaces(mm, c), *sp;
	struct kv_space_desc *d, from;
	kv_pte_t *p, pte;
	u32 i, k, page;

	c->table->nr_geoms = c->nr_geoms;
	kv_store_release(&c->table->nr_leaves, c->nr_leaves);
	for (i = 0; i < c->space_top; i++) {
		sp = &sps[i];
		d = space_desc(mm, c, sp);
		sp->gen = max(sp->gen, d->gen);
		if (sp->state != KV_SPACE_LIVE) {
			kv_store_relaxed(&d->state, (u32)KV_SPACE_FREE);
			space_bump(mm, c, sp);
			continue;
		}
		for (k = 0; k < sp->nr_areas; k++) {
			struct space_area *a = &sp->area[k];

			a->nr_out = 0;
			for (page = a->page_first; page < a->page_end; page++) {
				p = pte_at(c, a, page);
				pte = final_pte(mm, c, sp, k, page, *p);
				if (pte != *p)
					kv_store_relaxed(p, pte);
				a->nr_out += !kv_pte_is_present(pte);
			}
		}
		from = *d;
		space_publish(mm, c, sp, &from);
	}
}
