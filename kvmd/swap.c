/* SPDX-License-Identifier: MIT */
/*
 * swap.c - the core's pages between the device and the swap tiers
 *
 *	out	waiting -> read from the device, summed up -> written to the
 *		tier -> done
 *	in	waiting -> read from the tier -> written to the device, summed
 *		up and compared -> done
 *	on	waiting -> read from the tier -> written to a later one -> done
 *
 * A tier that is memory has no second step, out, and no first one, in: the
 * device is read to where the page stays. The sum is made by the thread that
 * copies, of what it copies, a KiB at a time (sum.h). A page that leaves is
 * summed up where it is: a client that writes to it meanwhile, as it must not,
 * loses it. A page that comes back is summed up in memory that is kvmd's alone,
 * of a tier or a buffer, and no table has its frame before the sum was found to
 * be right; where it is not, the frame is zeroed. One that goes on to a later
 * tier is not looked at: its sum goes along. From memory it is written from
 * where it is.
 *
 * Each tier has a queue, in which tenants have their turn by weight
 * (swap_queue.c), and does no more at a time than a window of bytes, enough to
 * keep it busy: what has begun is nobody's turn any more. A part of it as large
 * is each tenant's own, so that none waits for another one's slow CPUs.
 *
 * A tier that is not memory takes a buffer for each page on its way
 * (swap_buffers.c), and jobs wait for them in turn.
 *
 * What a tier has not done at its deadline is given up: the core is told that
 * the page stays (out) or is lost (in). The job and its buffer live on until
 * the tier lets go of them, and count as long; jobs that wait for a buffer
 * meanwhile have the same deadline.
 *
 * What the core wants next it is asked once a turn, not behind each page: it
 * looks at all pages that a reservation waits for.
 *
 * Everything here runs on the loop; pages are copied and summed up by the
 * threads of the tenant for whom they move (crew.c), so that they wait neither
 * for extents that are populated nor, the tiers' requests being the kernel's or
 * other threads', for a slow disk. What belongs to no tenant has swap's own.
 * A job belongs to the loop and lives from swap_submit() to mm_swap_done() and
 * the tier's release, whatever becomes of the client whose page it is.
 */
#include "kvmd/swap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "include/kv/errbuf.h"
#include "include/kv/usdt.h"
#include "kvmd/kvmd.h"

#define WINDOW_BYTES (4ull << 20) /* of a tier in memory */
#define WINDOW_FILE  (2 * RW_FLIGHT_BYTES) /* as much again is gathered */
#define WINDOW_PAGES 8u /* if these are more than that */
#define OWN_PART     8 /* of a window, of each tenant */
#define NR_THREADS   2u
#define WAIT_MS	     10
#define FLUSH_NS     3000000000ull /* at the end, for what is on its way */

USDT_SEMAPHORE(kvmd, swap_in);
USDT_SEMAPHORE(kvmd, swap_out);

struct swap_job {
	struct kvmd *d;
	struct mm_swap_io io;
	enum mm_req_type type;
	struct swap_turn turn;
	bool begun; /* it counts in the window */
	u64 since_ns;
	void *buf;
	void *buffer; /* of swap.buffers, or NULL: the tier's memory */
	u64 due_ns; /* while it waits; 0: never */
	struct dev_req dev;
	struct tier_req tier;
	TAILQ_ENTRY(swap_job) link;
};

static void timer_fire(struct timer *t);

/* Open one tier, with faults in front of it where that is wanted. */
static int tier_add(struct kvmd *d, u32 i, const struct tier_ops *ops,
		    const char *arg, u64 bytes, char *err)
{
	const struct tier_env env = {
		.io = d->io,
		.pool = d->swap.pool,
		.adopts = d->opt->life > 0,
		.made = d->keep.block->made_file,
		.fd = max(keep_take(&d->keep, KEEP_TIER, i, 0), 0),
	};
	int rc = tier_open(ops, arg, bytes, &env, &d->swap.tier[i], err);

	if (!rc && d->swap.tier[i]->fd >= 0 && !env.fd)
		keep_put(&d->keep, KEEP_TIER, i, 0, d->swap.tier[i]->fd);
	if (!rc && d->opt->swap_fault)
		rc = tier_fault(d->opt->swap_fault, &d->swap.tier[i],
				&d->n.swap_faults, err);
	return rc;
}

