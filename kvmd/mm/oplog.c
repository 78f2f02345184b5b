/* SPDX-License-Identifier: MIT */
/*
 * oplog.c - requests by the host's numbers, and answers that got lost
 *
 * A host that is killed does not know which request it was at: it names each
 * one before it issues it, and the successor asks what became of the first one
 * without an answer in the client's ring. Only the last one of a client can be
 * in that place, or one that waits as a ticket.
 */
#include <errno.h>

#include "kvmd/mm/oplog.h"

void mm_op_begin(struct mm *mm, u32 client, u64 id)
{
	if (client < MM_CLIENT_MAX)
		mm_clients(mm)[client].log.next_id = id;
}

static bool answer_ticket(const struct mm *mm, u32 client, u64 id,
			  struct mm_op_answer *a)
{
	const struct ticket *ts = mm_tickets(mm);
	u32 i;

	for (i = 0; i < mm->ticket_top; i++) {
		if (ts[i].state == TICKET_FREE || ts[i].client != client ||
		    ts[i].request != id)
			continue;
		a->result = -EINPROGRESS;
		a->extra = ts[i].flags & KV_SQE_WAIT ? ts[i].id : 0;
		return true;
	}
	return false;
}

int mm_op_answer(const struct mm *mm, u32 client, u64 id,
		 struct mm_op_answer *a, struct kv_copy *copies)
{
	const struct client *c;
	u32 i;

	if (client >= MM_CLIENT_MAX || !id)
		return 0;
	c = &mm_clients(mm)[client];
	if (c->state != CLIENT_LIVE)
		return 0;
	*a = (struct mm_op_answer){ .extent_seq = c->extent_seq };
	if (answer_ticket(mm, client, id, a))
		return 1;
	if (c->log.kind == OP_NONE || !c->log.done || c->log.id != id)
		return 0;
	a->result = c->log.result;
	for (i = 0; c->log.kind == OP_RESERVE && i < c->log.nr; i++)
		copies[i] = mm_cows(mm, c)[i].copy;
	return 1;
}
