/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_HIGH_H
#define KVMD_MM_HIGH_H
/*
 * high.h - a tenant above its soft limit
 */
#include "kvmd/mm/resv.h"

/**
 * high_slows - must a reservation wait as its tenant is above its high?
 * @mm: core
 * @c: its client
 * @p: its plan
 * @extents: extents it lacks
 * @until_ns: until when; 0: it has not been asked before
 *
 * When first asked, idle memory of the tenant goes, as far as there is any,
 * and @until_ns is set if that is not enough. It waits once and is not asked
 * about again when that time has passed, or the tenant is below its high.
 */
bool high_slows(struct mm *mm, struct client *c, const struct resv_plan *p,
		u32 extents, u64 *until_ns);

/* high_limit - it was set: what is idle or empty above it goes */
void high_limit(struct mm *mm, u32 tenant);

/* high_room - extents that a tenant may take below its high */
u32 high_room(const struct mm *mm, u32 tenant);

#endif
