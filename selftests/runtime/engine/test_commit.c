/* SPDX-License-Identifier: MIT */
/*
 * test_commit.c - commitments on kvmd's pages, and which of them are private
 */
#include "kv.h"
#include "runtime/engine/kv_backend.h"
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/engine/rig.h"

#define NR 40u

struct served {
	struct test_kvmd d;
	struct rig r;
	struct kv *kv;
};

static void served_open(struct served *s, const struct tiny_cfg *c,
			const struct engine_opts *eo, const char *limit)
{
	struct kv_attach_opts ao = { .sz = sizeof(ao) };
	struct kv_namespace ns = { .salt = 1 };

	memset(s, 0, sizeof(*s));
	ASSERT_EQ(0,
		  test_kvmd_start(&s->d, test_tmpdir(), "--size", "64M",
				  "--device", "cpu", "--limit", limit, NULL));
	ao.socket = s->d.socket;
	rig_load(&s->r, c, 1);
	ASSERT_EQ(0, kv_attach(&ao, &s->kv));
	ASSERT_EQ(0, kv_paged_create(s->kv, s->r.m, &ns, &s->r.b, s->r.err));
	rig_start(&s->r, eo);
}

static void served_close(struct served *s)
{
	rig_close(&s->r);
	kv_detach(s->kv);
	EXPECT_EQ(0, test_kvmd_check(&s->d));
	EXPECT_EQ(0, test_kvmd_stop(&s->d));
}

/* More than fits, of lengths that differ; who gave way, and how many ran. */
static struct engine_stats crowd(const struct tiny_cfg *c,
				 enum engine_admit admit,
				 enum engine_preempt preempt, const char *limit)
{
	struct engine_opts eo = { .step_tokens = 256,
				  .max_seqs = 64,
				  .admit = admit,
				  .preempt = preempt };
	struct engine_stats st;
	struct request *q[NR];
	struct request_params p;
	static u32 ids[700];
	struct served s;
	u32 i;

	served_open(&s, c, &eo, limit);
	rig_ids(&s.r, ids, 700, 3);
	for (i = 0; i < NR; i++) {
		p = rig_params(ids, 200 + 11 * i, 30 + 7 * (i % 9));
		p.nr_logprobs = 0;
		q[i] = rig_submit(&s.r, &p);
	}
	do {
		if (!EXPECT_EQ(0, engine_check(s.r.e, s.r.err)))
			TH_LOG("%s", s.r.err);
		st = *engine_stats(s.r.e);
		EXPECT_LE(st.resident, st.committed);
	} while (engine_step(s.r.e, s.r.err) == 1);
	for (i = 0; i < NR; i++) {
		EXPECT_EQ(0, q[i]->error);
		EXPECT_EQ(seq_nr_new(q[i]->seqs[0]), 30 + 7 * (i % 9));
	}
	st = *engine_stats(s.r.e);
	TH_LOG("limit %llu KiB: %u at once, %llu preempted, %llu put off",
	       (unsigned long long)st.limit >> 10, st.max_running,
	       (unsigned long long)st.nr_preempted,
	       (unsigned long long)st.nr_put_off);
	served_close(&s);
	return st;
}

TEST_TIMEOUT(commit, strict_on_real_pages_nobody_is_ever_short, 120)
{
	const struct tiny_cfg cfg[] = { tiny_gemma(KV_DTYPE_Q8_0),
					tiny_qwen(KV_DTYPE_Q8_0) };
	struct engine_stats st;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(cfg); i++) {
		st = crowd(&cfg[i], ENGINE_ADMIT_STRICT, ENGINE_PREEMPT_NONE,
			   i ? "16M" : "8M");
		EXPECT_EQ(0, st.nr_stalled);
		EXPECT_EQ(0, st.nr_preempted);
		EXPECT_GT(st.limit, 3 << 20);
		EXPECT_LE(st.limit, 16 << 20);
		EXPECT_GT(st.nr_put_off, 0); /* there was more than fits */
	}
	st = crowd(&cfg[1], ENGINE_ADMIT_OVERCOMMIT, ENGINE_PREEMPT_RECOMPUTE,
		   "16M");
	EXPECT_GT(st.nr_preempted, 0);
}

TEST(space, pages_that_a_fork_shares_are_nobodys_alone)
{
	struct engine_opts eo = { .step_tokens = 256, .max_seqs = 8 };
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);
	struct kv_resv_item it = { .nr_tokens = 100 };
	struct served s;
	u32 space, fork;
	u64 page;

	served_open(&s, &c, &eo, "16M");
	page = kv_space_bytes(s.r.b, 1);
	ASSERT_EQ(0, s.r.b->ops->space_create(s.r.b, &space));
	EXPECT_EQ(0, kv_space_private(s.kv, space));
	it.space = space;
	ASSERT_EQ(0, s.r.b->ops->step_prepare(s.r.b, &it, 1, 1000));
	ASSERT_EQ(0, s.r.b->ops->step_commit(s.r.b));
	EXPECT_EQ(7 * page, kv_space_private(s.kv, space));
	ASSERT_EQ(0, s.r.b->ops->space_fork(s.r.b, space, 100, &fork));
	/* its first token breaks the page that 100 ends in, for both */
	it = (struct kv_resv_item){ fork, 1, 100 };
	ASSERT_EQ(0, s.r.b->ops->step_prepare(s.r.b, &it, 1, 1000));
	ASSERT_EQ(0, s.r.b->ops->step_commit(s.r.b));
	EXPECT_EQ(page, kv_space_private(s.kv, fork));
	EXPECT_LE(kv_space_private(s.kv, space), page);
	EXPECT_EQ(0, kv_space_private(s.kv, 1000));
	s.r.b->ops->space_destroy(s.r.b, fork);
	s.r.b->ops->space_destroy(s.r.b, space);
	served_close(&s);
}

TEST_HARNESS_MAIN
