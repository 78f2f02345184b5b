/* SPDX-License-Identifier: MIT */
/*
 * world.c - time that is counted, and kvmd's core in it
 */
#include "tools/kvbench/sim/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "lib/hash.h"
#include "lib/heap.h"
#include "tools/kvbench/mmhost.h"

#define STACK_BYTES (256u << 10)
#define POPULATE_NS (300 * WORLD_US) /* of an extent of 2 MiB */
#define COPY_NS	    (30 * WORLD_US) /* of a page */
#define TICK_NS	    (2 * WORLD_MS)
#define IDLE_NS	    (20 * WORLD_MS)
#define IDLE_TICKS  100u /* with nothing else to come: it will not */

struct task {
	ucontext_t ctx;
	void (*fn)(void *arg);
	void *arg, *stack;
	struct world *w;
	struct world_cond *on; /* it waits for, or NULL */
	u64 serial; /* of the event that wakes it; others are stale */
	bool done;
};

enum event_kind { EV_TASK, EV_HOST, EV_TICK };

struct world {
	struct mm *mm;
	struct growing growing;
	void *state;
	size_t state_bytes;
	struct world_cfg cfg;
	u64 now, hash;
	u64 tier_free[WORLD_TIERS]; /* when it has served what it was given */
	struct heap events;
	struct mm_request *req; /* what the host works on */
	u32 *req_free, nr_req, nr_req_free;
	struct task **tasks;
	u32 nr_tasks, nr_live;
	struct task *running;
	ucontext_t loop;
	u32 idle; /* ticks since something else happened */
	bool soon; /* the next tick is one of TICK_NS */
	u64 tick; /* which one is meant */
	bool failed; /* no memory for an event */
	bool killed;
	struct world_client *client[MM_CLIENT_MAX];
	void *table[MM_CLIENT_MAX], *status[MM_CLIENT_MAX];
};

u64 world_now(const struct world *w)
{
	return w->now;
}

struct mm *world_mm(struct world *w)
{
	return w->mm;
}

struct growing *world_growing(struct world *w)
{
	return &w->growing;
}

u64 world_hash(const struct world *w)
{
	return w->hash;
}

void world_note(struct world *w, u64 what)
{
	w->hash = hash_add(w->hash, what);
}

/* ---- events ---- */

static void event_add(struct world *w, u64 at, enum event_kind kind, u32 who,
		      u64 serial)
{
	if (heap_push(&w->events, at, kind, who, serial))
		w->failed = true;
}

/* ---- the host ---- */

static void host_later(struct world *w, const struct mm_request *q, u64 at)
{
	u32 i;

	if (w->nr_req_free) {
		i = w->req_free[--w->nr_req_free];
	} else {
		struct mm_request *more =
			realloc(w->req, (w->nr_req + 1) * sizeof(*more));
		u32 *idle =
			realloc(w->req_free, (w->nr_req + 1) * sizeof(*idle));

		if (more)
			w->req = more;
		if (idle)
			w->req_free = idle;
		if (!more || !idle) {
			w->failed = true;
			return;
		}
		i = w->nr_req++;
	}
	w->req[i] = *q;
	event_add(w, at, EV_HOST, i, 0);
}

static u64 tier_done(struct world *w, u32 tier, u32 bytes)
{
	u64 *at = &w->tier_free[min(tier, WORLD_TIERS - 1)];
	u64 took = (u64)(bytes / w->cfg.swap_bps[tier] * (double)WORLD_S);

	*at = max(*at, w->now) + took;
	return *at + w->cfg.swap_ns[tier];
}

static void host_answer(struct world *w, u32 i)
{
	const struct mm_request q = w->req[i];

	w->req_free[w->nr_req_free++] = i;
	switch (q.type) {
	case MM_REQ_POPULATE:
		mm_populate_done(w->mm, q.extent, 0);
		break;
	case MM_REQ_SCRUB:
		mm_scrub_done(w->mm, q.extent, 0);
		break;
	case MM_REQ_COPY:
		mm_copy_done(w->mm, q.copy.node, q.copy.area, 0);
		break;
	case MM_REQ_MOVE:
		mm_move_done(w->mm, q.move.move, 0);
		break;
	default:
		mm_swap_done(w->mm, q.swap.slot, 0, q.swap.key);
	}
}

static void host_tells(struct world *w, const struct mm_request *q)
{
	struct world_client *c = w->client[q->client];

	if (!c)
		return;
	if (q->type == MM_REQ_COMPLETE)
		c->granted(c, q->cqe.res, q->cqe.extra);
	else if (q->event.type == KV_EVENT_SHRINK)
		c->wanted(c, q->event.arg);
}

