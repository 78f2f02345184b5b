/* SPDX-License-Identifier: MIT */
/*
 * rw_threads.c - runs by threads and plain calls
 *
 * The threads are this file's own: one that a dead disk keeps for ever does
 * not hold up those that copy and zero.
 */
#include "kvmd/io/rw.h"

#include <errno.h>

#define NR_THREADS 4u

static int threads_init(struct rw *rw)
{
	struct work_pool *pool;
	int rc = work_pool_create(rw->io, NR_THREADS, &pool);

	rw->priv = rc ? NULL : pool;
	return rc;
}

static void threads_fini(struct rw *rw)
{
	work_pool_destroy(rw->priv);
}

static void threads_run(struct work *w)
{
	struct rw_run *run = container_of(w, struct rw_run, work);
	off_t off = (off_t)rw_run_place(run);
	ssize_t n;

	if (run->write)
		n = pwritev(run->rw->fd, run->at, (int)run->nr_at, off);
	else
		n = preadv(run->rw->fd, run->at, (int)run->nr_at, off);
	run->res = n < 0 ? -errno : (int)n;
}

static void threads_done(struct work *w)
{
	struct rw_run *run = container_of(w, struct rw_run, work);
	struct rw *rw = run->rw;

	rw_run_done(run, run->res);
	rw_kick(rw);
}

static void threads_start(struct rw *rw, struct rw_run *run)
{
	run->work.run = threads_run;
	run->work.done = threads_done;
	work_submit(rw->priv, &run->work);
}

static void threads_wait(struct rw *rw, int ms)
{
	work_pool_wait(rw->priv, ms);
}

const struct rw_ops rw_threads_ops = {
	.name = "threads",
	.init = threads_init,
	.fini = threads_fini,
	.start = threads_start,
	.wait = threads_wait,
};
