/* SPDX-License-Identifier: MIT */
/*
 * test_swap.c - pages that leave the device and come back
 *
 * san: address
 */
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(swap)
{
	struct mt t;
	u32 tenant, client, geom;
};

FIXTURE_SETUP(swap)
{
	mt_init_swap(&self->t, 2, 1, 8 << 20, 16 << 20);
	self->tenant = mt_tenant(&self->t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(&self->t, self->tenant);
	self->geom = mt_geom(&self->t, self->client, MT_PAGE);
}

FIXTURE_TEARDOWN(swap)
{
	mt_fini(&self->t);
}

static u64 swap_used(struct mt *t)
{
	struct mm_usage u;

	mm_usage_get(t->mm, &u);
	return u.swap_used[0] + u.swap_used[1];
}

TEST_F(swap, takes_the_pages_that_were_used_longest_ago)
{
	struct mt *t = &self->t;
	u32 old = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT);
	u32 new, s;

	mm_tick(t->mm, 1000);
	new = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT);
	s = mt_space(t, self->client, self->geom);
	EXPECT_EQ(mt_reserve(t, self->client, s, 0, 4 * 16, 0, NULL), 0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, old), MT_PER_EXTENT);
	EXPECT_EQ(mt_nr_swapped(t, self->client, new), 0);
	EXPECT_TRUE(mt_pte(t, self->client, old, 0, 3) & KV_PTE_SWAPPED);
	EXPECT_FALSE(kv_pte_is_present(mt_pte(t, self->client, old, 0, 3)));
	EXPECT_EQ(swap_used(t), MT_PER_EXTENT * (u64)MT_PAGE);
	mt_check(t);
}

TEST_F(swap, brings_them_back_for_the_step_that_wants_them)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT);
	u32 b, i;

	mm_tick(t->mm, 1000);
	b = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT + 4);
	EXPECT_GT(mt_nr_swapped(t, self->client, a), 3);
	mm_tick(t->mm, 2000);
	EXPECT_EQ(mt_reserve(t, self->client, a, MT_PER_EXTENT * 16 - 1, 1, 0,
			     NULL),
		  0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 0);
	EXPECT_GT(mt_nr_swapped(t, self->client, b), 0);
	for (i = 0; i < MT_PER_EXTENT; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->client, a, 0, i), 1));
	EXPECT_GT(t->nr_swap_in, 3);
	mt_check(t);
}

TEST_F(swap, a_page_is_the_fault_of_who_began_to_read_it)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT);
	struct mm_faults at_once;
	struct mm_counts n;
	u32 i, swapped;
	u64 sum = 0;

	mm_tick(t->mm, 1000);
	mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT + 4);
	swapped = mt_nr_swapped(t, self->client, a);
	ASSERT_GT(swapped, 3);
	mm_tick(t->mm, 2000);
	t->nr_done = 0;
	EXPECT_EQ(mt_reserve(t, self->client, a, MT_PER_EXTENT * 16 - 1, 1, 0,
			     NULL),
		  0);
	for (i = 0; i < t->nr_done; i++)
		sum += t->done[i].faults.swap_in;
	EXPECT_EQ(sum, swapped);
	mm_counts_get(t->mm, &n);
	EXPECT_EQ(sum, n.swap_in);
	mm_faults_at_once(t->mm, &at_once);
	EXPECT_EQ(at_once.swap_in, 0);
}

TEST_F(swap, leaves_alone_what_a_step_uses)
{
	struct mt *t = &self->t;
	u32 a = mt_space(t, self->client, self->geom), b;
	struct mt_resv r;

	/* Granted and not completed. */
	ASSERT_EQ(mt_reserve(t, self->client, a, 0, 2 * MT_PER_EXTENT * 16, 0,
			     NULL),
		  0);
	b = mt_space(t, self->client, self->geom);
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, &r), -EAGAIN);
	EXPECT_EQ(t->nr_swap_out, 0);
	/* Marked for a step that took no reservation. */
	mt_complete_all(t, self->client);
	kv_step_mark(&t->cl[self->client].status->space[a], ~0ull);
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, &r), -EAGAIN);
	EXPECT_EQ(t->nr_swap_out, 0);
	kv_step_mark(&t->cl[self->client].status->space[a], 0);
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, &r), 0);
	mt_check(t);
}

