/* SPDX-License-Identifier: MIT */
/*
 * test_high.c - above its high a tenant is slow and gives what is idle, and is
 *		 refused nothing
 */
#include <errno.h>

#include "selftests/kvmd/mm/mmtest.h"

#define MS  1000000ull
#define EXT ((u64)KV_EXTENT_SIZE)

FIXTURE(high)
{
	struct mt t;
	u32 tenant, client, geom, space;
};

FIXTURE_SETUP(high)
{
	struct mt *t = &self->t;

	mt_init_swap(t, 16, 2, 256 << 20, 0);
	self->tenant = mt_tenant(t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(t, self->tenant);
	self->geom = mt_geom(t, self->client, MT_PAGE);
	self->space = mt_space(t, self->client, self->geom);
	mm_tick(t->mm, MS);
}

FIXTURE_TEARDOWN(high)
{
	mt_fini(&self->t);
}

static struct mm_tenant_info info(struct mt *t, u32 tenant)
{
	struct mm_tenant_info ti = { 0 };

	EXPECT_EQ(mm_tenant_info(t->mm, tenant, &ti), 0);
	return ti;
}

static int take(struct mt *t, u32 client, u32 space, u32 first, u32 pages)
{
	return mt_reserve(t, client, space, first * 16, pages * 16, 0, NULL);
}

/* Time passes until something is done. Return: how many milliseconds. */
static u32 ms_until_done(struct mt *t, u64 *now)
{
	u32 had = t->nr_done, ms;

	for (ms = 0; ms < 1000 && t->nr_done == had; ms++) {
		*now += MS;
		mm_tick(t->mm, *now);
		mt_drain(t);
	}
	return ms;
}

TEST_F(high, slows_by_the_excess_and_grants)
{
	struct mt *t = &self->t;
	u64 now = MS;
	u32 i, ms, last = 0;

	ASSERT_EQ(mm_tenant_high(t->mm, self->tenant, 4 * EXT), 0);
	/* All of one space, which a step uses: nothing is idle. */
	ASSERT_EQ(take(t, self->client, self->space, 0, 4 * MT_PER_EXTENT), 0);
	EXPECT_EQ(info(t, self->tenant).events.high, 0);
	for (i = 4; i < 10; i++) {
		EXPECT_EQ(take(t, self->client, self->space, i * MT_PER_EXTENT,
			       MT_PER_EXTENT),
			  -EINPROGRESS);
		mt_check(t);
		ms = ms_until_done(t, &now);
		EXPECT_EQ(t->done[t->nr_done - 1].cqe.res, 0);
		if (i < 8)
			EXPECT_EQ(ms, 25 * (i - 3));
		else
			EXPECT_EQ(ms, 100);
		EXPECT_GE(ms, last);
		last = ms;
	}
	EXPECT_EQ(info(t, self->tenant).events.high, 6);
	EXPECT_EQ(info(t, self->tenant).events.refused, 0);
	EXPECT_EQ(info(t, self->tenant).held_bytes, 10 * EXT);
	EXPECT_EQ(info(t, self->tenant).high_bytes, 4 * EXT);
	mt_check(t);
}

TEST_F(high, what_needs_no_extent_does_not_wait)
{
	struct mt *t = &self->t;

	ASSERT_EQ(take(t, self->client, self->space, 0, MT_PER_EXTENT + 1), 0);
	ASSERT_EQ(mm_tenant_high(t->mm, self->tenant, EXT), 0);
	EXPECT_EQ(take(t, self->client, self->space, MT_PER_EXTENT + 1, 1), 0);
	EXPECT_EQ(info(t, self->tenant).events.high, 0);
}

TEST_F(high, sends_its_own_idle_pages_to_swap_and_no_other_tenants)
{
	struct mt *t = &self->t;
	u32 b = mt_tenant(t, "b", MM_LIMIT_NONE), other = mt_attach(t, b);
	u32 mine, theirs;

	mt_geom(t, other, MT_PAGE);
	theirs = mt_idle_space(t, other, 0, MT_PER_EXTENT);
	mine = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT);
	ASSERT_EQ(mm_tenant_high(t->mm, self->tenant, EXT), 0);
	/* They are written at once here, so the wait is over at once. */
	EXPECT_EQ(take(t, self->client, self->space, 0, 8), 0);
	EXPECT_EQ(info(t, self->tenant).events.high, 1);
	EXPECT_EQ(info(t, self->tenant).held_bytes, EXT);
	EXPECT_GT(mt_nr_swapped(t, self->client, mine), 0);
	EXPECT_EQ(mt_nr_swapped(t, other, theirs), 0);
	EXPECT_EQ(info(t, b).events.low, 0);
	mt_check(t);
}

