/* SPDX-License-Identifier: MIT */
/*
 * test_deadlock.c - clients that wait for each other's memory
 */
#include "selftests/kvmd/mm/mmtest.h"

#define PAGE (448u * 1024) /* 18 in an extent */
#define FULL (18 * 16) /* tokens of an extent */
#define MS   1000000ull

FIXTURE(deadlock)
{
	struct mt t;
	u32 client[3], space[3];
	u64 now;
};

FIXTURE_SETUP(deadlock)
{
	struct mt *t = &self->t;
	u32 tenant, i;

	mt_init(t, 4, 4);
	tenant = mt_tenant(t, "t", MM_LIMIT_NONE);
	for (i = 0; i < 3; i++) {
		self->now += MS;
		mm_now(t->mm, self->now);
		self->client[i] = mt_attach(t, tenant);
		self->space[i] = mt_space(t, self->client[i],
					  mt_geom(t, self->client[i], PAGE));
	}
}

FIXTURE_TEARDOWN(deadlock)
{
	mt_fini(&self->t);
}

/* A client that has so many extents, and no step. */
static void hold(struct deadlock_self *self, u32 i, u32 extents)
{
	struct mt *t = &self->t;

	ASSERT_EQ(0, mt_reserve(t, self->client[i], self->space[i], 0,
				extents * FULL, 0, NULL));
	mt_complete_all(t, self->client[i]);
	t->nr_done = 0;
}

static int grow(struct deadlock_self *self, u32 i, u32 from, u32 extents)
{
	return mt_reserve(&self->t, self->client[i], self->space[i],
			  from * FULL, extents * FULL, KV_SQE_WAIT, NULL);
}

static void pass(struct deadlock_self *self, u32 ms)
{
	for (; ms; ms--) {
		self->now += MS;
		mm_tick(self->t.mm, self->now);
		mt_drain(&self->t);
	}
}
/* Its answer, or 1: there is none yet. */
static int answer_of(struct deadlock_self *self, u32 i)
{
	u32 k;

	for (k = 0; k < self->t.nr_done; k++)
		if (self->t.done[k].client == self->client[i])
			return self->t.done[k].cqe.res;
	return 1;
}

static u64 told(struct deadlock_self *self)
{
	struct mm_counts n;

	mm_counts_get(self->t.mm, &n);
	return n.tickets_deadlocked;
}

/* Two that hold half of the device each, and want more; in this order. */
static void lock(struct deadlock_self *self, u32 first, u32 second)
{
	hold(self, 0, 2);
	hold(self, 1, 2);
	ASSERT_EQ(-EINPROGRESS, grow(self, first, 2, 1));
	ASSERT_EQ(-EINPROGRESS, grow(self, second, 2, 1));
}

TEST_F(deadlock, the_youngest_gives_way_and_the_eldest_gets_on)
{
	struct mt *t = &self->t;

	lock(self, 0, 1);
	pass(self, 200);
	EXPECT_EQ(-EDEADLK, answer_of(self, 1));
	EXPECT_EQ(1, answer_of(self, 0));
	EXPECT_EQ(1, told(self));
	mt_check(t);
	ASSERT_EQ(0, mm_space_destroy(t->mm, self->client[1], self->space[1]));
	mt_drain(t);
	EXPECT_EQ(0, answer_of(self, 0));
	mt_check(t);
}

TEST_F(deadlock, it_is_the_youngest_that_is_told_also_if_it_asked_first)
{
	lock(self, 1, 0);
	pass(self, 200);
	EXPECT_EQ(-EDEADLK, answer_of(self, 1));
	EXPECT_EQ(1, answer_of(self, 0));
}

TEST_F(deadlock, nobody_is_told_before_its_time)
{
	lock(self, 0, 1);
	pass(self, 40);
	EXPECT_EQ(0, told(self));
	EXPECT_EQ(1, answer_of(self, 0));
	EXPECT_EQ(1, answer_of(self, 1));
}

