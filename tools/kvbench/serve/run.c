/* SPDX-License-Identifier: MIT */
/*
 * run.c - send the requests of a work when they are due, and measure
 *
 * One thread, one epoll. A request is
 *
 *	waiting (for another one) -> timed -> queued -> in flight -> done
 *
 * timed in a heap by when it is due; queued, in this order, while as many are
 * in flight as may be. Latency counts from when a request is due, however
 * long it was queued: a server that falls behind cannot slow down the clock
 * that it is measured with. What the client itself is late is sampled: from
 * when a request is due, or has its place, to when it is sent.
 *
 * The loop starts a few requests at most before it looks at the sockets
 * again, so that the times of tokens stay right when many come at once.
 */
#include "tools/kvbench/serve/run.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>
#include "lib/heap.h"
#include "tools/kvbench/serve/conn.h"

#define STARTS_A_TURN 8
#define EVENTS	      64
#define TICK_S	      0.1 /* how often time-outs are looked for */

struct run {
	const struct run_opts *o;
	const struct work *w;
	struct run_result *r;
	int epoll;
	double start, now; /* now: from the start */
	struct heap due; /* requests */
	u32 *queue, queue_head, queue_tail; /* each request is in it once */
	u32 *child, *sibling; /* of those that wait for a request */
	struct quote *quote;
	struct conn **conn, *idle;
	u32 nr_conns, conn_room, active;
	double free_at; /* when a place came free, all having been taken */
	double next_tick;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	interrupted = 1;
}

/* ---- what is due ---- */

static u64 ns_of(double seconds)
{
	return (u64)(seconds * 1e9);
}

/* Not to be sent any more, nor what waits for it; @f: NULL if time is over. */
static void drop(struct run *u, u32 request, const struct failure *f)
{
	u32 c;

	u->r->record[request].is_done = f != NULL;
	if (f)
		failures_add(&u->r->failures, f);
	for (c = u->child[request]; c != WORK_NONE; c = u->sibling[c])
		drop(u, c, f);
}

static int later(struct run *u, u32 request)
{
	return heap_push(&u->due, ns_of(u->r->record[request].due), 0, request,
			 0);
}

static void settle_children(struct run *u, u32 request, bool ok)
{
	struct failure f = { .kind = "" };
	struct record *rec = u->r->record;
	u32 c;

	for (c = u->child[request]; c != WORK_NONE; c = u->sibling[c]) {
		rec[c].due = u->now + u->w->request[c].due;
		failure_set(&f, "dependency", "the request before it failed");
		if (!ok || (u->o->seconds && rec[c].due > u->o->seconds)) {
			drop(u, c, ok ? NULL : &f);
		} else if (later(u, c)) {
			failure_set(&f, "memory", "for when it is due");
			drop(u, c, &f);
		}
	}
}

/* ---- connections ---- */

static void on_choice(void *arg, bool brings)
{
	struct conn *c = arg;

	c->end = c->moved;
	if (!brings)
		return;
	if (c->answer.nr_events == 1)
		c->first = c->moved;
	else
		samples_add(&c->itl, c->moved - c->last);
	c->last = c->moved;
}

static struct conn *take_conn(struct run *u)
{
	struct conn *c = u->idle, **p;
	u32 room;

	if (c) {
		u->idle = c->next_free;
		return c;
	}
	if (u->nr_conns == u->conn_room) {
		room = 2 * u->conn_room + 16;
		p = realloc(u->conn, room * sizeof(*p));
		if (!p)
			return NULL;
		u->conn = p;
		u->conn_room = room;
	}
	c = malloc(sizeof(*c));
	if (!c)
		return NULL;
	conn_init(c, u->o->render->is_chat, on_choice, c);
	u->conn[u->nr_conns++] = c;
	return c;
}

static void keep_answer(struct run *u, struct conn *c)
{
	struct quote *q = &u->quote[c->request];
	struct answer *a = &c->answer;

	if (a->text.failed)
		strbuf_free(&a->text);
	q->text = a->text.p;
	q->len = a->text.len;
	q->ids = a->ids;
	q->nr_ids = a->nr_ids;
	memset(&a->text, 0, sizeof(a->text));
	a->ids = NULL;
	a->nr_ids = a->ids_room = 0;
}

