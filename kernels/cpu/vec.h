/* SPDX-License-Identifier: MIT */
#ifndef CPU_VEC_H
#define CPU_VEC_H
/*
 * vec.h - 16 floats, on AVX-512 one register, on AVX2 two
 *
 * Operations that are written against this header give the same bits on both,
 * because ref/ counts partial sums by 16 too. Included only by objects that
 * are compiled with the flags of one instruction set.
 *
 * The suffix _n means: only the first n lanes, 0 < n <= 16; the others load
 * as zero and are not stored. max and min give the second operand if one is
 * a NaN.
 */
#include <immintrin.h>
#include <string.h>

#include "kernels/include/kern.h"

#define vec_inline static inline __attribute__((always_inline))

#ifdef __AVX512F__

struct v16 {
	__m512 v;
};

struct v16mask {
	__mmask16 m;
};

#define V16_UNARY(name, expr)                          \
	vec_inline struct v16 v16_##name(struct v16 a) \
	{                                              \
		return (struct v16){ expr };           \
	}
#define V16_BINARY(name, expr)                                       \
	vec_inline struct v16 v16_##name(struct v16 a, struct v16 b) \
	{                                                            \
		return (struct v16){ expr };                         \
	}

V16_BINARY(add, _mm512_add_ps(a.v, b.v))
V16_BINARY(sub, _mm512_sub_ps(a.v, b.v))
V16_BINARY(mul, _mm512_mul_ps(a.v, b.v))
V16_BINARY(div, _mm512_div_ps(a.v, b.v))
V16_BINARY(max, _mm512_max_ps(a.v, b.v))
V16_BINARY(min, _mm512_min_ps(a.v, b.v))
V16_UNARY(rint, _mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT))
V16_UNARY(abs, _mm512_abs_ps(a.v))
V16_UNARY(neg, _mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f)))
/* a with the sign of b, a >= 0 */
V16_BINARY(sign, _mm512_or_ps(a.v, _mm512_and_ps(b.v, _mm512_set1_ps(-0.0f))))

vec_inline struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
	return (struct v16){ _mm512_fmadd_ps(a.v, b.v, c.v) };
}

vec_inline struct v16 v16_fms(struct v16 a, struct v16 b, struct v16 c)
{
	return (struct v16){ _mm512_fmsub_ps(a.v, b.v, c.v) };
}

vec_inline struct v16 v16_set1(float f)
{
	return (struct v16){ _mm512_set1_ps(f) };
}

/* p * 2^n for an integral n */
vec_inline struct v16 v16_scale2(struct v16 p, struct v16 n)
{
	__m512i e = _mm512_slli_epi32(_mm512_cvtps_epi32(n.v), 23);

	return (struct v16){ _mm512_castsi512_ps(
		_mm512_add_epi32(_mm512_castps_si512(p.v), e)) };
}

vec_inline struct v16mask v16_lt(struct v16 a, struct v16 b)
{
	return (struct v16mask){ _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ) };
}

vec_inline struct v16mask v16_eq(struct v16 a, struct v16 b)
{
	return (struct v16mask){ _mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ) };
}

vec_inline u32 v16mask_bits(struct v16mask m)
{
	return m.m;
}

/* m ? a : b */
vec_inline struct v16 v16_select(struct v16mask m, struct v16 a, struct v16 b)
{
	return (struct v16){ _mm512_mask_blend_ps(m.m, b.v, a.v) };
}

/* Lanes lo <= i < hi, 0 <= lo <= hi <= 16. */
vec_inline struct v16mask v16_lanes(u32 lo, u32 hi)
{
	return (struct v16mask){ (__mmask16)((1u << hi) - (1u << lo)) };
}

vec_inline struct v16 v16_load(const float *p)
{
	return (struct v16){ _mm512_loadu_ps(p) };
}

vec_inline struct v16 v16_load_n(const float *p, u32 n)
{
	return (struct v16){ _mm512_maskz_loadu_ps(v16_lanes(0, n).m, p) };
}

vec_inline void v16_store(float *p, struct v16 a)
{
	_mm512_storeu_ps(p, a.v);
}

vec_inline void v16_store_n(float *p, struct v16 a, u32 n)
{
	_mm512_mask_storeu_ps(p, v16_lanes(0, n).m, a.v);
}

vec_inline struct v16 v16_load_bf16(const u16 *p)
{
	__m256i h = _mm256_loadu_si256((const __m256i *)(const void *)p);

	return (struct v16){ _mm512_castsi512_ps(
		_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)) };
}

