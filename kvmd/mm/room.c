/* SPDX-License-Identifier: MIT */
/*
 * room.c - room for weights that wait
 *
 * Weights are charged all at once. When pages have the device, and in use all
 * of it always is, they would never be let in: a runtime that was killed could
 * not come back beside one that is under load. So they wait, and meanwhile
 *
 *	nobody gets an extent that he does not have: what comes free is made
 *	bare (extent.c), unless there is more than the weights take;
 *	what is idle leaves, for a swap tier or, if published, for good, as it
 *	would for a reservation above all others (reclaim.c);
 *	if nothing can leave, clients that hold more than the share which the
 *	weights will leave them are asked for the rest (revoke.c).
 *
 * Who goes on meanwhile has the pages he has: an engine gives way within
 * itself, and what it pauses is idle and leaves.
 *
 * Pages leave all the time where clients have more than fits, and what left is
 * used again. So only bytes of the device that nobody holds count as progress;
 * where pages leave and none come, the clients are asked, and in the end the
 * weights are refused.
 *
 * One at a time: room_bytes are for room_client. The host has the request, asks
 * again every few milliseconds, and says when it is over, also when the client
 * has gone. A successor of a killed kvmd begins without one: the host asks
 * again.
 */
#include "kvmd/mm/room.h"

#include "kvmd/mm/extent.h"
#include "kvmd/mm/reclaim.h"
#include "kvmd/mm/revoke.h"

/* Extents that will be bare without anybody being asked. */
static u32 nr_on_their_way(const struct mm *mm)
{
	return extent_nr_coming(mm) + mm->by_state[EXTENT_QUARANTINE].nr;
}

static u32 nr_asked_for(const struct mm *mm)
{
	const struct client *cs = mm_clients(mm);
	u32 i, n = 0;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE)
			n += revoke_outstanding(&cs[i]);
	return n;
}

/* Bytes that are missing when what is on its way has come. */
static u64 bytes_short(const struct mm *mm)
{
	u64 have = extent_device_left(mm) +
		   (u64)nr_on_their_way(mm) * KV_EXTENT_SIZE;

	return mm->room_bytes - min(mm->room_bytes, have);
}

u32 room_extents_short(const struct mm *mm)
{
	u32 n;

	if (!mm->room_bytes)
		return 0;
	if (mm->room_reclaims &&
	    mm->now_ns - mm->room_grew_ns < mm->cfg.revoke_ask_ns)
		return 0;
	n = (u32)DIV_ROUND_UP(bytes_short(mm), (u64)KV_EXTENT_SIZE);
	return n - min(n, nr_asked_for(mm));
}

bool mm_room_wait(struct mm *mm, u32 client, u64 bytes)
{
	struct resv_plan nothing = { .ticket = MM_NONE, .priority = 0xffff };
	struct client *c;
	u64 lacked, left;

	if (mm_client_live(mm, client, &c) ||
	    bytes > mm->cfg.device_bytes - mm->charged) {
		mm_room_end(mm);
		return false;
	}
	if (!mm->room_bytes) {
		mm->room_most = 0;
		mm->room_grew_ns = mm->now_ns;
	}
	mm->room_bytes = bytes;
	mm->room_client = client;
	extent_release_empty(mm, bytes);
	extent_release_cache(mm, bytes);
	left = extent_device_left(mm);
	if (left > mm->room_most) {
		mm->room_most = left;
		mm->room_grew_ns = mm->now_ns;
	}
	lacked = bytes_short(mm);
	mm->room_reclaims = lacked &&
			    reclaim(mm, c, &nothing, BLOCK_DEVICE, lacked);
	mm->revoke_look = true;
	return true;
}

bool mm_room_comes(const struct mm *mm)
{
	return mm->room_bytes && (mm->room_grew_ns == mm->now_ns ||
				  nr_on_their_way(mm) || nr_asked_for(mm));
}

void mm_room_end(struct mm *mm)
{
	if (!mm->room_bytes)
		return;
	mm->room_bytes = 0;
	mm->room_reclaims = false;
	mm->dirty = true;
	mm->revoke_look = true;
}