/* An answer without text has its first token where it says why it ended. */
static void take_times(struct run *u, struct conn *c, struct record *rec)
{
	double end = c->end > 0 ? c->end : c->moved;
	size_t i;

	rec->first = (c->answer.nr_events ? c->first : end) - u->start;
	rec->end = end - u->start;
	for (i = 0; i < c->itl.nr; i++)
		samples_add(&u->r->itl, c->itl.v[i]);
	u->r->itl.lost |= c->itl.lost;
	u->r->nr_ok++;
}

static void request_ends(struct run *u, struct conn *c)
{
	struct answer *a = &c->answer;
	struct record *rec = &u->r->record[c->request];

	u->now = clock_s() - u->start;
	if (u->active-- == u->o->max_concurrency)
		u->free_at = u->now;
	rec->is_done = true;
	rec->is_ok = !a->failure.kind[0];
	rec->end = u->r->duration = u->now;
	rec->input = a->has_usage ? a->prompt_tokens
				  : u->w->request[c->request].input;
	rec->output = a->output_tokens;
	rec->cached = min(a->cached_tokens, rec->input);
	rec->has_cached = a->has_cached;
	if (rec->is_ok)
		take_times(u, c, rec);
	else
		failures_add(&u->r->failures, &a->failure);
	if (rec->is_ok && u->w->request[c->request].is_quoted)
		keep_answer(u, c);
	if (c->state == CONN_BUSY && a->http.keep_alive)
		c->state = CONN_IDLE;
	else
		conn_close(c);
	c->next_free = u->idle;
	u->idle = c;
	settle_children(u, c->request, rec->is_ok);
}

static void start_fails(struct run *u, struct conn *c, int rc)
{
	failure_set(&c->answer.failure,
		    rc == -ECONNREFUSED ? "refused"
		    : rc == -ENOMEM	? "client_memory"
					: "connect",
		    "%s", strerror(-rc));
	c->answer.http.keep_alive = false;
	request_ends(u, c);
}

static int start(struct run *u, u32 request)
{
	struct record *rec = &u->r->record[request];
	struct conn *c = take_conn(u);
	int rc;

	if (!c)
		return -ENOMEM;
	c->request = request;
	c->itl.nr = 0;
	c->first = c->last = c->end = 0;
	answer_reset(&c->answer, u->w->request[request].is_quoted);
	u->active++;
	u->r->nr_sent++;
	u->r->peak = max(u->r->peak, u->active);
	rec->sent = clock_s() - u->start;
	rec->is_sent = true;
	samples_add(&u->r->lag, rec->sent - max(rec->due, u->free_at));
	rc = render_request(u->o->render, u->w, request, u->quote, &c->out);
	if (!rc)
		rc = conn_start(c, u->o->target, u->epoll);
	if (rc)
		start_fails(u, c, rc);
	return 0;
}

static void take_event(struct run *u, struct conn *c, u32 events)
{
	int rc;

	if (c->state == CONN_CLOSED)
		return;
	if (c->state == CONN_IDLE) { /* the server has closed it */
		conn_close(c);
		return;
	}
	rc = conn_event(c, events, u->epoll);
	if (rc == -EAGAIN) {
		conn_close(c);
		answer_reset(&c->answer, c->answer.keep);
		rc = conn_start(c, u->o->target, u->epoll);
		if (rc)
			start_fails(u, c, rc);
	} else if (rc == 1) {
		request_ends(u, c);
	}
}

/* ---- the loop ---- */

static int start_due(struct run *u)
{
	u32 nr = 0, i;
	int rc = 0;

	u->now = clock_s() - u->start;
	if (interrupted)
		return 0;
	while (heap_first(&u->due) <= ns_of(u->now)) {
		i = heap_pop(&u->due).who;
		u->queue[u->queue_tail++] = i;
	}
	while (!rc && u->queue_head < u->queue_tail && nr++ < STARTS_A_TURN &&
	       (!u->o->max_concurrency || u->active < u->o->max_concurrency))
		rc = start(u, u->queue[u->queue_head++]);
	return rc;
}

static void end_late(struct run *u)
{
	double now = clock_s();
	struct conn *c;
	u32 i;

	if (now < u->next_tick)
		return;
	u->next_tick = now + TICK_S;
	for (i = 0; i < u->nr_conns; i++) {
		c = u->conn[i];
		if (c->state != CONN_CONNECTING && c->state != CONN_BUSY)
			continue;
		if (!interrupted && now - c->moved < u->o->timeout)
			continue;
		if (interrupted)
			failure_set(&c->answer.failure, "interrupted",
				    "by a signal");
		else
			failure_set(&c->answer.failure, "timeout",
				    "nothing for %g s, after %u events",
				    u->o->timeout, c->answer.nr_events);
		c->answer.http.keep_alive = false;
		request_ends(u, c);
	}
}

