/* SPDX-License-Identifier: MIT */
/*
 * bench_turns.c - more sequences than the device holds, all of them at once
 *
 * The same sequences decode twice in turn: on a device that holds all of them,
 * and on one that holds two thirds of their pages, with host memory for the
 * others. What counts is the time in which all are there: from the last one's
 * first token to the first one's last. In it
 *
 *	tokens	generated a second by all of them
 *	gap	the longest time between two tokens of one of them
 *
 * All prompts are of one length, and random, so nothing is shared. The working
 * set is what they hold half-way.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <kv.h>
#include "tools/kvrun/private_kvmd.h"
#include "tools/kvrun/session.h"

#define TURNS_SEQS   16u
#define TURNS_PROMPT 256u
#define TURNS_NEW    192u
#define TURNS_STEP   64u /* tokens of a step: nobody waits long for a prompt */
#define TURNS_SHARE  1.5 /* of the device's KV memory: the working set */
#define TURNS_ROUNDS 2u
#define TURNS_SWAP   "512M"

enum { ROOMY, SHORT, NR_DEVICES };

struct turns_seq {
	u32 nr;
	double last;
	double gap; /* while all are there */
};

struct turns_run {
	struct turns_seq seq[TURNS_SEQS];
	struct request *req[TURNS_SEQS];
	u32 nr, nr_begun, nr_ended;
	double from, to; /* while all are there */
	u32 tokens; /* meanwhile */
};

struct turns_result {
	double tps[NR_DEVICES], gap;
	u64 turns, read, preempted, again;
	u32 extents; /* of KV */
	double share;
};

static void on_token(struct request *r, u32 index, u32 id, void *ctx)
{
	struct turns_run *t = ctx;
	double now = clock_s();
	struct turns_seq *s;
	u32 i;

	for (i = 0; i < t->nr && t->req[i] != r; i++)
		;
	s = &t->seq[i];
	s->nr++;
	if (s->nr == 1 && ++t->nr_begun == t->nr) {
		t->from = now;
		for (i = 0; i < t->nr; i++)
			t->seq[i].gap = 0;
	} else if (t->nr_begun == t->nr && !t->nr_ended) {
		t->tokens++;
		t->to = now;
	}
	if (s->nr > 1 && !t->nr_ended)
		s->gap = max(s->gap, now - s->last);
	s->last = now;
}

static void on_done(struct request *r, void *ctx)
{
	((struct turns_run *)ctx)->nr_ended++;
}

static int submit_all(struct session *s, struct turns_run *t, u64 seed,
		      u32 max_new)
{
	static const struct request_events events = { .token = on_token,
						      .done = on_done };
	struct bench_rng rng = { seed };
	u32 ids[TURNS_PROMPT], i, k;
	int rc = 0;

	for (i = 0; !rc && i < t->nr; i++) {
		struct request_params p = { .kind = REQUEST_GENERATE,
					    .prompt = ids,
					    .nr_prompt = TURNS_PROMPT,
					    .max_new = max_new,
					    .n = 1,
					    .ignore_eog = true,
					    .sampling = SAMPLING_GREEDY,
					    .events = &events,
					    .ctx = t };

		for (k = 0; k < TURNS_PROMPT; k++)
			ids[k] = (u32)(bench_rand(&rng) % s->model->hp.vocab);
		rc = engine_submit(s->engine, &p, &t->req[i], s->err);
	}
	return rc;
}

/* Run to the end of all; what they did while all were there is in @t. */
static int run_turns(struct session *s, struct turns_run *t)
{
	int rc;
	u32 i;

	do
		rc = session_step(s);
	while (rc > 0);
	for (i = 0; !rc && i < t->nr; i++)
		rc = t->req[i]->error;
	return rc;
}

static double longest_gap(const struct turns_run *t)
{
	double gap = 0;
	u32 i;

	for (i = 0; i < t->nr; i++)
		gap = max(gap, t->seq[i].gap);
	return gap;
}

/* Extents for the pages of @tokens tokens. */
static u32 extents_of(const struct session *s, double tokens)
{
	double bytes = 0;
	u32 a;

	for (a = 0; a < s->model->nr_areas; a++)
		bytes += tokens / s->model->area[a].geom.page_tokens *
			 s->model->area[a].geom.page_bytes;
	return (u32)(bytes / KV_EXTENT_SIZE + 0.5);
}

static int turns_session(const struct bench_opts *o, const char *path,
			 u32 extents, struct session_opts *so,
			 struct session *s, char *err)
{
	static char size[32];
	u64 bytes;
	int rc = model_packed_bytes(path, &bytes, err);

