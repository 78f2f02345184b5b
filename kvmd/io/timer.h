/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_TIMER_H
#define KVMD_IO_TIMER_H
/*
 * timer.h - what the loop has to do later
 *
 * A handful of deadlines (handshakes, retries, audits): a sorted list is
 * shorter and, at this size, quicker than a heap. One thread.
 */
#include <sys/queue.h>
#include "include/kv/types.h"

struct timer {
	void (*fire)(struct timer *t);
	u64 due_ns;
	bool armed;
	TAILQ_ENTRY(timer) link;
};

TAILQ_HEAD(timer_list, timer);

static inline void timer_cancel(struct timer_list *l, struct timer *t)
{
	if (t->armed)
		TAILQ_REMOVE(l, t, link);
	t->armed = false;
}

static inline void timer_set(struct timer_list *l, struct timer *t, u64 due_ns)
{
	struct timer *at;

	timer_cancel(l, t);
	t->due_ns = due_ns;
	t->armed = true;
	TAILQ_FOREACH_REVERSE(at, l, timer_list, link)
	{
		if (at->due_ns <= due_ns) {
			TAILQ_INSERT_AFTER(l, at, t, link);
			return;
		}
	}
	TAILQ_INSERT_HEAD(l, t, link);
}

/* timer_run - call all that is due; a callback may set and cancel any */
static inline void timer_run(struct timer_list *l, u64 now_ns)
{
	struct timer *t;

	while ((t = TAILQ_FIRST(l)) && t->due_ns <= now_ns) {
		timer_cancel(l, t);
		t->fire(t);
	}
}

/* timer_next_ns - until the next one, negative if there is none */
static inline s64 timer_next_ns(const struct timer_list *l, u64 now_ns)
{
	const struct timer *t = TAILQ_FIRST(l);

	if (!t)
		return -1;
	return t->due_ns > now_ns ? (s64)(t->due_ns - now_ns) : 0;
}

#endif
