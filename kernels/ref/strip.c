/* SPDX-License-Identifier: MIT */
/*
 * strip.c - make strips, and the value of one element of a strip
 *
 * Packing goes through a plain form, one byte per quant: each GGUF type is
 * taken apart in one place, each strip put together in one place, and neither
 * knows the other.
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
		for (u32 i = 0; i < 32; i++) {
			q[i] |= (u8)(high[i] << 4 & 0x30);
			q[i + 32] |= (u8)(high[i] << 2 & 0x30);
			q[i + 64] |= high[i] & 0x30;
			q[i + 96] |= high[i] >> 2 & 0x30;
		}
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

/* ---- bytes to the strip ---- */

/*
 * Of 8 quants, a byte each: the lowest @bits of the even ones side by side in
 * the lower half of the dword, of the odd ones in the upper half. The factor
 * moves the four fields, 16 bits apart, to the top of a product in which no
 * two terms meet.
 */
static inline u32 gather(u64 q, const u32 bits)
{
	const u64 fields = ((1ull << bits) - 1) * 0x0001000100010001ull;
	const u64 factor = 1ull << 48 | 1ull << (32 + bits) |
			   1ull << (16 + 2 * bits) | 1ull << 3 * bits;

	return (u32)((q & fields) * factor >> 48) |
	       (u32)((q >> 8 & fields) * factor >> 48) << 16;
}

static void put_dword(u8 *to, u32 vec, u32 row, u32 v)
{
	memcpy(to + vec * STRIP_VEC + 4 * row, &v, sizeof(v));
}

static void put_bytes(const u8 *q, u32 row, u8 *to)
{
	for (u32 v = 0; v < 8; v++, q += 4)
		put_dword(to, v, row,
			  q[0] | (u32)q[2] << 8 | (u32)q[1] << 16 |
				  (u32)q[3] << 24);
}

/* 32 quants of one row. */
static void put_quants(const u32 bits, const u8 *q, u32 row, u8 *to)
{
	u32 high[2] = { 0 };

	for (u32 v = 0; v < 4; v++) {
		u64 x;

		memcpy(&x, q + 8 * v, sizeof(x));
		put_dword(to, v, row, gather(x, 4));
		if (bits == 5)
			high[0] |= gather(x >> 4, 1) << 4 * v;
		if (bits == 6)
			high[v / 2] |= gather(x >> 4, 2) << v % 2 * 8;
	}
	for (u32 i = 4; i < bits; i++)
		put_dword(to, i, row, high[i - 4]);
}

/* A block of one row. */
static void put_block(u32 dtype, u32 bits, const u8 *b, u32 len, u32 row,
		      u8 *to)
{
	u8 q[BLOCK_MAX];

	quants(dtype, b, q);
	for (u32 k = 0; k < len; k += 32, to += bits * STRIP_VEC) {
		if (bits == 4)
			put_quants(4, q + k, row, to);
		else if (bits == 5)
			put_quants(5, q + k, row, to);
		else if (bits == 6)
			put_quants(6, q + k, row, to);
		else
			put_bytes(q + k, row, to);
	}
}

void kern_pack_strip(u32 dtype, u32 cols, const u8 *rows, u32 nr_rows,
		     u8 *strip)
{
	const struct dtype_info *d = dtype_info(dtype);
	struct strip_type t = strip_type(dtype);
	u64 row_bytes = dtype_row_bytes(dtype, cols);
	u8 *to = strip + strip_quant_bytes(&t, cols);

	if (nr_rows < KERN_STRIP)
		memset(strip, 0, kern_strip_bytes(dtype, cols));
	for (u32 k = 0; k < cols; k += d->block_len) {
		for (u32 r = 0; r < nr_rows; r++) {
			const u8 *b = rows + r * row_bytes +
				      (u64)(k / d->block_len) * d->block_bytes;

			put_block(dtype, t.bits, b, d->block_len, r, strip);
			scales(dtype, b, r, to);
		}
		strip += d->block_len / 32 * t.quant_bytes;
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

/* The scale at k of the row whose scales begin at s, and the min, if any. */
static float strip_scale(u32 dtype, const u8 *s, u32 n, u32 k, float *min_)
{
	float d = half_at(s, n);
	const u8 *sub = s + 64 + k % 256 / 32 * 32;

	*min_ = 0;
	switch (dtype) {
	case KV_DTYPE_Q4_K:
	case KV_DTYPE_Q5_K:
		*min_ = half_at(s + 32, n) * (float)sub[16 + n];
		return d * (float)sub[n];
	case KV_DTYPE_Q6_K:
		return d * (float)(s8)s[32 + k % 256 / 16 * 16 + n];
	}
	return d;
}

/* Where the quants and the scales of 32 k begin. */
static const u8 *strip_at(const struct kern_mat *w, u32 row, u32 k,
			  const u8 **scales_at)
{
	struct strip_type t = strip_type(w->dtype);
	const u8 *strip = (const u8 *)w->data + row / KERN_STRIP * w->stride;

	*scales_at = strip + strip_quant_bytes(&t, w->cols) +
		     (size_t)(k / t.scale_len) * t.scale_bytes;
	return strip + (size_t)(k / 32) * t.quant_bytes;
}

void ref_strip_elements(const struct kern_mat *w, u32 row, u32 k, u32 nr,
			float *out)
{
	struct strip_type t = strip_type(w->dtype);
	u32 n = row % KERN_STRIP;
	float scale, min_;
	const u8 *s, *b = strip_at(w, row, k, &s);

	scale = strip_scale(w->dtype, s, n, k, &min_);
	if (t.zero)
		min_ = scale * (float)t.zero;
	for (u32 i = 0; i < nr; i++)
		out[i] = scale * (float)strip_quant(&t, b, n, (k + i) % 32) -
			 min_;
}

float ref_strip_element(const struct kern_mat *w, u32 row, u32 k)
{
	float f;

	ref_strip_elements(w, row, k, 1, &f);
	return f;
}

void ref_strip_quants(const struct kern_mat *w, u32 row, u32 k,
		      struct strip_quants *out)
{
	struct strip_type t = strip_type(w->dtype);
	u8 one[3392]; /* the strip of a block of Q6_K */
	struct kern_mat block = *w;
	u32 n = row % KERN_STRIP;
	const u8 *s, *b;

	if (w->layout == KERN_LAYOUT_GGUF) {
		u32 k0 = k / t.scale_len * t.scale_len; /* of the block */

		kern_pack_strip(w->dtype, t.scale_len,
				(const u8 *)w->data + row * w->stride +
					dtype_row_bytes(w->dtype, k0),
				1, one);
		block.data = one;
		block.cols = t.scale_len;
		k -= k0;
		row = n = 0;
	}
	b = strip_at(&block, row, k, &s);
	for (u32 i = 0; i < 32; i++)
		out->q[i] = (u8)strip_quant(&t, b, n, i);
	for (u32 i = 0; i < 2; i++)
		out->scale[i] =
			strip_scale(w->dtype, s, n, k + 16 * i, &out->min);
}
