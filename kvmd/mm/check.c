/* SPDX-License-Identifier: MIT */
/*
 * check.c - fsck of the books: recompute every count from what is truth
 *
 * Truth, in this order: extents and chunk heads say who owns which memory;
 * entries say who maps which frame; frame descriptors, class, client and
 * tenant counts and all lists have to agree with them. Each disagreement is
 * one sentence.
 *
 * References are counted in the scratch arrays of the block, so that the
 * walk needs no memory of its own.
 */
#include <stdarg.h>
#include <stdio.h>

#include "kvmd/mm/check.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/rmap.h"
#include "kvmd/mm/swap.h"

void __printf(2, 3) check_fault(struct check *k, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	k->faults++;
	if (!k->report)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	k->report(k->ctx, text);
}

void check_expect(struct check *k, const char *what, u32 who, u64 books,
		  u64 found)
{
	if (books != found)
		check_fault(k, "%s of %u: the books say %llu, found %llu", what,
			    who, (unsigned long long)books,
			    (unsigned long long)found);
}

/* ---- one client: its tables ---- */

/* An entry for a page of the cache: does the space hold the node? */
static void check_cached(struct check *k, const struct client *c,
			 const struct space *sp, u32 area, u32 page)
{
	const struct mm *mm = k->mm;
	const struct space_area *a = &sp->area[area];
	kv_pte_t pte = *pte_at(c, a, page);
	u32 frame = pte_cached(mm, c, a, pte), n = MM_NONE;
	u32 extent = frame / FRAMES_PER_CHUNK / KV_EXTENT_CHUNKS;

	mm_seen(mm)[frame]++;
	if (sp->ref)
		for (n = mm_refs(mm)[sp->ref].node;
		     n != MM_NONE && mm_nodes(mm)[n].depth > page;
		     n = mm_nodes(mm)[n].parent)
			;
	if (n == MM_NONE || mm_nodes(mm)[n].depth != page ||
	    mm_nodes(mm)[n].frame[area] != frame ||
	    (mm_nodes(mm)[n].copying & (1u << area)))
		check_fault(
			k,
			"client %u space %u area %u page %u: frame %u of the "
			"cache is not of the prefix it holds",
			client_index(mm, c), space_slot(mm, c, sp), area, page,
			frame);
	if (pte & KV_PTE_WRITE)
		check_fault(k,
			    "client %u space %u page %u: the cache is writable",
			    client_index(mm, c), space_slot(mm, c, sp), page);
	if (c->state == CLIENT_LIVE && !bitmap_test(mm_grants(mm, c), extent))
		check_fault(
			k,
			"client %u: extent %u of the cache was never granted",
			client_index(mm, c), extent);
}

static void check_entry(struct check *k, const struct client *c, u32 space,
			u32 area, u32 page)
{
	const struct mm *mm = k->mm;
	const struct space *sp = &mm_spaces(mm, c)[space];
	const struct space_area *a = &sp->area[area];
	kv_pte_t pte = *pte_at(c, a, page);
	u32 frame = pte_frame(mm, c, a, pte), ci = client_index(mm, c);
	u32 slot = pte_slot(mm, c, a, pte);
	bool moving = pte & KV_PTE_MOVING;
	const struct frame *f;

	if (pte_cached(mm, c, a, pte) != MM_NONE) {
		check_cached(k, c, sp, area, page);
		return;
	}

	/* Of one that is going the slots are freed, its table is not walked. */
	if (pte_is_lost(pte) ||
	    ((pte & KV_PTE_SWAPPED) && c->state != CLIENT_LIVE))
		return;
	if (slot != MM_NONE) {
		const struct slot *s = &mm_slots(mm)[slot];

		mm_slots(mm)[slot].seen++;
		if (s->family != sp->family || s->area != area ||
		    s->page != page)
			check_fault(
				k,
				"client %u space %u area %u page %u: slot %u "
				"has another page",
				ci, space, area, page, slot);
		return;
	}
	if (frame == MM_NONE || !(kv_pte_is_present(pte) || moving)) {
		check_fault(k,
			    "client %u space %u area %u page %u: entry %#llx "
			    "is no frame of this client",
			    ci, space, area, page, (unsigned long long)pte);
		return;
	}
	f = &mm_frames(mm)[frame];
	mm_seen(mm)[frame]++;
	if (moving ? f->state != FRAME_OUT && f->state != FRAME_MOVE
		   : f->state != FRAME_USED && f->state != FRAME_PUB)
		check_fault(
			k,
			"client %u space %u area %u page %u: frame %u is in "
			"state %u",
			ci, space, area, page, frame, f->state);
	if (f->family != sp->family || f->area != area || f->page != page)
		check_fault(
			k,
			"frame %u: family %u area %u page %u, mapped by family "
			"%u area %u page %u of client %u",
			frame, f->family, f->area, f->page, sp->family, area,
			page, ci);
	if ((pte & KV_PTE_WRITE) && f->refs != 1)
		check_fault(
			k,
			"client %u space %u area %u page %u: writable, but %u "
			"entries map it",
			ci, space, area, page, f->refs);
}

