/* SPDX-License-Identifier: MIT */
/*
 * test_call.c - jobs that are back, without an engine
 *
 * san: address
 */
#include "runtime/server/server_priv.h"
#include "selftests/harness.h"

static const struct server_opts opts = { .name = "m", .max_queue = 3 };
static struct server sv;

/* A call with two samples that has been submitted and whose client has gone. */
static struct call *make(void)
{
	struct call *c = calloc(1, sizeof(*c));
	struct part *p = calloc(1, sizeof(*p));

	ASSERT_TRUE(c && p);
	c->sv = &sv;
	c->parts = p;
	c->nr_parts = 1;
	c->g.n = c->g.best_of = 2;
	c->g.nr_logprobs = -1;
	p->call = c;
	p->nr_prompt = 5;
	p->first_s = 1.0;
	p->last_s = 2.0;
	p->choices = calloc(2, sizeof(*p->choices));
	p->job = feed_job(2);
	ASSERT_TRUE(p->choices && p->job);
	p->choices[0].nr_tokens = p->choices[1].nr_tokens = 3;
	p->job->owner = p;
	p->job->started_s = 0.5;
	sv = (struct server){ .o = &opts, .calls = c, .nr_seqs = 2 };
	return c;
}

static u64 observed(enum hist_id id)
{
	const struct hist *h = &sv.metrics.hist[id];
	u64 sum = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(h->count); i++)
		sum += h->count[i];
	return sum;
}

static void expect_finished(u64 stop, u64 length, u64 aborted)
{
	u64 ended = stop + length;

	EXPECT_EQ(stop, sv.metrics.finished[FINISHED_STOP]);
	EXPECT_EQ(length, sv.metrics.finished[FINISHED_LENGTH]);
	EXPECT_EQ(aborted, sv.metrics.finished[FINISHED_ABORT]);
	EXPECT_EQ(ended, observed(HIST_E2E));
	EXPECT_EQ(ended, observed(HIST_DECODE));
	EXPECT_EQ(ended, observed(HIST_TPOT));
	EXPECT_EQ(ended, observed(HIST_INFERENCE));
	EXPECT_FALSE(sv.calls);
}

TEST(call, one_that_nobody_waited_for_is_counted_as_aborted)
{
	struct call *c = make();

	call_job_back(c->parts[0].job);
	expect_finished(0, 0, 1);
}

TEST(call, one_sample_that_nobody_ended_makes_it_an_abort)
{
	struct call *c = make();

	c->parts[0].choices[0].finish = "length";
	call_job_back(c->parts[0].job);
	expect_finished(0, 0, 1);
}

TEST(call, one_that_ended_is_counted_by_its_reason)
{
	struct call *c = make();

	c->parts[0].choices[0].finish = "length";
	c->parts[0].choices[1].finish = "stop";
	call_job_back(c->parts[0].job);
	expect_finished(0, 1, 0);
	c = make();
	c->parts[0].choices[0].finish = "stop";
	c->parts[0].choices[1].finish = "stop";
	call_job_back(c->parts[0].job);
	expect_finished(1, 0, 0);
}

static void expect_room(u32 seqs, u32 left)
{
	EXPECT_EQ(seqs, sv.nr_seqs);
	EXPECT_EQ(left, sv.nr_left);
}

TEST(call, one_abandoned_in_the_queue_gives_its_room_back_at_once)
{
	struct call *c = make();

	ASSERT_EQ(0, feed_create(&sv.feed));
	call_abandon(c);
	expect_room(0, 2);
	call_abandon(c);
	expect_room(0, 2);
	call_job_back(c->parts[0].job);
	expect_room(0, 0);
	feed_destroy(sv.feed);
}

TEST(call, one_abandoned_when_it_has_begun_keeps_its_room_until_it_is_back)
{
	struct call *c = make();

	ASSERT_EQ(0, feed_create(&sv.feed));
	atomic_store(&c->parts[0].job->begun, true);
	call_abandon(c);
	expect_room(2, 0);
	call_job_back(c->parts[0].job);
	expect_room(0, 0);
	feed_destroy(sv.feed);
}

TEST(call, those_abandoned_are_no_more_than_a_queue)
{
	struct call *c = make();

	ASSERT_EQ(0, feed_create(&sv.feed));
	sv.nr_left = opts.max_queue - 1;
	call_abandon(c);
	expect_room(2, opts.max_queue - 1);
	call_job_back(c->parts[0].job);
	expect_room(0, opts.max_queue - 1);
	feed_destroy(sv.feed);
}

TEST_HARNESS_MAIN
