/* SPDX-License-Identifier: MIT */
/*
 * kv_ideal.c - a pool of tokens with a radix cache, and nothing in it
 *
 * The cache of the SGLang paper, to hold the engine's order of requests against
 * theorems and other caches: memory is counted in tokens, cached and running
 * ones share one pool, a prefix is shared by the token, and what is evicted are
 * leaves. Of these what was never mapped goes first, which the pager's policy
 * finds out by itself (policy_reuse.c) and the paper's LRU does not know; then
 * what was used longest ago. Each token that is cached is a node. There is no
 * memory behind it: for a simulated machine only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/kv_none.h"

#define NONE   (~0u)
#define SPACES 512u

struct node {
	u32 token, parent, child, sibling;
	u32 holds; /* spaces whose prefix ends here */
	bool live;
	bool mapped; /* since it was published */
	u64 used;
};

struct ideal_space {
	bool live;
	u32 node; /* its prefix ends here; NONE: it has none */
	u32 depth; /* tokens of that prefix */
	u32 own; /* tokens behind them */
};

struct ideal {
	struct kv_backend b;
	struct node *nodes; /* [size] */
	u32 size, nr_nodes, nr_own, root, free;
	u64 clock;
	struct ideal_space space[SPACES];
};

static struct ideal *to_ideal(struct kv_backend *b)
{
	return container_of(b, struct ideal, b);
}

static u32 *children(struct ideal *p, u32 node)
{
	return node == NONE ? &p->root : &p->nodes[node].child;
}

static u32 child_of(struct ideal *p, u32 node, u32 token)
{
	u32 n = *children(p, node);

	while (n != NONE && p->nodes[n].token != token)
		n = p->nodes[n].sibling;
	return n;
}

static void drop(struct ideal *p, u32 n)
{
	u32 *at = children(p, p->nodes[n].parent);

	while (*at != n)
		at = &p->nodes[*at].sibling;
	*at = p->nodes[n].sibling;
	p->nodes[n].live = false;
	p->nodes[n].sibling = p->free;
	p->free = n;
	p->nr_nodes--;
}

static bool is_idle(const struct node *x)
{
	return x->live && x->child == NONE && !x->holds;
}

static bool goes_before(const struct node *a, const struct node *b)
{
	return a->mapped != b->mapped ? b->mapped : a->used < b->used;
}

/* The leaf whose turn it is, and up from there; false: all is needed. */
static bool evict(struct ideal *p, u32 nr)
{
	u32 i, n = NONE, up;

	for (i = 0; i < p->size; i++)
		if (is_idle(&p->nodes[i]) &&
		    (n == NONE || goes_before(&p->nodes[i], &p->nodes[n])))
			n = i;
	if (n == NONE)
		return false;
	do {
		up = p->nodes[n].parent;
		i = n;
		drop(p, n);
		n = up;
	} while (--nr && n != NONE && is_idle(&p->nodes[n]) &&
		 p->nodes[n].mapped == p->nodes[i].mapped &&
		 p->nodes[n].used == p->nodes[i].used);
	return true;
}

static int ideal_space_create(struct kv_backend *b, u32 *space)
{
	struct ideal *p = to_ideal(b);
	u32 i;

	for (i = 0; i < SPACES && p->space[i].live; i++)
		;
	if (i == SPACES)
		return -ENOSPC;
	p->space[i] = (struct ideal_space){ .live = true, .node = NONE };
	*space = i;
	return 0;
}

static void hold(struct ideal *p, struct ideal_space *s, u32 node)
{
	if (node != NONE)
		p->nodes[node].holds++;
	if (s->node != NONE)
		p->nodes[s->node].holds--;
	s->node = node;
}

/* No room is made for a fork: it has no tokens of its own to begin with. */
static int ideal_space_fork(struct kv_backend *b, u32 parent, u64 len,
			    u32 *space)
{
	struct ideal *p = to_ideal(b);
	struct ideal_space *s;
	u32 i, node = p->space[parent].node;
	int rc = ideal_space_create(b, space);

	if (rc)
		return rc;
	s = &p->space[*space];
	s->depth = (u32)min(len, (u64)p->space[parent].depth);
	for (i = p->space[parent].depth; i > s->depth; i--)
		node = p->nodes[node].parent;
	hold(p, s, node);
	s->own = (u32)len - s->depth;
	p->nr_own += s->own;
	return 0;
}

static int ideal_space_truncate(struct kv_backend *b, u32 space, u64 len)
{
	struct ideal *p = to_ideal(b);
	struct ideal_space *s = &p->space[space];
	u32 own = len > s->depth ? (u32)len - s->depth : 0, node = s->node;

	p->nr_own -= s->own - min(own, s->own);
	s->own = min(own, s->own);
	for (; s->depth > len; s->depth--)
		node = p->nodes[node].parent;
	hold(p, s, node);
	return 0;
}

static void ideal_space_destroy(struct kv_backend *b, u32 space)
{
	(void)ideal_space_truncate(b, space, 0);
	to_ideal(b)->space[space].live = false;
}

static const u32 *ideal_space_table(struct kv_backend *b, u32 space, u32 area)
{
	(void)b;
	(void)space;
	(void)area;
	return NULL;
}

