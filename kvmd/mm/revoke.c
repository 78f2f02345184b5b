/* SPDX-License-Identifier: MIT */
/*
 * revoke.c - memory that comes back from a client, whether it helps or not
 *
 *	none -> asked -> fenced -> killed
 *	  ^	  |	   |
 *	  +-------+--------+	it has no more than its goal, or nobody needs
 *	  |	  |	   |	its memory any more
 *	  +----- given <---+	likewise, while a ticket waits for it
 *
 *	asked	KV_EVENT_SHRINK says how much, again after each part of it and
 *		now and then. What comes empty is taken at once
 *	fenced	the deadline has passed: idle pages go to swap, or are lost;
 *		if that is not enough, hold_step lets no step begin and those
 *		under way end
 *	given	it may not grow, or it would take again what it gave
 *	killed	the second deadline has passed: the host ends its process, and
 *		what it holds comes back as from anyone who dies
 *
 * A page that is taken goes by rules K0 to K5 of the step protocol, for all
 * pages of an extent with one barrier; what turns out to be busy stays for the
 * next look. Its entries say that it is lost: a step that wants it is told
 * where to begin again. The epoch moves first, so that a step that had ended
 * and was not committed is -ESTALE: the client throws it away.
 *
 * Who is asked for what, in whole extents:
 *
 *	the administrator	that client; its tenant keeps its min
 *	a tenant over its max	its own clients
 *	weights that wait	clients above their share of what these leave
 *	a ticket that waits	on a full device others, whose tenants keep
 *		their low; at its tenant's limit the tenant's others. It is
 *		entitled to memory of clients of a lower priority; of any, while
 *		its tenant stays within its low; and, while it stays within its
 *		share, of those of its priority that hold more than theirs and
 *		get nowhere with it: idle ones, and steps that do not end
 *
 * Each of these leaves the giver with at least what would entitle it to take
 * as much back, so two clients never take from each other in turn. A share is
 * the device by the tenants' weights, the tenant's by its clients. Of several
 * the one of the lowest priority gives, then the one that can give most.
 *
 * State lies in struct client, one revoke at a time; a second need makes the
 * first one larger. A client that dies takes its revoke along, and what is
 * still needed is looked for again.
 */
#include <errno.h>

#include "kvmd/mm/revoke.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/oom.h"
#include "kvmd/mm/rmap.h"
#include "kvmd/mm/room.h"
#include "kvmd/mm/swap.h"
#include "kvmd/mm/ticket.h"

#define REVOKE_LOOK_NS 20000000ull /* between looks at who is entitled */
#define ASKS	       4u /* in the time that is given */

/* ---- pages ---- */

/* The highest priority of the spaces that map pages of an extent. */
static u32 extent_priority(const struct mm *mm, const struct client *c, u32 e)
{
	const struct space *sps = mm_spaces(mm, c);
	u32 k, n, i, frame, top = 0;

	for_each_frame(frame, n, k, mm, e)
	{
		rmap_for_each(i, mm, c, frame)
			top = max(top, (u32)sps[i].priority);
	}
	return top;
}

static bool extent_is_leaving(const struct mm *mm, u32 e)
{
	u32 k, n, frame;

	for_each_frame(frame, n, k, mm, e)
	{
		if (mm_frames(mm)[frame].state == FRAME_OUT)
			return true;
	}
	return false;
}

/*
 * The extent to go: of those whose pages are all idle that of the lowest
 * priority, then the one that was used longest ago; or MM_NONE.
 * @leaving: extents that are being written to swap
 */
static u32 find_extent(const struct mm *mm, const struct client *c,
		       u32 *leaving)
{
	u32 mask, e, prio, best = MM_NONE, best_prio = 0;
	u64 age, best_age = 0;

	*leaving = 0;
	for (mask = 0; mask < EXTENT_ALL_FREE; mask++) {
		ilist_for_each (e, &c->extents[mask],
				ILINKS(mm_extents(mm), link)) {
			if (extent_is_leaving(mm, e)) {
				++*leaving;
				continue;
			}
			if (!swap_extent_can_leave(mm, c, e, &age))
				continue;
			prio = extent_priority(mm, c, e);
			if (best != MM_NONE &&
			    (prio > best_prio ||
			     (prio == best_prio && age >= best_age)))
				continue;
			best = e;
			best_prio = prio;
			best_age = age;
		}
	}
	return best;
}

