/* SPDX-License-Identifier: MIT */
/*
 * bench_sim.c - kvbench sim: the scheduler, without the hours
 *
 * The engines' real scheduler over kvmd's real core, in time that is counted.
 * Each line is a run of the same requests; --compare makes one for each value
 * of a key, or of several keys each combination.
 */
#include "tools/kvbench/bench_sim.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "tools/kvbench/bench.h"
#include "tools/kvbench/sim/real.h"

#define COMPARES_MAX 4u
#define VALUES_MAX   8u

struct compare {
	char *text; /* KEY=V1,V2, cut up */
	const char *key, *value[VALUES_MAX];
	u32 nr;
};

struct sim_run {
	struct sim_setup setup;
	struct compare compare[COMPARES_MAX];
	u32 nr_compares;
	bool json, pretty, failed;
	const char *measure;
	u32 threads;
	struct report rep;
};

static const struct report_col cols[] = {
	{ "variant", "RUN", 0 },
	{ "completed", "DONE", 0 },
	{ "failed", "FAILED", 0 },
	{ "duration", "TIME s", 1 },
	{ "output_throughput", "TOK/s", 1 },
	{ "p50_ttft_ms", "TTFT ms", 0 },
	{ "p99_ttft_ms", "p99", 0 },
	{ "p50_itl_ms", "ITL ms", 1 },
	{ "p99_itl_ms", "p99", 1 },
	{ "median_norm_ms", "MS/TOK", 1 },
	{ "hit_rate", "HITS", 3 },
	{ "preempted", "PREEMPT", 0 },
	{ "max_running", "RUNNING", 0 },
	{ "busy", "BUSY", 2 },
};

static json_t *row_of(const char *variant, struct fleet_result *r,
		      u32 nr_engines)
{
	double d = r->duration > 0 ? r->duration : 1;
	u64 asked = r->mapped + r->prefill;

	return json_pack(
		"{s:s, s:i, s:i, s:f, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, "
		"s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:f, "
		"s:s}",
		"variant", variant, "completed", (int)r->completed, "failed",
		(int)r->failed, "duration", r->duration, "total_input_tokens",
		(json_int_t)r->input, "total_output_tokens",
		(json_int_t)r->output, "request_throughput", r->completed / d,
		"output_throughput", (double)r->output / d, "mean_ttft_ms",
		samples_mean(&r->ttft) * 1e3, "p50_ttft_ms",
		samples_percentile(&r->ttft, 50) * 1e3, "p99_ttft_ms",
		samples_percentile(&r->ttft, 99) * 1e3, "mean_tpot_ms",
		samples_mean(&r->tpot) * 1e3, "p50_itl_ms",
		samples_percentile(&r->itl, 50) * 1e3, "p99_itl_ms",
		samples_percentile(&r->itl, 99) * 1e3, "max_itl_ms",
		samples_max(&r->itl) * 1e3, "p50_e2el_ms",
		samples_percentile(&r->e2e, 50) * 1e3, "p99_e2el_ms",
		samples_percentile(&r->e2e, 99) * 1e3, "median_norm_ms",
		samples_percentile(&r->norm, 50) * 1e3, "hit_rate",
		asked ? (double)r->mapped / (double)asked : 0.0, "preempted",
		(json_int_t)r->preempted, "turns", (json_int_t)r->turns,
		"steps", (json_int_t)r->steps, "max_running",
		(json_int_t)r->max_running, "busy", r->busy / d / nr_engines,
		"first_error", r->first_error);
}

static int run_one(struct sim_run *s, const char *variant)
{
	struct fleet_result r;
	char err[KV_ERRLEN];
	int rc = setup_run(&s->setup, &r, err);

	if (rc)
		fprintf(stderr, "kvbench: sim: %s%s%s\n", variant,
			*variant ? ": " : "", err);
	else
		report_row(&s->rep,
			   row_of(variant, &r, s->setup.fleet.nr_engines));
	s->failed |= r.failed;
	fleet_result_fini(&r);
	return rc;
}

/* Each value of compare @i and of those after it. */
static int run_from(struct sim_run *s, u32 i, const char *variant)
{
	const struct compare *c = &s->compare[i];
	char name[128], err[KV_ERRLEN];
	u32 k;
	int rc = 0;

	if (i == s->nr_compares)
		return run_one(s, variant);
	for (k = 0; !rc && k < c->nr; k++) {
		snprintf(name, sizeof(name), "%s%s%s", variant,
			 *variant ? " " : "", c->value[k]);
		rc = setup_set(&s->setup, c->key, c->value[k], err);
		if (rc)
			fprintf(stderr, "kvbench: sim: %s\n", err);
		else
			rc = run_from(s, i + 1, name);
	}
	return rc;
}

