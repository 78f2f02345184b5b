/* SPDX-License-Identifier: MIT */
/*
 * bench_radix_model.c - what a cache of prefixes is worth with a real model
 *
 * The same requests run on Gemma with the cache on and off, each time on a
 * private kvmd of its own:
 *
 *	shot	a preamble of 640 tokens, then a question of 20 to 60, and one
 *		token for an answer; all at once
 *	chat	conversations of short turns and long answers: decoding is
 *		what takes the time, so little is won. The control
 *	apart	prompts that share nothing: what looking for prefixes costs
 *	second	a second server of the model on the same kvmd is given what
 *		the first has computed
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <kv.h>
#include "runtime/model/model.h"
#include "tools/kvrun/private_kvmd.h"
#include "tools/kvrun/session.h"

#define SHOT_PREAMBLE 640u
#define SHOT_REQUESTS 32u
#define CHAT_SEQS     8u
#define CHAT_TURNS    4u
#define CHAT_NEW      96u
#define CHAT_TURN     16u
#define APART_PROMPT  256u
#define APART_SEQS    16u
#define APART_NEW     16u
#define APART_ROUNDS  3u
#define TOKENS_MAX    1024u
#define REQUESTS_MAX  32u

struct load {
	u32 nr, len[REQUESTS_MAX], ids[REQUESTS_MAX][TOKENS_MAX];
	u32 max_new;
	struct request *req[REQUESTS_MAX];
};

struct result {
	double seconds;
	u64 mapped, computed;
};

static void random_ids(struct bench_rng *rng, const struct session *s, u32 *ids,
		       u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++)
		ids[i] = (u32)(bench_rand(rng) % s->model->hp.vocab);
}

static int run_load(struct session *s, struct load *l)
{
	u32 i;
	int rc = 0;

	for (i = 0; i < l->nr && !rc; i++) {
		const struct request_params p = { .prompt = l->ids[i],
						  .nr_prompt = l->len[i],
						  .max_new = l->max_new,
						  .n = 1,
						  .ignore_eog = true,
						  .sampling = SAMPLING_GREEDY };

		rc = engine_submit(s->engine, &p, &l->req[i], s->err);
	}
	while (!rc && (rc = session_step(s)) > 0)
		rc = 0;
	for (i = 0; i < l->nr && !rc; i++)
		rc = l->req[i]->error;
	return rc;
}

static void forget(struct session *s, struct load *l)
{
	u32 i;

	for (i = 0; i < l->nr; i++)
		engine_forget(s->engine, l->req[i]);
}

static int few_shot(const struct bench_opts *o, struct session *s,
		    struct load *l)
{
	struct bench_rng rng = { o->seed };
	u32 preamble[SHOT_PREAMBLE], i;

	l->nr = o->tiny ? 3 : SHOT_REQUESTS;
	l->max_new = 1;
	random_ids(&rng, s, preamble, SHOT_PREAMBLE);
	for (i = 0; i < l->nr; i++) {
		l->len[i] = SHOT_PREAMBLE + 20 + (u32)(bench_rand(&rng) % 40);
		random_ids(&rng, s, l->ids[i], l->len[i]);
		memcpy(l->ids[i], preamble, sizeof(preamble));
	}
	return run_load(s, l);
}

static int chat(const struct bench_opts *o, struct session *s, struct load *l)
{
	struct bench_rng rng = { o->seed };
	u32 t, i, turns = o->tiny ? 2 : CHAT_TURNS;
	int rc = 0;

	l->nr = o->tiny ? 2 : CHAT_SEQS;
	l->max_new = o->tiny ? 4 : CHAT_NEW;
	for (t = 0; t < turns && !rc; t++) {
		for (i = 0; i < l->nr; i++) {
			const struct seq *q = t ? l->req[i]->seqs[0] : NULL;

			l->len[i] = q ? q->nr : 0;
			if (q)
				memcpy(l->ids[i], q->ids, q->nr * sizeof(u32));
			random_ids(&rng, s, l->ids[i] + l->len[i], CHAT_TURN);
			l->len[i] += CHAT_TURN;
		}
		if (t)
			forget(s, l);
		rc = run_load(s, l);
	}
	return rc;
}

static int apart(const struct bench_opts *o, struct session *s, struct load *l)
{
	struct bench_rng rng = { o->seed };
	u32 i;

	l->nr = o->tiny ? 2 : APART_SEQS;
	l->max_new = APART_NEW;
	for (i = 0; i < l->nr; i++) {
		l->len[i] = APART_PROMPT;
		random_ids(&rng, s, l->ids[i], APART_PROMPT);
	}
	return run_load(s, l);
}

typedef int load_fn(const struct bench_opts *o, struct session *s,
		    struct load *l);

static int one(const struct bench_opts *o, const char *path, load_fn *fn,
	       bool cache, struct result *r, char *err)
{
	const struct session_opts so = { .model = path,
					 .private = true,
					 .size = "2G",
					 .no_prefix_cache = !cache,
					 .context = TOKENS_MAX,
					 .threads = o->threads };
	static struct session s;
	static struct load l;
	int rc = session_open(&s, &so) ? -EIO : 0;
	double start = bench_now();

	if (!rc)
		rc = fn(o, &s, &l);
	r->seconds = bench_now() - start;
	if (!rc) {
		r->mapped = engine_stats(s.engine)->nr_mapped;
		r->computed = engine_stats(s.engine)->nr_prefill;
	} else {
		snprintf(err, KV_ERRLEN, "%s", s.err);
	}
	session_close(&s);
	return rc;
}

/* Of some rounds in turn, the fastest with it and the fastest without. */
static int on_off(const struct bench_opts *o, load_fn *fn, u32 rounds,
		  struct result *on, struct result *off, char *note)
{
	char path[MODEL_PATH], err[KV_ERRLEN] = "";
	int rc = model_path(MODEL_GEMMA, o->model, path, note);
	struct result r;
	u32 i, k;

