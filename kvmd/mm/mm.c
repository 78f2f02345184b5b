/* SPDX-License-Identifier: MIT */
/*
 * mm.c - the core as a whole: its memory block, its clock, its requests
 *
 * Requests to the host form one queue, in the order in which they were
 * decided: an extent's GRANT stands before the completion that needs it, a
 * client's WITHDRAW before the SCRUB of what was withdrawn. The host drains
 * the queue after every call. A request for a client that has gone since is
 * dropped, even if its slot has a new client.
 *
 * The queue cannot overflow: an extent has at most one of POPULATE, SCRUB,
 * RELEASE out, plus a GRANT and a WITHDRAW between two answers of the host;
 * one of a page cache is granted to a client once, by a call of that client's;
 * a completion belongs to a ticket; events are dropped, and counted, beyond
 * MM_EVENTS_QUEUED.
 *
 * Tickets are looked at when the queue is empty, so that work that was asked
 * for goes out before more is decided.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/background.h"
#include "kvmd/mm/compact.h"
#include "kvmd/mm/demote.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/format.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/revoke.h"
#include "kvmd/mm/room.h"
#include "kvmd/mm/stats.h"
#include "kvmd/mm/swap.h"
#include "kvmd/mm/ticket.h"

static u32 queue_entries(u32 nr_extents)
{
	u32 want = 10 * nr_extents + MM_TICKET_MAX + MM_EVENTS_QUEUED +
		   SWAP_IO_MAX + COPY_IO_MAX + MOVE_IO_MAX;

	return 1u << (32 - __builtin_clz(want - 1));
}

static u64 place(u64 *end, u64 bytes)
{
	u64 at = *end;

	*end = ALIGN_UP(at + bytes, 4096ull);
	return at;
}

static u32 swap_units(const struct mm_config *cfg)
{
	u64 units = 0;
	u32 t;

	for (t = 0; t < MM_TIER_MAX; t++)
		units += cfg->swap_bytes[t] / SLOT_UNIT;
	return (u32)units;
}

static void layout(const struct mm_config *cfg, struct mm_layout *l)
{
	u64 end = 0, clients = MM_CLIENT_MAX;
	u64 frames;

	memset(l, 0, sizeof(*l));
	l->nr_extents = (u32)(cfg->device_bytes / KV_EXTENT_SIZE);
	l->nr_chunks = l->nr_extents * KV_EXTENT_CHUNKS;
	l->queue_mask = queue_entries(l->nr_extents) - 1;
	frames = (u64)l->nr_chunks * FRAMES_PER_CHUNK;
	place(&end, sizeof(struct mm));
	l->extents_off = place(&end, l->nr_extents * sizeof(struct extent));
	l->chunks_off = place(&end, l->nr_chunks * sizeof(struct chunk));
	l->frames_off = place(&end, frames * sizeof(struct frame));
	l->marks_off = place(&end, frames * sizeof(u32));
	l->seen_off = place(&end, frames * sizeof(u32));
	l->clients_off = place(&end, clients * sizeof(struct client));
	l->spaces_off =
		place(&end, clients * KV_SPACE_MAX * sizeof(struct space));
	l->families_off =
		place(&end, clients * KV_SPACE_MAX * sizeof(struct family));
	l->tickets_off = place(&end, MM_TICKET_MAX * sizeof(struct ticket));
	l->items_off = place(&end, (u64)MM_TICKET_MAX * KV_RESV_MAX *
					   sizeof(struct kv_resv_item));
	l->queue_off =
		place(&end, (l->queue_mask + 1ull) * sizeof(struct queued));
	l->copies_off = place(&end, (u64)KV_RESV_MAX * KV_AREA_MAX *
					    sizeof(struct kv_copy));
	l->nr_slots = swap_units(cfg);
	l->slots_off = place(&end, (u64)l->nr_slots * sizeof(struct slot));
	l->slot_map_off = place(&end, BITMAP_WORDS(l->nr_slots) * sizeof(u64));
	l->stale_map_off = place(&end, BITMAP_WORDS(l->nr_slots) * sizeof(u64));
	l->nr_nodes = (u32)min(frames, (u64)MM_NODE_MAX);
	if (cfg->cache_pages)
		l->nr_nodes = (u32)min((u64)l->nr_nodes, cfg->cache_pages);
	l->nodes_off =
		place(&end, (u64)l->nr_nodes * sizeof(struct prefix_node));
	l->tokens_off =
		place(&end, (u64)l->nr_nodes * NODE_TOKENS * sizeof(u32));
	l->refs_off = place(&end, (u64)MM_REF_MAX * sizeof(struct prefix_ref));
	l->path_off = place(&end, KV_AREA_PAGES * sizeof(u32));
	l->grants_off = place(&end, clients * BITMAP_WORDS(l->nr_extents) *
					    sizeof(u64));
	l->nr_ghosts = min(8 * l->nr_nodes, MM_GHOST_MAX);
	l->policy_bytes =
		ALIGN_UP(policy_bytes(l->nr_nodes, l->nr_ghosts), 4096ull);
	l->policies_off = place(&end, MM_TENANT_MAX * l->policy_bytes);
	l->cows_off = place(&end, clients * KV_RESV_MAX * KV_AREA_MAX *
					  sizeof(struct cow));
	l->format_off = place(&end, format_bytes());
	l->state_bytes = end;
}

static bool config_is_valid(const struct mm_config *cfg)
{
	u64 swap = 0;
	u32 t;

	for (t = 0; t < MM_TIER_MAX; t++) {
		if (cfg->swap_bytes[t] > MM_SWAP_MAX - swap)
			return false;
		swap += cfg->swap_bytes[t];
	}
	return mm_swap_set_is_valid(&cfg->swap) &&
	       cfg->watermark_min <= cfg->watermark_low &&
	       cfg->watermark_low <= cfg->watermark_high &&
	       cfg->watermark_high <= cfg->device_bytes && cfg->device_bytes &&
	       cfg->device_bytes % KV_EXTENT_SIZE == 0 &&
	       cfg->device_bytes <= MM_DEVICE_MAX &&
	       cfg->revoke <= MM_REVOKE_TICKETS;
}

int mm_layout_of(const struct mm_config *cfg, struct mm_layout *l)
{
	if (!config_is_valid(cfg))
		return -EINVAL;
	layout(cfg, l);
	return 0;
}

size_t mm_state_bytes(const struct mm_config *cfg)
{
	struct mm_layout l;

	return mm_layout_of(cfg, &l) ? 0 : l.state_bytes;
}

int mm_init(const struct mm_config *cfg, struct mm *mm)
{
	if (mm_layout_of(cfg, &mm->lay))
		return -EINVAL;
	mm->nr_extents = mm->lay.nr_extents;
	mm->nr_chunks = mm->lay.nr_chunks;
	mm->head.version = MM_VERSION;
	format_write(mm);
	mm->cfg = *cfg;
	mm->swap = cfg->swap;
	extent_init(mm);
	ticket_init(mm);
	swap_init(mm);
	ilist_init(&mm->clients);
	mm->node_free = MM_NONE;
	mm->node_seed = cfg->seed;
	mm->cache_policy = POLICY_REUSE;
	mm->ref_top = 1; /* 0 is none */
	return 0;
}

