/* SPDX-License-Identifier: MIT */
#ifndef KVMD_SWAP_QUEUE_H
#define KVMD_SWAP_QUEUE_H
/*
 * swap_queue.h - whose page is next at a swap tier
 */
#include <sys/queue.h>
#include "include/kv/types.h"
#include "kvmd/mm/mm.h"

/* A page that waits for its tier. */
struct swap_turn {
	u32 tenant, weight, bytes; /* the caller fills this */
	bool background; /* and this: only when nothing else of its tenant is */
	TAILQ_ENTRY(swap_turn) link;
};

TAILQ_HEAD(swap_turns, swap_turn);

/* What waits of one tenant. */
struct swap_flow {
	struct swap_turns turns[2]; /* in order; [1]: background */
	u32 nr;
	u64 tag; /* what it has had, or would have, when its next one begins */
	TAILQ_ENTRY(swap_flow) link;
};

struct swap_queue {
	struct swap_flow flow[MM_TENANT_MAX];
	TAILQ_HEAD(, swap_flow) busy; /* those with turns */
	u64 now; /* tag of what began last */
	u32 nr; /* turns */
};

void swap_queue_init(struct swap_queue *q);
void swap_queue_add(struct swap_queue *q, struct swap_turn *t);
/**
 * swap_queue_first - the next one, which stays
 * @q: queue
 * @may: may a page begin? Asked of the first of each tenant; NULL: any may
 * @ctx: for @may
 *
 * Return: NULL if there is none.
 */
struct swap_turn *
swap_queue_first(struct swap_queue *q,
		 bool (*may)(void *ctx, const struct swap_turn *t), void *ctx);
/* swap_queue_begin - it begins: its tenant has had that much more */
void swap_queue_begin(struct swap_queue *q, struct swap_turn *t);
/* swap_queue_del - it does not */
void swap_queue_del(struct swap_queue *q, struct swap_turn *t);

#endif