static u32 wanted(const struct ideal *p, const struct kv_resv_item *it)
{
	const struct ideal_space *s = &p->space[it->space];
	u64 end = it->pos + it->nr_tokens, has = (u64)s->depth + s->own;

	return end > has ? (u32)(end - has) : 0;
}

static int ideal_step_prepare(struct kv_backend *b,
			      const struct kv_resv_item *items, u32 nr,
			      int timeout_ms)
{
	struct ideal *p = to_ideal(b);
	u64 want = 0, most = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		want += wanted(p, &items[i]);
		most = max(most, items[i].pos + items[i].nr_tokens);
	}
	if (most > p->size)
		return -E2BIG; /* one of them, whatever is evicted */
	while (p->nr_nodes + p->nr_own + want > p->size)
		if (!evict(p, (u32)(p->nr_nodes + p->nr_own + want - p->size)))
			return timeout_ms ? -E2BIG : -EAGAIN;
	for (i = 0; i < nr; i++) {
		u32 more = wanted(p, &items[i]);

		p->space[items[i].space].own += more;
		p->nr_own += more;
	}
	return 0;
}

static u32 find(struct ideal *p, const u32 *ids, u32 nr, u32 *node)
{
	u32 n, len = 0;

	*node = NONE;
	while (len < nr && (n = child_of(p, *node, ids[len])) != NONE) {
		*node = n;
		len++;
	}
	return len;
}

static void touch(struct ideal *p, u32 node, bool mapped)
{
	p->clock++;
	for (; node != NONE; node = p->nodes[node].parent) {
		p->nodes[node].used = p->clock;
		p->nodes[node].mapped |= mapped;
	}
}

static u32 ideal_prefix_map(struct kv_backend *b, u32 space, const u32 *ids,
			    u32 nr)
{
	struct ideal *p = to_ideal(b);
	struct ideal_space *s = &p->space[space];
	u32 node;

	s->depth = find(p, ids, nr, &node);
	hold(p, s, node);
	touch(p, node, true);
	return s->depth;
}

static void ideal_prefix_find(struct kv_backend *b, u32 space, const u32 *ids,
			      u32 nr, bool announce, struct kv_found *out)
{
	u32 node, len = find(to_ideal(b), ids, nr, &node);

	(void)space;
	(void)announce;
	*out = (struct kv_found){ .len = len, .soon = len, .known = len };
}

static void ideal_prefix_publish(struct kv_backend *b, u32 space,
				 const u32 *ids, u32 nr, bool resume)
{
	struct ideal *p = to_ideal(b);
	struct ideal_space *s = &p->space[space];
	u32 n, last = s->node;

	(void)resume;
	while (s->depth < nr && s->own) {
		n = child_of(p, last, ids[s->depth]);
		if (n == NONE) {
			n = p->free;
			p->free = p->nodes[n].sibling;
			p->nodes[n] = (struct node){
				.token = ids[s->depth],
				.parent = last,
				.child = NONE,
				.sibling = *children(p, last),
				.live = true,
			};
			*children(p, last) = n;
			p->nr_nodes++;
		}
		s->own--;
		p->nr_own--;
		s->depth++;
		last = n;
	}
	hold(p, s, last);
	touch(p, last, false);
}

static u64 ideal_space_private(struct kv_backend *b, u32 space)
{
	return to_ideal(b)->space[space].own;
}

static u64 ideal_limit(struct kv_backend *b)
{
	return to_ideal(b)->size;
}

static const char *ideal_error(struct kv_backend *b)
{
	(void)b;
	return "the pool is too small";
}

static void ideal_destroy(struct kv_backend *b)
{
	free(to_ideal(b)->nodes);
	free(to_ideal(b));
}

static const struct kv_backend_ops ideal_ops = {
	.name = "ideal",
	.space_create = ideal_space_create,
	.space_fork = ideal_space_fork,
	.space_truncate = ideal_space_truncate,
	.space_destroy = ideal_space_destroy,
	.space_table = ideal_space_table,
	.step_prepare = ideal_step_prepare,
	.step_prefetch = kv_none_step_prefetch,
	.step_copies = kv_none_step_copies,
	.step_commit = kv_none_step_commit,
	.step_abandon = kv_none_step_abandon,
	.prefix_map = ideal_prefix_map,
	.prefix_find = ideal_prefix_find,
	.prefix_publish = ideal_prefix_publish,
	.shrink = kv_none_shrink,
	.swap_room = kv_none_swap_room,
	.space_out = kv_none_space_out,
	.space_whole = kv_none_space_whole,
	.space_private = ideal_space_private,
	.limit = ideal_limit,
	.lost = kv_none_lost,
	.error = ideal_error,
	.destroy = ideal_destroy,
};

int kv_ideal_create(u32 tokens, struct kv_backend **out, char *err)
{
	struct ideal *p = calloc(1, sizeof(*p));
	u32 i;

	if (p)
		p->nodes = calloc(tokens, sizeof(*p->nodes));
	if (!p || !p->nodes) {
		free(p);
		return err_set(err, -ENOMEM, "no memory for the pool");
	}
	p->b.ops = &ideal_ops;
	p->b.nr_areas = 1;
	p->b.law[0] = (struct kv_area_law){ .page_tokens = 1, .page_bytes = 1 };
	p->size = tokens;
	p->root = NONE;
	for (i = 0; i < tokens; i++)
		p->nodes[i].sibling = i + 1;
	*out = &p->b;
	return 0;
}
