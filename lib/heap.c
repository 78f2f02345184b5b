/* SPDX-License-Identifier: MIT */
/*
 * heap.c - events by time, the earliest first
 */
#include "lib/heap.h"

#include <errno.h>
#include <stdlib.h>

static bool is_before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static int grow(struct heap *h)
{
	u32 room = 2 * h->room + 64;
	struct event *v;

	if (h->nr < h->room)
		return 0;
	v = realloc(h->v, room * sizeof(*v));
	if (!v)
		return -ENOMEM;
	h->v = v;
	h->room = room;
	return 0;
}

int heap_push(struct heap *h, u64 at, u32 kind, u32 who, u64 serial)
{
	struct event e = {
		.at = at, .kind = kind, .who = who, .serial = serial
	};
	u32 i, up;
	int rc = grow(h);

	if (rc)
		return rc;
	e.seq = h->seq++;
	for (i = h->nr++; i; i = up) {
		up = (i - 1) / 2;
		if (!is_before(&e, &h->v[up]))
			break;
		h->v[i] = h->v[up];
	}
	h->v[i] = e;
	return 0;
}

u64 heap_first(const struct heap *h)
{
	return h->nr ? h->v[0].at : ~0ull;
}

struct event heap_pop(struct heap *h)
{
	struct event top = h->v[0], e = h->v[--h->nr];
	u32 i = 0, down;

	while ((down = 2 * i + 1) < h->nr) {
		if (down + 1 < h->nr && is_before(&h->v[down + 1], &h->v[down]))
			down++;
		if (!is_before(&h->v[down], &e))
			break;
		h->v[i] = h->v[down];
		i = down;
	}
	h->v[i] = e;
	return top;
}

void heap_fini(struct heap *h)
{
	free(h->v);
	*h = (struct heap){ 0 };
}
