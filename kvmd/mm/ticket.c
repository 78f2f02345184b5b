/* SPDX-License-Identifier: MIT */
/*
 * ticket.c - reservations that wait for memory
 *
 *	free -> waiting -> done (its completion is queued) -> free
 *
 * A ticket is a copy of the request and holds nothing: the spaces it names
 * stay as they are, may be used by other steps and are checked again when
 * its turn comes. Tickets are served by priority, then by age, whenever
 * memory or a limit has moved.
 *
 * One that cannot be served holds back those behind it that want the same
 * thing, so that a large request is not starved by small ones: the rest of
 * its client; at a tenant's limit, the rest of that tenant that needs an
 * extent; on a full device, everybody who does. A new request that is not
 * above them in priority waits behind them likewise.
 *
 * One whose own pages are being read from swap, written to it or moved holds
 * back nobody, but the extents that it lacks are promised to it: others have
 * what is ready beyond them, or each time that its pages have come its memory
 * would be somebody else's. One whose client is to give memory back (revoke.c),
 * or that is made slow (high.c), holds back the rest of its client.
 *
 * A request without KV_SQE_WAIT waits only while memory is certainly on its
 * way (populate, scrub, pages of others leaving for swap, weights that go) or
 * its own pages are; its ticket is not shown to the client, and if somebody
 * else took that memory it ends with -EAGAIN.
 *
 * Granting happens one ticket at a time, in mm_next_request() when nothing
 * else is queued, so that one buffer of copies is enough.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/ticket.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/high.h"
#include "kvmd/mm/oom.h"
#include "kvmd/mm/room.h"

#define TICKET_LINKS(mm) ILINKS(mm_tickets(mm), link)

void ticket_init(struct mm *mm)
{
	ilist_init(&mm->waiting);
	mm->ticket_free = MM_NONE;
}

/* Extents to have ready for those who wait for them. */
static void update_demand(struct mm *mm)
{
	const struct ticket *ts = mm_tickets(mm);
	u64 sum = 0;
	u32 i;

	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm))
		if (ts[i].block == BLOCK_SOON || ts[i].block == BLOCK_DEVICE)
			sum += ts[i].extents;
	mm->demand = (u32)min(sum, (u64)mm->nr_extents);
}

bool ticket_needs(const struct mm *mm, u32 tenant)
{
	const struct ticket *ts = mm_tickets(mm);
	const struct client *cs = mm_clients(mm);
	u32 i;

	if (room_is_wanted(mm))
		return true;
	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm))
		if (ts[i].block == BLOCK_DEVICE ||
		    (ts[i].block == BLOCK_TENANT &&
		     cs[ts[i].client].tenant == tenant))
			return true;
	return false;
}

u32 ticket_promised(const struct mm *mm)
{
	const struct ticket *ts = mm_tickets(mm);
	u32 i, sum = 0;

	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm))
		sum += ts[i].block == BLOCK_IO ? ts[i].extents : 0;
	return sum;
}

bool ticket_is_first(const struct mm *mm, const struct client *c)
{
	const struct ticket *ts = mm_tickets(mm);
	u32 i;

	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm))
		if (block_is_full(ts[i].block))
			return ts[i].client == client_index(mm, c);
	return false;
}

bool ticket_wants_idle(const struct mm *mm)
{
	const struct ticket *ts = mm_tickets(mm);
	u32 i;

	if (!mm->lay.nr_slots && !mm->tree_top)
		return false;
	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm))
		if (block_is_full(ts[i].block))
			return true;
	return false;
}

/* The time is over for which one was made slow. */
static bool is_slow_no_more(const struct mm *mm)
{
	const struct ticket *ts = mm_tickets(mm);
	u32 i;

	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm))
		if (ts[i].block == BLOCK_HIGH && ts[i].slow_until_ns &&
		    mm->now_ns >= ts[i].slow_until_ns)
			return true;
	return false;
}

