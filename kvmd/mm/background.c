/* SPDX-License-Identifier: MIT */
/*
 * background.c - memory made free before somebody waits for it
 *
 *	free memory	above high	nothing
 *			below low	reclaim begins, a little each tick
 *			above high	and ends
 *			below min	what is left is for steps: published
 *					prefixes take no more of it (cache.c)
 *
 * as kswapd does, and in the order of cost: published prefixes that nobody
 * maps, then extents of which nothing was used for COLD_NS, to swap. Tenants
 * keep what their low protects. Weights that nobody has open are the host's to
 * drop (mm_is_low).
 *
 * A reservation that finds no memory reclaims for itself (reclaim.c): direct
 * reclaim. The background's share is that most need not.
 *
 * Where there is nothing to take it is not looked for again for REST_NS.
 */
#include "kvmd/mm/background.h"

#include "kvmd/mm/extent.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/reclaim.h"

#define TURN_NS 2000000ull
#define REST_NS 100000000ull
#define COLD_NS 1000000000ull

u64 background_free(const struct mm *mm)
{
	u64 extents = mm->by_state[EXTENT_READY].nr + extent_nr_coming(mm) +
		      extent_nr_possible(mm);

	return extents * KV_EXTENT_SIZE;
}

bool mm_is_low(const struct mm *mm)
{
	return background_free(mm) < mm->cfg.watermark_low;
}

bool background_wants_tick(const struct mm *mm)
{
	return mm->background || mm_is_low(mm);
}

/* Return: was something taken, or is on its way? */
static bool reclaim_a_little(struct mm *mm)
{
	u32 got = cache_reclaim(mm, NULL, false, 1);

	if (got)
		return true;
	if (mm->now_ns < COLD_NS)
		return false;
	return reclaim_cold(mm, mm->now_ns - COLD_NS) > 0;
}

void background_tick(struct mm *mm)
{
	u64 free = background_free(mm);

	if (free < mm->cfg.watermark_low)
		mm->background = true;
	if (free >= mm->cfg.watermark_high)
		mm->background = false;
	if (!mm->background || mm->now_ns < mm->background_ns)
		return;
	if (reclaim_a_little(mm)) {
		mm->counts.reclaims_background++;
		mm->background_ns = mm->now_ns + TURN_NS;
	} else {
		mm->background_ns = mm->now_ns + REST_NS;
	}
}
