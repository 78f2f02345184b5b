/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_SUM_H
#define KVMD_IO_SUM_H
/*
 * sum.h - a page on its way: XXH3 and a copy, as wide as the CPU is
 *
 * Summed up first, which reads it from memory once, and then copied with stores
 * that go past the caches, a page is moved as fast as memcpy() alone would:
 * that one reads what it overwrites, or brings the copy into caches where the
 * sum of the next page should be. Debian's libxxhash computes with SSE2, 15
 * GB/s of what is in a cache; with AVX2 it is 37. The sum is the same.
 */
#include "include/kv/types.h"

/* sum_avx2 - XXH3 with the seed @key; @buf is fetched from memory far ahead */
u64 sum_avx2(const void *buf, size_t bytes, u64 key);
/* stream_avx2 - memcpy() past the caches, and done when it returns */
void stream_avx2(void *to, const void *from, size_t bytes);

#endif
