/* SPDX-License-Identifier: MIT */
/*
 * reclaim.c - whose pages leave the device for a reservation that is short
 *
 * Of the tenant that is the most above its share of a full device, by its
 * weight, what was used longest ago goes: single pages from idle spaces of the
 * reservation's own client, whose frames it can use as they come free, and
 * from others whole extents of which no frame is in use, for anything less
 * would free nothing that it can have. At its tenant's limit only the tenant's
 * own count; on a full device everybody's, those of tenants below their low
 * only if nothing else is left and those below their min never. Spaces that
 * tickets before it name stay, so that the first ticket always gets on; those
 * of tickets behind it don't, and come back only when it is served or nothing
 * more can leave.
 *
 * Age. A space was last used when a reservation named it, or when its
 * active_step had moved since the last look; steps that needed no page tell
 * nobody. A page is as old as the youngest space that maps it, an extent as
 * old as its youngest page.
 *
 * What a space maps of the page cache does not go to swap. If nothing else is
 * left, idle spaces give it up and what nobody maps then is evicted: they map
 * it again, or compute it again if it is gone by then. As that is lost work, it
 * is not taken from who is at work: two that fit one at a time would take it
 * from each other in turn, each just before its next step, and compute for
 * ever. At work is what a ticket of another client names, and what the latest
 * step of one was about that has a ticket or a step under way, or ended one
 * within WORK_NS. If all wait for each other then, deadlock.c says who gives
 * way. A tenant that stays within its low has been promised that memory: for it
 * only its own clients' work stays.
 *
 * Pages that are on their way count: no more is asked to leave than is short
 * beyond them, and nothing before half of what may be on its way has arrived. A
 * disk has something to do meanwhile.
 */
#include "kvmd/mm/reclaim.h"
#include "include/kv/usdt.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/swap.h"
#include "kvmd/mm/ticket.h"

#define WORK_NS 50000000ull /* no step for so long: there is nothing to do */

USDT_SEMAPHORE(kvmd, reclaim);

/* A victim has been found: @bytes of @from leave for @to. */
static void probe_reclaim(const struct mm *mm, const struct client *to,
			  const struct client *from, enum ticket_block block,
			  u64 bytes)
{
	if (unlikely(usdt_on(kvmd, reclaim)))
		USDT(kvmd, reclaim, client_index(mm, to), to->tenant,
		     client_index(mm, from), from->tenant, bytes,
		     block == BLOCK_TENANT);
}

static void keep_items(struct mm *mm, struct client *c,
		       const struct kv_resv_item *items, u32 nr)
{
	u32 i;

	for (i = 0; i < nr; i++)
		if (items[i].space < c->space_top)
			mm_spaces(mm, c)[items[i].space].keep = mm->keep_seq;
}

/*
 * What stays: the spaces of the reservation itself, of the tickets before it,
 * and of those whose pages are being read: these will soon be used and idle
 * again, and reading them would have been for nothing.
 */
static void keep_spaces(struct mm *mm, struct client *c,
			const struct resv_plan *p)
{
	const struct ticket *ts = mm_tickets(mm);
	bool before = true;
	u32 i;

	mm->keep_seq++;
	keep_items(mm, c, p->items, p->nr_items);
	ilist_for_each (i, &mm->waiting, ILINKS(mm_tickets(mm), link)) {
		before = before && ticket_is_before(mm, i, p);
		if (before || ts[i].block == BLOCK_IO)
			keep_items(mm, &mm_clients(mm)[ts[i].client],
				   mm_ticket_items(mm, i), ts[i].nr_items);
	}
}

/* Has it pages of the classes that are short? */
static bool space_helps(const struct client *c, const struct space *sp,
			const u32 need[KV_GEOM_MAX])
{
	u32 k;

	for (k = 0; k < sp->nr_areas; k++) {
		const struct space_area *a = &sp->area[k];

		if (need[a->geom] > c->cls[a->geom].nr_free &&
		    a->page_end - a->page_first > a->nr_out)
			return true;
	}
	return false;
}

/* The client's own idle space that was used longest ago, or NULL. */
static struct space *oldest_space(struct mm *mm, struct client *c,
				  const u32 need[KV_GEOM_MAX])
{
	struct space *sps = mm_spaces(mm, c), *sp, *oldest = NULL;
	u32 i;

	for (i = 0; i < c->space_top; i++) {
		sp = &sps[i];
		if (sp->state == KV_SPACE_LIVE && sp->keep != mm->keep_seq &&
		    (!oldest || sp->used_ns < oldest->used_ns) &&
		    space_helps(c, sp, need) && !space_is_busy(mm, c, sp))
			oldest = sp;
	}
	return oldest;
}

/* Steps that took no reservation count as use too. */
static void look_at_spaces(struct mm *mm, struct client *c)
{
	struct space *sps = mm_spaces(mm, c);
	u64 active;
	u32 i;

	client_reap(mm, c);
	for (i = 0; i < c->space_top; i++) {
		if (sps[i].state != KV_SPACE_LIVE)
			continue;
		active = space_active(mm, c, &sps[i]);
		if (active == sps[i].seen_active)
			continue;
		sps[i].seen_active = active;
		sps[i].used_ns = mm->now_ns;
	}
}

