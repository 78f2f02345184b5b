/* SPDX-License-Identifier: MIT */
/*
 * test_compact.c - pages move together, and what is empty goes back
 */
#include <errno.h>

#include "kvmd/mm/state.h"
#include "selftests/kvmd/mm/mmtest.h"

#define MS 1000000ull

FIXTURE(compact)
{
	struct mt t;
	u32 a, geom;
	u64 now;
};

FIXTURE_SETUP(compact)
{
	mt_init(&self->t, 8, 1);
	self->a = mt_attach(&self->t, mt_tenant(&self->t, "a", MM_LIMIT_NONE));
	self->geom = mt_geom(&self->t, self->a, MT_PAGE);
	self->now = 1000 * MS;
}

FIXTURE_TEARDOWN(compact)
{
	mt_fini(&self->t);
}

static void pass(struct compact_self *self, u64 ns)
{
	u64 end = self->now + ns;

	while (self->now < end) {
		self->now += min(end - self->now, 10 * MS);
		mm_tick(self->t.mm, self->now);
		mt_drain(&self->t);
	}
}

static struct mm_counts counts(struct mt *t)
{
	struct mm_counts n;

	mm_counts_get(t->mm, &n);
	return n;
}

static u32 frame_at(struct mt *t, u32 client, u32 space, u32 page)
{
	return kv_pte_frame(mt_pte(t, client, space, 0, page));
}

/* Spaces that filled an extent each, and keep @pages pages of it. */
static void strew(struct compact_self *self, u32 nr, u32 pages, u32 *space)
{
	struct mt *t = &self->t;
	u32 i;

	for (i = 0; i < nr; i++)
		space[i] = mt_idle_space(t, self->a, self->geom, MT_PER_EXTENT);
	for (i = 0; i < nr; i++)
		ASSERT_EQ(
			mm_space_truncate(t->mm, self->a, space[i], pages * 16),
			0);
	mt_drain(t);
	ASSERT_EQ(mt_extents(t, self->a), nr);
}

TEST_F(compact, pages_of_extents_that_are_hardly_used_come_together)
{
	struct mt *t = &self->t;
	u32 s[4], i, k;

	strew(self, 4, 3, s);
	pass(self, 500 * MS);
	mt_check(t);
	EXPECT_EQ(mt_extents(t, self->a), 1);
	EXPECT_EQ(counts(t).compact_freed_extents, 3);
	/* A page may move again before it lies with the others. */
	EXPECT_GE(counts(t).compact_moved, 9);
	EXPECT_LE(counts(t).compact_moved, 12);
	EXPECT_EQ(counts(t).compact_bytes, counts(t).compact_moved * MT_PAGE);
	for (i = 0; i < 4; i++)
		for (k = 0; k < 3; k++)
			EXPECT_TRUE(
				kv_pte_can(mt_pte(t, self->a, s[i], 0, k), 1));
	EXPECT_FALSE(mm_wants_tick(t->mm));
}

TEST_F(compact, a_space_that_a_step_uses_stays_where_it_is)
{
	struct mt *t = &self->t;
	struct kv_status *st = t->cl[self->a].status;
	u32 s[2], i;
	u64 gen[2];

	strew(self, 2, 3, s);
	for (i = 0; i < 2; i++) {
		gen[i] = mt_gen(t, self->a, s[i]);
		kv_step_mark(&st->space[s[i]], 99);
	}
	pass(self, 500 * MS);
	mt_check(t);
	/* It is not even tried (K0). */
	for (i = 0; i < 2; i++)
		EXPECT_EQ(mt_gen(t, self->a, s[i]), gen[i]);
	kv_step_end(&st->rank[0], 99);
	pass(self, 2000 * MS);
	EXPECT_EQ(mt_extents(t, self->a), 1);
	mt_check(t);
}

