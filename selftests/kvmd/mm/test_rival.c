/* SPDX-License-Identifier: MIT */
/*
 * test_rival.c - the hits of LRU that nobody simulates
 */
#include "kvmd/mm/rival.h"
#include "lib/hash.h"
#include "selftests/harness.h"

#define PAGES 2000u
#define ROOM  500u

static struct rival r;

/*
 * Single pages, the low ones used more often; every page there is is known to
 * the rival. The twin counts how many pages were used since a page was.
 */
static double hits_of_lru(u64 seed, u32 uses)
{
	static u64 stamp[PAGES];
	u64 rng = seed, clock;
	double hits = 0;
	u32 i, k, since;

	memset(stamp, 0, sizeof(stamp));
	for (clock = 1; clock <= uses; clock++) {
		i = (u32)(hash_random(&rng) % PAGES);
		i = (u32)(hash_random(&rng) % (i + 1));
		rival_request(&r);
		if (stamp[i]) {
			for (k = since = 0; k < PAGES; k++)
				since += stamp[k] > stamp[i];
			hits += since < ROOM;
			rival_used(&r, stamp[i], false);
		}
		rival_born(&r, clock);
		stamp[i] = clock;
		rival_evicted(&r, ROOM);
	}
	return hits;
}

TEST(rival, counts_what_lru_would_have_hit)
{
	double hits;

	rival_init(&r);
	rival_evicted(&r, ROOM);
	hits = hits_of_lru(1, 30000);
	EXPECT_GT(hits, 10000);
	/* We hit nothing: the lead is LRU's hits, below 0. */
	EXPECT_NEAR(-r.lead, hits, hits / 200);
}

TEST(rival, is_better_until_its_lead_has_faded)
{
	u64 clock = 3001;
	u32 looks = 0;

	rival_init(&r);
	EXPECT_FALSE(rival_look(&r, 1));
	rival_evicted(&r, ROOM);
	hits_of_lru(2, 3000);
	EXPECT_TRUE(rival_look(&r, clock));
	while (rival_look(&r, clock += ROOM))
		ASSERT_LT(looks++, 1000);
	EXPECT_GT(looks, 10);
	r.lead = 1;
	EXPECT_FALSE(rival_look(&r, clock));
}

TEST_HARNESS_MAIN
