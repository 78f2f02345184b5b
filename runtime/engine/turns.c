/* SPDX-License-Identifier: MIT */
/*
 * turns.c - requests that memory is not enough for run by turns
 *
 * Where pages can go to swap, nobody has to wait until another one has ended.
 * Who has waited for memory for a slice has its turn, and of those that run
 * the one waits whose turn began first, if that was half a slice ago:
 *
 *	step		 k		  k + 1
 *	goes	running | waits, its pages may leave
 *	comes	waits	| its pages come | running
 *
 * The pages of the one leave and those of the other come while step k
 * computes, which asks for what step k + 1 needs (sched_prefetch()).
 *
 * A turn lasts at least TURN_COST times what it takes to bring back as many
 * bytes, for each that runs: so the time for paging is bounded, however short
 * memory is. Pages of a published prefix do not go to swap, and may be gone
 * when the request comes back: what it has to do then to be where it was is no
 * turn, and the turn behind it lasts TURN_COST times that, as the next way back
 * may be as long. So that time is bounded too. Without swap nobody takes turns:
 * everything would have to be computed again.
 */
#include "runtime/engine/engine_priv.h"

#define TURN_COST 8

static double slice_s(const struct engine *e)
{
	return e->o.slice_ms * 1e-3;
}

void turns_begin(struct engine *e, struct request *r)
{
	r->since_s = engine_now(e);
	r->behind = request_computed(r) < r->far;
	if (!r->behind)
		r->back_s = 0;
}

void turns_reach(struct engine *e, struct request *r, u32 nr)
{
	if (nr < r->far)
		return;
	r->far = nr;
	if (r->behind)
		r->back_s = engine_now(e) - r->since_s;
	r->behind = false;
}

static bool is_over(const struct engine *e, const struct request *r, double now)
{
	double back = (double)sched_bytes_of(e, r) * e->cost.byte_s;

	back = max(back * sched_running(e), r->back_s);
	return !r->behind && now - r->since_s - r->back_s >=
				     max(slice_s(e) / 2, TURN_COST * back);
}

/* Who runs longest of the last priority, if its turn is over and swap has room
 * for it.
 */
static struct request *longest_running(const struct engine *e, double now)
{
	struct request *r, *first = NULL;
	u32 i;

	for (i = e->nr_run; i-- > 0;) {
		r = e->run[i];
		if (r->held || !request_computed(r))
			continue;
		if (first && r->p.priority != first->p.priority)
			break; /* they are in that order */
		if (!first || r->since_s <= first->since_s)
			first = r;
	}
	if (!first || !is_over(e, first, now) ||
	    e->b->ops->swap_room(e->b) <= sched_bytes_of(e, first))
		return NULL;
	return first;
}

/* Who waits longest of the first priority, if that is a slice. */
static struct request *longest_waiting(const struct engine *e, double now)
{
	struct request *r, *first = NULL;
	u32 i;

	for (i = 0; i < e->nr_reqs; i++) {
		r = e->reqs[i];
		if (first && r->p.priority != first->p.priority)
			break;
		if (r->state == REQUEST_WAITING && !r->comes &&
		    now - r->since_s >= slice_s(e) &&
		    (!first || r->since_s < first->since_s))
			first = r;
	}
	return first;
}

/* Is it memory that they wait for? */
static bool is_short(const struct engine *e, u32 running)
{
	return e->admit_hold ||
	       (e->admit_cap < e->o.max_seqs && running >= e->admit_cap);
}

void turns_pass(struct engine *e)
{
	struct request *goes, *comes;
	double now = engine_now(e);

	if (e->o.preempt != ENGINE_PREEMPT_SWAP ||
	    !is_short(e, sched_running(e)))
		return;
	while ((comes = longest_waiting(e, now))) {
		goes = longest_running(e, now);
		if (!goes || goes->p.priority < comes->p.priority ||
		    sched_running(e) + admit_coming(e) + sched_nr_live(comes) >
			    e->o.max_seqs + sched_nr_live(goes))
			return;
		sched_pause(e, goes);
		e->stats.nr_turns++;
		reqs_set_comes(e, comes, true);
		comes->yields = true;
		back_plan(e, comes);
	}
}

struct request *turns_victim(const struct engine *e)
{
	if (e->o.preempt != ENGINE_PREEMPT_SWAP)
		return NULL;
	return longest_running(e, engine_now(e));
}
