/* SPDX-License-Identifier: MIT */
#ifndef LIB_BITMAP_H
#define LIB_BITMAP_H
/*
 * bitmap.h - fixed-size sets of small integers
 *
 * A map of n bits is an array of BITMAP_WORDS(n) 64-bit words; bits at and
 * above n in the last word are never looked at.
 */
#include "include/kv/types.h"

#define BITMAP_WORDS(bits) (((bits) + 63u) / 64u)

static inline bool bitmap_test(const u64 *map, u32 bit)
{
	return (map[bit / 64] >> (bit % 64)) & 1;
}

static inline void bitmap_set(u64 *map, u32 bit)
{
	map[bit / 64] |= 1ull << (bit % 64);
}

static inline void bitmap_clear(u64 *map, u32 bit)
{
	map[bit / 64] &= ~(1ull << (bit % 64));
}

/**
 * bitmap_find_zero - first clear bit at or above a position
 * @map: words
 * @bits: size of the map
 * @from: where to start
 *
 * Return: the bit, or @bits if every one from @from on is set.
 */
u32 bitmap_find_zero(const u64 *map, u32 bits, u32 from);

/**
 * bitmap_find_set - first set bit at or above a position
 * @map: words
 * @bits: size of the map
 * @from: where to start
 *
 * Return: the bit, or @bits if every one from @from on is clear.
 */
u32 bitmap_find_set(const u64 *map, u32 bits, u32 from);

/**
 * bitmap_find_zeros - first run of clear bits at or above a position
 * @map: words
 * @bits: size of the map
 * @from: where to start
 * @nr: length of the run, at least 1
 *
 * Return: its first bit, or @bits if there is none.
 */
u32 bitmap_find_zeros(const u64 *map, u32 bits, u32 from, u32 nr);

/* bitmap_weight - number of set bits among the first @bits */
u32 bitmap_weight(const u64 *map, u32 bits);

#endif
