/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT16_X_H
#define CPU_INT16_X_H
/*
 * int16_x.h - rows of x to int16, as int16 products want them
 *
 * In the order of k: a dword has an even k and the odd one behind it, and so
 * has a dword of a strip when its quants are spread to words.
 */
#include "kernels/cpu/ints.h"

struct int16_x {
	s16 q[32];
	struct ints_x x;
};

/* 16 bf16 to words, in their order: the pack undoes what unpacking did. */
vec_inline __m256i int16_words(__m256i x, __m256 inv)
{
	const __m256i zero = _mm256_setzero_si256();
	__m256 a = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, x));
	__m256 b = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, x));

	return _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_mul_ps(a, inv)),
				  _mm256_cvtps_epi32(_mm256_mul_ps(b, inv)));
}

/* The sum of 16 words. */
vec_inline s32 int16_sum(__m256i q)
{
	__m256i d = _mm256_madd_epi16(q, _mm256_set1_epi16(1));
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(d),
				  _mm256_extracti128_si256(d, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
	return _mm_cvtsi128_si32(s);
}

vec_inline float int16_power(u32 exponent)
{
	return _mm_cvtss_f32(
		_mm_castsi128_ps(_mm_cvtsi32_si128((int)(exponent << 23))));
}

/* @halves: the weights' scales are of 16 k */
vec_inline void int16_quantise(const u16 *x, const s32 zero, const bool halves,
			       struct int16_x *out)
{
	__m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)x);
	__m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)x + 1);
	u32 top = ints_top(lo, hi);
	__m256 inv;
	s32 sum[2];

	if (ints_has_none(top)) {
		*out = (struct int16_x){ .x = ints_none(top) };
		return;
	}
	inv = _mm256_set1_ps(int16_power(268 - (top >> 7)));
	lo = int16_words(lo, inv);
	hi = int16_words(hi, inv);
	_mm256_storeu_si256((__m256i *)(void *)out->q, lo);
	_mm256_storeu_si256((__m256i *)(void *)out->q + 1, hi);
	sum[0] = int16_sum(lo);
	sum[1] = int16_sum(hi);
	out->x.scale = int16_power((top >> 7) - 14);
	out->x.mins = out->x.scale * (float)(sum[0] + sum[1]);
	out->x.zero[0] = zero * (halves ? sum[0] : sum[0] + sum[1]);
	out->x.zero[1] = zero * sum[1];
}

/* nr_blocks * 32 elements of x, for weights of a type */
static void int16_row(const u16 *x, u32 nr_blocks, u32 dtype,
		      struct int16_x *out)
{
	s32 zero = (s32)strip_type(dtype).zero;
	bool halves = ints_halves(dtype);

	for (u32 b = 0; b < nr_blocks; b++)
		int16_quantise(x + 32 * (size_t)b, zero, halves, &out[b]);
}

#endif
