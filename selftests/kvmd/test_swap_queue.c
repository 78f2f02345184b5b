/* SPDX-License-Identifier: MIT */
/*
 * test_swap_queue.c - whose page is next at a swap tier
 */
#include <stdlib.h>
#include "kvmd/swap_queue.h"
#include "selftests/harness.h"

#define TURNS 4096u

struct bench {
	struct swap_queue q;
	struct swap_turn turn[TURNS];
	bool used[TURNS];
	u64 served[MM_TENANT_MAX];
	uint64_t seed;
};

static struct bench *bench_new(void)
{
	struct bench *b = calloc(1, sizeof(*b));

	ASSERT_TRUE(b != NULL);
	swap_queue_init(&b->q);
	b->seed = test_seed();
	return b;
}

static struct swap_turn *add(struct bench *b, u32 tenant, u32 weight, u32 bytes,
			     bool background)
{
	u32 i = 0;

	while (b->used[i])
		i++;
	ASSERT_LT(i, TURNS);
	b->used[i] = true;
	b->turn[i] = (struct swap_turn){ .tenant = tenant,
					 .weight = weight,
					 .bytes = bytes,
					 .background = background };
	swap_queue_add(&b->q, &b->turn[i]);
	return &b->turn[i];
}

/* Return: whose was served; MM_NONE: nobody waits. */
static u32 serve(struct bench *b)
{
	struct swap_turn *t = swap_queue_first(&b->q);

	if (!t)
		return MM_NONE;
	swap_queue_begin(&b->q, t);
	b->served[t->tenant] += t->bytes;
	b->used[t - b->turn] = false;
	return t->tenant;
}

static u32 some_bytes(struct bench *b, u32 most)
{
	return (u32)(1 + test_rand(&b->seed) % (most / 4096)) * 4096;
}

static double share(const struct bench *b, u32 i, u32 k)
{
	return (double)b->served[i] / (double)b->served[k];
}

TEST(swap_queue, two_that_always_wait_get_bytes_by_weight)
{
	struct bench *b = bench_new();
	u32 i, who;

	/* Pages of very different sizes. */
	for (i = 0; i < 64; i++)
		add(b, i % 2, i % 2 ? 300 : 100,
		    some_bytes(b, i % 2 ? 32 << 10 : 1 << 20), false);
	for (i = 0; i < 20000; i++) {
		who = serve(b);
		add(b, who, who ? 300 : 100,
		    some_bytes(b, who ? 32 << 10 : 1 << 20), false);
	}
	EXPECT_GE(share(b, 1, 0), 2.7);
	EXPECT_LE(share(b, 1, 0), 3.3);
	free(b);
}

TEST(swap_queue, many_tenants_get_bytes_by_weight)
{
	struct bench *b = bench_new();
	u32 i, n = 16, who;

	for (i = 0; i < 16 * n; i++)
		add(b, i % n, 1 + i % n, 48 << 10, false);
	for (i = 0; i < 40000; i++) {
		who = serve(b);
		add(b, who, 1 + who, 48 << 10, false);
	}
	for (i = 1; i < n; i++) {
		EXPECT_GE(share(b, i, 0), 0.9 * (1 + i));
		EXPECT_LE(share(b, i, 0), 1.1 * (1 + i));
	}
	free(b);
}

TEST(swap_queue, one_alone_is_served_whenever_it_waits)
{
	struct bench *b = bench_new();
	u32 i;

	add(b, 7, 10000, 4096, false);
	EXPECT_EQ(serve(b), 7);
	for (i = 0; i < 1000; i++) {
		add(b, 3, 1, 1 << 20, false);
		EXPECT_EQ(serve(b), 3);
	}
	EXPECT_EQ(serve(b), MM_NONE);
	free(b);
}

TEST(swap_queue, who_did_not_want_its_share_has_saved_none)
{
	struct bench *b = bench_new();
	u32 i, k;

	for (i = 0; i < 1000; i++) {
		add(b, 0, 100, 48 << 10, false);
		serve(b);
	}
	b->served[0] = 0;
	for (i = 0; i < 500; i++)
		for (k = 0; k < 2; k++)
			add(b, k, 100, 48 << 10, false);
	for (i = 0; i < 500; i++)
		serve(b);
	EXPECT_GE(share(b, 1, 0), 0.9);
	EXPECT_LE(share(b, 1, 0), 1.1);
	free(b);
}

TEST(swap_queue, pages_in_the_background_go_behind_their_tenants_others)
{
	struct bench *b = bench_new();
	struct swap_turn *back = add(b, 0, 1, 4096, true), *t;
	u32 i;

	for (i = 0; i < 8; i++)
		add(b, 0, 1, 4096, false);
	for (i = 0; i < 8; i++) {
		EXPECT_NE(swap_queue_first(&b->q), back);
		serve(b);
	}
	EXPECT_EQ(swap_queue_first(&b->q), back);
	/* but not behind other tenants' */
	add(b, 1, 1, 4096, false);
	add(b, 1, 1, 4096, false);
	t = swap_queue_first(&b->q);
	serve(b);
	EXPECT_TRUE(t == back || swap_queue_first(&b->q) == back);
	free(b);
}

TEST(swap_queue, what_is_taken_back_has_cost_nothing)
{
	struct bench *b = bench_new();
	struct swap_turn *t;
	u32 i;

	for (i = 0; i < 100; i++) {
		t = add(b, 0, 1, 1 << 20, false);
		swap_queue_del(&b->q, t);
		b->used[t - b->turn] = false;
	}
	EXPECT_EQ(b->q.nr, 0);
	add(b, 0, 1, 4096, false);
	add(b, 1, 1, 4096, false);
	EXPECT_EQ(serve(b), 0);
	EXPECT_EQ(serve(b), 1);
	free(b);
}

TEST_HARNESS_MAIN
