/* SPDX-License-Identifier: MIT */
/*
 * test_engine.c - the step loop over tiny networks, without a daemon
 *
 * What a sequence is given must not depend on what runs beside it: alone, in
 * a batch, in other chunks, on other thread counts and after being preempted
 * it has the same tokens and the same bits of log-probability.
 */
#include "selftests/runtime/engine/rig.h"

#define NR_SEQS 9

/* Prompts of lengths around the page and the window. */
static const u32 lens[NR_SEQS] = { 1, 15, 16, 17, 31, 33, 64, 100, 130 };

struct answers {
	struct request *req[NR_SEQS];
	struct rig rig;
};

/* Every prompt in one engine, or each in a run of its own. */
static void answer_all(struct answers *a, const struct tiny_cfg *c, u32 threads,
		       u32 step_tokens, bool together)
{
	u32 ids[256], i;

	rig_open(&a->rig, c, threads, step_tokens);
	for (i = 0; i < NR_SEQS; i++) {
		struct request_params p;

		rig_ids(&a->rig, ids, lens[i], 100 + i);
		p = rig_params(ids, lens[i], 20);
		if (i % 3 == 1) {
			p.sampling.temperature = 1.0f;
			p.sampling.top_p = 0.9f;
			p.sampling.seed = i;
		}
		a->req[i] = rig_submit(&a->rig, &p);
		if (!together)
			rig_run(&a->rig);
	}
	rig_run(&a->rig);
}

static void expect_same(const struct answers *a, const struct answers *b)
{
	u32 i;

	for (i = 0; i < NR_SEQS; i++) {
		EXPECT_EQ(20, seq_nr_new(a->req[i]->seqs[0]));
		if (!EXPECT_TRUE(
			    rig_same(a->req[i]->seqs[0], b->req[i]->seqs[0])))
			TH_LOG("prompt of %u tokens", lens[i]);
	}
}

static void same_in(const struct tiny_cfg *c, u32 threads, u32 step_tokens,
		    bool together)
{
	static struct answers alone, other;

	answer_all(&alone, c, 1, 512, false);
	answer_all(&other, c, threads, step_tokens, together);
	expect_same(&alone, &other);
	rig_close(&alone.rig);
	rig_close(&other.rig);
}

TEST(engine, a_batch_gives_the_bits_of_each_sequence_alone)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);

	same_in(&c, 1, 512, true);
	c = tiny_qwen(KV_DTYPE_Q4_K);
	same_in(&c, 1, 512, true);
}

TEST(engine, chunks_of_any_size_give_the_same_bits)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q4_K);

	same_in(&c, 1, 64, false);
	same_in(&c, 1, 65, true);
	c = tiny_qwen(KV_DTYPE_Q6_K);
	same_in(&c, 1, 71, true);
}

TEST(engine, more_threads_give_the_same_bits)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q5_0);

	same_in(&c, 3, 512, true);
	c = tiny_qwen(KV_DTYPE_BF16);
	same_in(&c, 2, 512, true);
}

/*
 * Of a greedy sequence only the largest logit is looked at, unless somebody
 * wants to know of others. Here rows of both kinds are in a block, and behind
 * them more of the first than a block has of the others.
 */
static void likeliest(struct rig *r, const struct tiny_cfg *c, u32 nr_logprobs,
		      struct request **q)
{
	const struct engine_opts o = { .step_tokens = 64, .logit_rows = 3 };
	u32 ids[64], i;

	rig_load(r, c, 3);
	ASSERT_EQ(0, kv_contig_create(r->m, 64, 1024, &r->b, r->err));
	rig_start(r, &o);
	for (i = 0; i < NR_SEQS; i++) {
		struct request_params p;

		rig_ids(r, ids, 20 + i, 500 + i);
		p = rig_params(ids, 20 + i, 30);
		p.nr_logprobs = i == 1 ? 3 : nr_logprobs;
		p.n = i == 4 ? 2 : 1;
		q[i] = rig_submit(r, &p);
	}
	rig_run(r);
}

static void expect_likeliest(const struct tiny_cfg *c)
{
	struct request *with[NR_SEQS], *without[NR_SEQS];
	struct rig a, b;
	u32 i, k;

	likeliest(&a, c, 3, with);
	likeliest(&b, c, 0, without);
	for (i = 0; i < NR_SEQS; i++) {
		const struct seq *s = with[i]->seqs[0];

		EXPECT_EQ(30, seq_nr_new(s));
		for (k = 0; k < with[i]->nr_seqs; k++)
			EXPECT_EQ(0, memcmp(s->ids, without[i]->seqs[k]->ids,
					    s->nr * sizeof(u32)));
	}
	rig_close(&a);
	rig_close(&b);
}

