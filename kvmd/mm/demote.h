/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_DEMOTE_H
#define KVMD_MM_DEMOTE_H
/*
 * demote.h - pages that go from a swap tier to a later one
 */
#include "kvmd/mm/state.h"

/* demote_run - begin what there is to begin; true: something was */
bool demote_run(struct mm *mm);
/* demote_tick - time has passed since something failed */
void demote_tick(struct mm *mm);
bool demote_wants_tick(const struct mm *mm);
/* demote_done - of the slot that was filled; its client lives */
void demote_done(struct mm *mm, struct client *c, u32 slot, int err);
/* demote_dead - likewise, its client is gone: both slots are */
void demote_dead(struct mm *mm, struct client *c, u32 slot);

#endif
