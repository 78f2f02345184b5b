/* SPDX-License-Identifier: MIT */
/*
 * test_oom.c - reports of memory that was not to be had: who held what
 */
#include <errno.h>

#include "selftests/kvmd/mm/mmtest.h"

#define SEC 1000000000ull
#define EXT ((u64)KV_EXTENT_SIZE)

FIXTURE(oom)
{
	struct mt t;
	u32 a, b, ca, cb, sa, sb;
	u64 now;
};

FIXTURE_SETUP(oom)
{
	const struct mm_config cfg = { .device_bytes = 8 * EXT,
				       .ready_extents = 1,
				       .revoke = MM_REVOKE_TICKETS,
				       .revoke_ask_ns = SEC / 10,
				       .revoke_fence_ns = SEC / 5 };
	struct mt *t = &self->t;

	mt_init_cfg(t, &cfg);
	self->a = mt_tenant(t, "a", MM_LIMIT_NONE);
	self->b = mt_tenant(t, "b", 3 * EXT);
	self->ca = mt_attach(t, self->a);
	self->cb = mt_attach(t, self->b);
	mt_geom(t, self->ca, MT_PAGE);
	mt_geom(t, self->cb, MT_PAGE);
	self->sa = mt_space(t, self->ca, 0);
	self->sb = mt_space(t, self->cb, 0);
	self->now = SEC;
	mm_tick(t->mm, self->now);
	ASSERT_EQ(mt_reserve(t, self->ca, self->sa, 0, 4 * MT_PER_EXTENT * 16,
			     0, NULL),
		  0);
	ASSERT_EQ(mt_reserve(t, self->cb, self->sb, 0, MT_PER_EXTENT * 16, 0,
			     NULL),
		  0);
	ASSERT_EQ(mm_tenant_charge(t->mm, self->b, EXT / 2), 0);
}

FIXTURE_TEARDOWN(oom)
{
	mt_fini(&self->t);
}

static void pass(struct oom_self *self, u64 ns)
{
	self->now += ns;
	mm_tick(self->t.mm, self->now);
	mt_drain(&self->t);
	mt_check(&self->t);
}

static const struct mm_oom *last(struct oom_self *self)
{
	return mm_oom_get(self->t.mm, mm_oom_next(self->t.mm) - 1);
}

static int ask(struct oom_self *self, u32 client, u32 space, u32 from,
	       u32 extents, u32 flags, struct mt_resv *r)
{
	return mt_reserve(&self->t, client, space, from * MT_PER_EXTENT * 16,
			  extents * MT_PER_EXTENT * 16, flags, r);
}

TEST_F(oom, report_says_who_asked_and_who_held_what)
{
	struct mt *t = &self->t;
	const struct mm_oom *r;

	EXPECT_EQ(mm_oom_next(t->mm), 1);
	EXPECT_TRUE(!mm_oom_get(t->mm, 0));
	EXPECT_TRUE(!mm_oom_get(t->mm, 1));
	EXPECT_EQ(ask(self, self->cb, self->sb, 1, 2, 0, NULL), -E2BIG);
	ASSERT_EQ(mm_oom_next(t->mm), 2);
	r = last(self);
	ASSERT_TRUE(r);
	EXPECT_EQ(r->seq, 1);
	EXPECT_EQ(r->time_ns, SEC);
	EXPECT_EQ(r->cause, MM_OOM_TOO_BIG);
	EXPECT_EQ(r->why, MM_OOM_WHY_MAX);
	EXPECT_EQ(r->client, self->cb);
	EXPECT_EQ(r->for_client, MM_NONE);
	EXPECT_STREQ(r->tenant, "b");
	EXPECT_EQ(r->step, 2);
	EXPECT_EQ(r->bytes, 2 * EXT);
	EXPECT_EQ(r->device_bytes, 8 * EXT);
	EXPECT_EQ(r->held_bytes, 5 * EXT);
	EXPECT_EQ(r->charged_bytes, EXT / 2);
	ASSERT_EQ(r->nr_tenants, 2);
	EXPECT_STREQ(r->tenants[0].name, "a");
	EXPECT_EQ(r->tenants[0].held_bytes, 4 * EXT);
	EXPECT_EQ(r->tenants[1].held_bytes, EXT);
	EXPECT_EQ(r->tenants[1].charged_bytes, EXT / 2);
	EXPECT_EQ(r->tenants[1].limits.max_bytes, 3 * EXT);
	ASSERT_EQ(r->nr_clients, 2);
	EXPECT_EQ(r->clients[0].client, self->ca);
	EXPECT_EQ(r->clients[0].held_bytes, 4 * EXT);
	ASSERT_EQ(r->nr_spaces, 2);
	EXPECT_EQ(r->spaces[0].space, self->sa);
	EXPECT_EQ(r->spaces[0].bytes, 4 * EXT);
	EXPECT_TRUE(r->spaces[0].busy);
	EXPECT_STREQ(r->spaces[1].tenant, "b");
}

TEST_F(oom, of_the_device_is_told_from_that_of_a_limit)
{
	EXPECT_EQ(ask(self, self->ca, self->sa, 4, 7, 0, NULL), -E2BIG);
	ASSERT_EQ(mm_oom_next(self->t.mm), 2);
	EXPECT_EQ(last(self)->bytes, 7 * EXT);
	EXPECT_EQ(last(self)->why, MM_OOM_WHY_DEVICE);
}

TEST_F(oom, who_asks_over_and_over_is_reported_once_in_a_while)
{
	struct mm_tenant_info ti;
	u32 i;

	for (i = 0; i < 50; i++) {
		EXPECT_EQ(ask(self, self->cb, self->sb, 1, 2, 0, NULL), -E2BIG);
		pass(self, SEC / 10);
	}
	EXPECT_EQ(mm_oom_next(self->t.mm), 6);
	ASSERT_EQ(mm_tenant_info(self->t.mm, self->b, &ti), 0);
	EXPECT_EQ(ti.events.oom, 50);
}