void ticket_tick(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	u64 done;
	u32 i;

	mm->dirty |= is_slow_no_more(mm);

	if (mm->now_ns < mm->looked_ns + MM_LOOK_NS || !ticket_wants_idle(mm))
		return;
	mm->dirty |= mm->now_ns >= mm->looked_ns + MM_BACKOFF_NS;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link)) {
		if (cs[i].state != CLIENT_LIVE)
			continue;
		done = kv_move_completed(&cs[i].status->rank[0]);
		mm->dirty |= done != cs[i].looked_at;
		cs[i].looked_at = done;
	}
	if (mm->dirty)
		mm->looked_ns = mm->now_ns;
}

enum ticket_block ticket_ahead(const struct mm *mm, const struct client *c,
			       struct resv_plan *p, u32 extents)
{
	const struct ticket *ts = mm_tickets(mm), *t;
	enum ticket_block found = BLOCK_NONE;
	u32 i, self = client_index(mm, c);
	bool same;

	ilist_for_each (i, &mm->waiting, TICKET_LINKS(mm)) {
		t = &ts[i];
		if (t->priority < p->priority)
			break;
		p->promised += t->block == BLOCK_IO ? t->extents : 0;
		if (t->block == BLOCK_IO ||
		    (t->block < BLOCK_SOON && t->client != self))
			continue;
		same = t->client == self ||
		       (extents && t->block != BLOCK_TENANT) ||
		       (extents && t->block == BLOCK_TENANT &&
			mm_clients(mm)[t->client].tenant == c->tenant);
		if (same && t->block > found) {
			found = t->block;
			p->reclaiming = t->reclaiming;
		}
	}
	return found;
}

int ticket_create(struct mm *mm, struct client *c, const struct mm_resv *r,
		  const struct resv_plan *p, enum ticket_block block,
		  u32 extents, u64 *id)
{
	struct ticket *ts = mm_tickets(mm), *t;
	u32 slot = mm->ticket_free, pos;

	if (c->nr_tickets >= MM_CLIENT_TICKETS ||
	    (slot == MM_NONE && mm->ticket_top == MM_TICKET_MAX))
		return -EAGAIN;
	if (slot != MM_NONE)
		mm->ticket_free = ts[slot].link.next;
	else
		slot = mm->ticket_top++;
	t = &ts[slot];
	t->block = (u8)block;
	t->reclaiming = p->reclaiming;
	t->extents = extents;
	t->priority = p->priority;
	t->client = client_index(mm, c);
	t->id = ++mm->ticket_seq * MM_TICKET_MAX + slot;
	t->request = c->log.next_id;
	t->nr_items = r->nr_items;
	t->flags = r->flags;
	t->out_off = r->out_off;
	t->out_room = r->out_room;
	t->step = r->step;
	t->user_data = r->user_data;
	t->since_ns = mm->now_ns;
	t->slow_until_ns = p->slow_until_ns;
	t->faults = (struct mm_faults){ .swap_in = p->nr_read };
	mm->waited.swap_in += p->nr_read;
	memcpy(mm_ticket_items(mm, slot), r->items,
	       sizeof(*r->items) * r->nr_items);
	mm_order();
	t->state = TICKET_WAITING;
	ilist_for_each (pos, &mm->waiting, TICKET_LINKS(mm))
		if (ts[pos].priority < t->priority)
			break;
	ilist_add_before(&mm->waiting, TICKET_LINKS(mm), pos, slot);
	c->nr_tickets++;
	pressure_waits(mm, c);
	mm->tenants[c->tenant].nr_tickets++;
	if (block == BLOCK_TENANT) {
		mm->tenants[c->tenant].limit_hits++;
		mm->counts.limit_hits++;
	}
	mm->revoke_look |= block_is_full(block);
	update_demand(mm);
	*id = t->id;
	mm_trace(mm, KV_TP_TICKET_WAIT, t->client, r->step);
	return 0;
}

