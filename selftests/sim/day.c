/* SPDX-License-Identifier: MIT */
/*
 * day.c - a day of a datacentre: events, hosts, people
 */
#include "selftests/sim/day.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/hash.h"
#include "lib/heap.h"
#include <kv/step.h>

#define SEC	     1000000000ull
#define MSEC	     1000000ull
#define NR_TENANTS   12u
#define CHUNK	     512u /* prompt tokens of a step */
#define DECODE	     32u /* tokens that one event stands for */
#define LEN_MAX	     3000u
#define TICK_BUSY_NS (20 * MSEC)
#define TICK_IDLE_NS SEC
#define ARRIVALS_NS  (10 * SEC)

enum phase {
	AWAY,
	PROMPT, /* tokens up to goal are to be computed */
	ANSWER,
	THINKING,
	DYING, /* its kernels still run */
};

struct seat {
	enum phase phase;
	u32 index, tenant, serial;
	u64 step, until_ns, waits_ns; /* leaves then; a ticket since */
	struct kv_table_hdr *table;
	struct kv_status *status;
	u32 geom[2], nr_areas;
	u32 space, len, goal, answer; /* tokens there, wanted, to come */
	u32 nr; /* of the step that runs, 0: none does */
	bool waiting, has_space;
	u32 tokens[LEN_MAX + 1024];
};

enum event_kind { EV_SEAT, EV_HOST, EV_TICK, EV_ARRIVALS, EV_LIMITS };

struct day {
	const struct day_cfg *cfg;
	struct day_result *r;
	struct mm *mm;
	u64 now, rnd;
	struct heap events;
	struct mm_request *req; /* what the host works on */
	u32 *req_free, nr_req_free, nr_req;
	struct seat *seat;
	u32 by_index[MM_CLIENT_MAX];
	u32 tenant[NR_TENANTS];
	u32 nr_here;
};

#define FAULT(d, ...)                                                 \
	do {                                                          \
		if ((d)->r->errors++ < 10) {                          \
			printf("seed %llu second %llu: ",             \
			       (unsigned long long)(d)->cfg->seed,    \
			       (unsigned long long)((d)->now / SEC)); \
			printf(__VA_ARGS__);                          \
			printf("\n");                                 \
		}                                                     \
	} while (0)

static u32 roll(struct day *d, u32 below)
{
	return (u32)(hash_random(&d->rnd) % below);
}

/* Exponential, with this mean. */
static u64 roll_time(struct day *d, u64 mean_ns)
{
	double u = (double)(hash_random(&d->rnd) >> 11) / 9007199254740992.0;

	return (u64)(-log(1 - u) * (double)mean_ns) + 1;
}

static void note(struct day *d, u64 what)
{
	d->r->hash = hash_add(d->r->hash, what);
}

/* ---- events ---- */

static void event_add(struct day *d, u64 delay_ns, enum event_kind kind,
		      u32 who, u32 serial)
{
	if (heap_push(&d->events, d->now + delay_ns, kind, who, serial))
		abort();
}

static void seat_later(struct day *d, const struct seat *s, u64 delay_ns)
{
	event_add(d, delay_ns, EV_SEAT, (u32)(s - d->seat), s->serial);
}

/* ---- the host ---- */

static int table_grow(void *host, u32 client, u32 nr_leaves)
{
	(void)host;
	(void)client;
	return nr_leaves <= KV_LEAF_MAX ? 0 : -ENOSPC;
}

static const struct mm_host_ops host_ops = { .table_grow = table_grow };

static void host_later(struct day *d, const struct mm_request *req, u64 ns)
{
	u32 i;

	if (d->nr_req_free) {
		i = d->req_free[--d->nr_req_free];
	} else {
		i = d->nr_req++;
		d->req = realloc(d->req, d->nr_req * sizeof(*req));
		d->req_free = realloc(d->req_free, d->nr_req * sizeof(u32));
	}
	d->req[i] = *req;
	event_add(d, ns, EV_HOST, i, 0);
}

static void host_answer(struct day *d, u32 i)
{
	const struct mm_request *q = &d->req[i];

	if (q->type == MM_REQ_POPULATE)
		mm_populate_done(d->mm, q->extent, 0);
	else if (q->type == MM_REQ_SCRUB)
		mm_scrub_done(d->mm, q->extent, 0);
	else if (q->type == MM_REQ_COPY)
		mm_copy_done(d->mm, q->copy.node, q->copy.area, 0);
	else if (q->type == MM_REQ_MOVE)
		mm_move_done(d->mm, q->move.move, 0);
	else
		mm_swap_done(d->mm, q->swap.slot, 0, q->swap.key);
	d->req_free[d->nr_req_free++] = i;
}