/* May pages of @c leave for a reservation of another client? */
static bool client_gives(const struct mm *mm, const struct client *c,
			 const struct client *to, enum ticket_block block,
			 bool below_low)
{
	const struct tenant *t = &mm->tenants[c->tenant];
	u64 used = t->held - min(t->held, t->giving) + t->charged;

	if (c->state != CLIENT_LIVE)
		return false;
	if (to && c->tenant == to->tenant)
		return true;
	if (block != BLOCK_DEVICE || used < KV_EXTENT_SIZE)
		return false;
	used -= KV_EXTENT_SIZE;
	return used >= t->limits.min_bytes &&
	       (below_low || used >= t->limits.low_bytes);
}

/* Something that could leave. */
struct victim {
	u32 extent; /* MM_NONE: there is none */
	u64 age; /* when it was last used; smaller is older */
	double excess; /* of its tenant: it is the one that gives */
};

static bool victim_is_better(const struct victim *v, const struct victim *than)
{
	if (than->extent == MM_NONE || v->excess > than->excess)
		return true;
	return v->excess == than->excess && v->age < than->age;
}

/*
 * The extent to leave: of the tenant that is the most above its share of a full
 * device, by its weight, the one that was used longest ago; not later than
 * @before_ns.
 */
static struct victim find_extent(struct mm *mm, const struct client *to,
				 enum ticket_block block, bool below_low,
				 u64 before_ns)
{
	struct victim best = { .extent = MM_NONE }, v;
	const struct extent *es = mm_extents(mm);
	const struct client *c;
	u32 tenant = MM_NONE;

	for (v.extent = 0; v.extent < mm->nr_extents; v.extent++) {
		if (es[v.extent].state != EXTENT_GRANTED)
			continue;
		c = &mm_clients(mm)[es[v.extent].client];
		if (es[v.extent].free_mask == EXTENT_ALL_FREE ||
		    !client_gives(mm, c, to, block, below_low) ||
		    !swap_extent_can_leave(mm, c, v.extent, &v.age) ||
		    v.age > before_ns)
			continue;
		if (c->tenant != tenant)
			v.excess = tenant_excess(mm, c->tenant);
		tenant = c->tenant;
		if (victim_is_better(&v, &best))
			best = v;
	}
	return best;
}

/*
 * One victim. A space whose pages cannot leave, as all of them are shared with
 * one that is busy, makes room for the next one.
 *
 * Return: bytes that leave, 0 if nobody has any.
 */
static u64 reclaim_one(struct mm *mm, struct client *c,
		       const struct resv_plan *p, enum ticket_block block,
		       u64 bytes)
{
	struct victim e = find_extent(mm, c, block, false, ~0ull), own;
	struct space *sp;
	struct client *from;
	bool below_low;
	u64 got;

	own.extent = 0; /* a page of any */
	own.excess = tenant_excess(mm, c->tenant);
	while ((sp = oldest_space(mm, c, p->need))) {
		own.age = sp->used_ns;
		if (e.extent != MM_NONE && victim_is_better(&e, &own))
			break;
		got = swap_space_leave(mm, c, sp, p->need, bytes);
		sp->keep = mm->keep_seq; /* it gave what it could */
		if (got)
			probe_reclaim(mm, c, c, block, got);
		if (got || !swap_has_turn(mm, c->tenant))
			return got;
	}
	below_low = e.extent == MM_NONE;
	if (below_low)
		e = find_extent(mm, c, block, true, ~0ull);
	if (e.extent == MM_NONE)
		return 0;
	from = &mm_clients(mm)[mm_extents(mm)[e.extent].client];
	got = swap_extent_leave(mm, from, e.extent);
	if (!got)
		return 0;
	mm->tenants[from->tenant].events.low += below_low;
	mm->tenants[from->tenant].giving += KV_EXTENT_SIZE;
	probe_reclaim(mm, c, from, block, got);
	return got;
}

/* The idle space with a prefix that was used longest ago, or NULL. */
static struct space *oldest_holder(struct mm *mm, const struct client *to,
				   enum ticket_block block, bool below_low,
				   struct client **from)
{
	struct client *cs = mm_clients(mm);
	struct space *sp, *oldest = NULL;
	u32 i, s;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link)) {
		if (!client_gives(mm, &cs[i], to, block, below_low))
			continue;
		for (s = 0; s < cs[i].space_top; s++) {
			sp = &mm_spaces(mm, &cs[i])[s];
			if (sp->state != KV_SPACE_LIVE || !sp->ref ||
			    sp->keep == mm->keep_seq ||
			    (oldest && sp->used_ns >= oldest->used_ns) ||
			    space_is_busy(mm, &cs[i], sp))
				continue;
			oldest = sp;
			*from = &cs[i];
		}
	}
	return oldest;
}

/* Has a client something to do, by what can be seen of it? */
static bool client_works(const struct mm *mm, const struct client *c)
{
	return c->state == CLIENT_LIVE &&
	       (c->nr_tickets || c->granted > c->completed ||
		c->moved_ns + WORK_NS > mm->now_ns);
}

