/* SPDX-License-Identifier: MIT */
/*
 * test_demote.c - pages that go from tier to tier, shares and limits there
 *
 * The first tier has room for 16 pages: with less than 4 free it gives some to
 * the second, until 8 are.
 *
 * san: address
 */
#include "kvmd/mm/state.h"
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

#define FIRST (18 * (u64)MT_PAGE)

FIXTURE(demote)
{
	struct mt t;
	u32 tenant, client, geom;
};

FIXTURE_SETUP(demote)
{
	const struct mm_config cfg = {
		.device_bytes = 2ull * KV_EXTENT_SIZE,
		.swap_bytes = { FIRST, 64 * (u64)MT_PAGE },
		.swap.demote_low = 25,
		.swap.demote_high = 50,
		.ready_extents = 1,
	};

	mt_init_cfg(&self->t, &cfg);
	self->tenant = mt_tenant(&self->t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(&self->t, self->tenant);
	self->geom = mt_geom(&self->t, self->client, MT_PAGE);
}

FIXTURE_TEARDOWN(demote)
{
	mt_fini(&self->t);
}

static u64 used(struct mt *t, u32 tier)
{
	struct mm_usage u;

	mm_usage_get(t->mm, &u);
	return u.swap_used[tier] / MT_PAGE;
}

static u32 tier_of(struct demote_self *self, u32 space, u32 page)
{
	kv_pte_t pte = mt_pte(&self->t, self->client, space, 0, page);

	EXPECT_TRUE(pte & KV_PTE_SWAPPED);
	return (u32)((pte & KV_PTE_TIER) >> KV_PTE_TIER_SHIFT) - 1;
}

/* Spaces of @n pages each that are idle, one after the other; the device has
 * room for 32 pages. */
static u32 idle(struct demote_self *self, u32 n)
{
	u32 s = mt_space(&self->t, self->client, self->geom);

	mm_tick(self->t.mm, self->t.mm->now_ns + 1000);
	EXPECT_EQ(mt_reserve(&self->t, self->client, s, 0, n * 16, KV_SQE_WAIT,
			     NULL),
		  0);
	mt_complete_all(&self->t, self->client);
	return s;
}

/* Answer what is out of one type, in order, and what it leads to stays. */
static void answer(struct mt *t, enum mm_req_type type, int err)
{
	struct mm_swap_io io[256];
	u32 i, n = 0, kept = 0;

	for (i = 0; i < t->nr_io; i++) {
		if (t->io_type[i] == type) {
			io[n++] = t->io[i];
			continue;
		}
		t->io[kept] = t->io[i];
		t->io_type[kept++] = t->io_type[i];
	}
	t->nr_io = kept;
	for (i = 0; i < n; i++)
		mt_swap_answer_one(t, &io[i], type, err);
	mt_drain(t);
}

static struct mm_counts counts(struct mt *t)
{
	struct mm_counts c;

	mm_counts_get(t->mm, &c);
	return c;
}

TEST_F(demote, what_left_first_goes_on_when_a_tier_is_nearly_full)
{
	struct mt *t = &self->t;
	u32 a = idle(self, 16), b = idle(self, 16), i, there = 0;

	EXPECT_EQ(t->nr_demote, 0);
	idle(self, 16);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 16);
	EXPECT_GE(16 - used(t, 0), 4); /* low */
	EXPECT_LE(16 - used(t, 0), 8); /* high */
	EXPECT_EQ(used(t, 0) + used(t, 1), 16);
	EXPECT_EQ(counts(t).demoted, used(t, 1));
	EXPECT_EQ(counts(t).demoted_bytes, used(t, 1) * MT_PAGE);
	for (i = 0; i < 16; i++)
		there += tier_of(self, a, i);
	EXPECT_EQ(there, used(t, 1));
	mt_check(t);
	/* They come back as they were: the host compares key and sum. */
	mm_space_destroy(t->mm, self->client, b);
	EXPECT_EQ(mt_reserve(t, self->client, a, 16 * 16 - 1, 1, 0, NULL), 0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 0);
	EXPECT_EQ(used(t, 0) + used(t, 1), 0);
	mt_check(t);
}

