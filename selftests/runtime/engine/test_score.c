/* SPDX-License-Identifier: MIT */
/*
 * test_score.c - log-probabilities of prompts, alone and beside an answer
 */
#include "runtime/engine/engine_priv.h"
#include "selftests/runtime/engine/rig.h"

static void keep_score(struct request *r, u32 pos, double lp, u32 best,
		       void *ctx)
{
	((double *)ctx)[pos] = lp;
}

TEST(score, is_that_of_the_fp64_forward_in_any_chunks)
{
	static const struct request_events events = { .score = keep_score };
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_F16);
	double lp[2][90], *want, sum, diff = 0;
	struct rig r;
	u32 ids[90], i, j, chunk;

	for (i = 0; i < 2; i++) {
		struct request_params p;

		chunk = i ? 70 : 512;
		rig_open(&r, &c, 1, chunk);
		rig_ids(&r, ids, 90, 5);
		p = rig_params(ids, 90, 0);
		p.kind = REQUEST_SCORE;
		p.events = &events;
		p.ctx = lp[i];
		rig_submit(&r, &p);
		rig_run(&r);
		if (!i)
			rig_close(&r);
	}
	want = malloc(90 * c.vocab * sizeof(*want));
	ASSERT_TRUE(want != NULL);
	tiny_forward(&r.t, ids, 90, want);
	for (i = 1; i < 90; i++) {
		const double *x = want + (size_t)(i - 1) * c.vocab;

		EXPECT_TRUE(lp[0][i] == lp[1][i]);
		for (sum = 0, j = 0; j < c.vocab; j++)
			sum += exp(x[j]);
		diff += fabs(lp[0][i] - (x[ids[i]] - log(sum)));
	}
	EXPECT_LT(diff / 89, 0.01);
	free(want);
	rig_close(&r);
}

TEST(score, its_rows_are_in_what_a_step_is_known_to_take)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F16);
	u32 ids[90], from, left, nr, pos;
	struct request_params p;
	struct rig r;

	for (from = 1; from < 90; from += 44) {
		rig_open(&r, &c, 1, 32);
		rig_ids(&r, ids, 90, 5);
		p = rig_params(ids, 90, 0);
		p.kind = REQUEST_SCORE;
		p.score_from = from;
		rig_submit(&r, &p);
		for (pos = 0; pos < 89; pos += nr) {
			left = 89 - pos; /* the last one decides nothing */
			nr = min(left, 32u);
			rig_step(&r);
			EXPECT_EQ(nr, engine_stats(r.e)->load.tokens);
			EXPECT_EQ(pos + nr < from
					  ? 0
					  : min(nr, pos + nr + 1 - from),
				  engine_stats(r.e)->load.rows);
		}
		rig_close(&r);
	}
}

/* Rows are dear: the step in which it comes in has no more than fit in time. */
TEST(score, a_prompt_that_comes_in_keeps_to_the_target_of_time)
{
	struct engine_opts o = { .step_tokens = 512,
				 .max_seqs = 8,
				 .tbt_slo_ms = 5000 };
	struct law law = { .term = { 0, 0.001, 0.1, 0 } };
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F16);
	const struct engine_stats *st;
	struct request_params p;
	struct rig r;
	u32 ids[200];

	rig_load(&r, &c, 1);
	ASSERT_EQ(0, kv_contig_create(r.m, 16, 512, &r.b, r.err));
	rig_start(&r, &o);
	rig_ids(&r, ids, 200, 5);
	p = rig_params(ids, 5, 60);
	rig_submit(&r, &p);
	rig_step(&r);
	rig_step(&r);
	r.e->budget.law = law;
	p = rig_params(ids, 200, 0);
	p.kind = REQUEST_SCORE;
	p.score_from = 1;
	rig_submit(&r, &p);
	rig_step(&r);
	st = engine_stats(r.e);
	EXPECT_GT(st->load.rows, 16);
	EXPECT_TRUE(law_seconds(&law, &st->load) <= 5);
	rig_run(&r);
	rig_close(&r);
}

static void keep_prompt_score(struct request *r, u32 pos, double lp,
			      const struct token_logprob *top, void *ctx)
{
	((double *)ctx)[pos] = lp;
	EXPECT_TRUE(top[0].logprob >= top[1].logprob);
	EXPECT_TRUE((double)top[0].logprob >= (double)(float)lp);
}

TEST(score, a_generation_scores_its_prompt_as_a_score_does)
{
	static const struct request_events score = { .score = keep_score };
	static const struct request_events both = { .prompt_score =
							    keep_prompt_score };
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_F16);
	double lp[2][90] = { { 0 } };
	struct request_params p;
	struct request *plain, *scored;
	struct rig r;
	u32 ids[90], i;

	rig_open(&r, &c, 1, 70);
	rig_ids(&r, ids, 90, 5);
	p = rig_params(ids, 90, 0);
	p.kind = REQUEST_SCORE;
	p.events = &score;
	p.ctx = lp[0];
	rig_submit(&r, &p);
	p = rig_params(ids, 90, 8);
	p.n = 2;
	plain = rig_submit(&r, &p);
	p.scores = true;
	p.score_from = 30;
	p.nr_logprobs = 2;
	p.events = &both;
	p.ctx = lp[1];
	scored = rig_submit(&r, &p);
	rig_run(&r);
	for (i = 1; i < 90; i++)
		EXPECT_TRUE(lp[1][i] == (i < 30 ? 0.0 : lp[0][i]));
	for (i = 90; i < 98; i++)
		EXPECT_EQ(plain->seqs[1]->ids[i], scored->seqs[1]->ids[i]);
	rig_close(&r);
}

/* Submits one that keeps more alternatives than anybody before. */
static void submit_wide(struct request *q, u32 seq, u32 id, void *ctx)
{
	struct rig *r = ctx;
	struct request_params p = rig_params(q->seqs[0]->ids, 5, 2);

	(void)seq;
	(void)id;
	if (seq_nr_new(q->seqs[0]) != 1 || q->seqs[0]->finish != FINISH_NONE)
		return;
	q->p.events = NULL;
	p.nr_logprobs = r->m->hp.vocab / 2;
	rig_submit(r, &p);
}

/* Rows of a block were read where they had been. */
TEST(score, alternatives_stay_where_they_are_when_a_token_makes_one_submit)
{
	static const struct request_events events = { .token = submit_wide };
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F16);
	struct request_params p;
	struct request *q, *want;
	struct rig r, alone;
	u32 ids[40];

	rig_open(&alone, &c, 1, 64);
	rig_open(&r, &c, 1, 64);
	rig_ids(&r, ids, 40, 5);
	p = rig_params(ids, 40, 4);
	p.n = 4;
	want = rig_submit(&alone, &p);
	rig_run(&alone);
	p.events = &events;
	p.ctx = &r;
	q = rig_submit(&r, &p);
	rig_run(&r);
	EXPECT_TRUE(rig_same_all(want, q));
	rig_close(&r);
	rig_close(&alone);
}

TEST_HARNESS_MAIN
