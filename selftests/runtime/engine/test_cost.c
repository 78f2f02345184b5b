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

TEST(cost, what_is_not_known_is_tried)
{
	struct cost c = { 0 };

	EXPECT_TRUE(cost_prefers_swap(&c, 1 << 30, 1));
	cost_computed(&c, 512, 1);
	EXPECT_TRUE(cost_prefers_swap(&c, 1 << 30, 1));
}

TEST(cost, the_cheaper_one_is_taken)
{
	struct cost c = { 0 };

	cost_computed(&c, 512, 0.512); /* a millisecond each */
	cost_read(&c, 1 << 20, 0.010); /* 10 ms a MiB */
	EXPECT_TRUE(cost_prefers_swap(&c, 1 << 20, 20));
	EXPECT_FALSE(cost_prefers_swap(&c, 1 << 20, 5));
	EXPECT_FALSE(cost_prefers_swap(&c, 4 << 20, 20));
}

TEST(cost, a_slow_disk_is_tried_again_now_and_then)
{
	struct cost c = { 0 };
	u32 i, tried = 0;

	cost_computed(&c, 512, 0.512);
	cost_read(&c, 1 << 20, 100);
	for (i = 0; i < 4 * COST_EXPLORE; i++)
		tried += cost_prefers_swap(&c, 1 << 20, 5);
	EXPECT_EQ(tried, 4);
	cost_read(&c, 1 << 20, 0.0001); /* it is not slow any more */
	for (i = 0; i < 60; i++)
		cost_read(&c, 1 << 20, 0.0001);
	EXPECT_TRUE(cost_prefers_swap(&c, 1 << 20, 5));
}

TEST(cost, little_says_nothing)
{
	struct cost c = { 0 };

	cost_computed(&c, COST_TOKENS - 1, 1);
	cost_read(&c, COST_BYTES_MIN - 1, 1);
	EXPECT_TRUE(c.token_s == 0 && c.byte_s == 0);
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

TEST_TIMEOUT(cost_engine, swap_that_is_slow_is_left_alone, 120)
{
	struct engine_stats fast, slow;

	run(NULL, &fast);
	run("write:20000", &slow);
	EXPECT_GT(fast.nr_read, 0);
	EXPECT_GT(slow.nr_preempted, slow.nr_paused);
}

TEST_HARNESS_MAIN
