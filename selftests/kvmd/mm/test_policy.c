/* SPDX-License-Identifier: MIT */
/*
 * test_policy.c - each policy against a twin that looks at every node
 *
 * A random forest of nodes is used, held, let go and evicted. The twin keeps
 * what each policy promises in the plainest form, and says of every victim
 * whether it may be the one.
 */
#include "kvmd/mm/policy_state.h"
#include "lib/hash.h"
#include "selftests/harness.h"

#define NODES  300u
#define GHOSTS (8 * NODES)
#define PATHS  64u /* keys of first nodes; others follow from their parents */

struct twin_node {
	struct policy_node pol; /* the policy's, at a distance */
	u32 parent, nr_children, holds;
	bool used;
	u64 key, stamp;
	bool cold;
};

struct model {
	struct twin_node *n;
	struct policy *p;
	u64 rng, clock, evictions;
	u32 nr_used;
	u64 gone[1u << 12]; /* keys: evictions until theirs, + 1 */
	u64 begin[3]; /* of the last generations */
	u32 young;
	u32 nr_behind; /* steps that followed LRU */
	u64 trail; /* hash of all victims */
};

static size_t block_bytes(void)
{
	return NODES * sizeof(struct twin_node) + policy_bytes(NODES, GHOSTS);
}

static void model_init(struct model *m, enum policy_kind kind, u64 seed)
{
	memset(m, 0, sizeof(*m));
	m->n = calloc(1, block_bytes());
	ASSERT_TRUE(m->n);
	m->p = (void *)(m->n + NODES);
	m->rng = seed;
	policy_init(m->p, NODES, GHOSTS, &m->n[0].pol, sizeof(m->n[0]), kind);
}

static void model_fini(struct model *m)
{
	free(m->n);
}

static u32 below(struct model *m, u32 n)
{
	return (u32)(hash_random(&m->rng) % n);
}

static bool is_idle(const struct model *m, u32 i)
{
	return m->n[i].used && !m->n[i].nr_children && !m->n[i].holds;
}

static void settle(struct model *m, u32 i, bool was)
{
	if (was && !is_idle(m, i))
		policy_busy(m->p, i);
	if (!was && is_idle(m, i))
		policy_idle(m->p, i);
}

static void hold(struct model *m, u32 i, int by)
{
	bool was = is_idle(m, i);

	m->n[i].holds += (u32)by;
	settle(m, i, was);
}

/* ---- what mglru promises ---- */

static u32 age_of(const struct model *m, u32 i)
{
	u32 age = 0;

	while (age < 3 && m->n[i].stamp < m->begin[age])
		age++;
	return m->n[i].cold ? min(age + 2, 3u) : age;
}

static void twin_used(struct model *m, u32 i, bool cold)
{
	m->n[i].stamp = m->clock++;
	m->n[i].cold = cold;
	if (cold || policy_kind(m->p) != POLICY_MGLRU)
		return;
	if (++m->young > m->nr_used / 4) {
		m->begin[2] = m->begin[1];
		m->begin[1] = m->begin[0];
		m->begin[0] = m->clock;
		m->young = 0;
	}
}

static void twin_switched(struct model *m)
{
	m->young = 0;
	m->begin[0] = m->begin[1] = m->begin[2] = m->clock;
}

/* ---- the forest ---- */

static void insert(struct model *m, u32 i, u32 parent)
{
	u64 key = hash_add(parent == POLICY_NONE ? 0 : m->n[parent].key,
			   below(m, parent == POLICY_NONE ? PATHS : 3));
	u64 *gone = &m->gone[key % ARRAY_SIZE(m->gone)];
	bool was = parent != POLICY_NONE && is_idle(m, parent);
	bool cold;
	u32 k;

	for (k = 0; k < NODES; k++)
		if (m->n[k].used && m->n[k].key == key)
			return;
	m->n[i].used = true;
	m->n[i].parent = parent;
	m->n[i].key = key;
	m->n[i].nr_children = 0;
	m->n[i].holds = 1;
	m->nr_used++;
	if (parent != POLICY_NONE) {
		m->n[parent].nr_children++;
		settle(m, parent, was);
	}
	policy_insert(m->p, i, key, parent);
	/* Two keys may share a place: then its ghost is asked, as the policy */
	cold = m->n[i].pol.flags & POLICY_NODE_COLD;
	if (*gone && !cold)
		EXPECT_LT(m->evictions - (*gone - 1), NODES);
	twin_used(m, i, cold);
	hold(m, i, -1);
}

