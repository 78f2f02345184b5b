/* SPDX-License-Identifier: MIT */
#ifndef CPU_INT8_W_H
#define CPU_INT8_W_H
/*
 * int8_w.h - strips to the bytes and the scales of int8 products
 *
 * A register has 4 k of VN rows of w, a dword each, unsigned. Either it is
 * made where it is needed (few rows of x), or 256 k of a strip lie unpacked in
 * an int8_panel, 4 or 8 KiB in L1, for many.
 */
#include "kernels/cpu/ints.h"

#define INT8_DWORDS 8u /* of 32 k of a row */

/* Where a word cannot hold a product of bytes, these are planes of nibbles. */
#define INT8_PLANES 2u

struct int8_panel {
	u8 w[INTS_PANEL_BLOCKS * INT8_PLANES * INT8_DWORDS * STRIP_VEC];
	struct ints_panel scales;
} __attribute__((aligned(64)));

/*
 * Two fields of each half of a dword, @width bits, @apart bits apart, to bits
 * 4 and 12. The factor adds the half to itself, shifted; where its fields
 * meet, they do not carry into those two.
 */
vec_inline vn_int int8_spread(vn_int h, const u32 at, const u32 width,
			      const u32 apart)
{
	const u32 field = (1u << width) - 1;
	const u32 low = at % 4, fields = (field | field << apart) << low;
	const u32 factor = 1u << (4 - low) | 1u << (12 - apart - low);
	const u32 out = field << 4 | field << 12;

	if (at > low)
		h = vn_shr(h, at - low);
	h = vn_and(h, vn_mask(fields | fields << 16));
	h = vn_mul16(h, vn_mask(factor | factor << 16));
	return vn_and(h, vn_mask(out | out << 16));
}

/* Dword j of a block of a strip; of 8 bits, one of the planes, or all if 1. */
vec_inline vn_int int8_dword(const u32 bits, const u8 *b, const u32 j,
			     const u32 plane, const u32 planes)
{
	const vn_int nibble = vn_mask(0x0f0f0f0f);
	const u32 v = j / 2;
	vn_int q;

	if (bits == 8) {
		q = vn_load(b + j * STRIP_VEC);
		if (planes == 1)
			return q;
		return vn_and(plane ? vn_shr(q, 4) : q, nibble);
	}
	q = vn_load(b + v * STRIP_VEC);
	q = vn_and(j % 2 ? vn_shr(q, 4) : q, nibble);
	if (bits == 5)
		q = vn_or(q, int8_spread(vn_load(b + 4 * STRIP_VEC),
					 4 * v + j % 2, 1, 2));
	if (bits == 6)
		q = vn_or(q, int8_spread(vn_load(b + (4 + v / 2) * STRIP_VEC),
					 8 * (v % 2) + 2 * (j % 2), 2, 4));
	return q;
}

/* The dwords of a plane of VN rows; those of the strip are at b. */
vec_inline void int8_unpack_plane(const u32 bits, const u8 *b, const u32 plane,
				  const u32 planes, u8 *to)
{
	to += plane * INT8_DWORDS * STRIP_VEC;
#pragma GCC unroll 8
	for (u32 j = 0; j < INT8_DWORDS; j++)
		vn_store(to + j * STRIP_VEC,
			 int8_dword(bits, b, j, plane, planes));
}

/* @planes: of 8 bits, and of no other number */
vec_inline void int8_unpack(const u32 dtype, const u32 planes,
			    struct strip_at at, u32 nr_blocks,
			    struct int8_panel *p)
{
	const u32 bits = ints_bits(dtype);
	u8 *to = p->w;

	for (u32 b = 0; b < nr_blocks; b++) {
		ints_prefetch(bits, at.quants);
		for (u32 n = 0; n < KERN_STRIP; n += VN) {
			ints_fill_scales(dtype, at, b, n, &p->scales);
			int8_unpack_plane(bits, at.quants + 4 * n, 0, planes,
					  to + 4 * n);
			if (planes > 1)
				int8_unpack_plane(bits, at.quants + 4 * n, 1,
						  planes, to + 4 * n);
		}
		at.quants += bits * STRIP_VEC;
		to += planes * INT8_DWORDS * STRIP_VEC;
	}
}

/* @planes8: of Q8_0 */
vec_inline void int8_fill(u32 type, const u32 planes8, struct strip_at at,
			  u32 nr_blocks, struct int8_panel *p)
{
	switch (type) {
		STRIP_TYPES(int8_unpack(dtype,
					dtype == KV_DTYPE_Q8_0 ? planes8 : 1,
					at, nr_blocks, p))
	}
}

/* Where 256 k of w are: a strip, and in many rows' case it unpacked. */
struct int8_w {
	struct strip_at at;
	struct strip_all all;
	const struct int8_panel *panel; /* or NULL */
};

#endif
