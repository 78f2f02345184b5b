/* SPDX-License-Identifier: MIT */
#ifndef CPU_UNPACK_H
#define CPU_UNPACK_H
/*
 * unpack.h - strips (pack.h) to the pairs of bf16 that a tile multiplies
 *
 * In a strip the rows of w lie side by side already, so a register of quants
 * becomes registers of a panel as it lies: cut a pair of k out of every dword,
 * make floats of both, scale, round, put the halves together. The value
 * is scale * q - min with one rounding, which is ref_strip_element()'s: where
 * the type has a zero point instead, min is scale * zero, and all is exact.
 *
 * Written on the registers of one instruction set, 8 or 16 rows of w each.
 */
#include "kernels/cpu/strip_vec.h"

#ifdef __AVX512F__

/*
 * A dword of a strip has the even k of a row in its lower half and the odd k in
 * the upper one: widened, 8 rows' words are 16 dwords in the order in which a
 * panel wants them. Quants are left where they are in a dword, and the scale
 * makes up for it: the scale of nibble i is 2^-4i times as large. (With VBMI
 * only the types with a min go this way.)
 */

/* Of rows 0 to 7 and of rows 8 to 15, each twice. */
struct vn_scale {
	__m512 scale[2], min[2];
};

vec_inline struct vn_scale vn_scale(vn_float scale, vn_float min_)
{
	const __m512i low = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2,
					     1, 1, 0, 0);
	const __m512i high = _mm512_set_epi32(15, 15, 14, 14, 13, 13, 12, 12,
					      11, 11, 10, 10, 9, 9, 8, 8);

	return (struct vn_scale){
		{ _mm512_permutexvar_ps(low, scale),
		  _mm512_permutexvar_ps(high, scale) },
		{ _mm512_permutexvar_ps(low, min_),
		  _mm512_permutexvar_ps(high, min_) },
	};
}

/* Half h of vector v: its words, widened. */
vec_inline __m512i unpack_words(const u8 *b, const u32 v, const u32 h)
{
	const void *at = b + v * STRIP_VEC + h * (STRIP_VEC / 2);

	return _mm512_cvtepu16_epi32(_mm256_loadu_si256(at));
}

/* Quant 4 * v + i of 8 rows, even and odd k, 2^(4i) times too large. */
vec_inline __m512i unpack_at(const u32 bits, __m512i w, const __m512i *high,
			     const u32 v, const u32 i)
{
	__m512i q = vn_and(w, vn_mask(0xfu << 4 * i));

	if (bits == 5)
		q = vn_or(q, strip_bits(high[0], 4 * v + i, 4 * i + 4, 1));
	if (bits == 6)
		q = vn_or(q, strip_bits(high[v / 2], 2 * (4 * (v % 2) + i),
					4 * i + 4, 3));
	return q;
}

/* Two registers of quants as floats, times the scale, to one of pairs. */
vec_inline void unpack_store(u32 *out, __m512 rows_0_7, __m512 rows_8_15,
			     const __m512 *scale, const __m512 *min_)
{
	vn_store(out, pack_bf16(vn_fms(scale[0], rows_0_7, min_[0]),
				vn_fms(scale[1], rows_8_15, min_[1])));
}

#ifdef __AVX512VBMI__

/*
 * Quants whose bytes become floats by one permutation: a byte is put behind the
 * exponent of a power of two, where its bits mean 1 and up. 8 bits are behind
 * 2^15, at bit 8; fewer behind 2^7, at bit 16, so that this times a scale of 18
 * bits (Q6_K) is exact as well: scale * (2^7 + q) - scale * (2^7 + zero). With
 * a min of its own (Q4_K, Q5_K) that would round twice.
 */
vec_inline bool unpack_by_bytes(const u32 bits, const u32 zero)
{
	return zero;
}