/* K1 and K2 of one frame. */
static void page_begin(struct mm *mm, struct client *c, u32 frame)
{
	struct frame *f = &mm_frames(mm)[frame];

	rmap_begin(mm, c, frame);
	f->state = FRAME_OUT;
	f->next = MM_NONE;
}

/* K4 and K5: lost, or as it was. Return: true if it is lost. */
static bool page_end(struct mm *mm, struct client *c, u32 frame)
{
	struct frame *f = &mm_frames(mm)[frame];
	u32 geom = mm_chunks(mm)[frame_head(mm, frame)].geom;
	struct frame_class *cls = &c->cls[geom];
	bool busy = frame_is_busy(mm, c, frame);

	rmap_end(mm, c, frame,
		 busy ? rmap_present(mm, cls, frame, f->refs) : PTE_LOST,
		 !busy);
	f->state = FRAME_USED;
	if (busy)
		return false;
	cls->nr_shared -= f->refs > 1;
	cls->nr_extra -= f->refs - 1;
	f->refs = 0;
	frame_drop(mm, c, geom, frame);
	mm->counts.revoke_lost++;
	return true;
}

/* All pages of an extent are lost, or those that are idle after all. */
static bool lose_extent(struct mm *mm, struct client *c, u32 e)
{
	u32 k, n, frame, self = client_index(mm, c), lost = 0;

	for_each_frame(frame, n, k, mm, e) page_begin(mm, c, frame);
	mm_trace(mm, KV_TP_REVOKE_ENTRY, self, e);
	kv_move_fence();
	/* The last page of a slab takes the slab with it, and the extent. */
	for_each_frame(frame, n, k, mm, e) lost += page_end(mm, c, frame);
	mm_trace(mm, KV_TP_REVOKE_LOST, self, e);
	return lost > 0;
}

/* Steps that have ended and are not committed are void from now on. */
static void move_epoch(struct mm *mm, struct client *c)
{
	kv_store_release(&c->table->epoch, ++c->epoch);
	kv_move_fence();
	mm_trace(mm, KV_TP_REVOKE_EPOCH, client_index(mm, c), c->epoch);
}

/* Empty extents above the goal. */
static void take_empty(struct mm *mm, struct client *c)
{
	const struct ilist *empty = &c->extents[EXTENT_ALL_FREE];

	client_reap(mm, c);
	while (c->nr_empty && c->nr_extents > c->revoke.goal)
		extent_return(mm, c, empty->last, false);
}

static bool is_late(const struct mm *mm, const struct client *c)
{
	return mm->now_ns >= c->revoke.deadline_ns && !c->away;
}

/* Is there time, and a tier that works? */
static bool may_swap(const struct mm *mm, const struct client *c)
{
	return mm->lay.nr_slots && mm->now_ns >= mm->swap_backoff_until &&
	       !is_late(mm, c);
}

/* Idle pages leave until the goal is reached. */
static void take_idle(struct mm *mm, struct client *c)
{
	bool moved = false;
	u32 e, leaving;

	mm->keep_seq++; /* no space is kept */
	swap_share_look(mm);
	for (;;) {
		take_empty(mm, c);
		e = find_extent(mm, c, &leaving);
		if (e == MM_NONE || c->nr_extents <= c->revoke.goal + leaving)
			return;
		if (may_swap(mm, c) && swap_extent_leave(mm, c, e))
			continue;
		if (may_swap(mm, c) && !swap_has_turn(mm, c->tenant))
			return; /* what is on its way goes first */
		if (!moved)
			move_epoch(mm, c);
		moved = true;
		mm_queue_event(mm, c, KV_EVENT_REVOKE, e);
		if (!lose_extent(mm, c, e))
			return;
	}
}

