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
 * as kswapd does, and in the order of cost: weights that nobody has open, then
 * published prefixes that nobody maps, then extents of which nothing was used
 * for COLD_NS, to swap. Tenants keep what their low protects.
 *
 * A reservation that finds no memory reclaims for itself (reclaim.c): direct
 * reclaim. The background's share is that most need not.
 *
 * Where there is nothing to take it is not looked for again for REST_NS.
 *
 * An administrator may ask for more to be free (mm_reclaim): a goal, until it
 * is reached or nothing has come free for GOAL_NS. For its sake everything idle
 * is cold.
 */
#include "kvmd/mm/background.h"

#include <errno.h>

#include "kvmd/mm/extent.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/reclaim.h"
#include "kvmd/mm/spare.h"

#define TURN_NS 2000000ull
#define REST_NS 100000000ull
#define COLD_NS 1000000000ull
#define GOAL_NS 1000000000ull

u64 background_free(const struct mm *mm)
{
	u64 extents = mm->by_state[EXTENT_READY].nr + extent_nr_coming(mm) +
		      extent_nr_possible(mm);

	return extents * KV_EXTENT_SIZE;
}

bool background_is_low(const struct mm *mm)
{
	return background_free(mm) < max(mm->cfg.watermark_low, mm->goal);
}

bool background_wants_tick(const struct mm *mm)
{
	return mm->background || background_is_low(mm);
}

/* Return: was something taken, or is on its way? */
static bool reclaim_a_little(struct mm *mm, u64 free)
{
	u64 high = mm->background ? mm->cfg.watermark_high : 0;
	u64 want = max(mm->goal, high);

	if (spare_go(mm, MM_NONE, BLOCK_DEVICE, false, want - min(want, free)))
		return true;
	if (cache_reclaim(mm, NULL, false, 1))
		return true;
	if (mm->goal)
		return reclaim_cold(mm, mm->now_ns) > 0;
	if (mm->now_ns < COLD_NS)
		return false;
	return reclaim_cold(mm, mm->now_ns - COLD_NS) > 0;
}

/* Is it reached, or out of reach? */
static void goal_tick(struct mm *mm, u64 free)
{
	if (!mm->goal)
		return;
	if (free > mm->goal_seen) {
		mm->goal_seen = free;
		mm->goal_until_ns = mm->now_ns + GOAL_NS;
	}
	if (free >= mm->goal || mm->now_ns >= mm->goal_until_ns)
		mm->goal = 0;
}

u64 mm_reclaim(struct mm *mm, u64 bytes)
{
	u64 free = background_free(mm);

	bytes = min(bytes, mm->cfg.device_bytes - free);
	mm->goal = free + bytes;
	mm->goal_seen = free;
	mm->goal_until_ns = mm->now_ns + GOAL_NS;
	mm->background_ns = 0;
	return mm->goal;
}

int mm_watermarks(struct mm *mm, u64 least, u64 low, u64 high)
{
	if (least > low || low > high || high > mm->cfg.device_bytes)
		return -EINVAL;
	mm->cfg.watermark_min = least;
	mm->cfg.watermark_low = low;
	mm->cfg.watermark_high = high;
	return 0;
}

void background_tick(struct mm *mm)
{
	u64 free = background_free(mm);

	goal_tick(mm, free);
	if (free < mm->cfg.watermark_low)
		mm->background = true;
	if (free >= mm->cfg.watermark_high)
		mm->background = false;
	if (!(mm->background || mm->goal) || mm->now_ns < mm->background_ns)
		return;
	if (reclaim_a_little(mm, free)) {
		mm->counts.reclaims_background++;
		mm->background_ns = mm->now_ns + TURN_NS;
	} else {
		mm->background_ns = mm->now_ns + REST_NS;
	}
}
