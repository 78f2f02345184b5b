/* SPDX-License-Identifier: MIT */
/*
 * recover_prefix.c - published pages stay found
 *
 * A node is what its tokens and its parent say; its search tree is built
 * anew. A page of it counts if the frame is the cache's and says that it is
 * this node's. Pages that were being copied are copied again if the source is
 * there and its client lives, else they are not there: whoever publishes the
 * tokens next makes up for it.
 *
 * What the policy knew is lost with its lists, but not in which order nodes
 * were used last: they are put in again one by one in that order, a parent
 * before its children, and again at its own turn. So what would have been
 * evicted last still is, and the odds are learned anew.
 *
 * A hold is a space's if the space names it. Any other one is let go of when
 * the steps of its client that may run have ended.
 */
#include <string.h>

#include "kvmd/mm/recover.h"
#include "kvmd/mm/prefix.h"

#define UNLINKED    (MM_NONE - 1)
#define REFS(mm)    ILINKS(mm_refs(mm), link)
#define is_live(mm) ((mm)->state == NODE_LIVE)

/* ---- nodes ---- */

static bool node_is_valid(const struct mm *mm, const struct prefix_node *x)
{
	const struct prefix_node *parent;

	if (x->tree >= MM_TREE_MAX || !x->nr_tokens ||
	    x->nr_tokens > NODE_TOKENS ||
	    !cache_of(mm, mm->trees[x->tree].tenant))
		return false;
	if (x->parent == MM_NONE)
		return !x->depth;
	parent = &mm_nodes(mm)[x->parent];
	return x->parent < mm->node_top && is_live(parent) &&
	       parent->tree == x->tree && parent->depth + 1 == x->depth;
}

static void drop_invalid(struct mm *mm)
{
	struct prefix_node *x;
	bool again = true;
	u32 n;

	while (again) {
		again = false;
		for (n = 0; n < mm->node_top; n++) {
			x = &mm_nodes(mm)[n];
			if (!is_live(x) || node_is_valid(mm, x))
				continue;
			x->state = NODE_FREE;
			again = true;
		}
	}
}

/* Is it the page of the node that the node takes it for? */
static bool page_is_its(const struct mm *mm, u32 n, u32 k)
{
	const struct prefix_node *x = &mm_nodes(mm)[n];
	const struct prefix_tree *t = &mm->trees[x->tree];
	u32 frame = x->frame[k], chunk = frame / FRAMES_PER_CHUNK;
	const struct chunk *head;
	const struct frame *f;

	if (frame == MM_NONE || k >= t->nr_areas || chunk >= mm->nr_chunks)
		return false;
	head = &mm_chunks(mm)[frame_head(mm, frame)];
	f = &mm_frames(mm)[frame];
	return head->state == CHUNK_HEAD &&
	       head->client == client_index(mm, cache_of(mm, t->tenant)) &&
	       head->geom == t->area[k].geom &&
	       frame - frame_head(mm, frame) * FRAMES_PER_CHUNK <
		       head->nr_fresh &&
	       f->state != FRAME_FREE && f->family == n && f->area == k &&
	       f->page == x->depth && !f->refs;
}

/* Can the page still be copied from where it was published? */
static bool source_is_there(const struct mm *mm, const struct prefix_node *x,
			    u32 k)
{
	u32 from = x->from[k], chunk = from / FRAMES_PER_CHUNK;
	const struct chunk *head;

	if (from == MM_NONE || chunk >= mm->nr_chunks ||
	    x->client >= MM_CLIENT_MAX ||
	    mm_clients(mm)[x->client].state != CLIENT_LIVE)
		return false;
	head = &mm_chunks(mm)[frame_head(mm, from)];
	return head->state == CHUNK_HEAD && head->client == x->client &&
	       mm_frames(mm)[from].state == FRAME_PUB;
}

static void node_pages(struct mm *mm, u32 n)
{
	struct prefix_node *x = &mm_nodes(mm)[n];
	u32 k;

	for (k = 0; k < KV_AREA_MAX; k++) {
		bool copying = x->copying & (1u << k);

		if (page_is_its(mm, n, k) &&
		    (!copying || source_is_there(mm, x, k))) {
			mm_frames(mm)[x->frame[k]].refs = 1;
			if (!copying)
				continue;
			mm_marks(mm)[x->from[k]] = mm->mark_seq;
			mm_clients(mm)[x->client].nr_io++;
			mm->nr_copying++;
			continue;
		}
		x->frame[k] = MM_NONE;
		mm_order();
		x->copying &= (u8) ~(1u << k);
		x->from[k] = MM_NONE;
	}
}

