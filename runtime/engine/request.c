/* SPDX-License-Identifier: MIT */
/*
 * request.c - the memory of requests and sequences
 *
 * Nothing here knows spaces or steps: whoever destroys a sequence that has a
 * space has given that back before.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/request.h"
#include "runtime/engine/kv_backend.h"

struct seq *seq_create(struct request *r)
{
	struct seq *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->req = r;
	s->space = KV_SPACE_NONE;
	s->cap = r->p.nr_prompt + min(r->p.max_new, 256u) + 1;
	s->ids = malloc(s->cap * sizeof(*s->ids));
	if (r->p.kind == REQUEST_BEAM)
		s->cand = calloc(2 * r->p.n, sizeof(*s->cand));
	if (r->p.nr_logprobs)
		s->lps = malloc((size_t)(s->cap - r->p.nr_prompt) *
				r->p.nr_logprobs * sizeof(*s->lps));
	if (!s->ids || (r->p.kind == REQUEST_BEAM && !s->cand) ||
	    (r->p.nr_logprobs && !s->lps)) {
		seq_destroy(s);
		return NULL;
	}
	return s;
}

void seq_destroy(struct seq *s)
{
	if (!s)
		return;
	free(s->ids);
	free(s->lps);
	free(s->cand);
	free(s);
}

/* Room for ids up to @nr, and for their log-probabilities. */
static int seq_grow(struct seq *s, u32 nr)
{
	u32 cap = max(nr, s->cap + s->cap / 2);
	u32 k = s->req->p.nr_logprobs;
	void *p;

	if (nr <= s->cap)
		return 0;
	p = realloc(s->ids, cap * sizeof(*s->ids));
	if (!p)
		return -ENOMEM;
	s->ids = p;
	if (k) {
		p = realloc(s->lps, (size_t)(cap - s->req->p.nr_prompt) * k *
					    sizeof(*s->lps));
		if (!p)
			return -ENOMEM;
		s->lps = p;
	}
	s->cap = cap;
	return 0;
}

struct seq *seq_clone(const struct seq *s)
{
	struct seq *c = seq_create(s->req);
	u32 k = s->req->p.nr_logprobs;

	if (!c)
		return NULL;
	if (seq_grow(c, s->nr + 1)) {
		seq_destroy(c);
		return NULL;
	}
	memcpy(c->ids, s->ids, s->nr * sizeof(*s->ids));
	if (k)
		memcpy(c->lps, s->lps,
		       (size_t)seq_nr_new(s) * k * sizeof(*s->lps));
	c->nr = s->nr;
	c->index = s->index;
	c->cum = s->cum;
	return c;
}

int seq_append(struct seq *s, u32 id, const struct token_logprob *lps)
{
	u32 k = s->req->p.nr_logprobs;
	int rc = seq_grow(s, s->nr + 2); /* beams write one behind */

	if (rc)
		return rc;
	if (k && lps)
		memcpy(s->lps + (size_t)seq_nr_new(s) * k, lps,
		       k * sizeof(*lps));
	s->ids[s->nr++] = id;
	return 0;
}

int seq_restart(struct seq *s, const u32 *ids, u32 nr)
{
	u32 cap = max(nr + 256, s->cap), k = s->req->p.nr_logprobs;
	void *p = realloc(s->ids, cap * sizeof(*s->ids));

	if (!p)
		return -ENOMEM;
	s->ids = p;
	if (k) {
		p = realloc(s->lps, (size_t)(cap - nr) * k * sizeof(*s->lps));
		if (!p)
			return -ENOMEM;
		s->lps = p;
	}
	memcpy(s->ids, ids, nr * sizeof(*ids));
	s->cap = cap;
	s->nr = nr;
	s->req->p.nr_prompt = nr;
	s->finish = FINISH_NONE;
	s->cum = 0.0;
	return 0;
}

struct request *request_create(const struct request_params *p)
{
	struct request *r = calloc(1, sizeof(*r));
	struct seq *s;

	if (!r)
		return NULL;
	r->p = *p;
	r->p.prompt = NULL;
	r->max_seqs = p->n;
	r->seqs = calloc(p->n, sizeof(*r->seqs));
	/* Each of at most n beams can end once more in the last round. */
	r->ended = calloc(3 * (size_t)p->n, sizeof(*r->ended));
	s = r->seqs && r->ended ? seq_create(r) : NULL;
	if (!s) {
		request_destroy(r);
		return NULL;
	}
	memcpy(s->ids, p->prompt, p->nr_prompt * sizeof(*s->ids));
	s->nr = p->nr_prompt;
	r->seqs[r->nr_seqs++] = s;
	return r;
}

void request_destroy(struct request *r)
{
	u32 i;

	if (!r)
		return;
	for (i = 0; i < r->nr_seqs; i++)
		seq_destroy(r->seqs[i]);
	for (i = 0; i < r->nr_ended; i++)
		seq_destroy(r->ended[i]);
	free(r->seqs);
	free(r->ended);
	free(r->message);
	free(r);
}
