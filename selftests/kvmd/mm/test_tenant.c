/* SPDX-License-Identifier: MIT */
/*
 * test_tenant.c - hard limits, in extents and weights
 */
#include "selftests/kvmd/mm/mmtest.h"

#define PAGE (448u * 1024) /* 18 in an extent */
#define EXT  ((u64)KV_EXTENT_SIZE)

FIXTURE(tenant)
{
	struct mt t;
	u32 tenant, client, geom, space;
};

FIXTURE_SETUP(tenant)
{
	struct mt *t = &self->t;

	mt_init(t, 16, 2);
	self->tenant = mt_tenant(t, "a", 3 * EXT);
	self->client = mt_attach(t, self->tenant);
	self->geom = mt_geom(t, self->client, PAGE);
	self->space = mt_space(t, self->client, self->geom);
}

FIXTURE_TEARDOWN(tenant)
{
	mt_fini(&self->t);
}

static struct mm_tenant_info info(struct mt *t, u32 tenant)
{
	struct mm_tenant_info ti = { 0 };

	EXPECT_EQ(mm_tenant_info(t->mm, tenant, &ti), 0);
	return ti;
}

TEST_F(tenant, of_the_same_name_is_the_same)
{
	u32 again, other;

	ASSERT_EQ(mm_tenant_get(self->t.mm, "a", &again), 0);
	EXPECT_EQ(again, self->tenant);
	ASSERT_EQ(mm_tenant_get(self->t.mm, "b", &other), 0);
	EXPECT_NE(other, self->tenant);
	EXPECT_EQ(mm_tenant_get(self->t.mm, "", &other), -EINVAL);
}

TEST_F(tenant, never_holds_more_than_its_limit)
{
	struct mt *t = &self->t;
	struct mt_resv r;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 54 * 16, 0, NULL),
		  0);
	EXPECT_EQ(info(t, self->tenant).held_bytes, 3 * EXT);
	EXPECT_EQ(mt_reserve(t, self->client, self->space, 54 * 16, 1, 0, &r),
		  -E2BIG);
	EXPECT_EQ(info(t, self->tenant).max_seen_bytes, 3 * EXT);
	mt_check(t);
}

TEST_F(tenant, a_byte_less_is_an_extent_less)
{
	struct mm_limits lim = { .max_bytes = 3 * EXT - 1 };
	struct mt *t = &self->t;

	ASSERT_EQ(mm_tenant_limit(t->mm, self->tenant, &lim), 0);
	EXPECT_EQ(mt_reserve(t, self->client, self->space, 0, 54 * 16, 0, NULL),
		  -E2BIG);
	EXPECT_EQ(mt_reserve(t, self->client, self->space, 0, 36 * 16, 0, NULL),
		  0);
	EXPECT_EQ(info(t, self->tenant).held_bytes, 2 * EXT);
}

TEST_F(tenant, lowered_below_use_it_keeps_what_it_has_and_is_told)
{
	struct mm_limits lim = { .max_bytes = EXT };
	struct mt *t = &self->t;
	u32 other;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 36 * 16, 0, NULL),
		  0);
	ASSERT_EQ(mm_tenant_limit(t->mm, self->tenant, &lim), 0);
	mt_drain(t);
	EXPECT_EQ(info(t, self->tenant).held_bytes, 2 * EXT);
	EXPECT_EQ(t->cl[self->client].nr_events[KV_EVENT_SHRINK], 1);
	EXPECT_EQ(t->cl[self->client].last_arg[KV_EVENT_SHRINK], EXT);
	EXPECT_EQ(t->cl[self->client].last_arg[KV_EVENT_LIMIT], EXT);
	other = mt_space(t, self->client, self->geom);
	EXPECT_EQ(mt_reserve(t, self->client, other, 0, 16, 0, NULL), -EAGAIN);
	/* What is freed now is not kept. */
	mt_complete_all(t, self->client);
	ASSERT_EQ(mm_space_truncate(t->mm, self->client, self->space, 16), 0);
	mt_drain(t);
	EXPECT_EQ(info(t, self->tenant).held_bytes, EXT);
	EXPECT_EQ(mt_reserve(t, self->client, other, 0, 16, 0, NULL), 0);
	mt_check(t);
}

