/* SPDX-License-Identifier: MIT */
/*
 * test_sampler.c - filters against a sort, draws against their chances
 */
#include <errno.h>

#include "runtime/engine/sampler.h"
#include "selftests/harness.h"

#define V 300

static float logits[V];

static void random_logits(u64 *seed)
{
	for (u32 i = 0; i < V; i++) /* with ties: steps of 1/8 */
		logits[i] = (float)(test_rand(seed) % 80) / 8.0f;
}

static u32 draw(struct sampler *s, const struct sampling *p, u32 nr, u64 stream)
{
	static const u32 ids[4096];
	const struct sampler_history h = { ids, nr, nr };

	return sampler_pick(s, p, logits, &h, stream);
}

static struct sampler *make(void)
{
	struct sampler *s = NULL;

	ASSERT_EQ(0, sampler_create(V, &s));
	return s;
}

static int by_rank(const void *a, const void *b)
{
	u32 i = *(const u32 *)a, j = *(const u32 *)b;

	if (logits[i] != logits[j])
		return logits[i] > logits[j] ? -1 : 1;
	return i < j ? -1 : i > j;
}

/* Chance of each token, by sorting: the definition. */
static void chances(const struct sampling *p, double *out)
{
	u32 order[V], n = V, i;
	double sum = 0, acc = 0;

	for (i = 0; i < V; i++)
		order[i] = i;
	qsort(order, V, sizeof(*order), by_rank);
	memset(out, 0, V * sizeof(*out));
	for (i = 0; i < V; i++)
		out[order[i]] =
			exp((double)(logits[order[i]] - logits[order[0]]) /
			    (double)p->temperature);
	while (n > 1 && out[order[n - 1]] < (double)p->min_p)
		n--;
	if (p->top_k && p->top_k < n)
		n = p->top_k;
	for (i = 0; i < n; i++)
		sum += out[order[i]];
	if (p->top_p < 1.0f)
		for (i = 0; i < n; i++) {
			acc += out[order[i]];
			if (acc >= sum * (double)p->top_p) {
				n = i + 1;
				break;
			}
		}
	for (sum = 0, i = 0; i < n; i++)
		sum += out[order[i]];
	for (i = 0; i < V; i++)
		out[order[i]] = i < n ? out[order[i]] / sum : 0;
}

/* The set is exact, and the frequencies pass a chi-square test. */
static void expect_distribution(const struct sampling *p)
{
	struct sampler *s = make();
	double want[V], chi = 0, dof = -1, rest = 0, nr_rest = 0;
	u32 got[V] = { 0 }, nr = 20000, i;

	chances(p, want);
	for (i = 0; i < nr; i++) {
		u32 id = draw(s, p, i % 4096, i / 4096);

		got[id]++;
		if (!EXPECT_TRUE(want[id] > 0))
			break;
	}
	for (i = 0; i < V; i++) {
		if (want[i] * nr < 10) {
			rest += want[i];
			nr_rest += got[i];
			continue;
		}
		chi += pow(got[i] - want[i] * nr, 2) / (want[i] * nr);
		dof++;
	}
	if (rest * nr >= 10) {
		chi += pow(nr_rest - rest * nr, 2) / (rest * nr);
		dof++;
	}
	/* five sigmas; the random numbers are fixed, so it never flakes */
	EXPECT_LT(chi, dof + 5 * sqrt(2 * dof) + 10);
	sampler_free(s);
}

#define ROW(t, mass, share, k, s)                                \
	{                                                        \
		.temperature = t, .top_p = mass, .min_p = share, \
		.repetition = 1, .top_k = k, .seed = s           \
	}

TEST(sampler, draws_have_the_chances_of_the_definition)
{
	u64 seed = 7;
	static const struct sampling p[] = {
		ROW(1.0f, 1.0f, 0, 0, 1),    ROW(0.7f, 1.0f, 0, 10, 2),
		ROW(1.0f, 0.9f, 0, 0, 3),    ROW(2.0f, 0.5f, 0, 0, 4),
		ROW(1.0f, 1.0f, 0.2f, 0, 5), ROW(1.3f, 0.8f, 0.01f, 50, 6),
		ROW(1.0f, 0.01f, 0, 0, 7),   ROW(1.0f, 1.0f, 0, 1, 8),
		ROW(0.05f, 1.0f, 0, 0, 9),
	};

	for (size_t i = 0; i < ARRAY_SIZE(p); i++) {
		random_logits(&seed);
		expect_distribution(&p[i]);
	}
}

TEST(sampler, filters_keep_what_a_sort_would_keep)
{
	u64 seed = test_seed();
	struct sampler *s = make();
	double want[V];

	for (int round = 0; round < 300; round++) {
		struct sampling p = {
			.temperature =
				0.3f + (float)(test_rand(&seed) % 30) / 10.0f,
			.top_p =
				0.05f + (float)(test_rand(&seed) % 95) / 100.0f,
			.min_p = (float)(test_rand(&seed) % 4) / 50.0f,
			.repetition = 1,
			.top_k = (u32)(test_rand(&seed) % 400),
			.seed = test_rand(&seed),
		};

		random_logits(&seed);
		chances(&p, want);
		for (u32 i = 0; i < 60; i++)
			EXPECT_GT(want[draw(s, &p, i, 0)], 0.0);
	}
	sampler_free(s);
}

