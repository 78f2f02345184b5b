/* SPDX-License-Identifier: MIT */
/*
 * measure.c - what a real model's steps take on this machine
 *
 * Some mixes of prompts and answers run through the real engine. Each runs
 * twice, interleaved with the others, and of steps that are alike the fastest
 * one counts: others on the machine make a step longer, never shorter.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/kvbench/sim/real.h"

#define SEQS_MAX   32u
#define STEPS_MAX  256u
#define ANSWER	   8u
#define PROMPT_MAX 512u
#define HOLD	   1e-9
#define ALIKE	   0.3 /* work is the least of what a step takes here */

/* Few tokens: this is a part of claims that take three minutes. */
static const struct mix {
	u32 seqs, prompt;
} mixes[] = {
	{ 1, 16 },  { 2, 24 },	{ 4, 24 },  { 8, 80 },
	{ 1, 512 }, { 16, 24 }, { 32, 16 },
};
#define TINY 3u /* of them */

struct measure {
	struct real *x;
	struct {
		struct law_load load;
		double seconds;
	} step[STEPS_MAX];
	u32 nr;
	struct request *req[SEQS_MAX];
};

static int submit_mix(struct measure *m, const struct mix *x, u64 *seed)
{
	struct session *s = &m->x->s;
	struct bench_rng rng = { *seed };
	u32 ids[PROMPT_MAX], i, k;
	int rc = 0;

	for (i = 0; !rc && i < x->seqs; i++) {
		struct request_params p = { .kind = REQUEST_GENERATE,
					    .prompt = ids,
					    .nr_prompt = x->prompt,
					    .max_new = ANSWER,
					    .n = 1,
					    .ignore_eog = true,
					    .sampling = SAMPLING_GREEDY };

		for (k = 0; k < x->prompt; k++)
			ids[k] = (u32)(bench_rand(&rng) % s->model->hp.vocab);
		rc = engine_submit(s->engine, &p, &m->req[i], s->err);
	}
	*seed = rng.s;
	return rc;
}

static bool is_alike(const struct law_load *a, const struct law_load *b)
{
	return a->tokens == b->tokens && a->rows == b->rows &&
	       fabs(a->work - b->work) <= ALIKE * b->work;
}

static void note_step(struct measure *m, double seconds)
{
	const struct law_load *l = &engine_stats(m->x->s.engine)->load;
	u32 i;

	for (i = 0; i < m->nr; i++)
		if (is_alike(&m->step[i].load, l))
			break;
	if (i == STEPS_MAX || (i < m->nr && m->step[i].seconds <= seconds))
		return;
	m->step[i].load = *l;
	m->step[i].seconds = seconds;
	m->nr = max(m->nr, i + 1);
}

static int run_mix(struct measure *m, const struct mix *x, u64 *seed)
{
	double from;
	u32 i;
	int rc = submit_mix(m, x, seed);

	if (rc)
		return rc;
	do {
		from = clock_s();
		rc = session_step(&m->x->s);
		if (rc < 0)
			return rc;
		note_step(m, clock_s() - from);
	} while (rc);
	for (i = 0; !rc && i < x->seqs; i++) {
		rc = m->req[i]->error;
		engine_forget(m->x->s.engine, m->req[i]);
	}
	return rc;
}

static double fit(const struct measure *m, struct law *law)
{
	struct law_sums sums = { 0 };
	double off = 0;
	u32 i;

	*law = (struct law){ 0 };
	for (i = 0; i < m->nr; i++)
		law_see(&sums, &m->step[i].load, m->step[i].seconds, 0);
	law_fit(law, &sums, HOLD);
	for (i = 0; i < m->nr; i++)
		off += fabs(law_seconds(law, &m->step[i].load) /
				    m->step[i].seconds -
			    1);
	return off / max(m->nr, 1u);
}

int real_law(struct real *x, bool tiny, struct law *law, double *off, u32 *nr,
	     char *err)
{
	static const struct engine_opts eo = { .step_tokens = 256,
					       .max_seqs = SEQS_MAX };
	struct measure *m = calloc(1, sizeof(*m));
	u32 round, i, nr_mixes = tiny ? TINY : ARRAY_SIZE(mixes);
	u64 seed;
	int rc = m ? real_engine(x, &eo, err)
		   : err_set(err, -ENOMEM, "no memory");

	for (round = 0; !rc && round < 2; round++) {
		m->x = x;
		seed = 1;
		for (i = 0; !rc && i < nr_mixes; i++)
			rc = run_mix(m, &mixes[i], &seed);
		if (rc)
			err_set(err, rc, "%s", x->s.err);
	}
	if (!rc) {
		*nr = m->nr;
		*off = fit(m, law);
	}
	free(m);
	return rc;
}

int real_law_here(const struct bench_opts *o, struct law *law, char *err)
{
	static struct law memo;
	struct real x;
	double off;
	u32 nr;
	int rc = 0;

	if (!law_is_known(&memo)) {
		rc = real_open(&x, o->model, o->threads, err);
		if (!rc)
			rc = real_law(&x, o->tiny, &memo, &off, &nr, err);
		real_close(&x);
	}
	*law = memo;
	return rc;
}
