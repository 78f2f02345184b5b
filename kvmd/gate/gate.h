/* SPDX-License-Identifier: MIT */
#ifndef KVMD_GATE_GATE_H
#define KVMD_GATE_GATE_H
/*
 * gate.h - the step gate: clients that share processors compute by turns
 *
 * turns.h decides, here is what it takes to tell clients and to find out what
 * they do: the words of include/uapi/kv/turn.h in each client's ring memory,
 * its processors, and time.
 *
 * What happens when somebody dies or stops:
 *
 *	the holder ends		its session leaves, the next one has the turn
 *	the holder stops	in a step: LATE_NS after its time it has lost
 *				the turn, and goes on beside the others when it
 *				does; TURN_MAX_NS if it uses processors.
 *				Between steps: at its time
 *	a waiter stops		what it was granted and does not take in
 *				WAKE_NS goes on to the next
 *	kvmd is killed		the words stay; its successor goes on with
 *				whoever has the turn or waits by them. Virtual
 *				times begin anew
 */
#include <jansson.h>
#include "include/kv/types.h"

struct kvmd;
struct session;

/* What is known of one client beside the turns' own state. */
struct gate_client {
	bool in; /* has asked once */
	u32 word; /* kvmd's own copy */
	u64 steps, kept_ns; /* KEPT since then, after so many steps */
	u64 cpu_ns, cpu_at_ns; /* what its process had used, and when */
};

int __must_check gate_create(struct kvmd *d);
void gate_destroy(struct kvmd *d);
/* gate_request - KV_OP_TURN: its words have changed */
void gate_request(struct session *s);
/* gate_leave - its session ends */
void gate_leave(struct session *s);
/* gate_adopt_all - a predecessor's clients; their words say how they stand */
void gate_adopt_all(struct kvmd *d);
/* gate_weight - of this tenant has changed */
void gate_weight(struct kvmd *d, u32 tenant);
/* gate_json - members of a client's object */
void gate_json(const struct session *s, json_t *o);
/* gate_tenant_ns - what a tenant's clients that are there were charged */
u64 gate_tenant_ns(const struct kvmd *d, u32 tenant);

#endif