static void check_area(struct check *k, const struct client *c, u32 slot,
		       u32 area, u32 *leaves)
{
	const struct space *sp = &mm_spaces(k->mm, c)[slot];
	const struct space_area *a = &sp->area[area];
	const struct kv_area_desc *d = &space_desc(k->mm, c, sp)->area[area];
	u32 i, page, lo, hi, ci = client_index(k->mm, c), out = 0;

	if (a->page_first > a->page_end || a->page_end > KV_AREA_PAGES ||
	    d->page_first != a->page_first || d->page_end != a->page_end)
		check_fault(k,
			    "client %u space %u area %u: pages [%u, %u), table "
			    "says [%u, %u)",
			    ci, slot, area, a->page_first, a->page_end,
			    d->page_first, d->page_end);
	for (i = 0; i < KV_AREA_LEAVES; i++) {
		bool has = a->leaf_mask & (1u << i);

		lo = i * KV_LEAF_PTES;
		hi = lo + KV_LEAF_PTES;
		if (has != (a->page_first < hi && a->page_end > lo &&
			    a->page_first < a->page_end))
			check_fault(k, "client %u space %u area %u: leaf %u %s",
				    ci, slot, area, i,
				    has ? "is useless" : "is missing");
		if (d->leaf[i] != (has ? a->leaf[i] : KV_LEAF_NONE))
			check_fault(
				k,
				"client %u space %u area %u: the table's leaf "
				"%u differs",
				ci, slot, area, i);
		if (!has)
			continue;
		++*leaves;
		if (!bitmap_test(c->leaf_map, a->leaf[i]))
			check_fault(k, "client %u: leaf %u is used and free",
				    ci, a->leaf[i]);
		for (page = lo; page < hi; page++) {
			if (page < a->page_first || page >= a->page_end) {
				if (*pte_at(c, a, page))
					check_fault(
						k,
						"client %u space %u area %u "
						"page %u: an entry outside the "
						"area",
						ci, slot, area, page);
				continue;
			}
			check_entry(k, c, slot, area, page);
			out += !kv_pte_is_present(*pte_at(c, a, page));
		}
	}
	check_expect(k, "pages that are out, space", slot, a->nr_out, out);
}

static void check_spaces(struct check *k, const struct client *c)
{
	const struct space *sps = mm_spaces(k->mm, c), *sp;
	u32 i, area, live = 0, leaves = 0, ci = client_index(k->mm, c);

	for (i = 0; i < c->space_top; i++) {
		sp = &sps[i];
		if (space_desc(k->mm, c, sp)->gen != sp->gen)
			check_fault(
				k,
				"client %u space %u: the table's generation "
				"differs",
				ci, i);
		if (space_desc(k->mm, c, sp)->state != sp->state)
			check_fault(k,
				    "client %u space %u: the table's state "
				    "differs",
				    ci, i);
		if (sp->state != KV_SPACE_LIVE)
			continue;
		live++;
		for (area = 0; area < sp->nr_areas; area++)
			check_area(k, c, i, area, &leaves);
	}
	check_expect(k, "live spaces", ci, c->nr_spaces, live);
	check_expect(k, "leaves", ci, c->leaves_used, leaves);
	check_expect(k, "leaf map", ci, c->leaves_used,
		     bitmap_weight(c->leaf_map, KV_LEAF_MAX));
	check_expect(k, "published leaves", ci, c->nr_leaves,
		     c->table->nr_leaves);
}