int swap_open(struct kvmd *d, char *err)
{
	const struct options *o = d->opt;
	u32 n = 0;
	int rc;

	d->swap.timer.fire = timer_fire;
	swap_discard_init(d);
	for (; n < MM_TIER_MAX; n++)
		swap_queue_init(&d->swap.lane[n].queue);
	if (!o->swap_ram_bytes && !o->swap_lz4_bytes && !o->swap_file)
		return 0;
	n = 0;
	rc = work_pool_create_batch(d->io, NR_THREADS, &d->swap.pool);
	if (rc)
		return err_set(err, rc, "swap: no threads: %s", strerror(-rc));
	if (o->swap_lz4_bytes || o->swap_file || o->swap_fault)
		rc = swap_buffers_init(&d->swap.buffers);
	if (rc)
		return err_set(err, rc, "swap: no buffers: %s", strerror(-rc));
	if (o->swap_ram_bytes)
		rc = tier_add(d, n++, &tier_ram_ops, NULL, o->swap_ram_bytes,
			      err);
	if (!rc && o->swap_lz4_bytes)
		rc = tier_add(d, n++, &tier_lz4_ops, NULL, o->swap_lz4_bytes,
			      err);
	if (!rc && o->swap_file) {
		rc = tier_add(d, n, &tier_file_ops, o->swap_file,
			      o->swap_size_bytes, err);
		if (!rc)
			d->keep.block->made_file = d->swap.tier[n]->made;
	}
	return rc;
}

void swap_close(struct kvmd *d)
{
	bool stuck = swap_is_stuck(d);
	u32 i;

	if (stuck) /* whenever it begins, and ends, it finds its tier */
		d->swap.tier[d->swap.discard.tier]->busy = true;
	for (i = 0; i < MM_TIER_MAX; i++) {
		tier_close(d->swap.tier[i]);
		if (!stuck || i != d->swap.discard.tier)
			d->swap.tier[i] = NULL;
	}
	if (stuck)
		work_pool_leave(d->swap.pool);
	else
		work_pool_destroy(d->swap.pool);
	swap_buffers_fini(&d->swap.buffers);
}

u64 swap_bytes(const struct swap *s, u32 i)
{
	return s->tier[i] ? s->tier[i]->bytes : 0;
}

void swap_forget(struct swap *s)
{
	struct tier *t;
	u32 i;

	for (i = 0; i < MM_TIER_MAX && s->tier[i]; i++) {
		t = s->tier[i]; /* one with faults in front has no memory */
		if (t->fd >= 0 && t->ops->discard)
			t->ops->discard(t, 0, t->bytes);
	}
}

u64 swap_room(const struct swap *s, u32 i)
{
	return s->tier[i] ? s->tier[i]->room : 0;
}

const char *swap_tier_name(const struct kvmd *d, u32 i)
{
	u32 n = 0;

	if (d->opt->swap_ram_bytes && i == n++)
		return "ram";
	if (d->opt->swap_lz4_bytes && i == n++)
		return "lz4";
	return d->opt->swap_file && i == n ? "disk" : NULL;
}

void swap_forget_page(void *host, u32 tier, u64 off)
{
	struct kvmd *d = host;

	tier_forget(d->swap.tier[tier], off);
}

u32 swap_lost(const struct swap *s)
{
	u32 i, lost = 0;

	for (i = 0; i < MM_TIER_MAX && s->tier[i]; i++)
		lost |= (u32)!s->tier[i]->outlives << i;
	return lost;
}

static void start_waiting(struct kvmd *d);

/* ---- deadlines ---- */

static void timer_arm(struct kvmd *d)
{
	const struct swap_job *job = TAILQ_FIRST(&d->swap.waiting);
	u64 due = job ? job->due_ns : 0, t;
	u32 i;

	for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++) {
		t = tier_due_ns(d->swap.tier[i]);
		if (t && (!due || t < due))
			due = t;
	}
	if (due && (!d->swap.timer.armed || due < d->swap.timer.due_ns))
		timer_set(&d->timers, &d->swap.timer, due);
}

