/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_ATOMIC_H
#define UAPI_KV_ATOMIC_H
/*
 * atomic.h - the only ways to touch a word that the other process changes
 *
 * Tests define KV_ATOMIC_SHIM to the name of a header that supplies the same
 * names with a model of store buffers behind them (selftests/explore).
 */
#ifdef KV_ATOMIC_SHIM
#include KV_ATOMIC_SHIM
#else
#define kv_load_relaxed(p)     __atomic_load_n((p), __ATOMIC_RELAXED)
#define kv_load_acquire(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define kv_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define kv_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
/*
 * A store and the full barrier behind it, as one: ThreadSanitizer does not
 * see fences, it sees this.
 */
#define kv_store_fence(p, v)   __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define kv_load_fence(p)       __atomic_load_n((p), __ATOMIC_SEQ_CST)
#ifdef __SANITIZE_THREAD__
/* A barrier to the processor, and no order between threads to the tool. */
#define kv_fence()                                                       \
	do {                                                             \
		uint32_t kv_fence_word = 0;                              \
		__atomic_fetch_add(&kv_fence_word, 1, __ATOMIC_SEQ_CST); \
	} while (0)
#else
#define kv_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif
#endif

#endif
