/* SPDX-License-Identifier: MIT */
/*
 * publish.c - pages of a space become a prefix that others find
 *
 * Each page of the sequence is looked up below the one before it. Where the
 * tree has it already nothing is copied, whoever computed it: the same tokens
 * behind the same tokens have the same rows, bit by bit. Else a node is made,
 * frames of the cache are taken for it, and the host is asked to copy. The
 * publisher's frame is in the state pub until the host has answered.
 *
 * A tail, fewer tokens than a page, is a node too, without children; a longer
 * publication makes it useless, and it goes.
 *
 * Windows. Areas with a window are published only where a sequence is to be
 * gone on from (resume): the pages that the next row would see. A prefix is
 * found only where they are (prefix.c, can_resume).
 *
 * What cannot be had, memory above all, is left out: publishing is done as far
 * as it goes, and the publisher comes back with the rest.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/prefix.h"

/* Have the page of a node filled from the space's own. */
static bool fill(struct mm *mm, struct client *c, struct space *sp, u32 n,
		 u32 k)
{
	struct prefix_node *x = &mm_nodes(mm)[n];
	u32 geom = mm->trees[x->tree].area[k].geom, self = client_index(mm, c);
	struct client *cache = cache_of(mm, c->tenant);
	const struct space_area *a = &sp->area[k];
	u32 page = x->depth, from, to;
	kv_pte_t pte;
	bool room;

	if (page < a->page_first || page >= a->page_end ||
	    mm->nr_copying == COPY_IO_MAX || (x->copying && x->client != self))
		return false;
	pte = *pte_at(c, a, page);
	from = kv_pte_is_present(pte) ? pte_frame(mm, c, a, pte) : MM_NONE;
	if (from == MM_NONE || mm_frames(mm)[from].state != FRAME_USED)
		return false;
	x->holds++; /* not for itself */
	node_settle(mm, n);
	room = cache_room(mm, cache, geom);
	x->holds--;
	if (!room) {
		node_settle(mm, n);
		return false;
	}
	to = frame_alloc(mm, cache, geom);
	mm_frames(mm)[to].family = n;
	mm_frames(mm)[to].page = (u16)page;
	mm_frames(mm)[to].area = (u8)k;
	x->from[k] = from;
	x->client = self;
	mm_order();
	x->copying |= (u8)(1u << k);
	mm_order(); /* it is never taken for filled */
	x->frame[k] = to;
	mm_frames(mm)[from].state = FRAME_PUB;
	c->nr_io++;
	mm->nr_copying++;
	mm_queue_copy(mm, n, k);
	return true;
}

static u32 nr_siblings(const struct mm *mm, u32 tree, u32 parent)
{
	return parent == MM_NONE ? mm->trees[tree].nr_children
				 : mm_nodes(mm)[parent].nr_children;
}

/* Tails that the tokens of a new sibling begin with are of no use any more. */
static void drop_tails(struct mm *mm, u32 tree, u32 parent, const u32 *tokens,
		       u32 nr)
{
	u32 n, common;

	while (--nr) {
		n = node_find(mm, *node_children(mm, tree, parent), tokens, nr,
			      &common);
		if (n == MM_NONE || !common)
			return;
		nr = min(nr, common);
		if (mm_nodes(mm)[n].nr_tokens != nr || common != nr)
			continue;
		if (mm_nodes(mm)[n].idle)
			cache_evict(mm, n, false);
	}
}

struct publish {
	struct client *c;
	struct space *sp;
	u32 tree;
	u64 len; /* tokens there will be */
	bool resume;
};

/* Is area @k of page @page to be kept? */
static bool is_wanted(const struct publish *p, u32 k, u32 page)
{
	const struct space_area *a = &p->sp->area[k];

	return !a->window ||
	       (p->resume && page >= area_first_needed(p->c, a, p->len));
}

/*
 * Is a page of the space still being copied to another node, its tail so far?
 * A node made now would lack it, and hide the one that has it.
 */
static bool is_copied_from(const struct mm *mm, const struct publish *p,
			   u32 page)
{
	kv_pte_t pte;
	u32 k, from;

	for (k = 0; k < p->sp->nr_areas; k++) {
		const struct space_area *a = &p->sp->area[k];

		if (page < a->page_first || page >= a->page_end ||
		    !is_wanted(p, k, page))
			continue;
		pte = *pte_at(p->c, a, page);
		from = kv_pte_is_present(pte) ? pte_frame(mm, p->c, a, pte)
					      : MM_NONE;
		if (from != MM_NONE && mm_frames(mm)[from].state == FRAME_PUB)
			return true;
	}
	return false;
}

