/* SPDX-License-Identifier: MIT */
/*
 * test_victim.c - who gives way when the pages of a step are not there
 */
#include "selftests/runtime/engine/bed.h"

/* All with a full last page: in the next step each takes one more. */
static void at_a_page_windowed(struct bed *b, const u32 *pages, u32 nr,
			       struct request **q, u32 spare, u32 unit,
			       u32 window)
{
	struct engine_opts o = { .step_tokens = 1024,
				 .max_seqs = 16,
				 .preempt = ENGINE_PREEMPT_RECOMPUTE };
	u32 i, sum = 0;

	for (i = 0; i < nr; i++)
		sum += pages[i];
	bed_open(b, o, sum + spare);
	b->p.unit = unit;
	b->p.b.law[0].window = window; /* by which the engine reckons */
	for (i = 0; i < nr; i++)
		q[i] = submit(b, pages[i] * SIM_P, 8, 0, 1);
	step(b);
	for (i = 0; i < nr; i++)
		EXPECT_EQ(0, q[i]->nr_preempted);
	step(b);
}

static void at_a_page(struct bed *b, const u32 *pages, u32 nr,
		      struct request **q, u32 spare, u32 unit)
{
	at_a_page_windowed(b, pages, nr, q, spare, unit, 0);
}

TEST(victim, is_the_latest_that_frees_what_is_missing)
{
	static const u32 pages[] = { 12, 9, 10, 1, 1, 1, 1, 1 };
	struct request *q[ARRAY_SIZE(pages)];
	struct bed b;
	u32 i;

	/* eight pages are missing: the third has ten, and takes none then */
	at_a_page(&b, pages, ARRAY_SIZE(pages), q, 0, 1);
	EXPECT_EQ(1, stats(&b)->nr_preempted);
	EXPECT_EQ(1, q[2]->nr_preempted);
	run(&b, 100);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		EXPECT_EQ(8, tokens_of(q[i]));
	bed_close(&b);

	/* two are: the last one's page, and the one that it would take */
	at_a_page(&b, pages, ARRAY_SIZE(pages), q, 6, 1);
	EXPECT_EQ(1, stats(&b)->nr_preempted);
	EXPECT_EQ(1, q[7]->nr_preempted);
	run(&b, 100);
	bed_close(&b);
}

TEST(victim, is_who_frees_most_if_nobody_frees_that_much_but_never_the_first)
{
	static const u32 pages[] = { 20, 2, 3, 1, 1, 1, 1, 1 };
	struct request *q[ARRAY_SIZE(pages)];
	struct bed b;
	u32 i;

	at_a_page(&b, pages, ARRAY_SIZE(pages), q, 0, 1);
	EXPECT_EQ(0, q[0]->nr_preempted);
	/* 3 + 1 of 8, 2 + 1 of the 4 that are left, then the latest */
	EXPECT_EQ(1, q[2]->nr_preempted);
	EXPECT_EQ(1, q[1]->nr_preempted);
	EXPECT_EQ(1, q[7]->nr_preempted);
	EXPECT_EQ(3, stats(&b)->nr_preempted);
	run(&b, 100);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		EXPECT_EQ(8, tokens_of(q[i]));
	bed_close(&b);
}

/* A pager that counts in extents says more than what is missing. */
TEST(victim, is_who_frees_what_the_step_takes_though_an_extent_is_missing)
{
	static const u32 pages[] = { 12, 11, 10, 1, 1, 1, 1, 1 };
	struct request *q[ARRAY_SIZE(pages)];
	struct bed b;

	/* nobody has 18; the step takes eight */
	at_a_page(&b, pages, ARRAY_SIZE(pages), q, 0, 18);
	EXPECT_EQ(1, stats(&b)->nr_preempted);
	EXPECT_EQ(1, q[2]->nr_preempted);
	run(&b, 100);
	bed_close(&b);
}

/* Pages that a window leaves are the sequence's until the step has ended. */
TEST(victim, frees_what_sequences_take_that_are_past_their_windows)
{
	static const u32 pages[] = { 12, 11, 10, 4, 4, 4, 4, 4 };
	struct request *q[ARRAY_SIZE(pages)];
	struct bed b;

	at_a_page_windowed(&b, pages, ARRAY_SIZE(pages), q, 0, 18, 2 * SIM_P);
	EXPECT_EQ(1, stats(&b)->nr_preempted);
	EXPECT_EQ(1, q[2]->nr_preempted);
	run(&b, 100);
	bed_close(&b);
}

/* A request whose pages are all shared gives nothing back by going. */
TEST(victim, who_has_no_pages_alone_is_passed_over)
{
	struct engine_opts o = { .step_tokens = 128,
				 .max_seqs = 8,
				 .preempt = ENGINE_PREEMPT_RECOMPUTE };
	struct request *first, *owner, *sharer;
	struct bed b;
	u32 shared;

	bed_open(&b, o, 14);
	first = submit(&b, 30, 20, 0, 1);
	owner = submit(&b, 60, 20, 0, 1);
	sharer = submit(&b, 64, 20, 0, 1);
	step(&b);
	step(&b);
	ASSERT_EQ(64, sharer->seqs[0]->nr_computed);
	ASSERT_EQ(0,
		  sim_space_fork(&b.p.b, sharer->seqs[0]->space, 64, &shared));
	/* its next token wants a page, and there is none */
	b.p.hog = 14 - b.p.nr_used;
	step(&b);
	EXPECT_EQ(0, first->nr_preempted);
	EXPECT_EQ(1, owner->nr_preempted);
	EXPECT_EQ(0, sharer->nr_preempted);
	b.p.hog = 0;
	sim_space_destroy(&b.p.b, shared);
	run(&b, 1000);
	bed_close(&b);
}

TEST_HARNESS_MAIN
