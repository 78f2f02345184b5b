/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_KV_NONE_H
#define RUNTIME_ENGINE_KV_NONE_H
/*
 * kv_none.h - operations of a backend that has nothing of their kind
 *
 * No daemon to ask ahead, nobody to share with, nowhere for pages to go. They
 * stand in a backend's table like its own.
 */
#include "runtime/engine/kv_backend.h"

void kv_none_step_prefetch(struct kv_backend *b,
			   const struct kv_resv_item *items, u32 nr);
u32 kv_none_step_copies(struct kv_backend *b, const struct kern_copy **list);
int kv_none_step_commit(struct kv_backend *b);
void kv_none_step_abandon(struct kv_backend *b);
u32 kv_none_prefix_map(struct kv_backend *b, u32 space, const u32 *ids, u32 nr);
void kv_none_prefix_publish(struct kv_backend *b, u32 space, const u32 *ids,
			    u32 nr, bool resume);
void kv_none_shrink(struct kv_backend *b);
u64 kv_none_swap_room(struct kv_backend *b);
u64 kv_none_space_out(struct kv_backend *b, u32 space, u64 nr);
bool kv_none_space_whole(struct kv_backend *b, u64 nr); /* always */
bool kv_none_lost(struct kv_backend *b, u32 *space);

#endif
