/* SPDX-License-Identifier: MIT */
/*
 * test_hash.c - the same everywhere, spread well enough
 */
#include "lib/hash.h"
#include "selftests/harness.h"

TEST(hash, of_bytes_depends_on_every_byte_and_on_the_length)
{
	u8 b[40] = { 0 };
	u64 h = hash_bytes(b, sizeof(b), 1);
	u32 i;

	for (i = 0; i < sizeof(b); i++) {
		b[i] = 1;
		EXPECT_NE(hash_bytes(b, sizeof(b), 1), h);
		b[i] = 0;
		EXPECT_NE(hash_bytes(b, i, 1), h);
	}
	EXPECT_EQ(hash_bytes(b, sizeof(b), 1), h);
	EXPECT_NE(hash_bytes(b, sizeof(b), 2), h);
	EXPECT_EQ(hash_bytes(NULL, 0, 5), hash_bytes(b, 0, 5));
}

TEST(hash, mix_turns_about_half_of_the_bits)
{
	u64 rng = 9, x, y, sum = 0;
	u32 i;

	for (i = 0; i < 6400; i++) {
		x = hash_random(&rng);
		y = hash_mix(x) ^ hash_mix(x ^ (1ull << (i % 64)));
		sum += (u64)__builtin_popcountll(y);
	}
	EXPECT_GT(sum / 6400, 29);
	EXPECT_LT(sum / 6400, 35);
}

TEST(hash, random_replays_from_its_state)
{
	u64 a = 5, b = 5;
	u32 i;

	for (i = 0; i < 100; i++)
		EXPECT_EQ(hash_random(&a), hash_random(&b));
}

TEST_HARNESS_MAIN
