/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_ROOM_H
#define KVMD_MM_ROOM_H
/*
 * room.h - room for weights that wait
 */
#include "kvmd/mm/space.h"

/* room_is_wanted - do weights wait? Then no extent goes to anybody. */
static inline bool room_is_wanted(const struct mm *mm)
{
	return mm->room_bytes;
}

/*
 * room_extents_short - extents that have still to come, beyond what is free,
 * on its way, or asked of clients already
 */
u32 room_extents_short(const struct mm *mm);

#endif
