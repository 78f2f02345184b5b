/* SPDX-License-Identifier: MIT */
/*
 * test_revoke.c - memory that comes back whether the client helps or not
 *
 * The clock is the test's: a client that is asked has ASK, then its steps have
 * FENCE to end.
 *
 * san: address
 */
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

#define ASK   1000ull
#define FENCE 5000ull
#define EXT   ((u64)KV_EXTENT_SIZE)
#define HALF  (MT_PER_EXTENT / 2)

FIXTURE(revoke)
{
	struct mt t;
	u64 now;
	u32 a, b; /* tenants */
	u32 ca, cb; /* a client of each */
	u32 ga, gb; /* their geometries */
};

static void init(struct revoke_self *self, u32 policy, u64 swap)
{
	const struct mm_config cfg = {
		.device_bytes = 8 * EXT,
		.swap_bytes = { swap },
		.revoke = policy,
		.revoke_ask_ns = ASK,
		.revoke_fence_ns = FENCE,
	};

	mt_init_cfg(&self->t, &cfg);
	self->now = 10;
	mm_tick(self->t.mm, self->now);
	mt_join(&self->t, "a", &self->a, &self->ca, &self->ga);
	mt_join(&self->t, "b", &self->b, &self->cb, &self->gb);
}

FIXTURE_SETUP(revoke)
{
	init(self, MM_REVOKE_TICKETS, 0);
}

FIXTURE_TEARDOWN(revoke)
{
	mt_check(&self->t);
	mt_fini(&self->t);
}

static void pass(struct revoke_self *self, u64 ns)
{
	self->now += ns;
	mm_tick(self->t.mm, self->now);
	mt_drain(&self->t);
	mt_check(&self->t);
}

static struct mm_counts counts(struct mt *t)
{
	struct mm_counts c;

	mm_counts_get(t->mm, &c);
	return c;
}

static u32 state(struct mt *t, u32 client)
{
	struct mm_client_info i;

	ASSERT_EQ(mm_client_info(t->mm, client, &i), 0);
	return i.revoke;
}

static u64 hold(struct mt *t, u32 client)
{
	return t->cl[client].table->hold_step;
}

static u64 epoch(struct mt *t, u32 client)
{
	return t->cl[client].table->epoch;
}

static u64 ask_for(struct revoke_self *self, u32 client, u64 bytes)
{
	u64 asked = 0;

	EXPECT_EQ(mm_revoke(self->t.mm, client, bytes, &asked), 0);
	mt_drain(&self->t);
	return asked;
}

/* Its steps end, and nothing else happens. */
static void end_steps(struct mt *t, u32 client)
{
	kv_step_end(&t->cl[client].status->rank[0], t->cl[client].step);
}

static void limit(struct mt *t, u32 tenant, u64 max, u64 low, u64 min)
{
	struct mm_limits l = { max, low, min, 100 };

	ASSERT_EQ(mm_tenant_limit(t->mm, tenant, &l), 0);
	mt_drain(t);
}

/* A space of a priority whose pages no step uses. */
static u32 idle_at(struct mt *t, u32 client, u32 geom, u32 pages, u16 prio)
{
	struct kv_space_args a = { .nr_areas = 1, .priority = prio };
	int s;

	a.area[0].geom = geom;
	s = mm_space_create(t->mm, client, &a);
	ASSERT_GE(s, 0);
	if (pages)
		EXPECT_EQ(mt_reserve(t, client, (u32)s, 0, pages * 16, 0, NULL),
			  0);
	end_steps(t, client);
	return (u32)s;
}

