/* SPDX-License-Identifier: MIT */
/*
 * client.c - a client's life: attach, geometries, exit, gone
 *
 *	free -> live -> exiting -> (draining) -> free
 *
 * Each attach gets a fresh table and a fresh status array (K8). On exit the
 * client asks for nothing more, its tickets go, and its extents wait in
 * quarantine, still charged: a kernel of it may run on. When its device
 * stream is gone the extents are uncharged and scrubbed; frames, slabs,
 * spaces and table go with them, without being walked. What was the
 * client's is then free to the byte. While a page of it is on its way to or
 * from a swap tier, the extents wait for that (draining): the host may not
 * write to memory that is another's.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/extent.h"
#include "kvmd/mm/oplog.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/revoke.h"
#include "kvmd/mm/swap.h"
#include "kvmd/mm/ticket.h"
#include "lib/hash.h"

int mm_client_live(struct mm *mm, u32 client, struct client **out)
{
	struct client *c;

	if (client >= MM_CLIENT_MAX)
		return -ENOENT;
	c = &mm_clients(mm)[client];
	if (c->state == CLIENT_FREE)
		return -ENOENT;
	if (c->state != CLIENT_LIVE)
		return -ESHUTDOWN;
	*out = c;
	return 0;
}

static void table_init(const struct client *c, u32 client)
{
	struct kv_table_hdr *t = c->table;

	t->major = KV_ABI_MAJOR;
	t->minor = KV_ABI_MINOR;
	t->client = client;
	t->nr_leaves = 0;
	t->epoch = 0;
	t->spaces_off = KV_TABLE_SPACES_OFF;
	t->leaves_off = KV_TABLE_LEAVES_OFF;
	t->hold_step = ~0ull;
	t->nr_geoms = 0;
	kv_store_release(&t->magic, KV_ABI_MAGIC);
}

u32 client_take(struct mm *mm)
{
	struct client *c = mm_clients(mm);
	u32 i, k;

	for (i = 0; i < MM_CLIENT_MAX; i++, c++)
		if (c->state == CLIENT_FREE)
			break;
	if (i == MM_CLIENT_MAX)
		return MM_NONE;
	c->serial++;
	c->space_free = MM_NONE;
	c->family_free = MM_NONE;
	c->leaving_first = MM_NONE;
	c->leaving_last = MM_NONE;
	ilist_init(&c->slots);
	ilist_init(&c->refs);
	ilist_init(&c->refs_leaving);
	for (k = 0; k <= EXTENT_ALL_FREE; k++)
		ilist_init(&c->extents[k]);
	memset(mm_grants(mm, c), 0, BITMAP_WORDS(mm->nr_extents) * sizeof(u64));
	ilist_add_tail(&mm->clients, ILINKS(mm_clients(mm), link), i);
	return i;
}

void client_wipe(struct client *c)
{
	size_t head = offsetof(struct client, tenant);

	c->state = CLIENT_FREE;
	mm_order();
	memset((char *)c + head, 0, sizeof(*c) - head);
}

void client_give(struct mm *mm, struct client *c)
{
	mm->tenants[c->tenant].refs--;
	ilist_del(&mm->clients, ILINKS(mm_clients(mm), link),
		  client_index(mm, c));
	client_wipe(c);
}

int mm_client_attach(struct mm *mm, const struct mm_attach *at, u32 *client)
{
	struct tenant *t;
	struct client *c;
	u32 i;

	if (at->tenant >= MM_TENANT_MAX || !mm->tenants[at->tenant].refs)
		return -ENOENT;
	if (!at->table || !at->status ||
	    strnlen(at->name, KV_NAME_LEN) == KV_NAME_LEN)
		return -EINVAL;
	i = client_take(mm);
	if (i == MM_NONE)
		return -ENOSPC;
	t = &mm->tenants[at->tenant];
	c = &mm_clients(mm)[i];
	c->tenant = at->tenant;
	c->table = at->table;
	c->status = at->status;
	c->completed = at->steps_from;
	c->steps_from = at->steps_from;
	c->ns = at->ns;
	c->rank = at->rank;
	memcpy(c->name, at->name, sizeof(c->name));
	c->hold = ~0ull;
	c->moved_ns = mm->now_ns;
	t->refs++;
	t->nr_clients++;
	table_init(c, i);
	mm_order();
	c->state = CLIENT_LIVE;
	*client = i;
	mm_trace(mm, KV_TP_ATTACH, i, at->tenant);
	return 0;
}

void mm_client_exit(struct mm *mm, u32 client)
{
	struct client *c;

	if (mm_client_live(mm, client, &c))
		return;
	c->state = CLIENT_EXITING;
	revoke_exit(mm, c);
	ticket_drop(mm, c);
	pressure_exit(mm, c);
	swap_client_exit(mm, c);
	mm_trace(mm, KV_TP_EXIT, client, c->nr_extents);
	extent_quarantine(mm, c);
}

void mm_client_gone(struct mm *mm, u32 client)
{
	struct client *c;

	if (client >= MM_CLIENT_MAX)
		return;
	mm_client_exit(mm, client);
	c = &mm_clients(mm)[client];
	if (c->state != CLIENT_EXITING)
		return;
	prefix_client_gone(mm, c);
	mm->nr_leaving -= c->nr_leaving;
	c->nr_leaving = 0;
	c->nr_spaces = 0;
	memset(mm_spaces(mm, c), 0, sizeof(struct space) * c->space_top);
	memset(mm_families(mm, c), 0, sizeof(struct family) * c->family_top);
	c->space_top = 0;
	c->table = NULL;
	c->status = NULL;
	mm_order();
	c->state = CLIENT_DRAINING;
	if (!c->nr_io)
		client_gone_finish(mm, c);
}

void client_gone_finish(struct mm *mm, struct client *c)
{
	u32 client = client_index(mm, c);

	extent_scrub_all(mm, c);
	mm->tenants[c->tenant].nr_clients--;
	client_give(mm, c);
	mm->dirty = true;
	mm_trace(mm, KV_TP_GONE, client, 0);
}

int mm_shrink(struct mm *mm, u32 client)
{
	struct client *c;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	client_reap(mm, c);
	return (int)extent_trim(mm, c, 0, false);
}

/* Do the last bytes of the last row still lie in the page? */
static bool rows_fit(const struct kv_geometry *g)
{
	u64 end;

	end = (u64)(g->nr_layers - 1u) * g->layer_stride +
	      (u64)(g->page_tokens - 1) * g->token_stride +
	      (u64)(g->nr_kv_heads - 1u) * g->head_stride + g->v_offset +
	      (u64)g->head_dim * 2;
	return end <= g->page_bytes;
}