TEST_F(compact, what_a_step_may_still_read_stays)
{
	struct mt *t = &self->t;
	u32 s[2], i;
	int f;

	strew(self, 2, 3, s);
	for (i = 0; i < 2; i++) {
		/* a step of the child copies from the third page */
		f = mm_space_fork(t->mm, self->a, s[i], 40);
		ASSERT_GE(f, 0);
		ASSERT_EQ(mt_reserve(t, self->a, (u32)f, 40, 1, 0, NULL), 1);
		ASSERT_EQ(mm_space_destroy(t->mm, self->a, (u32)f), 0);
	}
	pass(self, 500 * MS);
	mt_check(t);
	EXPECT_EQ(counts(t).compact_moved, 0);
	kv_step_end(&t->cl[self->a].status->rank[0], t->cl[self->a].step);
	pass(self, 2000 * MS);
	EXPECT_EQ(mt_extents(t, self->a), 1);
	mt_check(t);
}

TEST_F(compact, what_was_used_just_now_is_let_alone)
{
	struct mt *t = &self->t;
	struct kv_status *st = t->cl[self->a].status;
	u32 s[2], i;

	strew(self, 2, 3, s);
	for (i = 0; i < 100; i++) {
		kv_step_mark(&st->space[s[0]], 100 + i);
		kv_step_mark(&st->space[s[1]], 100 + i);
		kv_step_end(&st->rank[0], 100 + i);
		pass(self, 10 * MS);
	}
	EXPECT_EQ(counts(t).compact_moved, 0);
	pass(self, 20000 * MS);
	EXPECT_GT(counts(t).compact_moved, 0);
	mt_check(t);
}

TEST_F(compact, a_shared_page_moves_for_all_who_share_it)
{
	struct mt *t = &self->t;
	u32 s[2], k;
	int f, g;

	strew(self, 2, 3, s);
	f = mm_space_fork(t->mm, self->a, s[0], 48);
	g = mm_space_fork(t->mm, self->a, s[1], 40);
	ASSERT_GE(g, 0);
	pass(self, 500 * MS);
	mt_check(t);
	EXPECT_EQ(counts(t).compact_moved, 3);
	for (k = 0; k < 3; k++) {
		EXPECT_EQ(frame_at(t, self->a, s[0], k),
			  frame_at(t, self->a, (u32)f, k));
		EXPECT_EQ(frame_at(t, self->a, s[1], k),
			  frame_at(t, self->a, (u32)g, k));
		EXPECT_FALSE(kv_pte_can(mt_pte(t, self->a, (u32)g, 0, k), 1));
	}
}

TEST_F(compact, a_step_that_wants_a_page_waits_for_it)
{
	struct mt *t = &self->t;
	u32 s[2], i, k, nr = t->nr_done;

	strew(self, 2, 3, s);
	t->hold_moves = true;
	pass(self, 100 * MS);
	ASSERT_EQ(t->nr_moving, 3);
	mt_check(t);
	for (i = 0; i < 2; i++)
		if (!kv_pte_is_present(mt_pte(t, self->a, s[i], 0, 1)))
			break;
	ASSERT_LT(i, 2);
	EXPECT_EQ(mt_reserve(t, self->a, s[i], 47, 1, 0, NULL), -EINPROGRESS);
	mt_check(t);
	mt_move_answer(t, 0);
	mt_drain(t);
	ASSERT_EQ(t->nr_done, nr + 1);
	EXPECT_EQ(t->done[nr].cqe.res, 0);
	for (k = 0; k < 3; k++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->a, s[i], 0, k), 1));
	mt_check(t);
}

TEST_F(compact, a_mark_before_the_barrier_puts_the_old_entry_back)
{
	struct mt *t = &self->t;
	u32 s[2], was[2], i;

	strew(self, 2, 1, s);
	for (i = 0; i < 2; i++)
		was[i] = frame_at(t, self->a, s[i], 0);
	/* The client marks after kvmd's first look, before its second. */
	t->mark_at = KV_TP_MOVE_CHECK;
	t->mark = &t->cl[self->a].status->space[s[1]];
	pass(self, 60 * MS);
	ASSERT_GT(t->passed[KV_TP_MOVE_BACK], 0);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(frame_at(t, self->a, s[i], 0), was[i]);
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->a, s[i], 0, 0), 1));
	}
	EXPECT_EQ(counts(t).compact_moved, 0);
	EXPECT_GT(counts(t).compact_back, 0);
	mt_check(t);
}