TEST_F(oom, the_last_sixteen_are_kept)
{
	u32 i;

	for (i = 0; i < 20; i++) {
		EXPECT_EQ(ask(self, self->cb, self->sb, 1, 2, 0, NULL), -E2BIG);
		pass(self, SEC);
	}
	EXPECT_EQ(mm_oom_next(self->t.mm), 21);
	EXPECT_TRUE(!mm_oom_get(self->t.mm, 4));
	ASSERT_TRUE(mm_oom_get(self->t.mm, 5));
	EXPECT_EQ(mm_oom_get(self->t.mm, 5)->time_ns, 5 * SEC);
	EXPECT_TRUE(!mm_oom_get(self->t.mm, 21));
}

TEST_F(oom, giving_up_is_reported_after_a_long_wait_only)
{
	struct mt *t = &self->t;
	struct mt_resv r;

	/* b is at its limit with its weights: it waits for itself */
	ASSERT_EQ(mm_tenant_charge(t->mm, self->b, EXT), 0);
	EXPECT_EQ(ask(self, self->cb, mt_space(t, self->cb, 0), 0, 1,
		      KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	pass(self, SEC / 2);
	EXPECT_EQ(mm_cancel(t->mm, self->cb, r.extra), 0);
	mt_drain(t);
	EXPECT_EQ(mm_oom_next(t->mm), 1);
	EXPECT_EQ(ask(self, self->cb, mt_space(t, self->cb, 0), 0, 1,
		      KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	pass(self, 2 * SEC);
	EXPECT_EQ(mm_cancel(t->mm, self->cb, r.extra), 0);
	ASSERT_EQ(mm_oom_next(t->mm), 2);
	EXPECT_EQ(last(self)->cause, MM_OOM_GAVE_UP);
	EXPECT_EQ(last(self)->waited_ns, 2 * SEC);
	EXPECT_EQ(last(self)->bytes, EXT);
}

TEST_F(oom, a_kill_is_reported_with_what_it_was_for)
{
	struct mt *t = &self->t;
	struct mm_tenant_info ti;
	u64 asked, i;

	/* a's step does not end, and it does not listen. */
	EXPECT_EQ(mm_revoke(t->mm, self->ca, 2 * EXT, &asked), 0);
	for (i = 0; i < 10; i++)
		pass(self, SEC / 10);
	EXPECT_EQ(t->cl[self->ca].kills, 1);
	ASSERT_EQ(mm_oom_next(t->mm), 2);
	EXPECT_EQ(last(self)->cause, MM_OOM_KILL);
	EXPECT_EQ(last(self)->why, MM_OOM_WHY_ADMIN);
	EXPECT_EQ(last(self)->client, self->ca);
	EXPECT_EQ(last(self)->bytes, 2 * EXT);
	EXPECT_GE(last(self)->waited_ns, SEC / 10 + SEC / 5);
	ASSERT_EQ(mm_tenant_info(t->mm, self->a, &ti), 0);
	EXPECT_EQ(ti.events.oom_kill, 1);
	EXPECT_EQ(ti.events.revoked, 1);
}

TEST_F(oom, a_kill_for_a_ticket_names_who_waits)
{
	struct kv_space_args args = { .nr_areas = 1, .priority = 9 };
	struct mt *t = &self->t;
	u32 c = mt_attach(t, self->a), i;
	int s;

	mt_geom(t, c, MT_PAGE);
	s = mm_space_create(t->mm, c, &args);
	ASSERT_GE(s, 0);
	EXPECT_EQ(ask(self, c, (u32)s, 0, 4, KV_SQE_WAIT, NULL), -EINPROGRESS);
	for (i = 0; i < 10; i++)
		pass(self, SEC / 10);
	ASSERT_EQ(mm_oom_next(t->mm), 2);
	EXPECT_EQ(last(self)->cause, MM_OOM_KILL);
	EXPECT_EQ(last(self)->why, MM_OOM_WHY_TICKET);
	EXPECT_EQ(last(self)->for_client, c);
}

/* More tenants, clients and spaces than there are rows: the largest are named.
 */
TEST_F(oom, the_largest_are_named_in_their_order)
{
	struct mt *t = &self->t;
	const struct mm_oom *r;
	u32 c, i, k;

	c = mt_attach(t, self->a);
	mt_geom(t, c, MT_PAGE);
	for (i = 0; i < 12; i++)
		ASSERT_EQ(mt_reserve(t, c, mt_space(t, c, 0), 0,
				     (1 + i * 5 % 7) % 3 * 16 + 1, 0, NULL),
			  0);
	for (i = 0; i < 20; i++) {
		char name[8];

		snprintf(name, sizeof(name), "t%u", i);
		mt_tenant(t, name, MM_LIMIT_NONE);
	}
	EXPECT_EQ(ask(self, self->cb, self->sb, 1, 2, 0, NULL), -E2BIG);
	r = last(self);
	ASSERT_TRUE(r);
	EXPECT_EQ(r->nr_tenants, MM_OOM_TENANTS);
	EXPECT_EQ(r->nr_clients, 3);
	EXPECT_EQ(r->nr_spaces, MM_OOM_SPACES);
	EXPECT_STREQ(r->tenants[0].name, "a");
	EXPECT_STREQ(r->tenants[1].name, "b");
	for (k = 1; k < MM_OOM_SPACES; k++)
		EXPECT_GE(r->spaces[k - 1].bytes, r->spaces[k].bytes);
	EXPECT_EQ(r->spaces[0].space, self->sa);
}

TEST_HARNESS_MAIN