/*
 * A ticket goes on waiting. A look at it costs a look at each of its pages, so
 * the next one does not follow each page that comes or goes, but half of those
 * on their way: the ticket's own, or anybody's if it waits for memory.
 */
static void look_later(struct mm *mm, struct client *c,
		       const struct resv_plan *p, enum ticket_block block)
{
	u32 own = p->nr_moving + p->nr_read, g;

	if (block == BLOCK_IO)
		c->io_left = min(c->io_left, max(own / 2, 1u));
	mm->io_left = min(mm->io_left, max(mm->nr_io / 2, 1u));
	for (g = 0; g < c->nr_geoms; g++)
		c->wants[g] += p->need[g];
}

/* All of a client's tickets are looked at. */
static void look_now(struct client *c)
{
	c->io_left = ~0u;
	memset(c->wants, 0, sizeof(c->wants));
}

/* resv_room(), and who asks is known to want what it lacks. */
static enum ticket_block find_wanted_room(struct mm *mm, struct client *c,
					  struct resv_plan *p, u32 *extents)
{
	u32 before[KV_GEOM_MAX], g;
	enum ticket_block block;

	memcpy(before, c->wants, sizeof(before));
	for (g = 0; g < c->nr_geoms; g++)
		c->wants[g] += p->need[g];
	block = resv_room(mm, c, p, extents);
	memcpy(c->wants, before, sizeof(before)); /* look_later() adds it */
	return block;
}

bool ticket_io_ended(struct mm *mm, struct client *c)
{
	c->io_left -= c->io_left > 0;
	mm->io_left -= mm->io_left > 0;
	if (c->io_left && mm->io_left && mm->nr_io)
		return false;
	c->dirty = true;
	mm->client_dirty = true;
	mm->dirty |= !mm->io_left || !mm->nr_io;
	return true;
}

/* Off the waiting list, whatever comes of it. */
static void leave(struct mm *mm, u32 slot)
{
	struct ticket *t = &mm_tickets(mm)[slot];
	struct client *c = &mm_clients(mm)[t->client];

	ilist_del(&mm->waiting, TICKET_LINKS(mm), slot);
	c->nr_tickets--;
	pressure_waits(mm, c);
	mm->tenants[c->tenant].nr_tickets--;
	/* Those it held back have a chance now. */
	mm->dirty = true;
	mm->revoke_look = true;
	update_demand(mm);
}

void ticket_free(struct mm *mm, u32 slot)
{
	struct ticket *t = &mm_tickets(mm)[slot];

	t->state = TICKET_FREE;
	t->link.next = mm->ticket_free;
	mm->ticket_free = slot;
}

static void complete(struct mm *mm, u32 slot, int res, u64 extra)
{
	struct ticket *t = &mm_tickets(mm)[slot];
	struct client *c = &mm_clients(mm)[t->client];
	u32 room = t->out_room / (u32)sizeof(struct kv_holder);

	leave(mm, slot);
	memset(&t->cqe, 0, sizeof(t->cqe));
	t->cqe.user_data = t->user_data;
	t->cqe.res = res;
	t->cqe.extra = extra;
	t->cqe.extent_seq = c->extent_seq;
	if (res >= 0)
		t->cqe.out_len = (u32)res * (u32)sizeof(struct kv_copy);
	if (res == -EAGAIN)
		t->cqe.out_len = mm_holders(mm, t->client, mm->holders,
					    min(room, MM_HOLDER_MAX)) *
				 (u32)sizeof(struct kv_holder);
	mm_order();
	t->state = TICKET_DONE;
	mm_queue_complete(mm, c, slot);
}

void ticket_drop(struct mm *mm, struct client *c)
{
	struct ticket *ts = mm_tickets(mm);
	u32 i, next, self = client_index(mm, c);

	ilist_for_each_safe (i, next, &mm->waiting, TICKET_LINKS(mm)) {
		if (ts[i].client != self)
			continue;
		leave(mm, i);
		ticket_free(mm, i);
		mm_trace(mm, KV_TP_TICKET_CANCEL, self, ts[i].step);
	}
}

