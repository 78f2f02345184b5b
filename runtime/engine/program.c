/* SPDX-License-Identifier: MIT */
/*
 * program.c - programs of several generations
 *
 * A branch keeps its tokens and the requests that it waits for; nothing of the
 * pager. What its requests have computed is published as they end, and the next
 * one maps it. Requests of a branch are forgotten when they have been joined.
 */
#include "runtime/engine/program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHOICES_MAX 64u

enum asked {
	ASKED_NOTHING,
	ASKED_GEN,
	ASKED_BEST,
	ASKED_BEAM,
	ASKED_SELECT,
	ASKED_OTHER, /* a sample of another branch's request */
};

struct branch {
	struct program *p;
	struct branch *next;
	u32 *ids; /* [nr] */
	u32 nr;
	enum asked asked;
	struct request *req[CHOICES_MAX]; /* [nr_req] */
	double sum[CHOICES_MAX]; /* of scores */
	u32 scored[CHOICES_MAX]; /* positions before it have their score */
	u32 nr_req, nr_left;
	struct branch **forks; /* [n - 1] samples beside the first */
	u32 nr_forks;
	u32 selected;
	double score;
	int error;
};

struct program {
	struct engine *e;
	struct branch *branches;
};

int program_create(struct engine *e, struct program **out, char *err)
{
	struct program *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(err, -ENOMEM, "no memory for a program");
	p->e = e;
	*out = p;
	return 0;
}

static void forget_requests(struct branch *b)
{
	u32 i;

	for (i = 0; i < b->nr_req; i++) {
		engine_cancel(b->p->e, b->req[i]);
		engine_forget(b->p->e, b->req[i]);
	}
	b->nr_req = b->nr_left = 0;
	for (i = 0; i < b->nr_forks; i++) {
		if (!b->forks[i] || b->forks[i]->asked != ASKED_OTHER)
			continue;
		b->forks[i]->asked = ASKED_NOTHING;
		b->forks[i]->error = -ECANCELED;
	}
	free(b->forks);
	b->forks = NULL;
	b->nr_forks = 0;
	b->asked = ASKED_NOTHING;
}

void program_drop(struct branch *b)
{
	struct branch **at = &b->p->branches, *o;
	u32 i;

	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
	for (o = b->p->branches; o; o = o->next)
		for (i = 0; i < o->nr_forks; i++)
			if (o->forks[i] == b)
				o->forks[i] = NULL;
	forget_requests(b);
	free(b->ids);
	free(b);
}

void program_destroy(struct program *p)
{
	while (p && p->branches)
		program_drop(p->branches);
	free(p);
}

