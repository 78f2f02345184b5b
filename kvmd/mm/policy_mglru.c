/* SPDX-License-Identifier: MIT */
/*
 * policy_mglru.c - generations, and refault distance
 *
 * Idle nodes stand on the list of their generation; the victim is the one
 * that joined the oldest generation first. There are always MGLRU_GENS:
 *
 *	age 0 (youngest), 1, 2, 3 (oldest)
 *
 * A node that is hit belongs to the youngest. A new one is cold and begins
 * next to the oldest: it is evicted after what nobody used for several
 * generations, but before what was used twice, and a scan passes through
 * without displacing it. A node that comes back after fewer evictions than
 * there are nodes would have been hit had it been kept a little longer: it
 * is not cold (the refault distance of Linux's workingset).
 *
 * When a quarter of the nodes was used, the youngest generation is full and
 * a new one begins; the two oldest become one. So a node's generation follows
 * from its last use, and nothing is written to a node as it grows older.
 */
#include "kvmd/mm/policy_state.h"

#define OLDEST (MGLRU_GENS - 1)
#define COLD   (OLDEST - 1)

static struct ilist *list_at(struct policy *p, u32 age)
{
	return &p->mglru.gen[(p->mglru.youngest + age) % MGLRU_GENS];
}

static u32 age_of(const struct policy *p, const struct policy_node *n)
{
	u32 age = 0;

	while (age < OLDEST && n->stamp < p->mglru.begin[age])
		age++;
	return min(age + (n->flags & POLICY_NODE_COLD ? COLD : 0), OLDEST);
}

static struct ilist *list_of(struct policy *p, u32 node)
{
	return list_at(p, age_of(p, policy_node(p, node)));
}

/* Every node there is older than the generations that begin now. */
static void mglru_reset(struct policy *p)
{
	struct mglru *m = &p->mglru;
	u32 g;

	m->young = 0;
	for (g = 0; g < MGLRU_GENS; g++) {
		m->begin[g] = p->clock;
		ilist_init(&m->gen[g]);
	}
}

static void gen_begin(struct policy *p)
{
	struct mglru *m = &p->mglru;
	u32 age;

	ilist_append(list_at(p, OLDEST), list_at(p, OLDEST - 1),
		     POLICY_LINKS(p));
	*list_at(p, OLDEST - 1) = *list_at(p, OLDEST);
	m->youngest = (m->youngest + OLDEST) % MGLRU_GENS;
	ilist_init(list_at(p, 0));
	for (age = OLDEST; age; age--)
		m->begin[age] = m->begin[age - 1];
	m->begin[0] = p->clock;
	m->young = 0;
}

static void mglru_use(struct policy *p, u32 node)
{
	if (policy_node(p, node)->flags & POLICY_NODE_COLD)
		return;
	if (++p->mglru.young > p->nr_used / MGLRU_GENS)
		gen_begin(p);
}

static void mglru_add(struct policy *p, u32 node)
{
	ilist_add_tail(list_of(p, node), POLICY_LINKS(p), node);
}

static void mglru_del(struct policy *p, u32 node)
{
	ilist_del(list_of(p, node), POLICY_LINKS(p), node);
}

static u32 mglru_victim(struct policy *p)
{
	u32 age = OLDEST;

	while (ilist_is_empty(list_at(p, age)))
		age--;
	return list_at(p, age)->first;
}

static const char *mglru_check(struct policy *p, u32 *nr)
{
	u32 age, i;

	for (age = 0; age < MGLRU_GENS; age++)
		ilist_for_each (i, list_at(p, age), POLICY_LINKS(p)) {
			if (list_of(p, i) != list_at(p, age) ||
			    !(policy_node(p, i)->flags & POLICY_NODE_IDLE))
				return "mglru: a node is on a wrong list";
			++*nr;
		}
	return NULL;
}

const struct policy_ops policy_mglru_ops = {
	.name = "mglru",
	.reset = mglru_reset,
	.use = mglru_use,
	.add = mglru_add,
	.del = mglru_del,
	.victim = mglru_victim,
	.check = mglru_check,
};
