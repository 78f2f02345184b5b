/* SPDX-License-Identifier: MIT */
/*
 * sum_avx2.c - XXH3 compiled for AVX2; called where the CPU has it
 */
#include "kvmd/io/sum.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

u64 sum_avx2(const void *buf, size_t bytes, u64 key)
{
	return XXH3_64bits_withSeed(buf, bytes, key);
}
