/* SPDX-License-Identifier: MIT */
/*
 * sched.c - who computes what in a step, and who gives way
 *
 * First come, first served. A step takes the running requests' sequences
 * that miss one token (they decode), then chunks of those that miss more, by
 * arrival, then admits waiting requests by arrival, until it is full. A
 * request whose turn has not come is never overtaken.
 *
 * The pages of all of them are reserved in one call. When memory is short the
 * latest arrival of the running requests gives way. If there is swap with room
 * for it, its pages stay where they are, and idle ones leave the device as
 * others need the memory; when its turn comes again its reservation brings
 * them back. Else its spaces are freed and it waits to be computed again; so
 * it does when swap has lost a page of it. Nobody is admitted until one of the
 * others has finished, or the same would happen at once, and then no more than
 * ran when memory was last short: that number grows by one with each request
 * that finishes while it is not, or every finish would bring in a crowd that
 * has to be thrown out and computed again. The earliest request is never
 * preempted for another one, so it always gets on; alone and still short,
 * because other clients hold the memory, it waits with a ticket, then gives
 * everything back and begins again, and in the end fails.
 *
 * A request of several samples that is computed again shares its prompt as
 * before: the first live sequence computes it alone, and is forked for the
 * others.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/engine/engine_priv.h"

#define RESTARTS_MAX 3u /* of a request that waits for memory alone */

static bool seq_is_live(const struct seq *s)
{
	return s->finish == FINISH_NONE;
}

/* The sequence that computes the prompt, and whether others wait for it. */
struct seq *sched_leader(const struct request *r, bool *others_wait)
{
	struct seq *leader = NULL;
	u32 i;

	*others_wait = false;
	for (i = 0; i < r->nr_seqs; i++) {
		if (!seq_is_live(r->seqs[i]))
			continue;
		if (!leader)
			leader = r->seqs[i];
		else if (r->seqs[i]->space == KV_SPACE_NONE)
			*others_wait = true;
	}
	return leader;
}

/* Tokens this sequence could compute now. */
static u32 seq_need(const struct seq *s)
{
	bool others_wait;
	struct seq *leader = sched_leader(s->req, &others_wait);
	/* Nobody asks what follows the last token of a scored text. */
	u32 goal = s->nr - (s->req->p.kind == REQUEST_SCORE);

	if (!seq_is_live(s) || s->space == KV_SPACE_NONE)
		return 0;
	if (s->again < s->again_to)
		return s->again_to - s->again;
	if (s == leader && others_wait)
		goal = min(goal, s->req->p.nr_prompt);
	return goal - min(goal, s->nr_computed);
}

static void take(struct engine *e, struct seq *s, u32 nr)
{
	if (e->nr_step == min(e->o.max_seqs, KV_RESV_MAX))
		return;
	s->step_tokens = nr;
	e->step[e->nr_step] = s;
	e->items[e->nr_step++] = (struct kv_resv_item){
		.space = s->space,
		.nr_tokens = nr,
		.pos = seq_pos(s),
	};
	e->nr_tokens += nr;
}

/* Sequences of a running request that miss one token, or more. */
void sched_take(struct engine *e, struct request *r, bool decode)
{
	u32 i, need, left;

	for (i = 0; i < r->nr_seqs; i++) {
		left = e->o.step_tokens - e->nr_tokens;
		need = seq_need(r->seqs[i]);
		if (!need || !left || (need == 1) != decode)
			continue;
		if (left < need && r->seqs[i]->again < r->seqs[i]->again_to)
			left -= left % MODEL_PAGE_TOKENS; /* whole pages */
		if (left)
			take(e, r->seqs[i], min(need, left));
	}
}

u32 sched_nr_live(const struct request *r)
{
	u32 i, n = 0;

	for (i = 0; i < r->nr_seqs; i++)
		n += seq_is_live(r->seqs[i]);
	/* Before its fork a request is what it will be. */
	return r->nr_seqs == 1 ? r->p.n : n;
}

