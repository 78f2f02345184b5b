/* SPDX-License-Identifier: MIT */
/*
 * test_budget.c - the budget of a step on machines whose law is known
 *
 * A machine takes step + token * tokens + row * rows + work * work seconds,
 * times a noise and a load that change as the test says. The best budget is
 * computed from that law, the tested one knows only what steps took.
 */
#include <math.h>

#include "runtime/engine/budget.h"
#include "selftests/harness.h"

#define TILE 16u
#define MOST 512u

struct machine {
	double term[LAW_TERMS];
	double load; /* everything takes so many times as long */
	double noise; /* a time is off by up to this share */
	u64 seed;
};

static double takes(const struct machine *m, const struct law_load *l)
{
	return m->load *
	       (m->term[LAW_STEP] + m->term[LAW_TOKEN] * l->tokens +
		m->term[LAW_ROW] * l->rows + m->term[LAW_WORK] * l->work);
}

static double measured(struct machine *m, const struct law_load *l)
{
	return takes(m, l) * (1 + m->noise * (2 * test_uniform(&m->seed) - 1));
}

/* So many decodes with a context each, filled up to @tokens with a prompt. */
static struct law_load step_of(u32 decodes, u32 context, u32 tokens)
{
	u32 chunk = tokens - min(tokens, decodes);

	return (struct law_load){
		.tokens = decodes + chunk,
		.rows = decodes,
		.work = decodes * context * 1e-3 + 0.5e-3 * chunk * chunk,
	};
}

/* The law's own budget for a step with these decodes and a prompt at 0. */
static u32 best(const struct machine *m, double target, u32 decodes,
		u32 context)
{
	struct law_load l;
	u32 tokens, ok = TILE;

	for (tokens = TILE; tokens <= MOST; tokens += TILE) {
		l = step_of(decodes, context, tokens);
		if (takes(m, &l) <= target)
			ok = tokens;
	}
	return max(ok, decodes + TILE);
}

/* Serve so many steps: decodes come and go, a prompt fills what is left. */
static u32 serve(struct budget *b, struct machine *m, u32 steps, double *over)
{
	u32 i, decodes = 8, late = 0, tokens = 0;

	for (i = 0; i < steps; i++) {
		struct law_load l;

		if (i % 7 == 0)
			decodes = 4 + (u32)(test_rand(&m->seed) % 24);
		l = step_of(decodes, 300, decodes);
		tokens = budget_tokens(b, &l, 0, false);
		EXPECT_GE(tokens, decodes + TILE);
		EXPECT_LE(tokens, MOST);
		l = step_of(decodes, 300, i % 3 ? tokens : decodes);
		budget_saw(b, &l, measured(m, &l));
		late += takes(m, &l) > b->target_s;
	}
	*over = (double)late / steps;
	return tokens;
}

static struct machine usual(void)
{
	return (struct machine){ .term = { 0.010, 0.0003, 0.0004, 0.0006 },
				 .load = 1,
				 .seed = 3 };
}

/* What the engine's profile does. */
static void profile(struct budget *b, struct machine *m)
{
	static const u32 piece[][2] = { { 16, 1 },   { 16, 16 }, { 128, 1 },
					{ 256, 16 }, { 16, 1 },	 { 1, 1 },
					{ 64, 16 } };
	u32 i, pos = 16;

	for (i = 0; i < ARRAY_SIZE(piece); i++) {
		struct law_load l = { .tokens = piece[i][0],
				      .rows = piece[i][1] };

		l.work = l.tokens * (pos + l.tokens / 2.0) * 1e-3;
		budget_saw(b, &l, measured(m, &l));
		pos += piece[i][0];
	}
	budget_fit(b);
}

static void expect_near(double want, double got, double share)
{
	if (!EXPECT_TRUE(fabs(got - want) <= share * want))
		TH_LOG("wanted %g, got %g", want, got);
}

TEST(budget, what_is_not_known_is_a_few_tiles)
{
	struct law_load none = { 0 }, many = { .tokens = 100, .rows = 100 };
	struct budget b;

	budget_init(&b, 0.1, TILE, MOST);
	EXPECT_EQ(budget_tokens(&b, &none, 0, false), 64);
	/* a prompt gets on whatever there is beside it */
	EXPECT_EQ(budget_tokens(&b, &many, 0, false), 116);
}

