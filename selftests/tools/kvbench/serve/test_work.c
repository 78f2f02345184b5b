/* SPDX-License-Identifier: MIT */
/*
 * test_work.c - lengths, arrivals, and prompts that share what they should
 *
 * The distributions are judged with fixed seeds: what holds once holds each
 * time, and the bounds are those that a wrong formula would miss.
 *
 * san: address
 */
#include "selftests/harness.h"
#include "tools/kvbench/serve/render.h"

#define DRAWS 100000

static double mean_of(const char *what, u32 *least, u32 *most)
{
	struct bench_rng r = { .s = 7 };
	struct dist d;
	double sum = 0;
	u32 i, n;

	*least = ~0u;
	*most = 0;
	ASSERT_TRUE(dist_parse(what, &d));
	for (i = 0; i < DRAWS; i++) {
		n = dist_draw(&d, &r);
		sum += n;
		*least = min(*least, n);
		*most = max(*most, n);
	}
	return sum / DRAWS;
}

TEST(dist, means_and_bounds_are_what_they_say)
{
	u32 low, high;

	EXPECT_NEAR(mean_of("17", &low, &high), 17, 0);
	EXPECT_NEAR(mean_of("fixed:3", &low, &high), 3, 0);
	EXPECT_NEAR(mean_of("1:128", &low, &high), 64.5, 0.5);
	EXPECT_EQ(low, 1);
	EXPECT_EQ(high, 128);
	EXPECT_NEAR(mean_of("uniform:5:6", &low, &high), 5.5, 0.02);
	EXPECT_NEAR(mean_of("lognormal:160:0.8", &low, &high), 160, 3);
	EXPECT_GT(high, 1500);
	EXPECT_NEAR(mean_of("lognormal:160:0", &low, &high), 160, 0);
	EXPECT_NEAR(mean_of("pareto:64:2.5", &low, &high), 64, 2);
	EXPECT_GE(low, 38); /* its least one, 64 * 1.5 / 2.5 */
	EXPECT_LT(low, 40);
	EXPECT_GT(high, 1000);
	mean_of("pareto:64:1.2:500", &low, &high);
	EXPECT_EQ(high, 500);
}

TEST(dist, that_is_none_is_refused)
{
	static const char *const bad[] = {
		"",
		"0",
		"-1",
		"x",
		"5:",
		"5:4",
		"1:2:3",
		"fixed",
		"fixed:",
		"fixed:1:2",
		"uniform:4",
		"uniform:9:3",
		"lognormal:5",
		"lognormal:5:-1",
		"pareto:5:1",
		"pareto:5:2:0",
		"pareto:nan:2",
		"lognormal:1:1:1:1",
		"gauss:1:1",
		"1e9",
		"inf",
	};
	struct dist d;
	u32 i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		if (!EXPECT_FALSE(dist_parse(bad[i], &d)))
			TH_LOG("\"%s\"", bad[i]);
}

TEST(arrival, times_are_the_seeds_alone_and_of_the_rate)
{
	static double a[20000], b[20000];
	static const double burst[] = { 0.1, 0.5, 1, 4 };
	double mean, var;
	u32 k, i;

	for (k = 0; k < ARRAY_SIZE(burst); k++) {
		arrival_times(50, burst[k], 11, a, 20000);
		arrival_times(50, burst[k], 11, b, 20000);
		EXPECT_EQ(memcmp(a, b, sizeof(a)), 0);
		arrival_times(50, burst[k], 12, b, 20000);
		EXPECT_NE(memcmp(a, b, sizeof(a)), 0);
		mean = a[19999] / 20000;
		EXPECT_NEAR(mean * 50, 1, 0.08);
		for (i = 1, var = 0; i < 20000; i++) {
			EXPECT_GE(a[i], a[i - 1]);
			var += (a[i] - a[i - 1] - mean) *
			       (a[i] - a[i - 1] - mean) / 20000;
		}
		/* of a gamma distribution: mean squared over the shape */
		EXPECT_NEAR(var / (mean * mean) * burst[k], 1, 0.15);
	}
	/* Ten times the rate is the same in a tenth of the time. */
	arrival_times(500, 4, 12, a, 20000);
	for (i = 0; i < 20000; i++)
		EXPECT_NEAR(a[i] * 10, b[i], 1e-6);
	arrival_times(INFINITY, 1, 11, a, 100);
	EXPECT_EQ(a[99], 0);
}

