/* SPDX-License-Identifier: MIT */
/*
 * slot.c - where pages lie in swap tiers
 *
 * The slot space is the tiers one after the other, in units of SLOT_UNIT. A
 * page takes a run of them, found from where the last one was, the fastest
 * tier first: pages that leave together lie side by side.
 *
 * What a page takes of its tier is counted in bytes: its size, until the host
 * says that it has made it smaller (mm_swap_stored()). So nothing is asked for
 * that a tier may prove to have no room for. In the same bytes a tenant has a
 * maximum for each tier: one where it may have no more is passed over, as if it
 * were full. A maximum for all tiers together counts pages by their size. A
 * page on its way from tier to tier counts in both of them, and once in all.
 *
 * A tier's slots are on a list by when they came: what left the device first
 * was used longest ago then, and nothing is used while it is out.
 */
#include "kvmd/mm/demote.h"
#include "kvmd/mm/swap.h"
#include "lib/hash.h"

void swap_init(struct mm *mm)
{
	u32 t, at = 0;

	for (t = 0; t < MM_TIER_MAX; t++) {
		struct swap_tier *x = &mm->tier[t];

		x->first = x->next = at;
		at += (u32)(mm->cfg.swap_bytes[t] / SLOT_UNIT);
		x->end = at;
		x->room = mm->cfg.swap_store[t] ? mm->cfg.swap_store[t]
						: mm->cfg.swap_bytes[t];
		ilist_init(&x->slots);
	}
	mm->payer = MM_NONE;
}

u32 slot_units(const struct client *c, u32 geom)
{
	return c->cls[geom].geom.page_bytes / SLOT_UNIT;
}

/* A run of free units in a tier, or MM_NONE. */
static u32 tier_find(struct mm *mm, struct swap_tier *t, u32 units)
{
	u32 at = bitmap_find_zeros(mm_slot_map(mm), t->end, t->next, units);

	if (at == t->end)
		at = bitmap_find_zeros(mm_slot_map(mm), t->end, t->first,
				       units);
	return at == t->end ? MM_NONE : at;
}

/* May a tenant have so much more in a tier, and is there so much? */
static bool tier_has_room(const struct mm *mm, const struct tenant *tenant,
			  u32 tier, u32 units)
{
	const struct swap_tier *t = &mm->tier[tier];
	u64 bytes = (u64)units * SLOT_UNIT;

	return units <= t->end - t->first - t->nr_used && bytes <= t->room &&
	       t->stored <= t->room - bytes &&
	       bytes <= tenant->tier_max[tier] &&
	       tenant->tier_used[tier] <= tenant->tier_max[tier] - bytes;
}

static void take_units(struct mm *mm, struct swap_tier *t, u32 at, u32 units)
{
	u32 u;

	for (u = at; u < at + units; u++) {
		bitmap_set(mm_slot_map(mm), u);
		t->nr_stale -= bitmap_test(mm_stale_map(mm), u);
		bitmap_set(mm_stale_map(mm), u);
	}
	t->next = at + units;
	t->nr_used += units;
}

u32 slot_alloc(struct mm *mm, struct client *c, u32 geom, u32 first_tier,
	       u8 state)
{
	struct tenant *tenant = &mm->tenants[c->tenant];
	u32 units = slot_units(c, geom), t, at = MM_NONE;
	u64 bytes = (u64)units * SLOT_UNIT;

	if (state != SLOT_FILLING &&
	    (bytes > tenant->swap_max ||
	     tenant->swapped > tenant->swap_max - bytes))
		return MM_NONE;
	for (t = first_tier; t < MM_TIER_MAX && at == MM_NONE; t++)
		if (tier_has_room(mm, tenant, t, units))
			at = tier_find(mm, &mm->tier[t], units);
	if (at == MM_NONE)
		return MM_NONE;
	t--;
	take_units(mm, &mm->tier[t], at, units);
	mm->tier[t].stored += bytes;
	mm->tier[t].pages += bytes;
	tenant->tier_used[t] += bytes;
	tenant->swapped += state != SLOT_FILLING ? bytes : 0;
	mm_order();
	mm_slots(mm)[at] = (struct slot){
		.state = state,
		.geom = (u8)geom,
		.client = client_index(mm, c),
		.other = MM_NONE,
		.stored = (u32)bytes,
	};
	ilist_add_tail(&c->slots, ILINKS(mm_slots(mm), link), at);
	ilist_add_tail(&mm->tier[t].slots, ILINKS(mm_slots(mm), age), at);
	return at;
}

