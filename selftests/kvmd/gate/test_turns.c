/* SPDX-License-Identifier: MIT */
/* san: address */
/*
 * test_turns.c - who computes next: by weight, one at a time, nobody starves
 *
 * Clients are simulated by what they do next and when. After each event the
 * plan is made and checked: of clients whose processors meet one has the turn,
 * its holder knows who waits, and nobody waits for what is free unless an
 * earlier claim is blocked on it.
 */
#include "selftests/harness.h"
#include "kvmd/gate/turns.h"

#define MS	1000000ull
#define SECOND	1000000000ull
#define NR_MAX	12u
#define NR_CPUS 6u

enum doing { AWAY, THINKS, WAITS, RUNS };

struct client {
	enum doing doing;
	uint64_t at; /* of its next event; ~0: a grant */
	uint64_t step_ns, think_ns; /* at most; 0 think: always busy */
	uint64_t computed_ns, since_ns, until_ns;
	uint64_t asked_ns, waited_most_ns;
	bool steady; /* its times are always the most */
};

struct world {
	struct turns t;
	uint64_t now, seed;
	uint32_t nr;
	struct client c[NR_MAX];
};

static uint64_t at_most(struct world *w, const struct client *c, uint64_t ns)
{
	return c->steady || !ns ? ns : 1 + test_rand(&w->seed) % ns;
}

static uint64_t on_computed(void *host, u32 client)
{
	struct world *w = host;
	struct client *c = &w->c[client];

	return c->computed_ns + (c->doing == RUNS ? w->now - c->since_ns : 0);
}

static void begin_step(struct world *w, struct client *c)
{
	c->doing = RUNS;
	c->since_ns = w->now;
	c->at = w->now + at_most(w, c, c->step_ns);
}

static void on_grant(void *host, u32 client)
{
	struct world *w = host;
	struct client *c = &w->c[client];

	c->until_ns = 0;
	if (w->now - c->asked_ns > c->waited_most_ns)
		c->waited_most_ns = w->now - c->asked_ns;
	begin_step(w, c);
}

static void on_want(void *host, u32 client, u64 until_ns)
{
	((struct world *)host)->c[client].until_ns = until_ns;
}

static const struct turns_ops ops = { on_computed, on_grant, on_want };

static void world_begin(struct world *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	turns_init(&w->t, &ops, w);
	w->now = SECOND;
	w->seed = seed;
}

static struct client *add(struct world *w, u32 tenant, u32 weight, u64 cpus)
{
	u64 set[TURNS_CPU_WORDS] = { cpus };
	struct client *c = &w->c[w->nr];

	turns_join(&w->t, w->nr, tenant);
	turns_weight(&w->t, tenant, weight, w->now);
	turns_cpus(&w->t, w->nr, set);
	c->doing = THINKS;
	c->at = w->now;
	c->step_ns = 10 * MS;
	c->steady = true;
	w->nr++;
	return c;
}

static void ask(struct world *w, u32 i)
{
	struct client *c = &w->c[i];

	c->doing = WAITS;
	c->at = ~0ull;
	c->asked_ns = w->now;
	if (w->t.clients[i].state == TURNS_HAS)
		begin_step(w, c); /* it kept the turn */
	else
		turns_ask(&w->t, i, w->now);
}

/* Its step has ended. */
static void end_step(struct world *w, u32 i)
{
	struct client *c = &w->c[i];
	const struct turns_client *tc = &w->t.clients[i];

	c->computed_ns += w->now - c->since_ns;
	c->doing = THINKS;
	c->at = w->now + at_most(w, c, c->think_ns);
	if (tc->state == TURNS_HAS && tc->wanted && w->now >= c->until_ns)
		turns_give(&w->t, i, w->now);
}

/* One event; false: the plan is wrong. */
static bool advance(struct world *w)
{
	const char *bad;
	u32 i, next = 0;

	for (i = 0; i < w->nr; i++)
		if (w->c[i].at < w->c[next].at)
			next = i;
	w->now = w->c[next].at;
	if (w->c[next].doing == RUNS)
		end_step(w, next);
	else if (w->c[next].doing == THINKS)
		ask(w, next);
	turns_plan(&w->t, w->now);
	bad = turns_check(&w->t);
	if (bad)
		TH_LOG("at %llu ns: %s", (unsigned long long)w->now, bad);
	return !bad;
}

static void run(struct world *w, uint64_t ns)
{
	uint64_t end = w->now + ns;

	while (w->now < end)
		ASSERT_TRUE(advance(w));
}

static double share(const struct world *w, u32 i, uint64_t ns)
{
	return (double)w->c[i].computed_ns / (double)ns;
}

