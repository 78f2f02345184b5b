/* SPDX-License-Identifier: MIT */
/*
 * strip.c - make strips, and the value of one element of a strip
 *
 * Packing goes through a plain form, one byte per quant: each GGUF type is
 * taken apart once, each strip put together once, and neither knows the other.
 */
#include <string.h>

#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"
#include "kernels/ref/strip.h"

#define BLOCK_MAX 256

u64 kern_strip_bytes(u32 dtype, u32 cols)
{
	struct strip_type t = strip_type(dtype);
	u64 bytes;

	if (!t.bits || !dtype_row_bytes(dtype, cols))
		return 0;
	bytes = strip_quant_bytes(&t, cols) +
		(u64)(cols / t.scale_len) * t.scale_bytes;
	return ALIGN_UP(bytes, (u64)KERN_STRIP_ALIGN);
}

/* ---- a GGUF block to bytes ---- */

/* q[i] = nibbles of b[i], q[i + nr] = the high ones */
static void split(const u8 *b, u32 nr, u8 *q)
{
	for (u32 i = 0; i < nr; i++) {
		q[i] = b[i] & 15;
		q[i + nr] = b[i] >> 4;
	}
}

static void quants_q5_0(const u8 *b, u8 *q)
{
	u32 fifths;

	memcpy(&fifths, b + 2, sizeof(fifths));
	split(b + 6, 16, q);
	for (u32 i = 0; i < 32; i++)
		q[i] |= (u8)((fifths >> i & 1) << 4);
}

static void quants_q5_k(const u8 *b, u8 *q)
{
	for (u32 s = 0; s < 8; s++)
		for (u32 i = 0; i < 32; i++)
			q[32 * s + i] |= (u8)((b[16 + i] >> s & 1) << 4);
}

static void quants_q6_k(const u8 *b, u8 *q)
{
	for (u32 half = 0; half < 2; half++, b += 64, q += 128) {
		const u8 *high = b + 128 - 32 * half;

		split(b, 64, q);
		for (u32 i = 0; i < 128; i++)
			q[i] |= (u8)((high[i % 32] >> i / 32 * 2 & 3) << 4);
	}
}

/* The quants of one block, unsigned. */
static void quants(u32 dtype, const u8 *b, u8 *q)
{
	switch (dtype) {
	case KV_DTYPE_Q4_0:
		split(b + 2, 16, q);
		break;
	case KV_DTYPE_Q5_0:
		quants_q5_0(b, q);
		break;
	case KV_DTYPE_Q8_0:
		for (u32 i = 0; i < 32; i++)
			q[i] = b[2 + i] ^ 0x80;
		break;
	case KV_DTYPE_Q4_K:
	case KV_DTYPE_Q5_K:
		for (u32 i = 0; i < 4; i++)
			split(b + (dtype == KV_DTYPE_Q4_K ? 16 : 48) + 32 * i,
			      32, q + 64 * i);
		if (dtype == KV_DTYPE_Q5_K)
			quants_q5_k(b, q);
		break;
	case KV_DTYPE_Q6_K:
		quants_q6_k(b, q);
		break;
	}
}

/* ---- its scales ---- */

/* An fp16 number; NaN for what is not finite. */
static u16 finite_half(const u8 *p)
{
	u16 h = (u16)(p[0] | p[1] << 8);

	return (h & 0x7c00) == 0x7c00 ? 0x7e00 : h;
}

static void put_half(u8 *to, u32 row, const u8 *from)
{
	u16 h = finite_half(from);

	memcpy(to + 2 * row, &h, sizeof(h));
}

static void scales(u32 dtype, const u8 *b, u32 row, u8 *to)
{
	u32 scale, min_;

	switch (dtype) {
	case KV_DTYPE_Q4_K:
	case KV_DTYPE_Q5_K:
		put_half(to, row, b);
		put_half(to + 32, row, b + 2);
		for (u32 s = 0; s < 8; s++) {
			ref_k_scale_min(b + 4, s, &scale, &min_);
			to[64 + 32 * s + row] = (u8)scale;
			to[80 + 32 * s + row] = (u8)min_;
		}
		break;
	case KV_DTYPE_Q6_K:
		put_half(to, row, b + 208);
		for (u32 g = 0; g < 16; g++)
			to[32 + 16 * g + row] = b[192 + g];
		break;
	default:
		put_half(to, row, b);
	}
}

/* ---- bytes to the strip: v[n] is the dword of row n ---- */

