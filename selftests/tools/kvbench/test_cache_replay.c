/* SPDX-License-Identifier: MIT */
/*
 * test_cache_replay.c - what the policies make of traces
 *
 * Hits are numbers without noise, so that what is promised of the default
 * policy can be asserted: on no trace is it more than half a point below LRU,
 * and of the gap to the optimum it closes a fifth on average.
 */
#include "lib/hash.h"
#include "selftests/harness.h"
#include "tools/kvbench/cache_trace.h"

#define REQUESTS 2000u

static const u32 parts[] = { 40, 10, 3 };

static double hit_rate(const struct cache_trace *t, u32 blocks,
		       enum policy_kind kind)
{
	struct cache_result r;

	EXPECT_EQ(cache_replay(t, blocks, kind, 97, &r), 0);
	return (double)r.hits / t->nr_refs;
}

static double optimum(const struct cache_trace *t, u32 blocks)
{
	u64 hits;

	EXPECT_EQ(cache_optimum(t, blocks, &hits), 0);
	return (double)hits / t->nr_refs;
}

/* Each block of the path moves to the front, the first one last. */
static u64 lru_by_list(const struct cache_trace *t, u32 blocks)
{
	u32 *list = calloc(blocks + t->longest, sizeof(*list)), nr = 0, i, k, b;
	u64 hits = 0;

	ASSERT_TRUE(list);
	for (i = 0; i < t->nr_requests; i++) {
		bool hit = true;

		for (k = t->begin[i]; k < t->begin[i + 1]; k++) {
			for (b = 0; b < nr && list[b] != t->ref[k]; b++)
				;
			hit &= b < nr;
			hits += hit;
		}
		for (k = t->begin[i + 1]; k-- > t->begin[i];) {
			for (b = 0; b < nr && list[b] != t->ref[k]; b++)
				;
			nr += b == nr;
			memmove(list + 1, list, b * sizeof(*list));
			list[0] = t->ref[k];
		}
		nr = min(nr, blocks);
	}
	free(list);
	return hits;
}

TEST(cache_replay, lru_is_that_of_a_list)
{
	struct cache_trace t;
	struct cache_result r;
	u32 i;

	for (i = 0; cache_gen_name(i); i++) {
		ASSERT_EQ(cache_gen(i, 3, 150, &t), 0);
		ASSERT_EQ(cache_replay(&t, t.nr_blocks / 10, POLICY_LRU, 1, &r),
			  0);
		EXPECT_EQ(r.hits, lru_by_list(&t, t.nr_blocks / 10));
		cache_trace_free(&t);
	}
}

/* The most hits that any choice of victims gives. */
static u32 best_hits(const struct cache_trace *t, u32 i, u32 held, u32 blocks)
{
	u32 path = 0, best = 0, hits = 0, k, drop;

	if (i == t->nr_requests)
		return 0;
	for (k = t->begin[i]; k < t->begin[i + 1]; k++) {
		hits += held >> t->ref[k] & 1 && (path & ~held) == 0;
		path |= 1u << t->ref[k];
	}
	held |= path;
	/* Every subset that is small enough and has the parents of all. */
	for (drop = held;; drop = (drop - 1) & held) {
		u32 keep = held & ~drop;
		bool whole = (u32)__builtin_popcount(keep) <= blocks;

		for (k = 0; whole && k < t->nr_blocks; k++)
			whole = !(keep >> k & 1) ||
				t->parent[k] == CACHE_NO_BLOCK ||
				keep >> t->parent[k] & 1;
		if (whole)
			best = max(best, best_hits(t, i + 1, keep, blocks));
		if (!drop)
			break;
	}
	return hits + best;
}

TEST(cache_replay, the_optimum_is_that_of_all_choices)
{
	u64 rng = 11, hits;
	u32 round, i;

	for (round = 0; round < 20; round++) {
		struct cache_trace t = { 0 };

		for (i = 0; i < 7; i++)
			cache_trace_block(&t,
					  i && hash_random(&rng) % 3
						  ? (u32)(hash_random(&rng) % i)
						  : CACHE_NO_BLOCK);
		for (i = 0; i < 5; i++)
			ASSERT_EQ(cache_trace_request(
					  &t, (u32)(hash_random(&rng) % 7)),
				  0);
		ASSERT_EQ(cache_optimum(&t, 3, &hits), 0);
		EXPECT_EQ(hits, best_hits(&t, 0, 0, 3));
		cache_trace_free(&t);
	}
}

