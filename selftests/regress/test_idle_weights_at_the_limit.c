/* SPDX-License-Identifier: MIT */
/*
 * test_idle_weights_at_the_limit.c - a step was told that it could never fit,
 * while the tenant's limit was taken up by weights that nobody had open
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/seq.h"
#include <kv.h>

static int fill(void *dst, size_t bytes, void *ctx)
{
	memset(dst, 1, bytes);
	return 0;
}

static void open_and_close_weights(struct kv *kv, uint8_t which)
{
	struct kv_msg_weights key = { .packing = 1,
				      .digest = { which },
				      .bytes = 2u << 20,
				      .name = "idle" };
	struct kv_weights w;

	ASSERT_EQ(0, kv_weights_open(kv, &key, fill, NULL, &w));
	kv_weights_close(kv, &w);
}

static void a_step_fits(unsigned int flags)
{
	static struct seqs c;
	static struct seq s;
	struct seq *q = &s;
	struct test_kvmd d;
	uint32_t n = 16;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
				     "--limit", "10M", NULL));
	ASSERT_EQ(0, seqs_attach(&c, d.socket, "idle"));
	open_and_close_weights(c.kv, 1);
	open_and_close_weights(c.kv, 2);
	ASSERT_EQ(0, seq_create(&c, &s));
	/* one extent of 8 MiB, and 4 MiB of weights beside it */
	if (!EXPECT_EQ(0, seq_step(&c, &q, &n, 1, 1, flags, 2000)))
		TH_LOG("%s", kv_error(c.kv));
	kv_detach(c.kv);
	EXPECT_EQ(0, test_kvmd_settle(&d, 0, 5000));
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST(idle_weights, give_way_to_a_step_at_the_limit)
{
	a_step_fits(0);
}

TEST(idle_weights, give_way_to_a_step_that_waits_at_the_limit)
{
	a_step_fits(KV_STEP_WAIT);
}

TEST_HARNESS_MAIN
