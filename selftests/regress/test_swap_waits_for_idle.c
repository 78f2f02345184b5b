/* SPDX-License-Identifier: MIT */
/*
 * test_swap_waits_for_idle.c - a ticket gets pages that become idle later
 *
 * Nobody tells kvmd that a step has ended. A ticket that had found every space
 * in use was not looked at again until somebody freed or asked for something,
 * and could wait for ever beside pages that nobody used any more.
 */
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(swap_idle)
{
	struct mt t;
	u32 tenant, client, geom;
};

FIXTURE_SETUP(swap_idle)
{
	mt_init_swap(&self->t, 2, 1, 32 << 20, 0);
	self->tenant = mt_tenant(&self->t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(&self->t, self->tenant);
	self->geom = mt_geom(&self->t, self->client, MT_PAGE);
}

FIXTURE_TEARDOWN(swap_idle)
{
	mt_fini(&self->t);
}

TEST_F(swap_idle, a_ticket_is_served_when_spaces_become_idle)
{
	struct mt *t = &self->t;
	u32 a = mt_space(t, self->client, self->geom), b, i, done;
	struct mt_resv r;

	ASSERT_EQ(mt_reserve(t, self->client, a, 0, 2 * MT_PER_EXTENT * 16, 0,
			     NULL),
		  0);
	b = mt_space(t, self->client, self->geom);
	ASSERT_EQ(mt_reserve(t, self->client, b, 0, 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	done = t->nr_done;
	kv_step_end(&t->cl[self->client].status->rank[0], 1);
	EXPECT_TRUE(mm_wants_tick(t->mm));
	for (i = 1; i < 4; i++) {
		mm_tick(t->mm, i * 10000000ull);
		mt_drain(t);
	}
	ASSERT_EQ(t->nr_done, done + 1);
	EXPECT_EQ(t->done[done].cqe.res, 0);
	mt_check(t);
}

/* A mark that is taken back moves no completed. */
TEST_F(swap_idle, a_ticket_is_served_when_a_mark_is_taken_back)
{
	struct mt *t = &self->t;
	u32 a = mt_space(t, self->client, self->geom), b, i, done;
	struct mt_resv r;

	ASSERT_EQ(mt_reserve(t, self->client, a, 0, 2 * MT_PER_EXTENT * 16, 0,
			     NULL),
		  0);
	mt_complete_all(t, self->client);
	kv_step_mark(&t->cl[self->client].status->space[a], ~0ull);
	b = mt_space(t, self->client, self->geom);
	ASSERT_EQ(mt_reserve(t, self->client, b, 0, 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	mm_tick(t->mm, 10000000ull);
	mt_drain(t);
	done = t->nr_done;
	kv_step_unmark(&t->cl[self->client].status->space[a], 1);
	for (i = 2; i < 30; i++) {
		mm_tick(t->mm, i * 10000000ull);
		mt_drain(t);
	}
	ASSERT_EQ(t->nr_done, done + 1);
	mt_check(t);
}

TEST_HARNESS_MAIN
