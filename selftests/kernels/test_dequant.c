/* SPDX-License-Identifier: MIT */
/*
 * test_dequant.c - rows of every type against a second decoder
 *
 * The decoder here goes block by block in the order of the bytes, where ref
 * asks for one element at a time: the two share no code.
 *
 * san: address
 */
#include <math.h>

#include "selftests/kernels/kern_test.h"

static double half(const u8 *p)
{
	u32 h = p[0] | (u32)p[1] << 8, e = h >> 10 & 31;
	double m = h & 1023, sign = h & 0x8000 ? -1 : 1;

	return sign * (e ? ldexp(1024 + m, (int)e - 25) : ldexp(m, -24));
}

static void decode_q4_0(const u8 *b, double *y)
{
	for (int i = 0; i < 16; i++) {
		*y++ = half(b) * ((b[2 + i] & 15) - 8);
		y[15] = half(b) * ((b[2 + i] >> 4) - 8);
	}
}

static void decode_q5_0(const u8 *b, double *y)
{
	u32 fifth = b[2] | b[3] << 8 | b[4] << 16 | (u32)b[5] << 24;

	for (int i = 0; i < 16; i++, fifth >>= 1) {
		y[i] = half(b) * (int)((b[6 + i] & 15) + (fifth & 1) * 16 - 16);
		y[i + 16] = half(b) * (int)((b[6 + i] >> 4) +
					    (fifth >> 16 & 1) * 16 - 16);
	}
}

static void decode_q8_0(const u8 *b, double *y)
{
	for (int i = 0; i < 32; i++)
		y[i] = half(b) * (s8)b[2 + i];
}

/* The 12 bytes hold 8 scales and 8 mins: 4 + 4 whole, 4 + 4 in two parts. */
static void unpack_6bit(const u8 *p, int *scale, int *min_)
{
	for (int i = 0; i < 4; i++) {
		scale[i] = p[i] % 64;
		min_[i] = p[4 + i] % 64;
		scale[4 + i] = p[8 + i] % 16 + p[i] / 64 * 16;
		min_[4 + i] = p[8 + i] / 16 + p[4 + i] / 64 * 16;
	}
}

static void decode_k(const u8 *b, const u8 *fifths, const u8 *qs, double *y)
{
	int scale[8], min_[8];

	unpack_6bit(b + 4, scale, min_);
	for (int pair = 0; pair < 4; pair++, qs += 32, y += 64) {
		for (int i = 0; i < 32; i++) {
			int lo = qs[i] % 16, hi = qs[i] / 16;

			if (fifths) {
				lo += (fifths[i] >> 2 * pair & 1) * 16;
				hi += (fifths[i] >> (2 * pair + 1) & 1) * 16;
			}
			y[i] = half(b) * scale[2 * pair] * lo -
			       half(b + 2) * min_[2 * pair];
			y[i + 32] = half(b) * scale[2 * pair + 1] * hi -
				    half(b + 2) * min_[2 * pair + 1];
		}
	}
}

static void decode_q6_k(const u8 *b, double *y)
{
	const u8 *ql = b, *qh = b + 128;
	const s8 *sc = (const s8 *)b + 192;
	double d = half(b + 208);

	for (int n = 0; n < 2; n++, ql += 64, qh += 32, sc += 8, y += 128) {
		for (int i = 0; i < 32; i++) {
			int a = ql[i] % 16 + qh[i] % 4 * 16;
			int e = ql[32 + i] % 16 + qh[i] / 4 % 4 * 16;
			int f = ql[i] / 16 + qh[i] / 16 % 4 * 16;
			int g = ql[32 + i] / 16 + qh[i] / 64 * 16;

			y[i] = d * sc[i / 16] * (a - 32);
			y[i + 32] = d * sc[2 + i / 16] * (e - 32);
			y[i + 64] = d * sc[4 + i / 16] * (f - 32);
			y[i + 96] = d * sc[6 + i / 16] * (g - 32);
		}
	}
}

