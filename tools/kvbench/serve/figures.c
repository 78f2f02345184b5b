/* SPDX-License-Identifier: MIT */
/*
 * figures.c - what a run has shown
 *
 * The names are those of `vllm bench serve`; what is ours besides: norm (time
 * of a request over its tokens, which Orca's paper draws), queue (what a
 * request waited in the client for a place under --max-concurrency), cached
 * tokens, lag (what the client itself was late) and drain_s (from the last
 * arrival to the last answer: a server that fell behind has much to drain).
 *
 * Times count from when a request was due, not from when it was sent.
 */
#include "tools/kvbench/serve/serve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/bench.h"

#define CLIENT_FULL 0.9 /* of a core */

enum { M_TTFT, M_TPOT, M_ITL, M_E2EL, M_NORM, M_QUEUE, M_NR };

static const char *const metric_names[] = { "ttft", "tpot", "itl",
					    "e2el", "norm", "queue" };

static const double always[] = { 50, 90, 95, 99, 99.9 };

struct sums {
	struct samples m[M_NR];
	u64 input, output, cached;
	bool has_cached;
	u32 nr_good, nr_failed;
	double last_due;
};

void figures_percentile(char *name, double p, const char *metric)
{
	snprintf(name, 48, "p%g_%s_ms", p, metric);
}

static json_t *one_figures(const double *ms)
{
	return json_pack("{s:f, s:f, s:f, s:f}", "ttft", ms[M_TTFT], "tpot",
			 ms[M_TPOT], "e2el", ms[M_E2EL], "norm", ms[M_NORM]);
}

static void add_good(struct sums *s, const struct record *rec,
		     const struct slo *goodput)
{
	double ms[M_NR] = { 0 };
	char why[128];
	json_t *v;

	ms[M_TTFT] = (rec->first - rec->due) * 1e3;
	ms[M_E2EL] = (rec->end - rec->due) * 1e3;
	ms[M_QUEUE] = (rec->sent - rec->due) * 1e3;
	ms[M_NORM] = ms[M_E2EL] / max(rec->output, 1u);
	samples_add(&s->m[M_TTFT], ms[M_TTFT]);
	samples_add(&s->m[M_E2EL], ms[M_E2EL]);
	samples_add(&s->m[M_NORM], ms[M_NORM]);
	samples_add(&s->m[M_QUEUE], ms[M_QUEUE]);
	if (rec->output > 1) {
		ms[M_TPOT] = (rec->end - rec->first) * 1e3 / (rec->output - 1);
		samples_add(&s->m[M_TPOT], ms[M_TPOT]);
	}
	s->input += rec->input;
	s->output += rec->output;
	/* Many servers leave it out where it is 0. */
	s->cached += rec->cached;
	s->has_cached |= rec->has_cached;
	v = one_figures(ms);
	s->nr_good += slo_holds(goodput, v, why);
	json_decref(v);
}

static void sum_up(const struct serve_opts *o, struct run_result *r,
		   struct sums *s)
{
	size_t k;
	u32 i;

	memset(s, 0, sizeof(*s));
	for (i = 0; i < r->nr; i++) {
		if (r->record[i].is_sent)
			s->last_due = max(s->last_due, r->record[i].due);
		if (r->record[i].is_ok)
			add_good(s, &r->record[i], &o->goodput);
		else
			s->nr_failed += r->record[i].is_done;
	}
	for (k = 0; k < r->itl.nr; k++)
		samples_add(&s->m[M_ITL], r->itl.v[k] * 1e3);
}

static void set_real(json_t *v, const char *key, double x)
{
	json_object_set_new(v, key, json_real(x));
}

/* Of no sample there is none. */
static void set_of(json_t *v, const char *key, const struct samples *s,
		   double x)
{
	json_object_set_new(v, key, s->nr ? json_real(x) : json_null());
}

static void put_metric(const struct serve_opts *o, json_t *v, const char *name,
		       struct samples *s)
{
	char key[48];
	u32 i;

	snprintf(key, sizeof(key), "mean_%s_ms", name);
	set_of(v, key, s, samples_mean(s));
	snprintf(key, sizeof(key), "median_%s_ms", name);
	set_of(v, key, s, samples_percentile(s, 50));
	snprintf(key, sizeof(key), "std_%s_ms", name);
	set_of(v, key, s, samples_std(s));
	for (i = 0; i < ARRAY_SIZE(always); i++) {
		figures_percentile(key, always[i], name);
		set_of(v, key, s, samples_percentile(s, always[i]));
	}
	for (i = 0; i < o->nr_percentiles; i++) {
		figures_percentile(key, o->percentile[i], name);
		set_of(v, key, s, samples_percentile(s, o->percentile[i]));
	}
	snprintf(key, sizeof(key), "max_%s_ms", name);
	set_of(v, key, s, samples_max(s));
}