TEST_F(swap, a_mark_between_the_check_and_the_barrier_keeps_the_page)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	u32 b = mt_space(t, self->client, self->geom), i;
	struct mt_resv r;

	t->mark = &t->cl[self->client].status->space[a];
	t->mark_at = KV_TP_SWAP_OUT;
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, &r), -EAGAIN);
	EXPECT_EQ(t->nr_swap_out, 0);
	EXPECT_GT(t->passed[KV_TP_SWAP_BACK], 0);
	for (i = 0; i < 2 * MT_PER_EXTENT; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->client, a, 0, i), 1));
	EXPECT_EQ(swap_used(t), 0);
	mt_check(t);
}

TEST_F(swap, a_shared_page_leaves_once_for_all_who_share_it)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8), s, used;
	int b = mm_space_fork(t->mm, self->client, a, 8 * 16);
	kv_pte_t pa, pb;

	ASSERT_GE(b, 0);
	mm_tick(t->mm, 1000);
	s = mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	EXPECT_EQ(t->nr_swap_out, 8);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 8);
	EXPECT_EQ(mt_nr_swapped(t, self->client, (u32)b), 8);
	pa = mt_pte(t, self->client, a, 0, 5);
	pb = mt_pte(t, self->client, (u32)b, 0, 5);
	EXPECT_EQ(kv_pte_frame(pa), kv_pte_frame(pb));
	used = (u32)swap_used(t);
	EXPECT_EQ(used, 8 * MT_PAGE);
	/* Both see it again when one of them has it read. */
	mm_space_destroy(t->mm, self->client, s);
	EXPECT_EQ(mt_reserve(t, self->client, a, 8 * 16, 1, 0, NULL), 0);
	pa = mt_pte(t, self->client, a, 0, 5);
	pb = mt_pte(t, self->client, (u32)b, 0, 5);
	EXPECT_EQ(t->nr_swap_in, 8);
	EXPECT_EQ(kv_pte_frame(pa), kv_pte_frame(pb));
	EXPECT_TRUE(kv_pte_is_present(pb));
	EXPECT_FALSE(kv_pte_can(pb, 1));
	EXPECT_EQ(swap_used(t), 0);
	mt_check(t);
}

TEST_F(swap, a_fork_shares_what_is_swapped)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8);
	struct mt_resv r;
	int b;

	mm_tick(t->mm, 1000);
	mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	ASSERT_EQ(mt_nr_swapped(t, self->client, a), 8);
	b = mm_space_fork(t->mm, self->client, a, 7 * 16 + 3);
	ASSERT_GE(b, 0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, (u32)b), 8);
	mt_check(t);
	mm_space_destroy(t->mm, self->client, a);
	EXPECT_EQ(swap_used(t), 8 * (u64)MT_PAGE);
	mm_tick(t->mm, 2000);
	EXPECT_EQ(mt_reserve(t, self->client, (u32)b, 7 * 16 + 3, 1, 0, &r), 0);
	EXPECT_EQ(t->nr_swap_in, 8);
	mt_check(t);
}

TEST_F(swap, writing_to_a_shared_swapped_page_copies_it_when_it_is_back)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8);
	int b = mm_space_fork(t->mm, self->client, a, 7 * 16 + 3);
	struct mt_resv r;

	mm_tick(t->mm, 1000);
	mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	mm_tick(t->mm, 2000);
	ASSERT_EQ(mt_reserve(t, self->client, (u32)b, 7 * 16 + 3, 1, 0, &r), 1);
	EXPECT_EQ(r.copies[0].tokens, 3);
	EXPECT_EQ(r.copies[0].src,
		  kv_pte_frame(mt_pte(t, self->client, a, 0, 7)));
	EXPECT_EQ(r.copies[0].dst,
		  kv_pte_frame(mt_pte(t, self->client, (u32)b, 0, 7)));
	mt_check(t);
}

TEST_F(swap, slots_go_with_the_pages_that_are_dropped)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8);

	mm_tick(t->mm, 1000);
	mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	ASSERT_EQ(swap_used(t), 8 * (u64)MT_PAGE);
	EXPECT_EQ(mm_space_truncate(t->mm, self->client, a, 5 * 16), 0);
	EXPECT_EQ(swap_used(t), 5 * (u64)MT_PAGE);
	EXPECT_EQ(mm_space_destroy(t->mm, self->client, a), 0);
	EXPECT_EQ(swap_used(t), 0);
	mt_check(t);
}

