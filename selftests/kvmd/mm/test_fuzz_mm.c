/* SPDX-License-Identifier: MIT */
/*
 * test_fuzz_mm.c - the core's fuzzer on inputs from seeds
 *
 * san: address
 */
#include "lib/hash.h"
#include "selftests/harness.h"
#include "selftests/kvmd/mm/fuzz_mm.h"

TEST(fuzz_mm, random_operations_neither_crash_nor_touch_others)
{
	static uint8_t data[16384];
	const char *seed = getenv("SEED");
	u64 rng = seed ? strtoull(seed, NULL, 0) : 1;
	double end = th_now() + 4;
	u32 i, runs = 0;

	while (th_now() < end) {
		u64 first = rng;
		size_t size = 64 + hash_random(&rng) % (sizeof(data) - 64);

		for (i = 0; i < size; i++)
			data[i] = (uint8_t)hash_random(&rng);
		TH_LOG("SEED=%llu", (unsigned long long)first);
		LLVMFuzzerTestOneInput(data, size);
		runs++;
	}
	TH_LOG("%u runs", runs);
}

TEST_HARNESS_MAIN
