/* SPDX-License-Identifier: MIT */
/*
 * heap.c - numbers by time, the earliest first
 */
#include "tools/kvbench/serve/heap.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int heap_init(struct heap *h, u32 room)
{
	h->nr = 0;
	h->v = calloc(room + 1, sizeof(*h->v));
	return h->v ? 0 : -ENOMEM;
}

void heap_fini(struct heap *h)
{
	free(h->v);
	h->v = NULL;
	h->nr = 0;
}

static bool is_before(const struct heap *h, u32 a, u32 b)
{
	const struct heap_item *x = &h->v[a], *y = &h->v[b];

	return x->at < y->at || (x->at == y->at && x->what < y->what);
}

static void swap(struct heap *h, u32 a, u32 b)
{
	struct heap_item t = h->v[a];

	h->v[a] = h->v[b];
	h->v[b] = t;
}

void heap_push(struct heap *h, double at, u32 what)
{
	u32 i = h->nr++;

	h->v[i] = (struct heap_item){ .at = at, .what = what };
	for (; i && is_before(h, i, (i - 1) / 2); i = (i - 1) / 2)
		swap(h, i, (i - 1) / 2);
}

double heap_first(const struct heap *h)
{
	return h->nr ? h->v[0].at : (double)INFINITY;
}

u32 heap_pop(struct heap *h)
{
	u32 top = h->v[0].what, i = 0, k;

	h->v[0] = h->v[--h->nr];
	for (k = 1; k < h->nr; i = k, k = 2 * i + 1) {
		if (k + 1 < h->nr && is_before(h, k + 1, k))
			k++;
		if (!is_before(h, k, i))
			break;
		swap(h, i, k);
	}
	return top;
}
