/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SIM_CALLS_H
#define TOOLS_KVBENCH_SIM_CALLS_H
/*
 * calls.h - the requests of a work, on their way through engines
 *
 * Between two steps an engine takes what has come meanwhile, as a server does.
 * Time is whoever's: the simulated world's, or the real one. What became of the
 * requests is in a fleet_result, and means the same of both.
 */
#include "tools/kvbench/sim/fleet.h"

/* now: ns; sleep: nobody has anything to do before then */
struct calls_clock {
	u64 (*now)(void *ctx);
	void (*sleep)(void *ctx, u64 until);
	void *ctx;
};

struct call;
struct calls;

/* One engine, and what is asked of it. */
struct caller {
	struct calls *calls;
	struct engine *e; /* before the first step */
	struct call **order; /* [nr_order] those that wait for none, by due */
	u32 nr_order, nr_come, nr_left;
	struct call *later; /* those whose turn came, not their time */
	struct call *ended; /* to be forgotten */
	char err[KV_ERRLEN];
};

struct calls {
	const struct work *work;
	struct calls_clock clock;
	struct fleet_result *r;
	u32 vocab, context;
	struct call *call; /* [work->nr] */
	struct caller *caller; /* [nr_callers] */
	u32 nr_callers;
	u64 start, end; /* ns */
};

/**
 * calls_init - everything up to when a request is due
 * @c: zeroed but for what it is to be: work, clock, r, vocab, context,
 *	nr_callers; calls_fini() it in any case
 *
 * Their time begins now. A session stays with one caller. 0, -ENOMEM.
 */
int __must_check calls_init(struct calls *c);
/* No engine makes a step afterwards that still has some of them. */
void calls_fini(struct calls *c);

/**
 * caller_step - take what is due, and a step
 *
 * If there is nothing to do, sleep until there is. Return: 1 go on, 0 all its
 * requests have ended, -errno: the sentence is in @o->err.
 */
int __must_check caller_step(struct caller *o);

/* What the machine of a simulation says after @s. */
u32 calls_token(const struct calls *c, const struct seq *s);
/* Into the result: how many and how long, and what its engines did. */
void calls_add_stats(struct calls *c);

#endif
