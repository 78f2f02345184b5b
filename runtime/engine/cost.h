/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_COST_H
#define RUNTIME_ENGINE_COST_H
/*
 * cost.h - is it cheaper to read pages back or to compute them again?
 *
 * Both rates are measured while the engine works: seconds per byte that steps
 * waited for swapped pages, seconds per token of steps that were mostly
 * prompts. A rate that is not known yet, or was not tried for COST_EXPLORE
 * decisions, is tried.
 *
 * A decision is per request, which is what swap brings back at a time.
 */
#include "kv/types.h"

#define COST_EXPLORE   64u
#define COST_TOKENS    32u /* of a step whose time says what a token costs */
#define COST_BYTES_MIN (256u << 10)

struct cost {
	double token_s, byte_s; /* 0: not known */
	u32 untried; /* decisions since byte_s was measured */
};

/* cost_computed - a step of so many tokens took so long */
void cost_computed(struct cost *c, u32 tokens, double seconds);
/* cost_read - a step waited so long for so many bytes of swapped pages */
void cost_read(struct cost *c, u64 bytes, double seconds);
/* cost_prefers_swap - read @bytes back, or compute @tokens again? */
bool cost_prefers_swap(struct cost *c, u64 bytes, u32 tokens);

#endif
