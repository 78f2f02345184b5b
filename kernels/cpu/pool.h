/* SPDX-License-Identifier: MIT */
#ifndef CPU_POOL_H
#define CPU_POOL_H
/*
 * pool.h - a few threads that share out the items of a job
 *
 * The caller of pool_run() works too, so a pool of one has no thread of its
 * own. Between jobs the workers spin for POOL_SPIN_NS, then sleep.
 */
#include "kernels/include/kern.h"

/* Of each thread: what a kernel may take, and behind it exec.c's own. */
#define POOL_SCRATCH_BYTES (2 * KERN_SCRATCH_BYTES)

struct pool;

/* Item @item of a job; @scratch is the running thread's. */
typedef void (*pool_fn)(void *arg, u32 item, void *scratch);
typedef void (*pool_errand_fn)(void *arg);

/**
 * pool_create - start the threads
 * @nr_threads: threads that work on a job, the caller included; 0 = as many
 *		as CPUs this process may run on
 * @out: the pool, on success only
 *
 * Workers flush denormals and inherit the caller's nice value and mask.
 *
 * Return: 0, -ENOMEM, -EAGAIN if a thread could not be started.
 */
int __must_check pool_create(u32 nr_threads, struct pool **out);

/**
 * pool_run - run items 0 .. @nr_items - 1 of a job
 * @pool: the pool; one job at a time, so one caller at a time
 * @fn: called once per item, in any order, on any thread of the pool
 * @arg: handed to @fn
 * @nr_items: any number
 *
 * What items wrote is visible to the caller afterwards.
 */
void pool_run(struct pool *pool, pool_fn fn, void *arg, u32 nr_items);

/**
 * pool_post - have something done beside the jobs that follow
 * @pool: the pool; one errand at a time
 * @fn: called once, by a worker, or by the caller in pool_collect()
 * @arg: handed to @fn
 *
 * A worker takes it before its next job, and while it is at it the others share
 * the items out among them. Nobody is woken for it alone. @fn runs no job.
 */
void pool_post(struct pool *pool, pool_errand_fn fn, void *arg);
/*
 * pool_collect - until the errand is done; nothing happens if there is none.
 * What it wrote is visible to the caller afterwards.
 */
void pool_collect(struct pool *pool);

/**
 * pool_pin - give each thread of the pool a CPU of its own, for good
 * @pool: called by the thread that runs its jobs, which is pinned too
 *
 * The CPUs are the first of those the calling thread may run on. Without
 * this the kernel places the threads, which is better wherever several
 * programs share the machine.
 *
 * Return: 0, -ERANGE if there are fewer CPUs than threads, or the system's
 * -errno; then some threads may be pinned.
 */
int __must_check pool_pin(struct pool *pool);

u32 pool_nr_threads(const struct pool *pool);
void *pool_scratch(struct pool *pool); /* of the caller of pool_run() */

/**
 * pool_shared - memory that the items of a job share
 * @pool: called between jobs
 * @bytes: at least; kept for the next call, which may move it
 *
 * Return: aligned to a page, NULL if there is none; what it holds is undefined.
 */
void *pool_shared(struct pool *pool, size_t bytes);

void pool_destroy(struct pool *pool);

#endif
