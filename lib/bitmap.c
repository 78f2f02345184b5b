/* SPDX-License-Identifier: MIT */
/*
 * bitmap.c - searching and counting, a word at a time
 */
#include "lib/bitmap.h"

/* First set bit of (map ^ flip) at or above @from. */
static u32 find(const u64 *map, u64 flip, u32 bits, u32 from)
{
	u32 w = from / 64;
	u64 v;

	if (from >= bits)
		return bits;
	v = (map[w] ^ flip) & (~0ull << (from % 64));
	while (!v) {
		if (++w >= BITMAP_WORDS(bits))
			return bits;
		v = map[w] ^ flip;
	}
	return min(bits, w * 64 + (u32)__builtin_ctzll(v));
}

u32 bitmap_find_zero(const u64 *map, u32 bits, u32 from)
{
	return find(map, ~0ull, bits, from);
}

u32 bitmap_find_set(const u64 *map, u32 bits, u32 from)
{
	return find(map, 0, bits, from);
}

u32 bitmap_find_zeros(const u64 *map, u32 bits, u32 from, u32 nr)
{
	u32 first = bitmap_find_zero(map, bits, from), end;

	while (first < bits && nr <= bits - first) {
		end = bitmap_find_set(map, first + nr, first);
		if (end == first + nr)
			return first;
		first = bitmap_find_zero(map, bits, end);
	}
	return bits;
}

u32 bitmap_weight(const u64 *map, u32 bits)
{
	u32 i, n = 0;

	for (i = 0; i < bits / 64; i++)
		n += (u32)__builtin_popcountll(map[i]);
	if (bits % 64)
		n += (u32)__builtin_popcountll(map[i] &
					       ((1ull << (bits % 64)) - 1));
	return n;
}
