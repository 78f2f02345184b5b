/* SPDX-License-Identifier: MIT */
/*
 * test_cost.c - swapped pages are read back, or computed again if that is less
 */
#include <unistd.h>

#include "kv.h"
#include "runtime/engine/cost.h"
#include "runtime/engine/kv_backend.h"
#include "selftests/lib_kvmd.h"
#include "selftests/runtime/engine/rig.h"

/* All or nothing: are @bytes read rather than @tokens computed? */
static bool reads(struct cost *c, u64 bytes, u32 tokens)
{
	const struct cost_run r = { .bytes = bytes,
				    .tokens = tokens,
				    .grain = 16 };
	u32 again = cost_choose(c, &r);

	EXPECT_TRUE(!again || again == tokens);
	return !again;
}

TEST(cost, what_is_not_known_is_tried)
{
	struct cost c = { 0 };

	EXPECT_TRUE(reads(&c, 1 << 30, 1));
	cost_computed(&c, 512, 1);
	EXPECT_TRUE(reads(&c, 1 << 30, 1));
}

TEST(cost, the_cheaper_one_is_taken)
{
	struct cost c = { 0 };

	cost_computed(&c, 512, 0.512); /* a millisecond each */
	cost_read(&c, 1 << 20, 0.010, true); /* 10 ms a MiB */
	EXPECT_TRUE(reads(&c, 1 << 20, 20));
	EXPECT_FALSE(reads(&c, 1 << 20, 5));
	EXPECT_FALSE(reads(&c, 4 << 20, 20));
	/* what is read takes a step more, what is computed is in that step */
	cost_computed(&c, 1, 0.015);
	EXPECT_FALSE(reads(&c, 1 << 20, 20));
	EXPECT_TRUE(reads(&c, 1 << 20, 30));
}

TEST(cost, a_slow_disk_is_tried_again_now_and_then)
{
	struct cost c = { 0 };
	u32 i, tried = 0;

	cost_computed(&c, 512, 0.512);
	cost_read(&c, 1 << 20, 100, true);
	for (i = 0; i < 4 * COST_EXPLORE; i++)
		tried += reads(&c, 1 << 20, 5);
	EXPECT_EQ(tried, 4);
	cost_read(&c, 1 << 20, 0.0001, true); /* it is not slow any more */
	for (i = 0; i < 60; i++)
		cost_read(&c, 1 << 20, 0.0001, true);
	EXPECT_TRUE(reads(&c, 1 << 20, 5));
}

TEST(cost, little_says_nothing)
{
	struct cost c = { 0 };

	cost_computed(&c, COST_TOKENS - 1, 1);
	cost_read(&c, COST_BYTES_MIN - 1, 1, true);
	EXPECT_TRUE(c.token_s == 0 && c.byte_s == 0);
}

TEST(cost, pages_that_nobody_waited_for_came_no_later)
{
	struct cost c = { 0 };

	cost_read(&c, 1 << 20, 1, false);
	EXPECT_TRUE(c.byte_s == 0);
	cost_read(&c, 1 << 20, 1, true);
	cost_read(&c, 1 << 20, 2, false);
	EXPECT_TRUE(c.byte_s * (1 << 20) == 1);
	cost_read(&c, 1 << 20, 0.5, false);
	EXPECT_TRUE(c.byte_s * (1 << 20) < 1);
}

/* Seconds that a run takes of which @again tokens are computed. */
static double takes(const struct cost *c, const struct cost_run *r, u32 again)
{
	double read = (double)r->bytes * c->byte_s;

	if (again == r->tokens)
		return again * c->token_s;
	return max(again * c->token_s, read * (r->tokens - again) / r->tokens) +
	       c->step_s;
}