/* ---- one client: its pages on their way ---- */

/* Pages that are being copied from a client. */
static u32 nr_copying(const struct mm *mm, u32 client)
{
	u32 n, nr = 0;

	for (n = 0; n < mm->node_top; n++)
		if (mm_nodes(mm)[n].state == NODE_LIVE &&
		    mm_nodes(mm)[n].client == client)
			nr += (u32)__builtin_popcount(mm_nodes(mm)[n].copying);
	return nr;
}

/* Pages of a client that are being moved. */
static u32 nr_moving(const struct mm *mm, u32 client)
{
	u32 i, nr = 0;

	for (i = 0; i < MOVE_IO_MAX; i++)
		nr += mm->moves[i].state != MOVE_FREE &&
		      mm->moves[i].client == client;
	return nr;
}

static void check_moves(struct check *k)
{
	const struct frame *fs = mm_frames(k->mm);
	u32 i, nr = 0;

	for (i = 0; i < MOVE_IO_MAX; i++) {
		const struct page_move *m = &k->mm->moves[i];

		if (m->state == MOVE_FREE)
			continue;
		nr++;
		if (m->state == MOVE_FRESH)
			check_fault(k, "move %u: K4 never came", i);
		if (mm_clients(k->mm)[m->client].state == CLIENT_DRAINING)
			continue;
		if (fs[m->from].state != FRAME_MOVE || fs[m->from].next != i ||
		    fs[m->to].state != FRAME_TO || fs[m->to].next != i ||
		    fs[m->to].refs)
			check_fault(
				k, "move %u: frames %u and %u in states %u, %u",
				i, m->from, m->to, fs[m->from].state,
				fs[m->to].state);
	}
	check_expect(k, "pages being moved", 0, k->mm->nr_moving, nr);
}

/* ---- one client: its slabs and frames ---- */

struct tally {
	u32 slabs, free, used, leaving, shared;
	u64 extra;
};

static void check_frame(struct check *k, u32 frame, struct tally *t)
{
	const struct frame *f = &mm_frames(k->mm)[frame];
	u32 seen = mm_seen(k->mm)[frame];

	if (f->state == FRAME_FREE) {
		t->free++;
		if (seen)
			check_fault(k, "frame %u is free and mapped %u times",
				    frame, seen);
		return;
	}
	t->used++;
	t->leaving += f->state == FRAME_LEAVING;
	t->shared += f->refs > 1;
	t->extra += f->refs > 1 ? f->refs - 1 : 0;
	check_expect(k, "references of frame", frame, f->refs, seen);
	if (f->state > FRAME_LEAVING)
		return; /* somebody works on it */
	if ((f->state == FRAME_LEAVING) != !f->refs)
		check_fault(k, "frame %u: state %u with %u references", frame,
			    f->state, f->refs);
}

static void check_slab(struct check *k, const struct client *c, u32 head,
		       struct tally *tally)
{
	const struct chunk *s = &mm_chunks(k->mm)[head];
	u32 pages = c->cls[s->geom].geom.slab_pages;
	u32 i, frame, nr_free = 0, used = tally->used;

	tally->slabs++;
	tally->free += pages - s->nr_fresh;
	for (i = 0; i < s->nr_fresh; i++)
		check_frame(k, head * FRAMES_PER_CHUNK + i, tally);
	check_expect(k, "used frames of slab", head, s->nr_used,
		     tally->used - used);
	for (frame = s->free; frame != MM_NONE && nr_free <= pages;
	     frame = mm_frames(k->mm)[frame].next)
		nr_free++;
	check_expect(k, "free list of slab", head, nr_free,
		     s->nr_fresh - s->nr_used);
	if (!s->nr_used)
		check_fault(k, "slab %u is empty and still there", head);
	if (s->bucket == SLAB_FULL ? s->nr_used != pages
				   : s->nr_used < s->bucket_low ||
					     s->nr_used >= s->bucket_high)
		check_fault(k, "slab %u: %u used is not of bucket %u", head,
			    s->nr_used, s->bucket);
}

