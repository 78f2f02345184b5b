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
 * One or two rows unpack the strip in registers. For more, 256 k lie unpacked
 * in an int16_panel, 8 KiB in L1, and have lost their zero point there.
 */
#include "kernels/cpu/int16_x.h"
#include "kernels/cpu/int8_w.h"

#define INT16_DWORDS 16u /* of 32 k of a row */
#define INT16_BLOCKS 8u /* of a panel: 256 k */
#define INT16_FEW    2u /* rows that need no panel */
#define INT16_VECS   (KERN_STRIP / VN) /* registers of 16 rows of w */

#ifdef __AVX512F__
#define INT16_ROWS 8
#else
#define INT16_ROWS 4
#endif

struct int16_panel {
	u8 w[INT16_BLOCKS * INT16_DWORDS * STRIP_VEC];
	float scale[INT16_BLOCKS][2][KERN_STRIP];
	float min[INT16_BLOCKS][KERN_STRIP];
} __attribute__((aligned(64)));

/* Where 256 k of w are: a strip, and in many rows' case it unpacked. */
struct int16_w {
	struct strip_at at;
	const struct int16_panel *panel; /* or NULL */
};

/* Bits @at and 16 + @at of a dword, and as many as the mask has, to bit 4. */
vec_inline vn_int int16_high(vn_int q, const u32 at, const u32 mask)
{
	if (at < 4)
		q = vn_shl(q, 4 - at);
	else if (at > 4)
		q = vn_shr(q, at - 4);
	return vn_and(q, vn_mask(mask << 4 | mask << 20));
}

/* Dword j of a block of a strip: quants 2j and 2j + 1 of VN rows, as words. */
vec_inline vn_int int16_dword(const u32 bits, const u8 *b, const u32 j)
{
	vn_int q;

	if (bits == 8) {
		q = vn_load(b + j / 2 * STRIP_VEC);
		return vn_and(j % 2 ? vn_shr(q, 8) : q, vn_mask(0x00ff00ff));
	}
	q = vn_load(b + j / 4 * STRIP_VEC);
	q = vn_and(j % 4 ? vn_shr(q, 4 * (j % 4)) : q, vn_mask(0x000f000f));
	if (bits == 5)
		q = vn_or(q, int16_high(vn_load(b + 4 * STRIP_VEC), j, 1));
	if (bits == 6)
		q = vn_or(q, int16_high(vn_load(b + (4 + j / 8) * STRIP_VEC),
					2 * (j % 8), 3));
	return q;
}

vec_inline void int16_unpack(const u32 dtype, struct strip_at at, u32 nr_blocks,
			     struct int16_panel *p)
{
	const u32 bits = int8_bits(dtype), zero = strip_type(dtype).zero;
	u8 *to = p->w;

