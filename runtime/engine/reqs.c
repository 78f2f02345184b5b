/* SPDX-License-Identifier: MIT */
/*
 * reqs.c - the engine's lists of requests
 *
 *	reqs	that are not done, by priority, then by arrival. Who is done
 *		stays until the next step begins (reqs_tidy()): lists are walked
 *		while requests end.
 *	done	the others, until they are forgotten or go on
 *
 * A step looks at all of the first and none of the second. Each list has room
 * for all requests, so that only a submission can be refused for want of
 * memory.
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
	if (grow(&e->reqs, cap) || grow(&e->queue, cap) ||
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
	return take_out(e->done, &e->nr_done, r) ||
	       take_out(e->reqs, &e->nr_reqs, r);
}

void reqs_tidy(struct engine *e)
{
	u32 i, to = 0;

	for (i = 0; i < e->nr_reqs; i++) {
		if (e->reqs[i]->state == REQUEST_DONE)
			e->done[e->nr_done++] = e->reqs[i];
		else
			e->reqs[to++] = e->reqs[i];
	}
	e->nr_reqs = to;
}
