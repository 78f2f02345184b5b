/* SPDX-License-Identifier: MIT */
#ifndef CPU_DEQUANT_AVX512_H
#define CPU_DEQUANT_AVX512_H
/*
 * dequant_avx512.h - rows of GGUF blocks to bf16, along k
 *
 * A sub-block of a 4- or 5-bit type has only 16 or 32 different values: they
 * are computed and rounded once, and a word permute looks each element up in
 * that table. 6- and 8-bit types are computed element by element. All give
 * exactly the rounded value of ref_element().
 */
#include "kernels/cpu/vec.h"

vec_inline float f16_at(const u8 *p)
{
	u16 h;

	memcpy(&h, p, sizeof(h));
	return _cvtsh_ss(h);
}

vec_inline __m512 iota16(void)
{
	return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
			      15);
}

vec_inline __m512i load_bytes_as_words(const u8 *p)
{
	return _mm512_cvtepu8_epi16(
		_mm256_loadu_si256((const __m256i *)(const void *)p));
}

/* 16 bytes: the low nibbles as words 0-15, the high ones as words 16-31. */
vec_inline __m512i split_nibbles(const u8 *p)
{
	__m256i w = _mm256_cvtepu8_epi16(
		_mm_loadu_si128((const __m128i *)(const void *)p));
	__m256i lo = _mm256_and_si256(w, _mm256_set1_epi16(15));

	return _mm512_inserti64x4(_mm512_castsi256_si512(lo),
				  _mm256_srli_epi16(w, 4), 1);
}

vec_inline void q4_0_block(const u8 *b, u16 *out)
{
	__m512 d = _mm512_set1_ps(f16_at(b));
	__m512 v =
		_mm512_mul_ps(d, _mm512_sub_ps(iota16(), _mm512_set1_ps(8.0f)));
	__m512i table = _mm512_castsi256_si512(v16_to_bf16((struct v16){ v }));

	_mm512_storeu_si512(
		out, _mm512_permutexvar_epi16(split_nibbles(b + 2), table));
}

vec_inline void q5_0_block(const u8 *b, u16 *out)
{
	__m512 d = _mm512_set1_ps(f16_at(b));
	__m512 lo = _mm512_mul_ps(
		d, _mm512_sub_ps(iota16(), _mm512_set1_ps(16.0f)));
	__m512 hi = _mm512_mul_ps(d, iota16());
	__m512i q = split_nibbles(b + 6);
	u32 fifths;

	memcpy(&fifths, b + 2, sizeof(fifths));
	q = _mm512_or_si512(q, _mm512_maskz_set1_epi16(fifths, 16));
	_mm512_storeu_si512(out,
			    _mm512_permutexvar_epi16(q, pack_bf16(lo, hi)));
}

vec_inline void q8_0_block(const u8 *b, u16 *out)
{
	__m512 d = _mm512_set1_ps(f16_at(b));
	__m128i lo = _mm_loadu_si128((const __m128i *)(const void *)(b + 2));
	__m128i hi = _mm_loadu_si128((const __m128i *)(const void *)(b + 18));
	__m512 x = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(lo));
	__m512 y = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(hi));

	_mm512_storeu_si512(
		out, pack_bf16(_mm512_mul_ps(x, d), _mm512_mul_ps(y, d)));
}

/*
 * Keeps an array in memory, from where one instruction broadcasts an element;
 * gcc would rather take it out of the register with two shuffles.
 */
#define IN_MEMORY(x) asm("" : "+m"(x))

/* The scales and mins of the 8 sub-blocks of a Q4_K or Q5_K block. */
struct k_scales {
	float scale[8], min_[8];
};

vec_inline void k_scales(const u8 *b, struct k_scales *out)
{
	u32 w[3], s[2], m[2];
	__m128i sm;
	__m256 f;

	memcpy(w, b + 4, sizeof(w));
	s[0] = w[0] & 0x3f3f3f3f;
	m[0] = w[1] & 0x3f3f3f3f;
	s[1] = (w[2] & 0x0f0f0f0f) | (w[0] >> 2 & 0x30303030);
	m[1] = (w[2] >> 4 & 0x0f0f0f0f) | (w[1] >> 2 & 0x30303030);
	sm = _mm_setr_epi32((int)s[0], (int)s[1], (int)m[0], (int)m[1]);
	f = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(sm));
	_mm256_storeu_ps(out->scale,
			 _mm256_mul_ps(f, _mm256_set1_ps(f16_at(b))));
	f = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(sm, 8)));
	_mm256_storeu_ps(out->min_,
			 _mm256_mul_ps(f, _mm256_set1_ps(f16_at(b + 2))));
}

/* scale_s * (first .. first + 15) - min_s */
vec_inline __m512 k_values(const struct k_scales *k, int s, float first)
{
	__m512 q = _mm512_add_ps(iota16(), _mm512_set1_ps(first));

	return _mm512_fmsub_ps(_mm512_set1_ps(k->scale[s]), q,
			       _mm512_set1_ps(k->min_[s]));
}

