/* SPDX-License-Identifier: MIT */
/*
 * test_weight.c - on a full device memory goes by the tenants' weights
 */
#include <errno.h>

#include "kvmd/mm/extent.h"
#include "selftests/kvmd/mm/mmtest.h"

#define EXT ((u64)KV_EXTENT_SIZE)

FIXTURE(weight)
{
	struct mt t;
	u32 tenant[3], client[3];
	u64 now;
};

static void set(struct mt *t, u32 tenant, u32 weight, u64 low)
{
	const struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE,
				       .low_bytes = low,
				       .weight = weight };

	ASSERT_EQ(mm_tenant_limit(t->mm, tenant, &lim), 0);
}

FIXTURE_SETUP(weight)
{
	static const char *const name[3] = { "a", "b", "c" };
	u32 i;

	mt_init_swap(&self->t, 8, 1, 2ull << 30, 0);
	for (i = 0; i < 3; i++) {
		self->tenant[i] = mt_tenant(&self->t, name[i], MM_LIMIT_NONE);
		self->client[i] = mt_attach(&self->t, self->tenant[i]);
		mt_geom(&self->t, self->client[i], MT_PAGE);
		set(&self->t, self->tenant[i], 100, 0);
	}
}

FIXTURE_TEARDOWN(weight)
{
	mt_fini(&self->t);
}

/* A space of one extent, of @who, used now. */
static u32 idle(struct weight_self *self, u32 who)
{
	u32 s;

	self->now += 1000;
	mm_tick(self->t.mm, self->now);
	s = mt_idle_space(&self->t, self->client[who], 0, MT_PER_EXTENT);
	return s;
}

static struct mm_tenant_info info(struct weight_self *self, u32 who)
{
	struct mm_tenant_info ti = { 0 };

	EXPECT_EQ(mm_tenant_info(self->t.mm, self->tenant[who], &ti), 0);
	return ti;
}

TEST_F(weight, who_is_the_most_above_its_share_gives_its_oldest)
{
	u32 i, a[3] = { 0 }, b[5] = { 0 };

	set(&self->t, self->tenant[1], 300, 0);
	for (i = 0; i < 5; i++)
		b[i] = idle(self, 1);
	for (i = 0; i < 3; i++)
		a[i] = idle(self, 0); /* all younger than b's */
	idle(self, 2);
	EXPECT_EQ(mt_nr_swapped(&self->t, self->client[0], a[0]),
		  MT_PER_EXTENT);
	EXPECT_EQ(mt_nr_swapped(&self->t, self->client[0], a[1]), 0);
	EXPECT_EQ(mt_nr_swapped(&self->t, self->client[1], b[0]), 0);
	mt_check(&self->t);
}

TEST_F(weight, below_its_low_one_is_asked_last_and_that_is_counted)
{
	struct mt *t = &self->t;
	u32 i, busy = mt_space(t, self->client[2], 0);

	set(&self->t, self->tenant[0], 1, 5 * EXT);
	for (i = 0; i < 5; i++)
		idle(self, 0);
	for (i = 0; i < 3; i++)
		idle(self, 1);
	ASSERT_EQ(mt_reserve(t, self->client[2], busy, 0, MT_PER_EXTENT * 16, 0,
			     NULL),
		  0);
	EXPECT_EQ(info(self, 0).held_bytes, 5 * EXT);
	EXPECT_EQ(info(self, 1).held_bytes, 2 * EXT);
	EXPECT_EQ(info(self, 0).events.low, 0);
	set(&self->t, self->tenant[1], 100, 2 * EXT);
	ASSERT_EQ(mt_reserve(t, self->client[2], busy, MT_PER_EXTENT * 16, 16,
			     0, NULL),
		  0);
	EXPECT_EQ(info(self, 0).held_bytes, 4 * EXT);
	EXPECT_EQ(info(self, 0).events.low, 1);
	EXPECT_EQ(info(self, 1).events.low, 0);
	mt_check(&self->t);
}

/* Everybody wants everything, in any order: what they hold is as the weights.
 */
TEST_F(weight, shares_of_a_full_device_are_as_the_weights)
{
	static const u32 weight[3] = { 100, 200, 500 };
	u64 rng = 20261125, held[3] = { 0 };
	double sum;
	u32 i, n;

	for (i = 0; i < 3; i++)
		set(&self->t, self->tenant[i], weight[i], 0);
	for (n = 0; n < 150; n++) {
		i = (u32)(hash_random(&rng) % 3);
		idle(self, i);
		if (n < 50)
			continue;
		for (i = 0; i < 3; i++)
			held[i] += info(self, i).held_bytes / EXT;
	}
	sum = (double)(held[0] + held[1] + held[2]);
	for (i = 0; i < 3; i++)
		EXPECT_NEAR((double)held[i] / sum, weight[i] / 800.0, 0.1);
	mt_check(&self->t);
}

TEST_F(weight, excess_counts_tenants_that_are_there)
{
	/* 8 extents for three, and nobody holds any */
	EXPECT_NEAR(tenant_excess(self->t.mm, self->tenant[0]), -8.0 / 300,
		    1e-9);
	idle(self, 0);
	EXPECT_NEAR(tenant_excess(self->t.mm, self->tenant[0]),
		    (1 - 8.0 / 3) / 100, 1e-9);
	mm_client_gone(self->t.mm, self->client[2]);
	EXPECT_NEAR(tenant_excess(self->t.mm, self->tenant[0]),
		    (1 - 8.0 / 2) / 100, 1e-9);
}

TEST_HARNESS_MAIN