TEST_F(revoke, who_gives_back_in_time_is_let_alone)
{
	struct mt *t = &self->t;
	struct mt_client *c = &t->cl[self->ca];
	u32 keep = idle_at(t, self->ca, self->ga, MT_PER_EXTENT, 0);
	u32 s = idle_at(t, self->ca, self->ga, 2 * MT_PER_EXTENT, 0), i;

	EXPECT_EQ(ask_for(self, self->ca, 2 * EXT), 2 * EXT);
	EXPECT_EQ(c->nr_events[KV_EVENT_SHRINK], 1);
	EXPECT_EQ(c->last_arg[KV_EVENT_SHRINK], 2 * EXT);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_ASKED);
	pass(self, ASK / 8);
	EXPECT_EQ(mt_extents(t, self->ca), 3);
	EXPECT_EQ(mm_space_destroy(t->mm, self->ca, s), 0);
	EXPECT_GE(mm_shrink(t->mm, self->ca), 0);
	pass(self, 1);
	EXPECT_EQ(mt_extents(t, self->ca), 1);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_NONE);
	pass(self, ASK + FENCE);
	EXPECT_EQ(hold(t, self->ca), ~0ull);
	EXPECT_EQ(epoch(t, self->ca), 0);
	EXPECT_EQ(c->nr_events[KV_EVENT_SHRINK], 1);
	EXPECT_EQ(counts(t).revokes_given, 1);
	EXPECT_EQ(counts(t).revoke_lost, 0);
	for (i = 0; i < MT_PER_EXTENT; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->ca, keep, 0, i), 1));
	/* and it may grow again */
	EXPECT_EQ(mt_reserve(t, self->ca, keep, MT_PER_EXTENT * 16,
			     MT_PER_EXTENT * 16, 0, NULL),
		  0);
}

TEST_F(revoke, who_gives_half_is_asked_again_and_loses_the_rest)
{
	struct mt *t = &self->t;
	struct mt_client *c = &t->cl[self->ca];
	u32 s1 = idle_at(t, self->ca, self->ga, MT_PER_EXTENT, 1), s2;
	u32 s3 = idle_at(t, self->ca, self->ga, MT_PER_EXTENT, 0), i;
	struct mt_resv r;

	s2 = idle_at(t, self->ca, self->ga, MT_PER_EXTENT, 2);
	ask_for(self, self->ca, 2 * EXT);
	mm_space_destroy(t->mm, self->ca, s2);
	pass(self, 1);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
	EXPECT_EQ(c->nr_events[KV_EVENT_SHRINK], 2);
	EXPECT_EQ(c->last_arg[KV_EVENT_SHRINK], EXT);
	pass(self, ASK - 2);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
	EXPECT_GT(c->nr_events[KV_EVENT_SHRINK], 2);
	pass(self, 1);
	EXPECT_EQ(mt_extents(t, self->ca), 1);
	EXPECT_EQ(c->nr_events[KV_EVENT_REVOKE], 1);
	EXPECT_EQ(epoch(t, self->ca), 1);
	EXPECT_EQ(hold(t, self->ca), ~0ull);
	EXPECT_EQ(counts(t).revokes_taken, 1);
	EXPECT_EQ(counts(t).revoke_lost, MT_PER_EXTENT);
	EXPECT_EQ(counts(t).revoke_max_ns, ASK);
	/* the lower priority has lost, and is told where */
	for (i = 0; i < MT_PER_EXTENT; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->ca, s1, 0, i), 1));
	EXPECT_EQ(mt_reserve(t, self->ca, s3, MT_PER_EXTENT * 16, 1, 0, &r),
		  -ENODATA);
	EXPECT_EQ(r.extra, (u64)s3 << 32 | 1);
	EXPECT_EQ(mm_space_truncate(t->mm, self->ca, s3, 0), 0);
	EXPECT_EQ(mt_reserve(t, self->ca, s3, 0, 16, 0, &r), 0);
}

TEST_F(revoke, steps_under_way_end_first_and_no_other_begins)
{
	struct mt *t = &self->t;
	struct mt_resv r;
	u32 s = mt_space(t, self->ca, self->ga);
	u64 before;

	ASSERT_EQ(
		mt_reserve(t, self->ca, s, 0, 2 * MT_PER_EXTENT * 16, 0, NULL),
		0);
	before = t->cl[self->ca].step - 1;
	ask_for(self, self->ca, 2 * EXT);
	pass(self, ASK);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_FENCED);
	/* nor one that needs no memory: it was killed for what it was given */
	EXPECT_EQ(mt_reserve(t, self->ca, s, 0, 1, 0, &r), -EAGAIN);
	EXPECT_LE(hold(t, self->ca), before);
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_HOLD], 1);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
	EXPECT_EQ(epoch(t, self->ca), 0);
	pass(self, FENCE - 1);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
	end_steps(t, self->ca);
	pass(self, 0);
	EXPECT_EQ(mt_extents(t, self->ca), 0);
	EXPECT_EQ(epoch(t, self->ca), 1);
	EXPECT_EQ(hold(t, self->ca), ~0ull);
	pass(self, 2 * FENCE);
	EXPECT_EQ(t->cl[self->ca].kills, 0);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_NONE);
}