static u64 deadline_ns(const struct kvmd *d)
{
	return mm_swap_get(d->mm)->deadline_ms * 1000000ull;
}

static u64 job_due_ns(const struct kvmd *d)
{
	return deadline_ns(d) ? d->now_ns + deadline_ns(d) : 0;
}

void swap_deadline(struct kvmd *d)
{
	struct swap_job *job;
	u32 i;

	TAILQ_FOREACH(job, &d->swap.waiting, link)
	{
		job->due_ns = job_due_ns(d);
	}
	for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++)
		tier_deadline(d->swap.tier[i], deadline_ns(d));
	timer_arm(d);
}

int swap_set(struct kvmd *d, const struct mm_swap_set *set)
{
	u32 was = mm_swap_get(d->mm)->deadline_ms;
	int rc = mm_swap_set(d->mm, set);

	if (rc)
		return rc;
	if (set->deadline_ms != was)
		swap_deadline(d);
	kvmd_pump(d);
	return 0;
}

static struct tier *job_tier(const struct swap_job *job)
{
	return job->d->swap.tier[job->io.tier];
}

static void job_free(struct swap_job *job)
{
	swap_buffer_put(&job->d->swap.buffers, job->buffer, job->io.bytes);
	free(job);
}

static bool is_probed(enum mm_req_type type)
{
	return (type == MM_REQ_SWAP_IN && usdt_on(kvmd, swap_in)) ||
	       (type == MM_REQ_SWAP_OUT && usdt_on(kvmd, swap_out));
}

static void __cold probe_done(const struct swap_job *job, int err)
{
	const struct mm_swap_io *io = &job->io;
	u64 took_ns = clock_ns() - job->since_ns;

	if (job->type == MM_REQ_SWAP_IN)
		USDT(kvmd, swap_in, io->client, io->tier, io->bytes, took_ns,
		     err);
	else
		USDT(kvmd, swap_out, io->client, io->tier, io->bytes, took_ns,
		     err);
}

/* It leaves its tier's window. */
static void job_ends(struct swap_job *job)
{
	struct swap_lane *l = &job->d->swap.lane[job->io.tier];

	if (!job->begun)
		return;
	l->nr--;
	l->bytes -= job->io.bytes;
	l->of[job->turn.tenant] -= job->io.bytes;
}

static void job_done(struct swap_job *job, int err)
{
	struct kvmd *d = job->d;
	u64 sum = job->io.sum;
	u32 slot = job->io.slot;

	job_ends(job);
	if (!err && job->type != MM_REQ_SWAP_IN &&
	    job->tier.stored < job->io.bytes)
		mm_swap_stored(d->mm, slot, job->tier.stored);
	if (err)
		event_add(&d->events, d->now_ns, LOG_LEVEL_ERR, "swap_error",
			  EVENT_NOBODY, NULL, "tier %s, %u bytes at %llu: %s",
			  job->tier.tier->ops->name, job->io.bytes,
			  (unsigned long long)job->tier.off,
			  err == -EBADMSG ? "not what was written there"
					  : strerror(-err));
	if (unlikely(is_probed(job->type)))
		probe_done(job, err);
	d->n.swap_late += job->tier.late;
	if (!job->tier.late)
		job_free(job);
	d->swap.nr_jobs--;
	mm_swap_done(d->mm, slot, err, sum);
	d->swap.pump = true;
	start_waiting(d);
}

static void waiting_give_up(struct swap_job *job)
{
	struct kvmd *d = job->d;

	TAILQ_REMOVE(&d->swap.waiting, job, link);
	swap_queue_del(&d->swap.lane[job->io.tier].queue, &job->turn);
	d->swap.nr_jobs++;
	job_done(job, -ETIMEDOUT);
}

