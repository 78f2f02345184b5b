/* SPDX-License-Identifier: MIT */
/*
 * ahead.c - what is done beside a step that computes
 *
 *	engine's thread			a worker of the pool
 *	---------------			--------------------
 *	the turn to compute
 *	ahead_begin()	  -- errand -->	what those that run hold
 *	forward_run()			the plan of the next step
 *	  its jobs, with all workers	its pages are asked for
 *	  but that one			what is published of the prompts
 *	ahead_end()	  <-- done ---	that wait
 *	commit
 *	ahead_receive()	  -- errand -->	memory that the next step was granted
 *	logits				is mapped; who shares a prompt from now
 *					on is forked, and its pages asked for
 *	ahead_end()	  <-- done ---
 *	tokens
 *
 * Memory is mapped only when the step's kernels have used their pages: what
 * kvmd has taken back goes with it.
 *
 * The engine, its backend and with it libkv's handle belong to whoever has the
 * errand, until it is done: meanwhile the engine's thread touches the batch
 * that it computes and its own clock, nothing else. So nothing needs a lock.
 *
 * It is an errand for the pool (pool_post()), not for a thread of its own: a
 * step computes on every processor that there is, and another thread would
 * displace one of those that compute for as long as the scheduler likes. The
 * worker takes it before its next job, which the others share meanwhile.
 *
 * With a pool of one thread, on a simulated machine, and where another process
 * had the turn the last time (then it computes while this one asks) it is done
 * here, before the step, and forks are made before the logits.
 */
#include "runtime/engine/engine_priv.h"
#include "kernels/cpu/pool.h"

#define RIVAL_S 0.0001 /* who waited longer for its turn does not compute */

static void beside(struct engine *e)
{
	commit_account(e);
	if (plan_make(e))
		plan_ask(e);
	else
		sched_prefetch(e);
	order_ahead(e);
}

static void errand(void *arg)
{
	struct engine *e = arg;
	double lap = clock_s();

	beside(e);
	host_lap(&e->stats.host_beside_s, lap);
}

static void wait_for_turn(struct engine *e)
{
	double lap = clock_s();

	if (!e->b->ops->turn_begin)
		return;
	e->b->ops->turn_begin(e->b);
	e->has_rival = clock_s() - lap > RIVAL_S;
}

void ahead_begin(struct engine *e)
{
	double lap = clock_s();

	e->is_beside = !e->o.machine && !e->o.one_by_one && !e->has_rival &&
		       pool_nr_threads(e->x->pool) > 1;
	if (!e->is_beside) {
		beside(e);
		host_lap(&e->stats.host_ahead_s, lap);
		wait_for_turn(e);
		return;
	}
	wait_for_turn(e);
	lap = clock_s();
	pool_post(e->x->pool, errand, e);
	host_lap(&e->stats.host_ahead_s, lap);
}

static void receive(void *arg)
{
	struct engine *e = arg;
	double lap = clock_s();

	if (e->b->ops->step_receive)
		e->b->ops->step_receive(e->b);
	plan_part(e);
	host_lap(&e->stats.host_beside_s, lap);
}

void ahead_part(struct engine *e)
{
	if (!e->is_beside)
		plan_part(e);
}

void ahead_receive(struct engine *e)
{
	if (e->is_beside && (e->b->ops->step_receive || e->plan.nr_parting))
		pool_post(e->x->pool, receive, e);
}

void ahead_end(struct engine *e)
{
	double lap = clock_s();

	if (!e->is_beside)
		return;
	pool_collect(e->x->pool);
	host_lap(&e->stats.host_ahead_s, lap);
}
