/* SPDX-License-Identifier: MIT */
/*
 * order.c - in which order those that wait are looked at
 *
 *	fcfs	by arrival
 *	lpm	who finds most of its prompt published comes first; of those
 *		that find as much the one whose next token most of them wait
 *		for, then the shorter prompt
 *	dfs	a subtree of the prompts' tree at a time: one that has begun,
 *		then the one in which most wait
 *
 * With the two latter the queue walks the tree of the prompts edge by edge, and
 * what has been computed of it is used before it is evicted (Zheng et al.,
 * "SGLang", 2024: no order has more hits if the longest request fits). What a
 * request would find is kept as an upper bound: what was asked of the pager
 * when it came, raised as others of this engine publish. The first of the queue
 * asks again before it is admitted (twins.c), and takes its new place if that
 * was less.
 *
 * Nobody starves within a priority. A request that has been overtaken
 * overtake_max times, by later arrivals that were admitted before it, is due:
 * those that are due come first, by arrival. Nobody else can overtake it then,
 * as who is due and before it has arrived before it. The count is also kept
 * ahead, for those of the queue that are placed before it. Who could
 * come in and waits for what another one computes (twins.c) lets others by, and
 * who comes by a turn (turns.c) has waited longest: both add to the age of who
 * waits, and are beside the bound.
 *
 * Only the ORDER_WINDOW oldest that wait are ordered, the others follow by
 * arrival: the time that it takes is bounded, and so is how far one may jump.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/engine_priv.h"

#define MATCH_ALL (~0u) /* it has its pages */

struct order_ops {
	void (*sort)(struct engine *e, struct request **q, u32 nr);
};

static int by_arrival(const struct request *a, const struct request *b)
{
	return a->arrival < b->arrival ? -1 : a->arrival > b->arrival;
}

static u32 match_of(const struct request *r)
{
	return request_has_pages(r) ? MATCH_ALL : r->match;
}

/* In the order of tokens, with what each shares with the one before it. */
static u32 by_tokens(const struct engine *e, struct request **q, u32 nr,
		     u32 *shared)
{
	u32 i, n = 0, least = ~0u;

	for (i = 0; i < nr; i++)
		q[i]->listed = true;
	for (i = 0; i < e->nr_index && n < nr; i++) {
		struct request *r = e->index[i].r;

		least = min(least, e->index[i].shared);
		if (!r->listed)
			continue;
		r->listed = false;
		shared[n] = least;
		q[n++] = r;
		least = ~0u;
	}
	return n;
}

/* ---- lpm ---- */

static int cmp_match(const void *a, const void *b)
{
	const struct request *x = *(struct request *const *)a;
	const struct request *y = *(struct request *const *)b;
	u32 mx = match_of(x), my = match_of(y);

	if (mx != my)
		return mx > my ? -1 : 1;
	if (x->crowd != y->crowd)
		return x->crowd > y->crowd ? -1 : 1;
	/* of two that begin alike the shorter one may be all of it */
	if (x->p.nr_prompt != y->p.nr_prompt)
		return x->p.nr_prompt < y->p.nr_prompt ? -1 : 1;
	return by_arrival(x, y);
}

/* How many wait for the token behind what each finds. */
static void count_crowds(const struct engine *e, struct request *const *q,
			 u32 nr)
{
	struct request *in[ORDER_WINDOW];
	u32 shared[ORDER_WINDOW], i, lo, hi, match;

	memcpy(in, q, nr * sizeof(struct request *));
	nr = by_tokens(e, in, nr, shared);
	for (i = 0; i < nr; i++) {
		match = match_of(in[i]);
		for (lo = i; lo && shared[lo] > match; lo--)
			;
		for (hi = i + 1; hi < nr && shared[hi] > match; hi++)
			;
		in[i]->crowd = hi - lo;
	}
}

static void lpm_sort(struct engine *e, struct request **q, u32 nr)
{
	count_crowds(e, q, nr);
	qsort(q, nr, sizeof(struct request *), cmp_match);
}

/* ---- dfs ---- */

/* A run of the queue in the order of tokens; [i] shares with [i - 1]. */
struct subtree {
	u32 from, to;
	u32 hot; /* the longest match in it */
	u32 oldest; /* arrival, counted from that of the oldest of all */
};

