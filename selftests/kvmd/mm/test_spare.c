/* SPDX-License-Identifier: MIT */
/*
 * test_spare.c - weights that nobody has open go before anybody's pages
 *
 * san: address
 */
#include <errno.h>

#include "kvmd/mm/state.h"
#include "selftests/kvmd/mm/mmtest.h"

#define EXT ((u64)KV_EXTENT_SIZE)

FIXTURE(spare)
{
	struct mt t;
	u32 a, b; /* tenants */
	u32 ca, cb; /* a client of each */
	u32 ga, gb; /* their geometries */
	u32 tokens[512], seq;
};

FIXTURE_SETUP(spare)
{
	const struct mm_config cfg = {
		.device_bytes = 8 * EXT,
		.swap_bytes = { 64 << 20 },
		.ready_extents = 1,
	};
	u32 i;

	mt_init_cfg(&self->t, &cfg);
	mm_tick(self->t.mm, 10);
	mt_join(&self->t, "a", &self->a, &self->ca, &self->ga);
	mt_join(&self->t, "b", &self->b, &self->cb, &self->gb);
	for (i = 0; i < 512; i++)
		self->tokens[i] = i;
}

FIXTURE_TEARDOWN(spare)
{
	mt_check(&self->t);
	mt_fini(&self->t);
}

static u64 charged(struct mt *t, u32 tenant)
{
	struct mm_tenant_info i;

	ASSERT_EQ(mm_tenant_info(t->mm, tenant, &i), 0);
	return i.charged_bytes;
}

static u32 cached(struct mt *t)
{
	struct mm_usage u;

	mm_usage_get(t->mm, &u);
	return (u32)u.cache_nodes;
}

static void protect(struct mt *t, u32 tenant, u64 min_bytes, u64 low_bytes)
{
	struct mm_limits lim = { .min_bytes = min_bytes,
				 .low_bytes = low_bytes,
				 .max_bytes = MM_LIMIT_NONE };

	ASSERT_EQ(mm_tenant_limit(t->mm, tenant, &lim), 0);
}

/* A prefix of two extents that nobody maps, of tenant a. */
static void publish(struct spare_self *self)
{
	struct mt *t = &self->t;
	u32 s = mt_idle_space(t, self->ca, self->ga, 2 * MT_PER_EXTENT), i;

	kv_store_release(&t->cl[self->ca].status->space[s].len, 512);
	for (i = 0; i < 20; i++) {
		mm_prefix_publish(t->mm, self->ca, s, 0, self->tokens, 512,
				  true, &self->seq);
		mt_drain(t);
	}
	ASSERT_EQ(mm_space_destroy(t->mm, self->ca, s), 0);
	mt_complete_all(t, self->ca);
	mm_shrink(t->mm, self->ca);
	mt_drain(t);
	ASSERT_EQ(cached(t), 2 * MT_PER_EXTENT);
}

static int take(struct spare_self *self, u32 client, u32 geom, u32 extents,
		u32 flags)
{
	struct mt *t = &self->t;

	return mt_reserve(t, client, mt_space(t, client, geom), 0,
			  extents * MT_PER_EXTENT * 16, flags, NULL);
}

static void ticks(struct mt *t, u32 n)
{
	while (n--) {
		mm_tick(t->mm, t->mm->now_ns + 5000000);
		mt_drain(t);
	}
}

/* Direct reclaim took them last, and evicted and swapped first. */
TEST_F(spare, a_full_device_takes_them_first)
{
	struct mt *t = &self->t;
	u32 idle;

	publish(self);
	idle = mt_idle_space(t, self->cb, self->gb, MT_PER_EXTENT);
	mt_idle_weights(t, self->b, 2 * EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 4, 0), 0);
	EXPECT_EQ(charged(t, self->b), 0);
	EXPECT_EQ(cached(t), 2 * MT_PER_EXTENT);
	EXPECT_EQ(mt_nr_swapped(t, self->cb, idle), 0);
	/* then the prefix, then pages */
	EXPECT_EQ(take(self, self->ca, self->ga, 2, 0), 0);
	EXPECT_LT(cached(t), 2 * MT_PER_EXTENT);
	EXPECT_EQ(mt_nr_swapped(t, self->cb, idle), 0);
}

TEST_F(spare, at_a_limit_only_its_own_go)
{
	struct mt *t = &self->t;
	struct mm_limits lim = { .max_bytes = 4 * EXT };

	publish(self);
	mt_idle_weights(t, self->a, EXT);
	mt_idle_weights(t, self->b, EXT);
	ASSERT_EQ(mm_tenant_limit(t->mm, self->a, &lim), 0);
	EXPECT_EQ(take(self, self->ca, self->ga, 2, 0), 0);
	EXPECT_EQ(charged(t, self->a), 0);
	EXPECT_EQ(charged(t, self->b), EXT);
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_SHRINK], 0);
	EXPECT_EQ(cached(t), 2 * MT_PER_EXTENT);
}