/* Likewise, in the order that is made soonest and v16_unsplit() undoes. */
vec_inline struct v16 v16_split_bf16(const u16 *p)
{
	return v16_load_bf16(p);
}

vec_inline struct v16 v16_unsplit(struct v16 a)
{
	return a;
}

/* 16 signed bytes */
vec_inline struct v16 v16_from_s8(__m128i b)
{
	return (struct v16){ _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b)) };
}

/* 16 halves */
vec_inline struct v16 v16_load_f16(const u8 *p)
{
	return (struct v16){ _mm512_cvtph_ps(
		_mm256_loadu_si256((const __m256i *)(const void *)p)) };
}

/* Rounded to bf16, in the upper half of each dword; the lower is garbage. */
vec_inline __m512i v16_round_bits(struct v16 a)
{
	__m512i u = _mm512_castps_si512(a.v);
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16),
				       _mm512_set1_epi32(1));
	__m512i r = _mm512_add_epi32(
		_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
	__mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);

	return _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
}

/* 32 values of two registers, rounded, in order: any, as ref rounds them. */
vec_inline __m512i pack_any_bf16(__m512 lo, __m512 hi)
{
	const __m512i odd_words = _mm512_set_epi16(
		63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33,
		31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
	struct v16 a = { lo }, b = { hi };

	return _mm512_permutex2var_epi16(v16_round_bits(a), odd_words,
					 v16_round_bits(b));
}

/*
 * The same of what arithmetic has made. The instruction takes denormals for
 * zeros, also those that round up to the smallest normal number; arithmetic
 * leaves none, but the bytes of a file may be any.
 */
vec_inline __m512i pack_bf16(__m512 lo, __m512 hi)
{
#ifdef __AVX512BF16__
	return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
#else
	return pack_any_bf16(lo, hi);
#endif
}

/* The instruction makes zeros of denormals, which arithmetic leaves nowhere. */
vec_inline __m256i v16_to_bf16(struct v16 a)
{
#ifdef __AVX512BF16__
	return (__m256i)_mm512_cvtneps_pbh(a.v);
#else
	return _mm512_cvtepi32_epi16(_mm512_srli_epi32(v16_round_bits(a), 16));
#endif
}

/* Rounded to bf16, as floats again. */
vec_inline struct v16 v16_round_bf16(struct v16 a)
{
#ifdef __AVX512BF16__
	__m512i bits = _mm512_cvtepu16_epi32(v16_to_bf16(a));

	bits = _mm512_slli_epi32(bits, 16);
#else
	__m512i upper = _mm512_set1_epi32((int)0xffff0000);
	__m512i bits = _mm512_and_si512(v16_round_bits(a), upper);
#endif
	return (struct v16){ _mm512_castsi512_ps(bits) };
}

/* Lane i of both, rounded before: a pair of bf16 in dword i. */
vec_inline void v16_store_pairs(u32 *p, struct v16 even, struct v16 odd)
{
	__m512i lower = _mm512_srli_epi32(_mm512_castps_si512(even.v), 16);

	_mm512_storeu_si512(p,
			    _mm512_or_si512(lower, _mm512_castps_si512(odd.v)));
}

/* out[i] = the pair even[i], odd[i] for 16 i */
vec_inline void v16_interleave(u32 *out, const u16 *even, const u16 *odd)
{
	const __m512i order = _mm512_set_epi16(
		31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
		23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
	__m256i e = _mm256_loadu_si256((const __m256i *)(const void *)even);
	__m256i o = _mm256_loadu_si256((const __m256i *)(const void *)odd);
	__m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(e), o, 1);

	_mm512_storeu_si512(out, _mm512_permutexvar_epi16(order, both));
}

/* Likewise of 32 i, the first 16 to @lo. */
vec_inline void v32_interleave(u32 *lo, u32 *hi, const u16 *even,
			       const u16 *odd)
{
	const __m512i first = _mm512_set_epi16(
		47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8,
		39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
	const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
	__m512i e = _mm512_loadu_si512(even), o = _mm512_loadu_si512(odd);

	_mm512_storeu_si512(lo, _mm512_permutex2var_epi16(e, first, o));
	_mm512_storeu_si512(hi, _mm512_permutex2var_epi16(e, second, o));
}

vec_inline void v16_store_bf16(u16 *p, struct v16 a)
{
	_mm256_storeu_si256((__m256i *)(void *)p, v16_to_bf16(a));
}

vec_inline void v16_store_bf16_n(u16 *p, struct v16 a, u32 n)
{
	_mm256_mask_storeu_epi16(p, v16_lanes(0, n).m, v16_to_bf16(a));
}

/* The 8 sums of lanes i and i + 8. */
vec_inline __m256 v16_half_sum(struct v16 a)
{
	return _mm256_add_ps(_mm512_castps512_ps256(a.v),
			     _mm512_extractf32x8_ps(a.v, 1));
}

vec_inline __m256 v16_half_max(struct v16 a)
{
	return _mm256_max_ps(_mm512_castps512_ps256(a.v),
			     _mm512_extractf32x8_ps(a.v, 1));
}

/* 16 doubles: lane i is d[i / 8] lane i % 8. */
struct v16d {
	__m512d d[2];
};

vec_inline struct v16d v16d_add_f32(struct v16d s, struct v16 a)
{
	__m256 lo = _mm512_castps512_ps256(a.v);
	__m256 hi = _mm512_extractf32x8_ps(a.v, 1);

	s.d[0] = _mm512_add_pd(s.d[0], _mm512_cvtps_pd(lo));
	s.d[1] = _mm512_add_pd(s.d[1], _mm512_cvtps_pd(hi));
	return s;
}

#else /* AVX2 */

struct v16 {
	__m256 v, w; /* lanes 0-7, 8-15 */
};

struct v16mask {
	__m256 v, w;
};

#define V16_UNARY(name, f)                             \
	vec_inline struct v16 v16_##name(struct v16 a) \
	{                                              \
		return (struct v16){ f(a.v), f(a.w) }; \
	}
#define V16_BINARY(name, f)                                          \
	vec_inline struct v16 v16_##name(struct v16 a, struct v16 b) \
	{                                                            \
		return (struct v16){ f(a.v, b.v), f(a.w, b.w) };     \
	}

vec_inline __m256 v8_rint(__m256 a)
{
	return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT);
}

vec_inline __m256 v8_abs(__m256 a)
{
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

vec_inline __m256 v8_neg(__m256 a)
{
	return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f));
}

