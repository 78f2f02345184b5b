/* SPDX-License-Identifier: MIT */
/*
 * test_background.c - watermarks: memory is made free before anybody waits
 */
#include <errno.h>

#include "kvmd/mm/background.h"
#include "selftests/kvmd/mm/mmtest.h"

#define SEC 1000000000ull

FIXTURE(background)
{
	struct mt t;
	u32 tenant, a, geom, seq;
	u32 tokens[1024];
};

/* 16 extents: below 2 nothing is published, below 4 reclaim begins, up to 6. */
FIXTURE_SETUP(background)
{
	struct mt *t = &self->t;
	u32 i;

	memset(t, 0, sizeof(*t));
	t->cfg.device_bytes = 16ull * KV_EXTENT_SIZE;
	t->cfg.swap_bytes[0] = 64 << 20;
	t->cfg.ready_extents = 1;
	t->cfg.watermark_min = 2 * KV_EXTENT_SIZE;
	t->cfg.watermark_low = 4 * KV_EXTENT_SIZE;
	t->cfg.watermark_high = 6 * KV_EXTENT_SIZE;
	t->state = mt_map_state(t, &t->state_fd);
	ASSERT_EQ(mm_create(&t->cfg, t->state, &mt_ops, t, &t->mm), 0);
	mt_drain(t);
	self->tenant = mt_tenant(t, "a", MM_LIMIT_NONE);
	self->a = mt_attach(t, self->tenant);
	self->geom = mt_geom(t, self->a, MT_PAGE);
	for (i = 0; i < 1024; i++)
		self->tokens[i] = i;
}

FIXTURE_TEARDOWN(background)
{
	mt_fini(&self->t);
}

static u32 nr_free(const struct mt *t)
{
	return (u32)(background_free(t->mm) / KV_EXTENT_SIZE);
}

/* So long nobody asks for anything. */
static void pass_time(struct mt *t, u64 ns)
{
	u64 end = t->mm->now_ns + ns;

	while (t->mm->now_ns < end) {
		mm_tick(t->mm, t->mm->now_ns + 5000000);
		mt_drain(t);
	}
}

/* Published by a client that has gone on; nobody maps it. */
static void publish(struct mt *t, u32 client, u32 geom, const u32 *tokens,
		    u32 nr, u32 *seq)
{
	u32 s = mt_idle_space(t, client, geom, nr / 16);
	u32 i;

	kv_store_release(&t->cl[client].status->space[s].len, nr);
	for (i = 0; i < 20; i++) {
		mm_prefix_publish(t->mm, client, s, 0, tokens, nr, true, seq);
		mt_drain(t);
	}
	ASSERT_EQ(mm_space_destroy(t->mm, client, s), 0);
	mt_complete_all(t, client);
	mm_shrink(t->mm, client);
	mt_drain(t);
}

TEST_F(background, prefixes_that_nobody_maps_go_until_enough_is_free)
{
	struct mt *t = &self->t;
	struct mm_counts n;
	struct mm_usage u;
	u32 s;

	publish(t, self->a, self->geom, self->tokens, 4 * 256, &self->seq);
	mm_usage_get(t->mm, &u);
	ASSERT_EQ(u.cache_nodes, 64);
	pass_time(t, SEC);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.cache_nodes, 64); /* there is enough */
	s = mt_idle_space(t, self->a, self->geom, 9 * 16);
	pass_time(t, SEC / 10);
	EXPECT_EQ(nr_free(t), 6);
	mm_usage_get(t->mm, &u);
	EXPECT_LT(u.cache_nodes, 64);
	EXPECT_GT(u.cache_nodes, 0);
	mm_counts_get(t->mm, &n);
	EXPECT_EQ(n.reserves_short, 0); /* nobody waited */
	EXPECT_GT(n.reclaims_background, 0);
	EXPECT_EQ(mt_nr_swapped(t, self->a, s), 0);
	mt_check(t);
}

TEST_F(background, pages_that_are_cold_go_to_swap_and_others_stay)
{
	struct mt *t = &self->t;
	u32 cold, warm, b = mt_attach(t, self->tenant);
	u32 geom = mt_geom(t, b, MT_PAGE);

	cold = mt_idle_space(t, self->a, self->geom, 7 * 16);
	pass_time(t, 2 * SEC);
	warm = mt_idle_space(t, b, geom, 6 * 16);
	EXPECT_LT(nr_free(t), 4);
	pass_time(t, SEC / 2);
	EXPECT_GE(nr_free(t), 6);
	EXPECT_GT(mt_nr_swapped(t, self->a, cold), 0);
	EXPECT_EQ(mt_nr_swapped(t, b, warm), 0);
	mt_check(t);
}

