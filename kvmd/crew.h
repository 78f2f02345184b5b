/* SPDX-License-Identifier: MIT */
#ifndef KVMD_CREW_H
#define KVMD_CREW_H
/*
 * crew.h - threads that work for one tenant
 *
 * Copying a tenant's pages, summing them up, making them smaller: what kvmd
 * does because of a tenant takes time of that tenant's CPUs, not of others',
 * and what one tenant waits for is in no queue behind another one's.
 *
 * What its clients may hold up, for as long as they like, is done by threads
 * apart: nobody waits for these, be it to pause all copies or to end.
 */
#include <sched.h>
#include "include/kv/types.h"
#include "kvmd/io/timer.h"
#include "kvmd/io/work.h"
#include "kvmd/mm/mm.h"

struct kvmd;

struct crew {
	struct work_pool *pool; /* NULL: not wanted so far */
	struct work_pool *held; /* likewise; what clients may hold up */
	cpu_set_t cpus; /* where its threads may run */
	u32 nr_jobs; /* since the last look */
};

struct crews {
	struct crew of[MM_TENANT_MAX];
	struct work_pool *held; /* nobody's; there from the start */
	cpu_set_t all; /* what kvmd itself may run on; none: not known */
	cpu_set_t loop; /* where the loop may */
	u32 top; /* no crew from here on */
	u32 nr_jobs;
	struct timer timer; /* the next look, armed while there are jobs */
};

void crew_init(struct kvmd *d);
/* crew_open - there is a loop; 0 or -errno */
int __must_check crew_open(struct kvmd *d);
/* crew_pool - threads for one job of @tenant's, made if need be; never NULL */
struct work_pool *crew_pool(struct kvmd *d, u32 tenant);
/* crew_held - the same, for one that clients may hold up; its memory is its own
 * for as long as the process lives. MM_NONE: nobody's */
struct work_pool *crew_held(struct kvmd *d, u32 tenant);
/* crew_pause, crew_resume, crew_flush - work_pool_...() of each, but for what
 * clients may hold up */
void crew_pause(struct kvmd *d);
void crew_resume(struct kvmd *d);
void crew_flush(struct kvmd *d);
/* crew_held_wait - for what they may, up to @ms for each */
void crew_held_wait(struct kvmd *d, int ms);
/* crew_destroy - finish what is queued, end all threads but those that are held
 * up; they are left behind */
void crew_destroy(struct kvmd *d);

#endif