TEST_F(demote, other_percentages_hold_from_now_on)
{
	struct mm_swap_set set = *mm_swap_get(self->t.mm);
	struct mt *t = &self->t;

	set.demote_low = 51;
	EXPECT_EQ(mm_swap_set(t->mm, &set), -EINVAL);
	EXPECT_EQ(mm_swap_get(t->mm)->demote_low, 25);
	set.demote_low = set.demote_high = 101;
	EXPECT_EQ(mm_swap_set(t->mm, &set), -EINVAL);
	set.demote_low = set.demote_high = 0;
	EXPECT_EQ(mm_swap_set(t->mm, &set), 0);
	idle(self, 16);
	idle(self, 16);
	idle(self, 16);
	EXPECT_EQ(used(t, 0), 16);
	EXPECT_EQ(t->nr_demote, 0);
	set.demote_low = set.demote_high = 100;
	EXPECT_EQ(mm_swap_set(t->mm, &set), 0);
	mt_drain(t);
	EXPECT_EQ(used(t, 0), 0);
	EXPECT_EQ(used(t, 1), 16);
	mt_check(t);
}

TEST_F(demote, a_page_keeps_its_key_and_sum)
{
	struct mt *t = &self->t;
	u64 keys[256], sums[256];
	u32 a = idle(self, 16), i, n, k, same = 0;

	(void)a;
	idle(self, 16);
	t->hold_swap = true;
	mt_reserve(t, self->client, mt_space(t, self->client, self->geom), 0,
		   16 * 16, KV_SQE_WAIT, NULL);
	n = t->nr_io;
	ASSERT_EQ(n, 16);
	for (i = 0; i < n; i++)
		keys[i] = t->io[i].key;
	answer(t, MM_REQ_SWAP_OUT, 0);
	ASSERT_GT(t->nr_io, 0);
	for (i = 0; i < t->nr_io; i++)
		for (k = 0; k < n; k++)
			if (t->io[i].key == keys[k]) {
				sums[same++] = t->io[i].sum;
				EXPECT_EQ(t->io[i].sum, keys[k] * 3);
			}
	EXPECT_EQ(same, t->nr_io);
	EXPECT_NE(sums[0], 0);
	answer(t, MM_REQ_DEMOTE, 0);
	mt_check(t);
}

/* 16 pages out, and some of them on their way to the second tier. */
static u32 held_demotion(struct demote_self *self)
{
	struct mt *t = &self->t;
	u32 a = idle(self, 16);

	idle(self, 16);
	t->hold_swap = true;
	mt_reserve(t, self->client, mt_space(t, self->client, self->geom), 0,
		   16 * 16, KV_SQE_WAIT, NULL);
	answer(t, MM_REQ_SWAP_OUT, 0);
	mt_complete_all(t, self->client);
	EXPECT_GE(t->nr_demote, 4);
	EXPECT_EQ(used(t, 0), 16);
	EXPECT_EQ(used(t, 1), t->nr_demote);
	mt_check(t);
	return a;
}

TEST_F(demote, a_page_on_its_way_is_read_from_where_it_was)
{
	struct mt *t = &self->t;
	u32 a = held_demotion(self), i, read = 0;

	mt_reserve(t, self->client, a, 16 * 16 - 1, 1, KV_SQE_WAIT, NULL);
	answer(t, MM_REQ_SWAP_OUT, 0);
	for (i = 0; i < t->nr_io; i++)
		if (t->io_type[i] == MM_REQ_SWAP_IN) {
			EXPECT_EQ(t->io[i].tier, 0);
			read++;
		}
	EXPECT_EQ(read, 16);
	mt_check(t);
	answer(t, MM_REQ_SWAP_IN, 0);
	EXPECT_EQ(mt_nr_swapped(t, self->client, a), 0);
	mt_check(t);
	/* The slots are there until the copies have ended, for nothing. */
	answer(t, MM_REQ_DEMOTE, 0);
	EXPECT_EQ(counts(t).demoted + counts(t).demote_back, t->nr_demote);
	EXPECT_GE(counts(t).demote_back, 4);
	mt_check(t);
	for (i = 0; i < 16; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->client, a, 0, i), 1));
}

