/* SPDX-License-Identifier: MIT */
/*
 * test_pointwise.c - norms, activations and roundings: ref's bits, and libm
 *
 * san: address
 */
#include <math.h>

#include "kernels/ref/scalar.h"
#include "selftests/kernels/kern_test.h"

#define ROWS 3

static const u32 lens[] = { 1, 2, 15, 16, 17, 31, 64, 100, 640, 1536 };

/* Values of every size, and the special ones. */
static float *wild_floats(u64 *seed, size_t nr)
{
	static const float special[] = { 0.0f,	  -0.0f,  INFINITY, -INFINITY,
					 88.5f,	  -88.5f, -87.0f,   1e-38f,
					 3.4e38f, -1e30f, 0.625f,   1e-7f };
	float *f = kt_floats(seed, nr, 1);

	for (size_t i = 0; i < nr; i++) {
		u32 r = kt_below(seed, 8);

		if (r == 0)
			f[i] = special[kt_below(seed, ARRAY_SIZE(special))];
		else
			f[i] = ldexpf(f[i], (int)kt_below(seed, 16) - 8);
	}
	return f;
}

TEST(rmsnorm, gives_the_reference_bits_at_every_length)
{
	const struct kern_ops *ref = kern_select("ref"), *ops;
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(lens) * 4; i++) {
		u32 len = lens[i / 4], heads = 1 + i % 3;
		u32 stride = len * heads + i % 2;
		size_t nr = (size_t)ROWS * stride;
		float *x = kt_floats(&seed, nr, 3);
		float *w = kt_floats(&seed, len, 1);
		float *add = kt_floats(&seed, nr, 1);
		float *want = kt_alloc(nr * 4), *got = kt_alloc(nr * 4);
		u16 *want16 = kt_alloc(nr * 2), *got16 = kt_alloc(nr * 2);
		struct kern_rmsnorm p = {
			.x = x,
			.weight = i & 1 ? w : NULL,
			.add = i & 2 ? add : NULL,
			.f32 = want,
			.bf16 = want16,
			.x_stride = stride,
			.out_stride = stride,
			.heads = heads,
			.len = len,
			.eps = 1e-6f,
		};

		ref->rmsnorm(&p, 0, ROWS);
		for_each_row(ops)
		{
			p.f32 = got;
			p.bf16 = got16;
			ops->rmsnorm(&p, 0, ROWS);
			EXPECT_SAME(got, want, nr, ops->name);
			EXPECT_SAME(got16, want16, nr, ops->name);
		}
		free(x);
		free(w);
		free(add);
		free(want);
		free(got);
		free(want16);
		free(got16);
	}
}

TEST(rmsnorm, is_close_to_exact_arithmetic_and_may_run_in_place)
{
	u64 seed = test_seed();
	float x[640], y[640];
	double sum = 0;

	kern_thread_init();
	for (u32 i = 0; i < 640; i++) {
		x[i] = y[i] = kt_normal(&seed) * 5;
		sum += (double)x[i] * (double)x[i];
	}
	struct kern_rmsnorm p = { .x = y,
				  .f32 = y,
				  .x_stride = 640,
				  .out_stride = 640,
				  .heads = 1,
				  .len = 640,
				  .eps = 1e-6f };

	kern_select(NULL)->rmsnorm(&p, 0, 1);
	for (u32 i = 0; i < 640; i++)
		EXPECT_LT(fabs((double)y[i] -
			       (double)x[i] / sqrt(sum / 640 + 1e-6)),
			  2e-6);
}

TEST(gated, gives_the_reference_bits)
{
	const struct kern_ops *ref = kern_select("ref"), *ops;
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(lens) * 2; i++) {
		u32 len = lens[i / 2], stride = 2 * len;
		float *both = wild_floats(&seed, (size_t)ROWS * stride);
		u16 *want = kt_alloc(ROWS * len * 2);
		u16 *got = kt_alloc(ROWS * len * 2);
		struct kern_gated p = { both, both + len, want, stride,
					len,  len,	  i & 1 };

		ref->gated(&p, 0, ROWS);
		for_each_row(ops)
		{
			p.out = got;
			ops->gated(&p, 0, ROWS);
			EXPECT_SAME(got, want, (size_t)ROWS * len, ops->name);
		}
		free(both);
		free(want);
		free(got);
	}
}

