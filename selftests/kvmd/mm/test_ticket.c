/* SPDX-License-Identifier: MIT */
/*
 * test_ticket.c - who waits, who is served, in which order
 */
#include "selftests/kvmd/mm/mmtest.h"

#define PAGE (448u * 1024) /* 18 in an extent */

FIXTURE(ticket)
{
	struct mt t;
	u32 tenant, a, b; /* two clients */
	u32 ga, gb, sa, sb;
};

FIXTURE_SETUP(ticket)
{
	struct mt *t = &self->t;

	mt_init(t, 4, 1);
	self->tenant = mt_tenant(t, "t", MM_LIMIT_NONE);
	self->a = mt_attach(t, self->tenant);
	self->b = mt_attach(t, self->tenant);
	self->ga = mt_geom(t, self->a, PAGE);
	self->gb = mt_geom(t, self->b, PAGE);
	self->sa = mt_space(t, self->a, self->ga);
	self->sb = mt_space(t, self->b, self->gb);
}

FIXTURE_TEARDOWN(ticket)
{
	mt_fini(&self->t);
}

static u32 space_of_priority(struct mt *t, u32 client, u32 geom, u16 prio)
{
	struct kv_space_args a = { .nr_areas = 1, .priority = prio };
	int rc;

	a.area[0].geom = geom;
	rc = mm_space_create(t->mm, client, &a);
	EXPECT_GE(rc, 0);
	return (u32)rc;
}

/* Client @a fills the device. */
static void fill(struct mt *t, u32 client, u32 space)
{
	ASSERT_EQ(mt_reserve(t, client, space, 0, 72 * 16, 0, NULL), 0);
	mt_complete_all(t, client);
	t->nr_done = 0; /* it had to wait for memory itself */
}

TEST_F(ticket, without_wait_a_shortage_is_an_answer)
{
	struct mt *t = &self->t;
	struct kv_holder h[4];
	struct mt_resv r;

	fill(t, self->a, self->sa);
	EXPECT_EQ(mt_reserve(t, self->b, self->sb, 0, 16, 0, &r), -EAGAIN);
	EXPECT_EQ(r.extra, KV_EXTENT_SIZE);
	ASSERT_EQ(mm_holders(t->mm, self->b, h, 4), 1);
	EXPECT_STREQ(h[0].name, "t");
	EXPECT_EQ(h[0].held_bytes, 4ull * KV_EXTENT_SIZE);
	EXPECT_EQ(h[0].reclaim_bytes, 72ull * PAGE);
	EXPECT_EQ(mm_holders(t->mm, self->b, h, 0), 0);
	mt_check(t);
}

TEST_F(ticket, with_wait_it_is_granted_when_memory_comes)
{
	struct mt *t = &self->t;
	struct mt_resv r;

	fill(t, self->a, self->sa);
	ASSERT_EQ(mt_reserve(t, self->b, self->sb, 0, 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	EXPECT_NE(r.extra, 0);
	EXPECT_EQ(t->nr_done, 0);
	mt_check(t);
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, self->sa, 54 * 16), 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].client, self->b);
	EXPECT_EQ(t->done[0].cqe.res, 0);
	EXPECT_EQ(t->done[0].cqe.user_data, 1);
	EXPECT_EQ(t->done[0].cqe.extent_seq, 1);
	EXPECT_TRUE(kv_pte_can(mt_pte(t, self->b, self->sb, 0, 0), 1));
	mt_check(t);
}

TEST_F(ticket, says_since_when_it_waited_and_what_it_took)
{
	struct mt *t = &self->t;
	struct mm_faults before, after;

	fill(t, self->a, self->sa);
	mm_faults_at_once(t->mm, &before);
	mm_now(t->mm, 5000);
	ASSERT_EQ(
		mt_reserve(t, self->b, self->sb, 0, 3 * 16, KV_SQE_WAIT, NULL),
		-EINPROGRESS);
	mm_tick(t->mm, 9000);
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, self->sa, 54 * 16), 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].since_ns, 5000);
	EXPECT_EQ(t->done[0].faults.fresh, 3);
	EXPECT_EQ(t->done[0].faults.cow, 0);
	EXPECT_EQ(t->done[0].faults.swap_in, 0);
	/* and nobody else is charged for it */
	mm_faults_at_once(t->mm, &after);
	EXPECT_EQ(after.fresh, before.fresh);
	EXPECT_EQ(mt_reserve(t, self->b, self->sb, 3 * 16, 2 * 16, 0, NULL), 0);
	mm_faults_at_once(t->mm, &after);
	EXPECT_EQ(after.fresh, before.fresh + 2);
}

