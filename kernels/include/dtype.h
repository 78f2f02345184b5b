/* SPDX-License-Identifier: MIT */
#ifndef KERN_DTYPE_H
#define KERN_DTYPE_H
/*
 * dtype.h - the element types of tensors, with GGUF's own numbers
 *
 * A quantised type stores a row as a run of blocks; a block holds block_len
 * elements in block_bytes bytes. A row is never longer than a whole number
 * of blocks, so rows of one matrix lie at a fixed distance. Types that are
 * not listed here are unknown to every kernel; dtype_info() returns NULL for
 * them and the reader of the file refuses it.
 */
#include "include/kv/types.h"

enum kv_dtype {
	KV_DTYPE_F32 = 0,
	KV_DTYPE_F16 = 1,
	KV_DTYPE_Q4_0 = 2,
	KV_DTYPE_Q5_0 = 6,
	KV_DTYPE_Q8_0 = 8,
	KV_DTYPE_Q4_K = 12,
	KV_DTYPE_Q5_K = 13,
	KV_DTYPE_Q6_K = 14,
	KV_DTYPE_BF16 = 30,
	KV_DTYPE_MAX = 31, /* one more than the largest value */
};

struct dtype_info {
	const char *name; /* GGUF's spelling */
	u32 block_len; /* elements in a block */
	u32 block_bytes;
};

/**
 * dtype_info - describe a type
 * @type: any number, as read from a file
 *
 * Return: a constant record, or NULL for a type that no kernel knows.
 */
static inline const struct dtype_info *dtype_info(u32 type)
{
	static const struct dtype_info info[KV_DTYPE_MAX] = {
		[KV_DTYPE_F32] = { "F32", 1, 4 },
		[KV_DTYPE_F16] = { "F16", 1, 2 },
		[KV_DTYPE_BF16] = { "BF16", 1, 2 },
		[KV_DTYPE_Q4_0] = { "Q4_0", 32, 18 },
		[KV_DTYPE_Q5_0] = { "Q5_0", 32, 22 },
		[KV_DTYPE_Q8_0] = { "Q8_0", 32, 34 },
		[KV_DTYPE_Q4_K] = { "Q4_K", 256, 144 },
		[KV_DTYPE_Q5_K] = { "Q5_K", 256, 176 },
		[KV_DTYPE_Q6_K] = { "Q6_K", 256, 210 },
	};

	if (type >= KV_DTYPE_MAX || !info[type].name)
		return NULL;
	return &info[type];
}

/* The name to print for any number, "unknown" for one that is not known. */
static inline const char *dtype_name(u32 type)
{
	const struct dtype_info *d = dtype_info(type);

	return d ? d->name : "unknown";
}

/**
 * dtype_row_bytes - bytes of a row of @nr elements
 * @type: a known type
 * @nr: elements, below 2^32
 *
 * Return: the length, or 0 if @type is unknown or @nr is not a whole number
 * of blocks.
 */
static inline u64 dtype_row_bytes(u32 type, u64 nr)
{
	const struct dtype_info *d = dtype_info(type);

	if (!d || nr % d->block_len)
		return 0;
	return nr / d->block_len * d->block_bytes;
}

#endif