TEST_F(compact, a_failed_copy_leaves_the_page_where_it_is)
{
	struct mt *t = &self->t;
	u32 s[2], was[2], i;

	strew(self, 2, 3, s);
	for (i = 0; i < 2; i++)
		was[i] = frame_at(t, self->a, s[i], 1);
	t->move_err = -EIO;
	pass(self, 100 * MS);
	mt_check(t);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(frame_at(t, self->a, s[i], 1), was[i]);
	EXPECT_EQ(counts(t).compact_errors, 3);
	t->move_err = 0;
	pass(self, 2000 * MS);
	EXPECT_EQ(mt_extents(t, self->a), 1);
	mt_check(t);
}

TEST_F(compact, what_is_destroyed_on_its_way_is_free_when_it_arrives)
{
	struct mt *t = &self->t;
	struct mm_client_info ci;
	u32 s[2], i;

	strew(self, 2, 3, s);
	t->hold_moves = true;
	pass(self, 100 * MS);
	ASSERT_EQ(t->nr_moving, 3);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(mm_space_destroy(t->mm, self->a, s[i]), 0);
	mt_check(t);
	mt_move_answer(t, 0);
	mt_drain(t);
	mt_check(t);
	ASSERT_EQ(mm_client_info(t->mm, self->a, &ci), 0);
	EXPECT_EQ(ci.frame_bytes, 0);
}

TEST_F(compact, what_forks_share_on_its_way_arrives_for_both)
{
	struct mt *t = &self->t;
	u32 s[2], f[2], i, k;

	strew(self, 2, 3, s);
	t->hold_moves = true;
	pass(self, 100 * MS);
	for (i = 0; i < 2; i++)
		f[i] = (u32)mm_space_fork(t->mm, self->a, s[i], 48);
	mt_check(t);
	mt_move_answer(t, 0);
	mt_drain(t);
	mt_check(t);
	for (i = 0; i < 2; i++)
		for (k = 0; k < 3; k++)
			EXPECT_EQ(frame_at(t, self->a, s[i], k),
				  frame_at(t, self->a, f[i], k));
}

TEST_F(compact, the_death_of_a_client_waits_for_its_pages)
{
	struct mt *t = &self->t;
	struct mm_client_info ci;
	u32 s[2];

	strew(self, 2, 3, s);
	t->hold_moves = true;
	pass(self, 100 * MS);
	mm_client_exit(t->mm, self->a);
	mt_check(t);
	mm_client_gone(t->mm, self->a);
	mt_drain(t);
	mt_check(t);
	EXPECT_EQ(mm_client_info(t->mm, self->a, &ci), 0);
	mt_move_answer(t, 0);
	mt_drain(t);
	EXPECT_EQ(mm_client_info(t->mm, self->a, &ci), -ENOENT);
	mt_check(t);
}

TEST_F(compact, pages_go_to_no_extent_that_the_client_may_not_have_yet)
{
	struct mt *t = &self->t;
	u32 s = mt_idle_space(t, self->a, self->geom, MT_PER_EXTENT), u, was;

	/* Its step has not ended: nobody knows that the reply has arrived. */
	u = mt_space(t, self->a, self->geom);
	ASSERT_EQ(mt_reserve(t, self->a, u, 0, 10 * 16, 0, NULL), 0);
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, s, 48), 0);
	was = frame_at(t, self->a, s, 0);
	pass(self, 1000 * MS);
	EXPECT_EQ(frame_at(t, self->a, s, 0), was);
	EXPECT_EQ(counts(t).compact_moved, 0);
	kv_step_mark(&t->cl[self->a].status->space[u], t->cl[self->a].step);
	kv_step_end(&t->cl[self->a].status->rank[0], t->cl[self->a].step);
	kv_step_mark(&t->cl[self->a].status->space[u], 99); /* another one */
	pass(self, 10000 * MS);
	EXPECT_NE(frame_at(t, self->a, s, 0), was);
	EXPECT_EQ(mt_extents(t, self->a), 1);
	mt_check(t);
}

