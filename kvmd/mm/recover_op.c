/* SPDX-License-Identifier: MIT */
/*
 * recover_op.c - an operation that was begun is finished, or never was
 *
 *	create, fork	done if the space is live; else nothing is left: the
 *			slot is free, its leaves nobody's
 *	geom add	done if it is counted
 *	destroy,	finished: what was dropped cannot be had back
 *	truncate
 *	map		taken back: the space was empty before
 *	reserve		taken back: nobody was told to make the copies, so
 *			each page that was replaced by one is put back. Its
 *			source is still there: its pin is the step, which
 *			cannot have ended. What else it did stays and harms
 *			nobody: pages beyond the end, pages that only it may
 *			write to, pages gone that the window had left
 *
 * Others need no record, as doing them again is right: publish goes on behind
 * what the space shares with the tree already, take, shrink and cancel look at
 * what is there, and what a window has left goes before a grant or with it.
 *
 * This runs before anything is counted. It changes entries and ranges alone,
 * and the log last, so that it can be run again.
 */
#include "kvmd/mm/recover.h"
#include "kvmd/mm/prefix.h"

static struct space *op_space(const struct mm *mm, const struct client *c,
			      u32 slot)
{
	struct space *sp = &mm_spaces(mm, c)[slot];

	if (slot >= c->space_top || sp->state != KV_SPACE_LIVE)
		return NULL;
	return sp;
}

static void op_done(struct client *c, int result)
{
	c->log.result = result;
	mm_order();
	c->log.done = true;
}

/* No page is left; the entries are cleared where areas are looked at. */
static void empty(struct space *sp)
{
	u32 k;

	for (k = 0; k < KV_AREA_MAX; k++)
		sp->area[k].page_first = sp->area[k].page_end = 0;
	sp->ref = sp->chain = sp->cached = 0;
}

static void redo_truncate(const struct mm *mm, const struct client *c,
			  struct space *sp, u64 len)
{
	u32 k, end;

	(void)mm;
	for (k = 0; k < sp->nr_areas; k++) {
		struct space_area *a = &sp->area[k];
		u32 shift = c->cls[a->geom].page_shift;

		end = (u32)DIV_ROUND_UP(len, 1ull << shift);
		a->page_end = min(a->page_end, max(end, a->page_first));
		if (!len)
			a->page_first = a->page_end = 0;
		/* The page it ends in may be in the course of publication. */
		if (end && end <= a->page_end && end > a->page_first &&
		    (a->leaf_mask & (1u << ((end - 1) / KV_LEAF_PTES))))
			*pte_at(c, a, end - 1) &= ~KV_PTE_WRITE;
		sp->chain = min(sp->chain, (u32)(len >> shift));
	}
	sp->cached = min(sp->cached, sp->chain);
	if (!len)
		sp->ref = 0;
}

static bool ref_is_its(const struct mm *mm, const struct client *c, u32 r)
{
	return r && r < mm->ref_top &&
	       mm_refs(mm)[r].client == client_index(mm, c) &&
	       mm_nodes(mm)[mm_refs(mm)[r].node].state == NODE_LIVE;
}

/* Is the page that the entry named still what it was? */
static bool source_is_there(const struct mm *mm, const struct client *c,
			    const struct space *sp, const struct cow *w)
{
	const struct space_area *a = &sp->area[w->area];
	u32 own = pte_frame(mm, c, a, w->old);
	u32 frame = own != MM_NONE ? own : pte_cached(mm, c, a, w->old);
	const struct frame *f = &mm_frames(mm)[frame];

	if (frame == MM_NONE || f->state == FRAME_FREE || f->page != w->page ||
	    f->area != w->area)
		return false;
	/* A node's page is held by what the space held before. */
	return own == MM_NONE
		       ? f->family < mm->node_top &&
				 mm_nodes(mm)[f->family].state == NODE_LIVE &&
				 mm_nodes(mm)[f->family].frame[w->area] == frame
		       : f->family == sp->family;
}

static void undo_cow(struct mm *mm, struct client *c, const struct cow *w)
{
	struct space *sp = op_space(mm, c, w->space);
	struct space_area *a;
	kv_pte_t *p;

	if (!sp || w->area >= sp->nr_areas)
		return;
	a = &sp->area[w->area];
	if (w->page < a->page_first || w->page >= a->page_end ||
	    !(a->leaf_mask & (1u << (w->page / KV_LEAF_PTES))))
		return;
	p = pte_at(c, a, w->page);
	if (!kv_pte_is_present(*p) || kv_pte_frame(*p) != w->copy.dst ||
	    !source_is_there(mm, c, sp, w))
		return;
	if (sp->ref != w->ref && ref_is_its(mm, c, w->ref)) {
		mm_refs(mm)[w->ref].pin = 0;
		sp->ref = w->ref;
		sp->chain = w->chain;
		sp->cached = w->cached;
	}
	kv_store_relaxed(p, w->old & ~KV_PTE_WRITE);
}

static void undo_reserve(struct mm *mm, struct client *c)
{
	struct space *sps = mm_spaces(mm, c);
	u32 i;

	for (i = c->log.nr; i--;)
		undo_cow(mm, c, &mm_cows(mm, c)[i]);
	for (i = 0; i < c->space_top; i++)
		if (sps[i].state == KV_SPACE_LIVE &&
		    sps[i].mark == c->log.mark && sps[i].resv == c->log.arg)
			sps[i].resv = sps[i].resv_was;
}

void recover_op(struct mm *mm, struct client *c)
{
	struct space *sp = op_space(mm, c, c->log.space);
	bool keep = false;

	if (c->log.kind == OP_NONE || c->log.done)
		return;
	switch (c->log.kind) {
	case OP_CREATE:
	case OP_FORK:
		keep = sp;
		break;
	case OP_GEOM:
		keep = c->nr_geoms > c->log.space;
		break;
	case OP_DESTROY:
		if (sp) {
			empty(sp);
			sp->state = KV_SPACE_FREE;
		}
		op_done(c, 0);
		return;
	case OP_TRUNCATE:
		if (sp)
			redo_truncate(mm, c, sp, c->log.arg);
		op_done(c, 0);
		return;
	case OP_MAP:
		if (sp)
			empty(sp);
		break;
	case OP_RESERVE:
		undo_reserve(mm, c);
		break;
	default:
		break;
	}
	if (keep)
		op_done(c, (int)c->log.space);
	else
		c->log.kind = OP_NONE;
}
