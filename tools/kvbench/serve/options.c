/* SPDX-License-Identifier: MIT */
/*
 * options.c - the command line of kvbench serve
 */
#include "tools/kvbench/serve/serve.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tools/kvbench/serve/values.h"

enum {
	O_URL = 256,
	O_MODEL,
	O_ENDPOINT,
	O_WORKLOAD,
	O_NR,
	O_RATE,
	O_ARRIVAL,
	O_BURST,
	O_CONC,
	O_SEED,
	O_INPUT,
	O_OUTPUT,
	O_PREFIXES,
	O_PREFIX_LEN,
	O_TRACE,
	O_BLOCK,
	O_TURNS,
	O_THINK,
	O_BRANCH,
	O_DEPTH,
	O_IGNORE_EOS,
	O_WARMUP,
	O_GOODPUT,
	O_METRICS,
	O_PERCENTILES,
	O_PRETTY,
	O_SAVE,
	O_SECONDS,
	O_TIMEOUT,
	O_MAX_LAG,
	O_PROMPTS,
	O_VOCAB,
	O_TEMPERATURE,
	O_HEADER,
	O_SWEEP,
	O_SLO,
	O_RATES,
	O_PRECISION,
	O_POINT_SECONDS,
	O_REPEAT,
	O_POINTS,
	O_PLOT_DIR,
	O_STEP_LOG,
};

static const struct option longs[] = {
	{ "url", 1, NULL, O_URL },
	{ "base-url", 1, NULL, O_URL },
	{ "model", 1, NULL, O_MODEL },
	{ "endpoint", 1, NULL, O_ENDPOINT },
	{ "workload", 1, NULL, O_WORKLOAD },
	{ "num-prompts", 1, NULL, O_NR },
	{ "request-rate", 1, NULL, O_RATE },
	{ "arrival", 1, NULL, O_ARRIVAL },
	{ "burstiness", 1, NULL, O_BURST },
	{ "max-concurrency", 1, NULL, O_CONC },
	{ "seed", 1, NULL, O_SEED },
	{ "input-len", 1, NULL, O_INPUT },
	{ "output-len", 1, NULL, O_OUTPUT },
	{ "shared-prefixes", 1, NULL, O_PREFIXES },
	{ "prefix-len", 1, NULL, O_PREFIX_LEN },
	{ "trace", 1, NULL, O_TRACE },
	{ "block-len", 1, NULL, O_BLOCK },
	{ "turns", 1, NULL, O_TURNS },
	{ "think", 1, NULL, O_THINK },
	{ "branch", 1, NULL, O_BRANCH },
	{ "depth", 1, NULL, O_DEPTH },
	{ "ignore-eos", 0, NULL, O_IGNORE_EOS },
	{ "warmup", 1, NULL, O_WARMUP },
	{ "goodput", 1, NULL, O_GOODPUT },
	{ "percentile-metrics", 1, NULL, O_METRICS },
	{ "metric-percentiles", 1, NULL, O_PERCENTILES },
	{ "json", 0, NULL, 'j' },
	{ "pretty", 0, NULL, O_PRETTY },
	{ "save-result", 1, NULL, O_SAVE },
	{ "seconds", 1, NULL, O_SECONDS },
	{ "timeout", 1, NULL, O_TIMEOUT },
	{ "max-lag", 1, NULL, O_MAX_LAG },
	{ "prompts", 1, NULL, O_PROMPTS },
	{ "vocab", 1, NULL, O_VOCAB },
	{ "temperature", 1, NULL, O_TEMPERATURE },
	{ "header", 1, NULL, O_HEADER },
	{ "sweep", 0, NULL, O_SWEEP },
	{ "slo", 1, NULL, O_SLO },
	{ "rates", 1, NULL, O_RATES },
	{ "precision", 1, NULL, O_PRECISION },
	{ "point-seconds", 1, NULL, O_POINT_SECONDS },
	{ "repeat", 1, NULL, O_REPEAT },
	{ "max-points", 1, NULL, O_POINTS },
	{ "plot-dir", 1, NULL, O_PLOT_DIR },
	{ "step-log", 1, NULL, O_STEP_LOG },
	{ "help", 0, NULL, 'h' },
	{ 0 },
};

