/* SPDX-License-Identifier: MIT */
/*
 * cache_replay.c - a trace through a policy, and through one that knows
 *
 * The replay has a tree of the policy's nodes and nothing else: a node per
 * block in the cache, how many children it has, which block it is. Blocks of
 * a request are busy while it is served, as pages that a space maps are.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hash.h"
#include "tools/kvbench/bench.h"
#include "tools/kvbench/cache_trace.h"

#define NO_NODE		CACHE_NO_BLOCK
#define GHOSTS_PER_NODE 8u

struct replay {
	const struct cache_trace *t;
	struct policy *p;
	struct policy_node *nodes;
	u32 *node; /* of each block, or NO_NODE */
	u32 *block, *nr_children; /* of each node */
	u32 *freed, nr_free; /* nodes */
	u32 nr_used;
};

static void replay_fini(struct replay *r)
{
	free(r->p);
	free(r->nodes);
	free(r->node);
	free(r->block);
	free(r->nr_children);
	free(r->freed);
}

static int replay_init(struct replay *r, const struct cache_trace *t,
		       u32 nr_blocks, enum policy_kind kind)
{
	u32 nr = nr_blocks + t->longest, i;

	memset(r, 0, sizeof(*r));
	r->t = t;
	r->p = calloc(1, policy_bytes(nr, GHOSTS_PER_NODE * nr));
	r->nodes = calloc(nr, sizeof(*r->nodes));
	r->node = malloc(t->nr_blocks * sizeof(u32));
	r->block = calloc(nr, sizeof(u32));
	r->nr_children = calloc(nr, sizeof(u32));
	r->freed = calloc(nr, sizeof(u32));
	if (!r->p || !r->nodes || !r->node || !r->block || !r->nr_children ||
	    !r->freed)
		return -ENOMEM;
	policy_init(r->p, nr, GHOSTS_PER_NODE * nr, r->nodes, sizeof(*r->nodes),
		    kind);
	memset(r->node, 0xff, t->nr_blocks * sizeof(u32));
	while (r->nr_free < nr) {
		i = nr - 1 - r->nr_free;
		r->freed[r->nr_free++] = i;
	}
	return 0;
}

static u32 parent_node(const struct replay *r, u32 block)
{
	u32 parent = r->t->parent[block];

	return parent == CACHE_NO_BLOCK ? POLICY_NONE : r->node[parent];
}

static void add_block(struct replay *r, u32 block)
{
	u32 n = r->freed[--r->nr_free], up = parent_node(r, block);

	r->node[block] = n;
	r->block[n] = block;
	r->nr_children[n] = 0;
	r->nr_used++;
	if (up != POLICY_NONE)
		r->nr_children[up]++;
	policy_insert(r->p, n, hash_mix(block + 1ull), up);
}

static void evict(struct replay *r)
{
	u32 n = policy_victim(r->p), block = r->block[n];
	u32 up = parent_node(r, block);

	policy_remove(r->p, n, true);
	r->node[block] = NO_NODE;
	r->freed[r->nr_free++] = n;
	r->nr_used--;
	if (up != POLICY_NONE && !--r->nr_children[up])
		policy_idle(r->p, up);
}

static bool every_node(const void *ctx, u32 node)
{
	return true;
}

/* The request holds what it found, and lets go of it when it is done. */
static u32 serve(struct replay *r, const u32 *ref, u32 nr)
{
	u32 hits = 0, i, last;

	while (hits < nr && r->node[ref[hits]] != NO_NODE)
		policy_hit(r->p, r->node[ref[hits++]]);
	last = hits ? r->node[ref[hits - 1]] : NO_NODE;
	if (last != NO_NODE && !r->nr_children[last])
		policy_busy(r->p, last);
	for (i = hits; i < nr; i++)
		add_block(r, ref[i]);
	last = r->node[ref[nr - 1]];
	if (!r->nr_children[last])
		policy_idle(r->p, last);
	return hits;
}

