/* SPDX-License-Identifier: MIT */
/*
 * sched.c - who computes what in a step
 *
 * First come, first served, within a priority. A step takes the running
 * requests' sequences that miss one token (they decode), then chunks of those
 * that miss more, by arrival, then admits waiting requests by arrival, until
 * its budget is spent. So no decode waits for a prompt, and the budget bounds
 * what it waits for (Sarathi-Serve's stall-free batch). Decodes are in the step
 * whatever the budget is; prompts get what they leave of it, a tile at least if
 * step_tokens has one beyond max_seqs, else a token at least: no more sequences
 * run than a step has tokens. A request whose turn has not come is never
 * overtaken.
 *
 * The budget is step_tokens, or what budget.c finds for a target of time.
 *
 * A request of several samples that is computed again shares its prompt as
 * before: the first live sequence computes it alone, and is forked for the
 * others.
 *
 * Who gives way when memory is short is said in preempt.c.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"

static bool seq_is_live(const struct seq *s)
{
	return s->finish == FINISH_NONE;
}

/* The sequence that computes the prompt, and whether others wait for it. */
struct seq *sched_leader(const struct request *r, bool *others_wait)
{
	struct seq *leader = NULL;
	u32 i;

	*others_wait = false;
	for (i = 0; i < r->nr_seqs; i++) {
		if (!seq_is_live(r->seqs[i]))
			continue;
		if (!leader)
			leader = r->seqs[i];
		else if (r->seqs[i]->space == KV_SPACE_NONE)
			*others_wait = true;
	}
	return leader;
}

/*
 * Do others wait for the prompt that it computes? Who is past the prompt has
 * been forked for them, and need not look.
 */
static bool others_wait_for(const struct seq *s)
{
	const struct request *r = s->req;
	bool others_wait;

	return r->nr_seqs > 1 && s->nr_computed <= r->p.nr_prompt &&
	       sched_leader(r, &others_wait) == s && others_wait;
}

u32 sched_need(const struct seq *s)
{
	/* Nobody asks what follows the last token of a scored text. */
	u32 goal = s->nr - (s->req->p.kind == REQUEST_SCORE);

	if (!seq_is_live(s) || s->space == KV_SPACE_NONE)
		return 0;
	if (s->again < s->again_to)
		return s->again_to - s->again;
	if (others_wait_for(s))
		goal = min(goal, s->req->p.nr_prompt);
	return goal - min(goal, s->nr_computed);
}

static void take(struct engine *e, struct seq *s, u32 nr)
{
	if (e->nr_step == min(e->o.max_seqs, KV_RESV_MAX))
		return;
	s->step_tokens = nr;
	e->step[e->nr_step] = s;
	e->items[e->nr_step++] = (struct kv_resv_item){
		.space = s->space,
		.nr_tokens = nr,
		.pos = seq_pos(s),
	};
	e->nr_tokens += nr;
}

/* Rows of what is computed again, of @left. */
static u32 again_rows(u32 pos, u32 left, bool is_first)
{
	u32 rest = (pos + left) % MODEL_PAGE_TOKENS;

	if (left > rest)
		return left - rest;
	/* decodes may leave so little for as long as they come and go */
	return is_first ? left : 0;
}

u32 sched_room(const struct engine *e, const struct seq *s,
	       const struct seq_after *a, u32 taken, bool is_first)
{
	u32 most = a->need == 1 ? e->o.step_tokens : e->step_limit;
	u32 left = most - min(most, taken);
	u32 nr = min(a->need, left);

	if (nr < a->need && e->o.prefill == ENGINE_PREFILL_WHOLE && !is_first)
		return 0; /* it waits for a step that it fits into */
	if (nr < a->need && a->again)
		nr = again_rows(a->pos, left, is_first);
	nr = s->req->fits ? min(nr, s->req->fits) : nr;
	return a->again ? nr : twins_cut(e, s, a->pos, nr);
}

