/* SPDX-License-Identifier: MIT */
/*
 * metrics.c - counters, gauges and histograms as text
 */
#include <string.h>

#include "runtime/server/metrics.h"
#include "runtime/server/strbuf.h"

/* clang-format off */
static const double first_le[] = { .001, .005, .01, .02, .04, .06, .08, .1,
	.25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560 };
static const double between_le[] = { .01, .025, .05, .075, .1, .15, .2, .3, .4,
	.5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80 };
static const double whole_le[] = { .3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20,
	30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680 };
static const double tokens_le[] = { 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000,
	2000, 5000, 10000, 20000, 50000, 100000, 200000 };
static const double emit_le[] = { .00005, .0001, .0002, .0005, .001, .002,
	.005, .01, .02, .05, .1, 1 };

#define LE(a) .le = (a), .nr = ARRAY_SIZE(a)

static const struct hist_kind {
	const char *name, *help;
	const double *le;
	u32 nr;
} kinds[HIST_NR] = {
	[HIST_TTFT] = { "vllm:time_to_first_token_seconds",
		"Arrival to first token", LE(first_le) },
	[HIST_ITL] = { "vllm:inter_token_latency_seconds",
		"Token to next token", LE(between_le) },
	[HIST_TPOT] = { "vllm:request_time_per_output_token_seconds",
		"Mean time between a request's tokens", LE(between_le) },
	[HIST_E2E] = { "vllm:e2e_request_latency_seconds",
		"Arrival to last token", LE(whole_le) },
	[HIST_QUEUE] = { "vllm:request_queue_time_seconds",
		"Arrival to first step", LE(whole_le) },
	[HIST_PREFILL] = { "vllm:request_prefill_time_seconds",
		"First step to first token", LE(whole_le) },
	[HIST_DECODE] = { "vllm:request_decode_time_seconds",
		"First token to last token", LE(whole_le) },
	[HIST_INFERENCE] = { "vllm:request_inference_time_seconds",
		"First step to last token", LE(whole_le) },
	[HIST_PROMPT_TOKENS] = { "vllm:request_prompt_tokens",
		"Tokens of a prompt", LE(tokens_le) },
	[HIST_GENERATION_TOKENS] = { "vllm:request_generation_tokens",
		"Tokens generated for a request", LE(tokens_le) },
	[HIST_EMIT] = { "kv_token_emit_seconds",
		"End of a step to its token being given to the socket",
		LE(emit_le) },
};
/* clang-format on */

_Static_assert(ARRAY_SIZE(first_le) <= HIST_BUCKETS_MAX, "buckets");
_Static_assert(ARRAY_SIZE(whole_le) <= HIST_BUCKETS_MAX, "buckets");

void hist_observe(struct metrics *m, enum hist_id id, double v)
{
	struct hist *h = &m->hist[id];
	u32 i = 0;

	while (i < kinds[id].nr && v > kinds[id].le[i])
		i++;
	h->count[i]++;
	h->sum += v;
}

/* The text and the labels of all series. */
struct page {
	struct strbuf *b;
	struct strbuf labels; /* model_name="x",engine="0" */
};

static void head(struct page *p, const char *name, const char *type,
		 const char *help)
{
	strbuf_printf(p->b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
		      type);
}

static void put_value(struct page *p, double v)
{
	strbuf_printf(p->b, " %.17g\n", v);
}

/* One series of one value. */
static void one(struct page *p, const char *name, const char *type,
		const char *help, double v)
{
	head(p, name, type, help);
	strbuf_printf(p->b, "%s{%s}", name, p->labels.p ? p->labels.p : "");
	put_value(p, v);
}

static void put_labels(struct strbuf *b, const char *model)
{
	strbuf_puts(b, "model_name=\"");
	for (; *model; model++) {
		if (*model == '\\' || *model == '"')
			strbuf_add(b, "\\", 1);
		if (*model == '\n')
			strbuf_puts(b, "\\n");
		else
			strbuf_add(b, model, 1);
	}
	strbuf_puts(b, "\",engine=\"0\"");
}

static void put_hist(struct page *p, const struct hist_kind *k,
		     const struct hist *h)
{
	u64 sum = 0;
	u32 i;

	head(p, k->name, "histogram", k->help);
	for (i = 0; i <= k->nr; i++) {
		sum += h->count[i];
		strbuf_printf(p->b, "%s_bucket{%s,le=\"", k->name, p->labels.p);
		if (i < k->nr)
			strbuf_printf(p->b, "%g\"}", k->le[i]);
		else
			strbuf_puts(p->b, "+Inf\"}");
		put_value(p, (double)sum);
	}
	strbuf_printf(p->b, "%s_sum{%s}", k->name, p->labels.p);
	put_value(p, h->sum);
	strbuf_printf(p->b, "%s_count{%s}", k->name, p->labels.p);
	put_value(p, (double)sum);
}

