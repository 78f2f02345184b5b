/* SPDX-License-Identifier: MIT */
#ifndef CPU_UNPACK_H
#define CPU_UNPACK_H
/*
 * unpack.h - strips (pack.h) to the pairs of bf16 that a tile multiplies
 *
 * In a strip the rows of w lie side by side already, so a register of quants
 * becomes registers of a panel without a shuffle: cut a pair of k out of every
 * dword, make floats of both, scale, round, put the halves together. The value
 * is scale * q - min with one rounding, which is ref_strip_element()'s: where
 * the type has a zero point instead, min is scale * zero, and all is exact.
 *
 * Written on the registers of one instruction set, 8 or 16 rows of w each.
 */
#include "kernels/cpu/strip_vec.h"

#ifdef __AVX512F__

/* The even and the odd k of each row, rounded, side by side. */
vec_inline vn_int vn_pair(vn_float even, vn_float odd)
{
#ifdef __AVX512BF16__
	const __m512i words = _mm512_set_epi16(
		31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
		23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

	return _mm512_permutexvar_epi16(
		words, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
#else
	struct v16 e = { even }, o = { odd };

	return _mm512_mask_blend_epi16(
		0xaaaaaaaa, vn_shr(v16_round_bits(e), 16), v16_round_bits(o));
#endif
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

#endif

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

/* Bits @at .. of both halves of @v, to bit 4. */
vec_inline vn_int high_bits(vn_int v, const u32 at, const u32 mask)
{
	v = at < 4 ? vn_shl(v, 4 - at) : vn_shr(v, at - 4);
	return vn_and(v, vn_mask(mask << 4 | mask << 20));
}

/* 32 k of VN rows; @second is the scale of the upper 16 k. */
vec_inline void unpack_quants(const u32 bits, const u8 *b, struct vn_scale s,
			      struct vn_scale second, u32 *out, size_t stride)
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
					  high_bits(high[0], 4 * v + i, 1));
			if (bits == 6)
				q = vn_or(vn_and(q, vn_mask(nibbles)),
					  high_bits(high[v / 2],
						    2 * (4 * (v % 2) + i), 3));
			unpack_pair(q, bits, v < 2 ? s : second,
				    out + (4 * v + i) * stride);
		}
	}
}

/* Types with one d for 32 k. */
vec_inline void unpack_simple(const u32 bits, const u32 zero,
			      struct strip_at at, u32 nr, u32 *out,
			      size_t stride)
{
	for (u32 k = 0; k < nr; k += 32, out += 16 * stride) {
		strip_prefetch(at.quants, bits * STRIP_VEC);
		for (u32 n = 0; n < KERN_STRIP; n += VN) {
			vn_float d = vn_load_half(at.scales + 2 * n);
			struct vn_scale s =
				vn_scale(d, vn_mul(d, vn_set1((float)zero)));

			unpack_quants(bits, at.quants + 4 * n, s, s, out + n,
				      stride);
		}
		at.quants += bits * STRIP_VEC;
		at.scales += 32;
	}
}

/* Q4_K and Q5_K; k0 and nr are multiples of 256, as all below. */
vec_inline void unpack_k(const u32 bits, struct strip_at at, u32 nr, u32 *out,
			 size_t stride)
{
	for (u32 k = 0; k < nr; k += 32, out += 16 * stride) {
		const u8 *sub = at.scales + 64 + k % 256;

		strip_prefetch(at.quants, bits * STRIP_VEC);
		for (u32 n = 0; n < KERN_STRIP; n += VN) {
			vn_float d = vn_load_half(at.scales + 2 * n);
			vn_float dmin = vn_load_half(at.scales + 32 + 2 * n);
			struct vn_scale s = vn_scale(
				vn_mul(d, vn_load_u8(sub + n)),
				vn_mul(dmin, vn_load_u8(sub + 16 + n)));

			unpack_quants(bits, at.quants + 4 * n, s, s, out + n,
				      stride);
		}
		at.quants += bits * STRIP_VEC;
		if (k % 256 == 224)
			at.scales += 320;
	}
}

vec_inline struct vn_scale q6_k_scale(vn_float d, const u8 *sc)
{
	vn_float s = vn_mul(d, vn_load_s8(sc));

	return vn_scale(s, vn_mul(s, vn_set1(32.0f)));
}

vec_inline void unpack_q6_k(struct strip_at at, u32 nr, u32 *out, size_t stride)
{
	for (u32 k = 0; k < nr; k += 32, out += 16 * stride) {
		const u8 *sub = at.scales + 32 + k % 256;

		strip_prefetch(at.quants, 6 * STRIP_VEC);
		for (u32 n = 0; n < KERN_STRIP; n += VN) {
			vn_float d = vn_load_half(at.scales + 2 * n);

			unpack_quants(
				6, at.quants + 4 * n, q6_k_scale(d, sub + n),
				q6_k_scale(d, sub + 16 + n), out + n, stride);
		}
		at.quants += 6 * STRIP_VEC;
		if (k % 256 == 224)
			at.scales += 288;
	}
}

/**
 * unpack_strip - nr columns of 16 rows of w to out[k / 2][row]
 * @w: its layout is KERN_LAYOUT_STRIP
 * @row: a multiple of 16
 * @k0: a multiple of 256
 * @nr: up to the end of the row, a multiple of 32
 * @out: dwords, the even k in the lower half
 * @stride: dwords from a pair of k to the next
 */
static void unpack_strip(const struct kern_mat *w, u32 row, u32 k0, u32 nr,
			 u32 *out, size_t stride)
{
	struct strip_at at = strip_at(w, row, k0);

	switch (w->dtype) {
	case KV_DTYPE_Q4_0:
		unpack_simple(4, 8, at, nr, out, stride);
		break;
	case KV_DTYPE_Q5_0:
		unpack_simple(5, 16, at, nr, out, stride);
		break;
	case KV_DTYPE_Q8_0:
		unpack_simple(8, 128, at, nr, out, stride);
		break;
	case KV_DTYPE_Q4_K:
		unpack_k(4, at, nr, out, stride);
		break;
	case KV_DTYPE_Q5_K:
		unpack_k(5, at, nr, out, stride);
		break;
	case KV_DTYPE_Q6_K:
		unpack_q6_k(at, nr, out, stride);
		break;
	}
}

#endif