static void usage(FILE *out)
{
	fprintf(out,
		"usage: kvbench serve --url http://HOST:PORT [OPTIONS]\n\n"
		"  --endpoint completions|chat    --model NAME   "
		"--prompts auto|ids|text\n"
		"  --workload random|sharegpt|shared-prefix|trace|fewshot|tot|"
		"chat\n"
		"  --num-prompts N (100)          --request-rate R|inf (inf)\n"
		"  --arrival poisson|gamma        --burstiness B (1)\n"
		"  --max-concurrency C            --seconds S    --seed N (1)\n"
		"  --input-len, --output-len N|LO:HI|lognormal:MEAN:SIGMA[:MAX]|"
		"pareto:MEAN:ALPHA[:MAX]\n"
		"  --shared-prefixes K            --prefix-len L\n"
		"  --trace FILE, --block-len N    --turns N, --think S\n"
		"  --branch N, --depth N          --ignore-eos, --temperature T\n"
		"  --warmup N, --timeout S, --max-lag MS\n"
		"  --header 'NAME: VALUE'\n"
		"  --goodput ttft:MS tpot:MS e2el:MS\n"
		"  --percentile-metrics ttft,tpot,itl,e2el\n"
		"  --metric-percentiles 50,90,99,99.9\n"
		"  -j, --json, --pretty           --save-result FILE\n"
		"  --sweep --slo 'p99_itl_ms<=60,median_norm_ms<=50' "
		"[--rates LO:HI] [--precision P]\n"
		"      [--point-seconds S] [--repeat N] [--max-points N]\n"
		"  --plot-dir DIR                 --step-log FILE\n"
		"\nexit status: 0 all requests succeeded, 1 some did not, 2 "
		"usage; kvbench(1) has the rest\n");
}

static bool percentiles(struct serve_opts *o)
{
	const char *s = optarg;
	char *end;

	o->nr_percentiles = 0;
	for (;;) {
		double p = strtod(s, &end);

		if (end == s || (*end && *end != ',') ||
		    !(p >= 0 && p <= 100) ||
		    o->nr_percentiles == PERCENTILES_MAX) {
			fprintf(stderr, "kvbench: \"%s\" are no percentiles\n",
				optarg);
			return false;
		}
		o->percentile[o->nr_percentiles++] = p;
		if (!*end)
			return true;
		s = end + 1;
	}
}

static bool metrics(struct serve_opts *o)
{
	static const char *const known[] = { "ttft", "tpot",  "itl", "e2el",
					     "norm", "queue", NULL };
	char copy[sizeof(o->metrics)], *rest = copy, *word;

	if (snprintf(copy, sizeof(copy), "%s", optarg) >= (int)sizeof(copy)) {
		fprintf(stderr, "kvbench: \"%s\" are too many metrics\n",
			optarg);
		return false;
	}
	while ((word = strsep(&rest, ",")))
		if (value_word(word, known) < 0)
			return false;
	snprintf(o->metrics, sizeof(o->metrics), "%s", optarg);
	return true;
}

static bool header(struct serve_opts *o, const char *h)
{
	size_t n = strlen(o->headers);

	if (!strchr(h, ':') || strpbrk(h, "\r\n") ||
	    n + strlen(h) + 3 > sizeof(o->headers)) {
		fprintf(stderr, "kvbench: \"%s\" is no header\n", h);
		return false;
	}
	snprintf(o->headers + n, sizeof(o->headers) - n, "%s\r\n", h);
	return true;
}

static bool goodput(struct serve_opts *o, const char *s)
{
	if (slo_parse_goodput(s, &o->goodput))
		return true;
	fprintf(stderr,
		"kvbench: \"%s\" is no ttft:MS, tpot:MS, e2el:MS or norm:MS\n",
		s);
	return false;
}