static void check_extent(struct check *k, const struct client *c, u32 e,
			 struct tally tally[KV_GEOM_MAX])
{
	const struct extent *x = &mm_extents(k->mm)[e];
	const struct chunk *s = &mm_chunks(k->mm)[e * KV_EXTENT_CHUNKS];
	u32 i, free_mask = 0;

	for (i = 0; i < KV_EXTENT_CHUNKS; i++) {
		if (s[i].state == CHUNK_FREE) {
			free_mask |= 1u << i;
		} else if (s[i].state == CHUNK_HEAD) {
			if (s[i].client != client_index(k->mm, c) ||
			    s[i].geom >= c->nr_geoms) {
				check_fault(k, "extent %u: a slab of client %u",
					    e, s[i].client);
				continue;
			}
			check_slab(k, c, e * KV_EXTENT_CHUNKS + i,
				   &tally[s[i].geom]);
		} else if (s[i].back > i ||
			   s[i - s[i].back].state != CHUNK_HEAD) {
			check_fault(k, "extent %u chunk %u belongs to no slab",
				    e, i);
		}
	}
	if (x->state == EXTENT_GRANTED && free_mask != x->free_mask)
		check_fault(k, "extent %u: free chunks %#x, found %#x", e,
			    x->free_mask, free_mask);
}

static void check_classes(struct check *k, const struct client *c,
			  const struct tally tally[KV_GEOM_MAX])
{
	u32 g, b, on_lists, i, ci = client_index(k->mm, c), leaving = 0;

	for (g = 0; g < c->nr_geoms; g++) {
		const struct frame_class *cls = &c->cls[g];

		check_expect(k, "slabs of a class, client", ci, cls->nr_slabs,
			     tally[g].slabs);
		check_expect(k, "free frames of a class, client", ci,
			     cls->nr_free, tally[g].free);
		check_expect(k, "used frames of a class, client", ci,
			     cls->nr_used, tally[g].used);
		check_expect(k, "leaving frames of a class, client", ci,
			     cls->nr_leaving, tally[g].leaving);
		check_expect(k, "shared frames of a class, client", ci,
			     cls->nr_shared, tally[g].shared);
		check_expect(k, "extra references of a class, client", ci,
			     cls->nr_extra, tally[g].extra);
		leaving += cls->nr_leaving;
		on_lists = 0;
		for (b = 0; b < SLAB_BUCKETS; b++) {
			on_lists += cls->bucket[b].nr;
			if (!cls->bucket[b].nr != !(cls->buckets & (1u << b)))
				check_fault(
					k,
					"client %u class %u: bucket %u's bit "
					"is wrong",
					ci, g, b);
		}
		if (on_lists > cls->nr_slabs)
			check_fault(
				k,
				"client %u class %u: %u slabs on lists of %u",
				ci, g, on_lists, cls->nr_slabs);
	}
	check_expect(k, "leaving frames of client", ci, c->nr_leaving, leaving);
	b = 0;
	for (i = c->leaving_first; i != MM_NONE && b <= c->nr_leaving;
	     i = mm_frames(k->mm)[i].next)
		b++;
	check_expect(k, "leaving list of client", ci, c->nr_leaving, b);
}

static void clear_seen(const struct mm *mm, u32 extent)
{
	u32 *seen = mm_seen(mm);
	u32 i, n, head, chunk = extent * KV_EXTENT_CHUNKS;
	const struct chunk *s;

	for (i = 0; i < KV_EXTENT_CHUNKS; i++) {
		s = &mm_chunks(mm)[chunk + i];
		if (s->state != CHUNK_HEAD)
			continue;
		head = (chunk + i) * FRAMES_PER_CHUNK;
		for (n = 0; n < s->nr_fresh; n++)
			seen[head + n] = 0;
	}
}

