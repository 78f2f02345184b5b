/* SPDX-License-Identifier: MIT */
/*
 * test_prefix.c - published prefixes: found, shared, never written, evicted
 *
 * Rule by rule; test_prefix_model.c has all of them at once.
 */
#include <errno.h>

#include "kvmd/mm/state.h"
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(prefix)
{
	struct mt t;
	u32 tenant;
	u32 a, b; /* its clients */
	u32 geom; /* the same in both */
	u32 tokens[1024];
	u32 seq;
};

FIXTURE_SETUP(prefix)
{
	u32 i;

	mt_init(&self->t, 16, 2);
	self->tenant = mt_tenant(&self->t, "a", MM_LIMIT_NONE);
	self->a = mt_attach(&self->t, self->tenant);
	self->b = mt_attach(&self->t, self->tenant);
	self->geom = mt_geom(&self->t, self->a, MT_PAGE);
	self->geom = mt_geom(&self->t, self->b, MT_PAGE);
	for (i = 0; i < ARRAY_SIZE(self->tokens); i++)
		self->tokens[i] = 1000 + i;
}

FIXTURE_TEARDOWN(prefix)
{
	mt_fini(&self->t);
}

static void set_len(struct mt *t, u32 client, u32 space, u64 len)
{
	kv_store_release(&t->cl[client].status->space[space].len, len);
}

/* A space of @nr tokens that its last step has ended with. */
static u32 computed(struct mt *t, u32 client, u32 geom, u32 nr)
{
	u32 s = mt_space(t, client, geom);

	EXPECT_EQ(mt_reserve(t, client, s, 0, nr, 0, NULL), 0);
	set_len(t, client, s, nr);
	mt_complete_all(t, client);
	return s;
}

static int publish(struct mt *t, u32 client, u32 space, const u32 *tokens,
		   u32 from, u32 nr, u32 *seq)
{
	int rc = mm_prefix_publish(t->mm, client, space, from, tokens + from,
				   nr - from, true, seq);

	mt_drain(t);
	return rc;
}

static int map(struct mt *t, u32 client, u32 space, const u32 *tokens, u32 nr,
	       u32 *seq)
{
	int rc = mm_prefix_map(t->mm, client, space, tokens, nr, seq);

	mt_drain(t);
	return rc;
}

TEST_F(prefix, another_client_of_the_tenant_finds_whole_pages)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64), m, i;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	EXPECT_EQ(t->nr_copied, 4);
	m = mt_space(t, self->b, self->geom);
	ASSERT_EQ(map(t, self->b, m, self->tokens, 1000, &self->seq), 64);
	for (i = 0; i < 4; i++) {
		kv_pte_t pte = mt_pte(t, self->b, m, 0, i);

		EXPECT_TRUE(kv_pte_can(pte, 0) && !kv_pte_can(pte, 1));
		EXPECT_TRUE(pte & KV_PTE_SHARED);
	}
	EXPECT_EQ(self->seq, t->cl[self->b].seq);
	EXPECT_GT(t->cl[self->b].shared, 0);
	mt_check(t);
}

TEST_F(prefix, the_publishers_own_frames_leave)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64), i;
	struct mm_client_info ci;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	ASSERT_EQ(mt_reserve(t, self->a, s, 64, 16, 0, NULL), 0);
	/* The step may still read them. */
	ASSERT_EQ(mm_client_info(t->mm, self->a, &ci), 0);
	EXPECT_EQ(ci.frame_bytes, 5 * MT_PAGE);
	mt_check(t);
	mt_complete_all(t, self->a);
	ASSERT_EQ(mm_client_info(t->mm, self->a, &ci), 0);
	EXPECT_EQ(ci.frame_bytes, 1 * MT_PAGE);
	for (i = 0; i < 4; i++)
		EXPECT_FALSE(kv_pte_can(mt_pte(t, self->a, s, 0, i), 1));
	mt_check(t);
}

TEST_F(prefix, a_match_in_the_middle_of_a_page_copies_the_tokens_in_use)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64), m, entry;
	struct mt_resv r;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	self->tokens[37]++;
	m = mt_space(t, self->b, self->geom);
	ASSERT_EQ(map(t, self->b, m, self->tokens, 60, &self->seq), 37);
	entry = kv_pte_frame(mt_pte(t, self->b, m, 0, 2));
	set_len(t, self->b, m, 37);
	ASSERT_EQ(mt_reserve(t, self->b, m, 37, 3, 0, &r), 1);
	EXPECT_EQ(r.copies[0].tokens, 5);
	EXPECT_EQ(r.copies[0].src, entry);
	EXPECT_NE(kv_pte_frame(mt_pte(t, self->b, m, 0, 2)), entry);
	EXPECT_TRUE(kv_pte_can(mt_pte(t, self->b, m, 0, 2), 1));
	mt_check(t);
	mt_complete_all(t, self->b);
	mt_check(t);
}

