/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_SWAP_H
#define KVMD_MM_SWAP_H
/*
 * swap.h - pages that leave the device and come back
 */
#include "kvmd/mm/resv.h"

/* An entry whose page could not be kept: it has to be computed again. */
#define PTE_LOST (KV_PTE_SWAPPED | KV_PTE_TIER_LOST << KV_PTE_TIER_SHIFT)

static inline bool pte_is_lost(kv_pte_t pte)
{
	return (pte & (KV_PTE_SWAPPED | KV_PTE_PRESENT)) == KV_PTE_SWAPPED &&
	       (pte & KV_PTE_TIER) >> KV_PTE_TIER_SHIFT == KV_PTE_TIER_LOST;
}

/* The slot that an entry names, if it is one of its client and class. */
static inline u32 pte_slot(const struct mm *mm, const struct client *c,
			   const struct space_area *a, kv_pte_t pte)
{
	const struct slot *s = &mm_slots(mm)[kv_pte_frame(pte)];

	if ((pte & (KV_PTE_SWAPPED | KV_PTE_PRESENT)) != KV_PTE_SWAPPED ||
	    pte_is_lost(pte) || kv_pte_frame(pte) >= mm->lay.nr_slots ||
	    s->state < SLOT_HELD || s->client != client_index(mm, c) ||
	    s->geom != a->geom)
		return MM_NONE;
	return kv_pte_frame(pte);
}

/* The tier that a slot lies in. */
static inline u32 slot_tier(const struct mm *mm, u32 slot)
{
	u32 t = 0;

	while (slot >= mm->tier[t].end)
		t++;
	return t;
}

/* Frames of a slab that begins in this chunk: those that were ever used. */
static inline u32 extent_chunk_frames(const struct mm *mm, u32 chunk)
{
	const struct chunk *k = &mm_chunks(mm)[chunk];

	return k->state == CHUNK_HEAD ? k->nr_fresh : 0;
}

/* Visit the frames in use of an extent. */
#define for_each_frame(frame, n, k, mm, e)                                     \
	for ((k) = 0; (k) < KV_EXTENT_CHUNKS; (k)++)                           \
		for ((n) = 0; (frame) = ((e)*KV_EXTENT_CHUNKS + (k)) *         \
						FRAMES_PER_CHUNK +             \
					(n),                                   \
		    (n) < extent_chunk_frames(mm, (e)*KV_EXTENT_CHUNKS + (k)); \
		     (n)++)                                                    \
			if (mm_frames(mm)[frame].state != FRAME_FREE)

/* swap_init - cut the slot space into tiers */
void swap_init(struct mm *mm);

/* slot_units - units of SLOT_UNIT that a page of a class takes */
u32 slot_units(const struct client *c, u32 geom);

/**
 * slot_alloc - a place for a page
 * @mm: core
 * @c: client
 * @geom: class of the page
 * @first_tier: or a later one
 * @state: SLOT_WRITING, or SLOT_FILLING: of a page that has a slot
 *
 * Return: the slot, or MM_NONE: there is no room, or it may not have it.
 */
u32 slot_alloc(struct mm *mm, struct client *c, u32 geom, u32 first_tier,
	       u8 state);
/* slot_free - nobody names it, and nothing of it is on its way */
void slot_free(struct mm *mm, struct client *c, u32 slot);
/* slot_release - nobody names it: free, as soon as it has been demoted */
void slot_release(struct mm *mm, struct client *c, u32 slot);

/* swap_share_look - count anew who wants the bandwidth */
void swap_share_look(struct mm *mm);
/* swap_share - pages of a tenant's account that may be on their way */
u32 swap_share(const struct mm *mm, u32 tenant);
/* swap_has_turn - may another one be? */
bool swap_has_turn(const struct mm *mm, u32 tenant);
/* swap_io_begun - the page of @s is on its way, on @payer's account; as long
 * as it is, @s keeps its state */
void swap_io_begun(struct mm *mm, struct client *c, struct slot *s, u32 payer);
void swap_io_ended(struct mm *mm, struct client *c, const struct slot *s);

/* swap_set_slot - every entry that names @from names @to */
void swap_set_slot(struct mm *mm, struct client *c, u32 from, u32 to);

/* slot_get - one more entry names it; @slot came from pte_slot() */
void slot_get(struct mm *mm, u32 slot);

/* slot_put - an entry that named it is gone; the last one frees it */
void slot_put(struct mm *mm, struct client *c, u32 slot);

/**
 * swap_plan_area - what pages that are not present add to a plan
 * @mm: core
 * @c: client
 * @a: area with nr_out
 * @it: what the step does there
 * @p: nr_swapped, nr_moving, need[], lost
 *
 * A page of which the step writes every row is not read, it takes a frame.
 *
 * Return: false if one that it reads is lost; p->lost says which.
 */
bool swap_plan_area(const struct mm *mm, const struct client *c,
		    const struct space_area *a, const struct kv_resv_item *it,
		    struct resv_plan *p);

/**
 * swap_bring - begin to read the pages that a plan misses
 * @mm: core
 * @c: client
 * @p: plan for whose need[] there is room; nr_read is set
 *
 * Pages of it that are being written stay where they are, unless a ticket
 * before it waits for their memory.
 */
void swap_bring(struct mm *mm, struct client *c, struct resv_plan *p);

/**
 * swap_space_leave - begin to write pages of an idle space
 * @mm: core
 * @c: client
 * @sp: its space
 * @need: only of classes of which more frames than this are not free
 * @most: bytes
 *
 * The last pages first: what is shared lies at the beginning. Pages stay that
 * are shared with a space that is busy, or marked with mm->keep_seq.
 *
 * Return: bytes on their way.
 */
u64 swap_space_leave(struct mm *mm, struct client *c, struct space *sp,
		     const u32 need[KV_GEOM_MAX], u64 most);

/**
 * swap_extent_can_leave - could all pages of an extent leave now?
 * @mm: core
 * @c: whose it is
 * @e: extent
 * @age: when one of them was last used
 */
bool swap_extent_can_leave(const struct mm *mm, const struct client *c, u32 e,
			   u64 *age);

/* swap_extent_leave - begin to write them; bytes on their way */
u64 swap_extent_leave(struct mm *mm, struct client *c, u32 e);

/* swap_client_exit - nothing of its swapped pages is needed any more */
void swap_client_exit(struct mm *mm, struct client *c);

#endif
