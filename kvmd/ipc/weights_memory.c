/* SPDX-License-Identifier: MIT */
/*
 * weights_memory.c - what takes long with the memory of a mapping
 *
 * It is a memfd that its filler can write to, pin and lock. To seal it the
 * kernel looks at all of its pages, and waits for those that are pinned; to
 * empty it or free it takes a while for each GiB; and even to ask for its size
 * is to wait for whoever writes to it. So the loop does none of that: a thread
 * of the tenant's (crew_held()) does, one thing at a time, and the loop is
 * told.
 *
 *	look	how much is resident
 *	seal	for good; how much is resident then
 *	go	empty it, if that is possible still: a filler that gave up, or
 *		hangs, may have it mapped, and nothing is to stay behind which
 *		is on nobody's account. Then close it
 *
 * Memory belongs to its mapping until it is let go, and then to the job that
 * lets it go. What has to be emptied keeps its name (keep/keep.h), its record
 * and its tenant's charge until it is: a successor does it again. A sealed one
 * has nothing to lose but its descriptors, and the name goes first.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "kvmd/ipc/memfd.h"
#include "kvmd/ipc/weights.h"
#include "kvmd/kvmd.h"
#include "kvmd/log.h"

#define FLUSH_NS      1000000000ull /* at the end, for what threads have */
#define FLUSH_STEP_MS 10

/* ---- on a thread ---- */

static void look_run(struct work *work)
{
	struct weights_memory *m =
		container_of(work, struct weights_memory, work);

	m->seen_bytes = memfd_resident(m->fd);
}

static void seal_run(struct work *work)
{
	struct weights_memory *m =
		container_of(work, struct weights_memory, work);
	const int seals = F_SEAL_WRITE | F_SEAL_SEAL;

	m->rc = 0;
	/* a predecessor may have done it */
	if (!(fcntl(m->fd, F_GET_SEALS) & F_SEAL_WRITE))
		m->rc = fcntl(m->fd, F_ADD_SEALS, seals) ? -errno : 0;
	if (!m->rc)
		m->seen_bytes = memfd_resident(m->fd);
}

static void go_run(struct work *work)
{
	struct weights_memory *m =
		container_of(work, struct weights_memory, work);

	/* refused if it is sealed: nobody's but those who read it */
	fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
		  (off_t)m->bytes);
	close(m->fd);
}

/* ---- on the loop ---- */

static void submit(struct weights_memory *m, void (*run)(struct work *),
		   void (*done)(struct work *))
{
	m->busy = true;
	m->work.run = run;
	m->work.done = done;
	m->work.slow = true;
	m->d->weights.nr_jobs++;
	work_submit(crew_held(m->d, m->tenant), &m->work);
}

static void unname(struct weights_memory *m)
{
	if (m->gen)
		keep_drop(&m->d->keep, KEEP_WEIGHTS, m->slot, m->gen);
	m->gen = 0;
}

static void go_done(struct work *work)
{
	struct weights_memory *m =
		container_of(work, struct weights_memory, work);

	struct kvmd *d = m->d;
	bool goes = m->goes;

	d->weights.nr_jobs--;
	if (goes) {
		TAILQ_REMOVE(&d->weights.going, m, link);
		timer_cancel(&d->timers, &m->held_timer);
		d->keep.block->weights[m->slot].state = 0;
		mm_tenant_uncharge(d->mm, m->tenant, m->bytes);
		mm_tenant_put(d->mm, m->tenant);
	}
	unname(m);
	free(m);
	if (!goes)
		return;
	mm_spared(d->mm);
	kvmd_pump(d);
	weights_retry(d);
}

/* Return: is it a mapping's still? If not, it goes. */
static bool job_over(struct weights_memory *m)
{
	m->busy = false;
	m->d->weights.nr_jobs--;
	if (!m->w)
		submit(m, go_run, go_done);
	return m->w;
}

static void look_done(struct work *work)
{
	struct weights_memory *m =
		container_of(work, struct weights_memory, work);

	m->resident_bytes = m->seen_bytes;
	if (job_over(m))
		weights_looked(m->w);
}

static void seal_done(struct work *work)
{
	struct weights_memory *m =
		container_of(work, struct weights_memory, work);

	if (!m->rc)
		m->resident_bytes = m->seen_bytes;
	if (job_over(m))
		weights_sealed(m->w, m->rc);
}

void weights_memory_look(struct weights *w)
{
	submit(w->memory, look_run, look_done);
}

void weights_memory_seal(struct weights *w)
{
	submit(w->memory, seal_run, seal_done);
}

static struct weights_memory *memory_new(struct kvmd *d, int fd, u32 tenant)
{
	struct weights_memory *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->d = d;
	m->fd = fd;
	m->tenant = tenant;
	return m;
}