/* The spaces of a client's latest step stay. */
static void keep_latest(struct mm *mm, struct client *c)
{
	struct space *sps = mm_spaces(mm, c);
	u64 latest = 0;
	u32 i;

	for (i = 0; i < c->space_top; i++)
		if (sps[i].state == KV_SPACE_LIVE)
			latest = max(latest, space_active(mm, c, &sps[i]));
	for (i = 0; i < c->space_top && latest; i++)
		if (space_active(mm, c, &sps[i]) == latest)
			sps[i].keep = mm->keep_seq;
}

/* What others than @to are at keeps its prefix, if @to wants so much. */
static void keep_work(struct mm *mm, const struct client *to, u64 bytes)
{
	const struct tenant *t = &mm->tenants[to->tenant];
	bool entitled = t->held + t->charged + bytes <= t->limits.low_bytes;
	const struct ticket *ts = mm_tickets(mm);
	struct client *cs = mm_clients(mm);
	u32 i;

	ilist_for_each (i, &mm->waiting, ILINKS(mm_tickets(mm), link))
		if (&cs[ts[i].client] != to &&
		    (!entitled || cs[ts[i].client].tenant == to->tenant))
			keep_items(mm, &cs[ts[i].client],
				   mm_ticket_items(mm, i), ts[i].nr_items);
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (&cs[i] != to && client_works(mm, &cs[i]) &&
		    (!entitled || cs[i].tenant == to->tenant))
			keep_latest(mm, &cs[i]);
}

/* Return: bytes of extents that came free. */
static u64 reclaim_prefixes(struct mm *mm, struct client *c,
			    enum ticket_block block, u64 bytes)
{
	u32 want = (u32)DIV_ROUND_UP(bytes, KV_EXTENT_SIZE), got = 0;
	bool below_low = false;
	struct client *from;
	struct space *sp;

	keep_work(mm, c, bytes);
	while (got < want) {
		sp = oldest_holder(mm, c, block, below_low, &from);
		if (!sp && below_low)
			break;
		below_low |= !sp;
		if (!sp)
			continue;
		sp->keep = mm->keep_seq;
		if (prefix_give_up(mm, from, sp))
			got += cache_reclaim(mm, c, block == BLOCK_TENANT,
					     want - got);
	}
	return (u64)got * KV_EXTENT_SIZE;
}

/* Bytes of clients that count that are on their way out already. */
static u64 leaving_bytes(const struct mm *mm, const struct client *to,
			 enum ticket_block block)
{
	return block == BLOCK_TENANT ? mm->tenants[to->tenant].out_bytes
				     : mm->out_bytes;
}

/* Is half of what may be on its way for a client's tenant? */
static bool is_busy_enough(const struct mm *mm, const struct client *c)
{
	return mm->nr_io > SWAP_IO_MAX / 2 ||
	       mm->tenants[c->tenant].nr_swap_io >
		       swap_share(mm, c->tenant) / 2;
}

bool reclaim(struct mm *mm, struct client *c, const struct resv_plan *p,
	     enum ticket_block block, u64 bytes)
{
	struct client *cs = mm_clients(mm);
	bool swaps = mm->lay.nr_slots && mm->now_ns >= mm->swap_backoff_until;
	u64 leaving = leaving_bytes(mm, c, block), got = leaving, n;
	u32 i;

	swap_share_look(mm);
	if (leaving && (!swaps || leaving >= bytes || is_busy_enough(mm, c)))
		return true;
	if (swaps && !swap_has_turn(mm, c->tenant))
		return true; /* what is on its way goes first */
	if (!swaps && !mm->tree_top)
		return false;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE)
			look_at_spaces(mm, &cs[i]);
	for (i = 0; i < MM_TENANT_MAX && !leaving; i++)
		mm->tenants[i].giving = 0;
	keep_spaces(mm, c, p);
	mm->payer = c->tenant;
	while (swaps && got < bytes) {
		n = reclaim_one(mm, c, p, block, bytes - got);
		if (!n)
			break;
		got += n;
	}
	mm->payer = MM_NONE;
	if (!got && mm->tree_top)
		got = reclaim_prefixes(mm, c, block, bytes);
	mm->counts.reclaims += got > leaving;
	return got > 0;
}

u64 reclaim_cold(struct mm *mm, u64 before_ns)
{
	struct client *cs = mm_clients(mm);
	struct victim e;
	u32 i;

	if (!mm->lay.nr_slots || mm->now_ns < mm->swap_backoff_until)
		return 0;
	if (mm->nr_io > SWAP_IO_MAX / 2)
		return 1; /* enough is on its way */
	swap_share_look(mm);
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE)
			look_at_spaces(mm, &cs[i]);
	for (i = 0; i < MM_TENANT_MAX; i++)
		mm->tenants[i].giving = 0;
	mm->keep_seq++;
	e = find_extent(mm, NULL, BLOCK_DEVICE, false, before_ns);
	if (e.extent == MM_NONE)
		return 0;
	return swap_extent_leave(
		mm, &mm_clients(mm)[mm_extents(mm)[e.extent].client], e.extent);
}