TEST(gated, functions_are_close_to_libm)
{
	for (double x = -30; x < 30; x += 0.0037) {
		float f = (float)x;
		double d = (double)f,
		       u = 0.7978845608028654 * (d + 0.044715 * d * d * d);

		EXPECT_LT(fabs((double)ref_silu(f) - d / (1 + exp(-d))),
			  4e-7 * fabs(d) + 1e-12);
		EXPECT_LT(
			fabs((double)ref_gelu_tanh(f) - d / 2 * (1 + tanh(u))),
			1e-6 * fabs(d) + 1e-12);
		EXPECT_LT(fabs((double)ref_tanhf(f) - tanh(d)),
			  3e-7 * fabs(tanh(d)) + 1e-12);
		EXPECT_LT(fabs((double)ref_expf(f) - exp(d)), 1.3e-7 * exp(d));
	}
	EXPECT_EQ(1.0f, ref_expf(0));
	EXPECT_EQ(0.0f, ref_expf(-INFINITY));
	EXPECT_TRUE(isnan(ref_expf(NAN)));
	EXPECT_TRUE(isfinite(ref_expf(INFINITY)));
}

TEST(softcap, gives_the_reference_bits)
{
	const struct kern_ops *ref = kern_select("ref"), *ops;
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(lens); i++) {
		size_t nr = (size_t)ROWS * lens[i];
		float *x = wild_floats(&seed, nr), *want = kt_alloc(nr * 4);
		struct kern_softcap p = { want, lens[i], 30.0f };

		memcpy(want, x, nr * 4);
		ref->softcap(&p, 0, ROWS);
		for_each_row(ops)
		{
			float *got = kt_alloc(nr * 4);

			memcpy(got, x, nr * 4);
			p.x = got;
			ops->softcap(&p, 0, ROWS);
			EXPECT_SAME(got, want, nr, ops->name);
			free(got);
		}
		free(x);
		free(want);
	}
}

TEST(round, is_to_nearest_even_and_keeps_nan)
{
	EXPECT_EQ(0x3f80, kern_f32_to_bf16(1.0f));
	EXPECT_EQ(0x3f80, kern_f32_to_bf16(1.0f + 0x1p-8f)); /* tie, even */
	EXPECT_EQ(0x3f82, kern_f32_to_bf16(1.0f + 3 * 0x1p-8f)); /* tie, up */
	EXPECT_EQ(0x3f81, kern_f32_to_bf16(1.0f + 1.25f * 0x1p-8f));
	EXPECT_EQ(0x7f80, kern_f32_to_bf16(3.4e38f)); /* overflows */
	EXPECT_EQ(0x8000, kern_f32_to_bf16(-0.0f));
	EXPECT_TRUE(isnan(kern_bf16_to_f32(
		kern_f32_to_bf16(ref_bits_float(0x7fffffff)))));
}

TEST(round, and_add_give_the_reference_bits)
{
	const struct kern_ops *ref = kern_select("ref"), *ops;
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(lens); i++) {
		u32 len = lens[i];
		size_t nr = (size_t)ROWS * (len + 1);
		float *a = wild_floats(&seed, nr), *b = wild_floats(&seed, nr);
		float *sum = kt_alloc(nr * 4), *sum2 = kt_alloc(nr * 4);
		u16 *h = kt_alloc(nr * 2), *h2 = kt_alloc(nr * 2);
		struct kern_round r = { a, h, len + 1, len, len };
		struct kern_add p = { a, b, sum, len };

		for (u32 j = 0; j < nr; j += 7)
			a[j] = ref_bits_float((u32)test_rand(&seed));
		ref->round(&r, 0, ROWS);
		ref->add(&p, 0, ROWS);
		for_each_row(ops)
		{
			r.out = h2;
			p.out = sum2;
			ops->round(&r, 0, ROWS);
			ops->add(&p, 0, ROWS);
			EXPECT_SAME(h2, h, (size_t)ROWS * len, ops->name);
			EXPECT_SAME(sum2, sum, (size_t)ROWS * len, ops->name);
		}
		free(a);
		free(b);
		free(sum);
		free(sum2);
		free(h);
		free(h2);
	}
}

TEST(copy, makes_each_copy_of_its_range_only)
{
	char a[] = "prefix", b[8] = "-------", c[8] = "-------";
	struct kern_copy list[] = { { b, a, 3 }, { c, a, 6 } };

	kern_select(NULL)->copy(list, 0, 1);
	EXPECT_EQ(0, strcmp(b, "pre----"));
	EXPECT_EQ(0, strcmp(c, "-------"));
	kern_select(NULL)->copy(list, 1, 2);
	EXPECT_EQ(0, strcmp(c, "prefix-"));
}

TEST_HARNESS_MAIN