TEST_F(compact, who_waits_for_memory_gets_what_comes_empty)
{
	struct mt *t = &self->t;
	u32 s[4], b, u, nr = 0;

	strew(self, 4, 3, s);
	b = mt_attach(t, mt_tenant(t, "b", MM_LIMIT_NONE));
	u = mt_space(t, b, mt_geom(t, b, MT_PAGE));
	/* Four extents are left, and three more as soon as pages have moved. */
	while (mt_reserve(t, b, u, nr * 256, 256, 0, NULL) == 0)
		nr++;
	EXPECT_EQ(nr, 7);
	EXPECT_EQ(mt_extents(t, self->a), 1);
	mt_check(t);
}

/* A larger device, of which 32 extents are little more than half used. */
static void strew_many(struct compact_self *self, u64 watermark)
{
	const struct mm_config cfg = { .device_bytes = 64 * KV_EXTENT_SIZE,
				       .ready_extents = 1,
				       .watermark_low = watermark,
				       .watermark_high = watermark };
	u32 s[32];

	mt_fini(&self->t);
	mt_init_cfg(&self->t, &cfg);
	self->a = mt_attach(&self->t, mt_tenant(&self->t, "a", MM_LIMIT_NONE));
	self->geom = mt_geom(&self->t, self->a, MT_PAGE);
	strew(self, 32, 9, s);
}

TEST_F(compact, the_background_is_slow)
{
	struct mt *t = &self->t;

	strew_many(self, 0);
	pass(self, 20 * MS);
	/* A burst, and 256 MiB a second. */
	EXPECT_GT(counts(t).compact_moved, 0);
	EXPECT_LE(counts(t).compact_bytes, 16ull << 20);
	pass(self, 30 * MS);
	EXPECT_LE(counts(t).compact_bytes, 28ull << 20);
	EXPECT_GT(mt_extents(t, self->a), 18);
	pass(self, 1000 * MS);
	EXPECT_EQ(mt_extents(t, self->a), 18);
	mt_check(t);
}

TEST_F(compact, hardly_any_memory_left_is_reason_to_hurry)
{
	struct mt *t = &self->t;

	strew_many(self, 48 * KV_EXTENT_SIZE);
	pass(self, 20 * MS);
	EXPECT_EQ(mt_extents(t, self->a), 18);
	mt_check(t);
}

/* ---- page caches ---- */

static void sequence(u32 i, u32 tokens[64])
{
	u32 k;

	for (k = 0; k < 64; k++)
		tokens[k] = 100 * i + k;
}

static u32 map_sequence(struct compact_self *self, u32 i)
{
	u32 tokens[64], seq, s = mt_space(&self->t, self->a, self->geom);

	sequence(i, tokens);
	EXPECT_EQ(mm_prefix_map(self->t.mm, self->a, s, tokens, 64, &seq), 64);
	mt_drain(&self->t);
	return s;
}

static u32 tenant_of(struct mt *t, u32 client)
{
	return mm_clients(t->mm)[client].tenant;
}

static u32 cache_extents(struct mt *t, u32 client)
{
	return mt_extents(t, t->mm->tenants[tenant_of(t, client)].cache - 1);
}

/* Two extents of published pages, of which four sequences stay, mapped. */
static void strew_cache(struct compact_self *self, u32 mapped[4])
{
	static const u32 stay[4] = { 0, 1, 4, 5 };
	struct mt *t = &self->t;
	u32 i, tokens[64], seq, s;

	for (i = 0; i < 8; i++) {
		sequence(i, tokens);
		s = mt_idle_space(t, self->a, self->geom, 4);
		kv_store_release(&t->cl[self->a].status->space[s].len, 64ull);
		ASSERT_EQ(mm_prefix_publish(t->mm, self->a, s, 0, tokens, 64,
					    true, &seq),
			  64);
		mt_drain(t);
		ASSERT_EQ(mm_space_destroy(t->mm, self->a, s), 0);
		mt_complete_all(t, self->a);
	}
	ASSERT_EQ(cache_extents(t, self->a), 2);
	for (i = 0; i < 4; i++)
		mapped[i] = map_sequence(self, stay[i]);
	EXPECT_GT(mm_cache_drop(t->mm, tenant_of(t, self->a), false), 0);
	mt_drain(t);
	ASSERT_EQ(cache_extents(t, self->a), 2);
}