/* What waits for a buffer while a tier holds some for ever is given up too. */
static void expire_waiting(struct kvmd *d)
{
	struct swap_job *job = TAILQ_FIRST(&d->swap.waiting);
	u32 i, late = 0;

	if (!job || !job->due_ns || job->due_ns > d->now_ns)
		return;
	for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++)
		late += d->swap.tier[i]->nr_late;
	if (!late) { /* of any: all take the same buffers */
		job->due_ns = job_due_ns(d); /* slow, not stuck so far */
		return;
	}
	waiting_give_up(job);
}

/* Nobody waits for these any more: whatever is out by now is late. */
static void give_all_up(struct kvmd *d)
{
	struct swap_job *job;
	u32 i;

	for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++)
		tier_expire(d->swap.tier[i], ~0ull);
	while ((job = TAILQ_FIRST(&d->swap.waiting)))
		waiting_give_up(job);
}

static void timer_fire(struct timer *t)
{
	struct kvmd *d = container_of(t, struct kvmd, swap.timer);
	u32 i;

	timer_cancel(&d->timers, t);
	for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++)
		tier_expire(d->swap.tier[i], d->now_ns);
	expire_waiting(d);
	timer_arm(d);
}

/* ---- one page ---- */

static void job_submit(struct swap_job *job)
{
	struct kvmd *d = job->d;

	tier_submit(&job->tier); /* the job may be gone already */
	timer_arm(d);
}

/* Read the page from its tier, or write it there. */
static void job_move(struct swap_job *job, bool write)
{
	bool from = job->type == MM_REQ_DEMOTE && !write;

	job->tier.tier = from ? job->d->swap.tier[job->io.from] : job_tier(job);
	job->tier.off = from ? job->io.from_off : job->io.tier_off;
	job->tier.write = write;
	job_submit(job);
}

static void dev_done(struct dev_req *req)
{
	struct swap_job *job = container_of(req, struct swap_job, dev);
	bool in = job->type == MM_REQ_SWAP_IN;

	if (!in)
		job->io.sum = req->sum;
	if (req->err || in || !job->buffer)
		job_done(job, req->err);
	else
		job_move(job, true);
}

static void tier_done(struct tier_req *req)
{
	struct swap_job *job = container_of(req, struct swap_job, tier);

	if (req->err || req->write)
		job_done(job, req->err);
	else if (job->type == MM_REQ_DEMOTE)
		job_move(job, true);
	else
		dev_submit(job->d->dev, &job->dev);
}

static void tier_released(struct tier_req *req)
{
	struct swap_job *job = container_of(req, struct swap_job, tier);
	struct kvmd *d = job->d;

	job_free(job);
	start_waiting(d);
}

static void job_start(struct swap_job *job)
{
	struct kvmd *d = job->d;
	bool in = job->type == MM_REQ_SWAP_IN;

	job->dev.op = in ? DEV_WRITE : DEV_READ;
	job->dev.src = job->dev.dst = job->io.dev_off;
	job->dev.bytes = job->io.bytes;
	job->dev.buf = job->buf;
	job->dev.key = job->io.key;
	job->dev.sum = job->io.sum;
	job->dev.check = in;
	job->dev.pool = crew_pool(d, job->io.payer);
	job->tier.pool = job->dev.pool;
	job->dev.done = dev_done;
	job->tier.buf = job->buf;
	if (job->type == MM_REQ_DEMOTE)
		job_move(job, !job->buffer);
	else if (in && job->buffer)
		job_move(job, false);
	else
		dev_submit(d->dev, &job->dev);
}

/* Where the page is in memory already, without a buffer; or NULL. */
static void *job_place(const struct swap_job *job)
{
	const struct mm_swap_io *io = &job->io;

	if (job->type == MM_REQ_DEMOTE)
		return tier_at(job->d->swap.tier[io->from], io->from_off);
	return tier_at(job_tier(job), io->tier_off);
}

/* Return: false: too many buffers are in use. */
static bool job_buffer(struct swap_job *job)
{
	job->buf = job_place(job);
	if (job->buf)
		return true;
	job->buffer = swap_buffer_get(&job->d->swap.buffers, job->io.bytes);
	job->buf = job->buffer;
	return job->buf;
}