TEST_F(revoke, who_does_not_end_its_steps_is_killed_and_not_before)
{
	struct mt *t = &self->t;
	u32 s = mt_space(t, self->ca, self->ga);
	struct mm_usage u;

	ASSERT_EQ(
		mt_reserve(t, self->ca, s, 0, 2 * MT_PER_EXTENT * 16, 0, NULL),
		0);
	ask_for(self, self->ca, EXT);
	pass(self, ASK);
	pass(self, FENCE - 1);
	EXPECT_EQ(t->cl[self->ca].kills, 0);
	pass(self, 1);
	EXPECT_EQ(t->cl[self->ca].kills, 1);
	pass(self, 10 * FENCE);
	EXPECT_EQ(t->cl[self->ca].kills, 1);
	EXPECT_EQ(counts(t).revokes_killed, 1);
	/* its kernels may run until its stream is gone */
	mm_client_exit(t->mm, self->ca);
	mt_drain(t);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.held_bytes, 2 * EXT);
	mm_client_gone(t->mm, self->ca);
	mt_drain(t);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.held_bytes, 0);
}

TEST_F(revoke, a_tenant_keeps_its_min)
{
	struct mt *t = &self->t;
	u64 asked;

	limit(t, self->a, MM_LIMIT_NONE, 2 * EXT, 2 * EXT);
	idle_at(t, self->ca, self->ga, 3 * MT_PER_EXTENT, 0);
	EXPECT_EQ(ask_for(self, self->ca, 100 * EXT), EXT);
	/* what is on its way counts as gone */
	EXPECT_EQ(mm_revoke(t->mm, self->ca, EXT, &asked), -EPERM);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
	EXPECT_EQ(mm_revoke(t->mm, self->ca, 1, &asked), -EPERM);
	EXPECT_EQ(mm_revoke(t->mm, self->cb, 1, &asked), -EPERM);
	EXPECT_EQ(mm_revoke(t->mm, self->ca, 0, &asked), -EINVAL);
	EXPECT_EQ(mm_revoke(t->mm, 77, 1, &asked), -ENOENT);
}

TEST_F(revoke, a_lowered_limit_is_reached)
{
	struct mt *t = &self->t;
	u32 c2 = mt_attach(t, self->a), g2 = mt_geom(t, c2, MT_PAGE);

	idle_at(t, self->ca, self->ga, 3 * MT_PER_EXTENT, 1);
	idle_at(t, c2, g2, 2 * MT_PER_EXTENT, 0);
	idle_at(t, self->cb, self->gb, 2 * MT_PER_EXTENT, 0);
	limit(t, self->a, 4 * EXT, 0, 0);
	/* the lower priority gives */
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_NONE);
	EXPECT_EQ(state(t, c2), MM_REVOKE_ASKED);
	limit(t, self->a, 2 * EXT, 0, 0);
	EXPECT_EQ(t->cl[c2].last_arg[KV_EVENT_SHRINK], 2 * EXT);
	EXPECT_EQ(t->cl[self->ca].last_arg[KV_EVENT_SHRINK], EXT);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, c2), 0);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
	EXPECT_EQ(mt_extents(t, self->cb), 2);
	pass(self, ASK + FENCE);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
}

