/* SPDX-License-Identifier: MIT */
/*
 * test_victim.c - who gives way when the pages of a step are not there
 */
#include "selftests/runtime/engine/bed.h"

#define NR 8u

/* Requests of so many pages, and what they do not find. */
struct shortage {
	u32 pages[NR];
	u32 spare; /* pages more than they have; each wants one */
	u32 unit; /* of the pager's word for what is missing; 0: pages */
	u32 window; /* by which the engine reckons */
};

/* All with a full last page: in the next step each takes one more. */
static void at_a_page(struct bed *b, const struct shortage *s,
		      struct request **q)
{
	struct engine_opts o = { .step_tokens = 1024,
				 .max_seqs = 16,
				 .preempt = ENGINE_PREEMPT_RECOMPUTE };
	u32 i, sum = s->spare;

	for (i = 0; i < NR; i++)
		sum += s->pages[i];
	bed_open(b, o, sum);
	b->p.unit = s->unit;
	b->p.b.law[0].window = s->window;
	for (i = 0; i < NR; i++)
		q[i] = submit(b, s->pages[i] * SIM_P, 8, 0, 1);
	step(b);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(0, q[i]->nr_preempted);
	step(b);
}

/* All get to their ends all the same. */
static void go_on(struct bed *b, struct request *const *q)
{
	u32 i;

	run(b, 100);
	for (i = 0; i < NR; i++)
		EXPECT_EQ(8, tokens_of(q[i]));
	bed_close(b);
}

static void expect_one(const struct shortage *s, u32 victim)
{
	struct request *q[NR];
	struct bed b;

	at_a_page(&b, s, q);
	EXPECT_EQ(1, stats(&b)->nr_preempted);
	EXPECT_EQ(1, q[victim]->nr_preempted);
	go_on(&b, q);
}

TEST(victim, is_the_latest_that_frees_what_is_missing)
{
	struct shortage s = { .pages = { 12, 9, 10, 1, 1, 1, 1, 1 } };

	/* eight pages are missing: the third has ten, and takes none then */
	expect_one(&s, 2);
	/* two are: the last one's page, and the one that it would take */
	s.spare = 6;
	expect_one(&s, 7);
}

TEST(victim, is_who_frees_most_if_nobody_frees_that_much_but_never_the_first)
{
	struct shortage s = { .pages = { 20, 2, 3, 1, 1, 1, 1, 1 } };
	struct request *q[NR];
	struct bed b;

	at_a_page(&b, &s, q);
	EXPECT_EQ(0, q[0]->nr_preempted);
	/* 3 + 1 of 8, 2 + 1 of the 4 that are left, then the latest */
	EXPECT_EQ(1, q[2]->nr_preempted);
	EXPECT_EQ(1, q[1]->nr_preempted);
	EXPECT_EQ(1, q[7]->nr_preempted);
	EXPECT_EQ(3, stats(&b)->nr_preempted);
	go_on(&b, q);
}

/* A pager that counts in extents says more than what is missing. */
TEST(victim, is_who_frees_what_the_step_takes_though_an_extent_is_missing)
{
	struct shortage s = { .pages = { 12, 11, 10, 1, 1, 1, 1, 1 },
			      .unit = 18 };

	/* nobody has 18; the step takes eight */
	expect_one(&s, 2);
}

/* Pages that a window leaves are the sequence's until the step has ended. */
TEST(victim, frees_what_sequences_take_that_are_past_their_windows)
{
	struct shortage s = { .pages = { 12, 11, 10, 4, 4, 4, 4, 4 },
			      .unit = 18,
			      .window = 2 * SIM_P };

	expect_one(&s, 2);
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

/* What is kept of one that is done goes before another one waits for nothing.
 */
TEST(victim, is_nobody_while_pages_are_kept_that_nobody_computes_with)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 4 };
	struct request *kept, *q;
	struct bed b;

	bed_open(&b, o, 16);
	kept = submit(&b, 150, 20, 0, 1);
	kept->p.keep = true;
	run(&b, 100);
	EXPECT_LT(8, b.p.nr_used);
	q = submit(&b, 150, 20, 0, 1);
	run(&b, 100);
	EXPECT_EQ(0, q->error);
	EXPECT_EQ(20, tokens_of(q));
	EXPECT_EQ(0, stats(&b)->nr_waits);
	engine_forget(b.r.e, kept);
	bed_close(&b);
}