	for (u32 b = 0; b < nr_blocks; b++) {
		/* The next panel's, while this one is multiplied. */
		strip_prefetch(at.quants - STRIP_AHEAD +
				       INT16_BLOCKS * bits * STRIP_VEC,
			       bits * STRIP_VEC);
		for (u32 n = 0; n < KERN_STRIP; n += VN) {
			struct int8_scales s =
				int8_scales(dtype, at.scales, b, n);

			vn_store_float(p->scale[b][0] + n, s.scale[0]);
			vn_store_float(p->scale[b][1] + n, s.scale[1]);
			vn_store_float(p->min[b] + n, s.min);
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

/* sum + the products of pairs of words */
vec_inline vn_int int16_madd(vn_int sum, vn_int w, vn_int x)
{
	sum = vn_madd16(sum, w, x);
	/* gcc puts the additions off to the end, and spills all they add. */
	asm("" : "+v"(sum));
	return sum;
}

vec_inline void int16_dot_dword(const u32 bits, const bool strip, const u32 mr,
				const u8 *w, const struct int16_x *x,
				size_t x_stride, u32 j,
				vn_int (*sum)[INT16_VECS])
{
	vn_int q[INT16_VECS];

#pragma GCC unroll 2
	for (u32 h = 0; h < INT16_VECS; h++)
		q[h] = strip ? int16_dword(bits, w + 4 * VN * h, j)
			     : vn_load(w + j * STRIP_VEC + 4 * VN * h);
#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++) {
		s32 pair;
		vn_int xm;

		memcpy(&pair, x[m * x_stride].q + 2 * j, sizeof(pair));
		xm = vn_mask(pair);
#pragma GCC unroll 2
		for (u32 h = 0; h < INT16_VECS; h++)
			sum[m][h] = int16_madd(sum[m][h], q[h], xm);
	}
}

/* sum = dwords j0 .. j1 of mr rows of x by those of w. */
vec_inline void int16_dot(const u32 bits, const bool strip, const u32 mr,
			  const u8 *w, const struct int16_x *x, size_t x_stride,
			  const u32 j0, const u32 j1, vn_int (*sum)[INT16_VECS])
{
#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++)
#pragma GCC unroll 2
		for (u32 h = 0; h < INT16_VECS; h++)
			sum[m][h] = vn_mask(0);
	if (strip)
#pragma GCC unroll 16
		for (u32 j = j0; j < j1; j++)
			int16_dot_dword(bits, true, mr, w, x, x_stride, j, sum);
	else
#pragma GCC unroll 2
		for (u32 j = j0; j < j1; j++)
			int16_dot_dword(bits, false, mr, w, x, x_stride, j,
					sum);
}

/* c[m] = ref's steps for a block, or for half of it, given the integer sums. */
vec_inline void int16_add(const u32 dtype, const bool strip, const u32 mr,
			  const u32 half, const struct int8_scales *s,
			  const struct int16_x *x, size_t x_stride,
			  vn_int (*sum)[INT16_VECS], float (*c)[KERN_STRIP])
{
#pragma GCC unroll 8
	for (u32 m = 0; m < mr; m++, x += x_stride) {
		vn_float scale = vn_set1(x->scale);

#pragma GCC unroll 2
		for (u32 h = 0; h < INT16_VECS; h++) {
			vn_float v = vn_load_float(c[m] + h * VN);
			vn_int i = sum[m][h];

			if (strip && !int8_mins(dtype))
				i = vn_sub_int(i, vn_mask(x->zero[half]));
			v = vn_fma(vn_mul(s[h].scale[half], scale),
				   vn_to_float(i), v);
			if (int8_mins(dtype))
				v = vn_fnma(s[h].min, vn_set1(x->mins), v);
			vn_store_float(c[m] + h * VN, v);
		}
	}
}

vec_inline void int16_tile_rows(const u32 dtype, const bool strip, const u32 mr,
				const struct int16_w *w, u32 nr,
				const struct int16_x *x, size_t x_stride,
				float (*c)[KERN_STRIP])
{
	const u32 bits = int8_bits(dtype);
	const u32 span = INT16_DWORDS / (int8_halves(dtype) ? 2 : 1);
	const u32 bytes = (strip ? bits : INT16_DWORDS) * STRIP_VEC;
	const u8 *q = strip ? w->at.quants : w->panel->w;

	for (u32 b = 0; b < nr; b++, q += bytes) {
		struct int8_scales s[INT16_VECS];

		if (strip)
			strip_prefetch(q, bits * STRIP_VEC);
#pragma GCC unroll 2
		for (u32 h = 0; h < INT16_VECS; h++) {
			const struct int16_panel *p = w->panel;

			if (strip) {
				s[h] = int8_scales(dtype, w->at.scales, b,
						   h * VN);
				continue;
			}
			s[h].scale[0] = vn_load_float(p->scale[b][0] + h * VN);
			s[h].scale[1] = vn_load_float(p->scale[b][1] + h * VN);
			s[h].min = vn_load_float(p->min[b] + h * VN);
		}
#pragma GCC unroll 2
		for (u32 j = 0; j < INT16_DWORDS; j += span) {
			vn_int sum[INT16_ROWS][INT16_VECS];

			int16_dot(bits, strip, mr, q, x + b, x_stride, j,
				  j + span, sum);
			int16_add(dtype, strip, mr, j / 8, s, x + b, x_stride,
				  sum, c);
		}
	}
}

#define TILE(strip, n)                                                   \
	case n:                                                          \
		int16_tile_rows(dtype, strip, n, w, nr, x, x_stride, c); \
		break

/* An instance for each count of rows; a row's arithmetic is the same in all. */
vec_inline void int16_tile(const u32 dtype, u32 mr, const struct int16_w *w,
			   u32 nr, const struct int16_x *x, size_t x_stride,
			   float (*c)[KERN_STRIP])
{
	if (!w->panel) {
		switch (mr) {
			TILE(true, 1);
			TILE(true, 2);
		}
		return;
	}
	switch (mr) {
		TILE(false, 1);
		TILE(false, 2);
		TILE(false, 3);
		TILE(false, 4);
#if INT16_ROWS > 4
		TILE(false, 5);
		TILE(false, 6);
		TILE(false, 7);
		TILE(false, 8);
#endif
	}
}

#undef TILE

#define OF_TYPE(type, call)                        \
	case KV_DTYPE_##type: {                    \
		const u32 dtype = KV_DTYPE_##type; \
		call;                              \
		break;                             \
	}
#define OF_TYPES(call)      \
	OF_TYPE(Q4_0, call) \
	OF_TYPE(Q5_0, call) \
	OF_TYPE(Q8_0, call) \
	OF_TYPE(Q4_K, call) \
	OF_TYPE(Q5_K, call) \
	OF_TYPE(Q6_K, call)

static void int16_fill(u32 type, struct strip_at at, u32 nr_blocks,
		       struct int16_panel *p)
{
	switch (type) {
		OF_TYPES(int16_unpack(dtype, at, nr_blocks, p))
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
	u32 tiles = DIV_ROUND_UP(mr, (u32)INT16_ROWS);
	u32 rows = DIV_ROUND_UP(mr, tiles);

	for (u32 m = 0; m < mr; m += rows) {
		const struct int16_x *xm = x + (size_t)m * x_stride;
		u32 n = min(rows, mr - m);

		switch (type) {
			OF_TYPES(int16_tile(dtype, n, w, nr, xm, x_stride,
					    c + m))
		}
	}
}

#undef OF_TYPES
#undef OF_TYPE

#endif
