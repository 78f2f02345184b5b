/* SPDX-License-Identifier: MIT */
/*
 * twins.c - requests that share what nobody has computed yet
 *
 * Two that begin alike and come together would both compute the beginning. So
 * one waits while the other is at it, if that is worth it, and maps it then.
 * The other one is
 *
 *	a request of this engine that runs: its prompt is in the index. It is
 *		in each step, and others use the place meanwhile: a page is
 *		worth it
 *	of another process: the pager says what has been announced there, and
 *		we announce what we begin with
 *	one whose pages are being copied into the cache: the same answer,
 *		and it is a matter of microseconds
 *
 * It waits no longer than the other one gets on: if that one gives way, is
 * cancelled or fails it does not run any more, or its announcement is gone; if
 * for twin_ms nothing of it has been computed, this one waits for nobody
 * again.
 *
 * Windows. A sequence can be gone on from only where the pages of its windows
 * are kept, which is where somebody has said so. Who computes a prompt says so
 *
 *	at its end
 *	where one that waits parts from it
 *	where it left a published path itself and had nothing to go on from:
 *		the next one has
 *	after one window, two, four, and so on: then whoever comes later finds
 *		all that they share if that is two windows or less, else half
 *		of it at least
 *
 * The chunk ends there, at the last whole page that they share, as a window
 * lets its pages go when the next step's are asked for. Whole prompts are not
 * cut, so only the first of these places is kept of them, and they are not
 * announced.
 */
#include <unistd.h>

#include "runtime/engine/engine_priv.h"

#define OWN_WORTH  MODEL_PAGE_TOKENS /* tokens, of one of this engine */
#define TWIN_WORTH 32u /* of another process, which has to be asked for */
#define COPY_WORTH 8u /* that are there, and being copied */
#define ASKS_ALL   16u /* of those that wait for the pager: in each step, */
#define ASKS_ONE   8u /* of the others one in so many */
#define NAP_US	   200u
#define BRANCHES   8u /* of one chunk */

/* The time in which other processes get on. */
static double others_now(const struct engine *e)
{
	if (e->o.machine && e->o.machine->nap)
		return engine_now(e);
	return clock_s();
}

static bool may_map(const struct engine *e, const struct request *r)
{
	return e->o.prefix_cache && !r->unshared && e->b->ops->prefix_find &&
	       !request_has_pages(r) && twins_nr(r->seqs[0]) > 1;
}

u32 twins_nr(const struct seq *s)
{
	const struct request_params *p = &s->req->p;

	if (request_scores(p))
		return min(p->score_from, s->nr);
	return p->n > 1 ? p->nr_prompt : s->nr;
}

/* Does it still have to wait, with @seen of the other one computed by @now? */
static bool waits(struct engine *e, struct request *r, u64 seen, double now)
{
	if (r->twin_off)
		return false;
	if (!r->twin_s || r->twin_seen != seen) {
		e->stats.nr_twins += !r->twin_s;
		r->twin_seen = seen;
		r->twin_s = now;
	} else if (now - r->twin_s >= e->o.twin_ms * 1e-3) {
		r->twin_off = true;
		return false;
	}
	return true;
}

/* Can a prompt be gone on from nowhere but at its end? */
static bool keeps_ends_only(const struct engine *e)
{
	return e->b->windows && e->o.prefill == ENGINE_PREFILL_WHOLE;
}

/* One that runs and has still to compute what @r shares with it. */
static struct request *leader_of(const struct engine *e,
				 const struct request *r)
{
	struct index_walk w = index_from(e, r, r->match + OWN_WORTH);
	struct request *o;
	u32 goal;

	while ((o = index_next(e, &w))) {
		if (keeps_ends_only(e) && w.shared < o->p.nr_prompt)
			continue;
		goal = min(w.shared, twins_nr(r->seqs[0]) - 1);
		if (e->b->windows) /* see twins_cut() */
			goal -= goal % MODEL_PAGE_TOKENS;
		if (o->state == REQUEST_RUNNING && !o->unshared &&
		    request_computed(o) < goal && goal >= r->match + OWN_WORTH)
			return o;
	}
	return NULL;
}

