/* SPDX-License-Identifier: MIT */
/*
 * test_program.c - programs of generations say what single requests say
 */
#include <errno.h>
#include <math.h>

#include "kv.h"
#include "runtime/engine/kv_backend.h"
#include "runtime/engine/program.h"
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/engine/rig.h"

static const struct program_gen greedy = { .max_new = 6,
					   .sampling = SAMPLING_GREEDY };

FIXTURE(program)
{
	struct rig r;
	struct program *p;
	struct branch *b;
	u32 ids[64];
};

FIXTURE_SETUP(program)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);

	rig_open(&self->r, &c, 1, 64);
	rig_ids(&self->r, self->ids, 64, 4);
	ASSERT_EQ(0, program_create(self->r.e, &self->p, self->r.err));
	ASSERT_EQ(0,
		  program_begin(self->p, self->ids, 40, &self->b, self->r.err));
}

FIXTURE_TEARDOWN(program)
{
	program_destroy(self->p);
	rig_close(&self->r);
}

static bool ends_with(const struct branch *b, const struct seq *s)
{
	const u32 *ids;
	u32 nr;

	ids = program_ids(b, &nr);
	return nr == s->nr && !memcmp(ids, s->ids, nr * sizeof(*ids));
}

TEST_F(program, a_branch_goes_on_with_what_a_request_says)
{
	struct request_params p = rig_params(self->ids, 40, 6);
	struct request *r = rig_submit(&self->r, &p);

	rig_run(&self->r);
	ASSERT_EQ(0, program_gen(self->b, &greedy, self->r.err));
	EXPECT_EQ(-EBUSY, program_gen(self->b, &greedy, self->r.err));
	EXPECT_EQ(-EBUSY, program_append(self->b, self->ids, 1, self->r.err));
	ASSERT_EQ(0, program_join(self->p, self->r.err));
	EXPECT_EQ(0, program_error(self->b));
	EXPECT_TRUE(ends_with(self->b, r->seqs[0]));
}

TEST_F(program, samples_become_branches)
{
	struct request_params p = rig_params(self->ids, 40, 6);
	struct program_gen g = greedy;
	struct branch *f[3];
	struct request *r;
	u32 i;

	p.n = 4;
	p.sampling.temperature = g.sampling.temperature = 1;
	p.sampling.seed = g.sampling.seed = 5;
	r = rig_submit(&self->r, &p);
	rig_run(&self->r);
	ASSERT_EQ(0, program_gen_n(self->b, &g, 4, f, self->r.err));
	EXPECT_EQ(-EBUSY, program_append(f[0], self->ids, 1, self->r.err));
	program_drop(f[1]);
	ASSERT_EQ(0, program_join(self->p, self->r.err));
	EXPECT_TRUE(ends_with(self->b, r->seqs[0]));
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(i == 1 || ends_with(f[i], r->seqs[i + 1]));
}

/* They answered -EBUSY for ever. */
TEST_F(program, samples_of_a_branch_that_is_dropped_are_cancelled)
{
	struct branch *f[3];
	u32 i;

	ASSERT_EQ(0, program_gen_n(self->b, &greedy, 4, f, self->r.err));
	program_drop(f[1]);
	program_drop(self->b);
	ASSERT_EQ(0, program_join(self->p, self->r.err));
	for (i = 0; i < 3; i += 2) {
		EXPECT_EQ(-ECANCELED, program_error(f[i]));
		EXPECT_EQ(0, program_append(f[i], self->ids, 1, self->r.err));
	}
}

TEST_F(program, the_best_of_samples_and_beams_is_taken)
{
	struct request_params p = rig_params(self->ids, 40, 6);
	struct program_gen g = greedy;
	struct request *r, *beams;
	struct branch *c;
	double best = -1e9;
	u32 i, at = 0;

	ASSERT_EQ(0, program_fork(self->b, &c, self->r.err));
	p.n = 4;
	p.sampling.temperature = g.sampling.temperature = 1;
	r = rig_submit(&self->r, &p);
	rig_run(&self->r);
	for (i = 0; i < 4; i++)
		if (r->seqs[i]->cum / seq_nr_new(r->seqs[i]) > best) {
			best = r->seqs[i]->cum / seq_nr_new(r->seqs[i]);
			at = i;
		}
	p.n = 3;
	p.kind = REQUEST_BEAM;
	p.sampling = greedy.sampling;
	beams = rig_submit(&self->r, &p);
	rig_run(&self->r);
	ASSERT_EQ(0, program_best_of(self->b, &g, 4, self->r.err));
	ASSERT_EQ(0, program_beam(c, &greedy, 3, self->r.err));
	ASSERT_EQ(0, program_join(self->p, self->r.err));
	EXPECT_EQ(at, program_selected(self->b));
	EXPECT_TRUE(ends_with(self->b, r->seqs[at]));
	EXPECT_EQ(0, program_error(c));
	/* what ended, not what it was continued from */
	EXPECT_TRUE(ends_with(c, request_answer(beams, 0)));
	EXPECT_EQ(6, seq_nr_new(request_answer(beams, 0)));
	EXPECT_EQ(request_answer(beams, 0)->cum / 6, program_score(c));
}

/* log-probability of each token, by position */
struct scores {
	double lp[64];
};

