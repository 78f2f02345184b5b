/* SPDX-License-Identifier: MIT */
/*
 * copy.c - pages that the core wants copied, into a page cache or elsewhere
 *
 * The device does it, on a thread of the tenant's (crew.c) or a copy engine. A
 * job belongs to the loop and lives until mm_copy_done() or mm_move_done(),
 * whatever becomes of the client whose page is copied: the core keeps both
 * frames until then.
 */
#include "kvmd/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "include/kv/errbuf.h"
#include "kvmd/kvmd.h"

struct copy_job {
	struct kvmd *d;
	u32 name, area; /* of the request: a node's page, or a move */
	struct dev_req req;
	void (*end)(struct kvmd *d, const struct copy_job *job, int err);
	const char *what;
};

static void copy_end(struct kvmd *d, const struct copy_job *job, int err)
{
	mm_copy_done(d->mm, job->name, job->area, err);
}

static void move_end(struct kvmd *d, const struct copy_job *job, int err)
{
	mm_move_done(d->mm, job->name, err);
}

static void job_done(struct dev_req *req)
{
	struct copy_job *job = container_of(req, struct copy_job, req);
	struct kvmd *d = job->d;

	if (req->err) {
		d->n.device_errors++;
		event_add(&d->events, d->now_ns, LOG_LEVEL_ERR, "device_error",
			  EVENT_NOBODY, NULL, "copy of %zu bytes %s failed: %s",
			  (size_t)req->bytes, job->what, strerror(-req->err));
	}
	d->nr_jobs--;
	job->end(d, job, req->err);
	free(job);
	kvmd_pump(d);
}

/* @tenant: for whom */
static void job_submit(struct kvmd *d, const struct copy_job *from, u64 src,
		       u64 dst, u32 bytes, u32 tenant)
{
	struct copy_job *job = malloc(sizeof(*job));

	if (!job) {
		from->end(d, from, -ENOMEM);
		return;
	}
	*job = *from;
	d->nr_jobs++;
	job->d = d;
	job->req = (struct dev_req){ .op = DEV_COPY,
				     .src = src,
				     .dst = dst,
				     .bytes = bytes,
				     .pool = crew_pool(d, tenant),
				     .done = job_done };
	dev_submit(d->dev, &job->req);
}

void copy_submit(struct kvmd *d, const struct mm_copy_io *io)
{
	const struct copy_job job = { .name = io->node,
				      .area = io->area,
				      .end = copy_end,
				      .what = "to a page cache" };

	job_submit(d, &job, io->src, io->dst, io->bytes, io->tenant);
}

void move_submit(struct kvmd *d, const struct mm_move_io *io)
{
	const struct copy_job job = { .name = io->move,
				      .end = move_end,
				      .what = "to another frame" };

	job_submit(d, &job, io->src, io->dst, io->bytes, io->tenant);
}