static int add_compare(struct sim_run *s, const char *arg)
{
	struct compare *c = &s->compare[s->nr_compares];
	char *rest, *word;

	if (s->nr_compares == COMPARES_MAX)
		return -E2BIG;
	c->text = strdup(arg);
	rest = c->text ? strchr(c->text, '=') : NULL;
	s->nr_compares += c->text != NULL;
	if (!rest)
		return -EINVAL;
	*rest++ = '\0';
	c->key = c->text;
	while ((word = strsep(&rest, ",")) && c->nr < VALUES_MAX)
		c->value[c->nr++] = word;
	return word ? -E2BIG : 0;
}

static void usage(FILE *out)
{
	const char *key, *what;
	u32 i;

	fprintf(out,
		"usage: kvbench sim [KEY=VALUE...] [OPTIONS]\n\n"
		"  -c, --compare KEY=V1,V2  a run for each of them\n"
		"      --step-log FILE      a line of JSON for each step\n"
		"      --measure MODEL      only: what its steps cost here\n"
		"  -t, --threads N          for that\n"
		"  -j, --json               one JSON object\n"
		"      --pretty             indented JSON\n\nkeys:\n");
	for (i = 0; (key = setup_key(i, &what)); i++)
		fprintf(out, "  %-14s %s\n", key, what);
}

static int set_pairs(struct sim_run *s, const char *text)
{
	char err[KV_ERRLEN];
	int rc = setup_choose(&s->setup, text, err);

	if (rc)
		fprintf(stderr, "kvbench: sim: %s\n", err);
	return rc;
}

static int set_option(struct sim_run *s, int c)
{
	switch (c) {
	case 'p':
		s->pretty = true;
		/* fall through */
	case 'j':
		s->json = true;
		return 0;
	case 'c':
		if (!add_compare(s, optarg))
			return 0;
		fprintf(stderr, "kvbench: sim: \"%s\" is nothing to compare\n",
			optarg);
		return 2;
	case 'l':
		if (s->setup.fleet.engine.steps)
			fclose(s->setup.fleet.engine.steps);
		s->setup.fleet.engine.steps = fopen(optarg, "we");
		if (s->setup.fleet.engine.steps)
			return 0;
		fprintf(stderr, "kvbench: sim: %s: %s\n", optarg,
			strerror(errno));
		return 1;
	}
	if (c == 'm') {
		s->measure = optarg;
		return 0;
	}
	if (c == 't' && !parse_count(optarg, &s->threads))
		return 0;
	usage(c == 'h' ? stdout : stderr);
	return c == 'h' ? -1 : 2;
}

static int parse(struct sim_run *s, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "compare", required_argument, NULL, 'c' },
		{ "step-log", required_argument, NULL, 'l' },
		{ "measure", required_argument, NULL, 'm' },
		{ "threads", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "pretty", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int c, rc = 0;

	optind = 0;
	while (!rc &&
	       (c = getopt_long(argc, argv, "c:t:jh", longs, NULL)) != -1)
		rc = set_option(s, c);
	for (; !rc && optind < argc; optind++)
		rc = set_pairs(s, argv[optind]) ? 2 : 0;
	return rc;
}

/* As keys that the next simulation can be given. */
static int measure(const struct sim_run *s)
{
	char err[KV_ERRLEN] = "";
	struct law law;
	struct real x;
	double off;
	u32 nr;
	int rc = real_open(&x, s->measure, s->threads, err);

	if (!rc)
		rc = real_law(&x, false, &law, &off, &nr, err);
	real_close(&x);
	if (rc) {
		fprintf(stderr, "kvbench: sim: %s\n", err);
		return 1;
	}
	printf("cost-step=%.3g cost-token=%.3g cost-row=%.3g cost-work=%.3g\n",
	       law.term[LAW_STEP], law.term[LAW_TOKEN], law.term[LAW_ROW],
	       law.term[LAW_WORK]);
	fprintf(stderr, "%u kinds of steps, off by %.1f %% on average\n", nr,
		off * 100);
	return 0;
}

int sim_main(int argc, char **argv)
{
	struct bench_opts o = { 0 };
	struct sim_run s = { 0 };
	u32 i;
	int rc;

	setup_init(&s.setup);
	rc = parse(&s, argc, argv);
	if (!rc && s.measure) {
		rc = measure(&s);
	} else if (!rc && report_init(&s.rep)) {
		rc = 1;
	} else if (!rc) {
		s.rep.cols = cols;
		s.rep.nr_cols = ARRAY_SIZE(cols);
		o.json = s.json;
		o.pretty = s.pretty;
		rc = run_from(&s, 0, "") || s.failed;
		if (report_print(&o, "sim", &s.rep))
			rc = 1;
		report_fini(&s.rep);
	}
	if (s.setup.fleet.engine.steps && fclose(s.setup.fleet.engine.steps))
		rc = 1;
	for (i = 0; i < s.nr_compares; i++)
		free(s.compare[i].text);
	setup_fini(&s.setup);
	return rc < 0 ? 0 : rc;
}
