/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_SPARE_H
#define KVMD_MM_SPARE_H
/*
 * spare.h - what the host can let go of at no cost: weights that nobody has
 * open
 *
 * The first to go when memory is wanted, before anything that somebody would
 * have to read or compute again. The host drops them when the core has
 * returned; who wants them waits a moment, as for memory that is being
 * populated.
 *
 * On a full device those of other tenants count as well, of who is the most
 * above its share first, as far as these stay above their low, and above their
 * min if nothing else can leave.
 */
#include "kvmd/mm/state.h"

/**
 * spare_go - have the host let go of some
 * @mm: core
 * @tenant: who wants it, or MM_NONE: nobody in particular
 * @block: BLOCK_TENANT: only its own; BLOCK_DEVICE
 * @below_low: others' that protects them, too, down to their min
 * @bytes: wanted
 *
 * Return: bytes that go.
 */
u64 spare_go(struct mm *mm, u32 tenant, enum ticket_block block, bool below_low,
	     u64 bytes);

/* spare_bytes - what could go so at most, nothing else being left */
u64 spare_bytes(const struct mm *mm, u32 tenant, enum ticket_block block);

#endif
