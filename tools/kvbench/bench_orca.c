/* SPDX-License-Identifier: MIT */
/*
 * bench_orca.c - iteration-level scheduling against batches of requests
 *
 * The same engine, kernels and requests; what differs is when requests join and
 * leave (enum engine_batching). A batch of requests is given the size that is
 * best for it, searched among 1 to 32; iterations have 32 sequences at most.
 * There are two kinds of batches:
 *
 *	padded		who has ended keeps its slot, and is computed until the
 *			last one has ended: the engines that Orca was held to
 *			(its figure 3), and what is meant by a static batch
 *	draining	who has ended costs its batch nothing, as this engine
 *			has no padding anywhere
 *
 *	saturated	all requests wait from the start; tokens/s of the real
 *			model over those of padded batches, of all three in
 *			turns; the note has draining ones too. Outputs are
 *			uniform in [1, 128], heavy-tailed (lognormal, sigma 1.5,
 *			median 20, cut at 512), or all equal
 *	rate		Poisson arrivals, heavy-tailed: the largest rate at
 *			which the median of latency per output token stays below
 *			RATE_STEPS times a step of one sequence, which is what a
 *			user alone would see; batches drain
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

enum way { ITERATIONS, PADDED, DRAINING, WAYS };

/* Requests of a run, and how they are computed. */
struct run {
	enum lengths kind;
	u32 nr;
	enum way way;
	u32 batch; /* not of ITERATIONS */
};

static int orca(const struct bench_opts *o, const struct run *run,
		struct sim_setup *s, char *err)
{
	char text[256];
	int rc;

	setup_init(s);
	snprintf(text, sizeof(text),
		 ORCA_KEYS " %s requests=%u batching=%s max-seqs=%u pad=%u",
		 o->tiny ? "output-len=6" : outputs[run->kind],
		 o->tiny ? 4 : run->nr,
		 run->way == ITERATIONS ? "iteration" : "request",
		 run->way == ITERATIONS ? ORCA_SEQS : run->batch,
		 run->way == PADDED ? run->batch : 0);
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
		     const struct run *run, double *tps, double *seconds,
		     char *err)
{
	struct fleet_result r = { 0 };
	struct sim_setup s;
	int rc = orca(o, run, &s, err);

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

/* By a law: tokens/s of each way, and the batch that is best for it. */
struct bests {
	double tps[WAYS];
	u32 batch[WAYS];
};

static double over(const double tps[WAYS], enum way way)
{
	return tps[way] > 0 ? tps[ITERATIONS] / tps[way] : 0;
}

static int by_law(const struct bench_opts *o, const struct law *law,
		  enum lengths kind, struct bests *b, char *err)
{
	struct run run = { kind, ORCA_SIM, ITERATIONS, 0 };
	double now;
	int rc = simulated(o, law, &run, &b->tps[ITERATIONS], NULL, err);

	for (run.way = PADDED; run.way < WAYS; run.way++)
		for (run.batch = 1; run.batch <= ORCA_SEQS && !rc;
		     run.batch *= 2) {
			rc = simulated(o, law, &run, &now, NULL, err);
			if (rc || now <= b->tps[run.way])
				continue;
			b->tps[run.way] = now;
			b->batch[run.way] = run.batch;
		}
	return rc;
}

/*
 * How many requests a real run takes: the longest of few would be most of its
 * time.
 */
static int real_requests(const struct bench_opts *o, const struct law *law,
			 enum lengths kind, const u32 batch[WAYS], u32 *nr,
			 char *err)
{
	double tps, seconds, all;
	u32 way;
	int rc = 0;

	for (*nr = ORCA_SIM;; *nr /= 2) {
		for (way = 0, all = 0; way < WAYS && !rc; way++) {
			struct run run = { kind, *nr, way, batch[way] };

			rc = simulated(o, law, &run, &tps, &seconds, err);
			all += seconds;
		}
		if (rc || *nr <= ORCA_REAL || all <= ORCA_SECONDS)
			return rc;
	}
}

/* Tokens/s of the real model. */
static int real_tps(const struct bench_opts *o, enum lengths kind, u32 nr,
		    const u32 batch[WAYS], double tps[WAYS], char *err)
{
	static struct sim_setup s[WAYS]; /* both are large */
	static struct fleet_result r[WAYS];
	struct real x;
	int rc = real_open(&x, o->model, o->threads, err);
	u32 way;

	for (way = 0; way < WAYS; way++) {
		struct run run = { kind, nr, way, batch[way] };
		int bad = orca(o, &run, &s[way], err);

		rc = rc ? rc : bad;
	}
	if (!rc)
		rc = real_run(&x, s, WAYS, r, err);
	for (way = 0; way < WAYS; way++) {
		tps[way] = tps_of(&r[way]);
		fleet_result_fini(&r[way]);
		setup_fini(&s[way]);
	}
	real_close(&x);
	return rc;
}

static int saturated(const struct bench_opts *o, enum lengths kind,
		     struct figure_result *f)
{
	struct law law, tiles = LAW_TILES;
	struct bests here = { 0 }, there = { 0 };
	double real[WAYS] = { 0 };
	char err[KV_ERRLEN] = "";
	u32 nr = 0;
	int rc = real_law_here(o, &law, err);

	if (!rc)
		rc = by_law(o, &tiles, kind, &there, err);
	if (!rc)
		rc = by_law(o, &law, kind, &here, err);
	if (!rc)
		rc = real_requests(o, &law, kind, here.batch, &nr, err);
	if (!rc)
		rc = real_tps(o, kind, nr, here.batch, real, err);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = over(real, PADDED);
	snprintf(
		f->note, sizeof(f->note),
		"%.0f t/s, %.0f padded by %u, %.0f drained by %u: %.2f x; %u "
		"requests; %u by the law %.2f, %.2f x; with tiles %.2f, %.2f x",
		real[ITERATIONS], real[PADDED], here.batch[PADDED],
		real[DRAINING], here.batch[DRAINING], over(real, DRAINING), nr,
		ORCA_SIM, over(here.tps, PADDED), over(here.tps, DRAINING),
		over(there.tps, PADDED), over(there.tps, DRAINING));
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

/* Arrivals make the batches, so nobody knows whose padding there would be. */
static enum way way_of(u32 batch)
{
	return batch ? DRAINING : ITERATIONS;
}

static int rate_of(const struct bench_opts *o, const struct law *law, u32 batch,
		   double *rate, char *err)
{
	const struct law_load alone = { .tokens = 1, .rows = 1 };
	const struct run run = { HEAVY, ORCA_RATE_SIM, way_of(batch), batch };
	struct sim_setup s;
	int rc = orca(o, &run, &s, err);

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
	const struct run run = { HEAVY, ORCA_TIMED, way_of(batch), batch };
	struct sim_setup s;
	int rc = orca(o, &run, &s, err);

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
       .what = "tokens/s of iterations over the best padded batches of "
	       "requests, outputs uniform in [1, 128]",
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
