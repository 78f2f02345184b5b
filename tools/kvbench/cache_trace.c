/* SPDX-License-Identifier: MIT */
/*
 * cache_trace.c - traces of prefix blocks: made block by block, or read
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hash.h"
#include "tools/kvbench/cache_trace.h"
#include "tools/kvbench/serve/lines.h"

void cache_trace_free(struct cache_trace *t)
{
	free(t->begin);
	free(t->ref);
	free(t->parent);
	memset(t, 0, sizeof(*t));
}

static bool grow(u32 **array, u32 *room, u32 want)
{
	u32 nr = max(want, 2 * *room);
	u32 *a;

	if (want <= *room)
		return true;
	a = realloc(*array, nr * sizeof(*a));
	if (!a)
		return false;
	*array = a;
	*room = nr;
	return true;
}

u32 cache_trace_block(struct cache_trace *t, u32 parent)
{
	if (!grow(&t->parent, &t->room[2], t->nr_blocks + 1))
		return CACHE_NO_BLOCK;
	t->parent[t->nr_blocks] = parent;
	return t->nr_blocks++;
}

int cache_trace_request(struct cache_trace *t, u32 last)
{
	u32 b, nr = 0, at;

	for (b = last; b != CACHE_NO_BLOCK; b = t->parent[b])
		nr++;
	if (!grow(&t->ref, &t->room[1], t->nr_refs + nr) ||
	    !grow(&t->begin, &t->room[0], t->nr_requests + 2))
		return -ENOMEM;
	at = t->nr_refs + nr;
	for (b = last; b != CACHE_NO_BLOCK; b = t->parent[b])
		t->ref[--at] = b;
	t->begin[t->nr_requests++] = t->nr_refs;
	t->nr_refs += nr;
	t->begin[t->nr_requests] = t->nr_refs;
	t->longest = max(t->longest, nr);
	return 0;
}

/* ---- reading ---- */

/* Blocks by what the file calls them, behind which block. */
struct names {
	u32 *slot; /* block + 1 */
	json_int_t *name; /* of each block */
	u32 mask, room;
};

static bool names_grow(struct names *n, const struct cache_trace *t)
{
	u32 size = max(1024u, (n->mask + 1) * 2), b, i;
	json_int_t *name = realloc(n->name, size / 2 * sizeof(*name));
	u32 *slot = calloc(size, sizeof(*slot));

	if (name)
		n->name = name;
	if (!name || !slot) {
		free(slot);
		return false;
	}
	free(n->slot);
	n->slot = slot;
	n->mask = size - 1;
	n->room = size / 2;
	for (b = 0; b < t->nr_blocks; b++) {
		i = (u32)hash_add(t->parent[b], (u64)name[b]);
		while (slot[i & n->mask])
			i++;
		slot[i & n->mask] = b + 1;
	}
	return true;
}

static u32 block_of(struct names *n, struct cache_trace *t, u32 parent,
		    json_int_t name)
{
	u32 i, b;

	if (t->nr_blocks == n->room && !names_grow(n, t))
		return CACHE_NO_BLOCK;
	i = (u32)hash_add(parent, (u64)name);
	for (; n->slot[i & n->mask]; i++) {
		b = n->slot[i & n->mask] - 1;
		if (n->name[b] == name && t->parent[b] == parent)
			return b;
	}
	b = cache_trace_block(t, parent);
	if (b != CACHE_NO_BLOCK) {
		n->name[b] = name;
		n->slot[i & n->mask] = b + 1;
	}
	return b;
}

struct load {
	struct names names;
	struct cache_trace *t;
};

static int take_request(void *ctx, const json_t *v)
{
	struct load *l = ctx;
	json_t *ids = json_object_get(v, "hash_ids"), *id;
	u32 b = CACHE_NO_BLOCK;
	size_t i;

	if (!json_is_array(ids))
		return -EINVAL;
	json_array_foreach(ids, i, id)
	{
		if (!json_is_integer(id))
			return -EINVAL;
		b = block_of(&l->names, l->t, b, json_integer_value(id));
		if (b == CACHE_NO_BLOCK)
			return -ENOMEM;
	}
	return b == CACHE_NO_BLOCK ? 0 : cache_trace_request(l->t, b);
}

int cache_trace_load(const char *path, struct cache_trace *t, char *err)
{
	struct load l = { .t = t };
	int rc = lines_load(path, "request with hash_ids", false, take_request,
			    &l, err);

	if (!rc && !t->nr_requests) {
		rc = -EINVAL;
		snprintf(err, 256, "%.200s: no request has a block", path);
	}
	free(l.names.slot);
	free(l.names.name);
	return rc;
}
