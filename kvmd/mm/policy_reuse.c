/* SPDX-License-Identifier: MIT */
/*
 * policy_reuse.c - the idle node whose place is worth least
 *
 * Idle nodes stand on a list for each slot of time in which they were last
 * used and each class; all nodes of a list have the same value (odds.h). The
 * lists are the leaves of a tournament, which is held anew when values change,
 * once per epoch, and along one path when a list becomes empty or is no more:
 * the victim is the first node of the list that wins. Of two lists of the same
 * value the one of older nodes does.
 *
 * What this policy knows of a prefix tree: a leaf is the only node that may
 * go, and it leaves behind a parent that was used at least as often; pages
 * that a scan or a question brought along, and those that end a request, are
 * in classes of their own (see policy.c), and once those are known to be of no
 * use they go at once, the newest included, and displace nothing.
 */
#include "kvmd/mm/policy_state.h"

static u32 list_of(const struct policy *p, const struct policy_node *n)
{
	const struct odds *o = &p->odds;

	return o->slot[odds_slot_of(o, n->stamp)].id * ODDS_CLASSES + n->cls;
}

static double value_of(const struct policy *p, u32 list)
{
	const struct odds *o = &p->odds;
	u32 place = p->reuse.place[list / ODDS_CLASSES];

	return o->value[list % ODDS_CLASSES][o->slot[place].age];
}

/* Of two lists, or none, the one to take from first. */
static u32 lesser(const struct policy *p, u32 a, u32 b)
{
	const u32 *place = p->reuse.place;
	double x, y;

	if (a == REUSE_NONE || b == REUSE_NONE)
		return min(a, b);
	x = value_of(p, a);
	y = value_of(p, b);
	if (x != y)
		return x < y ? a : b;
	return place[a / ODDS_CLASSES] >= place[b / ODDS_CLASSES] ? a : b;
}

static u32 leaf_of(const struct policy *p, u32 list)
{
	return list >= REUSE_LISTS || ilist_is_empty(&p->reuse.list[list])
		       ? REUSE_NONE
		       : list;
}

/* The winner of the matches below node @i. */
static u32 least_of(const struct policy *p, u32 i)
{
	const u16 *least = p->reuse.least;

	return lesser(p, least[2 * i], least[2 * i + 1]);
}

/* The list is empty now, or no longer. */
static void replay(struct policy *p, u32 list)
{
	u16 *least = p->reuse.least;
	u32 i = REUSE_LEAVES + list;

	least[i] = (u16)leaf_of(p, list);
	while (i /= 2)
		least[i] = (u16)least_of(p, i);
}

static void put_in_order(struct policy *p)
{
	const struct odds *o = &p->odds;
	struct reuse *r = &p->reuse;
	u32 i;

	for (i = 0; i < o->nr_slots; i++)
		r->place[o->slot[i].id] = i;
	for (i = 0; i < REUSE_LEAVES; i++)
		r->least[REUSE_LEAVES + i] = (u16)leaf_of(p, i);
	for (i = REUSE_LEAVES - 1; i; i--)
		r->least[i] = (u16)least_of(p, i);
}

static void list_add(struct policy *p, u32 node)
{
	u32 list = list_of(p, policy_node(p, node));
	struct ilist *l = &p->reuse.list[list];
	bool was_empty = ilist_is_empty(l);

	ilist_add_tail(l, POLICY_LINKS(p), node);
	if (was_empty)
		replay(p, list);
}

static void list_del(struct policy *p, u32 node)
{
	u32 list = list_of(p, policy_node(p, node));
	struct ilist *l = &p->reuse.list[list];

	ilist_del(l, POLICY_LINKS(p), node);
	if (ilist_is_empty(l))
		replay(p, list);
}

static u32 list_victim(const struct policy *p)
{
	return p->reuse.list[p->reuse.least[1]].first;
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

static const char *check_tournament(const struct policy *p)
{
	const u16 *least = p->reuse.least;
	u32 i;

	for (i = 1; i < 2 * REUSE_LEAVES; i++)
		if (least[i] != (i < REUSE_LEAVES
					 ? least_of(p, i)
					 : leaf_of(p, i - REUSE_LEAVES)))
			return "reuse: a list is not where its value puts it";
	return NULL;
}

static const char *reuse_check(struct policy *p, u32 *nr)
{
	const struct reuse *r = &p->reuse;
	u32 list, i;

	if (r->behind)
		return policy_lru_ops.check(p, nr);
	for (list = 0; list < REUSE_LISTS; list++)
		ilist_for_each (i, &r->list[list], POLICY_LINKS(p)) {
			if (list_of(p, policy_node(p, i)) != list)
				return "reuse: a node is on a wrong list";
			++*nr;
		}
	return check_tournament(p);
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