static void check_client(struct check *k, const struct client *c)
{
	struct tally tally[KV_GEOM_MAX] = { { 0 } };
	u32 e, ci = client_index(k->mm, c), extents = 0, empty = 0;
	bool counts = c->table || c->state == CLIENT_CACHE;

	if (c->state != CLIENT_CACHE)
		check_slots(k, c, nr_copying(k->mm, ci) + nr_moving(k->mm, ci));
	check_expect(k, "moving pages of client", ci, c->compact.moving,
		     nr_moving(k->mm, ci));
	for (e = 0; e < k->mm->nr_extents; e++) {
		const struct extent *x = &mm_extents(k->mm)[e];

		if (x->client != ci)
			continue;
		extents++;
		empty += x->state == EXTENT_GRANTED &&
			 x->free_mask == EXTENT_ALL_FREE;
		if (counts)
			check_extent(k, c, e, tally);
	}
	check_expect(k, "extents of client", ci, c->nr_extents, extents);
	check_expect(k, "empty extents of client", ci, c->nr_empty, empty);
	if (counts)
		check_classes(k, c, tally);
	if (c->table) {
		check_expect(k, "epoch of client", ci, c->epoch,
			     c->table->epoch);
		check_expect(k, "hold of client", ci, c->hold,
			     c->table->hold_step);
	}
	if (c->hold != ~0ull && c->revoke.state != MM_REVOKE_FENCED &&
	    c->revoke.state != MM_REVOKE_KILLED && c->state == CLIENT_LIVE)
		check_fault(k, "client %u is held for nothing", ci);
}

/* ---- published prefixes ---- */

static void check_node(struct check *k, u32 n)
{
	const struct mm *mm = k->mm;
	const struct prefix_node *x = &mm_nodes(mm)[n];
	const struct prefix_tree *t = &mm->trees[x->tree];
	const struct client *cache = cache_of(mm, t->tenant);
	u32 i, common, found;

	for (i = 0; i < KV_AREA_MAX; i++) {
		if (x->frame[i] == MM_NONE)
			continue;
		if (!cache || i >= t->nr_areas ||
		    mm_frames(mm)[x->frame[i]].family != n)
			check_fault(k, "node %u: frame %u is not its own", n,
				    x->frame[i]);
		mm_seen(mm)[x->frame[i]]++;
		if ((x->copying & (1u << i)) &&
		    mm_frames(mm)[x->from[i]].state != FRAME_PUB)
			check_fault(
				k, "node %u: copied from frame %u in state %u",
				n, x->from[i], mm_frames(mm)[x->from[i]].state);
	}
	found = node_find(mm,
			  x->parent == MM_NONE ? t->child
					       : mm_nodes(mm)[x->parent].child,
			  mm_node_tokens(mm, n), x->nr_tokens, &common);
	if (found != n)
		check_fault(k, "node %u is not found by its tokens, but %u", n,
			    found);
	if (x->parent != MM_NONE &&
	    (mm_nodes(mm)[x->parent].state != NODE_LIVE ||
	     mm_nodes(mm)[x->parent].depth + 1 != x->depth))
		check_fault(k, "node %u: parent %u is none", n, x->parent);
}

struct owner {
	const struct mm *mm;
	u32 tenant;
};

static bool is_owned(const void *ctx, u32 node)
{
	const struct owner *o = ctx;
	const struct prefix_node *x = &mm_nodes(o->mm)[node];

	return node < o->mm->node_top && x->state == NODE_LIVE &&
	       o->mm->trees[x->tree].tenant == o->tenant;
}

static void check_policies(struct check *k)
{
	struct owner o = { .mm = k->mm };
	const char *wrong;

	for (o.tenant = 0; o.tenant < MM_TENANT_MAX; o.tenant++) {
		if (!k->mm->tenants[o.tenant].cache)
			continue;
		wrong = policy_check(mm_policy(k->mm, o.tenant), is_owned, &o);
		if (wrong)
			check_fault(k, "policy of tenant %u: %s", o.tenant,
				    wrong);
	}
}