TEST_F(demote, the_copy_may_end_before_the_read)
{
	struct mt *t = &self->t;
	u32 a = held_demotion(self), i;

	mt_reserve(t, self->client, a, 16 * 16 - 1, 1, KV_SQE_WAIT, NULL);
	answer(t, MM_REQ_SWAP_OUT, 0);
	answer(t, MM_REQ_DEMOTE, 0);
	EXPECT_GE(counts(t).demote_back, 4);
	mt_check(t);
	answer(t, MM_REQ_SWAP_IN, 0);
	for (i = 0; i < 16; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->client, a, 0, i), 1));
	mt_check(t);
}

TEST_F(demote, a_page_that_is_dropped_on_its_way_leaves_both_tiers)
{
	struct mt *t = &self->t;
	u32 a = held_demotion(self), n = t->nr_demote;

	EXPECT_EQ(mm_space_destroy(t->mm, self->client, a), 0);
	mt_check(t);
	EXPECT_EQ(used(t, 0), n);
	EXPECT_EQ(used(t, 1), n);
	answer(t, MM_REQ_DEMOTE, 0);
	EXPECT_EQ(used(t, 0) + used(t, 1), 0);
	mt_check(t);
}

TEST_F(demote, a_fork_on_its_way_is_moved_for_both)
{
	struct mt *t = &self->t;
	u32 a = held_demotion(self), n = t->nr_demote, i;
	int b = mm_space_fork(t->mm, self->client, a, 16 * 16);

	ASSERT_GE(b, 0);
	answer(t, MM_REQ_DEMOTE, 0);
	for (i = 0; i < 16; i++)
		EXPECT_EQ(kv_pte_frame(mt_pte(t, self->client, a, 0, i)),
			  kv_pte_frame(mt_pte(t, self->client, (u32)b, 0, i)));
	EXPECT_EQ(used(t, 1), n);
	mt_check(t);
	mm_space_destroy(t->mm, self->client, a);
	EXPECT_EQ(used(t, 0) + used(t, 1), 16);
	mm_space_destroy(t->mm, self->client, (u32)b);
	EXPECT_EQ(used(t, 0) + used(t, 1), 0);
	mt_check(t);
}

TEST_F(demote, a_copy_that_fails_leaves_the_page_where_it_was)
{
	struct mt *t = &self->t;
	u32 a = held_demotion(self), i, before = t->nr_demote, n;

	answer(t, MM_REQ_DEMOTE, -EIO);
	EXPECT_EQ(counts(t).demote_errors, before);
	EXPECT_EQ(counts(t).swap_lost, 0);
	EXPECT_EQ(used(t, 0), 16);
	EXPECT_EQ(used(t, 1), 0);
	for (i = 0; i < 16; i++)
		EXPECT_EQ(tier_of(self, a, i), 0);
	mt_check(t);
	/* Not tried again at once; later it is. */
	mm_tick(t->mm, t->mm->now_ns + 1000);
	mt_drain(t);
	EXPECT_EQ(t->nr_demote, before);
	EXPECT_TRUE(mm_wants_tick(t->mm));
	mm_tick(t->mm, t->mm->now_ns + MM_BACKOFF_NS);
	mt_drain(t);
	n = t->nr_demote - before;
	EXPECT_GE(n, 4);
	answer(t, MM_REQ_DEMOTE, 0);
	EXPECT_EQ(used(t, 1), n);
	EXPECT_EQ(used(t, 0), 16 - n);
	mt_check(t);
}

