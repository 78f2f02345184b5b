/* SPDX-License-Identifier: MIT */
/*
 * order.c - in which order those that wait are looked at
 */
#include "runtime/engine/engine_priv.h"

void order_waiting(struct engine *e)
{
	u32 i;

	e->nr_queue = 0;
	for (i = 0; i < e->nr_reqs; i++)
		if (e->reqs[i]->state == REQUEST_WAITING && !e->reqs[i]->comes)
			e->queue[e->nr_queue++] = e->reqs[i];
}
