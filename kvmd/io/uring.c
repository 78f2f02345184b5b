/* SPDX-License-Identifier: MIT */
/*
 * uring.c - the event loop on io_uring
 *
 * A level watch is a one-shot poll request that is queued again after each
 * callback: it goes to the kernel with the next wait, so it costs no call of
 * its own. An edge watch is one multishot poll request.
 *
 * A request in flight holds a reference on the file and names the slot. On
 * removal it is cancelled, and the slot stays taken (watch == NULL) until the
 * request's last completion, so a slot has at most one request at any time.
 */
#include "kvmd/io/io.h"
#include "kvmd/io/rw.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <unistd.h>

#define URING_ENTRIES 512
#define URING_CANCEL  (~0ull) /* user_data of cancellations: ignored */
#define URING_BATCH   64
#define URING_ROUNDS  32

struct uring {
	struct io_uring ring;
};

static struct io_uring_sqe *uring_sqe(struct uring *u)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	if (!sqe) {
		io_uring_submit(&u->ring);
		sqe = io_uring_get_sqe(&u->ring);
	}
	return sqe;
}

static int uring_arm(struct io *io, u32 slot)
{
	const struct io_watch *w = io->slots[slot].watch;
	struct io_uring_sqe *sqe = uring_sqe(io->priv);

	if (!sqe)
		return -EBUSY;
	if (w->kind == IO_EDGE)
		io_uring_prep_poll_multishot(sqe, w->fd, w->events);
	else
		io_uring_prep_poll_add(sqe, w->fd, w->events);
	io_uring_sqe_set_data64(sqe, io_slot_key(io, slot));
	io->slots[slot].in_flight = true;
	return 0;
}

/*
 * Kernels before 5.13 have no multishot poll, some sandboxes let the ring be
 * made and refuse its use: try what will be used.
 */
static int uring_probe(struct io *io)
{
	struct uring *u = io->priv;
	struct io_uring_cqe *cqe;
	struct __kernel_timespec ts = { .tv_sec = 1 };
	struct io_uring_sqe *sqe;
	int fds[2], rc;

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	sqe = io_uring_get_sqe(&u->ring);
	io_uring_prep_poll_multishot(sqe, fds[1], EPOLLOUT);
	io_uring_sqe_set_data64(sqe, URING_CANCEL);
	rc = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
	if (rc >= 0 && !cqe)
		rc = -ETIME;
	if (rc >= 0) {
		rc = cqe->res < 0 ? cqe->res : 0;
		io_uring_cqe_seen(&u->ring, cqe);
	}
	if (!rc) {
		sqe = io_uring_get_sqe(&u->ring);
		io_uring_prep_poll_remove(sqe, URING_CANCEL);
		io_uring_sqe_set_data64(sqe, URING_CANCEL);
		io_uring_submit(&u->ring);
	}
	close(fds[0]);
	close(fds[1]);
	return rc;
}

static int uring_init(struct io *io)
{
	struct uring *u = calloc(1, sizeof(*u));
	struct io_uring_params p = {
		.flags = IORING_SETUP_CQSIZE,
		.cq_entries = 4 * URING_ENTRIES,
	};
	int rc;

	if (!u)
		return -ENOMEM;
	rc = io_uring_queue_init_params(URING_ENTRIES, &u->ring, &p);
	if (rc) {
		free(u);
		return rc;
	}
	io->priv = u;
	if (!(p.features & IORING_FEAT_EXT_ARG) ||
	    !(p.features & IORING_FEAT_NODROP))
		rc = -ENOSYS;
	if (!rc)
		rc = uring_probe(io);
	if (rc) {
		io_uring_queue_exit(&u->ring);
		free(u);
	}
	return rc;
}

static void uring_fini(struct io *io)
{
	struct uring *u = io->priv;

	io_uring_queue_exit(&u->ring);
	free(u);
}

static void uring_del(struct io *io, u32 slot)
{
	struct io_uring_sqe *sqe;

	if (!io->slots[slot].in_flight) {
		io_slot_free(io, slot);
		return;
	}
	sqe = uring_sqe(io->priv);
	if (!sqe)
		return; /* the request's own end frees the slot */
	io_uring_prep_poll_remove(sqe, io_slot_key(io, slot));
	io_uring_sqe_set_data64(sqe, URING_CANCEL);
}

/* The request that is out is cancelled; its end arms the new events. */
static void uring_mod(struct io *io, u32 slot)
{
	struct io_uring_sqe *sqe;

	if (!io->slots[slot].in_flight)
		return; /* inside its own callback: armed behind it */
	sqe = uring_sqe(io->priv);
	if (!sqe)
		return;
	io_uring_prep_poll_remove(sqe, io_slot_key(io, slot));
	io_uring_sqe_set_data64(sqe, URING_CANCEL);
}

static int uring_complete(struct io *io, u64 key, int res, u32 flags)
{
	u32 slot = (u32)key;
	struct io_slot *s = &io->slots[slot % IO_SLOT_MAX];
	struct io_watch *w;
	u32 gen;

	if (key == URING_CANCEL || s->gen != (u32)(key >> 32))
		return 0;
	if (!(flags & IORING_CQE_F_MORE))
		s->in_flight = false;
	w = s->watch;
	if (!w) { /* removed while the request was out */
		if (!s->in_flight)
			io_slot_free(io, slot);
		return 0;
	}
	gen = s->gen;
	if (res != -ECANCELED)
		w->ready(w, res < 0 ? (u32)EPOLLERR : (u32)res);
	/* the callback may have removed the watch, or reused its slot */
	if (s->gen == gen && s->watch && !s->in_flight)
		uring_arm(io, slot);
	return 1;
}

/* Tell what has completed. Return: how many callbacks were called. */
static int uring_reap(struct io *io)
{
	struct uring *u = io->priv;
	struct io_uring_cqe *cqes[URING_BATCH];
	unsigned int i, n, round;
	int nr = 0;

	for (round = 0; round < URING_ROUNDS; round++) {
		n = io_uring_peek_batch_cqe(&u->ring, cqes, URING_BATCH);
		for (i = 0; i < n; i++) {
			u64 key = cqes[i]->user_data;
			int res = cqes[i]->res;
			u32 flags = cqes[i]->flags;

			nr += uring_complete(io, key, res, flags);
		}
		io_uring_cq_advance(&u->ring, n);
		if (n < URING_BATCH)
			break;
	}
	return nr;
}

static int uring_wait(struct io *io, s64 timeout_ns)
{
	struct uring *u = io->priv;
	struct io_uring_cqe *cqe;
	struct __kernel_timespec ts = {
		.tv_sec = timeout_ns / 1000000000,
		.tv_nsec = timeout_ns % 1000000000,
	};
	int rc = 0;

	if (timeout_ns == 0) {
		if (io_uring_sq_ready(&u->ring))
			rc = io_uring_submit_and_get_events(&u->ring);
	} else {
		rc = io_uring_submit_and_wait_timeout(
			&u->ring, &cqe, 1, timeout_ns < 0 ? NULL : &ts, NULL);
	}
	if (rc < 0 && rc != -ETIME && rc != -EINTR && rc != -EAGAIN &&
	    rc != -EBUSY)
		return rc;
	io_woke(io, timeout_ns);
	return uring_reap(io);
}

const struct io_ops io_uring_ops = {
	.name = "uring",
	.init = uring_init,
	.fini = uring_fini,
	.add = uring_arm,
	.mod = uring_mod,
	.del = uring_del,
	.wait = uring_wait,
	.rw = &rw_uring_ops,
};
