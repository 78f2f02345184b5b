/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_RESV_H
#define KVMD_MM_RESV_H
/*
 * resv.h - a step's reservation: count, make room, commit
 */
#include "kvmd/mm/space.h"

/* What a reservation asks for, and what it takes. */
struct resv_plan {
	const struct kv_resv_item *items;
	u32 nr_items;
	u32 ticket; /* its own, MM_NONE: a new request */
	u16 priority; /* highest of its spaces */
	u32 promised; /* extents that are others': ticket.c */
	bool reclaiming; /* resv_room(): pages leave for it */
	u64 step;
	u32 need[KV_GEOM_MAX]; /* free frames per class, at most */
	u32 leaves; /* to be created */
	u32 nr_cow; /* of need: copies on write */
	bool is_exact; /* it was counted, and is no bound any more */
	u32 nr_swapped; /* entries of pages that have to be read */
	u32 nr_moving; /* pages on their way to or from a slot */
	u32 nr_read; /* pages that resv_room() began to read; 0 before */
	u64 slow_until_ns; /* high_slows() */
	u64 lost; /* with -ENODATA: as ops.h says */
};

/* resv_age - when the eldest of the spaces was made that items name */
u64 resv_age(const struct mm *mm, const struct client *c,
	     const struct kv_resv_item *items, u32 nr);

/**
 * resv_plan - validate a reservation and count what it takes
 * @mm: core
 * @c: client
 * @p: items, nr_items, ticket, step set by the caller; the rest on return
 *
 * Changes nothing. need[] is an upper bound: two spaces of the batch that
 * share a page with nobody else are counted as two copies, one is made.
 *
 * Return: 0, or an error of KV_OP_RESERVE.
 */
int resv_plan(struct mm *mm, struct client *c, struct resv_plan *p);

/**
 * resv_room - is there memory for it now?
 * @mm: core
 * @c: client
 * @p: plan
 * @extents: extents it lacks beyond what the client holds
 *
 * Takes back what other clients hold empty if that is what is missing; then
 * pages leave for swap, if there is any, and p->reclaiming says so. Begins to
 * read pages that are swapped: BLOCK_IO until they are there.
 */
enum ticket_block resv_room(struct mm *mm, struct client *c,
			    struct resv_plan *p, u32 *extents);

/* resv_fits_ever - false: it asks for more than there could ever be */
bool resv_fits_ever(struct mm *mm, struct client *c, const struct resv_plan *p);

/**
 * resv_commit - do it
 * @mm: core
 * @c: client
 * @p: plan for which resv_room() said BLOCK_NONE
 * @copies: room for nr_items * KV_AREA_MAX
 *
 * Return: number of copies; or what growing the table said, and nothing is
 * changed then.
 */
int resv_commit(struct mm *mm, struct client *c, const struct resv_plan *p,
		struct kv_copy *copies);

#endif
