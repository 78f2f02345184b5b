/* SPDX-License-Identifier: MIT */
#ifndef KVMD_ADOPT_H
#define KVMD_ADOPT_H
/*
 * adopt.h - going on with what a killed kvmd left
 */
#include "kvmd/mm/mm.h"

struct kvmd;

/* adopt_core_memory - for the core's block: d->state_fd, d->state_map, zero */
int __must_check adopt_core_memory(struct kvmd *d, char *err);

/**
 * adopt_core - take over the core's block, the device's memory, the clients
 * @d: daemon, whose keep has found something
 * @cfg: of the core
 * @ops: of the core
 * @err: KV_ERRLEN bytes for a sentence
 *
 * Return: 0: d->mm is there, and d->adopting; -errno: nothing of it can be
 * used, and nothing of it is left but the socket's path.
 */
int __must_check adopt_core(struct kvmd *d, const struct mm_config *cfg,
			    const struct mm_host_ops *ops, char *err);
/* adopt_finish - all else is there too: go on */
void adopt_finish(struct kvmd *d);

#endif