vec_inline __m256 v8_sign(__m256 a, __m256 b)
{
	return _mm256_or_ps(a, _mm256_and_ps(b, _mm256_set1_ps(-0.0f)));
}

V16_BINARY(add, _mm256_add_ps)
V16_BINARY(sub, _mm256_sub_ps)
V16_BINARY(mul, _mm256_mul_ps)
V16_BINARY(div, _mm256_div_ps)
V16_BINARY(max, _mm256_max_ps)
V16_BINARY(min, _mm256_min_ps)
V16_UNARY(rint, v8_rint)
V16_UNARY(abs, v8_abs)
V16_UNARY(neg, v8_neg)
/* a with the sign of b, a >= 0 */
V16_BINARY(sign, v8_sign)

vec_inline struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
	return (struct v16){ _mm256_fmadd_ps(a.v, b.v, c.v),
			     _mm256_fmadd_ps(a.w, b.w, c.w) };
}

vec_inline struct v16 v16_fms(struct v16 a, struct v16 b, struct v16 c)
{
	return (struct v16){ _mm256_fmsub_ps(a.v, b.v, c.v),
			     _mm256_fmsub_ps(a.w, b.w, c.w) };
}

vec_inline struct v16 v16_set1(float f)
{
	return (struct v16){ _mm256_set1_ps(f), _mm256_set1_ps(f) };
}

vec_inline __m256 v8_scale2(__m256 p, __m256 n)
{
	__m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);

	return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e));
}

/* p * 2^n for an integral n */
V16_BINARY(scale2, v8_scale2)

vec_inline struct v16mask v16_lt(struct v16 a, struct v16 b)
{
	return (struct v16mask){ _mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ),
				 _mm256_cmp_ps(a.w, b.w, _CMP_LT_OQ) };
}

vec_inline struct v16mask v16_eq(struct v16 a, struct v16 b)
{
	return (struct v16mask){ _mm256_cmp_ps(a.v, b.v, _CMP_EQ_OQ),
				 _mm256_cmp_ps(a.w, b.w, _CMP_EQ_OQ) };
}

vec_inline u32 v16mask_bits(struct v16mask m)
{
	return (u32)_mm256_movemask_ps(m.v) | (u32)_mm256_movemask_ps(m.w) << 8;
}

/* m ? a : b */
vec_inline struct v16 v16_select(struct v16mask m, struct v16 a, struct v16 b)
{
	return (struct v16){ _mm256_blendv_ps(b.v, a.v, m.v),
			     _mm256_blendv_ps(b.w, a.w, m.w) };
}

