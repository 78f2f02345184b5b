/* SPDX-License-Identifier: MIT */
/*
 * test_room.c - weights that wait for room, and who gives it
 *
 * san: address
 */
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

#define ASK   1000ull
#define FENCE 5000ull
#define EXT   ((u64)KV_EXTENT_SIZE)

FIXTURE(room)
{
	struct mt t;
	u64 now;
	u32 a, b; /* tenants */
	u32 ca, cb; /* a client of each */
	u32 ga, gb; /* their geometries */
};

FIXTURE_SETUP(room)
{
	const struct mm_config cfg = {
		.device_bytes = 8 * EXT,
		.swap_bytes = { 64 << 20 },
		.revoke = MM_REVOKE_TICKETS,
		.revoke_ask_ns = ASK,
		.revoke_fence_ns = FENCE,
	};

	mt_init_cfg(&self->t, &cfg);
	self->now = 10;
	mm_tick(self->t.mm, self->now);
	mt_join(&self->t, "a", &self->a, &self->ca, &self->ga);
	mt_join(&self->t, "b", &self->b, &self->cb, &self->gb);
}

FIXTURE_TEARDOWN(room)
{
	mt_check(&self->t);
	mt_fini(&self->t);
}

/* As the daemon does it: with each tick. Return: ticks until there was room. */
static u32 wait_for_room(struct room_self *self, u64 bytes, u32 ticks)
{
	struct mt *t = &self->t;
	u32 i;

	for (i = 0; i < ticks; i++) {
		self->now += ASK / 4;
		mm_tick(t->mm, self->now);
		mt_drain(t);
		mt_check(t);
		if (!mm_tenant_charge(t->mm, self->b, bytes)) {
			mm_room_end(t->mm);
			mt_drain(t);
			return i;
		}
		EXPECT_TRUE(mm_room_wait(t->mm, self->cb, bytes));
		mt_drain(t);
	}
	return ticks;
}

static u32 busy_space(struct room_self *self, u32 pages)
{
	u32 s = mt_space(&self->t, self->ca, self->ga);

	EXPECT_EQ(mt_reserve(&self->t, self->ca, s, 0, pages * 16, 0, NULL), 0);
	kv_step_mark(&self->t.cl[self->ca].status->space[s],
		     self->t.cl[self->ca].step);
	return s;
}

TEST_F(room, idle_pages_leave_for_weights)
{
	struct mt *t = &self->t;
	struct mm_counts n;
	u32 s[8], i, out = 0;

	for (i = 0; i < 8; i++)
		s[i] = mt_idle_space(t, self->ca, self->ga, MT_PER_EXTENT);
	ASSERT_EQ(mm_tenant_charge(t->mm, self->b, 3 * EXT), -ENOSPC);
	EXPECT_LT(wait_for_room(self, 3 * EXT, 100), 100u);
	for (i = 0; i < 8; i++)
		out += mt_nr_swapped(t, self->ca, s[i]);
	EXPECT_EQ(out, 3 * MT_PER_EXTENT);
	mm_counts_get(t->mm, &n);
	EXPECT_EQ(n.revokes, 0u);
}

TEST_F(room, nobody_gets_more_while_they_wait)
{
	struct mt *t = &self->t;
	u32 s, i;

	for (i = 0; i < 6; i++)
		busy_space(self, MT_PER_EXTENT);
	EXPECT_TRUE(mm_room_wait(t->mm, self->cb, 3 * EXT));
	mt_drain(t);
	s = mt_space(t, self->ca, self->ga);
	EXPECT_NE(mt_reserve(t, self->ca, s, 0, 16, KV_SQE_WAIT, NULL), 0);
	EXPECT_EQ(mt_extents(t, self->ca), 6u);
	mm_room_end(t->mm);
	mt_drain(t);
	EXPECT_EQ(mt_extents(t, self->ca), 7u);
}

TEST_F(room, who_holds_more_than_its_share_of_what_they_leave_is_asked)
{
	struct mt *t = &self->t;
	u32 i;

	for (i = 0; i < 8; i++)
		busy_space(self, MT_PER_EXTENT);
	EXPECT_TRUE(mm_room_wait(t->mm, self->cb, 2 * EXT));
	mt_drain(t);
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_SHRINK], 1u);
	EXPECT_EQ(t->cl[self->ca].last_arg[KV_EVENT_SHRINK], 2 * EXT);
	/* it does not listen; its steps end, and its pages leave */
	kv_step_end(&t->cl[self->ca].status->rank[0], t->cl[self->ca].step);
	EXPECT_LT(wait_for_room(self, 2 * EXT, 100), 100u);
	EXPECT_EQ(mt_extents(t, self->ca), 6u);
	EXPECT_EQ(t->cl[self->ca].kills, 0u);
	EXPECT_EQ(t->cl[self->ca].table->hold_step, ~0ull);
}

TEST_F(room, who_ends_no_step_is_killed_for_them_in_the_end)
{
	struct mt *t = &self->t;
	u32 i;

	for (i = 0; i < 8; i++)
		busy_space(self, MT_PER_EXTENT);
	EXPECT_EQ(wait_for_room(self, 2 * EXT, 4 * (ASK + FENCE) / ASK + 8),
		  4 * (ASK + FENCE) / ASK + 8);
	EXPECT_EQ(t->cl[self->ca].kills, 1u);
	EXPECT_TRUE(mm_room_comes(t->mm));
}

TEST_F(room, what_other_weights_leave_is_the_most)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mm_tenant_charge(t->mm, self->a, 5 * EXT), 0);
	EXPECT_TRUE(mm_room_wait(t->mm, self->cb, 3 * EXT));
	EXPECT_FALSE(mm_room_wait(t->mm, self->cb, 3 * EXT + 1));
	EXPECT_FALSE(mm_room_comes(t->mm));
	EXPECT_FALSE(mm_room_wait(t->mm, 9, EXT));
}

/* Pages leave for other reasons too: that is no progress of the weights. */
TEST_F(room, they_do_not_wait_for_what_leaves_for_others)
{
	struct mt *t = &self->t;
	u32 i;

	for (i = 0; i < 7; i++)
		busy_space(self, MT_PER_EXTENT);
	mt_idle_space(t, self->ca, self->ga, 4);
	t->hold_swap = true;
	EXPECT_TRUE(mm_room_wait(t->mm, self->cb, 2 * EXT));
	mt_drain(t);
	EXPECT_TRUE(mm_room_comes(t->mm));
	mm_tick(t->mm, self->now += ASK / 2);
	EXPECT_TRUE(mm_room_wait(t->mm, self->cb, 2 * EXT));
	mt_drain(t);
	EXPECT_FALSE(mm_room_comes(t->mm));
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_SHRINK], 0u);
	/* and who holds too much is asked, whatever leaves */
	mm_tick(t->mm, self->now += ASK);
	EXPECT_TRUE(mm_room_wait(t->mm, self->cb, 2 * EXT));
	mt_drain(t);
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_SHRINK], 1u);
	EXPECT_TRUE(mm_room_comes(t->mm));
	mm_room_end(t->mm);
	t->hold_swap = false;
	mt_drain(t);
}

TEST_HARNESS_MAIN