	if (rc)
		return rc;
	snprintf(size, sizeof(size), "%llu",
		 (unsigned long long)(ALIGN_UP(bytes, (u64)KV_EXTENT_SIZE) +
				      (u64)extents * KV_EXTENT_SIZE));
	*so = (struct session_opts){ .model = path,
				     .private = true,
				     .size = size,
				     .swap = TURNS_SWAP,
				     .no_prefix_cache = true,
				     .step_tokens = TURNS_STEP,
				     .threads = o->threads };
	return bench_session(s, so);
}

/* One run on a device of @extents for KV; 0: as many as they want. */
static int one_run(const struct bench_opts *o, const char *path, u64 seed,
		   u32 *extents, bool is_short, struct turns_result *r,
		   char *err)
{
	u32 max_new = o->tiny ? 24 : TURNS_NEW;
	struct turns_run t = { .nr = o->tiny ? 3 : TURNS_SEQS };
	static struct session s;
	struct session_opts so;
	int rc = turns_session(o, path, is_short ? *extents : 64, &so, &s, err);

	if (!rc)
		rc = submit_all(&s, &t, seed, max_new);
	if (!rc)
		rc = run_turns(&s, &t);
	if (rc) {
		snprintf(err, KV_ERRLEN, "%s", s.err);
		session_close(&s);
		return rc;
	}
	r->tps[is_short] = t.tokens ? t.tokens / (t.to - t.from) : 0;
	if (is_short) {
		const struct engine_stats *st = engine_stats(s.engine);

		r->gap = longest_gap(&t);
		r->turns = st->nr_turns;
		r->read = st->nr_read;
		r->preempted = st->nr_preempted;
		r->again = st->nr_again;
	} else {
		double half = t.nr * (TURNS_PROMPT + max_new / 2.0);
		u32 all = extents_of(&s, half);

		*extents = max((u32)(all / TURNS_SHARE + 0.5), 2u);
		r->extents = *extents;
		r->share = (double)all / *extents;
	}
	session_close(&s);
	return 0;
}

static int turns(const struct bench_opts *o, struct turns_result *r, char *note)
{
	static double ratio[TURNS_ROUNDS], gap[TURNS_ROUNDS];
	static struct turns_result memo[TURNS_ROUNDS];
	static u32 have;
	char path[MODEL_PATH], err[KV_ERRLEN] = "";
	int rc = model_path(MODEL_GEMMA, o->model, path, note);
	u32 extents = 0, rounds = o->tiny ? 1 : TURNS_ROUNDS, i;

	for (; !rc && have < rounds; have += !rc) {
		struct turns_result *m = &memo[have];

		rc = one_run(o, path, o->seed + have, &extents, false, m, err);
		if (!rc)
			rc = one_run(o, path, o->seed + have, &extents, true, m,
				     err);
		ratio[have] = rc || m->tps[ROOMY] <= 0
				      ? 0
				      : m->tps[SHORT] / m->tps[ROOMY];
		gap[have] = m->gap;
	}
	if (rc) {
		if (*err)
			snprintf(note, FIGURE_NOTE, "%.150s", err);
		return rc;
	}
	*r = memo[0];
	for (i = 0; i < rounds; i++) {
		if (ratio[i] < r->tps[SHORT] / r->tps[ROOMY]) {
			r->tps[SHORT] = memo[i].tps[SHORT];
			r->tps[ROOMY] = memo[i].tps[ROOMY];
		}
		r->gap = max(r->gap, gap[i]);
	}
	return 0;
}

static int run_tokens(const struct bench_opts *o, struct figure_result *f)
{
	struct turns_result r;
	int rc = turns(o, &r, f->note);

	if (rc)
		return rc;
	f->measured = r.tps[ROOMY] > 0 ? r.tps[SHORT] / r.tps[ROOMY] : 0;
	snprintf(f->note, sizeof(f->note),
		 "%.1f t/s against %.1f; set %.2f of %u extents; %llu turns, "
		 "%llu preempted, %llu MiB read, %llu tokens again",
		 r.tps[SHORT], r.tps[ROOMY], r.share, r.extents,
		 (unsigned long long)r.turns, (unsigned long long)r.preempted,
		 (unsigned long long)r.read >> 20, (unsigned long long)r.again);
	return 0;
}

static int run_gap(const struct bench_opts *o, struct figure_result *f)
{
	struct turns_result r;
	int rc = turns(o, &r, f->note);

	if (!rc)
		f->measured = r.gap;
	return rc;
}

FIGURE(turns_tokens, .name = "turns.tokens",
       .what = "tokens/s of 16 sequences on a device that holds two thirds of "
	       "them, over one that holds all; worse of 2",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.6, .run = run_tokens);
FIGURE(turns_gap, .name = "turns.gap",
       .what = "longest time between two tokens of any of them meanwhile",
       .unit = "s", .cmp = CMP_AT_MOST, .target = 2, .run = run_gap);
