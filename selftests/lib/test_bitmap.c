/* SPDX-License-Identifier: MIT */
/*
 * test_bitmap.c - searching and counting against one bit at a time
 */
#include "lib/bitmap.h"
#include "lib/hash.h"
#include "selftests/harness.h"

TEST(bitmap, finds_nothing_in_an_empty_and_in_a_full_map)
{
	u64 map[2] = { 0, 0 };

	EXPECT_EQ(bitmap_find_set(map, 100, 0), 100);
	EXPECT_EQ(bitmap_find_zero(map, 100, 0), 0);
	map[0] = map[1] = ~0ull;
	EXPECT_EQ(bitmap_find_zero(map, 100, 0), 100);
	EXPECT_EQ(bitmap_find_set(map, 100, 99), 99);
	EXPECT_EQ(bitmap_find_set(map, 100, 100), 100);
	EXPECT_EQ(bitmap_weight(map, 100), 100);
}

TEST(bitmap, never_looks_behind_its_last_bit)
{
	u64 map[2] = { ~0ull, ~0ull << 36 };

	EXPECT_EQ(bitmap_find_set(map, 100, 64), 100);
	EXPECT_EQ(bitmap_weight(map, 100), 64);
}

TEST(bitmap, agrees_with_a_walk_over_the_bits)
{
	u64 map[5], rng = 1;
	u32 round, bits, from, i, zero, set, weight, nr, run;

	for (round = 0; round < 2000; round++) {
		bits = 1 + (u32)(hash_random(&rng) % 320);
		from = (u32)(hash_random(&rng) % bits);
		for (i = 0; i < 5; i++)
			map[i] = hash_random(&rng) & hash_random(&rng) &
				 hash_random(&rng);
		if (round & 1)
			for (i = 0; i < 5; i++)
				map[i] = ~map[i];
		zero = set = bits;
		weight = 0;
		for (i = bits; i-- > 0;) {
			weight += bitmap_test(map, i);
			if (i >= from && bitmap_test(map, i))
				set = i;
			if (i >= from && !bitmap_test(map, i))
				zero = i;
		}
		ASSERT_EQ(bitmap_find_zero(map, bits, from), zero);
		ASSERT_EQ(bitmap_find_set(map, bits, from), set);
		ASSERT_EQ(bitmap_weight(map, bits), weight);
		nr = 1 + (u32)(hash_random(&rng) % 12);
		for (i = from; i < bits; i++) {
			for (run = 0; run < nr && i + run < bits; run++)
				if (bitmap_test(map, i + run))
					break;
			if (run == nr)
				break;
		}
		ASSERT_EQ(bitmap_find_zeros(map, bits, from, nr), i);
	}
}

TEST(bitmap, sets_and_clears_one_bit)
{
	u64 map[2] = { 0, 0 };

	bitmap_set(map, 70);
	EXPECT_TRUE(bitmap_test(map, 70));
	EXPECT_EQ(bitmap_weight(map, 128), 1);
	bitmap_clear(map, 70);
	EXPECT_EQ(bitmap_weight(map, 128), 0);
}

TEST_HARNESS_MAIN
