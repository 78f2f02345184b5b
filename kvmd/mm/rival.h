/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_RIVAL_H
#define KVMD_MM_RIVAL_H
/*
 * rival.h - would least recent use have done better?
 *
 * A cache of as many pages that evicts the least recently used one holds the
 * pages used most recently, so whether it would have hit follows from a
 * page's last use alone: no second cache is simulated. Pages in the tree and
 * those remembered are counted in bins by their last use; the bins in which
 * the most recent ones lie are LRU's cache.
 */
#include "include/kv/types.h"

#define RIVAL_BINS 128u

/* Pages last used at [begin, begin of the next younger one). */
struct rival_bin {
	u64 begin;
	u32 nr;
	u32 reserved;
};

struct rival {
	struct rival_bin bin[RIVAL_BINS]; /* youngest first */
	u32 nr_bins;
	u32 cut; /* bins before this one are in LRU's cache */
	double share; /* of bin[cut] that is in it */
	double lead; /* hits more than LRU, the older the less */
	u64 since; /* clock when lead was last made to fade */
	u32 room; /* pages there are when full; 0: not yet full */
	bool behind;
};

void rival_init(struct rival *r);

/* rival_request - a request begins */
void rival_request(struct rival *r);
/* rival_born - a page is used at @clock */
void rival_born(struct rival *r, u64 clock);
/* rival_used - a page last used at @stamp is used again; @hit: by us */
void rival_used(struct rival *r, u64 stamp, bool hit);
/* rival_forget - a page last used at @stamp will not be seen again */
void rival_forget(struct rival *r, u64 stamp);
/* rival_evicted - a page was evicted; @room are left */
void rival_evicted(struct rival *r, u32 room);
/* rival_look - fade what is old. Return: is LRU better of late? */
bool rival_look(struct rival *r, u64 clock);

#endif
