/* SPDX-License-Identifier: MIT */
/*
 * profile.c - what steps take on this machine, before there is work
 *
 * One sequence of any tokens is computed in pieces of several sizes, some with
 * logits of their last rows, so that each of the model's terms has been seen;
 * its last pieces have the context of those before them. What serving says
 * later counts more, see budget.c. If there is no memory for it just now, or it
 * takes too long, the budget begins with what it knows.
 */
#include "runtime/engine/engine_priv.h"

#define PROFILE_S 0.7 /* no piece begins later than that */

static const struct piece {
	u32 tokens, rows;
	bool says; /* the first one finds cold weights */
} pieces[] = {
	{ 16, 1, false },  { 16, 1, true }, { 16, 16, true }, { 128, 1, true },
	{ 256, 16, true }, { 16, 1, true }, { 1, 1, true },   { 64, 16, true },
};

static void logits(struct engine *e, u32 nr)
{
	u32 i, n;

	for (i = 0; i < nr && !e->o.machine; i += n) {
		n = min(nr - i, e->o.logit_rows);
		e->x->ops->logits(
			e->x,
			&(struct kern_logits){
				.x = forward_logits(e->f, i, n, NULL, NULL),
				.len = e->m->hp.vocab,
				.argmax = e->argmax,
			},
			n);
	}
}

static int compute(struct engine *e, u32 space, u32 pos, const struct piece *p)
{
	struct forward_batch batch = {
		.nr_tokens = p->tokens,
		.nr_seqs = 1,
		.nr_out = p->rows,
		.ids = e->batch.ids,
		.seqs = e->batch.seqs,
		.out_rows = e->batch.out_rows,
	};
	u32 i, a;
	int rc;

	e->batch.seqs[0].nr_rows = p->tokens;
	e->batch.seqs[0].pos0 = pos;
	for (a = 0; a < e->b->nr_areas; a++)
		e->batch.seqs[0].table[a] =
			e->b->ops->space_table(e->b, space, a);
	for (i = 0; i < p->tokens; i++)
		e->batch.ids[i] = (pos + i) * 7919 % e->m->hp.vocab;
	for (i = 0; i < p->rows; i++)
		e->batch.out_rows[i] = p->tokens - p->rows + i;
	rc = e->o.machine ? e->o.machine->run(e->o.machine->ctx, &batch)
			  : forward_run(e->f, &batch);
	if (!rc)
		logits(e, p->rows);
	return rc;
}

/* One step; 0 or -errno: then there is no more to learn. */
static int piece(struct engine *e, u32 space, u32 pos, const struct piece *p)
{
	struct kv_resv_item item = { .space = space,
				     .nr_tokens = p->tokens,
				     .pos = pos };
	double start = engine_now(e);
	int rc = e->b->ops->step_prepare(e->b, &item, 1, 0);

	if (rc)
		return rc;
	rc = compute(e, space, pos, p);
	if (rc) {
		e->b->ops->step_abandon(e->b);
		return rc;
	}
	rc = e->b->ops->step_commit(e->b);
	if (!rc && p->says) {
		struct law_load l = {
			.tokens = p->tokens,
			.rows = p->rows,
			.work = law_work(e->m, p->tokens, pos),
		};

		budget_saw(&e->budget, &l, engine_now(e) - start);
	}
	return rc;
}

void profile_run(struct engine *e)
{
	double start = engine_now(e);
	u32 space, pos = 0, i;

	e->is_profiled = true;
	if (e->b->ops->space_create(e->b, &space))
		return;
	for (i = 0; i < ARRAY_SIZE(pieces); i++) {
		const struct piece *p = &pieces[i];

		if (engine_now(e) - start > PROFILE_S)
			break;
		if (p->tokens > e->o.step_tokens ||
		    pos + p->tokens > e->o.context)
			continue;
		if (piece(e, space, pos, p))
			break;
		pos += p->tokens;
	}
	e->b->ops->space_destroy(e->b, space);
	budget_fit(&e->budget);
}