TEST_F(background, what_was_used_just_now_stays)
{
	struct mt *t = &self->t;
	u32 s = mt_idle_space(t, self->a, self->geom, 13 * 16);

	EXPECT_LT(nr_free(t), 4);
	pass_time(t, SEC / 2);
	EXPECT_LT(nr_free(t), 4);
	EXPECT_EQ(mt_nr_swapped(t, self->a, s), 0);
	mt_check(t);
}

TEST_F(background, a_tenant_keeps_its_low)
{
	struct mt *t = &self->t;
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE,
				 .low_bytes = 13ull * KV_EXTENT_SIZE };
	u32 s = mt_idle_space(t, self->a, self->geom, 13 * 16);

	ASSERT_EQ(mm_tenant_limit(t->mm, self->tenant, &lim), 0);
	mt_drain(t);
	pass_time(t, 3 * SEC);
	EXPECT_LT(nr_free(t), 4);
	EXPECT_EQ(mt_nr_swapped(t, self->a, s), 0);
	mt_check(t);
}

/* Used just now, and nobody waits: it is asked for. */
TEST_F(background, a_goal_is_reached_and_then_forgotten)
{
	struct mt *t = &self->t;
	u32 s = mt_idle_space(t, self->a, self->geom, 7 * 16);
	u32 swapped;

	EXPECT_EQ(nr_free(t), 9);
	EXPECT_EQ(mm_reclaim(t->mm, 3ull * KV_EXTENT_SIZE),
		  12ull * KV_EXTENT_SIZE);
	pass_time(t, SEC / 2);
	EXPECT_GE(nr_free(t), 12);
	swapped = mt_nr_swapped(t, self->a, s);
	EXPECT_GE(swapped, 3 * 16);
	pass_time(t, 3 * SEC);
	EXPECT_EQ(mt_nr_swapped(t, self->a, s), swapped);
	EXPECT_EQ(t->mm->goal, 0);
	mt_check(t);
}

TEST_F(background, a_goal_out_of_reach_is_given_up)
{
	struct mt *t = &self->t;
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE,
				 .low_bytes = 7ull * KV_EXTENT_SIZE };
	u32 s = mt_idle_space(t, self->a, self->geom, 7 * 16);

	ASSERT_EQ(mm_tenant_limit(t->mm, self->tenant, &lim), 0);
	mt_drain(t);
	EXPECT_EQ(mm_reclaim(t->mm, ~0ull), 16ull * KV_EXTENT_SIZE);
	pass_time(t, SEC / 2);
	EXPECT_NE(t->mm->goal, 0);
	pass_time(t, SEC);
	EXPECT_EQ(t->mm->goal, 0);
	EXPECT_EQ(mt_nr_swapped(t, self->a, s), 0);
	mt_check(t);
}

TEST_F(background, watermarks_move)
{
	struct mt *t = &self->t;
	u32 s = mt_idle_space(t, self->a, self->geom, 7 * 16);
	const u64 x = KV_EXTENT_SIZE;

	EXPECT_EQ(mm_watermarks(t->mm, 3 * x, 2 * x, 4 * x), -EINVAL);
	EXPECT_EQ(mm_watermarks(t->mm, 1 * x, 5 * x, 4 * x), -EINVAL);
	EXPECT_EQ(mm_watermarks(t->mm, 1 * x, 5 * x, 17 * x), -EINVAL);
	pass_time(t, 3 * SEC);
	EXPECT_EQ(mt_nr_swapped(t, self->a, s), 0); /* nine are free */
	EXPECT_EQ(mm_watermarks(t->mm, 1 * x, 10 * x, 11 * x), 0);
	pass_time(t, 3 * SEC);
	EXPECT_GE(nr_free(t), 11);
	EXPECT_GT(mt_nr_swapped(t, self->a, s), 0);
	EXPECT_EQ(mm_watermarks(t->mm, 0, 0, 0), 0);
	mt_check(t);
}

TEST_F(background, below_min_nothing_more_is_published)
{
	struct mt *t = &self->t;
	u32 s = mt_idle_space(t, self->a, self->geom, 15 * 16);
	struct mm_usage u;

	EXPECT_LT(nr_free(t), 2);
	kv_store_release(&t->cl[self->a].status->space[s].len, 64);
	EXPECT_EQ(mm_prefix_publish(t->mm, self->a, s, 0, self->tokens, 64,
				    true, &self->seq),
		  0);
	mt_drain(t);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.cache_nodes, 0);
	mt_check(t);
}

TEST_HARNESS_MAIN
