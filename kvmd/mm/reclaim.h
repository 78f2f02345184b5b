/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_RECLAIM_H
#define KVMD_MM_RECLAIM_H
/*
 * reclaim.h - whose pages leave the device for a reservation that is short
 */
#include "kvmd/mm/resv.h"

/**
 * reclaim - make pages leave for a reservation
 * @mm: core
 * @c: its client
 * @p: its plan; the spaces it names and those of tickets before it stay
 * @block: BLOCK_TENANT: only its tenant's pages help; BLOCK_DEVICE
 * @bytes: wanted
 *
 * Return: true if some are on their way, so that waiting helps.
 */
bool reclaim(struct mm *mm, struct client *c, const struct resv_plan *p,
	     enum ticket_block block, u64 bytes);

/**
 * reclaim_cold - an extent that nobody has used for long begins to leave
 * @mm: core
 * @before_ns: only if it was last used before then
 *
 * Return: 0: there is none, or no room for it.
 */
u64 reclaim_cold(struct mm *mm, u64 before_ns);

#endif