int mm_create(const struct mm_config *cfg, void *state,
	      const struct mm_host_ops *ops, void *host, struct mm **out)
{
	struct mm *mm = state;
	int rc;

	if (!state || !ops->table_grow)
		return -EINVAL;
	rc = mm_init(cfg, mm);
	if (rc)
		return rc;
	mm->ops = ops;
	mm->host = host;
	mm_order();
	mm->head.magic = MM_MAGIC;
	*out = mm;
	return 0;
}

void mm_destroy(struct mm *mm)
{
	/* The block is the host's; a later mm_create() wants it zeroed. */
	if (mm)
		mm->head.magic = 0;
}

void mm_tick(struct mm *mm, u64 now_ns)
{
	struct client *cs = mm_clients(mm);
	u32 i;

	mm->now_ns = max(mm->now_ns, now_ns);
	if (mm->backoff && mm->now_ns >= mm->backoff_until) {
		mm->backoff = false;
		mm->dirty = true;
	}
	if (mm->swap_backoff_until && mm->now_ns >= mm->swap_backoff_until) {
		mm->swap_backoff_until = 0;
		mm->dirty = true;
	}
	ticket_tick(mm);
	demote_tick(mm);
	revoke_tick(mm);
	compact_tick(mm);
	background_tick(mm);
	pressure_tick(mm);
	deadlock_tick(mm);
	stats_flush(mm);
	if (!mm->nr_leaving && !mm->nr_refs_leaving)
		return;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE &&
		    (cs[i].nr_leaving || cs[i].refs_leaving.nr))
			client_reap(mm, &cs[i]);
}

