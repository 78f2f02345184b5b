/* SPDX-License-Identifier: MIT */
/*
 * spare.c - what the host can let go of at no cost
 */
#include "kvmd/mm/spare.h"
#include "kvmd/mm/extent.h"

/* Of others than @tenant, beside @got; @want is as the host's. */
static u64 others(const struct mm *mm, u32 tenant, bool below_low, u64 want,
		  u64 got)
{
	bool asked[MM_TENANT_MAX];
	const struct tenant *t;
	u64 used;
	u32 i;

	for (i = 0; i < MM_TENANT_MAX; i++)
		asked[i] = !mm->tenants[i].charged || i == tenant;
	while (!want || got < want) {
		i = tenant_next_giver(mm, asked);
		if (i == MM_NONE)
			break;
		t = &mm->tenants[i];
		/* its pages that leave are its own no more */
		used = t->held - min(t->held, t->out_bytes) + t->charged;
		got += mm->ops->spare(mm->host, i, want ? want - got : 0,
				      tenant_unprotected(t, used, below_low));
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