/* Byte i of both halves of 8 dwords from number @first on. */
vec_inline __m512 unpack_byte(const u32 bits, __m512i dwords, const u32 i,
			      const u32 first)
{
	const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16,
					      14, 12, 10, 8, 6, 4, 2, 0);
	const u32 to = bits == 8 ? 1 : 2;
	const __m512i at =
		vn_shl(_mm512_add_epi32(even, vn_mask(4 * first + i)), 8 * to);

	return _mm512_castsi512_ps(_mm512_mask_permutexvar_epi8(
		vn_mask(bits == 8 ? 0x47000000 : 0x43000000),
		0x1111111111111111u << to, at, dwords));
}

/*
 * Of vector v the quants of 4 to 6 bits as bytes: in each half 2 * byte + @odd.
 * The high bits, for each byte another field of the half, are cut out to bit 4.
 */
vec_inline __m512i unpack_joined(const u32 bits, const u8 *b, const u32 v,
				 const u32 odd)
{
	const u32 at = bits == 5 ? 4 * v + odd : 8 * (v % 2) + 2 * odd;
	const u32 next = bits == 5 ? 2 : 4; /* from a byte's to the next's */
	const u64 first = (u64)at + 60; /* minus 4, of 64 */
	const u64 half = (first & 63) | ((first + next) & 63) << 8;
	/* 16 more for each half; nothing carries, 64 bits are a circle. */
	const u64 where = half | (half + 0x1010) << 16 | (half + 0x2020) << 32 |
			  (half + 0x3030) << 48;
	const __m512i nibble = vn_mask(0x0f0f0f0f);
	__m512i low = vn_load(b + v * STRIP_VEC), high;

	if (odd)
		low = vn_shr(low, 4);
	if (bits == 4)
		return vn_and(low, nibble);
	high = _mm512_multishift_epi64_epi8(
		_mm512_set1_epi64((s64)where),
		vn_load(b + (bits == 5 ? 4 : 4 + v / 2) * STRIP_VEC));
	/* low where nibble has ones, else high */
	low = _mm512_ternarylogic_epi32(low, high, nibble, 0xe4);
	return vn_and(low, vn_mask(bits == 5 ? 0x1f1f1f1f : 0x3f3f3f3f));
}

/* A vector's bytes 0 and 1 of each half, to @out and @out + @apart. */
vec_inline void unpack_vector(const u32 bits, __m512i w, struct vn_scale s,
			      u32 *out, size_t apart)
{
	const vn_float up = vn_set1(bits == 8 ? 0x1p15f : 0x1p7f);
	const __m512 min_[2] = { vn_fma(s.scale[0], up, s.min[0]),
				 vn_fma(s.scale[1], up, s.min[1]) };

#pragma GCC unroll 2
	for (u32 i = 0; i < 2; i++)
		unpack_store(out + i * apart, unpack_byte(bits, w, i, 0),
			     unpack_byte(bits, w, i, 8), s.scale, min_);
}

vec_inline void unpack_bytes(const u32 bits, const u8 *b, struct vn_scale s,
			     struct vn_scale second, u32 *out, size_t stride)
{
	if (bits == 8) {
#pragma GCC unroll 8
		for (u32 v = 0; v < 8; v++)
			unpack_vector(8, vn_load(b + v * STRIP_VEC), s,
				      out + 2 * v * stride, stride);
		return;
	}
#pragma GCC unroll 4
	for (u32 v = 0; v < 4; v++)
#pragma GCC unroll 2
		for (u32 odd = 0; odd < 2; odd++)
			unpack_vector(bits, unpack_joined(bits, b, v, odd),
				      v < 2 ? s : second,
				      out + (4 * v + odd) * stride, 2 * stride);
}

#else

vec_inline bool unpack_by_bytes(const u32 bits, const u32 zero)
{
	return bits == 8;
}

