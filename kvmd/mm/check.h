/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_CHECK_H
#define KVMD_MM_CHECK_H
/*
 * check.h - the parts of the fsck of the books
 */
#include "kvmd/mm/state.h"

struct check {
	const struct mm *mm;
	void (*report)(void *ctx, const char *sentence);
	void *ctx;
	unsigned int faults;
	u32 units[MM_TENANT_MAX]; /* of slots, a page once */
	u16 nr_io[MM_TENANT_MAX]; /* slots on their way, by payer */
	u32 out_units[MM_TENANT_MAX]; /* of pages being written, by owner */
	u32 nr_slots, nr_filling;
};

/* check_fault - one sentence about what is wrong */
void __printf(2, 3) check_fault(struct check *k, const char *fmt, ...);
/* check_expect - @what of @who: what the books say is what was found */
void check_expect(struct check *k, const char *what, u32 who, u64 books,
		  u64 found);

/* check_slots_clear - no entry was met yet that names a slot of @c */
void check_slots_clear(const struct mm *mm, const struct client *c);
/* check_slots - a client's slots; @nr_io: its other pages on their way */
void check_slots(struct check *k, const struct client *c, u32 nr_io);
/* check_swap - tiers and what tenants have there; @nr_io: slots on their way,
 * by the clients' books */
void check_swap(struct check *k, u32 nr_io);

#endif