TEST_F(revoke, what_nobody_needs_any_more_is_called_off)
{
	struct mt *t = &self->t;
	u32 s = mt_space(t, self->ca, self->ga);

	ASSERT_EQ(
		mt_reserve(t, self->ca, s, 0, 2 * MT_PER_EXTENT * 16, 0, NULL),
		0);
	limit(t, self->a, EXT, 0, 0);
	pass(self, ASK);
	EXPECT_NE(hold(t, self->ca), ~0ull);
	limit(t, self->a, 2 * EXT, 0, 0);
	EXPECT_EQ(hold(t, self->ca), ~0ull);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_NONE);
	EXPECT_EQ(counts(t).revokes_off, 1);
	pass(self, 2 * FENCE);
	EXPECT_EQ(t->cl[self->ca].kills, 0);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
}

/* Tenant a has the whole device; b wants @pages with a ticket. */
static u32 fill_and_wait(struct revoke_self *self, u16 prio_a, u16 prio_b,
			 u32 pages)
{
	struct kv_space_args args = { .nr_areas = 1, .priority = prio_b };
	u32 s = idle_at(&self->t, self->ca, self->ga, 8 * MT_PER_EXTENT,
			prio_a);
	int b;

	args.area[0].geom = self->gb;
	b = mm_space_create(self->t.mm, self->cb, &args);
	ASSERT_GE(b, 0);
	EXPECT_EQ(mt_reserve(&self->t, self->cb, (u32)b, 0, pages * 16,
			     KV_SQE_WAIT, NULL),
		  -EINPROGRESS);
	return s;
}

TEST_F(revoke, a_ticket_takes_from_a_lower_priority)
{
	struct mt *t = &self->t;
	u32 done;

	fill_and_wait(self, 1, 2, 2 * MT_PER_EXTENT);
	done = t->nr_done;
	EXPECT_EQ(t->cl[self->ca].last_arg[KV_EVENT_SHRINK], 2 * EXT);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->ca), 6);
	EXPECT_EQ(mt_extents(t, self->cb), 2);
	ASSERT_EQ(t->nr_done, done + 1);
	EXPECT_EQ(t->done[done % MT_DONE].cqe.res, 0);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_NONE);
}

TEST_F(revoke, what_a_ticket_takes_before_the_next_look_was_given)
{
	u32 s = fill_and_wait(self, 1, 2, MT_PER_EXTENT);

	mm_space_truncate(self->t.mm, self->ca, s, 7 * MT_PER_EXTENT * 16);
	mt_drain(&self->t);
	EXPECT_EQ(mt_extents(&self->t, self->cb), 1);
	EXPECT_EQ(counts(&self->t).revokes_given, 1);
	EXPECT_EQ(counts(&self->t).revokes_off, 0);
}

TEST_F(revoke, a_ticket_takes_nothing_from_a_higher_priority)
{
	struct mt *t = &self->t;

	fill_and_wait(self, 2, 1, MT_PER_EXTENT);
	pass(self, ASK);
	pass(self, 100000000);
	pass(self, 100000000);
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_SHRINK], 0);
	EXPECT_EQ(mt_extents(t, self->ca), 8);
}

TEST_F(revoke, a_ticket_takes_nothing_that_is_below_low)
{
	struct mt *t = &self->t;

	limit(t, self->a, MM_LIMIT_NONE, 7 * EXT, 0);
	fill_and_wait(self, 1, 2, 2 * MT_PER_EXTENT);
	EXPECT_EQ(t->cl[self->ca].last_arg[KV_EVENT_SHRINK], EXT);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->ca), 7);
	pass(self, 100000000);
	EXPECT_EQ(mt_extents(t, self->ca), 7);
	EXPECT_EQ(t->cl[self->ca].kills, 0);
	/* nor does the one that gave take it again */
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_GIVEN);
}

TEST_F(revoke, a_tenant_below_its_low_gets_what_others_have_above_theirs)
{
	struct mt *t = &self->t;

	limit(t, self->b, MM_LIMIT_NONE, 2 * EXT, 0);
	fill_and_wait(self, 3, 0, 2 * MT_PER_EXTENT);
	EXPECT_EQ(t->cl[self->ca].last_arg[KV_EVENT_SHRINK], 2 * EXT);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->cb), 2);
}

