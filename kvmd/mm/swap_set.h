/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_SWAP_SET_H
#define KVMD_MM_SWAP_SET_H
/*
 * swap_set.h - what may be changed of swap while kvmd runs
 */
#include "include/kv/types.h"

struct mm;

/**
 * struct mm_swap_set - part of the core's block: a successor has it, too
 * @demote_low: percent of a tier: with less of it free its coldest pages go to
 *	a later one, in the background
 * @demote_high: until so much is free; 0, 0: they never do
 * @deadline_ms: of a page's I/O; 0: none. The host's, as is
 * @discard: room that holds nothing is given back
 */
struct mm_swap_set {
	u32 demote_low, demote_high;
	u32 deadline_ms;
	bool discard;
};

/* mm_swap_set_is_valid - percentages that rise */
bool mm_swap_set_is_valid(const struct mm_swap_set *set);
/* mm_swap_set - so from now on; -EINVAL: it is not valid */
int __must_check mm_swap_set(struct mm *mm, const struct mm_swap_set *set);
const struct mm_swap_set *mm_swap_get(const struct mm *mm);

#endif