TEST(budget, a_profile_finds_the_terms)
{
	struct machine m = usual();
	struct budget b;
	u32 i;

	budget_init(&b, 0.1, TILE, MOST);
	profile(&b, &m);
	for (i = 0; i < LAW_TERMS; i++)
		expect_near(m.term[i], b.law.term[i], 0.01);
}

TEST(budget, it_is_the_most_that_ends_in_time)
{
	u32 decodes[] = { 1, 8, 32, 60 }, i, t, want;
	struct machine m = usual();
	struct budget b;

	for (t = 15; t <= 120; t += 15)
		for (i = 0; i < ARRAY_SIZE(decodes); i++) {
			struct law_load l =
				step_of(decodes[i], 300, decodes[i]);

			budget_init(&b, t * 1e-3, TILE, MOST);
			profile(&b, &m);
			for (u32 k = 0; k < 20; k++)
				budget_tokens(&b, &l, 0, false);
			want = best(&m, t * 1e-3, decodes[i], 300);
			/* it keeps clear of errors, if they are small */
			EXPECT_LE(budget_tokens(&b, &l, 0, false), want);
			EXPECT_GE(budget_tokens(&b, &l, 0, false) + TILE, want);
			EXPECT_TRUE(budget_tokens(&b, &l, 0, false) % TILE ==
					    0 ||
				    budget_tokens(&b, &l, 0, false) ==
					    decodes[i] + TILE);
		}
}

TEST(budget, far_into_a_prompt_it_is_smaller)
{
	struct law_load l = step_of(4, 100, 4);
	struct machine m = usual();
	struct budget b;
	u32 near;

	budget_init(&b, 0.080, TILE, MOST);
	profile(&b, &m);
	for (u32 k = 0; k < 20; k++)
		near = budget_tokens(&b, &l, 0, false);
	EXPECT_LT(budget_tokens(&b, &l, 1000, false), near);
}

TEST(budget, a_prompt_that_is_scored_has_rows_in_the_budget)
{
	struct law_load none = step_of(4, 100, 4), l;
	struct machine m = usual();
	double target = 0.080;
	struct budget b;
	u32 got, k;

	budget_init(&b, target, TILE, MOST);
	profile(&b, &m);
	for (k = 0; k < 20; k++)
		got = budget_tokens(&b, &none, 0, true);
	EXPECT_LT(got, best(&m, target, 4, 100) - TILE);
	for (k = 0; k < 2; k++) {
		l = step_of(4, 100, got + k * TILE);
		l.rows = l.tokens;
		EXPECT_EQ(k == 0, takes(&m, &l) <= target);
	}
}

TEST(budget, with_noise_few_steps_are_late)
{
	struct machine m = usual();
	struct budget b;
	double over;
	u32 got;

	m.noise = 0.15;
	budget_init(&b, 0.080, TILE, MOST);
	profile(&b, &m);
	serve(&b, &m, 200, &over);
	got = serve(&b, &m, 1000, &over);
	EXPECT_TRUE(over <= 0.02);
	/* and it does not give everything up for that */
	EXPECT_GE(got, best(&m, 0.080 / 1.5, 16, 300));
}

TEST(budget, without_a_profile_it_is_found_while_serving)
{
	struct machine m = usual();
	struct budget b;
	double over;
	u32 got;

	m.noise = 0.03;
	budget_init(&b, 0.080, TILE, MOST);
	serve(&b, &m, 400, &over);
	got = serve(&b, &m, 400, &over);
	EXPECT_TRUE(over <= 0.02);
	EXPECT_GE(got, best(&m, 0.080 / 1.3, 16, 300));
}

