/* SPDX-License-Identifier: MIT */
/*
 * test_check.c - the fsck finds what is wrong and says where
 */
#include "selftests/kvmd/mm/mmtest.h"
#include "kvmd/mm/slab.h"

FIXTURE(check)
{
	struct mt t;
	u32 client, geom, space, child;
	struct client *c;
};

FIXTURE_SETUP(check)
{
	struct mt *t = &self->t;
	int rc;

	mt_init(t, 8, 1);
	self->client = mt_attach(t, mt_tenant(t, "a", MM_LIMIT_NONE));
	self->geom = mt_geom(t, self->client, 48 * 1024);
	self->space = mt_space(t, self->client, self->geom);
	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 160, 0, NULL), 0);
	rc = mm_space_fork(t->mm, self->client, self->space, 64);
	ASSERT_GE(rc, 0);
	self->child = (u32)rc;
	self->c = &mm_clients(t->mm)[self->client];
	mt_check(t);
}

FIXTURE_TEARDOWN(check)
{
	mt_fini(&self->t);
}

static kv_pte_t *pte(struct check_self *self, u32 space, u32 page)
{
	struct kv_table_hdr *table = self->t.cl[self->client].table;
	u32 leaf = kv_table_space(table, space)->area[0].leaf[0];

	return &kv_table_leaf(table, leaf)->pte[page];
}

static char said[256];

static void remember(void *ctx, const char *sentence)
{
	(void)ctx;
	if (!said[0])
		snprintf(said, sizeof(said), "%s", sentence);
}

/* A fault is found, and the first sentence has @word in it. */
static void expect_fault(struct mt *t, const char *word)
{
	said[0] = '\0';
	EXPECT_GT(mm_check(t->mm, remember, NULL), 0);
	EXPECT_TRUE(strstr(said, word) != NULL);
	if (!strstr(said, word))
		TH_LOG("said: %s", said);
	EXPECT_GT(mm_check(t->mm, NULL, NULL), 0);
}

TEST_F(check, a_lost_reference)
{
	u32 f = frame_find(self->t.mm, self->client, self->geom,
			   &self->c->cls[0], kv_pte_frame(*pte(self, 0, 0)));

	ASSERT_NE(f, MM_NONE);
	mm_frames(self->t.mm)[f].refs++;
	expect_fault(&self->t, "references of frame");
}

TEST_F(check, an_entry_that_points_elsewhere)
{
	*pte(self, self->space, 5) += 1;
	expect_fault(&self->t, "page 5");
}

TEST_F(check, a_writable_page_that_is_shared)
{
	*pte(self, self->child, 1) |= KV_PTE_WRITE;
	expect_fault(&self->t, "writable");
}

TEST_F(check, an_entry_outside_of_its_area)
{
	*pte(self, self->space, 100) = KV_PTE_PRESENT;
	expect_fault(&self->t, "outside");
}

TEST_F(check, two_pages_in_one_frame)
{
	*pte(self, self->space, 6) = *pte(self, self->space, 7);
	expect_fault(&self->t, "mapped by");
}

TEST_F(check, a_generation_that_differs)
{
	kv_table_space(self->t.cl[self->client].table, self->space)->gen++;
	expect_fault(&self->t, "generation");
}

TEST_F(check, a_leaf_nobody_owns)
{
	bitmap_set(self->c->leaf_map, 50);
	expect_fault(&self->t, "leaf map");
}

TEST_F(check, counts_that_are_off_by_one)
{
	struct mm *mm = self->t.mm;

	self->c->cls[0].nr_free++;
	expect_fault(&self->t, "free frames");
	self->c->cls[0].nr_free--;
	self->c->nr_spaces++;
	expect_fault(&self->t, "spaces");
	self->c->nr_spaces--;
	mm->tenants[self->c->tenant].held += KV_EXTENT_SIZE;
	expect_fault(&self->t, "held");
	mm->tenants[self->c->tenant].held -= KV_EXTENT_SIZE;
	mm->charged++;
	expect_fault(&self->t, "charged");
	mm->charged--;
	self->c->cls[0].nr_extra--;
	expect_fault(&self->t, "extra");
	self->c->cls[0].nr_extra++;
	mt_check(&self->t);
}

TEST_F(check, an_extent_with_a_wrong_owner)
{
	u32 e = self->c->extents[0].first, i;

	for (i = 0; i <= EXTENT_ALL_FREE && e == ILIST_NONE; i++)
		e = self->c->extents[i].first;
	ASSERT_NE(e, ILIST_NONE);
	mm_extents(self->t.mm)[e].client = 700;
	expect_fault(&self->t, "owner 700");
}

TEST_HARNESS_MAIN