static int cmp_subtree(const void *a, const void *b)
{
	const struct subtree *x = a, *y = b;
	u32 nx = x->to - x->from, ny = y->to - y->from;

	if (x->hot != y->hot)
		return x->hot < y->hot ? -1 : 1;
	if (nx != ny)
		return nx < ny ? -1 : 1;
	return x->oldest > y->oldest ? -1 : x->oldest < y->oldest;
}

/* The subtrees of q[from, to), which share @depth tokens or more. */
static u32 split(struct request **q, const u32 *shared, u64 oldest, u32 from,
		 u32 to, struct subtree *out)
{
	u32 i, n = 0, depth = ~0u;

	for (i = from + 1; i < to; i++)
		depth = min(depth, shared[i]);
	for (i = from; i < to; i++) {
		struct subtree *t = &out[n - (n > 0)];

		if (i == from || shared[i] == depth) {
			t = &out[n++];
			*t = (struct subtree){ .from = i, .oldest = ~0u };
		}
		t->to = i + 1;
		t->oldest = min(t->oldest, (u32)(q[i]->arrival - oldest));
		/* what all of them share says nothing, but who is only that */
		if (q[i]->p.nr_prompt <= depth)
			t->hot = MATCH_ALL;
		else if (match_of(q[i]) > depth)
			t->hot = max(t->hot, match_of(q[i]));
	}
	/* the first comes last: that is the top of the stack */
	qsort(out, n, sizeof(*out), cmp_subtree);
	return n;
}

static void dfs_sort(struct engine *e, struct request **q, u32 nr)
{
	struct request *in[ORDER_WINDOW];
	struct subtree stack[ORDER_WINDOW], t;
	u32 shared[ORDER_WINDOW], n = 0, top = 0, i;
	u64 oldest = ~0ull;

	for (i = 0; i < nr; i++)
		oldest = min(oldest, q[i]->arrival);
	memcpy(in, q, nr * sizeof(struct request *));
	nr = by_tokens(e, in, nr, shared);
	if (nr)
		stack[top++] = (struct subtree){ .from = 0, .to = nr };
	while (top) {
		t = stack[--top];
		if (t.to - t.from == 1)
			q[n++] = in[t.from];
		else
			top += split(in, shared, oldest, t.from, t.to,
				     stack + top);
	}
}

/* ---- all ---- */

static void fcfs_sort(struct engine *e, struct request **q, u32 nr)
{
	(void)e;
	(void)q;
	(void)nr;
}

static const struct order_ops orders[] = {
	[ENGINE_ORDER_LPM] = { .sort = lpm_sort },
	[ENGINE_ORDER_DFS] = { .sort = dfs_sort },
	[ENGINE_ORDER_FCFS] = { .sort = fcfs_sort },
};

static const struct order_ops *order_ops_of(const struct engine *e)
{
	return &orders[e->o.prefix_cache ? e->o.order : ENGINE_ORDER_FCFS];
}

/* Who is due comes first: see above. @q is in the order of the policy. */
static void let_age(const struct engine *e, struct request **q, u32 nr)
{
	struct request *in[ORDER_WINDOW], *due;
	u32 ahead[ORDER_WINDOW], i, k, pick, most = 0;

	for (i = 0; i < nr; i++) {
		ahead[i] = q[i]->overtaken;
		most = max(most, ahead[i]);
	}
	if (most + nr <= e->o.overtake_max)
		return; /* nobody can be, before the next step */
	memcpy(in, q, nr * sizeof(struct request *));
	for (k = 0; k < nr; k++) {
		for (i = 0, due = NULL, pick = nr; i < nr; i++) {
			if (!in[i])
				continue;
			if (pick == nr)
				pick = i;
			if (ahead[i] >= e->o.overtake_max &&
			    (!due || in[i]->arrival < due->arrival)) {
				due = in[i];
				pick = i;
			}
		}
		q[k] = in[pick];
		q[k]->age = ahead[pick];
		in[pick] = NULL;
		for (i = 0; i < nr; i++)
			if (in[i] && in[i]->arrival < q[k]->arrival)
				ahead[i]++;
	}
}

/* The first time that a request is looked at. */
static void ask(struct engine *e, struct request *r)
{
	if (r->asked)
		return;
	r->asked = true;
	twins_ask(e, r);
}

