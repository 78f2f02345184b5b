/* SPDX-License-Identifier: MIT */
/*
 * admit.c - which of those that wait come in
 *
 * Waiting requests are looked at in the order of order.c and admitted as far as
 * the step and memory have room. The first that does not fit ends it: nobody is
 * overtaken by who comes after it in that order.
 */
#include "runtime/engine/engine_priv.h"

/*
 * What others have computed of a sequence, it need not. Its last token's row
 * decides the next one and is computed; so is the prompt's, for the samples
 * that share it from there.
 */
static void map_prefix(struct engine *e, struct seq *s)
{
	u32 nr = s->req->p.n > 1 ? s->req->p.nr_prompt : s->nr;

	if (!e->o.prefix_cache || s->req->p.kind == REQUEST_SCORE)
		return;
	s->nr_computed = e->b->ops->prefix_map(e->b, s->space, s->ids, nr - 1);
	e->stats.nr_mapped += s->nr_computed;
	if (!s->req->nr_preempted)
		s->req->nr_cached = s->nr_computed;
}

/* Give a waiting request its first space. */
static int admit(struct engine *e, struct request *r)
{
	bool others_wait;
	struct seq *leader = sched_leader(r, &others_wait);
	int rc = 0;

	if (!r->comes)
		back_plan(e, r);
	r->comes = false;
	e->has_come = true;
	if (leader && leader->space == KV_SPACE_NONE) {
		if (e->b->ops->salt)
			e->b->ops->salt(e->b, r->p.salt);
		rc = e->b->ops->space_create(e->b, &leader->space);
		if (!rc)
			map_prefix(e, leader);
	}
	if (!leader || rc) {
		sched_fail(e, r, rc, "no space for the sequence: %s",
			   e->b->ops->error(e->b));
		return rc;
	}
	r->state = REQUEST_RUNNING;
	r->since_s = engine_now(e);
	return 0;
}

void admit_comers(struct engine *e)
{
	u32 i;

	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->comes)
			admit(e, e->reqs[i]);
}

void admit_waiting(struct engine *e)
{
	u32 i, running = sched_running(e);

	if (e->admit_hold && running)
		return;
	e->admit_hold = false;
	order_waiting(e);
	for (i = 0; i < e->nr_queue; i++) {
		struct request *r = e->queue[i];

		if (r->state != REQUEST_WAITING)
			continue; /* cancelled meanwhile */
		if (e->nr_tokens == e->o.step_tokens ||
		    running + sched_nr_live(r) > e->o.max_seqs ||
		    (running && running + sched_nr_live(r) > e->admit_cap))
			break;
		if (admit(e, r))
			continue;
		running += sched_nr_live(r);
		sched_take(e, r, true);
		sched_take(e, r, false);
	}
}
