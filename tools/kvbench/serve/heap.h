/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_HEAP_H
#define TOOLS_KVBENCH_SERVE_HEAP_H
/*
 * heap.h - numbers by time, the earliest first
 */
#include "include/kv/types.h"

struct heap_item {
	double at;
	u32 what;
};

struct heap {
	struct heap_item *v;
	u32 nr;
};

/* heap_init - for @room of them; 0, -ENOMEM */
int __must_check heap_init(struct heap *h, u32 room);
void heap_fini(struct heap *h);
void heap_push(struct heap *h, double at, u32 what);
/* heap_first - when the earliest is; INFINITY if there is none */
double heap_first(const struct heap *h);
/* heap_pop - take out the earliest; of those at one time, the lowest */
u32 heap_pop(struct heap *h);

#endif
