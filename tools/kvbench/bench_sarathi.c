/* SPDX-License-Identifier: MIT */
/*
 * bench_sarathi.c - chunked prompts in stall-free batches against whole ones
 *
 *	capacity	prompts lognormal with mean 1000, outputs with mean 150,
 *			Poisson: the largest rate at which 99 of 100 times
 *			between two tokens are within the target and the median
 *			time in the queue is at most 33 targets (the paper's 2 s
 *			for 60 ms); chunked, the budget of the steps found for
 *			the target by the engine, over whole prompts that join
 *			the batch. At 60 ms, and at five times a decode step of
 *			32 sequences, as the paper's strict one
 *	ablation	mixing alone (whole), chunks alone (apart) and both at
 *			one rate: how many of the paper's relations hold
 *	sim		the ablation's rate with the real model, mixed and in
 *			chunks: how far the simulation is off
 *	chunk256	one prompt of the real model in steps of 256, over one
 *			step; 128 and 64 beside it
 *
 * Capacity and ablation run in the simulation (tools/kvbench/sim/), by the law
 * of the real model's steps.
 */
#include "tools/kvbench/sim/capacity.h"
#include "tools/kvbench/sim/real.h"

#include <math.h>

#define SARATHI_QUEUE  33.0 /* targets: 2 s at 60 ms */
#define SARATHI_STRICT 5.0 /* steps of 32 sequences */
#define SARATHI_SHARE  0.7 /* of the rate that chunks bear */
#define SARATHI_REAL   8u /* requests of a run in real time */
#define CHUNK_PROMPT   1024u
#define CHUNK_ROUNDS   2u

/* A step has room for the longest prompt. */
#define SARATHI_KEYS                                                      \
	"workload=random input-len=lognormal:1000:0.6:3500 "              \
	"output-len=lognormal:150:0.6:500 requests=400 step-tokens=4096 " \
	"max-seqs=64 prefix-cache=no context=8192 pool=8G"
#define TINY_KEYS "input-len=20 output-len=4 requests=4"

static const char *const prefills[] = {
	[ENGINE_PREFILL_CHUNKED] = "prefill=chunked",
	[ENGINE_PREFILL_WHOLE] = "prefill=whole",
	[ENGINE_PREFILL_APART] = "prefill=apart",
};

static int sarathi(const struct bench_opts *o, const struct law *law,
		   enum engine_prefill prefill, double target,
		   struct sim_setup *s, char *err)
{
	int rc;

	setup_init(s);
	rc = setup_choose(s, SARATHI_KEYS, err);
	if (!rc)
		rc = setup_choose(s, prefills[prefill], err);
	if (!rc && o->tiny)
		rc = setup_choose(s, TINY_KEYS, err);
	s->work.seed = o->seed;
	s->fleet.law = *law;
	if (prefill != ENGINE_PREFILL_WHOLE)
		s->fleet.engine.tbt_slo_ms = (u32)(target * 1e3);
	return rc;
}

static bool keeps(struct fleet_result *r, double target)
{
	return samples_percentile(&r->itl, 99) <= target &&
	       samples_percentile(&r->queue, 50) <= SARATHI_QUEUE * target;
}

static int capacity(const struct bench_opts *o, const struct law *law,
		    enum engine_prefill prefill, double target, double *rate,
		    char *err)
{
	struct sim_setup s;
	int rc = sarathi(o, law, prefill, target, &s, err);

	if (!rc)
		rc = sim_capacity(&s, keeps, target, rate, err);
	setup_fini(&s);
	return rc;
}

/* The paper's strict target. */
static double strict_of(const struct law *law)
{
	const struct law_load l = { .tokens = 32, .rows = 32, .work = 32 };

	return SARATHI_STRICT * law_seconds(law, &l);
}

struct capacities {
	double chunked, whole; /* requests/s */
};

static int by_law(const struct bench_opts *o, const struct law *law,
		  double target, struct capacities *c, char *err)
{
	int rc = capacity(o, law, ENGINE_PREFILL_CHUNKED, target, &c->chunked,
			  err);

	return rc ? rc
		  : capacity(o, law, ENGINE_PREFILL_WHOLE, target, &c->whole,
			     err);
}

/* @target 0: the strict one of each law. */
static int run_capacity_at(const struct bench_opts *o, double target,
			   struct figure_result *f)
{
	struct law law, tiles = LAW_TILES;
	char err[KV_ERRLEN] = "";
	int rc = real_law_here(o, &law, err);
	double here_s = target > 0 ? target : strict_of(&law);
	double there_s = target > 0 ? target : strict_of(&tiles);
	struct capacities here = { 0 }, there = { 0 };