/* The pages of a node that are missing. Return: none that has to be there is.
 */
static bool fill_node(struct mm *mm, const struct publish *p, u32 n)
{
	const struct prefix_node *x = &mm_nodes(mm)[n];
	bool whole = true;
	u32 k;

	for (k = 0; k < p->sp->nr_areas; k++)
		if (x->frame[k] == MM_NONE && is_wanted(p, k, x->depth) &&
		    !fill(mm, p->c, p->sp, n, k))
			whole &= p->sp->area[k].window != 0;
	return whole;
}

/*
 * The windows of pages that were published before, without them, up to @n.
 * Return: false if one is still missing.
 */
static bool fill_windows(struct mm *mm, const struct publish *p, u32 n)
{
	const struct prefix_node *x;
	bool whole = true;
	u32 k;

	for (; p->resume && n != MM_NONE && whole; n = x->parent) {
		x = &mm_nodes(mm)[n];
		for (k = 0; k < p->sp->nr_areas; k++)
			if (p->sp->area[k].window && is_wanted(p, k, x->depth))
				break;
		if (k == p->sp->nr_areas)
			break;
		fill_node(mm, p, n);
		for (k = 0; k < p->sp->nr_areas; k++)
			whole &= x->frame[k] != MM_NONE ||
				 !is_wanted(p, k, x->depth);
	}
	return whole;
}

static u32 node_new(struct mm *mm, const struct publish *p, u32 parent,
		    const u32 *tokens, u32 nr)
{
	u32 n;

	if (is_copied_from(mm, p, p->sp->chain))
		return MM_NONE;
	n = node_make(mm, p->tree, parent, tokens, nr);
	if (n == MM_NONE && cache_evict_one(mm, p->c->tenant))
		n = node_make(mm, p->tree, parent, tokens, nr);
	if (n == MM_NONE)
		return n;
	if (!fill_node(mm, p, n)) {
		if (!mm_nodes(mm)[n].copying)
			node_free(mm, n, false);
		return MM_NONE;
	}
	mm->counts.prefix_published++;
	mm_trace(mm, KV_TP_PREFIX_BEGIN, client_index(mm, p->c), n);
	return n;
}

/*
 * The space holds its prefix up to @n from now on. It may hold more already, of
 * before it was cut or written to: what it maps of that goes on being held, and
 * of another path there is nothing to be held beside it.
 */
static bool hold_on(struct mm *mm, const struct publish *p, u32 n)
{
	u32 depth = mm_nodes(mm)[n].depth;
	struct space *sp = p->sp;
	struct prefix_ref *r;

	if (sp->ref && prefix_depth(mm, sp) >= depth) {
		if (prefix_node(mm, sp, depth) == n)
			return true;
		prefix_write(mm, p->c, sp, sp->chain, space_pin(mm, p->c, sp));
	}
	if (!sp->ref) {
		sp->ref = prefix_hold(mm, p->c, n);
		return sp->ref;
	}
	if (prefix_depth(mm, sp) >= depth)
		return false;
	r = &mm_refs(mm)[sp->ref];
	mm_nodes(mm)[n].holds++;
	node_settle(mm, n);
	mm_nodes(mm)[r->node].holds--;
	node_settle(mm, r->node);
	r->node = n;
	return true;
}

/* One page, or the tail. Return: tokens that can be found now, or soon. */
static u32 publish_page(struct mm *mm, const struct publish *p, u32 parent,
			const u32 *tokens, u32 nr)
{
	u32 common, n, pt = 1u << mm->trees[p->tree].page_shift;

	n = node_find(mm, *node_children(mm, p->tree, parent), tokens, nr,
		      &common);
	if (n == MM_NONE || common < nr) {
		n = node_new(mm, p, parent, tokens, nr);
		if (n == MM_NONE)
			return 0;
		if (nr_siblings(mm, p->tree, parent) > 1)
			drop_tails(mm, p->tree, parent, tokens, nr);
	} else {
		node_hit(mm, n);
		if (mm_nodes(mm)[n].nr_tokens == nr && !fill_node(mm, p, n))
			return 0;
	}
	if (nr < pt)
		return nr;
	if (!hold_on(mm, p, n))
		return 0;
	p->sp->chain++;
	return nr;
}

