/* SPDX-License-Identifier: MIT */
/*
 * move.c - move a frame's content to another frame, under running steps
 *
 * One of the two places where kvmd changes a mapping that the owner did not
 * ask to be changed; the other one is swap.c. Rules K0-K5 of the step protocol,
 * in their order:
 *
 *	K0	looks idle? pin passed? a target frame?	else nothing is done
 *	K1	the entry of every mapper: moving, not present
 *	K2	the generation of every mapper: + 1, release
 *	K3	full barrier
 *	K4	read active_step of every mapper, completed
 *	K5	all idle: copy, new entries, old frame free; else old entries
 *		back; bump again either way
 *
 * A client that marked before K3 is seen in K4. One that marks after it sees
 * the moved generation, reads entries that are not present, and asks; by
 * then this function has returned.
 */
#include <errno.h>

#include "kvmd/mm/rmap.h"

struct move {
	struct mm *mm;
	struct client *c;
	u32 geom;
	u32 from, to; /* frames */
};

/* K1, K2 */
static void unmap_all(const struct move *m)
{
	struct space *sps = mm_spaces(m->mm, m->c);
	u32 i, self = client_index(m->mm, m->c);
	kv_pte_t *p;

	rmap_for_each_pte(i, p, m->mm, m->c, m->from)
	{
		kv_move_begin(p, *p);
		mm_trace(m->mm, KV_TP_MOVE_ENTRY, self, kv_pte_frame(*p));
	}
	rmap_for_each(i, m->mm, m->c, m->from)
	{
		space_bump(m->mm, m->c, &sps[i]);
		mm_trace(m->mm, KV_TP_MOVE_BUMP, self, i);
	}
}

/* K5, either way: every moving entry names @to from now on. */
static void map_all(const struct move *m, u32 to)
{
	struct space *sps = mm_spaces(m->mm, m->c);
	u64 pte = rmap_present(m->mm, &m->c->cls[m->geom], to,
			       mm_frames(m->mm)[m->from].refs);
	kv_pte_t *p;
	u32 i;

	rmap_for_each_pte(i, p, m->mm, m->c, m->from)
	{
		kv_move_end(p, pte_make(0, pte, sps[i].gen + 1));
		space_bump(m->mm, m->c, &sps[i]);
	}
}

/* The old frame has no mapper left; the new one has all of them. */
static void hand_over(const struct move *m)
{
	struct frame *f = &mm_frames(m->mm)[m->from];
	struct frame *t = &mm_frames(m->mm)[m->to];

	t->refs = f->refs;
	t->family = f->family;
	t->page = f->page;
	t->area = f->area;
	f->refs = 0;
	frame_free_now(m->mm, m->c, m->geom, m->from);
}

/* K0. Return: the frame behind (space, area, page), or -errno. */
static int move_check(struct mm *mm, struct client *c, u32 space, u32 area,
		      u32 page, struct move *m)
{
	struct space *sp = space_find(mm, c, space);
	struct space_area *a;

	if (!sp)
		return -ENOENT;
	if (area >= sp->nr_areas)
		return -EINVAL;
	a = &sp->area[area];
	if (page < a->page_first || page >= a->page_end)
		return -EINVAL;
	*m = (struct move){ .mm = mm, .c = c, .geom = a->geom };
	m->from = pte_frame(mm, c, a, *pte_at(c, a, page));
	if (m->from == MM_NONE)
		return -EINVAL;
	if (mm_frames(mm)[m->from].state != FRAME_USED ||
	    mm_frames(mm)[m->from].pin > c->completed ||
	    frame_is_busy(mm, c, m->from)) {
		mm->counts.moves_busy++;
		return -EBUSY;
	}
	if (!c->cls[a->geom].nr_free)
		return -ENOMEM;
	return 0;
}

int mm_move_page(struct mm *mm, u32 client, u32 space, u32 area, u32 page,
		 void (*copy)(void *ctx, u64 src, u64 dst, u64 bytes),
		 void *ctx)
{
	const struct frame_class *cls;
	struct client *c;
	struct move m;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	client_reap(mm, c);
	rc = move_check(mm, c, space, area, page, &m);
	if (rc)
		return rc;
	cls = &c->cls[m.geom];
	m.to = frame_alloc(mm, c, m.geom);
	mm_trace(mm, KV_TP_MOVE_CHECK, client, page);
	unmap_all(&m);
	kv_move_fence(); /* K3 */
	mm_trace(mm, KV_TP_MOVE_FENCE, client, page);
	if (frame_is_busy(mm, c, m.from)) { /* K4 */
		map_all(&m, m.from);
		mm_frames(mm)[m.to].refs = 0;
		frame_free_now(mm, c, m.geom, m.to);
		mm->counts.moves_busy++;
		mm_trace(mm, KV_TP_MOVE_BACK, client, page);
		return -EBUSY;
	}
	copy(ctx, (u64)frame_entry(mm, cls, m.from) << cls->unit_shift,
	     (u64)frame_entry(mm, cls, m.to) << cls->unit_shift,
	     cls->geom.page_bytes);
	mm_trace(mm, KV_TP_MOVE_COPY, client, page);
	map_all(&m, m.to);
	hand_over(&m);
	mm->counts.moves++;
	mm_trace(mm, KV_TP_MOVE_DONE, client, page);
	return 0;
}
