/* SPDX-License-Identifier: MIT */
/*
 * engine.c - requests in, steps, requests out
 *
 *	sched_pick	who computes how many tokens
 *	sched_reserve	their pages, all or nothing
 *	batch		one flat batch, the copies the step was told to make
 *	ahead		from here to the end of decide: by turns with others.
 *			What can be known of the next step is prepared
 *	forward_run	while this one computes: see ahead.c and plan.c
 *	commit		the pages are the sequences' now; -ESTALE: they are not,
 *			and nothing of the step is used
 *	decide		logits of the rows that want them, tokens, ends, forks
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"
#include "kernels/cpu/pool.h"

#define LOGPROBS_MAX 1024u
#define FAN_OUT_MAX  256u

static u32 or_default(u32 v, u32 def)
{
	return v ? v : def;
}

/* One for each thread that may have a row; memory only when it is used. */
static int alloc_samplers(struct engine *e)
{
	u32 nr = e->o.machine ? 1 : pool_nr_threads(e->x->pool);
	int rc = 0;

	nr = min(nr, e->o.logit_rows);
	e->samplers = calloc(nr, sizeof(struct sampler *));
	if (!e->samplers)
		return -ENOMEM;
	while (!rc && e->nr_samplers < nr) {
		rc = sampler_create(e->m->hp.vocab,
				    &e->samplers[e->nr_samplers]);
		e->nr_samplers += !rc;
	}
	return rc;
}

static int alloc_step(struct engine *e)
{
	u32 t = e->o.step_tokens;

	e->step = calloc(e->o.max_seqs, sizeof(*e->step));
	e->items = calloc(e->o.max_seqs, sizeof(*e->items));
	e->commit = calloc(e->o.max_seqs + 1, sizeof(*e->commit));
	e->commit_ev = calloc(e->o.max_seqs + 1, sizeof(*e->commit_ev));
	e->asks = calloc(e->o.max_seqs, sizeof(*e->asks));
	e->best = calloc(t, sizeof(*e->best));
	e->keep = calloc(t, sizeof(*e->keep));
	e->argmax = calloc(e->o.logit_rows, sizeof(*e->argmax));
	e->drawn = calloc(e->o.logit_rows, sizeof(*e->drawn));
	e->lse = calloc(e->o.logit_rows, sizeof(*e->lse));
	if (!e->step || !e->items || !e->commit || !e->commit_ev || !e->asks ||
	    !e->best || !e->keep || !e->argmax || !e->drawn || !e->lse ||
	    batch_init(&e->batch, e->o.max_seqs, t) || plan_init(e))
		return -ENOMEM;
	return alloc_samplers(e);
}

int engine_create(const struct model *m, struct kern_exec *x,
		  struct kv_backend *b, const struct engine_opts *opts,
		  struct engine **out, char *err)
{
	struct engine *e = calloc(1, sizeof(*e));
	struct forward_caps caps;
	int rc;

	if (!e)
		return err_set(err, -ENOMEM, "no memory for the engine");
	e->m = m;
	e->x = x;
	e->b = b;
	if (opts)
		e->o = *opts;
	e->o.step_tokens = or_default(e->o.step_tokens, 512);
	e->o.max_seqs = min(or_default(e->o.max_seqs, 256), KV_RESV_MAX);
	e->o.max_seqs = min(e->o.max_seqs, e->o.step_tokens);
	e->admit_cap = e->o.max_seqs;
	e->step_limit = e->o.step_tokens;
	budget_init(&e->budget, e->o.tbt_slo_ms * 1e-3, MODEL_PAGE_TOKENS,
		    e->o.step_tokens);
	e->o.logit_rows = or_default(e->o.logit_rows, 64);
	e->o.context = or_default(e->o.context, m->hp.context);
	e->o.wait_ms = or_default(e->o.wait_ms, 30000);
	e->o.slice_ms = or_default(e->o.slice_ms, 700);
	e->o.overtake_max = or_default(e->o.overtake_max, 256);
	e->o.twin_ms = or_default(e->o.twin_ms, 2000);
	e->probe = KV_SPACE_NONE;
	caps = (struct forward_caps){
		.tokens = e->o.step_tokens,
		.seqs = e->o.max_seqs,
		.out_rows = e->o.step_tokens,
		.logit_rows = e->o.logit_rows,
	};
	rc = alloc_step(e);
	if (rc)
		err_set(err, rc, "no memory for the engine");
	else if (!e->o.machine)
		rc = forward_create(m, x, b->kv, &caps, &e->f, err);
	if (rc) {
		engine_destroy(e);
		return rc;
	}
	*out = e;
	return 0;
}

