/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_STATS_H
#define KVMD_MM_STATS_H
/*
 * stats.h - the accounts that clients read in their tables
 */
#include "kvmd/mm/state.h"

/* stats_flush - publish to every live client if something changed, at most
 * every STATS_PERIOD_NS */
void stats_flush(struct mm *mm);

#endif