	if (!rc)
		rc = by_law(o, &law, here_s, &here, err);
	if (!rc)
		rc = by_law(o, &tiles, there_s, &there, err);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = here.whole > 0 ? here.chunked / here.whole : 0;
	snprintf(f->note, sizeof(f->note),
		 "by the law of steps, %.0f ms: %.3f/s against %.3f; "
		 "with tiles, %.0f ms: %.1f x, %.2f/s against %.2f",
		 here_s * 1e3, here.chunked, here.whole, there_s * 1e3,
		 there.whole > 0 ? there.chunked / there.whole : 0,
		 there.chunked, there.whole);
	return 0;
}

static int run_capacity(const struct bench_opts *o, struct figure_result *f)
{
	return run_capacity_at(o, 0.060, f);
}

static int run_strict(const struct bench_opts *o, struct figure_result *f)
{
	return run_capacity_at(o, 0, f);
}

struct ablated {
	double ttft_ms, tbt_ms; /* P50, P99 */
};

struct ablation {
	struct ablated mix, apart, both;
	u32 holds; /* of the paper's four relations */
};

static int serve(const struct bench_opts *o, const struct law *law,
		 enum engine_prefill prefill, double target, double rate,
		 struct ablated *a, char *err)
{
	struct fleet_result r = { 0 };
	struct sim_setup s;
	int rc = sarathi(o, law, prefill, target, &s, err);

	s.work.rate = rate;
	if (!rc)
		rc = setup_run(&s, &r, err);
	a->ttft_ms = samples_percentile(&r.ttft, 50) * 1e3;
	a->tbt_ms = samples_percentile(&r.itl, 99) * 1e3;
	fleet_result_fini(&r);
	setup_fini(&s);
	return rc;
}

/* At a part of what both together bear. */
static int ablate(const struct bench_opts *o, const struct law *law,
		  struct ablation *a, char *err)
{
	double target = strict_of(law), rate;
	int rc = capacity(o, law, ENGINE_PREFILL_CHUNKED, target, &rate, err);

	rate *= SARATHI_SHARE;
	if (!rc)
		rc = serve(o, law, ENGINE_PREFILL_WHOLE, target, rate, &a->mix,
			   err);
	if (!rc)
		rc = serve(o, law, ENGINE_PREFILL_APART, target, rate,
			   &a->apart, err);
	if (!rc)
		rc = serve(o, law, ENGINE_PREFILL_CHUNKED, target, rate,
			   &a->both, err);
	a->holds = (a->mix.ttft_ms <= a->both.ttft_ms) +
		   (a->both.ttft_ms <= a->apart.ttft_ms) +
		   (a->both.tbt_ms <= a->apart.tbt_ms) +
		   (a->apart.tbt_ms <= a->mix.tbt_ms);
	return rc;
}

static int run_ablation(const struct bench_opts *o, struct figure_result *f)
{
	struct law law, tiles = LAW_TILES;
	char err[KV_ERRLEN] = "";
	struct ablation a, t;
	int rc = real_law_here(o, &law, err);

	if (!rc)
		rc = ablate(o, &law, &a, err);
	if (!rc)
		rc = ablate(o, &tiles, &t, err);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = a.holds;
	snprintf(f->note, sizeof(f->note),
		 "P50 TTFT/P99 TBT ms: mixing %.0f/%.0f, chunks %.0f/%.0f, "
		 "both %.0f/%.0f; tiles (%u) %.0f/%.0f, %.0f/%.0f, %.0f/%.0f",
		 a.mix.ttft_ms, a.mix.tbt_ms, a.apart.ttft_ms, a.apart.tbt_ms,
		 a.both.ttft_ms, a.both.tbt_ms, t.holds, t.mix.ttft_ms,
		 t.mix.tbt_ms, t.apart.ttft_ms, t.apart.tbt_ms, t.both.ttft_ms,
		 t.both.tbt_ms);
	return 0;
}

/* ---- is it so? ---- */

/* P50 of latency a token in ms, real and simulated, and P99 between two. */
static int compare(const struct bench_opts *o, struct real *x,
		   const struct law *law, enum engine_prefill prefill,
		   double rate, double ms[4], char *err)
{
	struct fleet_result real = { 0 }, sim = { 0 };
	struct sim_setup s;
	int rc = sarathi(o, law, prefill, strict_of(law), &s, err);

	s.work.nr = o->tiny ? 2 : SARATHI_REAL;
	s.work.rate = rate;
	if (!rc)
		rc = real_and_simulated(x, &s, &real, &sim, err);
	ms[0] = samples_percentile(&real.norm, 50) * 1e3;
	ms[1] = samples_percentile(&sim.norm, 50) * 1e3;
	ms[2] = samples_percentile(&real.itl, 99) * 1e3;
	ms[3] = samples_percentile(&sim.itl, 99) * 1e3;
	fleet_result_fini(&real);
	fleet_result_fini(&sim);
	setup_fini(&s);
	return rc;
}

