/* SPDX-License-Identifier: MIT */
#ifndef CPU_DEQUANT_VEC_H
#define CPU_DEQUANT_VEC_H
/*
 * dequant_vec.h - GGUF blocks to floats or bf16, 16 elements at a time
 *
 * Byte to float, scale, store. AVX2's product uses these (word tables as
 * dequant_avx512.h has them would cost as much to fill as they save), and
 * every instruction set for whole rows: embeddings, tests.
 */
#include "kernels/cpu/vec.h"
#include "kernels/ref/ref.h"

vec_inline float f16_at(const u8 *p)
{
	u16 h;

	memcpy(&h, p, sizeof(h));
	return _cvtsh_ss(h);
}

/* Where values go: floats or bf16, which is known at compile time. */
struct sink {
	void *at;
	bool wide;
};

vec_inline struct sink sink_skip(struct sink out, u32 nr)
{
	out.at = (u8 *)out.at + nr * (out.wide ? 4 : 2);
	return out;
}

vec_inline void sink_put(struct sink out, struct v16 v, u32 nr)
{
	if (out.wide && nr == 16)
		v16_store(out.at, v);
	else if (out.wide)
		v16_store_n(out.at, v, nr);
	else if (nr == 16)
		v16_store_bf16(out.at, v);
	else
		v16_store_bf16_n(out.at, v, nr);
}

vec_inline __m128i load16(const u8 *p)
{
	return _mm_loadu_si128((const __m128i *)(const void *)p);
}

vec_inline __m128i low_nibbles(__m128i b)
{
	return _mm_and_si128(b, _mm_set1_epi8(15));
}

vec_inline __m128i high_nibbles(__m128i b)
{
	return low_nibbles(_mm_srli_epi16(b, 4));
}

/* out = d * (q - zero) */
vec_inline void store_scaled(__m128i q, s8 zero, struct v16 d, struct sink out)
{
	q = _mm_sub_epi8(q, _mm_set1_epi8(zero));
	sink_put(out, v16_mul(v16_from_s8(q), d), 16);
}

vec_inline void vec_q4_0(const u8 *b, struct sink out)
{
	struct v16 d = v16_set1(f16_at(b));
	__m128i q = load16(b + 2);

	store_scaled(low_nibbles(q), 8, d, out);
	store_scaled(high_nibbles(q), 8, d, sink_skip(out, 16));
}

/* 16 where bit i of @bits is set, as bytes */
vec_inline __m128i fifth_bits(u16 bits)
{
	const __m128i spread =
		_mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
	const __m128i bit = _mm_set1_epi64x((s64)0x8040201008040201ull);
	__m128i v = _mm_shuffle_epi8(_mm_set1_epi16((s16)bits), spread);

	v = _mm_cmpeq_epi8(_mm_and_si128(v, bit), bit);
	return _mm_and_si128(v, _mm_set1_epi8(16));
}

vec_inline void vec_q5_0(const u8 *b, struct sink out)
{
	struct v16 d = v16_set1(f16_at(b));
	__m128i q = load16(b + 6);
	u16 fifths[2];

	memcpy(fifths, b + 2, sizeof(fifths));
	store_scaled(_mm_or_si128(low_nibbles(q), fifth_bits(fifths[0])), 16, d,
		     out);
	store_scaled(_mm_or_si128(high_nibbles(q), fifth_bits(fifths[1])), 16,
		     d, sink_skip(out, 16));
}

vec_inline void vec_q8_0(const u8 *b, struct sink out)
{
	struct v16 d = v16_set1(f16_at(b));

	store_scaled(load16(b + 2), 0, d, out);
	store_scaled(load16(b + 18), 0, d, sink_skip(out, 16));
}

/* Sub-block s's scale and min, times d and dmin. */
vec_inline void k_scale(const u8 *b, u32 s, struct v16 *scale, struct v16 *min_)
{
	const u8 *p = b + 4;
	u32 sc, m;

	if (s < 4) {
		sc = p[s] & 63;
		m = p[s + 4] & 63;
	} else {
		sc = (p[s + 4] & 15u) | p[s - 4] >> 6 << 4;
		m = p[s + 4] >> 4 | p[s] >> 6 << 4;
	}
	*scale = v16_set1(f16_at(b) * (float)sc);
	*min_ = v16_set1(f16_at(b + 2) * (float)m);
}

