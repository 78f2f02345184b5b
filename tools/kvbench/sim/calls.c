/* SPDX-License-Identifier: MIT */
/*
 * calls.c - the requests of a work, on their way through engines
 *
 * What a simulated sequence says is a hash of its request and its place, so
 * that a prompt which quotes an answer can be made before there is one.
 */
#include "tools/kvbench/sim/calls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hash.h"

struct call { /* a request, on its way */
	struct caller *at;
	struct request *r;
	u32 index;
	u64 due, first, last; /* ns */
	double begun; /* s, as the engine says with the first token */
	struct samples itl; /* until it is known to be good */
	struct call *next; /* in a list of its caller */
};

static double sec(u64 ns)
{
	return (double)ns * 1e-9;
}

static u64 now_of(const struct calls *c)
{
	return c->clock.now(c->clock.ctx);
}

/* ---- what happens to a request ---- */

static void on_token(struct request *r, u32 seq, u32 id, void *ctx)
{
	struct call *c = ctx;
	struct calls *all = c->at->calls;
	u64 now = now_of(all);

	if (seq_nr_new(r->seqs[0]) > all->work->request[c->index].output)
		return; /* padding */
	(void)seq;
	(void)id;
	if (!c->first) {
		c->first = now;
		c->begun = r->begun_s;
	} else {
		samples_add(&c->itl, sec(now - c->last));
	}
	c->last = now;
}

/* Those that waited for it have their time now. */
static void follow(struct calls *all, u32 index)
{
	const struct work *w = all->work;
	struct call *c;
	u32 i;

	/* the ones that wait for another come after it */
	for (i = index + 1; i < w->nr; i++) {
		if (w->request[i].after != index)
			continue;
		c = &all->call[i];
		c->due = now_of(all) + (u64)(w->request[i].due * 1e9);
		c->next = c->at->later;
		c->at->later = c;
	}
}

static void ended(struct call *c)
{
	struct caller *o = c->at;

	c->next = o->ended;
	o->ended = c;
	o->nr_left--;
	o->calls->end = now_of(o->calls);
	follow(o->calls, c->index);
}

static void failed(struct fleet_result *r, const char *why)
{
	if (!r->failed++)
		snprintf(r->first_error, KV_ERRLEN, "%s", why);
}

/* What a good answer has been like. */
static void add_samples(struct fleet_result *r, struct call *c, u64 now, u32 nr)
{
	size_t i;

	if (c->first) {
		samples_add(&r->ttft, sec(c->first - c->due));
		samples_add(&r->queue, c->begun - sec(c->due));
	}
	for (i = 0; i < c->itl.nr; i++)
		samples_add(&r->itl, c->itl.v[i]);
	samples_add(&r->e2e, sec(now - c->due));
	samples_add(&r->norm, sec(now - c->due) / max(nr, 1u));
	if (nr > 1)
		samples_add(&r->tpot, sec(now - c->first) / (nr - 1));
}

/* With its batch, if that hands it out. */
static void on_done(struct request *r, void *ctx)
{
	struct call *c = ctx;
	struct calls *all = c->at->calls;
	u64 now = now_of(all);
	u32 nr = min(seq_nr_new(r->seqs[0]),
		     all->work->request[c->index].output);

	ended(c);
	if (r->error) {
		failed(all->r, r->message ? r->message : strerror(-r->error));
	} else {
		all->r->completed++;
		all->r->output += nr;
		add_samples(all->r, c, now, nr);
	}
	samples_fini(&c->itl);
}

/* ---- asking ---- */

static u32 answer_token(const struct calls *all, u32 request, u32 k)
{
	return (u32)(hash_mix((u64)request << 32 | k) % all->vocab);
}

u32 calls_token(const struct calls *c, const struct seq *s)
{
	const struct call *x = s->req->p.ctx;

	return answer_token(c, x->index, seq_nr_new(s));
}

static u32 render(const struct calls *all, u32 index, u32 *ids, u32 room)
{
	const struct work_request *q = &all->work->request[index];
	u32 i, k, n = 0;

	for (i = 0; i < q->nr_segments; i++) {
		const struct segment *s =
			&all->work->segment[q->first_segment + i];

		for (k = 0; k < s->len && n < room; k++)
			ids[n++] = s->role == SEGMENT_ANSWER
					   ? answer_token(all, s->of, k)
					   : (u32)(hash_mix(s->name + k) %
						   all->vocab);
	}
	return n;
}

static int submit(struct caller *o, struct call *c)
{
	static const struct request_events events = { .token = on_token,
						      .done = on_done };
	struct calls *all = o->calls;
	const struct work_request *q = &all->work->request[c->index];
	u32 *ids = malloc(all->context * sizeof(*ids));
	struct request_params p = {
		.kind = REQUEST_GENERATE,
		.prompt = ids,
		.max_new = q->output + q->padding,
		.n = 1,
		.ignore_eog = true,
		.sampling = SAMPLING_GREEDY,
		.events = &events,
		.ctx = c,
	};
	int rc;

	if (!ids)
		return err_set(o->err, -ENOMEM, "no memory");
	p.nr_prompt = render(all, c->index, ids, all->context);
	rc = engine_submit(o->e, &p, &c->r, o->err);
	free(ids);
	all->r->input += p.nr_prompt;
	if (rc == -EINVAL) {
		failed(all->r, o->err);
		ended(c);
		return 0;
	}
	return rc;
}