void sched_publish(struct engine *e, const struct seq *s, bool resume)
{
	if (e->o.prefix_cache && s->space != KV_SPACE_NONE && s->nr_computed &&
	    s->again >= s->again_to)
		e->b->ops->prefix_publish(e->b, s->space, s->ids,
					  s->nr_computed, resume);
}

void sched_drop_space(struct engine *e, struct seq *s)
{
	if (s->space != KV_SPACE_NONE)
		e->b->ops->space_destroy(e->b, s->space);
	s->space = KV_SPACE_NONE;
	s->nr_computed = s->again = s->again_to = 0;
}

void sched_drop_pages(struct engine *e, struct request *r)
{
	u32 i;

	for (i = 0; i < r->nr_seqs; i++) {
		sched_drop_space(e, r->seqs[i]);
		r->seqs[i]->cand_ready = false;
	}
}

u32 sched_running(const struct engine *e)
{
	u32 i, running = 0;

	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->state == REQUEST_RUNNING)
			running += sched_nr_live(e->reqs[i]);
	return running;
}

void sched_pick(struct engine *e)
{
	u32 i, running;

	e->nr_step = 0;
	e->nr_tokens = 0;
	e->has_come = false;
	admit_comers(e);
	turns_pass(e);
	running = sched_running(e);
	if (!running) /* nothing to compute while they come */
		admit_comers(e);
	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->state == REQUEST_RUNNING)
			sched_take(e, e->reqs[i], true);
	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->state == REQUEST_RUNNING)
			sched_take(e, e->reqs[i], false);
	admit_waiting(e);
}

/* Take a request's sequences out of the step at hand. */
static void untake(struct engine *e, const struct request *r)
{
	u32 i, to = 0;

	e->nr_tokens = 0;
	for (i = 0; i < e->nr_step; i++) {
		if (e->step[i]->req == r) {
			e->step[i]->step_tokens = 0; /* the next one's place */
			continue;
		}
		e->step[to] = e->step[i];
		e->items[to++] = e->items[i];
		e->nr_tokens += e->step[i]->step_tokens;
	}
	e->nr_step = to;
}

void sched_pause(struct engine *e, struct request *r)
{
	r->state = REQUEST_WAITING;
	r->since_s = engine_now(e);
	untake(e, r);
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

void sched_finish(struct engine *e, struct request *r)
{
	u32 i;

	r->comes = false;
	for (i = 0; i < r->nr_seqs; i++) {
		struct seq *s = r->seqs[i];

		if (s->finish != FINISH_FAILED)
			sched_publish(e, s, true);
		if (!r->p.keep || s->finish == FINISH_FAILED ||
		    s->again < s->again_to)
			sched_drop_space(e, s);
	}
	r->state = REQUEST_DONE;
	if (!e->admit_hold && e->admit_cap < e->o.max_seqs)
		e->admit_cap++;
	e->admit_hold = false;
	if (r->p.events && r->p.events->done)
		r->p.events->done(r, r->p.ctx);
}

void sched_fail(struct engine *e, struct request *r, int rc, const char *fmt,
		...)
{
	va_list ap;
	u32 i;

	if (r->state == REQUEST_DONE)
		return;
	va_start(ap, fmt);
	free(r->message);
	if (vasprintf(&r->message, fmt, ap) < 0)
		r->message = NULL;
	va_end(ap);
	r->error = rc;
	for (i = 0; i < r->nr_seqs; i++)
		r->seqs[i]->finish = FINISH_FAILED;
	sched_finish(e, r);
}

/*
 * One whose turn is over, else the latest arrival that holds pages; NULL if it
 * is the only one.
 */
static struct request *victim_of(const struct engine *e)
{
	struct request *last = NULL, *over = turns_victim(e);
	u32 i, n = 0;

	for (i = 0; i < e->nr_reqs; i++) {
		if (e->reqs[i]->state != REQUEST_RUNNING)
			continue;
		last = e->reqs[i];
		n++;
	}
	return n < 2 ? NULL : over ? over : last;
}

static bool has_computed(const struct request *r)
{
	u32 i;

	for (i = 0; i < r->nr_seqs; i++)
		if (r->seqs[i]->nr_computed)
			return true;
	return false;
}

u64 sched_bytes_of(const struct engine *e, const struct request *r)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < r->nr_seqs; i++)
		if (r->seqs[i]->space != KV_SPACE_NONE)
			bytes += e->b->ops->space_bytes(
				e->b, r->seqs[i]->nr_computed);
	return bytes;
}

