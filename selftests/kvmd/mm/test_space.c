/* SPDX-License-Identifier: MIT */
/*
 * test_space.c - slots, generations, truncation
 */
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(space)
{
	struct mt t;
	u32 client, geom;
};

FIXTURE_SETUP(space)
{
	mt_init(&self->t, 32, 2);
	self->client =
		mt_attach(&self->t, mt_tenant(&self->t, "a", MM_LIMIT_NONE));
	self->geom = mt_geom(&self->t, self->client, 48 * 1024);
}

FIXTURE_TEARDOWN(space)
{
	mt_fini(&self->t);
}

TEST_F(space, is_described_in_the_table)
{
	struct mt *t = &self->t;
	int s = mt_space2(t, self->client, self->geom, 0, self->geom, 100);
	struct kv_space_desc *d;

	ASSERT_GE(s, 0);
	d = kv_table_space(t->cl[self->client].table, (u32)s);
	EXPECT_EQ(d->state, KV_SPACE_LIVE);
	EXPECT_EQ(d->nr_areas, 2);
	EXPECT_EQ(d->area[1].window, 100);
	EXPECT_EQ(d->area[0].leaf[0], KV_LEAF_NONE);
	EXPECT_EQ(d->parent, MM_NONE);
	EXPECT_GT(d->gen, 0);
}

TEST_F(space, in_a_used_slot_has_a_higher_generation_and_serial)
{
	struct mt *t = &self->t;
	u32 s = mt_space(t, self->client, self->geom), again, i;
	struct kv_space_desc *d = kv_table_space(t->cl[self->client].table, s);
	u64 gen = 0;
	u32 serial = 0;

	for (i = 0; i < 10; i++) {
		EXPECT_GT(d->gen, gen);
		EXPECT_GT(d->serial, serial);
		gen = d->gen;
		serial = d->serial;
		ASSERT_EQ(mt_reserve(t, self->client, s, 0, 20, 0, NULL), 0);
		ASSERT_EQ(mm_space_destroy(t->mm, self->client, s), 0);
		EXPECT_EQ(d->state, KV_SPACE_FREE);
		again = mt_space(t, self->client, self->geom);
		EXPECT_EQ(again, s);
	}
	/* A step number of the old life is not granted again. */
	t->cl[self->client].step = 0;
	EXPECT_EQ(mt_reserve(t, self->client, s, 0, 20, 0, NULL), -EBUSY);
	mt_check(t);
}

TEST_F(space, there_are_4096_of_them)
{
	struct mt *t = &self->t;
	u32 i;

	for (i = 0; i < KV_SPACE_MAX; i++)
		ASSERT_EQ(mt_space(t, self->client, self->geom), i);
	EXPECT_EQ(mt_space2(t, self->client, self->geom, 0, MM_NONE, 0),
		  -ENOSPC);
	EXPECT_EQ(mm_space_fork(t->mm, self->client, 0, 0), -ENOSPC);
	mt_check(t);
	ASSERT_EQ(mm_space_destroy(t->mm, self->client, 99), 0);
	EXPECT_EQ(mt_space(t, self->client, self->geom), 99);
}

TEST_F(space, truncation_drops_pages_wholly_above)
{
	struct mt *t = &self->t;
	u32 s = mt_space(t, self->client, self->geom), i;
	u64 gen;

	ASSERT_EQ(mt_reserve(t, self->client, s, 0, 100, 0, NULL), 0);
	gen = mt_gen(t, self->client, s);
	ASSERT_EQ(mm_space_truncate(t->mm, self->client, s, 33), 0);
	EXPECT_GT(mt_gen(t, self->client, s), gen);
	for (i = 0; i < 7; i++)
		EXPECT_EQ(kv_pte_is_present(mt_pte(t, self->client, s, 0, i)),
			  i < 3);
	EXPECT_EQ(mm_space_truncate(t->mm, self->client, s, 49), -EINVAL);
	EXPECT_EQ(mm_space_truncate(t->mm, self->client, s, ~0ull), -EINVAL);
	/* Within the last page nothing changes. */
	gen = mt_gen(t, self->client, s);
	ASSERT_EQ(mm_space_truncate(t->mm, self->client, s, 47), 0);
	EXPECT_EQ(mt_gen(t, self->client, s), gen);
	ASSERT_EQ(mt_reserve(t, self->client, s, 47, 100, 0, NULL), 0);
	mt_check(t);
}

TEST_F(space, truncation_below_a_window_is_refused)
{
	struct mt *t = &self->t;
	int s = mt_space2(t, self->client, self->geom, 32, MM_NONE, 0);
	u64 pos;

	ASSERT_GE(s, 0);
	for (pos = 0; pos < 400; pos += 16)
		ASSERT_EQ(mt_reserve(t, self->client, (u32)s, pos, 16, 0, NULL),
			  0);
	/* The row at 384 saw 353 and up: page 22 is the first one left. */
	EXPECT_FALSE(kv_pte_is_present(mt_pte(t, self->client, (u32)s, 0, 21)));
	EXPECT_TRUE(kv_pte_is_present(mt_pte(t, self->client, (u32)s, 0, 22)));
	EXPECT_EQ(mm_space_truncate(t->mm, self->client, (u32)s, 382),
		  -ENODATA);
	EXPECT_EQ(mm_space_fork(t->mm, self->client, (u32)s, 382), -ENODATA);
	EXPECT_GE(mm_space_fork(t->mm, self->client, (u32)s, 383), 0);
	EXPECT_EQ(mm_space_truncate(t->mm, self->client, (u32)s, 383), 0);
	EXPECT_EQ(mt_reserve(t, self->client, (u32)s, 382, 1, 0, NULL),
		  -ENODATA);
	/* The fork shares the page: 15 tokens are copied. */
	EXPECT_EQ(mt_reserve(t, self->client, (u32)s, 383, 1, 0, NULL), 1);
	/* Nothing at all is always possible. */
	EXPECT_EQ(mm_space_truncate(t->mm, self->client, (u32)s, 0), 0);
	EXPECT_EQ(mt_reserve(t, self->client, (u32)s, 0, 16, 0, NULL), 0);
	mt_check(t);
}

TEST_F(space, creation_checks_what_it_is_given)
{
	struct kv_space_args a = { .nr_areas = 0 };
	struct mt *t = &self->t;

	EXPECT_EQ(mm_space_create(t->mm, self->client, &a), -EINVAL);
	a.nr_areas = KV_AREA_MAX + 1;
	EXPECT_EQ(mm_space_create(t->mm, self->client, &a), -EINVAL);
	a.nr_areas = 1;
	a.area[0].geom = self->geom + 1;
	EXPECT_EQ(mm_space_create(t->mm, self->client, &a), -EINVAL);
	a.area[0].geom = self->geom;
	a.area[0].reserved = 1;
	EXPECT_EQ(mm_space_create(t->mm, self->client, &a), -EINVAL);
	a.area[0].reserved = 0;
	a.group = 5;
	EXPECT_EQ(mm_space_create(t->mm, self->client, &a), -EINVAL);
	a.group = 0;
	EXPECT_EQ(mm_space_create(t->mm, self->client, &a), 0);
	EXPECT_EQ(mm_space_create(t->mm, 99, &a), -ENOENT);
	EXPECT_EQ(mm_space_destroy(t->mm, self->client, 1), -ENOENT);
	EXPECT_EQ(mm_space_destroy(t->mm, self->client, ~0u), -ENOENT);
	EXPECT_EQ(mm_space_truncate(t->mm, self->client, 7, 0), -ENOENT);
	mt_check(t);
}

TEST_HARNESS_MAIN
