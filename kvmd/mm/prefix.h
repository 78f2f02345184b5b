/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_PREFIX_H
#define KVMD_MM_PREFIX_H
/*
 * prefix.h - published prefixes: the trees, the frames, who maps them
 *
 * prefix_tree.c knows tokens, cache.c knows frames; prefix.c and publish.c join
 * the two with spaces.
 */
#include "kvmd/mm/space.h"

/* ---- prefix_tree.c: nodes by their tokens ---- */

/* The children of a node, or of the tree if @parent is MM_NONE. */
u32 *node_children(struct mm *mm, u32 tree, u32 parent);

/**
 * node_find - the child that begins with the most of some tokens
 * @mm: core
 * @root: search tree of the siblings
 * @tokens: what is looked for
 * @nr: how many, at least 1
 * @common: how many of them the child begins with
 *
 * Return: the child; MM_NONE: none begins with even the first.
 */
u32 node_find(const struct mm *mm, u32 root, const u32 *tokens, u32 nr,
	      u32 *common);

/**
 * node_make - a child with these tokens, which must not exist yet
 * @mm: core
 * @tree: tree
 * @parent: of the same tree, or MM_NONE
 * @tokens: its own
 * @nr: how many
 *
 * Return: the node, without a frame, used just now and not to be evicted before
 * it has been settled; MM_NONE: there are none left.
 */
u32 node_make(struct mm *mm, u32 tree, u32 parent, const u32 *tokens, u32 nr);

/* node_join - into the search tree of its siblings, the counts and the policy
 */
void node_join(struct mm *mm, u32 node);

/* node_free - no child, no hold, no frame; @evicted: to make room */
void node_free(struct mm *mm, u32 node, bool evicted);

/* node_settle - what it is needed for has changed; may it be evicted? */
void node_settle(struct mm *mm, u32 node);

/* node_hit - a request uses it; the one before it first */
void node_hit(struct mm *mm, u32 node);

/* tree_find - the tree for spaces like @sp, or MM_NONE */
u32 tree_find(const struct mm *mm, const struct client *c,
	      const struct space *sp);

/* tree_make - the same, made if need be; -ENOSPC, -EOPNOTSUPP */
int tree_make(struct mm *mm, struct client *c, const struct space *sp,
	      u32 *tree);

/* ---- cache.c: a tenant's frames for it ---- */

/* cache_of - the page cache's client of @tenant, or NULL */
struct client *cache_of(const struct mm *mm, u32 tenant);

/* cache_make - the same, made if need be; NULL: no client slot is free */
struct client *cache_make(struct mm *mm, u32 tenant);

/* cache_class - the cache's class like @geom; MM_NONE: none left */
u32 cache_class(struct mm *mm, struct client *cache,
		const struct kv_geometry *geom);

/* cached_class - the class of a cache's frame */
struct frame_class *cached_class(const struct mm *mm, u32 frame);

/* node_bytes - of its pages */
u64 node_bytes(const struct mm *mm, u32 node);

/**
 * cache_room - free frames in the cache
 * @mm: core
 * @cache: page cache
 * @geom: class
 *
 * Takes memory that nobody waits for, else from what was not used for longest.
 * Return: false if there is neither.
 */
bool cache_room(struct mm *mm, struct client *cache, u32 geom);

/* cache_evict_one - what was not used for longest; false: all is needed */
bool cache_evict_one(struct mm *mm, u32 tenant);

/* cache_evict - an idle node goes, with its frames; @room: to make some */
void cache_evict(struct mm *mm, u32 node, bool room);

/**
 * cache_shrink - return extents that hold what was not used for longest
 * @mm: core
 * @cache: page cache
 * @extents: how many are wanted
 *
 * Return: how many went.
 */
u32 cache_shrink(struct mm *mm, struct client *cache, u32 extents);

/**
 * cache_reclaim - the same, wherever a reservation may take from
 * @mm: core
 * @c: who is short, or NULL: the device
 * @at_limit: of its tenant: only that one's own cache counts
 * @extents: how many are wanted
 *
 * Return: how many went.
 */
u32 cache_reclaim(struct mm *mm, const struct client *c, bool at_limit,
		  u32 extents);

/* cache_put - an empty cache goes, and with it the hold on its tenant */
void cache_put(struct mm *mm, u32 tenant);

/* cache_grant - @c has to have the extent of a cache's frame mapped */
void cache_grant(struct mm *mm, struct client *c, u32 extent);

/* cache_withdrawn - a page cache's extent goes: nobody has it any more */
void cache_withdrawn(struct mm *mm, const struct client *cache, u32 extent);

/* ---- prefix.c: spaces that map them ---- */

/* The cache's frame that an entry names, or MM_NONE. */
u32 pte_cached(const struct mm *mm, const struct client *c,
	       const struct space_area *a, kv_pte_t pte);

/* prefix_drop_entry - an entry for which pte_frame() finds nothing is gone:
 * false if it was none of the cache's either */
bool prefix_drop_entry(struct mm *mm, const struct client *c,
		       const struct space_area *a, kv_pte_t pte);

/* prefix_share_entry - another space has it now too; false as above */
bool prefix_share_entry(struct mm *mm, const struct client *c,
			const struct space_area *a, kv_pte_t pte);

/* prefix_depth - of the last node that a space holds; it holds one */
static inline u32 prefix_depth(const struct mm *mm, const struct space *sp)
{
	return mm_nodes(mm)[mm_refs(mm)[sp->ref].node].depth;
}

/* prefix_node - the node of a space's prefix for page @page, which it has */
u32 prefix_node(const struct mm *mm, const struct space *sp, u32 page);

/* prefix_hold - a new reference of @c to a node; 0: there are none left */
u32 prefix_hold(struct mm *mm, struct client *c, u32 node);

/* prefix_cut - @sp needs only the first @pages of its prefix; what it held
 * beyond stays until @pin has passed */
void prefix_cut(struct mm *mm, struct client *c, struct space *sp, u32 pages,
		u64 pin);

/* prefix_write - @sp has a page of its own in the place of @page of its prefix.
 * It holds what it maps of the cache behind that */
void prefix_write(struct mm *mm, struct client *c, struct space *sp, u32 page,
		  u64 pin);

/* prefix_fork - @child holds what @parent does of its first @pages. Return:
 * -ENOSPC */
int __must_check prefix_fork(struct mm *mm, struct client *c,
			     const struct space *parent, struct space *child,
			     u32 pages);

/* prefix_take - entries of published pages below @below go over to the
 * cache's */
void prefix_take(struct mm *mm, struct client *c, struct space *sp, u32 below);

/* prefix_give_up - an idle space's prefix may be evicted; false: it is busy */
bool prefix_give_up(struct mm *mm, struct client *c, struct space *sp);

/* prefix_reap - let go of what has passed its pin */
void prefix_reap(struct mm *mm, struct client *c);

/* prefix_client_gone - nothing of it maps or holds a prefix any more */
void prefix_client_gone(struct mm *mm, struct client *c);

#endif
