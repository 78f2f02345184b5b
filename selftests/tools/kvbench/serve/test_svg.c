/* SPDX-License-Identifier: MIT */
/*
 * test_svg.c - marks of axes, and text that is no markup
 *
 * That whole pictures are XML is load.sh's, which has a parser.
 */
#include "selftests/harness.h"
#include "tools/kvbench/serve/svg.h"

TEST(svg, marks_are_inside_rise_and_are_some)
{
	u64 rng = test_seed();
	double at[SVG_TICKS];
	u32 i, k, n;

	for (i = 0; i < 5000; i++) {
		double low = pow(10, (double)(test_rand(&rng) % 12) - 6);
		double f = 1.5 + (double)(test_rand(&rng) % 10000);
		struct svg_axis a = { "", low, low * f, i % 2 };

		n = svg_ticks(&a, at);
		ASSERT_LE(n, SVG_TICKS);
		ASSERT_GE(n, 2);
		for (k = 0; k < n; k++) {
			EXPECT_GE(at[k], low * 0.999);
			EXPECT_LE(at[k], low * f * 1.001);
			if (k)
				EXPECT_GT(at[k], at[k - 1]);
		}
	}
}

TEST(svg, text_is_no_markup_and_fits)
{
	char out[128], big[400];

	svg_escape(out, "a<b> & \"c\" \x01\xff");
	EXPECT_STREQ(out, "a&lt;b&gt; &amp; &quot;c&quot; ??");
	memset(big, '&', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	svg_escape(out, big);
	EXPECT_LT(strlen(out), sizeof(out));
	EXPECT_EQ(strlen(out) % 5, 0); /* none is cut in its middle */
}

TEST(svg, a_file_that_cannot_be_written_is_an_error)
{
	struct svg s;

	EXPECT_EQ(svg_open(&s, "/nonexistent/x.svg", 10, 10, "t"), -ENOENT);
	if (access("/dev/full", W_OK))
		SKIP("no /dev/full");
	ASSERT_EQ(svg_open(&s, "/dev/full", 10, 10, "t"), 0);
	EXPECT_EQ(svg_close(&s), -EIO);
}

TEST_HARNESS_MAIN
