/* SPDX-License-Identifier: MIT */
/*
 * test_cancel.c - a request that is cancelled gives its pages up at once, in
 *	whatever state it is
 */
#include "runtime/engine/engine_priv.h"
#include "selftests/runtime/engine/bed.h"

/* Cancelled, what it held is free before the next step has run. */
static void cancel_frees(struct bed *b, struct request *q, u32 others)
{
	engine_cancel(b->r.e, q);
	EXPECT_EQ(REQUEST_DONE, q->state);
	EXPECT_EQ(others, b->p.nr_used);
	EXPECT_EQ(0, b->p.nr_out);
}

TEST(cancel, queued)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 1 };
	struct request *q;
	struct bed b;

	bed_open(&b, o, 64);
	submit(&b, 10, 50, 0, 1);
	q = submit(&b, 100, 50, 0, 1);
	step(&b);
	cancel_frees(&b, q, 1);
	run(&b, 100);
	EXPECT_EQ(0, q->nr_iters);
	bed_close(&b);
}

TEST(cancel, between_two_chunks_of_its_prompt)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 4 };
	struct request *q;
	struct bed b;

	bed_open(&b, o, 64);
	q = submit(&b, 300, 50, 0, 1);
	step(&b);
	step(&b);
	EXPECT_EQ(8, b.p.nr_used);
	cancel_frees(&b, q, 0);
	bed_close(&b);
}

TEST(cancel, decoding_with_samples)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 8 };
	struct request *q;
	struct bed b;

	bed_open(&b, o, 64);
	q = submit(&b, 40, 50, 0, 4);
	step(&b);
	step(&b);
	EXPECT_GT(b.p.nr_used, 4);
	cancel_frees(&b, q, 0);
	bed_close(&b);
}

TEST(cancel, waiting_to_be_computed_again)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 4,
				 .preempt = ENGINE_PREEMPT_RECOMPUTE };
	struct request *q, *other;
	struct bed b;

	bed_open(&b, o, 16);
	other = submit(&b, 60, 150, 0, 1);
	q = submit(&b, 60, 150, 0, 1);
	while (!q->nr_preempted)
		step(&b);
	EXPECT_EQ(REQUEST_WAITING, q->state);
	cancel_frees(&b, q, b.p.nr_used);
	run(&b, 300);
	EXPECT_EQ(150, tokens_of(other));
	bed_close(&b);
}

TEST(cancel, waiting_with_its_pages_in_swap)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 4,
				 .slice_ms = 60000,
				 .preempt = ENGINE_PREEMPT_SWAP };
	struct request *q, *other;
	struct bed b;

	bed_open(&b, o, 16);
	b.p.swap_pages = 64;
	other = submit(&b, 60, 150, 0, 1);
	q = submit(&b, 60, 150, 0, 1);
	while (!b.p.nr_out)
		step(&b);
	EXPECT_EQ(REQUEST_WAITING, q->state);
	engine_cancel(b.r.e, q);
	EXPECT_EQ(0, b.p.nr_out);
	EXPECT_EQ(DIV_ROUND_UP(other->seqs[0]->nr_computed, SIM_P),
		  b.p.nr_used);
	run(&b, 300);
	EXPECT_EQ(150, tokens_of(other));
	bed_close(&b);
}

/* The others waited for its space for ever, and the engine spun. */
TEST(cancel, the_sample_that_computes_the_prompt_again_for_the_others)
{
	struct engine_opts o = { .step_tokens = 32, .max_seqs = 8 };
	struct request *q;
	struct bed b;

	bed_open(&b, o, 64);
	q = submit(&b, 100, 20, 0, 3);
	while (q->nr_seqs < 3 || seq_nr_new(q->seqs[0]) < 5)
		ASSERT_EQ(1, step(&b));
	engine_give_back(b.r.e, 1);
	ASSERT_EQ(REQUEST_WAITING, q->state);
	ASSERT_EQ(1, step(&b));
	ASSERT_EQ(32, q->seqs[0]->nr_computed);
	engine_cancel_seq(b.r.e, q, 0);
	EXPECT_EQ(32, q->seqs[1]->nr_computed);
	run(&b, 100);
	EXPECT_EQ(REQUEST_DONE, q->state);
	EXPECT_EQ(5 + 20 + 20, tokens_of(q));
	bed_close(&b);
}

