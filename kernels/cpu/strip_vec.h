/* SPDX-License-Identifier: MIT */
#ifndef CPU_STRIP_VEC_H
#define CPU_STRIP_VEC_H
/*
 * strip_vec.h - registers that hold something of 16 rows of w, or of 8 of them
 *
 * vn_x is written once for what reads strips (pack.h), whatever the
 * instruction set: VN lanes of 32 bits, lane n of row n. Also where the parts
 * of a strip lie.
 */
#include "kernels/cpu/vec.h"
#include "kernels/ref/strip.h"

#ifdef __AVX512F__

#define VN 16u /* lanes */
typedef __m512i vn_int;
typedef __m512 vn_float;

#define vn_and(a, b)	     _mm512_and_si512(a, b)
#define vn_or(a, b)	     _mm512_or_si512(a, b)
#define vn_mask(m)	     _mm512_set1_epi32((int)(m))
#define vn_shr(a, n)	     _mm512_srli_epi32(a, n)
#define vn_shr16(a, n)	     _mm512_srli_epi16(a, n)
#define vn_shl(a, n)	     _mm512_slli_epi32(a, n)
#define vn_add_int(a, b)     _mm512_add_epi32(a, b)
#define vn_sub_int(a, b)     _mm512_sub_epi32(a, b)
#define vn_sra(a, n)	     _mm512_srai_epi32(a, n)
#define vn_mul16(a, b)	     _mm512_mullo_epi16(a, b)
#define vn_sub16(a, b)	     _mm512_sub_epi16(a, b)
#define vn_to_float(a)	     _mm512_cvtepi32_ps(a)
#define vn_set1(f)	     _mm512_set1_ps(f)
#define vn_mul(a, b)	     _mm512_mul_ps(a, b)
#define vn_fma(a, b, c)	     _mm512_fmadd_ps(a, b, c)
#define vn_fms(a, b, c)	     _mm512_fmsub_ps(a, b, c)
#define vn_fnma(a, b, c)     _mm512_fnmadd_ps(a, b, c)
#define vn_load(p)	     _mm512_loadu_si512(p)
#define vn_store(p, a)	     _mm512_storeu_si512(p, a)
#define vn_load_float(p)     _mm512_loadu_ps(p)
#define vn_store_float(p, a) _mm512_storeu_ps(p, a)
#define vn_load_u8(p)	     _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(vn_bytes(p)))
#define vn_load_s8(p)	     _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(vn_bytes(p)))
#define vn_load_half(p)	     _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p)))

/* sum + a * b of each pair of words */
#ifdef __AVX512VNNI__
#define vn_madd16(sum, a, b) _mm512_dpwssd_epi32(sum, a, b)
#else
#define vn_madd16(sum, a, b) _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
#endif

vec_inline __m128i vn_bytes(const u8 *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

#else /* AVX2 */

#define VN 8u
typedef __m256i vn_int;
typedef __m256 vn_float;

#define vn_and(a, b)	     _mm256_and_si256(a, b)
#define vn_or(a, b)	     _mm256_or_si256(a, b)
#define vn_mask(m)	     _mm256_set1_epi32((int)(m))
#define vn_shr(a, n)	     _mm256_srli_epi32(a, n)
#define vn_shr16(a, n)	     _mm256_srli_epi16(a, n)
#define vn_shl(a, n)	     _mm256_slli_epi32(a, n)
#define vn_add_int(a, b)     _mm256_add_epi32(a, b)
#define vn_sub_int(a, b)     _mm256_sub_epi32(a, b)
#define vn_sra(a, n)	     _mm256_srai_epi32(a, n)
#define vn_mul16(a, b)	     _mm256_mullo_epi16(a, b)
#define vn_sub16(a, b)	     _mm256_sub_epi16(a, b)
#define vn_madd16(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(a, b))
#define vn_to_float(a)	     _mm256_cvtepi32_ps(a)
#define vn_set1(f)	     _mm256_set1_ps(f)
#define vn_mul(a, b)	     _mm256_mul_ps(a, b)
#define vn_fma(a, b, c)	     _mm256_fmadd_ps(a, b, c)
#define vn_fms(a, b, c)	     _mm256_fmsub_ps(a, b, c)
#define vn_fnma(a, b, c)     _mm256_fnmadd_ps(a, b, c)
#define vn_load(p)	     _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define vn_store(p, a)	     _mm256_storeu_si256((__m256i *)(void *)(p), a)
#define vn_load_float(p)     _mm256_loadu_ps(p)
#define vn_store_float(p, a) _mm256_storeu_ps(p, a)
#define vn_load_u8(p)	     _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(vn_bytes(p)))
#define vn_load_s8(p)	     _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(vn_bytes(p)))
#define vn_load_half(p) \
	_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))

vec_inline __m128i vn_bytes(const u8 *p)
{
	return _mm_loadl_epi64((const __m128i *)(const void *)p);
}

#endif

/* Where the quants and the scales of a strip lie, from column k0 on. */
struct strip_at {
	const u8 *quants, *scales;
};

