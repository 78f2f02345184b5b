/* SPDX-License-Identifier: MIT */
/*
 * test_sched.c - who runs when, on pages that are counted and in time that is
 *	not real
 *
 * The engine's own scheduler, thousands of requests, every combination of
 * modes; engine_check() after each step, the frames in use after each request.
 */
#include "runtime/engine/commit.h"
#include "selftests/runtime/engine/bed.h"

/* ---- the model test ---- */

#define LIVE 96u

struct crowd {
	struct request *q[LIVE];
	bool cancelled[LIVE];
	u32 want[LIVE]; /* tokens */
	u32 nr_done, nr_cancelled, nr_submitted;
};

static void crowd_submit(struct bed *b, struct crowd *c, u64 *seed, u32 at)
{
	u32 prompt = 1 + (u32)(test_rand(seed) % 300);
	u32 max_new = 1 + (u32)(test_rand(seed) % 60);
	u32 n = test_rand(seed) % 6 ? 1 : 3;

	if (test_rand(seed) % 50 == 0)
		prompt += 400; /* longer than a step */
	c->q[at] =
		submit(b, prompt, max_new, (s32)(test_rand(seed) % 3) - 1, n);
	c->want[at] = n * max_new;
	c->cancelled[at] = false;
	c->nr_submitted++;
}

/* Who is done has its tokens, and goes. */
static void crowd_reap(struct bed *b, struct crowd *c)
{
	u32 i;

	for (i = 0; i < LIVE; i++) {
		if (!c->q[i] || c->q[i]->state != REQUEST_DONE)
			continue;
		EXPECT_EQ(0, c->q[i]->error);
		if (!c->cancelled[i])
			EXPECT_EQ(tokens_of(c->q[i]), c->want[i]);
		c->nr_done++;
		engine_forget(b->r.e, c->q[i]);
		c->q[i] = NULL;
	}
}

static void crowd_cancel(struct bed *b, struct crowd *c, u64 *seed)
{
	u32 at = (u32)(test_rand(seed) % LIVE), i, used = b->p.nr_used;

	if (!c->q[at])
		return;
	c->cancelled[at] = true;
	c->nr_cancelled++;
	engine_cancel(b->r.e, c->q[at]);
	EXPECT_EQ(REQUEST_DONE, c->q[at]->state);
	for (i = 0; i < c->q[at]->nr_seqs; i++)
		EXPECT_EQ(KV_SPACE_NONE, c->q[at]->seqs[i]->space);
	EXPECT_LE(b->p.nr_used, used);
}

/* A hash of all that was computed, in that order. */
static u64 crowd_run(struct engine_opts o, u32 frames, u32 swap, u32 nr,
		     u64 seed, struct engine_stats *out)
{
	static struct crowd c;
	static struct bed b;
	u32 i, steps = 0, quiet = 0;

	memset(&c, 0, sizeof(c));
	bed_open(&b, o, frames);
	b.p.swap_pages = swap;
	while (c.nr_done < nr && quiet < 3000) {
		u64 before = stats(&b)->nr_decode + stats(&b)->nr_prefill;

		for (i = 0; i < LIVE && c.nr_submitted < nr; i++)
			if (!c.q[i] && test_rand(&seed) % 20 == 0)
				crowd_submit(&b, &c, &seed, i);
		step(&b);
		if (test_rand(&seed) % 16 == 0)
			crowd_cancel(&b, &c, &seed);
		crowd_reap(&b, &c);
		steps++;
		quiet = before == stats(&b)->nr_decode + stats(&b)->nr_prefill
				? quiet + 1
				: 0;
	}
	EXPECT_EQ(c.nr_done, nr);
	EXPECT_EQ(0, b.p.nr_used);
	*out = *stats(&b);
	TH_LOG("batch %d prefill %d admit %d preempt %d: %u steps, %llu "
	       "preempted, %llu put off",
	       o.batching, o.prefill, o.admit, o.preempt, steps,
	       (unsigned long long)out->nr_preempted,
	       (unsigned long long)out->nr_put_off);
	bed_close(&b);
	return b.m.hash;
}