static void free_requests(struct engine *e, struct request **v, u32 nr)
{
	u32 i, j;

	for (i = 0; i < nr; i++) {
		for (j = 0; j < v[i]->nr_seqs; j++)
			sched_drop_space(e, v[i]->seqs[j]);
		request_destroy(v[i]);
	}
}

void engine_destroy(struct engine *e)
{
	if (!e)
		return;
	free_requests(e, e->reqs, e->nr_reqs);
	free_requests(e, e->done, e->nr_done);
	twins_rest(e);
	forward_free(e->f);
	while (e->nr_samplers)
		sampler_free(e->samplers[--e->nr_samplers]);
	free(e->samplers);
	free(e->reqs);
	free(e->run);
	free(e->done);
	free(e->queue);
	free(e->commit);
	free(e->commit_ev);
	free(e->index);
	free(e->step);
	free(e->items);
	free(e->asks);
	batch_fini(&e->batch);
	plan_fini(e);
	free(e->best);
	free(e->keep);
	free(e->argmax);
	free(e->drawn);
	free(e->lse);
	free(e->top_ids);
	free(e->top);
	free(e->lps);
	free(e);
}

static int check_ids(const struct engine *e, const u32 *ids, u32 nr, char *err)
{
	u32 i;

	if (!nr)
		return err_set(err, -EINVAL, "the prompt is empty");
	if (nr > e->o.context)
		return err_set(err, -EINVAL,
			       "the prompt has %u tokens, the context %u", nr,
			       e->o.context);
	for (i = 0; i < nr; i++)
		if (ids[i] >= e->m->hp.vocab)
			return err_set(err, -EINVAL,
				       "token %u is not in the vocabulary of "
				       "%u",
				       ids[i], e->m->hp.vocab);
	return 0;
}

static int check_params(const struct engine *e, const struct request_params *p,
			char *err)
{
	const char *bad = sampler_check(&p->sampling);
	u32 most = min(FAN_OUT_MAX, e->o.max_seqs);

	if (bad)
		return err_set(err, -EINVAL, "%s", bad);
	if (p->kind == REQUEST_SCORE && (p->n != 1 || p->nr_prompt < 2))
		return err_set(err, -EINVAL,
			       "there is nothing to score in %u tokens",
			       p->nr_prompt);
	if (!p->n || p->n > most)
		return err_set(err, -EINVAL,
			       "%u sequences at a time are not possible "
			       "(1 to %u are)",
			       p->n, most);
	if (request_scores(p) && p->score_from >= p->nr_prompt)
		return err_set(err, -EINVAL, "there is no token %u to score",
			       p->score_from);
	if (p->kind != REQUEST_SCORE && !p->max_new)
		return err_set(err, -EINVAL, "no token is asked for");
	if (p->nr_logprobs > min(LOGPROBS_MAX, e->m->hp.vocab))
		return err_set(err, -EINVAL,
			       "%u alternatives per token are too many",
			       p->nr_logprobs);
	if (p->scores && p->kind != REQUEST_GENERATE)
		return err_set(err, -EINVAL, "only generations score too");
	if (e->o.machine && (p->kind != REQUEST_GENERATE || p->nr_logprobs ||
			     p->scores || !sampler_is_argmax(&p->sampling)))
		return err_set(err, -EINVAL,
			       "a simulated machine has no numbers to sample, "
			       "score or rank");
	return check_ids(e, p->prompt, p->nr_prompt, err);
}