TEST(sampler, greedy_takes_the_lowest_of_the_largest)
{
	struct sampling p = SAMPLING_GREEDY;
	struct sampler *s = make();
	u64 seed = 3;

	random_logits(&seed);
	logits[17] = logits[200] = 50;
	EXPECT_EQ(17, draw(s, &p, 0, 0));
	EXPECT_TRUE(sampler_is_argmax(&p));
	p.presence = 1;
	EXPECT_FALSE(sampler_is_argmax(&p));
	sampler_free(s);
}

TEST(sampler, penalties_look_at_what_was_said)
{
	struct sampling p = SAMPLING_GREEDY;
	const u32 ids[] = { 5, 6, 7, 7 };
	const struct sampler_history h = { ids, 4, 2 };
	struct sampler *s = make();

	memset(logits, 0, sizeof(logits));
	logits[5] = 4;
	logits[6] = 3.9f;
	logits[7] = 4.1f;
	logits[8] = 1.9f;
	/* presence and frequency: the output (7, 7), not the prompt */
	p.presence = 0.2f;
	EXPECT_EQ(5, sampler_pick(s, &p, logits, &h, 0));
	p.presence = 0;
	p.frequency = 0.06f;
	EXPECT_EQ(5, sampler_pick(s, &p, logits, &h, 0));
	p.frequency = 0.04f;
	EXPECT_EQ(7, sampler_pick(s, &p, logits, &h, 0));
	p.frequency = 0;
	/* repetition: both */
	p.repetition = 2.2f;
	EXPECT_EQ(8, sampler_pick(s, &p, logits, &h, 0));
	logits[5] = logits[6] = logits[7] = -1;
	for (u32 i = 8; i < V; i++)
		logits[i] = -1.5f;
	for (u32 i = 0; i < 5; i++)
		logits[i] = -3;
	EXPECT_EQ(8, sampler_pick(s, &p, logits, &h, 0)); /* -1 became -2.2 */
	/* and nothing is left over for the next call */
	p.repetition = 1;
	EXPECT_EQ(5, sampler_pick(s, &p, logits, &h, 0));
	sampler_free(s);
}

/* The same as adding to the row by hand. */
TEST(sampler, biases_are_added_and_ends_wait_for_their_time)
{
	struct sampler *s = make();
	u64 seed = test_seed();
	float plain[V], by_hand[V];
	u32 ids[64] = { 0 }, ends[2], round, i;
	const struct sampler_history h = { ids, 12, 4 };

	for (round = 0; round < 200; round++) {
		struct sampling_bias bias[5];
		struct sampling p = {
			.temperature = round % 2 ? 0.0f : 1.0f,
			.top_p = 0.9f,
			.repetition = 1.0f + (float)(round % 3) / 4,
			.presence = 0.3f,
			.seed = round,
		};
		struct sampling q = p;

		random_logits(&seed);
		memcpy(plain, logits, sizeof(plain));
		p.bias = bias;
		p.nr_bias = (u32)(test_rand(&seed) % 6);
		p.ends = ends;
		p.nr_ends = 2;
		p.min_new = (u32)(test_rand(&seed) % 16); /* 8 there are */
		for (i = 0; i < 2; i++)
			ends[i] = 60 + (u32)(test_rand(&seed) % 200);
		/* none of the history: penalties come before biases */
		for (i = 0; i < p.nr_bias; i++) {
			bias[i].id = 1 + (u32)(test_rand(&seed) % 50);
			bias[i].bias = (float)(test_rand(&seed) % 40) - 20;
			logits[bias[i].id] += bias[i].bias;
		}
		for (i = 0; i < 2 && p.min_new > 8; i++)
			logits[ends[i]] = -INFINITY;
		memcpy(by_hand, logits, sizeof(by_hand));
		i = sampler_pick(s, &q, by_hand, &h, 0);
		EXPECT_EQ(i, sampler_pick(s, &p, plain, &h, 0));
	}
	EXPECT_TRUE(sampler_is_argmax(&(struct sampling)SAMPLING_GREEDY));
	sampler_free(s);
}

TEST(sampler, a_draw_depends_on_seed_stream_and_position_only)
{
	struct sampling p = { .temperature = 1, .top_p = 1, .repetition = 1 };
	struct sampler *a = make(), *b = make();
	u32 same[3] = { 0 }, i;
	u64 seed = 3;

	random_logits(&seed);
	for (i = 0; i < 200; i++) {
		struct sampling q = p;
		u32 id = draw(a, &p, i, 1);

		draw(b, &p, i * 7, 2); /* something else in between */
		EXPECT_EQ(id, draw(b, &p, i, 1));
		q.seed = 1;
		same[0] += id == draw(b, &q, i, 1);
		same[1] += id == draw(b, &p, i, 2);
		same[2] += id == draw(b, &p, i + 1, 1);
	}
	for (i = 0; i < 3; i++)
		EXPECT_LT(same[i], 20);
	sampler_free(a);
	sampler_free(b);
}

TEST(sampler, broken_logits_are_never_chosen)
{
	struct sampling p = { .temperature = 1,
			      .top_p = 0.9f,
			      .repetition = 1 };
	struct sampler *s = make();
	u64 seed = 3;

	random_logits(&seed);
	for (u32 i = 0; i < V; i++)
		if (i % 3 != 1)
			logits[i] = i % 3 ? -INFINITY : NAN;
	for (u32 i = 0; i < 300; i++)
		EXPECT_EQ(1, draw(s, &p, i, 0) % 3);
	for (u32 i = 0; i < V; i++)
		logits[i] = -INFINITY;
	EXPECT_LT(draw(s, &p, 0, 0), V);
	sampler_free(s);
}

TEST_HARNESS_MAIN