/* ---- their trees, and the order of use ---- */

/* Next node in the order of use: scratch. */
static u32 *next_of(const struct mm *mm, u32 n)
{
	return &mm_seen(mm)[n];
}

static u32 merge(const struct mm *mm, u32 a, u32 b)
{
	const struct prefix_node *x = mm_nodes(mm);
	u32 first = MM_NONE, *at = &first;

	while (a != MM_NONE && b != MM_NONE) {
		u32 *from = x[b].policy.stamp < x[a].policy.stamp ? &b : &a;

		*at = *from;
		at = next_of(mm, *from);
		*from = *at;
	}
	*at = a != MM_NONE ? a : b;
	return first;
}

/* Live nodes, the one used longest ago first: runs[i] has 2^i of them. */
static u32 sort_by_use(const struct mm *mm)
{
	u32 runs[32], n, i, run;

	for (i = 0; i < ARRAY_SIZE(runs); i++)
		runs[i] = MM_NONE;
	for (n = 0; n < mm->node_top; n++) {
		if (!is_live(&mm_nodes(mm)[n]))
			continue;
		*next_of(mm, n) = MM_NONE;
		run = n;
		for (i = 0; runs[i] != MM_NONE; i++) {
			run = merge(mm, runs[i], run);
			runs[i] = MM_NONE;
		}
		runs[i] = run;
	}
	for (i = 0, run = MM_NONE; i < ARRAY_SIZE(runs); i++)
		run = merge(mm, runs[i], run);
	return run;
}

static void trees_begin(struct mm *mm)
{
	struct prefix_node *x;
	u32 i;

	mm->tree_top = 0;
	mm->node_free = MM_NONE;
	for (i = 0; i < MM_TREE_MAX; i++) {
		mm->trees[i].nr_nodes = mm->trees[i].nr_children = 0;
		mm->trees[i].child = MM_NONE;
	}
	for (i = 0; i < mm->node_top; i++) {
		x = &mm_nodes(mm)[i];
		x->child = x->right = MM_NONE;
		x->left = UNLINKED;
		x->nr_children = x->holds = 0;
		x->idle = false;
		memset(&x->policy, 0, sizeof(x->policy));
	}
	for (i = 0; i < MM_TENANT_MAX; i++) {
		mm->tenants[i].nr_nodes = 0;
		if (mm->tenants[i].cache)
			policy_init(mm_policy(mm, i), mm->lay.nr_nodes,
				    mm->lay.nr_ghosts, &mm_nodes(mm)[0].policy,
				    sizeof(struct prefix_node),
				    mm->cache_policy);
	}
}

/* In again, behind those of the path before it that are not. */
static void rejoin(struct mm *mm, u32 n)
{
	struct prefix_node *nodes = mm_nodes(mm);
	u32 at;

	if (nodes[n].left != UNLINKED) {
		node_hit(mm, n);
		return;
	}
	while (nodes[n].left == UNLINKED) {
		for (at = n; nodes[at].parent != MM_NONE &&
			     nodes[nodes[at].parent].left == UNLINKED;
		     at = nodes[at].parent)
			;
		node_join(mm, at);
	}
}

static void recover_trees(struct mm *mm)
{
	u32 i, first = sort_by_use(mm);

	trees_begin(mm);
	for (i = first; i != MM_NONE; i = *next_of(mm, i))
		rejoin(mm, i);
	for (i = mm->node_top; i--;) {
		if (is_live(&mm_nodes(mm)[i]))
			continue;
		mm_nodes(mm)[i].child = mm->node_free;
		mm->node_free = i;
	}
	for (i = 0; i < MM_TREE_MAX; i++)
		if (mm->trees[i].nr_nodes)
			mm->tree_top = i + 1;
}

/* ---- holds ---- */

static bool ref_is_used(const struct mm *mm, const struct prefix_ref *r)
{
	return r->client < MM_CLIENT_MAX && r->node < mm->node_top &&
	       is_live(&mm_nodes(mm)[r->node]) &&
	       (mm_clients(mm)[r->client].state == CLIENT_LIVE ||
		mm_clients(mm)[r->client].state == CLIENT_EXITING);
}

