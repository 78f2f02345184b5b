/* SPDX-License-Identifier: MIT */
/*
 * check_swap.c - fsck of the books: slots and swap tiers
 *
 * Slots say what they take and whose they are; tiers, lists and tenants' counts
 * have to agree with them.
 */
#include "kvmd/mm/check.h"
#include "kvmd/mm/swap.h"

/* Two slots between which a page is on its way know each other. */
static void check_pair(struct check *k, u32 slot)
{
	const struct slot *s = &mm_slots(k->mm)[slot], *o;
	bool fills = s->state == SLOT_FILLING;

	if (s->other == MM_NONE) {
		if (fills || (s->state == SLOT_HELD && !s->refs))
			check_fault(k,
				    "slot %u: state %u, and belongs to no page",
				    slot, s->state);
		return;
	}
	o = &mm_slots(k->mm)[s->other];
	if (o->other != slot || o->client != s->client || o->geom != s->geom ||
	    fills == (o->state == SLOT_FILLING) || s->state == SLOT_WRITING ||
	    o->state == SLOT_WRITING)
		check_fault(
			k,
			"slot %u: state %u, and %u is its other, in state %u",
			slot, s->state, s->other, o->state);
	if (fills && slot_tier(k->mm, slot) <= slot_tier(k->mm, s->other))
		check_fault(k, "slot %u is in no later tier than slot %u", slot,
			    s->other);
}

static void check_slot(struct check *k, const struct client *c, u32 slot)
{
	const struct mm *mm = k->mm;
	const struct slot *s = &mm_slots(mm)[slot];
	u32 n = slot_units(c, s->geom), ci = client_index(mm, c);

	if (s->client != ci || s->state == SLOT_FREE)
		check_fault(k,
			    "slot %u: client %u state %u, on client %u's list",
			    slot, s->client, s->state, ci);
	if (s->stored > n * SLOT_UNIT)
		check_fault(k, "slot %u: %u bytes of a page are stored", slot,
			    s->stored);
	while (n--)
		if (!bitmap_test(mm_slot_map(mm), slot + n))
			check_fault(k, "slot %u: unit %u is free", slot, n);
	if (s->fresh)
		check_fault(k, "slot %u: K4 never came", slot);
	check_pair(k, slot);
	if (c->state != CLIENT_LIVE)
		return;
	if (s->state != SLOT_WRITING)
		check_expect(k, "references of slot", slot, s->refs, s->seen);
	if ((s->state == SLOT_WRITING || s->state == SLOT_READING) &&
	    (mm_frames(mm)[s->frame].next != slot ||
	     mm_frames(mm)[s->frame].state !=
		     (s->state == SLOT_WRITING ? FRAME_OUT : FRAME_IN)))
		check_fault(k, "slot %u: frame %u is in state %u", slot,
			    s->frame, mm_frames(mm)[s->frame].state);
}

void check_slots(struct check *k, const struct client *c, u32 nr_io)
{
	const struct mm *mm = k->mm;
	u32 slot, ci = client_index(mm, c);

	ilist_for_each (slot, &c->slots, ILINKS(mm_slots(mm), link)) {
		const struct slot *s = &mm_slots(mm)[slot];

		k->nr_slots++;
		k->nr_filling += s->state == SLOT_FILLING;
		if (s->state != SLOT_FILLING)
			k->units[c->tenant] += slot_units(c, s->geom);
		if (s->state != SLOT_HELD) {
			nr_io++;
			k->nr_io[s->payer]++;
		}
		if (s->state == SLOT_WRITING)
			k->out_units[c->tenant] += slot_units(c, s->geom);
		check_slot(k, c, slot);
	}
	check_expect(k, "pages on their way, client", ci, c->nr_io, nr_io);
}

void check_slots_clear(const struct mm *mm, const struct client *c)
{
	u32 slot;

	ilist_for_each (slot, &c->slots, ILINKS(mm_slots(mm), link))
		mm_slots(mm)[slot].seen = 0;
}

