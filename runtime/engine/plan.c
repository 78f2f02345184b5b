/* SPDX-License-Identifier: MIT */
/*
 * plan.c - the step after this one, made while this one computes
 *
 * A plan is what sched_pick() will take of those that run: sequences, tokens,
 * tables, positions, and which pages they need. It is made of what will be
 * when the step at hand has ended, if it ends as can be foreseen: each row of
 * logits becomes one token, whose id is not known yet, and ends its sequence
 * only if that is as long as it may become.
 *
 * What cannot be foreseen is found when the plan is to be used. A plan is used
 * only where sched_pick() would have taken the same without it, so which
 * requests are in a step, and in which order, does not depend on plans:
 *
 *	a sequence has ended, or its	its row is taken out, if no other one
 *	request does not run any more	was left out for want of room; else
 *	(an end token, cancelled, gave	the plan is of no use
 *	way, has failed)
 *	somebody has come in		the plan is of no use
 *	a sequence is not where it	likewise
 *	should be
 *	how long chunks are: decodes	sched.c takes them as always, and of
 *	end, a budget of time has	the batch what was planned of them
 *	moved, others come that part	stays up to the first that is another
 *	from them			one
 *	somebody waits			is admitted behind what was planned,
 *					as always
 *
 * Who is forked when the step has ended, since a prompt of several samples
 * does or because beams move, is late: its row, and where it is, are known, but
 * not its space, nor which beam it goes on from. That is put in when the plan
 * is used. So a sequence is named by its request and its place there. Fewer
 * beams than asked for have ended, as far as the plan goes.
 *
 * Who will share a prompt is forked from one sequence, at its end, whatever is
 * decided: as soon as the step is committed, and what was published of the
 * prompt with it, while logits are computed (plan_part()). So the page that
 * they part in is asked for with the rest. Not before: a fork knows of what
 * was published then, and the step at hand writes to that page where it is.
 *
 * Nothing else was reserved or computed by a plan, so there is nothing else to
 * undo: forks that nobody came for are destroyed when all is decided, and what
 * was asked for ahead in vain is what libkv drops (kv_step_prefetch()).
 *
 * No plan is made where the next step depends on more: somebody comes by a
 * turn, gave way with several samples and is about to share its prompt again,
 * beams of which some wait for others, and the schedules that are there to be
 * compared with.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"

int plan_init(struct engine *e)
{
	struct plan *p = &e->plan;

	p->rows = calloc(e->o.max_seqs, sizeof(*p->rows));
	p->seqs = calloc(e->o.max_seqs, sizeof(*p->seqs));
	p->items = calloc(e->o.max_seqs, sizeof(*p->items));
	if (!p->rows || !p->seqs || !p->items)
		return -ENOMEM;
	return batch_init(&p->batch, e->o.max_seqs, e->o.step_tokens);
}

void plan_fini(struct engine *e)
{
	free(e->plan.rows);
	free(e->plan.seqs);
	free(e->plan.items);
	batch_fini(&e->plan.batch);
}

/* Does a sequence have another token when the step has ended? */
static bool gets_token(const struct engine *e, const struct seq *s)
{
	return sched_after(e, s).len > s->nr;
}

/* Do some beams have theirs, while others wait for it? */
static bool beams_part(const struct engine *e, const struct request *r)
{
	bool first = gets_token(e, r->seqs[0]);
	u32 k;

	for (k = 1; k < r->nr_seqs; k++)
		if (gets_token(e, r->seqs[k]) != first)
			return true;
	return false;
}

/* Is it decided by more than what its sequences need? */
static bool is_open(const struct engine *e, const struct request *r)
{
	bool others_wait;

	(void)sched_leader(r, &others_wait);
	return others_wait || (r->p.kind == REQUEST_BEAM && beams_part(e, r));
}

/* Will it have other sequences, or these in other places? */
static bool is_late(const struct engine *e, const struct request *r)
{
	return (r->p.kind == REQUEST_BEAM || r->nr_seqs < r->p.n) &&
	       gets_token(e, r->seqs[0]);
}

/* Is it known what it will be forked from, and at which token? */
static bool parts(const struct plan_row *row)
{
	return row->late && row->k && row->req->nr_seqs == 1;
}

/* The sequence is @s now, or is forked from it. */
static void plan_seq(struct engine *e, const struct plan_row *row,
		     struct seq *s, const struct seq_after *a)
{
	struct plan *p = &e->plan;
	/* if the step's budget is this one's */
	u32 nr = sched_room(e, s, a, p->nr_tokens, p->nr == p->nr_decodes);

