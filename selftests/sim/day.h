/* SPDX-License-Identifier: MIT */
/*
 * day.h - a day of a datacentre: a thousand clients over the core
 *
 * Time is fake and jumps from event to event. Clients come and go as people
 * do, few at night and many at noon; each holds conversations that begin with
 * one of its tenant's system prompts, takes steps, waits for memory, thinks,
 * goes on, leaves, or dies. Memory is populated, scrubbed, swapped and copied
 * some time after it is asked for. Limits move in the evening.
 *
 * After each event the accounts of who acted are compared with the limits;
 * all books are checked every so many events and at the end, when everybody
 * has left and nothing may be held. What pages contain is not modelled here:
 * that is what sim.h is for. The same seed gives the same day: every answer of
 * the core is folded into a hash.
 */
#ifndef SELFTESTS_SIM_DAY_H
#define SELFTESTS_SIM_DAY_H

#include "kvmd/mm/state.h"

struct day_cfg {
	u64 seed;
	u32 nr_clients; /* seats; how many are taken follows the hour */
	u32 hours;
	u32 extents;
	u32 swap_mib;
	u32 think_s; /* mean time between turns of a conversation */
	u32 check_every; /* events */
};

struct day_result {
	u64 hash;
	u64 events, steps, waits, conversations, deaths, kills;
	u64 tokens, mapped, lost;
	u64 max_wait_ns;
	u32 most_clients;
	u32 errors;
	struct mm_counts counts;
};

/* day_run - errors are printed, the first ten */
void day_run(const struct day_cfg *cfg, struct day_result *r);

#endif
