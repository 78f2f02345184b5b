/* SPDX-License-Identifier: MIT */
/*
 * swap_queue.c - whose page is next at a swap tier
 *
 * Start-time fair queueing. A tenant's tag is what it has had so far, in bytes
 * by weight; the tenant with the least is next. Whoever comes to an idle queue
 * begins at what the others are at, so nobody saves up a share that he did not
 * want; alone, a tenant gets all there is. Two that always have pages waiting
 * get bytes as their weights are, to a page each, as long as the caller lets
 * both begin; one that may not is passed over, and keeps its place.
 *
 * What a tenant has waiting goes in order, pages that go from tier to tier
 * behind all others of the same tenant: nobody waits for these.
 */
#include "kvmd/swap_queue.h"

#define TAG_SHIFT 10 /* bytes of weight 1; a weight is 10000 at most */

void swap_queue_init(struct swap_queue *q)
{
	struct swap_flow *f;

	TAILQ_INIT(&q->busy);
	for (f = q->flow; f < q->flow + MM_TENANT_MAX; f++) {
		TAILQ_INIT(&f->turns[0]);
		TAILQ_INIT(&f->turns[1]);
	}
}

void swap_queue_add(struct swap_queue *q, struct swap_turn *t)
{
	struct swap_flow *f = &q->flow[t->tenant];

	TAILQ_INSERT_TAIL(&f->turns[t->background], t, link);
	q->nr++;
	if (f->nr++)
		return;
	f->tag = max(f->tag, q->now);
	TAILQ_INSERT_TAIL(&q->busy, f, link);
}

static struct swap_turn *flow_first(const struct swap_flow *f)
{
	return TAILQ_FIRST(&f->turns[TAILQ_EMPTY(&f->turns[0])]);
}

struct swap_turn *
swap_queue_first(struct swap_queue *q,
		 bool (*may)(void *ctx, const struct swap_turn *t), void *ctx)
{
	struct swap_flow *f, *least = NULL;

	TAILQ_FOREACH(f, &q->busy, link)
	if ((!least || f->tag < least->tag) &&
	    (!may || may(ctx, flow_first(f))))
		least = f;
	return least ? flow_first(least) : NULL;
}

void swap_queue_begin(struct swap_queue *q, struct swap_turn *t)
{
	struct swap_flow *f = &q->flow[t->tenant];

	q->now = max(q->now, f->tag);
	f->tag += ((u64)t->bytes << TAG_SHIFT) / max(t->weight, 1u);
	swap_queue_del(q, t);
}

void swap_queue_del(struct swap_queue *q, struct swap_turn *t)
{
	struct swap_flow *f = &q->flow[t->tenant];

	TAILQ_REMOVE(&f->turns[t->background], t, link);
	q->nr--;
	if (!--f->nr)
		TAILQ_REMOVE(&q->busy, f, link);
}