/* Room for the K largest of a block. */
static int grow_top(struct engine *e, u32 k)
{
	void *ids, *top, *lps;

	if (k <= e->max_top)
		return 0;
	ids = realloc(e->top_ids, (size_t)e->o.logit_rows * k * sizeof(u32));
	if (ids)
		e->top_ids = ids;
	top = realloc(e->top, (size_t)e->o.logit_rows * k * sizeof(float));
	if (top)
		e->top = top;
	lps = realloc(e->lps, k * sizeof(*e->lps));
	if (lps)
		e->lps = lps;
	if (!ids || !top || !lps)
		return -ENOMEM;
	e->max_top = k;
	return 0;
}

int engine_submit(struct engine *e, const struct request_params *p,
		  struct request **out, char *err)
{
	struct request *r;
	int rc = check_params(e, p, err);

	if (rc)
		return rc;
	if (reqs_reserve(e) ||
	    grow_top(e, max(p->nr_logprobs,
			    p->kind == REQUEST_BEAM ? 2 * p->n : 0)))
		return err_set(err, -ENOMEM, "no memory");
	r = request_create(p);
	if (!r)
		return err_set(err, -ENOMEM, "no memory for the request");
	r->arrival = e->next_arrival++;
	r->since_s = engine_now(e);
	reqs_add(e, r);
	index_add(e, r);
	*out = r;
	return 0;
}

int engine_extend(struct engine *e, struct request *r, const u32 *ids, u32 nr,
		  u32 max_new, char *err)
{
	struct seq *s = r->seqs[0];
	u32 same = 0;
	int rc = check_ids(e, ids, nr, err);

	if (!rc && (r->state != REQUEST_DONE || !r->p.keep || r->p.n != 1 ||
		    r->p.kind != REQUEST_GENERATE || !max_new))
		rc = err_set(err, -EINVAL, "this request cannot go on");
	if (rc)
		return rc;
	/* At least one token is computed: its row decides the next one. */
	while (same < min(s->nr_computed, nr - 1) && s->ids[same] == ids[same])
		same++;
	if (seq_restart(s, ids, nr))
		return err_set(err, -ENOMEM, "no memory");
	if (same < s->nr_computed &&
	    (!same || e->b->ops->space_truncate(e->b, s->space, same)))
		sched_drop_space(e, s);
	else
		s->nr_computed = same;
	free(r->message);
	r->message = NULL;
	r->error = 0;
	r->p.max_new = max_new;
	r->nr_restarts = 0;
	r->nr_iters = 0;
	r->reached = 0;
	r->far = 0;
	r->back_s = 0;
	r->yields = false;
	reqs_set_state(e, r, REQUEST_WAITING);
	r->arrival = e->next_arrival++;
	r->since_s = engine_now(e);
	reqs_remove(e, r);
	reqs_add(e, r);
	r->asked = r->twin_off = r->unshared = r->has_begun = false;
	r->match = r->soon = r->known = r->overtaken = 0;
	r->twin_s = 0;
	index_add(e, r);
	return 0;
}

void engine_set_back(struct engine *e, enum engine_back back)
{
	e->back = back;
}

void engine_cancel(struct engine *e, struct request *r)
{
	u32 i;

	if (r->state == REQUEST_DONE)
		return;
	for (i = 0; i < r->nr_seqs; i++)
		if (r->seqs[i]->finish == FINISH_NONE)
			r->seqs[i]->finish = FINISH_LENGTH;
	r->held = true; /* it is done now, whatever its batch is */
	sched_finish(e, r);
}

/*
 * The one that computed the prompt once more for all samples ends: the next one
 * goes on where it was. What it has is of the prompt, and of no answer.
 */
