/* SPDX-License-Identifier: MIT */
/*
 * info.c - what the core tells about itself
 *
 * Figures per class are kept as pages come and go; those that need a walk
 * over entries (a space's shares, tokens in use) are computed on request.
 * What a client says of a length is clamped to the pages it has.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/extent.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/revoke.h"
#include "kvmd/mm/swap.h"

/* A page's bytes divided among mappers, summed without rounding loss. */
#define SHARE_SHIFT 16

void mm_counts_get(const struct mm *mm, struct mm_counts *out)
{
	*out = mm->counts;
}

static u64 client_frame_bytes(const struct client *c)
{
	u64 sum = 0;
	u32 g;

	for (g = 0; g < c->nr_geoms; g++)
		sum += (u64)c->cls[g].nr_used * c->cls[g].geom.page_bytes;
	return sum;
}

/* Its own frame, or the cache's. */
static u32 page_frame(const struct mm *mm, const struct client *c,
		      const struct space_area *a, kv_pte_t pte)
{
	u32 frame = pte_frame(mm, c, a, pte);

	return frame == MM_NONE ? pte_cached(mm, c, a, pte) : frame;
}

/* Entries that map a frame; a node's reference to its own is none. */
static u32 nr_mappers(const struct mm *mm, u32 frame)
{
	const struct chunk *k = &mm_chunks(mm)[frame_head(mm, frame)];
	u32 refs = mm_frames(mm)[frame].refs;

	refs -= mm_clients(mm)[k->client].state == CLIENT_CACHE;
	return max(refs, 1u);
}

/* Committed tokens of page @page, as far as the client can be believed. */
static u64 page_tokens_used(const struct client *c, const struct space_area *a,
			    u32 page, u64 len)
{
	u32 shift = c->cls[a->geom].page_shift;
	u64 start = (u64)page << shift;

	if (len <= start)
		return 0;
	return min(len - start, 1ull << shift);
}

/* Bytes of @sp's committed tokens; a shared page's count once, in parts. */
static u64 space_token_bytes(const struct mm *mm, const struct client *c,
			     const struct space *sp)
{
	u64 len = kv_load_relaxed(&c->status->space[space_slot(mm, c, sp)].len);
	u64 sum = 0, token_bytes;
	u32 k, page, frame, refs;

	for (k = 0; k < sp->nr_areas; k++) {
		const struct space_area *a = &sp->area[k];
		const struct frame_class *cls = &c->cls[a->geom];

		token_bytes = ((u64)cls->geom.page_bytes << SHARE_SHIFT) >>
			      cls->page_shift;
		for (page = a->page_first; page < a->page_end; page++) {
			frame = page_frame(mm, c, a, *pte_at(c, a, page));
			if (frame == MM_NONE)
				continue;
			refs = nr_mappers(mm, frame);
			sum += page_tokens_used(c, a, page, len) * token_bytes /
			       refs;
		}
	}
	return sum;
}

/*
 * A cache's frame counts one reference for its node: mapped once it is not
 * shared, and two spaces save one page.
 */
static void add_cache_usage(const struct mm *mm, const struct client *c,
			    struct mm_usage *out)
{
	const struct prefix_node *x;
	u64 bytes;
	u32 n, k, refs;

	out->cache_held_bytes += (u64)c->nr_extents * KV_EXTENT_SIZE;
	out->cache_bytes += client_frame_bytes(c);
	out->frame_bytes += client_frame_bytes(c);
	out->cache_nodes += mm->tenants[c->tenant].nr_nodes;
	for (n = 0; n < mm->node_top; n++) {
		x = &mm_nodes(mm)[n];
		if (x->state != NODE_LIVE ||
		    mm->trees[x->tree].tenant != c->tenant)
			continue;
		for (k = 0; k < mm->trees[x->tree].nr_areas; k++) {
			if (x->frame[k] == MM_NONE)
				continue;
			refs = mm_frames(mm)[x->frame[k]].refs;
			bytes = c->cls[mm->trees[x->tree].area[k].geom]
					.geom.page_bytes;
			out->cache_mapped_bytes += refs > 1 ? bytes : 0;
			out->shared_bytes += refs > 2 ? bytes : 0;
			out->saved_bytes += refs > 2 ? (refs - 2) * bytes : 0;
		}
	}
}