TEST_F(revoke, a_share_comes_from_who_gets_nowhere_with_more)
{
	struct mt *t = &self->t;
	u32 s = fill_and_wait(self, 0, 0, MT_PER_EXTENT), i;

	/* while it works a step of it ends between two looks */
	for (i = 0; i < 5; i++) {
		t->cl[self->ca].step++;
		end_steps(t, self->ca);
		pass(self, 25000000);
	}
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_SHRINK], 0);
	pass(self, 25000000);
	EXPECT_EQ(t->cl[self->ca].last_arg[KV_EVENT_SHRINK], EXT);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->ca), 7);
	EXPECT_EQ(mt_extents(t, self->cb), 1);
	EXPECT_NE(
		mt_reserve(t, self->ca, s, 8 * MT_PER_EXTENT * 16, 1, 0, NULL),
		0);
}

TEST_F(revoke, a_share_is_left_to_who_has_no_more)
{
	struct mt *t = &self->t;
	u32 sb = idle_at(t, self->cb, self->gb, 4 * MT_PER_EXTENT, 0);

	idle_at(t, self->ca, self->ga, 4 * MT_PER_EXTENT, 0);
	EXPECT_EQ(mt_reserve(t, self->cb, sb, 4 * MT_PER_EXTENT * 16, 16,
			     KV_SQE_WAIT, NULL),
		  -EINPROGRESS);
	pass(self, 100000000);
	pass(self, 100000000);
	EXPECT_EQ(t->cl[self->ca].nr_events[KV_EVENT_SHRINK], 0);
}

TEST_F(revoke, who_gives_to_a_ticket_does_not_take_it_again)
{
	struct mt *t = &self->t;
	struct mt_resv r;
	u32 s2;

	fill_and_wait(self, 5, 0, 2 * MT_PER_EXTENT);
	limit(t, self->b, MM_LIMIT_NONE, 2 * EXT, 0);
	ASSERT_EQ(state(t, self->ca), MM_REVOKE_ASKED);
	t->hold_memory = true; /* what comes back is being scrubbed */
	pass(self, ASK);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_GIVEN);
	/* although it would be served first */
	s2 = idle_at(t, self->ca, self->ga, 0, 5);
	EXPECT_EQ(mt_reserve(t, self->ca, s2, 0, 16, 0, &r), -EAGAIN);
	EXPECT_EQ(mt_reserve(t, self->ca, s2, 0, 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	t->hold_memory = false;
	mt_answer(t, 0);
	mt_drain(t);
	EXPECT_EQ(mt_extents(t, self->cb), 2);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_NONE);
}

TEST_F(revoke, a_cancelled_ticket_needs_nothing)
{
	struct mt *t = &self->t;
	struct mt_resv r;
	u32 s = mt_space(t, self->ca, self->ga), b;

	ASSERT_EQ(
		mt_reserve(t, self->ca, s, 0, 8 * MT_PER_EXTENT * 16, 0, NULL),
		0);
	limit(t, self->b, MM_LIMIT_NONE, 2 * EXT, 0);
	b = mt_space(t, self->cb, self->gb);
	EXPECT_EQ(mt_reserve(t, self->cb, b, 0, 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	pass(self, ASK);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_FENCED);
	EXPECT_EQ(mm_cancel(t->mm, self->cb, r.extra), 0);
	pass(self, 1);
	EXPECT_EQ(state(t, self->ca), MM_REVOKE_NONE);
	EXPECT_EQ(hold(t, self->ca), ~0ull);
	EXPECT_EQ(mt_extents(t, self->ca), 8);
}

TEST_F(revoke, a_page_that_becomes_busy_at_the_barrier_stays)
{
	struct mt *t = &self->t;
	u32 s = idle_at(t, self->ca, self->ga, MT_PER_EXTENT, 0), i;

	t->mark = &t->cl[self->ca].status->space[s];
	t->mark_at = KV_TP_REVOKE_ENTRY;
	ask_for(self, self->ca, EXT);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->ca), 1);
	EXPECT_EQ(counts(t).revoke_lost, 0);
	for (i = 0; i < MT_PER_EXTENT; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->ca, s, 0, i), 1));
	t->mark = NULL;
	kv_step_mark(&t->cl[self->ca].status->space[s], 0);
	pass(self, 1);
	EXPECT_EQ(mt_extents(t, self->ca), 0);
}