TEST_TIMEOUT(sched, thousands_of_requests_in_every_mode, 120)
{
	struct engine_stats st;
	u64 seed = test_seed();
	u32 batch, fill, admit, k;

	for (batch = 0; batch < 2; batch++)
		for (fill = 0; fill < 3; fill++)
			for (admit = 0; admit < 3; admit++) {
				struct engine_opts o = {
					.step_tokens = 256,
					.max_seqs = 32,
					.batching = batch,
					.prefill = fill,
					.admit = admit,
					.preempt = ENGINE_PREEMPT_RECOMPUTE,
				};

				crowd_run(o, 160, 0, 400, seed++, &st);
				if (admit == ENGINE_ADMIT_STRICT)
					EXPECT_EQ(0, st.nr_preempted);
				if (admit == ENGINE_ADMIT_OVERCOMMIT && !batch)
					EXPECT_GT(st.nr_preempted, 0);
			}
	for (k = 0; k < 3; k++) {
		struct engine_opts o = { .step_tokens = 256,
					 .max_seqs = 32,
					 .slice_ms = 100,
					 .tbt_slo_ms = k ? 60 : 0,
					 .preempt = ENGINE_PREEMPT_SWAP };

		crowd_run(o, 160, 400, 2000, seed++, &st);
		EXPECT_GT(st.nr_paused, 0);
		if (k)
			EXPECT_GT(st.nr_budget_moves, 0);
	}
}

/* ---- batching ---- */

TEST(batch, nobody_joins_and_nobody_leaves_before_the_last)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 4,
				 .batching = ENGINE_BATCH_REQUEST };
	struct request *q[6];
	u32 i, steps = 0;
	struct bed b;

	bed_open(&b, o, 512);
	for (i = 0; i < 6; i++)
		q[i] = submit(&b, 40, 5 + 10 * (i % 4), 0, 1);
	while (q[3]->state != REQUEST_DONE) {
		/* the first four, together, though a step has not room for all
		 */
		for (i = 0; i < 4; i++)
			EXPECT_EQ(REQUEST_RUNNING, q[i]->state + !steps);
		for (; i < 6; i++)
			EXPECT_EQ(REQUEST_WAITING, q[i]->state);
		EXPECT_EQ(1, step(&b));
		steps++;
	}
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(REQUEST_DONE, q[i]->state);
		EXPECT_EQ(5 + 10 * i, tokens_of(q[i]));
	}
	EXPECT_GE(steps, 35);
	EXPECT_EQ(0, b.p.nr_used);
	step(&b);
	engine_cancel(b.r.e, q[4]);
	EXPECT_EQ(REQUEST_DONE, q[4]->state);
	run(&b, 100);
	EXPECT_EQ(REQUEST_DONE, q[5]->state);
	bed_close(&b);
}

TEST(batch, by_iterations_who_ends_leaves_and_who_comes_joins)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 2 };
	struct request *q[3];
	struct bed b;
	u32 i;

	bed_open(&b, o, 512);
	for (i = 0; i < 3; i++)
		q[i] = submit(&b, 10, i ? 30 : 3, 0, 1);
	for (i = 0; i < 4; i++)
		step(&b);
	EXPECT_EQ(REQUEST_DONE, q[0]->state);
	EXPECT_EQ(REQUEST_RUNNING, q[1]->state);
	EXPECT_EQ(REQUEST_RUNNING, q[2]->state);
	run(&b, 100);
	bed_close(&b);
}

/* ---- what a step is made of ---- */

struct made {
	u32 mixed; /* steps with both */
	u32 most; /* tokens of one with decodes */
	u32 parts; /* steps in which the long prompt was */
	u32 stalls; /* steps with prompts and without the decodes there are */
	u32 stalls_in_turn; /* most of them one after the other */
};

/* Four that decode, then a prompt of 600. */
static void compose(struct engine_opts o, struct made *m)
{
	struct request *q;
	u32 i, turn = 0;
	struct bed b;

	*m = (struct made){ 0 };
	bed_open(&b, o, 512);
	for (i = 0; i < 4; i++)
		submit(&b, 10, 100, 0, 1);
	for (i = 0; i < 4; i++)
		step(&b);
	q = submit(&b, 600, 5, 0, 1);
	while (q->seqs[0]->nr == 600) {
		step(&b);
		m->mixed += b.m.nr_decodes && b.m.nr_chunks;
		m->parts += b.m.nr_chunks;
		m->most = max(m->most, b.m.nr_tokens);
		EXPECT_TRUE(!b.m.nr_decodes || b.m.nr_decodes == 4);
		turn = b.m.nr_decodes ? 0 : turn + 1;
		m->stalls += !b.m.nr_decodes;
		m->stalls_in_turn = max(m->stalls_in_turn, turn);
	}
	run(&b, 500);
	bed_close(&b);
}

