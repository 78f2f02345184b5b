/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT8_TILE_H
#define CPU_INT8_TILE_H
/*
 * int8_tile.h - rows of x by a strip, in registers
 *
 * A dword of x is broadcast and multiplied by a dword of 16 rows of w, for up
 * to INTS_ROWS rows of x at a time. With VNNI an instruction does that and
 * adds, exactly. AVX2 multiplies bytes to pairs in words, and adds words while
 * they hold the sum: 8 products of 4 bits, 4 of 5, 2 of 6, and 8 again where
 * bytes are multiplied by nibbles.
 *
 * One or two rows unpack the strip in registers, more of them read a panel.
 */
#include "kernels/cpu/int8_w.h"
#include "kernels/cpu/int8_x.h"

#define INT8_FEW 2u /* rows that need no panel */
#ifdef __AVX512VNNI__
#define INT8_Q8_PLANES 1u
#else
#define INT8_Q8_PLANES INT8_PLANES
#endif

vec_inline vn_int int8_load_x(const struct int8_x *x, u32 j)
{
	s32 v;

	memcpy(&v, x->q + 4 * j, sizeof(v));
	return vn_mask(v);
}

/* Register h of dword j of a plane; of the block of a strip, or of a panel. */
vec_inline vn_int int8_load_w(const u32 bits, const bool strip, const u8 *w,
			      u32 j, const u32 plane, const u32 h)
{
	w += 4 * VN * h;
	if (strip)
		return int8_dword(bits, w, j, plane, INT8_Q8_PLANES);
	return vn_load(w + (plane * INT8_DWORDS + j) * STRIP_VEC);
}

#ifdef __AVX512VNNI__

vec_inline void int8_dot_dword(const u32 mr, vn_int w, const struct int8_x *x,
			       size_t x_stride, u32 j, vn_int (*sum)[INTS_VECS])
{
#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++)
		sum[m][0] = _mm512_dpbusd_epi32(
			sum[m][0], w, int8_load_x(x + m * x_stride, j));
}

/* sum = dwords j0 .. j1 of mr rows of x by those of w. */
vec_inline void int8_dot(const u32 bits, const bool strip, const u32 mr,
			 const u8 *w, const struct int8_x *x, size_t x_stride,
			 const u32 j0, const u32 j1, vn_int (*sum)[INTS_VECS])
{
#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++)
		sum[m][0] = _mm512_setzero_si512();
	if (strip)
#pragma GCC unroll 8
		for (u32 j = j0; j < j1; j++)
			int8_dot_dword(mr, int8_load_w(bits, true, w, j, 0, 0),
				       x, x_stride, j, sum);
	else
		for (u32 j = j0; j < j1; j++)
			int8_dot_dword(mr, int8_load_w(bits, false, w, j, 0, 0),
				       x, x_stride, j, sum);
}

#else

/* acc += the pairs of w * x in words */
vec_inline vn_int int8_add_pairs(vn_int acc, vn_int w, vn_int x)
{
	acc = _mm256_add_epi16(acc, _mm256_maddubs_epi16(w, x));
	/* gcc puts the additions off to the end, and spills all they add. */
	asm("" : "+x"(acc));
	return acc;
}

vec_inline void int8_dot_dword(const u32 bits, const bool strip, const u32 mr,
			       const u8 *w, const struct int8_x *x,
			       size_t x_stride, u32 j, const u32 plane,
			       vn_int (*acc)[INTS_VECS])
{
	vn_int w0 = int8_load_w(bits, strip, w, j, plane, 0);
	vn_int w1 = int8_load_w(bits, strip, w, j, plane, 1);

#pragma GCC unroll 4
	for (u32 m = 0; m < mr; m++) {
		vn_int xm = int8_load_x(x + m * x_stride, j);

		acc[m][0] = int8_add_pairs(acc[m][0], w0, xm);
		acc[m][1] = int8_add_pairs(acc[m][1], w1, xm);
	}
}

/* sum (+)= factor * the pairs of words of acc */
vec_inline vn_int int8_add_words(const bool first, vn_int sum, vn_int acc,
				 const s16 factor)
{
	acc = _mm256_madd_epi16(acc, _mm256_set1_epi16(factor));
	if (!first)
		acc = _mm256_add_epi32(sum, acc);
	asm("" : "+x"(acc));
	return acc;
}

