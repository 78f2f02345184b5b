/* SPDX-License-Identifier: MIT */
/*
 * test_resv.c - a step's pages, all or none
 */
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(resv)
{
	struct mt t;
	u32 client, geom, space;
};

FIXTURE_SETUP(resv)
{
	mt_init(&self->t, 32, 4);
	self->client =
		mt_attach(&self->t, mt_tenant(&self->t, "a", MM_LIMIT_NONE));
	self->geom = mt_geom(&self->t, self->client, 48 * 1024);
	self->space = mt_space(&self->t, self->client, self->geom);
}

FIXTURE_TEARDOWN(resv)
{
	mt_fini(&self->t);
}

static int reserve(struct mt *t, u32 client, u64 step,
		   const struct kv_resv_item *items, u32 nr, u32 flags)
{
	struct mm_resv r = {
		.step = step, .items = items, .nr_items = nr, .flags = flags
	};
	static struct kv_copy copies[KV_RESV_MAX * KV_AREA_MAX];
	u64 extra;
	u32 seq;
	int rc = mm_reserve(t->mm, client, &r, copies, &seq, &extra);

	mt_drain(t);
	return rc;
}

TEST_F(resv, pages_are_there_writable_and_the_generation_moved)
{
	struct mt *t = &self->t;
	u64 gen = mt_gen(t, self->client, self->space);
	u32 i;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 33, 0, NULL), 0);
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(kv_pte_can(
			mt_pte(t, self->client, self->space, 0, i), 1));
	EXPECT_EQ(mt_pte(t, self->client, self->space, 0, 3), 0);
	EXPECT_GT(mt_gen(t, self->client, self->space), gen);
	mt_check(t);
}

TEST_F(resv, that_finds_everything_changes_nothing)
{
	struct mt *t = &self->t;
	u64 gen;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 33, 0, NULL), 0);
	gen = mt_gen(t, self->client, self->space);
	ASSERT_EQ(mt_reserve(t, self->client, self->space, 33, 5, 0, NULL), 0);
	EXPECT_EQ(mt_gen(t, self->client, self->space), gen);
}

TEST_F(resv, garbage_is_refused_and_changes_nothing)
{
	static const struct {
		struct kv_resv_item it;
		int rc;
	} bad[] = {
		{ { .space = 9, .nr_tokens = 1 }, -ENOENT },
		{ { .space = ~0u, .nr_tokens = 1 }, -ENOENT },
		{ { .nr_tokens = 0 }, -EINVAL },
		{ { .nr_tokens = 1, .pos = ~0ull }, -E2BIG },
		{ { .nr_tokens = ~0u, .pos = ~0ull - 5 }, -E2BIG },
		{ { .nr_tokens = ~0u }, -E2BIG },
		{ { .nr_tokens = 1, .pos = 17 }, -EINVAL },
		{ { .nr_tokens = 1, .pos = 1ull << 63 }, -E2BIG },
	};
	struct kv_resv_item two[2] = { { .nr_tokens = 1 }, { .nr_tokens = 1 } };
	struct mt *t = &self->t;
	struct mm_usage u;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_EQ(reserve(t, self->client, 1, &bad[i].it, 1, 0),
			  bad[i].rc);
	EXPECT_EQ(reserve(t, self->client, 1, two, 2, 0), -EINVAL);
	EXPECT_EQ(reserve(t, self->client, 0, two, 1, 0), -EINVAL);
	EXPECT_EQ(reserve(t, self->client, 1, two, 0, 0), -EINVAL);
	EXPECT_EQ(reserve(t, self->client, 1, two, KV_RESV_MAX + 1, 0),
		  -EINVAL);
	EXPECT_EQ(reserve(t, self->client, 1, two, 1, 2), -EINVAL);
	EXPECT_EQ(reserve(t, 5, 1, two, 1, 0), -ENOENT);
	EXPECT_EQ(reserve(t, ~0u, 1, two, 1, 0), -ENOENT);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.frame_bytes, 0);
	mt_check(t);
}

TEST_F(resv, step_numbers_only_rise)
{
	struct kv_resv_item it = { .space = self->space, .nr_tokens = 1 };
	struct mt *t = &self->t;

	EXPECT_EQ(reserve(t, self->client, 5, &it, 1, 0), 0);
	EXPECT_EQ(reserve(t, self->client, 5, &it, 1, 0), -EBUSY);
	EXPECT_EQ(reserve(t, self->client, 4, &it, 1, 0), -EBUSY);
	EXPECT_EQ(reserve(t, self->client, ~0ull, &it, 1, 0), 0);
}

