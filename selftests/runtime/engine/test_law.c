/* SPDX-License-Identifier: MIT */
/*
 * test_law.c - what a step takes
 */
#include "runtime/engine/law.h"
#include "runtime/model/forward.h"
#include "selftests/harness.h"

/* From the definition, and not by the functions that are tested. */
static double takes(const struct law *law, const struct law_load *l)
{
	return law->term[LAW_STEP] + law->term[LAW_TOKEN] * l->tokens +
	       law->term[LAW_ROW] * l->rows + law->term[LAW_WORK] * l->work;
}

static struct law_load any_load(u64 *seed)
{
	struct law_load l = { .tokens = 1 + (u32)(test_rand(seed) % 256),
			      .rows = (u32)(test_rand(seed) % 32) };

	l.work = l.tokens * test_uniform(seed) * 4;
	return l;
}

TEST(law, the_fit_finds_the_terms_that_made_the_steps)
{
	u64 seed = test_seed();
	u32 round, i;

	for (round = 0; round < 200; round++) {
		struct law_sums sums = { 0 };
		struct law want, got = { 0 };

		want.term[LAW_STEP] = 1e-3 + 0.05 * test_uniform(&seed);
		for (i = 1; i < LAW_TERMS; i++)
			want.term[i] = 1e-5 + 2e-3 * test_uniform(&seed);
		for (i = 0; i < 64; i++) {
			struct law_load l = any_load(&seed);

			law_see(&sums, &l, takes(&want, &l), 0);
		}
		EXPECT_TRUE(!law_is_known(&got));
		law_fit(&got, &sums, 1e-9);
		EXPECT_TRUE(law_is_known(&got));
		for (i = 0; i < LAW_TERMS; i++)
			EXPECT_NEAR(got.term[i] / want.term[i], 1, 1e-4);
		for (i = 0; i < 8; i++) {
			struct law_load l = any_load(&seed);

			EXPECT_NEAR(law_seconds(&got, &l), takes(&want, &l),
				    1e-6);
		}
	}
}

/* A step that gets shorter with its rows would have a negative term. */
TEST(law, no_term_is_negative)
{
	u64 seed = test_seed();
	struct law_sums sums = { 0 };
	struct law got = { 0 };
	u32 i;

	for (i = 0; i < 200; i++) {
		struct law_load l = any_load(&seed);

		law_see(&sums, &l,
			0.1 + 0.001 * l.tokens - 0.001 * l.rows + 1e-3 * l.work,
			0);
	}
	law_fit(&got, &sums, 1e-9);
	EXPECT_TRUE(got.term[LAW_ROW] == 0);
	for (i = 0; i < LAW_TERMS; i++)
		EXPECT_TRUE(got.term[i] >= 0);
	EXPECT_GT(got.term[LAW_TOKEN], 0.0005);
}

TEST(law, steps_that_are_alike_leave_alone_what_they_do_not_say)
{
	const struct law_load l = { .tokens = 8, .rows = 8, .work = 2.4 };
	const struct law_load prompt = { .tokens = 128, .rows = 1, .work = 8 };
	struct law law = { { 0.010, 0.0003, 0.0004, 0.0006 } }, was = law;
	struct law_sums sums = { 0 };
	u32 i;

	for (i = 0; i < 1000; i++) {
		law_see(&sums, &l, 1.1 * takes(&was, &l), 1.0 / 64);
		law_fit(&law, &sums, 0.01);
	}
	/* what they say is learnt, what they do not is not forgotten */
	EXPECT_NEAR(law_seconds(&law, &l), 1.1 * takes(&was, &l), 1e-4);
	EXPECT_GT(law_seconds(&law, &prompt), 0.8 * takes(&was, &prompt));
	EXPECT_LT(law_seconds(&law, &prompt), 1.3 * takes(&was, &prompt));
}

TEST(law, what_is_forgotten_does_not_count)
{
	const struct law before = { { 0.010, 0.001, 0.0004, 0.0006 } };
	const struct law after = { { 0.010, 0.0002, 0.0004, 0.0006 } };
	struct law_sums sums = { 0 };
	struct law got = { 0 };
	u64 seed = test_seed();
	u32 i;

	for (i = 0; i < 2000; i++) {
		struct law_load l = any_load(&seed);

		law_see(&sums, &l, takes(i < 1000 ? &before : &after, &l),
			1.0 / 32);
	}
	law_fit(&got, &sums, 1e-9);
	for (i = 0; i < LAW_TERMS; i++)
		EXPECT_NEAR(got.term[i] / after.term[i], 1, 1e-3);
}

/* The rows that each token reads, counted one by one. */
TEST(law, a_window_is_not_looked_through)
{
	struct model m = { .nr_areas = 2 };
	const struct forward_seq seqs[] = { { .nr_rows = 1, .pos0 = 4000 },
					    { .nr_rows = 64, .pos0 = 100 } };
	const struct forward_batch b = {
		.nr_tokens = 65, .nr_seqs = 2, .nr_out = 2, .seqs = seqs
	};
	double rows = 0;
	struct law_load l;
	u32 i, k;

	m.area[0].nr_layers = 15;
	m.area[0].window = 512;
	m.area[1].nr_layers = 3;
	for (i = 0; i < b.nr_seqs; i++)
		for (k = 0; k < seqs[i].nr_rows; k++)
			rows += 15.0 * min(seqs[i].pos0 + k + 1, 512u) +
				3.0 * (seqs[i].pos0 + k + 1);
	l = law_load_of(&m, &b);
	EXPECT_EQ(65, l.tokens);
	EXPECT_EQ(2, l.rows);
	EXPECT_NEAR(l.work, rows / 18 * 1e-3, 1e-9);
}

TEST_HARNESS_MAIN
