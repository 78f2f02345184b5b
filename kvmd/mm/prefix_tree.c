/* SPDX-License-Identifier: MIT */
/*
 * prefix_tree.c - published pages, found by their tokens
 *
 * A node is one page: the tokens of a page behind those of its parents. The
 * path from a tree's root to a node spells a sequence, so a lookup goes down
 * a page at a time, and two prefixes share the nodes up to the page in which
 * they part. Inside that page the longest common part counts too: it is what
 * a space that takes the page over has to copy (a fork in the middle of a
 * page). So sharing is by the token although memory is by the page, and no
 * node is ever split.
 *
 * Siblings form a search tree in the order of their tokens. Whoever has most
 * in common with a sequence is its neighbour in that order: one descent finds
 * the exact child and, failing that, the best partial one. The search tree is
 * a treap: its priorities are random, so that no order of arrival makes it
 * deep, and inserting and removing are a split and a merge without recursion.
 *
 *	Cecilia R. Aragon, Raimund Seidel, "Randomized search trees", 1989
 *
 * A tree belongs to a tenant, a namespace (model, adapter, version, salt) and
 * a layout of areas: what it finds was computed by the same network for the
 * same tenant. It is there while it has a node.
 *
 * Which node is given up next is the policy's (policy.h), one per tenant; it is
 * told of every use from the first page of a path to its last, and of every
 * node that comes to have no child, no hold and no copy on its way, or ceases
 * to.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/prefix.h"
#include "lib/hash.h"

u32 *node_children(struct mm *mm, u32 tree, u32 parent)
{
	return parent == MM_NONE ? &mm->trees[tree].child
				 : &mm_nodes(mm)[parent].child;
}

/* Order of two runs of tokens; a run stands before what it begins. */
static int compare(const u32 *a, u32 nr_a, const u32 *b, u32 nr_b, u32 *common)
{
	u32 nr = min(nr_a, nr_b), i = 0;

	while (i < nr && a[i] == b[i])
		i++;
	*common = i;
	if (i < nr)
		return a[i] < b[i] ? -1 : 1;
	return nr_a < nr_b ? -1 : nr_a > nr_b;
}

u32 node_find(const struct mm *mm, u32 root, const u32 *tokens, u32 nr,
	      u32 *common)
{
	u32 n = root, best = MM_NONE, c;
	int cmp;

	*common = 0;
	while (n != MM_NONE) {
		const struct prefix_node *x = &mm_nodes(mm)[n];

		cmp = compare(tokens, nr, mm_node_tokens(mm, n), x->nr_tokens,
			      &c);
		if (c > *common || (!cmp && best != n)) {
			*common = c;
			best = n;
		}
		if (!cmp)
			break;
		n = cmp < 0 ? x->left : x->right;
	}
	return best;
}

/* ---- the treap ---- */

/* Nodes of @n before these tokens go to *@lo, the others to *@hi. */
static void split(struct mm *mm, u32 n, const u32 *tokens, u32 nr, u32 *lo,
		  u32 *hi)
{
	struct prefix_node *nodes = mm_nodes(mm);
	u32 c;

	while (n != MM_NONE) {
		if (compare(mm_node_tokens(mm, n), nodes[n].nr_tokens, tokens,
			    nr, &c) < 0) {
			*lo = n;
			lo = &nodes[n].right;
			n = *lo;
		} else {
			*hi = n;
			hi = &nodes[n].left;
			n = *hi;
		}
	}
	*lo = *hi = MM_NONE;
}

static void treap_insert(struct mm *mm, u32 *at, u32 node)
{
	struct prefix_node *nodes = mm_nodes(mm);
	const u32 *tokens = mm_node_tokens(mm, node);
	u32 nr = nodes[node].nr_tokens, c, n;

	while ((n = *at) != MM_NONE && nodes[n].prio > nodes[node].prio)
		at = compare(tokens, nr, mm_node_tokens(mm, n),
			     nodes[n].nr_tokens, &c) < 0
			     ? &nodes[n].left
			     : &nodes[n].right;
	*at = node;
	split(mm, n, tokens, nr, &nodes[node].left, &nodes[node].right);
}

