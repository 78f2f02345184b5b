/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_BACKGROUND_H
#define KVMD_MM_BACKGROUND_H
/*
 * background.h - memory made free before somebody waits for it
 */
#include "kvmd/mm/state.h"

/* background_free - bytes of the device that nobody has */
u64 background_free(const struct mm *mm);

/* background_is_low - less than the low watermark, or than was asked for */
bool background_is_low(const struct mm *mm);

/* background_tick - look at the watermarks; reclaim a little */
void background_tick(struct mm *mm);

/* background_wants_tick - is there something to be reclaimed soon? */
bool background_wants_tick(const struct mm *mm);

#endif
