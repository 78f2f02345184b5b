/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT8_X_H
#define CPU_INT8_X_H
/*
 * int8_x.h - rows of x to int8, as int8 products want them
 *
 * The order is that of the bytes which a strip's dwords fall into: of 8 k,
 * and with 0x0f0f0f0f gives 0 4 1 5 and the nibbles above 2 6 3 7; a dword of
 * 8-bit quants has 0 2 1 3 of 4 k. So a dword of x goes with a dword of w.
 *
 * What a block's bytes are too coarse for is a second one, of 1 / 256 of the
 * scale.
 */
#include "kernels/cpu/ints.h"

struct int8_x {
	s8 q[32];
	struct ints_x x;
};

/* A type's zero point, in sums over 16 or over 32 k, and order of bytes. */
struct int8_kind {
	s32 zero16, zero32;
	bool bytes;
};

vec_inline __m256i int8_order(const bool bytes)
{
	if (bytes)
		return _mm256_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11,
					12, 14, 13, 15, 0, 2, 1, 3, 4, 6, 5, 7,
					8, 10, 9, 11, 12, 14, 13, 15);
	return _mm256_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14,
				11, 15, 0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13,
				10, 14, 11, 15);
}

/* 8 bf16 in the upper halves of dwords, to integers. */
vec_inline __m256i int8_rint(__m256i x, __m256 inv)
{
	return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_castsi256_ps(x), inv));
}

/* 16 bf16 to words, in their order: the pack undoes what unpacking did. */
vec_inline __m256i int8_words(__m256i x, __m256 inv)
{
	const __m256i zero = _mm256_setzero_si256();

	return _mm256_packs_epi32(
		int8_rint(_mm256_unpacklo_epi16(zero, x), inv),
		int8_rint(_mm256_unpackhi_epi16(zero, x), inv));
}

vec_inline __m256i int8_pack_words(__m256i lo, __m256i hi)
{
	return _mm256_permute4x64_epi64(_mm256_packs_epi16(lo, hi), 0xd8);
}

/* Sums of 16 unsigned bytes each. */
vec_inline void int8_sums(__m256i q, s32 sum[2])
{
	q = _mm256_sad_epu8(q, _mm256_setzero_si256());
	q = _mm256_add_epi32(q, _mm256_shuffle_epi32(q, 0x4e));
	sum[0] = _mm_cvtsi128_si32(_mm256_castsi256_si128(q));
	sum[1] = _mm_cvtsi128_si32(_mm256_extracti128_si256(q, 1));
}

/* 32 bytes in the order of x, and all that goes with them. */
vec_inline void int8_store(__m256i q, float scale, struct int8_kind kind,
			   struct int8_x *out)
{
	s32 sum[2];

	_mm256_storeu_si256((__m256i *)(void *)out->q,
			    _mm256_shuffle_epi8(q, int8_order(kind.bytes)));
	int8_sums(_mm256_xor_si256(q, _mm256_set1_epi8(-128)), sum);
	sum[0] -= 16 * 128;
	sum[1] -= 16 * 128;
	out->x.scale = scale;
	out->x.mins = scale * (float)(sum[0] + sum[1]);
	out->x.zero[0] = kind.zero16 * sum[0] + kind.zero32 * (sum[0] + sum[1]);
	out->x.zero[1] = kind.zero16 * sum[1];
}

/* Words to the byte nearest to 1 / 256 of each, and what it leaves. */
static void int8_split(__m256i lo, __m256i hi, float scale,
		       struct int8_kind kind, struct int8_x *out,
		       struct int8_x *low)
{
	const __m256i half = _mm256_set1_epi16(128);
	__m256i high_lo = _mm256_srai_epi16(_mm256_add_epi16(lo, half), 8);
	__m256i high_hi = _mm256_srai_epi16(_mm256_add_epi16(hi, half), 8);

	lo = _mm256_sub_epi16(lo, _mm256_slli_epi16(high_lo, 8));
	hi = _mm256_sub_epi16(hi, _mm256_slli_epi16(high_hi, 8));
	int8_store(int8_pack_words(high_lo, high_hi), scale, kind, out);
	int8_store(int8_pack_words(lo, hi), scale * 0x1p-8f, kind, low);
}

/* Return: whether there is a low block. */
vec_inline bool int8_quantise(const u16 *x, struct int8_kind kind,
			      struct int8_x *out, struct int8_x *low)
{
	__m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)x);
	__m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)x + 1);
	u32 top = ints_top(ints_top_not(lo, hi));
	s32 sum[2];
	float scale;
	__m256 inv;
	__m256i q;

	if (ints_has_none(top)) {
		*out = (struct int8_x){ .x = ints_none(top) };
		return false;
	}
	scale = kern_bf16_to_f32((u16)top) / 127.0f;
	inv = _mm256_set1_ps(127.0f / kern_bf16_to_f32((u16)top));
	q = int8_pack_words(int8_words(lo, inv), int8_words(hi, inv));
	int8_sums(_mm256_abs_epi8(q), sum);
	if ((u32)(sum[0] + sum[1]) >= INT8_FINE) {
		int8_store(q, scale, kind, out);
		return false;
	}
	inv = _mm256_mul_ps(inv, _mm256_set1_ps(256.0f));
	int8_split(int8_words(lo, inv), int8_words(hi, inv), scale, kind, out,
		   low);
	return true;
}

vec_inline void int8_row_of(const struct int8_kind kind, const u16 *x,
			    u32 nr_blocks, struct int8_x *out,
			    struct int8_x *low, u8 *fine)
{
	memset(fine, 0, DIV_ROUND_UP(nr_blocks, 8u));
	for (u32 b = 0; b < nr_blocks; b++, x += 32)
		if (int8_quantise(x, kind, &out[b], &low[b]))
			fine[b / 8] |= (u8)(1 << b % 8);
}

/**
 * int8_row - nr_blocks * 32 elements of x, for weights of a type
 * @low: [nr_blocks], of those blocks that have a bit set in @fine
 * @fine: [nr_blocks / 8]
 */
static void int8_row(const u16 *x, u32 nr_blocks, u32 dtype, struct int8_x *out,
		     struct int8_x *low, u8 *fine)
{
	s32 zero = (s32)strip_type(dtype).zero;

	if (dtype == KV_DTYPE_Q8_0)
		int8_row_of((struct int8_kind){ 0, zero, true }, x, nr_blocks,
			    out, low, fine);
	else if (dtype == KV_DTYPE_Q6_K)
		int8_row_of((struct int8_kind){ zero, 0, false }, x, nr_blocks,
			    out, low, fine);
	else
		int8_row_of((struct int8_kind){ 0, zero, false }, x, nr_blocks,
			    out, low, fine);
}

#endif
