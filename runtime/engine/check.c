/* SPDX-License-Identifier: MIT */
/*
 * check.c - what must hold between two steps
 */
#include <errno.h>

#include "runtime/engine/engine_priv.h"

static bool in_order(const struct request *a, const struct request *b)
{
	return a->p.priority != b->p.priority ? a->p.priority < b->p.priority
					      : a->arrival < b->arrival;
}

static int check_lists(const struct engine *e, char *err)
{
	u32 i;

	for (i = 1; i < e->nr_reqs; i++)
		if (!in_order(e->reqs[i - 1], e->reqs[i]))
			return err_set(
				err, -EINVAL,
				"request %llu is listed before %llu",
				(unsigned long long)e->reqs[i - 1]->arrival,
				(unsigned long long)e->reqs[i]->arrival);
	for (i = 0; i < e->nr_done; i++)
		if (e->done[i]->state != REQUEST_DONE)
			return err_set(err, -EINVAL,
				       "request %llu is listed as done",
				       (unsigned long long)e->done[i]->arrival);
	return 0;
}

/* Those that run are the ones of all that do, in their order. */
static int check_run(const struct engine *e, char *err)
{
	u32 i, run = 0, comers = 0, ended = 0;

	for (i = 0; i < e->nr_reqs; i++) {
		const struct request *r = e->reqs[i];

		comers += r->comes;
		ended += r->state == REQUEST_DONE;
		if (r->state != REQUEST_RUNNING)
			continue;
		if (run == e->nr_run || e->run[run++] != r)
			return err_set(err, -EINVAL,
				       "request %llu runs and is not listed",
				       (unsigned long long)r->arrival);
	}
	if (run < e->nr_run || comers != e->nr_comers)
		return err_set(err, -EINVAL,
			       "%u run and %u come, %u and %u are listed", run,
			       comers, e->nr_run, e->nr_comers);
	if (ended && !e->has_ended)
		return err_set(err, -EINVAL, "%u that are done are not tidied",
			       ended);
	return 0;
}

/* Nobody goes on from a prompt that others of its request wait for. */
static int check_shares(const struct engine *e, char *err)
{
	bool others_wait;
	u32 i;

	for (i = 0; i < e->nr_run; i++) {
		const struct request *r = e->run[i];
		const struct seq *s = sched_leader(r, &others_wait);

		if (others_wait && s->nr_computed > r->p.nr_prompt)
			return err_set(err, -EINVAL,
				       "request %llu: a sample has %u tokens, "
				       "others wait for its prompt of %u",
				       (unsigned long long)r->arrival,
				       s->nr_computed, r->p.nr_prompt);
	}
	return 0;
}

/*
 * Who came later has not been in more steps. What holds of each and the one
 * before it holds of all. It is what iteration-level scheduling promises:
 * within a batch of requests nobody does.
 */
static int check_turn(const struct engine *e, char *err)
{
	const struct request *r, *before = NULL;
	u32 i;

	/* with prefixes the order is another one: order_check() */
	if (e->o.batching == ENGINE_BATCH_REQUEST ||
	    (e->o.prefix_cache && e->o.order != ENGINE_ORDER_FCFS))
		return 0;
	for (i = 0; i < e->nr_reqs; i++) {
		r = e->reqs[i];
		if (r->state == REQUEST_DONE || r->yields)
			continue;
		if (before && before->p.priority == r->p.priority &&
		    before->nr_iters < r->nr_iters)
			return err_set(err, -EINVAL,
				       "request %llu was in %llu steps, %llu "
				       "before it in %llu",
				       (unsigned long long)r->arrival,
				       (unsigned long long)r->nr_iters,
				       (unsigned long long)before->arrival,
				       (unsigned long long)before->nr_iters);
		before = r;
	}
	return 0;
}

static int check_step(const struct engine *e, char *err)
{
	u32 tokens = e->nr_tokens, running = sched_running(e);
	const struct engine_stats *st = &e->stats;

	if (tokens > e->o.step_tokens || e->nr_step > e->o.max_seqs)
		return err_set(err, -EINVAL,
			       "a step of %u tokens and %u sequences", tokens,
			       e->nr_step);
	if (tokens > e->step_limit && e->nr_chunks)
		return err_set(err, -EINVAL,
			       "%u tokens with a prompt, %u are allowed",
			       tokens, e->step_limit);
	if (running > e->o.max_seqs)
		return err_set(err, -EINVAL, "%u sequences run", running);
	if (e->o.admit == ENGINE_ADMIT_STRICT && running > 1 &&
	    st->committed > st->limit)
		return err_set(err, -EINVAL, "%llu KiB committed of %llu",
			       (unsigned long long)st->committed >> 10,
			       (unsigned long long)st->limit >> 10);
	return 0;
}

int engine_check(const struct engine *e, char *err)
{
	int rc = check_lists(e, err);

	if (!rc)
		rc = check_run(e, err);
	if (!rc)
		rc = check_shares(e, err);
	if (!rc)
		rc = check_turn(e, err);
	if (!rc)
		rc = order_check(e, err);
	if (!rc)
		rc = check_step(e, err);
	return rc;
}
