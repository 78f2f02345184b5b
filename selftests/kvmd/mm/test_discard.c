/* SPDX-License-Identifier: MIT */
/*
 * test_discard.c - what is discarded is no page's, then or before it is done
 *
 * san: address
 */
#include "kvmd/mm/state.h"
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

#define TIERS_UNITS ((8u << 20) / SLOT_UNIT + (16u << 20) / SLOT_UNIT)
#define RUNS	    4u
#define SPACES	    6u

struct model {
	struct mt t;
	u32 client, geom;
	u32 space[SPACES];
	bool live[SPACES];
	bool out[TIERS_UNITS]; /* being discarded */
	bool clean[TIERS_UNITS]; /* discarded, not written since */
	struct {
		u32 tier;
		u64 off, bytes;
	} run[RUNS];
	uint64_t seed;
};

static u32 unit_of(const struct model *m, u32 tier, u64 off)
{
	return m->t.mm->tier[tier].first + (u32)(off / SLOT_UNIT);
}

/* No slot lies in what is being discarded; what one lies in is not clean. */
static void look(struct model *m)
{
	const struct mm *mm = m->t.mm;
	u32 i, u, units = MT_PAGE / SLOT_UNIT, faults = 0;

	for (i = 0; i < mm->lay.nr_slots; i++) {
		if (mm_slots(mm)[i].state == SLOT_FREE)
			continue;
		for (u = i; u < i + units; u++) {
			faults += m->out[u];
			m->clean[u] = false;
		}
	}
	EXPECT_EQ(0, faults);
	mt_check(&m->t);
}

static void begin(struct model *m)
{
	u32 i = (u32)test_rand(&m->seed) % RUNS, u;
	u32 tier = (u32)test_rand(&m->seed) % 2;
	u64 least = (1 + test_rand(&m->seed) % 64) * SLOT_UNIT, off, n;
	u32 faults = 0;

	if (m->run[i].bytes)
		return;
	n = mm_discard_begin(m->t.mm, tier, least, 1 << 20, &off);
	if (!n)
		return;
	EXPECT_GE(n, least);
	EXPECT_LE(n, 1 << 20);
	m->run[i].tier = tier;
	m->run[i].off = off;
	m->run[i].bytes = n;
	for (u = unit_of(m, tier, off); n; n -= SLOT_UNIT, u++) {
		faults += m->out[u] || m->clean[u];
		m->out[u] = true;
	}
	EXPECT_EQ(0, faults);
}

static void done(struct model *m)
{
	u32 i = (u32)test_rand(&m->seed) % RUNS, u;
	u64 n = m->run[i].bytes;

	if (!n)
		return;
	for (u = unit_of(m, m->run[i].tier, m->run[i].off); n;
	     n -= SLOT_UNIT, u++) {
		m->out[u] = false;
		m->clean[u] = true;
	}
	mm_discard_done(m->t.mm, m->run[i].tier, m->run[i].off,
			m->run[i].bytes);
	m->run[i].bytes = 0;
}

/* Spaces come and go; those used longest ago leave for the others. */
static void step(struct model *m)
{
	u32 i = (u32)test_rand(&m->seed) % SPACES;

	mm_tick(m->t.mm, m->t.mm->now_ns + 1000);
	if (m->live[i]) {
		mm_space_destroy(m->t.mm, m->client, m->space[i]);
		m->live[i] = false;
		return;
	}
	m->space[i] = mt_space(&m->t, m->client, m->geom);
	m->live[i] = true;
	if (!mt_reserve(&m->t, m->client, m->space[i], 0,
			(1 + test_rand(&m->seed) % MT_PER_EXTENT) * 16, 0,
			NULL))
		mt_complete_all(&m->t, m->client);
}

TEST(discard, takes_free_runs_only_and_no_page_comes_there_before_it_is_done)
{
	static struct model m;
	u64 taken = 0;
	u32 i, k;

	m.seed = test_seed();
	mt_init_swap(&m.t, 2, 1, 8 << 20, 16 << 20);
	m.client = mt_attach(&m.t, mt_tenant(&m.t, "a", MM_LIMIT_NONE));
	m.geom = mt_geom(&m.t, m.client, MT_PAGE);
	for (i = 0; i < 3000; i++) {
		switch (test_rand(&m.seed) % 4) {
		case 0:
		case 1:
			step(&m);
			break;
		case 2:
			begin(&m);
			break;
		case 3:
			done(&m);
			break;
		}
		look(&m);
		for (k = 0; k < RUNS; k++)
			taken += m.run[k].bytes != 0;
	}
	EXPECT_GT(taken, 100);
	mt_fini(&m.t);
}

TEST(discard, all_that_was_written_is_given_back_once)
{
	struct mt t;
	u32 client, geom, a;
	u64 off, bytes, all = 0;

	mt_init_swap(&t, 2, 1, 8 << 20, 16 << 20);
	client = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	geom = mt_geom(&t, client, MT_PAGE);
	a = mt_idle_space(&t, client, geom, MT_PER_EXTENT);
	mm_tick(t.mm, 1000);
	mt_idle_space(&t, client, geom, 2 * MT_PER_EXTENT);
	EXPECT_EQ(mt_nr_swapped(&t, client, a), MT_PER_EXTENT);
	EXPECT_EQ(0, mm_discard_begin(t.mm, 0, SLOT_UNIT, ~0ull, &off));
	mm_space_destroy(t.mm, client, a);
	EXPECT_EQ(MT_PER_EXTENT * (u64)MT_PAGE, mm_discard_stale(t.mm, 0));
	while ((bytes = mm_discard_begin(t.mm, 0, SLOT_UNIT, 1 << 20, &off))) {
		mt_check(&t);
		mm_discard_done(t.mm, 0, off, bytes);
		all += bytes;
	}
	EXPECT_EQ(MT_PER_EXTENT * (u64)MT_PAGE, all);
	EXPECT_EQ(0, mm_discard_stale(t.mm, 0));
	mt_check(&t);
	mt_fini(&t);
}

TEST_HARNESS_MAIN
