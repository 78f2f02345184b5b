/* SPDX-License-Identifier: MIT */
/*
 * event.c - what kvmd has to say unasked
 *
 * The event ring has one reader, which may be another thread than the one
 * that makes the calls: it touches nothing but the ring's event words, the
 * socket's state and the "dead" word. When the ring was full, events were
 * lost; that is told as one event of type KV_EVENT_NONE, after which the
 * reader looks at the table instead.
 */
#include "libkv/src/client.h"
#include "libkv/src/sys.h"
#include <errno.h>

#define SLICE_NS 20000000u

static bool event_take(struct kv *kv, struct kv_event *ev)
{
	const struct kv_event *eq = (void *)(kv->ring + KV_RING_EQ_OFF);
	u32 head = kv_load_relaxed(&kv->hdr->eq_head.v);

	if (kv_ring_avail(&kv->hdr->eq_tail) != head) {
		*ev = eq[head & (KV_EQ_ENTRIES - 1)];
		kv_ring_release(&kv->hdr->eq_head, head + 1);
		return true;
	}
	if (unlikely(kv_load_acquire(&kv->hdr->eq_flags.v) & KV_EQ_OVERFLOW)) {
		__atomic_fetch_and(&kv->hdr->eq_flags.v, ~KV_EQ_OVERFLOW,
				   __ATOMIC_SEQ_CST);
		*ev = (struct kv_event){ .type = KV_EVENT_NONE };
		return true;
	}
	return false;
}

int kv_event_wait(struct kv *kv, struct kv_event *ev, int timeout_ms)
{
	u64 end = ~0ull, now, left = ~0ull;

	if (timeout_ms > 0)
		end = sys_now_ns() + (u64)timeout_ms * 1000000u;
	for (;;) {
		if (event_take(kv, ev))
			return 1;
		if (sys_hung_up(kv->sock)) {
			int none = 0;

			__atomic_compare_exchange_n(
				&kv->dead, &none, -ESHUTDOWN, false,
				__ATOMIC_RELAXED, __ATOMIC_RELAXED);
			return -ESHUTDOWN;
		}
		if (!timeout_ms)
			return 0;
		if (end != ~0ull) {
			now = sys_now_ns();
			if (now >= end)
				return 0;
			left = end - now;
		}
		kv_ring_sleep(&kv->hdr->eq_sleeping);
		if (kv_ring_avail(&kv->hdr->eq_tail) ==
		    kv_load_relaxed(&kv->hdr->eq_head.v))
			sys_futex_wait(&kv->hdr->eq_sleeping.v, 1,
				       min(left, (u64)SLICE_NS));
		kv_ring_awake(&kv->hdr->eq_sleeping);
	}
}
