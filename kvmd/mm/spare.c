/* SPDX-License-Identifier: MIT */
/*
 * spare.c - what the host can let go of at no cost
 */
#include "kvmd/mm/spare.h"

/* Bytes of @t that may go for somebody else. */
static u64 unprotected(const struct tenant *t, bool below_low)
{
	u64 used = t->held + t->charged - t->giving;
	u64 least = t->limits.min_bytes;

	if (!below_low)
		least = max(least, t->limits.low_bytes);
	return used - min(used, least);
}

/* Of others than @tenant; @want is as the host's. */
static u64 others(const struct mm *mm, u32 tenant, bool below_low, u64 want,
		  u64 got)
{
	const struct tenant *t;
	u32 i;

	for (i = 0; i < MM_TENANT_MAX && (!want || got < want); i++) {
		t = &mm->tenants[i];
		if (i == tenant || !t->charged)
			continue;
		got += mm->ops->spare(mm->host, i, want ? want - got : 0,
				      unprotected(t, below_low));
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
}
