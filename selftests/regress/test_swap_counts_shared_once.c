/* SPDX-License-Identifier: MIT */
/*
 * test_swap_counts_shared_once.c - a swapped prompt that samples share is read
 * once
 *
 * A step of several spaces counted a swapped page once for each of them that
 * shared it. Samples of one prompt were refused with -E2BIG, which the engine
 * takes for good, though they had run before.
 */
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(swap_once)
{
	struct mt t;
	u32 tenant, client, geom;
};

FIXTURE_SETUP(swap_once)
{
	mt_init_swap(&self->t, 2, 1, 32 << 20, 0);
	self->tenant = mt_tenant(&self->t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(&self->t, self->tenant);
	self->geom = mt_geom(&self->t, self->client, MT_PAGE);
}

FIXTURE_TEARDOWN(swap_once)
{
	mt_fini(&self->t);
}

TEST_F(swap_once, a_shared_prompt_needs_its_frames_once)
{
	struct mt *t = &self->t;
	u32 a = mt_idle_space(t, self->client, self->geom, 12), seq, i;
	int b = mm_space_fork(t->mm, self->client, a, 11 * 16 + 3);
	int c = mm_space_fork(t->mm, self->client, a, 11 * 16 + 3);
	struct kv_resv_item it[3] = {
		{ .space = a, .nr_tokens = 1, .pos = 11 * 16 + 3 },
		{ .space = (u32)b, .nr_tokens = 1, .pos = 11 * 16 + 3 },
		{ .space = (u32)c, .nr_tokens = 1, .pos = 11 * 16 + 3 },
	};
	struct mm_resv r = { .items = it, .nr_items = 3, .out_room = 4096 };
	struct kv_copy copies[64];
	const struct mt_done *d;
	u64 extra;

	ASSERT_GE(b, 0);
	ASSERT_GE(c, 0);
	mm_tick(t->mm, 1000);
	mt_idle_space(t, self->client, self->geom, 2 * MT_PER_EXTENT);
	ASSERT_EQ(mt_nr_swapped(t, self->client, a), 12);
	r.step = r.user_data = ++t->cl[self->client].step;
	i = t->nr_done;
	ASSERT_EQ(mm_reserve(t->mm, self->client, &r, copies, &seq, &extra),
		  -EINPROGRESS);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, i + 1);
	/* Two copies: the last one to write keeps the page. */
	d = &t->done[i % MT_DONE];
	EXPECT_EQ(d->cqe.res, 2);
	EXPECT_EQ(t->nr_swap_in, 12);
	mt_check(t);
}

TEST_HARNESS_MAIN
