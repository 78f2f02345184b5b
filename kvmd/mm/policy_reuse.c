/* SPDX-License-Identifier: MIT */
/*
 * policy_reuse.c - the idle node whose place is worth least
 *
 * Idle nodes stand on a list for each slot of time in which they were last
 * used and each class; all nodes of a list have the same value (odds.h). The
 * lists are put in the order of their values when values change, once per
 * epoch; a bit per rank says which list has a node, so that the victim is
 * the first node behind the first bit. Of two lists of the same value the
 * one of older nodes comes first.
 *
 * What this policy knows of a prefix tree: a leaf is the only node that may
 * go, and it leaves behind a parent that was used at least as often; pages
 * that a scan or a question brought along are in classes of their own (see
 * policy.c), and once those are known to be of no use they go at once, the
 * newest included, and displace nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "kvmd/mm/policy_state.h"

static u32 list_of(const struct policy *p, const struct policy_node *n)
{
	const struct odds *o = &p->odds;

	return o->slot[odds_slot_of(o, n->stamp)].id * ODDS_CLASSES + n->cls;
}

static void note_some(struct policy *p, u32 list)
{
	u32 rank = p->reuse.rank[list];
	u64 bit = 1ull << (rank % 64);

	if (ilist_is_empty(&p->reuse.list[list]))
		p->reuse.some[rank / 64] &= ~bit;
	else
		p->reuse.some[rank / 64] |= bit;
}

static int by_value(const void *a, const void *b)
{
	const struct reuse_rank *x = a, *y = b;

	if (x->value != y->value)
		return x->value < y->value ? -1 : 1;
	if (x->slot != y->slot)
		return x->slot > y->slot ? -1 : 1;
	return (x->list > y->list) - (x->list < y->list);
}

static void put_in_order(struct policy *p)
{
	struct reuse_rank *r = p->reuse.sorted;
	const struct odds *o = &p->odds;
	u32 k, c, nr = 0;

	for (k = 0; k < o->nr_slots; k++)
		for (c = 0; c < ODDS_CLASSES; c++)
			r[nr++] = (struct reuse_rank){
				o->value[c][o->slot[k].age], k,
				o->slot[k].id * ODDS_CLASSES + c
			};
	qsort(r, nr, sizeof(r[0]), by_value);
	memset(p->reuse.some, 0, sizeof(p->reuse.some));
	for (k = 0; k < nr; k++) {
		p->reuse.order[k] = (u16)r[k].list;
		p->reuse.rank[r[k].list] = (u16)k;
		note_some(p, r[k].list);
	}
}

static void list_add(struct policy *p, u32 node)
{
	u32 list = list_of(p, policy_node(p, node));

	ilist_add_tail(&p->reuse.list[list], POLICY_LINKS(p), node);
	note_some(p, list);
}

static void list_del(struct policy *p, u32 node)
{
	u32 list = list_of(p, policy_node(p, node));

	ilist_del(&p->reuse.list[list], POLICY_LINKS(p), node);
	note_some(p, list);
}

static u32 list_victim(const struct policy *p)
{
	const struct reuse *r = &p->reuse;
	u32 w = 0;

	while (!r->some[w])
		w++;
	w = w * 64 + (u32)__builtin_ctzll(r->some[w]);
	return r->list[r->order[w]].first;
}

/* Nodes go from the lists to the heap of LRU, or back. */
static void follow(struct policy *p, bool behind)
{
	const struct policy_ops *lru = &policy_lru_ops;
	u32 i, node;

	p->reuse.behind = behind;
	if (!behind) {
		for (; p->nr_heap; list_add(p, node)) {
			node = lru->victim(p);
			lru->del(p, node);
		}
		return;
	}
	lru->reset(p);
	for (i = 0; i < REUSE_LISTS; i++)
		while (!ilist_is_empty(&p->reuse.list[i])) {
			node = p->reuse.list[i].first;
			list_del(p, node);
			lru->add(p, node);
		}
}

static void reuse_aged(struct policy *p)
{
	bool behind = rival_look(&p->rival, p->clock);

	put_in_order(p);
	if (behind != p->reuse.behind)
		follow(p, behind);
}

static void reuse_reset(struct policy *p)
{
	u32 i;

	p->reuse.behind = false;
	for (i = 0; i < REUSE_LISTS; i++)
		ilist_init(&p->reuse.list[i]);
	put_in_order(p);
}

static void reuse_add(struct policy *p, u32 node)
{
	if (p->reuse.behind)
		policy_lru_ops.add(p, node);
	else
		list_add(p, node);
}

static void reuse_del(struct policy *p, u32 node)
{
	if (p->reuse.behind)
		policy_lru_ops.del(p, node);
	else
		list_del(p, node);
}

static u32 reuse_victim(struct policy *p)
{
	return p->reuse.behind ? policy_lru_ops.victim(p) : list_victim(p);
}

static void reuse_merge(struct policy *p, u32 from, u32 to)
{
	struct ilist *l = p->reuse.list;
	u32 c;

	for (c = 0; c < ODDS_CLASSES; c++)
		ilist_append(&l[to * ODDS_CLASSES + c],
			     &l[from * ODDS_CLASSES + c], POLICY_LINKS(p));
}

static const char *reuse_check(struct policy *p, u32 *nr)
{
	const struct reuse *r = &p->reuse;
	u32 list, i, rank;
	bool some;

	if (r->behind)
		return policy_lru_ops.check(p, nr);
	for (list = 0; list < REUSE_LISTS; list++) {
		if (ilist_is_empty(&r->list[list]))
			continue;
		rank = r->rank[list];
		some = r->some[rank / 64] >> (rank % 64) & 1;
		if (r->order[rank] != list || !some)
			return "reuse: a list with nodes has no rank";
		ilist_for_each (i, &r->list[list], POLICY_LINKS(p)) {
			if (list_of(p, policy_node(p, i)) != list)
				return "reuse: a node is on a wrong list";
			++*nr;
		}
	}
	return NULL;
}

const struct policy_ops policy_reuse_ops = {
	.name = "reuse",
	.reset = reuse_reset,
	.add = reuse_add,
	.del = reuse_del,
	.victim = reuse_victim,
	.merge = reuse_merge,
	.aged = reuse_aged,
	.check = reuse_check,
};
