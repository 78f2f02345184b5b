/* SPDX-License-Identifier: MIT */
/*
 * tenant.c - on whose account memory is held, and how much may be
 *
 * A tenant is charged for whole extents, from the grant until the memory may
 * be reused, and for the weights it opened. Its maximum is checked before
 * every charge, so it is never exceeded by a byte; lowered below what is in
 * use it takes nothing away, but nothing is added until use has fallen, and
 * the tenant's clients are told to shrink.
 *
 * A slot lives while somebody refers to it (the host, a client) or memory
 * stands on its account.
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/extent.h"
#include "kvmd/mm/high.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/revoke.h"
#include "kvmd/mm/spare.h"

static u64 used(const struct tenant *t)
{
	return t->held + t->charged;
}

static struct tenant *tenant_find(struct mm *mm, u32 tenant)
{
	if (tenant >= MM_TENANT_MAX || !mm->tenants[tenant].refs)
		return NULL;
	return &mm->tenants[tenant];
}

int mm_tenant_get(struct mm *mm, const char *name, u32 *tenant)
{
	struct tenant *t = NULL;
	u32 i;

	if (!name[0] || strnlen(name, KV_NAME_LEN) >= KV_NAME_LEN)
		return -EINVAL;
	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (mm->tenants[i].refs && !strcmp(mm->tenants[i].name, name)) {
			mm->tenants[i].refs++;
			*tenant = i;
			return 0;
		}
		if (!mm->tenants[i].refs && !used(&mm->tenants[i]) &&
		    !mm->tenants[i].nr_swap_io && !mm->tenants[i].out_bytes &&
		    !t)
			t = &mm->tenants[i];
	}
	if (!t)
		return -ENOSPC;
	memset(t, 0, sizeof(*t));
	memcpy(t->name, name, strlen(name));
	t->limits.max_bytes = MM_LIMIT_NONE;
	t->limits.weight = 100;
	t->swap_max = MM_LIMIT_NONE;
	for (i = 0; i < MM_TIER_MAX; i++)
		t->tier_max[i] = MM_LIMIT_NONE;
	t->high = MM_LIMIT_NONE;
	mm_order();
	t->refs = 1;
	*tenant = (u32)(t - mm->tenants);
	mm->tenant_top = max(mm->tenant_top, *tenant + 1);
	return 0;
}

void mm_tenant_put(struct mm *mm, u32 tenant)
{
	struct tenant *t = tenant_find(mm, tenant);

	if (t)
		t->refs--;
}

/* Tell the tenant's clients what changed. */
static void tell(struct mm *mm, u32 tenant, u32 type, u64 arg)
{
	struct client *cs = mm_clients(mm);
	u32 i;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link))
		if (cs[i].state == CLIENT_LIVE && cs[i].tenant == tenant)
			mm_queue_event(mm, &cs[i], type, arg);
}

u64 tenant_above(const struct tenant *t, u64 most, u64 more)
{
	u64 sum = used(t) + more;

	if (sum < more)
		sum = ~0ull;
	return sum - min(sum, most);
}

u64 tenant_fit(struct mm *mm, u32 tenant, const struct client *keeps, u64 most,
	       u64 more)
{
	struct tenant *t = &mm->tenants[tenant];
	struct client *cache = cache_of(mm, tenant);
	u64 going, above;

	if (tenant_above(t, most, more))
		extent_reclaim(mm, tenant, keeps, false);
	above = tenant_above(t, most, more);
	going = spare_go(mm, tenant, BLOCK_TENANT, false, above);
	if (cache && above > going)
		cache_shrink(mm, cache,
			     (u32)DIV_ROUND_UP(above - going, KV_EXTENT_SIZE));
	return going;
}

int mm_tenant_limit(struct mm *mm, u32 tenant, const struct mm_limits *lim)
{
	struct tenant *t = tenant_find(mm, tenant);
	u64 going, above;

	if (!t)
		return -ENOENT;
	if (lim->min_bytes > lim->low_bytes || lim->low_bytes > lim->max_bytes)
		return -EINVAL;
	t->limits = *lim;
	mm->dirty = true;
	mm->revoke_look = true;
	mm_trace(mm, KV_TP_LIMIT, MM_NONE, tenant);
	mm->stats_ns = 0; /* now: a client says why it was refused by them */
	tell(mm, tenant, KV_EVENT_LIMIT, lim->max_bytes);
	going = tenant_fit(mm, tenant, NULL, lim->max_bytes, 0);
	above = tenant_above(t, lim->max_bytes, 0);
	if (above > going && !revoke_over_limit(mm))
		tell(mm, tenant, KV_EVENT_SHRINK, above - going);
	return 0;
}

