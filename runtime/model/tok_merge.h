/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_TOK_MERGE_H
#define RUNTIME_MODEL_TOK_MERGE_H
/*
 * tok_merge.h - byte-pair merging in O(n log n)
 *
 * A text is a doubly linked list of symbols over one array. Every adjacent
 * pair that may merge is a candidate in a binary heap, ordered by priority,
 * then by position: always the best pair first, of equal ones the leftmost.
 * A merge extends the left symbol and empties the right one (len 0), and
 * makes at most two new candidates.
 *
 * A candidate that was overtaken is not searched for in the heap but noticed
 * when it comes out: symbols only ever grow or become empty, so that it is
 * still true exactly if the pair at its position has the length that it had.
 *
 * Both tokenizers share this; each brings the function that judges a pair,
 * which the compiler inlines.
 */
#include <errno.h>
#include <stdlib.h>

#include "kv/types.h"

#define TOK_END 0xffffffffu

struct tok_sym {
	u32 start, len; /* bytes of the text; len 0: merged away */
	u32 id; /* token, or VOCAB_NONE */
	u32 prev, next; /* index, or TOK_END */
};

struct tok_cand {
	u64 order; /* priority << 32 | index of the left symbol */
	u32 len; /* of both symbols together */
	u32 id; /* what they become */
};

struct tok_work {
	struct tok_sym *syms;
	size_t nr_syms, cap_syms;
	struct tok_cand *heap;
	size_t nr_heap, cap_heap;
};

static inline void tok_work_fini(struct tok_work *w)
{
	free(w->syms);
	free(w->heap);
}

static inline int tok_add_sym(struct tok_work *w, u32 start, u32 len, u32 id)
{
	u32 i = (u32)w->nr_syms;

	if (w->nr_syms == w->cap_syms) {
		size_t cap = w->cap_syms ? 2 * w->cap_syms : 64;
		void *p = reallocarray(w->syms, cap, sizeof(*w->syms));

		if (!p)
			return -ENOMEM;
		w->syms = p;
		w->cap_syms = cap;
	}
	w->syms[i] = (struct tok_sym){ .start = start,
				       .len = len,
				       .id = id,
				       .prev = i ? i - 1 : TOK_END,
				       .next = TOK_END };
	if (i)
		w->syms[i - 1].next = i;
	w->nr_syms++;
	return 0;
}

static inline int tok_heap_push(struct tok_work *w, struct tok_cand c)
{
	size_t i = w->nr_heap;

	if (i == w->cap_heap) {
		size_t cap = i ? 2 * i : 64;
		void *p = reallocarray(w->heap, cap, sizeof(*w->heap));

		if (!p)
			return -ENOMEM;
		w->heap = p;
		w->cap_heap = cap;
	}
	w->nr_heap++;
	while (i && w->heap[(i - 1) / 2].order > c.order) {
		w->heap[i] = w->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	w->heap[i] = c;
	return 0;
}

static inline struct tok_cand tok_heap_pop(struct tok_work *w)
{
	struct tok_cand top = w->heap[0], last = w->heap[--w->nr_heap];
	size_t i = 0;

	for (;;) {
		size_t kid = 2 * i + 1;

		if (kid >= w->nr_heap)
			break;
		if (kid + 1 < w->nr_heap &&
		    w->heap[kid + 1].order < w->heap[kid].order)
			kid++;
		if (w->heap[kid].order >= last.order)
			break;
		w->heap[i] = w->heap[kid];
		i = kid;
	}
	w->heap[i] = last;
	return top;
}

/* Judge a pair: true with the priority and id of what it becomes. */
typedef bool tok_pair_fn(void *ctx, const struct tok_sym *left,
			 const struct tok_sym *right, u32 *prio, u32 *id);

static inline int tok_try_pair(struct tok_work *w, u32 left, tok_pair_fn *pair,
			       void *ctx)
{
	const struct tok_sym *l = &w->syms[left];
	struct tok_cand c = { 0 };
	u32 prio;

	if (l->next == TOK_END ||
	    !pair(ctx, l, &w->syms[l->next], &prio, &c.id))
		return 0;
	c.order = (u64)prio << 32 | left;
	c.len = l->len + w->syms[l->next].len;
	return tok_heap_push(w, c);
}

/**
 * tok_merge - merge the symbols of @w until no pair can merge
 *
 * What is left is the list that starts at symbol 0.
 * Return: 0 or -ENOMEM.
 */
static inline __attribute__((always_inline)) int
tok_merge(struct tok_work *w, tok_pair_fn *pair, void *ctx)
{
	int rc;

	w->nr_heap = 0;
	for (u32 i = 0; i + 1 < w->nr_syms; i++) {
		rc = tok_try_pair(w, i, pair, ctx);
		if (rc)
			return rc;
	}
	while (w->nr_heap) {
		struct tok_cand c = tok_heap_pop(w);
		u32 left = (u32)c.order;
		struct tok_sym *l = &w->syms[left], *r;

		if (!l->len || l->next == TOK_END)
			continue;
		r = &w->syms[l->next];
		if (l->len + r->len != c.len)
			continue;
		l->len = c.len;
		l->id = c.id;
		l->next = r->next;
		if (r->next != TOK_END)
			w->syms[r->next].prev = left;
		r->len = 0;

		rc = l->prev == TOK_END ? 0
					: tok_try_pair(w, l->prev, pair, ctx);
		if (!rc)
			rc = tok_try_pair(w, left, pair, ctx);
		if (rc)
			return rc;
	}
	return 0;
}

#endif