TEST_F(spare, no_more_go_than_are_wanted)
{
	struct mt *t = &self->t;

	mt_idle_weights(t, self->a, EXT);
	mt_idle_weights(t, self->a, EXT);
	mt_idle_weights(t, self->b, EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 6, 0), 0);
	EXPECT_EQ(charged(t, self->a), EXT);
	EXPECT_EQ(charged(t, self->b), EXT);
}

/* Nothing is asked of clients, nor evicted, if weights make up for it. */
TEST_F(spare, a_limit_that_is_lowered_takes_them_first)
{
	struct mt *t = &self->t;
	struct mm_limits lim = { .max_bytes = 2 * EXT };

	publish(self);
	mt_idle_weights(t, self->a, EXT);
	ASSERT_EQ(mm_tenant_limit(t->mm, self->a, &lim), 0);
	mt_drain(t);
	EXPECT_EQ(charged(t, self->a), 0);
	EXPECT_EQ(cached(t), 2 * MT_PER_EXTENT);
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_SHRINK], 0);
	mt_idle_weights(t, self->b, 2 * EXT);
	ASSERT_EQ(mm_tenant_high(t->mm, self->b, EXT), 0);
	mt_drain(t);
	EXPECT_EQ(charged(t, self->b), 0);
	lim.max_bytes = EXT;
	ASSERT_EQ(mm_tenant_limit(t->mm, self->a, &lim), 0);
	EXPECT_LT(cached(t), 2 * MT_PER_EXTENT);
}

/* Those of others: not below low while anything else is left, nor below min. */
TEST_F(spare, protection_holds_for_them)
{
	struct mt *t = &self->t;
	u32 idle;

	idle = mt_idle_space(t, self->ca, self->ga, MT_PER_EXTENT);
	mt_idle_weights(t, self->b, 2 * EXT);
	protect(t, self->b, 0, EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 6, 0), 0);
	EXPECT_EQ(charged(t, self->b), 2 * EXT);
	EXPECT_EQ(mt_nr_swapped(t, self->ca, idle), MT_PER_EXTENT);
	/* the six are busy, and nothing else can leave */
	protect(t, self->b, 2 * EXT, 2 * EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 1, 0), -EAGAIN);
	EXPECT_EQ(charged(t, self->b), 2 * EXT);
	protect(t, self->b, 0, 2 * EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 1, 0), 0);
	EXPECT_EQ(charged(t, self->b), 0);
}

/* More than ever comes, as they are protected: refused, not left to wait. */
TEST_F(spare, what_is_below_min_is_not_promised)
{
	struct mt *t = &self->t;

	mt_idle_weights(t, self->b, 2 * EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 6, 0), 0);
	mt_complete_all(t, self->ca);
	protect(t, self->b, 2 * EXT, 2 * EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 7, KV_SQE_WAIT), -E2BIG);
	protect(t, self->b, 0, 0);
	EXPECT_EQ(take(self, self->ca, self->ga, 8, KV_SQE_WAIT), 0);
	EXPECT_EQ(charged(t, self->b), 0);
}

/* They went for one that was refused all the same. */
TEST_F(spare, what_never_fits_takes_none)
{
	struct mt *t = &self->t;

	mt_idle_weights(t, self->a, 2 * EXT);
	mt_idle_weights(t, self->b, 2 * EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 9, KV_SQE_WAIT), -E2BIG);
	EXPECT_EQ(charged(t, self->a), 2 * EXT);
	EXPECT_EQ(charged(t, self->b), 2 * EXT);
}

/* What had left was taken off what it has once more. */
TEST_F(spare, pages_that_have_left_protect_nothing)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mm_tenant_charge(t->mm, self->b, EXT), 0);
	mt_idle_space(t, self->cb, self->gb, 3 * MT_PER_EXTENT);
	EXPECT_EQ(take(self, self->ca, self->ga, 7, 0), 0);
	EXPECT_EQ(mt_extents(t, self->cb), 0);
	t->idle[0] = (struct mt_weights){ .tenant = self->b, .bytes = EXT };
	protect(t, self->b, EXT, EXT);
	EXPECT_EQ(take(self, self->ca, self->ga, 1, 0), -EAGAIN);
	EXPECT_EQ(charged(t, self->b), EXT);
	protect(t, self->b, 0, 0);
	EXPECT_EQ(take(self, self->ca, self->ga, 1, 0), 0);
	EXPECT_EQ(charged(t, self->b), 0);
}