/* Sequences of a running request that miss one token, or more. */
void sched_take(struct engine *e, struct request *r, bool decode)
{
	u32 i, nr;

	for (i = 0; i < r->nr_seqs; i++) {
		struct seq *s = r->seqs[i];
		struct seq_after now = {
			.pos = seq_pos(s),
			.need = sched_need(s),
			.len = s->nr,
			.again = s->again < s->again_to,
		};

		if (!now.need || (now.need == 1) != decode)
			continue;
		nr = sched_room(e, s, &now, e->nr_tokens, !e->nr_chunks);
		if (!nr)
			continue;
		take(e, s, nr);
		e->nr_chunks += !decode;
	}
}

u32 sched_nr_live(const struct request *r)
{
	u32 i, n = 0;

	for (i = 0; i < r->nr_seqs; i++)
		n += seq_is_live(r->seqs[i]);
	/* Before its fork a request is what it will be. */
	return r->nr_seqs == 1 ? r->p.n : n;
}

void sched_publish(struct engine *e, const struct seq *s, bool resume)
{
	if (!e->o.prefix_cache || s->space == KV_SPACE_NONE ||
	    !s->nr_computed || s->again < s->again_to || s->req->unshared)
		return;
	s->req->shares = true;
	twins_publish(e, s, resume);
}

/*
 * Whoever goes on from the answer finds it. The prompt is published, and would
 * count as used once more.
 */
void sched_drop_ended(struct engine *e, struct seq *s)
{
	if (s->nr_computed > s->req->p.nr_prompt)
		sched_publish(e, s, true);
	sched_drop_space(e, s);
}

void sched_drop_space(struct engine *e, struct seq *s)
{
	if (s->space != KV_SPACE_NONE)
		e->b->ops->space_destroy(e->b, s->space);
	s->space = KV_SPACE_NONE;
	s->nr_computed = s->nr_mapped = s->again = s->again_to = 0;
}

void sched_drop_pages(struct engine *e, struct request *r)
{
	u32 i;

	for (i = 0; i < r->nr_seqs; i++) {
		sched_drop_space(e, r->seqs[i]);
		r->seqs[i]->cand_ready = false;
	}
}

u32 sched_running(const struct engine *e)
{
	u32 i, running = 0;

	for (i = 0; i < e->nr_run; i++)
		running += sched_nr_live(e->run[i]);
	return running;
}

void sched_load(const struct engine *e, struct law_load *l)
{
	u32 i;

	*l = (struct law_load){ .tokens = e->nr_tokens };
	for (i = 0; i < e->nr_step; i++) {
		const struct seq *s = e->step[i];
		u32 pos = seq_pos(s);

		l->rows += batch_rows(s, pos, s->step_tokens, s->nr);
		l->work += law_work(e->m, s->step_tokens, pos);
	}
}

static bool somebody_decodes(const struct engine *e)
{
	u32 i, k;

	for (i = 0; i < e->nr_run; i++)
		for (k = 0; k < e->run[i]->nr_seqs; k++)
			if (sched_need(e->run[i]->seqs[k]) == 1)
				return true;
	return false;
}

/* The next to come in, as far as it is known before they are put in order. */
static const struct request *first_waiting(const struct engine *e)
{
	u32 i;

	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->state == REQUEST_WAITING)
			return e->reqs[i];
	return NULL;
}

/* Would tokens of the prompt that come into a step have logits? */
static bool scores_soon(const struct engine *e, const struct seq *s, u32 pos)
{
	u32 left = s->nr - min(pos, s->nr);

	return request_scores(&s->req->p) &&
	       batch_rows(s, pos, min(left, e->o.step_tokens), 0);
}

/* Decodes are in the step: what prompts may fill it up to. Who decodes and
 * comes in later is beside that.
 */
static void set_limit(struct engine *e)
{
	struct law_load load;
	const struct request *next;
	u32 i, pos = 0;
	bool scores;

	e->step_limit = e->o.step_tokens;
	if (!e->o.tbt_slo_ms || !somebody_decodes(e))
		return; /* nobody waits for a token */
	for (i = 0; i < e->nr_run; i++)
		if (sched_need(e->run[i]->seqs[0]) > 1) {
			pos = seq_pos(e->run[i]->seqs[0]);
			break;
		}
	next = i < e->nr_run ? e->run[i] : first_waiting(e);
	scores = next && scores_soon(e, next->seqs[0], pos);
	sched_load(e, &load);
	e->step_limit = budget_tokens(&e->budget, &load, pos, scores);
}