static struct work_opts opts(enum work_kind kind, u32 nr)
{
	return (struct work_opts){ .kind = kind,
				   .nr = nr,
				   .seed = 5,
				   .rate = 10,
				   .burstiness = 1,
				   .turns = 3,
				   .branch = 2,
				   .depth = 3,
				   .think = 0.5,
				   .block_len = 512 };
}

static void make(const struct work_opts *o, struct work *w)
{
	char err[256] = "";

	if (!EXPECT_EQ(work_make(o, w, err), 0))
		TH_LOG("%s", err);
}

/* Segments that two prompts begin with alike. */
static u32 alike(const struct work *w, u32 a, u32 b)
{
	const struct segment *x = w->segment + w->request[a].first_segment;
	const struct segment *y = w->segment + w->request[b].first_segment;
	u32 n = min(w->request[a].nr_segments, w->request[b].nr_segments), i;

	for (i = 0; i < n && x[i].name == y[i].name && x[i].len == y[i].len;)
		i++;
	return i;
}

TEST(work, is_the_seeds_alone_at_any_rate)
{
	struct work_opts o = opts(WORK_SHAREGPT, 500);
	struct work a, b;
	u32 i;

	make(&o, &a);
	o.rate = 20;
	make(&o, &b);
	ASSERT_EQ(a.nr, 500);
	ASSERT_EQ(a.nr_segments, b.nr_segments);
	for (i = 0; i < a.nr; i++) {
		EXPECT_EQ(a.request[i].input, b.request[i].input);
		EXPECT_EQ(a.request[i].output, b.request[i].output);
		EXPECT_NEAR(a.request[i].due, 2 * b.request[i].due, 1e-9);
		EXPECT_EQ(a.segment[i].name, b.segment[i].name);
	}
	work_fini(&b);
	o.seed = 6;
	make(&o, &b);
	EXPECT_NE(a.segment[0].name, b.segment[0].name);
	work_fini(&a);
	work_fini(&b);
}

TEST(work, shared_prefixes_are_as_many_and_as_long_as_asked_for)
{
	struct work_opts o = opts(WORK_SHARED_PREFIX, 300);
	u64 seen[8] = { 0 };
	struct work w;
	u32 i, k, nr = 0;

	o.nr_prefixes = 3;
	o.prefix_len = 77;
	make(&o, &w);
	for (i = 0; i < w.nr; i++) {
		const struct segment *s =
			&w.segment[w.request[i].first_segment];

		ASSERT_EQ(w.request[i].nr_segments, 2);
		EXPECT_EQ(s->len, 77);
		for (k = 0; k < nr && seen[k] != s->name; k++)
			;
		if (k == nr && EXPECT_LT(nr, 3))
			seen[nr++] = s->name;
	}
	EXPECT_EQ(nr, 3);
	work_fini(&w);
}

TEST(work, thoughts_wait_for_and_begin_with_the_one_before)
{
	struct work_opts o = opts(WORK_TOT, 14); /* 2 + 4 + 8: one tree */
	struct work w;
	u32 i, p, roots = 0;

	make(&o, &w);
	ASSERT_EQ(w.nr, 14);
	EXPECT_EQ(w.nr_sessions, 1);
	for (i = 0; i < w.nr; i++) {
		p = w.request[i].after;
		roots += p == WORK_NONE;
		if (p == WORK_NONE)
			continue;
		ASSERT_LT(p, i);
		EXPECT_TRUE(w.request[p].is_quoted);
		EXPECT_EQ(alike(&w, p, i), w.request[p].nr_segments);
		EXPECT_EQ(w.request[i].nr_segments,
			  w.request[p].nr_segments + 2);
	}
	EXPECT_EQ(roots, 2);
	EXPECT_EQ(alike(&w, 0, 1), 1);
	work_fini(&w);
}