TEST(prefill, chunks_fill_what_decodes_leave_and_stall_nobody)
{
	struct engine_opts o = { .step_tokens = 128, .max_seqs = 8 };
	struct made m;

	compose(o, &m);
	EXPECT_EQ(0, m.stalls);
	EXPECT_EQ(128, m.most);
	EXPECT_EQ(5, m.parts); /* 600 in pieces of 124 */
	EXPECT_EQ(5, m.mixed);
}

/* A page would be more than as many decodes leave of the step. */
TEST(prefill, what_is_computed_again_gets_on_beside_a_step_full_of_decodes)
{
	struct engine_opts o = { .step_tokens = 32, .max_seqs = 32 };
	struct request *q;
	struct seq *s;
	struct bed b;
	u32 i, nr;

	bed_open(&b, o, 1024);
	q = submit(&b, 64, 40, 0, 1);
	for (i = 1; i < 32; i++)
		submit(&b, 1, 200, 0, 1);
	while (b.m.nr_decodes < 32)
		ASSERT_EQ(1, step(&b));
	s = q->seqs[0];
	nr = s->nr;
	s->again = 0;
	s->again_to = 2 * SIM_P;
	for (i = 1; i <= 2 * SIM_P; i++) {
		step(&b);
		EXPECT_EQ(i, s->again);
	}
	step(&b);
	EXPECT_EQ(nr + 1, s->nr);
	run(&b, 1000);
	EXPECT_EQ(40, tokens_of(q));
	bed_close(&b);
}

TEST(prefill, whole_prompts_are_in_one_step_with_the_decodes)
{
	struct engine_opts o = { .step_tokens = 1024,
				 .max_seqs = 8,
				 .prefill = ENGINE_PREFILL_WHOLE };
	struct made m;

	compose(o, &m);
	EXPECT_EQ(1, m.parts);
	EXPECT_EQ(1, m.mixed);
	EXPECT_EQ(604, m.most);
}

TEST(prefill, apart_chunks_and_decodes_take_turns)
{
	struct engine_opts o = { .step_tokens = 128,
				 .max_seqs = 8,
				 .prefill = ENGINE_PREFILL_APART };
	struct made m;

	compose(o, &m);
	EXPECT_EQ(0, m.mixed);
	EXPECT_EQ(5, m.parts); /* 600 in pieces of 128 */
	EXPECT_EQ(5, m.stalls);
	EXPECT_EQ(1, m.stalls_in_turn);
}

/* ---- plans ---- */

TEST_TIMEOUT(plan, the_same_is_computed_with_and_without_one, 120)
{
	static const struct engine_opts opts[] = {
		{ .preempt = ENGINE_PREEMPT_RECOMPUTE },
		{ .preempt = ENGINE_PREEMPT_SWAP },
		{ .preempt = ENGINE_PREEMPT_NONE,
		  .admit = ENGINE_ADMIT_STRICT },
		{ .preempt = ENGINE_PREEMPT_RECOMPUTE,
		  .admit = ENGINE_ADMIT_PEAK,
		  .tbt_slo_ms = 60 },
		{ .preempt = ENGINE_PREEMPT_RECOMPUTE,
		  .prefill = ENGINE_PREFILL_WHOLE },
	};
	struct engine_stats with, without;
	u64 seed = test_seed(), hash, steps = 0, planned = 0, chunks = 0;
	u32 i, k;

	for (i = 0; i < ARRAY_SIZE(opts); i++)
		for (k = 0; k < 4; k++, seed++) {
			struct engine_opts o = opts[i];
			u32 swap = o.preempt == ENGINE_PREEMPT_SWAP ? 400 : 0;

			o.step_tokens = 48u << k;
			o.max_seqs = 32;
			hash = crowd_run(o, 160, swap, 300, seed, &with);
			o.one_by_one = true;
			EXPECT_EQ(hash,
				  crowd_run(o, 160, swap, 300, seed, &without));
			EXPECT_EQ(with.nr_steps, without.nr_steps);
			EXPECT_EQ(0, without.nr_planned);
			steps += with.nr_steps;
			planned += with.nr_planned;
			chunks += with.nr_planned_chunks;
		}
	TH_LOG("%llu of %llu steps as planned, and %llu chunks",
	       (unsigned long long)planned, (unsigned long long)steps,
	       (unsigned long long)chunks);
	EXPECT_GT(planned, steps / 2);
	EXPECT_GT(chunks, 0);
}

