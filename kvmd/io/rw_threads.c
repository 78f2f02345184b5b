/* SPDX-License-Identifier: MIT */
/*
 * rw_threads.c - runs by threads and plain calls
 *
 * The threads are this file's own: one that a dead disk keeps for ever does
 * not hold up those that copy and zero. At the end it is left behind, and so is
 * all that it may still look at; its descriptor is one that nobody closes.
 */
#include "kvmd/io/rw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define NR_THREADS 4u

struct rw_threads {
	struct work_pool *pool;
	int fd;
};

static int threads_init(struct rw *rw)
{
	struct rw_threads *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return -ENOMEM;
	t->fd = fcntl(rw->fd, F_DUPFD_CLOEXEC, 0);
	rc = t->fd < 0 ? -errno
		       : work_pool_create(rw->io, NR_THREADS, &t->pool);
	if (!rc) {
		rw->priv = t;
		return 0;
	}
	if (t->fd >= 0)
		close(t->fd);
	free(t);
	return rc;
}

static void threads_fini(struct rw *rw)
{
	struct rw_threads *t = rw->priv;

	if (rw->nr_flight) {
		work_pool_leave(t->pool);
		return;
	}
	work_pool_destroy(t->pool);
	close(t->fd);
	free(t);
}

static void threads_run(struct work *w)
{
	struct rw_run *run = container_of(w, struct rw_run, work);
	const struct rw_threads *t = run->rw->priv;
	off_t off = (off_t)rw_run_place(run);
	ssize_t n;

	if (run->write)
		n = pwritev(t->fd, run->at, (int)run->nr_at, off);
	else
		n = preadv(t->fd, run->at, (int)run->nr_at, off);
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
	work_submit(((struct rw_threads *)rw->priv)->pool, &run->work);
}

static void threads_wait(struct rw *rw, int ms)
{
	work_pool_wait(((struct rw_threads *)rw->priv)->pool, ms);
}

const struct rw_ops rw_threads_ops = {
	.name = "threads",
	.init = threads_init,
	.fini = threads_fini,
	.start = threads_start,
	.wait = threads_wait,
};
