/* SPDX-License-Identifier: MIT */
/*
 * test_slab.c - frames in runs of chunks
 */
#include "selftests/kvmd/mm/mmtest.h"
#include "kvmd/mm/slab.h"

FIXTURE(slab)
{
	struct mt t;
	u32 client;
};

FIXTURE_SETUP(slab)
{
	mt_init(&self->t, 64, 4);
	self->client =
		mt_attach(&self->t, mt_tenant(&self->t, "a", MM_LIMIT_NONE));
}

FIXTURE_TEARDOWN(slab)
{
	mt_fini(&self->t);
}

TEST_F(slab, the_shortest_run_that_wastes_under_two_percent_is_taken)
{
	static const struct {
		u32 kib, chunks, pages, unit_kib;
	} want[] = {
		{ 48, 1, 42, 16 },    { 240, 2, 17, 16 },   { 448, 2, 9, 64 },
		{ 4, 1, 512, 4 },     { 2048, 1, 1, 2048 }, { 1536, 4, 5, 512 },
		{ 8192, 4, 1, 2048 }, { 3072, 4, 2, 1024 },
	};
	struct kv_geometry g;
	u32 i, id;

	for (i = 0; i < ARRAY_SIZE(want); i++) {
		g = mt_geometry(want[i].kib * 1024);
		g.head_dim = 16;
		g.v_offset = 32;
		ASSERT_EQ(mm_geom_add(self->t.mm, self->client, &g, &id), 0);
		EXPECT_EQ(g.slab_chunks, want[i].chunks);
		EXPECT_EQ(g.slab_pages, want[i].pages);
		EXPECT_EQ(g.unit_bytes, want[i].unit_kib * 1024);
	}
}

TEST_F(slab, entries_and_frames_translate_both_ways)
{
	struct mt *t = &self->t;
	struct client *c = &mm_clients(t->mm)[self->client];
	u32 geom = mt_geom(t, self->client, 240 * 1024);
	u32 space = mt_space(t, self->client, geom);
	u32 i, entry, frame, found = 0;

	ASSERT_EQ(mt_reserve(t, self->client, space, 0, 34 * 16, 0, NULL), 0);
	for (i = 0; i < 34; i++) {
		entry = kv_pte_frame(mt_pte(t, self->client, space, 0, i));
		frame = frame_find(t->mm, self->client, geom, &c->cls[geom],
				   entry);
		ASSERT_NE(frame, MM_NONE);
		EXPECT_EQ(frame_entry(t->mm, &c->cls[geom], frame), entry);
		EXPECT_EQ(mm_frames(t->mm)[frame].page, i);
		/* 240 KiB are 15 units: nothing begins in between. */
		EXPECT_EQ(frame_find(t->mm, self->client, geom, &c->cls[geom],
				     entry + 1),
			  MM_NONE);
		EXPECT_EQ(frame_find(t->mm, self->client + 1, geom,
				     &c->cls[geom], entry),
			  MM_NONE);
	}
	for (entry = 0; entry < 64u << 9; entry++)
		found += frame_find(t->mm, self->client, geom, &c->cls[geom],
				    entry) != MM_NONE;
	EXPECT_EQ(found, 34);
	EXPECT_EQ(frame_find(t->mm, self->client, geom, &c->cls[geom], ~0u),
		  MM_NONE);
}

TEST_F(slab, geometries_of_one_client_share_its_extents)
{
	struct mt *t = &self->t;
	u32 a = mt_geom(t, self->client, 48 * 1024);
	u32 b = mt_geom(t, self->client, 240 * 1024);
	struct mm_client_info ci;
	int space = mt_space2(t, self->client, a, 0, b, 0);

	/* Two chunks of 42 and one pair of 17: four chunks, one extent. */
	ASSERT_GE(space, 0);
	ASSERT_EQ(mt_reserve(t, self->client, (u32)space, 0, 17 * 16, 0, NULL),
		  0);
	space = (int)mt_space(t, self->client, a);
	ASSERT_EQ(mt_reserve(t, self->client, (u32)space, 0, 60 * 16, 0, NULL),
		  0);
	mm_client_info(t->mm, self->client, &ci);
	EXPECT_EQ(ci.nr_extents, 1);
	EXPECT_EQ(ci.frame_bytes, (17 + 60) * 48 * 1024 + 17 * 240 * 1024);
	mt_check(t);
}