TEST(cache_replay, no_policy_beats_the_optimum)
{
	struct cache_trace t;
	u32 i, k;

	for (i = 0; cache_gen_name(i); i++) {
		ASSERT_EQ(cache_gen(i, 4, 300, &t), 0);
		for (k = 0; k < POLICY_NR_KINDS; k++)
			EXPECT_LE(hit_rate(&t, t.nr_blocks / 8, k),
				  optimum(&t, t.nr_blocks / 8));
		cache_trace_free(&t);
	}
}

TEST(cache_replay, the_default_is_never_far_below_lru_and_closes_the_gap)
{
	double sum = 0, lru, best, ours;
	struct cache_trace t;
	u32 i, k, nr = 0;

	for (i = 0; cache_gen_name(i); i++) {
		ASSERT_EQ(cache_gen(i, 1, REQUESTS, &t), 0);
		for (k = 0; k < ARRAY_SIZE(parts); k++) {
			u32 blocks = t.nr_blocks / parts[k];

			lru = hit_rate(&t, blocks, POLICY_LRU);
			best = optimum(&t, blocks);
			ours = hit_rate(&t, blocks, POLICY_REUSE);
			if (!EXPECT_GE(ours, lru - 0.005))
				TH_LOG("%s, %u blocks", cache_gen_name(i),
				       blocks);
			if (best - lru < 0.005)
				continue;
			sum += (ours - lru) / (best - lru);
			nr++;
		}
		cache_trace_free(&t);
	}
	ASSERT_GT(nr, 20);
	EXPECT_GE(sum / nr, 0.2);
}

/* ---- reading ---- */

static int load(const char *text, struct cache_trace *t, char *err)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/trace", test_tmpdir());
	f = fopen(path, "we");
	ASSERT_TRUE(f);
	fputs(text, f);
	fclose(f);
	memset(t, 0, sizeof(*t));
	return cache_trace_load(path, t, err);
}

TEST(cache_trace, a_block_is_named_by_the_ones_before_it_too)
{
	struct cache_trace t;
	char err[512];

	ASSERT_EQ(load("{\"hash_ids\": [7, 8]}\n\n"
		       "{\"x\": 1, \"hash_ids\": [7, 9, 8]}\n"
		       "{\"hash_ids\": []}\n{\"hash_ids\": [7, 8]}\n",
		       &t, err),
		  0);
	EXPECT_EQ(t.nr_requests, 3);
	EXPECT_EQ(t.nr_blocks, 4);
	EXPECT_EQ(t.nr_refs, 7);
	EXPECT_EQ(t.longest, 3);
	EXPECT_NE(t.ref[1], t.ref[4]);
	EXPECT_EQ(t.ref[1], t.ref[6]);
	EXPECT_EQ(t.parent[t.ref[4]], t.ref[3]);
	cache_trace_free(&t);
}

TEST(cache_trace, what_is_no_trace_is_refused_with_its_line)
{
	static const char *const bad[] = {
		"{\"hash_ids\": [1]}\n{\n",
		"{\"hash_ids\": [1]}\n{\"hash_ids\": 3}\n",
		"{\"hash_ids\": [1]}\n{\"hash_ids\": [1, \"x\"]}\n",
		"{\"hash_ids\": [1]}\n[]\n",
	};
	struct cache_trace t;
	char err[512];
	u32 i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(load(bad[i], &t, err), -EINVAL);
		EXPECT_TRUE(strstr(err, "line 2"));
		cache_trace_free(&t);
	}
	EXPECT_EQ(load("\n", &t, err), -EINVAL);
	cache_trace_free(&t);
	EXPECT_EQ(cache_trace_load("/nonexistent", &t, err), -ENOENT);
	cache_trace_free(&t);
}

TEST_HARNESS_MAIN
