/* SPDX-License-Identifier: MIT */
#ifndef CPU_PANEL_AVX2_H
#define CPU_PANEL_AVX2_H
/*
 * panel_avx2.h - panel_avx512.h's panel and tile in 16 registers of 8 floats
 *
 * The tile takes up to 6 rows of x and 16 columns at a time, the even k of a
 * block first and then the odd ones: 12 sums, 2 weights and one x fit, and
 * the even sums rest on the stack meanwhile.
 */
#include "kernels/cpu/vec.h"

#define PANEL_COLS 32
#define TILE_ROWS  6
#define PV_VECS	   1 /* pairs of registers of V that attention holds */

/* 16 bytes of a and of b. */
vec_inline __m256i two_quads(const void *a, const void *b)
{
	return _mm256_inserti128_si256(
		_mm256_castsi128_si256(_mm_loadu_si128(a)), _mm_loadu_si128(b),
		1);
}

/* out[j] = dword j of rows 0-7; a[i] has 4 dwords of row i and of row i + 4. */
vec_inline void transpose4(const __m256i *a, u32 *out, size_t out_stride)
{
	__m256i b[4] = {
		_mm256_unpacklo_epi32(a[0], a[1]),
		_mm256_unpackhi_epi32(a[0], a[1]),
		_mm256_unpacklo_epi32(a[2], a[3]),
		_mm256_unpackhi_epi32(a[2], a[3]),
	};

#pragma GCC unroll 2
	for (int j = 0; j < 2; j++) {
		__m256i *even = (__m256i *)(void *)(out + 2 * j * out_stride);
		__m256i *odd =
			(__m256i *)(void *)(out + (2 * j + 1) * out_stride);

		_mm256_storeu_si256(even,
				    _mm256_unpacklo_epi64(b[j], b[j + 2]));
		_mm256_storeu_si256(odd, _mm256_unpackhi_epi64(b[j], b[j + 2]));
	}
}

/* out[i] = dword i of the 8 rows */
vec_inline void transpose8(const u32 *const *row, u32 *out, size_t out_stride)
{
#pragma GCC unroll 2
	for (int c = 0; c < 8; c += 4) {
		__m256i a[4];

#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
			a[i] = two_quads(row[i] + c, row[i + 4] + c);
		transpose4(a, out + c * out_stride, out_stride);
	}
}

/* out[i] = dword i of the 16 rows */
vec_inline void transpose16(const u32 *rows, size_t stride, u32 *out,
			    size_t out_stride)
{
	for (u32 r = 0; r < 16; r += 8)
		for (u32 c = 0; c < 16; c += 8) {
			const u32 *row[8];

			for (u32 i = 0; i < 8; i++)
				row[i] = rows + (r + i) * stride + c;
			transpose8(row, out + c * out_stride + r, out_stride);
		}
}

vec_inline __m256 panel_half(const u32 *w, const int odd)
{
	__m256i v = _mm256_loadu_si256((const __m256i *)(const void *)w);

	if (odd)
		v = _mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000));
	else
		v = _mm256_slli_epi32(v, 16);
	return _mm256_castsi256_ps(v);
}

/* The sums over the even or the odd k of one block. */
vec_inline void tile_chain(const int mr, const int odd, const float *x,
			   size_t x_stride, const u32 *panel, __m256 (*sum)[2])
{
#pragma GCC unroll 6
	for (int m = 0; m < mr; m++)
		sum[m][0] = sum[m][1] = _mm256_setzero_ps();
	for (int k = 0; k < 16; k++) {
		__m256 w0 = panel_half(panel + k * PANEL_COLS, odd);
		__m256 w1 = panel_half(panel + k * PANEL_COLS + 8, odd);

#pragma GCC unroll 6
		for (int m = 0; m < mr; m++) {
			__m256 xm =
				_mm256_set1_ps(x[m * x_stride + 2 * k + odd]);

			sum[m][0] = _mm256_fmadd_ps(xm, w0, sum[m][0]);
			sum[m][1] = _mm256_fmadd_ps(xm, w1, sum[m][1]);
		}
	}
}

vec_inline void add_to(float *c, __m256 a)
{
	_mm256_storeu_ps(c, _mm256_add_ps(_mm256_loadu_ps(c), a));
}

/*
 * c[m][0..31] += the products of nr_blocks blocks of 32 k; x has rows of
 * x_stride floats, c rows of c_stride.
 */
vec_inline void tile_rows(const int mr, const float *x, size_t x_stride,
			  const u32 *panel, u32 nr_blocks, float *c,
			  size_t c_stride)
{
	for (u32 b = 0; b < nr_blocks; b++, x += 32, panel += 16 * PANEL_COLS) {
		for (int n = 0; n < PANEL_COLS; n += 16) {
			__m256 e[TILE_ROWS][2], o[TILE_ROWS][2];

			tile_chain(mr, 0, x, x_stride, panel + n, e);
			tile_chain(mr, 1, x, x_stride, panel + n, o);
#pragma GCC unroll 6
			for (int m = 0; m < mr; m++) {
				float *cm = c + m * c_stride + n;

				add_to(cm, _mm256_add_ps(e[m][0], o[m][0]));
				add_to(cm + 8, _mm256_add_ps(e[m][1], o[m][1]));
			}
		}
	}
}

#endif
