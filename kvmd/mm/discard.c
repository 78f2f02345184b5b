/* SPDX-License-Identifier: MIT */
/*
 * discard.c - room in swap tiers that holds nothing, to be given back
 *
 *	unit	free -> written (a slot's) -> stale -> discarding -> free
 *			    ^________________|
 *
 * A disk that is told which blocks hold nothing has less to carry around, and
 * a file gives its blocks back; but each call costs it time, so the host asks
 * for long runs, now and then. A unit is stale when its slot is freed, and
 * until it is another one's or was discarded. While that is on its way the
 * unit is nobody's: it counts as used, so no slot is put there, and a discard
 * never meets a page, however late it comes.
 */
#include "kvmd/mm/state.h"
#include "lib/bitmap.h"

/* End of the run of stale free units that begins at @at. */
static u32 run_end(const struct mm *mm, u32 at, u32 end)
{
	end = bitmap_find_zero(mm_stale_map(mm), end, at);
	return bitmap_find_set(mm_slot_map(mm), end, at);
}

static u32 take(struct mm *mm, struct swap_tier *t, u32 at, u32 end)
{
	u32 u;

	for (u = at; u < end; u++) {
		bitmap_set(mm_slot_map(mm), u);
		bitmap_clear(mm_stale_map(mm), u);
	}
	t->nr_used += end - at;
	t->nr_discarding += end - at;
	t->nr_stale -= end - at;
	return end - at;
}

u64 mm_discard_begin(struct mm *mm, u32 tier, u64 least, u64 most, u64 *off)
{
	struct swap_tier *t = &mm->tier[tier];
	u32 units = (u32)min(most / SLOT_UNIT, (u64)(t->end - t->first));
	u32 at = t->first, end;

	if (t->nr_stale < least / SLOT_UNIT)
		return 0;
	for (;;) {
		at = bitmap_find_set(mm_stale_map(mm), t->end, at);
		if (at == t->end)
			return 0;
		end = run_end(mm, at, t->end);
		if (end > at && end - at >= least / SLOT_UNIT)
			break;
		at = max(end, at + 1);
	}
	*off = (u64)(at - t->first) * SLOT_UNIT;
	return (u64)take(mm, t, at, min(end, at + units)) * SLOT_UNIT;
}

void mm_discard_done(struct mm *mm, u32 tier, u64 off, u64 bytes)
{
	struct swap_tier *t = &mm->tier[tier];
	u32 at = t->first + (u32)(off / SLOT_UNIT), u;
	u32 units = (u32)(bytes / SLOT_UNIT);

	for (u = 0; u < units; u++)
		bitmap_clear(mm_slot_map(mm), at + u);
	t->nr_used -= units;
	t->nr_discarding -= units;
	mm->dirty = true; /* who found no room looks again */
}

u64 mm_discard_stale(const struct mm *mm, u32 tier)
{
	return (u64)mm->tier[tier].nr_stale * SLOT_UNIT;
}
