/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_GROWING_H
#define KVMD_IPC_GROWING_H
/*
 * growing.h - prefixes that clients have said they are computing
 */
#include "include/kv/types.h"
#include "kvmd/mm/mm.h"

#define GROWING_MAX   512u /* of all clients */
#define GROWING_WORTH 32u /* tokens that it is worth to wait for */

struct growing_one {
	u32 client, space;
	u64 key; /* of the tree: nobody else can map it */
	u64 *hash; /* [nr] of the tokens up to the end of each page */
	u32 nr;
	u64 len; /* tokens announced */
};

struct growing {
	struct growing_one one[GROWING_MAX];
	u32 nr;
};

/**
 * growing_find - how much of a sequence another client is computing
 * @g: set
 * @client: who asks; what it announced itself is left out
 * @f: what the core found of the sequence
 * @tokens: the sequence
 * @nr: how many
 *
 * Whole pages. Where areas have windows a sequence can be gone on from only
 * where these are kept: at the end of the other one's prompt, within its first
 * two windows, and after four, eight and so on.
 *
 * Return: tokens; 0: none.
 */
u64 growing_find(const struct growing *g, u32 client, const struct mm_found *f,
		 const u32 *tokens, u32 nr);

/**
 * growing_ask - what there will be of a sequence, of whomever
 * @g: set
 * @client: who asks
 * @space: where it would compute the rest
 * @f: what the core found of the sequence
 * @tokens: the sequence
 * @nr: how many
 * @announce: it begins with that now, unless it is worth to wait for others
 *
 * Return: tokens, those that are there and those that others are at.
 */
u64 growing_ask(struct growing *g, u32 client, u32 space,
		const struct mm_found *f, const u32 *tokens, u32 nr,
		bool announce);

/* growing_add - @client computes these in @space; left out if there is no room
 */
void growing_add(struct growing *g, u32 client, u32 space,
		 const struct mm_found *f, const u32 *tokens, u32 nr);

/* growing_published - @space has published so many; all: it is done with */
void growing_published(struct growing *g, u32 client, u32 space, u64 len);

/* growing_drop - @space computes nothing any more; MM_NONE: no space does */
void growing_drop(struct growing *g, u32 client, u32 space);

#endif
