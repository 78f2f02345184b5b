/* SPDX-License-Identifier: MIT */
/*
 * preempt.c - the pages of a step, and who gives way when they are short
 *
 * The pages of all sequences of a step are reserved in one call. When memory is
 * short a running request gives way. If there is swap with room for it, its
 * pages stay where they are, and idle ones leave the device as others need the
 * memory; when its turn comes again its reservation brings them back. Else its
 * spaces are freed and it waits to be computed again; so it does when swap has
 * lost a page of it. Nobody is admitted until one of the others has finished,
 * or the same would happen at once, and then no more than ran when memory was
 * last short: that number grows by one with each request that finishes while it
 * is not, or every finish would bring in a crowd that has to be thrown out and
 * computed again.
 *
 * Who gives way is one of the lowest priority that runs. What is weighed is
 * what comes free with it: the frames that it alone holds (what others share
 * stays), and those that it would have taken in this step. Of those that free
 * what the step is short of it is the latest arrival, so that one is enough and
 * who came first is spared; if nobody frees that much, it is the one that frees
 * most. What the pager says is missing is in extents: it is never taken for
 * more than the step takes. So memory that is short costs as few requests as it
 * can, and nobody gives way for nothing.
 *
 * The first of all that run gives way for another one only when its turn is
 * over (turns.c), whatever it holds, so it always gets on, ends, and another
 * one is the first: nobody gives way for ever. Alone and still short a prompt
 * is computed in smaller chunks. If there is not a page, because other clients
 * hold the memory, it waits with a ticket, then gives everything back and
 * begins again, and in the end fails. It waits with one ticket, whose age
 * counts in kvmd; who cancels it meanwhile sets the stop word (struct
 * kv_attach_opts).
 *
 * Where nobody gives way (ENGINE_PREEMPT_NONE) the last of the step are left
 * out of it until its pages are there. They run on, with what they have, when
 * somebody has ended. If nobody who runs can end, nothing ever moves: that is
 * the deadlock that Orca reserves against.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"

#define RESTARTS_MAX 3u /* of a request that waits for memory alone */
#define STALL_MS     10 /* of a step in which nobody found a page */
#define FIT_AGAIN    4u /* chunks that fitted, before twice as much is tried */

void sched_untake(struct engine *e, const struct request *r)
{
	u32 i, to = 0;

	e->nr_tokens = 0;
	for (i = 0; i < e->nr_step; i++) {
		struct seq *s = e->step[i];

		if (r ? s->req == r : s->finish != FINISH_NONE) {
			batch_cut(&e->batch, to);
			s->step_tokens = 0; /* the next one's place */
			continue;
		}
		e->step[to] = s;
		e->items[to++] = e->items[i];
		e->nr_tokens += e->step[i]->step_tokens;
	}
	e->nr_step = to;
}

void sched_pause(struct engine *e, struct request *r)
{
	reqs_set_state(e, r, REQUEST_WAITING);
	r->yields = true;
	r->since_s = engine_now(e);
	r->fits = 0;
	sched_untake(e, r);
}

/* It waits because memory is short. */
static void pause_request(struct engine *e, struct request *r)
{
	sched_pause(e, r);
	r->nr_preempted++;
	e->stats.nr_preempted++;
	e->admit_hold = true;
	e->admit_cap = sched_running(e);
}

void sched_preempt(struct engine *e, struct request *r)
{
	sched_drop_pages(e, r);
	pause_request(e, r);
}

void sched_restart(struct engine *e, struct request *r)
{
	sched_drop_pages(e, r);
	sched_pause(e, r);
	r->nr_preempted++;
}

u64 sched_bytes_of(const struct engine *e, const struct request *r)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < r->nr_seqs; i++)
		if (r->seqs[i]->space != KV_SPACE_NONE)
			bytes += kv_space_bytes(e->b, r->seqs[i]->nr_computed);
	return bytes;
}

