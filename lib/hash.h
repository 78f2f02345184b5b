/* SPDX-License-Identifier: MIT */
#ifndef LIB_HASH_H
#define LIB_HASH_H
/*
 * hash.h - mixing integers and bytes, and the seeded generator of tests
 *
 * Not for anything an adversary may gain from colliding.
 */
#include "include/kv/types.h"

/* hash_mix - every bit of the result depends on every bit of @x */
static inline u64 hash_mix(u64 x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	return x ^ (x >> 32);
}

/* hash_add - fold @x into the running hash @h; order matters */
static inline u64 hash_add(u64 h, u64 x)
{
	return hash_mix(h * 3 + x + 0x9e3779b97f4a7c15ull);
}

/* hash_bytes - hash of @len bytes, the same on every machine */
u64 hash_bytes(const void *p, size_t len, u64 seed);

/* hash_random - next number of the sequence that *@state stands for */
static inline u64 hash_random(u64 *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	return hash_mix(*state);
}

#endif
