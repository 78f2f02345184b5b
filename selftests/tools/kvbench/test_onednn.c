/* SPDX-License-Identifier: MIT */
/*
 * test_onednn.c - the peer's products are right, or are found out
 *
 * Skipped where libdnnl2 is not installed. Where its header is, what kvbench
 * declares of it by itself is held against that when this compiles.
 */
#include "kernels/include/kern.h"
#include "selftests/harness.h"
#include "tools/kvbench/onednn.h"
#include "tools/kvbench/onednn_abi.h"

#if __has_include(<oneapi/dnnl/dnnl_version.h>)
#include <oneapi/dnnl/dnnl_version.h>
#if DNNL_VERSION_MAJOR == 2
#include <oneapi/dnnl/dnnl.h>

#define SAME(ours, its) \
	_Static_assert((int)(ours) == (int)(its), #ours " is " #its)

_Static_assert(sizeof(struct onednn_md) >= sizeof(dnnl_memory_desc_t), "");
_Static_assert(sizeof(struct onednn_opd) >= sizeof(dnnl_matmul_desc_t), "");
SAME(sizeof(struct onednn_arg), sizeof(dnnl_exec_arg_t));
SAME(offsetof(struct onednn_arg, memory), offsetof(dnnl_exec_arg_t, memory));
SAME(offsetof(struct onednn_version, patch), offsetof(dnnl_version_t, patch));
SAME(sizeof(dnnl_dims_t), ONEDNN_DIMS_MAX * sizeof(int64_t));
SAME(ONEDNN_SUCCESS, dnnl_success);
SAME(ONEDNN_OUT_OF_MEMORY, dnnl_out_of_memory);
SAME(ONEDNN_UNIMPLEMENTED, dnnl_unimplemented);
SAME(ONEDNN_CPU, dnnl_cpu);
SAME(ONEDNN_STREAM_DEFAULT, dnnl_stream_default_flags);
SAME(ONEDNN_BF16, dnnl_bf16);
SAME(ONEDNN_F32, dnnl_f32);
SAME(ONEDNN_ANY, dnnl_format_tag_any);
SAME(ONEDNN_AB, dnnl_ab);
SAME(ONEDNN_BA, dnnl_ba);
SAME(ONEDNN_QUERY_WEIGHTS_MD, dnnl_query_weights_md);
SAME(ONEDNN_ARG_SRC, DNNL_ARG_SRC);
SAME(ONEDNN_ARG_SRC, DNNL_ARG_FROM);
SAME(ONEDNN_ARG_DST, DNNL_ARG_DST);
SAME(ONEDNN_ARG_DST, DNNL_ARG_TO);
SAME(ONEDNN_ARG_WEIGHTS, DNNL_ARG_WEIGHTS);
#endif
#endif

#define M      5u
#define N      70u
#define K      130u
#define COPIES 3u

FIXTURE(onednn)
{
	struct onednn_product p;
	u16 x[M * K];
	float w[N * K], y[M * N];
};

FIXTURE_SETUP(onednn)
{
	char note[ONEDNN_NOTE] = "";
	u64 seed = test_seed();
	u32 i;
	int rc = onednn_load(2, note);

	if (rc == -EOPNOTSUPP)
		SKIP("%s", note);
	EXPECT_STREQ(note, "");
	ASSERT_EQ(rc, 0);
	for (i = 0; i < M * K; i++)
		self->x[i] =
			kern_f32_to_bf16((float)(test_rand(&seed) % 255) - 127);
	for (i = 0; i < N * K; i++)
		self->w[i] = (float)(test_rand(&seed) % 255) - 127;
	self->p = (struct onednn_product){ .m = M,
					   .n = N,
					   .k = K,
					   .copies = COPIES,
					   .x = self->x,
					   .w = self->w,
					   .y = self->y };
}

FIXTURE_TEARDOWN(onednn)
{
	onednn_product_fini(&self->p);
	onednn_rest();
}

/* Integers below 2^24: fp32 and bf16 hold them all. */
static void multiplies(struct onednn_self *self)
{
	u32 copy, m, n, k;

	for (copy = 0; copy < COPIES; copy++) {
		memset(self->y, 0, sizeof(self->y));
		ASSERT_EQ(onednn_product_run(&self->p, copy), 0);
		EXPECT_EQ(onednn_product_check(&self->p), 0);
		for (m = 0; m < M; m++) {
			for (n = 0; n < N; n++) {
				float sum = 0;

				for (k = 0; k < K; k++)
					sum += kern_bf16_to_f32(
						       self->x[m * K + k]) *
					       self->w[n * K + k];
				ASSERT_EQ((int)self->y[m * N + n], (int)sum);
			}
		}
	}
}

TEST_F(onednn, each_copy_of_fp32_weights_gives_the_product)
{
	ASSERT_EQ(onednn_product_init(&self->p), 0);
	multiplies(self);
}

TEST_F(onednn, each_copy_of_bf16_weights_gives_the_product)
{
	int rc;

	self->p.bf16 = true;
	rc = onednn_product_init(&self->p);
	if (rc == -EOPNOTSUPP)
		SKIP("no bf16 products on this CPU");
	ASSERT_EQ(rc, 0);
	multiplies(self);
}

TEST_F(onednn, a_wrong_product_is_found)
{
	u32 i;

	ASSERT_EQ(onednn_product_init(&self->p), 0);
	ASSERT_EQ(onednn_product_run(&self->p, 0), 0);
	ASSERT_EQ(onednn_product_check(&self->p), 0);
	self->y[M * N - 1] += 1000;
	EXPECT_EQ(onednn_product_check(&self->p), -EBADMSG);
	for (i = 0; i < M * N; i++)
		self->y[i] = NAN;
	EXPECT_EQ(onednn_product_check(&self->p), -EBADMSG);
	memset(self->y, 0, sizeof(self->y));
	EXPECT_EQ(onednn_product_check(&self->p), -EBADMSG);
}

TEST_HARNESS_MAIN