TEST_F(resv, one_item_that_cannot_be_takes_the_others_with_it)
{
	struct mt *t = &self->t;
	struct kv_resv_item it[2] = {
		{ .space = self->space, .nr_tokens = 100 },
		{ .space = self->space + 1, .nr_tokens = 1, .pos = 99 }
	};
	struct mm_usage u;

	mt_space(t, self->client, self->geom);
	EXPECT_EQ(reserve(t, self->client, 1, it, 2, 0), -EINVAL);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.frame_bytes, 0);
	mt_check(t);
}

TEST_F(resv, more_than_the_device_could_ever_give_is_said_at_once)
{
	struct mt *t = &self->t;

	/* 32 extents hold 32 * 4 * 42 pages. */
	EXPECT_EQ(mt_reserve(t, self->client, self->space, 0,
			     (32 * 4 * 42 + 1) * 16, KV_SQE_WAIT, NULL),
		  -E2BIG);
	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 32 * 4 * 42 * 16,
			     0, NULL),
		  0);
	/* One space alone fills it: the next page can never come. */
	EXPECT_EQ(mt_reserve(t, self->client, self->space, 32 * 4 * 42 * 16, 1,
			     KV_SQE_WAIT, NULL),
		  -E2BIG);
	mt_check(t);
}

TEST_F(resv, frames_below_the_window_leave_with_the_step_before)
{
	struct mt *t = &self->t;
	int s = mt_space2(t, self->client, self->geom, 16, MM_NONE, 0);
	struct mm_counts c;
	struct mm_usage u;

	ASSERT_GE(s, 0);
	ASSERT_EQ(mt_reserve(t, self->client, (u32)s, 0, 64, 0, NULL), 0);
	ASSERT_EQ(mt_reserve(t, self->client, (u32)s, 64, 16, 0, NULL), 0);
	/* The row at 64 sees 49 and up: pages 0 to 2 have no entry now. */
	EXPECT_EQ(mt_pte(t, self->client, (u32)s, 0, 2), 0);
	EXPECT_TRUE(kv_pte_is_present(mt_pte(t, self->client, (u32)s, 0, 3)));
	mm_counts_get(t->mm, &c);
	EXPECT_EQ(c.window_freed, 3);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.frame_bytes, 5 * 48 * 1024);
	/* Step 1 may still read them; when it has ended, they are free. */
	kv_step_end(&t->cl[self->client].status->rank[0], 1);
	mm_tick(t->mm, 1);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.frame_bytes, 2 * 48 * 1024);
	mt_check(t);
}

/*
 * The device holds what the step needs, but not with what the window has left:
 * that stayed until the step was granted, and so it never was.
 */
static void leave_for_room(u32 window)
{
	struct kv_resv_item it = { .nr_tokens = 16 * 20 };
	u32 client, i;
	struct mt t;
	int rc;

	mt_init(&t, 8, 8);
	client = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	it.space = (u32)mt_space2(&t, client, mt_geom(&t, client, 2u << 20),
				  window, MM_NONE, 0);
	/* 20 pages and one of the window, of the 32 that fit */
	for (i = 1; i < 5; i++, it.pos += it.nr_tokens) {
		/* at once, or when extents have been cleaned */
		rc = reserve(&t, client, i, &it, 1, 0);
		EXPECT_TRUE(!rc || rc == -EINPROGRESS);
		ASSERT_TRUE(kv_pte_is_present(
			mt_pte(&t, client, it.space, 0, 20 * i - 1)));
		kv_step_end(&t.cl[client].status->rank[0], i);
		mt_check(&t);
	}
	it.nr_tokens = 16 * 33;
	EXPECT_EQ(-E2BIG, reserve(&t, client, i, &it, 1, 0));
	mt_check(&t);
	mt_fini(&t);
}

TEST(resv_window, what_it_has_left_is_room_for_the_step_that_leaves_it)
{
	leave_for_room(16);
	leave_for_room(1); /* all of them, but that the last one stays */
}

/*
 * Where each mapper of a page is in the step one copy less is made. That was
 * taken off at each look for room, and the step was given what was not there.
 */
