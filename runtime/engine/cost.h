/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_COST_H
#define RUNTIME_ENGINE_COST_H
/*
 * cost.h - is it cheaper to read pages back or to compute them again?
 *
 * Rates are measured while the engine works: seconds per byte of swapped pages
 * that steps had to wait for, seconds per token of steps that were mostly
 * prompts, seconds of a step that was not. A rate that is not known yet, or
 * was not tried for COST_EXPLORE decisions, is tried.
 *
 * A decision is per run of pages that are out. Its head may be computed again
 * while its tail is read, as neither needs the other:
 *
 *	tokens	|--- again ---|----- read -----|
 *	time	max(again * token, read * byte) + one step for what follows
 *
 * which is least where both end together.
 */
#include "kv/types.h"

#define COST_EXPLORE   64u
#define COST_TOKENS    32u /* of a step whose time says what a token costs */
#define COST_BYTES_MIN (256u << 10)

struct cost {
	double token_s, byte_s, step_s; /* 0: not known */
	u32 untried; /* decisions since byte_s was measured */
};

/**
 * struct cost_run - a run of a sequence's pages that are out
 * @bytes: to be read if nothing is computed
 * @tokens: to be computed if nothing is read
 * @most: tokens that one step can compute while the others are read; 0: it is
 *	all or nothing
 * @grain: tokens of a page
 */
struct cost_run {
	u64 bytes;
	u32 tokens, most, grain;
};

/* cost_computed - a step of so many tokens took so long */
void cost_computed(struct cost *c, u32 tokens, double seconds);
/**
 * cost_read - swapped pages came back
 * @seconds: since they were asked for
 * @waited: a step waited for them; else they may have come sooner than that
 */
void cost_read(struct cost *c, u64 bytes, double seconds, bool waited);
/* cost_choose - how many of the run's tokens to compute again, from its start:
 * 0 reads all, r->tokens none, between them is a multiple of the grain
 */
u32 cost_choose(struct cost *c, const struct cost_run *r);

#endif