TEST_F(ticket, the_clock_does_not_go_back)
{
	struct mt *t = &self->t;

	fill(t, self->a, self->sa);
	mm_now(t->mm, 5000);
	mm_now(t->mm, 4000);
	ASSERT_EQ(mt_reserve(t, self->b, self->sb, 0, 16, KV_SQE_WAIT, NULL),
		  -EINPROGRESS);
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, self->sa, 54 * 16), 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].since_ns, 5000);
}

TEST_F(ticket, holds_nothing)
{
	struct mt *t = &self->t;

	fill(t, self->a, self->sa);
	ASSERT_EQ(mt_reserve(t, self->b, self->sb, 0, 16, KV_SQE_WAIT, NULL),
		  -EINPROGRESS);
	/* The space it names can go; the ticket then fails. */
	ASSERT_EQ(mm_space_destroy(t->mm, self->b, self->sb), 0);
	ASSERT_EQ(mm_space_destroy(t->mm, self->a, self->sa), 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].cqe.res, -ENOENT);
	mt_check(t);
}

TEST_F(ticket, the_higher_priority_is_served_first_then_the_older)
{
	struct mt *t = &self->t;
	u32 order[3] = { 0 }, i;
	u32 s[3];

	s[0] = space_of_priority(t, self->b, self->gb, 1);
	s[1] = space_of_priority(t, self->b, self->gb, 5);
	s[2] = space_of_priority(t, self->b, self->gb, 5);
	fill(t, self->a, self->sa);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(mt_reserve(t, self->b, s[i], 0, 18 * 16, KV_SQE_WAIT,
				     NULL),
			  -EINPROGRESS);
		order[i] = (u32)t->cl[self->b].step;
	}
	for (i = 3; i-- > 0;) {
		ASSERT_EQ(mm_space_truncate(t->mm, self->a, self->sa,
					    (u64)i * 18 * 16),
			  0);
		mt_drain(t);
	}
	ASSERT_EQ(t->nr_done, 3);
	EXPECT_EQ(t->done[0].cqe.user_data, order[1]);
	EXPECT_EQ(t->done[1].cqe.user_data, order[2]);
	EXPECT_EQ(t->done[2].cqe.user_data, order[0]);
	mt_check(t);
}

TEST_F(ticket, a_large_one_is_not_starved_by_small_ones)
{
	struct mt *t = &self->t;
	u32 c = mt_attach(t, self->tenant), g = mt_geom(t, c, PAGE);
	u32 s = mt_space(t, c, g);

	fill(t, self->a, self->sa);
	ASSERT_EQ(
		mt_reserve(t, self->b, self->sb, 0, 36 * 16, KV_SQE_WAIT, NULL),
		-EINPROGRESS);
	/* One extent comes free: enough for the small one, but it is later. */
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, self->sa, 54 * 16), 0);
	mt_drain(t);
	EXPECT_EQ(mt_reserve(t, c, s, 0, 16, 0, NULL), -EAGAIN);
	EXPECT_EQ(mt_reserve(t, c, s, 0, 16, KV_SQE_WAIT, NULL), -EINPROGRESS);
	EXPECT_EQ(t->nr_done, 0);
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, self->sa, 18 * 16), 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 2);
	EXPECT_EQ(t->done[0].client, self->b);
	EXPECT_EQ(t->done[1].client, c);
	mt_check(t);
}

TEST_F(ticket, a_tenant_at_its_limit_holds_nobody_else_back)
{
	struct mt *t = &self->t;
	u32 poor = mt_tenant(t, "poor", KV_EXTENT_SIZE);
	u32 c = mt_attach(t, poor), g = mt_geom(t, c, PAGE);
	u32 s1 = mt_space(t, c, g), s2 = mt_space(t, c, g);
	struct mm_tenant_info ti;

	ASSERT_EQ(mt_reserve(t, c, s1, 0, 18 * 16, 0, NULL), 0);
	ASSERT_EQ(mt_reserve(t, c, s2, 0, 16, KV_SQE_WAIT, NULL), -EINPROGRESS);
	ASSERT_EQ(mt_reserve(t, self->b, self->sb, 0, 16, 0, NULL), 0);
	mm_tenant_info(t->mm, poor, &ti);
	EXPECT_EQ(ti.nr_tickets, 1);
	EXPECT_EQ(ti.limit_hits, 1);
	mt_complete_all(t, c);
	ASSERT_EQ(mm_space_truncate(t->mm, c, s1, 17 * 16), 0);
	mt_drain(t);
	EXPECT_EQ(t->nr_done, 1);
	mt_check(t);
}