/* A prompt that a budget of time cuts, beside those that decode. */
TEST(plan, chunks_that_a_target_of_time_cuts_are_planned)
{
	struct engine_opts o = { .step_tokens = 512,
				 .max_seqs = 16,
				 .tbt_slo_ms = 60 };
	u64 planned, mixed = 0, of_them = 0;
	struct bed b;
	u32 i;

	bed_open(&b, o, 2000);
	for (i = 0; i < 8; i++)
		submit(&b, 10, 200, 0, 1);
	for (i = 0; i < 10; i++)
		step(&b);
	submit(&b, 1200, 20, 0, 1);
	for (i = 0; i < 100; i++) {
		planned = stats(&b)->nr_planned;
		step(&b);
		if (!b.m.nr_chunks)
			continue;
		EXPECT_EQ(8, b.m.nr_decodes);
		mixed++;
		of_them += stats(&b)->nr_planned - planned;
	}
	EXPECT_GT(mixed, 5);
	EXPECT_EQ(mixed, of_them);
	TH_LOG("%llu of %llu chunks as planned",
	       (unsigned long long)stats(&b)->nr_planned_chunks,
	       (unsigned long long)mixed);
	/* the first was not there when its step was planned */
	EXPECT_GE(stats(&b)->nr_planned_chunks, (mixed - 1) / 2);
	run(&b, 1000);
	bed_close(&b);
}

TEST(plan, samples_are_planned_before_their_prompt_is_forked)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 8 };
	struct request *q[3];
	struct bed b;
	u32 n;

	bed_open(&b, o, 64);
	q[0] = submit(&b, 12, 40, 0, 1);
	q[1] = submit(&b, 90, 40, 0, 4); /* in two steps */
	q[2] = submit(&b, 12, 1, 0, 3); /* ends as soon as it is forked */
	step(&b);
	EXPECT_EQ(1, q[1]->nr_seqs);
	step(&b);
	EXPECT_EQ(4, q[1]->nr_seqs);
	EXPECT_EQ(REQUEST_DONE, q[2]->state);
	EXPECT_EQ(1, stats(&b)->nr_planned);
	step(&b);
	EXPECT_EQ(2, stats(&b)->nr_planned);
	EXPECT_EQ(5, b.m.nr_decodes);
	engine_cancel_seq(b.r.e, q[1], 2);
	step(&b);
	EXPECT_EQ(4, b.m.nr_decodes);
	n = 4 + run(&b, 100);
	EXPECT_EQ(n, stats(&b)->nr_planned);
	EXPECT_EQ(0, stats(&b)->nr_replanned);
	EXPECT_EQ(40, tokens_of(q[0]));
	EXPECT_EQ(3 * 40 + 2, tokens_of(q[1]));
	bed_close(&b);
}

TEST(plan, who_is_cancelled_between_two_steps_is_taken_out)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 8 };
	struct request *q[5];
	struct bed b;
	u32 i;

	bed_open(&b, o, 64);
	for (i = 0; i < 5; i++)
		q[i] = submit(&b, 12, 40, 0, 1);
	step(&b);
	step(&b);
	EXPECT_EQ(1, stats(&b)->nr_planned);
	engine_cancel(b.r.e, q[1]);
	engine_cancel(b.r.e, q[3]);
	engine_forget(b.r.e, q[3]);
	step(&b);
	EXPECT_EQ(2, stats(&b)->nr_planned);
	EXPECT_EQ(3, b.m.nr_decodes);
	/* somebody who has come waits for nobody */
	q[3] = submit(&b, 12, 40, 0, 1);
	step(&b);
	EXPECT_EQ(3, stats(&b)->nr_planned);
	EXPECT_EQ(3, b.m.nr_decodes);
	EXPECT_EQ(1, b.m.nr_chunks);
	run(&b, 100);
	EXPECT_EQ(40, tokens_of(q[0]));
	EXPECT_EQ(40, tokens_of(q[3]));
	EXPECT_EQ(0, stats(&b)->nr_replanned);
	bed_close(&b);
}

