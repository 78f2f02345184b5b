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
 *	program	a tree of thoughts, on the interface for programs: of each
 *		thought four go on, all are judged, the two best are kept
 *	second	a second server of the model on the same kvmd is given what
 *		the first has computed
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <kv.h>
#include "lib/hash.h"
#include "runtime/engine/program.h"
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
#define APART_ROUNDS  6u
#define SHARED_ROUNDS 2u
#define TREE_QUESTION 160u
#define TREE_HINT     6u
#define TREE_THOUGHT  24u
#define TREE_WIDTH    4u
#define TREE_KEEP     2u
#define TREE_DEPTH    3u
#define TREE_ANSWER   16u
#define TOKENS_MAX    1024u
#define REQUESTS_MAX  32u

struct load {
	u32 nr, len[REQUESTS_MAX], ids[REQUESTS_MAX][TOKENS_MAX];
	u32 max_new;
	struct request *req[REQUESTS_MAX];
	u64 hash; /* of what was answered, where that is looked at */
};

struct result {
	double seconds;
	u64 mapped, computed, hash;
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
	int rc = bench_session(&s, &so);
	double start = clock_s();

	if (!rc)
		rc = fn(o, &s, &l);
	r->seconds = clock_s() - start;
	if (!rc) {
		r->mapped = engine_stats(s.engine)->nr_mapped;
		r->computed = engine_stats(s.engine)->nr_prefill;
		r->hash = l.hash;
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
			bool with = (k ^ i) & 1; /* each is first in turn */

			rc = one(o, path, fn, with, &r, err);
			if (!rc && r.seconds < (with ? on : off)->seconds)
				*(with ? on : off) = r;
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

/* ---- a program ---- */

struct thought {
	struct branch *b, *judge;
	double rank;
};

struct tree {
	struct session *s;
	struct program *p;
	struct bench_rng rng;
	struct thought kept[TREE_KEEP]; /* [nr_kept] */
	struct thought all[TREE_KEEP * TREE_WIDTH]; /* [nr] of a level */
	u32 nr_kept, nr;
};

/* Some words of the caller's. */
static int say(struct tree *t, struct branch *b, u32 nr)
{
	u32 ids[TREE_QUESTION];

	random_ids(&t->rng, t->s, ids, nr);
	return program_append(b, ids, nr, t->s->err);
}

/* Each that was kept goes on in several ways. */
static int think(struct tree *t)
{
	struct program_gen g = { .max_new = TREE_THOUGHT,
				 .ignore_eog = true,
				 .sampling = SAMPLING_GREEDY };
	u32 i;
	int rc = 0;

	t->nr = t->nr_kept * TREE_WIDTH;
	for (i = 0; i < t->nr && !rc; i++) {
		struct thought *v = &t->all[i];

		g.sampling.temperature = 0.8f;
		g.sampling.seed = bench_rand(&t->rng);
		rc = program_fork(t->kept[i / TREE_WIDTH].b, &v->b, t->s->err);
		if (!rc)
			rc = say(t, v->b, TREE_HINT);
		if (!rc)
			rc = program_gen(v->b, &g, t->s->err);
	}
	for (i = 0; i < t->nr_kept; i++)
		program_drop(t->kept[i].b);
	t->nr_kept = 0;
	return rc ? rc : program_join(t->p, t->s->err);
}

static int by_rank(const void *a, const void *b)
{
	const struct thought *x = a, *y = b;

	return (x->rank < y->rank) - (x->rank > y->rank);
}

/* Which of two words is likelier behind a question about each thought? */
static int judge(struct tree *t)
{
	u32 ids[2] = { 1000, 2000 }, i;
	const struct program_choice words[] = { { &ids[0], 1 },
						{ &ids[1], 1 } };
	int rc = 0;

	for (i = 0; i < t->nr && !rc; i++) {
		rc = program_fork(t->all[i].b, &t->all[i].judge, t->s->err);
		if (!rc)
			rc = say(t, t->all[i].judge, TREE_HINT);
		if (!rc)
			rc = program_select(t->all[i].judge, words, 2,
					    t->s->err);
	}
	if (!rc)
		rc = program_join(t->p, t->s->err);
	for (i = 0; i < t->nr && !rc; i++) {
		struct thought *v = &t->all[i];

		rc = program_error(v->b) ? program_error(v->b)
					 : program_error(v->judge);
		v->rank = program_score(v->judge) -
			  1000 * (double)program_selected(v->judge);
		program_drop(v->judge);
	}
	return rc;
}

static void keep_the_best(struct tree *t)
{
	u32 i;

	qsort(t->all, t->nr, sizeof(t->all[0]), by_rank);
	t->nr_kept = min(TREE_KEEP, t->nr);
	memcpy(t->kept, t->all, t->nr_kept * sizeof(t->kept[0]));
	for (i = t->nr_kept; i < t->nr; i++)
		program_drop(t->all[i].b);
}

/* The best goes on with the best of four samples, the other one with beams. */
static int answer(struct tree *t, u64 *hash)
{
	struct program_gen g = { .max_new = TREE_ANSWER,
				 .ignore_eog = true,
				 .sampling = SAMPLING_GREEDY };
	u32 i, k, nr;
	int rc = program_beam(t->kept[1].b, &g, 3, t->s->err);

	g.sampling.temperature = 0.8f;
	if (!rc)
		rc = program_best_of(t->kept[0].b, &g, 4, t->s->err);
	if (!rc)
		rc = program_join(t->p, t->s->err);
	for (i = 0; i < t->nr_kept && !rc; i++) {
		const u32 *ids = program_ids(t->kept[i].b, &nr);

		rc = program_error(t->kept[i].b);
		for (k = 0; k < nr; k++)
			*hash = hash_add(*hash, ids[k]);
	}
	return rc;
}

static int thoughts(const struct bench_opts *o, struct session *s,
		    struct load *l)
{
	static struct tree t;
	u32 ids[TREE_QUESTION], i;
	int rc;

	t = (struct tree){ .s = s, .rng = { o->seed }, .nr_kept = 1 };
	l->hash = 0;
	random_ids(&t.rng, s, ids, TREE_QUESTION);
	rc = program_create(s->engine, &t.p, s->err);
	if (!rc)
		rc = program_begin(t.p, ids, o->tiny ? 40 : TREE_QUESTION,
				   &t.kept[0].b, s->err);
	for (i = 0; i < (o->tiny ? 1 : TREE_DEPTH) && !rc; i++) {
		rc = think(&t);
		if (!rc)
			rc = judge(&t);
		if (!rc)
			keep_the_best(&t);
	}
	if (!rc)
		rc = answer(&t, &l->hash);
	program_destroy(t.p);
	return rc;
}

static int run_program(const struct bench_opts *o, struct figure_result *f)
{
	struct result on, off;
	int rc = on_off(o, thoughts, SHARED_ROUNDS, &on, &off, f->note);

	if (rc)
		return rc;
	if (on.hash != off.hash) {
		snprintf(f->note, sizeof(f->note),
			 "the answers differ with and without the cache");
		return -EIO;
	}
	f->measured = off.seconds / on.seconds;
	f->bound = (double)(on.mapped + on.computed) / (double)on.computed;
	snprintf(f->bound_what, sizeof(f->bound_what), "1 / (1 - hit rate)");
	return 0;
}

static int run_shot(const struct bench_opts *o, struct figure_result *f)
{
	struct result on, off;
	int rc = on_off(o, few_shot, SHARED_ROUNDS, &on, &off, f->note);

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
	int rc = on_off(o, chat, SHARED_ROUNDS, &on, &off, f->note);

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

/* Of a prompt of each of two servers: more than a window, and other rests. */
#define SECOND_SHARED 700u
#define SECOND_OWN    200u

static int second(const struct bench_opts *o, const char *path,
		  const char *socket, u64 *mapped, char *err)
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
		struct bench_rng own = { o->seed + 1 + i };

		rc = bench_session(&s[i], &so);
		if (!rc) {
			l.nr = l.max_new = 1;
			l.len[0] = SECOND_SHARED + SECOND_OWN;
			random_ids(&rng, &s[i], l.ids[0], SECOND_SHARED);
			random_ids(&own, &s[i], l.ids[0] + SECOND_SHARED,
				   SECOND_OWN);
			rc = run_load(&s[i], &l);
		}
		if (rc)
			snprintf(err, KV_ERRLEN, "%s", s[i].err);
		else
			*mapped = engine_stats(s[i].engine)->nr_mapped;
	}
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
	int rc = model_path(MODEL_GEMMA, o->model, path, f->note);

	if (rc)
		return rc;
	rc = private_kvmd_start_with(args, &kvmd, err);
	if (!rc)
		rc = second(o, path, private_kvmd_socket(kvmd), &mapped, err);
	private_kvmd_stop(kvmd);
	f->measured = rc ? 0 : (double)mapped / SECOND_SHARED;
	snprintf(f->note, sizeof(f->note), "%.100s%llu of %u tokens",
		 rc ? err : "", (unsigned long long)mapped, SECOND_SHARED);
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
FIGURE(radix_program, .name = "radix.program",
       .what = "a tree of thoughts as a program, over no cache", .unit = "x",
       .cmp = CMP_AT_LEAST, .target = 2, .run = run_program);
FIGURE(radix_second, .name = "radix.second",
       .what = "tokens that a second server finds of what its first prompt "
	       "shares with the first one's",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.9, .run = run_second);
