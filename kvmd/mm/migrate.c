/* SPDX-License-Identifier: MIT */
/*
 * migrate.c - pages on their way from one frame to another
 *
 *	frame	used ---> move ---> free	free ---> to ---> used
 *	entry	present   moving		present
 *
 *	begin	K0-K4 of the step protocol as in move.c, for a batch of pages
 *		with one barrier; a page that forks share moves for all of its
 *		mappers. Then the host copies it (MM_REQ_MOVE)
 *	moved	every entry that is moving names the new frame
 *	back	a step had marked after all, the copy failed, or no entry is
 *		left: the entries are as they were, the new frame is free
 *
 * A step that wants the page meanwhile waits with its reservation, as for a
 * page that is being written to swap; a copy takes no time worth a detour.
 *
 * A page of a page cache moves while no entry names it and no step may still
 * read it; nobody has to be told, and the node names the new frame when it is
 * filled. If somebody has mapped the page by then, it stays.
 *
 * The core's state of a move is struct page_move, until mm_move_done(); both
 * frames are used for nothing else before, whatever becomes of the entries.
 * When a client dies its extents wait for that (nr_io, draining).
 */
#include "kvmd/mm/migrate.h"
#include "kvmd/mm/compact.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/rmap.h"

bool migrate_node_is_read(const struct mm *mm, u32 tenant, u32 node)
{
	const struct client *cs = mm_clients(mm);
	u32 i, r, n, depth = mm_nodes(mm)[node].depth;

	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
		if (cs[i].tenant != tenant)
			continue;
		ilist_for_each (r, &cs[i].refs_leaving,
				ILINKS(mm_refs(mm), link)) {
			for (n = mm_refs(mm)[r].node;
			     mm_nodes(mm)[n].depth > depth;)
				n = mm_nodes(mm)[n].parent;
			if (n == node)
				return true;
		}
	}
	return false;
}

/* K5: every entry that keeps @from names @frame from now on. */
static void entries_end(struct mm *mm, struct client *c,
			const struct page_move *m, u32 frame)
{
	rmap_end(mm, c, m->from,
		 rmap_present(mm, &c->cls[m->geom], frame,
			      mm_frames(mm)[m->from].refs),
		 false);
}

bool migrate_begin(struct mm *mm, struct client *c, u32 frame)
{
	u32 geom = mm_chunks(mm)[frame_head(mm, frame)].geom, i = 0, to;
	struct page_move *m = mm->moves;
	struct frame *f = &mm_frames(mm)[frame], *t;

	to = frame_alloc_outside(mm, c, geom, c->compact.first - 1,
				 c->compact.nr);
	if (to == MM_NONE)
		return false;
	while (m[i].state != MOVE_FREE)
		i++;
	m[i] = (struct page_move){ .state = MOVE_FRESH,
				   .geom = (u8)geom,
				   .client = client_index(mm, c),
				   .from = frame,
				   .to = to };
	t = &mm_frames(mm)[to];
	t->refs = 0;
	t->state = FRAME_TO;
	t->next = i;
	t->family = f->family;
	t->page = f->page;
	t->area = f->area;
	mm_trace(mm, KV_TP_MOVE_CHECK, m[i].client, f->page);
	if (c->state != CLIENT_CACHE) /* a cache's frame has no entry */
		rmap_begin(mm, c, frame);
	f->state = FRAME_MOVE;
	f->next = i;
	c->nr_io++;
	c->compact.moving++;
	mm->nr_moving++;
	return true;
}

static void io_ended(struct mm *mm, struct client *c, struct page_move *m)
{
	m->state = MOVE_FREE;
	mm->nr_moving--;
	c->nr_io--;
	c->compact.moving--;
}

/* The page stays where it is, as far as anybody wants it. */
static void page_back(struct mm *mm, struct client *c,
		      const struct page_move *m)
{
	struct frame *f = &mm_frames(mm)[m->from];

	frame_free_now(mm, c, m->geom, m->to);
	f->state = FRAME_USED;
	if (!f->refs)
		frame_drop(mm, c, m->geom, m->from);
	else if (c->state != CLIENT_CACHE)
		entries_end(mm, c, m, m->from);
	mm->counts.compact_back++;
	mm_trace(mm, KV_TP_MOVE_BACK, m->client, m->from);
}

static void page_moved(struct mm *mm, struct client *c,
		       const struct page_move *m)
{
	struct frame *f = &mm_frames(mm)[m->from];
	struct frame *t = &mm_frames(mm)[m->to];

	if (c->state == CLIENT_CACHE)
		mm_nodes(mm)[f->family].frame[f->area] = m->to;
	else
		entries_end(mm, c, m, m->to);
	t->refs = f->refs;
	t->pin = f->pin;
	t->state = FRAME_USED;
	f->refs = 0;
	f->state = FRAME_USED;
	frame_drop(mm, c, m->geom, m->from);
	mm->counts.compact_moved++;
	mm->counts.compact_bytes += c->cls[m->geom].geom.page_bytes;
	mm_trace(mm, KV_TP_MOVE_DONE, m->client, m->from);
}

void migrate_batch(struct mm *mm, struct client *c)
{
	struct page_move *m;
	u32 i;

	kv_move_fence();
	for (i = 0; i < MOVE_IO_MAX; i++) {
		m = &mm->moves[i];
		if (m->state != MOVE_FRESH)
			continue;
		if (c->state != CLIENT_CACHE && frame_is_busy(mm, c, m->from)) {
			io_ended(mm, c, m);
			page_back(mm, c, m);
			mm->counts.moves_busy++;
			continue;
		}
		m->state = MOVE_COPYING;
		mm_queue_move(mm, i);
	}
}

/* A cache's page was moved while somebody may have mapped or evicted it. */
static bool cached_is_alone(const struct mm *mm, const struct client *cache,
			    const struct frame *f)
{
	return f->refs == 1 &&
	       !migrate_node_is_read(mm, cache->tenant, f->family);
}

static void moved(struct mm *mm, struct client *c, const struct page_move *m,
		  int err)
{
	const struct frame *f = &mm_frames(mm)[m->from];
	bool look = c->compact.look;

	mm->counts.compact_errors += err != 0;
	if (err || !f->refs ||
	    (c->state == CLIENT_CACHE && !cached_is_alone(mm, c, f)))
		page_back(mm, c, m);
	else
		page_moved(mm, c, m);
	c->compact.look = look; /* that was no news */
}

void mm_move_done(struct mm *mm, u32 move, int err)
{
	struct page_move *m;
	struct client *c;
	u32 tenant;

	if (move >= MOVE_IO_MAX || mm->moves[move].state != MOVE_COPYING) {
		mm->counts.invalid++;
		return;
	}
	m = &mm->moves[move];
	c = &mm_clients(mm)[m->client];
	tenant = c->tenant;
	io_ended(mm, c, m);
	if (c->state == CLIENT_EXITING || c->state == CLIENT_DRAINING) {
		if (c->state == CLIENT_DRAINING && !c->nr_io)
			client_gone_finish(mm, c);
		return;
	}
	moved(mm, c, m, err);
	compact_page_done(mm, c, err);
	/* Whoever waits, for this page or for memory, looks again. */
	c->dirty = true;
	mm->client_dirty = true;
	mm->dirty = true;
	if (c->state == CLIENT_CACHE && !mm->tenants[tenant].nr_nodes)
		cache_put(mm, tenant);
}
