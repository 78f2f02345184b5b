/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_RING_H
#define UAPI_KV_RING_H
/*
 * ring.h - submission, completion and event rings of one client
 *
 * One memfd that kvmd creates (sealed against shrink and grow) and both sides
 * map read-write. kvmd keeps private copies of every index it owns and never
 * reads back what it wrote; what it reads of the client's words it validates.
 *
 *	0		struct kv_ring_hdr	indices, one cache line each
 *	1024		struct kv_turn		(turn.h)
 *	sq_off		struct kv_sqe [KV_SQ_ENTRIES]
 *	cq_off		struct kv_cqe [KV_CQ_ENTRIES]
 *	eq_off		struct kv_event [KV_EQ_ENTRIES]
 *	arena_off	bytes [KV_ARENA_SIZE], the client's: arguments and room
 *			for replies, named by offset in an sqe
 *
 * Indices run freely modulo 2^32; entry = index & (entries - 1). The producer
 * fills the entry, then store-releases the tail; the consumer load-acquires
 * the tail, reads the entry, then store-releases the head.
 *
 * Sleeping. A consumer that will sleep stores its "sleeping" word, then does
 * a full barrier, then looks at the tail once more; a producer stores the
 * tail, then a full barrier, then looks at the word and only if it is set
 * clears it and makes a system call: an eventfd write towards kvmd,
 * FUTEX_WAKE (not private) of the word towards the client. It clears first,
 * so that a sleeper on its way into FUTEX_WAIT(word, 1) comes straight back.
 *
 * kvmd takes no request while fewer than one completion entry is free, so
 * that the completion ring never overflows. An event that finds no room sets
 * KV_EQ_OVERFLOW; the client then looks at the table instead.
 */
#include "abi.h"
#include "atomic.h"

#define KV_SQ_ENTRIES 256u
#define KV_CQ_ENTRIES 512u
#define KV_EQ_ENTRIES 256u
#define KV_ARENA_SIZE (1u << 20)

struct kv_ring_index {
	uint32_t v;
	uint32_t pad[15];
};

struct kv_ring_hdr {
	struct kv_ring_index sq_tail; /* client */
	struct kv_ring_index sq_head; /* kvmd */
	struct kv_ring_index cq_tail; /* kvmd */
	struct kv_ring_index cq_head; /* client */
	struct kv_ring_index eq_tail; /* kvmd */
	struct kv_ring_index eq_head; /* client */
	struct kv_ring_index sq_sleeping; /* kvmd: 1 = ring the doorbell */
	struct kv_ring_index cq_sleeping; /* client: 1 = futex-wake me */
	struct kv_ring_index eq_sleeping; /* client */
	struct kv_ring_index eq_flags; /* kvmd sets, client clears */
};
KV_ABI_SIZE(struct kv_ring_hdr, 640);

#define KV_EQ_OVERFLOW 1u

/* A request. What each opcode reads is said in ops.h. */
struct kv_sqe {
	uint8_t opcode; /* enum kv_op */
	uint8_t flags; /* KV_SQE_* */
	uint16_t nr; /* items in the arena at arg_off */
	uint32_t space;
	uint64_t user_data; /* returned in the completion */
	uint64_t step;
	uint64_t arg[2];
	uint32_t arg_off; /* arguments, bytes into the arena, 8-aligned */
	uint32_t out_off; /* reply, likewise */
	uint32_t out_len; /* bytes of room for the reply */
	uint32_t reserved[3]; /* 0 */
};
KV_ABI_SIZE(struct kv_sqe, 64);

#define KV_SQE_WAIT   (1u << 0) /* on shortage keep a ticket and wait */
#define KV_SQE_RESUME (1u << 1) /* publish: others may go on at its end */

struct kv_cqe {
	uint64_t user_data;
	int32_t res; /* >= 0, or -errno */
	uint32_t flags; /* KV_CQE_* */
	uint64_t extra; /* by opcode */
	uint32_t out_len; /* bytes written at out_off */
	uint32_t extent_seq; /* extents to have received before the reply is
			      * used: messages KV_MSG_EXTENT up to this
			      * number are queued on the socket already */
};
KV_ABI_SIZE(struct kv_cqe, 32);

#define KV_CQE_MORE (1u << 0) /* another completion of this request follows */

enum kv_event_type {
	KV_EVENT_NONE = 0,
	KV_EVENT_REVOKE = 1, /* extent arg taken, epoch moved */
	KV_EVENT_SHRINK = 2, /* please give back arg bytes */
	KV_EVENT_HOLD = 3, /* begin no step above arg */
	KV_EVENT_LIMIT = 4, /* the tenant's limit is now arg bytes */
	KV_EVENT_DRAIN = 5, /* kvmd is going: finish and detach */
};

struct kv_event {
	uint32_t type; /* enum kv_event_type */
	uint32_t space;
	uint64_t arg;
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	uint64_t reserved;
};
KV_ABI_SIZE(struct kv_event, 32);

#define KV_RING_SQ_OFF	  4096u
#define KV_RING_CQ_OFF	  (KV_RING_SQ_OFF + KV_SQ_ENTRIES * 64u)
#define KV_RING_EQ_OFF	  (KV_RING_CQ_OFF + KV_CQ_ENTRIES * 32u)
#define KV_RING_ARENA_OFF (KV_RING_EQ_OFF + KV_EQ_ENTRIES * 32u)
#define KV_RING_SIZE	  (KV_RING_ARENA_OFF + KV_ARENA_SIZE)
KV_ABI_ASSERT(KV_RING_ARENA_OFF % 4096 == 0);

/* Entries between a head and a tail; garbage if it exceeds the ring. */
static inline uint32_t kv_ring_used(uint32_t head, uint32_t tail)
{
	return tail - head;
}

/* Producer: publish the entry that was filled at index @tail - 1. */
static inline void kv_ring_publish(struct kv_ring_index *tail, uint32_t v)
{
	kv_store_release(&tail->v, v);
}

/* Consumer: how far may be read; pairs with kv_ring_publish(). */
static inline uint32_t kv_ring_avail(const struct kv_ring_index *tail)
{
	return kv_load_acquire(&tail->v);
}

/* Consumer: entries below @v are read and may be overwritten. */
static inline void kv_ring_release(struct kv_ring_index *head, uint32_t v)
{
	kv_store_release(&head->v, v);
}

/* Consumer, before it sleeps; then kv_ring_avail() once more. */
static inline void kv_ring_sleep(struct kv_ring_index *sleeping)
{
	kv_store_fence(&sleeping->v, 1u);
	kv_fence();
}

static inline void kv_ring_awake(struct kv_ring_index *sleeping)
{
	kv_store_relaxed(&sleeping->v, 0u);
}

/* Producer, after kv_ring_publish(): must the other side be woken? */
static inline int kv_ring_must_wake(struct kv_ring_index *sleeping)
{
	kv_fence();
	if (!kv_load_fence(&sleeping->v))
		return 0;
	kv_store_fence(&sleeping->v, 0u);
	return 1;
}

#endif