static void treap_remove(struct mm *mm, u32 *at, u32 node)
{
	struct prefix_node *nodes = mm_nodes(mm);
	const u32 *tokens = mm_node_tokens(mm, node);
	u32 nr = nodes[node].nr_tokens, c, l, r;

	while (*at != node)
		at = compare(tokens, nr, mm_node_tokens(mm, *at),
			     nodes[*at].nr_tokens, &c) < 0
			     ? &nodes[*at].left
			     : &nodes[*at].right;
	l = nodes[node].left;
	r = nodes[node].right;
	while (l != MM_NONE && r != MM_NONE) {
		if (nodes[l].prio > nodes[r].prio) {
			*at = l;
			at = &nodes[l].right;
			l = *at;
		} else {
			*at = r;
			at = &nodes[r].left;
			r = *at;
		}
	}
	*at = l != MM_NONE ? l : r;
}

/* ---- nodes ---- */

static u64 node_key(const struct mm *mm, u32 tree, u32 parent,
		    const u32 *tokens, u32 nr)
{
	const struct prefix_tree *t = &mm->trees[tree];
	u64 h = parent == MM_NONE ? hash_bytes(&t->ns, sizeof(t->ns), 0)
				  : mm_nodes(mm)[parent].policy.key;

	return hash_bytes(tokens, nr * sizeof(*tokens), h);
}

void node_join(struct mm *mm, u32 n)
{
	struct prefix_node *x = &mm_nodes(mm)[n];
	struct prefix_tree *t = &mm->trees[x->tree];

	treap_insert(mm, node_children(mm, x->tree, x->parent), n);
	if (x->parent != MM_NONE)
		mm_nodes(mm)[x->parent].nr_children++;
	t->nr_children += x->parent == MM_NONE;
	t->nr_nodes++;
	mm->tenants[t->tenant].nr_nodes++;
	policy_insert(mm_policy(mm, t->tenant), n,
		      node_key(mm, x->tree, x->parent, mm_node_tokens(mm, n),
			       x->nr_tokens),
		      x->parent);
}

u32 node_make(struct mm *mm, u32 tree, u32 parent, const u32 *tokens, u32 nr)
{
	struct prefix_node *nodes = mm_nodes(mm);
	u32 n = mm->node_free, k;

	if (n != MM_NONE)
		mm->node_free = nodes[n].child;
	else if (mm->node_top == mm->lay.nr_nodes)
		return MM_NONE;
	else
		n = mm->node_top++;
	nodes[n] = (struct prefix_node){
		.tree = (u16)tree,
		.nr_tokens = (u16)nr,
		.parent = parent,
		.depth = parent == MM_NONE ? 0 : nodes[parent].depth + 1,
		.child = MM_NONE,
		.prio = hash_random(&mm->node_seed),
	};
	for (k = 0; k < KV_AREA_MAX; k++)
		nodes[n].frame[k] = nodes[n].from[k] = MM_NONE;
	memcpy(mm_node_tokens(mm, n), tokens, nr * sizeof(*tokens));
	mm_order();
	nodes[n].state = NODE_LIVE;
	node_join(mm, n);
	if (parent != MM_NONE)
		node_settle(mm, parent);
	return n;
}

void node_settle(struct mm *mm, u32 n)
{
	struct prefix_node *x = &mm_nodes(mm)[n];
	struct policy *p = mm_policy(mm, mm->trees[x->tree].tenant);
	bool idle = !x->nr_children && !x->holds && !x->copying;

	if (idle == x->idle)
		return;
	x->idle = idle;
	if (idle)
		policy_idle(p, n);
	else
		policy_busy(p, n);
}

void node_hit(struct mm *mm, u32 n)
{
	u32 tenant = mm->trees[mm_nodes(mm)[n].tree].tenant;

	policy_hit(mm_policy(mm, tenant), n);
}