TEST(work, turns_of_a_chat_follow_each_other)
{
	struct work_opts o = opts(WORK_CHAT, 30);
	struct work w;
	u32 i;

	make(&o, &w);
	ASSERT_EQ(w.nr, 30);
	EXPECT_EQ(w.nr_sessions, 10);
	for (i = 0; i < w.nr; i++) {
		EXPECT_EQ(w.request[i].after, i % 3 ? i - 1 : WORK_NONE);
		EXPECT_EQ(w.request[i].is_quoted, i % 3 != 2);
		EXPECT_EQ(w.request[i].nr_segments, 2 + i % 3 * 2);
	}
	work_fini(&w);
}

TEST(work, examples_share_the_preamble_and_those_of_a_task_all_shots)
{
	struct work_opts o = opts(WORK_FEWSHOT, 100);
	struct work w;
	u32 i, n, some = 0, all = 0;

	make(&o, &w);
	for (i = 1; i < w.nr; i++) {
		n = alike(&w, 0, i);
		some += n == 1;
		all += n == 6;
		EXPECT_TRUE(n == 1 || n == 6);
	}
	EXPECT_GT(some, 40);
	EXPECT_GT(all, 5);
	work_fini(&w);
}

static void write_trace(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ASSERT_TRUE(f);
	fputs(text, f);
	fclose(f);
}

TEST(work, of_a_trace_has_its_blocks_and_times)
{
	struct work_opts o = opts(WORK_TRACE, 10);
	char path[300];
	struct work w;

	snprintf(path, sizeof(path), "%s/t", test_tmpdir());
	write_trace(path, "{\"timestamp\": 1000, \"input_length\": 700, "
			  "\"output_length\": 6, \"hash_ids\": [0, 1]}\n\n"
			  "{\"timestamp\": 1500, \"input_length\": 1500, "
			  "\"output_length\": 9, \"hash_ids\": [0, 2]}\n");
	o.trace = path;
	o.rate = 0;
	make(&o, &w);
	ASSERT_EQ(w.nr, 2);
	EXPECT_NEAR(w.request[1].due, 0.5, 1e-9);
	EXPECT_EQ(w.request[0].input, 700);
	EXPECT_EQ(w.request[1].input, 1500);
	EXPECT_EQ(w.request[1].output, 9);
	EXPECT_EQ(alike(&w, 0, 1), 1);
	EXPECT_EQ(w.segment[1].len, 700 - 512);
	EXPECT_EQ(w.request[1].nr_segments, 3);
	work_fini(&w);
	o.rate = 8; /* and at that rate */
	o.block_len = 64;
	make(&o, &w);
	EXPECT_NEAR(w.request[1].due, 2.0 / 8, 1e-9);
	EXPECT_EQ(w.request[0].input, 700 / 8);
	work_fini(&w);
}

TEST(work, of_what_is_no_trace_is_refused_with_the_line)
{
	struct work_opts o = opts(WORK_TRACE, 10);
	char path[300], err[256] = "";
	struct work w;

	snprintf(path, sizeof(path), "%s/t", test_tmpdir());
	write_trace(path, "{\"timestamp\": 1, \"input_length\": 7, "
			  "\"output_length\": 6, \"hash_ids\": [0]}\n{}\n");
	o.trace = path;
	EXPECT_EQ(work_make(&o, &w, err), -EINVAL);
	EXPECT_TRUE(strstr(err, "line 2"));
	work_fini(&w);
	o.trace = "/nonexistent";
	EXPECT_EQ(work_make(&o, &w, err), -ENOENT);
	work_fini(&w);
}

