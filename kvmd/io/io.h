/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_IO_H
#define KVMD_IO_IO_H
/*
 * io.h - the event loop's view of the kernel: readiness and time
 *
 * One thread owns a struct io and everything registered with it. Two backends
 * stand behind one table: io_uring, and epoll where containers forbid that.
 *
 * A watch is the caller's; io keeps its address from io_add() to io_del().
 * After io_del() returned, its callback is not called again, also when that
 * happens inside a callback of the same round, and its descriptor may be
 * closed.
 *
 *	IO_LEVEL  called again and again while the descriptor is ready
 *	IO_EDGE	  called after each wake-up of the descriptor, nothing is read:
 *		  for eventfds whose other end is not trusted. (Their file
 *		  flags are shared with the other end, so a read could be
 *		  made to block.)
 */
#include <sys/epoll.h>
#include "include/kv/types.h"

struct io;
struct rw_ops;

enum io_kind {
	IO_LEVEL,
	IO_EDGE,
};

struct io_watch {
	int fd;
	u32 events; /* EPOLLIN, EPOLLOUT; errors and hang-up always come */
	enum io_kind kind;
	void (*ready)(struct io_watch *w, u32 events);
	u32 slot; /* io's: place in its table + 1, 0 when not added */
};

/**
 * struct io_ops - a backend
 * @name: "uring" or "epoll"
 * @init: set io->priv up; -ENOSYS, -EPERM, -EINVAL: not possible here
 * @fini: release it; no watch is left
 * @add: begin to watch io->slots[slot]
 * @mod: the events of a level watch have changed
 * @del: stop; the backend calls io_slot_free() when nothing names the slot
 * @rw: how files are read and written beside it (kvmd/io/rw.h)
 * @wait: submit, wait up to @timeout_ns (negative: for ever, 0: look only)
 *	and call io_dispatch() for what is ready; number of calls or -errno
 *
 * All are required, none but @wait may sleep.
 */
struct io_ops {
	const char *name;
	int (*init)(struct io *io);
	void (*fini)(struct io *io);
	int (*add)(struct io *io, u32 slot);
	void (*mod)(struct io *io, u32 slot);
	void (*del)(struct io *io, u32 slot);
	int (*wait)(struct io *io, s64 timeout_ns);
	const struct rw_ops *rw;
};

#define IO_SLOT_MAX 8192u

struct io_slot {
	struct io_watch *watch; /* NULL: free, or being cancelled */
	u32 gen; /* moves at each reuse: stale events are told by it */
	u32 next_free;
	bool in_flight; /* uring: a poll request names this slot */
};

struct io {
	const struct io_ops *ops;
	void *priv;
	struct io_slot *slots;
	u32 first_free;
	u32 nr_watches;
	/* called after each wait that may have slept, before any callback:
	 * the owner looks at its clock; may be NULL */
	void (*woke)(void *ctx);
	void *woke_ctx;
};

/**
 * io_create - open an event loop
 * @name: "uring", "epoll", or "auto": io_uring where it is allowed
 * @out: the loop
 *
 * Return: 0; -EINVAL unknown name; the backend's error for a named one.
 */
int __must_check io_create(const char *name, struct io **out);
void io_destroy(struct io *io);
const char *io_name(const struct io *io);
int __must_check io_add(struct io *io, struct io_watch *w);
/* io_mod - w->events has changed (IO_LEVEL only) */
void io_mod(struct io *io, struct io_watch *w);
/* io_del - a watch that was never added is fine */
void io_del(struct io *io, struct io_watch *w);
int io_wait(struct io *io, s64 timeout_ns);

/* For backends */
extern const struct io_ops io_uring_ops;
extern const struct io_ops io_epoll_ops;
void io_slot_free(struct io *io, u32 slot);

static inline u64 io_slot_key(const struct io *io, u32 slot)
{
	return (u64)io->slots[slot].gen << 32 | slot;
}

/* Backends, when they come back from a wait of @timeout_ns. */
static inline void io_woke(struct io *io, s64 timeout_ns)
{
	if (timeout_ns && io->woke)
		io->woke(io->woke_ctx);
}

/* The slot that an event's key names, or NULL if that watch is gone. */
static inline struct io_slot *io_slot_find(struct io *io, u64 key)
{
	struct io_slot *s = &io->slots[(u32)key % IO_SLOT_MAX];

	return s->gen == (u32)(key >> 32) && s->watch ? s : NULL;
}

#endif