void world_drain(struct world *w)
{
	struct mm_request q;

	while (mm_next_request(w->mm, &q)) {
		world_note(w, (u64)q.type << 32 | q.extent);
		switch (q.type) {
		case MM_REQ_POPULATE:
		case MM_REQ_SCRUB:
			host_later(w, &q, w->now + POPULATE_NS);
			break;
		case MM_REQ_COPY:
		case MM_REQ_MOVE:
			host_later(w, &q, w->now + COPY_NS);
			break;
		case MM_REQ_SWAP_OUT:
		case MM_REQ_SWAP_IN:
		case MM_REQ_DEMOTE:
			host_later(w, &q,
				   tier_done(w, q.swap.tier, q.swap.bytes));
			break;
		case MM_REQ_COMPLETE:
		case MM_REQ_EVENT:
			host_tells(w, &q);
			break;
		case MM_REQ_RELEASE:
		case MM_REQ_GRANT:
		case MM_REQ_WITHDRAW:
			break;
		case MM_REQ_KILL: /* whose steps do not end: nobody's */
			w->killed = true;
			break;
		}
	}
	if (!w->soon && mm_wants_tick(w->mm)) {
		w->soon = true;
		event_add(w, w->now + TICK_NS, EV_TICK, 0, ++w->tick);
	}
}

/* ---- tasks ---- */

static void task_begin(u32 hi, u32 lo)
{
	struct task *t = (struct task *)((uintptr_t)hi << 32 | lo);

	t->fn(t->arg);
	t->done = true;
	t->w->nr_live--;
	/* uc_link: back to the loop */
}

int world_spawn(struct world *w, void (*fn)(void *arg), void *arg)
{
	struct task **more, *t = calloc(1, sizeof(*t));

	more = realloc(w->tasks, (w->nr_tasks + 1) * sizeof(struct task *));
	if (more)
		w->tasks = more;
	if (t)
		t->stack = malloc(STACK_BYTES);
	if (!more || !t || !t->stack || getcontext(&t->ctx)) {
		free(t ? t->stack : NULL);
		free(t);
		return -ENOMEM;
	}
	t->w = w;
	t->fn = fn;
	t->arg = arg;
	t->ctx.uc_stack.ss_sp = t->stack;
	t->ctx.uc_stack.ss_size = STACK_BYTES;
	t->ctx.uc_link = &w->loop;
	makecontext(&t->ctx, (void (*)(void))task_begin, 2,
		    (u32)((uintptr_t)t >> 32), (u32)(uintptr_t)t);
	w->tasks[w->nr_tasks] = t;
	w->nr_live++;
	event_add(w, w->now, EV_TASK, w->nr_tasks++, 0);
	return 0;
}

static u32 index_of(const struct world *w, const struct task *t)
{
	u32 i;

	for (i = 0; w->tasks[i] != t; i++)
		;
	return i;
}

/* Another one's turn; this one's again at @at, or when it is raised. */
static void task_yield(struct world *w, u64 at)
{
	struct task *t = w->running;

	t->serial++;
	if (at != ~0ull)
		event_add(w, at, EV_TASK, index_of(w, t), t->serial);
	w->running = NULL;
	swapcontext(&t->ctx, &w->loop);
}

void world_sleep(struct world *w, u64 ns)
{
	task_yield(w, w->now + ns);
}

bool world_wait(struct world *w, struct world_cond *c, u64 ns)
{
	bool raised;

	if (!c->raised) {
		c->waiter = w->running;
		w->running->on = c;
		task_yield(w, ns == ~0ull ? ~0ull : w->now + ns);
		c->waiter = NULL;
	}
	raised = c->raised;
	c->raised = false;
	return raised;
}

void world_raise(struct world *w, struct world_cond *c)
{
	struct task *t = c->waiter;

	c->raised = true;
	if (!t || t->on != c)
		return;
	t->on = NULL;
	t->serial++;
	event_add(w, w->now, EV_TASK, index_of(w, t), t->serial);
}

static void task_run(struct world *w, const struct event *e)
{
	struct task *t = w->tasks[e->who];

	if (t->done || t->serial != e->serial)
		return; /* it was raised before its time was over */
	t->on = NULL;
	w->running = t;
	swapcontext(&w->loop, &t->ctx);
	w->running = NULL;
}

