/* SPDX-License-Identifier: MIT */
/*
 * swap_buffers.c - memory for pages on their way to a tier that is none
 */
#include "kvmd/swap_buffers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "include/uapi/kv/abi.h"
#include "lib/huge.h"

_Static_assert(SWAP_BUFFER_BYTES >= KV_EXTENT_SIZE,
	       "a page finds room where nothing is in use");

int swap_buffers_init(struct swap_buffers *b)
{
	void *mem;

	if (posix_memalign(&mem, HUGE_PAGE, SWAP_BUFFER_BYTES))
		return -ENOMEM;
	madvise(mem, SWAP_BUFFER_BYTES, MADV_HUGEPAGE);
	b->mem = mem;
	return 0;
}

void swap_buffers_fini(struct swap_buffers *b)
{
	if (!bitmap_weight(b->used, SWAP_BUFFER_UNITS))
		free(b->mem);
	b->mem = NULL;
}

void *swap_buffer_get(struct swap_buffers *b, u32 bytes)
{
	u32 nr = DIV_ROUND_UP(bytes, TIER_ALIGN), i;
	u32 at = bitmap_find_zeros(b->used, SWAP_BUFFER_UNITS, 0, nr);

	if (at == SWAP_BUFFER_UNITS)
		return NULL;
	for (i = at; i < at + nr; i++)
		bitmap_set(b->used, i);
	return b->mem + (size_t)at * TIER_ALIGN;
}

void swap_buffer_put(struct swap_buffers *b, void *at, u32 bytes)
{
	u32 nr = DIV_ROUND_UP(bytes, TIER_ALIGN), first, i;

	if (!at)
		return;
	first = (u32)(((char *)at - b->mem) / TIER_ALIGN);
	for (i = first; i < first + nr; i++)
		bitmap_clear(b->used, i);
}