/* What it mapped behind the page was held no more, and could be evicted. */
TEST_F(prefix, a_page_written_in_the_middle_leaves_the_others_held)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 128), m, i;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 128, &self->seq),
		  128);
	m = mt_space(t, self->b, self->geom);
	ASSERT_EQ(map(t, self->b, m, self->tokens, 1000, &self->seq), 128);
	set_len(t, self->b, m, 128);
	ASSERT_EQ(mt_reserve(t, self->b, m, 16, 32, 0, NULL), 0);
	mt_complete_all(t, self->b);
	mt_check(t);
	mm_space_destroy(t->mm, self->a, s);
	mm_cache_drop(t->mm, self->tenant, false);
	mt_drain(t);
	mt_check(t);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(i == 1 || i == 2,
			  kv_pte_can(mt_pte(t, self->b, m, 0, i), 1));
	/* the same tokens again: it goes on where it was */
	ASSERT_EQ(publish(t, self->b, m, self->tokens, 0, 128, &self->seq),
		  128);
	mt_check(t);
	ASSERT_EQ(mt_reserve(t, self->b, m, 128, 16, 0, NULL), 0);
	set_len(t, self->b, m, 144);
	mt_complete_all(t, self->b);
	mt_check(t);
	/* others in the same place: no further than up to there */
	ASSERT_EQ(mt_reserve(t, self->b, m, 16, 16, 0, NULL), 0);
	mt_complete_all(t, self->b);
	self->tokens[20]++;
	EXPECT_EQ(publish(t, self->b, m, self->tokens, 16, 144, &self->seq),
		  16);
	mt_check(t);
	mm_space_destroy(t->mm, self->b, m);
	mt_drain(t);
	mt_check(t);
}

TEST_F(prefix, maps_no_more_than_it_is_asked_for)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64), m;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	m = mt_space(t, self->b, self->geom);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 63, &self->seq), 63);
	mt_check(t);
}

TEST_F(prefix, a_longer_publication_replaces_a_tail)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 20), m;
	struct mm_usage u;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 20, &self->seq), 20);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.cache_nodes, 2);
	ASSERT_EQ(mt_reserve(t, self->a, s, 20, 20, 0, NULL), 0);
	set_len(t, self->a, s, 40);
	mt_complete_all(t, self->a);
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 16, 40, &self->seq), 40);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.cache_nodes, 3);
	m = mt_space(t, self->b, self->geom);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 100, &self->seq), 40);
	mt_check(t);
}

TEST_F(prefix, the_same_tokens_are_kept_once)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64);
	u32 u = computed(t, self->b, self->geom, 64);
	struct mm_client_info ci;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	ASSERT_EQ(publish(t, self->b, u, self->tokens, 0, 64, &self->seq), 64);
	EXPECT_EQ(t->nr_copied, 4);
	mt_complete_all(t, self->b);
	ASSERT_EQ(mm_client_info(t->mm, self->b, &ci), 0);
	EXPECT_EQ(ci.frame_bytes, 0);
	mt_check(t);
}

TEST_F(prefix, a_page_that_is_copied_is_found_later)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 32), m;

	t->hold_copies = true;
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 32, &self->seq), 32);
	m = mt_space(t, self->b, self->geom);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 32, &self->seq), 0);
	mt_check(t);
	mt_copy_answer(t, 0);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 32, &self->seq), 32);
	mt_check(t);
}