static void decode_block(u32 type, const u8 *b, double *y)
{
	float f;

	switch (type) {
	case KV_DTYPE_F32:
		memcpy(&f, b, sizeof(f));
		*y = (double)f;
		break;
	case KV_DTYPE_F16:
		*y = half(b);
		break;
	case KV_DTYPE_BF16: {
		u8 w[4] = { 0, 0, b[0], b[1] };

		memcpy(&f, w, sizeof(f));
		*y = (double)f;
		break;
	}
	case KV_DTYPE_Q4_0:
		decode_q4_0(b, y);
		break;
	case KV_DTYPE_Q5_0:
		decode_q5_0(b, y);
		break;
	case KV_DTYPE_Q8_0:
		decode_q8_0(b, y);
		break;
	case KV_DTYPE_Q4_K:
		decode_k(b, NULL, b + 16, y);
		break;
	case KV_DTYPE_Q5_K:
		decode_k(b, b + 16, b + 48, y);
		break;
	case KV_DTYPE_Q6_K:
		decode_q6_k(b, y);
		break;
	}
}

static double *decode(const struct kern_mat *w)
{
	const struct dtype_info *d = dtype_info(w->dtype);
	double *y = kt_alloc((size_t)w->rows * w->cols * sizeof(*y));

	ASSERT_TRUE(d);
	for (u32 r = 0; r < w->rows; r++)
		for (u32 k = 0; k < w->cols; k += d->block_len)
			decode_block(w->dtype,
				     (const u8 *)w->data + r * w->stride +
					     k / d->block_len * d->block_bytes,
				     y + (size_t)r * w->cols + k);
	return y;
}

/* Strips do not promise the sign of a zero. */
static bool is_value(const struct kern_mat *w, float got, float want)
{
	return w->layout == KERN_LAYOUT_STRIP ? got == want
					      : !memcmp(&got, &want, 4);
}

static bool is_rounded(const struct kern_mat *w, u16 got, float want)
{
	u16 bits = kern_f32_to_bf16(want);

	if (w->layout == KERN_LAYOUT_STRIP && !(bits & 0x7fff))
		return !(got & 0x7fff);
	return got == bits;
}

enum { ROWS = 12, COLS = 1024, SKIP = 5 };

static void check_mat(u64 *seed, struct kern_mat w, const double *want)
{
	float *f32 = kt_alloc(ROWS * COLS * 4),
	      *out = kt_alloc(ROWS * COLS * 4);
	u16 *bf16 = kt_alloc(ROWS * COLS * 2);
	u32 ids[ROWS];

	for (u32 i = 0; i < ROWS; i++)
		ids[i] = kt_below(seed, ROWS);
	for (const char *const *isa = kern_isa_list(); *isa; isa++) {
		const struct kern_ops *ops = kern_select(*isa);
		struct kern_dequant p = { w, SKIP, f32, bf16 };
		struct kern_embed e = { w, ids, out, 3.25f };
		u32 bad = 0;

		ops->dequant(&p, 0, ROWS - SKIP);
		ops->embed(&e, 0, ROWS);
		for (u32 i = 0; i < (ROWS - SKIP) * COLS; i++) {
			float x = (float)want[SKIP * COLS + i];

			bad += !is_value(&w, f32[i], x) ||
			       !is_rounded(&w, bf16[i], x);
		}
		for (u32 i = 0; i < ROWS * COLS; i++) {
			float x = (float)want[ids[i / COLS] * COLS + i % COLS];

			bad += out[i] != x * 3.25f;
		}
		if (bad)
			TH_LOG("%s %s layout %u", *isa, dtype_name(w.dtype),
			       w.layout);
		EXPECT_EQ(0, bad);
	}
	free(f32);
	free(out);
	free(bf16);
}

static void check_type(u64 *seed, u32 type)
{
	struct kern_mat w = kt_mat(seed, type, ROWS, COLS);
	struct kern_mat strips = kt_strips(&w);
	double *want = decode(&w);

	check_mat(seed, w, want);
	if (strips.data)
		check_mat(seed, strips, want);
	free(want);
	free((void *)w.data);
	free((void *)strips.data);
}