/* ---- stages ---- */

static void set_hold(struct mm *mm, struct client *c, u64 step)
{
	if (c->hold == step)
		return;
	c->hold = step;
	kv_store_release(&c->table->hold_step, step);
	kv_move_fence();
	mm_queue_event(mm, c, KV_EVENT_HOLD, step);
}

static u64 bytes_outstanding(const struct client *c)
{
	return (u64)revoke_outstanding(c) * KV_EXTENT_SIZE;
}

static void ask(struct mm *mm, struct client *c)
{
	struct revoke *r = &c->revoke;

	r->asked = revoke_outstanding(c);
	r->again_ns = mm->now_ns + mm->cfg.revoke_ask_ns / ASKS;
	mm_queue_event(mm, c, KV_EVENT_SHRINK, bytes_outstanding(c));
	mm_trace(mm, KV_TP_REVOKE_ASK, client_index(mm, c), r->asked);
}

/* It may go on, and grow again. */
static void end(struct mm *mm, struct client *c)
{
	set_hold(mm, c, ~0ull);
	c->revoke.state = MM_REVOKE_NONE;
	mm->nr_revokes--;
	mm->dirty = true;
	mm->revoke_look = true;
	mm_trace(mm, KV_TP_REVOKE_END, client_index(mm, c), c->nr_extents);
}

static void count_reached(struct mm *mm, const struct revoke *r)
{
	u64 took = mm->now_ns - r->begun_ns;

	mm->counts.revokes_given += r->state == MM_REVOKE_ASKED;
	mm->counts.revokes_taken += r->state == MM_REVOKE_FENCED;
	mm->counts.revoke_ns += took;
	mm->counts.revoke_max_ns = max(mm->counts.revoke_max_ns, took);
}

/* The goal is reached. */
static void reached(struct mm *mm, struct client *c)
{
	struct revoke *r = &c->revoke;

	count_reached(mm, r);
	if (r->cause != REVOKE_FOR_TICKET) {
		end(mm, c);
		return;
	}
	set_hold(mm, c, ~0ull);
	r->state = MM_REVOKE_GIVEN;
	mm->dirty = true;
}

void revoke_recover(struct mm *mm, struct client *c)
{
	struct revoke *r = &c->revoke;

	c->away = true;
	if (mm->cfg.revoke == MM_REVOKE_OFF)
		r->state = MM_REVOKE_NONE;
	mm->nr_revokes += r->state != MM_REVOKE_NONE;
	if (r->state != MM_REVOKE_FENCED && r->state != MM_REVOKE_KILLED)
		c->hold = ~0ull;
	else
		c->hold = min(c->hold, c->completed);
	c->epoch = max(c->epoch, c->table->epoch);
	kv_store_release(&c->table->epoch, c->epoch);
	kv_store_release(&c->table->hold_step, c->hold);
}

void revoke_resume(struct mm *mm, struct client *c)
{
	c->away = false;
	c->revoke.again_ns = 0;
	c->revoke.deadline_ns =
		mm->now_ns + (c->revoke.state == MM_REVOKE_FENCED
				      ? mm->cfg.revoke_fence_ns
				      : mm->cfg.revoke_ask_ns);
	c->moved_ns = mm->now_ns;
	if (mm->cfg.revoke != MM_REVOKE_OFF)
		mm_queue_event(mm, c, KV_EVENT_HOLD, c->hold);
}

/* The first deadline: no more asking. */
static void fence(struct mm *mm, struct client *c)
{
	c->revoke.state = MM_REVOKE_FENCED;
	c->revoke.deadline_ns = mm->now_ns + mm->cfg.revoke_fence_ns;
	take_idle(mm, c);
	if (!revoke_outstanding(c))
		return;
	/* Steps above completed have begun, or wait for what they asked. */
	set_hold(mm, c, c->completed);
	mm_trace(mm, KV_TP_REVOKE_FENCE, client_index(mm, c),
		 revoke_outstanding(c));
}

