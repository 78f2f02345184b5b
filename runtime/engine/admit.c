/* SPDX-License-Identifier: MIT */
/*
 * admit.c - which of those that wait come in
 *
 * Waiting requests are looked at in the order of order.c and admitted as far as
 * the step and memory have room, by what those that run are committed
 * (commit.c). The first that does not fit ends it: nobody is overtaken by who
 * comes after it in that order. Who waits for another one's prefix lets others
 * by, but no more than ORDER_WINDOW do in one step: a queue may be long.
 *
 * After a preemption nobody comes in, but who is of a better priority than
 * somebody who runs: that one gives way, if need be.
 */
#include <errno.h>

#include "runtime/engine/engine_priv.h"

/*
 * What others have computed of a sequence, it need not. Its last token's row
 * decides the next one and is computed; so is the prompt's, for the samples
 * that share it from there.
 */
static void map_prefix(struct engine *e, struct seq *s)
{
	u32 nr = twins_nr(s), len, more;

	if (!e->o.prefix_cache || nr < 2 || s->req->unshared)
		return;
	len = e->b->ops->prefix_map(e->b, s->space, s->ids, nr - 1);
	more = e->o.prefix_unit ? len % e->o.prefix_unit : 0;
	if (more && !e->b->ops->space_truncate(e->b, s->space, len - more))
		len -= more;
	s->nr_computed = s->nr_mapped = len;
	s->req->shares |= len > 0;
	e->stats.nr_mapped += len;
	if (!s->req->nr_preempted)
		s->req->nr_cached = len;
}

/* Its first space, with what is published; -EAGAIN: that will be more soon. */
static int begin(struct engine *e, struct request *r, struct seq *s)
{
	int rc;

	if (e->b->ops->salt)
		e->b->ops->salt(e->b, r->p.salt);
	rc = e->b->ops->space_create(e->b, &s->space);
	if (rc)
		return rc;
	if (!twins_announce(e, r, s)) {
		sched_drop_space(e, s);
		return -EAGAIN;
	}
	map_prefix(e, s);
	return 0;
}

/* Give a waiting request its first space. */
static int admit(struct engine *e, struct request *r)
{
	bool others_wait;
	struct seq *leader = sched_leader(r, &others_wait);
	bool by_turn = r->comes, first = !r->has_begun;
	int rc = 0;

	if (!by_turn)
		back_plan(e, r);
	reqs_set_comes(e, r, false);
	e->has_come = true;
	if (leader && leader->space == KV_SPACE_NONE)
		rc = begin(e, r, leader);
	if (rc == -EAGAIN)
		return rc;
	if (!leader || rc) {
		sched_fail(e, r, rc, "no space for the sequence: %s",
			   e->b->ops->error(e->b));
		return rc;
	}
	reqs_set_state(e, r, REQUEST_RUNNING);
	r->has_begun = true;
	e->nr_joined++;
	turns_begin(e, r);
	order_admitted(e, r, by_turn);
	if (first && r->p.events && r->p.events->begun)
		r->p.events->begun(r, r->p.ctx);
	return 0;
}

void admit_comers(struct engine *e)
{
	u32 i;

	for (i = 0; i < e->nr_reqs && e->nr_comers; i++)
		if (e->reqs[i]->comes)
			admit(e, e->reqs[i]);
}

/* Has the step room for it? */
static bool step_fits(const struct engine *e, const struct request *r)
{
	u32 left = e->step_limit - min(e->step_limit, e->nr_tokens);

	if (e->o.batching == ENGINE_BATCH_REQUEST)
		return true; /* a batch is formed whatever a step has room for
			      */
	if (e->o.prefill == ENGINE_PREFILL_WHOLE && e->nr_chunks)
		return r->seqs[0]->nr - r->seqs[0]->nr_computed <= left;
	return left;
}

/* Does somebody run who gives way to it? */
static bool is_better(const struct engine *e, const struct request *r)
{
	return e->nr_run && e->run[e->nr_run - 1]->p.priority > r->p.priority;
}

/* Has memory room for it, as far as one can know? */
static bool memory_fits(struct engine *e, const struct request *r, u32 running)
{
	if (!running)
		return true;
	if ((e->admit_hold || running + sched_nr_live(r) > e->admit_cap) &&
	    !is_better(e, r))
		return false;
	if (commit_allows(e, r))
		return true;
	e->stats.nr_put_off++;
	return false;
}

u32 admit_coming(const struct engine *e)
{
	u32 i, n = 0;

	for (i = 0; i < e->nr_reqs && e->nr_comers; i++)
		if (e->reqs[i]->comes)
			n += sched_nr_live(e->reqs[i]);
	return n;
}

void admit_waiting(struct engine *e)
{
	u32 i, at, tokens, let_by = 0, running = sched_running(e);
	u32 coming = admit_coming(e);
	int rc;

	if (running && e->o.batching == ENGINE_BATCH_REQUEST)
		return;
	if (!running)
		e->admit_hold = false;
	e->nr_queue = 0;
	if (running + coming >= e->o.max_seqs)
		return; /* whoever would be first */
	order_waiting(e);
	for (i = 0; i < e->nr_queue && let_by < ORDER_WINDOW; i++) {
		struct request *r = e->queue[i];

		if (r->state != REQUEST_WAITING)
			continue; /* cancelled meanwhile */
		if (!step_fits(e, r) ||
		    running + coming + sched_nr_live(r) > e->o.max_seqs ||
		    !memory_fits(e, r, running))
			break;
		at = i;
		if (!twins_may_come(e, &i)) {
			if (i == at) {
				order_let_by(r);
				let_by++;
			}
			continue;
		}
		rc = admit(e, r);
		if (rc == -EAGAIN)
			order_let_by(r);
		if (rc)
			continue;
		running += sched_nr_live(r);
		tokens = e->nr_tokens;
		sched_take(e, r, true);
		e->step_limit = min(e->step_limit + e->nr_tokens - tokens,
				    e->o.step_tokens);
		sched_take(e, r, false);
	}
}