static inline void q4_k_block(const u8 *b, u16 *out)
{
	struct k_scales ks;

	k_scales(b, &ks);
	IN_MEMORY(ks);
#pragma GCC unroll 4
	for (int j = 0; j < 4; j++) {
		__m512i w = load_bytes_as_words(b + 16 + 32 * j);
		__m512i table = pack_bf16(k_values(&ks, 2 * j, 0),
					  k_values(&ks, 2 * j + 1, 0));
		__m512i lo = _mm512_and_si512(w, _mm512_set1_epi16(15));
		__m512i hi = _mm512_or_si512(_mm512_srli_epi16(w, 4),
					     _mm512_set1_epi16(16));

		_mm512_storeu_si512(out + 64 * j,
				    _mm512_permutexvar_epi16(lo, table));
		_mm512_storeu_si512(out + 64 * j + 32,
				    _mm512_permutexvar_epi16(hi, table));
	}
}

static inline void q5_k_block(const u8 *b, u16 *out)
{
	__m512i fifths = load_bytes_as_words(b + 16);
	struct k_scales ks;

	k_scales(b, &ks);
	IN_MEMORY(ks);
#pragma GCC unroll 8
	for (int s = 0; s < 8; s++) {
		__m512i w = load_bytes_as_words(b + 48 + 32 * (s / 2));
		__m512i table =
			pack_bf16(k_values(&ks, s, 0), k_values(&ks, s, 16));
		__m512i f = _mm512_slli_epi16(_mm512_srli_epi16(fifths, s), 4);

		w = s & 1 ? _mm512_srli_epi16(w, 4)
			  : _mm512_and_si512(w, _mm512_set1_epi16(15));
		w = _mm512_or_si512(w,
				    _mm512_and_si512(f, _mm512_set1_epi16(16)));
		_mm512_storeu_si512(out + 32 * s,
				    _mm512_permutexvar_epi16(w, table));
	}
}

/* 32 6-bit values as bytes -> bf16, one scale per 16 */
vec_inline void q6_k_store(__m256i q, const float *scale, u16 *out)
{
	__m256i v = _mm256_sub_epi8(q, _mm256_set1_epi8(32));
	__m512i lo = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(v));
	__m512i hi = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(v, 1));
	__m512 x =
		_mm512_mul_ps(_mm512_cvtepi32_ps(lo), _mm512_set1_ps(scale[0]));
	__m512 y =
		_mm512_mul_ps(_mm512_cvtepi32_ps(hi), _mm512_set1_ps(scale[1]));

	_mm512_storeu_si512(out, pack_bf16(x, y));
}

static inline void q6_k_block(const u8 *b, u16 *out)
{
	__m128i s = _mm_loadu_si128((const __m128i *)(const void *)(b + 192));
	float scale[16];
	const __m256i low4 = _mm256_set1_epi8(15);
	const __m256i bits45 = _mm256_set1_epi8(0x30);

	_mm512_storeu_ps(scale, _mm512_mul_ps(_mm512_cvtepi32_ps(
						      _mm512_cvtepi8_epi32(s)),
					      _mm512_set1_ps(f16_at(b + 208))));

	IN_MEMORY(scale);
#pragma GCC unroll 2
	for (int half = 0; half < 2; half++) {
		const void *ql = b + 64 * half, *qh = b + 128 + 32 * half;
		__m256i l0 = _mm256_loadu_si256((const __m256i *)ql);
		__m256i l1 = _mm256_loadu_si256((const __m256i *)ql + 1);
		__m256i h = _mm256_loadu_si256((const __m256i *)qh);
		__m256i up[4] = { _mm256_slli_epi16(h, 4),
				  _mm256_slli_epi16(h, 2), h,
				  _mm256_srli_epi16(h, 2) };
		__m256i lo[4] = { l0, l1, _mm256_srli_epi16(l0, 4),
				  _mm256_srli_epi16(l1, 4) };

#pragma GCC unroll 4
		for (int q = 0; q < 4; q++) {
			__m256i v = _mm256_or_si256(
				_mm256_and_si256(lo[q], low4),
				_mm256_and_si256(up[q], bits45));

			q6_k_store(v, scale + 8 * half + 2 * q,
				   out + 128 * half + 32 * q);
		}
	}
}

/* nr elements of 1-element types; the rest of the last 32 become zeros. */
vec_inline void plain_row(u32 type, const u8 *src, u32 nr, u16 *out)
{
	for (u32 k = 0; k < nr; k += 32) {
		u32 n = min(nr - k, 32u);
		__mmask32 m = n == 32 ? ~0u : (1u << n) - 1;

		if (type == KV_DTYPE_F32) {
			const float *f = (const float *)(const void *)src + k;
			__m512 lo = _mm512_maskz_loadu_ps((__mmask16)m, f);
			__m512 hi = _mm512_maskz_loadu_ps((__mmask16)(m >> 16),
							  f + 16);

			_mm512_storeu_si512(out + k, pack_any_bf16(lo, hi));
			continue;
		}
		__m512i w = _mm512_maskz_loadu_epi16(m, src + 2 * (size_t)k);

		if (type == KV_DTYPE_F16)
			w = pack_bf16(
				_mm512_cvtph_ps(_mm512_castsi512_si256(w)),
				_mm512_cvtph_ps(
					_mm512_extracti64x4_epi64(w, 1)));
		_mm512_storeu_si512(out + k, w);
	}
}

#endif