static void hand_over(struct engine *e, struct request *r, struct seq *from)
{
	bool others_wait;
	struct seq *to = sched_leader(r, &others_wait);

	if (r->state != REQUEST_RUNNING || from->space == KV_SPACE_NONE ||
	    to->space != KV_SPACE_NONE)
		return;
	to->space = from->space;
	to->nr_computed = from->nr_computed;
	to->nr_mapped = from->nr_mapped;
	to->again = from->again;
	to->again_to = from->again_to;
	from->space = KV_SPACE_NONE;
	sched_drop_space(e, from);
}

void engine_cancel_seq(struct engine *e, struct request *r, u32 seq)
{
	bool live = false;
	struct seq *s;
	u32 i;

	if (r->state == REQUEST_DONE || r->p.kind != REQUEST_GENERATE ||
	    r->nr_seqs < r->p.n || seq >= r->nr_seqs ||
	    r->seqs[seq]->finish != FINISH_NONE)
		return;
	s = r->seqs[seq];
	s->finish = FINISH_STOP;
	for (i = 0; i < r->nr_seqs; i++)
		live |= r->seqs[i]->finish == FINISH_NONE;
	if (live)
		hand_over(e, r, s);
	if (!live)
		sched_finish(e, r);
	else if (!r->p.keep)
		sched_drop_ended(e, s);
}

void engine_forget(struct engine *e, struct request *r)
{
	u32 i;

	if (!reqs_remove(e, r))
		return;
	e->nr_queue = 0; /* it may be in it */
	e->nr_step = 0; /* and in the last step, which is over */
	index_remove(e, r);
	plan_forget(e, r);
	for (i = 0; i < r->nr_seqs; i++)
		sched_drop_space(e, r->seqs[i]);
	request_destroy(r);
}

/* The kernels, or what is instead of them. */
static int compute(struct engine *e, const struct forward_batch *b)
{
	/* waiting, for memory or a turn, is nobody's law */
	e->begun_s = engine_now(e);
	return e->o.machine ? e->o.machine->run(e->o.machine->ctx, b)
			    : forward_run(e->f, b);
}

static int run(struct engine *e, char *err)
{
	double lap = clock_s(), took;
	const struct kern_copy *copies;
	struct forward_batch batch;
	u32 nr;
	int rc;

	batch_complete(e, &e->batch);
	batch = (struct forward_batch){
		.nr_tokens = e->batch.nr_rows,
		.nr_seqs = e->batch.nr_seqs,
		.nr_out = e->batch.nr_out,
		.ids = e->batch.ids,
		.seqs = e->batch.seqs,
		.out_rows = e->batch.out_rows,
	};
	nr = e->b->ops->step_copies(e->b, &copies);
	host_lap(&e->stats.host_batch_s, lap);
	if (nr && !e->o.machine)
		e->x->ops->copy(e->x, copies, nr);
	e->stats.nr_copied += nr;
	ahead_begin(e);
	rc = compute(e, &batch);
	took = engine_now(e) - e->begun_s;
	ahead_end(e);
	e->stats.compute_s += took;
	cost_computed(&e->cost, batch.nr_tokens, took);
	if (rc) {
		e->b->ops->step_abandon(e->b);
		return err_set(err, rc, "a step of %u tokens: %s",
			       batch.nr_tokens, strerror(-rc));
	}
	return 0;
}

/* The step's memory was revoked: everybody in it is computed again. */
static void step_is_stale(struct engine *e)
{
	e->stats.nr_stale++;
	while (e->nr_step) {
		struct seq *s = e->step[e->nr_step - 1];

		if (s->req->state == REQUEST_RUNNING)
			sched_restart(e, s->req); /* which takes it out */
		else
			e->step[--e->nr_step]->step_tokens = 0;
	}
}

