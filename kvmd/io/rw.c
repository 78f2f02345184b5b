/* SPDX-License-Identifier: MIT */
/*
 * rw.c - a file read and written in the background, neighbours together
 *
 *	request	pending -> in a run -> done
 *	run	unused -> in flight (again, if it was short) -> unused
 *
 * Reads go first: somebody waits for them. Every fourth run is a write if one
 * waits, so that memory comes free under any load. In each direction the next
 * run is the one behind the last, and at the end the first: none waits for
 * ever, and pages that left one after another are found side by side.
 *
 * A run that fails is taken apart and each of its requests tried alone: one
 * bad sector is one lost page. What is short goes on where it stopped; if
 * nothing more is moved the file has ended or the disk is full.
 */
#include "kvmd/io/rw.h"

#include <errno.h>
#include <stdlib.h>
#include "kvmd/log.h"

#define TRIES_MAX     8u
#define READS_A_WRITE 3u

int rw_create(struct io *io, int fd, struct rw **out)
{
	struct rw *rw = calloc(1, sizeof(*rw));
	u32 i;
	int rc = -ENOMEM;

	if (!rw)
		return -ENOMEM;
	rw->io = io;
	rw->fd = fd;
	TAILQ_INIT(&rw->pending[0]);
	TAILQ_INIT(&rw->pending[1]);
	TAILQ_INIT(&rw->unused);
	rw->runs = calloc(RW_RUNS, sizeof(*rw->runs));
	if (!rw->runs)
		goto out_free;
	for (i = 0; i < RW_RUNS; i++)
		TAILQ_INSERT_TAIL(&rw->unused, &rw->runs[i], link);
	rw->ops = io->ops->rw;
	rc = rw->ops->init(rw);
	if (rc && rw->ops != &rw_threads_ops) {
		rw->ops = &rw_threads_ops;
		rc = rw->ops->init(rw);
	}
	if (rc)
		goto out_free;
	*out = rw;
	return 0;

out_free:
	free(rw->runs);
	free(rw);
	return rc;
}

void rw_destroy(struct rw *rw)
{
	if (!rw)
		return;
	if (rw->nr_flight)
		log_warn("a disk does not answer",
			 "runs=%u text=\"they are left to the kernel\"",
			 rw->nr_flight);
	rw->ops->fini(rw);
	if (rw->nr_flight)
		return; /* the kernel may still look at them */
	free(rw->runs);
	free(rw);
}

void rw_submit(struct rw *rw, struct rw_req *req)
{
	struct rw_list *l = &rw->pending[req->write];
	struct rw_req *at;

	req->err = 0;
	req->alone = false;
	/* most come in order */
	TAILQ_FOREACH_REVERSE(at, l, rw_list, link)
	{
		if (at->off <= req->off)
			break;
	}
	if (at)
		TAILQ_INSERT_AFTER(l, at, req, link);
	else
		TAILQ_INSERT_HEAD(l, req, link);
}

/* The request that the next run of a direction begins with. */
static struct rw_req *next_req(struct rw *rw, bool write)
{
	struct rw_req *req;

	TAILQ_FOREACH(req, &rw->pending[write], link)
	{
		if (req->off >= rw->head[write])
			return req;
	}
	return TAILQ_FIRST(&rw->pending[write]);
}

static bool may_begin(const struct rw *rw, u32 bytes)
{
	return !rw->nr_flight || (!TAILQ_EMPTY(&rw->unused) &&
				  rw->flight_bytes + bytes <= RW_FLIGHT_BYTES);
}

/* Take @req and what follows it into a run. */
static struct rw_run *make_run(struct rw *rw, struct rw_req *req)
{
	struct rw_run *run = TAILQ_FIRST(&rw->unused);
	bool write = req->write;
	struct rw_req *next;

	TAILQ_REMOVE(&rw->unused, run, link);
	run->rw = rw;
	run->write = write;
	run->off = req->off;
	run->nr = run->bytes = run->did = run->tries = 0;
	TAILQ_INIT(&run->reqs);
	do {
		next = TAILQ_NEXT(req, link);
		TAILQ_REMOVE(&rw->pending[write], req, link);
		TAILQ_INSERT_TAIL(&run->reqs, req, link);
		run->iov[run->nr++] = (struct iovec){ .iov_base = req->buf,
						      .iov_len = req->bytes };
		run->bytes += req->bytes;
		if (req->alone)
			break;
		req = next;
	} while (req && req->off == run->off + run->bytes && !req->alone &&
		 run->nr < RW_RUN_REQS &&
		 may_begin(rw, run->bytes + req->bytes) &&
		 run->bytes + req->bytes <= RW_RUN_BYTES);
	run->at = run->iov;
	run->nr_at = run->nr;
	rw->head[write] = run->off + run->bytes;
	return run;
}

void rw_kick(struct rw *rw)
{
	struct rw_req *req;
	struct rw_run *run;
	bool write;

	for (;;) {
		write = TAILQ_EMPTY(&rw->pending[0]) ||
			(rw->reads >= READS_A_WRITE &&
			 !TAILQ_EMPTY(&rw->pending[1]));
		req = next_req(rw, write);
		if (!req || !may_begin(rw, req->bytes))
			break;
		run = make_run(rw, req);
		rw->reads = write ? 0 : rw->reads + 1;
		rw->nr_flight++;
		rw->nr_runs++;
		rw->flight_bytes += run->bytes;
		rw->most_bytes = max(rw->most_bytes, rw->flight_bytes);
		rw->ops->start(rw, run);
	}
	if (rw->ops->flush)
		rw->ops->flush(rw);
}

void rw_wait(struct rw *rw, int ms)
{
	rw_kick(rw);
	rw->ops->wait(rw, ms);
}

static void run_end(struct rw_run *run, int err)
{
	struct rw_list reqs = TAILQ_HEAD_INITIALIZER(reqs);
	struct rw *rw = run->rw;
	bool apart = err && run->nr > 1;
	struct rw_req *req;

	TAILQ_CONCAT(&reqs, &run->reqs, link);
	rw->nr_flight--;
	rw->flight_bytes -= run->bytes;
	TAILQ_INSERT_TAIL(&rw->unused, run, link);
	while ((req = TAILQ_FIRST(&reqs))) {
		TAILQ_REMOVE(&reqs, req, link);
		if (apart) {
			rw_submit(rw, req);
			req->alone = true;
			continue;
		}
		rw->nr_reqs++;
		req->err = err;
		req->done(req);
	}
}

/* Move what was done out of the vector. */
static void advance(struct rw_run *run, u32 did)
{
	did -= did % RW_ALIGN; /* or a direct I/O cannot go on there */
	run->did += did;
	while (did && did >= run->at->iov_len) {
		did -= (u32)run->at->iov_len;
		run->at++;
		run->nr_at--;
	}
	if (did) {
		run->at->iov_base = (char *)run->at->iov_base + did;
		run->at->iov_len -= did;
	}
}

void rw_run_done(struct rw_run *run, int res)
{
	u32 before = run->did;

	if ((res == -EINTR || res == -EAGAIN) && ++run->tries < TRIES_MAX) {
		run->rw->ops->start(run->rw, run);
		return;
	}
	if (res > 0)
		advance(run, (u32)res);
	if (res >= 0 && run->did == run->bytes)
		run_end(run, 0);
	else if (res > 0 && run->did > before)
		run->rw->ops->start(run->rw, run);
	else
		run_end(run, res < 0 ? res : run->write ? -ENOSPC : -EIO);
}