TEST_F(revoke, a_shared_page_is_lost_for_all_who_share_it)
{
	struct mt *t = &self->t;
	u32 s = idle_at(t, self->ca, self->ga, MT_PER_EXTENT, 0);
	int f = mm_space_fork(t->mm, self->ca, s, 40);
	struct mt_resv r;

	ASSERT_GE(f, 0);
	ask_for(self, self->ca, EXT);
	pass(self, ASK);
	EXPECT_EQ(counts(t).revoke_lost, MT_PER_EXTENT);
	EXPECT_EQ(mt_reserve(t, self->ca, s, 17, 1, 0, &r), -ENODATA);
	EXPECT_EQ(mt_reserve(t, self->ca, (u32)f, 40, 1, 0, &r), -ENODATA);
	EXPECT_EQ(r.extra, (u64)f << 32 | 1);
	EXPECT_EQ(mm_space_destroy(t->mm, self->ca, s), 0);
	EXPECT_EQ(mm_space_destroy(t->mm, self->ca, (u32)f), 0);
}

TEST_F(revoke, nothing_happens_where_it_is_off)
{
	struct mt *t = &self->t;
	u64 asked;

	mt_fini(t);
	init(self, MM_REVOKE_OFF, 0);
	fill_and_wait(self, 0, 7, MT_PER_EXTENT);
	EXPECT_EQ(mm_revoke(t->mm, self->ca, EXT, &asked), -EOPNOTSUPP);
	limit(t, self->a, EXT, 0, 0);
	pass(self, ASK + FENCE);
	pass(self, ASK + FENCE);
	EXPECT_EQ(mt_extents(t, self->ca), 8);
	mt_fini(t);
	/* tickets don't count where only the administrator does */
	init(self, MM_REVOKE_ADMIN, 0);
	fill_and_wait(self, 0, 7, MT_PER_EXTENT);
	pass(self, ASK + FENCE);
	EXPECT_EQ(mt_extents(t, self->ca), 8);
	EXPECT_EQ(ask_for(self, self->ca, EXT), EXT);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->cb), 1);
}

TEST_F(revoke, swap_takes_what_it_has_room_for_and_the_rest_is_lost)
{
	struct mt *t = &self->t;
	u32 s1, s2;

	mt_fini(t);
	init(self, MM_REVOKE_TICKETS, EXT);
	s1 = idle_at(t, self->ca, self->ga, MT_PER_EXTENT, 0);
	pass(self, 10);
	s2 = idle_at(t, self->ca, self->ga, MT_PER_EXTENT, 0);
	pass(self, 10);
	ask_for(self, self->ca, EXT);
	t->hold_swap = true;
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->ca), 2);
	/* what is being written is waited for, also past the deadline */
	pass(self, FENCE);
	EXPECT_EQ(t->cl[self->ca].kills, 0);
	t->hold_swap = false;
	mt_swap_answer(t, 0);
	pass(self, 1);
	EXPECT_EQ(mt_extents(t, self->ca), 1);
	EXPECT_EQ(mt_nr_swapped(t, self->ca, s1), MT_PER_EXTENT);
	EXPECT_EQ(epoch(t, self->ca), 0);
	EXPECT_EQ(counts(t).revoke_lost, 0);
	/* full: this one is lost */
	ask_for(self, self->ca, EXT);
	pass(self, ASK);
	EXPECT_EQ(mt_extents(t, self->ca), 0);
	EXPECT_EQ(mt_nr_swapped(t, self->ca, s2), 0);
	EXPECT_EQ(counts(t).revoke_lost, MT_PER_EXTENT);
}