static int append(struct branch *b, const u32 *ids, u32 nr)
{
	u32 *more = realloc(b->ids, (b->nr + nr) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	b->ids = more;
	memcpy(more + b->nr, ids, nr * sizeof(*ids));
	b->nr += nr;
	return 0;
}

int program_begin(struct program *p, const u32 *ids, u32 nr,
		  struct branch **out, char *err)
{
	struct branch *b = nr ? calloc(1, sizeof(*b)) : NULL;

	if (!nr)
		return err_set(err, -EINVAL, "a branch begins with a token");
	if (!b || append(b, ids, nr)) {
		free(b);
		return err_set(err, -ENOMEM, "no memory for a branch");
	}
	b->p = p;
	b->next = p->branches;
	p->branches = b;
	*out = b;
	return 0;
}

static int busy(const struct branch *b, char *err)
{
	if (b->asked == ASKED_NOTHING)
		return 0;
	return err_set(err, -EBUSY,
		       "the branch waits for what was asked of it: join first");
}

int program_fork(struct branch *b, struct branch **out, char *err)
{
	int rc = busy(b, err);

	return rc ? rc : program_begin(b->p, b->ids, b->nr, out, err);
}

int program_append(struct branch *b, const u32 *ids, u32 nr, char *err)
{
	int rc = busy(b, err);

	if (!rc && nr && append(b, ids, nr))
		rc = err_set(err, -ENOMEM, "no memory for %u tokens", nr);
	return rc;
}

static void on_score(struct request *r, u32 pos, double lp, u32 best, void *ctx)
{
	struct branch *b = ctx;
	u32 i;

	(void)best;
	for (i = 0; i < b->nr_req; i++) {
		/* a request that gave way says again what it said */
		if (b->req[i] != r || pos < b->scored[i])
			continue;
		b->sum[i] += lp;
		b->scored[i] = pos + 1;
	}
}

static void on_done(struct request *r, void *ctx)
{
	struct branch *b = ctx;

	(void)r;
	b->nr_left--;
}

static const struct request_events events = { .score = on_score,
					      .done = on_done };

static int ask(struct branch *b, enum asked what, struct request_params *p,
	       char *err)
{
	int rc;

	p->events = &events;
	p->ctx = b;
	if (!p->prompt) {
		p->prompt = b->ids;
		p->nr_prompt = b->nr;
	}
	b->sum[b->nr_req] = 0;
	b->scored[b->nr_req] = 0;
	rc = engine_submit(b->p->e, p, &b->req[b->nr_req], err);
	if (rc)
		return rc;
	b->asked = what;
	b->error = 0;
	b->nr_req++;
	b->nr_left++;
	return 0;
}

static int generate(struct branch *b, enum asked what,
		    const struct program_gen *g, u32 n, char *err)
{
	struct request_params p = {
		.kind = what == ASKED_BEAM ? REQUEST_BEAM : REQUEST_GENERATE,
		.max_new = g->max_new,
		.n = n,
		/* only then is a sum of log-probabilities kept */
		.nr_logprobs = what == ASKED_BEST,
		.ignore_eog = g->ignore_eog,
		.sampling = g->sampling,
	};
	int rc = busy(b, err);

	return rc ? rc : ask(b, what, &p, err);
}

int program_gen(struct branch *b, const struct program_gen *g, char *err)
{
	return generate(b, ASKED_GEN, g, 1, err);
}

int program_gen_n(struct branch *b, const struct program_gen *g, u32 n,
		  struct branch **out, char *err)
{
	struct branch **forks;
	u32 i;
	int rc = busy(b, err);

	if (rc)
		return rc;
	forks = calloc(max(n, 1u), sizeof(struct branch *));
	if (!forks)
		return err_set(err, -ENOMEM, "no memory for %u branches", n);
	for (i = 0; i + 1 < n && !rc; i++)
		rc = program_fork(b, &forks[i], err);
	if (!rc)
		rc = generate(b, ASKED_GEN, g, n, err);
	if (rc) {
		for (i = 0; i + 1 < n && forks[i]; i++)
			program_drop(forks[i]);
		free(forks);
		return rc;
	}
	for (i = 0; i + 1 < n; i++) {
		out[i] = forks[i];
		forks[i]->asked = ASKED_OTHER;
	}
	b->forks = forks;
	b->nr_forks = n - 1;
	return 0;
}

int program_best_of(struct branch *b, const struct program_gen *g, u32 n,
		    char *err)
{
	return generate(b, ASKED_BEST, g, n, err);
}

int program_beam(struct branch *b, const struct program_gen *g, u32 n,
		 char *err)
{
	return generate(b, ASKED_BEAM, g, n, err);
}

int program_select(struct branch *b, const struct program_choice *choices,
		   u32 nr, char *err)
{
	u32 i, *ids = NULL;
	int rc = busy(b, err);

	if (!rc && (!nr || nr > CHOICES_MAX))
		rc = err_set(err, -EINVAL, "%u choices: 1 to %u are possible",
			     nr, CHOICES_MAX);
	for (i = 0; i < nr && !rc; i++) {
		struct request_params p = { .kind = REQUEST_SCORE,
					    .n = 1,
					    .score_from = b->nr,
					    .sampling = SAMPLING_GREEDY };

		if (!choices[i].nr)
			rc = err_set(err, -EINVAL, "choice %u is empty", i);
		ids = rc ? NULL
			 : malloc((b->nr + choices[i].nr) * sizeof(*ids));
		if (!rc && !ids)
			rc = err_set(err, -ENOMEM, "no memory for a choice");
		if (rc)
			break;
		memcpy(ids, b->ids, b->nr * sizeof(*ids));
		memcpy(ids + b->nr, choices[i].ids,
		       choices[i].nr * sizeof(*ids));
		p.prompt = ids;
		p.nr_prompt = b->nr + choices[i].nr;
		rc = ask(b, ASKED_SELECT, &p, err);
		free(ids);
	}
	if (rc)
		forget_requests(b);
	return rc;
}

/* The tokens behind the prompt of a request become the branch's. */
static void take(struct branch *to, const struct seq *s, u32 from)
{
	if (append(to, s->ids + from, s->nr - from))
		to->error = -ENOMEM;
}

static void take_best(struct branch *b, const struct request *r)
{
	const struct seq *s, *best = NULL;
	double mean;
	u32 i;

	for (i = 0; i < request_nr_answers(r); i++) {
		s = request_answer(r, i);
		mean = seq_mean(s);
		if (best && mean <= b->score)
			continue;
		best = s;
		b->score = mean;
		b->selected = i;
	}
	if (best)
		take(b, best, r->p.nr_prompt);
}

static void take_selected(struct branch *b)
{
	u32 i, from = b->nr;
	double mean;

	for (i = 0; i < b->nr_req; i++) {
		mean = b->sum[i] / (b->req[i]->p.nr_prompt - from);
		if (i && mean <= b->score)
			continue;
		b->score = mean;
		b->selected = i;
	}
	take(b, b->req[b->selected]->seqs[0], from);
}

/* Each sample goes to its branch, if that is still there. */
static void take_samples(struct branch *b, const struct request *r)
{
	struct branch *f;
	u32 i;

	for (i = 0; i < b->nr_forks; i++) {
		f = b->forks[i];
		if (!f)
			continue;
		f->asked = ASKED_NOTHING;
		f->error = b->error;
		if (!b->error)
			take(f, r->seqs[i + 1], r->p.nr_prompt);
	}
	if (!b->error)
		take(b, r->seqs[0], r->p.nr_prompt);
}

static void collect(struct branch *b)
{
	const struct request *r = b->req[0];
	u32 i;

	for (i = 0; i < b->nr_req && !b->error; i++)
		b->error = b->req[i]->error;
	if (!b->error && b->asked == ASKED_SELECT)
		take_selected(b);
	else if (b->asked == ASKED_GEN)
		take_samples(b, r);
	else if (!b->error)
		take_best(b, r);
	forget_requests(b);
}

static bool is_pending(const struct program *p)
{
	const struct branch *b;

	for (b = p->branches; b; b = b->next)
		if (b->nr_left)
			return true;
	return false;
}

int program_join(struct program *p, char *err)
{
	struct branch *b;
	int rc;

	while (is_pending(p)) {
		rc = engine_step(p->e, err);
		if (rc < 0)
			return rc;
	}
	for (b = p->branches; b; b = b->next)
		if (b->asked != ASKED_NOTHING && b->asked != ASKED_OTHER)
			collect(b);
	return 0;
}

const u32 *program_ids(const struct branch *b, u32 *nr)
{
	*nr = b->nr;
	return b->ids;
}

int program_error(const struct branch *b)
{
	return b->error;
}

u32 program_selected(const struct branch *b)
{
	return b->selected;
}

double program_score(const struct branch *b)
{
	return b->score;
}
