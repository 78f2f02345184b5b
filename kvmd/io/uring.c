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
 *
 * The kernel may refuse to take what is queued, for want of memory, say, and
 * then there is no room for more. A slot whose request or cancellation found
 * none is remembered, and what it needs is queued before the next wait.
 */
#include "kvmd/io/io.h"
#include "kvmd/io/rw.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <unistd.h>
#include "lib/bitmap.h"

#define URING_ENTRIES 512
#define URING_CANCEL  (~0ull) /* user_data of cancellations: ignored */
#define URING_BATCH   64
#define URING_ROUNDS  32
#define URING_LATE_NS 1000000ll /* until it is tried again */

struct uring {
	struct io_uring ring;
	u32 nr_late;
	u32 late[IO_SLOT_MAX]; /* slots that found no room, each once */
	u64 is_late[BITMAP_WORDS(IO_SLOT_MAX)];
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

static void uring_remember(struct uring *u, u32 slot)
{
	if (bitmap_test(u->is_late, slot))
		return;
	bitmap_set(u->is_late, slot);
	u->late[u->nr_late++] = slot;
}

static void uring_arm(struct io *io, u32 slot)
{
	const struct io_watch *w = io->slots[slot].watch;
	struct io_uring_sqe *sqe = uring_sqe(io->priv);

	if (!sqe) {
		uring_remember(io->priv, slot);
		return;
	}
	if (w->kind == IO_EDGE)
		io_uring_prep_poll_multishot(sqe, w->fd, w->events);
	else
		io_uring_prep_poll_add(sqe, w->fd, w->events);
	io_uring_sqe_set_data64(sqe, io_slot_key(io, slot));
	io->slots[slot].in_flight = true;
}

static int uring_add(struct io *io, u32 slot)
{
	uring_arm(io, slot);
	return 0;
}

static void uring_cancel(struct io *io, u32 slot)
{
	struct io_uring_sqe *sqe = uring_sqe(io->priv);

	if (!sqe) {
		uring_remember(io->priv, slot);
		return;
	}
	io_uring_prep_poll_remove(sqe, io_slot_key(io, slot));
	io_uring_sqe_set_data64(sqe, URING_CANCEL);
}

/*
 * What found no room, as far as there is some now. In the meantime its slot may
 * have come to need nothing, or been given to another watch: one that is
 * cancelled for nothing is armed again when that is told.
 */
static void uring_catch_up(struct io *io)
{
	struct uring *u = io->priv;
	u32 i, slot, nr = u->nr_late;

	u->nr_late = 0;
	for (i = 0; i < nr; i++) {
		slot = u->late[i];
		bitmap_clear(u->is_late, slot);
		if (u->nr_late) /* one before it found none: no more tries */
			uring_remember(u, slot);
		else if (io->slots[slot].in_flight)
			uring_cancel(io, slot);
		else if (io->slots[slot].watch)
			uring_arm(io, slot);
	}
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
	if (io->slots[slot].in_flight)
		uring_cancel(io, slot);
	else
		io_slot_free(io, slot);
}

/* The request that is out is cancelled; its end arms the new events. */
static void uring_mod(struct io *io, u32 slot)
{
	if (io->slots[slot].in_flight)
		uring_cancel(io, slot);
	/* else inside its own callback: armed behind it */
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
	struct __kernel_timespec ts;
	int rc = 0;

	if (unlikely(u->nr_late))
		uring_catch_up(io);
	if (unlikely(u->nr_late) &&
	    (timeout_ns < 0 || timeout_ns > URING_LATE_NS))
		timeout_ns = URING_LATE_NS;
	ts.tv_sec = timeout_ns / 1000000000;
	ts.tv_nsec = timeout_ns % 1000000000;
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
	.add = uring_add,
	.mod = uring_mod,
	.del = uring_del,
	.wait = uring_wait,
	.rw = &rw_uring_ops,
};