TEST(work, nothing_comes_after_its_seconds)
{
	struct work_opts o = opts(WORK_RANDOM, 1000);
	struct work w;

	o.seconds = 3;
	make(&o, &w);
	EXPECT_GT(w.nr, 10);
	EXPECT_LT(w.nr, 60);
	EXPECT_LE(w.request[w.nr - 1].due, 3);
	work_fini(&w);
}

/* ---- what is sent ---- */

static const char *body(const struct strbuf *t)
{
	return strstr(t->p, "\r\n\r\n") + 4;
}

TEST(render, prompts_with_one_prefix_begin_with_the_same_ids)
{
	struct work_opts o = opts(WORK_SHARED_PREFIX, 2);
	struct render r = { .as_ids = true,
			    .first_id = 100,
			    .nr_ids = 50,
			    .model = "a\"b",
			    .host = "h",
			    .path = "/p",
			    .headers = "",
			    .ignore_eos = true };
	struct strbuf t = { 0 };
	json_t *v[2], *ids;
	struct work w;
	u32 i, k;

	o.nr_prefixes = 1;
	o.prefix_len = 40;
	make(&o, &w);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(render_request(&r, &w, i, NULL, &t), 0);
		v[i] = json_loads(body(&t), 0, NULL);
		ids = json_object_get(v[i], "prompt");
		ASSERT_EQ(json_array_size(ids), w.request[i].input);
		for (k = 0; k < w.request[i].input; k++) {
			json_int_t id =
				json_integer_value(json_array_get(ids, k));

			EXPECT_GE(id, 100);
			EXPECT_LT(id, 150);
		}
		EXPECT_STREQ(json_string_value(json_object_get(v[i], "model")),
			     "a\"b");
		EXPECT_TRUE(json_is_true(json_object_get(v[i], "ignore_eos")));
	}
	for (k = 0; k < 40; k++)
		EXPECT_TRUE(json_equal(
			json_array_get(json_object_get(v[0], "prompt"), k),
			json_array_get(json_object_get(v[1], "prompt"), k)));
	EXPECT_FALSE(json_equal(
		json_array_get(json_object_get(v[0], "prompt"), 41),
		json_array_get(json_object_get(v[1], "prompt"), 41)));
	json_decref(v[0]);
	json_decref(v[1]);
	strbuf_free(&t);
	work_fini(&w);
}

TEST(render, a_chat_quotes_the_answer_as_it_came)
{
	struct work_opts o = opts(WORK_CHAT, 2);
	struct render r = { .is_chat = true,
			    .words_per_token = 0.5,
			    .host = "h",
			    .path = "/p",
			    .headers = "A: b\r\n" };
	static char said[] = "say \"\x01\"\0.";
	struct quote q[2] = { { .text = said, .len = sizeof(said) - 1 } };
	const json_t *quoted;
	struct strbuf t = { 0 };
	struct work w;
	json_t *v, *m;

	make(&o, &w);
	ASSERT_EQ(render_request(&r, &w, 1, q, &t), 0);
	EXPECT_TRUE(strstr(t.p, "\r\nA: b\r\n"));
	v = json_loads(body(&t), JSON_ALLOW_NUL, NULL);
	m = json_object_get(v, "messages");
	ASSERT_EQ(json_array_size(m), 4);
	EXPECT_STREQ(json_string_value(
			     json_object_get(json_array_get(m, 0), "role")),
		     "system");
	quoted = json_object_get(json_array_get(m, 2), "content");
	ASSERT_EQ(json_string_length(quoted), q[0].len);
	EXPECT_FALSE(memcmp(json_string_value(quoted), said, q[0].len));
	json_decref(v);
	strbuf_free(&t);
	work_fini(&w);
}

TEST_HARNESS_MAIN