/* The second one. What kvmd itself is writing still is no fault of it. */
static void kill_if_late(struct mm *mm, struct client *c)
{
	if (!is_late(mm, c) || c->nr_io)
		return;
	oom_kill(mm, c);
	c->revoke.state = MM_REVOKE_KILLED;
	mm->counts.revokes_killed++;
	mm->tenants[c->tenant].events.oom_kill++;
	mm_queue(mm, MM_REQ_KILL, c, 0, 0);
	mm_trace(mm, KV_TP_REVOKE_KILL, client_index(mm, c), c->nr_extents);
}

static void advance(struct mm *mm, struct client *c)
{
	struct revoke *r = &c->revoke;

	if (r->state == MM_REVOKE_KILLED || r->state == MM_REVOKE_GIVEN)
		return;
	take_empty(mm, c);
	if (r->state == MM_REVOKE_ASKED && revoke_outstanding(c)) {
		if (is_late(mm, c))
			fence(mm, c);
		else if (mm->now_ns >= r->again_ns ||
			 revoke_outstanding(c) < r->asked)
			ask(mm, c);
	} else if (revoke_outstanding(c)) {
		take_idle(mm, c);
		if (revoke_outstanding(c))
			kill_if_late(mm, c);
	}
	if (!revoke_outstanding(c))
		reached(mm, c);
}

/* @nr more extents of @c are wanted. */
static void begin(struct mm *mm, struct client *c, u32 nr,
		  enum revoke_cause cause, u64 ticket)
{
	struct revoke *r = &c->revoke;
	bool idle = r->state == MM_REVOKE_NONE || r->state == MM_REVOKE_GIVEN;

	mm->nr_revokes += r->state == MM_REVOKE_NONE;
	if (r->state == MM_REVOKE_NONE || cause <= r->cause) {
		r->cause = (u8)cause;
		r->ticket = ticket;
	}
	if (idle) {
		r->goal = c->nr_extents;
		r->state = MM_REVOKE_ASKED;
		r->begun_ns = mm->now_ns;
		r->deadline_ns = mm->now_ns + mm->cfg.revoke_ask_ns;
		mm->counts.revokes++;
		mm->tenants[c->tenant].events.revoked++;
	}
	r->goal = min(r->goal, c->nr_extents) - nr;
	mm->dirty = true;
	take_empty(mm, c);
	if (r->state == MM_REVOKE_ASKED && revoke_outstanding(c))
		ask(mm, c);
	advance(mm, c);
}

/* ---- who gives ---- */

/* What a tenant will have when all that is asked for has come. */
static u64 tenant_after(const struct mm *mm, u32 tenant)
{
	const struct client *cs = mm_clients(mm);
	u64 out = 0;
	u32 i;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].tenant == tenant)
			out += bytes_outstanding(&cs[i]);
	return mm->tenants[tenant].held + mm->tenants[tenant].charged - out;
}

/* Extents of a tenant above @floor bytes. */
static u32 tenant_spare(const struct mm *mm, u32 tenant, u64 floor)
{
	u64 after = tenant_after(mm, tenant);

	return after <= floor ? 0 : (u32)((after - floor) / KV_EXTENT_SIZE);
}

/* The extents of one client that its tenant's weight stands for. */
static u32 share_of(const struct mm *mm, const struct client *c)
{
	const struct tenant *t = &mm->tenants[c->tenant], *u;
	u64 sum = 0, bytes = mm->cfg.device_bytes - mm->charged, most;

	bytes -= min(bytes, mm->room_bytes);
	for (u = mm->tenants; u < mm->tenants + MM_TENANT_MAX; u++)
		sum += u->nr_clients ? max(u->limits.weight, 1u) : 0;
	bytes = bytes / max(sum, 1ull) * max(t->limits.weight, 1u);
	most = t->limits.max_bytes - min(t->limits.max_bytes, t->charged);
	return (u32)(min(bytes, most) / max(t->nr_clients, 1u) /
		     KV_EXTENT_SIZE);
}