vec_inline __m256 v8_lanes(int lo, int hi, __m256i i)
{
	__m256i m = _mm256_and_si256(
		_mm256_cmpgt_epi32(i, _mm256_set1_epi32(lo - 1)),
		_mm256_cmpgt_epi32(_mm256_set1_epi32(hi), i));

	return _mm256_castsi256_ps(m);
}

/* Lanes lo <= i < hi, 0 <= lo <= hi <= 16. */
vec_inline struct v16mask v16_lanes(u32 lo, u32 hi)
{
	__m256i i = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
	__m256i j = _mm256_add_epi32(i, _mm256_set1_epi32(8));

	return (struct v16mask){ v8_lanes((int)lo, (int)hi, i),
				 v8_lanes((int)lo, (int)hi, j) };
}

vec_inline struct v16 v16_load(const float *p)
{
	return (struct v16){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}

vec_inline struct v16 v16_load_n(const float *p, u32 n)
{
	struct v16mask m = v16_lanes(0, n);

	return (struct v16){
		_mm256_maskload_ps(p, _mm256_castps_si256(m.v)),
		_mm256_maskload_ps(p + 8, _mm256_castps_si256(m.w)),
	};
}

vec_inline void v16_store(float *p, struct v16 a)
{
	_mm256_storeu_ps(p, a.v);
	_mm256_storeu_ps(p + 8, a.w);
}

vec_inline void v16_store_n(float *p, struct v16 a, u32 n)
{
	struct v16mask m = v16_lanes(0, n);

	_mm256_maskstore_ps(p, _mm256_castps_si256(m.v), a.v);
	_mm256_maskstore_ps(p + 8, _mm256_castps_si256(m.w), a.w);
}

vec_inline __m256 v8_load_bf16(const u16 *p)
{
	__m128i h = _mm_loadu_si128((const __m128i *)(const void *)p);

	return _mm256_castsi256_ps(
		_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

vec_inline struct v16 v16_load_bf16(const u16 *p)
{
	return (struct v16){ v8_load_bf16(p), v8_load_bf16(p + 8) };
}

/* Likewise, in the order that is made soonest and v16_unsplit() undoes. */
vec_inline struct v16 v16_split_bf16(const u16 *p)
{
	__m256i x = _mm256_loadu_si256((const __m256i *)(const void *)p);
	__m256i odd = _mm256_and_si256(x, _mm256_set1_epi32((int)0xffff0000));

	return (struct v16){ _mm256_castsi256_ps(_mm256_slli_epi32(x, 16)),
			     _mm256_castsi256_ps(odd) };
}

vec_inline struct v16 v16_unsplit(struct v16 a)
{
	__m256 x = _mm256_unpacklo_ps(a.v, a.w);
	__m256 y = _mm256_unpackhi_ps(a.v, a.w);

	return (struct v16){ _mm256_permute2f128_ps(x, y, 0x20),
			     _mm256_permute2f128_ps(x, y, 0x31) };
}

/* 16 signed bytes */
vec_inline struct v16 v16_from_s8(__m128i b)
{
	return (struct v16){
		_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)),
		_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(b, 8))),
	};
}

/* 16 halves */
vec_inline struct v16 v16_load_f16(const u8 *p)
{
	const __m128i *h = (const __m128i *)(const void *)p;

	return (struct v16){ _mm256_cvtph_ps(_mm_loadu_si128(h)),
			     _mm256_cvtph_ps(_mm_loadu_si128(h + 1)) };
}

/* Rounded to bf16, in the lower half of each dword, the upper 0. */
vec_inline __m256i v8_round_bits(__m256 a)
{
	__m256i u = _mm256_castps_si256(a);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16),
				       _mm256_set1_epi32(1));
	__m256i r = _mm256_add_epi32(
		_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
	__m256i q = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
	__m256 nan = _mm256_cmp_ps(a, a, _CMP_UNORD_Q);

	r = _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(r),
						 _mm256_castsi256_ps(q), nan));
	return _mm256_srli_epi32(r, 16);
}

vec_inline __m256 v8_round_bf16(__m256 a)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(v8_round_bits(a), 16));
}

/* Rounded to bf16, as floats again. */
V16_UNARY(round_bf16, v8_round_bf16)

vec_inline void v8_store_pairs(u32 *p, __m256 even, __m256 odd)
{
	__m256i lower = _mm256_srli_epi32(_mm256_castps_si256(even), 16);

	_mm256_storeu_si256((__m256i *)(void *)p,
			    _mm256_or_si256(lower, _mm256_castps_si256(odd)));
}