static void hit(struct model *m, u32 i)
{
	if (m->n[i].parent != POLICY_NONE)
		hit(m, m->n[i].parent);
	policy_hit(m->p, i);
	twin_used(m, i, false);
}

static void leave(struct model *m, u32 i, bool evicted)
{
	u32 up = m->n[i].parent;

	if (evicted) {
		m->gone[m->n[i].key % ARRAY_SIZE(m->gone)] = ++m->evictions;
		m->trail = hash_add(m->trail, i);
	}
	policy_remove(m->p, i, evicted);
	m->n[i].used = false;
	m->nr_used--;
	if (up != POLICY_NONE) {
		m->n[up].nr_children--;
		settle(m, up, false);
	}
}

/* ---- victims ---- */

static double value_of(const struct model *m, u32 i)
{
	const struct odds *o = &m->p->odds;
	const struct policy_node *n = &m->n[i].pol;

	return o->value[n->cls][o->slot[odds_slot_of(o, n->stamp)].age];
}

/* Is @a to go before @b? */
static bool is_worse(const struct model *m, u32 a, u32 b)
{
	enum policy_kind kind = policy_kind(m->p);

	if (kind == POLICY_MGLRU)
		return age_of(m, a) > age_of(m, b);
	if (kind == POLICY_LRU || m->p->reuse.behind)
		return m->n[a].stamp < m->n[b].stamp;
	return value_of(m, a) < value_of(m, b);
}

static void evict(struct model *m)
{
	u32 v = policy_victim(m->p), i, idle = 0;

	for (i = 0; i < NODES; i++) {
		if (!is_idle(m, i))
			continue;
		idle++;
		ASSERT_NE(v, POLICY_NONE);
		EXPECT_FALSE(is_worse(m, i, v));
	}
	EXPECT_EQ(policy_nr_idle(m->p), idle);
	for (i = 0; i < 3 && policy_kind(m->p) == POLICY_MGLRU; i++)
		EXPECT_EQ(m->p->mglru.begin[i], m->begin[i]);
	if (!idle) {
		EXPECT_EQ(v, POLICY_NONE);
		return;
	}
	ASSERT_TRUE(is_idle(m, v));
	leave(m, v, true);
}

static bool is_mine(const void *m, u32 i)
{
	return ((const struct model *)m)->n[i].used;
}

static void step(struct model *m)
{
	u32 i = below(m, NODES), what = below(m, 20);
	const char *wrong;

	if (!m->n[i].used) {
		u32 parent = below(m, NODES);

		insert(m, i,
		       m->n[parent].used && below(m, 4) ? parent : POLICY_NONE);
	} else if (what < 8) {
		hit(m, i);
	} else if (what < 10) {
		hold(m, i, 1);
	} else if (what < 13 && m->n[i].holds) {
		hold(m, i, -1);
	} else if (what == 13 && is_idle(m, i)) {
		leave(m, i, false);
	}
	if (m->nr_used > NODES * 2 / 3)
		evict(m);
	if (!below(m, 400)) /* LRU does better, or worse */
		m->p->rival.lead = below(m, 2) ? -1e9 : 1e9;
	m->nr_behind += m->p->reuse.behind;
	wrong = policy_check(m->p, is_mine, m);
	if (!EXPECT_TRUE(!wrong))
		TH_LOG("%s", wrong);
}

static u64 run(enum policy_kind kind, u64 seed, u32 steps, bool switches)
{
	struct model m;
	u32 i;

	model_init(&m, kind, seed);
	for (i = 0; i < steps; i++) {
		step(&m);
		if (switches && !below(&m, 100)) {
			policy_switch(m.p, below(&m, POLICY_NR_KINDS));
			twin_switched(&m);
		}
	}
	EXPECT_GT(m.evictions, steps / 50);
	EXPECT_GT(policy_counts(m.p)->refaults, 0);
	if (kind == POLICY_REUSE && !switches) {
		EXPECT_GT(m.nr_behind, steps / 10);
		EXPECT_LT(m.nr_behind, steps * 9 / 10);
	}
	model_fini(&m);
	return m.trail;
}

TEST(policy, lru_evicts_what_was_used_least_recently)
{
	run(POLICY_LRU, 1, 6000, false);
}

