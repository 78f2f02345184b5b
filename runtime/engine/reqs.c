/* SPDX-License-Identifier: MIT */
/*
 * reqs.c - the engine's lists of requests
 *
 *	reqs	that are not done, by priority, then by arrival. Who is done
 *		stays until the next step begins (reqs_tidy()): lists are walked
 *		while requests end.
 *	done	the others, until they are forgotten or go on
 *	run	those of reqs that run, in the same order. Who ends or waits
 *		leaves it at once: it is not walked while requests end.
 *
 * Thousands may wait while a few run: a step goes over run as often as it
 * likes, and over reqs only where it looks for somebody who waits, or to put
 * them in order. Each list has room for all requests, so that only a submission
 * can be refused for want of memory.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"

static int grow(struct request ***list, u32 cap)
{
	struct request **more = realloc(*list, cap * sizeof(*more));

	if (!more)
		return -ENOMEM;
	*list = more;
	return 0;
}

int reqs_reserve(struct engine *e)
{
	u32 cap = max(16u, 2 * e->max_reqs);

	if (e->nr_reqs + e->nr_done < e->max_reqs)
		return 0;
	if (grow(&e->reqs, cap) || grow(&e->run, cap) || grow(&e->queue, cap) ||
	    grow(&e->done, cap) || index_grow(e, cap))
		return -ENOMEM;
	e->max_reqs = cap;
	return 0;
}

void reqs_add(struct engine *e, struct request *r)
{
	u32 at = e->nr_reqs;

	while (at && e->reqs[at - 1]->p.priority > r->p.priority)
		at--;
	memmove(e->reqs + at + 1, e->reqs + at,
		(e->nr_reqs - at) * sizeof(*e->reqs));
	e->reqs[at] = r;
	e->nr_reqs++;
}

static bool take_out(struct request **v, u32 *nr, const struct request *r)
{
	u32 i;

	for (i = 0; i < *nr && v[i] != r; i++)
		;
	if (i == *nr)
		return false;
	memmove(v + i, v + i + 1, (*nr - i - 1) * sizeof(*v));
	(*nr)--;
	return true;
}

bool reqs_remove(struct engine *e, const struct request *r)
{
	take_out(e->run, &e->nr_run, r);
	e->nr_comers -= r->comes;
	return take_out(e->done, &e->nr_done, r) ||
	       take_out(e->reqs, &e->nr_reqs, r);
}

void reqs_tidy(struct engine *e)
{
	u32 i, to = 0;

	if (!e->has_ended)
		return;
	e->has_ended = false;
	for (i = 0; i < e->nr_reqs; i++) {
		if (e->reqs[i]->state == REQUEST_DONE)
			e->done[e->nr_done++] = e->reqs[i];
		else
			e->reqs[to++] = e->reqs[i];
	}
	e->nr_reqs = to;
}

static bool comes_before(const struct request *a, const struct request *b)
{
	return a->p.priority != b->p.priority ? a->p.priority < b->p.priority
					      : a->arrival < b->arrival;
}

static void run_add(struct engine *e, struct request *r)
{
	u32 at = e->nr_run++;

	for (; at && comes_before(r, e->run[at - 1]); at--)
		e->run[at] = e->run[at - 1];
	e->run[at] = r;
}

void reqs_set_state(struct engine *e, struct request *r,
		    enum request_state state)
{
	if (r->state == REQUEST_RUNNING)
		take_out(e->run, &e->nr_run, r);
	if (state == REQUEST_RUNNING)
		run_add(e, r);
	e->has_ended |= state == REQUEST_DONE;
	r->state = state;
}

void reqs_set_comes(struct engine *e, struct request *r, bool comes)
{
	e->nr_comers += comes;
	e->nr_comers -= r->comes;
	r->comes = comes;
}