TEST_F(prefix, what_would_be_mapped_is_told_and_what_will_be)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 40), m;
	struct mm_found f;

	m = mt_space(t, self->b, self->geom);
	ASSERT_EQ(mm_prefix_find(t->mm, self->b, m, self->tokens, 64, &f), 0);
	EXPECT_EQ(f.len + f.soon + f.known, 0);
	t->hold_copies = true;
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 40, &self->seq), 40);
	ASSERT_EQ(mm_prefix_find(t->mm, self->b, m, self->tokens, 64, &f), 0);
	EXPECT_EQ(f.len, 0);
	EXPECT_EQ(f.soon, 40);
	EXPECT_EQ(f.known, 40);
	mt_copy_answer(t, 0);
	ASSERT_EQ(mm_prefix_find(t->mm, self->b, m, self->tokens, 37, &f), 0);
	EXPECT_EQ(f.len, 37);
	self->tokens[20]++;
	ASSERT_EQ(mm_prefix_find(t->mm, self->b, m, self->tokens, 64, &f), 0);
	EXPECT_EQ(f.len, 20);
	EXPECT_EQ(f.known, 20);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 64, &self->seq), 20);
	EXPECT_EQ(mm_prefix_find(t->mm, self->b, m, self->tokens, 64, &f),
		  -EINVAL);
	mt_check(t);
}

TEST_F(prefix, a_failed_copy_is_made_up_for_by_the_next)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 32), m, u;

	t->copy_err = -EIO;
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 32, &self->seq), 32);
	m = mt_space(t, self->b, self->geom);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 32, &self->seq), 0);
	mt_check(t);
	t->copy_err = 0;
	u = computed(t, self->b, self->geom, 32);
	ASSERT_EQ(publish(t, self->b, u, self->tokens, 0, 32, &self->seq), 32);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 32, &self->seq), 32);
	mt_check(t);
}

TEST_F(prefix, rows_are_not_written_while_they_are_copied)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 32), entry;
	struct mt_resv r;

	t->hold_copies = true;
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 32, &self->seq), 32);
	entry = kv_pte_frame(mt_pte(t, self->a, s, 0, 1));
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, s, 20), 0);
	set_len(t, self->a, s, 20);
	ASSERT_EQ(mt_reserve(t, self->a, s, 20, 5, 0, &r), 1);
	EXPECT_EQ(r.copies[0].src, entry);
	EXPECT_EQ(r.copies[0].tokens, 4);
	mt_check(t);
	mt_complete_all(t, self->a);
	mt_check(t);
	mt_copy_answer(t, 0);
	mt_check(t);
}

/* It held the old page for ever, and could publish nothing any more. */
TEST_F(prefix, who_goes_on_with_other_tokens_in_a_page_publishes_them)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64), m;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, s, 40), 0);
	set_len(t, self->a, s, 40);
	ASSERT_GE(mt_reserve(t, self->a, s, 40, 24, 0, NULL), 0);
	set_len(t, self->a, s, 64);
	mt_complete_all(t, self->a);
	self->tokens[41]++;
	EXPECT_EQ(publish(t, self->a, s, self->tokens, 32, 64, &self->seq), 64);
	mt_check(t);
	m = mt_space(t, self->b, self->geom);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 1000, &self->seq), 64);
	mt_check(t);
}

TEST_F(prefix, the_death_of_a_publisher_waits_for_the_copies)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 32), m;
	struct mm_client_info ci;

	t->hold_copies = true;
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 32, &self->seq), 32);
	mm_client_exit(t->mm, self->a);
	mm_client_gone(t->mm, self->a);
	mt_drain(t);
	mt_check(t);
	EXPECT_EQ(mm_client_info(t->mm, self->a, &ci), 0);
	mt_copy_answer(t, 0);
	mt_drain(t);
	EXPECT_EQ(mm_client_info(t->mm, self->a, &ci), -ENOENT);
	m = mt_space(t, self->b, self->geom);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 32, &self->seq), 32);
	mt_check(t);
}

TEST_F(prefix, what_nobody_maps_gives_way_and_what_is_mapped_stays)
{
	struct mt *t = &self->t;
	u32 s, m, i, nr = 0, other[1024];
	struct mm_counts n;

	s = computed(t, self->a, self->geom, 256);
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 256, &self->seq),
		  256);
	m = mt_space(t, self->b, self->geom);
	ASSERT_EQ(map(t, self->b, m, self->tokens, 128, &self->seq), 128);
	kv_step_mark(&t->cl[self->b].status->space[m], 1); /* a step runs */
	ASSERT_EQ(mm_space_destroy(t->mm, self->a, s), 0);
	for (i = 0; i < 1024; i++)
		other[i] = 5000 + i;
	s = computed(t, self->a, self->geom, 256);
	ASSERT_EQ(publish(t, self->a, s, other, 0, 256, &self->seq), 256);
	ASSERT_EQ(mm_space_destroy(t->mm, self->a, s), 0);
	mt_complete_all(t, self->a);
	mt_check(t);
	/* 16 extents; 2 of the cache, and the rest is wanted. */
	s = mt_space(t, self->a, self->geom);
	while (mt_reserve(t, self->a, s, nr * 256, 256, 0, NULL) == 0) {
		nr++;
		mt_complete_all(t, self->a);
	}
	EXPECT_GE(nr, 14);
	mm_counts_get(t->mm, &n);
	EXPECT_GE(n.prefix_evicted, 16);
	for (i = 0; i < 8; i++)
		EXPECT_TRUE(kv_pte_can(mt_pte(t, self->b, m, 0, i), 0));
	mt_check(t);
}