TEST(turns, one_alone_asks_once_and_is_told_nothing)
{
	static struct world w;

	world_begin(&w, 1);
	add(&w, 0, 100, 3);
	run(&w, SECOND);
	EXPECT_EQ(1, w.t.clients[0].nr);
	EXPECT_EQ(0, w.c[0].until_ns);
	EXPECT_NEAR(1.0, share(&w, 0, SECOND), 0.02);
}

TEST(turns, two_on_other_processors_do_not_wait)
{
	static struct world w;

	world_begin(&w, 1);
	add(&w, 0, 100, 1);
	add(&w, 1, 100, 2);
	run(&w, SECOND);
	EXPECT_EQ(1, w.t.clients[0].nr);
	EXPECT_EQ(1, w.t.clients[1].nr);
	EXPECT_EQ(0, w.c[0].waited_most_ns + w.c[1].waited_most_ns);
}

TEST(turns, of_two_each_has_what_its_weight_says)
{
	static const u32 weights[] = { 1, 50, 100, 300, 10000 };
	static struct world w;
	double want;
	u32 i;

	for (i = 0; i < sizeof(weights) / sizeof(weights[0]); i++) {
		world_begin(&w, 1);
		add(&w, 0, 100, 3);
		add(&w, 1, weights[i], 3);
		run(&w, 100 * SECOND);
		want = 100.0 / (100.0 + weights[i]);
		EXPECT_NEAR(want, share(&w, 0, 100 * SECOND), 0.01);
		EXPECT_NEAR(1 - want, share(&w, 1, 100 * SECOND), 0.01);
	}
}

TEST(turns, weights_hold_with_gaps_between_the_steps)
{
	static struct world w;
	u32 i;

	for (i = 0; i < 2; i++) {
		world_begin(&w, 1);
		add(&w, 0, 100, 3)->think_ns = MS;
		add(&w, 1, 300, 3)->think_ns = MS;
		w.c[0].step_ns = i ? 100 * MS : 8 * MS;
		run(&w, 100 * SECOND);
		EXPECT_NEAR(3.0,
			    (double)w.c[1].computed_ns /
				    (double)w.c[0].computed_ns,
			    0.3);
	}
}

TEST(turns, clients_of_a_tenant_share_evenly_what_is_the_tenants)
{
	static struct world w;
	u32 i;

	world_begin(&w, 1);
	add(&w, 0, 100, 3);
	for (i = 0; i < 3; i++)
		add(&w, 1, 100, 3)->step_ns = (5 + 20 * i) * MS;
	run(&w, 100 * SECOND);
	EXPECT_NEAR(0.5, share(&w, 0, 100 * SECOND), 0.01);
	for (i = 1; i < 4; i++)
		EXPECT_NEAR(1.0 / 6, share(&w, i, 100 * SECOND), 0.01);
}

TEST(turns, one_that_needs_all_processors_does_not_starve)
{
	static struct world w;

	world_begin(&w, 1);
	add(&w, 0, 100, 3);
	add(&w, 1, 100, 1)->step_ns = 7 * MS;
	add(&w, 2, 100, 2)->step_ns = 11 * MS;
	run(&w, 100 * SECOND);
	EXPECT_GT(share(&w, 0, 100 * SECOND), 0.4);
	EXPECT_GT(share(&w, 1, 100 * SECOND), 0.4);
	EXPECT_GT(share(&w, 2, 100 * SECOND), 0.4);
	EXPECT_LT(w.c[0].waited_most_ns, TURNS_SLACK_NS * 3);
}

TEST(turns, who_comes_back_does_not_get_the_time_it_was_away)
{
	static struct world w;
	uint64_t before;

	world_begin(&w, 1);
	add(&w, 0, 100, 3);
	add(&w, 1, 100, 3);
	w.c[1].at = ~0ull; /* away */
	run(&w, 100 * SECOND);
	w.c[1].at = w.now;
	before = w.c[0].computed_ns;
	run(&w, SECOND);
	EXPECT_GT(w.c[0].computed_ns - before, 380 * MS);
	/* and the other one does not pay for it */
	EXPECT_GT(w.c[1].computed_ns, 480 * MS);
}

TEST(turns, of_a_holder_that_does_nothing_none_is_charged)
{
	static struct world w;

	world_begin(&w, 1);
	add(&w, 0, 100, 3);
	run(&w, 20 * MS);
	end_step(&w, 0);
	w.c[0].at = ~0ull; /* idle, and nobody has taken the turn */
	w.now += 100 * SECOND;
	add(&w, 1, 100, 3);
	ask(&w, 1);
	turns_plan(&w.t, w.now);
	EXPECT_LE(w.t.clients[0].held_ns, 40 * MS);
}

/*
 * Of a tenant that gets its share on one processor the client on the other one
 * has no claim there, and computes all the same.
 */
