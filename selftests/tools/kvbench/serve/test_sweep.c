/* SPDX-License-Identifier: MIT */
/*
 * test_sweep.c - the capacity of servers that are a formula
 */
#include "lib/hash.h"
#include "selftests/harness.h"
#include "tools/kvbench/serve/sweep.h"

/* Latency as of a queue: it holds below a limit, with noise if there is. */
struct model {
	double capacity, noise;
	u32 nr, fail_at; /* the call that fails; 0: none */
	int error; /* with it; 0: -EIO */
};

static int measure(void *arg, struct sweep_point *p)
{
	struct model *m = arg;
	u64 rng = p->seed;
	double limit = m->capacity, u;

	if (++m->nr == m->fail_at)
		return m->error ? m->error : -EIO;
	u = (double)(hash_random(&rng) >> 11) * 0x1p-53;
	limit *= 1 + m->noise * (2 * u - 1);
	p->ok = p->rate <= limit;
	p->figures = json_pack("{s:f}", "p99_itl_ms", p->rate);
	return 0;
}

static const struct sweep_opts usual = { .low = 1,
					 .high = 1000,
					 .precision = 0.05,
					 .max_points = 24,
					 .repeat = 3,
					 .seed = 1 };

TEST(sweep, finds_the_capacity_of_any_server)
{
	static struct sweep s;
	double c;

	for (c = 0.05; c < 900; c *= 1.37) {
		struct model m = { .capacity = c };

		ASSERT_EQ(sweep_run(&usual, measure, &m, &s), 0);
		EXPECT_LE(s.capacity, c);
		EXPECT_GT(s.capacity * 1.05, c);
		EXPECT_GT(s.failed_at, c);
		EXPECT_EQ(s.ok_at, 4);
		EXPECT_EQ(s.tries_at, 4);
		EXPECT_EQ(s.ok_above, 0);
		EXPECT_EQ(s.tries_above, 4);
		EXPECT_EQ(s.nr, m.nr);
		sweep_fini(&s);
	}
}

TEST(sweep, with_noise_holds_more_often_than_not)
{
	static struct sweep s;
	struct sweep_opts o = usual;
	u32 i;

	for (i = 0; i < 200; i++) {
		struct model m = { .capacity = 37, .noise = 0.2 };

		o.seed = i;
		ASSERT_EQ(sweep_run(&o, measure, &m, &s), 0);
		EXPECT_GE(s.capacity, 37 * 0.8 * 0.9);
		EXPECT_LE(s.capacity, 37 * 1.2);
		EXPECT_GT(2 * s.ok_at, s.tries_at);
		sweep_fini(&s);
	}
}

TEST(sweep, of_a_server_that_never_or_always_holds_says_so)
{
	static struct sweep s;
	struct model never = { .capacity = 0 }, always = { .capacity = 1e9 };
	json_t *v;

	ASSERT_EQ(sweep_run(&usual, measure, &never, &s), 0);
	EXPECT_EQ(s.capacity, 0);
	EXPECT_TRUE(strstr(s.verdict, "none"));
	sweep_fini(&s);
	ASSERT_EQ(sweep_run(&usual, measure, &always, &s), 0);
	EXPECT_EQ(s.capacity, 1000);
	EXPECT_TRUE(strstr(s.verdict, "at least"));
	v = sweep_json(&s);
	EXPECT_EQ(json_array_size(json_object_get(v, "points")), s.nr);
	json_decref(v);
	sweep_fini(&s);
}

TEST(sweep, points_of_the_ends_are_repeated_in_turn_with_other_seeds)
{
	static struct sweep s;
	struct model m = { .capacity = 10 };
	u32 i;

	ASSERT_EQ(sweep_run(&usual, measure, &m, &s), 0);
	for (i = s.nr - 6; i < s.nr; i++) {
		EXPECT_EQ(s.point[i].rate,
			  (i - s.nr) % 2 ? s.failed_at : s.capacity);
		EXPECT_NE(s.point[i].seed, s.point[i - 1].seed);
		EXPECT_EQ(s.point[i].round, (i - (s.nr - 6)) / 2 + 1);
	}
	sweep_fini(&s);
}

TEST(sweep, ends_when_a_point_cannot_be_measured)
{
	static struct sweep s;
	struct model m = { .capacity = 10, .fail_at = 3 };

	EXPECT_EQ(sweep_run(&usual, measure, &m, &s), -EIO);
	EXPECT_EQ(m.nr, 3);
	sweep_fini(&s);
}

TEST(sweep, that_is_interrupted_keeps_its_points)
{
	static struct sweep s;
	struct model m = { .capacity = 10, .fail_at = 3, .error = -EINTR };
	json_t *v;

	ASSERT_EQ(sweep_run(&usual, measure, &m, &s), 0);
	EXPECT_EQ(s.nr, 2);
	EXPECT_EQ(s.capacity, 0);
	EXPECT_TRUE(strstr(s.verdict, "interrupted after 2 points"));
	v = sweep_json(&s);
	EXPECT_TRUE(json_is_true(json_object_get(v, "is_interrupted")));
	EXPECT_EQ(json_array_size(json_object_get(v, "points")), 2);
	json_decref(v);
	sweep_fini(&s);
	m = (struct model){ .fail_at = 1, .error = -EINTR };
	EXPECT_EQ(sweep_run(&usual, measure, &m, &s), -EINTR);
	sweep_fini(&s);
}

TEST(sweep, takes_no_more_points_than_it_may)
{
	static struct sweep s;
	struct sweep_opts o = usual;
	struct model m = { .capacity = 300 };

	o.max_points = 5;
	o.repeat = 0;
	ASSERT_EQ(sweep_run(&o, measure, &m, &s), 0);
	EXPECT_EQ(s.nr, 5);
	EXPECT_EQ(s.capacity, 16);
	sweep_fini(&s);
}

TEST_HARNESS_MAIN