TEST_F(prefix, idle_spaces_give_their_prefixes_up_in_the_end)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 512), m;
	struct mt_resv r;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 512, &self->seq),
		  512);
	m = mt_space(t, self->b, self->geom);
	ASSERT_EQ(map(t, self->b, m, self->tokens, 512, &self->seq), 512);
	set_len(t, self->b, m, 512);
	ASSERT_EQ(mm_space_destroy(t->mm, self->a, s), 0);
	mt_complete_all(t, self->a);
	s = mt_space(t, self->a, self->geom);
	/* All of the device but for what is on its way. */
	EXPECT_EQ(mt_reserve(t, self->a, s, 0, 15 * 256, 0, NULL), 0);
	mt_check(t);
	mt_complete_all(t, self->a);
	ASSERT_EQ(mm_space_destroy(t->mm, self->a, s), 0);
	mt_complete_all(t, self->a);
	EXPECT_EQ(mt_reserve(t, self->b, m, 512, 1, 0, &r), -ENODATA);
	EXPECT_EQ(r.extra, ((u64)m << 32) + 1);
	mt_check(t);
}

/* A prefix that b has mapped, and has just ended a step with. */
static u32 at_work(struct prefix_self *self)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 512), m;

	EXPECT_EQ(publish(t, self->a, s, self->tokens, 0, 512, &self->seq),
		  512);
	m = mt_space(t, self->b, self->geom);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 512, &self->seq), 512);
	set_len(t, self->b, m, 512);
	EXPECT_EQ(mm_space_destroy(t->mm, self->a, s), 0);
	mt_complete_all(t, self->a);
	EXPECT_EQ(mt_reserve(t, self->b, m, 512, 1, 0, NULL), 0);
	kv_step_mark(&t->cl[self->b].status->space[m], t->cl[self->b].step);
	mt_complete_all(t, self->b);
	return m;
}

/* Two that fit one at a time would take it from each other between steps. */
TEST_F(prefix, who_is_at_work_keeps_its_prefix)
{
	struct mt *t = &self->t;
	u32 m = at_work(self), s, i;

	s = mt_space(t, self->a, self->geom);
	EXPECT_EQ(mt_reserve(t, self->a, s, 0, 14 * 256, 0, NULL), -EAGAIN);
	for (i = 0; i < 32; i++)
		EXPECT_TRUE(kv_pte_is_present(mt_pte(t, self->b, m, 0, i)));
	mt_check(t);
	/* for a while now it has not done anything */
	mm_tick(t->mm, 1000000000ull);
	EXPECT_EQ(mt_reserve(t, self->a, s, 0, 14 * 256, 0, NULL), 0);
	EXPECT_FALSE(kv_pte_is_present(mt_pte(t, self->b, m, 0, 0)));
	mt_check(t);
}

TEST_F(prefix, who_stays_within_its_low_takes_it_all_the_same)
{
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE,
				 .low_bytes = 14ull * KV_EXTENT_SIZE };
	struct mt *t = &self->t;
	u32 m = at_work(self), tenant = mt_tenant(t, "low", MM_LIMIT_NONE), c;

	ASSERT_EQ(mm_tenant_limit(t->mm, tenant, &lim), 0);
	c = mt_attach(t, tenant);
	mt_geom(t, c, MT_PAGE);
	EXPECT_EQ(mt_reserve(t, c, mt_space(t, c, 0), 0, 14 * 256, 0, NULL), 0);
	EXPECT_FALSE(kv_pte_is_present(mt_pte(t, self->b, m, 0, 0)));
	mt_check(t);
}

