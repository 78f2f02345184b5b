/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_SPACE_H
#define KVMD_MM_SPACE_H
/*
 * space.h - slots, descriptors and families of one client's spaces
 */
#include "kvmd/mm/pgtable.h"

static inline u32 space_slot(const struct mm *mm, const struct client *c,
			     const struct space *sp)
{
	return (u32)(sp - mm_spaces(mm, c));
}

static inline struct kv_space_desc *
space_desc(const struct mm *mm, const struct client *c, const struct space *sp)
{
	return kv_table_space(c->table, space_slot(mm, c, sp));
}

/* Generation + 1, after the entries (K2, K5, K6). */
static inline void space_bump(const struct mm *mm, const struct client *c,
			      struct space *sp)
{
	kv_move_bump(space_desc(mm, c, sp), ++sp->gen);
}

/* What the client says it uses the space for; untrusted. */
static inline u64 space_active(const struct mm *mm, const struct client *c,
			       const struct space *sp)
{
	return kv_move_active(&c->status->space[space_slot(mm, c, sp)]);
}

/* K7: the last step that may use a mapping of this space. */
static inline u64 space_pin(const struct mm *mm, const struct client *c,
			    const struct space *sp)
{
	u64 active = space_active(mm, c, sp);

	return active > sp->resv ? active : sp->resv;
}

/* May a step use it now? */
static inline bool space_is_busy(const struct mm *mm, const struct client *c,
				 const struct space *sp)
{
	return kv_move_is_busy(space_active(mm, c, sp), sp->resv,
			       kv_move_completed(&c->status->rank[0]));
}

/* First page that a row at token @pos reads in this area. */
static inline u32 area_first_needed(const struct client *c,
				    const struct space_area *a, u64 pos)
{
	if (!a->window || pos + 1 <= a->window)
		return 0;
	return (u32)((pos + 1 - a->window) >> c->cls[a->geom].page_shift);
}

/**
 * area_can_resume - may a row at @len be the next one?
 * @c: client
 * @a: area of a space
 * @len: tokens that stay
 *
 * Return: 0; -EINVAL: that many were never reserved; -ENODATA: the window
 * has let go of what that row would read.
 */
int area_can_resume(const struct client *c, const struct space_area *a,
		    u64 len);

/* space_find - a live space by slot, or NULL */
static inline struct space *space_find(const struct mm *mm,
				       const struct client *c, u32 slot)
{
	struct space *sp;

	if (slot >= c->space_top)
		return NULL;
	sp = &mm_spaces(mm, c)[slot];
	return sp->state == KV_SPACE_LIVE ? sp : NULL;
}

/**
 * space_alloc - take a free slot, in a family
 * @mm: core
 * @c: client
 * @family: family to join, or MM_NONE for a new one
 * @out: the space; live with space_publish(), and free again if that never
 *	comes
 *
 * Return: 0 or -ENOSPC.
 */
int space_alloc(struct mm *mm, struct client *c, u32 family,
		struct space **out);

/* space_free - give the slot back; its areas are empty */
void space_free(struct mm *mm, struct client *c, struct space *sp);

/* space_publish - live: write the whole descriptor and bump */
void space_publish(struct mm *mm, struct client *c, struct space *sp,
		   const struct kv_space_desc *from);

/* client_take - a free slot, on mm->clients; MM_NONE: all are taken */
u32 client_take(struct mm *mm);

/* client_give - the slot is free again; its tenant has one reference less */
void client_give(struct mm *mm, struct client *c);

/* client_wipe - free, and nothing left of it but how often the slot was used */
void client_wipe(struct client *c);

/* client_gone_finish - nothing of a gone client is on its way any more */
void client_gone_finish(struct mm *mm, struct client *c);

/* client_reap - read completed and free what has passed its pins */
void client_reap(struct mm *mm, struct client *c);

#endif