TEST(policy, mglru_evicts_from_the_oldest_generation)
{
	run(POLICY_MGLRU, 2, 6000, false);
}

TEST(policy, reuse_evicts_what_is_worth_least)
{
	run(POLICY_REUSE, 3, 12000, false);
}

TEST(policy, may_change_at_any_time)
{
	run(POLICY_REUSE, 4, 8000, true);
}

TEST(policy, does_the_same_from_the_same_seed)
{
	u32 k;

	for (k = 0; k < POLICY_NR_KINDS; k++) {
		u64 trail = run(k, 5, 2000, true);

		EXPECT_EQ(run(k, 5, 2000, true), trail);
		EXPECT_NE(run(k, 6, 2000, true), trail);
	}
}

TEST(policy, means_the_same_wherever_it_is_mapped)
{
	struct model a, b;
	u32 k, i;

	for (k = 0; k < POLICY_NR_KINDS; k++) {
		model_init(&a, k, 7);
		for (i = 0; i < 2000; i++)
			step(&a);
		b = a;
		b.n = malloc(block_bytes());
		ASSERT_TRUE(b.n);
		memcpy(b.n, a.n, block_bytes());
		memset(a.n, 0xee, block_bytes());
		model_fini(&a);
		b.p = (void *)(b.n + NODES);
		for (i = 0; i < 1000; i++)
			step(&b);
		model_fini(&b);
	}
}

TEST(policy, a_node_that_comes_back_soon_is_not_cold)
{
	struct model m;
	u32 i;

	model_init(&m, POLICY_MGLRU, 8);
	for (i = 0; i < 40; i++) {
		policy_insert(m.p, i, hash_mix(i + 1), POLICY_NONE);
		policy_idle(m.p, i);
		EXPECT_TRUE(m.n[i].pol.flags & POLICY_NODE_COLD);
	}
	policy_remove(m.p, 0, true);
	policy_insert(m.p, 0, hash_mix(1), POLICY_NONE);
	EXPECT_FALSE(m.n[0].pol.flags & POLICY_NODE_COLD);
	EXPECT_EQ(m.n[0].pol.uses, 2);
	for (i = 1; i < 40; i++)
		policy_remove(m.p, i, true);
	policy_insert(m.p, 1, hash_mix(2), POLICY_NONE);
	EXPECT_TRUE(m.n[1].pol.flags & POLICY_NODE_COLD);
	model_fini(&m);
}

static bool every_node(const void *ctx, u32 i)
{
	return true;
}

static u32 told(const struct model *m, u32 i)
{
	EXPECT_TRUE(m->n[i].pol.flags & POLICY_NODE_TOLD);
	return m->n[i].pol.cls;
}

static void path(struct model *m, u32 first, u32 end, u32 parent)
{
	u32 i;

	for (i = first; i < end; i++) {
		policy_insert(m->p, i, hash_mix(i + 1), parent);
		parent = i;
	}
	policy_idle(m->p, end - 1);
}

TEST(policy, a_page_is_told_where_in_its_request_it_lies)
{
	struct model m;
	u32 i;

	model_init(&m, POLICY_REUSE, 10);
	path(&m, 0, 12, POLICY_NONE);
	EXPECT_EQ(told(&m, 11), odds_class_fresh(0, 12, 0));
	EXPECT_EQ(told(&m, 4), odds_class_fresh(0, 12, 1));
	EXPECT_EQ(told(&m, 3), odds_class_fresh(0, 12, 2));

	/* A question about the first six: they end no request any more. */
	for (i = 0; i < 6; i++)
		policy_hit(m.p, i);
	EXPECT_FALSE(m.n[5].pol.flags & POLICY_NODE_TOLD);
	EXPECT_EQ(m.n[5].pol.cls, odds_class_again(2, 1));
	EXPECT_EQ(m.n[0].pol.cls, odds_class_again(2, 2));
	path(&m, 20, 23, 5);
	EXPECT_EQ(told(&m, 22), odds_class_fresh(1, 3, 0));
	EXPECT_EQ(told(&m, 20), odds_class_fresh(1, 3, 1));
	EXPECT_EQ(told(&m, 1), odds_class_again(2, 1));
	EXPECT_EQ(told(&m, 0), odds_class_again(2, 2));
	EXPECT_EQ(told(&m, 11), odds_class_fresh(0, 12, 0));

	/* The next turn: what ended a request lies before others now. */
	for (i = 20; i < 23; i++)
		policy_hit(m.p, i);
	policy_busy(m.p, 22);
	path(&m, 30, 70, 22);
	EXPECT_EQ(told(&m, 69), odds_class_fresh(2, 40, 0));
	EXPECT_EQ(told(&m, 22), odds_class_again(2, 2));

	/* A parent that is idle again ends no request by that. */
	policy_remove(m.p, 69, true);
	policy_idle(m.p, 68);
	EXPECT_EQ(told(&m, 68), odds_class_fresh(2, 40, 1));
	EXPECT_TRUE(!policy_check(m.p, every_node, NULL));
	model_fini(&m);
}

