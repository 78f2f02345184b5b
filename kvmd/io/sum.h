/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_SUM_H
#define KVMD_IO_SUM_H
/*
 * sum.h - a page on its way: XXH3 and a copy, as wide as the CPU is
 *
 * Summed up a KiB at a time and copied from L1 by stores that go past the
 * caches, a page is moved faster than by memcpy() alone: that one reads what it
 * overwrites, or brings the copy into caches where the source of the next page
 * should be. To sum up all of a page first, and then to copy it, leaves memory
 * without one of its two directions at any time. Debian's libxxhash computes
 * with SSE2, 15 GB/s of what is in a cache; with AVX2 it is 37. The sum is the
 * same.
 *
 * Context: any thread.
 */
#include "include/kv/types.h"

/* page_sum - XXH3 of @buf with the seed @key */
u64 page_sum(const void *buf, size_t bytes, u64 key);
/*
 * page_move - memcpy(), past the caches where the CPU can, and the sum of what
 * was at @from; done when it returns
 */
u64 page_move(void *to, const void *from, size_t bytes, u64 key);

/* The same where the CPU has AVX2. */
u64 page_sum_avx2(const void *buf, size_t bytes, u64 key);
u64 page_move_avx2(void *to, const void *from, size_t bytes, u64 key);

#endif
