/* SPDX-License-Identifier: MIT */
/*
 * reserve.c - asking kvmd for all pages of a step, or none
 *
 *	posted -> granted				pages are there
 *	       -> refused				-EAGAIN, -E2BIG, ...
 *	       -> ticket -> granted			memory came
 *			 -> cancelled			the time was over
 *
 * A ticket holds nothing. When its time is over, or the caller's stop word is
 * set, it is cancelled, and the reservation's own final completion decides: a
 * grant may have crossed the cancel, and is then taken.
 *
 * The caller holds no mark for this step while it waits (C5).
 */
#include "libkv/src/step.h"
#include "libkv/src/sys.h"
#include <errno.h>
#include <string.h>

int reserve_post(struct kv *kv, enum req_id id, const struct kv_step *st,
		 unsigned int flags)
{
	struct kv_sqe sqe = { .opcode = KV_OP_RESERVE,
			      .nr = (u16)st->nr_items,
			      .step = st->number };

	if (flags & KV_STEP_WAIT)
		sqe.flags = KV_SQE_WAIT;
	memcpy(req_arg(kv, id), st->items, st->nr_items * sizeof(st->items[0]));
	return ring_post(kv, id, &sqe);
}

/* Who could give: the reply of a shortage. */
static void holders_take(struct kv *kv, enum req_id id)
{
	const struct kv_cqe *c = &kv->req[id].cqe;
	u32 nr = (u32)min(c->out_len / sizeof(struct kv_holder),
			  (size_t)HOLDER_MAX);

	kv->nr_holders = nr;
	memcpy(kv->holders, req_out(kv, id), nr * sizeof(kv->holders[0]));
}

static int short_fail(struct kv *kv, u64 short_bytes)
{
	const struct kv_holder *h = kv->holders;

	kv->short_bytes = short_bytes;
	if (!kv->nr_holders)
		return kv_fail(kv, -EAGAIN, "%llu KiB short",
			       (unsigned long long)short_bytes >> 10);
	return kv_fail(kv, -EAGAIN,
		       "%llu KiB short; tenant %.*s holds %llu KiB, %llu of "
		       "them in idle spaces",
		       (unsigned long long)short_bytes >> 10,
		       (int)strnlen(h->name, sizeof(h->name)), h->name,
		       (unsigned long long)h->held_bytes >> 10,
		       (unsigned long long)h->reclaim_bytes >> 10);
}

static int never_fail(struct kv *kv)
{
	struct kv_stats s;
	u64 most;

	if (kv_stats_get(kv, &s))
		return kv_fail(kv, -E2BIG,
			       "the step needs more than the limit or the "
			       "device could ever give");
	most = min(s.tenant.max_bytes, s.device.bytes);
	return kv_fail(kv, -E2BIG,
		       "the step needs more than could ever be given: tenant "
		       "%.*s may hold %llu MiB, %llu of them are weights",
		       (int)sizeof(kv->info.tenant_name), kv->info.tenant_name,
		       (unsigned long long)most >> 20,
		       (unsigned long long)s.tenant.charged >> 20);
}

static int refused(struct kv *kv, enum req_id id)
{
	const struct kv_cqe *c = &kv->req[id].cqe;

	switch (c->res) {
	case -EAGAIN:
		holders_take(kv, id);
		return short_fail(kv, c->extra);
	case -E2BIG:
		return never_fail(kv);
	case -ENODATA:
		kv->lost = c->extra;
		if (!c->extra)
			return kv_fail(kv, c->res,
				       "tokens that the step reads are not "
				       "held any more");
		return kv_fail(kv, c->res,
			       "swap has lost tokens from %u on of space %u",
			       (u32)c->extra - 1, (u32)(c->extra >> 32));
	case -EDEADLK:
		return kv_fail(kv, c->res,
			       "clients wait for each other's memory: this "
			       "one is to give way");
	case -ESHUTDOWN:
		return client_dead(kv, c->res);
	}
	return kv_fail(kv, c->res, "reservation refused: %s",
		       strerror(-c->res));
}

int reserve_result(struct kv *kv, enum req_id id, struct kv_step *st)
{
	struct req *r = &kv->req[id];
	u32 nr = (u32)r->cqe.res;
	int rc;

	r->state = REQ_IDLE;
	if (r->cqe.res < 0)
		return refused(kv, id);
	if (nr > st->nr_items * KV_AREA_MAX) {
		kv_fail(kv, -EPROTO, "kvmd asks for %u copies in a step", nr);
		return client_dead(kv, -EPROTO);
	}
	memcpy(st->copies, req_out(kv, id), nr * sizeof(st->copies[0]));
	st->nr_copies = nr;
	rc = msg_extents(kv, r->cqe.extent_seq);
	kv->nr.reservations += !rc;
	return rc;
}

/* No more waiting: take the ticket back, unless it was just granted. */
static int reserve_cancel(struct kv *kv)
{
	struct kv_sqe sqe = { .opcode = KV_OP_CANCEL };
	int rc = ring_wait(kv, REQ_CALL, true, ~0ull);

	if (rc || kv->req[REQ_CALL].state == REQ_DONE)
		return rc;
	sqe.arg[0] = kv->req[REQ_CALL].ticket;
	kv->req[REQ_CALL].state = REQ_POSTED; /* its end comes in any case */
	rc = ring_post(kv, REQ_CANCEL, &sqe);
	KV_POINT(STEP_CANCELLED);
	if (!rc)
		rc = ring_wait(kv, REQ_CALL, false, ~0ull);
	if (!rc)
		rc = ring_wait(kv, REQ_CANCEL, false, ~0ull);
	kv->req[REQ_CANCEL].state = REQ_IDLE;
	return rc;
}

int reserve_step(struct kv *kv, struct kv_step *st, unsigned int flags,
		 u64 end_ns, int timeout_ms)
{
	struct req *r = &kv->req[REQ_CALL];
	u64 now, left = ~0ull;
	bool stopped = false;
	int rc;

	rc = reserve_post(kv, REQ_CALL, st, flags);
	if (!rc)
		rc = ring_wait(kv, REQ_CALL, true, ~0ull);
	if (!rc && r->state == REQ_TICKET) {
		KV_POINT(STEP_TICKET);
		kv->nr.tickets++;
		kv_turn_pass(kv); /* others compute meanwhile */
		holders_take(kv, REQ_CALL);
		if (end_ns != ~0ull) {
			now = sys_now_ns();
			left = end_ns > now ? end_ns - now : 0;
		}
		rc = ring_wait(kv, REQ_CALL, false, left);
		stopped = rc == -EINTR;
		if (stopped || rc == -ETIMEDOUT)
			rc = reserve_cancel(kv);
	}
	if (rc) {
		r->state = REQ_IDLE;
		return rc;
	}
	if (r->cqe.res == -ECANCELED) {
		r->state = REQ_IDLE;
		if (stopped)
			return kv_fail(kv, -EINTR,
				       "stopped while waiting for memory");
		return kv_fail(kv, -ETIMEDOUT, "no memory came within %d ms",
			       timeout_ms);
	}
	return reserve_result(kv, REQ_CALL, st);
}
