/* SPDX-License-Identifier: MIT */
/*
 * hash.c - bytes, eight at a time, little-endian wherever it runs
 */
#include "lib/hash.h"

u64 hash_bytes(const void *p, size_t len, u64 seed)
{
	const u8 *b = p;
	u64 h = hash_add(seed, len), w;
	size_t i, j;

	for (i = 0; i < len; i += 8) {
		w = 0;
		for (j = 0; j < 8 && i + j < len; j++)
			w |= (u64)b[i + j] << (8 * j);
		h = hash_add(h, w);
	}
	return h;
}
