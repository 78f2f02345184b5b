/* SPDX-License-Identifier: MIT */
/*
 * fault.c - the probe kvmd:fault: what a request took, and how long
 *
 * The core counts pages anyway. What one request took is the difference; what
 * waiting ones took meanwhile, for an answer may let them go on, is not in it
 * (mm_faults_at_once()).
 */
#include "kvmd/fault.h"

#include "include/kv/fault_record.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"

USDT_SEMAPHORE(kvmd, fault);

static void fire(const struct session *s, int res, u64 since_ns, bool waited,
		 const struct mm_faults *took)
{
	u64 now = clock_ns();
	const struct fault_record r = {
		.client = s->id,
		.pid = (u32)s->peer.pid,
		.name = (uintptr_t)s->name,
		.tenant = (uintptr_t)s->tenant_name,
		.res = res,
		.latency_ns = now > since_ns ? now - since_ns : 0,
		.waited = waited,
		.fresh = (u32)took->fresh,
		.cow = (u32)took->cow,
		.swap_in = (u32)took->swap_in,
		.prefix = (u32)took->prefix,
	};

	USDT(kvmd, fault, &r, s->id, s->tenant_name, res, r.latency_ns, waited,
	     took->fresh, took->cow, took->swap_in, took->prefix);
}

void fault_begin(struct kvmd *d, struct fault *f)
{
	f->taken_ns = clock_ns();
	mm_now(d->mm, f->taken_ns); /* from here on a ticket has waited */
	mm_faults_at_once(d->mm, &f->took);
}

void fault_answered(const struct session *s, struct fault *f, int res)
{
	struct mm_faults now;

	mm_faults_at_once(s->d->mm, &now);
	f->took.fresh = now.fresh - f->took.fresh;
	f->took.cow = now.cow - f->took.cow;
	f->took.swap_in = now.swap_in - f->took.swap_in;
	f->took.prefix = now.prefix - f->took.prefix;
	f->res = res;
}

void fault_ended(const struct session *s, const struct fault *f)
{
	fire(s, f->res, f->taken_ns, false, &f->took);
}

void fault_waited(const struct session *s, const struct mm_request *req)
{
	fire(s, req->cqe.res, req->since_ns, true, &req->faults);
}
