/* SPDX-License-Identifier: MIT */
/*
 * dequant.c - the value of one element of a row of GGUF blocks
 *
 *	Q4_0	d, 16 bytes: element j low nibble of byte j, j + 16 the high one
 *	Q5_0	d, 32 fifth bits, 16 bytes as above
 *	Q8_0	d, 32 signed bytes
 *	Q4_K	d, dmin, 8 x (scale, min) of 6 bits in 12 bytes, 128 bytes: of
 *		each 32 the low nibbles are one sub-block, the high ones the
 *		next
 *	Q5_K	the same with 32 bytes of fifth bits: bit s of byte i belongs to
 *		element i of sub-block s
 *	Q6_K	128 bytes of low nibbles, 64 of upper bit pairs, 16 scales, d
 *
 * All products are exact in fp32 (a 11-bit d times a scale of at most 7 bits
 * times a value of at most 6) and the one subtraction of the K types rounds
 * once, so no order of operations needs fixing.
 */
#include "kernels/ref/ref.h"
#include "kernels/ref/scalar.h"

static float f16_at(const u8 *p)
{
	return ref_f16_to_f32((u16)(p[0] | p[1] << 8));
}

static u32 nibble(u8 byte, u32 high)
{
	return high ? byte >> 4 : byte & 15;
}

static float q4_0_element(const u8 *b, u32 i)
{
	return f16_at(b) * (float)((int)nibble(b[2 + i % 16], i / 16) - 8);
}

static float q5_0_element(const u8 *b, u32 i)
{
	u32 fifth = b[2 + i / 8] >> i % 8 & 1;
	u32 q = nibble(b[6 + i % 16], i / 16) | fifth << 4;

	return f16_at(b) * (float)((int)q - 16);
}

static float q8_0_element(const u8 *b, u32 i)
{
	return f16_at(b) * (float)(s8)b[2 + i];
}

void ref_k_scale_min(const u8 *p, u32 s, u32 *scale, u32 *min)
{
	if (s < 4) {
		*scale = p[s] & 63;
		*min = p[s + 4] & 63;
	} else {
		*scale = (p[s + 4] & 15u) | p[s - 4] >> 6 << 4;
		*min = p[s + 4] >> 4 | p[s] >> 6 << 4;
	}
}

static float q45_k_element(const u8 *b, u32 i, const u8 *fifths, const u8 *qs)
{
	u32 s = i / 32, l = i % 32, scale, min_, q;

	ref_k_scale_min(b + 4, s, &scale, &min_);
	q = nibble(qs[s / 2 * 32 + l], s & 1);
	if (fifths)
		q |= (fifths[l] >> s & 1u) << 4;
	return f16_at(b) * (float)scale * (float)q -
	       f16_at(b + 2) * (float)min_;
}

static float q6_k_element(const u8 *b, u32 i)
{
	u32 half = i / 128, quarter = i % 128 / 32, l = i % 32;
	const u8 *ql = b + half * 64, *qh = b + 128 + half * 32;
	u32 q = nibble(ql[quarter % 2 * 32 + l], quarter / 2) |
		(qh[l] >> 2 * quarter & 3u) << 4;

	return f16_at(b + 208) * (float)(s8)b[192 + i / 16] *
	       (float)((int)q - 32);
}

float ref_element(const struct kern_mat *w, u32 row, u32 k)
{
	const struct dtype_info *d = dtype_info(w->dtype);
	const u8 *b;
	float f;
	u32 i;

	if (!d)
		return 0; /* the caller has checked the type */
	if (w->layout == KERN_LAYOUT_STRIP)
		return ref_strip_element(w, row, k);
	i = k % d->block_len;
	b = (const u8 *)w->data + row * w->stride +
	    (u64)(k / d->block_len) * d->block_bytes;
	switch (w->dtype) {
	case KV_DTYPE_F32:
		memcpy(&f, b, sizeof(f));
		return f;
	case KV_DTYPE_F16:
		return f16_at(b);
	case KV_DTYPE_BF16:
		return kern_bf16_to_f32((u16)(b[0] | b[1] << 8));
	case KV_DTYPE_Q4_0:
		return q4_0_element(b, i);
	case KV_DTYPE_Q5_0:
		return q5_0_element(b, i);
	case KV_DTYPE_Q8_0:
		return q8_0_element(b, i);
	case KV_DTYPE_Q4_K:
		return q45_k_element(b, i, NULL, b + 16);
	case KV_DTYPE_Q5_K:
		return q45_k_element(b, i, b + 16, b + 48);
	case KV_DTYPE_Q6_K:
		return q6_k_element(b, i);
	}
	return 0;
}

void ref_dequant(const struct kern_dequant *p, u32 lo, u32 hi)
{
	for (u32 r = lo; r < hi; r++) {
		for (u32 k = 0; k < p->w.cols; k++) {
			float f = ref_element(&p->w, p->row0 + r, k);
			size_t at = (size_t)r * p->w.cols + k;

			if (p->f32)
				p->f32[at] = f;
			if (p->bf16)
				p->bf16[at] = kern_f32_to_bf16(f);
		}
	}
}

void ref_embed(const struct kern_embed *p, u32 lo, u32 hi)
{
	for (u32 t = lo; t < hi; t++)
		for (u32 k = 0; k < p->w.cols; k++)
			p->out[(size_t)t * p->w.cols + k] =
				ref_element(&p->w, p->ids[t], k) * p->scale;
}
