/* SPDX-License-Identifier: MIT */
/*
 * beam.c - beam search on fork and free
 *
 * When every beam has its 2n best continuations, the n best of all that do
 * not end become the next generation; those among the n best that end leave
 * as hypotheses. The first child of a beam takes over its sequence and space,
 * further ones fork it, and beams without a child are freed first. So no K or
 * V is copied but what two beams write into one shared page.
 *
 * Beams are ranked by the sum of log-probabilities; hypotheses by the mean,
 * which does not favour the short. The search ends at the length asked for,
 * or when n hypotheses are better than any beam could become in one more step
 * of certainty.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"

struct choice {
	struct seq *from;
	u32 beam; /* index of from: breaks ties */
	u32 id;
	double cum;
};

u32 beam_width(const struct engine *e, const struct request *r)
{
	return min(2 * r->p.n, e->m->hp.vocab);
}

void beam_row(struct engine *e, struct seq *s, const struct row_info *row)
{
	u32 i;

	for (i = 0; i < beam_width(e, s->req); i++)
		s->cand[i] = row_token(row, i);
	/* Kept behind the sequence until it is known which token follows. */
	for (i = 0; i < s->req->p.nr_logprobs; i++)
		s->lps[(size_t)seq_nr_new(s) * s->req->p.nr_logprobs + i] =
			row_token(row, i);
	s->cand_ready = true;
}