u64 sched_private_of(const struct engine *e, const struct request *r)
{
	u64 bytes = 0;
	u32 i, nr = 0;

	for (i = 0; i < r->nr_seqs; i++) {
		if (r->seqs[i]->space == KV_SPACE_NONE)
			continue;
		bytes += e->b->ops->space_private(e->b, r->seqs[i]->space);
		nr++;
	}
	/* what they share with each other goes with all of them */
	if (nr > 1)
		bytes += kv_space_bytes(e->b, r->p.nr_prompt);
	return bytes;
}

static bool can_give_way(const struct request *r)
{
	return r->state == REQUEST_RUNNING && !r->held;
}

/*
 * Bytes of new pages for a sequence of the step at hand. Pages that its windows
 * leave are its own until the step has ended.
 */
static u64 growth_at(const struct engine *e, u32 i)
{
	const struct kv_resv_item *it = &e->items[i];
	u64 bytes = 0;
	u32 k;

	for (k = 0; k < e->b->nr_areas; k++) {
		const struct kv_area_law *law = &e->b->law[k];

		bytes += (DIV_ROUND_UP(it->pos + it->nr_tokens,
				       law->page_tokens) -
			  DIV_ROUND_UP(it->pos, law->page_tokens)) *
			 law->page_bytes;
	}
	return bytes;
}

static u64 growth_of(const struct engine *e, const struct request *r)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < e->nr_step; i++)
		if (e->step[i]->req == r)
			bytes += growth_at(e, i);
	return bytes;
}

/* Does it write behind tokens that others may have in the same page? */
static bool may_copy(const struct engine *e, u32 i)
{
	const struct seq *s = e->step[i];

	return e->items[i].pos % MODEL_PAGE_TOKENS &&
	       (s->req->p.n > 1 || e->items[i].pos == s->nr_mapped);
}

/* The most that the step at hand can take, with what is to be read back. */
static u64 step_bytes(const struct engine *e)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < e->nr_step; i++)
		bytes += growth_at(e, i) +
			 (may_copy(e, i) ? kv_space_bytes(e->b, 1) : 0) +
			 e->b->ops->space_out(e->b, e->items[i].space,
					      e->items[i].pos);
	return bytes;
}

/* What it lacks: the pager counts in extents, which may be far more. */
static u64 step_missing(const struct engine *e)
{
	u64 bytes = e->b->ops->missing ? e->b->ops->missing(e->b) : 0;

	return max(min(bytes, step_bytes(e)), kv_space_bytes(e->b, 1));
}

/*
 * One whose turn is over, else of the lowest priority the latest arrival that
 * frees what is missing, else of them who frees most; NULL if only one runs.
 */
static struct request *victim_of(const struct engine *e, u64 missing)
{
	struct request *r, *most = NULL, *over = turns_victim(e);
	u64 bytes, most_bytes = 0;
	u32 i, first = 0;

	while (first < e->nr_run && !can_give_way(e->run[first]))
		first++;
	for (i = e->nr_run; i-- > first + 1;) {
		r = e->run[i];
		if (!can_give_way(r))
			continue;
		if (most && r->p.priority != most->p.priority)
			break; /* they are in that order */
		if (over && over->p.priority == r->p.priority)
			return over;
		bytes = sched_private_of(e, r);
		bytes += bytes ? growth_of(e, r) : 0;
		if (bytes >= missing)
			return r;
		if (!most || bytes > most_bytes) {
			most = r;
			most_bytes = bytes;
		}
	}
	return most;
}

static void give_way(struct engine *e, struct request *r)
{
	u64 bytes = sched_bytes_of(e, r);

	sched_untake(e, r);
	if (e->o.preempt == ENGINE_PREEMPT_SWAP &&
	    e->b->ops->swap_room(e->b) > bytes &&
	    back_prefers_swap(e, r, bytes)) {
		pause_request(e, r);
		e->stats.nr_paused++;
	} else {
		sched_preempt(e, r);
	}
}

/*
 * Does it lie wholly in swap? Where pages are not counted nothing does, and
 * where windows let go of a page more than they must it is not seen.
 */