/* Is there room in a tier's window for one more? */
static bool may_begin(void *ctx, const struct swap_turn *turn)
{
	const struct swap_job *job = container_of(turn, struct swap_job, turn);
	const struct swap_lane *l = ctx;
	u64 most = job_tier(job)->ops == &tier_file_ops ? WINDOW_FILE
							: WINDOW_BYTES;
	u64 own = l->of[turn->tenant];

	return l->nr < WINDOW_PAGES || l->bytes + turn->bytes <= most || !own ||
	       own + turn->bytes <= most / OWN_PART;
}

/* Begin with what waits for a tier. */
static void start_tier(struct kvmd *d, u32 tier)
{
	struct swap_lane *l = &d->swap.lane[tier];
	struct swap_turn *turn;
	struct swap_job *job;

	while ((turn = swap_queue_first(&l->queue, may_begin, l))) {
		job = container_of(turn, struct swap_job, turn);
		if (!job_buffer(job))
			break;
		swap_queue_begin(&l->queue, turn);
		TAILQ_REMOVE(&d->swap.waiting, job, link);
		d->swap.nr_jobs++;
		job->begun = true;
		l->nr++;
		l->bytes += job->io.bytes;
		l->of[turn->tenant] += job->io.bytes;
		job_start(job);
	}
}

static void start_waiting(struct kvmd *d)
{
	u32 i;

	for (i = 0; i < MM_TIER_MAX; i++)
		start_tier(d, i);
	timer_arm(d);
}

void swap_submit(struct kvmd *d, const struct mm_swap_io *io,
		 enum mm_req_type type)
{
	struct swap_job *job = calloc(1, sizeof(*job));

	if (!job) {
		mm_swap_done(d->mm, io->slot, -ENOMEM, 0);
		return;
	}
	job->d = d;
	job->io = *io;
	job->type = type;
	job->turn.tenant = io->payer;
	job->turn.weight = io->weight;
	job->turn.bytes = io->bytes;
	job->turn.background = type == MM_REQ_DEMOTE;
	job->tier.tier = job_tier(job);
	job->tier.off = io->tier_off;
	job->tier.bytes = job->tier.stored = io->bytes;
	job->tier.done = tier_done;
	job->tier.released = tier_released;
	job->due_ns = job_due_ns(d);
	job->since_ns = unlikely(is_probed(type)) ? clock_ns() : d->now_ns;
	TAILQ_INSERT_TAIL(&d->swap.waiting, job, link);
	swap_queue_add(&d->swap.lane[io->tier].queue, &job->turn);
	start_waiting(d);
}

void swap_kick(struct kvmd *d)
{
	u32 i;

	if (d->swap.pump) {
		d->swap.pump = false;
		kvmd_pump(d);
	}
	for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++)
		tier_kick(d->swap.tier[i]);
	swap_discard_arm(d);
}

void swap_pause(struct kvmd *d)
{
	if (d->swap.pool)
		work_pool_pause(d->swap.pool);
}

void swap_resume(struct kvmd *d)
{
	if (d->swap.pool)
		work_pool_resume(d->swap.pool);
}

void swap_flush(struct kvmd *d)
{
	u64 end = clock_ns() + FLUSH_NS;
	u32 i;

	while (d->swap.nr_jobs || !TAILQ_EMPTY(&d->swap.waiting) ||
	       (d->swap.discard.running && d->now_ns < end)) {
		swap_kick(d);
		work_pool_flush(d->pool);
		work_pool_wait(d->swap.pool, WAIT_MS);
		crew_flush(d);
		for (i = 0; i < MM_TIER_MAX && d->swap.tier[i]; i++)
			tier_wait(d->swap.tier[i],
				  d->swap.tier[i]->nr_out ? WAIT_MS : 0);
		d->now_ns = clock_ns();
		if (d->swap.timer.armed && d->swap.timer.due_ns <= d->now_ns)
			timer_fire(&d->swap.timer);
		if (d->now_ns >= end)
			give_all_up(d);
	}
	if (swap_is_stuck(d))
		log_warn("a disk does not answer",
			 "tier=%s text=\"a discard is left to the kernel\"",
			 d->swap.tier[d->swap.discard.tier]->ops->name);
}