void twins_rest(struct engine *e)
{
	if (e->probe != KV_SPACE_NONE)
		e->b->ops->space_destroy(e->b, e->probe);
	e->probe = KV_SPACE_NONE;
}

/* A space without pages that finds what requests of this salt do. */
static bool probe_for(struct engine *e, u64 salt)
{
	if (e->probe != KV_SPACE_NONE && e->probe_salt == salt)
		return true;
	twins_rest(e);
	if (e->b->ops->salt)
		e->b->ops->salt(e->b, salt);
	if (e->b->ops->space_create(e->b, &e->probe)) {
		e->probe = KV_SPACE_NONE;
		return false;
	}
	e->probe_salt = salt;
	return true;
}

void twins_ask(struct engine *e, struct request *r)
{
	const struct seq *s = r->seqs[0];
	struct kv_found f = { 0 };

	if (!may_map(e, r))
		return;
	if (!probe_for(e, r->p.salt))
		return;
	e->b->ops->prefix_find(e->b, e->probe, s->ids, twins_nr(s) - 1, false,
			       &f);
	r->match = f.len;
	r->soon = f.soon;
	r->known = f.known;
}

/* Does somebody elsewhere compute it, or is it being copied? */
static bool may_wait_for_pager(const struct request *r)
{
	return r->soon >= r->match + TWIN_WORTH ||
	       min(r->soon, r->known) >= r->match + COPY_WORTH;
}

static bool waits_for_pager(struct engine *e, struct request *r)
{
	return may_wait_for_pager(r) &&
	       waits(e, r, (u64)r->match + r->known, others_now(e));
}

/* Those that wait behind queue[at] and hope for more than it finds. */
static bool others_find_more(const struct engine *e, u32 at)
{
	u32 i;

	for (i = at + 1; i < e->nr_queue; i++)
		if (e->queue[i]->state == REQUEST_WAITING &&
		    e->queue[i]->match > e->queue[at]->match)
			return true;
	return false;
}

bool twins_may_come(struct engine *e, u32 *at)
{
	struct request *r = e->queue[*at], *o;
	u32 hoped = r->match;

	if (!may_map(e, r))
		return true;
	o = leader_of(e, r);
	if (o &&
	    waits(e, r, o->arrival << 32 | request_computed(o), engine_now(e)))
		return false;
	if (!r->twin_off && may_wait_for_pager(r) && e->nr_asks++ >= ASKS_ALL &&
	    (r->arrival + e->nr_looks) % ASKS_ONE) {
		e->naps = true;
		return false; /* it has its turn to be asked for */
	}
	twins_ask(e, r);
	if (waits_for_pager(e, r)) {
		e->naps = true;
		return false;
	}
	if (r->match < hoped && others_find_more(e, *at)) {
		order_rest(e, *at);
		(*at)--; /* whoever is there now */
		return false;
	}
	return true;
}

bool twins_announce(struct engine *e, struct request *r, struct seq *s)
{
	struct kv_found f = { 0 };

	if (!e->o.prefix_cache || !e->b->ops->prefix_find || twins_nr(s) < 2 ||
	    r->unshared)
		return true;
	/* of what is not kept nobody is told: they would wait in vain */
	e->b->ops->prefix_find(e->b, s->space, s->ids, twins_nr(s) - 1,
			       !keeps_ends_only(e), &f);
	r->match = f.len;
	r->soon = f.soon;
	r->known = f.known;
	if (!waits_for_pager(e, r))
		return true;
	e->naps = true;
	return false;
}

void twins_nap(struct engine *e)
{
	if (!e->naps)
		return;
	if (e->o.machine && e->o.machine->nap)
		e->o.machine->nap(e->o.machine->ctx);
	else
		usleep(NAP_US);
}

