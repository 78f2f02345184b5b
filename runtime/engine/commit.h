/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_COMMIT_H
#define RUNTIME_ENGINE_COMMIT_H
/*
 * commit.h - bytes that requests hold, and will
 */

#include "runtime/engine/kv_backend.h"

/**
 * struct commit_item - one that grows by a token a step until it ends
 * @left: steps
 * @len: tokens that its pages are of, now
 * @most: and at most
 * @copies: times that it has them: its samples
 * @fixed: bytes that it has beside them
 * @sum: commit_peak()'s
 */
struct commit_item {
	u32 left;
	u32 len, most, copies;
	u64 fixed, sum;
};

/* From @at steps on, backwards, the pages of items[@who] follow its length. */
struct commit_event {
	u32 at, who;
};

/* commit_bytes - what it holds after so many more steps */
u64 commit_bytes(const struct kv_backend *b, const struct commit_item *it,
		 u32 steps);

/**
 * commit_peak - most that all of them hold at any time, if each ends as late as
 *	it may
 * @b: its laws say what pages take
 * @v: [nr] sorted here
 * @ev: [nr] room
 */
u64 commit_peak(const struct kv_backend *b, struct commit_item *v,
		struct commit_event *ev, u32 nr);

#endif
