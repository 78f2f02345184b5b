/* SPDX-License-Identifier: MIT */
/*
 * test_swap_skips_shared_with_busy.c - a space that cannot give hides no other
 *
 * The space used longest ago was the only one that reclaim asked. All of its
 * pages shared with one in use, nothing left, and a reservation was refused
 * beside pages that could have.
 */
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(swap_shared)
{
	struct mt t;
	u32 tenant, client, geom;
};

FIXTURE_SETUP(swap_shared)
{
	mt_init_swap(&self->t, 2, 1, 32 << 20, 0);
	self->tenant = mt_tenant(&self->t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(&self->t, self->tenant);
	self->geom = mt_geom(&self->t, self->client, MT_PAGE);
}

FIXTURE_TEARDOWN(swap_shared)
{
	mt_fini(&self->t);
}

TEST_F(swap_shared, the_next_space_gives_when_the_oldest_cannot)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8), c, d;
	int b = mm_space_fork(t->mm, self->client, a, 8 * 16);

	ASSERT_GE(b, 0);
	kv_step_mark(&t->cl[self->client].status->space[b], ~0ull);
	mm_tick(t->mm, 1000);
	c = mt_idle_space(t, self->client, self->geom, 8);
	/* The other extent is in use. */
	d = mt_space(t, self->client, self->geom);
	ASSERT_EQ(
		mt_reserve(t, self->client, d, 0, MT_PER_EXTENT * 16, 0, NULL),
		0);
	d = mt_space(t, self->client, self->geom);
	EXPECT_EQ(mt_reserve(t, self->client, d, 0, 16, 0, NULL), 0);
	EXPECT_GT(mt_nr_swapped(t, self->client, c), 0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 0);
	mt_check(t);
}

TEST_HARNESS_MAIN