/* ---- commitments ---- */

#define PEAK_NR	   40u
#define PEAK_STEPS 120u

static void random_laws(struct kv_backend *b, u64 *seed)
{
	u32 i;

	b->nr_areas = 1 + (u32)(test_rand(seed) % KV_AREA_MAX);
	for (i = 0; i < b->nr_areas; i++)
		b->law[i] = (struct kv_area_law){
			.page_tokens = 1u << test_rand(seed) % 9,
			.page_bytes = (u32)(test_rand(seed) % 5000),
			.window = test_rand(seed) % 2
					  ? (u32)(test_rand(seed) % 300)
					  : 0,
		};
}

/* Step by step, one after the other. */
static u64 plain_peak(const struct kv_backend *b, const struct commit_item *v,
		      u32 nr)
{
	u64 most = 0, sum;
	u32 t, k;

	for (t = 0; t < PEAK_STEPS; t++) {
		for (sum = 0, k = 0; k < nr; k++)
			sum += v[k].left >= t ? commit_bytes(b, &v[k], t) : 0;
		most = max(most, sum);
	}
	return most;
}

TEST(commit, the_peak_is_the_most_of_every_moment)
{
	struct commit_item v[PEAK_NR];
	struct commit_event ev[PEAK_NR];
	struct kv_backend b = { 0 };
	u64 seed = test_seed(), want;
	u32 i, k, nr;

	for (i = 0; i < 5000; i++) {
		random_laws(&b, &seed);
		nr = (u32)(test_rand(&seed) % (PEAK_NR + 1));
		for (k = 0; k < nr; k++)
			v[k] = (struct commit_item){
				.left = (u32)(test_rand(&seed) % PEAK_STEPS),
				.len = (u32)(test_rand(&seed) % 400),
				.most = (u32)(test_rand(&seed) % 500),
				.copies = 1 + (u32)(test_rand(&seed) % 3),
				.fixed = test_rand(&seed) % 3 * 1000,
			};
		want = plain_peak(&b, v, nr);
		ASSERT_EQ(want, commit_peak(&b, v, ev, nr));
	}
}

struct admitted {
	u64 preempted;
	u32 running, steps;
};

static struct admitted with_admit(enum engine_admit admit)
{
	struct engine_opts o = { .step_tokens = 256,
				 .max_seqs = 64,
				 .admit = admit,
				 .preempt = ENGINE_PREEMPT_RECOMPUTE };
	struct admitted a = { 0 };
	u64 seed = 11;
	struct bed b;
	u32 i;

	bed_open(&b, o, 100);
	for (i = 0; i < 100; i++)
		submit(&b, 16, 20 + (u32)(test_rand(&seed) % 300), 0, 1);
	do {
		a.steps++;
		EXPECT_LE(stats(&b)->resident, admit == ENGINE_ADMIT_PEAK
						       ? stats(&b)->limit
						       : stats(&b)->committed);
		EXPECT_EQ(stats(&b)->limit, a.steps > 1 ? 100 * SIM_BYTES : 0);
	} while (step(&b) == 1);
	a.preempted = stats(&b)->nr_preempted;
	a.running = stats(&b)->max_running;
	bed_close(&b);
	return a;
}

TEST(commit, strict_lets_in_least_and_overcommit_most)
{
	struct admitted strict = with_admit(ENGINE_ADMIT_STRICT);
	struct admitted peak = with_admit(ENGINE_ADMIT_PEAK);
	struct admitted over = with_admit(ENGINE_ADMIT_OVERCOMMIT);

	TH_LOG("strict %u at once in %u steps; peak %u in %u, %llu preempted; "
	       "overcommit %u in %u, %llu",
	       strict.running, strict.steps, peak.running, peak.steps,
	       (unsigned long long)peak.preempted, over.running, over.steps,
	       (unsigned long long)over.preempted);
	EXPECT_EQ(0, strict.preempted);
	EXPECT_LT(strict.running, peak.running);
	EXPECT_LT(peak.running, over.running);
	EXPECT_LT(peak.steps, strict.steps);
	EXPECT_LT(peak.preempted, over.preempted);
}

