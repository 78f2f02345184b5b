/* SPDX-License-Identifier: MIT */
/*
 * epoll.c - the event loop where io_uring is not allowed
 */
#include "kvmd/io/io.h"
#include "kvmd/io/rw.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define EPOLL_BATCH 64

struct epoll {
	int fd;
};

static int epoll_init(struct io *io)
{
	struct epoll *e = calloc(1, sizeof(*e));

	if (!e)
		return -ENOMEM;
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->fd < 0) {
		free(e);
		return -errno;
	}
	io->priv = e;
	return 0;
}

static void epoll_fini(struct io *io)
{
	struct epoll *e = io->priv;

	close(e->fd);
	free(e);
}

static int epoll_set(struct io *io, u32 slot, int how)
{
	const struct io_watch *w = io->slots[slot].watch;
	struct epoll *e = io->priv;
	struct epoll_event ev = {
		.events = w->events | (w->kind == IO_EDGE ? (u32)EPOLLET : 0),
		.data.u64 = io_slot_key(io, slot),
	};

	return epoll_ctl(e->fd, how, w->fd, &ev) ? -errno : 0;
}

static int epoll_add(struct io *io, u32 slot)
{
	int rc = epoll_set(io, slot, EPOLL_CTL_ADD);

	/* epoll keys by descriptor: remembered here, as del has no watch */
	io->slots[slot].next_free = (u32)io->slots[slot].watch->fd;
	return rc;
}

static void epoll_mod(struct io *io, u32 slot)
{
	epoll_set(io, slot, EPOLL_CTL_MOD);
}

static void epoll_del(struct io *io, u32 slot)
{
	struct epoll *e = io->priv;

	epoll_ctl(e->fd, EPOLL_CTL_DEL, (int)io->slots[slot].next_free, NULL);
	io_slot_free(io, slot);
}

static int epoll_wait_ns(struct io *io, s64 timeout_ns)
{
	struct epoll_event ev[EPOLL_BATCH];
	struct epoll *e = io->priv;
	struct timespec ts = {
		.tv_sec = timeout_ns / 1000000000,
		.tv_nsec = timeout_ns % 1000000000,
	};
	struct io_slot *s;
	int i, n;

	n = epoll_pwait2(e->fd, ev, EPOLL_BATCH, timeout_ns < 0 ? NULL : &ts,
			 NULL);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	io_woke(io, timeout_ns);
	for (i = 0; i < n; i++) {
		s = io_slot_find(io, ev[i].data.u64);
		if (s)
			s->watch->ready(s->watch, ev[i].events);
	}
	return n;
}

const struct io_ops io_epoll_ops = {
	.name = "epoll",
	.init = epoll_init,
	.fini = epoll_fini,
	.add = epoll_add,
	.mod = epoll_mod,
	.del = epoll_del,
	.wait = epoll_wait_ns,
	.rw = &rw_threads_ops,
};
