/* SPDX-License-Identifier: MIT */
/*
 * test_move.c - a frame moves only when nobody can be using it
 */
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(move)
{
	struct mt t;
	u32 client, geom, space;
	u64 src, dst, bytes;
	u32 nr_copies;
};

FIXTURE_SETUP(move)
{
	struct mt *t = &self->t;

	mt_init(t, 8, 2);
	self->client = mt_attach(t, mt_tenant(t, "a", MM_LIMIT_NONE));
	self->geom = mt_geom(t, self->client, 48 * 1024);
	self->space = mt_space(t, self->client, self->geom);
	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 40, 0, NULL), 0);
}

FIXTURE_TEARDOWN(move)
{
	mt_fini(&self->t);
}

static void copy(void *ctx, u64 src, u64 dst, u64 bytes)
{
	struct move_self *self = ctx;

	self->src = src;
	self->dst = dst;
	self->bytes = bytes;
	self->nr_copies++;
}

static int move(struct move_self *self, u32 page)
{
	return mm_move_page(self->t.mm, self->client, self->space, 0, page,
			    copy, self);
}

TEST_F(move, waits_for_the_step_that_reserved_the_page)
{
	struct mt *t = &self->t;

	EXPECT_EQ(move(self, 1), -EBUSY);
	mt_complete_all(t, self->client);
	EXPECT_EQ(move(self, 1), 0);
	mt_check(t);
}

TEST_F(move, copies_the_page_and_names_the_new_frame)
{
	struct mt *t = &self->t;
	u32 unit = mm_geom(t->mm, self->client, self->geom)->unit_bytes;
	kv_pte_t old = mt_pte(t, self->client, self->space, 0, 1), pte;
	u64 gen = mt_gen(t, self->client, self->space);

	mt_complete_all(t, self->client);
	ASSERT_EQ(move(self, 1), 0);
	pte = mt_pte(t, self->client, self->space, 0, 1);
	EXPECT_NE(kv_pte_frame(pte), kv_pte_frame(old));
	EXPECT_TRUE(kv_pte_can(pte, 1));
	EXPECT_EQ(self->nr_copies, 1);
	EXPECT_EQ(self->src, (u64)kv_pte_frame(old) * unit);
	EXPECT_EQ(self->dst, (u64)kv_pte_frame(pte) * unit);
	EXPECT_EQ(self->bytes, 48 * 1024);
	/* Once when it became not present, once when it came back. */
	EXPECT_EQ(mt_gen(t, self->client, self->space), gen + 2);
	mt_check(t);
}

TEST_F(move, changes_every_mapper)
{
	struct mt *t = &self->t;
	int child = mm_space_fork(t->mm, self->client, self->space, 40);
	int grandchild = mm_space_fork(t->mm, self->client, (u32)child, 20);
	u32 old = kv_pte_frame(mt_pte(t, self->client, self->space, 0, 0));
	u32 now;

	ASSERT_GE(grandchild, 0);
	mt_complete_all(t, self->client);
	ASSERT_EQ(move(self, 0), 0);
	now = kv_pte_frame(mt_pte(t, self->client, self->space, 0, 0));
	EXPECT_NE(now, old);
	EXPECT_EQ(kv_pte_frame(mt_pte(t, self->client, (u32)child, 0, 0)), now);
	EXPECT_EQ(kv_pte_frame(mt_pte(t, self->client, (u32)grandchild, 0, 0)),
		  now);
	EXPECT_FALSE(kv_pte_can(mt_pte(t, self->client, (u32)child, 0, 0), 1));
	mt_check(t);
}

TEST_F(move, one_busy_mapper_is_enough_to_say_no)
{
	struct mt *t = &self->t;
	struct kv_status *st = t->cl[self->client].status;
	int child = mm_space_fork(t->mm, self->client, self->space, 40);

	ASSERT_GE(child, 0);
	mt_complete_all(t, self->client);
	kv_step_mark(&st->space[child], 99);
	EXPECT_EQ(move(self, 0), -EBUSY);
	EXPECT_EQ(self->nr_copies, 0);
	mt_check(t);
	kv_step_end(&st->rank[0], 99);
	EXPECT_EQ(move(self, 0), 0);
	mt_check(t);
}

TEST_F(move, heeds_the_pin_of_a_copys_source)
{
	struct mt *t = &self->t;
	int child = mm_space_fork(t->mm, self->client, self->space, 40);

	ASSERT_GE(child, 0);
	mt_complete_all(t, self->client);
	/* The child's copy reads the parent's page in its own step. */
	ASSERT_EQ(mt_reserve(t, self->client, (u32)child, 40, 1, 0, NULL), 1);
	EXPECT_EQ(move(self, 2), -EBUSY);
	mt_complete_all(t, self->client);
	EXPECT_EQ(move(self, 2), 0);
	mt_check(t);
}

TEST_F(move, a_mark_before_the_barrier_puts_the_old_entry_back)
{
	struct mt *t = &self->t;
	kv_pte_t old = mt_pte(t, self->client, self->space, 0, 1), pte;
	struct mm_counts c;
	u64 gen;

	mt_complete_all(t, self->client);
	gen = mt_gen(t, self->client, self->space);
	/* The client marks after kvmd's first look, before its second. */
	t->mark_at = KV_TP_MOVE_ENTRY;
	t->mark = &t->cl[self->client].status->space[self->space];
	EXPECT_EQ(move(self, 1), -EBUSY);
	pte = mt_pte(t, self->client, self->space, 0, 1);
	EXPECT_EQ(kv_pte_frame(pte), kv_pte_frame(old));
	EXPECT_TRUE(kv_pte_can(pte, 1));
	EXPECT_EQ(mt_gen(t, self->client, self->space), gen + 2);
	EXPECT_EQ(self->nr_copies, 0);
	EXPECT_EQ(t->passed[KV_TP_MOVE_BACK], 1);
	mm_counts_get(t->mm, &c);
	EXPECT_EQ(c.moves, 0);
	EXPECT_EQ(c.moves_busy, 1);
	mt_check(t);
}

TEST_F(move, without_a_free_frame_nothing_happens)
{
	struct mt *t = &self->t;
	u64 gen;

	ASSERT_EQ(mt_reserve(t, self->client, self->space, 40, 42 * 16 - 40, 0,
			     NULL),
		  0);
	mt_complete_all(t, self->client);
	gen = mt_gen(t, self->client, self->space);
	EXPECT_EQ(move(self, 1), -ENOMEM);
	EXPECT_EQ(mt_gen(t, self->client, self->space), gen);
	mt_check(t);
}

TEST_F(move, nonsense_is_refused)
{
	struct mt *t = &self->t;

	mt_complete_all(t, self->client);
	EXPECT_EQ(move(self, 3), -EINVAL);
	EXPECT_EQ(move(self, ~0u), -EINVAL);
	EXPECT_EQ(mm_move_page(t->mm, self->client, 9, 0, 0, copy, self),
		  -ENOENT);
	EXPECT_EQ(mm_move_page(t->mm, self->client, self->space, 1, 0, copy,
			       self),
		  -EINVAL);
	EXPECT_EQ(mm_move_page(t->mm, 9, self->space, 0, 0, copy, self),
		  -ENOENT);
	mt_check(t);
}

TEST_HARNESS_MAIN
