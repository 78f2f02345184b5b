/* SPDX-License-Identifier: MIT */
/*
 * copy.c - pages that the core wants copied into a page cache
 *
 * The device does it, on a worker or a copy engine. A job belongs to the loop
 * and lives until mm_copy_done(), whatever becomes of the client whose page is
 * copied: the core keeps both frames until then.
 */
#include "kvmd/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "include/kv/errbuf.h"
#include "kvmd/kvmd.h"

struct copy_job {
	struct kvmd *d;
	struct mm_copy_io io;
	struct dev_req req;
};

static void copy_done(struct dev_req *req)
{
	struct copy_job *job = container_of(req, struct copy_job, req);
	struct kvmd *d = job->d;
	struct mm_copy_io io = job->io;
	int err = req->err;

	if (err) {
		d->n.device_errors++;
		event_add(&d->events, d->now_ns, LOG_LEVEL_ERR, "device_error",
			  EVENT_NOBODY, NULL,
			  "copy of %u bytes to a page cache failed: %s",
			  io.bytes, strerror(-err));
	}
	free(job);
	d->nr_jobs--;
	mm_copy_done(d->mm, io.node, io.area, err);
	kvmd_pump(d);
}

void copy_submit(struct kvmd *d, const struct mm_copy_io *io)
{
	struct copy_job *job = calloc(1, sizeof(*job));

	if (!job) {
		mm_copy_done(d->mm, io->node, io->area, -ENOMEM);
		return;
	}
	d->nr_jobs++;
	job->d = d;
	job->io = *io;
	job->req.op = DEV_COPY;
	job->req.src = io->src;
	job->req.dst = io->dst;
	job->req.bytes = io->bytes;
	job->req.done = copy_done;
	dev_submit(d->dev, &job->req);
}
