/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_TICKET_H
#define KVMD_MM_TICKET_H
/*
 * ticket.h - reservations that wait for memory
 */
#include "kvmd/mm/resv.h"

void ticket_init(struct mm *mm);

/* ticket_refuse - a ticket that waits ends with @rc, an error */
void ticket_refuse(struct mm *mm, u32 ticket, int rc);

/* deadlock_tick - if nothing moves as all wait for each other, one gives way */
void deadlock_tick(struct mm *mm);

/**
 * ticket_ahead - must a new request wait behind one that waits already?
 * @mm: core
 * @c: its client
 * @p: its plan; reclaiming is set to the waiting one's
 * @extents: extents it lacks
 *
 * Return: BLOCK_NONE, or what the waiting one waits for.
 */
enum ticket_block ticket_ahead(const struct mm *mm, const struct client *c,
			       struct resv_plan *p, u32 extents);

/* ticket_is_before - is a waiting ticket served before a reservation? */
static inline bool ticket_is_before(const struct mm *mm, u32 ticket,
				    const struct resv_plan *p)
{
	if (p->ticket == MM_NONE)
		return mm_tickets(mm)[ticket].priority >= p->priority;
	return ticket != p->ticket;
}

/**
 * ticket_create - keep a reservation until there is memory
 * @mm: core
 * @c: client
 * @r: request; its items are copied
 * @p: its plan
 * @block: what it waits for
 * @extents: extents it lacks
 * @id: the ticket's id
 *
 * Return: 0, -EAGAIN if the client or everybody has too many.
 */
int ticket_create(struct mm *mm, struct client *c, const struct mm_resv *r,
		  const struct resv_plan *p, enum ticket_block block,
		  u32 extents, u64 *id);

/*
 * ticket_needs - does somebody wait for an extent that a client of @tenant
 * could give, be it a ticket or weights? Not those whose memory is being
 * populated or scrubbed already: to take an extent for them would only make its
 * owner wait in turn.
 */
bool ticket_needs(const struct mm *mm, u32 tenant);

/* ticket_promised - extents that tickets lack which wait for their pages */
u32 ticket_promised(const struct mm *mm);

/* ticket_is_first - is the first of those who wait for memory its own? */
bool ticket_is_first(const struct mm *mm, const struct client *c);

/* ticket_run - look at the waiting ones; true if a request was queued */
bool ticket_run(struct mm *mm);

/*
 * ticket_io_ended - a page of @c is on its way no more. Return: is it time that
 * those who wait for pages, or for the memory of some, look again?
 */
bool ticket_io_ended(struct mm *mm, struct client *c);

/* ticket_wants_idle - does one wait for spaces whose pages could leave? */
bool ticket_wants_idle(const struct mm *mm);

/*
 * ticket_tick - look at them again, if a step has ended since or it is long
 * ago: nobody tells when a space becomes idle
 */
void ticket_tick(struct mm *mm);

/* ticket_drop - forget a client's waiting tickets, without a completion */
void ticket_drop(struct mm *mm, struct client *c);

/* ticket_free - its completion has been taken */
void ticket_free(struct mm *mm, u32 ticket);

#endif