TEST_F(swap, the_second_tier_takes_what_the_first_has_no_room_for)
{
	struct mt *t = &self->t;
	struct mm_usage u;

	mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	mm_tick(t->mm, 1000);
	mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.swap_used[0], 8 << 20);
	EXPECT_EQ(u.swap_used[1], 8 << 20);
	mt_check(t);
}

TEST_F(swap, a_page_that_cannot_be_written_stays)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	u32 b = mt_space(t, self->client, self->geom), i;
	struct mm_counts c;
	struct mt_resv r;

	t->swap_err = -EIO;
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, &r), -EAGAIN);
	for (i = 0; i < 2 * MT_PER_EXTENT; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->client, a, 0, i), 1));
	EXPECT_EQ(swap_used(t), 0);
	mm_counts_get(t->mm, &c);
	EXPECT_EQ(c.swap_errors, t->nr_swap_out);
	mt_check(t);
	/* Not tried again at once; later it is. */
	i = t->nr_swap_out;
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, &r), -EAGAIN);
	EXPECT_EQ(t->nr_swap_out, i);
	t->swap_err = 0;
	mm_tick(t->mm, 1000000000);
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, &r), 0);
	mt_check(t);
}

TEST_F(swap, a_page_that_cannot_be_read_is_said_to_be_lost)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8);
	struct mt_resv r;

	mm_tick(t->mm, 1000);
	mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	mm_tick(t->mm, 2000);
	t->swap_err = 0;
	t->hold_swap = true;
	EXPECT_EQ(mt_reserve(t, self->client, a, 8 * 16, 1, 0, &r),
		  -EINPROGRESS);
	/* Others leave for it first. */
	mt_swap_answer(t, 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_swap_in, 8);
	t->nr_io--; /* one is answered apart */
	mt_swap_answer(t, 0);
	mm_swap_done(t->mm, t->io[7].slot, -EBADMSG, 0);
	mt_drain(t);
	EXPECT_EQ(t->done[t->nr_done - 1].cqe.res, -ENODATA);
	EXPECT_EQ(t->done[t->nr_done - 1].cqe.extra,
		  (u64)a << 32 | (7 * 16 + 1));
	mt_check(t);
	t->hold_swap = false;
	/* Said again until the page is given up. */
	EXPECT_EQ(mt_reserve(t, self->client, a, 8 * 16, 1, 0, &r), -ENODATA);
	EXPECT_EQ(r.extra, (u64)a << 32 | (7 * 16 + 1));
	EXPECT_EQ(mm_space_truncate(t->mm, self->client, a, 7 * 16), 0);
	EXPECT_EQ(mt_reserve(t, self->client, a, 7 * 16, 17, 0, &r), 0);
	mt_check(t);
}

TEST_F(swap, a_page_that_a_step_asks_for_while_it_leaves_stays)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8);
	u32 b = mt_space(t, self->client, self->geom), i;
	struct mt_resv r;

	t->hold_swap = true;
	mm_tick(t->mm, 1000);
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 2 * MT_PER_EXTENT * 16,
			     KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	EXPECT_EQ(t->nr_swap_out, 8);
	EXPECT_TRUE(mt_pte(t, self->client, a, 0, 0) & KV_PTE_MOVING);
	mt_check(t);
	EXPECT_EQ(mm_cancel(t->mm, self->client, r.extra), 0);
	mt_drain(t);
	EXPECT_EQ(mt_reserve(t, self->client, a, 8 * 16 - 1, 1, 0, &r),
		  -EINPROGRESS);
	mt_swap_answer(t, 0);
	mt_drain(t);
	EXPECT_EQ(t->done[t->nr_done - 1].cqe.res, 0);
	for (i = 0; i < 8; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->client, a, 0, i), 1));
	EXPECT_EQ(swap_used(t), 0);
	EXPECT_EQ(t->nr_swap_in, 0);
	mt_check(t);
}

