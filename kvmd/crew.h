/* SPDX-License-Identifier: MIT */
#ifndef KVMD_CREW_H
#define KVMD_CREW_H
/*
 * crew.h - threads that work for one tenant
 *
 * Copying a tenant's pages, summing them up, making them smaller: what kvmd
 * does because of a tenant takes time of that tenant's CPUs, not of others',
 * and what one tenant waits for is in no queue behind another one's.
 */
#include <sched.h>
#include "include/kv/types.h"
#include "kvmd/io/timer.h"
#include "kvmd/io/work.h"
#include "kvmd/mm/mm.h"

struct kvmd;

struct crew {
	struct work_pool *pool; /* NULL: not wanted so far */
	cpu_set_t cpus; /* where its threads may run */
	u32 nr_jobs; /* since the last look */
};

struct crews {
	struct crew of[MM_TENANT_MAX];
	cpu_set_t all; /* what kvmd itself may run on; none: not known */
	cpu_set_t loop; /* where the loop may */
	u32 top; /* no crew from here on */
	u32 nr_jobs;
	struct timer timer; /* the next look, armed while there are jobs */
};

void crew_init(struct kvmd *d);
/* crew_pool - threads for one job of @tenant's, made if need be; never NULL */
struct work_pool *crew_pool(struct kvmd *d, u32 tenant);
/* crew_pause, crew_resume, crew_flush - work_pool_...() of each */
void crew_pause(struct kvmd *d);
void crew_resume(struct kvmd *d);
void crew_flush(struct kvmd *d);
/* crew_destroy - finish what is queued, end all threads */
void crew_destroy(struct kvmd *d);

#endif