/* All of it leaves for swap, whoever else would be first. */
static void put_out(struct bed *b, const struct request *q)
{
	struct sim_space *p = &b->p.space[q->seqs[0]->space];
	u32 i;

	for (i = 0; i < p->nr; i++) {
		sim_put(&b->p, p->frame[i]);
		p->frame[i] = SIM_OUT;
		b->p.nr_out++;
	}
}

/* One that is done and keeps its ten pages. */
static struct request *keep_one(struct bed *b)
{
	struct request *q = submit(b, 150, 10, 0, 1);

	q->p.keep = true;
	run(b, 100);
	return q;
}

static bool is_kept(const struct request *q)
{
	return q->seqs[0]->space != KV_SPACE_NONE;
}

TEST(idle, what_lies_in_swap_is_kept_while_its_going_frees_nothing)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 4 };
	struct request *kept, *q;
	struct bed b;

	bed_open(&b, o, 16);
	b.p.swap_pages = 64;
	kept = keep_one(&b);
	put_out(&b, kept);
	b.p.hog = 14;
	q = submit(&b, 64, 10, 0, 1);
	step(&b);
	EXPECT_TRUE(is_kept(kept));
	EXPECT_EQ(32, q->seqs[0]->nr_computed); /* a chunk of two pages */
	b.p.hog = 0;
	run(&b, 100);
	EXPECT_EQ(10, tokens_of(q));
	EXPECT_TRUE(is_kept(kept));
	engine_forget(b.r.e, kept);
	bed_close(&b);
}

TEST(idle, who_is_on_the_device_goes_before_a_later_one_in_swap)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 4 };
	struct request *here, *out, *q;
	struct bed b;

	bed_open(&b, o, 24);
	here = keep_one(&b);
	out = keep_one(&b);
	put_out(&b, out);
	b.p.swap_pages = b.p.nr_out; /* it is full */
	b.p.hog = 12;
	q = submit(&b, 64, 10, 0, 1);
	run(&b, 100);
	EXPECT_EQ(10, tokens_of(q));
	EXPECT_FALSE(is_kept(here));
	EXPECT_TRUE(is_kept(out));
	engine_forget(b.r.e, here);
	engine_forget(b.r.e, out);
	bed_close(&b);
}

TEST(idle, where_swap_is_short_what_lies_in_it_goes_too)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 4 };
	struct request *kept, *q;
	struct bed b;

	bed_open(&b, o, 16);
	kept = keep_one(&b);
	put_out(&b, kept);
	b.p.swap_pages = b.p.nr_out;
	b.p.hog = 14;
	q = submit(&b, 64, 10, 0, 1);
	step(&b);
	EXPECT_FALSE(is_kept(kept));
	b.p.hog = 0;
	run(&b, 100);
	EXPECT_EQ(10, tokens_of(q));
	engine_forget(b.r.e, kept);
	bed_close(&b);
}

/* Others want memory of the device: who has none of it gives none. */
TEST(idle, what_lies_in_swap_is_not_given_back)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 4 };
	struct request *here, *out;
	struct bed b;

	bed_open(&b, o, 32);
	b.p.swap_pages = 64;
	out = keep_one(&b);
	here = keep_one(&b);
	put_out(&b, out);
	engine_give_back(b.r.e, 4 * SIM_BYTES);
	EXPECT_FALSE(is_kept(here));
	EXPECT_TRUE(is_kept(out));
	EXPECT_EQ(1, stats(&b)->nr_given);
	engine_forget(b.r.e, here);
	engine_forget(b.r.e, out);
	bed_close(&b);
}

/* Of samples the first one may have ended: it has no pages, and they have. */
TEST(victim, is_who_runs_longest_though_its_first_sample_has_ended)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 8,
				 .slice_ms = 100,
				 .preempt = ENGINE_PREEMPT_SWAP };
	struct request *q, *r;
	struct bed b;

	bed_open(&b, o, 16);
	b.p.swap_pages = 256;
	q = submit(&b, 100, 120, 0, 2);
	step(&b);
	step(&b);
	step(&b);
	engine_cancel_seq(b.r.e, q, 0);
	r = submit(&b, 100, 120, 0, 1);
	run(&b, 2000);
	EXPECT_EQ(120, tokens_of(r));
	EXPECT_GT(stats(&b)->nr_turns, 0);
	EXPECT_LT(r->last_step, q->last_step + 120);
	bed_close(&b);
}

TEST_HARNESS_MAIN