static int run_sim(const struct bench_opts *o, struct figure_result *f)
{
	double rate = 0, chunked[4], whole[4];
	char err[KV_ERRLEN] = "";
	struct law law;
	struct real x;
	int rc = real_law_here(o, &law, err);

	if (!rc)
		rc = capacity(o, &law, ENGINE_PREFILL_CHUNKED, strict_of(&law),
			      &rate, err);
	if (rc)
		return figure_failed(f, rc, err);
	rate = SARATHI_SHARE * max(rate, 0.01);
	rc = real_open(&x, o->model, o->threads, err);
	if (!rc)
		rc = compare(o, &x, &law, ENGINE_PREFILL_CHUNKED, rate, chunked,
			     err);
	if (!rc)
		rc = compare(o, &x, &law, ENGINE_PREFILL_WHOLE, rate, whole,
			     err);
	real_close(&x);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = 100 * fmax(fabs(chunked[1] / chunked[0] - 1),
				 fabs(whole[1] / whole[0] - 1));
	snprintf(f->note, sizeof(f->note),
		 "ms a token at %.3f/s: chunks %.0f, simulated %.0f; mixing "
		 "%.0f, %.0f; P99 TBT: %.0f, %.0f; %.0f, %.0f",
		 rate, chunked[0], chunked[1], whole[0], whole[1], chunked[2],
		 chunked[3], whole[2], whole[3]);
	return 0;
}

/* ---- what chunks cost ---- */

/* Seconds of a prompt in steps of so many tokens; the least of some. */
static int prefill_s(const struct bench_opts *o, struct real *x, u32 chunk,
		     u32 prompt, double *seconds, char *err)
{
	char text[128];
	struct fleet_result r;
	struct sim_setup s;
	u32 i;
	int rc;

	setup_init(&s);
	snprintf(text, sizeof(text),
		 "workload=random requests=1 rate=inf input-len=%u "
		 "output-len=1 step-tokens=%u max-seqs=4 prefix-cache=no",
		 prompt, chunk);
	rc = setup_choose(&s, text, err);
	*seconds = 1e9;
	for (i = 0; i < CHUNK_ROUNDS && !rc; i++) {
		s.work.seed = o->seed + i;
		rc = real_run(x, &s, 1, &r, err);
		if (!rc)
			*seconds = min(*seconds, samples_max(&r.ttft));
		fleet_result_fini(&r);
	}
	setup_fini(&s);
	return rc;
}

static int run_chunk(const struct bench_opts *o, struct figure_result *f)
{
	static const u32 chunks[] = { 1024, 256, 128, 64 };
	u32 i, prompt = o->tiny ? 64 : CHUNK_PROMPT;
	double s[ARRAY_SIZE(chunks)];
	char err[KV_ERRLEN] = "";
	struct real x;
	int rc = real_open(&x, o->model, o->threads, err);

	for (i = 0; i < ARRAY_SIZE(chunks) && !rc; i++)
		rc = prefill_s(o, &x, chunks[i], prompt, &s[i], err);
	real_close(&x);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = 100 * (1 - s[0] / s[1]);
	snprintf(f->note, sizeof(f->note),
		 "%u tokens in one step: %.0f t/s; in steps of 256 %.0f, of "
		 "128 %.0f, of 64 %.0f",
		 prompt, prompt / s[0], prompt / s[1], prompt / s[2],
		 prompt / s[3]);
	return 0;
}

FIGURE(sarathi_capacity, .name = "sarathi.capacity",
       .what = "requests/s with P99 between tokens <= 60 ms, chunked over "
	       "whole prompts",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 2.5, .run = run_capacity);
FIGURE(sarathi_strict, .name = "sarathi.strict",
       .what = "the same with P99 <= 5 decode steps of 32 sequences",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 2.5, .run = run_strict);
FIGURE(sarathi_ablation, .name = "sarathi.ablation",
       .what = "of the four relations of mixing, chunks and both that the "
	       "paper finds, those that hold",
       .unit = "", .cmp = CMP_EQUAL, .target = 4, .run = run_ablation);
FIGURE(sarathi_chunk, .name = "sarathi.chunk256",
       .what = "prefill throughput that steps of 256 cost, against one step",
       .unit = "%", .cmp = CMP_AT_MOST, .target = 15, .run = run_chunk);
FIGURE(sarathi_sim, .name = "sarathi.sim",
       .what = "simulated median latency a token, off the real model's",
       .unit = "%", .cmp = CMP_AT_MOST, .target = 15, .run = run_sim);