/* ---- the world ---- */

int world_run(struct world *w, u64 most_ns)
{
	struct event e;
	u64 end = w->now + most_ns;

	event_add(w, w->now, EV_TICK, 0, ++w->tick);
	while (w->nr_live && !w->failed && !w->killed) {
		e = heap_pop(&w->events);
		if (e.at > end)
			return -ETIMEDOUT;
		if (e.kind == EV_TICK && e.serial != w->tick)
			continue;
		if (e.kind != EV_TICK || w->events.nr)
			w->idle = 0;
		else if (++w->idle == IDLE_TICKS)
			return -EDEADLK;
		w->now = e.at;
		mm_now(w->mm, w->now);
		switch (e.kind) {
		case EV_TASK:
			task_run(w, &e);
			break;
		case EV_HOST:
			host_answer(w, e.who);
			break;
		case EV_TICK:
			w->soon = false;
			mm_tick(w->mm, w->now);
			event_add(w, w->now + IDLE_NS, EV_TICK, 0, ++w->tick);
			break;
		}
		world_drain(w);
	}
	return w->failed ? -ENOMEM : w->killed ? -EPERM : 0;
}

int world_create(const struct world_cfg *cfg, struct world **out)
{
	u64 part = cfg->device_bytes / 100;
	struct mm_config mc = {
		.device_bytes =
			DIV_ROUND_UP(cfg->device_bytes, (u64)KV_EXTENT_SIZE) *
			KV_EXTENT_SIZE,
		.ready_extents = 4,
		.seed = cfg->seed,
		.watermark_min = part,
		.watermark_low = 2 * part,
		.watermark_high = 3 * part,
		.revoke = MM_REVOKE_TICKETS, /* and its times: kvmd's own */
		.revoke_ask_ns = WORLD_S,
		.revoke_fence_ns = 30 * WORLD_S,
	};
	struct world *w = calloc(1, sizeof(*w));
	u32 i;
	int rc = -ENOMEM;

	if (!w)
		return rc;
	w->cfg = *cfg;
	for (i = 0; i < WORLD_TIERS; i++) {
		mc.swap_bytes[i] = cfg->swap_bytes[i];
		if (w->cfg.swap_bps[i] <= 0)
			w->cfg.swap_bps[i] = 1e9;
	}
	w->state_bytes = mm_state_bytes(&mc);
	w->state = mmhost_map(w->state_bytes);
	if (w->state)
		rc = mm_create(&mc, w->state, &mmhost_ops, w, &w->mm);
	if (!rc && cfg->cache_policy)
		rc = mm_cache_policy(w->mm, cfg->cache_policy);
	if (rc) {
		world_destroy(w);
		return rc;
	}
	world_drain(w);
	*out = w;
	return 0;
}

void world_destroy(struct world *w)
{
	u32 i;

	if (!w)
		return;
	if (w->mm)
		mm_destroy(w->mm);
	mmhost_unmap(w->state, w->state_bytes);
	for (i = 0; i < MM_CLIENT_MAX; i++) {
		growing_drop(&w->growing, i, MM_NONE);
		mmhost_unmap(w->table[i], KV_TABLE_SIZE_MAX);
		mmhost_unmap(w->status[i], sizeof(struct kv_status));
	}
	for (i = 0; i < w->nr_tasks; i++) {
		free(w->tasks[i]->stack);
		free(w->tasks[i]);
	}
	free(w->tasks);
	heap_fini(&w->events);
	free(w->req);
	free(w->req_free);
	free(w);
}

int world_attach(struct world *w, const char *tenant, struct world_client *c)
{
	struct mm_attach at = { .rank = { .tp_size = 1, .pp_size = 1 } };
	int rc;

	c->table = mmhost_map(KV_TABLE_SIZE_MAX);
	c->status = mmhost_map(sizeof(*c->status));
	at.table = c->table;
	at.status = c->status;
	snprintf(at.name, sizeof(at.name), "%s", tenant);
	rc = !c->table || !c->status ? -ENOMEM
				     : mm_tenant_get(w->mm, tenant, &at.tenant);
	if (!rc)
		rc = mm_client_attach(w->mm, &at, &c->index);
	if (rc) {
		mmhost_unmap(c->table, KV_TABLE_SIZE_MAX);
		mmhost_unmap(c->status, sizeof(*c->status));
		return rc;
	}
	w->client[c->index] = c;
	w->table[c->index] = c->table;
	w->status[c->index] = c->status;
	world_drain(w);
	return 0;
}