/* Priorities come before all: the queue has been filled by them. */
void order_rest(struct engine *e, u32 from)
{
	u32 end = min(e->nr_queue, from + ORDER_WINDOW), to, i;

	for (; from < end; from = to) {
		struct request **q = e->queue + from;

		for (to = from + 1; to < end; to++)
			if (e->queue[to]->p.priority != q[0]->p.priority)
				break;
		e->nr_sorts++;
		for (i = from; i < to; i++) {
			e->queue[i]->sort = e->nr_sorts;
			e->queue[i]->key = match_of(e->queue[i]);
			e->queue[i]->age = 0;
		}
		order_ops_of(e)->sort(e, q, to - from);
		if (order_ops_of(e) != &orders[ENGINE_ORDER_FCFS])
			let_age(e, q, to - from);
	}
}

void order_waiting(struct engine *e)
{
	u32 i;

	e->nr_queue = e->nr_asks = 0;
	e->nr_looks++;
	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->state == REQUEST_WAITING &&
		    !e->reqs[i]->comes) {
			e->reqs[i]->lets_by = false;
			e->queue[e->nr_queue++] = e->reqs[i];
		}
	if (order_ops_of(e) == &orders[ENGINE_ORDER_FCFS])
		return;
	for (i = 0; i < min(e->nr_queue, ORDER_WINDOW); i++)
		ask(e, e->queue[i]);
	order_rest(e, 0);
}

void order_ahead(struct engine *e)
{
	u32 i, n = 0;

	if (order_ops_of(e) == &orders[ENGINE_ORDER_FCFS])
		return;
	for (i = 0; i < e->nr_reqs && n < ORDER_WINDOW; i++) {
		if (e->reqs[i]->state != REQUEST_WAITING || e->reqs[i]->comes)
			continue;
		ask(e, e->reqs[i]);
		n++;
	}
}

void order_let_by(struct request *r)
{
	r->lets_by = r->yields = true;
}

void order_admitted(struct engine *e, struct request *r, bool by_turn)
{
	u32 i;

	for (i = 0; i < e->nr_reqs; i++) {
		struct request *o = e->reqs[i];

		if (o->state != REQUEST_WAITING ||
		    o->p.priority != r->p.priority || o->arrival >= r->arrival)
			continue;
		o->overtaken++;
		o->passed += !o->lets_by && !by_turn;
		e->stats.max_overtaken = max(e->stats.max_overtaken, o->passed);
	}
	r->overtaken = r->passed = 0;
}

/* ---- what must hold ---- */

static int out_of_order(const struct request *a, const struct request *b,
			char *err)
{
	return err_set(err, -EINVAL,
		       "request %llu waits before %llu: it hopes for %u tokens "
		       "of %u, and %u of %u",
		       (unsigned long long)a->arrival,
		       (unsigned long long)b->arrival, a->key, a->p.nr_prompt,
		       b->key, b->p.nr_prompt);
}

/* Of two neighbours of the queue, is the first one rightly before the other? */
static bool rightly_before(const struct engine *e, const struct request *a,
			   const struct request *b)
{
	const struct order_ops *ops = order_ops_of(e);
	u32 due = e->o.overtake_max;

	/* @b was due when @a was placed, or is since, as @a came later */
	if (b->age >= due)
		return a->arrival < b->arrival ? a->age >= due : b->age == due;
	if (a->age >= due || ops == &orders[ENGINE_ORDER_DFS])
		return true; /* what shares what is not kept */
	if (a->key != b->key)
		return a->key > b->key;
	if (a->crowd != b->crowd)
		return a->crowd > b->crowd;
	return a->p.nr_prompt != b->p.nr_prompt
		       ? a->p.nr_prompt < b->p.nr_prompt
		       : a->arrival < b->arrival;
}

int order_check(const struct engine *e, char *err)
{
	u32 i;

	if (order_ops_of(e) == &orders[ENGINE_ORDER_FCFS])
		return 0; /* then nobody is overtaken: check_turn() */
	for (i = 0; i < e->nr_reqs; i++) {
		const struct request *r = e->reqs[i];

		if (r->state == REQUEST_WAITING &&
		    r->passed > e->o.overtake_max)
			return err_set(err, -EINVAL,
				       "request %llu was overtaken %u times",
				       (unsigned long long)r->arrival,
				       r->passed);
	}
	for (i = 1; i < min(e->nr_queue, ORDER_WINDOW); i++) {
		const struct request *a = e->queue[i - 1], *b = e->queue[i];

		if (a->sort == b->sort && !rightly_before(e, a, b))
			return out_of_order(a, b, err);
	}
	return 0;
}
