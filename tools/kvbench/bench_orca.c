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
 *			model, of both in turns. Outputs are uniform in
 *			[1, 128], heavy-tailed (lognormal, sigma 1.5, median 20,
 *			cut at 512), or all equal
 *	rate		Poisson arrivals, heavy-tailed: the largest rate at
 *			which the median of latency per output token stays below
 *			RATE_STEPS times a step of one sequence, which is what a
 *			user alone would see
 *	sim		the same at half of that rate, of iterations and of
 *			batches, with the real model: how far the simulation is
 *			off
 *
 * The searches run in the simulation (tools/kvbench/sim/), by the law of the
 * real model's steps, and so does the rate.
 */
#include "tools/kvbench/sim/capacity.h"
#include "tools/kvbench/sim/real.h"

#include <math.h>

#define ORCA_SEQS     32u
#define ORCA_SIM      768u /* requests of a simulated run */
#define ORCA_RATE_SIM 400u
#define ORCA_REAL     96u /* at least, of a real one: more if there is time */
#define ORCA_SECONDS  240.0
#define ORCA_TIMED    24u
#define RATE_STEPS    3.0

/* Prompts are short: what is compared is how tokens are generated. */
#define ORCA_KEYS                                                  \
	"workload=random rate=inf input-len=8:32 step-tokens=512 " \
	"prefix-cache=no context=4096 pool=4G"

enum lengths { UNIFORM, HEAVY, EQUAL };

static const char *const outputs[] = {
	[UNIFORM] = "output-len=1:128",
	[HEAVY] = "output-len=lognormal:61.6:1.5:512",
	[EQUAL] = "output-len=64",
};

/* Batches of @batch; 0: iterations. */
static int orca(const struct bench_opts *o, enum lengths kind, u32 nr,
		u32 batch, struct sim_setup *s, char *err)
{
	char text[256];
	int rc;

	setup_init(s);
	snprintf(text, sizeof(text),
		 ORCA_KEYS " %s requests=%u batching=%s max-seqs=%u",
		 o->tiny ? "output-len=6" : outputs[kind], o->tiny ? 4 : nr,
		 batch ? "request" : "iteration", batch ? batch : ORCA_SEQS);
	rc = setup_choose(s, text, err);
	s->work.seed = o->seed;
	return rc;
}

static double tps_of(const struct fleet_result *r)
{
	return r->duration > 0 ? (double)r->output / r->duration : 0;
}

/* Tokens/s by the law, and how long it takes (or NULL). */
static int simulated(const struct bench_opts *o, const struct law *law,
		     enum lengths kind, u32 nr, u32 batch, double *tps,
		     double *seconds, char *err)
{
	struct fleet_result r = { 0 };
	struct sim_setup s;
	int rc = orca(o, kind, nr, batch, &s, err);

	s.fleet.law = *law;
	if (!rc)
		rc = setup_run(&s, &r, err);
	*tps = tps_of(&r);
	if (seconds)
		*seconds = r.duration;
	fleet_result_fini(&r);
	setup_fini(&s);
	return rc;
}

/* How much faster iterations are by a law, and the batch they are held to. */
static int by_law(const struct bench_opts *o, const struct law *law,
		  enum lengths kind, double *ratio, u32 *best, char *err)
{
	double ours, now, most = 0;
	u32 batch;
	int rc = simulated(o, law, kind, ORCA_SIM, 0, &ours, NULL, err);

	for (batch = 1; batch <= ORCA_SEQS && !rc; batch *= 2) {
		rc = simulated(o, law, kind, ORCA_SIM, batch, &now, NULL, err);
		if (now > most) {
			most = now;
			*best = batch;
		}
	}
	*ratio = rc ? 0 : ours / most;
	return rc;
}

/*
 * How many requests a real run takes: the longest of few would be most of its
 * time. @tps: of that many, by the law.
 */
static int real_requests(const struct bench_opts *o, const struct law *law,
			 enum lengths kind, u32 batch, u32 *nr, double tps[2],
			 char *err)
{
	double seconds[2];
	int rc;

	for (*nr = ORCA_SIM;; *nr /= 2) {
		rc = simulated(o, law, kind, *nr, 0, &tps[0], &seconds[0], err);
		if (!rc)
			rc = simulated(o, law, kind, *nr, batch, &tps[1],
				       &seconds[1], err);
		if (rc || *nr <= ORCA_REAL ||
		    seconds[0] + seconds[1] <= ORCA_SECONDS)
			return rc;
	}
}

/* Tokens/s of the real model, of iterations and of batches of @batch. */
static int real_tps(const struct bench_opts *o, enum lengths kind, u32 nr,
		    u32 batch, double tps[2], char *err)
{
	static struct sim_setup s[2]; /* large */
	struct fleet_result r[2] = { 0 };
	struct real x;
	int rc = real_open(&x, o->model, o->threads, err);
	u32 i;

	for (i = 0; i < 2; i++) {
		int bad = orca(o, kind, nr, i ? batch : 0, &s[i], err);

		rc = rc ? rc : bad;
	}
	if (!rc)
		rc = real_run(&x, s, 2, r, err);
	for (i = 0; i < 2; i++) {
		tps[i] = tps_of(&r[i]);
		fleet_result_fini(&r[i]);
		setup_fini(&s[i]);
	}
	real_close(&x);
	return rc;
}