/* Children and references, counted in two passes over the nodes. */
static void check_nodes(struct check *k)
{
	const struct mm *mm = k->mm;
	u32 n, i, live = 0, copying = 0, nr[MM_TREE_MAX] = { 0 }, kids, holds;
	u32 listed = 0, in_trees = 0;

	for (n = 0; n < mm->node_top; n++) {
		const struct prefix_node *x = &mm_nodes(mm)[n];

		if (x->state != NODE_LIVE)
			continue;
		live++;
		copying += (u32)__builtin_popcount(x->copying);
		nr[x->tree]++;
		check_node(k, n);
		if (x->idle != (!x->nr_children && !x->holds && !x->copying))
			check_fault(k, "node %u is settled as %s", n,
				    x->idle ? "idle" : "busy");
		if (!x->nr_children != (x->child == MM_NONE))
			check_fault(k, "node %u: %u children", n,
				    x->nr_children);
	}
	for (i = 0; i < MM_TREE_MAX; i++) {
		check_expect(k, "nodes of tree", i, mm->trees[i].nr_nodes,
			     nr[i]);
		in_trees += mm->trees[i].nr_nodes;
	}
	for (i = 0; i < MM_TENANT_MAX; i++)
		listed += mm->tenants[i].nr_nodes;
	check_expect(k, "nodes of tenants", 0, listed, live);
	check_policies(k);
	check_expect(k, "nodes in trees", 0, in_trees, live);
	check_expect(k, "pages being copied", 0, mm->nr_copying, copying);
	kids = holds = 0;
	for (n = 0; n < mm->node_top; n++)
		if (mm_nodes(mm)[n].state == NODE_LIVE) {
			kids += mm_nodes(mm)[n].nr_children;
			holds += mm_nodes(mm)[n].holds;
		}
	for (i = 0; i < MM_TREE_MAX; i++)
		kids += mm->trees[i].nr_nodes ? mm->trees[i].nr_children : 0;
	check_expect(k, "children of nodes", 0, kids, live);
	for (i = 1, n = 0; i < mm->ref_top; i++)
		n += mm_refs(mm)[i].client != MM_NONE;
	check_expect(k, "holds on nodes", 0, holds, n);
}

static void check_refs(struct check *k, const struct client *c)
{
	const struct mm *mm = k->mm;
	const struct space *sps = mm_spaces(mm, c);
	u32 i, nr = 0, ci = client_index(mm, c);

	for (i = 0; i < c->space_top; i++) {
		if (sps[i].state != KV_SPACE_LIVE || !sps[i].ref)
			continue;
		nr++;
		if (mm_refs(mm)[sps[i].ref].client != ci ||
		    prefix_depth(mm, &sps[i]) + 1 < sps[i].chain)
			check_fault(k,
				    "client %u space %u holds another prefix",
				    ci, i);
	}
	check_expect(k, "holds of client", ci, c->refs.nr, nr);
}

/* ---- the device and the tenants ---- */

static void check_extents(struct check *k)
{
	const struct mm *mm = k->mm;
	u32 nr[EXTENT_NR_STATES] = { 0 }, e, backed;

	for (e = 0; e < mm->nr_extents; e++) {
		const struct extent *x = &mm_extents(mm)[e];
		bool owned = x->state == EXTENT_GRANTED ||
			     x->state == EXTENT_QUARANTINE;

		nr[x->state]++;
		if (owned != (x->client != MM_NONE))
			check_fault(k, "extent %u: state %u with owner %u", e,
				    x->state, x->client);
		else if (owned && (x->client >= MM_CLIENT_MAX ||
				   !mm_clients(mm)[x->client].state))
			check_fault(k, "extent %u: owner %u is no client", e,
				    x->client);
	}
	for (e = 0; e < EXTENT_NR_STATES; e++)
		if (e != EXTENT_GRANTED)
			check_expect(k, "extents in state", e,
				     mm->by_state[e].nr, nr[e]);
	check_expect(k, "granted extents", 0, mm->nr_granted,
		     nr[EXTENT_GRANTED]);
	backed = mm->nr_extents - nr[EXTENT_BARE];
	if ((u64)backed * KV_EXTENT_SIZE + mm->charged > mm->cfg.device_bytes)
		check_fault(k, "the device holds %llu bytes too many",
			    (unsigned long long)((u64)backed * KV_EXTENT_SIZE +
						 mm->charged -
						 mm->cfg.device_bytes));
}

