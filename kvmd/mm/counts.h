/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_COUNTS_H
#define KVMD_MM_COUNTS_H
/*
 * counts.h - what the core counts: kvctl vmstat shows each one by its name
 */
#include "include/kv/types.h"

/* clang-format off */
#define MM_COUNTERS(X) \
	X(faults_fresh) X(faults_cow) X(reserves) X(reserves_short) \
	X(reserves_waited) X(pages_alloc) X(pages_free) X(forks) \
	X(truncates) X(moves) X(moves_busy) X(copies_tokens) \
	X(window_freed) X(extents_granted) X(extents_returned) \
	X(tickets_granted) X(tickets_cancelled) X(tickets_deadlocked) X(limit_hits) \
	X(invalid) X(events_dropped) X(swap_out) X(swap_out_bytes) \
	X(swap_in) X(swap_in_bytes) X(swap_back) X(swap_errors) \
	X(swap_lost) X(reclaims) X(reclaims_background) X(prefix_asked_tokens) \
	X(prefix_hit_tokens) X(prefix_maps) X(prefix_hits) \
	X(prefix_published) X(prefix_evicted) X(prefix_errors) \
	X(faults_prefix) X(revokes) X(revokes_given) \
	X(revokes_taken) X(revokes_off) X(revokes_killed) X(revoke_lost) \
	X(revoke_ns) X(revoke_max_ns) X(compact_moved) X(compact_back) \
	X(compact_bytes) X(compact_errors) X(compact_freed_chunks) \
	X(compact_freed_extents) X(demoted) X(demoted_bytes) \
	X(demote_back) X(demote_errors)
/* clang-format on */

#define MM_COUNTER(name) u64 name;
struct mm_counts {
	MM_COUNTERS(MM_COUNTER)
};
#undef MM_COUNTER

#endif