static u32 top_priority(const struct mm *mm, const struct client *c)
{
	const struct space *sps = mm_spaces(mm, c);
	u32 i, top = 0;

	for (i = 0; i < c->space_top; i++)
		if (sps[i].state == KV_SPACE_LIVE)
			top = max(top, (u32)sps[i].priority);
	return top;
}

/* Holds it memory and gets nowhere with it? */
static bool gets_nowhere(const struct mm *mm, const struct client *c)
{
	const struct space *sps = mm_spaces(mm, c);
	u64 still = mm->now_ns - c->moved_ns;
	u32 i;

	if (still < mm->cfg.revoke_ask_ns || c->away)
		return false;
	if (still >= mm->cfg.revoke_fence_ns)
		return true;
	for (i = 0; i < c->space_top; i++)
		if (sps[i].state == KV_SPACE_LIVE &&
		    space_is_busy(mm, c, &sps[i]))
			return false;
	return true;
}

/* A need, and what @c could give for it. */
struct need {
	enum revoke_cause cause;
	u32 tenant; /* whose clients give; MM_NONE: all tenants' */
	const struct ticket *ticket;
	u32 extents;
};

/* Extents that it has not been asked for. */
static u32 nr_left(const struct client *c)
{
	return c->nr_extents - revoke_outstanding(c);
}

/* Of those, what it may give to @to: another tenant keeps its low. */
static u32 most_for(const struct mm *mm, const struct client *c,
		    const struct client *to)
{
	const struct tenant *t = &mm->tenants[c->tenant];

	if (c->tenant == to->tenant)
		return nr_left(c);
	return min(nr_left(c),
		   tenant_spare(mm, c->tenant, t->limits.low_bytes));
}

static u32 ticket_spare(const struct mm *mm, const struct need *n,
			const struct client *c, u32 priority)
{
	const struct ticket *t = n->ticket;
	const struct client *to = &mm_clients(mm)[t->client];
	const struct tenant *tt = &mm->tenants[to->tenant];
	u32 left = nr_left(c), most, share;

	if (c == to)
		return 0;
	most = most_for(mm, c, to);
	if (t->priority > priority)
		return most;
	if (c->tenant != to->tenant &&
	    tenant_after(mm, to->tenant) + (u64)t->extents * KV_EXTENT_SIZE <=
		    tt->limits.low_bytes)
		return most;
	share = share_of(mm, c);
	if (t->priority < priority || left <= share ||
	    to->nr_extents + t->extents > share_of(mm, to) ||
	    !gets_nowhere(mm, c))
		return 0;
	return min(most, left - share);
}

/* For weights: what is above a client's share of what they leave. */
static u32 room_spare(const struct mm *mm, const struct client *c)
{
	u32 left = nr_left(c), above = left - min(left, share_of(mm, c));

	return min(most_for(mm, c, &mm_clients(mm)[mm->room_client]), above);
}

static u32 spare_of(struct mm *mm, const struct need *n, struct client *c,
		    u32 *priority)
{
	if (c->state != CLIENT_LIVE || c->revoke.state == MM_REVOKE_KILLED ||
	    !c->nr_extents || (n->tenant != MM_NONE && c->tenant != n->tenant))
		return 0;
	client_reap(mm, c);
	*priority = top_priority(mm, c);
	if (n->cause == REVOKE_FOR_TICKET)
		return ticket_spare(mm, n, c, *priority);
	if (n->cause == REVOKE_FOR_WEIGHTS)
		return room_spare(mm, c);
	return nr_left(c);
}