/* 16 elements of a K block: nibbles of @qs, fifth bits or NULL */
vec_inline void k_store(const u8 *b, u32 s, u32 half, const u8 *fifths,
			const u8 *qs, struct sink out)
{
	__m128i q = load16(qs + s / 2 * 32 + 16 * half);
	struct v16 scale, min_;

	k_scale(b, s, &scale, &min_);
	q = s & 1 ? high_nibbles(q) : low_nibbles(q);
	if (fifths) {
		__m128i bit = _mm_set1_epi8((char)(1u << s));
		__m128i f = load16(fifths + 16 * half);

		f = _mm_cmpeq_epi8(_mm_and_si128(f, bit), bit);
		q = _mm_or_si128(q, _mm_and_si128(f, _mm_set1_epi8(16)));
	}
	sink_put(sink_skip(out, 32 * s + 16 * half),
		 v16_fms(scale, v16_from_s8(q), min_), 16);
}

vec_inline void vec_q4_k(const u8 *b, struct sink out)
{
	for (u32 s = 0; s < 8; s++) {
		k_store(b, s, 0, NULL, b + 16, out);
		k_store(b, s, 1, NULL, b + 16, out);
	}
}

vec_inline void vec_q5_k(const u8 *b, struct sink out)
{
	for (u32 s = 0; s < 8; s++) {
		k_store(b, s, 0, b + 16, b + 48, out);
		k_store(b, s, 1, b + 16, b + 48, out);
	}
}

vec_inline void vec_q6_k(const u8 *b, struct sink out)
{
	const __m128i bits45 = _mm_set1_epi8(0x30);
	float d = f16_at(b + 208);

	for (u32 g = 0; g < 16; g++) {
		u32 half = g / 8, quarter = g % 8 / 2, at = g % 2 * 16;
		__m128i l = load16(b + 64 * half + quarter % 2 * 32 + at);
		__m128i h = load16(b + 128 + 32 * half + at);

		h = _mm_srl_epi16(h, _mm_cvtsi32_si128((int)quarter * 2));
		h = _mm_and_si128(_mm_slli_epi16(h, 4), bits45);
		l = quarter / 2 ? high_nibbles(l) : low_nibbles(l);
		store_scaled(_mm_or_si128(l, h), 32,
			     v16_set1(d * (float)(s8)b[192 + g]),
			     sink_skip(out, 16 * g));
	}
}

/* 16 elements, or the last nr of a row, of a type without blocks */
vec_inline struct v16 load_plain(u32 type, const u8 *b, u32 nr)
{
	u8 part[64] = { 0 };

	if (nr < 16) {
		memcpy(part, b, nr * (type == KV_DTYPE_F32 ? 4 : 2));
		b = part;
	}
	if (type == KV_DTYPE_F32)
		return v16_load((const float *)(const void *)b);
	if (type == KV_DTYPE_F16)
		return v16_load_f16(b);
	return v16_load_bf16((const u16 *)(const void *)b);
}

#define VEC_ROW(type, block, bytes, elements)                           \
	case type:                                                      \
		for (u32 k = 0; k < w->cols; k += elements, b += bytes) \
			block(b, sink_skip(out, k));                    \
		break

/* A row that is a lane of a strip: embeddings and tests want one. */
static void strip_row(const struct kern_mat *w, u32 row, struct sink out)
{
	float v[16];

	for (u32 k = 0; k < w->cols; k += 16) {
		ref_strip_elements(w, row, k, 16, v);
		sink_put(sink_skip(out, k), v16_load(v), 16);
	}
}

/* A whole row. */
vec_inline void vec_row(const struct kern_mat *w, u32 row, struct sink out)
{
	const u8 *b = (const u8 *)w->data + row * w->stride;
	u32 size = w->dtype == KV_DTYPE_F32 ? 4 : 2;

	if (w->layout == KERN_LAYOUT_STRIP) {
		strip_row(w, row, out);
		return;
	}
	switch (w->dtype) {
		VEC_ROW(KV_DTYPE_Q4_0, vec_q4_0, 18, 32);
		VEC_ROW(KV_DTYPE_Q5_0, vec_q5_0, 22, 32);
		VEC_ROW(KV_DTYPE_Q8_0, vec_q8_0, 34, 32);
		VEC_ROW(KV_DTYPE_Q4_K, vec_q4_k, 144, 256);
		VEC_ROW(KV_DTYPE_Q5_K, vec_q5_k, 176, 256);
		VEC_ROW(KV_DTYPE_Q6_K, vec_q6_k, 210, 256);
	default:
		for (u32 k = 0; k < w->cols; k += 16) {
			u32 nr = min(w->cols - k, 16u);

			sink_put(sink_skip(out, k),
				 load_plain(w->dtype, b + (size_t)k * size, nr),
				 nr);
		}
	}
}

#endif