TEST_F(slab, the_fullest_is_used_first_so_that_others_run_out)
{
	struct mt *t = &self->t;
	u32 geom = mt_geom(t, self->client, 48 * 1024), s[3], i, entry;
	struct kv_geometry g = *mm_geom(t->mm, self->client, geom);
	u32 per_chunk = KV_CHUNK_SIZE / g.unit_bytes;
	u32 chunk0, chunk1;

	for (i = 0; i < 3; i++)
		s[i] = mt_space(t, self->client, geom);
	/* Slab 0: 42 of s0; slab 1: 10 of s1. Then 4 of slab 0 come free. */
	ASSERT_EQ(mt_reserve(t, self->client, s[0], 0, 42 * 16, 0, NULL), 0);
	ASSERT_EQ(mt_reserve(t, self->client, s[1], 0, 10 * 16, 0, NULL), 0);
	mt_complete_all(t, self->client);
	ASSERT_EQ(mm_space_truncate(t->mm, self->client, s[0], 38 * 16), 0);
	chunk0 = kv_pte_frame(mt_pte(t, self->client, s[0], 0, 0)) / per_chunk;
	chunk1 = kv_pte_frame(mt_pte(t, self->client, s[1], 0, 0)) / per_chunk;
	EXPECT_NE(chunk0, chunk1);
	ASSERT_EQ(mt_reserve(t, self->client, s[2], 0, 4 * 16, 0, NULL), 0);
	for (i = 0; i < 4; i++) {
		entry = kv_pte_frame(mt_pte(t, self->client, s[2], 0, i));
		EXPECT_EQ(entry / per_chunk, chunk0);
	}
	mt_check(t);
}

TEST_F(slab, what_would_be_short_is_counted_exactly)
{
	struct mt *t = &self->t;
	struct client *c = &mm_clients(t->mm)[self->client];
	u32 need[KV_GEOM_MAX], before, g[3], i, k, want;
	u64 rng = 11;

	g[0] = mt_geom(t, self->client, 48 * 1024); /* runs of 1 */
	g[1] = mt_geom(t, self->client, 448 * 1024); /* of 2 */
	g[2] = mt_geom(t, self->client, 1536 * 1024); /* of 4 */
	for (i = 0; i < 300; i++) {
		memset(need, 0, sizeof(need));
		for (k = 0; k < 3; k++)
			need[g[k]] = (u32)(hash_random(&rng) % 24);
		want = slab_extents_short(c, need);
		if (want > 4)
			continue;
		before = c->nr_extents;
		slab_make(t->mm, c, need);
		ASSERT_EQ(c->nr_extents - before, want);
		for (k = 0; k < 3; k++)
			ASSERT_GE(c->cls[g[k]].nr_free, need[g[k]]);
		if (i % 3 == 0)
			slab_trim(t->mm, c);
		mt_drain(t);
		if (c->nr_extents > 40) {
			slab_trim(t->mm, c);
			mt_drain(t);
		}
	}
	slab_trim(t->mm, c);
	mt_drain(t);
	mt_check(t);
}

TEST_F(slab, pins_are_passed_in_order)
{
	struct mt *t = &self->t;
	u32 geom = mt_geom(t, self->client, 448 * 1024);
	u32 a = mt_space(t, self->client, geom);
	u32 b = mt_space(t, self->client, geom);
	struct client *c = &mm_clients(t->mm)[self->client];

	ASSERT_EQ(mt_reserve(t, self->client, a, 0, 16, 0, NULL), 0);
	ASSERT_EQ(mt_reserve(t, self->client, b, 0, 16, 0, NULL), 0);
	ASSERT_EQ(mm_space_destroy(t->mm, self->client, a), 0);
	ASSERT_EQ(mm_space_destroy(t->mm, self->client, b), 0);
	EXPECT_EQ(c->nr_leaving, 2);
	kv_step_end(&c->status->rank[0], 1);
	mm_tick(t->mm, 1);
	EXPECT_EQ(c->nr_leaving, 1);
	kv_step_end(&c->status->rank[0], 2);
	mm_tick(t->mm, 2);
	EXPECT_EQ(c->nr_leaving, 0);
	mt_drain(t);
	mt_check(t);
}

TEST_HARNESS_MAIN
