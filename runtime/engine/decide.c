/* SPDX-License-Identifier: MIT */
/*
 * decide.c - from logits to tokens, scores and finished sequences
 *
 * Rows come in blocks that fit the logits buffer. Of a row whose sequence takes
 * the likeliest token and no more, the product that makes the logits keeps only
 * that. For the others of a block one pass over the rows finds the largest
 * entry of each and, where somebody wants log-probabilities, the sum of
 * exponentials and the K largest; then each row's sequence is served in the
 * order of the rows, so that what happens depends on arrival only.
 *
 * A draw looks at a whole row, so it is computed like the rest: the rows of a
 * block are shared out to the threads of the pool, each with a sampler of its
 * own, before the first is served. What is drawn depends on nothing but the
 * row and its sequence.
 *
 * The row that ends a prompt of n samples decides the first token of all of
 * them: the sequence is forked n - 1 times at the prompt's length, before any
 * of them writes, and where that could be foreseen while the logits were
 * computed (plan.c).
 */
#include <errno.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"
#include "runtime/model/vocab.h"
#include "kernels/cpu/pool.h"

bool decide_is_end(const struct engine *e, const struct request *r, u32 id)
{
	return !r->p.ignore_eog && e->o.vocab && vocab_is_eog(e->o.vocab, id);
}

static u32 row_nr_top(const struct engine *e, const struct request *r)
{
	return r->p.kind == REQUEST_BEAM
		       ? max(beam_width(e, r), r->p.nr_logprobs)
		       : r->p.nr_logprobs;
}

static bool row_wants_lse(const struct engine *e, const struct request *r)
{
	return request_scores(&r->p) || row_nr_top(e, r);
}

static void append_failed(struct engine *e, struct request *r)
{
	sched_fail(e, r, -ENOMEM, "no memory for another token");
}

/* Append a decided token; the sequence may end by it. */
static void accept(struct engine *e, struct seq *s, u32 id,
		   const struct token_logprob *lps)
{
	struct request *r = s->req;

	if (seq_append(s, id, lps)) {
		append_failed(e, r);
		return;
	}
	e->stats.nr_decode++;
	if (decide_is_end(e, r, id))
		s->finish = FINISH_STOP;
	else if (seq_nr_new(s) >= r->p.max_new || s->nr >= e->o.context)
		s->finish = FINISH_LENGTH;
	if (r->p.events && r->p.events->token)
		r->p.events->token(r, s->index, id, r->p.ctx);
	if (s->finish != FINISH_NONE && !r->p.keep)
		sched_drop_ended(e, s);
}

/* The likeliest of a row, for whoever keeps them. */
static void note_alternatives(struct engine *e, const struct request *r,
			      const struct row_info *row)
{
	u32 i;

	for (i = 0; i < r->p.nr_logprobs; i++)
		e->lps[i] = row_token(row, i);
}

static u32 draw(struct sampler *sampler, const struct seq *s,
		const float *logits)
{
	const struct request *r = s->req;
	const struct sampler_history h = {
		.ids = s->ids,
		.nr = s->nr,
		.nr_prompt = r->p.nr_prompt,
	};

	return sampler_pick(sampler, &r->p.sampling, logits, &h, s->index);
}

/* @own: the sequence that computed the row. */
static void sample_row(struct engine *e, struct seq *s, bool own,
		       const struct row_info *row)
{
	const struct request *r = s->req;
	u32 id = row->argmax;

	if (!sampler_is_argmax(&r->p.sampling))
		id = own ? row->drawn : draw(e->samplers[0], s, row->logits);
	if (row_wants_lse(e, r))
		s->cum += (double)row->logits[id] - row->lse;
	accept(e, s, id, e->lps);
}

/* One sequence becomes n, which share everything so far. */
static int fork_samples(struct engine *e, struct seq *s)
{
	struct request *r = s->req;
	struct seq *c;
	int rc;

	while (r->nr_seqs < r->p.n) {
		c = seq_clone(s);
		if (!c) {
			append_failed(e, r);
			return -ENOMEM;
		}
		rc = 0;
		if (!plan_fork(e, r, r->nr_seqs, &c->space))
			rc = e->b->ops->space_fork(e->b, s->space,
						   s->nr_computed, &c->space);
		if (rc) {
			c->space = KV_SPACE_NONE;
			seq_destroy(c);
			sched_fail(e, r, rc, "fork of the prompt: %s",
				   e->b->ops->error(e->b));
			return rc;
		}
		c->nr_computed = s->nr_computed;
		c->index = r->nr_seqs;
		r->seqs[r->nr_seqs++] = c;
	}
	return 0;
}

