/* SPDX-License-Identifier: MIT */
/*
 * index.c - the prompts of those that are not done, in the order of their salts
 *	and tokens
 *
 * A sorted array with, for each, the tokens that it has in common with the one
 * before it, is a radix tree written down: what two have in common is the least
 * of the numbers between them, and those that share a beginning stand side by
 * side. So who shares most with a prompt is found next to it, and a walk away
 * from it may stop when the number is too small.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"

static u32 common(const struct request *a, const struct request *b)
{
	u32 nr = min(a->p.nr_prompt, b->p.nr_prompt), i = 0;

	if (a->p.salt != b->p.salt)
		return 0; /* they never find each other's */
	while (i < nr && a->seqs[0]->ids[i] == b->seqs[0]->ids[i])
		i++;
	return i;
}

static bool stands_before(const struct request *a, const struct request *b)
{
	u32 n = common(a, b);

	if (a->p.salt != b->p.salt)
		return a->p.salt < b->p.salt;
	if (n == a->p.nr_prompt || n == b->p.nr_prompt)
		return a->p.nr_prompt < b->p.nr_prompt ||
		       (a->p.nr_prompt == b->p.nr_prompt &&
			a->arrival < b->arrival);
	return a->seqs[0]->ids[n] < b->seqs[0]->ids[n];
}

int index_grow(struct engine *e, u32 cap)
{
	struct index_entry *more = realloc(e->index, cap * sizeof(*more));

	if (!more)
		return -ENOMEM;
	e->index = more;
	return 0;
}

static void set_shared(struct engine *e, u32 i)
{
	if (i < e->nr_index)
		e->index[i].shared =
			i ? common(e->index[i - 1].r, e->index[i].r) : 0;
}

void index_add(struct engine *e, struct request *r)
{
	u32 lo = 0, hi = e->nr_index, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (stands_before(e->index[mid].r, r))
			lo = mid + 1;
		else
			hi = mid;
	}
	memmove(e->index + lo + 1, e->index + lo,
		(e->nr_index - lo) * sizeof(*e->index));
	e->nr_index++;
	e->index[lo].r = r;
	set_shared(e, lo);
	set_shared(e, lo + 1);
}

static u32 place_of(const struct engine *e, const struct request *r)
{
	u32 i;

	for (i = 0; i < e->nr_index && e->index[i].r != r; i++)
		;
	return i;
}

void index_remove(struct engine *e, const struct request *r)
{
	u32 i = place_of(e, r);

	if (i == e->nr_index)
		return;
	e->nr_index--;
	memmove(e->index + i, e->index + i + 1,
		(e->nr_index - i) * sizeof(*e->index));
	if (i < e->nr_index)
		set_shared(e, i);
}

struct index_walk index_from(const struct engine *e, const struct request *r,
			     u32 least)
{
	u32 i = place_of(e, r);

	return (struct index_walk){
		.at = i, .to = i, .least = least, .shared = ~0u
	};
}

/* Up from the request to the end, then down from it. */
struct request *index_next(const struct engine *e, struct index_walk *w)
{
	if (w->at >= e->nr_index)
		return NULL;
	if (!w->down) {
		if (++w->to < e->nr_index) {
			w->shared = min(w->shared, e->index[w->to].shared);
			if (w->shared >= w->least)
				return e->index[w->to].r;
		}
		w->down = true;
		w->to = w->at;
		w->shared = ~0u;
	}
	if (!w->to)
		return NULL;
	w->shared = min(w->shared, e->index[w->to].shared);
	return w->shared >= w->least ? e->index[--w->to].r : NULL;
}