static bool set_work(struct serve_opts *o, int c)
{
	static const char *const arrivals[] = { "poisson", "gamma", NULL };
	struct work_opts *w = &o->work;
	int i;

	switch (c) {
	case O_WORKLOAD:
		i = value_word(optarg, work_kinds);
		w->kind = (enum work_kind)max(i, 0);
		return i >= 0;
	case O_NR:
		o->has_nr = true;
		return value_whole(optarg, 1, 10000000, &w->nr);
	case O_RATE:
		o->has_rate = true;
		w->rate = INFINITY;
		return !strcmp(optarg, "inf") ||
		       value_real(optarg, 1e-3, 1e6, &w->rate);
	case O_ARRIVAL:
		o->arrival = value_word(optarg, arrivals);
		return o->arrival >= 0;
	case O_BURST:
		o->has_burstiness = true;
		return value_real(optarg, 0.01, 1000, &w->burstiness);
	case O_SEED: {
		double v = 0;
		bool ok = value_real(optarg, 0, 9e15, &v);

		w->seed = (u64)v;
		return ok;
	}
	case O_INPUT:
		return value_lengths(optarg, &w->input, &w->has_input);
	case O_OUTPUT:
		return value_lengths(optarg, &w->output, &w->has_output);
	case O_PREFIXES:
		return value_whole(optarg, 1, 1000000, &w->nr_prefixes);
	case O_PREFIX_LEN:
		return value_whole(optarg, 1, 1000000, &w->prefix_len);
	case O_TRACE:
		w->trace = optarg;
		w->kind = WORK_TRACE;
		return true;
	case O_BLOCK:
		return value_whole(optarg, 1, 4096, &w->block_len);
	case O_TURNS:
		return value_whole(optarg, 1, 1000, &w->turns);
	case O_THINK:
		return value_real(optarg, 0, 1e5, &w->think);
	case O_BRANCH:
		return value_whole(optarg, 1, 1000, &w->branch);
	case O_DEPTH:
		return value_whole(optarg, 1, 100, &w->depth);
	case O_SECONDS:
		return value_real(optarg, 0.01, 1e6, &w->seconds);
	}
	return false;
}

static bool set_sweep(struct serve_opts *o, int c)
{
	switch (c) {
	case O_SWEEP:
		o->is_sweep = true;
		return true;
	case O_SLO:
		if (slo_parse(optarg, &o->slo))
			return true;
		fprintf(stderr,
			"kvbench: \"%s\" is no FIGURE<=N,FIGURE>=N,...\n",
			optarg);
		return false;
	case O_RATES:
		return value_two(optarg, 1e-3, &o->rate_low, &o->rate_high);
	case O_PRECISION:
		return value_real(optarg, 0.005, 1, &o->precision);
	case O_POINT_SECONDS:
		return value_real(optarg, 0.1, 1e5, &o->point_seconds);
	case O_REPEAT:
		return value_whole(optarg, 0, 20, &o->repeat);
	case O_POINTS:
		return value_whole(optarg, 1, 60, &o->max_points);
	case O_PLOT_DIR:
		o->plot_dir = optarg;
		return true;
	case O_STEP_LOG:
		o->step_log = optarg;
		return true;
	}
	return set_work(o, c);
}

static bool set_server(struct serve_opts *o, int c)
{
	static const char *const endpoints[] = { "completions", "chat", NULL };
	static const char *const forms[] = { "auto", "ids", "text", NULL };
	double low, high;
	int i;

	switch (c) {
	case O_URL:
		o->url = optarg;
		return true;
	case O_MODEL:
		o->model = optarg;
		return true;
	case O_ENDPOINT:
		i = value_word(optarg, endpoints);
		o->is_chat = i == 1;
		return i >= 0;
	case O_PROMPTS:
		i = value_word(optarg, forms);
		o->form = (enum prompt_form)max(i, 0);
		return i >= 0;
	case O_VOCAB:
		if (!value_two(optarg, 0, &low, &high))
			return false;
		o->first_id = (u32)low;
		o->nr_ids = (u32)high - (u32)low;
		return o->nr_ids > 0;
	case O_HEADER:
		return header(o, optarg);
	case O_TEMPERATURE:
		return value_real(optarg, 0, 10, &o->temperature);
	case O_IGNORE_EOS:
		o->ignore_eos = true;
		return true;
	case O_CONC:
		return value_whole(optarg, 1, 100000, &o->max_concurrency);
	case O_WARMUP:
		return value_whole(optarg, 0, 100000, &o->warmup);
	case O_TIMEOUT:
		return value_real(optarg, 0.05, 1e5, &o->timeout);
	case O_MAX_LAG:
		if (!value_real(optarg, 0, 1e7, &o->max_lag))
			return false;
		o->max_lag /= 1000;
		return true;
	}
	return set_sweep(o, c);
}

