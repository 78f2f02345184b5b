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
 * The peak takes n log n steps for n that run. Looked at backwards, from the
 * last moment to the first, one is there from its end on, and one that its
 * context or a window keeps from growing has the same pages until it was
 * shorter than that. Before, it has a page for every page_tokens of its length
 * and one for the rest: so of all of them together only the pages at step 0
 * are kept and how many are how far into one.
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

#define PAGE_TOKENS_MAX 256u

u64 commit_bytes(const struct kv_backend *b, const struct commit_item *it,
		 u32 steps)
{
	u64 len = min((u64)it->len + steps, (u64)it->most);

	return it->fixed + it->copies * kv_space_bytes(b, len);
}

/* ---- the peak ---- */

/* Pages of an area at one moment. */
struct tally {
	const struct kv_area_law *law;
	u64 full; /* of those that have as many as they may */
	u64 nr, whole; /* the others; pages that they have at step 0 */
	u64 rest[PAGE_TOKENS_MAX]; /* [tokens into a page] how many of them */
};

static int more_left(const void *a, const void *b)
{
	const struct commit_item *x = a, *y = b;

	return x->left < y->left ? 1 : x->left > y->left ? -1 : 0;
}

static int later(const void *a, const void *b)
{
	const struct commit_event *x = a, *y = b;

	return x->at < y->at ? 1 : x->at > y->at ? -1 : 0;
}

/* Tokens at which it does not grow any more. */
static u32 end_of(const struct tally *t, const struct commit_item *it)
{
	return (u32)min((u64)it->most, kv_area_most(t->law));
}

static u64 full_pages(const struct tally *t, const struct commit_item *it)
{
	return it->copies * DIV_ROUND_UP(end_of(t, it), t->law->page_tokens);
}

/* Is it full before it ends? */
static bool is_full_before(const struct tally *t, const struct commit_item *it)
{
	return (u64)it->len + it->left > end_of(t, it);
}

static u32 list_events(const struct tally *t, const struct commit_item *v,
		       u32 nr, struct commit_event *ev)
{
	u32 i, n = 0;

	for (i = 0; i < nr; i++)
		if (v[i].len < end_of(t, &v[i]))
			ev[n++] = (struct commit_event){
				.at = min(v[i].left,
					  end_of(t, &v[i]) - v[i].len),
				.who = i,
			};
	qsort(ev, n, sizeof(*ev), later);
	return n;
}

/* From here on, backwards, its pages follow its length. */
static void tally_grows(struct tally *t, const struct commit_item *it)
{
	u32 page = t->law->page_tokens, up = it->len + page - 1;

	if (is_full_before(t, it))
		t->full -= full_pages(t, it);
	t->nr += it->copies;
	t->whole += (u64)it->copies * (up / page);
	t->rest[up % page] += it->copies;
}

/* A page more for each that is so far into one. */
static u64 tally_pages(const struct tally *t, u32 steps)
{
	u32 page = t->law->page_tokens, i;
	u64 pages = t->full + t->whole + t->nr * (steps / page);

	for (i = page - steps % page; i < page; i++)
		pages += t->rest[i];
	return pages;
}

/* Add what they hold in an area to the sum of each moment that counts. */
static void add_area(const struct kv_area_law *law, struct commit_item *v,
		     struct commit_event *ev, u32 nr)
{
	struct tally t = { .law = law };
	u32 i, next = 0, nr_ev = list_events(&t, v, nr, ev);

	for (i = 0; i < nr; i++) {
		if (v[i].len >= end_of(&t, &v[i]) || is_full_before(&t, &v[i]))
			t.full += full_pages(&t, &v[i]);
		if (i + 1 < nr && v[i + 1].left == v[i].left)
			continue;
		for (; next < nr_ev && ev[next].at >= v[i].left; next++)
			tally_grows(&t, &v[ev[next].who]);
		v[i].sum += tally_pages(&t, v[i].left) * law->page_bytes;
	}
}

u64 commit_peak(const struct kv_backend *b, struct commit_item *v,
		struct commit_event *ev, u32 nr)
{
	u64 peak = 0, fixed = 0;
	u32 i;

	qsort(v, nr, sizeof(*v), more_left);
	for (i = 0; i < nr; i++) {
		fixed += v[i].fixed;
		v[i].sum = fixed;
	}
	for (i = 0; i < b->nr_areas; i++)
		add_area(&b->law[i], v, ev, nr);
	for (i = 0; i < nr; i++)
		if (i + 1 == nr || v[i + 1].left != v[i].left)
			peak = max(peak, v[i].sum);
	return peak;
}

/* ---- requests ---- */

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

static struct commit_item item_of(const struct engine *e,
				  const struct request *r)
{
	u32 prompt = r->p.nr_prompt, whole = 0, i, nr = 0;
	struct commit_item it = { .left = steps_left(r), .copies = r->p.n };

	for (i = 0; i < r->nr_seqs; i++)
		nr = max(nr, r->seqs[i]->nr);
	if (r->p.n > 1) {
		/* a sample's own: from the page on in which the prompt ends */
		whole = prompt / MODEL_PAGE_TOKENS * MODEL_PAGE_TOKENS;
		it.fixed = kv_space_bytes(e->b, prompt);
	}
	it.len = nr - whole;
	it.most = e->o.context - whole;
	return it;
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

/*
 * What windows leave behind is freed when the next step's pages are asked for:
 * until then the chunks of a step are beside their windows.
 */
static u64 chunk_bytes(const struct engine *e)
{
	u64 bytes = 0;
	u32 i;

	for (i = 0; i < e->b->nr_areas; i++) {
		const struct kv_area_law *l = &e->b->law[i];

		if (l->window)
			bytes += (u64)DIV_ROUND_UP(e->o.step_tokens,
						   l->page_tokens) *
				 l->page_bytes;
	}
	return bytes;
}

/* Of those that run, and of @also, which waits, if it is not NULL. */
static u64 committed(struct engine *e, const struct request *also)
{
	u64 sum = kept_bytes(e);
	struct commit_item it;
	u32 i, nr = 0;
	bool any = false;

	for (i = 0; i < e->nr_run + (also != NULL); i++) {
		any = true;
		it = item_of(e, i < e->nr_run ? e->run[i] : also);
		if (e->o.admit == ENGINE_ADMIT_PEAK && nr <= e->o.max_seqs)
			e->commit[nr++] = it;
		else
			sum += commit_bytes(e->b, &it, it.left);
	}
	return sum + (any ? chunk_bytes(e) : 0) +
	       commit_peak(e->b, e->commit, e->commit_ev, nr);
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
			bytes += shared ? 0 : kv_space_bytes(e->b, whole);
			shared = true;
			nr -= whole;
		}
		bytes += kv_space_bytes(e->b, nr);
	}
	return bytes;
}

void commit_account(struct engine *e)
{
	u32 i;

	e->stats.resident = 0;
	for (i = 0; i < e->nr_run; i++)
		e->stats.resident += resident(e, e->run[i]);
	e->stats.committed = committed(e, NULL);
	e->stats.limit = e->b->ops->limit(e->b);
}
