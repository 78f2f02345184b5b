/* SPDX-License-Identifier: MIT */
/*
 * fork.c - a space that shares another's first tokens
 *
 * The child gets a table of its own; leaves are not shared. Each page takes
 * one more reference, and both entries become read-only, so that whichever
 * side writes first gets a page of its own (resv.c). No token is copied.
 *
 * The loop is what a fork costs: per page one entry read, two written, one
 * frame descriptor. Both sides are bumped once, after all entries.
 *
 * A page whose child is gone again stays read-only in the parent until it is
 * next written to; then one reference is left and nothing is copied. Pages
 * that are swapped are shared where they are.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/oplog.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/swap.h"

/* A page that is swapped, on its way there, or lost: 1, or 0 if it is none. */
static u32 share_out(struct mm *mm, struct client *c,
		     const struct space_area *pa, struct space_area *ca,
		     u32 page, u64 child_gen)
{
	kv_pte_t pte = *pte_at(c, pa, page);
	u32 slot = pte_slot(mm, c, pa, pte);
	u32 frame = pte_frame(mm, c, pa, pte);

	if (slot != MM_NONE) {
		slot_get(mm, slot);
	} else if (frame != MM_NONE) {
		frame_get(&c->cls[pa->geom], &mm_frames(mm)[frame]);
	} else if (!pte_is_lost(pte)) {
		mm->counts.invalid++;
		return 0;
	}
	ca->nr_out++;
	kv_store_relaxed(pte_at(c, ca, page),
			 pte_make(0, pte & ~KV_PTE_GEN, child_gen));
	return 1;
}

/* Pages [first, end) of @pa appear in @ca, shared. Return: pages shared. */
static u32 share_pages(struct mm *mm, struct client *c, struct space_area *pa,
		       struct space_area *ca, u64 child_gen)
{
	struct frame_class *cls = &c->cls[pa->geom];
	struct frame *frames = mm_frames(mm);
	u32 self = client_index(mm, c);
	u32 page, frame, n = 0;
	kv_pte_t *p, pte;

	for (page = ca->page_first; page < ca->page_end; page++) {
		p = pte_at(c, pa, page);
		pte = *p;
		if (unlikely(!kv_pte_is_present(pte))) {
			n += share_out(mm, c, pa, ca, page, child_gen);
			continue;
		}
		frame = frame_find(mm, self, pa->geom, cls, kv_pte_frame(pte));
		if (likely(frame != MM_NONE)) {
			frame_get(cls, &frames[frame]);
		} else if (!prefix_share_entry(mm, c, pa, pte)) {
			mm->counts.invalid++;
			continue;
		}
		pte = (pte | KV_PTE_SHARED) & ~KV_PTE_WRITE;
		kv_store_relaxed(p, pte);
		kv_store_relaxed(pte_at(c, ca, page),
				 pte_make(kv_pte_frame(pte),
					  pte & ~(KV_PTE_FRAME | KV_PTE_GEN),
					  child_gen));
		n++;
	}
	return n;
}

/* What of each parent area the child will map. Return: leaves it takes. */
static u32 plan_areas(const struct client *c, const struct space *parent,
		      struct space_area *area, u64 len)
{
	u32 i, leaves = 0, need;

	memset(area, 0, sizeof(*area) * KV_AREA_MAX);
	for (i = 0; i < parent->nr_areas; i++) {
		const struct space_area *pa = &parent->area[i];

		area[i].geom = pa->geom;
		area[i].window = pa->window;
		area[i].page_end = (u32)DIV_ROUND_UP(
			len, c->cls[pa->geom].geom.page_tokens);
		need = len ? area_first_needed(c, pa, len) : 0;
		area[i].page_first =
			min(max(pa->page_first, need), area[i].page_end);
		if (!len)
			area[i].page_first = 0;
		leaves += pgtable_leaves_missing(&area[i], area[i].page_first,
						 area[i].page_end);
	}
	return leaves;
}

static int check_fork(const struct client *c, const struct space *parent,
		      u64 len)
{
	u32 i;
	int rc = 0;

	for (i = 0; i < parent->nr_areas && !rc; i++)
		rc = area_can_resume(c, &parent->area[i], len);
	return rc;
}

/* Pages of the longest area. */
static u32 fork_pages(const struct space_area *area, const struct space *parent)
{
	u32 i, pages = 0;

	for (i = 0; i < parent->nr_areas; i++)
		pages = max(pages, area[i].page_end);
	return pages;
}

int mm_space_fork(struct mm *mm, u32 client, u32 space, u64 len)
{
	struct space_area area[KV_AREA_MAX];
	struct kv_space_desc *pd, *cd;
	struct space *parent, *child;
	struct client *c;
	u32 i, slot, shared = 0, shift;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	parent = space_find(mm, c, space);
	if (!parent)
		return -ENOENT;
	rc = check_fork(c, parent, len);
	if (!rc)
		rc = pgtable_grow(mm, c, plan_areas(c, parent, area, len));
	if (!rc)
		rc = space_alloc(mm, c, parent->family, &child);
	if (rc)
		return rc;
	slot = space_slot(mm, c, child);
	shift = c->cls[parent->area[0].geom].page_shift;
	child->nr_areas = parent->nr_areas;
	rc = prefix_fork(mm, c, parent, child, fork_pages(area, parent));
	if (rc) {
		space_free(mm, c, child);
		return rc;
	}
	child->chain = min(child->chain, (u32)(len >> shift));
	child->cached = min(child->cached, child->chain);
	child->priority = parent->priority;
	child->parent = space;
	memcpy(child->area, area, sizeof(area));
	pd = space_desc(mm, c, parent);
	cd = space_desc(mm, c, child);
	for (i = 0; i < child->nr_areas; i++)
		pgtable_add(c, &child->area[i], &cd->area[i],
			    area[i].page_first, area[i].page_end);
	mm_trace(mm, KV_TP_FORK_BEGIN, client, slot);
	for (i = 0; i < child->nr_areas; i++)
		shared += share_pages(mm, c, &parent->area[i], &child->area[i],
				      child->gen + 1);
	mm_trace(mm, KV_TP_FORK_TABLE, client, slot);
	op_begin(c, OP_FORK, slot, 0);
	space_publish(mm, c, child, pd);
	if (shared)
		space_bump(mm, c, parent);
	mm->counts.forks++;
	mm_trace(mm, KV_TP_FORK, client, slot);
	return op_end(c, (int)slot);
}
