/* SPDX-License-Identifier: MIT */
#ifndef KVMD_MM_OOM_H
#define KVMD_MM_OOM_H
/*
 * oom.h - a report when memory is not to be had
 */
#include "kvmd/mm/state.h"

/* oom_refused - @c lacked @extents for @step: too big, or it gave up */
void oom_refused(struct mm *mm, struct client *c, enum mm_oom_cause cause,
		 enum ticket_block block, u32 extents, u64 step, u64 since_ns);
/* oom_kill - @c is to be killed for what it does not give back */
void oom_kill(struct mm *mm, const struct client *c);

#endif
