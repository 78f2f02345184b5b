/* SPDX-License-Identifier: MIT */
/*
 * oom.c - a report when memory is not to be had
 *
 * A ring of the last MM_OOM_MAX, in the core's block. A report is written
 * when a reservation asks for more than there can ever be, when a client gives
 * up one that had waited for PATIENCE_NS, and when a client is to be killed
 * for memory it does not give. Who gives up sooner has changed its mind; a
 * ticket's time is its client's, the core sets none.
 *
 * It is a copy: who is named in it may be gone when it is read. Writing one
 * walks all spaces, so a client that is refused over and over is reported once
 * in PERIOD_NS; kills always are.
 */
#include <string.h>

#include "kvmd/mm/oom.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/revoke.h"

#define PATIENCE_NS 1000000000ull
#define PERIOD_NS   1000000000ull

u64 mm_oom_next(const struct mm *mm)
{
	return mm->nr_ooms + 1;
}

const struct mm_oom *mm_oom_get(const struct mm *mm, u64 seq)
{
	const struct mm_oom *r = &mm->oom[seq % MM_OOM_MAX];

	return seq && r->seq == seq ? r : NULL;
}

/*
 * Where a row of @size goes in a list of at most @room, the largest first:
 * those behind it have been moved on. NULL: it is smaller than all of them.
 */
static void *make_place(void *rows, size_t size, u32 *nr, u32 room, u64 key,
			u64 (*key_of)(const void *row))
{
	char *at = rows;
	u32 i = *nr;

	while (i && key_of(at + (i - 1) * size) < key)
		i--;
	if (i == room)
		return NULL;
	*nr = min(*nr + 1, room);
	memmove(at + (i + 1) * size, at + i * size, (*nr - 1 - i) * size);
	memset(at + i * size, 0, size);
	return at + i * size;
}

static u64 tenant_key(const void *row)
{
	const struct mm_oom_tenant *t = row;

	return t->held_bytes + t->charged_bytes;
}

static u64 client_key(const void *row)
{
	return ((const struct mm_oom_client *)row)->held_bytes;
}

static u64 space_key(const void *row)
{
	return ((const struct mm_oom_space *)row)->bytes;
}

static void add_tenant(const struct mm *mm, u32 tenant, struct mm_oom *r)
{
	const struct tenant *t = &mm->tenants[tenant];
	struct mm_oom_tenant *row;

	if (!t->refs && !t->held && !t->charged)
		return;
	row = make_place(r->tenants, sizeof(*row), &r->nr_tenants,
			 MM_OOM_TENANTS, t->held + t->charged, tenant_key);
	if (!row)
		return;
	memcpy(row->name, t->name, sizeof(row->name));
	row->limits = t->limits;
	row->held_bytes = t->held;
	row->charged_bytes = t->charged;
	row->swap_bytes = t->swapped;
	row->high_bytes = t->high;
	if (t->cache)
		row->cache_bytes =
			(u64)cache_of(mm, tenant)->nr_extents * KV_EXTENT_SIZE;
}

static void add_client(const struct mm *mm, const struct client *c,
		       struct mm_oom *r)
{
	u64 held = (u64)c->nr_extents * KV_EXTENT_SIZE;
	struct mm_oom_client *row;

	row = make_place(r->clients, sizeof(*row), &r->nr_clients,
			 MM_OOM_CLIENTS, held, client_key);
	if (!row)
		return;
	memcpy(row->name, c->name, sizeof(row->name));
	memcpy(row->tenant, mm->tenants[c->tenant].name, sizeof(row->tenant));
	row->client = client_index(mm, c);
	row->nr_spaces = c->nr_spaces;
	row->held_bytes = held;
	row->cache = c->state == CLIENT_CACHE;
}

static u64 present_bytes(const struct client *c, const struct space *sp)
{
	u64 bytes = 0;
	u32 k;

	for (k = 0; k < sp->nr_areas; k++)
		bytes += (u64)(sp->area[k].page_end - sp->area[k].page_first -
			       sp->area[k].nr_out) *
			 c->cls[sp->area[k].geom].geom.page_bytes;
	return bytes;
}

