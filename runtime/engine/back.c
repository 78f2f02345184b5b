/* SPDX-License-Identifier: MIT */
/*
 * back.c - what has left the device is read back, computed, or both
 *
 * When a request has its turn again, pages of it may be out. The run of them
 * begins at its first token that is out:
 *
 *	|--- present ---|------------ out ------------|
 *	|--- present ---|--- again ---|---- read -----|
 *
 * cost.c says how much of the run's head is computed again. That is one step:
 * its pages are written whole, so their slots are given up unread, and while
 * it computes the rest is read for the step behind it. Where nothing is worth
 * reading, the sequence is cut at the run's start. A head's end is a page's.
 *
 * A window that has let go of pages would have to be computed from the start:
 * then it is all or nothing, for the whole sequence. So it is for requests of
 * several sequences, which share pages, and for scores, which would be told
 * twice.
 *
 * The head's pages say nothing from the reservation on until they have been
 * computed: again and again_to stay until then, whatever happens meanwhile,
 * and who ends before that does not keep its space.
 */
#include "runtime/engine/engine_priv.h"

#define WAITED_S 0.001 /* a reservation that waited for something */

/* Bytes that the next step of @s at @pos has to have read. */
static u64 out_at(const struct engine *e, const struct seq *s, u32 pos)
{
	return s->space == KV_SPACE_NONE
		       ? 0
		       : e->b->ops->space_out(e->b, s->space, pos);
}

u64 back_out_of(const struct engine *e, const struct request *r)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < r->nr_seqs; i++)
		bytes += out_at(e, r->seqs[i], r->seqs[i]->nr_computed);
	return bytes;
}

/* May a part of it be computed again? */
static bool is_divisible(const struct engine *e, const struct request *r)
{
	return r->p.kind == REQUEST_GENERATE && r->p.n == 1 &&
	       r->nr_seqs == 1 &&
	       e->b->ops->space_whole(e->b, r->seqs[0]->nr_computed);
}

/* The first token whose page is out, of one that has some. */
static u32 first_out(const struct engine *e, const struct seq *s)
{
	u32 lo = 0, hi = DIV_ROUND_UP(s->nr_computed, MODEL_PAGE_TOKENS), mid;

	/* none of the first lo pages is out, one of the first hi is */
	while (lo + 1 < hi) {
		mid = (lo + hi) / 2;
		if (out_at(e, s, mid * MODEL_PAGE_TOKENS))
			hi = mid;
		else
			lo = mid;
	}
	return lo * MODEL_PAGE_TOKENS;
}

static u32 choose(struct engine *e, const struct cost_run *run)
{
	if (e->back == ENGINE_BACK_READ)
		return 0;
	if (e->back == ENGINE_BACK_COMPUTE)
		return run->tokens;
	return cost_choose(&e->cost, run);
}

bool back_prefers_swap(struct engine *e, const struct request *r, u64 bytes)
{
	const struct cost_run run = {
		.bytes = bytes,
		.tokens = max(request_computed(r), 1u),
		.most = is_divisible(e, r) ? e->step_limit : 0,
		.grain = MODEL_PAGE_TOKENS,
	};

	return choose(e, &run) < run.tokens;
}

static void plan_whole(struct engine *e, struct request *r, u64 out)
{
	const struct cost_run run = { .bytes = out,
				      .tokens = max(request_computed(r), 1u),
				      .grain = MODEL_PAGE_TOKENS };

	if (!choose(e, &run))
		return;
	e->stats.nr_again += request_computed(r);
	sched_drop_pages(e, r);
	e->stats.nr_cheaper++;
}

static void plan_run(struct engine *e, struct request *r, u64 out)
{
	struct seq *s = r->seqs[0];
	u32 from = first_out(e, s), again;
	const struct cost_run run = {
		.bytes = out,
		.tokens = s->nr_computed - from,
		.most = e->step_limit -
			min(sched_running(e), e->step_limit - 1),
		.grain = MODEL_PAGE_TOKENS,
	};

	again = choose(e, &run);
	e->stats.nr_again += again;
	if (again && again < run.tokens) {
		s->again = from;
		s->again_to = from + again;
		e->stats.nr_split++;
	} else if (again) {
		if (!from || e->b->ops->space_truncate(e->b, s->space, from))
			sched_drop_space(e, s);
		else
			s->nr_computed = from;
		e->stats.nr_cheaper++;
	}
}

void back_plan(struct engine *e, struct request *r)
{
	u64 out;
	u32 i;

	for (i = 0; i < r->nr_seqs; i++)
		if (r->seqs[i]->again < r->seqs[i]->again_to)
			return; /* it has a plan, of which a part is done */
	out = back_out_of(e, r);
	if (!out)
		return;
	if (is_divisible(e, r))
		plan_run(e, r, out);
	else
		plan_whole(e, r, out);
}

/* ---- how long it takes ---- */

void back_ask(struct engine *e, const struct seq *s, u32 pos)
{
	e->back_bytes += out_at(e, s, pos);
	if (e->back_bytes)
		e->asked_s = engine_now(e);
}

/* Bytes that the step at hand has to have read. */
static u64 out_of_step(const struct engine *e)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < e->nr_step; i++)
		if (e->step[i]->again >= e->step[i]->again_to)
			bytes += out_at(e, e->step[i], seq_pos(e->step[i]));
	return bytes;
}

void back_begin(struct engine *e)
{
	u64 out;

	if (!e->has_come && e->asked_s <= 0)
		return;
	out = out_of_step(e);
	if (e->asked_s > 0 && out < e->back_bytes)
		return; /* some of them have come already */
	e->asked_s = 0;
	e->back_bytes = out;
}

void back_end(struct engine *e, double start_s)
{
	double now = engine_now(e);

	if (e->back_bytes)
		cost_read(&e->cost, e->back_bytes,
			  now - (e->asked_s > 0 ? e->asked_s : start_s),
			  now - start_s > WAITED_S);
	e->stats.nr_read += e->back_bytes;
	e->back_bytes = 0;
	e->asked_s = 0;
}
