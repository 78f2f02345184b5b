/* SPDX-License-Identifier: MIT */
/*
 * space.c - slots, descriptors and families of one client's spaces
 *
 *	free -> live -> free
 *
 * A slot's generation never goes down, also when the slot is used again, and
 * the last step granted to it stays: a reader that cached the old space sees
 * the generation moved. There is no dying state to wait in: what a running
 * step may still read is pinned frame by frame (K7).
 *
 * Forks stay in their parent's family. The family is the reverse map: a
 * frame names its family and page index, and every space of the family that
 * maps it does so at that index.
 *
 * The core's own struct space is what counts; the descriptor in the table is
 * a copy for the client.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/compact.h"
#include "kvmd/mm/oplog.h"
#include "kvmd/mm/prefix.h"

static u32 family_alloc(struct mm *mm, struct client *c)
{
	struct family *fs = mm_families(mm, c);
	u32 i = c->family_free;

	if (i != MM_NONE)
		c->family_free = fs[i].next_free;
	else
		i = c->family_top++;
	ilist_init(&fs[i].spaces);
	return i;
}

int space_alloc(struct mm *mm, struct client *c, u32 family, struct space **out)
{
	struct space *sps = mm_spaces(mm, c), *sp;
	struct family *fs = mm_families(mm, c);
	u32 i = c->space_free;

	if (i == MM_NONE && c->space_top == KV_SPACE_MAX)
		return -ENOSPC;
	if (i != MM_NONE)
		c->space_free = sps[i].next_free;
	else
		i = c->space_top++;
	sp = &sps[i];
	if (family == MM_NONE)
		family = family_alloc(mm, c);
	sp->serial++;
	sp->family = family;
	sp->parent = MM_NONE;
	sp->mark = 0;
	sp->ref = sp->chain = sp->cached = 0;
	sp->created_ns = sp->used_ns = mm->now_ns;
	sp->seen_active = space_active(mm, c, sp);
	ilist_add_tail(&fs[family].spaces, ILINKS(sps, sibling), i);
	c->nr_spaces++;
	*out = sp;
	return 0;
}

void space_free(struct mm *mm, struct client *c, struct space *sp)
{
	struct space *sps = mm_spaces(mm, c);
	struct family *f = &mm_families(mm, c)[sp->family];
	u32 i = space_slot(mm, c, sp);

	ilist_del(&f->spaces, ILINKS(sps, sibling), i);
	if (ilist_is_empty(&f->spaces)) {
		f->next_free = c->family_free;
		c->family_free = sp->family;
	}
	sp->state = KV_SPACE_FREE;
	sp->next_free = c->space_free;
	c->space_free = i;
	c->nr_spaces--;
}

void space_publish(struct mm *mm, struct client *c, struct space *sp,
		   const struct kv_space_desc *from)
{
	struct kv_space_desc *d = space_desc(mm, c, sp);
	u32 i, k;

	d->family = sp->family;
	d->parent = sp->parent;
	d->serial = sp->serial;
	d->group = from->group;
	d->nr_areas = sp->nr_areas;
	d->priority = sp->priority;
	d->resv_step = sp->resv;
	d->created_ns = sp->created_ns;
	d->ns = from->ns;
	for (i = 0; i < sp->nr_areas; i++) {
		const struct space_area *a = &sp->area[i];

		d->area[i].geom = a->geom;
		d->area[i].window = a->window;
		d->area[i].page_first = a->page_first;
		d->area[i].page_end = a->page_end;
		d->area[i].head_first = from->area[i].head_first;
		d->area[i].nr_heads = from->area[i].nr_heads;
		d->area[i].slot_map = 0;
		for (k = 0; k < KV_AREA_LEAVES; k++)
			d->area[i].leaf[k] = a->leaf_mask & (1u << k)
						     ? a->leaf[k]
						     : KV_LEAF_NONE;
	}
	mm_order();
	sp->state = KV_SPACE_LIVE;
	kv_store_relaxed(&d->state, (u32)sp->state);
	space_bump(mm, c, sp);
}

void client_reap(struct mm *mm, struct client *c)
{
	u64 done = kv_move_completed(&c->status->rank[0]);

	if (done > c->completed) {
		c->completed = done;
		c->moved_ns = mm->now_ns;
	}
	compact_told(c);
	if (c->nr_leaving)
		slab_reap(mm, c);
	if (c->refs_leaving.nr)
		prefix_reap(mm, c);
}

static int check_args(const struct client *c, const struct kv_space_args *a)
{
	u32 i;

	if (!a->nr_areas || a->nr_areas > KV_AREA_MAX || a->group)
		return -EINVAL;
	for (i = 0; i < a->nr_areas; i++)
		if (a->area[i].geom >= c->nr_geoms || a->area[i].reserved)
			return -EINVAL;
	return 0;
}

int mm_space_create(struct mm *mm, u32 client, const struct kv_space_args *args)
{
	struct kv_space_desc from = { .group = args->group, .ns = args->ns };
	struct client *c;
	struct space *sp;
	u32 i;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (!rc)
		rc = check_args(c, args);
	if (!rc)
		rc = space_alloc(mm, c, MM_NONE, &sp);
	if (rc)
		return rc;
	sp->nr_areas = (u8)args->nr_areas;
	sp->priority = args->priority;
	memset(sp->area, 0, sizeof(sp->area));
	for (i = 0; i < sp->nr_areas; i++) {
		sp->area[i].geom = args->area[i].geom;
		sp->area[i].window = args->area[i].window;
		from.area[i].head_first = args->area[i].head_first;
		from.area[i].nr_heads = args->area[i].nr_heads;
	}
	op_begin(c, OP_CREATE, space_slot(mm, c, sp), 0);
	space_publish(mm, c, sp, &from);
	mm_trace(mm, KV_TP_SPACE_CREATE, client, space_slot(mm, c, sp));
	return op_end(c, (int)space_slot(mm, c, sp));
}

int mm_space_destroy(struct mm *mm, u32 client, u32 space)
{
	struct kv_space_desc *d;
	struct client *c;
	struct space *sp;
	u64 pin;
	u32 i;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	sp = space_find(mm, c, space);
	if (!sp)
		return -ENOENT;
	mm_trace(mm, KV_TP_SPACE_DESTROY_BEGIN, client, space);
	client_reap(mm, c);
	d = space_desc(mm, c, sp);
	pin = space_pin(mm, c, sp);
	op_begin(c, OP_DESTROY, space, 0);
	for (i = 0; i < sp->nr_areas; i++)
		pgtable_unmap(mm, c, &sp->area[i], &d->area[i], 0, 0, pin);
	prefix_cut(mm, c, sp, 0, pin);
	kv_store_relaxed(&d->state, (u32)KV_SPACE_FREE);
	mm_trace(mm, KV_TP_SPACE_DESTROY_TABLE, client, space);
	space_free(mm, c, sp);
	space_bump(mm, c, sp);
	mm_trace(mm, KV_TP_SPACE_DESTROY, client, space);
	return op_end(c, 0);
}

int area_can_resume(const struct client *c, const struct space_area *a, u64 len)
{
	u32 shift = c->cls[a->geom].page_shift;

	if (len > (u64)a->page_end << shift)
		return -EINVAL;
	/* Is anything below @len read at all, and is it still there? */
	if (len && (!a->window || a->window > 1) &&
	    area_first_needed(c, a, len) < a->page_first)
		return -ENODATA;
	return 0;
}

