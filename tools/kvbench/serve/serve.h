/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_SERVE_H
#define TOOLS_KVBENCH_SERVE_SERVE_H
/*
 * serve.h - kvbench serve: its options and its parts
 */
#include "tools/kvbench/serve/run.h"
#include "tools/kvbench/serve/slo.h"

#define PERCENTILES_MAX 12

enum prompt_form { PROMPT_AUTO, PROMPT_IDS, PROMPT_TEXT };

struct serve_opts {
	const char *url;
	const char *model; /* NULL: the first that the server names */
	bool is_chat, ignore_eos;
	enum prompt_form form;
	u32 first_id, nr_ids;
	double temperature;
	char headers[2048]; /* each with CRLF */
	struct work_opts work;
	bool has_rate, has_nr, has_burstiness;
	int arrival; /* -1: not given, 0 poisson, 1 gamma */
	u32 max_concurrency, warmup;
	double timeout;
	double max_lag; /* s: a client later than this (p99) is too slow */
	struct slo goodput;
	/* what is shown; the JSON has more */
	char metrics[64]; /* "ttft,tpot,itl,e2el" */
	double percentile[PERCENTILES_MAX];
	u32 nr_percentiles;
	bool json, pretty;
	const char *save, *plot_dir, *step_log;
	/* sweep */
	bool is_sweep;
	struct slo slo;
	double rate_low, rate_high, precision, point_seconds;
	u32 repeat, max_points;
};

/**
 * serve_options - read the command line
 *
 * Return: 0, else leave with the status + 1.
 */
int serve_options(struct serve_opts *o, int argc, char **argv);

/* server.c: what server there is, and how prompts are put to it */
struct server {
	struct target target;
	struct render render;
	char path[320];
	char *model;
	char how[160]; /* prompts are put, in words */
};

int __must_check server_find(const struct serve_opts *o, struct server *s,
			     char *err);
void server_fini(struct server *s);

/**
 * figures_json - all figures of a run, under the names of vLLM's benchmark
 *
 * Return: an object, NULL without memory.
 */
json_t *figures_json(const struct serve_opts *o, const struct server *s,
		     const struct work_opts *w, struct run_result *r);
/* figures_print - what people read of it */
void figures_print(FILE *out, const struct serve_opts *o, const json_t *v,
		   const struct failures *f);
/* figures_requests - an array with an object for each request */
json_t *figures_requests(const struct run_result *r);
/* figures_percentile - the name of a percentile's figure, 48 bytes */
void figures_percentile(char *name, double p, const char *metric);

int serve_main(int argc, char **argv);

#endif