vec_inline void unpack_bytes(const u32 bits, const u8 *b, struct vn_scale s,
			     struct vn_scale second_half, u32 *out,
			     size_t stride)
{
	const vn_float down = vn_set1(0x1p-8f);
	__m512 second[2] = { vn_mul(s.scale[0], down),
			     vn_mul(s.scale[1], down) };

#pragma GCC unroll 8
	for (u32 v = 0; v < 8; v++) {
		__m512i w[2] = { unpack_words(b, v, 0), unpack_words(b, v, 1) };

#pragma GCC unroll 2
		for (u32 i = 0; i < 2; i++) {
			const __m512i field = vn_mask(0xffu << 8 * i);

			unpack_store(out + (2 * v + i) * stride,
				     vn_to_float(vn_and(w[0], field)),
				     vn_to_float(vn_and(w[1], field)),
				     i ? second : s.scale, s.min);
		}
	}
}

#endif

/* 32 k of 16 rows; @second is the scale of the upper 16 k. */
vec_inline void unpack_quants(const u32 bits, const u32 zero, const u8 *b,
			      struct vn_scale s, struct vn_scale second,
			      u32 *out, size_t stride)
{
	__m512i high[2][2];

	if (unpack_by_bytes(bits, zero)) {
		unpack_bytes(bits, b, s, second, out, stride);
		return;
	}
#pragma GCC unroll 2
	for (u32 h = 0; h < 2; h++) {
		if (bits == 5 || bits == 6)
			high[h][0] = unpack_words(b, 4, h);
		if (bits == 6)
			high[h][1] = unpack_words(b, 5, h);
	}
#pragma GCC unroll 4
	for (u32 v = 0; v < 4; v++) {
		const struct vn_scale *sv = v < 2 ? &s : &second;
		__m512i w[2] = { unpack_words(b, v, 0), unpack_words(b, v, 1) };

#pragma GCC unroll 4
		for (u32 i = 0; i < 4; i++) {
			vn_float down = vn_set1(1.0f / (float)(1u << 4 * i));
			__m512 scale[2] = { vn_mul(sv->scale[0], down),
					    vn_mul(sv->scale[1], down) };

			unpack_store(out + (4 * v + i) * stride,
				     vn_to_float(unpack_at(bits, w[0], high[0],
							   v, i)),
				     vn_to_float(unpack_at(bits, w[1], high[1],
							   v, i)),
				     scale, sv->min);
		}
	}
}

#else /* AVX2 */

/*
 * To nearest even, in the upper half. Strips have no NaN but the one that
 * arithmetic makes, and that stays one.
 */
vec_inline __m256i vn_round(__m256 a)
{
	__m256i u = _mm256_castps_si256(a);
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16),
				       _mm256_set1_epi32(1));

	return _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)),
				odd);
}

vec_inline vn_int vn_pair(vn_float even, vn_float odd)
{
	return _mm256_blend_epi16(vn_shr(vn_round(even), 16), vn_round(odd),
				  0xaa);
}

/* What VN rows multiply their quants by, and take off. */
struct vn_scale {
	vn_float even, odd, min;
};

/* The odd quant of a pair is cut out where it is, 2^16 times too large. */
vec_inline struct vn_scale vn_scale(vn_float scale, vn_float min_)
{
	return (struct vn_scale){ scale, vn_mul(scale, vn_set1(0x1p-16f)),
				  min_ };
}

vec_inline void unpack_pair(vn_int q, const u32 bits, struct vn_scale s,
			    u32 *out)
{
	const u32 field = (1u << bits) - 1;
	vn_float even = vn_to_float(vn_and(q, vn_mask(field)));
	vn_float odd = vn_to_float(vn_and(q, vn_mask(field << 16)));

	vn_store(out, vn_pair(vn_fms(s.even, even, s.min),
			      vn_fms(s.odd, odd, s.min)));
}