static void add_client_usage(const struct mm *mm, const struct client *c,
			     struct mm_usage *out, u64 *tokens)
{
	const struct space *sps = mm_spaces(mm, c);
	u32 g, i;

	out->frame_bytes += client_frame_bytes(c);
	for (g = 0; g < c->nr_geoms; g++) {
		const struct frame_class *cls = &c->cls[g];

		out->shared_bytes += (u64)cls->nr_shared * cls->geom.page_bytes;
		out->saved_bytes += cls->nr_extra * cls->geom.page_bytes;
	}
	for (i = 0; i < c->space_top; i++)
		if (sps[i].state == KV_SPACE_LIVE)
			*tokens += space_token_bytes(mm, c, &sps[i]);
}

void mm_usage_get(const struct mm *mm, struct mm_usage *out)
{
	const struct client *cs = mm_clients(mm);
	u64 tokens = 0;
	u32 i;

	memset(out, 0, sizeof(*out));
	out->device_bytes = mm->cfg.device_bytes;
	out->held_bytes =
		((u64)mm->nr_granted + mm->by_state[EXTENT_QUARANTINE].nr) *
		KV_EXTENT_SIZE;
	out->ready_bytes = (u64)mm->by_state[EXTENT_READY].nr * KV_EXTENT_SIZE;
	out->charged_bytes = mm->charged;
	out->watermark[0] = mm->cfg.watermark_min;
	out->watermark[1] = mm->cfg.watermark_low;
	out->watermark[2] = mm->cfg.watermark_high;
	out->goal_bytes = mm->goal;
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link))
		if (cs[i].state == CLIENT_CACHE)
			add_cache_usage(mm, &cs[i], out);
		else
			add_client_usage(mm, &cs[i], out, &tokens);
	out->token_bytes = tokens >> SHARE_SHIFT;
	for (i = 0; i < MM_TIER_MAX; i++) {
		out->swap_bytes[i] = mm->tier[i].room;
		out->swap_used[i] = mm->tier[i].stored;
		out->swap_pages[i] = mm->tier[i].pages;
	}
}

int mm_tenant_info(const struct mm *mm, u32 tenant, struct mm_tenant_info *out)
{
	const struct client *cs = mm_clients(mm);
	const struct tenant *t;
	u32 i;

	if (tenant >= MM_TENANT_MAX ||
	    (!mm->tenants[tenant].refs && !mm->tenants[tenant].charged))
		return -ENOENT;
	t = &mm->tenants[tenant];
	memset(out, 0, sizeof(*out));
	memcpy(out->name, t->name, sizeof(out->name));
	out->limits = t->limits;
	out->held_bytes = t->held;
	out->charged_bytes = t->charged;
	out->max_seen_bytes = t->max_seen;
	out->limit_hits = t->limit_hits;
	out->nr_tickets = t->nr_tickets;
	out->swap_bytes = t->swapped;
	out->swap_max_bytes = t->swap_max;
	memcpy(out->tier_bytes, t->tier_used, sizeof(out->tier_bytes));
	memcpy(out->tier_max_bytes, t->tier_max, sizeof(out->tier_max_bytes));
	out->swap_out_bytes = t->swap_out_bytes;
	out->swap_in_bytes = t->swap_in_bytes;
	out->high_bytes = t->high;
	out->events = t->events;
	out->events.max = t->limit_hits;
	out->nr_clients = t->nr_clients;
	if (t->cache) {
		out->cache_held_bytes =
			(u64)cache_of(mm, tenant)->nr_extents * KV_EXTENT_SIZE;
		out->cache_bytes = client_frame_bytes(cache_of(mm, tenant));
	}
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link))
		if (cs[i].tenant == tenant)
			out->frame_bytes += client_frame_bytes(&cs[i]);
	return 0;
}

