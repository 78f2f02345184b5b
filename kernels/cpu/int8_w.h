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
#include "kernels/cpu/strip_vec.h"

#define INT8_PANEL_BLOCKS 8u /* 256 k: a block of every quantised type */
#define INT8_DWORDS	  8u /* of 32 k of a row */

/* Where a word cannot hold a product of bytes, these are planes of nibbles. */
#define INT8_PLANES 2u

struct int8_panel {
	u8 w[INT8_PANEL_BLOCKS * INT8_PLANES * INT8_DWORDS * STRIP_VEC];
	float scale[INT8_PANEL_BLOCKS][2][KERN_STRIP];
	float min[INT8_PANEL_BLOCKS][KERN_STRIP];
} __attribute__((aligned(64)));

/* Bits of a quant, two scales in 32 k, a min: what a product of a type does. */
vec_inline u32 int8_bits(const u32 dtype)
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

vec_inline bool int8_halves(const u32 dtype)
{
	return dtype == KV_DTYPE_Q6_K;
}

vec_inline bool int8_mins(const u32 dtype)
{
	return dtype == KV_DTYPE_Q4_K || dtype == KV_DTYPE_Q5_K;
}

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

/* Of VN rows: what sums are multiplied with, by 16 k, and the min. */
struct int8_scales {
	vn_float scale[2], min;
};

/* Of block b behind @s, from lane n on. */
vec_inline struct int8_scales int8_scales(const u32 dtype, const u8 *s, u32 b,
					  u32 n)
{
	const u8 *sub = s + 32 * (b % 8) + n;
	struct int8_scales r;
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
	const u32 bits = int8_bits(dtype);
	u8 *to = p->w;

	for (u32 b = 0; b < nr_blocks; b++) {
		/* The next panel's, while this one is multiplied. */
		strip_prefetch(at.quants - STRIP_AHEAD +
				       INT8_PANEL_BLOCKS * bits * STRIP_VEC,
			       bits * STRIP_VEC);
		for (u32 n = 0; n < KERN_STRIP; n += VN) {
			struct int8_scales s =
				int8_scales(dtype, at.scales, b, n);

			vn_store_float(p->scale[b][0] + n, s.scale[0]);
			vn_store_float(p->scale[b][1] + n, s.scale[1]);
			vn_store_float(p->min[b] + n, s.min);
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

#define UNPACK_TYPE(type, planes)                                       \
	case KV_DTYPE_##type:                                           \
		int8_unpack(KV_DTYPE_##type, planes, at, nr_blocks, p); \
		break

/* @planes8: of Q8_0 */
vec_inline void int8_fill(u32 dtype, const u32 planes8, struct strip_at at,
			  u32 nr_blocks, struct int8_panel *p)
{
	switch (dtype) {
		UNPACK_TYPE(Q4_0, 1);
		UNPACK_TYPE(Q5_0, 1);
		UNPACK_TYPE(Q8_0, planes8);
		UNPACK_TYPE(Q4_K, 1);
		UNPACK_TYPE(Q5_K, 1);
		UNPACK_TYPE(Q6_K, 1);
	}
}

#undef UNPACK_TYPE

#endif
