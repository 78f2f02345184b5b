/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_RING_H
#define KVMD_IPC_RING_H
/*
 * ring.h - the service of the clients' rings
 */
#include <kv/ring.h>
#include "include/kv/types.h"
#include "kvmd/io/io.h"

struct kvmd;
struct session;
struct mm_request;

/* ring_turn - serve each hot ring a little; number of requests taken */
unsigned int ring_turn(struct kvmd *d);
/* ring_wake - look at this ring each turn from now on */
void ring_wake(struct session *s);
/* ring_adopt - a predecessor's: where it was, and the answer that it owes;
 * before anything else is asked of the core */
void ring_adopt(struct session *s);
/* ring_resume - serve it; its client is woken */
void ring_resume(struct session *s);
/* ring_forget - never again */
void ring_forget(struct session *s);
/* ring_doorbell - callback of a client's eventfd */
void ring_doorbell(struct io_watch *w, u32 events);
/* ring_complete - MM_REQ_COMPLETE: an operation that was pending ends */
void ring_complete(struct session *s, const struct mm_request *req);
/* ring_event - put an event on the client's event ring */
void ring_event(struct session *s, const struct kv_event *ev);

#endif
