/* SPDX-License-Identifier: MIT */
/*
 * commit.c - commit accounting: what is promised beside what is held
 *
 * A request that has been admitted grows. What those that run may come to hold
 * is what they are committed, as a process is for memory that it has mapped and
 * not touched. Who waits comes in if that stays below what this client may
 * have:
 *
 *	strict		of each the longest that it may become. Nobody is ever
 *			short by what these do; only others can make them so.
 *	peak		the most that all hold at one time, if each becomes as
 *			long as it may: when one has ended, its bytes serve
 *			those that still grow. With those that run sorted by the
 *			steps they have left, longest first, the sum is largest
 *			when one of them is about to end, so only these moments
 *			are looked at. Prompts are counted as computed: so some
 *			are later than that says, and it may still come short.
 *	overcommit	nothing is promised: who is short gives way.
 *
 * With several samples a prompt counts once, and each its own rest. Pages of
 * prefixes that others hold as well are counted by each of those that run.
 * What is kept of requests that are done counts where it cannot go to swap.
 *
 * One that runs alone is not held up by any of this: whether it fits is for its
 * reservation to say.
 */
#include <stdlib.h>

#include "runtime/engine/commit.h"
#include "runtime/engine/engine_priv.h"

static int more_left(const void *a, const void *b)
{
	const struct commit_item *x = a, *y = b;

	return x->left < y->left ? 1 : x->left > y->left ? -1 : 0;
}

u64 commit_peak(struct commit_item *v, u32 nr, commit_bytes_fn *bytes,
		void *ctx)
{
	u64 peak = 0, sum;
	u32 i, k;

	qsort(v, nr, sizeof(*v), more_left);
	for (i = 0; i < nr; i++) {
		if (i + 1 < nr && v[i + 1].left == v[i].left)
			continue;
		sum = 0;
		for (k = 0; k <= i; k++)
			sum += bytes(v[k].who, v[i].left, ctx);
		peak = max(peak, sum);
	}
	return peak;
}

static u32 steps_left(const struct request *r)
{
	u32 i, left = 0;

	if (r->p.kind == REQUEST_SCORE || r->held)
		return 0;
	for (i = 0; i < r->nr_seqs; i++)
		if (r->seqs[i]->finish == FINISH_NONE)
			left = max(left,
				   r->p.max_new - min(r->p.max_new,
						      seq_nr_new(r->seqs[i])));
	return left;
}

/* Of a request, when each of its sequences has so many tokens more. */
static u64 bytes_after(const void *who, u32 steps, void *ctx)
{
	const struct engine *e = ctx;
	const struct request *r = who;
	u32 prompt = r->p.nr_prompt, whole, i, nr = 0;
	u64 len, bytes;

	for (i = 0; i < r->nr_seqs; i++)
		nr = max(nr, r->seqs[i]->nr);
	len = min((u64)nr + steps, (u64)e->o.context);
	if (r->p.n == 1)
		return e->b->ops->space_bytes(e->b, len);
	/* a sample's own: from the page on in which the prompt ends */
	whole = prompt / MODEL_PAGE_TOKENS * MODEL_PAGE_TOKENS;
	bytes = e->b->ops->space_bytes(e->b, prompt);
	return bytes + r->p.n * e->b->ops->space_bytes(e->b, len - whole);
}

static u64 kept_bytes(const struct engine *e)
{
	u64 kept = 0, room;
	u32 i;

	for (i = 0; i < e->nr_done; i++)
		if (e->done[i]->p.keep)
			kept += sched_bytes_of(e, e->done[i]);
	room = kept ? e->b->ops->swap_room(e->b) : 0;
	return kept - min(kept, room);
}

/* Of those that run, and of @also, if it is not NULL. */
static u64 committed(struct engine *e, const struct request *also)
{
	u64 sum = kept_bytes(e);
	u32 i, nr = 0;

	for (i = 0; i < e->nr_reqs; i++) {
		const struct request *r = e->reqs[i];

		if (r->state != REQUEST_RUNNING && r != also)
			continue;
		if (e->o.admit == ENGINE_ADMIT_PEAK && nr <= e->o.max_seqs)
			e->commit[nr++] = (struct commit_item){
				.left = steps_left(r),
				.who = r,
			};
		else
			sum += bytes_after(r, steps_left(r), e);
	}
	return sum + commit_peak(e->commit, nr, bytes_after, e);
}

bool commit_allows(struct engine *e, const struct request *r)
{
	return e->o.admit == ENGINE_ADMIT_OVERCOMMIT ||
	       committed(e, r) <= e->b->ops->limit(e->b);
}

/* What it holds now; the samples' prompt once. */
static u64 resident(const struct engine *e, const struct request *r)
{
	u32 whole = r->p.nr_prompt / MODEL_PAGE_TOKENS * MODEL_PAGE_TOKENS, i;
	u64 bytes = 0, nr;
	bool shared = false;

	for (i = 0; i < r->nr_seqs; i++) {
		const struct seq *s = r->seqs[i];

		nr = s->space == KV_SPACE_NONE ? 0 : s->nr_computed;
		if (r->p.n > 1 && nr > whole) {
			bytes += shared ? 0
					: e->b->ops->space_bytes(e->b, whole);
			shared = true;
			nr -= whole;
		}
		bytes += e->b->ops->space_bytes(e->b, nr);
	}
	return bytes;
}

void commit_account(struct engine *e)
{
	u32 i;

	e->stats.resident = 0;
	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->state == REQUEST_RUNNING)
			e->stats.resident += resident(e, e->reqs[i]);
	e->stats.committed = committed(e, NULL);
	e->stats.limit = e->b->ops->limit(e->b);
}
