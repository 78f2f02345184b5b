/* SPDX-License-Identifier: MIT */
/*
 * cache.c - a tenant's page cache: the frames of its published prefixes
 *
 * A page cache is a client without a process: it has classes, slabs and
 * extents as any other, charged to its tenant, but no table and no spaces;
 * its frames are named by prefix nodes instead. Nobody but kvmd writes to
 * them. A client of the tenant is given an extent, to be mapped read-only,
 * when an entry of it first names a frame there (mm_grants); when the extent
 * goes, all of them are told.
 *
 * It is there from the first publication until nothing is left in it, and
 * keeps its tenant's account open as long: the last process may be gone and
 * the next one still finds what it left.
 *
 * Eviction takes what the policy says (policy.h), of nodes without a child, a
 * hold and a copy on its way.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/prefix.h"
#include "kvmd/mm/background.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/high.h"
#include "kvmd/mm/ticket.h"

struct client *cache_of(const struct mm *mm, u32 tenant)
{
	u32 i = mm->tenants[tenant].cache;

	return i ? &mm_clients(mm)[i - 1] : NULL;
}

struct client *cache_make(struct mm *mm, u32 tenant)
{
	struct tenant *t = &mm->tenants[tenant];
	struct client *c = cache_of(mm, tenant);
	u32 i;

	if (c)
		return c;
	i = client_take(mm);
	if (i == MM_NONE)
		return NULL;
	c = &mm_clients(mm)[i];
	c->tenant = tenant;
	memcpy(c->name, "cache", 6);
	mm_order();
	c->state = CLIENT_CACHE;
	mm_order();
	t->cache = i + 1;
	t->dropping = false;
	t->refs++;
	policy_init(mm_policy(mm, tenant), mm->lay.nr_nodes, mm->lay.nr_ghosts,
		    &mm_nodes(mm)[0].policy, sizeof(struct prefix_node),
		    mm->cache_policy);
	return c;
}

void cache_put(struct mm *mm, u32 tenant)
{
	struct tenant *t = &mm->tenants[tenant];
	struct client *c = cache_of(mm, tenant);

	if (!c)
		return;
	extent_trim(mm, c, 0, false);
	if (t->nr_nodes || c->nr_extents)
		return;
	t->cache = 0;
	mm_order();
	client_give(mm, c);
}

struct frame_class *cached_class(const struct mm *mm, u32 frame)
{
	const struct chunk *k = &mm_chunks(mm)[frame_head(mm, frame)];

	return &mm_clients(mm)[k->client].cls[k->geom];
}

u32 cache_class(struct mm *mm, struct client *cache,
		const struct kv_geometry *geom)
{
	u32 g;

	for (g = 0; g < cache->nr_geoms; g++)
		if (!memcmp(&cache->cls[g].geom, geom, sizeof(*geom)))
			return g;
	if (g == KV_GEOM_MAX)
		return MM_NONE;
	cache->cls[g].geom = *geom;
	slab_class_init(&cache->cls[g]);
	mm_order();
	cache->nr_geoms++;
	return g;
}

void cache_grant(struct mm *mm, struct client *c, u32 extent)
{
	if (bitmap_test(mm_grants(mm, c), extent))
		return;
	bitmap_set(mm_grants(mm, c), extent);
	mm_queue_shared(mm, MM_REQ_GRANT, c, extent, ++c->extent_seq);
}

void cache_withdrawn(struct mm *mm, const struct client *cache, u32 extent)
{
	const struct client *cs = mm_clients(mm);
	u32 i;

	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link))
		if (cs[i].tenant == cache->tenant)
			bitmap_clear(mm_grants(mm, &cs[i]), extent);
	mm_queue_shared(mm, MM_REQ_WITHDRAW, NULL, extent, cache->tenant);
}

/* ---- eviction ---- */

u64 node_bytes(const struct mm *mm, u32 n)
{
	const struct prefix_node *x = &mm_nodes(mm)[n];
	u64 bytes = 0;
	u32 k;

	for (k = 0; k < KV_AREA_MAX; k++)
		if (x->frame[k] != MM_NONE)
			bytes += cached_class(mm, x->frame[k])->geom.page_bytes;
	return bytes;
}