static void granted(struct day *d, struct seat *s, int rc);
static void refused(struct day *d, struct seat *s, int rc);
static void die(struct day *d, struct seat *s);

static void drain(struct day *d)
{
	struct mm_request req;
	struct seat *s;

	while (mm_next_request(d->mm, &req)) {
		s = req.client < MM_CLIENT_MAX
			    ? &d->seat[d->by_index[req.client]]
			    : NULL;
		note(d, (u64)req.type << 32 | req.extent);
		switch (req.type) {
		case MM_REQ_POPULATE:
			host_later(d, &req, 2 * MSEC);
			break;
		case MM_REQ_SCRUB:
			host_later(d, &req, MSEC);
			break;
		case MM_REQ_COPY:
		case MM_REQ_MOVE:
			host_later(d, &req, MSEC / 10);
			break;
		case MM_REQ_SWAP_OUT:
		case MM_REQ_SWAP_IN:
		case MM_REQ_DEMOTE:
			host_later(d, &req, MSEC / 4 * (1 + req.swap.tier));
			break;
		case MM_REQ_COMPLETE:
			if (!s->waiting)
				FAULT(d, "an answer that nobody waits for");
			s->waiting = false;
			d->r->max_wait_ns =
				max(d->r->max_wait_ns, d->now - s->waits_ns);
			if (req.cqe.res >= 0)
				granted(d, s, req.cqe.res);
			else
				refused(d, s, req.cqe.res);
			break;
		case MM_REQ_KILL:
			d->r->kills++;
			if (s->phase != AWAY && s->phase != DYING)
				die(d, s);
			break;
		default:
			break;
		}
	}
}

/* ---- a conversation ---- */

/* @from on: the tenant's system prompt @k, then what only it says. */
static void say(struct day *d, struct seat *s, u32 k)
{
	u32 system = 200 + 60 * k, n = system + 20 + roll(d, 300), i;

	for (i = 0; i < n; i++)
		s->tokens[i] = i < system
				       ? hash_mix(s->tenant * 64 + k) % 1000 + i
				       : 1000000 + roll(d, 1000000);
	s->goal = n;
	s->answer = 32 + roll(d, 256);
}

static void end_conversation(struct day *d, struct seat *s)
{
	if (s->has_space && mm_space_destroy(d->mm, s->index, s->space))
		FAULT(d, "a space that cannot be destroyed");
	s->has_space = false;
}

/* Begin, or begin again: what is published of it is there. */
static bool map_prefix(struct day *d, struct seat *s)
{
	u32 seq;
	int rc = mm_prefix_map(d->mm, s->index, s->space, s->tokens,
			       s->goal - 1, &seq);

	if (rc < 0 || (u32)rc >= s->goal) {
		FAULT(d, "map: %d", rc);
		return false;
	}
	s->len = (u32)rc;
	d->r->mapped += s->len;
	kv_store_release(&s->status->space[s->space].len, s->len);
	return true;
}

static void begin_conversation(struct day *d, struct seat *s)
{
	struct kv_space_args args = { .nr_areas = (u16)s->nr_areas };
	u32 k, z = roll(d, 12);
	int rc;

	for (k = 0; k < s->nr_areas; k++) {
		args.area[k].geom = s->geom[k];
		args.area[k].window = k ? 512 : 0;
	}
	args.priority = (u16)(s->tenant % 3);
	rc = mm_space_create(d->mm, s->index, &args);
	if (rc < 0) {
		FAULT(d, "create: %d", rc);
		return;
	}
	s->space = (u32)rc;
	s->has_space = true;
	s->phase = PROMPT;
	d->r->conversations++;
	/* the first system prompts are the popular ones */
	say(d, s, z < 6 ? 0 : z < 9 ? 1 : z - 7);
	if (map_prefix(d, s))
		seat_later(d, s, MSEC);
}

static void publish(struct day *d, struct seat *s, bool resume)
{
	u32 seq;
	int rc = mm_prefix_publish(d->mm, s->index, s->space, 0, s->tokens,
				   s->len, resume, &seq);

	if (rc < 0 && rc != -ENODATA)
		FAULT(d, "publish: %d", rc);
}

