/* SPDX-License-Identifier: MIT */
/*
 * policy_lru.c - the idle node used least recently
 *
 * A heap of the idle nodes by their last use. A list would do if nodes
 * became idle in the order of their last use, but a node does when its last
 * child is evicted, however recently it was used itself. A path is used from
 * the root down, so a leaf is younger than its parent, but the parent is not
 * idle before the leaf is gone.
 *
 * A node's place in the heap is in its link.
 */
#include "kvmd/mm/policy_state.h"

static u32 *place_of(const struct policy *p, u32 node)
{
	return &policy_node(p, node)->link.prev;
}

static u64 stamp_at(const struct policy *p, u32 place)
{
	return policy_node(p, policy_heap(p)[place])->stamp;
}

static void put(struct policy *p, u32 place, u32 node)
{
	policy_heap(p)[place] = node;
	*place_of(p, node) = place;
}

/* @node, which has no place yet, goes up or down from @place. */
static void sift(struct policy *p, u32 place, u32 node)
{
	u64 stamp = policy_node(p, node)->stamp;
	u32 *heap = policy_heap(p);
	u32 up, down;

	for (; place; place = up) {
		up = (place - 1) / 2;
		if (stamp_at(p, up) <= stamp)
			break;
		put(p, place, heap[up]);
	}
	for (;; place = down) {
		down = 2 * place + 1;
		if (down >= p->nr_heap)
			break;
		if (down + 1 < p->nr_heap &&
		    stamp_at(p, down + 1) < stamp_at(p, down))
			down++;
		if (stamp <= stamp_at(p, down))
			break;
		put(p, place, heap[down]);
	}
	put(p, place, node);
}

static void lru_reset(struct policy *p)
{
	p->nr_heap = 0;
}

static void lru_add(struct policy *p, u32 node)
{
	put(p, p->nr_heap++, node);
	sift(p, p->nr_heap - 1, node);
}

static void lru_del(struct policy *p, u32 node)
{
	u32 place = *place_of(p, node);
	u32 last = policy_heap(p)[--p->nr_heap];

	if (last != node)
		sift(p, place, last);
}

static u32 lru_victim(struct policy *p)
{
	return policy_heap(p)[0];
}

static const char *lru_check(struct policy *p, u32 *nr)
{
	u32 i, node;

	for (i = 0; i < p->nr_heap; i++) {
		node = policy_heap(p)[i];
		if (*place_of(p, node) != i ||
		    !(policy_node(p, node)->flags & POLICY_NODE_IDLE))
			return "lru: a node in the heap is not there or busy";
		if (i && stamp_at(p, (i - 1) / 2) > stamp_at(p, i))
			return "lru: the heap is out of order";
	}
	*nr = p->nr_heap;
	return NULL;
}

const struct policy_ops policy_lru_ops = {
	.name = "lru",
	.reset = lru_reset,
	.add = lru_add,
	.del = lru_del,
	.victim = lru_victim,
	.check = lru_check,
};
