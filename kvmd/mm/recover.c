/* SPDX-License-Identifier: MIT */
/*
 * recover.c - a new process goes on with the block of one that was killed
 *
 * The dead process stopped between any two stores. What it left is truth, as
 * far as the table says; everything else is built from it, as if it had never
 * been there.
 *
 *	datum			source
 *	who has an extent	extent.state, .client; else nobody
 *	slabs			chunk heads: class, client, frames ever used
 *	pages of a space	entries in [page_first, page_end); zero entries
 *				at either end were just dropped, those outside
 *				just added: neither counts
 *	leaves in use		the areas' leaf numbers
 *	references of a frame	entries and nodes that name it
 *	frame's identity	the entries
 *	frame's state		references, and who copies from it; without
 *				one it leaves: behind its pin if it had one,
 *				else behind the last step that may run
 *	shared, writable	references
 *	a slot's references	entries; being written: the page is in its
 *				frame still; being read: it is in the slot;
 *				being demoted: it is where entries say
 *	moving entries		none: the page is where it was; those that name
 *				the new frame already do, for they were changed
 *				when the copy was complete
 *	frames pages moved to	references: free, or used
 *	a node			node.state, parent, tokens; its frames if they
 *				say that they are its own
 *	holds on nodes		references in use: a space's while it names
 *				it, else leaving as frames do
 *	search trees, families,	members
 *	lists, counts, maps
 *	bytes of a tenant	extents, slots; weights: the tenant
 *	limits, high, weight	the tenant, number by number
 *	watermarks		mm.cfg, likewise
 *	references of a tenant	clients, its cache; the host's come anew
 *	tickets			their state, written last; order: priority, id;
 *				until when one is slow: the ticket; what the
 *				one that is done has to copy: mm_copies()
 *	what a revoke wants	client.revoke; the hold, if it is fenced. Its
 *				time begins once more when the client is back
 *	pressure		totals and averages as they are; who waits:
 *				tickets; who works: granted and completed
 *	reports, events		as they are; one that was being written is not
 *				there
 *	units being discarded	free, to be discarded
 *	what a client received	seq_known; replies that were to tell of more
 *				are forgotten
 *	from empty		runs being emptied, the rate of compaction,
 *				background reclaim, what the policy had learned
 *	what is evicted next	when nodes were used last
 *	what was begun		the clients' logs (oplog.h, recover_op.c)
 *	requests to the host	states that wait for an answer: asked again
 *	generations		the higher one of ours and the table's, + 1
 *
 * Who dies when. The clients' kernels run on meanwhile, from entries as they
 * are or were; so nothing that an entry named when it was killed is reused
 * before every step that its client has marked or was granted has ended. A
 * client whose table is not given is taken for dead: its extents wait for
 * mm_client_gone() as ever. Killed while it recovers, a process leaves what
 * can be recovered again: truth is changed to what it would be read as.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/recover.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/format.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/revoke.h"

/* ---- is it ours? ---- */

static int block_check(const struct mm_config *cfg, const struct mm *mm)
{
	if (!mm->head.magic)
		return -ENOENT;
	if (mm->head.magic != MM_MAGIC)
		return -EBADMSG;
	if (!mm_is_ours(cfg, mm, mm_state_bytes(cfg)))
		return -EPROTONOSUPPORT;
	return format_is_for(cfg, mm) ? 0 : -EINVAL;
}

/* ---- the whole ---- */

/* The new process's sizes and times; what was set while the other one ran. */
static void take_config(struct mm *mm, const struct mm_config *cfg)
{
	struct mm_config now = *cfg;

	now.watermark_min = mm->cfg.watermark_min;
	now.watermark_low = mm->cfg.watermark_low;
	now.watermark_high = mm->cfg.watermark_high;
	mm->cfg = now;
}