static void check_stale(struct check *k, u32 tier)
{
	const struct mm *mm = k->mm;
	const struct swap_tier *t = &mm->tier[tier];
	u32 u, n = 0;

	for (u = t->first; u < t->end; u++) {
		u = bitmap_find_set(mm_stale_map(mm), t->end, u);
		n += u < t->end && !bitmap_test(mm_slot_map(mm), u);
	}
	check_expect(k, "stale units of tier", tier, t->nr_stale, n);
}

static void check_tier(struct check *k, u32 tier)
{
	const struct mm *mm = k->mm;
	const struct swap_tier *t = &mm->tier[tier];
	u64 stored = 0, pages = 0, leaving = 0;
	u32 slot;

	ilist_for_each (slot, &t->slots, ILINKS(mm_slots(mm), age)) {
		const struct slot *s = &mm_slots(mm)[slot];

		if (s->state == SLOT_FREE || slot_tier(mm, slot) != tier)
			check_fault(k,
				    "slot %u: state %u, on the list of tier %u",
				    slot, s->state, tier);
		stored += s->stored;
		pages += slot_units(&mm_clients(mm)[s->client], s->geom);
		if (s->other != MM_NONE && s->state != SLOT_FILLING)
			leaving += s->stored;
	}
	check_expect(k, "bytes stored in tier", tier, t->stored, stored);
	check_expect(k, "bytes of pages in tier", tier, t->pages,
		     pages * SLOT_UNIT);
	check_expect(k, "bytes that leave tier", tier, t->leaving, leaving);
	check_expect(k, "used units of tier", tier, t->nr_used,
		     pages + t->nr_discarding);
	if (stored > t->room)
		check_fault(k, "tier %u has %llu bytes too many", tier,
			    (unsigned long long)(stored - t->room));
	check_stale(k, tier);
}

/* What a tenant's pages take in each tier. */
static void check_tenant_tiers(struct check *k, u32 tenant)
{
	const struct mm *mm = k->mm;
	const struct client *cs = mm_clients(mm);
	u64 used[MM_TIER_MAX] = { 0 };
	u32 i, slot;

	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
		if (cs[i].tenant != tenant || cs[i].state == CLIENT_CACHE)
			continue;
		ilist_for_each (slot, &cs[i].slots, ILINKS(mm_slots(mm), link))
			used[slot_tier(mm, slot)] += mm_slots(mm)[slot].stored;
	}
	for (i = 0; i < MM_TIER_MAX; i++)
		check_expect(k, "bytes in a tier, tenant", tenant,
			     mm->tenants[tenant].tier_used[i], used[i]);
}

void check_swap(struct check *k, u32 nr_io)
{
	const struct mm *mm = k->mm;
	u32 used = 0, listed = 0, i;
	u64 out = 0;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (mm->tenants[i].refs && i >= mm->tenant_top)
			check_fault(k, "tenant %u is beyond the last one", i);
		check_expect(k, "bytes being written, tenant", i,
			     mm->tenants[i].out_bytes,
			     (u64)k->out_units[i] * SLOT_UNIT);
		out += (u64)k->out_units[i] * SLOT_UNIT;
		check_expect(k, "swapped bytes of tenant", i,
			     mm->tenants[i].swapped,
			     (u64)k->units[i] * SLOT_UNIT);
		check_expect(k, "pages on their way, tenant", i,
			     mm->tenants[i].nr_swap_io, k->nr_io[i]);
		check_tenant_tiers(k, i);
	}
	for (i = 0; i < MM_TIER_MAX; i++) {
		used += mm->tier[i].nr_used;
		listed += mm->tier[i].slots.nr;
		check_tier(k, i);
	}
	check_expect(k, "slots on lists of tiers", 0, listed, k->nr_slots);
	check_expect(k, "slot map", 0, used,
		     bitmap_weight(mm_slot_map(mm), mm->lay.nr_slots));
	check_expect(k, "pages being demoted", 0, mm->nr_demoting,
		     k->nr_filling);
	check_expect(k, "pages on their way", 0, mm->nr_io, nr_io);
	check_expect(k, "bytes being written", 0, mm->out_bytes, out);
}