TEST_F(ticket, a_raised_limit_serves_who_waited_for_it)
{
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE };
	struct mt *t = &self->t;
	u32 poor = mt_tenant(t, "poor", KV_EXTENT_SIZE);
	u32 c = mt_attach(t, poor), g = mt_geom(t, c, PAGE);
	u32 s1 = mt_space(t, c, g), s2 = mt_space(t, c, g);

	ASSERT_EQ(mt_reserve(t, c, s1, 0, 18 * 16, 0, NULL), 0);
	ASSERT_EQ(mt_reserve(t, c, s2, 0, 16, KV_SQE_WAIT, NULL), -EINPROGRESS);
	ASSERT_EQ(mm_tenant_limit(t->mm, poor, &lim), 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].cqe.res, 0);
	mt_check(t);
}

TEST_F(ticket, a_lowered_limit_ends_what_can_never_be)
{
	struct mm_limits lim = { .max_bytes = KV_EXTENT_SIZE };
	struct mt *t = &self->t;

	fill(t, self->a, self->sa);
	ASSERT_EQ(
		mt_reserve(t, self->b, self->sb, 0, 36 * 16, KV_SQE_WAIT, NULL),
		-EINPROGRESS);
	ASSERT_EQ(mm_tenant_limit(t->mm, self->tenant, &lim), 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].cqe.res, -E2BIG);
	mt_check(t);
}

TEST_F(ticket, can_be_cancelled_once_by_its_owner)
{
	struct mt *t = &self->t;
	struct mt_resv r;

	fill(t, self->a, self->sa);
	ASSERT_EQ(mt_reserve(t, self->b, self->sb, 0, 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	EXPECT_EQ(mm_cancel(t->mm, self->a, r.extra), -ENOENT);
	EXPECT_EQ(mm_cancel(t->mm, self->b, r.extra + 1), -ENOENT);
	EXPECT_EQ(mm_cancel(t->mm, self->b, ~0ull), -ENOENT);
	EXPECT_EQ(mm_cancel(t->mm, self->b, r.extra), 0);
	EXPECT_EQ(mm_cancel(t->mm, self->b, r.extra), -ENOENT);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].cqe.res, -ECANCELED);
	mt_check(t);
}

TEST_F(ticket, goes_with_its_client_without_a_word)
{
	struct mt *t = &self->t;

	fill(t, self->a, self->sa);
	ASSERT_EQ(mt_reserve(t, self->b, self->sb, 0, 16, KV_SQE_WAIT, NULL),
		  -EINPROGRESS);
	mm_client_exit(t->mm, self->b);
	mt_drain(t);
	mm_client_gone(t->mm, self->b);
	ASSERT_EQ(mm_space_destroy(t->mm, self->a, self->sa), 0);
	mt_drain(t);
	EXPECT_EQ(t->nr_done, 0);
	mt_check(t);
}

TEST_F(ticket, while_memory_is_populated_a_request_waits_by_itself)
{
	struct mt *t = &self->t;
	struct mt_resv r;

	t->hold_memory = true;
	ASSERT_EQ(mt_reserve(t, self->a, self->sa, 0, 36 * 16, 0, &r),
		  -EINPROGRESS);
	EXPECT_EQ(r.extra, 0);
	EXPECT_EQ(t->nr_done, 0);
	mt_check(t);
	mt_answer(t, 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, 1);
	EXPECT_EQ(t->done[0].cqe.res, 0);
	t->hold_memory = false;
	mt_answer(t, 0);
	mt_drain(t);
	mt_check(t);
}

TEST_F(ticket, a_client_has_a_few_at_a_time)
{
	struct mt *t = &self->t;
	u32 i, s;
	int rc, waiting = 0;

	fill(t, self->a, self->sa);
	for (i = 0; i < 20; i++) {
		s = mt_space(t, self->b, self->gb);
		rc = mt_reserve(t, self->b, s, 0, 16, KV_SQE_WAIT, NULL);
		EXPECT_TRUE(rc == -EINPROGRESS || rc == -EAGAIN);
		waiting += rc == -EINPROGRESS;
	}
	EXPECT_EQ(waiting, 8);
	ASSERT_EQ(mm_space_destroy(t->mm, self->a, self->sa), 0);
	mt_drain(t);
	EXPECT_EQ(t->nr_done, 8);
	mt_check(t);
}

TEST_HARNESS_MAIN