static void put_totals(const struct serve_opts *o, json_t *v,
		       const struct run_result *r, const struct sums *s)
{
	double d = r->duration > 0 ? r->duration : 1e-9;

	set_real(v, "duration", r->duration);
	json_object_set_new(v, "completed", json_integer(r->nr_ok));
	json_object_set_new(v, "failed", json_integer(s->nr_failed));
	json_object_set_new(v, "not_sent",
			    json_integer(r->nr - r->nr_ok - s->nr_failed));
	json_object_set_new(v, "total_input_tokens",
			    json_integer((json_int_t)s->input));
	json_object_set_new(v, "total_output_tokens",
			    json_integer((json_int_t)s->output));
	set_real(v, "request_throughput", r->nr_ok / d);
	if (o->goodput.nr)
		set_real(v, "request_goodput", s->nr_good / d);
	set_real(v, "output_throughput", (double)s->output / d);
	set_real(v, "total_token_throughput",
		 (double)(s->input + s->output) / d);
	json_object_set_new(v, "max_concurrent_requests",
			    json_integer(r->peak));
	set_real(v, "drain_s", max(0.0, r->duration - s->last_due));
	if (s->has_cached && s->input) {
		json_object_set_new(v, "cached_tokens",
				    json_integer((json_int_t)s->cached));
		set_real(v, "cache_hit_rate",
			 (double)s->cached / (double)s->input);
	} else {
		json_object_set_new(v, "cached_tokens", json_null());
		json_object_set_new(v, "cache_hit_rate", json_null());
	}
}

static void put_client(json_t *v, struct run_result *r, double max_lag)
{
	double lag = samples_percentile(&r->lag, 99);
	bool slow = lag > max_lag || r->cpu > CLIENT_FULL;

	set_real(v, "p99_lag_ms", lag * 1e3);
	set_real(v, "max_lag_ms", samples_max(&r->lag) * 1e3);
	set_real(v, "client_cpu", r->cpu);
	json_object_set_new(v, "client_kept_up", json_boolean(!slow));
	json_object_set_new(v, "is_interrupted",
			    json_boolean(r->is_interrupted));
	json_object_set_new(v, "errors", failures_json(&r->failures));
}

static void put_setting(json_t *v, const struct serve_opts *o,
			const struct server *s, const struct work_opts *w)
{
	json_object_set_new(v, "backend",
			    json_string(o->is_chat ? "openai-chat" : "openai"));
	json_object_set_new(v, "base_url", json_string(o->url));
	json_object_set_new(v, "model_id",
			    s->model ? json_string(s->model) : json_null());
	json_object_set_new(v, "prompts", json_string(s->how));
	json_object_set_new(v, "workload", json_string(work_kinds[w->kind]));
	json_object_set_new(v, "num_prompts", json_integer(w->nr));
	if (isfinite(w->rate) && w->rate > 0)
		set_real(v, "request_rate", w->rate);
	else
		json_object_set_new(v, "request_rate",
				    json_string(w->rate > 0 ? "inf" : "trace"));
	set_real(v, "burstiness", w->burstiness);
	json_object_set_new(v, "max_concurrency",
			    o->max_concurrency
				    ? json_integer(o->max_concurrency)
				    : json_null());
	json_object_set_new(v, "seed", json_integer((json_int_t)w->seed));
}

json_t *figures_json(const struct serve_opts *o, const struct server *s,
		     const struct work_opts *w, struct run_result *r)
{
	json_t *v = json_pack("{s:s, s:s}", "schema", "kvbench/1", "bench",
			      "serve");
	struct sums sums;
	u32 i;

	if (!v)
		return NULL;
	sum_up(o, r, &sums);
	json_object_set_new(v, "machine", machine_json());
	put_setting(v, o, s, w);
	put_totals(o, v, r, &sums);
	for (i = 0; i < M_NR; i++) {
		put_metric(o, v, metric_names[i], &sums.m[i]);
		samples_fini(&sums.m[i]);
	}
	/* All at once cannot be in time. */
	put_client(v, r, isfinite(w->rate) ? o->max_lag : INFINITY);
	return v;
}

