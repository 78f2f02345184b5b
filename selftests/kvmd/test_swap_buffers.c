/* SPDX-License-Identifier: MIT */
/*
 * test_swap_buffers.c - pages that come and go, and none lies in another one
 *
 * san: address
 */
#include <string.h>
#include "selftests/harness.h"
#include "kvmd/swap_buffers.h"

FIXTURE(buffers)
{
	struct swap_buffers b;
};

FIXTURE_SETUP(buffers)
{
	ASSERT_EQ(0, swap_buffers_init(&self->b));
}

FIXTURE_TEARDOWN(buffers)
{
	swap_buffers_fini(&self->b);
	swap_buffers_fini(&self->b);
}

TEST_F(buffers, are_all_of_it_and_no_more)
{
	char *a = swap_buffer_get(&self->b, SWAP_BUFFER_BYTES - TIER_ALIGN);
	char *b = swap_buffer_get(&self->b, 1);

	ASSERT_TRUE(a && b);
	EXPECT_EQ(b - a, SWAP_BUFFER_BYTES - TIER_ALIGN);
	EXPECT_EQ(NULL, swap_buffer_get(&self->b, 1));
	swap_buffer_put(&self->b, NULL, 4096);
	swap_buffer_put(&self->b, a, SWAP_BUFFER_BYTES - TIER_ALIGN);
	EXPECT_EQ(NULL, swap_buffer_get(&self->b, SWAP_BUFFER_BYTES));
	swap_buffer_put(&self->b, b, 1);
	EXPECT_EQ(a, swap_buffer_get(&self->b, SWAP_BUFFER_BYTES));
	swap_buffer_put(&self->b, a, SWAP_BUFFER_BYTES);
}

/* Each is filled with a byte of its own, which nobody else may change. */
TEST_F(buffers, none_lies_in_another_one)
{
	struct {
		char *at;
		u32 bytes;
	} have[64] = { 0 };
	u64 seed = test_seed();
	u32 refused = 0, i, k, n;

	for (n = 0; n < 2000; n++) {
		i = (u32)(test_rand(&seed) % 64);
		if (have[i].at) {
			for (k = 0; k < have[i].bytes; k += 4095)
				ASSERT_EQ((char)i, have[i].at[k]);
			swap_buffer_put(&self->b, have[i].at, have[i].bytes);
			have[i].at = NULL;
			continue;
		}
		have[i].bytes = 1 + (u32)(test_rand(&seed) %
					  (n % 9 ? 300000 : 8u << 20));
		have[i].at = swap_buffer_get(&self->b, have[i].bytes);
		refused += !have[i].at;
		if (!have[i].at)
			continue;
		EXPECT_EQ(0, (uintptr_t)have[i].at % TIER_ALIGN);
		memset(have[i].at, (int)i, have[i].bytes);
	}
	EXPECT_GT(refused, 0);
	for (i = 0; i < 64; i++)
		swap_buffer_put(&self->b, have[i].at, have[i].bytes);
	have[0].at = swap_buffer_get(&self->b, SWAP_BUFFER_BYTES);
	EXPECT_TRUE(have[0].at != NULL);
	swap_buffer_put(&self->b, have[0].at, SWAP_BUFFER_BYTES);
}

TEST_HARNESS_MAIN
