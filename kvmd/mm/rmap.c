/* SPDX-License-Identifier: MIT */
/*
 * rmap.c - all entries that map a frame, on their way out and back
 *
 * K1, K2 and K5 of the step protocol (move.c) for one frame. Between the two
 * its entries are moving and counted as out, and the caller's are K3 and K4:
 * one barrier for a whole batch.
 */
#include "kvmd/mm/rmap.h"

void rmap_begin(struct mm *mm, struct client *c, u32 frame)
{
	u32 area = mm_frames(mm)[frame].area, i;
	struct space *sps = mm_spaces(mm, c);
	kv_pte_t *p;

	rmap_for_each_pte(i, p, mm, c, frame)
	{
		kv_move_begin(p, *p);
		sps[i].area[area].nr_out++;
		space_bump(mm, c, &sps[i]);
	}
}

void rmap_end(struct mm *mm, struct client *c, u32 frame, u64 pte, bool out)
{
	u32 area = mm_frames(mm)[frame].area, i;
	struct space *sps = mm_spaces(mm, c);
	kv_pte_t *p;

	rmap_for_each_pte(i, p, mm, c, frame)
	{
		kv_move_end(p, pte_make(0, pte, sps[i].gen + 1));
		sps[i].area[area].nr_out -= !out;
		space_bump(mm, c, &sps[i]);
	}
}