static int memory_set(struct weights *w, int fd, u32 gen)
{
	struct weights_memory *m = memory_new(w->d, fd, w->tenant);

	if (!m)
		return -ENOMEM;
	m->w = w;
	m->bytes = w->charged_bytes;
	m->slot = w->slot;
	m->gen = gen;
	w->memory = m;
	return 0;
}

int weights_memory_make(struct weights *w)
{
	int fd = memfd_create_sealed("kvmd-weights", w->charged_bytes,
				     MEMFD_UNSEALED);
	u32 gen = keep_gen(&w->d->keep);
	int rc;

	if (fd < 0)
		return fd;
	rc = memory_set(w, fd, gen);
	if (rc) {
		close(fd);
		return rc;
	}
	keep_put(&w->d->keep, KEEP_WEIGHTS, w->slot, gen, fd);
	w->keep->gen = gen;
	return 0;
}

int weights_memory_adopt(struct weights *w, int fd)
{
	int rc = memory_set(w, fd, w->keep->gen);

	if (rc)
		weights_memory_left(w->d, w->slot, w->keep->gen, fd);
	else /* until a thread has looked: what filled ones have */
		w->memory->resident_bytes = (s64)w->charged_bytes;
	return rc;
}

/* Who counts on it is to look again. */
static void hold_up(struct timer *t)
{
	struct weights_memory *m =
		container_of(t, struct weights_memory, held_timer);
	struct kvmd *d = m->d;

	m->held_up = true;
	mm_spared(d->mm);
	kvmd_pump(d);
	weights_retry(d);
}

/* A tenant's thread empties one after the other, a GiB in under a second. */
static void keep_charge(struct weights_memory *m)
{
	struct kvmd *d = m->d;
	u64 gib;

	m->goes = true;
	TAILQ_INSERT_TAIL(&d->weights.going, m, link);
	m->held_timer.fire = hold_up;
	gib = weights_going(d, m->tenant) >> 30;
	timer_set(&d->timers, &m->held_timer,
		  d->now_ns + WEIGHTS_WAIT_NS + gib * 1000000000ull);
}

void weights_memory_let_go(struct weights *w)
{
	struct weights_memory *m = w->memory;

	if (!m)
		return;
	w->memory = NULL;
	m->w = NULL;
	if (w->state == WEIGHTS_READY)
		unname(m);
	else
		keep_charge(m);
	if (!m->busy)
		submit(m, go_run, go_done);
}

void weights_memory_left(struct kvmd *d, u32 slot, u32 gen, int fd)
{
	struct weights_memory *m = memory_new(d, fd, MM_NONE);

	if (!m) {
		close(fd);
		keep_drop(&d->keep, KEEP_WEIGHTS, slot, gen);
		return;
	}
	m->slot = slot;
	m->gen = gen;
	m->bytes = d->dev->bytes; /* it is not known */
	submit(m, go_run, go_done);
}

void weights_memory_going(struct kvmd *d, u32 slot, u32 tenant, int fd)
{
	struct keep_weights *r = &d->keep.block->weights[slot];
	struct weights_memory *m = memory_new(d, fd, tenant);

	if (!m) {
		r->state = 0;
		mm_tenant_put(d->mm, tenant);
		weights_memory_left(d, slot, r->gen, fd);
		return;
	}
	m->slot = slot;
	m->gen = r->gen;
	m->bytes = r->charged_bytes;
	keep_charge(m);
	submit(m, go_run, go_done);
}

u64 weights_going(const struct kvmd *d, u32 tenant)
{
	const struct weights_memory *m;
	u64 bytes = 0;

	TAILQ_FOREACH(m, &d->weights.going, link)
	if (m->tenant == tenant)
		bytes += m->bytes;
	return bytes;
}

u64 weights_coming(const struct kvmd *d, u32 tenant)
{
	const struct weights_memory *m;
	u64 bytes = 0;

	TAILQ_FOREACH(m, &d->weights.going, link)
	if (!m->held_up && (tenant == MM_NONE || m->tenant == tenant))
		bytes += m->bytes;
	return bytes;
}

/* What is not over by then has its memory to itself. */
void weights_memory_flush(struct kvmd *d)
{
	u64 end = clock_ns() + FLUSH_NS;

	while (d->weights.nr_jobs && clock_ns() < end)
		crew_held_wait(d, FLUSH_STEP_MS);
	if (d->weights.nr_jobs)
		log_warn("a client holds weights up",
			 "jobs=%u text=\"they are left to the kernel\"",
			 d->weights.nr_jobs);
}

u64 weights_resident(const struct weights *w)
{
	const struct weights_memory *m = w->memory;

	return m ? (u64)max(m->resident_bytes, (s64)0) : 0;
}