static int by_rank(const void *pa, const void *pb)
{
	const struct choice *a = pa, *b = pb;

	if (a->cum != b->cum)
		return a->cum > b->cum ? -1 : 1;
	if (a->beam != b->beam)
		return a->beam < b->beam ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static int by_mean(const void *pa, const void *pb)
{
	const struct seq *a = *(struct seq *const *)pa;
	const struct seq *b = *(struct seq *const *)pb;

	if (seq_mean(a) != seq_mean(b))
		return seq_mean(a) > seq_mean(b) ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

/* The best n hypotheses, in order; the rest is freed. */
static void trim_ended(struct request *r)
{
	qsort(r->ended, r->nr_ended, sizeof(*r->ended), by_mean);
	while (r->nr_ended > r->p.n)
		seq_destroy(r->ended[--r->nr_ended]);
}

static int end_hypothesis(struct request *r, const struct choice *c,
			  enum finish_reason why)
{
	struct seq *s = seq_clone(c->from);

	if (!s || seq_append(s, c->id, NULL)) {
		seq_destroy(s);
		return -ENOMEM;
	}
	/* The clone copied what is decided; the last row's is behind it. */
	if (r->p.nr_logprobs) {
		size_t at = (size_t)(seq_nr_new(s) - 1) * r->p.nr_logprobs;

		memcpy(s->lps + at, c->from->lps + at,
		       r->p.nr_logprobs * sizeof(*s->lps));
	}
	s->cum = c->cum;
	s->finish = why;
	r->ended[r->nr_ended++] = s;
	return 0;
}

/* All continuations, best first. */
static struct choice *rank(const struct engine *e, const struct request *r,
			   u32 *nr)
{
	u32 per = beam_width(e, r), i, j, n = 0;
	struct choice *c = malloc((size_t)r->nr_seqs * per * sizeof(*c));

	for (i = 0; c && i < r->nr_seqs; i++)
		for (j = 0; j < per; j++)
			c[n++] = (struct choice){
				.from = r->seqs[i],
				.beam = i,
				.id = r->seqs[i]->cand[j].id,
				.cum = r->seqs[i]->cum +
				       (double)r->seqs[i]->cand[j].logprob,
			};
	if (c)
		qsort(c, n, sizeof(*c), by_rank);
	*nr = n;
	return c;
}

/* Choices that go on to the front, those that end into r->ended. */
static int split(struct engine *e, struct request *r, struct choice *c, u32 nr,
		 u32 *nr_next)
{
	bool last = r->seqs[0]->nr + 1 >= e->o.context ||
		    seq_nr_new(r->seqs[0]) + 1 >= r->p.max_new;
	u32 i, n = 0;
	int rc = 0;

	for (i = 0; i < nr && n < r->p.n && !rc; i++) {
		if (decide_is_end(e, r, c[i].id)) {
			if (i < r->p.n)
				rc = end_hypothesis(r, &c[i], FINISH_STOP);
		} else if (last) {
			rc = end_hypothesis(r, &c[i], FINISH_LENGTH);
			n++;
		} else {
			c[n++] = c[i];
		}
	}
	trim_ended(r);
	*nr_next = last ? 0 : n;
	return rc;
}

/* No beam can still beat the worst of n hypotheses. */
static bool is_settled(const struct request *r, const struct choice *best)
{
	u32 len = seq_nr_new(best->from) + 1;

	return r->nr_ended == r->p.n &&
	       seq_mean(r->ended[r->nr_ended - 1]) >= best->cum / len;
}

/*
 * A further child, beam @i: the parent as it was before its first child's
 * token.
 */
static int fork_child(struct engine *e, const struct choice *c, u32 i,
		      struct seq **out)
{
	struct seq *s = seq_clone(c->from);
	u32 k = c->from->req->p.nr_logprobs;
	size_t at = (size_t)seq_nr_new(c->from) * k;
	int rc = 0;

	if (!s)
		return -ENOMEM;
	if (k)
		memcpy(s->lps + at, c->from->lps + at, k * sizeof(*s->lps));
	if (!plan_fork(e, c->from->req, i, &s->space))
		rc = e->b->ops->space_fork(e->b, c->from->space,
					   c->from->nr_computed, &s->space);
	if (rc) {
		s->space = KV_SPACE_NONE;
		seq_destroy(s);
		return rc;
	}
	s->nr_computed = c->from->nr_computed;
	*out = s;
	return 0;
}

/* Which beams go on? Free the others before anything is forked. */
static void drop_childless(struct engine *e, struct request *r,
			   const struct choice *c, u32 nr)
{
	u32 i, j, to = 0;

	for (i = 0; i < r->nr_seqs; i++) {
		for (j = 0; j < nr && c[j].from != r->seqs[i]; j++)
			;
		if (j < nr) {
			r->seqs[to++] = r->seqs[i];
			continue;
		}
		sched_drop_space(e, r->seqs[i]);
		/* The step's list may still name it. */
		for (j = 0; j < e->nr_step; j++)
			if (e->step[j] == r->seqs[i])
				e->step[j] = c[0].from;
		seq_destroy(r->seqs[i]);
	}
	r->nr_seqs = to;
}

/*
 * Children 1.. of each beam are forked while it still ends with its parent's
 * token; then every sequence appends its own.
 */
static int next_generation(struct engine *e, struct request *r,
			   struct choice *c, u32 nr)
{
	struct seq **next = calloc(r->p.n, sizeof(*next));
	u32 i, j;
	int rc = next ? 0 : -ENOMEM;

	if (!rc)
		drop_childless(e, r, c, nr);
	for (i = 0; i < nr && !rc; i++) {
		for (j = 0; j < i && c[j].from != c[i].from; j++)
			;
		if (j == i)
			next[i] = c[i].from;
		else
			rc = fork_child(e, &c[i], i, &next[i]);
	}
	if (rc) {
		for (i = 0; next && i < nr; i++)
			if (next[i] && next[i] != c[i].from) {
				sched_drop_space(e, next[i]);
				seq_destroy(next[i]);
			}
		free(next);
		return rc;
	}
	for (i = 0; i < nr; i++) {
		next[i]->index = i;
		next[i]->cum = c[i].cum;
		next[i]->cand_ready = false;
		r->seqs[i] = next[i];
		if (!rc)
			rc = seq_append(next[i], c[i].id, NULL);
	}
	r->nr_seqs = nr;
	free(next);
	return rc;
}

void beam_advance(struct engine *e, struct request *r)
{
	struct choice *c;
	u32 i, nr, nr_next = 0;
	int rc;

	for (i = 0; i < r->nr_seqs; i++)
		if (!r->seqs[i]->cand_ready)
			return;
	c = rank(e, r, &nr);
	rc = c ? split(e, r, c, nr, &nr_next) : -ENOMEM;
	e->stats.nr_decode += nr_next;
	if (!rc && nr_next && !is_settled(r, &c[0]))
		rc = next_generation(e, r, c, nr_next);
	else if (!rc)
		sched_finish(e, r);
	free(c);
	if (rc)
		sched_fail(e, r, rc, "the next beams: %s",
			   rc == -ENOMEM ? "no memory"
					 : e->b->ops->error(e->b));
}
