/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT16_TILE_H
#define CPU_INT16_TILE_H
/*
 * int16_tile.h - rows of x by a strip in registers, in pairs of words
 *
 * A dword of x, two k, is broadcast and multiplied by the dwords of 16 rows of
 * w: the two products of words are added to a dword, exactly. A strip's quants
 * become words by a shift and a mask, since the halves of its dwords have the
 * even and the odd k already.
 *
 * One or two rows unpack the strip in registers; one, of 4 bits, with less of
 * shifts (int16_dot_nibbles()). For more, 256 k lie unpacked
 * in an int16_panel, 8 KiB in L1, and have lost their zero point there.
 */
#include "kernels/cpu/int16_x.h"
#include "kernels/cpu/isa.h"

#define INT16_DWORDS 16u /* of 32 k of a row */

struct int16_panel {
	u8 w[INTS_PANEL_BLOCKS * INT16_DWORDS * STRIP_VEC];
	struct ints_panel scales;
} __attribute__((aligned(64)));

/* Where 256 k of w are: a strip, and in many rows' case it unpacked. */
struct int16_w {
	struct strip_at at;
	struct strip_all all;
	const struct int16_panel *panel; /* or NULL */
};

/* Dword j of a block of a strip: quants 2j and 2j + 1 of VN rows, as words. */
vec_inline vn_int int16_dword(const u32 bits, const u8 *b, const u32 j)
{
	vn_int q;

	if (bits == 8) {
		q = vn_load(b + j / 2 * STRIP_VEC);
		return j % 2 ? vn_shr16(q, 8) : vn_and(q, vn_mask(0x00ff00ff));
	}
	q = vn_load(b + j / 4 * STRIP_VEC);
	if (j % 4)
		q = vn_shr16(q, 4 * (j % 4));
	if (j % 4 < 3)
		q = vn_and(q, vn_mask(0x000f000f));
	if (bits == 5)
		q = vn_or(q, strip_bits(vn_load(b + 4 * STRIP_VEC), j, 4,
					0x00010001));
	if (bits == 6)
		q = vn_or(q, strip_bits(vn_load(b + (4 + j / 8) * STRIP_VEC),
					2 * (j % 8), 4, 0x00030003));
	return q;
}

vec_inline void int16_unpack(const u32 dtype, struct strip_at at, u32 nr_blocks,
			     struct int16_panel *p)
{
	const u32 bits = ints_bits(dtype), zero = strip_type(dtype).zero;
	u8 *to = p->w;

	for (u32 b = 0; b < nr_blocks; b++) {
		ints_prefetch(bits, at.quants);
		for (u32 n = 0; n < KERN_STRIP; n += VN) {
			ints_fill_scales(dtype, at, b, n, &p->scales);
#pragma GCC unroll 16
			for (u32 j = 0; j < INT16_DWORDS; j++) {
				vn_int q =
					int16_dword(bits, at.quants + 4 * n, j);

				if (zero)
					q = vn_sub16(q,
						     vn_mask(zero * 0x10001));
				vn_store(to + 4 * n + j * STRIP_VEC, q);
			}
		}
		at.quants += bits * STRIP_VEC;
		to += INT16_DWORDS * STRIP_VEC;
	}
}

/*
 * sum[h] += a pair of x by the pairs of w[h]. gcc puts additions off to the
 * end and spills what they add, or copies each sum before it; so they are spelt
 * out.
 */
#ifdef __AVX512F__
vec_inline void int16_pair(const s16 *x, const vn_int *w, vn_int *sum)
{
	vn_int sum0;
	s32 pair;

	memcpy(&pair, x, sizeof(pair));
	sum0 = vn_madd16(sum[0], w[0], vn_mask(pair));
	asm("" : "+v"(sum0));
	sum[0] = sum0;
}
#else
vec_inline void int16_pair(const s16 *x, const vn_int *w, vn_int *sum)
{
	vn_int pair, other, sum0 = sum[0], sum1 = sum[1];

	asm("vpbroadcastd %[x], %[pair]\n\t"
	    "vpmaddwd %[pair], %[w0], %[other]\n\t"
	    "vpmaddwd %[pair], %[w1], %[pair]\n\t"
	    "vpaddd %[other], %[sum0], %[sum0]\n\t"
	    "vpaddd %[pair], %[sum1], %[sum1]"
	    : [sum0] "+x"(sum0), [sum1] "+x"(sum1), [pair] "=&x"(pair),
	      [other] "=&x"(other)
	    : [w0] "x"(w[0]), [w1] "x"(w[1]), [x] "m"(*(const s16(*)[2])x));
	sum[0] = sum0;
	sum[1] = sum1;
}
#endif

vec_inline void int16_dot_dword(const u32 bits, const bool strip, const u32 mr,
				const u8 *w, const struct int16_x *x,
				size_t x_stride, u32 j,
				vn_int (*sum)[INTS_VECS])
{
	vn_int q[INTS_VECS];

#pragma GCC unroll 2
	for (u32 h = 0; h < INTS_VECS; h++)
		q[h] = strip ? int16_dword(bits, w + 4 * VN * h, j)
			     : vn_load(w + j * STRIP_VEC + 4 * VN * h);
#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++)
		int16_pair(x[m * x_stride].q + 2 * j, q, sum[m]);
}

/*
 * Of a strip of 4 bits by one row. The nibbles in the middle of a word stay
 * there: what they are multiplied to is 16 and 256 times as large, and has a
 * sum of its own, of less than 2^30.
 */
