/* SPDX-License-Identifier: MIT */
/*
 * ring.c - requests of this client and their completions
 *
 * A handful of request slots, each with its own part of the arena, so that a
 * prefetched reservation and a call can be under way together. Destroying a
 * space needs no answer and no slot: it is posted and forgotten.
 *
 * Waiting: spin for some 50 us, longer than it takes to wake kvmd; then
 * say so in cq_sleeping, look once more, and sleep on that word. The sleep is
 * cut into slices: after each the socket is asked whether kvmd still lives,
 * so that a daemon that died never leaves a client asleep. With one processor
 * there is no spinning: it would only keep kvmd from answering.
 *
 * What kvmd writes is believed in so far as it cannot make this code leave
 * its arrays; a ring that makes no sense ends the attachment with -EPROTO.
 */
#include "libkv/src/client.h"
#include "libkv/src/sys.h"
#include <errno.h>
#include <string.h>

#define SLICE_NS   20000000u
#define SPIN_RETRY 64u

void *req_arg(struct kv *kv, enum req_id id)
{
	return kv->ring + KV_RING_ARENA_OFF + (size_t)id * ARENA_REQ_BYTES;
}

const void *req_out(struct kv *kv, enum req_id id)
{
	return (u8 *)req_arg(kv, id) + ARENA_ARG_BYTES;
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* A completion that was asked for goes to its slot, any other is counted. */
static void complete(struct kv *kv, const struct kv_cqe *cqe)
{
	u32 id = (u32)(cqe->user_data & 0xff);
	struct req *r;

	if (id == REQ_FORGET) {
		kv->nr.forgotten_errors += cqe->res < 0;
		return;
	}
	r = id < REQ_NR ? &kv->req[id] : NULL;
	if (!r || (u32)(cqe->user_data >> 8) != r->serial ||
	    (r->state != REQ_POSTED && r->state != REQ_TICKET)) {
		kv->nr.stray_completions++;
		return;
	}
	r->cqe = *cqe;
	if (cqe->flags & KV_CQE_MORE) {
		r->ticket = cqe->extra;
		r->state = REQ_TICKET;
	} else {
		r->state = REQ_DONE;
	}
}

int ring_reap(struct kv *kv)
{
	const struct kv_cqe *cq = (void *)(kv->ring + KV_RING_CQ_OFF);
	u32 tail = kv_ring_avail(&kv->hdr->cq_tail);
	struct kv_cqe cqe;

	if (tail == kv->cq_head)
		return 0;
	if (kv_ring_used(kv->cq_head, tail) > KV_CQ_ENTRIES) {
		kv_fail(kv, -EPROTO, "kvmd's completion ring makes no sense");
		return client_dead(kv, -EPROTO);
	}
	while (kv->cq_head != tail) {
		cqe = cq[kv->cq_head & (KV_CQ_ENTRIES - 1)];
		KV_POINT(RING_REAPED);
		complete(kv, &cqe);
		kv->cq_head++;
	}
	kv_ring_release(&kv->hdr->cq_head, kv->cq_head);
	KV_POINT(RING_ANSWERED);
	return 0;
}

/*
 * Where all CPUs are busy, kvmd may have been woken on this one, or we on its:
 * then it gets no further until we sleep. A spin that was in vain is halved,
 * and now and then tried in full again.
 */
static void spin_learn(struct kv *kv, bool paid)
{
	u64 *ns = &kv->spin_now_ns[kv->rang];

	kv->rang = false;
	if (paid || ++kv->spins_in_vain % SPIN_RETRY == 0)
		*ns = kv->spin_ns;
	else
		*ns /= 2;
}

/* Wait for any completion, @budget_ns at most; it may also find none. */
static int ring_idle(struct kv *kv, u64 budget_ns)
{
	u64 start = sys_now_ns();
	u64 spin_ns = min(kv->spin_now_ns[kv->rang], budget_ns);
	unsigned int i;
	int rc;

	if (kv->dead)
		return client_dead(kv, kv->dead);
	while (spin_ns) {
		for (i = 0; i < 32; i++) {
			if (kv_ring_avail(&kv->hdr->cq_tail) != kv->cq_head) {
				spin_learn(kv, true);
				return 0;
			}
			cpu_relax();
		}
		if (sys_now_ns() - start >= spin_ns)
			break;
	}
	spin_learn(kv, false);
	kv_ring_sleep(&kv->hdr->cq_sleeping);
	KV_POINT(RING_ASLEEP);
	if (kv_ring_avail(&kv->hdr->cq_tail) != kv->cq_head) {
		kv_ring_awake(&kv->hdr->cq_sleeping);
		return 0;
	}
	kv->nr.sleeps++;
	rc = sys_futex_wait(&kv->hdr->cq_sleeping.v, 1,
			    min(budget_ns, (u64)SLICE_NS));
	kv_ring_awake(&kv->hdr->cq_sleeping);
	if (rc && kv_ring_avail(&kv->hdr->cq_tail) == kv->cq_head &&
	    sys_hung_up(kv->sock)) {
		/* its last answers may have come just before it went */
		if (kv_ring_avail(&kv->hdr->cq_tail) == kv->cq_head)
			return client_dead(kv, -ESHUTDOWN);
	}
	return 0;
}

/* Until the submission ring has a free entry. */
static int ring_room(struct kv *kv)
{
	int rc;

	for (;;) {
		u32 head = kv_load_acquire(&kv->hdr->sq_head.v);
		u32 used = kv_ring_used(head, kv->sq_tail);

		if (used < KV_SQ_ENTRIES)
			return 0;
		if (used > KV_SQ_ENTRIES) {
			kv_fail(kv, -EPROTO,
				"kvmd's submission ring makes no sense");
			return client_dead(kv, -EPROTO);
		}
		rc = ring_idle(kv, SLICE_NS);
		if (!rc)
			rc = ring_reap(kv);
		if (rc)
			return rc;
	}
}

int ring_post(struct kv *kv, enum req_id id, struct kv_sqe *sqe)
{
	struct kv_sqe *sq = (void *)(kv->ring + KV_RING_SQ_OFF);
	struct req *r = id < REQ_NR ? &kv->req[id] : NULL;
	int rc;

	if (kv->dead)
		return client_dead(kv, kv->dead);
	rc = ring_room(kv);
	if (rc)
		return rc;
	if (r) {
		r->state = REQ_POSTED;
		sqe->user_data = (u64)++r->serial << 8 | id;
		sqe->arg_off = (u32)(id * ARENA_REQ_BYTES);
		sqe->out_off = sqe->arg_off + (u32)ARENA_ARG_BYTES;
		sqe->out_len = (u32)ARENA_OUT_BYTES;
	} else {
		sqe->user_data = REQ_FORGET;
	}
	sq[kv->sq_tail & (KV_SQ_ENTRIES - 1)] = *sqe;
	KV_POINT(RING_FILLED);
	kv_ring_publish(&kv->hdr->sq_tail, ++kv->sq_tail);
	KV_POINT(RING_PUBLISHED);
	kv->nr.requests++;
	if (kv_ring_must_wake(&kv->hdr->sq_sleeping)) {
		kv->nr.doorbells++;
		kv->rang = true;
		rc = sys_ring_doorbell(kv->doorbell);
		/* or its answer would be waited for without an end */
		if (rc) {
			client_dead(kv, rc);
			return kv_fail(kv, rc, "kvmd cannot be woken: %s",
				       strerror(-rc));
		}
	}
	KV_POINT(RING_POSTED);
	return 0;
}

int ring_wait(struct kv *kv, enum req_id id, bool ticket, u64 timeout_ns)
{
	struct req *r = &kv->req[id];
	u64 start = timeout_ns == ~0ull ? 0 : sys_now_ns();
	u64 left = timeout_ns, gone;
	int rc;

	for (;;) {
		rc = ring_reap(kv);
		if (rc)
			return rc;
		if (r->state == REQ_DONE || (ticket && r->state == REQ_TICKET))
			return 0;
		if (r->state == REQ_TICKET && kv->stop && *kv->stop)
			return -EINTR;
		if (timeout_ns != ~0ull) {
			gone = sys_now_ns() - start;
			if (gone >= timeout_ns)
				return -ETIMEDOUT;
			left = timeout_ns - gone;
		}
		rc = ring_idle(kv, left);
		if (rc)
			return rc;
	}
}

int ring_call(struct kv *kv, struct kv_sqe *sqe)
{
	return ring_call_as(kv, REQ_CALL, sqe);
}

int ring_call_as(struct kv *kv, enum req_id id, struct kv_sqe *sqe)
{
	struct req *r = &kv->req[id];
	int rc;

	rc = ring_post(kv, id, sqe);
	if (!rc)
		rc = ring_wait(kv, id, false, ~0ull);
	r->state = REQ_IDLE;
	if (!rc)
		rc = msg_extents(kv, r->cqe.extent_seq);
	if (rc)
		return rc;
	if (r->cqe.res == -ESHUTDOWN)
		return client_dead(kv, -ESHUTDOWN);
	return r->cqe.res;
}
