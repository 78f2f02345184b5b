/* SPDX-License-Identifier: MIT */
/*
 * kv_none.c - operations of a backend that has nothing of their kind
 */
#include "runtime/engine/kv_none.h"

void kv_none_step_prefetch(struct kv_backend *b,
			   const struct kv_resv_item *items, u32 nr)
{
}

u32 kv_none_step_copies(struct kv_backend *b, const struct kern_copy **list)
{
	*list = NULL;
	return 0;
}

int kv_none_step_commit(struct kv_backend *b)
{
	return 0;
}

void kv_none_step_abandon(struct kv_backend *b)
{
}

u32 kv_none_prefix_map(struct kv_backend *b, u32 space, const u32 *ids, u32 nr)
{
	return 0;
}

void kv_none_prefix_publish(struct kv_backend *b, u32 space, const u32 *ids,
			    u32 nr, bool resume)
{
}

void kv_none_shrink(struct kv_backend *b)
{
}

u64 kv_none_swap_room(struct kv_backend *b)
{
	return 0;
}

u64 kv_none_space_out(struct kv_backend *b, u32 space, u64 nr)
{
	return 0;
}

bool kv_none_space_whole(struct kv_backend *b, u64 nr)
{
	return true;
}

bool kv_none_lost(struct kv_backend *b, u32 *space)
{
	return false;
}