static void begin(struct mm *mm)
{
	u32 i;

	mm->queue_head = mm->queue_tail = mm->nr_events = 0;
	mm->answering = 0;
	for (i = 0; i < EXTENT_NR_STATES; i++)
		ilist_init(&mm->by_state[i]);
	ilist_init(&mm->clients);
	ilist_init(&mm->waiting);
	mm->charged = 0;
	mm->nr_granted = 0;
	mm->demand = 0;
	mm->room_bytes = 0;
	mm->room_reclaims = false;
	mm->goal = 0;
	mm->backoff = false;
	mm->swap_backoff_until = 0;
	mm->nr_leaving = mm->nr_io = mm->nr_copying = mm->nr_refs_leaving = 0;
	mm->out_bytes = 0;
	mm->dirty = mm->client_dirty = mm->stats_dirty = true;
	mm->stats_ns = 0;
	mm->looked_ns = 0;
	mm->stuck_ns = 0;
	mm->nr_revokes = 0;
	mm->revoke_look = true;
	mm->over_limit = mm->cfg.revoke != MM_REVOKE_OFF;
	mm->background = false;
	mm->background_ns = 0;
	mm->nr_moving = 0;
	memset(mm->moves, 0, sizeof(mm->moves));
	mm->compact_look = mm->compact_wants = true;
	mm->compact_credit = 0;
	/* Numbers that must not come twice may have been used uncounted. */
	mm->swap_keys++;
	mm->keep_seq++;
	mm->resv_seq++;
	mm->mark_seq++;
}

/* ---- clients ---- */

u64 client_pin(const struct mm *mm, const struct client *c)
{
	const struct space *sps = mm_spaces(mm, c);
	u64 pin = 0;
	u32 i;

	for (i = 0; i < c->space_top; i++)
		pin = max(pin, space_pin(mm, c, &sps[i]));
	return pin;
}

static void classes_reset(struct client *c)
{
	u32 g, b;

	for (g = 0; g < KV_GEOM_MAX; g++) {
		struct frame_class *cls = &c->cls[g];

		cls->buckets = 0;
		cls->nr_slabs = cls->nr_free = cls->nr_used = 0;
		cls->nr_leaving = cls->nr_shared = 0;
		cls->nr_extra = 0;
		for (b = 0; b < SLAB_BUCKETS; b++)
			ilist_init(&cls->bucket[b]);
	}
}

static void client_reset(struct mm *mm, struct client *c)
{
	u32 i;

	c->nr_spaces = c->leaves_used = c->nr_extents = c->nr_empty = 0;
	c->space_free = c->family_free = MM_NONE;
	c->nr_tickets = c->nr_leaving = c->nr_io = 0;
	c->leaving_first = c->leaving_last = MM_NONE;
	ilist_init(&c->refs);
	ilist_init(&c->refs_leaving);
	ilist_init(&c->slots);
	c->dirty = true;
	c->keep_slabs = c->has_empty = false;
	c->blocked = 0;
	c->looked_at = 0;
	c->compact = (struct compact){ .look = true };
	memset(c->told, 0, sizeof(c->told));
	for (i = 0; i <= EXTENT_ALL_FREE; i++)
		ilist_init(&c->extents[i]);
	classes_reset(c);
	memset(c->leaf_map, 0, sizeof(c->leaf_map));
	ilist_add_tail(&mm->clients, ILINKS(mm_clients(mm), link),
		       client_index(mm, c));
}

/* It has no table any more: what its spaces were is of no interest. */
static void client_lose(struct mm *mm, struct client *c)
{
	if (c->state == CLIENT_LIVE)
		c->state = CLIENT_EXITING;
	mm_order();
	c->table = NULL;
	c->status = NULL;
	memset(mm_spaces(mm, c), 0, sizeof(struct space) * c->space_top);
	memset(mm_families(mm, c), 0, sizeof(struct family) * c->family_top);
	c->space_top = c->family_top = 0;
	c->revoke.state = MM_REVOKE_NONE;
	c->log.kind = OP_NONE;
}

static void recover_clients(struct mm *mm, const struct mm_recover *how)
{
	const struct mm_recover_client *in = how->clients;
	struct client *c = mm_clients(mm);
	u32 i;

	for (i = 0; i < MM_CLIENT_MAX; i++, c++) {
		if (!c->serial)
			continue; /* never used */
		if (c->state == CLIENT_FREE ||
		    (c->state == CLIENT_CACHE &&
		     mm->tenants[c->tenant].cache != i + 1)) {
			client_wipe(c);
			continue;
		}
		if (c->state == CLIENT_CACHE) {
			c->table = NULL;
		} else if (c->state == CLIENT_LIVE && in[i].table &&
			   in[i].status && in[i].serial == c->serial) {
			c->table = in[i].table;
			c->status = in[i].status;
			revoke_recover(mm, c);
		} else {
			client_lose(mm, c);
		}
		client_reset(mm, c);
	}
}

