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
 *	chunk256	one prompt of the real model in steps of 256, over one
 *			step; 128 and 64 beside it
 *
 * Capacity and ablation run on the measured law of steps: see sched_run.h.
 */
#include "tools/kvbench/sched_run.h"

#include <errno.h>
#include <math.h>

#define SARATHI_SEQS   64u
#define SARATHI_STEP   4096u /* tokens of a step at most: the longest prompt */
#define SARATHI_NR     400u
#define SARATHI_QUEUE  33.0 /* targets: 2 s at 60 ms */
#define SARATHI_STRICT 5.0 /* steps of 32 sequences */
#define CHUNK_PROMPT   1024u
#define CHUNK_ROUNDS   2u

static u32 lognormal(struct bench_rng *rng, double mean, double sigma, u32 most)
{
	double v =
		exp(log(mean) - sigma * sigma / 2 + sigma * bench_normal(rng));

	return (u32)fmin(fmax(v, 1), most);
}

static u32 draw(const struct bench_opts *o, struct sched_req *req, double rate)
{
	u32 i, nr = o->tiny ? 4 : SARATHI_NR, part = o->tiny ? 50 : 1;
	struct bench_rng rng = { o->seed };

	for (i = 0; i < nr; i++) {
		req[i].in = lognormal(&rng, 1000, 0.6, 3500) / part + 1;
		req[i].out = lognormal(&rng, 150, 0.6, 500) / part + 1;
	}
	sched_arrivals(req, nr, rate, o->seed + 1);
	return nr;
}

static struct engine_opts opts_of(enum engine_prefill prefill, double target)
{
	struct engine_opts eo = { .step_tokens = SARATHI_STEP,
				  .max_seqs = SARATHI_SEQS,
				  .prefill = prefill };

	if (prefill != ENGINE_PREFILL_WHOLE)
		eo.tbt_slo_ms = (u32)(target * 1e3);
	return eo;
}

static int serve(const struct bench_opts *o, const struct sched_law *law,
		 enum engine_prefill prefill, double target, double rate,
		 struct sched_result *r)
{
	static struct sched_req req[SARATHI_NR];
	struct engine_opts eo = opts_of(prefill, target);
	u32 nr = draw(o, req, rate);
	char note[FIGURE_NOTE];

	return sched_simulated(law, &eo, req, nr, 120, r, note);
}

struct capacity_case {
	const struct bench_opts *o;
	const struct sched_law *law;
	enum engine_prefill prefill;
	double target;
};

static bool keeps(double rate, const void *ctx)
{
	const struct capacity_case *c = ctx;
	struct sched_result r;

	return !serve(c->o, c->law, c->prefill, c->target, rate, &r) &&
	       r.ended && r.tbt_p99 <= c->target &&
	       r.queue_p50 <= SARATHI_QUEUE * c->target;
}

static double capacity(const struct bench_opts *o, const struct sched_law *law,
		       enum engine_prefill prefill, double target)
{
	const struct capacity_case c = { o, law, prefill, target };

	return sched_most_rate(keeps, &c);
}

/* The paper's strict target. */
static double strict_of(const struct sched_law *law)
{
	return SARATHI_STRICT *
	       (law->step_s + 32 * (law->token_s + law->row_s + law->work_s));
}

struct capacities {
	double chunked, whole; /* requests/s */
};

static struct capacities by_law(const struct bench_opts *o,
				const struct sched_law *law, double target)
{
	if (target <= 0)
		target = strict_of(law);
	return (struct capacities){
		capacity(o, law, ENGINE_PREFILL_CHUNKED, target),
		capacity(o, law, ENGINE_PREFILL_WHOLE, target),
	};
}

/* @target 0: the strict one of each law. */
static int run_capacity_at(const struct bench_opts *o, double target,
			   struct figure_result *f)
{
	struct sched_law law, tiles = SCHED_TILES;
	int rc = sched_law_of(o, &law, f->note);
	struct capacities here, there;