static void take_refs(struct mm *mm, struct client *c)
{
	struct space *sps = mm_spaces(mm, c);
	struct prefix_ref *r;
	u32 i;

	for (i = 0; i < c->space_top; i++) {
		if (sps[i].state != KV_SPACE_LIVE)
			continue;
		r = &mm_refs(mm)[sps[i].ref];
		if (sps[i].ref >= mm->ref_top || !sps[i].ref ||
		    !ref_is_used(mm, r) || r->client != client_index(mm, c) ||
		    r->link.prev != UNLINKED) {
			sps[i].ref = sps[i].chain = 0;
			continue;
		}
		r->pin = 0;
		mm_nodes(mm)[r->node].holds++;
		ilist_add_tail(&c->refs, REFS(mm), sps[i].ref);
		sps[i].chain =
			min(sps[i].chain, mm_nodes(mm)[r->node].depth + 1);
	}
}

/* Nobody's any more: its client's steps may still read it. */
static void leave_ref(struct mm *mm, u32 i)
{
	struct prefix_ref *r = &mm_refs(mm)[i];
	struct client *c = &mm_clients(mm)[r->client];

	if (c->state != CLIENT_LIVE)
		r->pin = ~0ull;
	else if (!r->pin)
		r->pin = max(client_pin(mm, c), 1ull);
	mm_nodes(mm)[r->node].holds++;
	ilist_add_tail(&c->refs_leaving, REFS(mm), i);
	mm->nr_refs_leaving++;
}

static void recover_refs(struct mm *mm)
{
	struct prefix_ref *refs = mm_refs(mm);
	struct client *cs = mm_clients(mm);
	u32 i;

	mm->ref_free = 0;
	for (i = 1; i < mm->ref_top; i++)
		refs[i].link.prev = UNLINKED;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		take_refs(mm, &cs[i]);
	for (i = mm->ref_top; --i;) {
		if (refs[i].client != MM_NONE && !ref_is_used(mm, &refs[i]))
			refs[i].client = MM_NONE;
		if (refs[i].client == MM_NONE) {
			refs[i].link.next = mm->ref_free;
			mm->ref_free = i;
		} else if (refs[i].link.prev == UNLINKED) {
			leave_ref(mm, i);
		}
	}
}

/* ---- grants ---- */

/* Extents that a client was given to read and that are still the cache's. */
static void recover_grants(struct mm *mm, const struct client *c)
{
	const struct client *cache = cache_of(mm, c->tenant);
	const struct extent *es = mm_extents(mm);
	u32 i;

	for (i = 0; i < mm->nr_extents; i++)
		if (bitmap_test(mm_grants(mm, c), i) &&
		    (!cache || es[i].state != EXTENT_GRANTED ||
		     es[i].client != client_index(mm, cache)))
			bitmap_clear(mm_grants(mm, c), i);
}

void recover_prefixes(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	u32 i;

	drop_invalid(mm);
	mm->mark_seq++;
	for (i = 0; i < mm->node_top; i++)
		if (is_live(&mm_nodes(mm)[i]))
			node_pages(mm, i);
	recover_trees(mm);
	recover_refs(mm);
	for (i = 0; i < mm->node_top; i++)
		if (is_live(&mm_nodes(mm)[i]))
			node_settle(mm, i);
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		recover_grants(mm, &cs[i]);
}

/* Has it a page in each area that needs one? */
static bool node_is_whole(const struct mm *mm, const struct prefix_node *x)
{
	const struct prefix_tree *t = &mm->trees[x->tree];
	u32 k;

	for (k = 0; k < t->nr_areas; k++)
		if (!t->area[k].window && x->frame[k] == MM_NONE)
			return false;
	return true;
}

void recover_nodes_end(struct mm *mm)
{
	const struct prefix_node *x;
	bool again = true;
	u32 n;

	while (again) {
		again = false;
		for (n = 0; n < mm->node_top; n++) {
			x = &mm_nodes(mm)[n];
			if (!is_live(x) || x->nr_children || x->holds ||
			    x->copying || node_is_whole(mm, x))
				continue;
			cache_evict(mm, n, false);
			again = true;
		}
	}
}