void ticket_refuse(struct mm *mm, u32 slot, int rc)
{
	struct ticket *t = &mm_tickets(mm)[slot];

	mm_trace(mm, KV_TP_TICKET_CANCEL, t->client, t->step);
	complete(mm, slot, rc, 0);
}

int mm_cancel(struct mm *mm, u32 client, u64 ticket)
{
	u32 slot = (u32)(ticket % MM_TICKET_MAX);
	struct ticket *t = &mm_tickets(mm)[slot];
	struct client *c;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	if (t->state != TICKET_WAITING || t->id != ticket ||
	    t->client != client || !(t->flags & KV_SQE_WAIT))
		return -ENOENT;
	if (block_is_short(t->block))
		oom_refused(mm, c, MM_OOM_GAVE_UP, t->block, t->extents,
			    t->step, t->since_ns);
	complete(mm, slot, -ECANCELED, 0);
	mm->counts.tickets_cancelled++;
	mm_trace(mm, KV_TP_TICKET_CANCEL, client, t->step);
	return 0;
}

void mm_faults_at_once(const struct mm *mm, struct mm_faults *out)
{
	out->fresh = mm->counts.faults_fresh - mm->waited.fresh;
	out->cow = mm->counts.faults_cow - mm->waited.cow;
	out->swap_in = mm->nr_reads - mm->waited.swap_in;
	out->prefix = mm->counts.faults_prefix;
}

/* A waiting request is served, if its table can grow. */
static void grant(struct mm *mm, u32 slot, const struct resv_plan *p)
{
	struct ticket *t = &mm_tickets(mm)[slot];
	struct client *c = &mm_clients(mm)[t->client];
	u64 fresh = mm->counts.faults_fresh, cow = mm->counts.faults_cow;
	int rc = resv_commit(mm, c, p, mm_copies(mm));

	t->faults.fresh = mm->counts.faults_fresh - fresh;
	t->faults.cow = mm->counts.faults_cow - cow;
	mm->waited.fresh += t->faults.fresh;
	mm->waited.cow += t->faults.cow;
	complete(mm, slot, rc, 0);
	mm->counts.tickets_granted++;
	mm_trace(mm, KV_TP_TICKET_GRANT, t->client, t->step);
}

/* One pass over the waiting list: what has been found short so far. */
struct pass {
	/* BLOCK_SOON or BLOCK_DEVICE: no extent for anybody behind */
	enum ticket_block device;
	bool reclaiming; /* pages leave for one of them */
	u32 promised; /* extents that those before wait for no more */
};

static void hold_back(struct mm *mm, struct client *c, struct ticket *t,
		      enum ticket_block block, struct pass *pass)
{
	t->block = (u8)block;
	if (block == BLOCK_IO) {
		pass->promised += t->extents;
		return;
	}
	c->blocked = mm->pass;
	if (block < BLOCK_SOON)
		return;
	mm->revoke_look |= block_is_full(block);
	pass->reclaiming |= t->reclaiming;
	if (block == BLOCK_TENANT)
		mm->tenants[c->tenant].blocked = mm->pass;
	else
		pass->device = max(pass->device, block);
}

