/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_POLICY_H
#define KVMD_MM_POLICY_H
/*
 * policy.h - which page of the prefix cache is given up next
 *
 * The tree tells what happens to its nodes, and asks for the next one to
 * evict. It tells it from the root to the leaf: a request uses a path, first
 * the nodes that were there (policy_hit), then the new ones (policy_insert).
 *
 *	           policy_idle
 *	busy (new) -----------> idle (may be evicted)
 *	     ^                   |  |
 *	     +---- policy_busy --+  +--> policy_victim, policy_remove
 *
 * A node is idle while it has no child and nobody maps it; only idle nodes
 * are on a policy's lists, so that a victim is found without a search. What
 * the policies order by (struct policy_node, the table of pages evicted not
 * long ago, and the odds learned from both) is kept whichever policy is
 * chosen, so that another one may be chosen at any time.
 *
 * All state is in the caller's memory and refers to itself by distance: it
 * means the same wherever it is mapped. Nothing depends on addresses, time
 * or chance: the same calls give the same victims.
 */
#include "lib/ilist.h"

#define POLICY_NONE ILIST_NONE

enum policy_kind {
	POLICY_LRU,
	POLICY_MGLRU,
	POLICY_REUSE, /* the default */
	POLICY_NR_KINDS
};

/**
 * struct policy_node - what a policy knows of a node of the tree
 * @link: list it is on while idle; LRU: .prev is its place in the heap
 * @key: hash of the path from the root to it
 * @stamp: uses of all nodes until its last one
 * @parent: the node before it, or POLICY_NONE
 * @uses: requests that used it, those before an eviction included
 * @run: how many nodes were new with it, up to it
 * @cls: class of its odds
 * @flags: POLICY_NODE_*
 *
 * Part of each node of the tree, in an array. It belongs to the policy from
 * policy_insert() to policy_remove(), and is zero outside.
 */
struct policy_node {
	struct ilink link;
	u64 key;
	u64 stamp;
	u32 parent;
	u8 uses, run, cls, flags;
};

struct policy;

struct policy_counts {
	u64 hits, inserts, refaults, evictions;
};

/**
 * policy_bytes - memory for a policy
 * @nr_nodes: nodes there may be
 * @nr_ghosts: evicted ones to remember; eight for each page that is cached
 */
size_t policy_bytes(u32 nr_nodes, u32 nr_ghosts);

/**
 * policy_init - begin with no node
 * @p: policy_bytes() of the same numbers, zero or a policy's before
 * @nr_nodes: nodes there may be
 * @nr_ghosts: evicted ones to remember
 * @nodes: the array's first policy_node, zeroed; keeps its distance to @p
 * @stride: bytes from one to the next
 * @kind: how to order them
 *
 * Policies may share an array: each knows the nodes that were inserted there.
 */
void policy_init(struct policy *p, u32 nr_nodes, u32 nr_ghosts, void *nodes,
		 u32 stride, enum policy_kind kind);

const char *policy_kind_name(enum policy_kind kind);
/* policy_kind_parse - the kind of a name, or -1 */
int policy_kind_parse(const char *name);

/* policy_switch - order the nodes by another policy from now on; O(idle log
 * idle) */
void policy_switch(struct policy *p, enum policy_kind kind);
enum policy_kind policy_kind(const struct policy *p);

/**
 * policy_insert - a node is new in the tree, and used by a request
 * @key: hash of the path to it, the same if it comes back after an eviction
 * @parent: the node before it, or POLICY_NONE
 */
void policy_insert(struct policy *p, u32 node, u64 key, u32 parent);
/* policy_hit - a request matched the node; once per request */
void policy_hit(struct policy *p, u32 node);
/* policy_idle - the node may be evicted from now on; O(log nodes) */
void policy_idle(struct policy *p, u32 node);
/* policy_busy - the node has a child or a mapper again */
void policy_busy(struct policy *p, u32 node);
/* policy_remove - the node leaves the tree: evicted, or no longer true */
void policy_remove(struct policy *p, u32 node, bool evicted);
/* policy_victim - the idle node to evict next, or POLICY_NONE */
u32 policy_victim(struct policy *p);

const struct policy_counts *policy_counts(const struct policy *p);
u32 policy_nr_idle(const struct policy *p);

/**
 * policy_check - recompute what is cached; O(nodes)
 * @is_mine: is the node, which some policy has, this one's?
 *
 * Return: NULL, or what is wrong.
 */
const char *policy_check(struct policy *p,
			 bool (*is_mine)(const void *ctx, u32 node),
			 const void *ctx);

#endif
