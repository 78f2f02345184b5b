/* SPDX-License-Identifier: MIT */
/*
 * high.c - a tenant above its soft limit
 *
 * Above its high a tenant still gets what it asks for, but it pays first: an
 * extent that one of its clients holds empty comes back, then its weights that
 * nobody has open go, then pages of its cache that nobody maps are evicted,
 * then idle pages of it begin to leave for swap. If it would be above its high
 * even so, the reservation waits a time that grows with the excess,
 * HIGH_MOST_NS where the excess is as much as the high itself, and is then
 * served as any other. Nothing is refused for it; a reservation that needs no
 * extent, or whose client has no ticket left, does not even wait.
 *
 * The wait is a ticket of the block BLOCK_HIGH. It ends early when the tenant
 * has fallen below its high. Weights are charged as always, but count.
 */
#include "kvmd/mm/high.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/reclaim.h"

#define HIGH_LEAST_NS 1000000ull
#define HIGH_MOST_NS  100000000ull

/* Bytes above its high with @extents more. */
static u64 excess(const struct mm *mm, u32 tenant, u32 extents)
{
	const struct tenant *t = &mm->tenants[tenant];

	return tenant_above(t, t->high, (u64)extents * KV_EXTENT_SIZE);
}

u32 high_room(const struct mm *mm, u32 tenant)
{
	const struct tenant *t = &mm->tenants[tenant];
	u64 used = t->held + t->charged;

	return used >= t->high ? 0
			       : (u32)min((t->high - used) / KV_EXTENT_SIZE,
					  (u64)mm->nr_extents);
}

/* Return: bytes above its high that nothing idle makes up for. */
static u64 give_idle(struct mm *mm, u32 tenant, const struct client *keeps,
		     u32 extents)
{
	u64 going = tenant_fit(mm, tenant, keeps, mm->tenants[tenant].high,
			       (u64)extents * KV_EXTENT_SIZE);
	u64 above = excess(mm, tenant, extents);

	return above - min(above, going);
}

static u64 slow_ns(u64 above, u64 high)
{
	double part = (double)above / (double)max(high, (u64)KV_EXTENT_SIZE);

	return max((u64)(min(part, 1.0) * HIGH_MOST_NS), HIGH_LEAST_NS);
}

bool high_slows(struct mm *mm, struct client *c, const struct resv_plan *p,
		u32 extents, u64 *until_ns)
{
	struct tenant *t = &mm->tenants[c->tenant];
	u64 above;

	if (likely(t->high == MM_LIMIT_NONE) || !extents ||
	    !excess(mm, c->tenant, extents))
		return false;
	if (!*until_ns) {
		above = give_idle(mm, c->tenant, c, extents);
		if (above)
			reclaim(mm, c, p, BLOCK_TENANT, above);
		if (!excess(mm, c->tenant, extents))
			return false;
		*until_ns = mm->now_ns + slow_ns(above, t->high);
		t->events.high += above > 0;
	}
	return mm->now_ns < *until_ns;
}

void high_limit(struct mm *mm, u32 tenant)
{
	give_idle(mm, tenant, NULL, 0);
}
