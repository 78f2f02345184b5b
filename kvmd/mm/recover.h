/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_RECOVER_H
#define KVMD_MM_RECOVER_H
/*
 * recover.h - the parts of mm_recover(), in their order
 */
#include "kvmd/mm/space.h"

/* recover_extents - whose each one is, and which slabs are in it */
void recover_extents(struct mm *mm);

/* recover_op - finish or take back what a live client's kvmd had begun */
void recover_op(struct mm *mm, struct client *c);

/* recover_count_begin - no entry was met yet, no node, no slot */
void recover_count_begin(struct mm *mm);

/* recover_spaces - ranges, leaves and entries of a live client, counted */
void recover_spaces(struct mm *mm, struct client *c, u32 tiers_lost);

/* recover_prefixes - nodes, trees, holds and grants */
void recover_prefixes(struct mm *mm);

/* recover_frames - states, lists and slabs from what was counted */
void recover_frames(struct mm *mm);

/* recover_entries - who may write where, and descriptors, for all to see */
void recover_entries(struct mm *mm, struct client *c);

/* recover_slots - those that an entry names */
void recover_slots(struct mm *mm);

/* recover_nodes_end - what was being evicted goes, once all is in order */
void recover_nodes_end(struct mm *mm);

/* client_pin - no step that was launched so far is above it */
u64 client_pin(const struct mm *mm, const struct client *c);

/* slot_of - a slot that an entry of @c may name, or NULL */
struct slot *slot_of(const struct mm *mm, const struct client *c,
		     const struct space *sp, u32 area, u32 page, kv_pte_t pte);

#endif