TEST(turns, one_whose_tenant_has_its_share_elsewhere_does_not_starve)
{
	static struct world w;

	world_begin(&w, 1);
	add(&w, 0, 100, 1)->step_ns = 90 * MS; /* alone there */
	add(&w, 0, 100, 2)->step_ns = 90 * MS;
	add(&w, 1, 400, 2)->step_ns = 90 * MS;
	run(&w, 200 * SECOND);
	EXPECT_GT(w.c[1].computed_ns, 0);
	EXPECT_LT(w.c[1].waited_most_ns, TURNS_STARVE_NS + SECOND);
}

/* Anything at all, from a seed. */
static void random_world(struct world *w, uint64_t seed)
{
	u32 nr = 2 + (u32)(test_rand(&seed) % (NR_MAX - 2)), i;
	u32 weight[4];
	struct client *c;

	world_begin(w, seed);
	for (i = 0; i < 4; i++)
		weight[i] = 50 + (u32)(test_rand(&w->seed) % 200);
	for (i = 0; i < nr; i++) {
		u32 tenant = (u32)(test_rand(&w->seed) % 4);

		c = add(w, tenant, weight[tenant],
			1 + test_rand(&w->seed) % ((1u << NR_CPUS) - 1));
		c->steady = false;
		c->step_ns = 1 + test_rand(&w->seed) % (100 * MS);
		if (test_rand(&w->seed) % 2)
			c->think_ns = 1 + test_rand(&w->seed) % (50 * MS);
	}
}

/*
 * One leaves, comes back, is pinned elsewhere (then it computes to its end
 * beside whoever is there), or gets another weight.
 */
static void disturb(struct world *w)
{
	u32 i = 1 + (u32)(test_rand(&w->seed) % (w->nr - 1));
	u64 set[TURNS_CPU_WORDS] = { 1 + test_rand(&w->seed) %
						 ((1u << NR_CPUS) - 1) };
	struct client *c = &w->c[i];

	switch (test_rand(&w->seed) % 4) {
	case 0:
		if (c->doing == AWAY)
			return;
		turns_leave(&w->t, i, w->now);
		c->doing = AWAY;
		c->at = ~0ull;
		return;
	case 1:
		if (c->doing != AWAY)
			return;
		turns_join(&w->t, i, (u32)(test_rand(&w->seed) % 4));
		turns_cpus(&w->t, i, set);
		c->doing = THINKS;
		c->at = w->now;
		return;
	case 2:
		if (c->doing != AWAY && !turns_cpus(&w->t, i, set))
			turns_give(&w->t, i, w->now);
		return;
	default:
		turns_weight(&w->t, (u32)(test_rand(&w->seed) % 4),
			     50 + (u32)(test_rand(&w->seed) % 200), w->now);
	}
}

TEST(turns, whatever_comes_the_plan_is_right_and_nobody_starves)
{
	uint64_t seed = test_seed();
	static struct world w;
	uint64_t most = 0;
	u32 r, i;

	for (r = 0; r < 60; r++) {
		random_world(&w, test_rand(&seed));
		for (i = 0; i < 2000; i++) {
			ASSERT_TRUE(advance(&w));
			if (i < 1000 && i % 20 == 19)
				disturb(&w);
		}
		/* when debts are paid, all that wait have it within a bound */
		run(&w, 60 * SECOND);
		for (i = 0; i < w.nr; i++)
			w.c[i].waited_most_ns = 0;
		run(&w, 30 * SECOND);
		for (i = 0; i < w.nr; i++) {
			if (w.c[i].doing == WAITS &&
			    w.now - w.c[i].asked_ns > w.c[i].waited_most_ns)
				w.c[i].waited_most_ns = w.now - w.c[i].asked_ns;
			if (w.c[i].waited_most_ns > most)
				most = w.c[i].waited_most_ns;
		}
	}
	TH_LOG("figure: longest wait %llu ms of simulated time",
	       (unsigned long long)(most / MS));
	/* steps of 0.1 s, a tenant's share of 1/16, some clients of it */
	EXPECT_LT(most, 20 * SECOND);
}

TEST(turns, at_random_lengths_and_weights_claims_stay_together)
{
	uint64_t seed = test_seed();
	static struct world w;
	u32 r, i, nr;

	for (r = 0; r < 100; r++) {
		double v, lo = 1e30, hi = 0;

		world_begin(&w, test_rand(&seed));
		nr = 2 + (u32)(test_rand(&w.seed) % 3);
		for (i = 0; i < nr; i++) {
			u32 weight = 50 + (u32)(test_rand(&w.seed) % 200);

			add(&w, i, weight, 3)->steady = false;
			w.c[i].step_ns = 1 + test_rand(&w.seed) % (50 * MS);
		}
		run(&w, 50 * SECOND);
		for (i = 0; i < nr; i++) {
			v = (double)w.c[i].computed_ns / w.t.tenants[i].weight;
			lo = v < lo ? v : lo;
			hi = v > hi ? v : hi;
		}
		EXPECT_LT(hi / lo, 1.03);
	}
}

TEST_HARNESS_MAIN