TEST(cost, a_run_is_divided_where_both_parts_end_together)
{
	u64 seed = 7;
	u32 i, divided = 0, h;

	for (i = 0; i < 2000; i++) {
		struct cost c = {
			.token_s = 0.001,
			.step_s = (double)(test_rand(&seed) % 50) / 1000,
			.byte_s = (double)(test_rand(&seed) % 1000) / 1e9
		};
		struct cost_run r = { .tokens = 32 +
						(u32)(test_rand(&seed) % 999),
				      .grain = 16,
				      .most = (u32)(test_rand(&seed) % 600) };
		u32 got, whole;
		double best;

		r.bytes = (u64)r.tokens * 4096;
		if (c.byte_s <= 0)
			continue;
		got = cost_choose(&c, &r);
		whole = got == r.tokens;
		EXPECT_TRUE(whole || (got % 16 == 0 && got <= r.most));
		best = takes(&c, &r, r.tokens);
		for (h = 0; h <= min(r.most, r.tokens - 1); h += 16)
			best = min(best, takes(&c, &r, h));
		/* a page more or less, or a division that gains too little */
		EXPECT_TRUE(takes(&c, &r, got) <=
			    best / 0.95 + 16 * (c.token_s + 4096 * c.byte_s));
		divided += got && !whole;
	}
	EXPECT_GT(divided, 500);
}

#define NR 20

/* More than there is memory for, in three rounds; each answer is compared. */
static void run(const char *delay, struct engine_stats *out)
{
	struct engine_opts eo = { .step_tokens = 512, .max_seqs = 64 };
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q8_0);
	struct kv_namespace ns = { .salt = 1 };
	struct kv_attach_opts ao = { .sz = sizeof(ao) };
	struct request *got[NR], *want[NR];
	struct request_params p;
	struct test_kvmd d;
	struct rig r, plain;
	static u32 ids[1000];
	struct kv *kv;
	u32 i, round;

	if (delay)
		setenv("KV_DELAY", delay, 1);
	ASSERT_EQ(0,
		  test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
				  "--device", delay ? "delay:cpu" : "cpu",
				  "--limit", "8M", "--swap-ram", "64M", NULL));
	unsetenv("KV_DELAY");
	ao.socket = d.socket;
	rig_load(&r, &c, 1);
	ASSERT_EQ(0, kv_attach(&ao, &kv));
	ASSERT_EQ(0, kv_paged_create(kv, r.m, &ns, &r.b, r.err));
	rig_start(&r, &eo);
	rig_open(&plain, &c, 1, 512);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < NR; i++) {
			rig_ids(&r, ids, 1000, i + 100 * round);
			p = rig_params(ids, 420 + i, 110);
			got[i] = rig_submit(&r, &p);
			if (i % 5 == 0)
				want[i] = rig_submit(&plain, &p);
		}
		rig_run(&r);
		rig_run(&plain);
		for (i = 0; i < NR; i++) {
			EXPECT_EQ(0, got[i]->error);
			if (i % 5 == 0)
				EXPECT_TRUE(rig_same(got[i]->seqs[0],
						     want[i]->seqs[0]));
			engine_forget(r.e, got[i]);
		}
	}
	*out = *engine_stats(r.e);
	TH_LOG("delay %s: %llu preempted, %llu of them to swap, %llu computed "
	       "again as that is cheaper, %llu KiB read back",
	       delay ? delay : "none", (unsigned long long)out->nr_preempted,
	       (unsigned long long)out->nr_paused,
	       (unsigned long long)out->nr_cheaper,
	       (unsigned long long)out->nr_read >> 10);
	rig_close(&r);
	rig_close(&plain);
	kv_detach(kv);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_TIMEOUT(cost_engine, swap_that_is_slow_is_left_alone, 400)
{
	struct engine_stats fast, slow;

	run(NULL, &fast);
	run("write:40000", &slow);
	EXPECT_GT(fast.nr_read, 0);
	EXPECT_GT(slow.nr_preempted, slow.nr_paused);
}

TEST_HARNESS_MAIN