/* A page that is being published is not written to where it is. */
static bool protect_tail(struct mm *mm, struct client *c,
			 const struct space_area *a, u64 len)
{
	u32 shift = c->cls[a->geom].page_shift, page = (u32)(len >> shift);
	u32 frame;
	kv_pte_t *p;

	if (!(len & ((1ull << shift) - 1)) || page < a->page_first ||
	    page >= a->page_end)
		return false;
	p = pte_at(c, a, page);
	frame = pte_frame(mm, c, a, *p);
	if (!(*p & KV_PTE_WRITE) || frame == MM_NONE ||
	    mm_frames(mm)[frame].state != FRAME_PUB)
		return false;
	kv_store_relaxed(p, *p & ~KV_PTE_WRITE);
	return true;
}

int mm_space_truncate(struct mm *mm, u32 client, u32 space, u64 len)
{
	struct kv_space_desc *d;
	struct client *c;
	struct space *sp;
	struct space_area *a;
	u32 i, end = 0, dropped = 0;
	u64 pin;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	sp = space_find(mm, c, space);
	if (!sp)
		return -ENOENT;
	for (i = 0; i < sp->nr_areas; i++) {
		rc = area_can_resume(c, &sp->area[i], len);
		if (rc)
			return rc;
	}
	client_reap(mm, c);
	d = space_desc(mm, c, sp);
	pin = space_pin(mm, c, sp);
	op_begin(c, OP_TRUNCATE, space, len);
	for (i = 0; i < sp->nr_areas; i++) {
		a = &sp->area[i];
		end = (u32)DIV_ROUND_UP(len, c->cls[a->geom].geom.page_tokens);
		dropped += protect_tail(mm, c, a, len);
		dropped += pgtable_unmap(mm, c, a, &d->area[i], a->page_first,
					 end, pin);
		if (!len)
			a->page_first = a->page_end = 0;
		kv_store_relaxed(&d->area[i].page_first, a->page_first);
		kv_store_relaxed(&d->area[i].page_end, a->page_end);
	}
	mm_trace(mm, KV_TP_TRUNCATE_TABLE, client, space);
	prefix_cut(mm, c, sp, end, pin);
	sp->chain = min(sp->chain,
			(u32)(len >> c->cls[sp->area[0].geom].page_shift));
	sp->cached = min(sp->cached, sp->chain);
	if (dropped)
		space_bump(mm, c, sp);
	mm->counts.truncates++;
	mm_trace(mm, KV_TP_TRUNCATE, client, space);
	return op_end(c, 0);
}