static void generate_row(struct engine *e, struct seq *s,
			 const struct row_info *row)
{
	struct request *r = s->req;
	u32 i, first = s->index, nr = 1;
	bool live = false;

	if (r->nr_seqs < r->p.n) {
		if (fork_samples(e, s))
			return;
		first = 0;
		nr = r->p.n;
	}
	/* before anybody is told: who submits then may move the rest of a row
	 */
	note_alternatives(e, r, row);
	/* what is told of one token may end the others */
	for (i = first; i < first + nr && r->state == REQUEST_RUNNING; i++)
		if (r->seqs[i]->finish == FINISH_NONE)
			sample_row(e, r->seqs[i], r->seqs[i] == s, row);
	for (i = 0; i < r->nr_seqs; i++)
		live |= r->seqs[i]->finish == FINISH_NONE;
	if (!live && !r->held && r->state == REQUEST_RUNNING)
		sched_finish(e, r);
}

static void score_row(struct engine *e, const struct out_row *o,
		      const struct row_info *row)
{
	struct request *r = o->seq->req;
	u32 next = o->seq->ids[o->pos + 1];

	if (r->p.events && r->p.events->score)
		r->p.events->score(r, o->pos + 1,
				   (double)row->logits[next] - row->lse,
				   row->argmax, r->p.ctx);
}

/* Of a prompt that is answered as well. */
static void prompt_row(struct engine *e, const struct out_row *o,
		       const struct row_info *row)
{
	struct request *r = o->seq->req;
	u32 next = o->seq->ids[o->pos + 1];

	if (!r->p.events || !r->p.events->prompt_score)
		return;
	note_alternatives(e, r, row);
	r->p.events->prompt_score(r, o->pos + 1,
				  (double)row->logits[next] - row->lse, e->lps,
				  r->p.ctx);
}

static void serve_row(struct engine *e, const struct out_row *o,
		      const struct row_info *row)
{
	if (o->seq->req->state != REQUEST_RUNNING)
		return;
	switch (o->seq->req->p.kind) {
	case REQUEST_GENERATE:
		if (o->pos + 1 < o->seq->req->p.nr_prompt)
			prompt_row(e, o, row);
		else
			generate_row(e, o->seq, row);
		break;
	case REQUEST_BEAM:
		beam_row(e, o->seq, row);
		break;
	case REQUEST_SCORE:
		score_row(e, o, row);
		break;
	}
}

/* ---- draws ---- */

struct draws {
	struct engine *e;
	const struct out_row *rows; /* [nr] */
	const float *logits; /* [nr][vocab] */
	u32 nr;
	u32 next; /* atomic */
};

static bool is_drawn(const struct out_row *o)
{
	const struct request *r = o->seq->req;

	return o->pos + 1 >= r->p.nr_prompt && r->state == REQUEST_RUNNING &&
	       r->p.kind == REQUEST_GENERATE &&
	       !sampler_is_argmax(&r->p.sampling);
}

/* One who draws: the next row, until there is none. */
static void draw_rows(void *arg, u32 who, void *scratch)
{
	struct draws *d = arg;
	struct engine *e = d->e;
	u32 i;

	(void)scratch;
	while ((i = __atomic_fetch_add(&d->next, 1, __ATOMIC_RELAXED)) <
	       d->nr) {
		const struct out_row *o = &d->rows[i];

		if (is_drawn(o))
			e->drawn[i] =
				draw(e->samplers[who], o->seq,
				     d->logits + (size_t)i * e->m->hp.vocab);
	}
}

static void draw_block(struct engine *e, u32 first, u32 nr, const float *logits)
{
	struct draws d = {
		.e = e,
		.rows = e->batch.out + first,
		.logits = logits,
		.nr = nr,
	};
	u32 i, n = 0;

	for (i = 0; i < nr; i++)
		n += is_drawn(&d.rows[i]);
	if (n)
		pool_run(e->x->pool, draw_rows, &d, min(n, e->nr_samplers));
}