TEST(engine, the_likeliest_token_is_the_same_if_its_row_is_kept)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);

	expect_likeliest(&c);
	c.softcap_logits = 0.01; /* many are equal then */
	expect_likeliest(&c);
	c = tiny_qwen(KV_DTYPE_BF16);
	expect_likeliest(&c);
}

TEST(engine, parallel_samples_are_what_each_would_be_alone)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_F16);
	struct request *many, *again;
	struct request_params p;
	struct rig r, s;
	u32 ids[40], i, nr_differ = 0;

	rig_open(&r, &c, 1, 512);
	rig_open(&s, &c, 1, 64);
	rig_ids(&r, ids, 40, 9);
	p = rig_params(ids, 40, 30);
	p.n = 6;
	p.sampling.temperature = 1.0f;
	p.sampling.seed = 42;
	many = rig_submit(&r, &p);
	rig_run(&r);
	/* beside another request, in another engine */
	p.n = 2;
	p.sampling.seed = 1;
	rig_submit(&s, &p);
	p.n = 6;
	p.sampling.seed = 42;
	again = rig_submit(&s, &p);
	rig_run(&s);
	ASSERT_EQ(6, many->nr_seqs);
	for (i = 0; i < 6; i++) {
		EXPECT_TRUE(rig_same(many->seqs[i], again->seqs[i]));
		nr_differ += i && !rig_same(many->seqs[0], many->seqs[i]);
	}
	EXPECT_EQ(5, nr_differ);
	rig_close(&r);
	rig_close(&s);
}

/* log p(ids[from..nr)) by the fp64 forward. */
static double logp(const struct tiny *t, const u32 *ids, u32 from, u32 nr)
{
	double *x = malloc((size_t)nr * t->c.vocab * sizeof(*x)), lp = 0, sum;
	u32 i, j;

	ASSERT_TRUE(x != NULL);
	tiny_forward(t, ids, nr, x);
	for (i = from; i < nr; i++) {
		const double *row = x + (size_t)(i - 1) * t->c.vocab;

		for (sum = 0, j = 0; j < t->c.vocab; j++)
			sum += exp(row[j]);
		lp += row[ids[i]] - log(sum);
	}
	free(x);
	return lp;
}

TEST(engine, a_wide_beam_finds_the_best_of_all_continuations)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F32);
	struct request *q;
	struct request_params p;
	struct rig r;
	u32 ids[8], best[3] = { 0 }, a, b, d;
	double top = -INFINITY;

	c.vocab = 6;
	c.layers = 1;
	c.dim = 64;
	c.ffn = 64;
	c.heads = 1;
	c.kv_heads = 1;
	rig_open(&r, &c, 1, 512);
	rig_ids(&r, ids, 5, 3);
	for (a = 0; a < 6; a++)
		for (b = 0; b < 6; b++)
			for (d = 0; d < 6; d++) {
				double lp;

				ids[5] = a;
				ids[6] = b;
				ids[7] = d;
				lp = logp(&r.t, ids, 5, 8);
				if (lp > top) {
					top = lp;
					memcpy(best, ids + 5, sizeof(best));
				}
			}
	p = rig_params(ids, 5, 3);
	p.kind = REQUEST_BEAM;
	p.n = 36; /* as many as there are after two tokens */
	q = rig_submit(&r, &p);
	rig_run(&r);
	ASSERT_EQ(36, q->nr_ended);
	EXPECT_EQ(0, memcmp(q->ended[0]->ids + 5, best, sizeof(best)));
	EXPECT_NEAR(top, q->ended[0]->cum, 0.02);
	rig_close(&r);
}