/* Find who gives, one after the other, until the need is met. */
static void find_givers(struct mm *mm, struct need *n)
{
	struct client *cs = mm_clients(mm);
	u32 i, best, spare, most, prio = 0, lowest = 0;

	while (n->extents) {
		best = MM_NONE;
		most = 0;
		ilist_for_each (i, &mm->clients, ILINKS(cs, link)) {
			spare = spare_of(mm, n, &cs[i], &prio);
			if (!spare || (best != MM_NONE &&
				       (prio > lowest ||
					(prio == lowest && spare <= most))))
				continue;
			best = i;
			most = spare;
			lowest = prio;
		}
		if (best == MM_NONE)
			return;
		most = min(most, n->extents);
		n->extents -= most;
		begin(mm, &cs[best], most, n->cause,
		      n->ticket ? n->ticket->id : 0);
	}
}

/* ---- who needs ---- */

static void look_at_limits(struct mm *mm)
{
	struct need n = { .cause = REVOKE_FOR_LIMIT };
	u64 after, max_bytes;
	u32 i;

	if (!mm->over_limit)
		return;
	mm->over_limit = false;
	for (i = 0; i < MM_TENANT_MAX; i++) {
		const struct tenant *t = &mm->tenants[i];

		max_bytes = t->limits.max_bytes;
		if (!t->nr_clients || t->held + t->charged <= max_bytes)
			continue;
		mm->over_limit = true;
		after = tenant_after(mm, i);
		if (after <= max_bytes)
			continue;
		n.tenant = i;
		n.extents = (u32)DIV_ROUND_UP(after - max_bytes,
					      (u64)KV_EXTENT_SIZE);
		find_givers(mm, &n);
	}
}

static void look_at_room(struct mm *mm)
{
	struct need n = { .cause = REVOKE_FOR_WEIGHTS,
			  .tenant = MM_NONE,
			  .extents = room_extents_short(mm) };

	find_givers(mm, &n);
}

/* Extents that are there or on their way for a ticket. */
static u64 coming_for(const struct mm *mm, const struct ticket *t, u32 tenant)
{
	const struct client *cs = mm_clients(mm);
	u64 n;
	u32 i;

	if (t->block == BLOCK_TENANT)
		n = extent_tenant_room(mm, tenant);
	else
		n = (u64)mm->by_state[EXTENT_READY].nr + extent_nr_coming(mm) +
		    extent_nr_possible(mm);
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (t->block == BLOCK_DEVICE || cs[i].tenant == tenant)
			n += revoke_outstanding(&cs[i]);
	return n;
}

/* Those behind the first of a kind are not its equals, but wait for it. */
static void look_at_tickets(struct mm *mm)
{
	const struct ticket *ts = mm_tickets(mm);
	bool seen[MM_TENANT_MAX + 1] = { false };
	u32 i, next, tenant, kind;
	u64 coming;

	ilist_for_each_safe (i, next, &mm->waiting, ILINKS(ts, link)) {
		struct need n = { .cause = REVOKE_FOR_TICKET,
				  .tenant = MM_NONE,
				  .ticket = &ts[i] };

		if (!(ts[i].flags & KV_SQE_WAIT) ||
		    !block_is_full(ts[i].block) || ts[i].reclaiming ||
		    mm_clients(mm)[ts[i].client].revoke.state)
			continue;
		tenant = mm_clients(mm)[ts[i].client].tenant;
		if (ts[i].block == BLOCK_TENANT)
			n.tenant = tenant;
		kind = min(n.tenant, MM_TENANT_MAX);
		if (seen[kind])
			continue;
		seen[kind] = true;
		coming = coming_for(mm, &ts[i], tenant);
		if (ts[i].extents <= coming)
			continue;
		n.extents = ts[i].extents - (u32)coming;
		find_givers(mm, &n);
	}
}

/* Does nobody need any more what is asked of @c? */
static bool is_moot(const struct mm *mm, const struct client *c)
{
	const struct tenant *t = &mm->tenants[c->tenant];
	const struct ticket *k;

	switch (c->revoke.cause) {
	case REVOKE_FOR_LIMIT:
		return t->held + t->charged <= t->limits.max_bytes;
	case REVOKE_FOR_WEIGHTS:
		return !room_is_wanted(mm);
	case REVOKE_FOR_TICKET:
		k = &mm_tickets(mm)[c->revoke.ticket % MM_TICKET_MAX];
		return k->state != TICKET_WAITING || k->id != c->revoke.ticket;
	}
	return false;
}