/* Or each time that its pages are there its memory would be somebody else's. */
TEST_F(swap, who_waits_for_its_pages_keeps_its_place_for_the_rest)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8), n;
	u32 b = mt_space(t, self->client, self->geom);
	u32 other = mt_attach(t, self->tenant);
	struct mt_resv r;

	mt_geom(t, other, MT_PAGE);
	t->hold_swap = true;
	mm_tick(t->mm, 1000);
	ASSERT_EQ(mt_reserve(t, self->client, b, 0, 2 * MT_PER_EXTENT * 16,
			     KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	ASSERT_EQ(mm_cancel(t->mm, self->client, r.extra), 0);
	mt_drain(t);
	/* its pages are on their way, and it lacks an extent, the last one */
	ASSERT_EQ(mt_reserve(t, self->client, a, 8 * 16 - 1,
			     1 + MT_PER_EXTENT * 16, 0, &r),
		  -EINPROGRESS);
	n = t->nr_done;
	EXPECT_NE(mt_reserve(t, other, mt_space(t, other, 0), 0, 16, 0, NULL),
		  0);
	mt_check(t);
	mt_swap_answer(t, 0);
	mt_drain(t);
	ASSERT_GT(t->nr_done, n);
	EXPECT_EQ(t->done[n].client, self->client);
	EXPECT_EQ(t->done[n].cqe.res, 0);
	mt_check(t);
}

TEST_F(swap, a_page_that_is_dropped_while_it_leaves_is_freed_when_written)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 8);
	u32 b = mt_space(t, self->client, self->geom);
	struct mt_resv r;

	t->hold_swap = true;
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, 2 * MT_PER_EXTENT * 16,
			     KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	EXPECT_EQ(mm_space_destroy(t->mm, self->client, a), 0);
	mt_drain(t);
	mt_check(t);
	EXPECT_EQ(swap_used(t), 8 * (u64)MT_PAGE);
	mt_swap_answer(t, 0);
	mt_drain(t);
	EXPECT_EQ(swap_used(t), 0);
	EXPECT_EQ(t->done[t->nr_done - 1].cqe.res, 0);
	mt_check(t);
}

TEST_F(swap, memory_of_a_dead_client_waits_for_its_pages_on_their_way)
{
	struct mt *t = &self->t;
	u32 other = mt_attach(t, self->tenant);
	struct mm_usage u;
	struct mt_resv r;

	mt_idle_space(t, self->client, self->geom, 8);
	mt_geom(t, other, MT_PAGE);
	t->hold_swap = true;
	EXPECT_EQ(mt_reserve(t, other, mt_space(t, other, 0), 0,
			     2 * MT_PER_EXTENT * 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	EXPECT_EQ(t->nr_swap_out, 8);
	mm_client_gone(t->mm, self->client);
	mt_drain(t);
	mm_usage_get(t->mm, &u);
	EXPECT_GE(u.held_bytes, KV_EXTENT_SIZE);
	mt_check(t);
	mt_swap_answer(t, 0);
	mt_drain(t);
	EXPECT_EQ(t->done[t->nr_done - 1].cqe.res, 0);
	EXPECT_EQ(swap_used(t), 0);
	mt_check(t);
	/* Its slot is anybody's again. */
	EXPECT_EQ(mt_attach(t, self->tenant), self->client);
}

TEST_F(swap, takes_whole_extents_from_other_clients)
{
	struct mt *t = &self->t;
	u32 other = mt_attach(t, self->tenant), busy, s;
	struct mt_resv r;

	/* Two pages of one extent in use, the others idle: nothing is won. */
	busy = mt_space(t, self->client, self->geom);
	ASSERT_EQ(mt_reserve(t, self->client, busy, 0, 32, 0, NULL), 0);
	t->cl[self->client].step = 0; /* the device is behind */
	s = mt_space(t, self->client, self->geom);
	t->cl[self->client].step = 1;
	ASSERT_EQ(mt_reserve(t, self->client, s, 0, 14 * 16, 0, NULL), 0);
	mt_geom(t, other, MT_PAGE);
	EXPECT_EQ(mt_reserve(t, other, mt_space(t, other, 0), 0,
			     (MT_PER_EXTENT + 1) * 16, 0, &r),
		  -EAGAIN);
	EXPECT_EQ(t->nr_swap_out, 0);
	mt_complete_all(t, self->client);
	EXPECT_EQ(mt_reserve(t, other, mt_space(t, other, 0), 0,
			     (MT_PER_EXTENT + 1) * 16, 0, &r),
		  0);
	EXPECT_EQ(t->nr_swap_out, 16);
	mt_check(t);
}

TEST_F(swap, spares_tenants_below_their_protection)
{
	struct mt *t = &self->t;
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE,
				 .low_bytes = KV_EXTENT_SIZE,
				 .min_bytes = KV_EXTENT_SIZE };
	u32 b = mt_tenant(t, "b", MM_LIMIT_NONE), other = mt_attach(t, b);
	struct mt_resv r;

	mt_geom(t, other, MT_PAGE);
	mt_idle_space(t, self->client, self->geom, 8);
	ASSERT_EQ(mm_tenant_limit(t->mm, self->tenant, &lim), 0);
	EXPECT_EQ(mt_reserve(t, other, mt_space(t, other, 0), 0,
			     2 * MT_PER_EXTENT * 16, 0, &r),
		  -EAGAIN);
	EXPECT_EQ(t->nr_swap_out, 0);
	lim.min_bytes = 0; /* low only: when nothing else is left */
	ASSERT_EQ(mm_tenant_limit(t->mm, self->tenant, &lim), 0);
	EXPECT_EQ(mt_reserve(t, other, mt_space(t, other, 0), 0,
			     2 * MT_PER_EXTENT * 16, 0, &r),
		  0);
	EXPECT_EQ(t->nr_swap_out, 8);
	mt_check(t);
}

TEST_F(swap, a_tenant_at_its_limit_gives_its_own_pages)
{
	struct mt *t = &self->t;
	u32 b = mt_tenant(t, "b", KV_EXTENT_SIZE), other = mt_attach(t, b);
	u32 a = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT), own,
	    s;
	struct mt_resv r;

	mt_geom(t, other, MT_PAGE);
	mm_tick(t->mm, 1000);
	own = mt_idle_space(t, other, 0, MT_PER_EXTENT);
	s = mt_space(t, other, 0);
	EXPECT_EQ(mt_reserve(t, other, s, 0, 16, 0, &r), 0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 0);
	EXPECT_GT(mt_nr_swapped(t, other, own), 0);
	mt_check(t);
}

