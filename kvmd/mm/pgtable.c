/* SPDX-License-Identifier: MIT */
/*
 * pgtable.c - entries and leaves of one client's table
 *
 * An area's pages are a contiguous run [page_first, page_end): it grows at
 * its end by reservations, shrinks there by truncation, and at its start as
 * a window leaves pages behind. Its leaves are those the run touches.
 *
 * A leaf is either an area's or unused, and an unused one is all zero: the
 * entries are cleared as pages are dropped. leaf_map says which are in use;
 * it is the core's own, as are the leaf numbers in struct space_area, so
 * that nothing a client might scribble over is used as an index.
 */
#include <errno.h>

#include "kvmd/mm/prefix.h"
#include "kvmd/mm/swap.h"

#define GROW_LEAVES 64u

/* Bits of the leaves that pages [first, end) lie in. */
static u32 leaf_bits(u32 first, u32 end)
{
	u32 lo = first / KV_LEAF_PTES, hi;

	if (first >= end)
		return 0;
	hi = (end - 1) / KV_LEAF_PTES;
	return (u32)((2ull << hi) - (1ull << lo));
}

u32 pgtable_leaves_missing(const struct space_area *a, u32 first, u32 end)
{
	return (u32)__builtin_popcount(leaf_bits(first, end) & ~a->leaf_mask);
}

int pgtable_grow(struct mm *mm, struct client *c, u32 nr)
{
	u32 want = c->leaves_used + nr, to;
	int rc;

	if (want <= c->nr_leaves)
		return 0;
	if (nr > KV_LEAF_MAX || want > KV_LEAF_MAX)
		return -ENOSPC;
	to = max(want, c->nr_leaves + c->nr_leaves / 4);
	to = min(ALIGN_UP(to, GROW_LEAVES), KV_LEAF_MAX);
	rc = mm->ops->table_grow(mm->host, client_index(mm, c), to);
	if (rc)
		return rc;
	c->nr_leaves = to;
	kv_store_release(&c->table->nr_leaves, to);
	return 0;
}

void pgtable_add(struct client *c, struct space_area *a, struct kv_area_desc *d,
		 u32 first, u32 end)
{
	u32 add = leaf_bits(first, end) & ~a->leaf_mask, i, leaf;

	for (; add; add &= add - 1) {
		i = (u32)__builtin_ctz(add);
		leaf = bitmap_find_zero(c->leaf_map, c->nr_leaves, 0);
		bitmap_set(c->leaf_map, leaf);
		c->leaves_used++;
		a->leaf[i] = (u16)leaf;
		mm_order();
		a->leaf_mask |= 1u << i;
		kv_store_relaxed(&d->leaf[i], leaf);
	}
}

static void drop_leaves(struct client *c, struct space_area *a,
			struct kv_area_desc *d, u32 first, u32 end)
{
	u32 drop = a->leaf_mask & ~leaf_bits(first, end), i;

	mm_order(); /* its entries are zero */
	for (; drop; drop &= drop - 1) {
		i = (u32)__builtin_ctz(drop);
		bitmap_clear(c->leaf_map, a->leaf[i]);
		c->leaves_used--;
		a->leaf_mask &= ~(1u << i);
		kv_store_relaxed(&d->leaf[i], KV_LEAF_NONE);
	}
}

void pgtable_drop_out(struct mm *mm, struct client *c, struct space_area *a,
		      kv_pte_t pte)
{
	u32 slot = pte_slot(mm, c, a, pte);

	if (slot != MM_NONE)
		slot_put(mm, c, slot);
	else if (!(pte & KV_PTE_MOVING) && !pte_is_lost(pte))
		mm->counts.invalid++;
	a->nr_out -= a->nr_out > 0;
}

static void drop_pages(struct mm *mm, struct client *c, struct space_area *a,
		       u32 from, u32 to, u64 pin)
{
	u32 page, frame;
	kv_pte_t *p, pte;

	for (page = from; page < to; page++) {
		p = pte_at(c, a, page);
		pte = *p;
		kv_store_relaxed(p, 0);
		frame = pte_frame(mm, c, a, pte);
		if (unlikely(!kv_pte_is_present(pte)))
			pgtable_drop_out(mm, c, a, pte);
		if (likely(frame != MM_NONE))
			frame_put(mm, c, a->geom, frame, pin);
		else if (kv_pte_is_present(pte))
			mm->counts.invalid += !prefix_drop_entry(mm, c, a, pte);
	}
}

u32 pgtable_unmap(struct mm *mm, struct client *c, struct space_area *a,
		  struct kv_area_desc *d, u32 first, u32 end, u64 pin)
{
	u32 had = a->page_end - a->page_first;

	first = min(max(first, a->page_first), a->page_end);
	end = min(max(end, first), a->page_end);
	drop_pages(mm, c, a, a->page_first, first, pin);
	drop_pages(mm, c, a, end, a->page_end, pin);
	a->page_first = first;
	a->page_end = end;
	kv_store_relaxed(&d->page_first, first);
	kv_store_relaxed(&d->page_end, end);
	drop_leaves(c, a, d, first, end);
	return had - (end - first);
}
