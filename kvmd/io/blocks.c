/* SPDX-License-Identifier: MIT */
/*
 * blocks.c - memory for pieces of any size, in chains of small blocks
 *
 *	data	[block][block][block]...	as the system gives pages
 *	next	what follows in a piece, or on the free list
 *
 * Blocks at and above @top were never used. Only the lists are under the lock:
 * a chain belongs to its piece from blocks_put() to blocks_free(), and is
 * filled and read without it.
 */
#include "kvmd/io/blocks.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct blocks {
	char *data;
	u32 *next;
	u32 nr;
	pthread_mutex_t lock; /* covers what follows */
	u32 top, free, nr_free;
};

static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, bytes, MADV_DONTDUMP);
	return p;
}

int blocks_create(u64 bytes, struct blocks **out)
{
	struct blocks *b;
	u64 nr = bytes / BLOCK_BYTES;

	if (!nr || nr >= BLOCK_NONE)
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->nr = (u32)nr;
	b->free = BLOCK_NONE;
	pthread_mutex_init(&b->lock, NULL);
	b->data = reserve(nr * BLOCK_BYTES);
	b->next = reserve(nr * sizeof(*b->next));
	if (!b->data || !b->next) {
		blocks_destroy(b);
		return -ENOMEM;
	}
	madvise(b->data, nr * BLOCK_BYTES, MADV_HUGEPAGE); /* if it can */
	*out = b;
	return 0;
}

void blocks_destroy(struct blocks *b)
{
	if (!b)
		return;
	if (b->data)
		munmap(b->data, (size_t)b->nr * BLOCK_BYTES);
	if (b->next)
		munmap(b->next, b->nr * sizeof(*b->next));
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* A chain of @n blocks. Under the lock, and there are so many. */
static u32 take(struct blocks *b, u32 n)
{
	u32 first = BLOCK_NONE, i;

	while (n--) {
		if (b->free != BLOCK_NONE) {
			i = b->free;
			b->free = b->next[i];
			b->nr_free--;
		} else {
			i = b->top++;
		}
		b->next[i] = first;
		first = i;
	}
	return first;
}

int blocks_put(struct blocks *b, const void *data, u32 bytes, u32 *piece)
{
	u32 n = DIV_ROUND_UP(bytes, BLOCK_BYTES), first = BLOCK_NONE, i, part;
	const char *from = data;

	pthread_mutex_lock(&b->lock);
	if (n <= b->nr_free + (b->nr - b->top))
		first = take(b, n);
	pthread_mutex_unlock(&b->lock);
	if (first == BLOCK_NONE)
		return -ENOSPC;
	for (i = first; bytes; i = b->next[i]) {
		part = min(bytes, BLOCK_BYTES);
		memcpy(b->data + (size_t)i * BLOCK_BYTES, from, part);
		from += part;
		bytes -= part;
	}
	*piece = first;
	return 0;
}

void blocks_get(const struct blocks *b, u32 piece, void *data, u32 bytes)
{
	char *to = data;
	u32 part;

	for (; bytes; piece = b->next[piece]) {
		part = min(bytes, BLOCK_BYTES);
		memcpy(to, b->data + (size_t)piece * BLOCK_BYTES, part);
		to += part;
		bytes -= part;
	}
}

void blocks_free(struct blocks *b, u32 piece, u32 bytes)
{
	u32 n = DIV_ROUND_UP(bytes, BLOCK_BYTES), last = piece, i;

	for (i = 1; i < n; i++)
		last = b->next[last];
	pthread_mutex_lock(&b->lock);
	b->next[last] = b->free;
	b->free = piece;
	b->nr_free += n;
	pthread_mutex_unlock(&b->lock);
}

u64 blocks_used(struct blocks *b)
{
	u64 n;

	pthread_mutex_lock(&b->lock);
	n = b->top - b->nr_free;
	pthread_mutex_unlock(&b->lock);
	return n * BLOCK_BYTES;
}