static void on_score(struct request *r, u32 pos, double lp, u32 best, void *ctx)
{
	(void)r;
	(void)best;
	((struct scores *)ctx)->lp[pos] = lp;
}

static double mean_score(struct rig *r, const u32 *ids, u32 from, u32 nr)
{
	static const struct request_events events = { .score = on_score };
	struct scores s = { { 0 } };
	struct request_params p = rig_params(ids, nr, 0);
	double sum = 0;
	u32 i;

	p.kind = REQUEST_SCORE;
	p.nr_logprobs = 0;
	p.events = &events;
	p.ctx = &s;
	rig_submit(r, &p);
	rig_run(r);
	for (i = from; i < nr; i++)
		sum += s.lp[i];
	return sum / (nr - from);
}

/* @give: its requests lose their pages between the first steps. */
static void select_among(struct rig *r, struct program *p, struct rig *want,
			 u64 seed, bool give)
{
	struct program_choice choice[5];
	u32 ids[60], tail[5][8], i, best = 0, nr;
	double score[5];
	struct branch *b;

	rig_ids(r, ids, 60, seed);
	for (i = 0; i < 5; i++) {
		rig_ids(r, tail[i], 8, 10 * seed + i);
		choice[i] = (struct program_choice){ tail[i], 1 + i };
		memcpy(ids + 50, tail[i], (1 + i) * sizeof(u32));
		score[i] = mean_score(want, ids, 50, 51 + i);
		if (score[i] > score[best])
			best = i;
	}
	ASSERT_EQ(0, program_begin(p, ids, 50, &b, r->err));
	ASSERT_EQ(0, program_select(b, choice, 5, r->err));
	for (i = 0; give && i < 6 && engine_step(r->e, r->err) == 1; i++)
		engine_give_back(r->e, 1);
	ASSERT_EQ(0, program_join(p, r->err));
	EXPECT_EQ(0, program_error(b));
	EXPECT_EQ(best, program_selected(b));
	EXPECT_EQ(score[best], program_score(b));
	program_ids(b, &nr);
	EXPECT_EQ(51 + best, nr);
}

TEST_F(program, the_likeliest_continuation_is_selected)
{
	u64 seed;

	for (seed = 1; seed < 6; seed++)
		select_among(&self->r, self->p, &self->r, seed, false);
	EXPECT_EQ(-EINVAL, program_select(self->b, NULL, 0, self->r.err));
}

/* What had been said before was counted twice. */
TEST_F(program, a_choice_that_gives_way_is_scored_once)
{
	u64 seed;

	for (seed = 1; seed < 6; seed++)
		select_among(&self->r, self->p, &self->r, seed, true);
	EXPECT_GT(engine_stats(self->r.e)->nr_preempted, 0);
}

TEST_F(program, what_is_dropped_or_destroyed_is_cancelled)
{
	struct branch *c;

	ASSERT_EQ(0, program_fork(self->b, &c, self->r.err));
	ASSERT_EQ(0, program_gen(self->b, &greedy, self->r.err));
	ASSERT_EQ(0, program_gen(c, &greedy, self->r.err));
	program_drop(c);
	ASSERT_EQ(1, engine_step(self->r.e, self->r.err));
	program_destroy(self->p);
	self->p = NULL;
	EXPECT_EQ(0, engine_step(self->r.e, self->r.err));
}

/* A question, four thoughts, of each four more, and which is the likeliest. */
TEST(program_shared, a_tree_of_thought_computes_what_it_shares_once)
{
	struct engine_opts eo = { .step_tokens = 128,
				  .max_seqs = 32,
				  .prefix_cache = true };
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);
	struct kv_attach_opts ao = { .sz = sizeof(ao) };
	struct kv_namespace ns = { .salt = 1 };
	struct program_gen g = greedy;
	struct branch *b, *first[3], *more[4][3];
	struct program *p;
	struct test_kvmd d;
	struct rig r, want;
	struct kv *kv;
	u32 ids[200], i;

	ASSERT_EQ(0,
		  test_kvmd_start(&d, test_tmpdir(), "--size", "128M", NULL));
	ao.socket = d.socket;
	rig_open(&want, &c, 1, 128);
	rig_load(&r, &c, 1);
	ASSERT_EQ(0, kv_attach(&ao, &kv));
	ASSERT_EQ(0, kv_paged_create(kv, r.m, &ns, &r.b, r.err));
	rig_start(&r, &eo);
	rig_ids(&r, ids, 200, 8);
	g.sampling.temperature = 1;
	ASSERT_EQ(0, program_create(r.e, &p, r.err));
	ASSERT_EQ(0, program_begin(p, ids, 200, &b, r.err));
	ASSERT_EQ(0, program_gen_n(b, &g, 4, first, r.err));
	ASSERT_EQ(0, program_join(p, r.err));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, program_gen_n(i ? first[i - 1] : b, &g, 4, more[i],
					   r.err));
	ASSERT_EQ(0, program_join(p, r.err));
	select_among(&r, p, &want, 9, false);
	/* four times the question, but for its last tokens */
	EXPECT_GE(engine_stats(r.e)->nr_mapped, 4 * 190);
	EXPECT_LE(engine_stats(r.e)->nr_prefill, 350);
	program_destroy(p);
	rig_close(&r);
	kv_detach(kv);
	rig_close(&want);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