TEST_F(swap, no_more_leaves_than_the_tenant_may_have_there)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	u32 s = mt_space(t, self->client, self->geom);
	struct mt_resv r;

	ASSERT_EQ(mm_tenant_swap_limit(t->mm, self->tenant, 3 * (u64)MT_PAGE),
		  0);
	EXPECT_EQ(mt_reserve(t, self->client, s, 0, 3 * 16, 0, &r), 0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 3);
	mt_complete_all(t, self->client);
	EXPECT_EQ(mt_reserve(t, self->client, s, 3 * 16, 16, 0, &r), -EAGAIN);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 3);
	mt_check(t);
}

TEST_F(swap, what_the_first_ticket_wants_stays_for_it)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT);
	u32 b = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT);
	struct mt_resv r;
	u32 other = mt_attach(t, self->tenant);

	mt_geom(t, other, MT_PAGE);
	/* a wants one page more; b is in use: it waits. */
	kv_step_mark(&t->cl[self->client].status->space[b], ~0ull);
	EXPECT_EQ(mt_reserve(t, self->client, a, MT_PER_EXTENT * 16, 1,
			     KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	/* Whoever comes behind it does not take its pages meanwhile. */
	EXPECT_EQ(mt_reserve(t, other, mt_space(t, other, 0), 0, 16, 0, &r),
		  -EAGAIN);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 0);
	kv_step_mark(&t->cl[self->client].status->space[b], 0);
	mm_client_gone(t->mm, other);
	mt_drain(t);
	EXPECT_EQ(t->done[t->nr_done - 1].cqe.res, 0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 0);
	EXPECT_GT(mt_nr_swapped(t, self->client, b), 0);
	mt_check(t);
}

