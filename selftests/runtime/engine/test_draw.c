/* SPDX-License-Identifier: MIT */
/*
 * test_draw.c - one draw from a row, against sums in double
 *
 * san: address
 */
#include <math.h>

#include "runtime/engine/draw.h"
#include "selftests/harness.h"

#define ROW 5000u

static float noise(u64 *seed, float width)
{
	return ((float)(test_rand(seed) % 2000001) / 1e6f - 1) * width;
}

TEST(draw, an_exponential_is_off_by_little)
{
	double worst = 0, want;
	float y;

	for (y = 0; y > -80; y -= 0.00037f) {
		want = exp((double)y);
		worst = fmax(worst, fabs((double)draw_exp(y) / want - 1));
	}
	EXPECT_LT(worst, 3e-7);
	EXPECT_EQ(1, draw_exp(0) == 1.0f);
	EXPECT_EQ(1, draw_exp(-81) == 0.0f);
	EXPECT_EQ(1, draw_exp(-INFINITY) == 0.0f);
}

TEST(draw, the_largest_is_found_among_what_is_no_number)
{
	u64 seed = test_seed();
	float x[70], want;
	u32 round, nr, i;

	for (round = 0; round < 2000; round++) {
		nr = 1 + (u32)(test_rand(&seed) % ARRAY_SIZE(x));
		want = -INFINITY;
		for (i = 0; i < nr; i++) {
			x[i] = noise(&seed, 50);
			if (test_rand(&seed) % 5 == 0)
				x[i] = test_rand(&seed) % 2 ? NAN : -INFINITY;
			else if (x[i] > want)
				want = x[i];
		}
		EXPECT_EQ(1, draw_max(x, nr) == want);
	}
}

/* Where an element lies among all, as shares of the mass. */
static void place_of(const struct draw *d, u32 at, double *from, double *to)
{
	double sum = 0, p;
	u32 i;

	for (i = 0; i < d->nr; i++) {
		float v = d->x[i] * d->inv;

		p = v >= d->floor ? exp((double)v - (double)d->top) : 0;
		if (i == at)
			*from = sum;
		sum += p;
		if (i == at)
			*to = sum;
	}
	*from /= sum;
	*to /= sum;
}

TEST(draw, an_element_is_picked_where_it_lies)
{
	static float x[ROW];
	double sums[DIV_ROUND_UP(ROW, DRAW_BLOCK)], u, from = 0, to = 0;
	u64 seed = test_seed();
	u32 round, i, at;

	for (round = 0; round < 300; round++) {
		struct draw d = { .x = x,
				  .nr = 1 + (u32)(test_rand(&seed) % ROW),
				  .inv = 1 + noise(&seed, 0.9f) };

		for (i = 0; i < d.nr; i++) {
			x[i] = noise(&seed, round % 2 ? 3 : 30);
			if (test_rand(&seed) % 9 == 0)
				x[i] = test_rand(&seed) % 2 ? NAN : -INFINITY;
		}
		x[test_rand(&seed) % d.nr] = 1;
		d.top = draw_max(x, d.nr) * d.inv;
		d.floor = d.top - (round % 3 ? 40 : 2);
		u = test_uniform(&seed);
		at = draw_pick(&d, sums, u);
		ASSERT_LT(at, d.nr);
		EXPECT_GE(x[at] * d.inv, d.floor);
		place_of(&d, at, &from, &to);
		if (!EXPECT_LE(from, u + 1e-5) || !EXPECT_GE(to, u - 1e-5))
			TH_LOG("row of %u: %u at %.9f, lies in %.9f to %.9f",
			       d.nr, at, u, from, to);
	}
}

TEST(draw, of_nothing_that_has_a_chance_nothing_is_picked)
{
	float x[3] = { NAN, -INFINITY, NAN };
	struct draw d = { .x = x, .nr = 3, .inv = 1, .top = 0, .floor = -40 };
	double sums[1];

	EXPECT_EQ(3, draw_pick(&d, sums, 0.5));
}

TEST_HARNESS_MAIN