void mm_now(struct mm *mm, u64 now_ns)
{
	mm->now_ns = max(mm->now_ns, now_ns);
}

bool mm_wants_tick(const struct mm *mm)
{
	return mm->nr_leaving || mm->nr_refs_leaving || mm->backoff ||
	       mm->swap_backoff_until || mm->stats_dirty ||
	       mm->pressure.nr_waiting || ticket_wants_idle(mm) ||
	       revoke_wants_tick(mm) || background_wants_tick(mm) ||
	       compact_wants_tick(mm) || demote_wants_tick(mm) ||
	       room_is_wanted(mm);
}

static struct queued *queue_at(const struct mm *mm, u32 i)
{
	struct queued *q = mm_at(mm, mm->lay.queue_off);

	return &q[i & mm->lay.queue_mask];
}

static struct queued *queue_push(struct mm *mm, enum mm_req_type type,
				 const struct client *c)
{
	struct queued *q = queue_at(mm, mm->queue_tail++);

	memset(q, 0, sizeof(*q));
	q->type = (u8)type;
	q->client = c ? client_index(mm, c) : MM_NONE;
	q->serial = c ? c->serial : 0;
	return q;
}

void mm_queue(struct mm *mm, enum mm_req_type type, const struct client *c,
	      u32 extent, u32 seq)
{
	struct queued *q = queue_push(mm, type, c);

	q->extent = extent;
	q->seq = seq;
}

void mm_queue_event(struct mm *mm, const struct client *c, u32 type, u64 arg)
{
	struct queued *q;

	if (mm->nr_events >= MM_EVENTS_QUEUED) {
		mm->counts.events_dropped++;
		return;
	}
	mm->nr_events++;
	q = queue_push(mm, MM_REQ_EVENT, c);
	q->index = type;
	q->arg = arg;
}

void mm_queue_complete(struct mm *mm, const struct client *c, u32 ticket)
{
	queue_push(mm, MM_REQ_COMPLETE, c)->index = ticket;
}

/* Answered whatever becomes of its client, so it is nobody's. */
void mm_queue_swap(struct mm *mm, enum mm_req_type type, u32 slot)
{
	queue_push(mm, type, NULL)->index = slot;
}

/* Likewise. */
void mm_queue_copy(struct mm *mm, u32 node, u32 area)
{
	struct queued *q = queue_push(mm, MM_REQ_COPY, NULL);

	q->index = node;
	q->arg = area;
}

void mm_queue_move(struct mm *mm, u32 move)
{
	queue_push(mm, MM_REQ_MOVE, NULL)->index = move;
}

void mm_queue_shared(struct mm *mm, enum mm_req_type type,
		     const struct client *c, u32 extent, u32 seq)
{
	struct queued *q = queue_push(mm, type, c);

	q->extent = extent;
	q->seq = seq;
	q->shared = true;
}

static bool is_stale(const struct mm *mm, const struct queued *q)
{
	const struct client *c;

	if (q->client == MM_NONE)
		return false;
	c = &mm_clients(mm)[q->client];
	return c->state != CLIENT_LIVE || c->serial != q->serial;
}

static void fill_complete(struct mm *mm, u32 ticket, struct mm_request *req)
{
	struct ticket *t = &mm_tickets(mm)[ticket];

	req->cqe = t->cqe;
	req->ticket = t->id;
	req->out_off = t->out_off;
	req->out_room = t->out_room;
	req->since_ns = t->since_ns;
	req->faults = t->faults;
	req->copies = t->cqe.res >= 0 ? mm_copies(mm) : NULL;
	req->holders = t->cqe.res == -EAGAIN ? mm->holders : NULL;
}