TEST_F(demote, the_memory_of_a_dead_client_waits_for_its_copies)
{
	struct mt *t = &self->t;

	held_demotion(self);
	mm_client_gone(t->mm, self->client);
	mt_drain(t);
	mt_check(t);
	EXPECT_EQ(used(t, 0), t->nr_demote);
	answer(t, MM_REQ_DEMOTE, 0);
	EXPECT_EQ(used(t, 0) + used(t, 1), 0);
	mt_check(t);
	EXPECT_EQ(mt_attach(t, self->tenant), self->client);
}

TEST_F(demote, a_tenant_at_its_limit_behind_keeps_its_pages_before)
{
	struct mt *t = &self->t;
	struct mm_tenant_info ti;
	u32 i;

	ASSERT_EQ(mm_tenant_tier_limit(t->mm, self->tenant, 1,
				       3 * (u64)MT_PAGE + 1),
		  0);
	for (i = 0; i < 3; i++) {
		idle(self, 16);
		mm_tenant_info(t->mm, self->tenant, &ti);
		EXPECT_LE(ti.tier_bytes[1], 3 * (u64)MT_PAGE);
		mt_check(t);
	}
	EXPECT_EQ(used(t, 1), 3);
	EXPECT_EQ(mm_tenant_tier_limit(t->mm, self->tenant, 1, MM_LIMIT_NONE),
		  0);
	mt_drain(t);
	EXPECT_LE(used(t, 0), 12);
	EXPECT_GT(used(t, 1), 3);
	mt_check(t);
}

TEST_F(demote, a_tier_that_a_tenant_may_not_use_is_passed_over)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mm_tenant_tier_limit(t->mm, self->tenant, 0, 0), 0);
	idle(self, 20);
	idle(self, 20);
	EXPECT_EQ(used(t, 0), 0);
	EXPECT_GT(used(t, 1), 0);
	EXPECT_EQ(t->nr_demote, 0);
	mt_check(t);
}

TEST(demote, no_more_is_on_its_way_than_its_bounds_say)
{
	const struct mm_config cfg = {
		.device_bytes = 8ull * KV_EXTENT_SIZE,
		.swap_bytes = { 64 << 20, 512 << 20 },
		.swap.demote_low = 50,
		.swap.demote_high = 90,
		.ready_extents = 1,
	};
	const u32 sizes[] = { 64 << 10, 512 << 10, 2 << 20 };
	struct mt t;
	u32 k, i, c, n, most, most_bytes;

	for (k = 0; k < 3; k++) {
		mt_init_cfg(&t, &cfg);
		c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
		mt_geom(&t, c, sizes[k]);
		for (i = 0; i < 2; i++) {
			mt_idle_space(&t, c, 0, (62 << 20) / sizes[k]);
			mm_tick(t.mm, t.mm->now_ns + 1000);
		}
		t.hold_swap = true;
		most = most_bytes = 0;
		for (i = 0; i < 500 && t.nr_io; i++) {
			n = t.mm->nr_demoting;
			most = max(most, n);
			most_bytes = max(most_bytes, n * sizes[k]);
			mt_swap_answer(&t, 0);
			mt_drain(&t);
		}
		EXPECT_LE(most, 32);
		EXPECT_LE(most_bytes, 16 << 20);
		mt_check(&t);
		mt_fini(&t);
	}
}

/* ---- pages that take less room than they are large ---- */