static void take_all(struct engine *e, bool decode)
{
	u32 i;

	for (i = 0; i < e->nr_run; i++)
		sched_take(e, e->run[i], decode);
}

static void take_prompts(struct engine *e)
{
	set_limit(e);
	take_all(e, false);
	admit_waiting(e);
}

/* Steps of decodes and of chunks take turns while there are both. */
static void pick_apart(struct engine *e)
{
	if (e->turn_of_decodes)
		take_all(e, true);
	if (!e->nr_step)
		take_prompts(e);
	if (!e->nr_step)
		take_all(e, true);
	e->turn_of_decodes = e->nr_chunks > 0;
}

void sched_pick(struct engine *e)
{
	e->nr_step = 0;
	e->nr_tokens = 0;
	e->nr_chunks = 0;
	batch_cut(&e->batch, 0);
	e->step_limit = e->o.step_tokens;
	e->has_come = e->naps = false;
	sched_finish_batch(e); /* its last member may have been cancelled */
	reqs_tidy(e);
	admit_comers(e);
	turns_pass(e);
	if (!sched_running(e)) /* nothing to compute while they come */
		admit_comers(e);
	if (plan_take(e)) {
		set_limit(e);
		take_all(e, false);
		plan_keep(e);
		admit_waiting(e);
	} else if (e->o.prefill == ENGINE_PREFILL_APART) {
		pick_apart(e);
	} else {
		take_all(e, true);
		take_prompts(e);
	}
	sched_untake(e, NULL); /* ended by what was told of an admission */
	e->stats.budget = e->step_limit;
}

/* Does a request that has ended stay until its batch has? */
static bool is_held(struct engine *e, struct request *r)
{
	bool failed = r->seqs[0]->finish == FINISH_FAILED;

	if (e->o.batching != ENGINE_BATCH_REQUEST || failed || r->held ||
	    r->state != REQUEST_RUNNING)
		return false;
	r->held = true;
	if (!r->p.keep) /* its place is kept, its memory is not */
		sched_drop_pages(e, r);
	return true;
}

void sched_finish_batch(struct engine *e)
{
	u32 i;

	if (e->o.batching != ENGINE_BATCH_REQUEST)
		return;
	for (i = 0; i < e->nr_run; i++)
		if (!e->run[i]->held)
			return;
	while (e->nr_run) /* who is done leaves the list */
		sched_finish(e, e->run[0]);
}

void sched_finish(struct engine *e, struct request *r)
{
	bool frees = r->state == REQUEST_RUNNING || request_has_pages(r);
	u32 i;

	if (is_held(e, r))
		return;
	reqs_set_comes(e, r, false);
	r->held = false;
	for (i = 0; i < r->nr_seqs; i++) {
		struct seq *s = r->seqs[i];

		/* its prompt is, and samples share that */
		if (s->finish != FINISH_FAILED &&
		    (r->nr_seqs == 1 || s->nr_computed > r->p.nr_prompt))
			sched_publish(e, s, true);
		if (!r->p.keep || s->finish == FINISH_FAILED ||
		    s->again < s->again_to)
			sched_drop_space(e, s);
	}
	reqs_set_state(e, r, REQUEST_DONE);
	index_remove(e, r);
	if (frees && !e->admit_hold && e->admit_cap < e->o.max_seqs)
		e->admit_cap++;
	e->admit_hold &= !frees;
	if (r->p.events && r->p.events->done)
		r->p.events->done(r, r->p.ctx);
}

void sched_fail(struct engine *e, struct request *r, int rc, const char *fmt,
		...)
{
	va_list ap;
	u32 i;

	if (r->state == REQUEST_DONE)
		return;
	va_start(ap, fmt);
	free(r->message);
	if (vasprintf(&r->message, fmt, ap) < 0)
		r->message = NULL;
	va_end(ap);
	r->error = rc;
	for (i = 0; i < r->nr_seqs; i++)
		r->seqs[i]->finish = FINISH_FAILED;
	sched_finish(e, r);
}

