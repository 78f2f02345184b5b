/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_OPLOG_H
#define KVMD_MM_OPLOG_H
/*
 * oplog.h - what a client's last operation is about, should kvmd be killed
 *
 * One record per client, a few stores per operation:
 *
 *	none -> begun (kind) -> done (result) -> none of the next
 *
 * begun	mm_recover() finishes it or takes it back (recover_op.c)
 * done		its result is the answer, if the client never got it:
 *		mm_op_answer()
 *
 * A page that a reservation replaces by a copy is noted before its entry
 * changes: with what it was, to put it back, and as the copy that the answer
 * tells the client to make.
 */
#include "kvmd/mm/space.h"

static inline void op_begin(struct client *c, enum op_kind kind, u32 space,
			    u64 arg)
{
	struct op_log *l = &c->log;

	l->kind = OP_NONE;
	mm_order();
	l->id = l->next_id;
	l->next_id = 0;
	l->space = space;
	l->arg = arg;
	l->nr = 0;
	l->ticket = 0;
	l->done = false;
	mm_order();
	l->kind = (u8)kind;
	mm_order();
}

/* It is a ticket's, no request of now. */
static inline void op_is_ticket(struct client *c, u64 ticket)
{
	c->log.id = 0;
	c->log.ticket = ticket;
}

static inline int op_end(struct client *c, int result)
{
	c->log.result = result;
	mm_order();
	c->log.done = true;
	return result;
}

/* The entry @old of a page is about to give way to a copy. */
static inline void op_log_cow(const struct mm *mm, struct client *c,
			      const struct space *sp, u32 area, u32 page,
			      kv_pte_t old, const struct kv_copy *copy)
{
	mm_cows(mm, c)[c->log.nr] = (struct cow){
		.copy = *copy,
		.old = old,
		.space = space_slot(mm, c, sp),
		.page = page,
		.area = area,
		.ref = sp->ref,
		.chain = sp->chain,
		.cached = sp->cached,
	};
	mm_order();
	c->log.nr++;
	mm_order();
}

#endif
