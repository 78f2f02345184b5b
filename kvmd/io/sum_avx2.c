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

#define PART 1024u /* of a page, in L1: a block of XXH3 */
#define STEP 128u /* two cache lines */

u64 page_sum_avx2(const void *buf, size_t bytes, u64 key)
{
	return XXH3_64bits_withSeed(buf, bytes, key);
}

/* To a multiple of 32, a multiple of STEP. */
static inline void stream(char *to, const char *from, size_t bytes)
{
	const __m256i *src = (const __m256i *)(const void *)from;
	__m256i *dst = (__m256i *)(void *)to, a, b, c, d;

	for (; bytes; bytes -= STEP, src += 4, dst += 4) {
		a = _mm256_loadu_si256(src);
		b = _mm256_loadu_si256(src + 1);
		c = _mm256_loadu_si256(src + 2);
		d = _mm256_loadu_si256(src + 3);
		_mm256_stream_si256(dst, a);
		_mm256_stream_si256(dst + 1, b);
		_mm256_stream_si256(dst + 2, c);
		_mm256_stream_si256(dst + 3, d);
	}
}

u64 page_move_avx2(void *to, const void *from, size_t bytes, u64 key)
{
	size_t at = 0, whole = bytes / PART * PART;
	const char *src = from;
	XXH3_state_t sum = { .seed = 0 };
	char *dst = to;

	if ((uintptr_t)to % sizeof(__m256i))
		whole = 0;
	XXH3_64bits_reset_withSeed(&sum, key);
	for (; at < whole; at += PART) {
		XXH3_64bits_update(&sum, src + at, PART);
		stream(dst + at, src + at, PART);
	}
	_mm_sfence();
	if (at < bytes) {
		XXH3_64bits_update(&sum, src + at, bytes - at);
		memcpy(dst + at, src + at, bytes - at);
	}
	return XXH3_64bits_digest(&sum);
}