/* ---- tenants ---- */

/* The cache that a tenant names, if it was there already, or still. */
static void recover_caches(struct mm *mm)
{
	const struct client *cs = mm_clients(mm);
	u32 t, i;

	for (t = 0; t < MM_TENANT_MAX; t++) {
		i = mm->tenants[t].cache;
		if (i &&
		    (i > MM_CLIENT_MAX || cs[i - 1].state != CLIENT_CACHE ||
		     cs[i - 1].tenant != t))
			mm->tenants[t].cache = 0;
	}
}

static void recover_tenants(struct mm *mm)
{
	const struct client *cs = mm_clients(mm);
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		struct tenant *t = &mm->tenants[i];

		t->kept = t->refs > 0;
		t->refs = t->kept;
		t->nr_clients = t->nr_tickets = 0;
		t->held = t->swapped = t->giving = 0;
		t->nr_swap_io = 0;
		t->out_bytes = 0;
		if (t->refs)
			mm->tenant_top = max(mm->tenant_top, i + 1);
		memset(t->tier_used, 0, sizeof(t->tier_used));
		t->blocked = 0;
		mm->charged += t->charged;
	}
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link)) {
		mm->tenants[cs[i].tenant].refs++;
		mm->tenants[cs[i].tenant].nr_clients += cs[i].state !=
							CLIENT_CACHE;
	}
}

void mm_recover_end(struct mm *mm)
{
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		mm->tenants[i].refs -= mm->tenants[i].kept;
		mm->tenants[i].kept = false;
	}
}

/* ---- tickets ---- */

/* It was granted, and the last thing its kvmd did. */
static bool ticket_was_granted(const struct client *c, const struct ticket *t)
{
	return c->log.kind == OP_RESERVE && c->log.done &&
	       c->log.ticket == t->id;
}

static void ticket_grant(const struct client *c, struct ticket *t)
{
	t->cqe = (struct kv_cqe){
		.user_data = t->user_data,
		.res = c->log.result,
		.out_len = (u32)c->log.result * (u32)sizeof(struct kv_copy),
		.extent_seq = c->extent_seq,
	};
	mm_order();
	t->state = TICKET_DONE;
}

/* Before the first one that comes after it. */
static void ticket_wait(struct mm *mm, struct client *c, u32 slot)
{
	struct ticket *ts = mm_tickets(mm), *t = &ts[slot];
	u32 pos;

	t->block = BLOCK_NONE;
	t->reclaiming = false;
	ilist_for_each (pos, &mm->waiting, ILINKS(mm_tickets(mm), link))
		if (ts[pos].priority < t->priority ||
		    (ts[pos].priority == t->priority && ts[pos].id > t->id))
			break;
	ilist_add_before(&mm->waiting, ILINKS(mm_tickets(mm), link), pos, slot);
	c->nr_tickets++;
	mm->tenants[c->tenant].nr_tickets++;
}

static void recover_tickets(struct mm *mm)
{
	struct ticket *ts = mm_tickets(mm), *t;
	struct client *c;
	u32 i;

	mm->ticket_free = MM_NONE;
	for (i = 0; i < mm->ticket_top; i++) {
		t = &ts[i];
		c = &mm_clients(mm)[t->client];
		if (t->state != TICKET_FREE && c->state != CLIENT_LIVE)
			t->state = TICKET_FREE;
		if (t->state == TICKET_WAITING && ticket_was_granted(c, t))
			ticket_grant(c, t);
		if (t->state == TICKET_WAITING) {
			ticket_wait(mm, c, i);
		} else if (t->state == TICKET_DONE) {
			mm_queue_complete(mm, c, i);
		} else {
			t->link.next = mm->ticket_free;
			mm->ticket_free = i;
		}
	}
}

/* ---- what has to be done by somebody else ---- */