TEST_F(compact, a_caches_pages_move_unless_somebody_maps_them)
{
	struct mt *t = &self->t;
	u32 s[4], i;

	strew_cache(self, s);
	pass(self, 500 * MS);
	EXPECT_EQ(cache_extents(t, self->a), 2);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(mm_space_destroy(t->mm, self->a, s[i]), 0);
	pass(self, 20000 * MS);
	mt_check(t);
	EXPECT_EQ(cache_extents(t, self->a), 1);
	map_sequence(self, 0);
	map_sequence(self, 1);
	map_sequence(self, 4);
	map_sequence(self, 5);
	mt_check(t);
}

TEST_F(compact, a_caches_page_that_is_mapped_meanwhile_stays)
{
	struct mt *t = &self->t;
	u32 s[4], i, moved = (u32)counts(t).compact_moved;

	strew_cache(self, s);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(mm_space_destroy(t->mm, self->a, s[i]), 0);
	t->hold_moves = true;
	pass(self, 100 * MS);
	ASSERT_GT(t->nr_moving, 0);
	for (i = 0; i < 8; i++)
		if (i % 4 < 2)
			map_sequence(self, i);
	mt_check(t);
	mt_move_answer(t, 0);
	mt_drain(t);
	mt_check(t);
	EXPECT_EQ(counts(t).compact_moved, moved);
}

TEST_F(compact, a_caches_page_that_is_being_filled_stays)
{
	struct mt *t = &self->t;
	u32 s, i, n = 0, tokens[64], seq;

	t->hold_copies = true;
	for (i = 0; i < 8; i++) {
		sequence(i, tokens);
		s = mt_idle_space(t, self->a, self->geom, 4);
		kv_store_release(&t->cl[self->a].status->space[s].len, 64ull);
		ASSERT_EQ(mm_prefix_publish(t->mm, self->a, s, 0, tokens, 64,
					    true, &seq),
			  64);
		mt_drain(t);
		ASSERT_EQ(mm_space_destroy(t->mm, self->a, s), 0);
		mt_complete_all(t, self->a);
	}
	/* One sequence in each of two extents is not there yet. */
	for (i = 0; i < t->nr_copy; i++)
		if (i / 4 % 4)
			mm_copy_done(t->mm, t->copy[i].node, t->copy[i].area,
				     0);
		else
			t->copy[n++] = t->copy[i];
	t->nr_copy = n;
	ASSERT_EQ(n, 8);
	EXPECT_GT(mm_cache_drop(t->mm, tenant_of(t, self->a), false), 0);
	mt_drain(t);
	ASSERT_EQ(cache_extents(t, self->a), 2);
	pass(self, 500 * MS);
	EXPECT_EQ(counts(t).compact_moved, 0);
	mt_check(t);
	mt_copy_answer(t, 0);
	pass(self, 20000 * MS);
	EXPECT_EQ(cache_extents(t, self->a), 1);
	map_sequence(self, 0);
	map_sequence(self, 4);
	mt_check(t);
}

TEST_F(compact, a_cache_that_is_dropped_ends_with_its_last_page)
{
	struct mt *t = &self->t;
	u32 s[4], i, tenant = tenant_of(t, self->a);

	strew_cache(self, s);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(mm_space_destroy(t->mm, self->a, s[i]), 0);
	t->hold_moves = true;
	pass(self, 100 * MS);
	ASSERT_GT(t->nr_moving, 0);
	EXPECT_GT(mm_cache_drop(t->mm, tenant, true), 0);
	mt_check(t);
	EXPECT_GT(t->mm->tenants[tenant].cache, 0);
	mt_move_answer(t, 0);
	mt_drain(t);
	EXPECT_EQ(t->mm->tenants[tenant].cache, 0);
	mt_check(t);
}

TEST_HARNESS_MAIN