TEST_F(high, lets_its_cache_go_first_and_the_cache_does_not_grow)
{
	struct mt *t = &self->t;
	u32 tokens[32 * 16], s, i, seq;
	struct mm_usage u;

	for (i = 0; i < ARRAY_SIZE(tokens); i++)
		tokens[i] = i;
	s = mt_idle_space(t, self->client, self->geom, 32);
	kv_store_release(&t->cl[self->client].status->space[s].len, 512ull);
	for (i = 0; i < 20; i++) {
		mm_prefix_publish(t->mm, self->client, s, 0, tokens, 512, true,
				  &seq);
		mt_drain(t);
	}
	ASSERT_EQ(mm_space_destroy(t->mm, self->client, s), 0);
	mt_complete_all(t, self->client);
	mm_shrink(t->mm, self->client);
	mt_drain(t);
	mm_usage_get(t->mm, &u);
	ASSERT_EQ(u.cache_held_bytes, 2 * EXT);
	ASSERT_EQ(mm_tenant_high(t->mm, self->tenant, 2 * EXT), 0);
	/* One extent of the cache is enough: nobody waits. */
	EXPECT_EQ(take(t, self->client, self->space, 0, 8), 0);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.cache_held_bytes, EXT);
	EXPECT_EQ(info(t, self->tenant).events.high, 0);
	EXPECT_EQ(t->nr_swap_out, 0);
	mt_check(t);
}

TEST_F(high, ends_early_when_the_excess_is_gone)
{
	struct mt *t = &self->t;
	u32 second = mt_attach(t, self->tenant), s;
	u64 now = MS;

	mt_geom(t, second, MT_PAGE);
	s = mt_space(t, second, 0);
	ASSERT_EQ(take(t, second, s, 0, 2 * MT_PER_EXTENT), 0);
	ASSERT_EQ(mm_tenant_high(t->mm, self->tenant, 2 * EXT), 0);
	EXPECT_EQ(take(t, self->client, self->space, 0, 1), -EINPROGRESS);
	now += MS;
	mm_tick(t->mm, now);
	mm_client_gone(t->mm, second);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].cqe.res, 0);
	mt_check(t);
}

TEST_F(high, holds_nobody_else_back)
{
	struct mt *t = &self->t;
	u32 b = mt_tenant(t, "b", MM_LIMIT_NONE), other = mt_attach(t, b);

	mt_geom(t, other, MT_PAGE);
	ASSERT_EQ(take(t, self->client, self->space, 0, MT_PER_EXTENT), 0);
	ASSERT_EQ(mm_tenant_high(t->mm, self->tenant, EXT), 0);
	EXPECT_EQ(take(t, self->client, self->space, MT_PER_EXTENT, 1),
		  -EINPROGRESS);
	EXPECT_EQ(take(t, other, mt_space(t, other, 0), 0, 20), 0);
}

/* The same script, with a high and without. */
static u32 refusals(u64 seed, u64 high_bytes)
{
	u32 client[3], space[3], pages[3] = { 0 }, i, n, seen = 0, bad = 0;
	u64 rng = seed, now = MS;
	struct mt t;
	int rc;

	mt_init_swap(&t, 64, 2, seed % 2 ? 128 << 20 : 0, 0);
	u32 tenant = mt_tenant(&t, "a", MM_LIMIT_NONE);

	ASSERT_EQ(mm_tenant_high(t.mm, tenant, high_bytes), 0);
	for (i = 0; i < 3; i++) {
		client[i] = mt_attach(&t, tenant);
		mt_geom(&t, client[i], MT_PAGE);
		space[i] = mt_space(&t, client[i], 0);
	}
	for (n = 0; n < 600; n++) {
		i = (u32)(hash_random(&rng) % 3);
		now += hash_random(&rng) % (40 * MS);
		mm_tick(t.mm, now);
		mt_drain(&t);
		if (pages[i] > 200) {
			pages[i] = 0;
			mm_space_destroy(t.mm, client[i], space[i]);
			space[i] = mt_space(&t, client[i], 0);
		}
		if (hash_random(&rng) % 4 == 0) {
			kv_step_end(&t.cl[client[i]].status->rank[0],
				    t.cl[client[i]].step);
			continue;
		}
		rc = take(&t, client[i], space[i], pages[i], 7);
		if (rc == -EINPROGRESS)
			ms_until_done(&t, &now);
		bad += rc < 0 && rc != -EINPROGRESS;
		pages[i] += 7;
		for (; seen < t.nr_done; seen++)
			bad += t.done[seen % MT_DONE].cqe.res < 0;
		if (n % 100 == 0)
			mt_check(&t);
	}
	EXPECT_EQ(info(&t, tenant).events.high > 0,
		  high_bytes != MM_LIMIT_NONE);
	mt_fini(&t);
	return bad;
}

TEST(high_never, refuses_what_would_be_served_without)
{
	u64 seed;

	for (seed = 1; seed <= 6; seed++) {
		ASSERT_EQ(refusals(seed, MM_LIMIT_NONE), 0);
		ASSERT_EQ(refusals(seed, 6 * EXT), 0);
	}
}

/* A client has eight tickets; the ninth request does not wait for its turn. */
TEST_F(high, refuses_no_client_that_has_no_ticket_left)
{
	struct mt *t = &self->t;
	u32 i, s;

	ASSERT_EQ(take(t, self->client, self->space, 0, MT_PER_EXTENT), 0);
	ASSERT_EQ(mm_tenant_high(t->mm, self->tenant, EXT), 0);
	for (i = 0; i < 9; i++) {
		s = mt_space(t, self->client, self->geom);
		EXPECT_EQ(take(t, self->client, s, 0, 1),
			  i < 8 ? -EINPROGRESS : 0);
	}
	mt_check(t);
}

TEST_HARNESS_MAIN