static void ask_again(struct mm *mm)
{
	const struct extent *es = mm_extents(mm);
	const struct client *cs = mm_clients(mm);
	const struct prefix_node *x;
	u32 i, k;

	for (i = 0; i < mm->nr_extents; i++) {
		if (es[i].state == EXTENT_FILLING)
			mm_queue(mm, MM_REQ_POPULATE, NULL, i, 0);
		else if (es[i].state == EXTENT_SCRUBBING)
			mm_queue(mm, MM_REQ_SCRUB, NULL, i, 0);
		else if (es[i].state == EXTENT_BARE && es[i].backed)
			mm_queue(mm, MM_REQ_RELEASE, NULL, i, 0);
	}
	for (i = 0; i < mm->node_top; i++) {
		x = &mm_nodes(mm)[i];
		for (k = 0; x->state == NODE_LIVE && k < KV_AREA_MAX; k++)
			if (x->copying & (1u << k))
				mm_queue_copy(mm, i, k);
	}
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link))
		if (cs[i].revoke.state == MM_REVOKE_KILLED)
			mm_queue(mm, MM_REQ_KILL, &cs[i], 0, 0);
}

/* From here on all is in order, and what was on its way goes on. */
static void finish(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	u32 i, next, t;

	recover_nodes_end(mm);
	ilist_for_each_safe (i, next, &mm->clients, ILINKS(cs, link)) {
		if (cs[i].state == CLIENT_DRAINING)
			client_gone_finish(mm, &cs[i]);
		else if (cs[i].state == CLIENT_LIVE)
			extent_trim(mm, &cs[i], 1, false);
	}
	for (t = 0; t < MM_TENANT_MAX; t++) {
		if (mm->tenants[t].dropping)
			mm_cache_drop(mm, t, true);
		else
			cache_put(mm, t);
	}
}

int mm_recover(const struct mm_config *cfg, void *state,
	       const struct mm_recover *how, const struct mm_host_ops *ops,
	       void *host, struct mm **out)
{
	struct mm *mm = state;
	struct client *cs;
	u32 i;
	int rc;

	rc = block_check(cfg, mm);
	if (rc)
		return rc;
	mm->ops = ops;
	mm->host = host;
	take_config(mm, cfg);
	begin(mm);
	recover_clients(mm, how);
	recover_caches(mm);
	recover_tenants(mm);
	recover_extents(mm);
	cs = mm_clients(mm);
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE)
			recover_op(mm, &cs[i]);
	recover_count_begin(mm);
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE)
			recover_spaces(mm, &cs[i], how->tiers_lost);
	recover_prefixes(mm);
	recover_frames(mm);
	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE)
			recover_entries(mm, &cs[i]);
	recover_slots(mm);
	recover_tickets(mm);
	pressure_recover(mm);
	ask_again(mm);
	finish(mm);
	*out = mm;
	return 0;
}

/* ---- clients that come back ---- */

u32 mm_client_serial(const struct mm *mm, u32 client)
{
	return client < MM_CLIENT_MAX ? mm_clients(mm)[client].serial : 0;
}

u32 mm_client_tickets(const struct mm *mm, u32 client)
{
	const struct ticket *ts = mm_tickets(mm);
	u32 i, nr = 0;

	for (i = 0; i < mm->ticket_top; i++)
		nr += ts[i].state != TICKET_FREE && ts[i].client == client;
	return nr;
}

int mm_client_resume(struct mm *mm, u32 client, u32 *seq)
{
	struct extent *es = mm_extents(mm);
	struct client *c;
	u32 i;
	int rc, nr = 0;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	*seq = c->extent_seq;
	revoke_resume(mm, c);
	for (i = 0; i < mm->nr_extents; i++) {
		if (es[i].state == EXTENT_GRANTED && es[i].client == client) {
			es[i].seq = ++c->extent_seq;
			mm_queue(mm, MM_REQ_GRANT, c, i, es[i].seq);
			nr++;
		} else if (bitmap_test(mm_grants(mm, c), i)) {
			mm_queue_shared(mm, MM_REQ_GRANT, c, i,
					++c->extent_seq);
			nr++;
		}
	}
	return nr;
}