/* Dwords j0 .. j0 + nr, as many as words hold the sum of. */
vec_inline void int8_dot_words(const u32 bits, const bool strip, const u32 mr,
			       const u8 *w, const struct int8_x *x,
			       size_t x_stride, const u32 j0, const u32 nr,
			       const u32 plane, const bool first,
			       vn_int (*sum)[INTS_VECS])
{
	vn_int acc[INTS_ROWS][INTS_VECS];

#pragma GCC unroll 4
	for (u32 m = 0; m < mr; m++)
		acc[m][0] = acc[m][1] = vn_mask(0);
	if (strip)
#pragma GCC unroll 8
		for (u32 j = j0; j < j0 + nr; j++)
			int8_dot_dword(bits, true, mr, w, x, x_stride, j, plane,
				       acc);
	else
#pragma GCC unroll 2
		for (u32 j = j0; j < j0 + nr; j++)
			int8_dot_dword(bits, false, mr, w, x, x_stride, j,
				       plane, acc);
#pragma GCC unroll 4
	for (u32 m = 0; m < mr; m++) {
		s16 factor = plane ? 16 : 1;

		sum[m][0] = int8_add_words(first, sum[m][0], acc[m][0], factor);
		sum[m][1] = int8_add_words(first, sum[m][1], acc[m][1], factor);
	}
}

/* sum = dwords j0 .. j1 of mr rows of x by those of w. */
vec_inline void int8_dot(const u32 bits, const bool strip, const u32 mr,
			 const u8 *w, const struct int8_x *x, size_t x_stride,
			 const u32 j0, const u32 j1, vn_int (*sum)[INTS_VECS])
{
	const u32 nr = bits == 5 ? 4 : bits == 6 ? 2 : 8;

	int8_dot_words(bits, strip, mr, w, x, x_stride, j0, nr, 0, true, sum);
	if (j0 + nr < j1)
		int8_dot_words(bits, strip, mr, w, x, x_stride, j0 + nr, nr, 0,
			       false, sum);
	/* Or else gcc keeps all that is broadcast for the other plane. */
	asm("" : "+r"(x));
	if (bits == 8)
		int8_dot_words(bits, strip, mr, w, x, x_stride, j0, nr, 1,
			       false, sum);
}

#endif

vec_inline void int8_tile_rows(const u32 dtype, const bool strip, const u32 mr,
			       const struct int8_w *w, u32 b0, u32 b1,
			       const struct int8_x *x, size_t x_stride,
			       float (*c)[KERN_STRIP])
{
	const u32 bits = ints_bits(dtype);
	const u32 span = ints_halves(dtype) ? 4 : 8;
	const u32 bytes = strip ? bits * STRIP_VEC
				: (bits == 8 ? INT8_Q8_PLANES : 1) *
					  INT8_DWORDS * STRIP_VEC;
	const u8 *q = strip ? w->at.quants : w->panel->w;

	for (u32 b = b0; b < b1; b++) {
		struct strip_scales s[INTS_VECS];

		if (strip)
			strip_follow(dtype, &w->all, w->at, b);
		ints_load_scales(dtype, strip, w->at,
				 strip ? NULL : &w->panel->scales, b, s);
#pragma GCC unroll 2
		for (u32 j = 0; j < INT8_DWORDS; j += span) {
			vn_int sum[INTS_ROWS][INTS_VECS];

			int8_dot(bits, strip, mr, q + b * bytes, x + b,
				 x_stride, j, j + span, sum);
			ints_add(dtype, true, mr, j / 4, s, &x[b].x,
				 x_stride * sizeof(*x), sum, c);
		}
	}
}

/* An instance for each count of rows; a row's arithmetic is the same in all. */
vec_inline void int8_tile(const u32 dtype, u32 rows, const struct int8_w *w,
			  u32 b0, u32 b1, const struct int8_x *x,
			  size_t x_stride, float (*c)[KERN_STRIP])
{
	if (!w->panel) {
		switch (rows) {
			INTS_MR_2(int8_tile_rows(dtype, true, mr, w, b0, b1, x,
						 x_stride, c))
		}
		return;
	}
	switch (rows) {
		INTS_MR_ALL(int8_tile_rows(dtype, false, mr, w, b0, b1, x,
					   x_stride, c))
	}
}

/*
 * c[m][0..15] += the products of mr rows by blocks b0 .. b1 of 256 k, in the
 * order of k; x is of block 0, its rows x_stride blocks apart, and shared out
 * evenly to tiles.
 */
static void int8_rows(u32 type, const struct int8_w *w, u32 b0, u32 b1,
		      const struct int8_x *x, u32 x_stride, u32 mr,
		      float (*c)[KERN_STRIP])
{
	u32 tiles = DIV_ROUND_UP(mr, (u32)INTS_ROWS);
	u32 rows = DIV_ROUND_UP(mr, tiles);

	for (u32 m = 0; m < mr; m += rows) {
		const struct int8_x *xm = x + (size_t)m * x_stride;
		float(*cm)[KERN_STRIP] = c + m;
		u32 n = min(rows, mr - m);

		switch (type) {
			STRIP_TYPES(int8_tile(dtype, n, w, b0, b1, xm, x_stride,
					      cm))
		}
	}
}

#endif