static void give_way(struct engine *e, struct request *r)
{
	u64 bytes = sched_bytes_of(e, r);

	untake(e, r);
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
 * The latest arrival of those that wait with pages: swap could not take them,
 * or the step would not be short. Return: false if there is none.
 */
static bool drop_paused(struct engine *e)
{
	struct request *last = NULL;
	u32 i, k;

	for (i = 0; i < e->nr_reqs; i++)
		for (k = 0; k < e->reqs[i]->nr_seqs; k++)
			if (e->reqs[i]->state == REQUEST_WAITING &&
			    e->reqs[i]->seqs[k]->space != KV_SPACE_NONE)
				last = e->reqs[i];
	if (last)
		sched_drop_pages(e, last);
	return last;
}

/* Whose pages go when others want them: kept ones, waiting ones, the latest. */
static struct request *giver_of(const struct engine *e)
{
	static const enum request_state order[] = { REQUEST_DONE,
						    REQUEST_WAITING,
						    REQUEST_RUNNING };
	struct request *last = NULL;
	u32 i, k;

	for (k = 0; k < ARRAY_SIZE(order) && !last; k++)
		for (i = 0; i < e->nr_reqs; i++)
			if (e->reqs[i]->state == order[k] &&
			    has_computed(e->reqs[i]))
				last = e->reqs[i];
	return last;
}

void sched_give_back(struct engine *e, u64 bytes)
{
	struct request *r;
	u64 got = 0;

	e->b->ops->step_prefetch(e->b, NULL, 0);
	while (got < bytes && (r = giver_of(e))) {
		got += sched_bytes_of(e, r);
		e->stats.nr_given++;
		if (r->state == REQUEST_RUNNING)
			sched_preempt(e, r);
		else
			sched_drop_pages(e, r);
	}
	e->b->ops->shrink(e->b);
}

/* kvmd has lost pages of the step: whose are computed again. */
static bool drop_lost(struct engine *e)
{
	struct request *r;
	u32 space, i;

	if (!e->b->ops->lost(e->b, &space))
		return false;
	for (i = 0; i < e->nr_step; i++) {
		if (e->step[i]->space != space)
			continue;
		r = e->step[i]->req;
		untake(e, r);
		sched_drop_pages(e, r);
		r->state = REQUEST_WAITING;
		r->since_s = engine_now(e);
		e->stats.nr_lost++;
		return true;
	}
	return false;
}

/*
 * How long to wait for others' memory. Who holds pages meanwhile may be what
 * the others wait for in turn: that one waits less, not as long as its like
 * in another process, and longer each time that it has begun again.
 */
static int wait_of(const struct engine *e, const struct request *r)
{
	u32 id = e->o.machine ? e->o.machine->id : (u32)getpid();
	u32 ms = e->o.wait_ms, part;

	if (!has_computed(r) || ms < 1000)
		return (int)ms;
	part = (ms >> (RESTARTS_MAX + 1)) << min(r->nr_restarts, RESTARTS_MAX);
	return (int)(part + part * (id * 2654435761u >> 24) / 256);
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
					     wait_of(e, r));
		if (!rc)
			return 0;
	}
	if (rc == -EDEADLK ||
	    (rc == -ETIMEDOUT && r->nr_restarts < RESTARTS_MAX)) {
		r->nr_restarts += rc == -ETIMEDOUT;
		untake(e, r);
		sched_preempt(e, r);
		e->b->ops->shrink(e->b);
		return 0;
	}
	if (rc != -E2BIG && rc != -ETIMEDOUT && rc != -EAGAIN)
		return rc;
	untake(e, r);
	sched_fail(e, r, rc,
		   rc == -E2BIG
			   ? "the sequence needs more device memory than this "
			     "client may ever have: %s"
			   : "no device memory came free in time: %s",
		   e->b->ops->error(e->b));
	return 0;
}

