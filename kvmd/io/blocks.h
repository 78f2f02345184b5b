/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_BLOCKS_H
#define KVMD_IO_BLOCKS_H
/*
 * blocks.h - memory for pieces of any size, in chains of small blocks
 *
 * A piece takes as many blocks as it needs, wherever they are: nothing is ever
 * too scattered to be used, and what is taken is known to the block. The price
 * is half a block a piece, and that it is copied in and out.
 *
 * Any thread may call; a piece is its caller's.
 */
#include "include/kv/types.h"

#define BLOCK_BYTES 1024u
#define BLOCK_NONE  0xffffffffu

struct blocks;

/* blocks_create - for @bytes of pieces; memory is taken as it is used */
int __must_check blocks_create(u64 bytes, struct blocks **out);
void blocks_destroy(struct blocks *b);
/* blocks_put - keep a copy of @bytes, not 0; -ENOSPC: there is no such room */
int __must_check blocks_put(struct blocks *b, const void *data, u32 bytes,
			    u32 *piece);
/* blocks_get - the first @bytes of a piece */
void blocks_get(const struct blocks *b, u32 piece, void *data, u32 bytes);
/* blocks_free - of the size that it was put with */
void blocks_free(struct blocks *b, u32 piece, u32 bytes);
/* blocks_used - bytes in blocks that are taken */
u64 blocks_used(struct blocks *b);

static inline u32 blocks_round(u32 bytes)
{
	return ALIGN_UP(bytes, BLOCK_BYTES);
}

#endif
