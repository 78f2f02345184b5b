/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_REVOKE_H
#define KVMD_MM_REVOKE_H
/*
 * revoke.h - memory that comes back from a client, whether it helps or not
 */
#include "kvmd/mm/space.h"

/* revoke_outstanding - extents that a client has still to give */
static inline u32 revoke_outstanding(const struct client *c)
{
	const struct revoke *r = &c->revoke;

	if (c->state == CLIENT_CACHE)
		return 0;
	if (c->state != CLIENT_LIVE || r->state == MM_REVOKE_KILLED)
		return c->nr_extents;
	if (r->state == MM_REVOKE_NONE || c->nr_extents <= r->goal)
		return 0;
	return c->nr_extents - r->goal;
}

/* revoke_over_limit - a limit was lowered; false: nothing is taken for that */
bool revoke_over_limit(struct mm *mm);

/*
 * revoke_run - begin what somebody needs, end what nobody needs any more; true
 * if a request was queued
 */
bool revoke_run(struct mm *mm);

/* revoke_tick - deadlines */
void revoke_tick(struct mm *mm);
bool revoke_wants_tick(const struct mm *mm);

/* revoke_recover - of a client whose kvmd was killed: what stage it is in, and
 * its hold, are kept; it has all its time once more when it is back */
void revoke_recover(struct mm *mm, struct client *c);
/* revoke_resume - it is back: it is told its hold, and asked again */
void revoke_resume(struct mm *mm, struct client *c);

/* revoke_exit - the client goes, and all it has with it */
void revoke_exit(struct mm *mm, struct client *c);

#endif