vec_inline void int16_dot_nibbles(const u8 *w, const struct int16_x *x,
				  vn_int *sum)
{
	vn_int part[3][INTS_VECS], q[4][INTS_VECS];

#pragma GCC unroll 3
	for (u32 s = 0; s < 3; s++)
#pragma GCC unroll 2
		for (u32 h = 0; h < INTS_VECS; h++)
			part[s][h] = vn_mask(0);
#pragma GCC unroll 4
	for (u32 j = 0; j < INT16_DWORDS; j += 4) {
#pragma GCC unroll 2
		for (u32 h = 0; h < INTS_VECS; h++) {
			vn_int v = vn_load(w + j / 4 * STRIP_VEC + 4 * VN * h);

			q[0][h] = vn_and(v, vn_mask(0x000f000f));
			q[1][h] = vn_and(v, vn_mask(0x00f000f0));
			q[2][h] = vn_and(v, vn_mask(0x0f000f00));
			q[3][h] = vn_shr16(v, 12);
		}
#pragma GCC unroll 4
		for (u32 i = 0; i < 4; i++)
			int16_pair(x->q + 2 * (j + i), q[i], part[i % 3]);
	}
#pragma GCC unroll 2
	for (u32 h = 0; h < INTS_VECS; h++)
		sum[h] = vn_add_int(part[0][h],
				    vn_add_int(vn_sra(part[1][h], 4),
					       vn_sra(part[2][h], 8)));
}

/* sum = dwords j0 .. j1 of mr rows of x by those of w. */
vec_inline void int16_dot(const u32 bits, const bool strip, const u32 mr,
			  const u8 *w, const struct int16_x *x, size_t x_stride,
			  const u32 j0, const u32 j1, vn_int (*sum)[INTS_VECS])
{
	if (strip && bits == 4 && mr == 1 && j1 - j0 == INT16_DWORDS) {
		int16_dot_nibbles(w, x, sum[0]);
		return;
	}
#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++)
#pragma GCC unroll 2
		for (u32 h = 0; h < INTS_VECS; h++)
			sum[m][h] = vn_mask(0);
#pragma GCC unroll 16
	for (u32 j = j0; j < j1; j++)
		int16_dot_dword(bits, strip, mr, w, x, x_stride, j, sum);
}

vec_inline void int16_tile_rows(const u32 dtype, const bool strip, const u32 mr,
				const struct int16_w *w, u32 nr,
				const struct int16_x *x, size_t x_stride,
				float (*c)[KERN_STRIP])
{
	const u32 bits = ints_bits(dtype);
	const u32 span = INT16_DWORDS / (ints_halves(dtype) ? 2 : 1);
	const u32 bytes = (strip ? bits : INT16_DWORDS) * STRIP_VEC;
	const u8 *q = strip ? w->at.quants : w->panel->w;

	for (u32 b = 0; b < nr; b++, q += bytes) {
		if (strip)
			strip_follow(dtype, &w->all, w->at, b);
#pragma GCC unroll 2
		for (u32 j = 0; j < INT16_DWORDS; j += span) {
			vn_int sum[INTS_ROWS][INTS_VECS];
			struct strip_scales s[INTS_VECS];

			int16_dot(bits, strip, mr, q, x + b, x_stride, j,
				  j + span, sum);
			/* Were scales loaded before, sums would be spilled. */
			asm("" ::: "memory");
			ints_load_scales(dtype, strip, w->at,
					 strip ? NULL : &w->panel->scales, b,
					 s);
			ints_add(dtype, strip, mr, j / 8, s, &x[b].x,
				 x_stride * sizeof(*x), sum, c);
		}
	}
}

/* An instance for each count of rows; a row's arithmetic is the same in all. */
vec_inline void int16_tile(const u32 dtype, u32 rows, const struct int16_w *w,
			   u32 nr, const struct int16_x *x, size_t x_stride,
			   float (*c)[KERN_STRIP])
{
	if (!w->panel) {
		switch (rows) {
			INTS_MR_2(int16_tile_rows(dtype, true, mr, w, nr, x,
						  x_stride, c))
		}
		return;
	}
	switch (rows) {
		INTS_MR_ALL(int16_tile_rows(dtype, false, mr, w, nr, x,
					    x_stride, c))
	}
}

static void int16_fill(u32 type, struct strip_at at, u32 nr_blocks,
		       struct int16_panel *p)
{
	switch (type) {
		STRIP_TYPES(int16_unpack(dtype, at, nr_blocks, p))
	}
}

/*
 * c[m][0..15] += the products of mr rows by nr blocks, in the order of k; the
 * rows of x are x_stride blocks apart, and shared out evenly to tiles.
 */
static void int16_rows(u32 type, const struct int16_w *w, u32 nr,
		       const struct int16_x *x, u32 x_stride, u32 mr,
		       float (*c)[KERN_STRIP])
{
	u32 tiles = DIV_ROUND_UP(mr, (u32)INTS_ROWS);
	u32 rows = DIV_ROUND_UP(mr, tiles);

	for (u32 m = 0; m < mr; m += rows) {
		const struct int16_x *xm = x + (size_t)m * x_stride;
		u32 n = min(rows, mr - m);

		switch (type) {
			STRIP_TYPES(int16_tile(dtype, n, w, nr, xm, x_stride,
					       c + m))
		}
	}
}

#endif