json_t *figures_requests(const struct run_result *r)
{
	json_t *all = json_array();
	const struct record *q;
	u32 i;

	for (i = 0; i < r->nr; i++) {
		q = &r->record[i];
		json_array_append_new(
			all,
			json_pack("{s:b, s:f, s:f, s:f, s:f, s:i, s:i, s:i}",
				  "ok", q->is_ok, "due", q->due, "sent",
				  q->sent, "first", q->first, "end", q->end,
				  "input", (int)q->input, "output",
				  (int)q->output, "cached", (int)q->cached));
	}
	return all;
}

/* ---- for people ---- */

static double figure(const json_t *v, const char *key)
{
	return json_number_value(json_object_get(v, key));
}

static void print_line(FILE *out, const char *what, double x, int decimals)
{
	fprintf(out, "%-34s %12.*f\n", what, decimals, x);
}

static void print_column(FILE *out, const json_t *v, const char *key)
{
	if (json_is_number(json_object_get(v, key)))
		fprintf(out, " %10.2f", figure(v, key));
	else
		fprintf(out, " %10s", "-");
}

static void print_metric(FILE *out, const struct serve_opts *o, const json_t *v,
			 const char *name)
{
	static const char *const first[] = { "mean", "median", "std" };
	char key[48];
	u32 i;

	fprintf(out, "%-6s", name);
	for (i = 0; i < ARRAY_SIZE(first); i++) {
		snprintf(key, sizeof(key), "%s_%s_ms", first[i], name);
		print_column(out, v, key);
	}
	for (i = 0; i < o->nr_percentiles; i++) {
		figures_percentile(key, o->percentile[i], name);
		print_column(out, v, key);
	}
	snprintf(key, sizeof(key), "max_%s_ms", name);
	print_column(out, v, key);
	fputc('\n', out);
}

static bool is_shown(const struct serve_opts *o, const char *name)
{
	const char *at = strstr(o->metrics, name);

	return at || !strcmp(name, "norm") ||
	       (!strcmp(name, "queue") && o->max_concurrency);
}

static void print_metrics(FILE *out, const struct serve_opts *o,
			  const json_t *v)
{
	char head[32];
	u32 i;

	fprintf(out, "\n%-6s %10s %10s %10s", "ms", "mean", "median", "std");
	for (i = 0; i < o->nr_percentiles; i++) {
		snprintf(head, sizeof(head), "p%g", o->percentile[i]);
		fprintf(out, " %10s", head);
	}
	fprintf(out, " %10s\n", "max");
	for (i = 0; i < M_NR; i++)
		if (is_shown(o, metric_names[i]))
			print_metric(out, o, v, metric_names[i]);
}

static void print_client(FILE *out, const json_t *v)
{
	if (json_is_true(json_object_get(v, "client_kept_up")))
		return;
	fprintf(out,
		"\nThe client could not keep up: requests left %.1f ms late "
		"(p99), it took %.0f %% of a core.\nThe figures are of the "
		"client as much as of the server.\n",
		figure(v, "p99_lag_ms"), figure(v, "client_cpu") * 100);
}

void figures_print(FILE *out, const struct serve_opts *o, const json_t *v,
		   const struct failures *f)
{
	print_line(out, "successful requests", figure(v, "completed"), 0);
	print_line(out, "failed requests", figure(v, "failed"), 0);
	if (figure(v, "not_sent") > 0)
		print_line(out, "not sent, time was over",
			   figure(v, "not_sent"), 0);
	print_line(out, "duration, s", figure(v, "duration"), 2);
	print_line(out, "input tokens", figure(v, "total_input_tokens"), 0);
	print_line(out, "output tokens", figure(v, "total_output_tokens"), 0);
	print_line(out, "requests/s", figure(v, "request_throughput"), 2);
	if (o->goodput.nr)
		print_line(out, "requests/s within --goodput",
			   figure(v, "request_goodput"), 2);
	print_line(out, "output tokens/s", figure(v, "output_throughput"), 2);
	print_line(out, "all tokens/s", figure(v, "total_token_throughput"), 2);
	print_line(out, "requests at a time, at most",
		   figure(v, "max_concurrent_requests"), 0);
	if (json_is_number(json_object_get(v, "cache_hit_rate")))
		print_line(out, "prompt tokens from the cache, %",
			   figure(v, "cache_hit_rate") * 100, 1);
	print_metrics(out, o, v);
	print_client(out, v);
	if (f->nr)
		fprintf(out, "\nfailed:\n");
	failures_print(out, f);
}
