/* SPDX-License-Identifier: MIT */
#ifndef LIB_HEAP_H
#define LIB_HEAP_H
/*
 * heap.h - events by time, the earliest first
 *
 * Of two at the same time the one that was put in first comes out first: so a
 * run of events depends on nothing but what put them in.
 */
#include "kv/types.h"

/**
 * struct event - something that is due
 * @at: when, in the caller's unit
 * @seq: the heap's
 * @kind, @who, @serial: the caller's
 */
struct event {
	u64 at, seq;
	u32 kind, who;
	u64 serial;
};

/* Zeroed: empty. */
struct heap {
	struct event *v; /* [nr] the children of i are 2 i + 1 and 2 i + 2 */
	u32 nr, room;
	u64 seq;
};

/* heap_push - 0, or -ENOMEM: nothing has changed */
int __must_check heap_push(struct heap *h, u64 at, u32 kind, u32 who,
			   u64 serial);
/* heap_first - when the earliest is; ~0 if there is none */
u64 heap_first(const struct heap *h);
/* heap_pop - take it out; there is one */
struct event heap_pop(struct heap *h);
void heap_fini(struct heap *h);

#endif