/* Return: 0 go on, else leave with the status + 1. */
static int set_option(struct serve_opts *o, int c)
{
	switch (c) {
	case 'h':
		usage(stdout);
		return 1;
	case 'j':
		o->json = true;
		return 0;
	case O_PRETTY:
		o->json = o->pretty = true;
		return 0;
	case O_SAVE:
		o->save = optarg;
		return 0;
	case O_GOODPUT:
		return goodput(o, optarg) ? 0 : 3;
	case 1: /* more of --goodput, as vLLM's tool takes them */
		if (o->goodput.nr)
			return goodput(o, optarg) ? 0 : 3;
		fprintf(stderr, "kvbench: what is \"%s\"?\n", optarg);
		return 3;
	case O_METRICS:
		return metrics(o) ? 0 : 3;
	case O_PERCENTILES:
		return percentiles(o) ? 0 : 3;
	case '?':
		return 3;
	}
	return set_server(o, c) ? 0 : 3;
}

/* The key is a secret: it is not printed, whatever is wrong with it. */
static bool authorize(struct serve_opts *o)
{
	const char *key = getenv("OPENAI_API_KEY");
	size_t n = strlen(o->headers), room = sizeof(o->headers) - n;

	if (!key || !*key || strcasestr(o->headers, "authorization:"))
		return true;
	if (!strpbrk(key, "\r\n") &&
	    (size_t)snprintf(o->headers + n, room,
			     "Authorization: Bearer %s\r\n", key) < room)
		return true;
	fprintf(stderr, "kvbench: OPENAI_API_KEY makes no header: it is too "
			"long, or of several lines\n");
	return false;
}

/* What depends on several of them. */
static int settle(struct serve_opts *o)
{
	struct work_opts *w = &o->work;

	if (!o->url) {
		fprintf(stderr,
			"kvbench: serve needs --url http://HOST:PORT\n");
		return 3;
	}
	if (w->kind == WORK_TRACE && !w->trace) {
		fprintf(stderr, "kvbench: --workload trace needs --trace\n");
		return 3;
	}
	if (o->form == PROMPT_IDS && o->is_chat) {
		fprintf(stderr, "kvbench: chat has no prompts of ids\n");
		return 3;
	}
	if (o->is_sweep && !o->slo.nr) {
		fprintf(stderr, "kvbench: --sweep needs --slo\n");
		return 3;
	}
	if (o->arrival == 0 && o->has_burstiness && w->burstiness != 1) {
		fprintf(stderr, "kvbench: burstiness other than 1 is of "
				"--arrival gamma\n");
		return 3;
	}
	if (o->arrival == 1 && !o->has_burstiness)
		w->burstiness = 0.25;
	if (!o->has_rate)
		w->rate = w->kind == WORK_TRACE ? 0 : INFINITY;
	if (!o->has_nr && w->seconds && isfinite(w->rate) && w->rate > 0)
		w->nr = (u32)min(1e6, ceil(w->rate * w->seconds * 2) + 100);
	return authorize(o) ? 0 : 3;
}

int serve_options(struct serve_opts *o, int argc, char **argv)
{
	int c, row = 0, rc = 0;

	*o = (struct serve_opts){
		.first_id = 1000,
		.nr_ids = 20000,
		.metrics = "ttft,tpot,itl,e2el",
		.percentile = { 50, 90, 99, 99.9 },
		.nr_percentiles = 4,
		.timeout = 600,
		.max_lag = 0.010,
		.arrival = -1,
		.work = { .nr = 100,
			  .seed = 1,
			  .burstiness = 1,
			  .block_len = 512,
			  .turns = 4,
			  .think = 1,
			  .branch = 4,
			  .depth = 3 },
		.rate_low = 1,
		.rate_high = 1e4,
		.precision = 0.1,
		.point_seconds = 20,
		.repeat = 2,
		.max_points = 16,
	};
	while (!rc && (c = getopt_long(argc, argv, "-jh", longs, &row)) != -1) {
		rc = set_option(o, c);
		if (rc == 3 && c >= O_URL)
			fprintf(stderr,
				"kvbench: serve: --%s does not take \"%s\"\n",
				longs[row].name, optarg);
	}
	return rc ? rc : settle(o);
}
