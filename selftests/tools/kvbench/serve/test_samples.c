/* SPDX-License-Identifier: MIT */
/*
 * test_samples.c - percentiles, and bounds by name
 *
 * san: address
 */
#include "selftests/harness.h"
#include "tools/kvbench/serve/samples.h"
#include "tools/kvbench/serve/slo.h"

/* Insertion sort, and the definition: between the two nearest ranks. */
static double by_sort(const double *v, u32 nr, double p)
{
	double s[600], at = p / 100 * (nr - 1), x;
	u32 i, k, low = (u32)at;

	for (i = 0; i < nr; i++) {
		x = v[i];
		for (k = i; k && s[k - 1] > x; k--)
			s[k] = s[k - 1];
		s[k] = x;
	}
	if (low + 1 >= nr)
		return s[nr - 1];
	return s[low] * (1 - (at - low)) + s[low + 1] * (at - low);
}

TEST(samples, percentiles_are_those_of_the_sorted_values)
{
	static const double ps[] = { 0, 1, 25, 50, 90, 99, 99.9, 100 };
	u64 rng = test_seed();
	double v[600];
	u32 round, nr, i, k;

	for (round = 0; round < 200; round++) {
		struct samples s = { 0 };
		double top = 0, sum = 0;

		nr = 1 + test_rand(&rng) % 600;
		for (i = 0; i < nr; i++) {
			v[i] = (double)(test_rand(&rng) % 1000) / 7;
			samples_add(&s, v[i]);
			top = max(top, v[i]);
			sum += v[i];
		}
		EXPECT_NEAR(samples_mean(&s), sum / nr, 1e-9);
		for (k = 0; k < ARRAY_SIZE(ps); k++)
			EXPECT_NEAR(samples_percentile(&s, ps[k]),
				    by_sort(v, nr, ps[k]), 1e-9);
		EXPECT_EQ(samples_max(&s), top);
		samples_add(&s, 1e6); /* after they were sorted */
		EXPECT_EQ(samples_percentile(&s, 100), 1e6);
		samples_fini(&s);
	}
}

TEST(samples, of_none_are_zero_and_of_one_are_it)
{
	struct samples s = { 0 };

	EXPECT_EQ(samples_percentile(&s, 99), 0);
	EXPECT_EQ(samples_mean(&s), 0);
	EXPECT_EQ(samples_std(&s), 0);
	samples_add(&s, 4);
	EXPECT_EQ(samples_percentile(&s, 1), 4);
	EXPECT_EQ(samples_std(&s), 0);
	samples_add(&s, 8);
	EXPECT_NEAR(samples_std(&s), 2, 1e-12);
	EXPECT_NEAR(samples_percentile(&s, 25), 5, 1e-12);
	samples_fini(&s);
}

TEST(slo, holds_when_each_term_does)
{
	struct slo slo = { 0 };
	char why[128];
	json_t *v = json_pack("{s:f, s:i}", "p99_itl_ms", 60.0, "completed", 5);

	ASSERT_TRUE(slo_parse("p99_itl_ms<=60,completed>=5", &slo));
	EXPECT_EQ(slo.nr, 2);
	EXPECT_TRUE(slo_holds(&slo, v, why));
	json_object_set_new(v, "p99_itl_ms", json_real(60.5));
	EXPECT_FALSE(slo_holds(&slo, v, why));
	EXPECT_TRUE(strstr(why, "p99_itl_ms is 60.5"));
	json_object_del(v, "p99_itl_ms");
	EXPECT_FALSE(slo_holds(&slo, v, why));
	json_decref(v);
}

TEST(slo, with_blanks_names_the_same_figures)
{
	struct slo slo = { 0 };

	ASSERT_TRUE(slo_parse(" a_ms <= 5, b_ms>=6", &slo));
	EXPECT_EQ(slo.nr, 2);
	EXPECT_STREQ(slo.term[0].key, "a_ms");
	EXPECT_STREQ(slo.term[1].key, "b_ms");
	EXPECT_TRUE(slo.term[1].at_least);
}

TEST(slo, of_no_figure_is_told_from_one_without_samples)
{
	struct slo slo = { 0 };
	char why[128];
	json_t *v = json_pack("{s:n, s:n}", "p99_itl_ms", "p50_itl_ms");

	ASSERT_TRUE(slo_parse("p99_itl_ms<=60", &slo));
	EXPECT_FALSE(slo_unknown(&slo, v));
	EXPECT_FALSE(slo_holds(&slo, v, why));
	EXPECT_STREQ(why, "p99_itl_ms: nothing was measured");
	ASSERT_TRUE(slo_parse("p99_itl<=60", &slo));
	EXPECT_STREQ(slo_unknown(&slo, v), "p99_itl");
	json_decref(v);
}

TEST(slo, that_is_none_is_refused)
{
	static const char *const bad[] = { "",	    "a",   "a<5",
					   "a<=",   "<=5", "a<=x",
					   "a<=5,", "a=5", "a<=5 b<=6" };
	char many[400] = "a<=1";
	struct slo slo;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&slo, 0, sizeof(slo));
		EXPECT_FALSE(slo_parse(bad[i], &slo));
	}
	for (i = 0; i < SLO_MAX; i++)
		strncat(many, ",a<=1", sizeof(many) - strlen(many) - 1);
	memset(&slo, 0, sizeof(slo));
	EXPECT_FALSE(slo_parse(many, &slo));
	EXPECT_FALSE(slo_parse_goodput("itl:5", &slo));
	EXPECT_FALSE(slo_parse_goodput("ttft", &slo));
	EXPECT_FALSE(slo_parse_goodput("ttft:-5", &slo));
}

TEST_HARNESS_MAIN
