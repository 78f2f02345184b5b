/* SPDX-License-Identifier: MIT */
/*
 * spare.c - what the host can let go of at no cost
 */
#include "kvmd/mm/spare.h"
#include "kvmd/mm/extent.h"

/* Bytes of @t that may go for somebody else, beside its pages that leave. */
static u64 unprotected(const struct tenant *t, bool below_low)
{
	u64 used = t->held - min(t->held, t->out_bytes) + t->charged;
	u64 least = t->limits.min_bytes;

	if (!below_low)
		least = max(least, t->limits.low_bytes);
	return used - min(used, least);
}

/* Of those who have any, but @asked, the one the most above its share. */
static u32 next_giver(const struct mm *mm, const bool *asked)
{
	u32 i, best = MM_NONE;
	double excess, most = 0;

	for (i = 0; i < MM_TENANT_MAX; i++) {
		if (asked[i] || !mm->tenants[i].charged)
			continue;
		excess = tenant_excess(mm, i);
		if (best != MM_NONE && excess <= most)
			continue;
		best = i;
		most = excess;
	}
	return best;
}

/* Of others than @tenant, beside @got; @want is as the host's. */
static u64 others(const struct mm *mm, u32 tenant, bool below_low, u64 want,
		  u64 got)
{
	bool asked[MM_TENANT_MAX] = { false };
	u32 i;

	if (tenant != MM_NONE)
		asked[tenant] = true;
	while (!want || got < want) {
		i = next_giver(mm, asked);
		if (i == MM_NONE)
			break;
		asked[i] = true;
		got += mm->ops->spare(mm->host, i, want ? want - got : 0,
				      unprotected(&mm->tenants[i], below_low));
	}
	return got;
}

static u64 spare(const struct mm *mm, u32 tenant, enum ticket_block block,
		 bool below_low, u64 want)
{
	u64 got = 0;

	if (!mm->ops->spare)
		return 0;
	if (tenant != MM_NONE)
		got = mm->ops->spare(mm->host, tenant, want, ~0ull);
	if (block == BLOCK_DEVICE)
		got = others(mm, tenant, below_low, want, got);
	return got;
}

u64 spare_go(struct mm *mm, u32 tenant, enum ticket_block block, bool below_low,
	     u64 bytes)
{
	return bytes ? spare(mm, tenant, block, below_low, bytes) : 0;
}

u64 spare_bytes(const struct mm *mm, u32 tenant, enum ticket_block block)
{
	return spare(mm, tenant, block, true, 0);
}

void mm_spared(struct mm *mm)
{
	mm->dirty = true;
	mm->revoke_look = true;
}