TEST(policy, a_path_that_comes_in_pieces_is_one)
{
	struct model m;

	model_init(&m, POLICY_REUSE, 11);
	path(&m, 0, 4, POLICY_NONE);
	EXPECT_EQ(told(&m, 0), odds_class_fresh(0, 4, 1));
	EXPECT_EQ(told(&m, 3), odds_class_fresh(0, 4, 0));
	policy_busy(m.p, 3);
	path(&m, 4, 20, 3);
	policy_busy(m.p, 19);
	path(&m, 20, 40, 19);
	EXPECT_EQ(told(&m, 0), odds_class_fresh(0, 40, 2));
	EXPECT_EQ(told(&m, 3), odds_class_fresh(0, 40, 2));
	EXPECT_EQ(told(&m, 19), odds_class_fresh(0, 40, 2));
	EXPECT_EQ(told(&m, 33), odds_class_fresh(0, 40, 1));
	EXPECT_EQ(told(&m, 39), odds_class_fresh(0, 40, 0));
	EXPECT_TRUE(!policy_check(m.p, every_node, NULL));
	model_fini(&m);
}

TEST(policy, begins_again_without_a_past)
{
	struct model m;
	u32 life, i;

	model_init(&m, POLICY_REUSE, 9);
	for (life = 0; life < 2 * GHOST_LIVES; life++) {
		for (i = 0; i < 20; i++) {
			policy_insert(m.p, i, hash_mix(i + 1), POLICY_NONE);
			policy_idle(m.p, i);
		}
		for (i = 0; i < 20; i++)
			policy_remove(m.p, i, true);
		EXPECT_EQ(policy_counts(m.p)->refaults, 0);
		EXPECT_TRUE(!policy_check(m.p, is_mine, &m));
		policy_init(m.p, NODES, GHOSTS, &m.n[0].pol, sizeof(m.n[0]),
			    POLICY_REUSE);
	}
	model_fini(&m);
}

/* Even and odd nodes are of two trees, as of two tenants. */
static bool is_even(const void *ctx, u32 i)
{
	return i % 2 == 0;
}

static bool is_odd(const void *ctx, u32 i)
{
	return i % 2;
}

TEST(policy, two_share_an_array)
{
	struct policy *p[2];
	struct policy_node *n = calloc(NODES, sizeof(*n));
	u32 i, v;

	for (i = 0; i < 2; i++) {
		p[i] = calloc(1, policy_bytes(NODES, GHOSTS));
		ASSERT_TRUE(n && p[i]);
		policy_init(p[i], NODES, GHOSTS, n, sizeof(*n), POLICY_REUSE);
	}
	for (i = 0; i < NODES; i++) {
		policy_insert(p[i % 2], i, hash_mix(i + 1), POLICY_NONE);
		policy_idle(p[i % 2], i);
	}
	for (i = 0; i < NODES; i++) {
		policy_switch(p[i % 2], (i / 2) % POLICY_NR_KINDS);
		v = policy_victim(p[i % 2]);
		ASSERT_EQ(v % 2, i % 2);
		policy_remove(p[i % 2], v, true);
		EXPECT_TRUE(!policy_check(p[0], is_even, NULL));
		EXPECT_TRUE(!policy_check(p[1], is_odd, NULL));
	}
	EXPECT_EQ(policy_victim(p[0]), POLICY_NONE);
	free(p[0]);
	free(p[1]);
	free(n);
}

TEST(policy, names_are_parsed)
{
	u32 k;

	for (k = 0; k < POLICY_NR_KINDS; k++)
		EXPECT_EQ(policy_kind_parse(policy_kind_name(k)), (int)k);
	EXPECT_EQ(policy_kind_parse("fifo"), -1);
}

TEST_HARNESS_MAIN