TEST(engine, beams_are_ranked_and_carry_their_log_probabilities)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	struct request *q;
	struct request_params p;
	struct rig r;
	u32 ids[33], i, j, k;

	rig_open(&r, &c, 1, 512);
	rig_ids(&r, ids, 33, 3);
	p = rig_params(ids, 33, 24);
	p.kind = REQUEST_BEAM;
	p.n = 4;
	p.nr_logprobs = 8;
	q = rig_submit(&r, &p);
	rig_run(&r);
	ASSERT_EQ(4, q->nr_ended);
	for (i = 0; i < 4; i++) {
		const struct seq *s = q->ended[i];
		double sum = 0;

		EXPECT_EQ(24, seq_nr_new(s));
		EXPECT_TRUE(!i || s->cum <= q->ended[i - 1]->cum);
		for (j = 0; j < 24; j++) {
			const struct token_logprob *lp = s->lps + 8 * j;

			for (k = 0; k < 8 && lp[k].id != s->ids[33 + j]; k++)
				;
			ASSERT_LT(k, 8);
			sum += (double)lp[k].logprob;
		}
		EXPECT_NEAR(sum, s->cum, 1e-4);
	}
	rig_close(&r);
}

TEST(engine, a_conversation_goes_on_where_it_ended)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_F16);
	struct request *a, *b;
	struct request_params p;
	struct rig r, s;
	u32 ids[128], nr;
	u64 before;

	rig_open(&r, &c, 1, 512);
	rig_open(&s, &c, 1, 512);
	rig_ids(&r, ids, 128, 3);
	p = rig_params(ids, 40, 10);
	p.keep = true;
	a = rig_submit(&r, &p);
	rig_run(&r);
	/* its own answer, cut, and something new */
	nr = a->seqs[0]->nr - 3;
	memcpy(ids, a->seqs[0]->ids, nr * sizeof(*ids));
	before = engine_stats(r.e)->nr_prefill;
	ASSERT_EQ(0, engine_extend(r.e, a, ids, nr + 20, 10, r.err));
	rig_run(&r);
	EXPECT_EQ(20, engine_stats(r.e)->nr_prefill - before);
	p = rig_params(ids, nr + 20, 10);
	b = rig_submit(&s, &p);
	rig_run(&s);
	EXPECT_TRUE(rig_same(a->seqs[0], b->seqs[0]));
	/* a much shorter prompt leaves room for more alternatives */
	ASSERT_EQ(0, engine_extend(r.e, a, ids, 2, 100, r.err));
	rig_run(&r);
	EXPECT_EQ(100, seq_nr_new(a->seqs[0]));
	/* cancelled half-way it can still go on */
	ASSERT_EQ(0, engine_extend(r.e, a, ids, 60, 100, r.err));
	EXPECT_EQ(1, engine_step(r.e, r.err));
	engine_cancel(r.e, a);
	EXPECT_EQ(REQUEST_DONE, a->state);
	ASSERT_EQ(0, engine_extend(r.e, a, ids, nr + 20, 10, r.err));
	rig_run(&r);
	EXPECT_TRUE(rig_same(a->seqs[0], b->seqs[0]));
	engine_forget(r.e, a);
	EXPECT_EQ(0, engine_step(r.e, r.err));
	rig_close(&r);
	rig_close(&s);
}

/* ---- a backend that is short of pages ---- */

struct scarce {
	struct kv_backend b; /* what the engine sees */
	struct kv_backend *under;
	u32 limit; /* pages */
	u32 nr_late; /* waits that end without memory, from now on */
	int late; /* how they end; 0: -ETIMEDOUT */
	u32 gone; /* space of the step that was refused */
	u32 pages[64]; /* of each space */
	u32 nr_stale; /* every so many commits fail */
	u32 nr_commits;
	const struct kv_resv_item *items;
	u32 nr;
};

static struct kv_backend_ops scarce_ops;

static struct scarce *to_scarce(struct kv_backend *b)
{
	return container_of(b, struct scarce, b);
}

static int scarce_create(struct kv_backend *b, u32 *space)
{
	struct scarce *s = to_scarce(b);
	int rc = s->under->ops->space_create(s->under, space);

	if (!rc)
		s->pages[*space] = 0;
	return rc;
}

static int scarce_fork(struct kv_backend *b, u32 parent, u64 len, u32 *space)
{
	struct scarce *s = to_scarce(b);
	int rc = s->under->ops->space_fork(s->under, parent, len, space);

	if (!rc) /* nothing is shared here: a fork counts in full */
		s->pages[*space] = (u32)DIV_ROUND_UP(len, MODEL_PAGE_TOKENS);
	return rc;
}

static void scarce_destroy_space(struct kv_backend *b, u32 space)
{
	struct scarce *s = to_scarce(b);

	s->under->ops->space_destroy(s->under, space);
	s->pages[space] = 0;
}