int sched_reserve(struct engine *e, char *err)
{
	struct request *victim;
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
		if (rc == -ENODATA && drop_lost(e))
			continue;
		if (rc == -EAGAIN || rc == -E2BIG) {
			victim = victim_of(e);
			if (victim)
				give_way(e, victim);
			if (victim || (rc == -EAGAIN && drop_paused(e)))
				continue;
			rc = reserve_alone(e, e->step[0]->req, rc);
			if (!rc)
				return 0;
			if (rc == -ENODATA && drop_lost(e))
				continue;
		}
		return err_set(err, rc, "the step's pages: %s",
			       e->b->ops->error(e->b));
	}
	return 0;
}

/* Tokens of the step after this one, as far as they are known; 0: none. */
static u32 next_item(const struct engine *e, const struct seq *s, u32 left,
		     u32 *pos)
{
	u32 nr = 1, after = s->again + s->step_tokens;

	*pos = s->nr_computed;
	if (s->again < s->again_to) {
		if (after < s->again_to)
			*pos = after;
		nr = (after < s->again_to ? s->again_to : s->nr) - *pos;
		return min(nr, left);
	}
	*pos += s->step_tokens;
	if (*pos < s->nr)
		return min(s->nr - *pos, left);
	if (!s->step_tokens || s->req->p.kind == REQUEST_SCORE ||
	    seq_nr_new(s) + 1 >= s->req->p.max_new || s->nr + 1 >= e->o.context)
		return 0;
	return nr;
}

static void prefetch_request(struct engine *e, const struct request *r,
			     bool decode, u32 *n, u32 *left)
{
	const struct seq *s = r->seqs[0];
	u32 pos, nr;

	/* Of one about to fork it is not known which space will write. */
	if (r->p.n > 1 || s->space == KV_SPACE_NONE || *n == e->o.max_seqs)
		return;
	if (r->comes ? r->state != REQUEST_WAITING
		     : r->state != REQUEST_RUNNING || !s->step_tokens)
		return;
	nr = next_item(e, s, *left, &pos);
	if (!nr || (nr == 1) != decode)
		return;
	if (r->comes || s->again < s->again_to)
		back_ask(e, s, pos);
	e->items[(*n)++] = (struct kv_resv_item){
		.space = s->space,
		.nr_tokens = nr,
		.pos = pos,
	};
	*left -= nr;
}

/*
 * The next step's items, in its order: sequences that will decode once more,
 * the next chunk of the last prompt, and who comes then.
 */
void sched_prefetch(struct engine *e)
{
	u32 i, n = 0, left = e->o.step_tokens;

	for (i = 0; i < e->nr_reqs && left; i++)
		prefetch_request(e, e->reqs[i], true, &n, &left);
	for (i = 0; i < e->nr_reqs && left; i++)
		prefetch_request(e, e->reqs[i], false, &n, &left);
	if (n)
		e->b->ops->step_prefetch(e->b, e->items, n);
}

void sched_share_prompt(struct engine *e, struct request *r)
{
	bool others_wait;
	struct seq *leader = sched_leader(r, &others_wait);
	u32 i;
	int rc;

	if (!others_wait || leader->nr_computed != r->p.nr_prompt)
		return;
	for (i = 0; i < r->nr_seqs; i++) {
		struct seq *s = r->seqs[i];

		if (!seq_is_live(s) || s->space != KV_SPACE_NONE)
			continue;
		rc = e->b->ops->space_fork(e->b, leader->space,
					   leader->nr_computed, &s->space);
		if (rc) {
			s->space = KV_SPACE_NONE;
			sched_fail(e, r, rc, "fork of the prompt: %s",
				   e->b->ops->error(e->b));
			return;
		}
		s->nr_computed = leader->nr_computed;
	}
}