	on->seconds = off->seconds = 1e9;
	for (i = 0; i < (o->tiny ? 1 : rounds) && !rc; i++)
		for (k = 0; k < 2 && !rc; k++) {
			rc = one(o, path, fn, k, &r, err);
			if (!rc && r.seconds < (k ? on : off)->seconds)
				*(k ? on : off) = r;
		}
	if (rc && *err)
		snprintf(note, FIGURE_NOTE, "%.150s", err);
	else if (!rc)
		snprintf(note, FIGURE_NOTE,
			 "%.2f s, %llu of %llu prompt tokens mapped; without "
			 "%.2f s",
			 on->seconds, (unsigned long long)on->mapped,
			 (unsigned long long)(on->mapped + on->computed),
			 off->seconds);
	return rc;
}

static int run_shot(const struct bench_opts *o, struct figure_result *f)
{
	struct result on, off;
	int rc = on_off(o, few_shot, 1, &on, &off, f->note);

	if (rc)
		return rc;
	f->measured = off.seconds / on.seconds;
	f->bound = (double)(on.mapped + on.computed) / (double)on.computed;
	snprintf(f->bound_what, sizeof(f->bound_what), "1 / (1 - hit rate)");
	return 0;
}

static int run_chat(const struct bench_opts *o, struct figure_result *f)
{
	struct result on, off;
	int rc = on_off(o, chat, 1, &on, &off, f->note);

	if (!rc)
		f->measured = off.seconds / on.seconds;
	return rc;
}

static int run_apart(const struct bench_opts *o, struct figure_result *f)
{
	struct result on, off;
	int rc = on_off(o, apart, APART_ROUNDS, &on, &off, f->note);

	if (!rc)
		f->measured = 100 * (on.seconds / off.seconds - 1);
	return rc;
}

static int second(const struct bench_opts *o, const char *path,
		  const char *socket, u64 *mapped, u32 *nr, char *err)
{
	const struct session_opts so = { .model = path,
					 .socket = socket,
					 .context = TOKENS_MAX,
					 .threads = o->threads };
	static struct session s[2];
	static struct load l;
	u32 i;
	int rc = 0;

	for (i = 0; i < 2 && !rc; i++) {
		struct bench_rng rng = { o->seed };

		rc = session_open(&s[i], &so) ? -EIO : 0;
		if (!rc) {
			l.nr = l.max_new = 1;
			l.len[0] = 500;
			random_ids(&rng, &s[i], l.ids[0], 500);
			rc = run_load(&s[i], &l);
		}
		if (rc)
			snprintf(err, KV_ERRLEN, "%s", s[i].err);
		else
			*mapped = engine_stats(s[i].engine)->nr_mapped;
	}
	*nr = l.len[0];
	while (i)
		session_close(&s[--i]);
	return rc;
}

static int run_second(const struct bench_opts *o, struct figure_result *f)
{
	char path[MODEL_PATH], err[KV_ERRLEN] = "";
	const char *const args[] = { "--size", "2G", NULL };
	struct private_kvmd *kvmd = NULL;
	u64 mapped = 0;
	u32 nr = 0;
	int rc = model_path(MODEL_GEMMA, o->model, path, f->note);

	if (rc)
		return rc;
	rc = private_kvmd_start_with(args, &kvmd, err);
	if (!rc)
		rc = second(o, path, private_kvmd_socket(kvmd), &mapped, &nr,
			    err);
	private_kvmd_stop(kvmd);
	f->measured = rc ? 0 : (double)mapped / (nr - 1);
	snprintf(f->note, sizeof(f->note), "%.100s%llu of %u tokens",
		 rc ? err : "", (unsigned long long)mapped, nr);
	return rc;
}

FIGURE(radix_shot, .name = "radix.fewshot",
       .what = "few-shot requests a second with one token each, over no cache",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 3, .run = run_shot);
FIGURE(radix_chat, .name = "radix.chat",
       .what = "the same of conversations with long answers, the control",
       .unit = "x", .cmp = CMP_AT_MOST, .target = 1.2, .run = run_chat);
FIGURE(radix_apart, .name = "radix.overhead",
       .what = "time that looking for prefixes adds where nothing is shared",
       .unit = "%", .cmp = CMP_AT_MOST, .target = 1, .run = run_apart);
FIGURE(radix_second, .name = "radix.second",
       .what = "prompt tokens that a second server finds of the first one's",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.9, .run = run_second);