/*
 * Is more wanted of a request's rows than the largest entry? Where the model
 * caps logits, which makes some of them equal, that is looked for afterwards.
 */
static bool is_kept(const struct engine *e, const struct request *r)
{
	return row_wants_lse(e, r) || !sampler_is_argmax(&r->p.sampling) ||
	       e->m->hp.logit_softcap > 0.0f;
}

/* Logits are kept of a number of rows at a time; of others there are none. */
static u32 block_rows(const struct engine *e, u32 first)
{
	u32 nr = e->batch.nr_out - first, i = 0;

	while (i < nr && !is_kept(e, e->batch.out[first + i].seq->req))
		i++;
	return max(i, min(nr, e->o.logit_rows));
}

/* Logits of a block, and what is asked of those that are kept: to @p. */
static void block_logits(struct engine *e, u32 first, u32 nr,
			 struct kern_logits *p)
{
	const struct out_row *rows = e->batch.out + first;
	u32 nr_kept = 0, i;

	for (i = 0; i < nr; i++) {
		const struct request *r = rows[i].seq->req;

		e->keep[i] = is_kept(e, r);
		nr_kept += e->keep[i];
		p->k = max(p->k, row_nr_top(e, r));
		if (row_wants_lse(e, r))
			p->lse = e->lse;
	}
	if (nr_kept == nr) {
		p->x = forward_logits(e->f, first, nr, NULL, NULL);
	} else {
		p->keep = nr_kept ? e->keep : NULL;
		p->x = forward_logits(e->f, first, nr, e->best, p->keep);
	}
	if (nr_kept)
		e->x->ops->logits(e->x, p, nr);
}

/* What is known of the i-th row of a block. */
static struct row_info row_of(const struct engine *e,
			      const struct kern_logits *p, u32 i)
{
	if (!e->keep[i])
		return (struct row_info){ .argmax = e->best[i].id };
	return (struct row_info){
		.logits = p->x + (size_t)i * p->len,
		.argmax = e->argmax[i],
		.drawn = e->drawn[i],
		.lse = p->lse ? e->lse[i] : 0.0,
		.top_ids = e->top_ids + (size_t)i * p->k,
		.top = e->top + (size_t)i * p->k,
	};
}

static void block(struct engine *e, u32 first, u32 nr)
{
	double start = engine_now(e);
	double from = clock_s();
	struct kern_logits p = { .len = e->m->hp.vocab,
				 .argmax = e->argmax,
				 .top_ids = e->top_ids,
				 .top = e->top };
	u32 i;

	ahead_receive(e);
	block_logits(e, first, nr, &p);
	draw_block(e, first, nr, p.x);
	ahead_end(e);
	e->stats.compute_s += engine_now(e) - start;
	host_lap(&e->logits_s, from);
	for (i = 0; i < nr; i++) {
		const struct row_info row = row_of(e, &p, i);

		serve_row(e, &e->batch.out[first + i], &row);
	}
}

/* What a simulated machine says. */
static void simulated(struct engine *e)
{
	const struct engine_machine *m = e->o.machine;
	u32 i;

	for (i = 0; i < e->batch.nr_out; i++) {
		const struct row_info row = {
			.argmax = m->token(m->ctx, e->batch.out[i].seq),
		};

		serve_row(e, &e->batch.out[i], &row);
	}
}

void decide(struct engine *e)
{
	u32 i, nr;

	ahead_part(e);
	if (e->o.machine)
		simulated(e);
	for (i = 0; i < e->batch.nr_out && !e->o.machine; i += nr) {
		nr = block_rows(e, i);
		block(e, i, nr);
	}
	for (i = 0; i < e->nr_step; i++) {
		struct request *r = e->step[i]->req;

		/* Beams move when all have their rows: see beam.c. */
		if (i && e->step[i - 1]->req == r)
			continue;
		if (r->state != REQUEST_RUNNING)
			continue;
		if (r->p.kind == REQUEST_BEAM)
			beam_advance(e, r);
		else if (r->p.kind == REQUEST_SCORE &&
			 r->seqs[0]->nr_computed + 1 == r->seqs[0]->nr) {
			r->seqs[0]->finish = FINISH_LENGTH;
			sched_finish(e, r);
		}
	}
	plan_rest(e);
}
