/* SPDX-License-Identifier: MIT */
#ifndef CPU_PANEL_AVX512_H
#define CPU_PANEL_AVX512_H
/*
 * panel_avx512.h - 32 columns of weights (or keys) side by side, and the tile
 *
 * A panel holds pairs of bf16, member 0 the even k: panel[k / 2][column]. So a
 * register holds one pair of k for 16 columns; shifted left it is the even k
 * as floats, masked the odd one. (The tile instruction reads the same
 * layout.)
 *
 * The tile multiplies up to 6 rows of x by one panel: 24 registers are the
 * even and odd sums of 6 rows x 32 columns, 4 the weights, one x broadcast.
 */
#include "kernels/cpu/vec.h"

#define PANEL_COLS 32
#define TILE_ROWS  6
#define PV_VECS	   4 /* registers of V that attention holds */

/* out[i] = dword i of the 16 rows */
vec_inline void transpose16(const u32 *rows, size_t stride, u32 *out,
			    size_t out_stride)
{
	__m512i a[16], b[16];

#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		a[i] = _mm512_loadu_si512(rows + (size_t)i * stride);
#pragma GCC unroll 8
	for (int i = 0; i < 16; i += 2) {
		b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
		b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 16; i += 4) {
		a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
		a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
		a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
		a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
	}
	/* a[4g + j]: dwords j, j + 4, j + 8, j + 12 of rows 4g .. 4g + 3 */
#pragma GCC unroll 4
	for (int j = 0; j < 4; j++) {
		b[j] = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88);
		b[4 + j] = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd);
		b[8 + j] = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88);
		b[12 + j] = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd);
	}
#pragma GCC unroll 4
	for (int j = 0; j < 4; j++) {
		_mm512_storeu_si512(out + (size_t)j * out_stride,
				    _mm512_shuffle_i32x4(b[j], b[8 + j], 0x88));
		_mm512_storeu_si512(out + (size_t)(j + 8) * out_stride,
				    _mm512_shuffle_i32x4(b[j], b[8 + j], 0xdd));
		_mm512_storeu_si512(
			out + (size_t)(j + 4) * out_stride,
			_mm512_shuffle_i32x4(b[4 + j], b[12 + j], 0x88));
		_mm512_storeu_si512(
			out + (size_t)(j + 12) * out_stride,
			_mm512_shuffle_i32x4(b[4 + j], b[12 + j], 0xdd));
	}
}

/*
 * c[m][0..31] += the products of nr_blocks blocks of 32 k; x has rows of
 * x_stride floats, c rows of c_stride.
 */
vec_inline void tile_rows(const int mr, const float *x, size_t x_stride,
			  const u32 *panel, u32 nr_blocks, float *c,
			  size_t c_stride)
{
	const __m512i upper = _mm512_set1_epi32((int)0xffff0000);

	for (u32 b = 0; b < nr_blocks; b++, x += 32, panel += 16 * PANEL_COLS) {
		__m512 e[TILE_ROWS][2], o[TILE_ROWS][2];

#pragma GCC unroll 6
		for (int m = 0; m < mr; m++)
			e[m][0] = e[m][1] = o[m][0] = o[m][1] =
				_mm512_setzero_ps();
#pragma GCC unroll 2
		for (int k = 0; k < 16; k++) {
			const u32 *w = panel + k * PANEL_COLS;
			__m512i w0 = _mm512_loadu_si512(w);
			__m512i w1 = _mm512_loadu_si512(w + 16);
			__m512 e0 =
				_mm512_castsi512_ps(_mm512_slli_epi32(w0, 16));
			__m512 e1 =
				_mm512_castsi512_ps(_mm512_slli_epi32(w1, 16));
			__m512 o0 = _mm512_castsi512_ps(
				_mm512_and_si512(w0, upper));
			__m512 o1 = _mm512_castsi512_ps(
				_mm512_and_si512(w1, upper));

#pragma GCC unroll 6
			for (int m = 0; m < mr; m++) {
				const float *xm = x + m * x_stride + 2 * k;
				__m512 xe = _mm512_set1_ps(xm[0]);
				__m512 xo = _mm512_set1_ps(xm[1]);

				e[m][0] = _mm512_fmadd_ps(xe, e0, e[m][0]);
				e[m][1] = _mm512_fmadd_ps(xe, e1, e[m][1]);
				o[m][0] = _mm512_fmadd_ps(xo, o0, o[m][0]);
				o[m][1] = _mm512_fmadd_ps(xo, o1, o[m][1]);
			}
		}
#pragma GCC unroll 6
		for (int m = 0; m < mr; m++) {
			float *cm = c + m * c_stride;

			_mm512_storeu_ps(
				cm,
				_mm512_add_ps(_mm512_loadu_ps(cm),
					      _mm512_add_ps(e[m][0], o[m][0])));
			_mm512_storeu_ps(
				cm + 16,
				_mm512_add_ps(_mm512_loadu_ps(cm + 16),
					      _mm512_add_ps(e[m][1], o[m][1])));
		}
	}
}

#endif