void node_free(struct mm *mm, u32 n, bool evicted)
{
	struct prefix_node *x = &mm_nodes(mm)[n];
	struct prefix_tree *t = &mm->trees[x->tree];

	x->state = NODE_FREE;
	mm_order();
	treap_remove(mm, node_children(mm, x->tree, x->parent), n);
	policy_remove(mm_policy(mm, t->tenant), n, evicted);
	if (x->parent != MM_NONE) {
		mm_nodes(mm)[x->parent].nr_children--;
		node_settle(mm, x->parent);
	}
	t->nr_children -= x->parent == MM_NONE;
	t->nr_nodes--;
	mm->tenants[t->tenant].nr_nodes--;
	x->child = mm->node_free;
	mm->node_free = n;
}

/* ---- trees ---- */

static bool tree_is_for(const struct mm *mm, const struct prefix_tree *t,
			const struct client *c, const struct space *sp)
{
	const struct kv_space_desc *d = space_desc(mm, c, sp);
	const struct client *cache = cache_of(mm, c->tenant);
	u32 k;

	if (!t->nr_nodes || t->tenant != c->tenant ||
	    t->nr_areas != sp->nr_areas ||
	    memcmp(&t->ns, &d->ns, sizeof(t->ns)))
		return false;
	for (k = 0; k < t->nr_areas; k++)
		if (t->area[k].window != sp->area[k].window ||
		    t->area[k].head_first != d->area[k].head_first ||
		    t->area[k].nr_heads != d->area[k].nr_heads ||
		    memcmp(&cache->cls[t->area[k].geom].geom,
			   &c->cls[sp->area[k].geom].geom,
			   sizeof(struct kv_geometry)))
			return false;
	return true;
}

u32 tree_find(const struct mm *mm, const struct client *c,
	      const struct space *sp)
{
	u32 i;

	if (!cache_of(mm, c->tenant))
		return MM_NONE;
	for (i = 0; i < mm->tree_top; i++)
		if (tree_is_for(mm, &mm->trees[i], c, sp))
			return i;
	return MM_NONE;
}

/* A page of each area holds the same tokens, and not too many. */
static bool pages_fit(const struct client *c, const struct space *sp)
{
	u32 k, tokens = c->cls[sp->area[0].geom].geom.page_tokens;

	for (k = 1; k < sp->nr_areas; k++)
		if (c->cls[sp->area[k].geom].geom.page_tokens != tokens)
			return false;
	return tokens <= NODE_TOKENS;
}

int tree_make(struct mm *mm, struct client *c, const struct space *sp,
	      u32 *tree)
{
	const struct kv_space_desc *d = space_desc(mm, c, sp);
	struct prefix_tree *t = mm->trees;
	struct client *cache;
	u32 k, i;

	*tree = tree_find(mm, c, sp);
	if (*tree != MM_NONE)
		return 0;
	if (!pages_fit(c, sp))
		return -EOPNOTSUPP;
	cache = cache_make(mm, c->tenant);
	for (i = 0; i < MM_TREE_MAX && t[i].nr_nodes; i++)
		;
	if (!cache || i == MM_TREE_MAX)
		return -ENOSPC;
	t = &t[i];
	*t = (struct prefix_tree){
		.tenant = c->tenant,
		.ns = d->ns,
		.nr_areas = sp->nr_areas,
		.page_shift = c->cls[sp->area[0].geom].page_shift,
		.child = MM_NONE,
	};
	for (k = 0; k < sp->nr_areas; k++) {
		t->area[k].window = sp->area[k].window;
		t->area[k].head_first = d->area[k].head_first;
		t->area[k].nr_heads = d->area[k].nr_heads;
		t->area[k].geom =
			cache_class(mm, cache, &c->cls[sp->area[k].geom].geom);
		if (t->area[k].geom == MM_NONE)
			return -ENOSPC;
	}
	mm->tree_top = max(mm->tree_top, i + 1);
	*tree = i;
	return 0;
}
