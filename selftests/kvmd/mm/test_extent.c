/* SPDX-License-Identifier: MIT */
/*
 * test_extent.c - memory goes round: bare, ready, granted, scrubbed
 */
#include "selftests/kvmd/mm/mmtest.h"

#define PAGE (448u * 1024) /* 9 in 2 chunks, 18 in an extent */

FIXTURE(extent)
{
	struct mt t;
	u32 tenant, client, geom, space;
};

FIXTURE_SETUP(extent)
{
	struct mt *t = &self->t;

	mt_init(t, 8, 2);
	self->tenant = mt_tenant(t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(t, self->tenant);
	self->geom = mt_geom(t, self->client, PAGE);
	self->space = mt_space(t, self->client, self->geom);
}

FIXTURE_TEARDOWN(extent)
{
	mt_fini(&self->t);
}

static u64 held(struct mt *t)
{
	struct mm_usage u;

	mm_usage_get(t->mm, &u);
	return u.held_bytes / KV_EXTENT_SIZE;
}

static u64 ready(struct mt *t)
{
	struct mm_usage u;

	mm_usage_get(t->mm, &u);
	return u.ready_bytes / KV_EXTENT_SIZE;
}

TEST_F(extent, some_are_ready_before_anybody_asks)
{
	EXPECT_EQ(ready(&self->t), 2);
	EXPECT_EQ(self->t.nr_populate, 2);
	EXPECT_EQ(held(&self->t), 0);
}

TEST_F(extent, a_grant_is_announced_and_the_reserve_filled_up)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 1, 0, NULL), 0);
	EXPECT_EQ(t->cl[self->client].grants, 1);
	EXPECT_EQ(held(t), 1);
	EXPECT_EQ(ready(t), 2);
	EXPECT_EQ(t->nr_populate, 3);
	mt_check(t);
}

TEST_F(extent, a_client_keeps_one_empty_extent_at_most)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 18 * 16 * 3, 0,
			     NULL),
		  0);
	EXPECT_EQ(held(t), 3);
	mt_complete_all(t, self->client);
	ASSERT_EQ(mm_space_destroy(t->mm, self->client, self->space), 0);
	mt_drain(t);
	EXPECT_EQ(held(t), 1);
	EXPECT_EQ(t->cl[self->client].withdraws, 2);
	EXPECT_EQ(t->nr_scrub, 2);
	mt_check(t);
	EXPECT_EQ(mm_shrink(t->mm, self->client), 1);
	mt_drain(t);
	EXPECT_EQ(held(t), 0);
	mt_check(t);
}

TEST_F(extent, what_a_running_step_reads_is_not_given_back)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 18 * 16, 0, NULL),
		  0);
	ASSERT_EQ(mm_space_destroy(t->mm, self->client, self->space), 0);
	mt_drain(t);
	EXPECT_EQ(mm_shrink(t->mm, self->client), 0);
	EXPECT_TRUE(mm_wants_tick(t->mm));
	mt_complete_all(t, self->client);
	EXPECT_FALSE(mm_wants_tick(t->mm));
	EXPECT_EQ(mm_shrink(t->mm, self->client), 1);
	mt_check(t);
}

TEST_F(extent, a_dead_clients_memory_waits_for_its_stream)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 18 * 16, 0, NULL),
		  0);
	mm_client_exit(t->mm, self->client);
	mt_drain(t);
	EXPECT_EQ(held(t), 1);
	EXPECT_EQ(t->nr_scrub, 0);
	mt_check(t);
	mm_client_gone(t->mm, self->client);
	mt_drain(t);
	EXPECT_EQ(held(t), 0);
	EXPECT_EQ(t->nr_scrub, 1);
	mt_check(t);
}

TEST_F(extent, surplus_goes_back_to_the_system)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 18 * 16 * 8, 0,
			     NULL),
		  0);
	EXPECT_EQ(held(t), 8);
	mm_client_gone(t->mm, self->client);
	mt_drain(t);
	EXPECT_EQ(held(t), 0);
	EXPECT_LE(ready(t), 4);
	EXPECT_GE(t->nr_release, 4);
	mt_check(t);
}

TEST_F(extent, a_refused_populate_is_an_error_for_the_one_who_waits)
{
	struct mt *t = &self->t;
	struct mt_resv r;

	t->populate_err = -ENOMEM;
	EXPECT_EQ(
		mt_reserve(t, self->client, self->space, 0, 18 * 16 * 3, 0, &r),
		-EAGAIN);
	EXPECT_GT(r.extra, 0);
	mt_check(t);
	/* Later it works again. */
	t->populate_err = 0;
	mm_tick(t->mm, 1000000000);
	mt_drain(t);
	EXPECT_EQ(mt_reserve(t, self->client, self->space, 0, 18 * 16 * 3, 0,
			     NULL),
		  0);
	mt_check(t);
}

TEST_F(extent, memory_that_cannot_be_scrubbed_is_made_anew)
{
	struct mt *t = &self->t;
	u32 released = t->nr_release;

	t->hold_memory = true;
	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 1, 0, NULL), 0);
	mm_client_gone(t->mm, self->client);
	mt_drain(t);
	mt_answer(t, -EIO);
	t->hold_memory = false;
	mt_drain(t);
	EXPECT_GT(t->nr_release, released);
	EXPECT_EQ(held(t), 0);
	mt_check(t);
}

TEST_F(extent, an_answer_nobody_asked_for_changes_nothing)
{
	struct mt *t = &self->t;
	struct mm_counts before, after;

	mm_counts_get(t->mm, &before);
	mm_populate_done(t->mm, 0, 0);
	mm_scrub_done(t->mm, 0, 0);
	mm_scrub_done(t->mm, 12345, 0);
	mm_populate_done(t->mm, ~0u, 0);
	mm_counts_get(t->mm, &after);
	EXPECT_EQ(after.invalid, before.invalid + 4);
	mt_check(t);
}

TEST_F(extent, owners_are_told_by_number)
{
	struct mt *t = &self->t;
	u32 e, mine = 0;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 1, 0, NULL), 0);
	for (e = 0; e < 8; e++)
		mine += mm_extent_owner(t->mm, e) == self->client;
	EXPECT_EQ(mine, 1);
	EXPECT_EQ(mm_extent_owner(t->mm, 8), MM_NONE);
}

TEST_HARNESS_MAIN
