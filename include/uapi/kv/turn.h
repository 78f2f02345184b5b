/* SPDX-License-Identifier: MIT */
#ifndef UAPI_KV_TURN_H
#define UAPI_KV_TURN_H
/*
 * turn.h - whose turn it is to compute, where clients share processors
 *
 * One struct kv_turn lies in a client's ring memory, at KV_RING_TURN_OFF, with
 * KV_FEAT_GATE. A grant lasts until somebody else who shares a processor (or
 * the device) wants it: who is alone asks once and then never again.
 *
 *	client					kvmd
 *	begin: state = BUSY, barrier,		word = WANTED or not granted,
 *	       look at word			barrier, look at state
 *	end:   state = KEPT or IDLE, barrier,
 *	       look at word
 *
 * Either kvmd sees that the client computes, or the client sees that it may
 * not (or that it has to tell kvmd at its end): both barriers cannot be passed
 * by both stale loads. What a client does without a grant costs time, its own
 * and others', and nothing else: pages do not depend on it.
 */
#include "abi.h"
#include "atomic.h"
#include "ring.h"

/* Of word. The bits above count grants, so that a new one is told from old. */
#define KV_TURN_GRANTED (1u << 0)
#define KV_TURN_WANTED	(1u << 1) /* others wait: end at until_ns */
#define KV_TURN_FLAGS	(KV_TURN_GRANTED | KV_TURN_WANTED)
#define KV_TURN_SEQ	4u /* one grant */

enum kv_turn_state {
	KV_TURN_IDLE = 0, /* no step will come soon */
	KV_TURN_KEPT = 1, /* between two steps */
	KV_TURN_BUSY = 2, /* computes */
	KV_TURN_WAITING = 3, /* would compute, and has asked */
};

struct kv_turn {
	/* kvmd */
	uint32_t word; /* KV_TURN_*; the client sleeps on it */
	uint32_t reserved;
	uint64_t until_ns; /* CLOCK_MONOTONIC; with KV_TURN_WANTED */
	uint64_t pad[6];
	/* the client; kvmd believes it in so far as only time depends on it */
	uint32_t state; /* enum kv_turn_state */
	uint32_t reserved2;
	uint64_t since_ns; /* BUSY: since when */
	uint64_t computed_ns; /* of all steps that have ended */
	uint64_t steps; /* that have ended */
	uint64_t pad2[4];
};
KV_ABI_SIZE(struct kv_turn, 128);
KV_ABI_OFFSET(struct kv_turn, state, 64);

/* Between the indices and the submission entries. */
#define KV_RING_TURN_OFF 1024u
KV_ABI_ASSERT(KV_RING_TURN_OFF >= sizeof(struct kv_ring_hdr));
KV_ABI_ASSERT(KV_RING_TURN_OFF + sizeof(struct kv_turn) <= KV_RING_SQ_OFF);

static inline struct kv_turn *kv_ring_turn(void *ring)
{
	return (struct kv_turn *)(void *)((char *)ring + KV_RING_TURN_OFF);
}

/* Client: what it does now; the word as it stands behind the barrier. */
static inline uint32_t kv_turn_say(struct kv_turn *t, uint32_t state)
{
	kv_store_fence(&t->state, state);
	kv_fence();
	return kv_load_fence(&t->word);
}

/* kvmd: the word; what the client does, behind the barrier. */
static inline uint32_t kv_turn_tell(struct kv_turn *t, uint32_t word)
{
	kv_store_fence(&t->word, word);
	kv_fence();
	return kv_load_fence(&t->state);
}

/* Does @word say that a step may begin, or the turn be kept, at @now_ns? */
static inline int kv_turn_holds(const struct kv_turn *t, uint32_t word,
				uint64_t now_ns)
{
	if ((word & KV_TURN_FLAGS) == KV_TURN_GRANTED)
		return 1;
	return (word & KV_TURN_GRANTED) &&
	       now_ns < kv_load_acquire(&t->until_ns);
}

#endif