TEST_F(revoke, who_dies_in_any_stage_leaves_clean_books)
{
	struct mt *t = &self->t;
	u32 stage, s;

	for (stage = 0; stage < 4; stage++) {
		s = mt_space(t, self->ca, self->ga);
		ASSERT_EQ(mt_reserve(t, self->ca, s, 0, MT_PER_EXTENT * 16, 0,
				     NULL),
			  0);
		ask_for(self, self->ca, EXT);
		if (stage > 0)
			pass(self, ASK);
		if (stage == 2)
			pass(self, FENCE);
		if (stage == 3)
			end_steps(t, self->ca);
		mm_client_exit(t->mm, self->ca);
		mt_check(t);
		pass(self, stage == 3 ? FENCE : 0);
		mm_client_gone(t->mm, self->ca);
		pass(self, FENCE);
		self->ca = mt_attach(t, self->a);
		self->ga = mt_geom(t, self->ca, MT_PAGE);
		EXPECT_EQ(hold(t, self->ca), ~0ull);
		EXPECT_EQ(epoch(t, self->ca), 0);
	}
}

/* ---- chance ---- */

#define NR_CLIENTS 6u
#define NR_SPACES  4u

enum manner { HELPS, HALF_HELPS, SLOW, HUNG, NR_MANNERS };

struct party {
	bool live;
	u32 client, geom, tenant, nr;
	u32 space[NR_SPACES], pages[NR_SPACES];
	enum manner manner;
	u64 asked_ns; /* when its revoke began; 0: it has none */
	u64 nr_shrinks, open_ns;
	u64 turn_ns; /* when it last could have ended its step */
};

static void join(struct revoke_self *self, struct party *p, u64 *seed, u32 i)
{
	u32 k;

	memset(p, 0, sizeof(*p));
	p->tenant = i % 2 ? self->b : self->a;
	p->client = mt_attach(&self->t, p->tenant);
	p->geom = mt_geom(&self->t, p->client, MT_PAGE);
	p->manner = (enum manner)(test_rand(seed) % NR_MANNERS);
	p->live = true;
	for (k = 0; k < NR_SPACES; k++) {
		struct kv_space_args a = { .nr_areas = 1 };

		a.priority = (u16)(test_rand(seed) % 3);
		a.area[0].geom = p->geom;
		p->space[k] = (u32)mm_space_create(self->t.mm, p->client, &a);
		p->pages[k] = 0;
	}
}

static void drop(struct mt *t, struct party *p, u32 k)
{
	EXPECT_EQ(mm_space_truncate(t->mm, p->client, p->space[k], 0), 0);
	p->pages[k] = 0;
}

/* A step of a client, which may be held, refused, or lost something. */
static void work(struct revoke_self *self, struct party *p, u64 *seed)
{
	struct mt *t = &self->t;
	struct mt_client *c = &t->cl[p->client];
	u32 k = (u32)(test_rand(seed) % NR_SPACES), n;
	struct mt_resv r;
	int rc;

	if (!c->kills)
		p->turn_ns = self->now;
	if (c->step > c->status->rank[0].completed) {
		/* slow ones take half of the time they have, hung ones all */
		if (p->manner == HUNG ||
		    (p->manner == SLOW && self->now < p->open_ns + FENCE / 2))
			return;
		end_steps(t, p->client);
		return;
	}
	if (c->step >= hold(t, p->client))
		return;
	n = 1 + (u32)(test_rand(seed) % MT_PER_EXTENT);
	rc = mt_reserve(t, p->client, p->space[k], p->pages[k] * 16, n * 16,
			test_rand(seed) % 2 ? KV_SQE_WAIT : 0, &r);
	p->open_ns = self->now;
	if (rc == -ENODATA) {
		EXPECT_EQ(r.extra >> 32, p->space[k]);
		drop(t, p, k);
	} else if (rc >= 0) {
		p->pages[k] += n;
		return;
	} else if (rc == -EINPROGRESS) {
		mm_cancel(t->mm, p->client, r.extra);
		mt_drain(t);
	}
	end_steps(t, p->client);
}

static void answer(struct revoke_self *self, struct party *p)
{
	struct mt_client *c = &self->t.cl[p->client];
	u32 k;

	if (c->nr_events[KV_EVENT_SHRINK] == p->nr_shrinks ||
	    c->step > c->status->rank[0].completed)
		return;
	p->nr_shrinks = c->nr_events[KV_EVENT_SHRINK];
	if (p->manner > HALF_HELPS)
		return;
	for (k = 0; k < (p->manner == HELPS ? NR_SPACES : 1); k++)
		drop(&self->t, p, k);
	mm_shrink(self->t.mm, p->client);
	mt_drain(&self->t);
}