static inline struct strip_at strip_at(const struct kern_mat *w, u32 row,
				       u32 k0)
{
	struct strip_type t = strip_type(w->dtype);
	const u8 *b = (const u8 *)w->data + row / KERN_STRIP * w->stride;

	return (struct strip_at){
		.quants = b + strip_quant_bytes(&t, k0),
		.scales = b + strip_quant_bytes(&t, w->cols) +
			  (size_t)(k0 / t.scale_len) * t.scale_bytes,
	};
}

/* Of VN rows: the scale of each 16 k, and the min; 0 where there is none. */
struct strip_scales {
	vn_float scale[2], min;
};

/* Of block b behind @s, from lane n on. */
vec_inline struct strip_scales strip_scales(const u32 dtype, const u8 *s, u32 b,
					    u32 n)
{
	const u8 *sub = s + 32 * (b % 8) + n;
	struct strip_scales r;
	vn_float d;

	switch (dtype) {
	case KV_DTYPE_Q4_K:
	case KV_DTYPE_Q5_K:
		sub += b / 8 * 320;
		s += b / 8 * 320;
		r.min = vn_mul(vn_load_half(s + 32 + 2 * n),
			       vn_load_u8(sub + 80));
		r.scale[0] =
			vn_mul(vn_load_half(s + 2 * n), vn_load_u8(sub + 64));
		r.scale[1] = r.scale[0];
		return r;
	case KV_DTYPE_Q6_K:
		sub += b / 8 * 288;
		d = vn_load_half(s + b / 8 * 288 + 2 * n);
		r.scale[0] = vn_mul(d, vn_load_s8(sub + 32));
		r.scale[1] = vn_mul(d, vn_load_s8(sub + 48));
		break;
	default:
		r.scale[0] = vn_load_half(s + 32 * b + 2 * n);
		r.scale[1] = r.scale[0];
	}
	r.min = vn_set1(0);
	return r;
}

/* Bits @at .. of @w, as @mask has them, to bit @to. */
vec_inline vn_int strip_bits(vn_int w, const u32 at, const u32 to,
			     const u32 mask)
{
	if (at < to)
		w = vn_shl(w, to - at);
	else if (at > to)
		w = vn_shr(w, at - to);
	return vn_and(w, vn_mask(mask << to));
}

/* An instance of @call for each type that has strips. */
#define STRIP_TYPE(type, call)                     \
	case KV_DTYPE_##type: {                    \
		const u32 dtype = KV_DTYPE_##type; \
		call;                              \
		break;                             \
	}
#define STRIP_TYPES(call)      \
	STRIP_TYPE(Q4_0, call) \
	STRIP_TYPE(Q5_0, call) \
	STRIP_TYPE(Q8_0, call) \
	STRIP_TYPE(Q4_K, call) \
	STRIP_TYPE(Q5_K, call) \
	STRIP_TYPE(Q6_K, call)

/* Bytes that quants are fetched ahead. */
#define STRIP_AHEAD 3072u /* where a strip is followed */
#define PANEL_AHEAD 1024u /* where 256 k of each are taken in turn */

/* As many bytes, from b on. */
vec_inline void strip_prefetch(const u8 *b, const u32 bytes)
{
#pragma GCC unroll 8
	for (u32 i = 0; i < bytes; i += 64)
		_mm_prefetch((const char *)b + i, _MM_HINT_T0);
}

/* A strip that is followed to its end, and on to the next. */
struct strip_all {
	const u8 *end; /* of its quants, where its scales begin */
	u64 quants, scales; /* bytes; the next strip is behind both */
};

/* All zero where rows are made a strip of: it has none behind it. */
static inline struct strip_all strip_all(const struct kern_mat *w, u32 row)
{
	struct strip_type t = strip_type(w->dtype);
	size_t quants = strip_quant_bytes(&t, w->cols);

	if (w->layout != KERN_LAYOUT_STRIP)
		return (struct strip_all){ 0 };
	return (struct strip_all){
		.end = strip_at(w, row, 0).quants + quants,
		.quants = quants,
		.scales = w->stride - quants,
	};
}

/*
 * Fetches what comes STRIP_AHEAD bytes of quants behind block b of a part of a
 * strip, and its scales: near the end, those of the next strip.
 */
vec_inline void strip_follow(const u32 dtype, const struct strip_all *all,
			     struct strip_at at, u32 b)
{
	const struct strip_type t = strip_type(dtype);
	const u32 ahead = STRIP_AHEAD / t.quant_bytes;
	const u8 *q = at.quants + (size_t)b * t.quant_bytes + STRIP_AHEAD;
	const u8 *s =
		at.scales + (b + ahead) * t.scale_bytes / (t.scale_len / 32);

	if (q >= all->end) {
		q += all->scales;
		s += all->quants;
	}
	strip_prefetch(q, t.quant_bytes);
	_mm_prefetch((const char *)s, _MM_HINT_T0);
}

#endif
