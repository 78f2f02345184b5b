/* SPDX-License-Identifier: MIT */
/*
 * test_logits.c - the largest logits and the log of the sum
 *
 * san: address
 */
#include <math.h>

#include "selftests/kernels/kern_test.h"

struct entry {
	float v;
	u32 id;
};

static int by_rank(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->v != y->v)
		return x->v < y->v ? 1 : -1;
	return x->id < y->id ? -1 : 1;
}

static void check_row(const float *x, u32 len, u32 k)
{
	struct entry *all = kt_alloc(len * sizeof(*all));
	double sum = 0, m;

	for (u32 i = 0; i < len; i++)
		all[i] = (struct entry){ x[i], i };
	qsort(all, len, sizeof(*all), by_rank);
	m = (double)all[0].v;
	for (u32 i = 0; i < len; i++)
		sum += exp((double)x[i] - m);
	for (const char *const *isa = kern_isa_list(); *isa; isa++) {
		u32 best, *ids = kt_alloc(k * 4);
		float top_value, *top = kt_alloc(k * 4);
		double lse;
		struct kern_logits p = { x,    len, NULL, &best, &top_value,
					 &lse, ids, top,  k };

		kern_select(*isa)->logits(&p, 0, 1);
		EXPECT_EQ(all[0].id, best);
		EXPECT_EQ(all[0].v, top_value);
		EXPECT_LT(fabs(lse - (m + log(sum))), 1e-6);
		for (u32 i = 0; i < k; i++) {
			EXPECT_EQ(all[i].id, ids[i]);
			EXPECT_EQ(all[i].v, top[i]);
		}
		free(ids);
		free(top);
	}
	free(all);
}

TEST(logits, the_k_largest_come_in_order_with_ties_by_index)
{
	static const u32 lens[] = { 1, 2, 15, 16, 17, 33, 100, 5000 };
	u64 seed = test_seed();

	kern_thread_init();
	for (u32 i = 0; i < ARRAY_SIZE(lens) * 6; i++) {
		u32 len = lens[i / 6], k = 1 + kt_below(&seed, min(len, 60u));
		float *x = kt_floats(&seed, len, 4);

		if (i & 1) /* many ties */
			for (u32 j = 0; j < len; j++)
				x[j] = (float)kt_below(&seed, 5);
		check_row(x, len, i % 6 == 5 ? len : k);
		free(x);
	}
}

TEST(logits, rows_give_the_same_bits_on_every_row_of_the_table)
{
	enum { LEN = 32003, R = 3, K = 40 };
	u64 seed = test_seed();
	float *x = kt_floats(&seed, R * LEN, 5);
	double want[R], got[R];
	float max_[R];
	const struct kern_ops *ops;
	struct kern_logits p = { .x = x, .len = LEN, .max = max_, .lse = want };

	kern_thread_init();
	x[7] = -INFINITY;
	kern_select("ref")->logits(&p, 0, R);
	for_each_row(ops)
	{
		p.lse = got;
		ops->logits(&p, 0, 1);
		ops->logits(&p, 1, R);
		EXPECT_SAME(got, want, R, ops->name);
	}
	free(x);
}

TEST(logits, a_nan_is_never_the_largest)
{
	float x[40];
	u32 best, ids[2];
	float top[2];

	kern_thread_init();
	for (u32 i = 0; i < 40; i++)
		x[i] = i % 2 ? NAN : -(float)i;
	x[0] = NAN;
	for (const char *const *isa = kern_isa_list(); *isa; isa++) {
		struct kern_logits p = { .x = x,
					 .len = 40,
					 .argmax = &best,
					 .top_ids = ids,
					 .top = top,
					 .k = 2 };

		kern_select(*isa)->logits(&p, 0, 1);
		EXPECT_EQ(2, best);
		EXPECT_EQ(2, ids[0]);
		EXPECT_EQ(4, ids[1]);
	}
}

TEST(logits, a_row_of_minus_infinity_has_that_for_a_sum)
{
	float x[20];
	u32 best;
	double lse;

	kern_thread_init();
	for (u32 i = 0; i < 20; i++)
		x[i] = -INFINITY;
	for (const char *const *isa = kern_isa_list(); *isa; isa++) {
		struct kern_logits p = {
			.x = x, .len = 20, .argmax = &best, .lse = &lse
		};

		kern_select(*isa)->logits(&p, 0, 1);
		EXPECT_EQ(0, best);
		EXPECT_TRUE(isinf(lse) && lse < 0);
	}
}

TEST_HARNESS_MAIN
