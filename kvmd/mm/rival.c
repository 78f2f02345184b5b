/* SPDX-License-Identifier: MIT */
/*
 * rival.c - would least recent use have done better?
 *
 * A new bin begins when the youngest holds 1/64 of the pages that LRU's
 * cache holds, so that an error at its border is small; a page in the bin in
 * which the border lies counts in part. The border is found when a request
 * begins and stays until the next one: what a request brings evicts nothing
 * of its own path before it is done. Bins run empty as their pages are
 * used again. When there are too many, those behind the border become one,
 * or else the two neighbours that hold least.
 *
 * The lead is a sum of hits more than LRU's, halved about every 22 uses per
 * page. We are behind when it falls below what losing 0.15 points all the
 * time would come to, and no more when half of that is left. While behind,
 * LRU's order is followed, the lead fades, and we try again: who loses
 * steadily follows LRU most of the time, and is never far below it.
 */
#include <string.h>

#include "kvmd/mm/rival.h"

#define BINS_OF_ROOM 64u
#define MEMORY	     32.0 /* uses per page */
#define BEHIND	     0.0015 /* hits per use */

void rival_init(struct rival *r)
{
	memset(r, 0, sizeof(*r));
	r->nr_bins = 1;
}

static u32 bin_of(const struct rival *r, u64 stamp)
{
	u32 low = 0, high = r->nr_bins - 1, mid;

	while (low < high) {
		mid = (low + high) / 2;
		if (stamp >= r->bin[mid].begin)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

void rival_request(struct rival *r)
{
	u32 k, left = r->room;

	for (k = 0; k < r->nr_bins && r->bin[k].nr <= left; k++)
		left -= r->bin[k].nr;
	r->cut = k;
	r->share = k < r->nr_bins ? (double)left / r->bin[k].nr : 0;
}

/* Bins [k, k + nr] become one. */
static void bins_join(struct rival *r, u32 k, u32 nr)
{
	u32 i;

	for (i = k; i < k + nr; i++)
		r->bin[k + nr].nr += r->bin[i].nr;
	r->nr_bins -= nr;
	memmove(&r->bin[k], &r->bin[k + nr],
		(r->nr_bins - k) * sizeof(r->bin[0]));
}

static void make_room(struct rival *r)
{
	u32 k, best = 1;

	if (r->cut + 2 < r->nr_bins) {
		bins_join(r, r->cut + 1, r->nr_bins - r->cut - 2);
		return;
	}
	for (k = 2; k + 1 < r->nr_bins; k++)
		if (r->bin[k].nr + r->bin[k + 1].nr <
		    r->bin[best].nr + r->bin[best + 1].nr)
			best = k;
	bins_join(r, best, 1);
	rival_request(r);
}

void rival_born(struct rival *r, u64 clock)
{
	if (r->bin[0].nr > r->room / BINS_OF_ROOM) {
		if (r->nr_bins == RIVAL_BINS)
			make_room(r);
		memmove(&r->bin[1], &r->bin[0], r->nr_bins * sizeof(r->bin[0]));
		r->bin[0] = (struct rival_bin){ .begin = clock };
		r->nr_bins++;
		r->cut++;
	}
	r->bin[0].nr++;
}

void rival_forget(struct rival *r, u64 stamp)
{
	r->bin[bin_of(r, stamp)].nr--;
}

void rival_used(struct rival *r, u64 stamp, bool hit)
{
	u32 k = bin_of(r, stamp);

	r->bin[k].nr--;
	if (r->room)
		r->lead += hit - (k < r->cut ? 1 : k == r->cut ? r->share : 0);
}

void rival_evicted(struct rival *r, u32 room)
{
	r->room = room;
}

bool rival_look(struct rival *r, u64 clock)
{
	double memory = MEMORY * r->room;

	if (!r->room)
		return false;
	r->lead -= r->lead * min(1.0, (double)(clock - r->since) / memory);
	r->since = clock;
	r->behind = r->lead < -BEHIND * memory * (r->behind ? 0.5 : 1);
	return r->behind;
}