TEST(budget, others_on_the_machine_are_noticed_by_decodes_alone)
{
	struct machine m = usual();
	struct budget b;
	double before, over;
	u32 i;

	budget_init(&b, 0.080, TILE, MOST);
	profile(&b, &m);
	serve(&b, &m, 200, &over);
	before = b.tokens;
	m.load = 2;
	for (i = 0; i < 24; i++) {
		struct law_load l = step_of(8, 300, 8);

		budget_saw(&b, &l, measured(&m, &l));
	}
	/* no prompt has been computed since, and it knows what one takes */
	expect_near(2 * m.term[LAW_TOKEN], b.law.term[LAW_TOKEN], 0.15);
	serve(&b, &m, 50, &over);
	EXPECT_LT(b.tokens, before);
	EXPECT_TRUE(over <= 0.05);
	m.load = 1;
	serve(&b, &m, 200, &over);
	expect_near(before, b.tokens, 0.25);
}

TEST(budget, a_machine_whose_terms_move_is_learnt_again)
{
	struct machine m = usual();
	struct budget b;
	double over;

	m.noise = 0.02;
	budget_init(&b, 0.080, TILE, MOST);
	profile(&b, &m);
	serve(&b, &m, 200, &over);
	m.term[LAW_TOKEN] *= 1.6; /* only products are slower */
	serve(&b, &m, 400, &over);
	expect_near(m.term[LAW_TOKEN], b.law.term[LAW_TOKEN], 0.1);
	expect_near(m.term[LAW_STEP], b.law.term[LAW_STEP], 0.3);
}

TEST(budget, steps_that_are_alike_do_not_unsettle_it)
{
	struct machine m = usual();
	struct budget b;
	u32 i, t;

	m.noise = 0.1;
	budget_init(&b, 0.080, TILE, MOST);
	profile(&b, &m);
	for (i = 0; i < 5000; i++) {
		struct law_load l = step_of(16, 300, 16);

		budget_saw(&b, &l, measured(&m, &l));
	}
	for (t = 0; t < LAW_TERMS; t++)
		EXPECT_TRUE(b.law.term[t] >= 0);
	/* what a prompt takes is still known to within a half */
	expect_near(m.term[LAW_TOKEN], b.law.term[LAW_TOKEN], 0.5);
}

TEST(budget, it_goes_down_at_once_and_up_after_a_while)
{
	struct law_load few = step_of(2, 10, 2), many = step_of(60, 2000, 60);
	struct machine m = usual();
	struct budget b;
	u32 low, k;

	budget_init(&b, 0.100, TILE, MOST);
	profile(&b, &m);
	for (k = 0; k < 20; k++)
		budget_tokens(&b, &few, 0, false);
	budget_tokens(&b, &many, 0, false);
	low = b.tokens;
	EXPECT_LT(low, best(&m, 0.100, 2, 10));
	for (k = 0; k < 7; k++)
		EXPECT_EQ(budget_tokens(&b, &few, 0, false), low);
	EXPECT_GT(budget_tokens(&b, &few, 0, false), low);
}

TEST(budget, a_target_that_cannot_be_met_leaves_a_tile)
{
	struct law_load l = step_of(40, 300, 40);
	struct machine m = usual();
	struct budget b;
	u32 k;

	budget_init(&b, 0.001, TILE, MOST);
	profile(&b, &m);
	for (k = 0; k < 20; k++)
		EXPECT_EQ(budget_tokens(&b, &l, 0, false), 56);
}

TEST(budget, random_machines_are_met)
{
	u64 seed = test_seed();
	u32 i, t;

	for (i = 0; i < 200; i++) {
		struct machine m = { .load = 1, .seed = seed + i };
		struct budget b;
		double over, target;

		m.term[LAW_STEP] = 0.001 + 0.05 * test_uniform(&seed);
		for (t = 1; t < LAW_TERMS; t++)
			m.term[t] = 0.002 * test_uniform(&seed);
		m.noise = 0.1 * test_uniform(&seed);
		/* what 28 decodes and two tiles take, and up to as much more */
		target = (m.term[LAW_STEP] + 60 * m.term[LAW_TOKEN] +
			  28 * m.term[LAW_ROW] + 9 * m.term[LAW_WORK]) *
			 (1.5 + test_uniform(&seed));
		budget_init(&b, target, TILE, MOST);
		profile(&b, &m);
		serve(&b, &m, 100, &over);
		serve(&b, &m, 300, &over);
		if (!EXPECT_TRUE(over <= 0.05))
			TH_LOG("machine %u: %.3f late", i, over);
	}
}

TEST_HARNESS_MAIN
