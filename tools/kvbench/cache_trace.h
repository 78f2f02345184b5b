/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_CACHE_TRACE_H
#define TOOLS_KVBENCH_CACHE_TRACE_H
/*
 * cache_trace.h - requests as paths of prefix blocks, and caches of them
 *
 * A request names the blocks of its prompt, the first one first. The same
 * block always has the same ones before it, so a block stands for the whole
 * prefix that ends with it. A block is a hit if it and all before it are in
 * the cache when the request comes; then all of the request's blocks are in
 * it, and leaves are evicted until it is no larger than it may be.
 */
#include "kvmd/mm/policy.h"

struct cache_trace {
	u32 nr_requests, nr_refs, nr_blocks;
	u32 longest; /* request, in blocks */
	u32 *begin; /* [nr_requests + 1] in ref[] */
	u32 *ref; /* blocks, numbered from 0 */
	u32 *parent; /* [nr_blocks], or CACHE_NO_BLOCK */
	u32 room[3]; /* of the arrays */
};

#define CACHE_NO_BLOCK 0xffffffffu

void cache_trace_free(struct cache_trace *t);

/* cache_trace_block - a new block behind @parent; CACHE_NO_BLOCK: no memory */
u32 cache_trace_block(struct cache_trace *t, u32 parent);
/* cache_trace_request - the request whose last block is @last */
int __must_check cache_trace_request(struct cache_trace *t, u32 last);

/**
 * cache_trace_load - read a trace
 * @path: one JSON object a line, with "hash_ids": [block, ...]
 * @t: cache_trace_free() it in any case
 * @err: 256 bytes: what is wrong with which line
 *
 * Return: 0, -errno.
 */
int __must_check cache_trace_load(const char *path, struct cache_trace *t,
				  char *err);

/* ---- cache_gen.c: made up ones ---- */

/* cache_gen_name - of kind @i, or NULL: there are no more */
const char *cache_gen_name(u32 i);
/* cache_gen - @nr_requests of kind @i; -errno */
int __must_check cache_gen(u32 i, u64 seed, u32 nr_requests,
			   struct cache_trace *t);

/* ---- cache_replay.c ---- */

struct cache_result {
	u64 hits; /* blocks */
	double seconds;
	struct policy_counts counts;
};

/**
 * cache_replay - what a policy makes of a trace
 * @nr_blocks: the cache's size
 * @check: look at the policy's state every so many requests; 0: never
 *
 * Return: 0, -ENOMEM, -EPROTO if a check failed.
 */
int __must_check cache_replay(const struct cache_trace *t, u32 nr_blocks,
			      enum policy_kind kind, u32 check,
			      struct cache_result *r);

/* ---- cache_tree.c ---- */

/**
 * cache_tree_replay - the same through the prefix trees of the mm core
 * @check: fsck its books every so many requests; 0: never
 *
 * res->counts stays empty. Return: as cache_replay().
 */
int __must_check cache_tree_replay(const struct cache_trace *t, u32 nr_blocks,
				   enum policy_kind kind, u32 check,
				   struct cache_result *res);

/**
 * cache_optimum - hits of a cache that knows the future (Belady's)
 *
 * It evicts the block whose next use is farthest. A block's next use is never
 * after that of a block behind it, so this is a leaf.
 */
int __must_check cache_optimum(const struct cache_trace *t, u32 nr_blocks,
			       u64 *hits);

#endif