/* The step of its next tokens. */
static void take_step(struct day *d, struct seat *s)
{
	u32 nr = s->phase == PROMPT ? min(CHUNK, s->goal - s->len) : DECODE;
	struct kv_resv_item it = { .space = s->space,
				   .nr_tokens = nr,
				   .pos = s->len };
	struct mm_resv r = { .step = ++s->step,
			     .items = &it,
			     .nr_items = 1,
			     .flags = KV_SQE_WAIT,
			     .out_room = 4096 };
	struct kv_copy copies[KV_AREA_MAX];
	u64 extra;
	u32 seq;
	int rc = mm_reserve(d->mm, s->index, &r, copies, &seq, &extra);

	s->nr = nr;
	if (rc == -EINPROGRESS) {
		s->waiting = true;
		s->waits_ns = d->now;
		d->r->waits++;
	} else if (rc >= 0) {
		granted(d, s, rc);
	} else {
		refused(d, s, rc);
	}
}

static void granted(struct day *d, struct seat *s, int rc)
{
	note(d, (u64)rc);
	kv_step_mark(&s->status->space[s->space], s->step);
	d->r->steps++;
	seat_later(d, s, s->phase == PROMPT ? 200 * MSEC : 1500 * MSEC);
}

static void refused(struct day *d, struct seat *s, int rc)
{
	note(d, (u64)(u32)rc);
	s->nr = 0;
	if (rc == -ENODATA) {
		d->r->lost++;
		if (mm_space_truncate(d->mm, s->index, s->space, 0))
			FAULT(d, "truncate");
		s->goal = max(s->goal, s->len);
		s->phase = PROMPT;
		if (map_prefix(d, s))
			seat_later(d, s, MSEC);
	} else if (rc == -EAGAIN || rc == -E2BIG || rc == -ECANCELED ||
		   rc == -EDEADLK) {
		end_conversation(d, s); /* its user tries again later */
		s->phase = THINKING;
		seat_later(d, s, roll_time(d, 20 * SEC));
	} else {
		FAULT(d, "reserve: %d", rc);
	}
}

/* The step has ended. */
static void step_ended(struct day *d, struct seat *s)
{
	kv_step_end(&s->status->rank[0], s->step);
	s->len += s->nr;
	d->r->tokens += s->nr;
	kv_store_release(&s->status->space[s->space].len, s->len);
	if (s->phase == PROMPT) {
		publish(d, s, s->len >= s->goal);
		if (s->len >= s->goal)
			s->phase = ANSWER;
	} else {
		s->answer -= min(s->answer, s->nr);
	}
	s->nr = 0;
}

static void next_turn(struct day *d, struct seat *s)
{
	u32 n = 20 + roll(d, 200), i;

	for (i = s->len; i < s->len + n; i++)
		s->tokens[i] = 1000000 + roll(d, 1000000);
	s->goal = s->len + n;
	s->answer = 32 + roll(d, 256);
	s->phase = PROMPT;
}

/* ---- people ---- */

static void arrive(struct day *d, struct seat *s)
{
	static const u32 layers[2][2] = { { 28, 0 }, { 3, 15 } };
	struct mm_attach at = { .table = s->table, .status = s->status };
	u32 k, kind;

	s->tenant = roll(d, NR_TENANTS);
	kind = s->tenant % 2;
	madvise(s->table, KV_TABLE_SIZE_MAX, MADV_DONTNEED);
	memset(s->status, 0, sizeof(*s->status));
	at.tenant = d->tenant[s->tenant];
	snprintf(at.name, sizeof(at.name), "seat %u", (u32)(s - d->seat));
	if (mm_client_attach(d->mm, &at, &s->index)) {
		FAULT(d, "attach");
		return;
	}
	d->by_index[s->index] = (u32)(s - d->seat);
	s->serial++;
	s->step = 0;
	s->nr = 0;
	s->waiting = s->has_space = false;
	s->until_ns = d->now + roll_time(d, 2 * 3600 * SEC);
	s->nr_areas = 1 + kind;
	for (k = 0; k < s->nr_areas; k++) {
		u32 heads = kind ? 1 : 2, dim = kind ? 256 : 128;
		u32 token = layers[kind][k] * heads * dim * 4;
		struct kv_geometry g = {
			.page_tokens = 16,
			.nr_layers = (u16)layers[kind][k],
			.nr_kv_heads = (u16)heads,
			.head_dim = (u16)dim,
			.elem = KV_ELEM_BF16,
			.token_stride = heads * dim * 4,
			.head_stride = dim * 2,
			.v_offset = heads * dim * 2,
			.layer_stride = heads * dim * 64,
			.page_bytes = token * 16,
		};

		if (mm_geom_add(d->mm, s->index, &g, &s->geom[k]))
			FAULT(d, "geometry");
	}
	d->nr_here++;
	d->r->most_clients = max(d->r->most_clients, d->nr_here);
	begin_conversation(d, s);
}