static int scarce_prepare(struct kv_backend *b, const struct kv_resv_item *it,
			  u32 nr, int timeout_ms)
{
	struct scarce *s = to_scarce(b);
	u32 want[64], sum = 0, i;

	if (s->nr_late) {
		s->nr_late -= timeout_ms != 0;
		s->gone = it[0].space;
		if (!timeout_ms)
			return -EAGAIN;
		return s->late ? s->late : -ETIMEDOUT;
	}
	memcpy(want, s->pages, sizeof(want));
	for (i = 0; i < nr; i++)
		want[it[i].space] = (u32)DIV_ROUND_UP(
			it[i].pos + it[i].nr_tokens, MODEL_PAGE_TOKENS);
	for (i = 0; i < 64; i++)
		sum += want[i];
	if (sum > s->limit)
		return nr == 1 ? -E2BIG : -EAGAIN;
	memcpy(s->pages, want, sizeof(want));
	return s->under->ops->step_prepare(s->under, it, nr, timeout_ms);
}

static int scarce_commit(struct kv_backend *b)
{
	struct scarce *s = to_scarce(b);

	if (s->nr_stale && ++s->nr_commits % s->nr_stale == 0) {
		s->under->ops->step_abandon(s->under);
		return -ESTALE;
	}
	return s->under->ops->step_commit(s->under);
}

static const u32 *scarce_table(struct kv_backend *b, u32 space, u32 area)
{
	struct kv_backend *u = to_scarce(b)->under;

	return u->ops->space_table(u, space, area);
}

static bool scarce_lost(struct kv_backend *b, u32 *space)
{
	*space = to_scarce(b)->gone;
	return true;
}

static const char *scarce_error(struct kv_backend *b)
{
	return "scarce";
}

static void scarce_open(struct rig *r, struct scarce *s,
			const struct tiny_cfg *c, u32 limit)
{
	struct engine_opts o = { .step_tokens = 96,
				 .max_seqs = 64,
				 .wait_ms = 100 };

	rig_load(r, c, 1);
	memset(s, 0, sizeof(*s));
	ASSERT_EQ(0, kv_contig_create(r->m, 64, 1024, &s->under, r->err));
	s->b = *s->under;
	scarce_ops = *s->under->ops;
	scarce_ops.space_create = scarce_create;
	scarce_ops.space_fork = scarce_fork;
	scarce_ops.space_destroy = scarce_destroy_space;
	scarce_ops.space_table = scarce_table;
	scarce_ops.step_prepare = scarce_prepare;
	scarce_ops.step_commit = scarce_commit;
	scarce_ops.lost = scarce_lost;
	scarce_ops.error = scarce_error;
	s->b.ops = &scarce_ops;
	s->limit = limit;
	r->b = &s->b;
	rig_start(r, &o);
	r->b = s->under; /* what rig_close() destroys */
}

struct order {
	u32 nr;
	const struct request *done[NR_SEQS];
};

static void note_done(struct request *r, void *ctx)
{
	struct order *o = ctx;

	o->done[o->nr++] = r;
}

TEST(engine, short_of_memory_the_latest_gives_way_and_nothing_changes)
{
	static const struct request_events events = { .done = note_done };
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	static struct answers want;
	struct order order = { 0 };
	struct scarce s;
	struct rig r;
	u32 ids[256], i, j;

	answer_all(&want, &c, 1, 512, false);
	scarce_open(&r, &s, &c, 14);
	for (i = 0; i < NR_SEQS; i++) {
		struct request_params p;
		struct request *q;

		rig_ids(&r, ids, lens[i], 100 + i);
		p = rig_params(ids, lens[i], 20);
		if (i % 3 == 1) {
			p.sampling.temperature = 1.0f;
			p.sampling.top_p = 0.9f;
			p.sampling.seed = i;
		}
		p.events = &events;
		p.ctx = &order;
		q = rig_submit(&r, &p);
		ASSERT_TRUE(q != NULL);
	}
	rig_run(&r);
	EXPECT_GT(engine_stats(r.e)->nr_preempted, 0);
	TH_LOG("%llu preempted",
	       (unsigned long long)engine_stats(r.e)->nr_preempted);
	ASSERT_EQ(NR_SEQS, order.nr);
	for (i = 0; i < NR_SEQS; i++) {
		j = (u32)order.done[i]->arrival;
		EXPECT_EQ(0, order.done[i]->error);
		EXPECT_TRUE(
			rig_same(want.req[j]->seqs[0], order.done[i]->seqs[0]));
	}
	/* the first is never preempted */
	for (i = 0; i < NR_SEQS; i++)
		if (order.done[i]->arrival == 0)
			EXPECT_EQ(0, order.done[i]->nr_preempted);
	rig_close(&want.rig);
	rig_close(&r);
}

