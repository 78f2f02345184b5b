/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IO_RW_H
#define KVMD_IO_RW_H
/*
 * rw.h - a file read and written in the background, neighbours together
 *
 * A request is one piece of the file and one piece of memory. Requests wait
 * in order of their places; those that lie side by side go to the kernel as
 * one vectored I/O, a run. While the file has as much to do as it may
 * (RW_FLIGHT_BYTES), what comes is gathered, so the runs are the longer the
 * slower the file is.
 *
 * How a run gets to the kernel is behind a table: a ring of its own with the
 * loop on io_uring, threads of its own with the one on epoll, where io_uring
 * is forbidden. Everything but the threads' system calls is the loop's.
 */
#include <sys/queue.h>
#include <sys/uio.h>
#include "include/kv/types.h"
#include "kvmd/io/work.h"

#define RW_ALIGN	4096u /* of places, lengths and memory */
#define RW_RUN_REQS	64u
#define RW_RUN_BYTES	(1u << 20)
#define RW_RUNS		64u /* in flight at most, */
#define RW_FLIGHT_BYTES (8ull << 20) /* and of more than one so many bytes */

struct rw;

/**
 * struct rw_req - a piece to be read or written
 * @write: the caller fills this to @done
 * @done: called on the loop, once
 * @err: 0, or -errno: nothing is known of what was moved
 */
struct rw_req {
	bool write;
	u32 bytes;
	u64 off;
	void *buf;
	void (*done)(struct rw_req *req);
	int err;
	bool alone; /* rw's own, as is what follows: its run has failed */
	TAILQ_ENTRY(rw_req) link;
};

TAILQ_HEAD(rw_list, rw_req);

/* One I/O: requests side by side. The backend's from start to rw_run_done(). */
struct rw_run {
	struct rw *rw;
	bool write;
	u32 nr, bytes;
	u32 did; /* bytes that are done: what is short goes on there */
	u32 tries;
	u64 off;
	struct rw_list reqs;
	struct iovec iov[RW_RUN_REQS];
	struct iovec *at; /* from here on it has to be moved */
	u32 nr_at;
	struct work work; /* the backend's */
	int res;
	TAILQ_ENTRY(rw_run) link;
};

TAILQ_HEAD(rw_run_list, rw_run);

/**
 * struct rw_ops - how runs get to the kernel
 * @init: set rw->priv up for rw->fd; -errno: not possible here
 * @fini: release it; runs that have not ended, of rw->nr_flight, never will
 * @start: begin @run->at at its place; ends with rw_run_done(), later
 * @flush: what was begun goes to the kernel now; may be NULL
 * @wait: wait up to @ms for one to end, outside of the loop
 *
 * Loop thread; none but @wait may sleep. All others are required.
 */
struct rw_ops {
	const char *name;
	int (*init)(struct rw *rw);
	void (*fini)(struct rw *rw);
	void (*start)(struct rw *rw, struct rw_run *run);
	void (*flush)(struct rw *rw);
	void (*wait)(struct rw *rw, int ms);
};

struct rw {
	const struct rw_ops *ops;
	struct io *io;
	int fd;
	void *priv;
	struct rw_list pending[2]; /* by place; to read, to write */
	u64 head[2]; /* where the last run of each ended */
	u32 reads; /* begun since the last write was */
	struct rw_run *runs; /* [RW_RUNS] */
	struct rw_run_list unused;
	u32 nr_flight; /* runs */
	u64 flight_bytes, most_bytes; /* now, and the most ever */
	u64 nr_runs, nr_reqs; /* begun, ended */
};

/**
 * rw_create - begin to work on a file
 * @io: the loop; its backend says how
 * @fd: borrowed
 * @out: set on success
 */
int __must_check rw_create(struct io *io, int fd, struct rw **out);
/*
 * rw_destroy - NULL is fine. What has not ended is left to the kernel: its
 * memory may be written as long as the process lives.
 */
void rw_destroy(struct rw *rw);
/* rw_submit - @req waits for rw_kick() */
void rw_submit(struct rw *rw, struct rw_req *req);
/* rw_kick - as much of what waits goes to the kernel as may be in flight */
void rw_kick(struct rw *rw);
/* rw_wait - without the loop: until something has ended, or @ms */
void rw_wait(struct rw *rw, int ms);

/* For backends: @res bytes were moved, or -errno. rw_kick() after the last. */
void rw_run_done(struct rw_run *run, int res);
extern const struct rw_ops rw_uring_ops;
extern const struct rw_ops rw_threads_ops;

/* Where the run goes on, and how much it still has to move. */
static inline u64 rw_run_place(const struct rw_run *run)
{
	return run->off + run->did;
}

#endif
