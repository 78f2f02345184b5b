/* SPDX-License-Identifier: MIT */
/*
 * test_check.c - engine_check() sees what should not be
 */
#include "selftests/runtime/engine/bed.h"

TEST(sched, the_check_sees_who_was_overtaken)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 8 };
	struct request *second;
	struct bed b;

	bed_open(&b, o, 512);
	submit(&b, 20, 20, 0, 1);
	second = submit(&b, 20, 20, 0, 1);
	step(&b);
	second->nr_iters += 2;
	EXPECT_EQ(-EINVAL, engine_check(b.r.e, b.r.err));
	second->nr_iters -= 2;
	EXPECT_EQ(0, engine_check(b.r.e, b.r.err));
	run(&b, 100);
	bed_close(&b);
}

TEST(sched, the_check_sees_who_runs_and_is_not_listed)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 1 };
	struct request *first, *queued;
	struct bed b;

	bed_open(&b, o, 512);
	first = submit(&b, 20, 20, 0, 1);
	queued = submit(&b, 20, 20, 0, 1);
	step(&b);
	queued->state = REQUEST_RUNNING;
	EXPECT_EQ(-EINVAL, engine_check(b.r.e, b.r.err));
	queued->state = REQUEST_WAITING;
	first->state = REQUEST_WAITING;
	EXPECT_EQ(-EINVAL, engine_check(b.r.e, b.r.err));
	first->state = REQUEST_RUNNING;
	queued->comes = true;
	EXPECT_EQ(-EINVAL, engine_check(b.r.e, b.r.err));
	queued->comes = false;
	EXPECT_EQ(0, engine_check(b.r.e, b.r.err));
	run(&b, 100);
	bed_close(&b);
}

TEST(sched, the_check_sees_who_goes_on_from_a_prompt_that_others_wait_for)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 4 };
	struct request *q;
	struct bed b;
	u32 space;

	bed_open(&b, o, 512);
	q = submit(&b, 20, 20, 0, 2);
	step(&b);
	step(&b);
	space = q->seqs[1]->space;
	q->seqs[1]->space = KV_SPACE_NONE;
	EXPECT_EQ(-EINVAL, engine_check(b.r.e, b.r.err));
	q->seqs[1]->space = space;
	EXPECT_EQ(0, engine_check(b.r.e, b.r.err));
	run(&b, 100);
	bed_close(&b);
}

TEST_HARNESS_MAIN