TEST(stored, a_tier_takes_as_many_pages_as_its_memory_holds)
{
	const struct mm_config cfg = {
		.device_bytes = 2ull * KV_EXTENT_SIZE,
		.swap_bytes = { 4 * FIRST },
		.swap_store = { FIRST },
		.ready_extents = 1,
	};
	struct mm_usage u;
	struct mt t;
	u32 c, i;

	mt_init_cfg(&t, &cfg);
	t.stored_percent = 50;
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	mt_geom(&t, c, MT_PAGE);
	for (i = 0; i < 5; i++) {
		mm_tick(t.mm, t.mm->now_ns + 1000);
		mt_reserve(&t, c, mt_space(&t, c, 0), 0, 16 * 16, 0, NULL);
		mt_complete_all(&t, c);
		mm_usage_get(t.mm, &u);
		EXPECT_LE(u.swap_used[0], FIRST);
		mt_check(&t);
	}
	/* 16 pages' room: a page is written only if it may prove not smaller */
	EXPECT_GE(u.swap_pages[0], 2 * FIRST - 4 * (u64)MT_PAGE);
	EXPECT_LE(u.swap_used[0] * 2, u.swap_pages[0]);
	EXPECT_EQ(u.swap_bytes[0], FIRST);
	mm_client_gone(t.mm, c);
	mt_drain(&t);
	mm_usage_get(t.mm, &u);
	EXPECT_EQ(u.swap_used[0] + u.swap_pages[0], 0);
	mt_check(&t);
	mt_fini(&t);
}

/* ---- shares of the bandwidth ---- */

#define SHARE_PAGE (64u << 10)

struct shares {
	struct mt t;
	u32 tenant[2], client[2];
};

/* Two tenants with a page on its way whenever they may have one. */
static void share_setup(struct shares *s, u32 weight)
{
	const struct mm_config cfg = {
		.device_bytes = 16ull * KV_EXTENT_SIZE,
		.swap_bytes = { 1 << 30 },
		.ready_extents = 1,
	};
	struct mm_limits lim = { .max_bytes = 8 * KV_EXTENT_SIZE };
	u32 i;

	mt_init_cfg(&s->t, &cfg);
	for (i = 0; i < 2; i++) {
		s->tenant[i] = mt_tenant(&s->t, i ? "b" : "a", MM_LIMIT_NONE);
		lim.weight = i ? weight : 1;
		ASSERT_EQ(mm_tenant_limit(s->t.mm, s->tenant[i], &lim), 0);
		s->client[i] = mt_attach(&s->t, s->tenant[i]);
		mt_geom(&s->t, s->client[i], SHARE_PAGE);
		mt_idle_space(&s->t, s->client[i], 0, 1000);
	}
	s->t.hold_swap = true;
}

static u32 on_their_way(const struct shares *s, u32 i)
{
	return s->t.mm->tenants[s->tenant[i]].nr_swap_io;
}

static void want(struct shares *s, u32 i)
{
	EXPECT_EQ(mt_reserve(&s->t, s->client[i],
			     mt_space(&s->t, s->client[i], 0), 0, 1000 * 16,
			     KV_SQE_WAIT, NULL),
		  -EINPROGRESS);
}

TEST(share, a_tenant_alone_has_all_there_is)
{
	struct shares s;

	share_setup(&s, 3);
	want(&s, 0);
	EXPECT_EQ(on_their_way(&s, 0), SWAP_IO_MAX);
	mt_fini(&s.t);
}

TEST(share, of_two_each_has_its_weight_soon_after_it_comes)
{
	struct shares s;
	u32 k;

	share_setup(&s, 3);
	want(&s, 0);
	want(&s, 1);
	for (k = 0; k < 3; k++) {
		mt_swap_answer(&s.t, 0);
		mt_drain(&s.t);
		mt_check(&s.t);
	}
	EXPECT_LE(on_their_way(&s, 0), SWAP_IO_MAX / 4);
	EXPECT_GE(on_their_way(&s, 0), SWAP_IO_MAX / 8);
	EXPECT_GE(on_their_way(&s, 1), SWAP_IO_MAX * 3 / 8);
	mt_fini(&s.t);
}

TEST_HARNESS_MAIN
