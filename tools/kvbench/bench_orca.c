/* SPDX-License-Identifier: MIT */
/*
 * bench_orca.c - iteration-level scheduling against batches of requests
 *
 * The same engine, kernels and requests; what differs is when requests join and
 * leave (enum engine_batching). A batch of requests is given the size that is
 * best for it, searched among 1 to 32; iterations have 32 sequences at most. A
 * member that has ended costs its batch nothing here, where engines before Orca
 * computed padding for it: the comparison is in their favour.
 *
 *	saturated	all requests wait from the start; tokens/s of the real
 *			model. Outputs are uniform in [1, 128], heavy-tailed
 *			(lognormal, sigma 1.5, cut at 512), or all equal
 *	rate		Poisson arrivals, heavy-tailed: the largest rate at
 *			which the median of latency per output token stays below
 *			RATE_STEPS times a step of one sequence, which is what a
 *			user alone would see
 *
 * What a step takes is measured with the real model; the searches run on that
 * law, and so does the rate. See sched_run.h.
 */
#include "tools/kvbench/sched_run.h"

#include <errno.h>
#include <math.h>

#define ORCA_SEQS     32u
#define ORCA_SIM      768u /* requests of a simulated run */
#define ORCA_RATE_SIM 400u
#define ORCA_REAL     48u
#define ORCA_TOKENS   512u /* of a step at most */
#define RATE_STEPS    3.0

enum lengths { UNIFORM, HEAVY, EQUAL, NR_LENGTHS };

static u32 out_len(enum lengths kind, struct bench_rng *rng)
{
	if (kind == UNIFORM)
		return 1 + (u32)(bench_rand(rng) % 128);
	if (kind == EQUAL)
		return 64;
	return (u32)fmin(fmax(exp(log(20) + 1.5 * bench_normal(rng)), 1), 512);
}

/* Prompts are short: what is compared is how tokens are generated. */
static u32 draw(struct sched_req *req, u32 nr, enum lengths kind, bool tiny,
		u64 seed)
{
	struct bench_rng rng = { seed };
	u32 i;

	nr = tiny ? 4 : nr;
	for (i = 0; i < nr; i++) {
		req[i].at = 0;
		req[i].in = 8 + (u32)(bench_rand(&rng) % 25);
		req[i].out = out_len(kind, &rng);
		if (tiny)
			req[i].out = min(req[i].out, 6u);
	}
	return nr;
}

static struct engine_opts opts_of(u32 batch)
{
	return (struct engine_opts){
		.step_tokens = ORCA_TOKENS,
		.max_seqs = batch ? batch : ORCA_SEQS,
		.batching = batch ? ENGINE_BATCH_REQUEST
				  : ENGINE_BATCH_ITERATION,
	};
}

/* Tokens/s by the law, of batches of @batch; 0: of iterations. */
static int simulated(const struct bench_opts *o, const struct sched_law *law,
		     enum lengths kind, u32 batch, double *tps, char *note)
{
	static struct sched_req req[ORCA_SIM];
	struct engine_opts eo = opts_of(batch);
	u32 nr = draw(req, ORCA_SIM, kind, o->tiny, o->seed);
	struct sched_result r;
	int rc = sched_simulated(law, &eo, req, nr, 0, &r, note);

	*tps = rc ? 0 : r.tps;
	return rc;
}

static int best_batch(const struct bench_opts *o, const struct sched_law *law,
		      enum lengths kind, u32 *best, double *tps, char *note)
{
	double now;
	u32 batch;
	int rc = 0;

	*tps = 0;
	for (batch = 1; batch <= ORCA_SEQS && !rc; batch *= 2) {
		rc = simulated(o, law, kind, batch, &now, note);
		if (!rc && now > *tps) {
			*tps = now;
			*best = batch;
		}
	}
	return rc;
}

/* Tokens/s of the real model, of iterations and of batches of @batch. */
static int real_tps(const struct bench_opts *o, enum lengths kind, u32 batch,
		    double tps[2], char *note)
{
	const u32 batches[] = { 0, batch };
	struct sched_req req[ORCA_REAL];
	struct sched_result r = { 0 };
	struct session s;
	int rc = sched_session(o, &s, note);
	u32 i, nr = draw(req, ORCA_REAL, kind, o->tiny, o->seed);

	for (i = 0; i < 2 && !rc; i++) {
		const struct engine_opts eo = opts_of(batches[i]);

		rc = sched_engine(&s, &eo, note);
		if (!rc)
			rc = sched_real(&s, req, nr, o->seed, &r);
		tps[i] = r.tps;
	}
	session_close(&s);
	return rc;
}

/* How much faster iterations are by a law, and the batch they are held to. */
static int by_law(const struct bench_opts *o, const struct sched_law *law,
		  enum lengths kind, double *ratio, u32 *batch, char *note)
{
	double ours, best;
	int rc = simulated(o, law, kind, 0, &ours, note);