TEST(resv_exact, copies_that_are_not_made_are_taken_off_once)
{
	enum { PAIRS = 20, WIDE = 12 };
	struct kv_resv_item it[1 + 2 * PAIRS];
	u32 client, geom, i;
	struct mt t;
	int rc;

	mt_init(&t, 8, 8);
	client = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	geom = mt_geom(&t, client, 2u << 20);
	it[0] = (struct kv_resv_item){
		.space = (u32)mt_space2(&t, client, geom, 16, MM_NONE, 0),
		.nr_tokens = 16 * WIDE,
	};
	ASSERT_EQ(0, reserve(&t, client, 1, &it[0], 1, 0));
	it[0].pos = it[0].nr_tokens;
	for (i = 1; i <= PAIRS; i++) {
		it[i] = (struct kv_resv_item){
			.space = mt_space(&t, client, geom), .nr_tokens = 8
		};
		ASSERT_EQ(0, reserve(&t, client, 1 + i, &it[i], 1, 0));
		rc = mm_space_fork(t.mm, client, it[i].space, 8);
		ASSERT_GE(rc, 0);
		it[i].pos = 8;
		it[PAIRS + i] = it[i];
		it[PAIRS + i].space = (u32)rc;
	}
	kv_step_end(&t.cl[client].status->rank[0], 1 + PAIRS);
	it[0].nr_tokens = 1;
	/* 32 pages, all in use; 11 leave, 21 are wanted */
	EXPECT_EQ(-E2BIG, reserve(&t, client, i + 1, it, 1 + 2 * PAIRS, 0));
	mt_check(&t);
	/* five of the first ones */
	EXPECT_EQ(5, reserve(&t, client, i + 2, it, 6, 0));
	mt_check(&t);
	mt_fini(&t);
}

/* All space descriptors; the account before them tells of other clients. */
static u64 spaces_hash(const struct mt *t, u32 client)
{
	return hash_bytes(kv_table_space(t->cl[client].table, 0),
			  KV_TABLE_LEAVES_OFF - KV_TABLE_SPACES_OFF, 0);
}

TEST_F(resv, a_liar_hurts_only_itself)
{
	struct mt *t = &self->t;
	u32 liar = mt_attach(t, mt_tenant(t, "b", MM_LIMIT_NONE));
	u32 geom = mt_geom(t, liar, 48 * 1024), s = mt_space(t, liar, geom);
	struct kv_status *st = t->cl[liar].status;
	u64 rng = 5, before;
	struct mm_usage u;
	u32 i, k;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 160, 0, NULL), 0);
	before = spaces_hash(t, self->client);
	for (i = 0; i < 2000; i++) {
		for (k = 0; k < 64; k++) {
			st->space[k].len = hash_random(&rng);
			st->space[k].active_step = hash_random(&rng);
		}
		st->rank[0].completed = hash_random(&rng) >> (i % 64);
		mt_reserve(t, liar, s, hash_random(&rng) % 200,
			   1 + (u32)(hash_random(&rng) % 100), 0, NULL);
		mm_space_truncate(t->mm, liar, s, hash_random(&rng) % 200);
		mm_space_fork(t->mm, liar, s, hash_random(&rng) % 100);
		mm_space_destroy(t->mm, liar, (u32)(hash_random(&rng) % 50));
		mt_space(t, liar, geom);
		mm_move_page(t->mm, liar, s, 0, 0, NULL, NULL);
		mm_usage_get(t->mm, &u);
		mt_drain(t);
	}
	mt_check(t);
	EXPECT_EQ(spaces_hash(t, self->client), before);
	mm_client_gone(t->mm, liar);
	mt_drain(t);
	mt_check(t);
}

TEST_F(resv, takes_microseconds_for_32_pages)
{
	struct mt *t = &self->t;
	struct kv_resv_item it[32];
	double begin, best = 1;
	u32 i, k;

	for (i = 0; i < 32; i++)
		it[i].space = mt_space(t, self->client, self->geom);
	for (k = 0; k < 100; k++) {
		for (i = 0; i < 32; i++) {
			it[i].pos = (u64)k * 16;
			it[i].nr_tokens = 16;
		}
		begin = th_now();
		ASSERT_EQ(reserve(t, self->client, k + 1, it, 32, 0), 0);
		best = min(best, th_now() - begin);
	}
	TH_LOG("figure: 32 pages of 32 spaces in one reservation: %.2f us",
	       best * 1e6);
	mt_check(t);
}

TEST_HARNESS_MAIN