static void fill_swap(const struct mm *mm, u32 slot, struct mm_swap_io *io)
{
	const struct slot *s = &mm_slots(mm)[slot];
	const struct client *c = &mm_clients(mm)[s->client];
	const struct frame_class *cls = &c->cls[s->geom];
	u32 t = slot_tier(mm, slot);

	io->slot = slot;
	io->client = s->client;
	io->tier = t;
	io->tier_off = (u64)(slot - mm->tier[t].first) * SLOT_UNIT;
	io->bytes = cls->geom.page_bytes;
	io->payer = s->payer;
	io->weight = max(mm->tenants[s->payer].limits.weight, 1u);
	if (s->state == SLOT_FILLING) {
		io->from = slot_tier(mm, s->other);
		io->from_off =
			(u64)(s->other - mm->tier[io->from].first) * SLOT_UNIT;
		s = &mm_slots(mm)[s->other];
	} else {
		io->dev_off = (u64)frame_entry(mm, cls, s->frame)
			      << cls->unit_shift;
	}
	io->key = s->key;
	io->sum = s->sum;
}

/* Where a client's frame, or a cache's, lies on the device. */
static u64 frame_off(const struct mm *mm, u32 frame)
{
	const struct chunk *k = &mm_chunks(mm)[frame_head(mm, frame)];
	const struct frame_class *cls = &mm_clients(mm)[k->client].cls[k->geom];

	return (u64)frame_entry(mm, cls, frame) << cls->unit_shift;
}

static void fill_copy(const struct mm *mm, u32 node, u32 area,
		      struct mm_copy_io *io)
{
	const struct prefix_node *x = &mm_nodes(mm)[node];
	const struct client *cache = cache_of(mm, mm->trees[x->tree].tenant);

	io->node = node;
	io->area = area;
	io->src = frame_off(mm, x->from[area]);
	io->dst = frame_off(mm, x->frame[area]);
	io->bytes =
		cache->cls[mm->trees[x->tree].area[area].geom].geom.page_bytes;
	io->tenant = mm->trees[x->tree].tenant;
}

static void fill_move(const struct mm *mm, u32 move, struct mm_move_io *io)
{
	const struct page_move *m = &mm->moves[move];

	io->move = (u16)move;
	io->src = frame_off(mm, m->from);
	io->dst = frame_off(mm, m->to);
	io->bytes = mm_clients(mm)[m->client].cls[m->geom].geom.page_bytes;
	io->tenant = (u16)mm_clients(mm)[m->client].tenant;
}

static bool queue_pop(struct mm *mm, struct mm_request *req)
{
	struct queued *q;
	bool stale;

	if (mm->answering)
		ticket_free(mm, mm->answering - 1);
	mm->answering = 0;
	while (mm->queue_head != mm->queue_tail) {
		q = queue_at(mm, mm->queue_head++);
		stale = is_stale(mm, q);
		mm->nr_events -= q->type == MM_REQ_EVENT;
		memset(req, 0, sizeof(*req));
		req->type = q->type;
		req->client = q->client;
		req->extent = q->extent;
		req->seq = q->seq;
		req->shared = q->shared;
		if (q->type == MM_REQ_EVENT) {
			req->event.type = q->index;
			req->event.arg = q->arg;
			req->event.time_ns = mm->now_ns;
		} else if (q->type == MM_REQ_COMPLETE) {
			fill_complete(mm, q->index, req);
			if (stale)
				ticket_free(mm, q->index);
			else
				mm->answering = q->index + 1;
		} else if (q->type == MM_REQ_SWAP_OUT ||
			   q->type == MM_REQ_SWAP_IN ||
			   q->type == MM_REQ_DEMOTE) {
			fill_swap(mm, q->index, &req->swap);
		} else if (q->type == MM_REQ_COPY) {
			fill_copy(mm, q->index, (u32)q->arg, &req->copy);
		} else if (q->type == MM_REQ_MOVE) {
			fill_move(mm, q->index, &req->move);
		}
		if (!stale)
			return true;
	}
	return false;
}

bool mm_next_request(struct mm *mm, struct mm_request *req)
{
	for (;;) {
		if (queue_pop(mm, req))
			return true;
		extent_refill(mm);
		if (mm->queue_head == mm->queue_tail && !ticket_run(mm) &&
		    !revoke_run(mm) && !compact_run(mm) && !demote_run(mm)) {
			stats_flush(mm);
			return false;
		}
	}
}