static void add_spaces(const struct mm *mm, const struct client *c,
		       struct mm_oom *r)
{
	const struct space *sp = mm_spaces(mm, c);
	struct mm_oom_space *row;
	u64 bytes;
	u32 i;

	for (i = 0; i < c->space_top; i++, sp++) {
		if (sp->state != KV_SPACE_LIVE)
			continue;
		bytes = present_bytes(c, sp);
		row = make_place(r->spaces, sizeof(*row), &r->nr_spaces,
				 MM_OOM_SPACES, bytes, space_key);
		if (!row)
			continue;
		memcpy(row->tenant, mm->tenants[c->tenant].name,
		       sizeof(row->tenant));
		row->client = client_index(mm, c);
		row->space = i;
		row->bytes = bytes;
		row->priority = sp->priority;
		row->busy = space_is_busy(mm, c, sp);
	}
}

/* A new report, in which everything is said but what happened. Nobody finds it
 * before report_end(), nor the one it replaces. */
static struct mm_oom *report(struct mm *mm, const struct client *c)
{
	const struct client *cs = mm_clients(mm);
	struct mm_oom *r = &mm->oom[mm_oom_next(mm) % MM_OOM_MAX];
	u32 i;

	r->seq = 0;
	mm_order();
	memset(r, 0, sizeof(*r));
	r->time_ns = mm->now_ns;
	memcpy(r->name, c->name, sizeof(r->name));
	memcpy(r->tenant, mm->tenants[c->tenant].name, sizeof(r->tenant));
	r->client = client_index(mm, c);
	r->for_client = MM_NONE;
	r->device_bytes = mm->cfg.device_bytes;
	r->held_bytes =
		((u64)mm->nr_granted + mm->by_state[EXTENT_QUARANTINE].nr) *
		KV_EXTENT_SIZE;
	r->ready_bytes = (u64)mm->by_state[EXTENT_READY].nr * KV_EXTENT_SIZE;
	r->charged_bytes = mm->charged;
	for (i = 0; i < MM_TENANT_MAX; i++)
		add_tenant(mm, i, r);
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
		add_client(mm, &cs[i], r);
		if (cs[i].state == CLIENT_LIVE)
			add_spaces(mm, &cs[i], r);
	}
	return r;
}

static void report_end(struct mm *mm, struct mm_oom *r)
{
	mm_order();
	r->seq = mm_oom_next(mm);
	mm_order();
	mm->nr_ooms++;
}

void oom_refused(struct mm *mm, struct client *c, enum mm_oom_cause cause,
		 enum ticket_block block, u32 extents, u64 step, u64 since_ns)
{
	u64 max_bytes = mm->tenants[c->tenant].limits.max_bytes;
	u64 waited = mm->now_ns - since_ns;
	struct mm_oom *r;

	if ((cause == MM_OOM_GAVE_UP && waited < PATIENCE_NS) ||
	    (c->oom_ns && mm->now_ns < c->oom_ns + PERIOD_NS))
		return;
	c->oom_ns = max(mm->now_ns, 1ull);
	r = report(mm, c);
	r->cause = cause;
	r->why = MM_OOM_WHY_MAX;
	if (block == BLOCK_DEVICE || max_bytes >= mm->cfg.device_bytes)
		r->why = MM_OOM_WHY_DEVICE;
	r->bytes = (u64)extents * KV_EXTENT_SIZE;
	r->step = step;
	r->waited_ns = waited;
	report_end(mm, r);
}

void oom_kill(struct mm *mm, const struct client *c)
{
	const struct revoke *k = &c->revoke;
	struct mm_oom *r = report(mm, c);

	r->cause = MM_OOM_KILL;
	r->why = MM_OOM_WHY_ADMIN + k->cause;
	if (k->cause == REVOKE_FOR_TICKET)
		r->for_client =
			mm_tickets(mm)[k->ticket % MM_TICKET_MAX].client;
	r->bytes = (u64)revoke_outstanding(c) * KV_EXTENT_SIZE;
	r->step = c->completed;
	r->waited_ns = mm->now_ns - k->begun_ns;
	report_end(mm, r);
}