double tenant_excess(const struct mm *mm, u32 tenant)
{
	const struct tenant *t = &mm->tenants[tenant], *u;
	double weight = max(t->limits.weight, 1u), sum = 0, share;

	for (u = mm->tenants; u < mm->tenants + MM_TENANT_MAX; u++)
		if (u->nr_clients || u->held)
			sum += max(u->limits.weight, 1u);
	share = (double)(mm->cfg.device_bytes - mm->charged) * weight /
		max(sum, weight);
	return ((double)(t->held - min(t->held, t->giving)) - share) /
	       ((double)KV_EXTENT_SIZE * weight);
}

u32 tenant_next_giver(const struct mm *mm, bool asked[MM_TENANT_MAX])
{
	u32 i, best = MM_NONE;
	double excess, most = 0;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (asked[i])
			continue;
		excess = tenant_excess(mm, i);
		if (best != MM_NONE && excess <= most)
			continue;
		best = i;
		most = excess;
	}
	if (best != MM_NONE)
		asked[best] = true;
	return best;
}

int mm_tenant_swap_limit(struct mm *mm, u32 tenant, u64 max_bytes)
{
	struct tenant *t = tenant_find(mm, tenant);

	if (!t)
		return -ENOENT;
	t->swap_max = max_bytes;
	mm->dirty = true;
	mm_trace(mm, KV_TP_LIMIT, MM_NONE, tenant);
	return 0;
}

int mm_tenant_tier_limit(struct mm *mm, u32 tenant, u32 tier, u64 max_bytes)
{
	struct tenant *t = tenant_find(mm, tenant);

	if (!t)
		return -ENOENT;
	if (tier >= MM_TIER_MAX)
		return -EINVAL;
	t->tier_max[tier] = max_bytes;
	mm->dirty = true;
	mm->demote_look = true;
	mm_trace(mm, KV_TP_LIMIT, MM_NONE, tenant);
	return 0;
}

int mm_tenant_high(struct mm *mm, u32 tenant, u64 high_bytes)
{
	struct tenant *t = tenant_find(mm, tenant);

	if (!t)
		return -ENOENT;
	t->high = high_bytes;
	mm->dirty = true;
	mm_trace(mm, KV_TP_LIMIT, MM_NONE, tenant);
	high_limit(mm, tenant);
	return 0;
}

/* Is there room on the device? -EAGAIN: the host makes some. */
static int charge_device(struct mm *mm, u32 tenant, u64 bytes)
{
	u64 left, going;

	if (bytes > mm->cfg.device_bytes)
		return -ENOSPC;
	extent_release_empty(mm, bytes);
	left = min(extent_device_left(mm), bytes);
	going = spare_go(mm, tenant, BLOCK_DEVICE, false, bytes - left);
	extent_release_cache(mm, bytes - min(bytes, going));
	left = min(extent_device_left(mm), bytes);
	if (left < bytes && !going)
		going = spare_go(mm, tenant, BLOCK_DEVICE, true, bytes - left);
	if (left < bytes)
		return going ? -EAGAIN : -ENOSPC;
	return 0;
}

int mm_tenant_charge(struct mm *mm, u32 tenant, u64 bytes)
{
	struct tenant *t = tenant_find(mm, tenant);
	bool soon = false;
	int rc;

	if (!t)
		return -ENOENT;
	if (bytes <= t->limits.max_bytes)
		soon = tenant_fit(mm, tenant, NULL, t->limits.max_bytes,
				  bytes) > 0;
	if (tenant_above(t, t->limits.max_bytes, bytes)) {
		if (soon)
			return -EAGAIN;
		t->limit_hits++;
		mm->counts.limit_hits++;
		return -EDQUOT;
	}
	rc = charge_device(mm, tenant, bytes);
	if (rc)
		return rc;
	t->charged += bytes;
	mm->charged += bytes;
	t->max_seen = max(t->max_seen, used(t));
	mm_trace(mm, KV_TP_CHARGE, MM_NONE, tenant);
	return 0;
}

void mm_tenant_uncharge(struct mm *mm, u32 tenant, u64 bytes)
{
	struct tenant *t = tenant < MM_TENANT_MAX ? &mm->tenants[tenant] : NULL;

	if (!t || bytes > t->charged) {
		mm->counts.invalid++;
		return;
	}
	t->charged -= bytes;
	mm->charged -= bytes;
	mm->dirty = true;
	mm_trace(mm, KV_TP_CHARGE, MM_NONE, tenant);
}
