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

/* The sum of 8 dwords, in all lanes. */
vec_inline __m128i int16_sum(__m256i d)
{
	__m128i s = _mm_add_epi32(_mm256_castsi256_si128(d),
				  _mm256_extracti128_si256(d, 1));

	s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
	return _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
}

/* Sums of pairs of words. */
vec_inline __m256i int16_pairs(__m256i q)
{
	return _mm256_madd_epi16(q, _mm256_set1_epi16(1));
}

vec_inline __m256i int16_load(const s16 *q)
{
	return _mm256_loadu_si256((const __m256i *)(const void *)q);
}

/* All but what a zero point adds. */
vec_inline void int16_quantise(const u16 *x, struct int16_x *out)
{
	__m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)x);
	__m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)x + 1);
	__m128i top_not = ints_top_not(lo, hi), power, sum;
	u32 top = ints_top(top_not);
	__m128 scale;
	__m256 inv;

	if (ints_has_none(top)) {
		*out = (struct int16_x){ .x = ints_none(top) };
		return;
	}
	/* the exponent of the largest, where a float has it */
	power = _mm_andnot_si128(_mm_slli_epi32(top_not, 16),
				 _mm_cvtsi32_si128(0x7f800000));
	scale = _mm_castsi128_ps(
		_mm_sub_epi32(power, _mm_cvtsi32_si128(14 << 23)));
	inv = _mm256_broadcastss_ps(_mm_castsi128_ps(
		_mm_sub_epi32(_mm_cvtsi32_si128((int)(268u << 23)), power)));
	lo = int16_words(lo, inv);
	hi = int16_words(hi, inv);
	_mm256_storeu_si256((__m256i *)(void *)out->q, lo);
	_mm256_storeu_si256((__m256i *)(void *)out->q + 1, hi);
	sum = int16_sum(_mm256_add_epi32(int16_pairs(lo), int16_pairs(hi)));
	_mm_store_ss(&out->x.scale, scale);
	_mm_store_ss(&out->x.mins, _mm_mul_ss(scale, _mm_cvtepi32_ps(sum)));
}

/* @halves: the weights' scales are of 16 k */
vec_inline void int16_zeros(const s32 zero, const bool halves,
			    struct int16_x *x)
{
	s32 lo = _mm_cvtsi128_si32(int16_sum(int16_pairs(int16_load(x->q))));
	s32 hi = _mm_cvtsi128_si32(
		int16_sum(int16_pairs(int16_load(x->q + 16))));

	x->x.zero[0] = zero * (halves ? lo : lo + hi);
	x->x.zero[1] = zero * hi;
}

/* nr_blocks * 32 elements of x, for weights that are unpacked to a panel */
static void int16_row(const u16 *x, u32 nr_blocks, struct int16_x *out)
{
	for (u32 b = 0; b < nr_blocks; b++)
		int16_quantise(x + 32 * (size_t)b, &out[b]);
}

/* The same for strips of a type as they are. */
static void int16_strip_row(const u16 *x, u32 nr_blocks, u32 dtype,
			    struct int16_x *out)
{
	s32 zero = (s32)strip_type(dtype).zero;
	bool halves = ints_halves(dtype);

	int16_row(x, nr_blocks, out);
	for (u32 b = 0; zero && b < nr_blocks; b++)
		int16_zeros(zero, halves, &out[b]);
}

#endif