static void leave(struct day *d, struct seat *s)
{
	mm_client_gone(d->mm, s->index);
	s->phase = AWAY;
	s->serial++;
	d->nr_here--;
}

/* Its kernels run on for a while. */
static void die(struct day *d, struct seat *s)
{
	mm_client_exit(d->mm, s->index);
	s->phase = DYING;
	s->serial++;
	s->waiting = false;
	d->r->deaths++;
	seat_later(d, s, 100 * MSEC);
}

static void think(struct day *d, struct seat *s)
{
	if (d->now > s->until_ns) {
		if (roll(d, 20))
			leave(d, s);
		else
			die(d, s);
		return;
	}
	if (!s->has_space) {
		begin_conversation(d, s);
	} else if (s->len + 600 > LEN_MAX || !roll(d, 4)) {
		end_conversation(d, s);
		begin_conversation(d, s);
	} else {
		next_turn(d, s);
		take_step(d, s);
	}
}

static void seat_acts(struct day *d, struct seat *s)
{
	if (s->nr)
		step_ended(d, s);
	switch (s->phase) {
	case AWAY:
		break;
	case DYING:
		leave(d, s);
		break;
	case THINKING:
		think(d, s);
		break;
	case ANSWER:
		if (!s->answer) {
			publish(d, s, true);
			s->phase = THINKING;
			seat_later(d, s, roll_time(d, d->cfg->think_s * SEC));
			break;
		}
		/* fall through */
	case PROMPT:
		take_step(d, s);
		break;
	}
}

/* A quarter of the seats at four in the morning, all at four in the evening. */
static void arrivals(struct day *d)
{
	double hour = (double)(d->now / SEC) / 3600;
	double share = 0.625 - 0.375 * cos((hour - 4) * M_PI / 12);
	u32 want = (u32)(share * d->cfg->nr_clients), i;

	for (i = 0; i < d->cfg->nr_clients && d->nr_here < want; i++)
		if (d->seat[i].phase == AWAY)
			arrive(d, &d->seat[i]);
}

/* What tenants may have changes with the hour. */
static void move_limits(struct day *d)
{
	u64 device = (u64)d->cfg->extents * KV_EXTENT_SIZE;
	u32 t;

	for (t = 0; t < NR_TENANTS; t++) {
		struct mm_limits lim = {
			.weight = 100,
			.max_bytes = device / 4 + roll(d, 8) * (device / 32),
			.low_bytes = device / 64,
			.min_bytes = device / 128,
		};

		if (mm_tenant_limit(d->mm, d->tenant[t], &lim))
			FAULT(d, "limit");
	}
}

/* ---- the day ---- */

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		abort();
	}
	return p;
}

static void report(void *ctx, const char *sentence)
{
	struct day *d = ctx;

	FAULT(d, "mm_check: %s", sentence);
}

/* What an event may have moved: the accounts, now and at once. */
static void check_accounts(struct day *d)
{
	const struct mm *mm = d->mm;
	u64 backed = (u64)(mm->nr_extents - mm->by_state[EXTENT_BARE].nr) *
		     KV_EXTENT_SIZE;
	u64 held = 0;
	u32 t;

	for (t = 0; t < NR_TENANTS; t++) {
		const struct tenant *x = &mm->tenants[d->tenant[t]];

		held += x->held;
		if (x->nr_tickets && !mm->waiting.nr)
			FAULT(d, "tenant %u: tickets that nobody has", t);
	}
	if (backed > mm->cfg.device_bytes || held > backed)
		FAULT(d, "more is held than there is");
	if (mm->counts.invalid)
		FAULT(d, "an invalid request");
}

