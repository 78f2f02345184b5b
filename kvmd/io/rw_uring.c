/* SPDX-License-Identifier: MIT */
/*
 * rw_uring.c - runs by a ring of their own
 *
 * Not the loop's ring: what it is asked to watch never waits behind pages,
 * and a disk that is slow holds up nothing but itself. An eventfd tells the
 * loop that something has ended; it is never read, its counter only grows.
 *
 * The ring is tried when it is made, with a read of the file itself: some
 * sandboxes let a ring be made and refuse its use. The file is registered
 * where that is possible, which saves a look-up a run. Buffers are not: the
 * kernel takes a vector of registered ones since 6.15 only, and a disk is
 * not quicker for it.
 */
#include "kvmd/io/rw.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CQE_BATCH 64u

struct rw_uring {
	struct rw *rw;
	struct io_uring ring;
	struct io_watch watch;
	bool fixed; /* the file is registered, as number 0 */
};

static void uring_reap(struct rw *rw)
{
	struct rw_uring *u = rw->priv;
	struct io_uring_cqe *cqes[CQE_BATCH];
	unsigned int i, n;

	do {
		n = io_uring_peek_batch_cqe(&u->ring, cqes, CQE_BATCH);
		for (i = 0; i < n; i++)
			rw_run_done(io_uring_cqe_get_data(cqes[i]),
				    cqes[i]->res);
		io_uring_cq_advance(&u->ring, n);
	} while (n);
	rw_kick(rw);
}

static void uring_ready(struct io_watch *w, u32 events)
{
	uring_reap(container_of(w, struct rw_uring, watch)->rw);
}

/* There is an entry: as many as there are runs, and each has one at most. */
static void uring_prep(struct rw *rw, bool write, const struct iovec *iov,
		       u32 nr, u64 off, void *data)
{
	struct rw_uring *u = rw->priv;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	int fd = u->fixed ? 0 : rw->fd;

	if (write)
		io_uring_prep_writev(sqe, fd, iov, nr, off);
	else
		io_uring_prep_readv(sqe, fd, iov, nr, off);
	if (u->fixed)
		sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, data);
}

/* Read a block of the file, as it will be read. */
static int uring_probe(struct rw *rw)
{
	struct rw_uring *u = rw->priv;
	struct __kernel_timespec ts = { .tv_sec = 1 };
	struct io_uring_cqe *cqe = NULL;
	struct iovec iov = { .iov_len = RW_ALIGN };
	int rc;

	if (posix_memalign(&iov.iov_base, RW_ALIGN, RW_ALIGN))
		return -ENOMEM;
	u->fixed = !io_uring_register_files(&u->ring, &rw->fd, 1);
	uring_prep(rw, false, &iov, 1, 0, NULL);
	rc = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
	if (rc >= 0 && !cqe)
		rc = -ETIME;
	if (rc >= 0) {
		rc = min(cqe->res, 0);
		io_uring_cqe_seen(&u->ring, cqe);
	}
	if (rc == -ETIME)
		return rc; /* the block may still be written to */
	free(iov.iov_base);
	return rc;
}

static int uring_init(struct rw *rw)
{
	struct rw_uring *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return -ENOMEM;
	rw->priv = u;
	u->rw = rw;
	u->watch.fd = -1;
	rc = io_uring_queue_init(RW_RUNS, &u->ring, 0);
	if (rc)
		goto out_free;
	rc = uring_probe(rw);
	if (rc)
		goto out_exit;
	u->watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	u->watch.events = EPOLLIN;
	u->watch.kind = IO_EDGE;
	u->watch.ready = uring_ready;
	rc = u->watch.fd < 0 ? -errno
			     : io_uring_register_eventfd(&u->ring, u->watch.fd);
	if (!rc)
		rc = io_add(rw->io, &u->watch);
	if (!rc)
		return 0;
	if (u->watch.fd >= 0)
		close(u->watch.fd);
out_exit:
	io_uring_queue_exit(&u->ring);
out_free:
	free(u);
	rw->priv = NULL;
	return rc;
}

static void uring_fini(struct rw *rw)
{
	struct rw_uring *u = rw->priv;

	io_del(rw->io, &u->watch);
	io_uring_queue_exit(&u->ring);
	close(u->watch.fd);
	free(u);
}

static void uring_start(struct rw *rw, struct rw_run *run)
{
	uring_prep(rw, run->write, run->at, run->nr_at, rw_run_place(run), run);
}

static void uring_flush(struct rw *rw)
{
	struct rw_uring *u = rw->priv;

	if (io_uring_sq_ready(&u->ring))
		io_uring_submit(&u->ring);
}

static void uring_wait(struct rw *rw, int ms)
{
	struct rw_uring *u = rw->priv;
	struct __kernel_timespec ts = { .tv_nsec = ms * 1000000ll };
	struct io_uring_cqe *cqe;

	if (rw->nr_flight)
		io_uring_wait_cqe_timeout(&u->ring, &cqe, &ts);
	uring_reap(rw);
}

const struct rw_ops rw_uring_ops = {
	.name = "uring",
	.init = uring_init,
	.fini = uring_fini,
	.start = uring_start,
	.flush = uring_flush,
	.wait = uring_wait,
};
