/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_POLICY_STATE_H
#define KVMD_MM_POLICY_STATE_H
/*
 * policy_state.h - the memory of a policy, between its files
 *
 *	struct policy | heap (LRU) | ghosts
 */
#include "kvmd/mm/policy.h"
#include "kvmd/mm/odds.h"
#include "kvmd/mm/rival.h"

#define POLICY_NODE_USED    1u /* in the tree */
#define POLICY_NODE_IDLE    2u
#define POLICY_NODE_PARENT  4u /* a child was added to it some day */
#define POLICY_NODE_COLD    8u /* came at its last use, and not back soon */
#define POLICY_NODE_TOLD    16u /* its class tells its place in its request */
#define POLICY_NODE_TURN(n) ((u32)((n)->flags >> 6)) /* 0 to 3: its turn */
#define POLICY_NODE_TURNS   64u

#define GHOST_WAYS  8u
#define GHOST_LIVES 128u

/* A page that was evicted. */
struct ghost {
	u32 tag; /* of its key; 0: free */
	u32 evicted; /* evictions before its own */
	u64 stamp : 40, uses : 8, cls : 8, parent : 1, life : 7;
};

#define MGLRU_GENS 4u

struct mglru {
	u64 begin[MGLRU_GENS]; /* of the youngest, the one before, ... */
	u32 young; /* uses that went into the youngest */
	u32 youngest; /* its list; the one before has the next */
	struct ilist gen[MGLRU_GENS];
};

#define REUSE_LISTS  (ODDS_SLOTS * ODDS_CLASSES)
#define REUSE_LEAVES 4096u /* a power of two, not less */
#define REUSE_NONE   0xffffu

_Static_assert(REUSE_LISTS <= REUSE_LEAVES, "each list has a leaf");

struct reuse {
	bool behind; /* the heap of LRU has the nodes */
	struct ilist list[REUSE_LISTS]; /* by slot, then class */
	u32 place[ODDS_SLOTS]; /* of each slot in odds.slot, by its id */
	/* The list to take from first: of those below [i], of all in [1]. */
	u16 least[2 * REUSE_LEAVES];
};

struct policy {
	u32 kind;
	u32 nr_nodes;
	s64 nodes_off; /* from here to the first policy_node */
	u32 stride;
	u32 nr_idle, nr_used;
	u64 clock; /* uses */
	u64 heap_off, ghosts_off;
	u32 nr_sets; /* of ghosts, a power of two */
	u32 nr_heap;
	u32 life; /* how often the memory was used for one, modulo */
	u32 reserved;
	struct policy_counts counts;
	struct mglru mglru;
	struct reuse reuse;
	struct odds odds;
	struct rival rival;
};

/**
 * struct policy_ops - one policy
 * @name: what users call it
 * @reset: its lists are empty
 * @use: the node, not idle, was used now; may be NULL
 * @add: an idle node joins the lists
 * @del: and leaves them
 * @victim: the node to evict next; there is an idle one
 * @merge: slot @from of the odds became a part of slot @to; may be NULL
 * @aged: the odds are others; may be NULL
 * @check: NULL, or what is wrong; @nr counts the nodes that it found
 */
struct policy_ops {
	const char *name;
	void (*reset)(struct policy *p);
	void (*use)(struct policy *p, u32 node);
	void (*add)(struct policy *p, u32 node);
	void (*del)(struct policy *p, u32 node);
	u32 (*victim)(struct policy *p);
	void (*merge)(struct policy *p, u32 from, u32 to);
	void (*aged)(struct policy *p);
	const char *(*check)(struct policy *p, u32 *nr);
};

extern const struct policy_ops policy_lru_ops;
extern const struct policy_ops policy_mglru_ops;
extern const struct policy_ops policy_reuse_ops;

static inline struct policy_node *policy_nodes(const struct policy *p)
{
	return (void *)((uintptr_t)p + (uintptr_t)p->nodes_off);
}

/* The arguments "links, stride" of lib/ilist.h. */
#define POLICY_LINKS(p) ((void *)&policy_nodes(p)->link), ((p)->stride)

static inline struct policy_node *policy_node(const struct policy *p, u32 i)
{
	return (void *)((char *)policy_nodes(p) + (size_t)i * p->stride);
}

static inline struct ghost *policy_ghosts(const struct policy *p)
{
	return (void *)((uintptr_t)p + p->ghosts_off);
}

static inline u32 *policy_heap(const struct policy *p)
{
	return (void *)((uintptr_t)p + p->heap_off);
}

#endif