/* Else what stood in a slot before, and was not overwritten, would match. */
TEST_F(swap, no_key_is_used_twice)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, MT_PER_EXTENT), b, i,
	    k;
	u64 keys[2 * MT_PER_EXTENT];
	struct mt_resv r;

	t->hold_swap = true;
	for (k = 0; k < 2; k++) {
		mm_tick(t->mm, 1000 + k);
		b = mt_space(t, self->client, self->geom);
		mt_reserve(t, self->client, b, 0, 2 * MT_PER_EXTENT * 16, 0,
			   &r);
		ASSERT_EQ(t->nr_io, MT_PER_EXTENT);
		for (i = 0; i < MT_PER_EXTENT; i++)
			keys[k * MT_PER_EXTENT + i] = t->io[i].key;
		mm_space_destroy(t->mm, self->client, b);
		mt_swap_answer(t, -EIO); /* all stay */
		mt_drain(t);
		mm_tick(t->mm, 1000000000);
	}
	for (i = 0; i < 2 * MT_PER_EXTENT; i++)
		for (k = 0; k < i; k++)
			EXPECT_NE(keys[i], keys[k]);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 0);
	mt_check(t);
}

TEST_F(swap, who_comes_while_pages_leave_for_another_waits_for_its_turn)
{
	struct mt *t = &self->t;
	u32 b = mt_attach(t, self->tenant), c = mt_attach(t, self->tenant), n;
	struct mt_resv r;

	mt_geom(t, b, MT_PAGE);
	mt_geom(t, c, MT_PAGE);
	mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	t->hold_swap = true;
	EXPECT_EQ(mt_reserve(t, b, mt_space(t, b, 0), 0, 16, 0, &r),
		  -EINPROGRESS);
	EXPECT_EQ(mt_reserve(t, c, mt_space(t, c, 0), 0, 16, 0, &r),
		  -EINPROGRESS);
	EXPECT_EQ(t->nr_swap_out, MT_PER_EXTENT);
	n = t->nr_done;
	mt_swap_answer(t, 0);
	mt_drain(t);
	EXPECT_EQ(t->nr_swap_out, 2 * MT_PER_EXTENT);
	mt_swap_answer(t, 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, n + 2);
	EXPECT_EQ(t->done[n].cqe.res, 0);
	EXPECT_EQ(t->done[n + 1].cqe.res, 0);
	mt_check(t);
}

TEST_F(swap, whose_pages_leave_for_itself_keeps_the_extents_they_were_in)
{
	struct mt *t = &self->t;
	u32 n = 2 * MT_PER_EXTENT;
	u32 a = mt_idle_space(t, self->client, self->geom, n), b;
	struct mm_counts c;

	mm_tick(t->mm, 1000);
	b = mt_space(t, self->client, self->geom);
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, n * 16, KV_SQE_WAIT, NULL),
		  0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), n);
	mm_counts_get(t->mm, &c);
	EXPECT_EQ(2, c.extents_granted);
	EXPECT_EQ(0, c.extents_returned);
	mt_check(t);
}

/* It takes the frames that pages would move to, as they are. */
TEST_F(swap, nothing_moves_for_a_client_whose_own_pages_make_room)
{
	struct mt *t = &self->t;
	u32 n = 4 * 128, geom, s[2], b, i;
	struct mm_counts c;

	mt_fini(t);
	mt_init_swap(t, 4, 1, 64 << 20, 0);
	self->client = mt_attach(t, mt_tenant(t, "a", MM_LIMIT_NONE));
	geom = mt_geom(t, self->client, 64 << 10);
	for (i = 0; i < 2; i++)
		s[i] = mt_space(t, self->client, geom);
	for (i = 0; i < n; i++) /* a page of each in turn, all over */
		ASSERT_EQ(mt_reserve(t, self->client, s[i % 2], i / 2 * 16, 16,
				     0, NULL),
			  0);
	mt_complete_all(t, self->client);
	b = mt_space(t, self->client, geom);
	EXPECT_EQ(mt_reserve(t, self->client, b, 0, n * 16, KV_SQE_WAIT, NULL),
		  0);
	mm_counts_get(t->mm, &c);
	EXPECT_EQ(c.swap_out, n);
	EXPECT_EQ(c.compact_moved, 0);
	mt_check(t);
}

TEST_F(swap, answers_that_nobody_asked_for_are_counted)
{
	struct mt *t = &self->t;
	struct mm_counts c;

	mm_swap_done(t->mm, 0, 0, 0);
	mm_swap_done(t->mm, ~0u, 0, 0);
	mm_counts_get(t->mm, &c);
	EXPECT_EQ(c.invalid, 2);
	mt_check(t);
}

TEST_HARNESS_MAIN
