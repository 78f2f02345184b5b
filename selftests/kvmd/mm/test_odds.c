/* SPDX-License-Identifier: MIT */
/*
 * test_odds.c - what the odds learn, against pages that are looked at
 */
#include "kvmd/mm/odds.h"
#include "lib/hash.h"
#include "selftests/harness.h"

static struct odds o;
static struct odds_event merges[ODDS_SLOTS];

static u32 fresh(void)
{
	return odds_class_fresh(0, 1, 0);
}

static u32 again(void)
{
	return odds_class_again(2, 0);
}

static double sum(double (*of)[ODDS_AGES], u32 first_age)
{
	double s = 0;
	u32 c, a;

	for (c = 0; c < ODDS_CLASSES; c++)
		for (a = first_age; a < ODDS_AGES; a++)
			s += of[c][a];
	return s;
}

TEST(odds, know_nothing_at_first_and_so_prefer_the_young)
{
	u32 a;

	odds_init(&o);
	for (a = 1; a < ODDS_AGES; a++)
		EXPECT_LT(o.value[0][a], o.value[0][a - 1]);
	EXPECT_EQ(o.value[0][3], o.value[ODDS_CLASSES - 1][3]);
}

TEST(odds, classes_follow_uses_and_the_place_in_a_request)
{
	static const u32 runs[] = { 2, 8, 32, 255 }, below[] = { 0, 7, 8 };
	static const u32 uses[] = { 2, 3, 4, 6, 9, 15, 255 };
	bool taken[ODDS_CLASSES] = { false };
	u32 run, near, k, c, nr = 0;

	for (near = 0; near < ODDS_NEAR; near++) {
		EXPECT_EQ(odds_near(below[near]), near);
		for (run = 0; run < ODDS_RUNS; run++)
			for (k = 0; k < ODDS_TURNS; k++) {
				c = odds_class_fresh(k, runs[run], near);
				ASSERT_LT(c, ODDS_FRESH);
				EXPECT_EQ(odds_near_of(c), near);
				nr += !taken[c];
				taken[c] = true;
			}
		for (k = 0; k < ODDS_LEVELS; k++) {
			c = odds_class_again(uses[k], near);
			ASSERT_LT(c, ODDS_CLASSES);
			EXPECT_EQ(odds_near_of(c), near);
			nr += !taken[c];
			taken[c] = true;
		}
	}
	EXPECT_EQ(nr, ODDS_CLASSES);
	EXPECT_EQ(odds_class_fresh(1, 3, 0), odds_class_fresh(1, 8, 0));
	EXPECT_EQ(odds_class_fresh(2, 1, 1), odds_class_fresh(9, 1, 1));
	EXPECT_EQ(odds_class_again(10, 1), odds_class_again(15, 1));
	EXPECT_EQ(odds_near(255), odds_near(8));
}

/* Pages come back after exactly 300 uses, or never. */
TEST(odds, of_a_page_that_comes_back_late_are_good_before_and_bad_after)
{
	u64 clock, begin;
	u32 age, a;

	odds_init(&o);
	for (clock = 0; clock < 20000; clock++) {
		odds_tick(&o, clock, 100, merges);
		if (clock >= 300)
			odds_used(&o, clock % 2 ? fresh() : again(),
				  clock - 300);
		odds_born(&o, clock % 2 ? fresh() : again());
	}
	begin = clock - 300;
	age = o.slot[odds_slot_of(&o, begin + 1)].age;
	EXPECT_GT(o.value[fresh()][0], 1.0 / 600);
	EXPECT_GT(o.value[fresh()][age], o.value[fresh()][0]);
	for (a = age + 3; a < ODDS_AGES; a++)
		EXPECT_LT(o.value[fresh()][a], o.value[fresh()][0]);
}

/* The best of all ends, each tried. */
static double best_value(const double *p, const double *edge, u32 a)
{
	double use = 0, stay = 0, left = 1, best = 0;
	u32 k;

	for (k = a; k < ODDS_AGES; k++) {
		stay += left * (edge[k + 1] - edge[k]) * (1 - p[k] / 2);
		use += left * p[k];
		left *= 1 - p[k];
		best = max(best, use / stay);
	}
	return best;
}

TEST(odds, value_is_that_of_the_best_end)
{
	double p[ODDS_AGES], edge[ODDS_AGES + 1], value[ODDS_AGES], best;
	u64 rng = 5;
	u32 round, a;

	for (round = 0; round < 2000; round++) {
		edge[0] = 0;
		for (a = 0; a < ODDS_AGES; a++) {
			p[a] = (double)(hash_random(&rng) % 1001) / 1000;
			p[a] *= (double)(hash_random(&rng) % 3) / 2;
			edge[a + 1] =
				edge[a] + 1 + (double)(hash_random(&rng) % 100);
		}
		odds_values(p, edge, value);
		for (a = 0; a < ODDS_AGES; a++) {
			best = best_value(p, edge, a);
			EXPECT_NEAR(value[a], best, 1e-12);
		}
	}
}

TEST(odds, tell_a_class_that_comes_back_from_one_that_does_not)
{
	u64 clock;

	odds_init(&o);
	for (clock = 0; clock < 20000; clock++) {
		odds_tick(&o, clock, 100, merges);
		if (clock >= 300 && clock % 2)
			odds_used(&o, again(), clock - 300);
		odds_born(&o, clock % 2 ? again() : fresh());
		if (clock >= 2000 && clock % 2 == 0)
			odds_forget(&o, fresh(), clock - 2000);
	}
	EXPECT_GT(o.value[again()][0], 20 * o.value[fresh()][0]);
}

TEST(odds, a_page_that_changes_its_class_counts_once)
{
	double seen;
	u64 clock;
	u32 a;

	odds_init(&o);
	for (clock = 0; clock < 1500; clock++) {
		odds_tick(&o, clock, 100, merges);
		odds_born(&o, fresh());
	}
	seen = sum(o.seen, 0);
	for (clock = 0; clock < 1500; clock++)
		odds_move(&o, fresh(), 5, clock);
	EXPECT_EQ(sum(o.seen, 0), seen);
	for (a = 0; a < ODDS_AGES; a++)
		EXPECT_EQ(o.seen[fresh()][a], 0);
	for (clock = 0; clock < ODDS_SLOTS; clock++)
		EXPECT_EQ(o.alive[clock][fresh()], 0);
}

TEST(odds, survive_a_change_of_the_unit)
{
	double used, late;
	u64 clock, alive = 0;
	u32 k, unit;

	odds_init(&o);
	for (clock = 0; clock < 2000; clock++) {
		odds_tick(&o, clock, 100, merges);
		if (clock >= 300)
			odds_used(&o, fresh(), clock - 300);
		odds_born(&o, fresh());
	}
	o.decay_at = ~0ull;
	unit = o.unit;
	used = sum(o.used, 0);
	late = sum(o.used, 7);
	EXPECT_GT(odds_tick(&o, clock + 1000, 800, merges), -1);
	EXPECT_GT(o.unit, 2 * unit);
	EXPECT_NEAR(sum(o.used, 0), used, 1e-6);
	EXPECT_GT(late, sum(o.used, 7));
	EXPECT_GT(odds_tick(&o, clock + 2000, 100, merges), -1);
	EXPECT_NEAR(sum(o.used, 0), used, 1e-6);
	for (k = 0; k < o.nr_slots; k++) {
		alive += o.alive[o.slot[k].id][fresh()];
		if (k)
			EXPECT_LT(o.slot[k].begin, o.slot[k - 1].begin);
	}
	EXPECT_EQ(alive, 300);
}

TEST_HARNESS_MAIN