TEST_F(tenant, an_empty_extent_of_a_sibling_is_taken_back_first)
{
	struct mt *t = &self->t;
	u32 c2 = mt_attach(t, self->tenant);
	u32 g2 = mt_geom(t, c2, PAGE), s2 = mt_space(t, c2, g2);

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 18 * 16, 0, NULL),
		  0);
	mt_complete_all(t, self->client);
	ASSERT_EQ(mm_space_truncate(t->mm, self->client, self->space, 0), 0);
	mt_drain(t);
	EXPECT_EQ(info(t, self->tenant).held_bytes, EXT);
	ASSERT_EQ(mt_reserve(t, c2, s2, 0, 54 * 16, 0, NULL), 0);
	EXPECT_EQ(info(t, self->tenant).held_bytes, 3 * EXT);
	EXPECT_EQ(t->cl[self->client].withdraws, 1);
	mt_check(t);
}

TEST_F(tenant, weights_count_against_the_limit_and_the_device)
{
	struct mt *t = &self->t;
	u32 rich = mt_tenant(t, "rich", MM_LIMIT_NONE);
	struct mt_resv r;

	EXPECT_EQ(mm_tenant_charge(t->mm, self->tenant, 3 * EXT + 1), -EDQUOT);
	EXPECT_EQ(mm_tenant_charge(t->mm, self->tenant, 2 * EXT), 0);
	mt_drain(t);
	EXPECT_EQ(mt_reserve(t, self->client, self->space, 0, 19 * 16, 0, &r),
		  -E2BIG);
	EXPECT_EQ(mt_reserve(t, self->client, self->space, 0, 18 * 16, 0, &r),
		  0);
	EXPECT_EQ(mm_tenant_charge(t->mm, self->tenant, 1), -EDQUOT);
	EXPECT_EQ(mm_tenant_charge(t->mm, rich, 14 * EXT), -ENOSPC);
	/* Ready memory makes room. */
	EXPECT_EQ(mm_tenant_charge(t->mm, rich, 13 * EXT), 0);
	mt_drain(t);
	EXPECT_EQ(mm_tenant_charge(t->mm, rich, 1), -ENOSPC);
	mt_check(t);
	mm_tenant_uncharge(t->mm, rich, 13 * EXT);
	mm_tenant_uncharge(t->mm, self->tenant, 2 * EXT);
	mt_drain(t);
	mt_check(t);
}

TEST_F(tenant, nonsense_is_refused)
{
	struct mm_limits lim = { .max_bytes = 1, .low_bytes = 2 };
	struct mm_counts a, b;
	struct mm_tenant_info ti;

	EXPECT_EQ(mm_tenant_limit(self->t.mm, self->tenant, &lim), -EINVAL);
	EXPECT_EQ(mm_tenant_limit(self->t.mm, 77, &lim), -ENOENT);
	EXPECT_EQ(mm_tenant_charge(self->t.mm, 9999, 1), -ENOENT);
	EXPECT_EQ(mm_tenant_charge(self->t.mm, self->tenant, ~0ull), -EDQUOT);
	EXPECT_EQ(mm_tenant_info(self->t.mm, 9999, &ti), -ENOENT);
	mm_counts_get(self->t.mm, &a);
	mm_tenant_uncharge(self->t.mm, self->tenant, 1);
	mm_counts_get(self->t.mm, &b);
	EXPECT_EQ(b.invalid, a.invalid + 1);
	mt_check(&self->t);
}

TEST_F(tenant, a_slot_is_reused_when_nobody_needs_it)
{
	char name[16];
	u32 id, i, first;

	ASSERT_EQ(mm_tenant_get(self->t.mm, "gone", &first), 0);
	mm_tenant_put(self->t.mm, first);
	for (i = 0; i < MM_TENANT_MAX - 1; i++) {
		snprintf(name, sizeof(name), "x%u", i);
		ASSERT_EQ(mm_tenant_get(self->t.mm, name, &id), 0);
	}
	EXPECT_EQ(mm_tenant_get(self->t.mm, "one more", &id), -ENOSPC);
}

TEST_HARNESS_MAIN