/* A goal is no watermark. */
TEST_F(spare, a_goal_takes_as_much_as_it_says)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mm_watermarks(t->mm, 0, EXT, 6 * EXT), 0);
	mt_idle_weights(t, self->a, 2 * EXT);
	mt_idle_weights(t, self->a, 2 * EXT);
	mt_idle_weights(t, self->b, 2 * EXT);
	ASSERT_EQ(mm_reclaim(t->mm, EXT), 3 * EXT);
	ticks(t, 10);
	EXPECT_EQ(charged(t, self->a) + charged(t, self->b), 4 * EXT);
}

TEST_F(spare, opened_in_the_last_moment_they_stay)
{
	struct mt *t = &self->t;
	u32 idle;

	idle = mt_idle_space(t, self->ca, self->ga, MT_PER_EXTENT);
	mt_idle_weights(t, self->b, 2 * EXT);
	t->reopen = true;
	EXPECT_EQ(take(self, self->ca, self->ga, 6, 0), 0);
	EXPECT_EQ(charged(t, self->b), 2 * EXT);
	EXPECT_EQ(mt_nr_swapped(t, self->ca, idle), MT_PER_EXTENT);
}

/* A ticket waits: nothing had come free when they came out of use. */
TEST_F(spare, out_of_use_they_serve_a_ticket)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mm_tenant_charge(t->mm, self->b, 2 * EXT), 0);
	EXPECT_EQ(take(self, self->ca, self->ga, 6, 0), 0);
	EXPECT_EQ(take(self, self->ca, self->ga, 1, KV_SQE_WAIT), -EINPROGRESS);
	t->idle[0] = (struct mt_weights){ .tenant = self->b, .bytes = 2 * EXT };
	mm_spared(t->mm);
	mt_drain(t);
	EXPECT_EQ(t->done[(t->nr_done - 1) % MT_DONE].cqe.res, 0);
	EXPECT_EQ(charged(t, self->b), 0);
}

TEST_F(spare, other_weights_take_them_before_prefixes)
{
	struct mt *t = &self->t;
	struct mm_limits lim = { .max_bytes = 4 * EXT };

	publish(self);
	mt_idle_weights(t, self->a, 2 * EXT);
	ASSERT_EQ(mm_tenant_limit(t->mm, self->a, &lim), 0);
	ASSERT_EQ(mm_tenant_charge(t->mm, self->a, EXT), -EAGAIN);
	mt_drain(t);
	ASSERT_EQ(mm_tenant_charge(t->mm, self->a, EXT), 0);
	EXPECT_EQ(charged(t, self->a), EXT);
	EXPECT_EQ(cached(t), 2 * MT_PER_EXTENT);
	/* and on a full device others' */
	lim.max_bytes = MM_LIMIT_NONE;
	ASSERT_EQ(mm_tenant_limit(t->mm, self->a, &lim), 0);
	mt_idle_weights(t, self->b, 4 * EXT);
	ASSERT_EQ(mm_tenant_charge(t->mm, self->a, 4 * EXT), -EAGAIN);
	EXPECT_EQ(cached(t), 2 * MT_PER_EXTENT);
	mt_drain(t);
	ASSERT_EQ(mm_tenant_charge(t->mm, self->a, 4 * EXT), 0);
	EXPECT_EQ(charged(t, self->a), 5 * EXT);
	EXPECT_EQ(charged(t, self->b), 0);
	EXPECT_EQ(cached(t), 2 * MT_PER_EXTENT);
}

TEST_F(spare, a_low_device_takes_them_first)
{
	struct mt *t = &self->t;

	publish(self);
	mt_idle_weights(t, self->b, 2 * EXT);
	ASSERT_EQ(mm_watermarks(t->mm, EXT, 5 * EXT, 6 * EXT), 0);
	ticks(t, 100);
	EXPECT_EQ(charged(t, self->b), 0);
	EXPECT_EQ(cached(t), 2 * MT_PER_EXTENT);
	ASSERT_EQ(mm_reclaim(t->mm, EXT), 7 * EXT);
	ticks(t, 100);
	EXPECT_LT(cached(t), 2 * MT_PER_EXTENT);
}

TEST_F(spare, above_high_they_go_first)
{
	struct mt *t = &self->t;

	publish(self);
	mt_idle_weights(t, self->a, 2 * EXT);
	ASSERT_EQ(mm_tenant_high(t->mm, self->a, 4 * EXT), 0);
	EXPECT_EQ(take(self, self->ca, self->ga, 2, KV_SQE_WAIT), 0);
	EXPECT_EQ(charged(t, self->a), 0);
	EXPECT_EQ(cached(t), 2 * MT_PER_EXTENT);
}

TEST_HARNESS_MAIN
