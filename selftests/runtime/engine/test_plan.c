/* SPDX-License-Identifier: MIT */
/*
 * test_plan.c - with a plan of the next step, made while this one computes, all
 *	is as without one; who is in it before it is known where; and who is
 *	forked before it is known what for
 *
 * Plans over thousands of requests are in test_sched.c, on kvmd's pages in
 * test_beside.c.
 */
#include "selftests/runtime/engine/bed.h"

/* What is asked of one engine at a time. */
#define NR_MIXED 14u

static void mixed_params(struct request_params *p, u32 i)
{
	p->sampling.seed = i;
	if (i % 2) {
		p->sampling.temperature = 0.9f;
		p->sampling.top_p = i % 3 ? 1.0f : 0.8f;
		p->sampling.top_k = i % 5 ? 0 : 20;
		p->sampling.repetition = i % 7 ? 1.0f : 1.2f;
	}
	if (i == 4 || i == 9)
		p->n = 3;
	if (i == 6) {
		p->kind = REQUEST_BEAM;
		p->n = 2;
	}
	if (i == 8)
		p->kind = REQUEST_SCORE;
}

/* They come one by one, and one of them goes. */
static void mixed_run(struct rig *r, bool one_by_one, struct request **q)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	struct engine_opts o = { .step_tokens = 96,
				 .max_seqs = 24,
				 .logit_rows = 4,
				 .one_by_one = one_by_one };
	u32 ids[64], i, at = 0;
	int rc = 1;

	rig_load(r, &c, 3);
	ASSERT_EQ(0, kv_contig_create(r->m, 64, 1024, &r->b, r->err));
	rig_start(r, &o);
	for (i = 0; rc == 1 || at < NR_MIXED; i++) {
		if (at < NR_MIXED && i % 3 == 0) {
			struct request_params p;

			rig_ids(r, ids, 20 + 3 * at, 300 + at);
			p = rig_params(ids, 20 + 3 * at, 25);
			mixed_params(&p, at);
			q[at++] = rig_submit(r, &p);
		}
		if (i == 12)
			engine_cancel(r->e, q[2]);
		rc = rig_step(r);
	}
}

TEST(plan, what_is_done_beside_a_step_changes_no_bit)
{
	struct request *a[NR_MIXED], *b[NR_MIXED];
	static struct rig one, beside;
	u32 i;

	mixed_run(&one, true, a);
	mixed_run(&beside, false, b);
	for (i = 0; i < NR_MIXED; i++) {
		if (!EXPECT_TRUE(rig_same_all(a[i], b[i])))
			TH_LOG("request %u", i);
		EXPECT_EQ(a[i]->nr_iters, b[i]->nr_iters);
	}
	EXPECT_EQ(engine_stats(one.e)->nr_steps,
		  engine_stats(beside.e)->nr_steps);
	EXPECT_EQ(0, engine_stats(one.e)->nr_planned);
	EXPECT_GT(engine_stats(beside.e)->nr_planned, 10);
	EXPECT_GT(engine_stats(beside.e)->host_beside_s, 0);
	rig_close(&one);
	rig_close(&beside);
}

/* A beam search beside one who decodes, from one step to the next. */
static void beams_run(struct rig *r, bool one_by_one, struct request **q)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	struct engine_opts o = { .step_tokens = 64, .one_by_one = one_by_one };
	struct request_params p;
	u32 ids[50], i;

	rig_load(r, &c, 2);
	ASSERT_EQ(0, kv_contig_create(r->m, 16, 128, &r->b, r->err));
	rig_start(r, &o);
	rig_ids(r, ids, 50, 3);
	for (i = 0; i < 3; i++) {
		p = rig_params(ids + i, 20 + 10 * i, 24);
		if (i == 1) {
			p.kind = REQUEST_BEAM;
			p.n = 4;
		}
		q[i] = rig_submit(r, &p);
	}
	while (rig_step(r) == 1)
		;
}

TEST(plan, beams_are_planned_before_it_is_known_whose_they_are)
{
	struct request *a[3], *b[3];
	const struct engine_stats *st;
	static struct rig one, ahead;
	u32 i;

	beams_run(&one, true, a);
	beams_run(&ahead, false, b);
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(rig_same_all(a[i], b[i]));
	ASSERT_EQ(a[1]->nr_ended, b[1]->nr_ended);
	for (i = 0; i < a[1]->nr_ended; i++)
		EXPECT_TRUE(rig_same(a[1]->ended[i], b[1]->ended[i]));
	st = engine_stats(ahead.e);
	EXPECT_EQ(engine_stats(one.e)->nr_steps, st->nr_steps);
	/* the second takes the rest of a prompt, and the rest is as planned */
	EXPECT_EQ(st->nr_steps - 1, st->nr_planned);
	EXPECT_EQ(0, st->nr_replanned);
	rig_close(&one);
	rig_close(&ahead);
}

/* What the first token that is told of finds, and ends. */
struct parting {
	struct bed *b;
	struct request *ends;
	u32 spaces;
};

static void first_told(struct request *r, u32 seq, u32 id, void *ctx)
{
	struct parting *p = ctx;

	(void)r;
	(void)seq;
	(void)id;
	p->spaces = p->b->p.nr_spaces;
	if (p->ends)
		engine_cancel(p->b->r.e, p->ends);
	p->ends = NULL;
}

/* Two prompts end in one step: of one sample, then of four. */
static void part(struct bed *b, struct parting *p, enum request_kind kind,
		 bool cancel)
{
	static const struct request_events events = { .token = first_told };
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 8 };
	struct request_params q;
	u32 ids[30] = { 0 };

	bed_open(b, o, 64);
	*p = (struct parting){ .b = b };
	q = rig_params(ids, 20, 1);
	q.events = &events;
	q.ctx = p;
	q.nr_logprobs = 0;
	rig_submit(&b->r, &q);
	q = rig_params(ids, 30, 9);
	q.kind = kind;
	q.n = 4;
	q.nr_logprobs = 0;
	p->ends = rig_submit(&b->r, &q);
	if (!cancel)
		p->ends = NULL;
	step(b);
}

TEST(plan, a_prompt_of_samples_is_forked_before_anything_is_decided)
{
	struct parting p;
	struct bed b;

	part(&b, &p, REQUEST_GENERATE, false);
	EXPECT_EQ(1 + 4, p.spaces);
	EXPECT_EQ(4, b.p.nr_spaces);
	run(&b, 100);
	EXPECT_EQ(0, stats(&b)->nr_replanned);
	bed_close(&b);
}

TEST(plan, who_is_cancelled_before_it_has_its_forks_leaves_none)
{
	struct parting p;
	struct bed b;

	part(&b, &p, REQUEST_GENERATE, true);
	EXPECT_EQ(1 + 4, p.spaces);
	EXPECT_EQ(0, b.p.nr_spaces);
	EXPECT_EQ(0, run(&b, 100));
	bed_close(&b);
}

TEST_HARNESS_MAIN