TEST(cancel, waiting_alone_for_memory_that_others_have)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 4 };
	struct request *q;
	struct bed b;

	bed_open(&b, o, 16);
	q = submit(&b, 60, 150, 0, 1);
	step(&b);
	b.p.hog = 16 - b.p.nr_used;
	while (!stats(&b)->nr_waits)
		ASSERT_EQ(1, step(&b));
	EXPECT_NE(REQUEST_DONE, q->state);
	cancel_frees(&b, q, 0);
	EXPECT_EQ(0, step(&b));
	bed_close(&b);
}

/* Whom an event of another request's ends. */
struct ender {
	struct bed *b;
	struct request *victim;
	bool one; /* its first sample only */
};

static void end_victim(struct request *r, void *ctx)
{
	struct ender *x = ctx;

	(void)r;
	if (x->one)
		engine_cancel_seq(x->b->r.e, x->victim, 0);
	else
		engine_cancel(x->b->r.e, x->victim);
}

/* Whoever is told of an admission may end somebody who is in the step. */
static void end_at_admission(bool planned, u32 n, bool one)
{
	static const struct request_events events = { .begun = end_victim };
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 16,
				 .one_by_one = !planned };
	struct request *other, *q;
	struct ender x;
	struct bed b;

	bed_open(&b, o, 64);
	x = (struct ender){ &b, submit(&b, 20, 50, 0, n), one };
	other = submit(&b, 20, 50, 0, 1);
	step(&b);
	step(&b);
	q = submit(&b, 20, 10, 0, 1);
	q->p.events = &events;
	q->p.ctx = &x;
	ASSERT_EQ(1, step(&b));
	EXPECT_EQ(one ? REQUEST_RUNNING : REQUEST_DONE, x.victim->state);
	EXPECT_EQ(n * 2 + (n - 1) * one, tokens_of(x.victim));
	run(&b, 100);
	EXPECT_EQ(10, tokens_of(q));
	EXPECT_EQ(50, tokens_of(other));
	EXPECT_EQ(one ? 2 + 50 * (n - 1) : n * 2, tokens_of(x.victim));
	bed_close(&b);
}

TEST(cancel, of_one_in_the_step_when_somebody_else_is_admitted)
{
	end_at_admission(true, 1, false);
	end_at_admission(false, 1, false);
	end_at_admission(true, 4, false);
	end_at_admission(true, 4, true);
	end_at_admission(false, 4, true);
}

TEST(cancel, one_of_samples_that_are_not_there_yet_ends_nobody)
{
	struct engine_opts o = { .step_tokens = 32, .max_seqs = 8 };
	struct request *q;
	struct bed b;

	bed_open(&b, o, 64);
	q = submit(&b, 100, 20, 0, 3);
	step(&b);
	engine_cancel_seq(b.r.e, q, 0);
	EXPECT_EQ(REQUEST_RUNNING, q->state);
	run(&b, 100);
	EXPECT_EQ(3 * 20, tokens_of(q));
	bed_close(&b);
}

/* A crowd came in, only to be thrown out again. */
TEST(cancel, queued_ones_say_nothing_of_memory)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 32,
				 .preempt = ENGINE_PREEMPT_RECOMPUTE,
				 .admit = ENGINE_ADMIT_OVERCOMMIT };
	struct request *q[20];
	struct bed b;
	u32 i, cap;

	bed_open(&b, o, 16);
	for (i = 0; i < 20; i++)
		q[i] = submit(&b, 30, 100, 0, 1);
	while (!stats(&b)->nr_preempted)
		step(&b);
	cap = b.r.e->admit_cap;
	EXPECT_TRUE(b.r.e->admit_hold);
	for (i = 0; i < 20; i++)
		if (!q[i]->has_begun)
			engine_cancel(b.r.e, q[i]);
	EXPECT_TRUE(b.r.e->admit_hold);
	EXPECT_EQ(cap, b.r.e->admit_cap);
	run(&b, 1000);
	bed_close(&b);
}

TEST_HARNESS_MAIN