static void put_finished(struct page *p, const struct metrics *m)
{
	static const char *const words[] = {
		[FINISHED_STOP] = "stop",
		[FINISHED_LENGTH] = "length",
		[FINISHED_ABORT] = "abort",
	};
	u32 i;

	head(p, "vllm:request_success_total", "counter", "Requests done");
	for (i = 0; i < FINISHED_NR; i++) {
		strbuf_printf(p->b,
			      "vllm:request_success_total{%s,finished_reason="
			      "\"%s\"}",
			      p->labels.p, words[i]);
		put_value(p, (double)m->finished[i]);
	}
}

static void put_http(struct page *p, const struct metrics *m,
		     const struct metrics_now *now)
{
	u32 i, k;

	head(p, "http_requests_total", "counter", "Answers");
	for (i = 0; i < METRICS_HANDLERS; i++)
		for (k = 1; k < 6; k++) {
			if (!now->handlers[i] || !m->http[i][k])
				continue;
			strbuf_printf(p->b,
				      "http_requests_total{handler=\"%s\","
				      "status=\"%uxx\"}",
				      now->handlers[i], k);
			put_value(p, (double)m->http[i][k]);
		}
}

static void put_engine(struct page *p, const struct metrics_now *now)
{
	one(p, "vllm:num_requests_running", "gauge", "Requests that compute",
	    now->nr_running);
	one(p, "vllm:num_requests_waiting", "gauge", "Requests that wait",
	    now->nr_waiting);
	one(p, "vllm:kv_cache_usage_perc", "gauge",
	    "Share of the device's memory for pages in use, 0 to 1",
	    now->usage);
	one(p, "vllm:num_preemptions_total", "counter",
	    "Requests that gave way for memory", (double)now->nr_preempted);
	one(p, "kv_engine_steps_total", "counter", "Steps",
	    (double)now->nr_steps);
	one(p, "kv_engine_step_seconds_total", "counter",
	    "Time of steps that follow one another", now->busy_s);
	one(p, "kv_engine_step_host_seconds_total", "counter",
	    "The part of it in which no kernel ran", now->host_s);
	one(p, "kv_engine_step_followed_total", "counter", "Steps in it",
	    (double)now->nr_busy);
	one(p, "kv_engine_memory_waits_total", "counter",
	    "Steps that waited for memory", (double)now->nr_waits);
	one(p, "kv_engine_paused_total", "counter",
	    "Requests that left their pages to swap", (double)now->nr_paused);
	one(p, "kv_engine_lost_total", "counter",
	    "Requests of which pages were lost", (double)now->nr_lost);
	one(p, "kv_engine_stale_total", "counter",
	    "Steps whose memory was revoked", (double)now->nr_stale);
}

static void put_memory(struct page *p, const struct metrics_now *now)
{
	head(p, "vllm:cache_config_info", "gauge", "How the cache is made");
	strbuf_printf(p->b,
		      "vllm:cache_config_info{block_size=\"%u\",engine=\"0\"} "
		      "1\n",
		      now->block_size);
	one(p, "kv_client_page_bytes", "gauge",
	    "Bytes of pages in use, shared ones once", (double)now->frames);
	one(p, "kv_client_held_bytes", "gauge", "Bytes of extents held",
	    (double)now->held);
	one(p, "kv_client_saved_bytes", "gauge", "Bytes that sharing saves",
	    (double)now->saved);
	one(p, "kv_device_bytes", "gauge", "Size of the device",
	    (double)now->device_bytes);
	one(p, "kv_server_streams", "gauge", "Streams that are open",
	    now->nr_streams);
	one(p, "kv_server_connections", "gauge", "Connections that are open",
	    now->nr_connections);
}

void metrics_put(struct strbuf *b, const struct metrics *m,
		 const struct metrics_now *now)
{
	struct page p = { .b = b };
	u32 i;

	put_labels(&p.labels, now->model);
	put_engine(&p, now);
	one(&p, "vllm:prompt_tokens_total", "counter", "Tokens of prompts",
	    (double)m->prompt_tokens);
	one(&p, "vllm:generation_tokens_total", "counter", "Tokens generated",
	    (double)m->generation_tokens);
	one(&p, "vllm:prefix_cache_queries_total", "counter",
	    "Tokens of prompts looked up", (double)m->queried);
	one(&p, "vllm:prefix_cache_hits_total", "counter",
	    "Tokens of prompts found", (double)m->cached);
	put_finished(&p, m);
	for (i = 0; i < HIST_NR; i++)
		put_hist(&p, &kinds[i], &m->hist[i]);
	put_memory(&p, now);
	one(&p, "kv_server_refused_total", "counter",
	    "Requests refused because the queue was full", (double)m->refused);
	one(&p, "kv_server_slow_readers_total", "counter",
	    "Streams ended because nobody read them", (double)m->slow);
	put_http(&p, m, now);
	strbuf_free(&p.labels);
}