/* Return: true if the ticket is done, one way or the other. */
static bool try_one(struct mm *mm, u32 slot, struct pass *pass)
{
	struct ticket *t = &mm_tickets(mm)[slot];
	struct client *c = &mm_clients(mm)[t->client];
	struct resv_plan p = { .items = mm_ticket_items(mm, slot),
			       .nr_items = t->nr_items,
			       .ticket = slot,
			       .promised = pass->promised,
			       .step = t->step };
	enum ticket_block block;
	bool held;
	u32 extents;
	int rc;

	if (c->blocked == mm->pass) {
		t->reclaiming = false; /* what leaves is another one's */
		if (t->block == BLOCK_IO)
			t->extents = 0; /* no promise: it has to wait anyway */
		return false;
	}
	if (!mm->dirty && !c->dirty) {
		hold_back(mm, c, t, t->block, pass);
		return false;
	}
	rc = resv_plan(mm, c, &p);
	if (rc) {
		complete(mm, slot, rc, p.lost);
		return true;
	}
	extents = slab_extents_short(c, p.need);
	if (high_slows(mm, c, &p, extents, &t->slow_until_ns))
		block = BLOCK_HIGH;
	else if (extents && pass->device)
		block = pass->device;
	else if (extents && mm->tenants[c->tenant].blocked == mm->pass)
		block = BLOCK_TENANT;
	else
		block = find_wanted_room(mm, c, &p, &extents);
	held = extents && pass->reclaiming;
	t->extents = extents;
	t->reclaiming = p.reclaiming;
	t->faults.swap_in += p.nr_read;
	mm->waited.swap_in += p.nr_read;
	if (block == BLOCK_NONE) {
		grant(mm, slot, &p);
		return true;
	}
	look_later(mm, c, &p, block);
	if (block_is_short(block)) {
		if (!resv_fits_ever(mm, c, &p)) {
			mm->tenants[c->tenant].events.oom++;
			oom_refused(mm, c, MM_OOM_TOO_BIG, block, extents,
				    t->step, t->since_ns);
			complete(mm, slot, -E2BIG, 0);
			return true;
		}
		/* Nobody has looked yet what could leave for it. */
		if (!(t->flags & KV_SQE_WAIT) && !p.reclaiming && !held) {
			mm->counts.reserves_short++;
			mm->tenants[c->tenant].events.refused++;
			complete(mm, slot, -EAGAIN,
				 (u64)extents * KV_EXTENT_SIZE);
			return true;
		}
	}
	hold_back(mm, c, t, block, pass);
	return false;
}

bool ticket_run(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	struct pass pass = { .device = BLOCK_NONE };
	u32 i, next, head = mm->queue_tail;

	if (!mm->dirty && !mm->client_dirty)
		return false;
	mm->pass++;
	mm->io_left = mm->dirty ? ~0u : mm->io_left;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (mm->dirty || cs[i].dirty)
			look_now(&cs[i]);
	ilist_for_each_safe (i, next, &mm->waiting, TICKET_LINKS(mm))
		if (try_one(mm, i, &pass))
			return true;
	mm->dirty = false;
	mm->client_dirty = false;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		cs[i].dirty = false;
	update_demand(mm);
	extent_refill(mm);
	return head != mm->queue_tail;
}

/* A request that found no memory: keep it, or say no. */
static int wait_or_fail(struct mm *mm, struct client *c,
			const struct mm_resv *r, const struct resv_plan *p,
			enum ticket_block block, u32 extents, u64 *extra)
{
	bool shown = r->flags & KV_SQE_WAIT;
	bool full = block_is_short(block);
	u64 id;

	if (full && !resv_fits_ever(mm, c, p)) {
		mm->tenants[c->tenant].events.oom++;
		oom_refused(mm, c, MM_OOM_TOO_BIG, block, extents, r->step,
			    mm->now_ns);
		return -E2BIG;
	}
	if ((shown || !full || p->reclaiming) &&
	    !ticket_create(mm, c, r, p, block, extents, &id)) {
		look_later(mm, c, p, block);
		*extra = shown ? id : 0;
		mm->counts.reserves_waited++;
		return -EINPROGRESS;
	}
	mm->counts.reserves_short++;
	mm->tenants[c->tenant].events.refused++;
	if (block == BLOCK_TENANT) {
		mm->tenants[c->tenant].limit_hits++;
		mm->counts.limit_hits++;
	}
	*extra = (u64)extents * KV_EXTENT_SIZE;
	return -EAGAIN;
}

