/* SPDX-License-Identifier: MIT */
/*
 * swap.c - the core's pages between the device and the swap tiers
 *
 *	out	waiting -> read from the device -> written to the tier -> done
 *	in	waiting -> read from the tier, compared -> written to the
 *		device -> done
 *
 * A page that comes back is compared with its checksum in memory that is
 * kvmd's alone, a tier's own or a buffer, before any of it reaches the device.
 *
 * A tier that is not memory takes a buffer for each page on its way; together
 * they are no more than BUFFER_BYTES, and jobs wait for them in turn. One page
 * is always let through.
 *
 * Everything here runs on the loop; the work itself is the device's and the
 * tiers'. A job belongs to the loop and lives from swap_submit() to
 * mm_swap_done(), whatever becomes of the client whose page it is.
 */
#include "kvmd/swap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "include/kv/errbuf.h"
#include "kvmd/kvmd.h"

#define BUFFER_BYTES (32ull << 20)

struct swap_job {
	struct kvmd *d;
	struct mm_swap_io io;
	bool in;
	void *buf;
	void *buffer; /* ours to free, or NULL: the tier's memory */
	struct dev_req dev;
	struct tier_req tier;
	TAILQ_ENTRY(swap_job) link;
};

int swap_open(struct kvmd *d, char *err)
{
	const struct options *o = d->opt;
	u32 n = 0;
	int rc = 0;

	if (o->swap_ram_bytes)
		rc = tier_open(&tier_ram_ops, NULL, o->swap_ram_bytes, d->pool,
			       &d->swap.tier[n++], err);
	if (!rc && o->swap_file)
		rc = tier_open(&tier_file_ops, o->swap_file, o->swap_size_bytes,
			       d->pool, &d->swap.tier[n++], err);
	return rc;
}

void swap_close(struct kvmd *d)
{
	u32 i;

	for (i = 0; i < MM_TIER_MAX; i++)
		tier_close(d->swap.tier[i]);
}

u64 swap_bytes(const struct swap *s, u32 i)
{
	return s->tier[i] ? s->tier[i]->bytes : 0;
}

static void start_waiting(struct kvmd *d);

static void job_done(struct swap_job *job, int err)
{
	struct kvmd *d = job->d;
	u64 sum = job->tier.sum;
	u32 slot = job->io.slot;

	if (err)
		event_add(&d->events, d->now_ns, LOG_LEVEL_ERR, "swap_error",
			  EVENT_NOBODY, NULL, "tier %s, %u bytes at %llu: %s",
			  d->swap.tier[job->io.tier]->ops->name, job->io.bytes,
			  (unsigned long long)job->io.tier_off,
			  err == -EBADMSG ? "not what was written there"
					  : strerror(-err));
	if (job->buffer)
		d->swap.buffer_bytes -= job->io.bytes;
	free(job->buffer);
	free(job);
	d->swap.nr_jobs--;
	mm_swap_done(d->mm, slot, err, sum);
	start_waiting(d);
	kvmd_pump(d);
}

static void dev_done(struct dev_req *req)
{
	struct swap_job *job = container_of(req, struct swap_job, dev);

	if (req->err || job->in)
		job_done(job, req->err);
	else
		tier_submit(&job->tier);
}

static void tier_done(struct tier_req *req)
{
	struct swap_job *job = container_of(req, struct swap_job, tier);

	if (req->err || !job->in)
		job_done(job, req->err);
	else
		dev_submit(job->d->dev, &job->dev);
}

static void job_start(struct swap_job *job)
{
	struct kvmd *d = job->d;

	job->dev.op = job->in ? DEV_WRITE : DEV_READ;
	job->dev.src = job->dev.dst = job->io.dev_off;
	job->dev.bytes = job->io.bytes;
	job->dev.buf = job->buf;
	job->dev.done = dev_done;
	job->tier.tier = d->swap.tier[job->io.tier];
	job->tier.write = !job->in;
	job->tier.off = job->io.tier_off;
	job->tier.bytes = job->io.bytes;
	job->tier.buf = job->buf;
	job->tier.key = job->io.key;
	job->tier.sum = job->io.sum;
	job->tier.done = tier_done;
	if (job->in)
		tier_submit(&job->tier);
	else
		dev_submit(d->dev, &job->dev);
}

/* Return: 0, -EAGAIN: too many buffers are in use, -ENOMEM. */
static int job_buffer(struct swap_job *job)
{
	struct swap *s = &job->d->swap;

	job->buf = tier_at(s->tier[job->io.tier], job->io.tier_off);
	if (job->buf)
		return 0;
	if (s->buffer_bytes && s->buffer_bytes + job->io.bytes > BUFFER_BYTES)
		return -EAGAIN;
	if (posix_memalign(&job->buffer, TIER_ALIGN, job->io.bytes)) {
		job->buffer = NULL;
		return -ENOMEM;
	}
	s->buffer_bytes += job->io.bytes;
	job->buf = job->buffer;
	return 0;
}

static void start_waiting(struct kvmd *d)
{
	struct swap_job *job;
	int rc;

	while ((job = TAILQ_FIRST(&d->swap.waiting))) {
		rc = job_buffer(job);
		if (rc == -EAGAIN)
			return;
		TAILQ_REMOVE(&d->swap.waiting, job, link);
		d->swap.nr_jobs++;
		if (!rc) {
			job_start(job);
			continue;
		}
		job_done(job, rc); /* goes on with the next one */
		return;
	}
}

void swap_submit(struct kvmd *d, const struct mm_swap_io *io, bool in)
{
	struct swap_job *job = calloc(1, sizeof(*job));

	if (!job) {
		mm_swap_done(d->mm, io->slot, -ENOMEM, 0);
		return;
	}
	job->d = d;
	job->io = *io;
	job->in = in;
	TAILQ_INSERT_TAIL(&d->swap.waiting, job, link);
	start_waiting(d);
}

void swap_flush(struct kvmd *d)
{
	while (d->swap.nr_jobs || !TAILQ_EMPTY(&d->swap.waiting))
		work_pool_flush(d->pool);
}