/* ---- what has been published ---- */

static void raise_others(struct engine *e, const struct request *r, u32 nr)
{
	struct index_walk w = index_from(e, r, 1);
	struct request *o;
	u32 found;

	while ((o = index_next(e, &w))) {
		found = min(w.shared, nr);
		found = min(found, o->p.nr_prompt - 1);
		o->match = o->unshared ? 0 : max(o->match, found);
	}
}

/* Where others part from @r within (from, to]. */
static u32 branches(const struct engine *e, const struct request *r, u32 from,
		    u32 to, u32 *at)
{
	struct index_walk w = index_from(e, r, from + 1);
	struct request *o;
	u32 n = 0, i;

	if (r->known > from && r->known <= to)
		at[n++] = r->known;
	while (n < BRANCHES && (o = index_next(e, &w))) {
		if (w.shared > to || o->state != REQUEST_WAITING)
			continue;
		for (i = 0; i < n && at[i] != w.shared; i++)
			;
		if (i == n)
			at[n++] = w.shared;
	}
	return n;
}

static bool keeps_windows(const struct engine *e, const struct seq *s, u32 pos)
{
	return e->o.prefix_cache && e->b->windows && !s->req->unshared &&
	       !keeps_ends_only(e) && s->req->state == REQUEST_RUNNING &&
	       pos < s->req->p.nr_prompt;
}

static u64 first_page(u32 window, u64 pos)
{
	return (pos + 1 - min((u64)window, pos + 1)) / MODEL_PAGE_TOKENS;
}

/* Are the windows of @pos kept if those of @end, a little later, are? */
static bool end_keeps(const struct engine *e, u64 pos, u32 end)
{
	u32 i;

	for (i = 0; i < e->b->nr_areas; i++) {
		u32 window = e->b->law[i].window;

		if (window && first_page(window, pos) < first_page(window, end))
			return false;
	}
	return true;
}

/* The next place behind @pos of @s where windows are kept whoever comes. */
static u64 next_kept(const struct engine *e, const struct seq *s, u32 pos)
{
	u64 window = 0, at;
	u32 i;

	for (i = 0; i < e->b->nr_areas; i++)
		window = max(window, (u64)e->b->law[i].window);
	at = ALIGN_UP(window, (u64)MODEL_PAGE_TOKENS);
	while (window && at <= pos)
		at *= 2;
	return window && !end_keeps(e, at, s->req->p.nr_prompt) ? at : ~0ull;
}

u32 twins_cut(const struct engine *e, const struct seq *s, u32 pos, u32 nr)
{
	u32 at[BRANCHES], n, i, end, cut;

	if (nr < 2 || !keeps_windows(e, s, pos))
		return nr;
	cut = (u32)min((u64)pos + nr, next_kept(e, s, pos));
	n = branches(e, s->req, pos, pos + nr, at);
	for (i = 0; i < n; i++) {
		end = at[i] / MODEL_PAGE_TOKENS * MODEL_PAGE_TOKENS;
		if (end > pos)
			cut = min(cut, end);
	}
	return cut - pos;
}

/* Is this the page in which others part from it, or may do so later? */
static bool is_kept(const struct engine *e, const struct seq *s, u32 nr)
{
	u32 at[BRANCHES];

	return nr && nr % MODEL_PAGE_TOKENS == 0 && keeps_windows(e, s, nr) &&
	       (next_kept(e, s, nr - 1) == nr ||
		branches(e, s->req, nr - 1, nr + MODEL_PAGE_TOKENS - 1, at));
}

void twins_publish(struct engine *e, const struct seq *s, bool resume)
{
	u32 nr = s->nr_computed;

	resume = resume || is_kept(e, s, nr);
	e->b->ops->prefix_publish(e->b, s->space, s->ids, nr, resume);
	raise_others(e, s->req, nr);
}