int mm_reserve(struct mm *mm, u32 client, const struct mm_resv *r,
	       struct kv_copy *copies, u32 *extent_seq, u64 *extra)
{
	struct resv_plan p = { .items = r->items,
			       .nr_items = r->nr_items,
			       .ticket = MM_NONE,
			       .step = r->step };
	enum ticket_block block, ahead = BLOCK_NONE;
	struct client *c;
	u32 extents;
	int rc;

	*extra = 0;
	*extent_seq = 0;
	if (r->flags & ~KV_SQE_WAIT)
		return -EINVAL;
	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	client_reap(mm, c);
	rc = resv_plan(mm, c, &p);
	if (rc) {
		mm->counts.invalid += !p.lost;
		*extra = p.lost;
		return rc;
	}
	mm_trace(mm, KV_TP_RESV_BEGIN, client, r->step);
	extents = slab_extents_short(c, p.need);
	if (unlikely(!ilist_is_empty(&mm->waiting)))
		ahead = ticket_ahead(mm, c, &p, extents);
	if (c->nr_tickets < MM_CLIENT_TICKETS && !ahead &&
	    high_slows(mm, c, &p, extents, &p.slow_until_ns))
		ahead = BLOCK_HIGH;
	else if (c->nr_tickets == MM_CLIENT_TICKETS && ahead == BLOCK_HIGH)
		ahead = BLOCK_NONE;
	block = ahead ? ahead : find_wanted_room(mm, c, &p, &extents);
	if (block != BLOCK_NONE)
		return wait_or_fail(mm, c, r, &p, block, extents, extra);
	rc = resv_commit(mm, c, &p, copies);
	*extent_seq = c->extent_seq;
	return rc;
}

/* Bytes of a client's spaces that no step uses now. */
static u64 idle_bytes(const struct mm *mm, const struct client *c)
{
	const struct space *sps = mm_spaces(mm, c);
	u64 done = kv_move_completed(&c->status->rank[0]);
	u64 sum = 0;
	u32 i, k;

	for (i = 0; i < c->space_top; i++) {
		if (sps[i].state != KV_SPACE_LIVE ||
		    kv_move_is_busy(space_active(mm, c, &sps[i]), sps[i].resv,
				    max(done, c->completed)))
			continue;
		for (k = 0; k < sps[i].nr_areas; k++) {
			const struct space_area *a = &sps[i].area[k];

			sum += (u64)(a->page_end - a->page_first) *
			       c->cls[a->geom].geom.page_bytes;
		}
	}
	return min(sum, (u64)c->nr_extents * KV_EXTENT_SIZE);
}

static void add_holder(struct mm *mm, u32 tenant, struct kv_holder *out,
		       u32 *nr, u32 room)
{
	const struct client *cs = mm_clients(mm);
	struct kv_holder h = { .tenant = tenant,
			       .held_bytes = mm->tenants[tenant].held };
	u32 i, at;

	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link))
		if (cs[i].tenant == tenant && cs[i].state == CLIENT_LIVE)
			h.reclaim_bytes += idle_bytes(mm, &cs[i]);
	memcpy(h.name, mm->tenants[tenant].name, sizeof(h.name));
	for (at = *nr; at && out[at - 1].reclaim_bytes < h.reclaim_bytes; at--)
		if (at < room)
			out[at] = out[at - 1];
	if (at < room) {
		out[at] = h;
		*nr = min(*nr + 1, room);
	}
}

u32 mm_holders(struct mm *mm, u32 client, struct kv_holder *out, u32 room)
{
	struct client *c;
	u32 i, nr = 0;

	if (!room || mm_client_live(mm, client, &c))
		return 0;
	/* At its own limit only the tenant itself can help. */
	if (!extent_tenant_room(mm, c->tenant)) {
		add_holder(mm, c->tenant, out, &nr, room);
		return nr;
	}
	for (i = 0; i < MM_TENANT_MAX; i++)
		if (mm->tenants[i].held)
			add_holder(mm, i, out, &nr, room);
	return nr;
}