	if (!nr || p->nr == e->o.max_seqs) {
		p->full |= a->need == 1;
		return;
	}
	p->rows[p->nr] = *row;
	p->items[p->nr++] = (struct kv_resv_item){
		.space = s->space,
		.nr_tokens = nr,
		.pos = a->pos,
	};
	p->nr_tokens += nr;
	p->nr_late += row->late;
	p->nr_parting += parts(row);
	batch_add(e, &p->batch, s, a->pos, nr, a->len);
}

static void plan_request(struct engine *e, struct request *r, bool decode)
{
	bool late = is_late(e, r);
	u32 k, nr = late ? r->p.n : r->nr_seqs;

	for (k = 0; k < nr; k++) {
		struct seq *s = r->seqs[late ? 0 : k];
		struct seq_after a = sched_after(e, s);
		struct plan_row row = { r, k, a.need, late, KV_SPACE_NONE };

		if (s->finish != FINISH_NONE || s->space == KV_SPACE_NONE ||
		    !a.need || (a.need == 1) != decode)
			continue;
		plan_seq(e, &row, s, &a);
	}
}

static void plan_all(struct engine *e, bool decode)
{
	u32 i;

	for (i = 0; i < e->nr_run; i++)
		plan_request(e, e->run[i], decode);
}

bool plan_make(struct engine *e)
{
	struct plan *p = &e->plan;
	u32 i;

	p->made = p->full = false;
	p->nr = p->nr_tokens = p->nr_late = p->nr_parting = 0;
	p->nr_decodes = 0;
	batch_cut(&p->batch, 0);
	if (e->o.one_by_one || e->o.batching != ENGINE_BATCH_ITERATION ||
	    e->o.prefill != ENGINE_PREFILL_CHUNKED || e->nr_comers)
		return false;
	for (i = 0; i < e->nr_run; i++)
		if (is_open(e, e->run[i]))
			return false;
	plan_all(e, true);
	p->nr_decodes = p->nr;
	plan_all(e, false);
	p->made = true;
	p->nr_joined = e->nr_joined;
	return true;
}

/*
 * In which space the pages of a row are asked for. Which beams go on is not
 * known; where all begin a page each of them asks for its own, and those of
 * beams that end are there for those that are forked. Between two such places
 * as many pages come free as are copied.
 */
static u32 space_ahead(const struct plan_row *row,
		       const struct kv_resv_item *it)
{
	const struct request *r = row->req;

	if (!row->late)
		return it->space;
	if (r->nr_seqs == 1)
		return row->k ? row->fork : r->seqs[0]->space;
	if (row->k >= r->nr_seqs || it->pos % MODEL_PAGE_TOKENS)
		return KV_SPACE_NONE;
	return r->seqs[row->k]->space;
}

static void ask(struct engine *e)
{
	const struct plan *p = &e->plan;
	u32 i, n = 0;

	for (i = 0; i < p->nr; i++) {
		struct kv_resv_item it = p->items[i];

		if (!p->rows[i].req)
			continue;
		it.space = space_ahead(&p->rows[i], &it);
		if (it.space != KV_SPACE_NONE)
			e->asks[n++] = it;
	}
	if (n)
		e->b->ops->step_prefetch(e->b, e->asks, n);
}

void plan_ask(struct engine *e)
{
	const struct plan *p = &e->plan;
	u32 i;

	for (i = 0; i < p->nr; i++) {
		const struct seq *s = p->rows[i].req->seqs[0];

		if (s->again < s->again_to)
			back_ask(e, s, (u32)p->items[i].pos);
	}
	ask(e);
}

/* ---- who shares a prompt when the step has ended ---- */

void plan_part(struct engine *e)
{
	struct plan *p = &e->plan;
	u32 i, n = 0;

	if (!p->nr_parting)
		return;
	p->nr_parting = 0;
	for (i = 0; i < p->nr; i++) {
		struct plan_row *row = &p->rows[i];
		const struct request *r = row->req;

		if (!r || !parts(row) || r->state != REQUEST_RUNNING ||
		    r->seqs[0]->space != p->items[i].space ||
		    r->seqs[0]->nr_computed != p->items[i].pos)
			continue;
		/* whatever fails here is found by who decides */
		if (e->b->ops->space_fork(e->b, p->items[i].space,
					  p->items[i].pos, &row->fork))
			row->fork = KV_SPACE_NONE;
		else
			n++;
	}
	p->nr_forks = n;
	if (n)
		ask(e);
}

