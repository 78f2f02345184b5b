/* SPDX-License-Identifier: MIT */
/*
 * sum_avx2.c - XXH3 and a copy, compiled for AVX2; called where the CPU has it
 */
#include "kvmd/io/sum.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define XXH_INLINE_ALL
#define XXH_PREFETCH_DIST 4096 /* 384 is for what is in a cache */
#include <xxhash.h>

#define STEP 128u /* two cache lines */

u64 sum_avx2(const void *buf, size_t bytes, u64 key)
{
	return XXH3_64bits_withSeed(buf, bytes, key);
}

void stream_avx2(void *to, const void *from, size_t bytes)
{
	const __m256i *src = from;
	__m256i *dst = to, a, b, c, d;
	size_t n = bytes / STEP;

	if ((uintptr_t)to % sizeof(*dst) || bytes % STEP) {
		memcpy(to, from, bytes);
		return;
	}
	for (; n; n--, src += 4, dst += 4) {
		a = _mm256_loadu_si256(src);
		b = _mm256_loadu_si256(src + 1);
		c = _mm256_loadu_si256(src + 2);
		d = _mm256_loadu_si256(src + 3);
		_mm256_stream_si256(dst, a);
		_mm256_stream_si256(dst + 1, b);
		_mm256_stream_si256(dst + 2, c);
		_mm256_stream_si256(dst + 3, d);
	}
	_mm_sfence();
}