TEST(dequant, every_type_equals_a_second_decoder)
{
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 t = 0; t < ARRAY_SIZE(kt_types); t++)
		check_type(&seed, kt_types[t]);
}

TEST(dequant, takes_rows_that_are_no_multiple_of_a_vector)
{
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 cols = 1; cols < 70; cols++) {
		struct kern_mat w = kt_mat(&seed, KV_DTYPE_F16, 2, cols);
		float want[140], got[140];
		struct kern_dequant p = { w, 0, want, NULL };

		kern_select("ref")->dequant(&p, 0, 2);
		p.f32 = got;
		kern_select(NULL)->dequant(&p, 0, 2);
		EXPECT_SAME(got, want, 2 * cols, "F16");
		free((void *)w.data);
	}
}

TEST(dtype, an_unknown_number_has_no_record)
{
	EXPECT_EQ(NULL, dtype_info(3));
	EXPECT_EQ(NULL, dtype_info(KV_DTYPE_MAX));
	EXPECT_EQ(NULL, dtype_info(~0u));
	EXPECT_EQ(0, dtype_row_bytes(~0u, 32));
	EXPECT_EQ(0, dtype_row_bytes(KV_DTYPE_Q4_K, 128));
	EXPECT_EQ(0, strcmp("unknown", dtype_name(999)));
}

TEST(dtype, row_lengths_are_whole_blocks)
{
	EXPECT_EQ(864, dtype_row_bytes(KV_DTYPE_Q4_K, 1536));
	EXPECT_EQ(440, dtype_row_bytes(KV_DTYPE_Q5_0, 640));
	EXPECT_EQ(680, dtype_row_bytes(KV_DTYPE_Q8_0, 640));
	EXPECT_EQ(7350, dtype_row_bytes(KV_DTYPE_Q6_K, 8960));
	EXPECT_EQ(0xffffffffull * 4, dtype_row_bytes(KV_DTYPE_F32, 0xffffffff));
}

TEST(strip, is_as_long_as_its_rows_but_for_the_scales_of_k_types)
{
	EXPECT_EQ(16 * 440, kern_strip_bytes(KV_DTYPE_Q5_0, 640));
	EXPECT_EQ(16 * 680, kern_strip_bytes(KV_DTYPE_Q8_0, 640));
	EXPECT_EQ(ALIGN_UP(16 * 7350, 64),
		  kern_strip_bytes(KV_DTYPE_Q6_K, 8960));
	EXPECT_EQ(6 * (8 * 256 + 320), kern_strip_bytes(KV_DTYPE_Q4_K, 1536));
	EXPECT_EQ(0, kern_strip_bytes(KV_DTYPE_Q4_K, 128));
	EXPECT_EQ(0, kern_strip_bytes(KV_DTYPE_F32, 256));
	EXPECT_EQ(0, kern_strip_bytes(KV_DTYPE_BF16, 256));
	EXPECT_EQ(0, kern_strip_bytes(~0u, 256));
}

/* A scale from a hostile file: its block is NaN and no plausible number. */
TEST(strip, a_scale_that_is_no_number_stays_none)
{
	static const u16 halves[] = { 0x7c00, 0xfc00, 0x7fff, 0xffff, 0x7c01 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(halves); i++) {
		struct kern_mat w = kt_mat(&seed, KV_DTYPE_Q8_0, 1, 32), s;
		const u16 x[32] = { 0x3f80, 0x3f80, 0x3f80, 0x3f80 };
		static u8 scratch[KERN_SCRATCH_BYTES]
			__attribute__((aligned(64)));
		float y;

		memcpy((void *)w.data, &halves[i], 2);
		s = kt_strips(&w);
		for (const char *const *isa = kern_isa_list(); *isa; isa++) {
			struct kern_gemm p = kt_gemm(s, x, &y, 1);

			y = 0;
			kern_select(*isa)->gemm(&p, 0, 1, scratch);
			EXPECT_TRUE(isnan(y));
		}
		free((void *)w.data);
		free((void *)s.data);
	}
}

TEST_HARNESS_MAIN