	if (rc)
		return rc;
	here = by_law(o, &law, target);
	there = by_law(o, &tiles, target);
	f->measured = here.whole > 0 ? here.chunked / here.whole : 0;
	snprintf(f->note, sizeof(f->note),
		 "by the law of steps, %.0f ms: %.3f/s against %.3f; with "
		 "tiles, %.0f ms: %.1f x, %.2f/s against %.2f",
		 (target > 0 ? target : strict_of(&law)) * 1e3, here.chunked,
		 here.whole, (target > 0 ? target : strict_of(&tiles)) * 1e3,
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

struct ablation {
	struct sched_result mix, apart, both;
	double rate;
	u32 holds; /* of the paper's four relations */
};

/* At seven tenths of what both together bear. */
static int ablate(const struct bench_opts *o, const struct sched_law *law,
		  struct ablation *a)
{
	double target = strict_of(law);
	int rc;

	a->rate = 0.7 * capacity(o, law, ENGINE_PREFILL_CHUNKED, target);
	rc = serve(o, law, ENGINE_PREFILL_WHOLE, target, a->rate, &a->mix);
	if (!rc)
		rc = serve(o, law, ENGINE_PREFILL_APART, target, a->rate,
			   &a->apart);
	if (!rc)
		rc = serve(o, law, ENGINE_PREFILL_CHUNKED, target, a->rate,
			   &a->both);
	a->holds = (a->mix.ttft_p50 <= a->both.ttft_p50) +
		   (a->both.ttft_p50 <= a->apart.ttft_p50) +
		   (a->both.tbt_p99 <= a->apart.tbt_p99) +
		   (a->apart.tbt_p99 <= a->mix.tbt_p99);
	return rc;
}

static int run_ablation(const struct bench_opts *o, struct figure_result *f)
{
	struct sched_law law, tiles = SCHED_TILES;
	struct ablation a, t;
	int rc = sched_law_of(o, &law, f->note);

	if (!rc)
		rc = ablate(o, &law, &a);
	if (!rc)
		rc = ablate(o, &tiles, &t);
	if (rc)
		return rc;
	f->measured = a.holds;
	snprintf(f->note, sizeof(f->note),
		 "P50 TTFT/P99 TBT ms: mixing %.0f/%.0f, chunks %.0f/%.0f, "
		 "both %.0f/%.0f; tiles (%u) %.0f/%.0f, %.0f/%.0f, %.0f/%.0f",
		 a.mix.ttft_p50 * 1e3, a.mix.tbt_p99 * 1e3,
		 a.apart.ttft_p50 * 1e3, a.apart.tbt_p99 * 1e3,
		 a.both.ttft_p50 * 1e3, a.both.tbt_p99 * 1e3, t.holds,
		 t.mix.ttft_p50 * 1e3, t.mix.tbt_p99 * 1e3,
		 t.apart.ttft_p50 * 1e3, t.apart.tbt_p99 * 1e3,
		 t.both.ttft_p50 * 1e3, t.both.tbt_p99 * 1e3);
	return 0;
}

/* ---- what chunks cost ---- */

/* Seconds of a prompt in steps of so many tokens; the least of some. */
static int prefill_s(struct session *s, u32 chunk, u32 prompt, u64 seed,
		     double *seconds, char *note)
{
	const struct engine_opts eo = { .step_tokens = chunk, .max_seqs = 4 };
	const struct sched_req req = { .in = prompt, .out = 1 };
	struct sched_result r;
	int rc = sched_engine(s, &eo, note);
	u32 i;

	*seconds = 1e9;
	for (i = 0; i < CHUNK_ROUNDS && !rc; i++) {
		rc = sched_real(s, &req, 1, seed + i, &r);
		if (!rc)
			*seconds = min(*seconds, r.ttft_p50);
	}
	return rc;
}

static int run_chunk(const struct bench_opts *o, struct figure_result *f)
{
	static const u32 chunks[] = { 1024, 256, 128, 64 };
	u32 i, prompt = o->tiny ? 64 : CHUNK_PROMPT;
	double s[ARRAY_SIZE(chunks)];
	struct session ses;
	int rc = sched_session(o, &ses, f->note);

	for (i = 0; i < ARRAY_SIZE(chunks) && !rc; i++)
		rc = prefill_s(&ses, chunks[i], prompt, o->seed, &s[i],
			       f->note);
	session_close(&ses);
	if (rc)
		return rc;
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
