/* SPDX-License-Identifier: MIT */
#ifndef CPU_INTS_H
#define CPU_INTS_H
/*
 * ints.h - what products of integers have in common: int8_*.h, int16_*.h
 *
 * A block of x, 32 k of a row, is integers and what goes with them. Their sums
 * by 16 rows of w come out of integer products, whichever; here they are scaled
 * and added.
 */
#include "kernels/cpu/strip_vec.h"

#define INTS_VECS	  (KERN_STRIP / VN) /* registers of 16 rows of w */
#define INTS_PANEL_BLOCKS 8u /* 256 k: a block of every quantised type */

/* Rows of x whose sums registers hold. */
#ifdef __AVX512F__
#define INTS_ROWS 8
#else
#define INTS_ROWS 4
#endif

/* Of a block of x, behind its integers. */
struct ints_x {
	float scale;
	float mins; /* scale * (sum of q), which the min is multiplied with */
	s32 zero[2]; /* what a zero point adds to a sum, in each 16 k */
};

/* The largest |x| of 32, as bf16: its complement, in the lowest word. */
vec_inline __m128i ints_top_not(__m256i lo, __m256i hi)
{
	const __m256i mag = _mm256_set1_epi16(0x7fff);
	__m256i a = _mm256_max_epu16(_mm256_and_si256(lo, mag),
				     _mm256_and_si256(hi, mag));
	__m128i b = _mm_max_epu16(_mm256_castsi256_si128(a),
				  _mm256_extracti128_si256(a, 1));

	return _mm_minpos_epu16(_mm_xor_si128(b, _mm_set1_epi16(-1)));
}

vec_inline u32 ints_top(__m128i top_not)
{
	return ~(u32)_mm_cvtsi128_si32(top_not) & 0xffff;
}

/* A block that has no numbers, or none of a size that counts, has zeros. */
vec_inline bool ints_has_none(u32 top)
{
	return unlikely(top < INTS_TOP_MIN || top >= INTS_TOP_END);
}

static struct ints_x ints_none(u32 top)
{
	struct ints_x x = { 0 };

	if (top >= INTS_TOP_END)
		x.scale = x.mins = _mm_cvtss_f32(
			_mm_castsi128_ps(_mm_cvtsi32_si128((int)0x7fc00000)));
	return x;
}

/* Bits of a quant, two scales in 32 k, a min: what a product of a type does. */
vec_inline u32 ints_bits(const u32 dtype)
{
	switch (dtype) {
	case KV_DTYPE_Q5_0:
	case KV_DTYPE_Q5_K:
		return 5;
	case KV_DTYPE_Q6_K:
		return 6;
	case KV_DTYPE_Q8_0:
		return 8;
	}
	return 4;
}

vec_inline bool ints_halves(const u32 dtype)
{
	return dtype == KV_DTYPE_Q6_K;
}

vec_inline bool ints_mins(const u32 dtype)
{
	return dtype == KV_DTYPE_Q4_K || dtype == KV_DTYPE_Q5_K;
}

/* Scales of 256 k, beside the quants that are unpacked. */
struct ints_panel {
	float scale[INTS_PANEL_BLOCKS][2][KERN_STRIP];
	float min[INTS_PANEL_BLOCKS][KERN_STRIP];
};

vec_inline void ints_fill_scales(const u32 dtype, struct strip_at at, u32 b,
				 u32 n, struct ints_panel *p)
{
	struct strip_scales s = strip_scales(dtype, at.scales, b, n);

	vn_store_float(p->scale[b][0] + n, s.scale[0]);
	vn_store_float(p->scale[b][1] + n, s.scale[1]);
	vn_store_float(p->min[b] + n, s.min);
}

/* A block of the next panel, while this one is multiplied. */
vec_inline void ints_prefetch(const u32 bits, const u8 *quants)
{
	strip_prefetch(quants + INTS_PANEL_BLOCKS * bits * STRIP_VEC,
		       bits * STRIP_VEC);
}

/* Of block b: from the strip itself, or else from @p. */
vec_inline void ints_load_scales(const u32 dtype, const bool strip,
				 struct strip_at at, const struct ints_panel *p,
				 u32 b, struct strip_scales *s)
{
#pragma GCC unroll 2
	for (u32 h = 0; h < INTS_VECS; h++) {
		if (strip) {
			s[h] = strip_scales(dtype, at.scales, b, h * VN);
			continue;
		}
		s[h].scale[0] = vn_load_float(p->scale[b][0] + h * VN);
		s[h].scale[1] = vn_load_float(p->scale[b][1] + h * VN);
		s[h].min = vn_load_float(p->min[b] + h * VN);
	}
}

/*
 * c[m] = ref's steps for a block, or for half of it, given the integer sums.
 * @zero: they are of quants that still have their zero point
 * @x: of row 0; the others are @stride bytes apart
 */
vec_inline void ints_add(const u32 dtype, const bool zero, const u32 mr,
			 const u32 half, const struct strip_scales *s,
			 const struct ints_x *x, size_t stride,
			 vn_int (*sum)[INTS_VECS], float (*c)[KERN_STRIP])
{
	const char *at = (const char *)x;

#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++, at += stride) {
		const struct ints_x *xm = (const void *)at;
		vn_float scale = vn_set1(xm->scale);

#pragma GCC unroll 2
		for (u32 h = 0; h < INTS_VECS; h++) {
			vn_float v = vn_load_float(c[m] + h * VN);
			vn_int i = sum[m][h];

			if (zero && !ints_mins(dtype))
				i = vn_sub_int(i, vn_mask(xm->zero[half]));
			v = vn_fma(vn_mul(s[h].scale[half], scale),
				   vn_to_float(i), v);
			if (ints_mins(dtype))
				v = vn_fnma(s[h].min, vn_set1(xm->mins), v);
			vn_store_float(c[m] + h * VN, v);
		}
	}
}

/* ---- an instance of @call for each number of rows ---- */

#define INTS_MR(n, call)          \
	case n: {                 \
		const u32 mr = n; \
		call;             \
		break;            \
	}
#define INTS_MR_2(call) INTS_MR(1, call) INTS_MR(2, call)
#define INTS_MR_4(call) INTS_MR_2(call) INTS_MR(3, call) INTS_MR(4, call)
#if INTS_ROWS > 4
#define INTS_MR_ALL(call) \
	INTS_MR_4(call)   \
	INTS_MR(5, call) INTS_MR(6, call) INTS_MR(7, call) INTS_MR(8, call)
#else
#define INTS_MR_ALL(call) INTS_MR_4(call)
#endif

#endif