TEST_F(deadlock, nobody_is_told_while_a_holder_works_or_is_idle)
{
	struct mt *t = &self->t;

	hold(self, 1, 2);
	ASSERT_EQ(0, mt_reserve(t, self->client[0], self->space[0], 0, 2 * FULL,
				0, NULL)); /* its step runs on */
	ASSERT_EQ(-EINPROGRESS, grow(self, 1, 2, 1));
	pass(self, 1000);
	EXPECT_EQ(0, told(self));
	mt_complete_all(t, self->client[0]);
	pass(self, 1000);
	EXPECT_EQ(0, told(self));
	EXPECT_EQ(1, answer_of(self, 1));
	/* now it waits as well */
	ASSERT_EQ(-EINPROGRESS, grow(self, 0, 2, 1));
	pass(self, 200);
	EXPECT_EQ(-EDEADLK, answer_of(self, 1));
}

/* Pages of the cache that it maps cannot go: it holds these. */
TEST_F(deadlock, who_holds_a_prefix_alone_gives_way_as_well)
{
	u32 young = self->client[1], space = self->space[1], i, seq;
	struct mt *t = &self->t;
	u32 tokens[2 * FULL];

	for (i = 0; i < 2 * FULL; i++)
		tokens[i] = i;
	hold(self, 1, 2);
	kv_store_release(&t->cl[young].status->space[space].len, 2 * FULL);
	ASSERT_EQ(2 * FULL, mm_prefix_publish(t->mm, young, space, 0, tokens,
					      2 * FULL, false, &seq));
	mt_drain(t);
	ASSERT_EQ(2 * FULL, mm_prefix_publish(t->mm, young, space, 0, tokens,
					      2 * FULL, true, &seq));
	mt_complete_all(t, young);
	pass(self, 10);
	hold(self, 0, 2); /* the other half is the cache's */
	ASSERT_EQ(-EINPROGRESS, grow(self, 1, 2, 1));
	ASSERT_EQ(-EINPROGRESS, grow(self, 0, 2, 1));
	pass(self, 200);
	EXPECT_EQ(-EDEADLK, answer_of(self, 1));
	EXPECT_EQ(0, answer_of(self, 0)); /* it is at work no more */
	EXPECT_EQ(1, told(self));
	mt_check(t);
}

TEST_F(deadlock, who_waits_alone_is_not_told)
{
	hold(self, 0, 4);
	ASSERT_EQ(-EINPROGRESS, grow(self, 1, 0, 1)); /* it holds nothing */
	pass(self, 1000);
	EXPECT_EQ(0, told(self));
}

TEST_F(deadlock, a_tenant_keeps_its_min)
{
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE,
				 .min_bytes = 2ull * KV_EXTENT_SIZE,
				 .low_bytes = 2ull * KV_EXTENT_SIZE };
	struct mt *t = &self->t;
	u32 other = mt_tenant(t, "kept", MM_LIMIT_NONE), c, s;

	ASSERT_EQ(0, mm_tenant_limit(t->mm, other, &lim));
	self->now += MS;
	mm_now(t->mm, self->now);
	c = mt_attach(t, other);
	s = mt_space(t, c, mt_geom(t, c, PAGE));
	hold(self, 0, 2);
	ASSERT_EQ(0, mt_reserve(t, c, s, 0, 2 * FULL, 0, NULL));
	mt_complete_all(t, c);
	t->nr_done = 0;
	ASSERT_EQ(-EINPROGRESS, grow(self, 0, 2, 1));
	ASSERT_EQ(-EINPROGRESS,
		  mt_reserve(t, c, s, 2 * FULL, FULL, KV_SQE_WAIT, NULL));
	pass(self, 200);
	/* the other one is younger, but has no more than its min */
	EXPECT_EQ(-EDEADLK, answer_of(self, 0));
	mt_check(t);
}

TEST_HARNESS_MAIN
