/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_EXPLORE_SHIM_H
#define SELFTESTS_EXPLORE_SHIM_H
/*
 * shim.h - the names of kv/atomic.h over modelled memory
 *
 * A file of the explorer defines KV_ATOMIC_SHIM to this header before it
 * includes anything of kv/: the inline functions of step.h and ring.h then
 * act on the explorer's memory and store buffers.
 */
#include "selftests/explore/explore.h"

#define kv_load_relaxed(p)     ((__typeof__(*(p)))x_load(p))
#define kv_load_acquire(p)     ((__typeof__(*(p)))x_load(p))
#define kv_store_relaxed(p, v) x_store((p), (uint64_t)(v), false)
#define kv_store_release(p, v) x_store((p), (uint64_t)(v), true)
#define kv_store_fence(p, v)                       \
	do {                                       \
		x_store((p), (uint64_t)(v), true); \
		x_fence();                         \
	} while (0)
#define kv_load_fence(p) ((__typeof__(*(p)))x_load(p))
#define kv_fence()	 x_fence()

#endif
