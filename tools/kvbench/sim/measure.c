/* SPDX-License-Identifier: MIT */
/*
 * measure.c - what a real model's steps cost on this machine
 *
 * Some mixes of prompts and answers run through the real engine. What a step
 * was is read off its requests: how many tokens each has computed before and
 * after. Each mix runs twice, interleaved with the others, and of the same
 * step the faster one counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/kvbench/sim/fit.h"
#include "tools/kvrun/session.h"

#define SEQS_MAX   32u
#define KV_BYTES   (1ull << 30)
#define STEPS_MAX  1024u
#define ANSWER	   6u
#define PROMPT_MAX 768u

static const struct mix {
	u32 seqs, prompt;
} mixes[] = {
	{ 1, 64 },  { 1, 700 },	 { 4, 64 },  { 8, 400 },
	{ 16, 64 }, { 16, 300 }, { 32, 64 }, { 32, 200 },
};

struct measure {
	struct session s;
	struct fit_step step[STEPS_MAX];
	u32 nr, at; /* steps known; the one that runs */
	struct request *req[SEQS_MAX];
	u32 was[SEQS_MAX], had[SEQS_MAX];
};

static int submit_mix(struct measure *m, const struct mix *x, u64 *seed)
{
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
			ids[k] = (u32)(bench_rand(&rng) % m->s.model->hp.vocab);
		rc = engine_submit(m->s.engine, &p, &m->req[i], m->s.err);
	}
	*seed = rng.s;
	return rc;
}

static void note_step(struct measure *m, u32 nr, double seconds)
{
	struct fit_step st = { .seconds = seconds }, *have;
	u32 i, rows;

	for (i = 0; i < nr; i++) {
		const struct seq *q = m->req[i]->seqs[0];

		rows = q->nr_computed > m->was[i] ? q->nr_computed - m->was[i]
						  : 0;
		if (m->req[i]->state == REQUEST_DONE && !rows &&
		    q->nr > m->had[i])
			rows = 1; /* its space is gone with its last token */
		st.tokens += rows;
		st.looks += rows * (m->was[i] + (rows + 1) / 2.0);
		st.out += q->nr > m->had[i];
	}
	if (!st.tokens || m->at == STEPS_MAX)
		return;
	have = &m->step[m->at++];
	if (m->at > m->nr) {
		*have = st;
		m->nr = m->at;
	} else if (have->tokens == st.tokens && have->seconds > seconds) {
		*have = st;
	}
}

static int run_mix(struct measure *m, const struct mix *x, u64 *seed)
{
	double from;
	u32 i;
	int rc = submit_mix(m, x, seed);

	while (!rc) {
		for (i = 0; i < x->seqs; i++) {
			m->was[i] = m->req[i]->seqs[0]->nr_computed;
			m->had[i] = m->req[i]->seqs[0]->nr;
		}
		from = bench_now();
		rc = session_step(&m->s);
		if (rc < 0)
			break;
		note_step(m, x->seqs, bench_now() - from);
		rc = rc ? 0 : 1;
	}
	for (i = 0; rc == 1 && i < x->seqs; i++) {
		if (m->req[i]->error)
			rc = m->req[i]->error;
		engine_forget(m->s.engine, m->req[i]);
	}
	return min(rc, 0);
}

int measure_cost(const char *path, u32 threads, struct sim_cost *out,
		 double *off, u32 *nr, char *err)
{
	char size[32];
	struct session_opts so = { .model = path,
				   .private = true,
				   .size = size,
				   .no_prefix_cache = true,
				   .step_tokens = 256,
				   .context = 1024,
				   .threads = threads };
	struct measure *m = calloc(1, sizeof(*m));
	u64 seed;
	u64 bytes;
	u32 round, i;
	int rc;

	if (!m)
		return err_set(err, -ENOMEM, "no memory");
	rc = model_packed_bytes(path, &bytes, m->s.err);
	if (!rc) {
		snprintf(size, sizeof(size), "%llu",
			 (unsigned long long)(ALIGN_UP(bytes, 2ull << 20) +
					      KV_BYTES));
		rc = session_open(&m->s, &so) ? -EIO : 0;
	}
	for (round = 0; !rc && round < 2; round++) {
		m->at = 0;
		seed = 1;
		for (i = 0; !rc && i < ARRAY_SIZE(mixes); i++)
			rc = run_mix(m, &mixes[i], &seed);
	}
	if (rc)
		snprintf(err, KV_ERRLEN, "%s", m->s.err);
	*nr = m->nr;
	*off = rc ? 0 : fit_cost(m->step, m->nr, out);
	if (!rc && *off < 0)
		rc = err_set(err, -EINVAL, "the steps do not tell their costs");
	session_close(&m->s);
	free(m);
	return rc;
}
