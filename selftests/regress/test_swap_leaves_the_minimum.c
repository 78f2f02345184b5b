/* SPDX-License-Identifier: MIT */
/*
 * test_swap_leaves_the_minimum.c - one large request takes nobody below their
 * min
 *
 * Reclaim chose extent after extent of a tenant by what it held, which falls
 * only when they have been written: all of them could go at once, whatever its
 * min said.
 */
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(swap_min)
{
	struct mt t;
};

FIXTURE_SETUP(swap_min)
{
	mt_init_swap(&self->t, 4, 1, 64 << 20, 0);
}

FIXTURE_TEARDOWN(swap_min)
{
	mt_fini(&self->t);
}

TEST_F(swap_min, holds_in_one_search_too)
{
	struct mt *t = &self->t;
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE,
				 .low_bytes = 2 * KV_EXTENT_SIZE,
				 .min_bytes = 2 * KV_EXTENT_SIZE };
	u32 a = mt_tenant(t, "a", MM_LIMIT_NONE), giver = mt_attach(t, a);
	u32 taker = mt_attach(t, mt_tenant(t, "b", MM_LIMIT_NONE));
	u32 s;

	ASSERT_EQ(mm_tenant_limit(t->mm, a, &lim), 0);
	mt_geom(t, giver, MT_PAGE);
	mt_geom(t, taker, MT_PAGE);
	s = mt_space(t, giver, 0);
	ASSERT_EQ(mt_reserve(t, giver, s, 0, 4 * MT_PER_EXTENT * 16, 0, NULL),
		  0);
	mt_complete_all(t, giver);
	s = mt_space(t, taker, 0);
	EXPECT_EQ(mt_reserve(t, taker, s, 0, 4 * MT_PER_EXTENT * 16, 0, NULL),
		  -EAGAIN);
	EXPECT_LE(t->nr_swap_out, 2 * MT_PER_EXTENT);
	EXPECT_EQ(mt_reserve(t, taker, s, 0, 2 * MT_PER_EXTENT * 16, 0, NULL),
		  0);
	EXPECT_EQ(t->nr_swap_out, 2 * MT_PER_EXTENT);
	mt_check(t);
}

TEST_HARNESS_MAIN