static void check_tenants(struct check *k)
{
	const struct mm *mm = k->mm;
	const struct client *cs = mm_clients(mm);
	u64 held, charged = 0;
	u32 t, i, clients, tickets, total = 0;

	for (t = 0; t < MM_TENANT_MAX; t++) {
		const struct tenant *x = &mm->tenants[t];

		held = 0;
		clients = 0;
		tickets = 0;
		ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
			if (cs[i].tenant != t)
				continue;
			clients += cs[i].state != CLIENT_CACHE;
			held += (u64)cs[i].nr_extents * KV_EXTENT_SIZE;
			tickets += cs[i].nr_tickets;
		}
		total += tickets;
		charged += x->charged;
		check_expect(k, "bytes held by tenant", t, x->held, held);
		check_expect(k, "clients of tenant", t, x->nr_clients, clients);
		check_expect(k, "tickets of tenant", t, x->nr_tickets, tickets);
	}
	check_expect(k, "charged bytes", 0, mm->charged, charged);
	check_expect(k, "waiting tickets", 0, mm->waiting.nr, total);
}

/* Who waits and who works, by tenant and of all. */
static void check_pressure(struct check *k)
{
	const struct mm *mm = k->mm;
	const struct client *cs = mm_clients(mm);
	u32 t, i, waits, works, all_wait = 0, all_work = 0;

	for (t = 0; t < MM_TENANT_MAX; t++) {
		waits = 0;
		works = 0;
		ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
			if (cs[i].tenant != t)
				continue;
			waits += cs[i].nr_tickets > 0;
			works += cs[i].works;
		}
		all_wait += waits;
		all_work += works;
		check_expect(k, "waiting clients of tenant", t,
			     mm->tenants[t].pressure.nr_waiting, waits);
		check_expect(k, "working clients of tenant", t,
			     mm->tenants[t].pressure.nr_working, works);
	}
	check_expect(k, "waiting clients", 0, mm->pressure.nr_waiting,
		     all_wait);
	check_expect(k, "working clients", 0, mm->pressure.nr_working,
		     all_work);
}

unsigned int mm_check(const struct mm *mm,
		      void (*report)(void *ctx, const char *sentence),
		      void *ctx)
{
	struct check k = { .mm = mm, .report = report, .ctx = ctx };
	const struct client *cs = mm_clients(mm);
	u32 i, nr = 0, leaving = 0, nr_io = 0, refs_leaving = 0, revokes = 0;

	check_extents(&k);
	check_tenants(&k);
	check_pressure(&k);
	for (i = 0; i < mm->nr_extents; i++)
		clear_seen(mm, i);
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
		check_slots_clear(mm, &cs[i]);
		if (!cs[i].table)
			continue;
		check_spaces(&k, &cs[i]);
		check_refs(&k, &cs[i]);
	}
	check_nodes(&k);
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
		check_client(&k, &cs[i]);
		leaving += cs[i].nr_leaving;
		nr_io += cs[i].nr_io;
		refs_leaving += cs[i].refs_leaving.nr;
		revokes += cs[i].revoke.state != MM_REVOKE_NONE;
	}
	check_expect(&k, "references that leave", 0, mm->nr_refs_leaving,
		     refs_leaving);
	check_swap(&k, nr_io - mm->nr_copying - mm->nr_moving);
	check_moves(&k);
	for (i = 0; i < MM_CLIENT_MAX; i++)
		nr += cs[i].state != CLIENT_FREE;
	check_expect(&k, "clients", 0, mm->clients.nr, nr);
	check_expect(&k, "revokes", 0, mm->nr_revokes, revokes);
	check_expect(&k, "leaving frames", 0, mm->nr_leaving, leaving);
	return k.faults;
}