static int saturated(const struct bench_opts *o, enum lengths kind,
		     struct figure_result *f)
{
	struct law law, tiles = LAW_TILES;
	double here = 0, there = 0, same[2] = { 0 }, real[2] = { 0 };
	char err[KV_ERRLEN] = "";
	u32 batch = 1, at = 1, nr = 0;
	int rc = real_law_here(o, &law, err);

	if (!rc)
		rc = by_law(o, &tiles, kind, &there, &at, err);
	if (!rc)
		rc = by_law(o, &law, kind, &here, &batch, err);
	if (!rc)
		rc = real_requests(o, &law, kind, batch, &nr, same, err);
	if (!rc)
		rc = real_tps(o, kind, nr, batch, real, err);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = real[0] / real[1];
	snprintf(f->note, sizeof(f->note),
		 "%.0f t/s against %.0f, %u requests, batches of %u; "
		 "simulated %.0f against %.0f; %u of them: %.2f x; with tiles "
		 "%.2f x, of %u",
		 real[0], real[1], nr, batch, same[0], same[1], ORCA_SIM, here,
		 there, at);
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

static bool keeps(struct fleet_result *r, double limit)
{
	return samples_percentile(&r->norm, 50) <= limit;
}

struct rates {
	double ours, best; /* requests/s */
	u32 batch;
};

static int rate_of(const struct bench_opts *o, const struct law *law, u32 batch,
		   double *rate, char *err)
{
	const struct law_load alone = { .tokens = 1, .rows = 1 };
	struct sim_setup s;
	int rc = orca(o, HEAVY, ORCA_RATE_SIM, batch, &s, err);

	s.fleet.law = *law;
	if (!rc)
		rc = sim_capacity(&s, keeps,
				  RATE_STEPS * law_seconds(law, &alone), rate,
				  err);
	setup_fini(&s);
	return rc;
}

static int rates_by(const struct bench_opts *o, const struct law *law,
		    struct rates *r, char *err)
{
	double now = 0;
	u32 batch;
	int rc = rate_of(o, law, 0, &r->ours, err);

	for (batch = 1; batch <= ORCA_SEQS && !rc; batch *= 2) {
		rc = rate_of(o, law, batch, &now, err);
		if (!rc && now > r->best) {
			r->best = now;
			r->batch = batch;
		}
	}
	return rc;
}

static int run_rate(const struct bench_opts *o, struct figure_result *f)
{
	struct law law, tiles = LAW_TILES;
	struct rates here = { 0 }, there = { 0 };
	char err[KV_ERRLEN] = "";
	int rc = real_law_here(o, &law, err);

	if (!rc)
		rc = rates_by(o, &law, &here, err);
	if (!rc)
		rc = rates_by(o, &tiles, &there, err);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = here.best > 0 ? here.ours / here.best : 0;
	snprintf(f->note, sizeof(f->note),
		 "by the law of steps: %.2f/s against %.2f, batches of %u; "
		 "with tiles %.1f x: %.2f against %.2f, of %u",
		 here.ours, here.best, here.batch,
		 there.best > 0 ? there.ours / there.best : 0, there.ours,
		 there.best, there.batch);
	return 0;
}

/* ---- is it so? ---- */

#define SIM_BATCH 4u

/* Median latency a token in ms, real and simulated. */
static int compare(const struct bench_opts *o, struct real *x, double rate,
		   u32 batch, double ms[2], char *err)
{
	struct fleet_result real = { 0 }, sim = { 0 };
	struct sim_setup s;
	int rc = orca(o, HEAVY, ORCA_TIMED, batch, &s, err);

	s.work.rate = rate;
	if (!rc)
		rc = real_and_simulated(x, &s, &real, &sim, err);
	ms[0] = samples_percentile(&real.norm, 50) * 1e3;
	ms[1] = samples_percentile(&sim.norm, 50) * 1e3;
	fleet_result_fini(&real);
	fleet_result_fini(&sim);
	setup_fini(&s);
	return rc;
}

static int run_sim(const struct bench_opts *o, struct figure_result *f)
{
	double rate = 0, ours[2], batches[2];
	char err[KV_ERRLEN] = "";
	struct law law;
	struct real x;
	int rc = real_law_here(o, &law, err);

	if (!rc)
		rc = rate_of(o, &law, 0, &rate, err);
	if (rc)
		return figure_failed(f, rc, err);
	rate /= 2;
	rc = real_open(&x, o->model, o->threads, err);
	if (!rc)
		rc = compare(o, &x, rate, 0, ours, err);
	if (!rc)
		rc = compare(o, &x, rate, SIM_BATCH, batches, err);
	real_close(&x);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = 100 * fmax(fabs(ours[1] / ours[0] - 1),
				 fabs(batches[1] / batches[0] - 1));
	snprintf(f->note, sizeof(f->note),
		 "ms a token at %.2f requests/s: iterations %.0f, simulated "
		 "%.0f; batches of %u %.0f, simulated %.0f",
		 rate, ours[0], ours[1], SIM_BATCH, batches[0], batches[1]);
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
FIGURE(orca_sim, .name = "orca.sim",
       .what = "simulated median latency a token, off the real model's",
       .unit = "%", .cmp = CMP_AT_MOST, .target = 15, .run = run_sim);