static u64 clamp_len(const struct mm *mm, const struct client *c,
		     const struct space *sp, u64 len)
{
	u32 k;

	len = min(len, kv_load_relaxed(
			       &c->status->space[space_slot(mm, c, sp)].len));
	for (k = 0; k < sp->nr_areas; k++)
		len = min(len, (u64)sp->area[k].page_end
				       << c->cls[sp->area[k].geom].page_shift);
	return len;
}

int mm_prefix_publish(struct mm *mm, u32 client, u32 space, u64 from,
		      const u32 *tokens, u32 nr, bool resume, u32 *extent_seq)
{
	struct publish p = { .resume = resume };
	u32 shift, pt, parent, n;
	u64 at;
	int rc;

	rc = mm_client_live(mm, client, &p.c);
	if (rc)
		return rc;
	p.sp = space_find(mm, p.c, space);
	if (!p.sp)
		return -ENOENT;
	shift = p.c->cls[p.sp->area[0].geom].page_shift;
	pt = 1u << shift;
	if (from % pt)
		return -EINVAL;
	if (from >> shift > p.sp->chain)
		return -ENODATA;
	client_reap(mm, p.c);
	p.len = clamp_len(mm, p.c, p.sp, from + nr);
	at = (u64)p.sp->chain << shift;
	if (p.len < at || (p.len == at && !(resume && at)))
		return (int)p.len;
	rc = tree_make(mm, p.c, p.sp, &p.tree);
	if (rc)
		return rc;
	parent = p.sp->chain ? prefix_node(mm, p.sp, p.sp->chain - 1) : MM_NONE;
	for (; at < p.len; at += n) {
		n = publish_page(mm, &p, parent, tokens + (at - from),
				 (u32)min(p.len - at, (u64)pt));
		if (!n)
			break;
		if (n == pt)
			parent = prefix_node(mm, p.sp, p.sp->chain - 1);
	}
	/* Half a window is not enough to go on from: it is asked for again. */
	if (!fill_windows(mm, &p, parent))
		at = at > pt ? ALIGN_UP(at, (u64)pt) - pt : 0;
	prefix_take(mm, p.c, p.sp, p.sp->chain);
	*extent_seq = p.c->extent_seq;
	return (int)at;
}

/* The publisher's frame is its own again. */
static void source_done(struct mm *mm, struct client *c, u32 frame)
{
	struct frame *f = &mm_frames(mm)[frame];

	c->nr_io--;
	if (c->state == CLIENT_DRAINING) {
		if (!c->nr_io)
			client_gone_finish(mm, c);
		return;
	}
	f->state = FRAME_USED;
	if (!f->refs)
		frame_drop(mm, c, mm_chunks(mm)[frame_head(mm, frame)].geom,
			   frame);
	c->dirty = true;
	mm->client_dirty = true;
}

void mm_copy_done(struct mm *mm, u32 node, u32 area, int err)
{
	struct prefix_node *x;
	u32 tenant, geom, from;

	if (node >= mm->node_top || area >= KV_AREA_MAX ||
	    mm_nodes(mm)[node].state != NODE_LIVE ||
	    !(mm_nodes(mm)[node].copying & (1u << area))) {
		mm->counts.invalid++;
		return;
	}
	x = &mm_nodes(mm)[node];
	tenant = mm->trees[x->tree].tenant;
	geom = mm->trees[x->tree].area[area].geom;
	from = x->from[area];
	if (err) {
		mm->counts.prefix_errors++;
		frame_put(mm, cache_of(mm, tenant), geom, x->frame[area], 0);
		x->frame[area] = MM_NONE;
		mm_order();
	}
	x->copying &= (u8) ~(1u << area);
	x->from[area] = MM_NONE;
	node_settle(mm, node);
	mm->nr_copying--;
	source_done(mm, &mm_clients(mm)[x->client], from);
	mm_trace(mm, KV_TP_PREFIX_DONE, x->client, node);
	if (mm->tenants[tenant].dropping)
		mm_cache_drop(mm, tenant, true);
	mm->dirty = true;
}
