/* SPDX-License-Identifier: MIT */
/*
 * sum.c - a page's sum, and the page with it, by what the CPU has
 */
#include "kvmd/io/sum.h"

#include <string.h>
#include <xxhash.h>

u64 page_sum(const void *buf, size_t bytes, u64 key)
{
	if (__builtin_cpu_supports("avx2"))
		return page_sum_avx2(buf, bytes, key);
	return XXH3_64bits_withSeed(buf, bytes, key);
}

u64 page_move(void *to, const void *from, size_t bytes, u64 key)
{
	if (__builtin_cpu_supports("avx2"))
		return page_move_avx2(to, from, bytes, key);
	memcpy(to, from, bytes);
	return XXH3_64bits_withSeed(from, bytes, key);
}
