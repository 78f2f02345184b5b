/* SPDX-License-Identifier: MIT */
/*
 * test_metrics.c - the text of /metrics, read line by line
 *
 * san: address
 */
#include "runtime/server/metrics.h"
#include "runtime/server/strbuf.h"
#include "selftests/harness.h"

struct series {
	char name[128], labels[512];
	double value;
};

static struct series all[2048];
static u32 nr;

/* NAME{LABELS} VALUE, where a label's value may hold escapes */
static bool read_line(char *line, struct series *s)
{
	char *open = strchr(line, '{'), *close = strrchr(line, '}'), *end;

	if (!open || !close || close[1] != ' ')
		return false;
	*open = *close = '\0';
	snprintf(s->name, sizeof(s->name), "%s", line);
	snprintf(s->labels, sizeof(s->labels), "%s", open + 1);
	s->value = strtod(close + 2, &end);
	return end != close + 2 && !*end;
}

static void read_page(const struct metrics *m, const char *model)
{
	struct metrics_now now = { .model = model, .usage = 0.5 };
	struct strbuf b = { 0 };
	char *line, *save, type[128] = "", kind[32] = "";

	nr = 0;
	now.handlers[0] = "/v1/completions";
	metrics_put(&b, m, &now);
	ASSERT_FALSE(b.failed);
	for (line = strtok_r(b.p, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "# TYPE %127s %31s", type, kind) == 2 ||
		    !strncmp(line, "# HELP ", 7))
			continue;
		if (!EXPECT_TRUE(read_line(line, &all[nr])))
			TH_LOG("%s", line);
		/* a series belongs to the type that was named last */
		EXPECT_EQ(0, strncmp(all[nr].name, type, strlen(type)));
		nr++;
	}
	strbuf_free(&b);
}

static double value_of(const char *name, const char *label)
{
	u32 i;

	for (i = 0; i < nr; i++)
		if (!strcmp(all[i].name, name) && strstr(all[i].labels, label))
			return all[i].value;
	TH_LOG("no %s{%s}", name, label);
	return -1;
}

TEST(metrics, what_was_counted_is_written)
{
	struct metrics m = { .prompt_tokens = 7,
			     .generation_tokens = 1ull << 40 };

	m.finished[FINISHED_LENGTH] = 3;
	m.http[0][2] = 11;
	read_page(&m, "m");
	EXPECT_EQ(7, value_of("vllm:prompt_tokens_total", ""));
	EXPECT_EQ(1ll << 40,
		  (long long)value_of("vllm:generation_tokens_total", ""));
	EXPECT_EQ(3, value_of("vllm:request_success_total",
			      "finished_reason=\"length\""));
	EXPECT_EQ(11, value_of("http_requests_total", "status=\"2xx\""));
	EXPECT_TRUE(value_of("vllm:kv_cache_usage_perc", "") > 0.49);
}

TEST(metrics, a_histogram_counts_each_value_once_and_upwards)
{
	struct metrics m = { 0 };
	u64 seed = test_seed();
	double sum = 0, last = 0;
	u32 i, below = 0;

	for (i = 0; i < 5000; i++) {
		double v = (double)(test_rand(&seed) % 200000) / 1e4;

		below += v <= 0.1;
		sum += v;
		hist_observe(&m, HIST_TTFT, v);
	}
	hist_observe(&m, HIST_TTFT, 1e9);
	read_page(&m, "m");
	EXPECT_EQ(below, value_of("vllm:time_to_first_token_seconds_bucket",
				  "le=\"0.1\""));
	EXPECT_EQ(5000, value_of("vllm:time_to_first_token_seconds_bucket",
				 "le=\"2560\""));
	EXPECT_EQ(5001, value_of("vllm:time_to_first_token_seconds_bucket",
				 "le=\"+Inf\""));
	EXPECT_EQ(5001, value_of("vllm:time_to_first_token_seconds_count", ""));
	EXPECT_TRUE(fabs(value_of("vllm:time_to_first_token_seconds_sum", "") -
			 sum - 1e9) < 1);
	for (i = 0; i < nr; i++) {
		if (!strstr(all[i].name, "first_token_seconds_bucket"))
			continue;
		EXPECT_GE(all[i].value, last);
		last = all[i].value;
	}
}

TEST(metrics, a_model_of_any_name_stays_inside_its_label)
{
	struct metrics m = { 0 };

	read_page(&m, "a\"b\\c\nd}");
	EXPECT_EQ(0, value_of("vllm:num_requests_running",
			      "model_name=\"a\\\"b\\\\c\\nd}\""));
}

TEST_HARNESS_MAIN
