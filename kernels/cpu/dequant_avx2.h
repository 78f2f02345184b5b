/* SPDX-License-Identifier: MIT */
#ifndef CPU_DEQUANT_AVX2_H
#define CPU_DEQUANT_AVX2_H
/*
 * dequant_avx2.h - rows of GGUF blocks to bf16, along k
 *
 * Element by element, 16 at a time: byte to float, scale, round. Word tables
 * as dequant_avx512.h has them would cost as much to fill as they save.
 */
#include "kernels/cpu/vec.h"

vec_inline float f16_at(const u8 *p)
{
	u16 h;

	memcpy(&h, p, sizeof(h));
	return _cvtsh_ss(h);
}

vec_inline __m128i load16(const u8 *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

vec_inline __m128i low_nibbles(__m128i b)
{
	return _mm_and_si128(b, _mm_set1_epi8(15));
}

vec_inline __m128i high_nibbles(__m128i b)
{
	return low_nibbles(_mm_srli_epi16(b, 4));
}

/* 16 signed bytes as floats */
vec_inline struct v16 v16_from_s8(__m128i b)
{
	return (struct v16){
		_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
		_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))),
	};
}

/* out = d * (q - zero) */
vec_inline void store_scaled(__m128i q, s8 zero, struct v16 d, u16 *out)
{
	q = _mm_sub_epi8(q, _mm_set1_epi8(zero));
	v16_store_bf16(out, v16_mul(v16_from_s8(q), d));
}

vec_inline void q4_0_block(const u8 *b, u16 *out)
{
	struct v16 d = v16_set1(f16_at(b));
	__m128i q = load16(b + 2);

	store_scaled(low_nibbles(q), 8, d, out);
	store_scaled(high_nibbles(q), 8, d, out + 16);
}

/* 16 where bit i of @bits is set, as bytes */
vec_inline __m128i fifth_bits(u16 bits)
{
	const __m128i spread =
		_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
	const __m128i bit = _mm_set1_epi64x((s64)0x8040201008040201ull);
	__m128i v = _mm_shuffle_epi8(_mm_set1_epi16((s16)bits), spread);

	v = _mm_cmpeq_epi8(_mm_and_si128(v, bit), bit);
	return _mm_and_si128(v, _mm_set1_epi8(16));
}

vec_inline void q5_0_block(const u8 *b, u16 *out)
{
	struct v16 d = v16_set1(f16_at(b));
	__m128i q = load16(b + 6);
	u16 fifths[2];

	memcpy(fifths, b + 2, sizeof(fifths));
	store_scaled(_mm_or_si128(low_nibbles(q), fifth_bits(fifths[0])), 16, d,
		     out);
	store_scaled(_mm_or_si128(high_nibbles(q), fifth_bits(fifths[1])), 16,
		     d, out + 16);
}

vec_inline void q8_0_block(const u8 *b, u16 *out)
{
	struct v16 d = v16_set1(f16_at(b));

	store_scaled(load16(b + 2), 0, d, out);
	store_scaled(load16(b + 18), 0, d, out + 16);
}

/* Sub-block s's scale and min, times d and dmin. */
vec_inline void k_scale(const u8 *b, u32 s, struct v16 *scale, struct v16 *min_)
{
	const u8 *p = b + 4;
	u32 sc, m;

	if (s < 4) {
		sc = p[s] & 63;
		m = p[s + 4] & 63;
	} else {
		sc = (p[s + 4] & 15u) | p[s - 4] >> 6 << 4;
		m = p[s + 4] >> 4 | p[s] >> 6 << 4;
	}
	*scale = v16_set1(f16_at(b) * (float)sc);
	*min_ = v16_set1(f16_at(b + 2) * (float)m);
}

/* 16 elements of a K block: nibbles of @qs, fifth bits or NULL */
vec_inline void k_store(const u8 *b, u32 s, u32 half, const u8 *fifths,
			const u8 *qs, u16 *out)
{
	__m128i q = load16(qs + s / 2 * 32 + 16 * half);
	struct v16 scale, min_;

	k_scale(b, s, &scale, &min_);
	q = s & 1 ? high_nibbles(q) : low_nibbles(q);
	if (fifths) {
		__m128i bit = _mm_set1_epi8((char)(1u << s));
		__m128i f = load16(fifths + 16 * half);

		f = _mm_cmpeq_epi8(_mm_and_si128(f, bit), bit);
		q = _mm_or_si128(q, _mm_and_si128(f, _mm_set1_epi8(16)));
	}
	v16_store_bf16(out + 32 * s + 16 * half,
		       v16_fms(scale, v16_from_s8(q), min_));
}

static inline void q4_k_block(const u8 *b, u16 *out)
{
	for (u32 s = 0; s < 8; s++) {
		k_store(b, s, 0, NULL, b + 16, out);
		k_store(b, s, 1, NULL, b + 16, out);
	}
}

static inline void q5_k_block(const u8 *b, u16 *out)
{
	for (u32 s = 0; s < 8; s++) {
		k_store(b, s, 0, b + 16, b + 48, out);
		k_store(b, s, 1, b + 16, b + 48, out);
	}
}

static inline void q6_k_block(const u8 *b, u16 *out)
{
	const __m128i bits45 = _mm_set1_epi8(0x30);
	float d = f16_at(b + 208);

	for (u32 g = 0; g < 16; g++) {
		u32 half = g / 8, quarter = g % 8 / 2, at = g % 2 * 16;
		__m128i l = load16(b + 64 * half + quarter % 2 * 32 + at);
		__m128i h = load16(b + 128 + 32 * half + at);

		h = _mm_srl_epi16(h, _mm_cvtsi32_si128((int)quarter * 2));
		h = _mm_and_si128(_mm_slli_epi16(h, 4), bits45);
		l = quarter / 2 ? high_nibbles(l) : low_nibbles(l);
		store_scaled(_mm_or_si128(l, h), 32,
			     v16_set1(d * (float)(s8)b[192 + g]), out + 16 * g);
	}
}

/* nr elements of 1-element types; the rest of the last 32 become zeros. */
vec_inline void plain_row(u32 type, const u8 *src, u32 nr, u16 *out)
{
	u32 size = type == KV_DTYPE_F32 ? 4 : 2;

	for (u32 k = 0; k < ALIGN_UP(nr, 32u); k += 16) {
		u8 part[64] = { 0 };
		const u8 *b = src + (size_t)k * size;
		struct v16 v;

		if (k + 16 > nr) {
			memcpy(part, b, k < nr ? (nr - k) * size : 0);
			b = part;
		}
		if (type == KV_DTYPE_BF16) {
			memcpy(out + k, b, 32);
			continue;
		}
		if (type == KV_DTYPE_F32)
			v = v16_load((const float *)(const void *)b);
		else
			v = (struct v16){ _mm256_cvtph_ps(load16(b)),
					  _mm256_cvtph_ps(load16(b + 16)) };
		v16_store_bf16(out + k, v);
	}
}

#endif