/* 32 k of VN rows; @second is the scale of the upper 16 k. */
vec_inline void unpack_quants(const u32 bits, const u32 zero, const u8 *b,
			      struct vn_scale s, struct vn_scale second,
			      u32 *out, size_t stride)
{
	const u32 nibbles = 0x000f000f;
	vn_int high[2];

	if (bits == 5 || bits == 6)
		high[0] = vn_load(b + 4 * STRIP_VEC);
	if (bits == 6)
		high[1] = vn_load(b + 5 * STRIP_VEC);
	if (bits == 8) {
#pragma GCC unroll 8
		for (u32 v = 0; v < 8; v++) {
			vn_int q = vn_load(b + v * STRIP_VEC);

			unpack_pair(q, 8, s, out + 2 * v * stride);
			unpack_pair(vn_shr(q, 8), 8, s,
				    out + (2 * v + 1) * stride);
		}
		return;
	}
#pragma GCC unroll 4
	for (u32 v = 0; v < 4; v++) {
		vn_int w = vn_load(b + v * STRIP_VEC);

#pragma GCC unroll 4
		for (u32 i = 0; i < 4; i++) {
			vn_int q = vn_shr(w, 4 * i);

			if (bits == 5)
				q = vn_or(vn_and(q, vn_mask(nibbles)),
					  strip_bits(high[0], 4 * v + i, 4,
						     0x00010001));
			if (bits == 6)
				q = vn_or(vn_and(q, vn_mask(nibbles)),
					  strip_bits(high[v / 2],
						     2 * (4 * (v % 2) + i), 4,
						     0x00030003));
			unpack_pair(q, bits, v < 2 ? s : second,
				    out + (4 * v + i) * stride);
		}
	}
}

#endif

/* What 16 k are unpacked with: a zero point is a min, of so many scales. */
vec_inline struct vn_scale unpack_scale(const u32 dtype, struct strip_scales s,
					const u32 half)
{
	const u32 zero = strip_type(dtype).zero;
	vn_float scale = s.scale[half];

	return vn_scale(scale,
			zero ? vn_mul(scale, vn_set1((float)zero)) : s.min);
}

/*
 * 32 k of 16 rows to out[k / 2][row], from column @k of @at on; @at is of a
 * column that 32 divides, or 256 where that is what a type's scales are for.
 */
vec_inline void unpack_block(const u32 dtype, struct strip_at at, u32 k,
			     u32 *out, size_t stride)
{
	const struct strip_type t = strip_type(dtype);
	const u8 *q = at.quants + k / 32 * t.quant_bytes;

	for (u32 n = 0; n < KERN_STRIP; n += VN) {
		struct strip_scales s =
			strip_scales(dtype, at.scales, k / 32, n);

		unpack_quants(t.bits, t.zero, q + 4 * n,
			      unpack_scale(dtype, s, 0),
			      unpack_scale(dtype, s, 1), out + n, stride);
	}
}

vec_inline void unpack_blocks(const u32 dtype, struct strip_at at, u32 nr,
			      u32 *out, size_t stride)
{
	const u32 bytes = strip_type(dtype).quant_bytes;

	for (u32 k = 0; k < nr; k += 32, out += 16 * stride) {
		strip_prefetch(at.quants + k / 32 * bytes + PANEL_AHEAD, bytes);
		unpack_block(dtype, at, k, out, stride);
	}
}

/**
 * unpack_strip - nr columns of 16 rows of w to out[k / 2][row]
 * @w: its layout is KERN_LAYOUT_STRIP
 * @row: a multiple of 16
 * @k0: a multiple of 32, of 256 where that is what a type's scales are for
 * @nr: up to the end of the row, a multiple of 32
 * @out: dwords, the even k in the lower half
 * @stride: dwords from a pair of k to the next
 */
static void unpack_strip(const struct kern_mat *w, u32 row, u32 k0, u32 nr,
			 u32 *out, size_t stride)
{
	struct strip_at at = strip_at(w, row, k0);

	switch (w->dtype) {
		STRIP_TYPES(unpack_blocks(dtype, at, nr, out, stride))
	}
}

#endif