TEST(engine, preempted_samples_and_beams_come_out_the_same)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);
	struct request *want[2], *got[2];
	struct scarce s;
	struct rig r, q;
	u32 ids[40], i, k;

	rig_open(&q, &c, 1, 512);
	scarce_open(&r, &s, &c, 22);
	for (k = 0; k < 2; k++) {
		struct rig *rig = k ? &r : &q;
		struct request **req = k ? got : want;
		struct request_params p;

		rig_ids(rig, ids, 40, 77);
		p = rig_params(ids, 40, 20);
		p.n = 3;
		p.kind = REQUEST_BEAM;
		req[0] = rig_submit(rig, &p);
		p.kind = REQUEST_GENERATE;
		p.sampling.temperature = 1.0f;
		req[1] = rig_submit(rig, &p);
		rig_run(rig);
	}
	EXPECT_GT(got[1]->nr_preempted, 0);
	for (i = 0; i < 3; i++) {
		EXPECT_TRUE(rig_same(want[1]->seqs[i], got[1]->seqs[i]));
		EXPECT_TRUE(rig_same(want[0]->ended[i], got[0]->ended[i]));
	}
	rig_close(&q);
	rig_close(&r);
}

/* A request that waits alone: its pages are read meanwhile, and one is lost. */
TEST(engine, pages_lost_while_a_request_waits_alone_are_computed_again)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	struct request_params p;
	struct request *q, *want;
	struct scarce s;
	struct rig r, calm;
	u32 ids[32], i;

	scarce_open(&r, &s, &c, 64);
	rig_open(&calm, &c, 1, 96);
	rig_ids(&r, ids, 32, 5);
	p = rig_params(ids, 32, 12);
	want = rig_submit(&calm, &p);
	rig_run(&calm);
	q = rig_submit(&r, &p);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(1, engine_step(r.e, r.err));
	s.late = -ENODATA;
	s.nr_late = 1;
	rig_run(&r);
	EXPECT_EQ(0, q->error);
	EXPECT_EQ(1, engine_stats(r.e)->nr_lost);
	EXPECT_TRUE(rig_same(q->seqs[0], want->seqs[0]));
	rig_close(&calm);
	rig_close(&r);
}

/*
 * Begin-agains were counted with what neighbours took: who had given way to
 * others a few times, maybe turns ago, failed at the first wait in vain.
 */
TEST(engine, giving_way_to_others_does_not_use_up_the_restarts)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	struct request_params p;
	struct request *got;
	struct scarce s;
	struct rig r;
	u32 ids[24];

	scarce_open(&r, &s, &c, 64);
	rig_ids(&r, ids, 24, 6);
	p = rig_params(ids, 24, 4);
	got = rig_submit(&r, &p);
	ASSERT_TRUE(got != NULL);
	got->nr_preempted = 5; /* by neighbours */
	s.nr_late = 2;
	rig_run(&r);
	EXPECT_EQ(0, got->error);
	EXPECT_EQ(7, got->nr_preempted);
	rig_close(&r);
}

TEST(engine, a_revoked_step_is_computed_again)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	struct request *got, *want;
	struct request_params p;
	struct scarce s;
	struct rig r, q;
	u32 ids[60];

	rig_open(&q, &c, 1, 512);
	scarce_open(&r, &s, &c, 100);
	s.nr_stale = 7;
	rig_ids(&r, ids, 60, 4);
	p = rig_params(ids, 60, 15);
	want = rig_submit(&q, &p);
	rig_run(&q);
	got = rig_submit(&r, &p);
	rig_run(&r);
	EXPECT_GT(engine_stats(r.e)->nr_stale, 1);
	EXPECT_TRUE(rig_same(want->seqs[0], got->seqs[0]));
	rig_close(&q);
	rig_close(&r);
}

