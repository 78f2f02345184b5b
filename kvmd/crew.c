/* SPDX-License-Identifier: MIT */
/*
 * crew.c - threads that work for one tenant
 *
 * A crew is a pool of a few threads of low priority (favour.c), made when the
 * first page of its tenant has to be copied, and there until kvmd ends: threads
 * that sleep cost next to nothing, and the next tenant of the same number finds
 * them.
 *
 * Its weights (ipc/weights_memory.c) are looked at by another pool of the same
 * kind. A client that does not let go of them in the kernel keeps threads for
 * as long as it likes; those that copy are not to be among them, and whoever
 * waits for copies not to wait for that. What is no tenant's, or finds no
 * threads, has one that is there from the start.
 *
 * Its threads may run where the tenant's clients might when they attached, all
 * of these together. A client that waits for its pages leaves its CPUs to them;
 * one that does not wait shares its own. Where a client's CPUs are not known,
 * or kvmd may run on none of them, they run anywhere.
 *
 * The loop has work with every page too. While there are LOOP_JOBS or more in a
 * period it may run only where the crews may that have an eighth of them or
 * more: with those who make it run. It goes first there (favour.c), so that
 * others find it as soon as anywhere.
 *
 * All that is looked at anew each LOOK_NS as long as there are jobs; with none
 * the loop runs anywhere. When a client dies its jobs go on, and its CPUs count
 * until the next look.
 */
#include "kvmd/crew.h"

#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"

#define CREW_MOST 4u
#define LOOP_JOBS 50u
#define LOOP_PART 8u
#define LOOK_NS	  100000000ull

/* Where the clients of @tenant may run, as far as kvmd may too. */
static void find_cpus(const struct kvmd *d, u32 tenant, cpu_set_t *out)
{
	const cpu_set_t *all = &d->crews.all;
	const struct session *s;

	CPU_ZERO(out);
	TAILQ_FOREACH(s, &d->all, link)
	{
		if (s->tenant != tenant || s->state != SESSION_LIVE)
			continue;
		CPU_OR(out, out, s->has_cpus ? &s->cpus : all);
	}
	CPU_AND(out, out, all);
	if (!CPU_COUNT(out))
		*out = *all;
}

static void place(struct kvmd *d, struct crew *crew)
{
	cpu_set_t cpus;

	find_cpus(d, (u32)(crew - d->crews.of), &cpus);
	if (CPU_EQUAL(&cpus, &crew->cpus))
		return;
	crew->cpus = cpus;
	if (crew->pool)
		work_pool_place(crew->pool, &cpus);
	if (crew->held)
		work_pool_place(crew->held, &cpus);
}

/* The first one from @c on, or NULL. */
static struct crew *crew_from(struct kvmd *d, struct crew *c)
{
	for (; c < d->crews.of + d->crews.top; c++)
		if (c->pool || c->held)
			return c;
	return NULL;
}

#define crew_first(d)	crew_from(d, (d)->crews.of)
#define crew_next(d, c) crew_from(d, (c) + 1)

/* The loop joins the crews that have most of the jobs. */
static void place_loop(struct kvmd *d)
{
	struct crews *cs = &d->crews;
	struct crew *c;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (c = crew_first(d); c; c = crew_next(d, c))
		if (c->nr_jobs >= cs->nr_jobs / LOOP_PART)
			CPU_OR(&cpus, &cpus, &c->cpus);
	if (cs->nr_jobs < LOOP_JOBS || !CPU_COUNT(&cpus))
		cpus = cs->all;
	if (CPU_EQUAL(&cpus, &cs->loop))
		return;
	cs->loop = cpus;
	(void)sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void crew_look(struct timer *t)
{
	struct kvmd *d = container_of(t, struct kvmd, crews.timer);
	struct crew *c;

	for (c = crew_first(d); c; c = crew_next(d, c))
		if (c->nr_jobs)
			place(d, c);
	place_loop(d);
	if (d->crews.nr_jobs)
		timer_set(&d->timers, t, d->now_ns + LOOK_NS);
	d->crews.nr_jobs = 0;
	for (c = crew_first(d); c; c = crew_next(d, c))
		c->nr_jobs = 0;
}

void crew_init(struct kvmd *d)
{
	struct crews *cs = &d->crews;

	cs->timer.fire = crew_look;
	if (sched_getaffinity(0, sizeof(cs->all), &cs->all))
		CPU_ZERO(&cs->all); /* more than fit: nothing is placed */
	cs->loop = cs->all;
}

int crew_open(struct kvmd *d)
{
	return work_pool_create_batch(d->io, 1, &d->crews.held);
}

/* @pool: of @crew */
static bool crew_make(struct kvmd *d, struct crew *crew,
		      struct work_pool **pool)
{
	u32 cpus = (u32)CPU_COUNT(&d->crews.all);
	u32 nr = cpus ? min(cpus, CREW_MOST) : CREW_MOST;

	if (work_pool_create_batch(d->io, nr, pool)) {
		*pool = NULL;
		return false;
	}
	CPU_ZERO(&crew->cpus); /* they are where the loop is */
	d->crews.top = max(d->crews.top, (u32)(crew - d->crews.of) + 1);
	place(d, crew);
	return true;
}

static void crew_count(struct kvmd *d, struct crew *crew)
{
	crew->nr_jobs++;
	d->crews.nr_jobs++;
	if (!d->crews.timer.armed)
		timer_set(&d->timers, &d->crews.timer, d->now_ns + LOOK_NS);
}

struct work_pool *crew_pool(struct kvmd *d, u32 tenant)
{
	struct crew *crew = &d->crews.of[tenant];

	if (!crew->pool && !crew_make(d, crew, &crew->pool))
		return d->pool; /* no more threads: in turn, then */
	crew_count(d, crew);
	return crew->pool;
}

struct work_pool *crew_held(struct kvmd *d, u32 tenant)
{
	struct crew *crew = &d->crews.of[tenant];

	if (tenant == MM_NONE ||
	    (!crew->held && !crew_make(d, crew, &crew->held)))
		return d->crews.held;
	crew_count(d, crew);
	return crew->held;
}

void crew_pause(struct kvmd *d)
{
	struct crew *c;

	for (c = crew_first(d); c; c = crew_next(d, c))
		if (c->pool)
			work_pool_pause(c->pool);
}

void crew_resume(struct kvmd *d)
{
	struct crew *c;

	for (c = crew_first(d); c; c = crew_next(d, c))
		if (c->pool)
			work_pool_resume(c->pool);
}

void crew_flush(struct kvmd *d)
{
	struct crew *c;

	for (c = crew_first(d); c; c = crew_next(d, c))
		if (c->pool)
			work_pool_flush(c->pool);
}

void crew_held_wait(struct kvmd *d, int ms)
{
	struct crew *c;

	work_pool_wait(d->crews.held, ms);
	for (c = crew_first(d); c; c = crew_next(d, c))
		if (c->held)
			work_pool_wait(c->held, ms);
}

static void held_destroy(const struct kvmd *d, struct work_pool *p)
{
	if (d->weights.nr_jobs && p && work_pool_is_busy(p))
		work_pool_leave(p);
	else
		work_pool_destroy(p);
}

void crew_destroy(struct kvmd *d)
{
	struct crew *c;

	timer_cancel(&d->timers, &d->crews.timer);
	for (c = crew_first(d); c; c = crew_next(d, c)) {
		work_pool_destroy(c->pool);
		held_destroy(d, c->held);
		c->pool = c->held = NULL;
	}
	held_destroy(d, d->crews.held);
}