TEST_F(prefix, another_tenant_finds_nothing)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64), m, c;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	c = mt_attach(t, mt_tenant(t, "other", MM_LIMIT_NONE));
	m = mt_space(t, c, mt_geom(t, c, MT_PAGE));
	EXPECT_EQ(map(t, c, m, self->tokens, 64, &self->seq), 0);
	mt_check(t);
}

TEST_F(prefix, another_salt_finds_nothing)
{
	struct mt *t = &self->t;
	struct kv_space_args args = { .nr_areas = 1, .ns = { .salt = 7 } };
	u32 s = computed(t, self->a, self->geom, 64);
	int m;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	args.area[0].geom = self->geom;
	m = mm_space_create(t->mm, self->b, &args);
	ASSERT_GE(m, 0);
	EXPECT_EQ(map(t, self->b, (u32)m, self->tokens, 64, &self->seq), 0);
	mt_check(t);
}

TEST_F(prefix, what_was_cut_off_has_to_be_published_from_the_start)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64);

	EXPECT_EQ(publish(t, self->a, s, self->tokens, 16, 64, &self->seq),
		  -ENODATA);
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	ASSERT_EQ(mm_space_truncate(t->mm, self->a, s, 20), 0);
	set_len(t, self->a, s, 20);
	EXPECT_EQ(publish(t, self->a, s, self->tokens, 32, 64, &self->seq),
		  -ENODATA);
	EXPECT_EQ(publish(t, self->a, s, self->tokens, 8, 64, &self->seq),
		  -EINVAL);
	EXPECT_EQ(publish(t, self->a, s, self->tokens, 16, 64, &self->seq), 20);
	mt_check(t);
}

TEST_F(prefix, no_more_than_is_committed_is_published)
{
	struct mt *t = &self->t;
	u32 s = mt_space(t, self->a, self->geom), m;

	ASSERT_EQ(mt_reserve(t, self->a, s, 0, 64, 0, NULL), 0);
	set_len(t, self->a, s, 33);
	EXPECT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 33);
	m = mt_space(t, self->b, self->geom);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 64, &self->seq), 33);
	mt_check(t);
}

TEST_F(prefix, a_window_is_resumed_where_its_pages_are_kept)
{
	struct mt *t = &self->t;
	u32 wa = mt_geom(t, self->a, 64 << 10), wb, m, s;
	int rc;

	wb = mt_geom(t, self->b, 64 << 10);
	rc = mt_space2(t, self->a, self->geom, 0, wa, 32);
	ASSERT_GE(rc, 0);
	s = (u32)rc;
	ASSERT_EQ(mt_reserve(t, self->a, s, 0, 64, 0, NULL), 0);
	set_len(t, self->a, s, 64);
	mt_complete_all(t, self->a);
	ASSERT_EQ(mm_prefix_publish(t->mm, self->a, s, 0, self->tokens, 64,
				    false, &self->seq),
		  64);
	mt_drain(t);
	rc = mt_space2(t, self->b, self->geom, 0, wb, 32);
	ASSERT_GE(rc, 0);
	m = (u32)rc;
	EXPECT_EQ(map(t, self->b, m, self->tokens, 64, &self->seq), 0);
	/* In the same place again, and now to be gone on from. */
	ASSERT_EQ(mt_reserve(t, self->a, s, 64, 16, 0, NULL), 0);
	set_len(t, self->a, s, 80);
	mt_complete_all(t, self->a);
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 64, 80, &self->seq), 80);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 70, &self->seq), 0);
	ASSERT_EQ(map(t, self->b, m, self->tokens, 100, &self->seq), 80);
	EXPECT_FALSE(kv_pte_is_present(mt_pte(t, self->b, m, 1, 1)));
	EXPECT_TRUE(kv_pte_is_present(mt_pte(t, self->b, m, 1, 3)));
	EXPECT_TRUE(kv_pte_is_present(mt_pte(t, self->b, m, 0, 0)));
	mt_check(t);
}

