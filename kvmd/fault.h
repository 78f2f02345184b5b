/* SPDX-License-Identifier: MIT */
#ifndef KVMD_FAULT_H
#define KVMD_FAULT_H
/*
 * fault.h - the probe kvmd:fault: what a request took, and how long
 *
 * A fault is a KV_OP_RESERVE that is answered, or a KV_OP_PREFIX_MAP that
 * found something, from when its entry is taken
 * off the ring until its completion is written; one that waits, until its last
 * completion. Clocks are read and counters compared only while somebody is
 * attached:
 *
 *	at once		fault_begin(), fault_answered(), fault_ended()
 *	waiting		fault_begin(), fault_answered(); later fault_waited()
 *
 * One that began to wait before somebody attached is as old as the core's
 * last tick before that.
 */
#include "include/kv/usdt.h"
#include "kvmd/mm/mm.h"

struct kvmd;
struct session;

USDT_DECLARE(kvmd, fault);

struct fault {
	u64 taken_ns;
	struct mm_faults took; /* before fault_answered(): what it began with */
	int res;
};

/* fault_begin - a request has been taken off the ring */
void fault_begin(struct kvmd *d, struct fault *f);
/* fault_answered - the core has answered; @res may be -EINPROGRESS */
void fault_answered(const struct session *s, struct fault *f, int res);
/* fault_ended - its completion is written: fire */
void fault_ended(const struct session *s, const struct fault *f);
/* fault_waited - the completion of a waiting one is written: fire */
void fault_waited(const struct session *s, const struct mm_request *req);

#endif