/* No stage lasts longer than it may. */
static void judge(struct revoke_self *self, struct party *p, u64 tick)
{
	struct mt *t = &self->t;
	u32 s = state(t, p->client);

	if (s == MM_REVOKE_NONE || s == MM_REVOKE_GIVEN)
		p->asked_ns = 0;
	else if (!p->asked_ns)
		p->asked_ns = self->now;
	if (p->asked_ns && s != MM_REVOKE_KILLED)
		EXPECT_LE(self->now - p->asked_ns, ASK + FENCE + 2 * tick);
	if (!t->cl[p->client].kills)
		return;
	/* only who does not end its steps is, or whose turn did not come */
	EXPECT_TRUE(p->manner == HUNG || p->turn_ns < p->open_ns + FENCE / 2);
	mm_client_gone(t->mm, p->client);
	mt_drain(t);
	p->live = false;
}

TEST_F(revoke, bounds_and_protections_hold_whatever_happens)
{
	static struct party ps[NR_CLIENTS];
	u64 seed, i, n, tick = 100, asked, before;
	struct mm_tenant_info ta;
	struct mt *t = &self->t;
	struct mm_counts sum;

	memset(&sum, 0, sizeof(sum));
	for (n = 0; n < 12; n++) {
		seed = test_seed() + n;
		mt_fini(t);
		init(self, MM_REVOKE_TICKETS,
		     n % 3 == 2 ? 2 * EXT + 3 * MT_PAGE : 0);
		mm_client_gone(t->mm, self->ca);
		mm_client_gone(t->mm, self->cb);
		limit(t, self->a, MM_LIMIT_NONE, 2 * EXT, EXT);
		for (i = 0; i < NR_CLIENTS; i++)
			join(self, &ps[i], &seed, (u32)i);
		for (i = 0; i < 3000; i++) {
			struct party *p = &ps[test_rand(&seed) % NR_CLIENTS];

			if (!p->live) {
				join(self, p, &seed, (u32)(p - ps));
				continue;
			}
			answer(self, p);
			work(self, p, &seed);
			if (test_rand(&seed) % 200 == 0) {
				ASSERT_EQ(mm_tenant_info(t->mm, self->a, &ta),
					  0);
				before = ta.held_bytes;
				if (!mm_revoke(t->mm, p->client,
					       test_rand(&seed) % (3 * EXT) + 1,
					       &asked) &&
				    p->tenant == self->a)
					EXPECT_GE(before - asked, EXT);
				mt_drain(t);
			}
			if (test_rand(&seed) % 300 == 0)
				limit(t, self->b,
				      test_rand(&seed) % 2
					      ? MM_LIMIT_NONE
					      : (1 + test_rand(&seed) % 4) *
							EXT,
				      0, 0);
			self->now += tick;
			mm_tick(t->mm, self->now);
			mt_drain(t);
			if (i % 16 == 0)
				mt_check(t);
			judge(self, p, tick * 3 * NR_CLIENTS);
		}
		sum.revokes += counts(t).revokes;
		sum.revokes_given += counts(t).revokes_given;
		sum.revokes_taken += counts(t).revokes_taken;
		sum.revokes_off += counts(t).revokes_off;
		sum.revokes_killed += counts(t).revokes_killed;
		sum.revoke_lost += counts(t).revoke_lost;
	}
	TH_LOG("%llu revokes: %llu given, %llu taken, %llu called off, %llu "
	       "killed; %llu pages lost",
	       (unsigned long long)sum.revokes,
	       (unsigned long long)sum.revokes_given,
	       (unsigned long long)sum.revokes_taken,
	       (unsigned long long)sum.revokes_off,
	       (unsigned long long)sum.revokes_killed,
	       (unsigned long long)sum.revoke_lost);
	EXPECT_GT(sum.revokes_given, 0);
	EXPECT_GT(sum.revokes_taken, 0);
	EXPECT_GT(sum.revokes_killed, 0);
}

TEST_HARNESS_MAIN
