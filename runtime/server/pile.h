/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_PILE_H
#define RUNTIME_SERVER_PILE_H
/*
 * pile.h - a queue between threads: many put, who takes takes all
 *
 * Who puts swaps the top; who takes swaps it for nothing and turns the chain
 * round, which gives the order in which it was put. Nothing is taken singly,
 * so no element can come back while somebody still looks at it.
 */
#include <stdatomic.h>
#include <stddef.h>

struct pile_link {
	struct pile_link *next;
};

struct pile {
	_Atomic(struct pile_link *) top;
};

/* Any thread. What was written to the element before is seen by the taker. */
static inline void pile_put(struct pile *p, struct pile_link *l)
{
	struct pile_link *top =
		atomic_load_explicit(&p->top, memory_order_relaxed);

	do
		l->next = top;
	while (!atomic_compare_exchange_weak_explicit(
		&p->top, &top, l, memory_order_release, memory_order_relaxed));
}

/*
 * All there is, chained in the order it was put; NULL: nothing. Of several that
 * take at a time each element comes to one; what one of them puts back comes
 * behind what was put meanwhile.
 */
static inline struct pile_link *pile_take(struct pile *p)
{
	struct pile_link *l, *next, *first = NULL;

	if (!atomic_load_explicit(&p->top, memory_order_relaxed))
		return NULL;
	l = atomic_exchange_explicit(&p->top, NULL, memory_order_acquire);
	for (; l; l = next) {
		next = l->next;
		l->next = first;
		first = l;
	}
	return first;
}

#endif
