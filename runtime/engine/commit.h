/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_COMMIT_H
#define RUNTIME_ENGINE_COMMIT_H
/*
 * commit.h - bytes that requests hold, and will
 */
#include "kv/types.h"

/**
 * struct commit_item - one that grows by a token a step until it ends
 * @left: steps
 * @who: for commit_bytes()
 */
struct commit_item {
	u32 left;
	const void *who;
};

/* What @who holds after @steps more steps. */
typedef u64 commit_bytes_fn(const void *who, u32 steps, void *ctx);

/**
 * commit_peak - most that all of them hold at any time, if each ends as late as
 *	it may
 * @v: [nr] sorted here
 */
u64 commit_peak(struct commit_item *v, u32 nr, commit_bytes_fn *bytes,
		void *ctx);

#endif