void cache_evict(struct mm *mm, u32 n, bool room)
{
	struct prefix_node *x = &mm_nodes(mm)[n];
	const struct prefix_tree *t = &mm->trees[x->tree];
	struct client *cache = cache_of(mm, t->tenant);
	u32 k;

	for (k = 0; k < t->nr_areas; k++)
		if (x->frame[k] != MM_NONE)
			frame_put(mm, cache, t->area[k].geom, x->frame[k], 0);
	node_free(mm, n, room);
	mm->counts.prefix_evicted++;
	mm_trace(mm, KV_TP_PREFIX_EVICT, MM_NONE, n);
}

bool cache_evict_one(struct mm *mm, u32 tenant)
{
	u32 n = policy_victim(mm_policy(mm, tenant));

	if (n == POLICY_NONE)
		return false;
	cache_evict(mm, n, true);
	return true;
}

bool cache_room(struct mm *mm, struct client *cache, u32 geom)
{
	u32 need[KV_GEOM_MAX] = { 0 }, extents;

	need[geom] = 1;
	while ((extents = slab_extents_short(cache, need))) {
		if (background_free(mm) >= mm->cfg.watermark_min &&
		    extents <= extent_tenant_room(mm, cache->tenant) &&
		    extents <= high_room(mm, cache->tenant) &&
		    !ticket_needs(mm, cache->tenant)) {
			if (extents + ticket_promised(mm) <=
			    mm->by_state[EXTENT_READY].nr)
				break;
			if (extent_nr_coming(mm) + extent_nr_possible(mm))
				return false; /* in a moment */
		}
		if (!cache_evict_one(mm, cache->tenant))
			return false;
	}
	slab_make(mm, cache, need);
	return true;
}

u32 cache_shrink(struct mm *mm, struct client *cache, u32 extents)
{
	u32 had = cache->nr_extents;

	do
		extent_trim(mm, cache, 0, false);
	while (had - cache->nr_extents < extents &&
	       cache_evict_one(mm, cache->tenant));
	return had - cache->nr_extents;
}

u32 cache_reclaim(struct mm *mm, const struct client *c, bool at_limit,
		  u32 extents)
{
	u32 got = 0, pass, t, n;

	if (c && cache_of(mm, c->tenant))
		got = cache_shrink(mm, cache_of(mm, c->tenant), extents);
	for (pass = 0; pass < 2 && !at_limit; pass++) {
		bool asked[MM_TENANT_MAX];
		struct client *cache;
		struct tenant *g;

		for (t = 0; t < MM_TENANT_MAX; t++)
			asked[t] = !mm->tenants[t].cache ||
				   (c && t == c->tenant);
		while (got < extents &&
		       (t = tenant_next_giver(mm, asked)) != MM_NONE) {
			cache = cache_of(mm, t);
			g = &mm->tenants[t];
			n = (u32)(tenant_unprotected(g, g->held + g->charged,
						     pass) /
				  KV_EXTENT_SIZE);
			n = min(extents - got, n);
			n = cache ? cache_shrink(mm, cache, n) : 0;
			g->events.low += pass ? n : 0;
			got += n;
		}
	}
	return got;
}

u64 mm_cache_drop(struct mm *mm, u32 tenant, bool close)
{
	struct tenant *t;
	u64 bytes = 0;
	u32 n;

	if (tenant >= MM_TENANT_MAX || !mm->tenants[tenant].cache)
		return 0;
	t = &mm->tenants[tenant];
	t->dropping |= close;
	while ((n = policy_victim(mm_policy(mm, tenant))) != POLICY_NONE) {
		bytes += node_bytes(mm, n);
		cache_evict(mm, n, false);
	}
	cache_put(mm, tenant);
	mm->dirty = true;
	return bytes;
}

int mm_cache_policy(struct mm *mm, const char *name)
{
	int kind = policy_kind_parse(name);
	u32 t;

	if (kind < 0)
		return -EINVAL;
	mm->cache_policy = (u32)kind;
	for (t = 0; t < MM_TENANT_MAX; t++)
		if (mm->tenants[t].cache)
			policy_switch(mm_policy(mm, t), (enum policy_kind)kind);
	return 0;
}

const char *mm_cache_policy_name(const struct mm *mm)
{
	return policy_kind_name(mm->cache_policy);
}