/* Of those that came later: submit what is due. */
static int take_later(struct caller *o, u64 *next)
{
	struct call *c, **at = &o->later;
	int rc = 0, nr = 0;

	while (!rc && (c = *at)) {
		if (c->due > now_of(o->calls)) {
			*next = min(*next, c->due);
			at = &c->next;
			continue;
		}
		*at = c->next;
		rc = submit(o, c);
		nr++;
	}
	return rc ? rc : nr;
}

static void forget_ended(struct caller *o)
{
	for (; o->ended; o->ended = o->ended->next)
		if (o->ended->r)
			engine_forget(o->e, o->ended->r);
}

/* How many have come; *@next: when the next one does. */
static int take_due(struct caller *o, u64 *next)
{
	struct call *c;
	int rc, nr = 0;

	forget_ended(o);
	*next = ~0ull;
	for (; o->nr_come < o->nr_order; o->nr_come++) {
		c = o->order[o->nr_come];
		if (c->due > now_of(o->calls)) {
			*next = c->due;
			break;
		}
		rc = submit(o, c);
		if (rc)
			return rc;
		nr++;
	}
	rc = take_later(o, next);
	return rc < 0 ? rc : nr + rc;
}

int caller_step(struct caller *o)
{
	u64 next;
	int nr, rc;

	if (!o->nr_left)
		return 0;
	nr = take_due(o, &next);
	rc = nr < 0 ? nr : engine_step(o->e, o->err);
	if (rc < 0)
		return rc;
	if (!o->nr_left) {
		forget_ended(o);
		return 0;
	}
	if (rc)
		return 1;
	/* nothing to do until the next one comes */
	nr = take_due(o, &next);
	if (nr < 0)
		return nr;
	if (!nr && next == ~0ull)
		return err_set(o->err, -EDEADLK, "%u requests never come",
			       o->nr_left);
	if (!nr)
		o->calls->clock.sleep(o->calls->clock.ctx, next);
	return 1;
}

/* ---- a run ---- */

static int by_due(const void *a, const void *b)
{
	const struct call *x = *(struct call *const *)a;
	const struct call *y = *(struct call *const *)b;

	if (x->due != y->due)
		return x->due < y->due ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

static int sort_calls(struct calls *c, struct caller *o)
{
	u32 i;

	o->order = calloc(max(o->nr_left, 1u), sizeof(struct call *));
	if (!o->order)
		return -ENOMEM;
	for (i = 0; i < c->work->nr; i++)
		if (c->call[i].at == o &&
		    c->work->request[i].after == WORK_NONE)
			o->order[o->nr_order++] = &c->call[i];
	qsort(o->order, o->nr_order, sizeof(struct call *), by_due);
	return 0;
}

int calls_init(struct calls *c)
{
	u32 i;
	int rc = 0;

	c->start = c->end = now_of(c);
	c->call = calloc(max(c->work->nr, 1u), sizeof(*c->call));
	c->caller = calloc(c->nr_callers, sizeof(*c->caller));
	if (!c->call || !c->caller)
		return -ENOMEM;
	for (i = 0; i < c->work->nr; i++) {
		const struct work_request *q = &c->work->request[i];
		struct caller *o = &c->caller[q->session % c->nr_callers];

		c->call[i].at = o;
		c->call[i].index = i;
		c->call[i].due = c->start + (u64)(q->due * 1e9);
		o->nr_left++;
	}
	for (i = 0; !rc && i < c->nr_callers; i++) {
		c->caller[i].calls = c;
		rc = sort_calls(c, &c->caller[i]);
	}
	return rc;
}

void calls_add_stats(struct calls *c)
{
	struct fleet_result *r = c->r;
	u32 i;

	r->duration = sec(c->end - c->start);
	for (i = 0; c->caller && i < c->nr_callers; i++) {
		const struct engine_stats *s;

		if (!c->caller[i].e)
			continue;
		s = engine_stats(c->caller[i].e);
		r->mapped += s->nr_mapped;
		r->prefill += s->nr_prefill;
		r->preempted += s->nr_preempted;
		r->turns += s->nr_turns;
		r->steps += s->nr_steps;
		r->lost += s->nr_lost;
		r->max_running = max(r->max_running, (u64)s->max_running);
	}
}

void calls_fini(struct calls *c)
{
	u32 i;

	for (i = 0; c->call && i < c->work->nr; i++)
		samples_fini(&c->call[i].itl);
	for (i = 0; c->caller && i < c->nr_callers; i++)
		free(c->caller[i].order);
	free(c->call);
	free(c->caller);
	c->call = NULL;
	c->caller = NULL;
}