/* What a chunk leaves behind its window is held until the next step. */
TEST(commit, chunks_of_a_step_are_counted_beside_their_windows)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 16,
				 .admit = ENGINE_ADMIT_STRICT };
	struct bed b;

	bed_open(&b, o, 64);
	b.p.b.law[0].window = 4 * SIM_P;
	submit(&b, 320, 20, 0, 1);
	submit(&b, 320, 20, 0, 1);
	step(&b);
	run(&b, 6);
	EXPECT_EQ(stats(&b)->committed, (5 + 5 + 4) * SIM_BYTES);
	run(&b, 100);
	EXPECT_EQ(stats(&b)->committed, 0);
	bed_close(&b);
}

TEST(commit, samples_count_their_prompt_once)
{
	struct engine_opts o = { .step_tokens = 256,
				 .max_seqs = 16,
				 .admit = ENGINE_ADMIT_STRICT };
	struct bed b;

	bed_open(&b, o, 64);
	/* 20 pages of prompt, four samples with two pages of their own */
	submit(&b, 320, 20, 0, 4);
	step(&b);
	EXPECT_EQ(stats(&b)->committed, 28 * SIM_BYTES);
	submit(&b, 320, 20, 0, 4);
	step(&b);
	EXPECT_EQ(stats(&b)->committed, 56 * SIM_BYTES);
	submit(&b, 100, 60, 0, 1);
	step(&b);
	EXPECT_EQ(stats(&b)->nr_put_off, 1);
	run(&b, 200);
	EXPECT_EQ(0, stats(&b)->nr_preempted);
	bed_close(&b);
}

/*
 * Two that each want more than half of the frames: without a reservation both
 * begin, neither can end, and neither gives way.
 */
static bool two_end(enum engine_admit admit)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 8,
				 .admit = admit,
				 .preempt = ENGINE_PREEMPT_NONE };
	struct request *a, *c;
	u64 last = 0;
	u32 still = 0;
	bool ended;
	struct bed b;

	bed_open(&b, o, 20);
	a = submit(&b, 32, 200, 0, 1);
	c = submit(&b, 32, 200, 0, 1);
	while (still < 1000 && step(&b) == 1) {
		still = stats(&b)->nr_decode == last ? still + 1 : 0;
		last = stats(&b)->nr_decode;
	}
	ended = a->state == REQUEST_DONE && c->state == REQUEST_DONE;
	if (!ended)
		EXPECT_GE(stats(&b)->nr_stalled, 999);
	else
		EXPECT_EQ(0, stats(&b)->nr_stalled);
	bed_close(&b);
	return ended;
}

TEST(commit, without_reservation_there_is_a_deadlock_with_it_there_is_none)
{
	EXPECT_FALSE(two_end(ENGINE_ADMIT_OVERCOMMIT));
	EXPECT_TRUE(two_end(ENGINE_ADMIT_STRICT));
}

/* ---- priorities ---- */

TEST(priority, lower_ones_are_admitted_first)
{
	struct engine_opts o = { .step_tokens = 64, .max_seqs = 1 };
	struct request *q[4];
	struct bed b;

	bed_open(&b, o, 64);
	q[0] = submit(&b, 10, 4, 5, 1);
	step(&b);
	q[1] = submit(&b, 10, 4, 5, 1);
	q[2] = submit(&b, 10, 4, 0, 1);
	q[3] = submit(&b, 10, 4, -7, 1);
	while (q[3]->state != REQUEST_DONE)
		step(&b);
	EXPECT_EQ(0, tokens_of(q[2]));
	while (q[2]->state != REQUEST_DONE)
		step(&b);
	EXPECT_EQ(0, tokens_of(q[1]));
	run(&b, 100);
	bed_close(&b);
}

TEST(priority, the_lowest_gives_way_whenever_it_came)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 8,
				 .preempt = ENGINE_PREEMPT_RECOMPUTE };
	struct request *low, *high[2];
	struct bed b;

	bed_open(&b, o, 24);
	low = submit(&b, 60, 300, 9, 1);
	high[0] = submit(&b, 60, 120, 0, 1);
	high[1] = submit(&b, 60, 120, 0, 1);
	while (high[0]->state != REQUEST_DONE || high[1]->state != REQUEST_DONE)
		step(&b);
	EXPECT_GT(low->nr_preempted, 0);
	EXPECT_EQ(0, high[0]->nr_preempted);
	EXPECT_EQ(0, high[1]->nr_preempted);
	run(&b, 1000);
	EXPECT_EQ(300, tokens_of(low));
	bed_close(&b);
}

