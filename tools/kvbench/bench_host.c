/* SPDX-License-Identifier: MIT */
/*
 * bench_host.c - what a step costs beside computing
 *
 * 32 sequences of the real model decode on pages of a private kvmd; the engine
 * adds up what it does itself in each phase of a step. Prompts are over before
 * it counts.
 */
#include "tools/kvbench/sched_run.h"

#define HOST_SEQS   32u
#define HOST_PROMPT 64u
#define HOST_STEPS  64u

static double host_s(const struct engine_stats *st)
{
	return st->host_pick_s + st->host_reserve_s + st->host_batch_s +
	       st->host_ahead_s + st->host_commit_s + st->host_decide_s;
}

static int submit_all(struct session *s, u32 nr, u64 seed)
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

		for (k = 0; k < HOST_PROMPT; k++)
			ids[k] = (u32)(bench_rand(&rng) % s->model->hp.vocab);
		rc = engine_submit(s->engine, &p, &r, s->err);
	}
	return rc;
}

static int run_host(const struct bench_opts *o, struct figure_result *f)
{
	const struct engine_opts eo = { .step_tokens = 512,
					.max_seqs = HOST_SEQS };
	u32 nr = o->tiny ? 2 : HOST_SEQS, steps = o->tiny ? 4 : HOST_STEPS, i;
	struct engine_stats from, to;
	struct session s;
	int rc = sched_session(o, &s, f->note);

	if (!rc)
		rc = sched_engine(&s, &eo, f->note);
	if (!rc)
		rc = submit_all(&s, nr, o->seed);
	/* all prompts, and a few steps more */
	while (!rc && engine_stats(s.engine)->nr_decode < 4 * nr)
		rc = min(session_step(&s), 0);
	if (!rc)
		from = to = *engine_stats(s.engine);
	for (i = 0; i < steps && !rc; i++)
		rc = min(session_step(&s), 0);
	if (!rc)
		to = *engine_stats(s.engine);
	session_close(&s);
	if (rc)
		return rc;
	f->measured = (host_s(&to) - host_s(&from)) / steps * 1e6;
	snprintf(f->note, sizeof(f->note),
		 "us: who is in it %.0f, reservation %.0f, tables %.0f, asking "
		 "ahead %.0f, commit %.0f, tokens %.0f",
		 (to.host_pick_s - from.host_pick_s) / steps * 1e6,
		 (to.host_reserve_s - from.host_reserve_s) / steps * 1e6,
		 (to.host_batch_s - from.host_batch_s) / steps * 1e6,
		 (to.host_ahead_s - from.host_ahead_s) / steps * 1e6,
		 (to.host_commit_s - from.host_commit_s) / steps * 1e6,
		 (to.host_decide_s - from.host_decide_s) / steps * 1e6);
	return 0;
}

FIGURE(engine_host, .name = "engine.host",
       .what = "the engine's own work in a step of 32 sequences that decode",
       .unit = "us", .cmp = CMP_AT_MOST, .target = 300, .run = run_host);
