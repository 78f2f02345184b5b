/* SPDX-License-Identifier: MIT */
/*
 * test_growing.c - announcements: the longest common one of others, to the page
 */
#include <string.h>

#include "kvmd/ipc/growing.h"
#include "selftests/harness.h"

FIXTURE(growing)
{
	struct growing g;
	struct mm_found f;
	u32 ids[256];
};

FIXTURE_SETUP(growing)
{
	u32 i;

	self->f = (struct mm_found){ .key = 7, .page_shift = 4 };
	for (i = 0; i < 256; i++)
		self->ids[i] = i;
}

FIXTURE_TEARDOWN(growing)
{
	u32 i;

	for (i = 0; i < 8; i++)
		growing_drop(&self->g, i, MM_NONE);
	EXPECT_EQ(self->g.nr, 0);
}

TEST_F(growing, others_are_told_of_whole_pages_in_common)
{
	struct growing *g = &self->g;
	struct mm_found f = self->f;
	u32 cut;

	growing_add(g, 1, 5, &f, self->ids, 200);
	EXPECT_EQ(growing_find(g, 1, &f, self->ids, 256), 0); /* its own */
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 256), 192);
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 100), 96);
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 15), 0);
	for (cut = 0; cut < 200; cut += 7) {
		self->ids[cut] += 1000;
		EXPECT_EQ(growing_find(g, 2, &f, self->ids, 256),
			  min(cut / 16 * 16, 192u));
		self->ids[cut] -= 1000;
	}
	f.key++;
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 256), 0);
}

TEST_F(growing, with_windows_what_can_be_gone_on_from_counts)
{
	struct growing *g = &self->g;
	struct mm_found f = self->f;

	f.window = 30; /* two pages: kept whole up to 64, then after 128 */
	growing_add(g, 1, 5, &f, self->ids, 200);
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 40), 32);
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 70), 64);
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 127), 64);
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 150), 128);
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 256), 192);
	growing_add(g, 3, 5, &f, self->ids, 100);
	EXPECT_EQ(growing_find(g, 2, &f, self->ids, 100), 96);
}

/* A client may say any window. */
TEST_F(growing, a_window_of_any_size_is_counted_in_time)
{
	static const u32 windows[] = { 1, 0x80000000u, 0xfffffff1u, ~0u };
	struct growing *g = &self->g;
	struct mm_found f = self->f;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(windows); i++) {
		f.window = windows[i];
		f.page_shift = 4 * (i != 1);
		growing_add(g, 1, 5, &f, self->ids, 200);
		EXPECT_EQ(growing_find(g, 2, &f, self->ids, 40),
			  i == 1 ? 40 : 32);
	}
}

TEST_F(growing, who_begins_says_so_unless_others_are_at_it)
{
	struct growing *g = &self->g;
	struct mm_found f = self->f;

	EXPECT_EQ(growing_ask(g, 1, 5, &f, self->ids, 200, false), 0);
	EXPECT_EQ(g->nr, 0);
	EXPECT_EQ(growing_ask(g, 1, 5, &f, self->ids, 200, true), 0);
	EXPECT_EQ(g->nr, 1);
	EXPECT_EQ(growing_ask(g, 2, 6, &f, self->ids, 256, true), 192);
	EXPECT_EQ(g->nr, 1);
	/* a page of another one's is not worth waiting for */
	EXPECT_EQ(growing_ask(g, 3, 7, &f, self->ids, 20, true), 16);
	EXPECT_EQ(g->nr, 2);
	/* what is there counts with what will be */
	f.len = 100;
	f.soon = 230;
	EXPECT_EQ(growing_ask(g, 4, 8, &f, self->ids, 256, true), 230);
	EXPECT_EQ(g->nr, 2);
}

TEST_F(growing, an_announcement_ends)
{
	struct growing *g = &self->g;
	const struct mm_found *f = &self->f;

	growing_add(g, 1, 5, f, self->ids, 200);
	growing_add(g, 1, 6, f, self->ids, 100);
	growing_published(g, 1, 5, 199);
	EXPECT_EQ(growing_find(g, 2, f, self->ids, 256), 192);
	growing_published(g, 1, 5, 200);
	EXPECT_EQ(growing_find(g, 2, f, self->ids, 256), 96);
	growing_drop(g, 1, 6);
	EXPECT_EQ(growing_find(g, 2, f, self->ids, 256), 0);
	growing_add(g, 1, 5, f, self->ids, 200);
	growing_add(g, 1, 6, f, self->ids, 100);
	growing_add(g, 3, 1, f, self->ids, 64);
	growing_drop(g, 1, MM_NONE);
	EXPECT_EQ(growing_find(g, 2, f, self->ids, 256), 64);
}

TEST_F(growing, no_more_are_kept_than_there_is_room_for)
{
	struct growing *g = &self->g;
	u32 i;

	for (i = 0; i < GROWING_MAX + 3; i++)
		growing_add(g, 1, i, &self->f, self->ids, 64);
	EXPECT_EQ(g->nr, GROWING_MAX);
	/* one of a space that has one takes its place */
	growing_add(g, 1, 9, &self->f, self->ids, 128);
	EXPECT_EQ(g->nr, GROWING_MAX);
	EXPECT_EQ(growing_find(g, 2, &self->f, self->ids, 256), 128);
}

TEST_HARNESS_MAIN
