/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_WORK_H
#define KVMD_IO_WORK_H
/*
 * work.h - threads for what may not run on the loop
 *
 * Zeroing memory, reading /proc, hashing and writing long texts take longer
 * than a loop may. A job runs on a thread of the pool; its end is told on the
 * loop. A job touches nothing that the loop owns but its own fields.
 *
 *	idle -> queued -> running -> finished -> (done called) idle
 */
#include <sched.h>
#include <sys/queue.h>
#include "include/kv/types.h"
#include "kvmd/io/io.h"

struct work {
	void (*run)(struct work *w); /* on a thread */
	void (*done)(struct work *w); /* on the loop; may free @w */
	bool slow; /* of milliseconds: a batch pool tells other ends first */
	STAILQ_ENTRY(work) link;
};

struct work_pool;

int __must_check work_pool_create(struct io *io, unsigned int nr_threads,
				  struct work_pool **out);
/* work_pool_create_batch - threads that let others compute first */
int __must_check work_pool_create_batch(struct io *io, unsigned int nr_threads,
					struct work_pool **out);
/* work_pool_destroy - finish what is queued, call every done(), join */
void work_pool_destroy(struct work_pool *p);
/*
 * work_pool_leave - instead of destroy, where a job may never end: none is
 * begun any more, no done() is called, and what runs is left to itself. It has
 * its memory, and the pool's, as long as the process lives.
 */
void work_pool_leave(struct work_pool *p);
/* work_pool_place - its threads run on @cpus only, if they may */
void work_pool_place(struct work_pool *p, const cpu_set_t *cpus);
void work_submit(struct work_pool *p, struct work *w);
/* work_pool_pause - returns when no job runs; none is begun until resume */
void work_pool_pause(struct work_pool *p);
void work_pool_resume(struct work_pool *p);
/* work_pool_wait - until a job has ended, none is left, or @ms; its done() */
void work_pool_wait(struct work_pool *p, int ms);
/* work_pool_flush - wait for all that is queued and call its done() */
void work_pool_flush(struct work_pool *p);
/* work_pool_is_busy - is there a job that has not ended? */
bool work_pool_is_busy(struct work_pool *p);

#endif