struct seq_after sched_after(const struct engine *e, const struct seq *s)
{
	const struct request_params *p = &s->req->p;
	struct seq_after a = { .pos = s->nr_computed, .len = s->nr };
	u32 again = s->again + s->step_tokens;

	if (s->again < s->again_to && again < s->again_to) {
		a.pos = again;
		a.need = s->again_to - again;
		a.again = true;
		return a;
	}
	if (s->again >= s->again_to)
		a.pos += s->step_tokens;
	if (p->kind == REQUEST_SCORE) {
		a.need = s->nr - 1 - min(s->nr - 1, a.pos);
		return a;
	}
	if (a.pos == s->nr) { /* one token more */
		a.len++;
		if (seq_nr_new(s) + 1 >= p->max_new || a.len >= e->o.context)
			return a;
	}
	a.need = a.len - a.pos;
	return a;
}

/*
 * Is it known which spaces will write? Of who is about to fork, of beams that
 * move, and of samples that share a prompt again it is not.
 */
static bool is_settled(const struct engine *e, const struct request *r)
{
	const struct seq *s = r->seqs[0];
	bool others_wait;

	if (r->p.n == 1)
		return true;
	(void)sched_leader(r, &others_wait);
	if (others_wait)
		return false;
	return (r->p.kind != REQUEST_BEAM && r->nr_seqs == r->p.n) ||
	       sched_after(e, s).len == s->nr;
}

static void prefetch_seq(struct engine *e, const struct seq *s, bool decode,
			 u32 *n, u32 *left)
{
	struct seq_after a = sched_after(e, s);
	u32 nr = min(a.need, *left);

	if (!seq_is_live(s) || s->space == KV_SPACE_NONE ||
	    *n == e->o.max_seqs || !(s->req->comes || s->step_tokens))
		return;
	if (!nr || (nr == 1) != decode)
		return;
	if (s->req->comes || s->again < s->again_to)
		back_ask(e, s, a.pos);
	e->asks[(*n)++] = (struct kv_resv_item){
		.space = s->space,
		.nr_tokens = nr,
		.pos = a.pos,
	};
	*left -= nr;
}

static void prefetch_request(struct engine *e, const struct request *r,
			     bool decode, u32 *n, u32 *left)
{
	u32 i;

	if (r->state != (r->comes ? REQUEST_WAITING : REQUEST_RUNNING) ||
	    !is_settled(e, r))
		return;
	for (i = 0; i < r->nr_seqs; i++)
		prefetch_seq(e, r->seqs[i], decode, n, left);
}

/*
 * The next step's items, in its order: sequences that will decode once more,
 * the next chunk of the last prompt, and who comes then.
 */
void sched_prefetch(struct engine *e)
{
	struct request *const *v = e->nr_comers ? e->reqs : e->run;
	u32 nr = e->nr_comers ? e->nr_reqs : e->nr_run;
	u32 i, n = 0, left = e->o.step_tokens;

	for (i = 0; i < nr && left; i++)
		prefetch_request(e, v[i], true, &n, &left);
	left -= min(left, e->o.step_tokens - e->step_limit);
	for (i = 0; i < nr && left; i++)
		prefetch_request(e, v[i], false, &n, &left);
	if (n)
		e->b->ops->step_prefetch(e->b, e->asks, n);
}

void sched_share_prompt(struct engine *e, struct request *r)
{
	bool others_wait;
	struct seq *leader = sched_leader(r, &others_wait);
	u32 i;
	int rc;

	if (!others_wait || leader->nr_computed != r->p.nr_prompt)
		return;
	for (i = 0; i < r->nr_seqs; i++) {
		struct seq *s = r->seqs[i];

		if (!seq_is_live(s) || s->space != KV_SPACE_NONE)
			continue;
		rc = e->b->ops->space_fork(e->b, leader->space,
					   leader->nr_computed, &s->space);
		if (rc) {
			s->space = KV_SPACE_NONE;
			sched_fail(e, r, rc, "fork of the prompt: %s",
				   e->b->ops->error(e->b));
			return;
		}
		s->nr_computed = leader->nr_computed;
	}
}
