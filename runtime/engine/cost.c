/* SPDX-License-Identifier: MIT */
/*
 * cost.c - is it cheaper to read pages back or to compute them again?
 */
#include "runtime/engine/cost.h"

#define WEIGHT 0.25 /* of the latest measurement */

static void blend(double *rate, double now)
{
	*rate = *rate > 0 ? (1 - WEIGHT) * *rate + WEIGHT * now : now;
}

void cost_computed(struct cost *c, u32 tokens, double seconds)
{
	if (tokens >= COST_TOKENS)
		blend(&c->token_s, seconds / tokens);
}

void cost_read(struct cost *c, u64 bytes, double seconds)
{
	if (bytes < COST_BYTES_MIN)
		return;
	blend(&c->byte_s, seconds / (double)bytes);
	c->untried = 0;
}

bool cost_prefers_swap(struct cost *c, u64 bytes, u32 tokens)
{
	if (c->byte_s <= 0 || c->token_s <= 0)
		return true;
	if (++c->untried >= COST_EXPLORE) {
		c->untried = 0;
		return true;
	}
	return (double)bytes * c->byte_s <= tokens * c->token_s;
}
