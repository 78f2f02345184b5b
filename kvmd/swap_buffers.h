/* SPDX-License-Identifier: MIT */
#ifndef KVMD_SWAP_BUFFERS_H
#define KVMD_SWAP_BUFFERS_H
/*
 * swap_buffers.h - memory for pages on their way to a tier that is none
 *
 * One piece, of huge pages where the system has some, of which each page takes
 * the first run that is long enough. A run of pages is then a few pieces of
 * memory to the disk, where small pages make one of every 4 KiB: a virtual disk
 * takes as long to look at these as to move them. What was used once stays
 * kvmd's; first fit keeps it little.
 *
 * Context: the loop.
 */
#include "include/kv/types.h"
#include "kvmd/io/tier.h"
#include "lib/bitmap.h"

#define SWAP_BUFFER_BYTES (32u << 20) /* in use at most */
#define SWAP_BUFFER_UNITS (SWAP_BUFFER_BYTES / TIER_ALIGN)

struct swap_buffers {
	char *mem; /* NULL: none yet */
	u64 used[BITMAP_WORDS(SWAP_BUFFER_UNITS)];
};

/* swap_buffers_init - 0 or -ENOMEM */
int __must_check swap_buffers_init(struct swap_buffers *b);
/*
 * swap_buffers_fini - what is in use still, by I/O that never ends, stays where
 * it is, and the rest with it; fine if there was no init
 */
void swap_buffers_fini(struct swap_buffers *b);
/* swap_buffer_get - at a multiple of TIER_ALIGN; NULL: too much is in use */
void *swap_buffer_get(struct swap_buffers *b, u32 bytes);
/* swap_buffer_put - @at: of get(), with the same @bytes; or NULL */
void swap_buffer_put(struct swap_buffers *b, void *at, u32 bytes);

#endif