TEST_F(prefix, a_window_that_found_no_room_is_asked_for_again)
{
	struct mt *t = &self->t;
	u32 wa = mt_geom(t, self->a, 2 << 20), wb, m, s, i;
	int rc;

	/* pages of which four fill an extent: there are not enough */
	wb = mt_geom(t, self->b, 2 << 20);
	rc = mt_space2(t, self->a, self->geom, 0, wa, 128);
	ASSERT_GE(rc, 0);
	s = (u32)rc;
	ASSERT_EQ(mt_reserve(t, self->a, s, 0, 128, 0, NULL), 0);
	set_len(t, self->a, s, 128);
	mt_complete_all(t, self->a);
	t->hold_memory = true;
	EXPECT_LT(publish(t, self->a, s, self->tokens, 0, 128, &self->seq),
		  128);
	rc = mt_space2(t, self->b, self->geom, 0, wb, 128);
	ASSERT_GE(rc, 0);
	m = (u32)rc;
	EXPECT_LT(map(t, self->b, m, self->tokens, 128, &self->seq), 128);
	ASSERT_EQ(mm_space_truncate(t->mm, self->b, m, 0), 0);
	mt_check(t);
	t->hold_memory = false;
	for (i = 0; i < 8; i++) {
		mt_answer(t, 0);
		mt_drain(t);
		rc = publish(t, self->a, s, self->tokens, 112, 128, &self->seq);
	}
	EXPECT_EQ(rc, 128);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 128, &self->seq), 128);
	mt_check(t);
}

/*
 * The end of a prompt is still being copied when the answer ends in the same
 * page: a page without the window there would hide the tail that has it.
 */
TEST_F(prefix, a_page_that_is_copied_hides_no_tail)
{
	struct mt *t = &self->t;
	u32 wa = mt_geom(t, self->a, 64 << 10), wb, m, s, i;
	int rc;

	wb = mt_geom(t, self->b, 64 << 10);
	rc = mt_space2(t, self->a, self->geom, 0, wa, 32);
	ASSERT_GE(rc, 0);
	s = (u32)rc;
	ASSERT_EQ(mt_reserve(t, self->a, s, 0, 40, 0, NULL), 0);
	set_len(t, self->a, s, 40);
	mt_complete_all(t, self->a);
	t->hold_copies = true;
	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 40, &self->seq), 40);
	/* the pages without a window are there first */
	for (i = 0; i < t->nr_copy; i++)
		if (!t->copy[i].area)
			mm_copy_done(t->mm, t->copy[i].node, 0, 0);
	ASSERT_EQ(mt_reserve(t, self->a, s, 40, 9, 0, NULL), 0);
	set_len(t, self->a, s, 49);
	mt_complete_all(t, self->a);
	rc = publish(t, self->a, s, self->tokens, 32, 49, &self->seq);
	EXPECT_LE(rc, 32);
	for (i = 0; i < t->nr_copy; i++)
		if (t->copy[i].area)
			mm_copy_done(t->mm, t->copy[i].node, 1, 0);
	t->nr_copy = 0;
	t->hold_copies = false;
	mt_check(t);
	rc = mt_space2(t, self->b, self->geom, 0, wb, 32);
	ASSERT_GE(rc, 0);
	m = (u32)rc;
	EXPECT_EQ(map(t, self->b, m, self->tokens, 40, &self->seq), 40);
	ASSERT_EQ(mm_space_truncate(t->mm, self->b, m, 0), 0);
	/* what was left out is made up for */
	EXPECT_EQ(publish(t, self->a, s, self->tokens, 32, 49, &self->seq), 49);
	EXPECT_EQ(map(t, self->b, m, self->tokens, 60, &self->seq), 49);
	mt_check(t);
}

TEST_F(prefix, the_cache_outlives_its_clients_and_can_be_dropped)
{
	struct mt *t = &self->t;
	u32 s = computed(t, self->a, self->geom, 64), tenant, c, m;
	struct mm_usage u;

	ASSERT_EQ(publish(t, self->a, s, self->tokens, 0, 64, &self->seq), 64);
	mm_client_gone(t->mm, self->a);
	mm_client_gone(t->mm, self->b);
	mt_drain(t);
	mt_check(t);
	tenant = mt_tenant(t, "a", MM_LIMIT_NONE);
	c = mt_attach(t, tenant);
	m = mt_space(t, c, mt_geom(t, c, MT_PAGE));
	EXPECT_EQ(map(t, c, m, self->tokens, 64, &self->seq), 64);
	mt_check(t);
	EXPECT_EQ(mm_cache_drop(t->mm, tenant, false), 0);
	ASSERT_EQ(mm_space_destroy(t->mm, c, m), 0);
	EXPECT_EQ(mm_cache_drop(t->mm, tenant, false), 4 * MT_PAGE);
	mt_drain(t);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.cache_nodes, 0);
	EXPECT_EQ(u.held_bytes, 0);
	mt_check(t);
}

TEST_HARNESS_MAIN
