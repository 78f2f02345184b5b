/* SPDX-License-Identifier: MIT */
/*
 * deadlock.c - clients that hold memory and wait for each other's
 *
 * A reservation is all or nothing, but a sequence grows by one after the
 * other: two clients whose sequences fit the device one at a time can each
 * hold half of what they need and wait for the rest. Nothing moves then:
 *
 *	the first ticket	finds no memory, and none is on its way
 *	everybody else who	waits too, and runs no step
 *	holds some of it
 *
 * Of these the one whose work is the youngest, of the lowest priority, is told
 * -EDEADLK instead of being let wait: it gives back what it holds and begins
 * again, with a younger space. The eldest is never told, so it gets to its end,
 * and then the next one does ("wait-die" of Rosenkrantz, Stearns and Lewis,
 * 1978). Nothing is taken from anybody, and whoever does not listen is told
 * again. Who is idle, or computes without an end, is revoke.c's.
 *
 * At a tenant's limit only that tenant's clients count. A tenant that has no
 * more than its min is not asked for another one's sake. In the core's state
 * there is only since when nothing has moved; a successor begins to count anew.
 */
#include <errno.h>

#include "kvmd/mm/room.h"
#include "kvmd/mm/ticket.h"

#define DEADLOCK_NS 50000000ull /* nothing has moved for so long */

#define TICKET_LINKS(mm) ILINKS(mm_tickets(mm), link)

/* The first that finds no memory; MM_NONE: there is none, or some comes. */
static u32 first_stuck(const struct mm *mm)
{
	const struct ticket *ts = mm_tickets(mm);
	u32 i, first = MM_NONE;

	if (mm->nr_io || mm->nr_moving || mm->nr_copying || mm->backoff ||
	    mm->dirty || mm->client_dirty || room_is_wanted(mm))
		return MM_NONE;
	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm)) {
		if (ts[i].reclaiming || !block_is_full(ts[i].block))
			return MM_NONE;
		if (first == MM_NONE)
			first = i;
	}
	return first;
}

/* Memory of its own, or pages of the cache that cannot go therefore. */
static bool has_some(const struct client *c)
{
	return c->nr_extents || c->refs.nr;
}

/* Does it hold what the ticket lacks? */
static bool is_holder(const struct mm *mm, const struct ticket *t,
		      const struct client *c)
{
	const struct client *own = &mm_clients(mm)[t->client];

	return c->state == CLIENT_LIVE && c != own && has_some(c) &&
	       (t->block == BLOCK_DEVICE || c->tenant == own->tenant);
}

static bool all_wait(const struct mm *mm, const struct ticket *t)
{
	const struct client *cs = mm_clients(mm);
	u32 i;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (is_holder(mm, t, &cs[i]) &&
		    (!cs[i].nr_tickets || cs[i].works))
			return false;
	return true;
}

/* Whose work is the youngest of those that wait, or MM_NONE. */
static u32 youngest(const struct mm *mm, u32 first)
{
	const struct ticket *ts = mm_tickets(mm), *t = &ts[first];
	const struct client *cs = mm_clients(mm), *c;
	const struct tenant *x;
	u32 i, found = MM_NONE, others = 0;
	u64 age, best = 0;

	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm)) {
		c = &cs[ts[i].client];
		x = &mm->tenants[c->tenant];
		others += is_holder(mm, t, c);
		if ((i != first && !is_holder(mm, t, c)) || !has_some(c) ||
		    !(ts[i].flags & KV_SQE_WAIT) ||
		    (c->tenant != cs[t->client].tenant &&
		     x->held <= x->limits.min_bytes))
			continue;
		age = resv_age(mm, c, mm_ticket_items(mm, i), ts[i].nr_items);
		if (found != MM_NONE &&
		    (ts[i].priority > ts[found].priority ||
		     (ts[i].priority == ts[found].priority && age < best)))
			continue;
		found = i;
		best = age;
	}
	return others ? found : MM_NONE;
}

void deadlock_tick(struct mm *mm)
{
	u32 first = first_stuck(mm), who;

	if (first == MM_NONE || !all_wait(mm, &mm_tickets(mm)[first])) {
		mm->stuck_ns = 0;
		return;
	}
	if (!mm->stuck_ns)
		mm->stuck_ns = mm->now_ns;
	if (mm->now_ns < mm->stuck_ns + DEADLOCK_NS)
		return;
	mm->stuck_ns = 0;
	who = youngest(mm, first);
	if (who == MM_NONE)
		return;
	mm->counts.tickets_deadlocked++;
	ticket_refuse(mm, who, -EDEADLK);
}