static bool is_out(const struct engine *e, const struct request *r)
{
	u64 out = back_out_of(e, r);

	return out && out >= sched_bytes_of(e, r);
}

static struct request *last_with_pages(const struct engine *e,
				       struct request *const *v, u32 nr,
				       enum request_state state, bool here)
{
	u32 i;

	for (i = nr; i-- > 0;)
		if (v[i]->state == state && request_has_pages(v[i]) &&
		    !(here && is_out(e, v[i])))
			return v[i];
	return NULL;
}

/*
 * Who holds pages that nobody computes with, @here: on the device; kept ones,
 * then waiting ones.
 */
static struct request *idle_holder(const struct engine *e, bool here)
{
	struct request *r;

	r = last_with_pages(e, e->done, e->nr_done, REQUEST_DONE, here);
	if (!r)
		r = last_with_pages(e, e->reqs, e->nr_reqs, REQUEST_DONE, here);
	if (!r)
		r = last_with_pages(e, e->reqs, e->nr_reqs, REQUEST_WAITING,
				    here);
	return r;
}

/*
 * Swap could not take them, or the step would not be short. Who lies wholly in
 * swap makes no room by going, but for what others cannot put there.
 */
static bool drop_idle(struct engine *e)
{
	struct request *r = idle_holder(e, true);

	if (!r && e->b->ops->swap_room(e->b) < step_missing(e))
		r = idle_holder(e, false);
	if (r)
		sched_drop_pages(e, r);
	return r;
}

/* Whose pages go when others want them. */
static struct request *giver_of(const struct engine *e)
{
	struct request *r = idle_holder(e, true);

	return r ? r
		 : last_with_pages(e, e->run, e->nr_run, REQUEST_RUNNING, true);
}

void sched_give_back(struct engine *e, u64 bytes)
{
	struct request *r;
	u64 got = 0, all;

	e->b->ops->step_prefetch(e->b, NULL, 0);
	while (got < bytes && (r = giver_of(e))) {
		all = sched_bytes_of(e, r);
		got += all - min(all, back_out_of(e, r));
		e->stats.nr_given++;
		if (can_give_way(r))
			sched_preempt(e, r);
		else
			sched_drop_pages(e, r);
	}
	e->b->ops->shrink(e->b);
}

/* kvmd has lost pages of the step: whose are computed again. */
static bool drop_lost(struct engine *e)
{
	u32 space, i;

	if (!e->b->ops->lost(e->b, &space))
		return false;
	for (i = 0; i < e->nr_step; i++) {
		if (e->step[i]->space != space)
			continue;
		sched_restart(e, e->step[i]->req);
		e->stats.nr_lost++;
		return true;
	}
	return false;
}

/* May it begin again? As often as before, if it got further than ever. */
static bool may_restart(struct request *r)
{
	u64 nr = 0;
	u32 i;

	for (i = 0; i < r->nr_seqs; i++)
		nr += r->seqs[i]->nr_computed;
	if (nr > r->reached) {
		r->reached = nr;
		r->nr_restarts = 0;
	}
	return r->nr_restarts++ < RESTARTS_MAX;
}

/*
 * What is shared lies in extents of the cache. A sequence that fills all that
 * its client may have has no room beside one of these: it begins again, with
 * pages of its own alone.
 */
static bool may_unshare(struct request *r)
{
	bool may = r->shares && !r->unshared;

	r->unshared = true;
	r->match = r->soon = r->known = 0;
	return may;
}

/*
 * Alone and short: wait, then begin again, then give up. Where clients wait for
 * each other kvmd says which of them is to begin again.
 */