	if (!rc)
		rc = best_batch(o, law, kind, batch, &best, note);
	*ratio = rc ? 0 : ours / best;
	return rc;
}

static int saturated(const struct bench_opts *o, enum lengths kind,
		     struct figure_result *f)
{
	struct sched_law law, tiles = SCHED_TILES;
	double here = 0, there = 0, real[2] = { 0 };
	u32 batch = 1, at = 1;
	int rc = sched_law_of(o, &law, f->note);

	if (!rc)
		rc = by_law(o, &tiles, kind, &there, &at, f->note);
	if (!rc)
		rc = by_law(o, &law, kind, &here, &batch, f->note);
	if (!rc)
		rc = real_tps(o, kind, batch, real, f->note);
	if (rc)
		return rc;
	f->measured = real[0] / real[1];
	snprintf(f->note, sizeof(f->note),
		 "%.0f t/s against %.0f, %u requests, batches of %u; by the "
		 "law of steps %.2f x; with tiles %.2f x, of %u",
		 real[0], real[1], ORCA_REAL, batch, here, there, at);
	return 0;
}

static int run_uniform(const struct bench_opts *o, struct figure_result *f)
{
	return saturated(o, UNIFORM, f);
}

static int run_heavy(const struct bench_opts *o, struct figure_result *f)
{
	return saturated(o, HEAVY, f);
}

/* 0.95 to 1.15 are wanted: how far it is from the middle of that. */
static int run_equal(const struct bench_opts *o, struct figure_result *f)
{
	int rc = saturated(o, EQUAL, f);

	f->measured = fabs(f->measured - 1.05);
	return rc;
}

/* ---- rate ---- */

struct rate_case {
	const struct sched_law *law;
	u32 batch;
	double limit;
	const struct bench_opts *o;
};

/* Is the median latency per token below the limit at this rate? */
static bool keeps(double rate, const void *ctx)
{
	static struct sched_req req[ORCA_RATE_SIM];
	const struct rate_case *c = ctx;
	struct engine_opts eo = opts_of(c->batch);
	u32 nr = draw(req, ORCA_RATE_SIM, HEAVY, c->o->tiny, c->o->seed);
	struct sched_result r;
	char note[FIGURE_NOTE];

	sched_arrivals(req, nr, rate, c->o->seed + 1);
	return !sched_simulated(c->law, &eo, req, nr, 600, &r, note) &&
	       r.ended && r.norm_p50 <= c->limit;
}

struct rates {
	double ours, best; /* requests/s */
	u32 batch;
};

static struct rates rates_by(const struct bench_opts *o,
			     const struct sched_law *law)
{
	struct rate_case c = { .law = law, .o = o };
	struct rates r = { 0 };
	double now;

	c.limit = RATE_STEPS * (law->step_s + law->token_s + law->row_s);
	r.ours = sched_most_rate(keeps, &c);
	for (c.batch = 1; c.batch <= ORCA_SEQS; c.batch *= 2) {
		now = sched_most_rate(keeps, &c);
		if (now > r.best) {
			r.best = now;
			r.batch = c.batch;
		}
	}
	return r;
}

static int run_rate(const struct bench_opts *o, struct figure_result *f)
{
	struct sched_law law, tiles = SCHED_TILES;
	int rc = sched_law_of(o, &law, f->note);
	struct rates here, there;

	if (rc)
		return rc;
	here = rates_by(o, &law);
	there = rates_by(o, &tiles);
	f->measured = here.best > 0 ? here.ours / here.best : 0;
	snprintf(f->note, sizeof(f->note),
		 "by the law of steps: %.2f/s against %.2f, batches of %u; "
		 "with tiles %.1f x: %.2f against %.2f, of %u",
		 here.ours, here.best, here.batch,
		 there.best > 0 ? there.ours / there.best : 0, there.ours,
		 there.best, there.batch);
	return 0;
}

FIGURE(orca_uniform, .name = "orca.saturated",
       .what = "tokens/s of iterations over the best batches of requests, "
	       "outputs uniform in [1, 128]",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 1.7, .run = run_uniform);
FIGURE(orca_heavy, .name = "orca.heavy",
       .what = "the same with heavy-tailed outputs", .unit = "x",
       .cmp = CMP_AT_LEAST, .target = 3, .run = run_heavy);
FIGURE(orca_equal, .name = "orca.equal",
       .what = "the same with equal outputs, off 1.05", .unit = "x",
       .cmp = CMP_AT_MOST, .target = 0.1, .run = run_equal);
FIGURE(orca_rate, .name = "orca.rate",
       .what = "rate at equal median latency a token, heavy-tailed, over the "
	       "best batches",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 6, .run = run_rate);
