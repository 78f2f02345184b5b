/* SPDX-License-Identifier: MIT */
/*
 * demote.c - pages that go from a swap tier to a later one
 *
 *	where it is	held ----------------------------> free
 *	where it goes	free ---> filling ---> held
 *	entry		swapped, as before ---> swapped, another slot
 *
 * A fast tier is worth most while it has room for what leaves the device next.
 * Below demote_low percent free its coldest slots, those that came first, go
 * to the first later tier that has room, in the background, until demote_high
 * percent are free. Without room, or where the tenant may have no more, they
 * stay; then what leaves the device goes to the later tier itself.
 *
 *	begin	a slot of the later tier is taken (filling) and the host is
 *		asked to copy (MM_REQ_DEMOTE). The page is where it was for
 *		everybody: a step that wants it has it read from there at once
 *	done	every entry that names the one slot names the other; key, sum
 *		and references go along, and the content is compared with the
 *		sum when it is read, as ever. The first one is free
 *	back	the copy failed, or the page was wanted or dropped meanwhile:
 *		the later slot is free, the page stays. After a failure the
 *		tier rests for MM_BACKOFF_NS
 *
 * Who owns what. Both slots are the client's, and name each other (other)
 * until mm_swap_done(). The first may be read meanwhile, and is not freed
 * before the copy has ended, though no entry names it any more: HELD without
 * references. A client that dies is gone when both have ended.
 *
 * kvmd dies: a slot that is FILLING holds nothing and is free, other is
 * forgotten, the page is in the slot that its entries name. The later slot is
 * HELD, with all that belongs to it, before the first entry names it, and the
 * first is freed behind the last one: killed between two entries, both are
 * held, each by those that name it.
 *
 * Bounded: DEMOTE_MAX pages, and DEMOTE_BYTES of more than one, on top of
 * which the host shares its bandwidth; never more than half of what may be on
 * its way, the rest is for who waits.
 */
#include "kvmd/mm/demote.h"

#include <errno.h>
#include "kvmd/mm/swap.h"

#define DEMOTE_MAX   32u
#define DEMOTE_BYTES (16ull << 20)
#define DEMOTE_LOOKS 512u /* slots in a run */

bool mm_swap_set_is_valid(const struct mm_swap_set *set)
{
	return set->demote_low <= set->demote_high && set->demote_high <= 100;
}

int mm_swap_set(struct mm *mm, const struct mm_swap_set *set)
{
	u32 i;

	if (!mm_swap_set_is_valid(set))
		return -EINVAL;
	for (i = 0; i < MM_TIER_MAX; i++)
		mm->tier[i].demoting &=
			set->demote_low == mm->swap.demote_low &&
			set->demote_high == mm->swap.demote_high;
	mm->swap = *set;
	mm->demote_look = true;
	return 0;
}

const struct mm_swap_set *mm_swap_get(const struct mm *mm)
{
	return &mm->swap;
}

static u64 percent(const struct swap_tier *t, u32 n)
{
	return t->room / 100 * n;
}

/* Bytes free, those that are about to be included. */
static u64 tier_free(const struct swap_tier *t)
{
	return t->room - t->stored + t->leaving;
}

static bool may_begin(const struct mm *mm, u32 bytes)
{
	return mm->nr_io < SWAP_IO_MAX / 2 && mm->nr_demoting < DEMOTE_MAX &&
	       (!mm->nr_demoting || mm->demoting_bytes + bytes <= DEMOTE_BYTES);
}

static bool is_candidate(const struct mm *mm, const struct slot *s)
{
	return s->state == SLOT_HELD && s->other == MM_NONE && s->refs &&
	       mm_clients(mm)[s->client].state == CLIENT_LIVE;
}

static u32 page_bytes(const struct mm *mm, const struct slot *s)
{
	return mm_clients(mm)[s->client].cls[s->geom].geom.page_bytes;
}

/* Is there room behind a tier, whoever may have it? */
static bool is_room_behind(const struct mm *mm, u32 tier, u32 bytes)
{
	const struct swap_tier *t;

	while (++tier < MM_TIER_MAX) {
		t = &mm->tier[tier];
		if (bytes / SLOT_UNIT <= t->end - t->first - t->nr_used &&
		    t->stored + bytes <= t->room)
			return true;
	}
	return false;
}

/* Return: false if its tenant may have no more there, or only in pieces. */
static bool begin(struct mm *mm, u32 tier, u32 slot)
{
	struct slot *s = &mm_slots(mm)[slot], *n;
	struct client *c = &mm_clients(mm)[s->client];
	u32 to = slot_alloc(mm, c, s->geom, tier + 1, SLOT_FILLING);

	if (to == MM_NONE)
		return false;
	n = &mm_slots(mm)[to];
	n->other = slot;
	s->other = to;
	swap_io_begun(mm, c, n, c->tenant);
	mm->nr_demoting++;
	mm->demoting_bytes += page_bytes(mm, s);
	mm->tier[tier].leaving += s->stored;
	mm_queue_swap(mm, MM_REQ_DEMOTE, to);
	mm_trace(mm, KV_TP_DEMOTE, s->client, to);
	return true;
}