bool plan_fork(struct engine *e, const struct request *r, u32 k, u32 *space)
{
	struct plan *p = &e->plan;
	u32 i;

	for (i = 0; i < p->nr && p->nr_forks; i++) {
		struct plan_row *row = &p->rows[i];

		if (row->req != r || row->k != k || row->fork == KV_SPACE_NONE)
			continue;
		*space = row->fork;
		row->fork = KV_SPACE_NONE;
		p->nr_forks--;
		return true;
	}
	return false;
}

void plan_rest(struct engine *e)
{
	struct plan *p = &e->plan;
	u32 i;

	for (i = 0; i < p->nr && p->nr_forks; i++) {
		if (p->rows[i].fork == KV_SPACE_NONE)
			continue;
		e->b->ops->space_destroy(e->b, p->rows[i].fork);
		p->rows[i].fork = KV_SPACE_NONE;
		p->nr_forks--;
	}
}

void plan_forget(struct engine *e, const struct request *r)
{
	u32 i;

	for (i = 0; i < e->plan.nr; i++)
		if (e->plan.rows[i].req == r)
			e->plan.rows[i].req = NULL;
}

/* Whose row it is, now that the step has ended; NULL: who has ended. */
static struct seq *seq_of(const struct plan_row *row)
{
	struct request *r = row->req;
	struct seq *s;

	if (!r || r->state != REQUEST_RUNNING || row->k >= r->nr_seqs)
		return NULL;
	s = r->seqs[row->k];
	return s->finish == FINISH_NONE ? s : NULL;
}

/* Is everybody who decodes, and has not ended, where the plan has them? */
static bool plan_holds(struct plan *p, u32 *nr_ended)
{
	u32 i;

	*nr_ended = 0;
	for (i = 0; i < p->nr_decodes; i++) {
		const struct plan_row *row = &p->rows[i];
		const struct seq *s = p->seqs[i] = seq_of(row);

		if (!s) {
			(*nr_ended)++;
			continue;
		}
		if (row->late)
			p->items[i].space = s->space;
		if (s->space == KV_SPACE_NONE ||
		    s->space != p->items[i].space ||
		    seq_pos(s) != p->items[i].pos || sched_need(s) != row->need)
			return false;
	}
	return !*nr_ended || !p->full;
}

/* Who decodes and has not ended; the batch is right up to who has. */
static void take_decodes(struct engine *e)
{
	struct plan *p = &e->plan;
	u32 i;

	for (i = 0; i < p->nr_decodes; i++) {
		struct seq *s = p->seqs[i];

		if (!s) {
			batch_cut(&p->batch, min(i, p->batch.nr_seqs));
			continue;
		}
		s->step_tokens = p->items[i].nr_tokens;
		e->nr_tokens += s->step_tokens;
		e->step[e->nr_step] = s;
		e->items[e->nr_step++] = p->items[i];
	}
}

#define SWAP(a, b)                   \
	do {                         \
		typeof(a) __t = (a); \
		(a) = (b);           \
		(b) = __t;           \
	} while (0)

bool plan_take(struct engine *e)
{
	struct plan *p = &e->plan;
	bool made = p->made;
	u32 nr_ended;

	p->made = false;
	if (!made)
		return false;
	if (p->nr_joined != e->nr_joined || !plan_holds(p, &nr_ended)) {
		e->stats.nr_replanned++;
		return false;
	}
	take_decodes(e);
	p->nr_taken = e->nr_step;
	SWAP(e->batch, p->batch);
	e->stats.nr_planned++;
	return true;
}

static bool is_planned(const struct plan_row *row,
		       const struct kv_resv_item *planned, const struct seq *s,
		       const struct kv_resv_item *it)
{
	return seq_of(row) == s && row->need == sched_need(s) &&
	       planned->space == it->space && planned->pos == it->pos &&
	       planned->nr_tokens == it->nr_tokens;
}

void plan_keep(struct engine *e)
{
	struct plan *p = &e->plan;
	struct batch *b = &e->batch;
	u32 i = p->nr_taken, k;

	for (k = p->nr_decodes; k < p->nr && i < e->nr_step; k++, i++)
		if (!is_planned(&p->rows[k], &p->items[k], e->step[i],
				&e->items[i]))
			break;
	batch_cut(b, min(i, b->nr_seqs));
	if (p->nr_late)
		batch_seat(e, b, e->step);
	e->stats.nr_planned_chunks += b->nr_seqs - min(b->nr_seqs, p->nr_taken);
	p->nr = 0;
}
