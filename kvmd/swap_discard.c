/* SPDX-License-Identifier: MIT */
/*
 * swap_discard.c - room in swap tiers that holds nothing is given back
 *
 * Where that is wanted: of a partition the blocks are discarded, a file gets
 * holes, memory goes back to the system. One run at a time, by a thread of
 * swap's, of 64 MiB at most and ten a second: what pages that move wait for is
 * bounded. The core keeps the run free of pages meanwhile (mm/discard.c).
 *
 *	idle -> armed (a MiB is stale) -> running -> armed or idle
 *
 * A tier that has stale room in shorter runs only is left alone until more has
 * become stale; one that cannot discard is left alone for good.
 */
#include <errno.h>
#include <string.h>
#include "kvmd/kvmd.h"

#define DISCARD_LEAST (1ull << 20)
#define DISCARD_MOST  (64ull << 20)
#define PERIOD_NS     100000000ull

static bool wants_discard(const struct kvmd *d, u32 i)
{
	const struct swap_discard *s = &d->swap.discard;

	return mm_swap_get(d->mm)->discard && !s->refused[i] &&
	       d->swap.tier[i]->ops->discard &&
	       mm_discard_stale(d->mm, i) >= s->fruitless[i] + DISCARD_LEAST;
}

void swap_discard_arm(struct kvmd *d)
{
	struct swap_discard *s = &d->swap.discard;
	u32 i;

	if (s->running || s->timer.armed)
		return;
	for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++) {
		if (wants_discard(d, i)) {
			timer_set(&d->timers, &s->timer, d->now_ns + PERIOD_NS);
			return;
		}
	}
}

bool swap_is_stuck(const struct kvmd *d)
{
	return d->swap.discard.running;
}

static void discard_run(struct work *w)
{
	struct swap_discard *s = container_of(w, struct swap_discard, work);
	struct tier *t = s->d->swap.tier[s->tier];

	s->err = t->ops->discard(t, s->off, s->bytes);
}

static void discard_done(struct work *w)
{
	struct swap_discard *s = container_of(w, struct swap_discard, work);
	struct kvmd *d = s->d;

	s->running = false;
	if (s->err) {
		s->refused[s->tier] = true;
		log_info("swap discard", "tier=%s error=\"%s\"",
			 d->swap.tier[s->tier]->ops->name, strerror(-s->err));
	} else {
		d->n.swap_discards++;
		d->n.swap_discarded_bytes += s->bytes;
	}
	mm_discard_done(d->mm, s->tier, s->off, s->bytes);
	d->swap.pump = true;
	swap_discard_arm(d);
}

static void discard_fire(struct timer *t)
{
	struct swap_discard *s = container_of(t, struct swap_discard, timer);
	struct kvmd *d = s->d;
	u32 i;

	for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++) {
		if (!wants_discard(d, i))
			continue;
		s->bytes = mm_discard_begin(d->mm, i, DISCARD_LEAST,
					    DISCARD_MOST, &s->off);
		if (!s->bytes) {
			s->fruitless[i] = mm_discard_stale(d->mm, i);
			continue;
		}
		s->fruitless[i] = 0;
		s->tier = i;
		s->running = true;
		work_submit(d->swap.pool, &s->work);
		return;
	}
}

void swap_discard_init(struct kvmd *d)
{
	struct swap_discard *s = &d->swap.discard;

	s->d = d;
	s->timer.fire = discard_fire;
	s->work.run = discard_run;
	s->work.done = discard_done;
	s->work.slow = true;
}