/* All of it was computed again, and then one sequence at a time. */
TEST(engine, a_revoked_step_does_not_make_requests_wait_for_each_other)
{
	struct tiny_cfg c = tiny_gemma(KV_DTYPE_Q8_0);
	struct request_params p;
	struct scarce s;
	struct rig r;
	u32 ids[20], i;

	scarce_open(&r, &s, &c, 64);
	rig_ids(&r, ids, 20, 4);
	p = rig_params(ids, 20, 15);
	for (i = 0; i < 4; i++)
		rig_submit(&r, &p);
	for (i = 0; i < 3; i++)
		ASSERT_EQ(1, engine_step(r.e, r.err));
	s.nr_stale = 1;
	ASSERT_EQ(1, engine_step(r.e, r.err));
	s.nr_stale = 0;
	rig_run(&r);
	EXPECT_EQ(1, engine_stats(r.e)->nr_stale);
	/* as many as without, those it threw away, and the prompts' */
	EXPECT_LE(engine_stats(r.e)->nr_steps, 15 + 3 + 4);
	rig_close(&r);
}

TEST(engine, a_request_that_can_never_fit_fails_alone)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);
	struct request *big, *small;
	struct request_params p;
	struct scarce s;
	struct rig r;
	u32 ids[200];

	scarce_open(&r, &s, &c, 8);
	rig_ids(&r, ids, 200, 4);
	p = rig_params(ids, 200, 15);
	big = rig_submit(&r, &p);
	p = rig_params(ids, 20, 15);
	small = rig_submit(&r, &p);
	rig_run(&r);
	EXPECT_EQ(-E2BIG, big->error);
	EXPECT_TRUE(big->message && strstr(big->message, "device memory"));
	EXPECT_EQ(0, small->error);
	EXPECT_EQ(15, seq_nr_new(small->seqs[0]));
	rig_close(&r);
}

TEST(engine, what_makes_no_sense_is_refused_with_a_sentence)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_F16);
	struct request *q;
	struct request_params good, p;
	struct rig r;
	u32 ids[2000] = { 0 };

	c.context = 100;
	rig_open(&r, &c, 1, 512);
	good = rig_params(ids, 10, 5);
#define EXPECT_REFUSED(change, part)                                   \
	do {                                                           \
		p = good;                                              \
		change;                                                \
		EXPECT_EQ(-EINVAL, engine_submit(r.e, &p, &q, r.err)); \
		if (!EXPECT_TRUE(strstr(r.err, part) != NULL))         \
			TH_LOG("%s", r.err);                           \
	} while (0)
	EXPECT_REFUSED(p.nr_prompt = 0, "empty");
	EXPECT_REFUSED(p.nr_prompt = 101, "the context 100");
	EXPECT_REFUSED(p.max_new = 0, "no token");
	EXPECT_REFUSED(p.n = 0, "0 sequences");
	EXPECT_REFUSED(p.n = 1000, "1000 sequences");
	EXPECT_REFUSED(p.nr_logprobs = 97, "97 alternatives");
	EXPECT_REFUSED(p.sampling.top_p = 0, "top-p");
	EXPECT_REFUSED(p.sampling.temperature = -1, "temperature");
	EXPECT_REFUSED(p.sampling.temperature = NAN, "temperature");
	EXPECT_REFUSED(p.sampling.min_p = 1, "min-p");
	EXPECT_REFUSED(p.sampling.repetition = 0, "repetition");
	EXPECT_REFUSED(p.sampling.presence = INFINITY, "presence");
	EXPECT_REFUSED((p.kind = REQUEST_SCORE, p.nr_prompt = 1), "score");
	EXPECT_REFUSED(ids[3] = 96, "token 96");
	ids[3] = 0;
	/* at the end of the context it stops */
	p = good;
	p.nr_prompt = 98;
	p.max_new = 50;
	q = rig_submit(&r, &p);
	rig_run(&r);
	EXPECT_EQ(2, seq_nr_new(q->seqs[0]));
	EXPECT_EQ(FINISH_LENGTH, q->seqs[0]->finish);
	/* a score has nothing to go on with */
	p = good;
	p.kind = REQUEST_SCORE;
	p.keep = true;
	q = rig_submit(&r, &p);
	rig_run(&r);
	EXPECT_EQ(-EINVAL, engine_extend(r.e, q, ids, 10, 5, r.err));
	EXPECT_EQ(0, engine_step(r.e, r.err));
	rig_close(&r);
}

TEST_HARNESS_MAIN