static void act(struct day *d, const struct event *e)
{
	switch (e->kind) {
	case EV_SEAT:
		if (d->seat[e->who].serial == e->serial)
			seat_acts(d, &d->seat[e->who]);
		break;
	case EV_HOST:
		host_answer(d, e->who);
		break;
	case EV_TICK:
		mm_tick(d->mm, d->now);
		event_add(d, d->mm->waiting.nr ? TICK_BUSY_NS : TICK_IDLE_NS,
			  EV_TICK, 0, 0);
		break;
	case EV_ARRIVALS:
		arrivals(d);
		event_add(d, ARRIVALS_NS, EV_ARRIVALS, 0, 0);
		break;
	case EV_LIMITS:
		move_limits(d);
		event_add(d, 3600 * SEC, EV_LIMITS, 0, 0);
		break;
	}
}

static void run_until(struct day *d, u64 end_ns)
{
	struct event e;

	while (heap_first(&d->events) <= end_ns && !d->r->errors) {
		e = heap_pop(&d->events);
		d->now = e.at;
		note(d, e.at ^ e.kind);
		act(d, &e);
		drain(d);
		check_accounts(d);
		if (++d->r->events % d->cfg->check_every == 0)
			mm_check(d->mm, report, d);
	}
}

static void all_leave(struct day *d)
{
	u64 end = d->now + 10 * SEC;
	struct mm_usage u;
	u32 i;

	for (i = 0; i < d->cfg->nr_clients; i++)
		if (d->seat[i].phase != AWAY)
			leave(d, &d->seat[i]);
	for (i = 0; i < NR_TENANTS; i++)
		mm_cache_drop(d->mm, d->tenant[i], true);
	drain(d);
	/* what is on its way arrives; nobody comes any more */
	while (heap_first(&d->events) <= end) {
		struct event e = heap_pop(&d->events);

		d->now = e.at;
		if (e.kind == EV_HOST)
			host_answer(d, e.who);
		drain(d);
	}
	mm_check(d->mm, report, d);
	mm_usage_get(d->mm, &u);
	if (u.held_bytes || u.frame_bytes || u.cache_nodes || u.swap_used[0])
		FAULT(d, "%llu bytes are held when everybody has left",
		      (unsigned long long)u.held_bytes);
}

void day_run(const struct day_cfg *cfg, struct day_result *r)
{
	struct mm_config mc = {
		.device_bytes = (u64)cfg->extents * KV_EXTENT_SIZE,
		.ready_extents = 4,
		.seed = cfg->seed,
		.swap_bytes = { (u64)cfg->swap_mib << 20 },
		.watermark_min = (u64)cfg->extents / 64 * KV_EXTENT_SIZE,
		.watermark_low = (u64)cfg->extents / 32 * KV_EXTENT_SIZE,
		.watermark_high = (u64)cfg->extents / 20 * KV_EXTENT_SIZE,
		.revoke = MM_REVOKE_TICKETS,
		.revoke_ask_ns = SEC,
		.revoke_fence_ns = 30 * SEC,
	};
	struct day d = { .cfg = cfg, .r = r, .rnd = cfg->seed };
	size_t bytes = mm_state_bytes(&mc);
	void *state = map(bytes);
	char name[16];
	u32 i;

	memset(r, 0, sizeof(*r));
	d.seat = map(cfg->nr_clients * sizeof(*d.seat));
	for (i = 0; i < cfg->nr_clients; i++) {
		d.seat[i].table = map(KV_TABLE_SIZE_MAX);
		d.seat[i].status = map(sizeof(struct kv_status));
	}
	if (mm_create(&mc, state, &host_ops, &d, &d.mm))
		abort();
	for (i = 0; i < NR_TENANTS; i++) {
		snprintf(name, sizeof(name), "tenant%u", i);
		if (mm_tenant_get(d.mm, name, &d.tenant[i]))
			abort();
	}
	event_add(&d, 0, EV_LIMITS, 0, 0);
	event_add(&d, 0, EV_ARRIVALS, 0, 0);
	event_add(&d, 0, EV_TICK, 0, 0);
	run_until(&d, cfg->hours * 3600 * SEC);
	all_leave(&d);
	mm_counts_get(d.mm, &r->counts);
	mm_destroy(d.mm);
	for (i = 0; i < cfg->nr_clients; i++) {
		munmap(d.seat[i].table, KV_TABLE_SIZE_MAX);
		munmap(d.seat[i].status, sizeof(struct kv_status));
	}
	munmap(d.seat, cfg->nr_clients * sizeof(*d.seat));
	munmap(state, bytes);
	heap_fini(&d.events);
	free(d.req);
	free(d.req_free);
}