static bool may_start(const struct run *u)
{
	return u->queue_head < u->queue_tail &&
	       (!u->o->max_concurrency || u->active < u->o->max_concurrency);
}

static int turn(struct run *u)
{
	struct epoll_event ev[EVENTS];
	double wait = TICK_S;
	struct timespec ts;
	int n, i, rc;

	rc = start_due(u);
	if (rc)
		return rc;
	if (u->due.nr)
		wait = min(wait, (double)heap_first(&u->due) * 1e-9 -
					 (clock_s() - u->start));
	if (may_start(u) || wait < 0)
		wait = 0;
	ts.tv_sec = 0;
	ts.tv_nsec = (long)(wait * 1e9);
	n = epoll_pwait2(u->epoll, ev, EVENTS, &ts, NULL);
	if (n < 0 && errno != EINTR)
		return -errno;
	for (i = 0; i < n; i++)
		take_event(u, ev[i].data.ptr, ev[i].events);
	end_late(u);
	return 0;
}

static int setup(struct run *u)
{
	u32 nr = u->w->nr, i, after;
	struct run_result *r = u->r;

	r->record = calloc(nr + 1, sizeof(*r->record));
	u->queue = calloc(nr + 1, sizeof(u32));
	u->child = calloc(nr + 1, sizeof(u32));
	u->sibling = calloc(nr + 1, sizeof(u32));
	u->quote = calloc(nr + 1, sizeof(*u->quote));
	if (!r->record || !u->queue || !u->child || !u->sibling || !u->quote)
		return -ENOMEM;
	r->nr = nr;
	for (i = 0; i < nr; i++)
		u->child[i] = WORK_NONE;
	for (i = nr; i-- > 0;) {
		after = u->w->request[i].after;
		u->sibling[i] = WORK_NONE;
		if (after == WORK_NONE) {
			r->record[i].due = u->w->request[i].due;
			continue;
		}
		u->sibling[i] = u->child[after];
		u->child[after] = i;
	}
	for (i = 0; i < nr; i++)
		if (u->w->request[i].after == WORK_NONE && later(u, i))
			return -ENOMEM;
	u->epoll = epoll_create1(EPOLL_CLOEXEC);
	return u->epoll < 0 ? -errno : 0;
}

static void cleanup(struct run *u)
{
	u32 i;

	for (i = 0; i < u->nr_conns; i++) {
		conn_fini(u->conn[i]);
		free(u->conn[i]);
	}
	for (i = 0; u->quote && i < u->w->nr; i++) {
		free(u->quote[i].text);
		free(u->quote[i].ids);
	}
	if (u->epoll >= 0)
		close(u->epoll);
	free(u->conn);
	free(u->quote);
	free(u->sibling);
	free(u->child);
	free(u->queue);
	heap_fini(&u->due);
}

static double cpu_seconds(void)
{
	struct rusage ru;

	if (getrusage(RUSAGE_SELF, &ru))
		return 0;
	return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	       (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1e-6;
}

int run_work(const struct run_opts *o, const struct work *w,
	     struct run_result *r)
{
	struct sigaction on = { .sa_handler = on_interrupt }, before[2];
	struct run u = { .o = o, .w = w, .r = r, .epoll = -1 };
	double cpu = cpu_seconds();
	int rc;

	memset(r, 0, sizeof(*r));
	rc = setup(&u);
	interrupted = 0;
	sigaction(SIGINT, &on, &before[0]);
	sigaction(SIGTERM, &on, &before[1]);
	u.start = clock_s();
	while (!rc && (u.active || (!interrupted &&
				    (u.due.nr || u.queue_head < u.queue_tail))))
		rc = turn(&u);
	sigaction(SIGINT, &before[0], NULL);
	sigaction(SIGTERM, &before[1], NULL);
	r->cpu = r->duration > 0 ? (cpu_seconds() - cpu) / r->duration : 0;
	r->is_interrupted = interrupted;
	cleanup(&u);
	return rc;
}

void run_result_fini(struct run_result *r)
{
	free(r->record);
	samples_fini(&r->itl);
	samples_fini(&r->lag);
	memset(r, 0, sizeof(*r));
}