int mm_client_info(const struct mm *mm, u32 client, struct mm_client_info *out)
{
	const struct client *c;

	if (client >= MM_CLIENT_MAX ||
	    mm_clients(mm)[client].state == CLIENT_FREE)
		return -ENOENT;
	c = &mm_clients(mm)[client];
	memset(out, 0, sizeof(*out));
	memcpy(out->name, c->name, sizeof(out->name));
	out->tenant = c->tenant;
	out->state = c->state;
	out->nr_spaces = c->nr_spaces;
	out->nr_geoms = c->nr_geoms;
	out->nr_extents = c->nr_extents;
	out->nr_leaves = c->leaves_used;
	out->held_bytes = (u64)c->nr_extents * KV_EXTENT_SIZE;
	out->frame_bytes = client_frame_bytes(c);
	out->revoke = c->revoke.state;
	out->revoke_bytes = (u64)revoke_outstanding(c) * KV_EXTENT_SIZE;
	out->completed = c->completed;
	out->ns = c->ns;
	out->rank = c->rank;
	return 0;
}

static void add_area_info(const struct mm *mm, const struct client *c,
			  const struct space_area *a, struct mm_space_info *out,
			  u64 *pss)
{
	u64 bytes = c->cls[a->geom].geom.page_bytes;
	u32 page, frame, refs;
	kv_pte_t pte;

	for (page = a->page_first; page < a->page_end; page++) {
		pte = *pte_at(c, a, page);
		frame = page_frame(mm, c, a, pte);
		if (frame == MM_NONE) {
			out->pages_lost += pte_is_lost(pte);
			if (pte_slot(mm, c, a, pte) != MM_NONE) {
				out->pages_swapped++;
				out->swap_bytes += bytes;
			}
			continue;
		}
		refs = nr_mappers(mm, frame);
		out->pages++;
		out->rss_bytes += bytes;
		*pss += (bytes << SHARE_SHIFT) / refs;
		if (refs > 1)
			out->pages_shared++;
		else
			out->uss_bytes += bytes;
	}
}

int mm_space_info(const struct mm *mm, u32 client, u32 space,
		  struct mm_space_info *out)
{
	const struct client *c;
	const struct space *sp;
	u64 pss = 0;
	u32 k;

	if (client >= MM_CLIENT_MAX ||
	    mm_clients(mm)[client].state == CLIENT_FREE)
		return -ENOENT;
	c = &mm_clients(mm)[client];
	sp = space_find(mm, c, space);
	if (!sp)
		return -ENOENT;
	memset(out, 0, sizeof(*out));
	out->state = sp->state;
	out->family = sp->family;
	out->parent = sp->parent;
	out->nr_areas = sp->nr_areas;
	out->len = kv_load_relaxed(&c->status->space[space].len);
	out->active_step = space_active(mm, c, sp);
	out->resv_step = sp->resv;
	out->gen = sp->gen;
	for (k = 0; k < sp->nr_areas; k++)
		add_area_info(mm, c, &sp->area[k], out, &pss);
	out->pss_bytes = pss >> SHARE_SHIFT;
	return 0;
}

int mm_tree_info(const struct mm *mm, u32 i, struct mm_tree_info *out)
{
	const struct prefix_tree *t;
	const struct prefix_node *x;
	u32 n;

	if (i >= MM_TREE_MAX || !mm->trees[i].nr_nodes)
		return -ENOENT;
	t = &mm->trees[i];
	*out = (struct mm_tree_info){
		.tenant = t->tenant,
		.nr_areas = t->nr_areas,
		.ns = t->ns,
		.nodes = t->nr_nodes,
		.asked_tokens = t->asked_tokens,
		.hit_tokens = t->hit_tokens,
	};
	for (n = 0; n < mm->node_top; n++) {
		x = &mm_nodes(mm)[n];
		if (x->state != NODE_LIVE || x->tree != i)
			continue;
		out->nodes_held += x->holds > 0;
		out->nodes_copying += x->copying != 0;
		out->tokens += x->nr_tokens;
		out->bytes += node_bytes(mm, n);
	}
	return 0;
}

const struct kv_geometry *mm_geom(const struct mm *mm, u32 client, u32 id)
{
	const struct client *c;

	if (client >= MM_CLIENT_MAX)
		return NULL;
	c = &mm_clients(mm)[client];
	if (c->state == CLIENT_FREE || id >= c->nr_geoms)
		return NULL;
	return &c->cls[id].geom;
}

u32 mm_extent_owner(const struct mm *mm, u32 extent)
{
	if (extent >= mm->nr_extents)
		return MM_NONE;
	return mm_extents(mm)[extent].client;
}