/* Lane i of both, rounded before: a pair of bf16 in dword i. */
vec_inline void v16_store_pairs(u32 *p, struct v16 even, struct v16 odd)
{
	v8_store_pairs(p, even.v, odd.v);
	v8_store_pairs(p + 8, even.w, odd.w);
}

/* out[i] = the pair even[i], odd[i] for 16 i */
vec_inline void v16_interleave(u32 *out, const u16 *even, const u16 *odd)
{
	__m256i e = _mm256_loadu_si256((const __m256i *)(const void *)even);
	__m256i o = _mm256_loadu_si256((const __m256i *)(const void *)odd);
	__m256i lo = _mm256_unpacklo_epi16(e, o); /* 0-3, 8-11 */
	__m256i hi = _mm256_unpackhi_epi16(e, o); /* 4-7, 12-15 */

	_mm256_storeu_si256((__m256i *)(void *)out,
			    _mm256_permute2x128_si256(lo, hi, 0x20));
	_mm256_storeu_si256((__m256i *)(void *)(out + 8),
			    _mm256_permute2x128_si256(lo, hi, 0x31));
}

vec_inline void v32_interleave(u32 *lo, u32 *hi, const u16 *even,
			       const u16 *odd)
{
	v16_interleave(lo, even, odd);
	v16_interleave(hi, even + 16, odd + 16);
}

vec_inline __m256i v16_to_bf16(struct v16 a)
{
	__m256i x = _mm256_packus_epi32(v8_round_bits(a.v), v8_round_bits(a.w));

	return _mm256_permute4x64_epi64(x, 0xd8);
}

vec_inline void v16_store_bf16(u16 *p, struct v16 a)
{
	_mm256_storeu_si256((__m256i *)(void *)p, v16_to_bf16(a));
}

vec_inline void v16_store_bf16_n(u16 *p, struct v16 a, u32 n)
{
	u16 x[16];

	v16_store_bf16(x, a);
	memcpy(p, x, n * sizeof(*x));
}

/* The 8 sums of lanes i and i + 8. */
vec_inline __m256 v16_half_sum(struct v16 a)
{
	return _mm256_add_ps(a.v, a.w);
}

vec_inline __m256 v16_half_max(struct v16 a)
{
	return _mm256_max_ps(a.v, a.w);
}

/* 16 doubles: lane i is d[i / 4] lane i % 4. */
struct v16d {
	__m256d d[4];
};

vec_inline struct v16d v16d_add_f32(struct v16d s, struct v16 a)
{
	__m128 x[4] = { _mm256_castps256_ps128(a.v),
			_mm256_extractf128_ps(a.v, 1),
			_mm256_castps256_ps128(a.w),
			_mm256_extractf128_ps(a.w, 1) };

	for (int i = 0; i < 4; i++)
		s.d[i] = _mm256_add_pd(s.d[i], _mm256_cvtps_pd(x[i]));
	return s;
}

#endif

/* ---- the same for both ---- */

vec_inline struct v16 v16_zero(void)
{
	return v16_set1(0);
}

vec_inline struct v16 v16_load_bf16_n(const u16 *p, u32 n)
{
	u16 x[16] = { 0 };

	memcpy(x, p, n * sizeof(*x));
	return v16_load_bf16(x);
}

/* ref_fold16() */
vec_inline float v16_fold(struct v16 a)
{
	__m256 h = v16_half_sum(a);
	__m128 q = _mm_add_ps(_mm256_castps256_ps128(h),
			      _mm256_extractf128_ps(h, 1));

	q = _mm_add_ps(q, _mm_movehl_ps(q, q));
	q = _mm_add_ss(q, _mm_movehdup_ps(q));
	return _mm_cvtss_f32(q);
}

/* The largest lane; no lane is a NaN. */
vec_inline float v16_largest(struct v16 a)
{
	__m256 h = v16_half_max(a);
	__m128 q = _mm_max_ps(_mm256_castps256_ps128(h),
			      _mm256_extractf128_ps(h, 1));

	q = _mm_max_ps(q, _mm_movehl_ps(q, q));
	q = _mm_max_ss(q, _mm_movehdup_ps(q));
	return _mm_cvtss_f32(q);
}

vec_inline double v16d_fold(struct v16d s)
{
	double lane[16];

	memcpy(lane, &s, sizeof(lane));
	for (int half = 8; half; half /= 2)
		for (int i = 0; i < half; i++)
			lane[i] += lane[i + half];
	return lane[0];
}

#endif