/*
 * The coldest slots of one tier. One that has to stay goes behind the others,
 * so that it is not looked at again before them.
 */
static void demote_tier(struct mm *mm, u32 tier)
{
	struct swap_tier *t = &mm->tier[tier];
	u64 high = percent(t, mm->swap.demote_high);
	u32 slot, next, nr = min(t->slots.nr, DEMOTE_LOOKS);
	struct slot *s;

	if (tier_free(t) < percent(t, mm->swap.demote_low))
		t->demoting = true;
	if (tier_free(t) >= high)
		t->demoting = false;
	if (!t->demoting || mm->now_ns < t->again_ns)
		return;
	for (slot = t->slots.first; nr-- && tier_free(t) < high; slot = next) {
		s = &mm_slots(mm)[slot];
		next = s->age.next;
		if (!is_candidate(mm, s))
			continue;
		if (!may_begin(mm, page_bytes(mm, s)) ||
		    !is_room_behind(mm, tier, page_bytes(mm, s)))
			return;
		if (begin(mm, tier, slot))
			continue;
		ilist_del(&t->slots, ILINKS(mm_slots(mm), age), slot);
		ilist_add_tail(&t->slots, ILINKS(mm_slots(mm), age), slot);
	}
}

bool demote_run(struct mm *mm)
{
	u32 t, tail = mm->queue_tail;

	if (!mm->demote_look || !mm->swap.demote_high)
		return false;
	mm->demote_look = false;
	for (t = 0; t + 1 < MM_TIER_MAX; t++)
		demote_tier(mm, t);
	return mm->queue_tail != tail;
}

void demote_tick(struct mm *mm)
{
	u32 t;

	for (t = 0; t < MM_TIER_MAX; t++) {
		if (!mm->tier[t].again_ns || mm->now_ns < mm->tier[t].again_ns)
			continue;
		mm->tier[t].again_ns = 0;
		mm->demote_look = true;
	}
}

bool demote_wants_tick(const struct mm *mm)
{
	u32 t;

	for (t = 0; t < MM_TIER_MAX; t++)
		if (mm->tier[t].again_ns)
			return true;
	return false;
}

/* The two know nothing of each other any more. Return: the first one. */
static u32 part(struct mm *mm, u32 slot)
{
	struct slot *n = &mm_slots(mm)[slot];
	u32 from = n->other;
	struct slot *s = &mm_slots(mm)[from];

	mm->nr_demoting--;
	mm->demoting_bytes -= page_bytes(mm, n);
	mm->tier[slot_tier(mm, from)].leaving -= s->stored;
	s->other = n->other = MM_NONE;
	mm->demote_look = true;
	return from;
}

/* It stays where it is; if nobody wants it any more, nowhere. */
static void demote_back(struct mm *mm, struct client *c, u32 slot, u32 from)
{
	struct slot *s = &mm_slots(mm)[from];

	slot_free(mm, c, slot);
	if (s->state == SLOT_HELD && !s->refs)
		slot_free(mm, c, from);
	mm->counts.demote_back++;
	mm_trace(mm, KV_TP_DEMOTE_BACK, client_index(mm, c), from);
}

void demote_done(struct mm *mm, struct client *c, u32 slot, int err)
{
	u32 from = part(mm, slot);
	struct slot *s = &mm_slots(mm)[from], *n = &mm_slots(mm)[slot];

	if (err) {
		mm->counts.demote_errors++;
		mm->tier[slot_tier(mm, from)].again_ns =
			mm->now_ns + MM_BACKOFF_NS;
	}
	if (err || s->state != SLOT_HELD || !s->refs) {
		demote_back(mm, c, slot, from);
		return;
	}
	n->family = s->family;
	n->area = s->area;
	n->page = s->page;
	n->key = s->key;
	n->sum = s->sum;
	n->refs = s->refs;
	mm->tenants[c->tenant].swapped += page_bytes(mm, n);
	mm_order();
	n->state = SLOT_HELD;
	mm_order();
	swap_set_slot(mm, c, from, slot);
	mm_order();
	slot_free(mm, c, from);
	mm->counts.demoted++;
	mm->counts.demoted_bytes += page_bytes(mm, n);
	mm_trace(mm, KV_TP_DEMOTED, client_index(mm, c), slot);
}

void demote_dead(struct mm *mm, struct client *c, u32 slot)
{
	u32 from = part(mm, slot);

	slot_free(mm, c, slot);
	if (mm_slots(mm)[from].state == SLOT_HELD)
		slot_free(mm, c, from);
}