void slot_free(struct mm *mm, struct client *c, u32 slot)
{
	struct slot *s = &mm_slots(mm)[slot];
	struct tenant *tenant = &mm->tenants[c->tenant];
	u32 units = slot_units(c, s->geom), tier = slot_tier(mm, slot), u;
	struct swap_tier *t = &mm->tier[tier];
	bool counts = s->state != SLOT_FILLING;

	s->state = SLOT_FREE;
	mm_order();
	for (u = 0; u < units; u++)
		bitmap_clear(mm_slot_map(mm), slot + u);
	t->nr_used -= units;
	t->nr_stale += units;
	t->stored -= s->stored;
	t->pages -= (u64)units * SLOT_UNIT;
	tenant->tier_used[tier] -= s->stored;
	tenant->swapped -= counts ? (u64)units * SLOT_UNIT : 0;
	ilist_del(&c->slots, ILINKS(mm_slots(mm), link), slot);
	ilist_del(&t->slots, ILINKS(mm_slots(mm), age), slot);
	mm->demote_look = true; /* there is room for another one */
	if (mm->ops->swap_forget)
		mm->ops->swap_forget(mm->host, tier,
				     (u64)(slot - t->first) * SLOT_UNIT);
}

void mm_swap_stored(struct mm *mm, u32 slot, u32 bytes)
{
	struct slot *s = &mm_slots(mm)[slot];
	struct tenant *tenant;
	u32 tier, less;

	if (slot >= mm->lay.nr_slots ||
	    (s->state != SLOT_WRITING && s->state != SLOT_FILLING) ||
	    bytes > s->stored) {
		mm->counts.invalid++;
		return;
	}
	less = s->stored - bytes;
	tier = slot_tier(mm, slot);
	tenant = &mm->tenants[mm_clients(mm)[s->client].tenant];
	s->stored = bytes;
	mm->tier[tier].stored -= less;
	tenant->tier_used[tier] -= less;
}

void slot_get(struct mm *mm, u32 slot)
{
	mm_slots(mm)[slot].refs++;
}

void slot_release(struct mm *mm, struct client *c, u32 slot)
{
	struct slot *s = &mm_slots(mm)[slot];

	if (s->other == MM_NONE) {
		slot_free(mm, c, slot);
		return;
	}
	s->state = SLOT_HELD;
	s->refs = 0;
}

void slot_put(struct mm *mm, struct client *c, u32 slot)
{
	struct slot *s = &mm_slots(mm)[slot];

	if (s->refs && !--s->refs && s->state == SLOT_HELD)
		slot_release(mm, c, slot);
}

/* ---- the bandwidth ---- */

void swap_share_look(struct mm *mm)
{
	const struct tenant *t;

	mm->io_weights = 0;
	for (t = mm->tenants; t < mm->tenants + mm->tenant_top; t++)
		if (t->nr_tickets || t->nr_swap_io)
			mm->io_weights += max(t->limits.weight, 1u);
}

u32 swap_share(const struct mm *mm, u32 tenant)
{
	u64 weight = max(mm->tenants[tenant].limits.weight, 1u);
	u64 share = SWAP_IO_MAX * weight / max(mm->io_weights, weight);

	return max((u32)share, SWAP_IO_LEAST);
}

bool swap_has_turn(const struct mm *mm, u32 tenant)
{
	return mm->nr_io < SWAP_IO_MAX &&
	       mm->tenants[tenant].nr_swap_io < swap_share(mm, tenant);
}

void swap_io_begun(struct mm *mm, struct client *c, struct slot *s, u32 payer)
{
	s->payer = (u8)payer;
	mm->tenants[payer].nr_swap_io++;
	mm->nr_io++;
	c->nr_io++;
	if (s->state != SLOT_WRITING)
		return;
	mm->out_bytes += c->cls[s->geom].geom.page_bytes;
	mm->tenants[c->tenant].out_bytes += c->cls[s->geom].geom.page_bytes;
}

void swap_io_ended(struct mm *mm, struct client *c, const struct slot *s)
{
	mm->tenants[s->payer].nr_swap_io--;
	mm->nr_io--;
	c->nr_io--;
	if (s->state != SLOT_WRITING)
		return;
	mm->out_bytes -= c->cls[s->geom].geom.page_bytes;
	mm->tenants[c->tenant].out_bytes -= c->cls[s->geom].geom.page_bytes;
}