int cache_replay(const struct cache_trace *t, u32 nr_blocks,
		 enum policy_kind kind, u32 check, struct cache_result *res)
{
	struct replay r;
	const char *wrong = NULL;
	double begin;
	u32 i;
	int rc = replay_init(&r, t, nr_blocks, kind);

	memset(res, 0, sizeof(*res));
	begin = clock_s();
	for (i = 0; !rc && i < t->nr_requests; i++) {
		res->hits += serve(&r, t->ref + t->begin[i],
				   t->begin[i + 1] - t->begin[i]);
		while (r.nr_used > nr_blocks)
			evict(&r);
		if (check && i % check == 0)
			wrong = policy_check(r.p, every_node, NULL);
		if (wrong) {
			fprintf(stderr, "request %u: %s\n", i, wrong);
			rc = -EPROTO;
		}
	}
	res->seconds = clock_s() - begin;
	if (!rc)
		res->counts = *policy_counts(r.p);
	replay_fini(&r);
	return rc;
}

/* ---- the optimum ---- */

/* A block in the cache, or one that was: then next[] says otherwise. */
struct use {
	u32 next; /* request; the farthest goes first */
	u32 at; /* place in ref[]: of the same request the last one does */
};

struct future {
	u32 *next; /* of each ref: the request that uses its block next */
	u32 *at; /* of each block in the cache: its last ref, else NO_NODE */
	struct use *heap;
	u32 nr;
};

static bool goes_before(struct use a, struct use b)
{
	return a.next != b.next ? a.next > b.next : a.at > b.at;
}

static void heap_push(struct future *f, struct use u)
{
	u32 i = f->nr++, up;

	for (; i && goes_before(u, f->heap[up = (i - 1) / 2]); i = up)
		f->heap[i] = f->heap[up];
	f->heap[i] = u;
}

static struct use heap_pop(struct future *f)
{
	struct use top = f->heap[0], u = f->heap[--f->nr];
	u32 i = 0, down;

	while ((down = 2 * i + 1) < f->nr) {
		if (down + 1 < f->nr &&
		    goes_before(f->heap[down + 1], f->heap[down]))
			down++;
		if (!goes_before(f->heap[down], u))
			break;
		f->heap[i] = f->heap[down];
		i = down;
	}
	f->heap[i] = u;
	return top;
}

static void look_ahead(const struct cache_trace *t, struct future *f)
{
	u32 i, k;

	memset(f->at, 0xff, t->nr_blocks * sizeof(u32));
	for (i = t->nr_requests; i-- > 0;)
		for (k = t->begin[i]; k < t->begin[i + 1]; k++) {
			f->next[k] = f->at[t->ref[k]];
			f->at[t->ref[k]] = i;
		}
	memset(f->at, 0xff, t->nr_blocks * sizeof(u32));
}

int cache_optimum(const struct cache_trace *t, u32 nr_blocks, u64 *hits)
{
	struct future f = { .next = malloc(t->nr_refs * sizeof(u32)),
			    .at = malloc(t->nr_blocks * sizeof(u32)),
			    .heap = malloc(t->nr_refs * sizeof(*f.heap)) };
	u32 i, k, used = 0;
	struct use u;
	bool hit;
	int rc = f.next && f.at && f.heap ? 0 : -ENOMEM;

	*hits = 0;
	if (!rc)
		look_ahead(t, &f);
	for (i = 0; !rc && i < t->nr_requests; i++) {
		hit = true;
		for (k = t->begin[i]; k < t->begin[i + 1]; k++) {
			hit &= f.at[t->ref[k]] != NO_NODE;
			*hits += hit;
			used += f.at[t->ref[k]] == NO_NODE;
			f.at[t->ref[k]] = k;
			heap_push(&f, (struct use){ f.next[k], k });
		}
		while (used > nr_blocks) {
			u = heap_pop(&f);
			if (f.at[t->ref[u.at]] != u.at)
				continue;
			f.at[t->ref[u.at]] = NO_NODE;
			used--;
		}
	}
	free(f.next);
	free(f.at);
	free(f.heap);
	return rc;
}
