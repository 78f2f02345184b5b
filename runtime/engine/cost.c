/* SPDX-License-Identifier: MIT */
/*
 * cost.c - is it cheaper to read pages back or to compute them again?
 */
#include "runtime/engine/cost.h"

#define WEIGHT 0.25 /* of the latest measurement */
#define GAIN   0.95 /* a run is divided if it takes at most so much of either */

static void blend(double *rate, double now)
{
	*rate = *rate > 0 ? (1 - WEIGHT) * *rate + WEIGHT * now : now;
}

void cost_computed(struct cost *c, u32 tokens, double seconds)
{
	if (tokens >= COST_TOKENS)
		blend(&c->token_s, seconds / tokens);
	else
		blend(&c->step_s, seconds);
}

void cost_read(struct cost *c, u64 bytes, double seconds, bool waited)
{
	double rate = seconds / (double)max(bytes, (u64)1);

	if (bytes < COST_BYTES_MIN)
		return;
	c->untried = 0;
	if (waited || rate < c->byte_s)
		blend(&c->byte_s, rate);
}

/* Tokens of the head that take as long as reading the others. */
static u32 split_of(const struct cost *c, const struct cost_run *r)
{
	double read = (double)r->bytes * c->byte_s;
	double head = read / (c->token_s + read / r->tokens);

	if (!r->most)
		return 0;
	head = min(head, (double)r->most);
	return (u32)head / r->grain * r->grain;
}

u32 cost_choose(struct cost *c, const struct cost_run *r)
{
	double read, compute, split;
	u32 head;

	if (c->byte_s <= 0 || c->token_s <= 0)
		return 0;
	if (++c->untried >= COST_EXPLORE) {
		c->untried = 0;
		return 0;
	}
	read = (double)r->bytes * c->byte_s + c->step_s;
	compute = r->tokens * c->token_s;
	head = split_of(c, r);
	split = (read - c->step_s) * (r->tokens - head) / r->tokens;
	split = max(split, head * c->token_s) + c->step_s;
	if (head && split < GAIN * min(read, compute))
		return head;
	return read <= compute ? 0 : r->tokens;
}