static void put_fields(u8 q[][KERN_STRIP], u32 nr, u32 step, u32 shift,
		       u32 mask, u32 v[KERN_STRIP])
{
	for (u32 k = 0; k < nr; k++)
		for (u32 n = 0; n < KERN_STRIP; n++)
			v[n] |= (q[k][n] >> shift & mask)
				<< (k / 2 * step + k % 2 * 16);
}

/* 32 k of 16 rows, q[k][row]. */
static void put_quants(const struct strip_type *t, u8 q[][KERN_STRIP], u8 *to)
{
	u32 v[8][KERN_STRIP] = { 0 };

	if (t->bits == 8) {
		for (u32 i = 0; i < 8; i++)
			put_fields(q + 4 * i, 4, 8, 0, 255, v[i]);
	} else {
		for (u32 i = 0; i < 4; i++)
			put_fields(q + 8 * i, 8, 4, 0, 15, v[i]);
		if (t->bits == 5)
			put_fields(q, 32, 1, 4, 1, v[4]);
		for (u32 i = 0; t->bits == 6 && i < 2; i++)
			put_fields(q + 16 * i, 16, 2, 4, 3, v[4 + i]);
	}
	memcpy(to, v, t->quant_bytes);
}

void kern_pack_strip(u32 dtype, u32 cols, const u8 *rows, u32 nr_rows,
		     u8 *strip)
{
	const struct dtype_info *d = dtype_info(dtype);
	struct strip_type t = strip_type(dtype);
	u64 row_bytes = dtype_row_bytes(dtype, cols);
	u8 *to = strip + strip_quant_bytes(&t, cols);
	static _Thread_local u8 q[BLOCK_MAX][KERN_STRIP];

	memset(to, 0, (size_t)(kern_strip_bytes(dtype, cols) -
			       strip_quant_bytes(&t, cols)));
	memset(q, 0, sizeof(q));
	for (u32 k0 = 0; k0 < cols; k0 += d->block_len) {
		for (u32 r = 0; r < nr_rows; r++) {
			const u8 *b = rows + r * row_bytes +
				      (u64)(k0 / d->block_len) * d->block_bytes;
			u8 one[BLOCK_MAX];

			quants(dtype, b, one);
			scales(dtype, b, r, to);
			for (u32 k = 0; k < d->block_len; k++)
				q[k][r] = one[k];
		}
		for (u32 k = 0; k < d->block_len; k += 32) {
			put_quants(&t, q + k, strip);
			strip += t.quant_bytes;
		}
		to += t.scale_bytes;
	}
}

/* ---- the value of an element ---- */

static u32 dword(const u8 *block, u32 vec, u32 row)
{
	u32 v;

	memcpy(&v, block + vec * STRIP_VEC + 4 * row, sizeof(v));
	return v;
}

static u32 strip_quant(const struct strip_type *t, const u8 *b, u32 row, u32 k)
{
	u32 half = k % 2 * 16, q;

	if (t->bits == 8)
		return dword(b, k / 4, row) >> (half + k % 4 / 2 * 8) & 255;
	q = dword(b, k / 8, row) >> (half + k % 8 / 2 * 4) & 15;
	if (t->bits == 5)
		q |= (dword(b, 4, row) >> (half + k / 2) & 1) << 4;
	if (t->bits == 6)
		q |= (dword(b, 4 + k / 16, row) >> (half + k % 16 / 2 * 2) & 3)
		     << 4;
	return q;
}

static float half_at(const u8 *p, u32 row)
{
	u16 h;

	memcpy(&h, p + 2 * row, sizeof(h));
	return ref_f16_to_f32(h);
}

float ref_strip_element(const struct kern_mat *w, u32 row, u32 k)
{
	struct strip_type t = strip_type(w->dtype);
	const u8 *strip = (const u8 *)w->data + row / KERN_STRIP * w->stride;
	const u8 *s = strip + strip_quant_bytes(&t, w->cols) +
		      (size_t)(k / t.scale_len) * t.scale_bytes;
	u32 n = row % KERN_STRIP, q;
	float scale = half_at(s, n), min_;

	q = strip_quant(&t, strip + (size_t)(k / 32) * t.quant_bytes, n,
			k % 32);
	if (w->dtype == KV_DTYPE_Q4_K || w->dtype == KV_DTYPE_Q5_K) {
		const u8 *sub = s + 64 + k % 256 / 32 * 32;

		min_ = half_at(s + 32, n) * (float)sub[16 + n];
		scale *= (float)sub[n];
	} else {
		if (w->dtype == KV_DTYPE_Q6_K)
			scale *= (float)(s8)s[32 + k % 256 / 16 * 16 + n];
		min_ = scale * (float)t.zero;
	}
	return scale * (float)q - min_;
}