static void account(struct engine *e)
{
	u32 i;

	e->stats.nr_steps++;
	e->stats.max_running = max(e->stats.max_running, e->nr_step);
	for (i = 0; i < e->nr_step; i++) {
		struct seq *s = e->step[i];

		if (!s->req->nr_iters)
			s->req->begun_s = e->begun_s;
		s->req->nr_iters += s->req->last_step != e->stats.nr_steps;
		s->req->last_step = e->stats.nr_steps;
		if (s->step_tokens > 1 || s->nr_computed < s->req->p.nr_prompt)
			e->stats.nr_prefill += s->step_tokens;
		if (s->again < s->again_to) {
			s->again += s->step_tokens;
			s->step_tokens = 0;
			continue;
		}
		s->nr_computed += s->step_tokens;
		sched_fitted(e, s->req);
		turns_reach(e, s->req, s->nr_computed);
		/* a chunk of a prompt, or all that is left of one */
		if (s->nr_computed <= s->req->p.nr_prompt || s->step_tokens > 1)
			sched_publish(e, s,
				      s->nr_computed >= s->req->p.nr_prompt);
		s->step_tokens = 0;
	}
}

/* Is there more to do? If not, nothing stays asked for, or kept to ask with. */
static bool has_work(struct engine *e)
{
	u32 i;

	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->state != REQUEST_DONE)
			return true;
	e->b->ops->step_prefetch(e->b, NULL, 0);
	twins_rest(e);
	commit_account(e);
	return false;
}

/* What the step took says what others will take. */
static void learn(struct engine *e)
{
	struct budget *b = &e->budget;
	struct engine_stats *st = &e->stats;

	if (!e->o.tbt_slo_ms)
		return;
	budget_saw(b, &st->load, st->load_s);
	st->nr_budget_moves = b->nr_moves;
	st->law = b->law;
	st->budget_noise = b->noise;
}

/* What follows from a step that was computed. */
static int complete(struct engine *e, char *err)
{
	double lap = clock_s();
	int rc = e->b->ops->step_commit(e->b);
	u32 i;

	if (rc == -ESTALE) {
		step_is_stale(e);
		return rc;
	}
	if (rc)
		return err_set(err, rc, "the step's commit: %s",
			       e->b->ops->error(e->b));
	account(e);
	for (i = 0; i < e->nr_step; i++) {
		struct request *r = e->step[i]->req;

		/* a request's sequences are next to each other */
		if (r->state == REQUEST_RUNNING &&
		    (!i || e->step[i - 1]->req != r))
			sched_share_prompt(e, r);
	}
	lap = host_lap(&e->stats.host_commit_s, lap);
	e->logits_s = 0;
	decide(e);
	sched_finish_batch(e);
	host_lap(&e->stats.host_decide_s, lap);
	e->stats.host_decide_s -= e->logits_s;
	return 0;
}

static int step_once(struct engine *e, char *err)
{
	u64 prefill = e->stats.nr_prefill;
	double lap;
	int rc;

	if (e->o.tbt_slo_ms && !e->is_profiled)
		profile_run(e);
	lap = clock_s();
	sched_pick(e);
	lap = host_lap(&e->stats.host_pick_s, lap);
	rc = sched_reserve(e, err);
	host_lap(&e->stats.host_reserve_s, lap);
	if (rc)
		return rc;
	if (!e->nr_step) {
		if (e->naps) /* others need the turn, and what was asked for */
			e->b->ops->step_prefetch(e->b, NULL, 0);
		twins_nap(e);
		return has_work(e);
	}
	sched_load(e, &e->stats.load);
	rc = run(e, err);
	if (rc)
		return rc;
	rc = complete(e, err);
	if (rc)
		return rc == -ESTALE ? 1 : rc;
	e->stats.load_s = engine_now(e) - e->begun_s;
	learn(e);
	step_log(e, e->stats.nr_prefill - prefill);
	return has_work(e);
}

/* The turn to compute lasts from forward_run() to the last logits. */
int engine_step(struct engine *e, char *err)
{
	int rc = step_once(e, err);

	if (e->b->ops->turn_end)
		e->b->ops->turn_end(e->b, rc > 0);
	return rc;
}

void engine_give_back(struct engine *e, u64 bytes)
{
	sched_give_back(e, bytes);
}

const struct engine_stats *engine_stats(const struct engine *e)
{
	return &e->stats;
}

u32 engine_running(const struct engine *e)
{
	return e->nr_run;
}
