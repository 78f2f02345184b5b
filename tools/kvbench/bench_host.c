/* SPDX-License-Identifier: MIT */
/*
 * bench_host.c - what a step costs beside computing
 *
 * 32 sequences of the real model decode on pages of a private kvmd; the engine
 * adds up what it does itself in each phase of a step. Prompts are over before
 * it counts.
 *
 *	host		what the engine's thread does between two steps, while
 *			nothing computes. What is done beside a step (ahead.c)
 *			is told with it, and what is left of both where nothing
 *			is (one_by_one)
 *	sampled		what drawing 32 tokens adds to a step that is greedy
 */
#include "tools/kvbench/sim/real.h"

#define HOST_SEQS   32u
#define HOST_PROMPT 64u
#define HOST_STEPS  64u

static double host_s(const struct engine_stats *st)
{
	return st->host_pick_s + st->host_reserve_s + st->host_batch_s +
	       st->host_ahead_s + st->host_commit_s + st->host_decide_s;
}

static int submit_all(struct session *s, u32 nr, u64 seed, float temperature)
{
	struct bench_rng rng = { seed };
	u32 ids[HOST_PROMPT], i, k;
	struct request *r;
	int rc = 0;

	for (i = 0; i < nr && !rc; i++) {
		struct request_params p = { .prompt = ids,
					    .nr_prompt = HOST_PROMPT,
					    .max_new = 2 * HOST_STEPS,
					    .n = 1,
					    .ignore_eog = true,
					    .sampling = SAMPLING_GREEDY };

		p.sampling.temperature = temperature;
		p.sampling.top_p = temperature > 0 ? 0.95f : 1.0f;
		p.sampling.seed = i;
		for (k = 0; k < HOST_PROMPT; k++)
			ids[k] = (u32)(bench_rand(&rng) % s->model->hp.vocab);
		rc = engine_submit(s->engine, &p, &r, s->err);
	}
	return rc;
}

/* Steps that all decode: what the engine did in them. */
struct decodes {
	struct engine_stats from, to;
	u32 steps;
	double step_s;
};

static int run_decodes(const struct bench_opts *o, struct real *x,
		       bool one_by_one, float temperature, struct decodes *d,
		       char *err)
{
	const struct engine_opts eo = { .step_tokens = 512,
					.max_seqs = HOST_SEQS,
					.one_by_one = one_by_one };
	u32 nr = o->tiny ? 2 : HOST_SEQS, i;
	struct session *s = &x->s;
	int rc = real_engine(x, &eo, err);
	double start = 0;

	d->steps = o->tiny ? 4 : HOST_STEPS;
	if (!rc)
		rc = submit_all(s, nr, o->seed, temperature);
	/* all prompts, and a few steps more */
	while (!rc && engine_stats(s->engine)->nr_decode < 4 * nr)
		rc = min(session_step(s), 0);
	if (!rc) {
		d->from = d->to = *engine_stats(s->engine);
		start = clock_s();
	}
	for (i = 0; i < d->steps && !rc; i++)
		rc = min(session_step(s), 0);
	if (!rc) {
		d->to = *engine_stats(s->engine);
		d->step_s = (clock_s() - start) / d->steps;
	}
	return rc ? err_set(err, rc, "%s", s->err) : 0;
}

static double us(const struct decodes *d, double from, double to)
{
	return (to - from) / d->steps * 1e6;
}

#define US(d, what) us(&(d), (d).from.what, (d).to.what)

static int run_host(const struct bench_opts *o, struct figure_result *f)
{
	struct decodes d, plain;
	char err[KV_ERRLEN] = "";
	struct real x;
	int rc = real_open(&x, o->model, o->threads, err);

	if (!rc)
		rc = run_decodes(o, &x, true, 0, &plain, err);
	if (!rc)
		rc = run_decodes(o, &x, false, 0, &d, err);
	real_close(&x);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = us(&d, host_s(&d.from), host_s(&d.to));
	snprintf(f->note, sizeof(f->note),
		 "us: who %.0f, pages %.0f, tables %.0f, errand %.0f, commit "
		 "%.0f, tokens %.0f; beside %.0f; one by one %.0f; %llu of %u "
		 "as planned",
		 US(d, host_pick_s), US(d, host_reserve_s), US(d, host_batch_s),
		 US(d, host_ahead_s), US(d, host_commit_s),
		 US(d, host_decide_s), US(d, host_beside_s),
		 us(&plain, host_s(&plain.from), host_s(&plain.to)),
		 (unsigned long long)(d.to.nr_planned - d.from.nr_planned),
		 d.steps);
	return 0;
}

FIGURE(engine_host, .name = "engine.host",
       .what = "what the engine does between two steps of 32 sequences that "
	       "decode, while nothing computes",
       .unit = "us", .cmp = CMP_AT_MOST, .target = 300, .run = run_host);

static int run_sampled(const struct bench_opts *o, struct figure_result *f)
{
	struct decodes drawn, greedy;
	char err[KV_ERRLEN] = "";
	struct real x;
	int rc = real_open(&x, o->model, o->threads, err);

	if (!rc)
		rc = run_decodes(o, &x, false, 0, &greedy, err);
	if (!rc)
		rc = run_decodes(o, &x, false, 0.8f, &drawn, err);
	real_close(&x);
	if (rc)
		return figure_failed(f, rc, err);
	f->measured = 100 * (drawn.step_s / greedy.step_s - 1);
	snprintf(f->note, sizeof(f->note),
		 "a step of %.2f ms, %.2f greedy; temperature 0.8, top-p 0.95",
		 drawn.step_s * 1e3, greedy.step_s * 1e3);
	return 0;
}

FIGURE(engine_sampled, .name = "engine.sampled",
       .what = "what drawing 32 tokens adds to a step of 32 sequences",
       .unit = "%", .cmp = CMP_AT_MOST, .target = 15, .run = run_sampled);