static int reserve_alone(struct engine *e, struct request *r, int rc)
{
	if (rc == -EAGAIN) {
		e->stats.nr_waits++;
		rc = e->b->ops->step_prepare(e->b, e->items, e->nr_step,
					     (int)e->o.wait_ms);
		if (!rc)
			return 0;
	}
	if (rc == -EDEADLK || (rc == -ETIMEDOUT && may_restart(r)) ||
	    (rc == -E2BIG && may_unshare(r))) {
		sched_untake(e, r);
		sched_preempt(e, r);
		e->b->ops->shrink(e->b);
		return 0;
	}
	if (rc != -E2BIG && rc != -ETIMEDOUT && rc != -EAGAIN)
		return rc;
	sched_untake(e, r);
	sched_fail(e, r, rc,
		   rc == -E2BIG
			   ? "the sequence needs more device memory than this "
			     "client may ever have: %s"
			   : "no device memory came free in time: %s",
		   e->b->ops->error(e->b));
	return 0;
}

/*
 * A prompt alone takes a chunk that there is room for, if there is: with
 * windows less is held at a time, and without it gets on meanwhile.
 */
static bool shorten(struct engine *e, int rc)
{
	struct seq *s = e->step[0];
	u32 nr = s->step_tokens / 2;

	if (e->nr_step > 1 || s->step_tokens <= MODEL_PAGE_TOKENS ||
	    e->o.prefill == ENGINE_PREFILL_WHOLE ||
	    (rc == -E2BIG && !e->b->windows))
		return false; /* or it would come to the same end later */
	nr = max(nr - nr % MODEL_PAGE_TOKENS, MODEL_PAGE_TOKENS);
	batch_cut(&e->batch, 0);
	s->step_tokens = e->items[0].nr_tokens = e->nr_tokens = nr;
	s->req->fits = nr;
	s->req->nr_fit = 0;
	return true;
}

void sched_fitted(struct engine *e, struct request *r)
{
	if (!r->fits || ++r->nr_fit < FIT_AGAIN)
		return;
	r->fits *= 2;
	r->nr_fit = 0;
	if (r->fits >= e->o.step_tokens)
		r->fits = 0;
}

/* Nobody gives way: the last is left out; 0: nobody is left, or it came. */
static int leave_out(struct engine *e, int rc)
{
	const struct seq *s = e->step[e->nr_step - 1];

	if (e->nr_step > 1) {
		e->nr_tokens -= s->step_tokens;
		e->step[--e->nr_step]->step_tokens = 0;
		batch_cut(&e->batch, e->nr_step);
		return -EAGAIN;
	}
	if (rc == -E2BIG)
		return reserve_alone(e, s->req, rc);
	rc = e->b->ops->step_prepare(e->b, e->items, 1, STALL_MS);
	if (rc && rc != -ETIMEDOUT)
		return rc;
	if (rc) {
		e->stats.nr_stalled++;
		sched_untake(e, s->req);
	}
	return 0;
}

/* The step is short; 0: it is not any more, -EAGAIN: try again. */
static int make_room(struct engine *e, int rc)
{
	struct request *victim;

	if (e->o.preempt == ENGINE_PREEMPT_NONE)
		return leave_out(e, rc);
	victim = victim_of(e, rc == -EAGAIN ? step_missing(e)
					    : kv_space_bytes(e->b, 1));
	if (victim)
		give_way(e, victim);
	if (victim || (rc == -EAGAIN && drop_idle(e)) || shorten(e, rc))
		return -EAGAIN;
	return reserve_alone(e, e->step[0]->req, rc);
}

int sched_reserve(struct engine *e, char *err)
{
	double start;
	int rc;

	back_begin(e);
	while (e->nr_step) {
		start = engine_now(e);
		rc = e->b->ops->step_prepare(e->b, e->items, e->nr_step, 0);
		if (!rc) {
			back_end(e, start);
			return 0;
		}
		e->back_bytes = 0; /* other waits are in it by now */
		if (rc == -EAGAIN || rc == -E2BIG) {
			rc = make_room(e, rc);
			if (!rc)
				return 0;
		}
		if (rc == -EAGAIN || (rc == -ENODATA && drop_lost(e)))
			continue;
		while (e->nr_step)
			e->step[--e->nr_step]->step_tokens = 0;
		return err_set(err, rc, "the step's pages: %s",
			       e->b->ops->error(e->b));
	}
	return 0;
}