TEST(priority, a_better_one_does_not_wait_until_memory_is_enough)
{
	struct engine_opts o = { .step_tokens = 64,
				 .max_seqs = 8,
				 .preempt = ENGINE_PREEMPT_RECOMPUTE };
	struct request *q;
	struct bed b;
	u32 i;

	bed_open(&b, o, 24);
	for (i = 0; i < 3; i++)
		submit(&b, 60, 250, 5, 1);
	while (!stats(&b)->nr_preempted)
		step(&b);
	q = submit(&b, 60, 40, 0, 1);
	i = 0;
	while (q->state != REQUEST_DONE && i++ < 60)
		step(&b);
	EXPECT_EQ(REQUEST_DONE, q->state);
	EXPECT_EQ(0, q->nr_preempted);
	run(&b, 3000);
	bed_close(&b);
}

/* ---- what is computed ---- */

/* The real kernels, in a schedule: the tokens of requests of many lengths. */
static void schedule(const struct engine_opts *o, struct rig *r,
		     struct request **q, u32 nr)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	struct request_params p;
	static u32 ids[300];
	u32 i;

	rig_load(r, &c, 1);
	ASSERT_EQ(0, kv_contig_create(r->m, 64, 1024, &r->b, r->err));
	rig_start(r, o);
	rig_ids(r, ids, 300, 9);
	for (i = 0; i < nr; i++) {
		p = rig_params(ids + i, 5 + 23 * i, 4 + 5 * (i % 4));
		p.priority = (s32)(i % 3);
		q[i] = rig_submit(r, &p);
	}
	rig_run(r);
}

TEST_TIMEOUT(sched, tokens_are_the_same_in_every_schedule, 120)
{
	struct engine_opts o = { .step_tokens = 512, .max_seqs = 12 };
	struct request *want[10], *got[10];
	struct rig plain, r;
	u32 batch, fill, slo, i;

	schedule(&o, &plain, want, 10);
	o.step_tokens = 96;
	o.max_seqs = 4;
	for (batch = 0; batch < 2; batch++)
		for (fill = 0; fill < 3; fill++)
			for (slo = 0; slo < 2; slo++) {
				o.batching = batch;
				o.prefill = fill;
				o.tbt_slo_ms = slo;
				schedule(&o, &r, got, 10);
				for (i = 0; i < 10; i++)
					EXPECT_TRUE(rig_same(want[i]->seqs[0],
							     got[i]->seqs[0]));
				rig_close(&r);
			}
	rig_close(&plain);
}

/* ---- the budget in the engine ---- */

/* Steady decodes with long prompts among them; steps over the target. */
static u32 serve(struct bed *b, u32 steps, double target, u64 *seed)
{
	u32 i, late = 0;

	for (i = 0; i < steps; i++) {
		if (i % 12 == 0)
			submit(b, 200 + (u32)(test_rand(seed) % 400), 40, 0, 1);
		step(b);
		late += b->m.nr_decodes && b->m.last_s > target;
	}
	return late;
}

TEST(budget, steps_keep_to_the_target_also_when_others_come)
{
	struct engine_opts o = { .step_tokens = 512,
				 .max_seqs = 16,
				 .tbt_slo_ms = 60 };
	u64 seed = 5;
	u32 alone, shared;
	struct bed b;

	bed_open(&b, o, 2000);
	EXPECT_EQ(0, serve(&b, 300, 0.0601, &seed));
	alone = stats(&b)->budget;
	EXPECT_TRUE(stats(&b)->law.term[LAW_TOKEN] > 0.0002 &&
		    stats(&b)->law.term[LAW_TOKEN] < 0.0004);
	b.m.load = 1.5;
	serve(&b, 60, 0.0601, &seed); /* it learns */
	EXPECT_LE(serve(&b, 300, 0.0601, &seed), 6);
	shared = stats(&b)->budget;
	EXPECT_LT(shared, alone);
	EXPECT_GT(stats(&b)->nr_budget_moves, 1);
	run(&b, 5000);
	bed_close(&b);
}

TEST_HARNESS_MAIN