/*
 * Nobody needs it any more. What its ticket took before the next look at it was
 * given, not called off.
 */
static void call_off(struct mm *mm, struct client *c)
{
	if (c->revoke.state != MM_REVOKE_GIVEN) {
		if (revoke_outstanding(c))
			mm->counts.revokes_off++;
		else
			count_reached(mm, &c->revoke);
	}
	end(mm, c);
}

static void end_moot(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	u8 state;
	u32 i;

	if (!mm->nr_revokes)
		return;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link)) {
		state = cs[i].revoke.state;
		if (state == MM_REVOKE_NONE || state == MM_REVOKE_KILLED ||
		    !is_moot(mm, &cs[i]))
			continue;
		call_off(mm, &cs[i]);
	}
}

bool revoke_run(struct mm *mm)
{
	u32 tail = mm->queue_tail;

	if (!mm->revoke_look)
		return false;
	mm->revoke_look = false;
	if (mm->cfg.revoke == MM_REVOKE_OFF)
		return false;
	mm->revoke_looked_ns = mm->now_ns;
	end_moot(mm);
	look_at_limits(mm);
	if (mm->cfg.revoke == MM_REVOKE_TICKETS) {
		look_at_room(mm);
		look_at_tickets(mm);
	}
	return tail != mm->queue_tail || mm->dirty;
}

/* ---- from outside ---- */

bool revoke_over_limit(struct mm *mm)
{
	if (mm->cfg.revoke == MM_REVOKE_OFF)
		return false;
	mm->over_limit = true;
	mm->revoke_look = true;
	return true;
}

static bool somebody_waits(const struct mm *mm)
{
	return mm->cfg.revoke == MM_REVOKE_TICKETS && mm->waiting.nr;
}

bool revoke_wants_tick(const struct mm *mm)
{
	return mm->nr_revokes || mm->over_limit || somebody_waits(mm);
}

void revoke_tick(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	u32 i;

	if (mm->nr_revokes)
		ilist_for_each (i, &mm->clients, ILINKS(cs, link))
			if (cs[i].revoke.state)
				advance(mm, &cs[i]);
	if ((mm->over_limit || somebody_waits(mm)) &&
	    mm->now_ns >= mm->revoke_looked_ns + REVOKE_LOOK_NS)
		mm->revoke_look = true;
}

/*
 * Its process may live on and have a step under way: that is void, and no other
 * begins, before a page of it is anything else.
 */
void revoke_exit(struct mm *mm, struct client *c)
{
	c->hold = 0;
	kv_store_release(&c->table->hold_step, 0);
	kv_store_release(&c->table->epoch, ++c->epoch);
	kv_move_fence();
	mm->revoke_look = true;
	if (!c->revoke.state)
		return;
	c->revoke.state = MM_REVOKE_NONE;
	mm->nr_revokes--;
}

int mm_revoke(struct mm *mm, u32 client, u64 bytes, u64 *asked)
{
	struct client *c;
	u64 nr;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	if (mm->cfg.revoke == MM_REVOKE_OFF)
		return -EOPNOTSUPP;
	if (!bytes)
		return -EINVAL;
	nr = bytes / KV_EXTENT_SIZE + (bytes % KV_EXTENT_SIZE > 0);
	nr = min(nr, (u64)nr_left(c));
	nr = min(nr,
		 (u64)tenant_spare(mm, c->tenant,
				   mm->tenants[c->tenant].limits.min_bytes));
	if (!nr)
		return -EPERM;
	begin(mm, c, (u32)nr, REVOKE_FOR_ADMIN, 0);
	*asked = nr * KV_EXTENT_SIZE;
	return 0;
}
