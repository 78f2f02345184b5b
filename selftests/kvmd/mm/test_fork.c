/* SPDX-License-Identifier: MIT */
/*
 * test_fork.c - forks share frames, and the first write breaks them
 */
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(fork)
{
	struct mt t;
	u32 client, geom, parent;
};

FIXTURE_SETUP(fork)
{
	mt_init(&self->t, 64, 2);
	self->client =
		mt_attach(&self->t, mt_tenant(&self->t, "a", MM_LIMIT_NONE));
	self->geom = mt_geom(&self->t, self->client, 48 * 1024);
	self->parent = mt_space(&self->t, self->client, self->geom);
}

FIXTURE_TEARDOWN(fork)
{
	mt_fini(&self->t);
}

TEST_F(fork, the_child_shows_the_parents_pages_read_only)
{
	struct mt *t = &self->t;
	u64 gen;
	int child;
	u32 i;

	ASSERT_EQ(mt_reserve(t, self->client, self->parent, 0, 100, 0, NULL),
		  0);
	gen = mt_gen(t, self->client, self->parent);
	child = mm_space_fork(t->mm, self->client, self->parent, 100);
	ASSERT_GE(child, 0);
	EXPECT_GT(mt_gen(t, self->client, self->parent), gen);
	for (i = 0; i < 7; i++) {
		kv_pte_t p = mt_pte(t, self->client, self->parent, 0, i);
		kv_pte_t c = mt_pte(t, self->client, (u32)child, 0, i);

		EXPECT_EQ(kv_pte_frame(p), kv_pte_frame(c));
		EXPECT_TRUE(kv_pte_can(p, 0) && kv_pte_can(c, 0));
		EXPECT_FALSE(kv_pte_can(p, 1) || kv_pte_can(c, 1));
		EXPECT_TRUE(p & c & KV_PTE_SHARED);
	}
	mt_check(t);
}

TEST_F(fork, the_first_write_copies_the_tokens_in_use_only)
{
	struct mt *t = &self->t;
	struct mt_resv r;
	int child;
	u32 old;

	ASSERT_EQ(mt_reserve(t, self->client, self->parent, 0, 100, 0, NULL),
		  0);
	child = mm_space_fork(t->mm, self->client, self->parent, 100);
	ASSERT_GE(child, 0);
	old = kv_pte_frame(mt_pte(t, self->client, self->parent, 0, 6));
	ASSERT_EQ(mt_reserve(t, self->client, (u32)child, 100, 1, 0, &r), 1);
	EXPECT_EQ(r.copies[0].tokens, 4);
	EXPECT_EQ(r.copies[0].src, old);
	EXPECT_EQ(r.copies[0].dst,
		  kv_pte_frame(mt_pte(t, self->client, (u32)child, 0, 6)));
	/* The parent is the last mapper now: no copy. */
	ASSERT_EQ(mt_reserve(t, self->client, self->parent, 100, 1, 0, &r), 0);
	EXPECT_EQ(kv_pte_frame(mt_pte(t, self->client, self->parent, 0, 6)),
		  old);
	EXPECT_TRUE(kv_pte_can(mt_pte(t, self->client, self->parent, 0, 6), 1));
	mt_check(t);
}

TEST_F(fork, at_a_page_boundary_copies_nothing)
{
	struct mt *t = &self->t;
	struct mm_usage u;
	int child;

	ASSERT_EQ(mt_reserve(t, self->client, self->parent, 0, 96, 0, NULL), 0);
	child = mm_space_fork(t->mm, self->client, self->parent, 96);
	ASSERT_GE(child, 0);
	EXPECT_EQ(mt_reserve(t, self->client, (u32)child, 96, 1, 0, NULL), 0);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.frame_bytes, 7 * 48 * 1024);
	EXPECT_EQ(u.saved_bytes, 6 * 48 * 1024);
	mt_check(t);
}

TEST_F(fork, beyond_what_was_reserved_is_refused)
{
	struct mt *t = &self->t;

	ASSERT_EQ(mt_reserve(t, self->client, self->parent, 0, 10, 0, NULL), 0);
	EXPECT_EQ(mm_space_fork(t->mm, self->client, self->parent, 17),
		  -EINVAL);
	EXPECT_EQ(mm_space_fork(t->mm, self->client, self->parent, ~0ull),
		  -EINVAL);
	EXPECT_EQ(mm_space_fork(t->mm, self->client, 77, 0), -ENOENT);
	mt_check(t);
}

TEST_F(fork, of_nothing_is_an_empty_space)
{
	struct mt *t = &self->t;
	int child = mm_space_fork(t->mm, self->client, self->parent, 0);

	ASSERT_GE(child, 0);
	EXPECT_EQ(mt_reserve(t, self->client, (u32)child, 0, 1, 0, NULL), 0);
	mt_check(t);
}

TEST_F(fork, a_batch_of_all_mappers_copies_one_less_than_it_has_mappers)
{
	struct mt *t = &self->t;
	struct kv_resv_item it[4];
	struct kv_copy copies[16];
	struct mm_resv r = { .items = it, .nr_items = 4 };
	u32 i, seq;
	u64 extra;

	ASSERT_EQ(mt_reserve(t, self->client, self->parent, 0, 100, 0, NULL),
		  0);
	it[0].space = self->parent;
	for (i = 1; i < 4; i++)
		it[i].space = (u32)mm_space_fork(t->mm, self->client,
						 self->parent, 100);
	for (i = 0; i < 4; i++) {
		it[i].pos = 100;
		it[i].nr_tokens = 1;
	}
	r.step = ++t->cl[self->client].step;
	EXPECT_EQ(mm_reserve(t->mm, self->client, &r, copies, &seq, &extra), 3);
	mt_drain(t);
	mt_check(t);
}

TEST_F(fork, takes_microseconds_for_32768_tokens)
{
	struct mt *t = &self->t;
	double begin, best = 1;
	int child, i;

	ASSERT_EQ(mt_reserve(t, self->client, self->parent, 0, 32760, 0, NULL),
		  0);
	for (i = 0; i < 200; i++) {
		begin = th_now();
		child = mm_space_fork(t->mm, self->client, self->parent, 32760);
		mt_reserve(t, self->client, (u32)child, 32760, 1, 0, NULL);
		mt_reserve(t, self->client, self->parent, 32760, 1, 0, NULL);
		mm_space_destroy(t->mm, self->client, (u32)child);
		best = min(best, th_now() - begin);
		mt_complete_all(t, self->client);
	}
	TH_LOG("fork, two first writes, destroy: %.1f us", best * 1e6);
	mt_check(t);
}

TEST_HARNESS_MAIN
