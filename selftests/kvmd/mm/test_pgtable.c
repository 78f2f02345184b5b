/* SPDX-License-Identifier: MIT */
/*
 * test_pgtable.c - leaves come when needed and go when empty
 */
#include "selftests/kvmd/mm/mmtest.h"

#define LEAF_TOKENS (KV_LEAF_PTES * 16)

FIXTURE(pgtable)
{
	struct mt t;
	u32 client, geom;
};

FIXTURE_SETUP(pgtable)
{
	mt_init(&self->t, 64, 2);
	self->client =
		mt_attach(&self->t, mt_tenant(&self->t, "a", MM_LIMIT_NONE));
	self->geom = mt_geom(&self->t, self->client, 4096);
}

FIXTURE_TEARDOWN(pgtable)
{
	mt_fini(&self->t);
}

static u32 leaves(struct mt *t, u32 client)
{
	struct mm_client_info ci = { 0 };

	EXPECT_EQ(mm_client_info(t->mm, client, &ci), 0);
	return ci.nr_leaves;
}

TEST_F(pgtable, a_leaf_covers_512_pages)
{
	struct mt *t = &self->t;
	u32 s = mt_space(t, self->client, self->geom);

	EXPECT_EQ(leaves(t, self->client), 0);
	ASSERT_EQ(mt_reserve(t, self->client, s, 0, LEAF_TOKENS, 0, NULL), 0);
	EXPECT_EQ(leaves(t, self->client), 1);
	ASSERT_EQ(mt_reserve(t, self->client, s, LEAF_TOKENS, 1, 0, NULL), 0);
	EXPECT_EQ(leaves(t, self->client), 2);
	EXPECT_GE(t->cl[self->client].table->nr_leaves, 2);
	mt_check(t);
	ASSERT_EQ(mm_space_truncate(t->mm, self->client, s, LEAF_TOKENS), 0);
	EXPECT_EQ(leaves(t, self->client), 1);
	ASSERT_EQ(mm_space_destroy(t->mm, self->client, s), 0);
	EXPECT_EQ(leaves(t, self->client), 0);
	mt_check(t);
}

TEST_F(pgtable, a_leaf_used_again_is_empty)
{
	struct mt *t = &self->t;
	u32 a = mt_space(t, self->client, self->geom), b, i;

	ASSERT_EQ(mt_reserve(t, self->client, a, 0, 1600, 0, NULL), 0);
	ASSERT_EQ(mm_space_destroy(t->mm, self->client, a), 0);
	b = mt_space(t, self->client, self->geom);
	ASSERT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, NULL), 0);
	EXPECT_TRUE(kv_pte_is_present(mt_pte(t, self->client, b, 0, 0)));
	for (i = 1; i < KV_LEAF_PTES; i++)
		EXPECT_EQ(mt_pte(t, self->client, b, 0, i), 0);
	mt_check(t);
}

TEST_F(pgtable, the_last_page_of_the_table_can_be_used)
{
	struct mt *t = &self->t;
	u32 s = mt_space(t, self->client, self->geom);
	u64 cap = (u64)KV_AREA_PAGES * 16, pos;

	for (pos = 0; pos < cap; pos += cap / 8)
		ASSERT_EQ(mt_reserve(t, self->client, s, pos, (u32)(cap / 8), 0,
				     NULL),
			  0);
	EXPECT_EQ(leaves(t, self->client), KV_AREA_LEAVES);
	EXPECT_EQ(mt_reserve(t, self->client, s, cap, 1, 0, NULL), -E2BIG);
	EXPECT_EQ(mt_reserve(t, self->client, s, cap - 1, 2, 0, NULL), -E2BIG);
	EXPECT_EQ(mt_reserve(t, self->client, s, cap - 1, 1, 0, NULL), 0);
	mt_check(t);
}

TEST_F(pgtable, a_window_that_moves_on_drops_leaves_behind_it)
{
	struct mt *t = &self->t;
	int s = mt_space2(t, self->client, self->geom, 64, MM_NONE, 0);
	u64 pos;

	ASSERT_GE(s, 0);
	for (pos = 0; pos < 3 * LEAF_TOKENS; pos += 512) {
		ASSERT_EQ(
			mt_reserve(t, self->client, (u32)s, pos, 512, 0, NULL),
			0);
		mt_complete_all(t, self->client);
	}
	EXPECT_LE(leaves(t, self->client), 2);
	mt_check(t);
}

/* Make the n-th table_grow fail, for each n: all or nothing each time. */
TEST_F(pgtable, a_table_that_cannot_grow_changes_nothing)
{
	struct mt *t = &self->t;
	struct mm_usage before, after;
	u32 n, space[80], i, fails = 0;
	int rc;

	for (n = 1; n <= 3; n++) {
		t->grow_fail_in = n;
		for (i = 0; i < 80; i++) {
			space[i] = mt_space(t, self->client, self->geom);
			mm_usage_get(t->mm, &before);
			rc = mt_reserve(t, self->client, space[i], 0,
					LEAF_TOKENS / 4, 0, NULL);
			if (!rc)
				continue;
			EXPECT_EQ(rc, -ENOMEM);
			mm_usage_get(t->mm, &after);
			EXPECT_EQ(after.frame_bytes, before.frame_bytes);
			mt_check(t);
			fails++;
		}
		t->grow_fail_in = 1;
		for (i = 0; i < 80; i++) {
			rc = mm_space_fork(t->mm, self->client, space[0],
					   LEAF_TOKENS / 4);
			fails += rc == -ENOMEM;
			if (rc >= 0)
				mm_space_destroy(t->mm, self->client, (u32)rc);
		}
		mt_check(t);
		t->grow_fail_in = 0;
		for (i = 0; i < 80; i++)
			mm_space_destroy(t->mm, self->client, space[i]);
		mt_complete_all(t, self->client);
		mt_check(t);
	}
	EXPECT_GE(fails, 1);
}

TEST_F(pgtable, an_entry_that_somebody_scribbled_over_leads_nowhere)
{
	struct mt *t = &self->t;
	u32 s = mt_space(t, self->client, self->geom), i;
	struct kv_table_hdr *table = t->cl[self->client].table;
	struct kv_leaf *leaf;
	struct mm_counts c;

	ASSERT_EQ(mt_reserve(t, self->client, s, 0, 160, 0, NULL), 0);
	leaf = kv_table_leaf(table, kv_table_space(table, s)->area[0].leaf[0]);
	for (i = 0; i < KV_LEAF_PTES; i++)
		leaf->pte[i] = 0xffffffffffffffffull >> (i % 64);
	memset(kv_table_space(table, s), 0xff, sizeof(struct kv_space_desc));
	mm_space_fork(t->mm, self->client, s, 160);
	mt_reserve(t, self->client, s, 0, 160, 0, NULL);
	mm_space_truncate(t->mm, self->client, s, 3);
	mm_space_destroy(t->mm, self->client, s);
	mt_drain(t);
	mm_counts_get(t->mm, &c);
	EXPECT_GT(c.invalid, 0);
	mm_client_gone(t->mm, self->client);
	mt_drain(t);
	mt_check(t);
}

TEST_HARNESS_MAIN
