/* SPDX-License-Identifier: MIT */
/*
 * stats.c - the accounts that clients read in their tables
 *
 * A transition marks the figures as changed; the next look at the queue or
 * the next tick writes them out, to all clients, because a tenant's or the
 * device's figure is in each client's table. Not more often than every
 * STATS_PERIOD_NS: a client that reserves a million pages a second pays one
 * flag for it.
 */
#include <kv/stats.h>

#include "kvmd/mm/extent.h"
#include "kvmd/mm/stats.h"

#define STATS_PERIOD_NS 10000000ull

static void fill_device(const struct mm *mm, struct kv_device_stats *d)
{
	u32 t;

	d->bytes = mm->cfg.device_bytes;
	d->held = ((u64)mm->nr_granted + mm->by_state[EXTENT_QUARANTINE].nr) *
		  KV_EXTENT_SIZE;
	d->ready = (u64)mm->by_state[EXTENT_READY].nr * KV_EXTENT_SIZE;
	d->charged = mm->charged;
	d->nr_clients = mm->clients.nr;
	d->nr_tickets = mm->waiting.nr;
	for (t = 0; t < MM_TIER_MAX; t++) {
		d->swap_bytes += mm->tier[t].room;
		d->swap_used += mm->tier[t].stored;
	}
}

static void fill_tenant(const struct tenant *t, struct kv_tenant_stats *s)
{
	s->max_bytes = t->limits.max_bytes;
	s->low_bytes = t->limits.low_bytes;
	s->min_bytes = t->limits.min_bytes;
	s->weight = t->limits.weight;
	s->held = t->held;
	s->charged = t->charged;
	s->max_seen = t->max_seen;
	s->limit_hits = t->limit_hits;
	s->nr_clients = t->nr_clients;
	s->nr_tickets = t->nr_tickets;
	s->swap_max = t->swap_max;
	s->swapped = t->swapped;
}

static void fill_client(const struct client *c, struct kv_client_stats *s)
{
	u32 g;

	s->held = (u64)c->nr_extents * KV_EXTENT_SIZE;
	for (g = 0; g < c->nr_geoms; g++) {
		s->frames += (u64)c->cls[g].nr_used * c->cls[g].geom.page_bytes;
		s->saved += c->cls[g].nr_extra * c->cls[g].geom.page_bytes;
	}
	s->nr_spaces = c->nr_spaces;
	s->nr_extents = c->nr_extents;
	s->nr_leaves = c->leaves_used;
	s->nr_tickets = c->nr_tickets;
}

void stats_flush(struct mm *mm)
{
	struct kv_stats device = { .time_ns = mm->now_ns };
	const struct client *cs = mm_clients(mm);
	u32 i;

	if (!mm->stats_dirty ||
	    (mm->stats_ns && mm->now_ns - mm->stats_ns < STATS_PERIOD_NS))
		return;
	mm->stats_dirty = false;
	mm->stats_ns = mm->now_ns;
	fill_device(mm, &device.device);
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
		struct kv_stats s = device;

		if (cs[i].state != CLIENT_LIVE)
			continue;
		fill_tenant(&mm->tenants[cs[i].tenant], &s.tenant);
		fill_client(&cs[i], &s.client);
		kv_stats_write(kv_table_stats(cs[i].table), &s);
	}
}