static bool geom_is_valid(const struct kv_geometry *g)
{
	return g->page_tokens && g->page_tokens <= 256 &&
	       !(g->page_tokens & (g->page_tokens - 1)) && g->nr_layers &&
	       g->nr_kv_heads && g->head_dim && g->elem == KV_ELEM_BF16 &&
	       !g->flags && !g->unit_bytes && !g->slab_chunks &&
	       !g->slab_pages && !g->reserved[0] && !g->reserved[1] &&
	       !g->reserved[2] && g->page_bytes && g->page_bytes % 4096 == 0 &&
	       g->page_bytes <= KV_EXTENT_SIZE && rows_fit(g);
}

/* The smallest run of 1, 2 or 4 chunks that wastes under 2 %, else 4. */
static void choose_slab(struct kv_geometry *g)
{
	u32 chunks, pages, run;

	for (chunks = 1; chunks < 4; chunks *= 2) {
		run = chunks * KV_CHUNK_SIZE;
		pages = run / g->page_bytes;
		if (pages && (run - pages * g->page_bytes) * 50ull < run)
			break;
	}
	g->slab_chunks = chunks;
	g->slab_pages = chunks * KV_CHUNK_SIZE / g->page_bytes;
}

int mm_geom_add(struct mm *mm, u32 client, struct kv_geometry *geom, u32 *id)
{
	struct client *c;
	int rc;

	rc = mm_client_live(mm, client, &c);
	if (rc)
		return rc;
	if (!geom_is_valid(geom)) {
		mm->counts.invalid++;
		return -EINVAL;
	}
	if (c->nr_geoms == KV_GEOM_MAX)
		return -ENOSPC;
	choose_slab(geom);
	geom->unit_bytes =
		min(geom->page_bytes & -geom->page_bytes, KV_CHUNK_SIZE);
	c->cls[c->nr_geoms].geom = *geom;
	slab_class_init(&c->cls[c->nr_geoms]);
	c->cls[c->nr_geoms].fingerprint = hash_bytes(
		geom, sizeof(*geom), hash_bytes(&c->ns, sizeof(c->ns), 0));
	op_begin(c, OP_GEOM, c->nr_geoms, 0);
	*id = c->nr_geoms++;
	kv_store_release(&c->table->nr_geoms, c->nr_geoms);
	op_end(c, (int)*id);
	mm_trace(mm, KV_TP_GEOM_ADD, client, *id);
	return 0;
}
