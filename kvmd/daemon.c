/* SPDX-License-Identifier: MIT */
/*
 * daemon.c - the loop
 *
 * A turn: rings, then the core's clock and timers, then what was closed or
 * kicked is taken apart and swap's requests of this turn go to the kernel,
 * then that is asked for events; it is waited
 * for only when no ring is hot. After every call into the core kvmd_pump()
 * does what the core has asked for; that order is what makes a completion
 * come after the descriptors it speaks of.
 *
 * The core has no clock. While it waits for clients' steps to end it is told
 * the time often, and less and less often the longer nothing moves.
 */
#include "kvmd/adopt.h"
#include "kvmd/copy.h"
#include "kvmd/io/favour.h"
#include "kvmd/kvmd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/ctl/ctl.h"
#include "kvmd/ctl/oom.h"
#include "kvmd/gate/gate.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/ipc/ring.h"
#include "kvmd/ipc/session.h"
#include "kvmd/ipc/tenant.h"
#include "kvmd/trace.h"
#include "lib/bitmap.h"

#define READY_EXTENTS	 4u
#define NR_WORKERS	 4u
#define TICK_FIRST_NS	 100000ull
#define TICK_MOST_NS	 5000000ull
#define STALL_LOOK_NS	 500000ll
#define AUDIT_PERIOD_NS	 250000000ull
#define TURN_LONG_NS	 200000u
#define TURN_TOO_LONG_NS 1000000u
#define SPIN_IO_TURNS	 16u /* turns between looks at the kernel's events */

/* ---- what the core asks for ---- */

struct extent_job {
	struct dev_req req;
	struct kvmd *d;
};

static void audit_arm(struct kvmd *d)
{
	if (!d->audit_timer.armed)
		timer_set(&d->timers, &d->audit_timer,
			  d->now_ns + AUDIT_PERIOD_NS);
}

static void extent_done(struct dev_req *req)
{
	struct extent_job *job = container_of(req, struct extent_job, req);
	struct kvmd *d = job->d;

	if (req->err) {
		d->n.device_errors++;
		event_add(&d->events, d->now_ns, LOG_LEVEL_ERR, "device_error",
			  EVENT_NOBODY, NULL, "extent %u: %s failed: %s",
			  req->extent, dev_op_name(req->op),
			  strerror(-req->err));
	}
	if (req->op == DEV_POPULATE) {
		d->n.populates++;
		mm_populate_done(d->mm, req->extent, req->err);
	} else if (req->op == DEV_SCRUB) {
		d->n.scrubs++;
		mm_scrub_done(d->mm, req->extent, req->err);
		audit_arm(d); /* the old memory may still be mapped */
	} else if (req->op == DEV_RELEASE) {
		audit_arm(d);
	}
	free(job);
	kvmd_pump(d);
	if (!--d->nr_jobs)
		weights_retry(d);
}

/* @pool: threads, or NULL: the device's */
static void extent_submit(struct kvmd *d, enum dev_op op, u32 extent,
			  struct work_pool *pool)
{
	struct extent_job *job = calloc(1, sizeof(*job));

	if (!job) {
		if (op == DEV_POPULATE)
			mm_populate_done(d->mm, extent, -ENOMEM);
		else if (op == DEV_SCRUB)
			mm_scrub_done(d->mm, extent, -ENOMEM);
		return;
	}
	d->nr_jobs++;
	job->d = d;
	job->req.op = op;
	job->req.extent = extent;
	job->req.pool = pool;
	job->req.done = extent_done;
	dev_submit(d->dev, &job->req);
}

static void extent_tell(struct session *s, u32 extent, u32 seq, u32 flags,
			int fd)
{
	struct {
		struct kv_msg msg;
		struct kv_msg_extent body;
	} out = {
		.msg = { .type = KV_MSG_EXTENT },
		.body = { .extent = extent, .seq = seq, .flags = flags },
	};

	if (fd >= 0) /* a withdrawal repeats the number of its grant */
		s->extent_seq = seq;
	conn_send(s->conn, &out, sizeof(out), &fd, fd >= 0);
}

static void extent_grant(struct kvmd *d, struct session *s,
			 const struct mm_request *req)
{
	u32 flags = req->shared ? KV_EXTENT_SHARED : 0;
	int fd = d->dev->ops->export(d->dev, req->extent,
				     req->shared ? DEV_ANYBODY : s->id);

	if (fd < 0) {
		session_kick(s, "extent %u cannot be passed: %s", req->extent,
			     strerror(-fd));
		return;
	}
	if (req->shared) {
		s->keep->has_cache = true;
		bitmap_set(s->cached, req->extent);
	}
	if (s->resuming) {
		s->resuming--;
		flags |= KV_EXTENT_AGAIN;
	}
	extent_tell(s, req->extent, req->seq, flags, fd);
	close(fd);
}

/* A page cache's extent goes: whoever may have mapped it hears of it, once. */
static void cache_withdraw(struct kvmd *d, u32 extent, u32 tenant)
{
	struct session *s;

	TAILQ_FOREACH(s, &d->all, link)
	{
		if (s->state != SESSION_LIVE || s->tenant != tenant ||
		    !bitmap_test(s->cached, extent))
			continue;
		bitmap_clear(s->cached, extent);
		extent_tell(s, extent, 0, KV_EXTENT_GONE | KV_EXTENT_SHARED,
			    -1);
	}
}

/*
 * A process that no signal of this kvmd reaches, in another pid or user
 * namespace, is cut off: its memory goes as from one that closed its socket.
 */
static void client_kill(struct kvmd *d, struct session *s, const char *why)
{
	int rc = peer_kill(&s->peer);

	if (rc && rc != -ESRCH)
		session_kick(s, "%s, and kvmd cannot kill it (%s)", why,
			     strerror(-rc));
	if (rc)
		return;
	d->n.kills++;
	event_add(&d->events, d->now_ns, LOG_LEVEL_WARN, "client_kill", s->id,
		  s->tenant_name, "%s (pid %d): %s", s->name, (int)s->peer.pid,
		  why);
}

/* What a client is told of its memory, in the log. */
static void revoke_log(struct kvmd *d, const struct session *s,
		       const struct kv_event *ev)
{
	if (ev->type == KV_EVENT_SHRINK)
		event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "revoke_ask",
			  s->id, s->tenant_name,
			  "%s (pid %d): asked for %llu bytes", s->name,
			  (int)s->peer.pid, (unsigned long long)ev->arg);
	else if (ev->type == KV_EVENT_REVOKE)
		event_add(&d->events, d->now_ns, LOG_LEVEL_WARN, "revoke_take",
			  s->id, s->tenant_name,
			  "%s (pid %d): extent %llu was taken", s->name,
			  (int)s->peer.pid, (unsigned long long)ev->arg);
}

static void request_handle(struct kvmd *d, struct mm_request *req)
{
	struct session *s =
		req->client < MM_CLIENT_MAX ? d->sessions[req->client] : NULL;

	switch (req->type) {
	case MM_REQ_POPULATE:
		extent_submit(d, DEV_POPULATE, req->extent, NULL);
		return;
	case MM_REQ_SCRUB:
		extent_submit(d, DEV_SCRUB, req->extent,
			      req->seq ? crew_pool(d, req->seq - 1) : NULL);
		return;
	case MM_REQ_RELEASE:
		extent_submit(d, DEV_RELEASE, req->extent, NULL);
		return;
	case MM_REQ_GRANT:
		if (s && s->state == SESSION_LIVE)
			extent_grant(d, s, req);
		return;
	case MM_REQ_WITHDRAW:
		if (req->shared)
			cache_withdraw(d, req->extent, req->seq);
		else if (s && s->state == SESSION_LIVE)
			extent_tell(s, req->extent, req->seq, KV_EXTENT_GONE,
				    -1);
		return;
	case MM_REQ_COMPLETE:
		if (s)
			ring_complete(s, req);
		return;
	case MM_REQ_SWAP_OUT:
	case MM_REQ_SWAP_IN:
	case MM_REQ_DEMOTE:
		swap_submit(d, &req->swap, req->type);
		return;
	case MM_REQ_COPY:
		copy_submit(d, &req->copy);
		return;
	case MM_REQ_MOVE:
		move_submit(d, &req->move);
		return;
	case MM_REQ_KILL:
		if (s)
			client_kill(d, s, "does not give its memory back");
		return;
	case MM_REQ_EVENT:
		req->event.time_ns = d->now_ns;
		if (s) {
			revoke_log(d, s, &req->event);
			ring_event(s, &req->event);
		}
		return;
	}
}

void kvmd_pump(struct kvmd *d)
{
	struct mm_request req;

	if (d->adopting)
		return;
	while (mm_next_request(d->mm, &req))
		request_handle(d, &req);
	oom_tell(d);
}

/* ---- watching over what was taken back ---- */

static void memory_touched(void *ctx, u32 client, u32 extent, u64 bytes)
{
	struct kvmd *d = ctx;
	struct session *s = d->sessions[client];

	d->n.audit_faults++;
	event_add(&d->events, d->now_ns, LOG_LEVEL_WARN, "audit_fault", client,
		  s ? s->tenant_name : NULL,
		  "extent %u was taken back and touched again (%llu bytes)",
		  extent, (unsigned long long)bytes);
	if (s)
		client_kill(d, s, "uses memory it gave back");
}

static void audit_fire(struct timer *t)
{
	struct kvmd *d = container_of(t, struct kvmd, audit_timer);

	if (d->dev->ops->audit(d->dev, memory_touched, d))
		audit_arm(d);
}

/* ---- ending ---- */

static void drain_over(struct timer *t)
{
	container_of(t, struct kvmd, drain_timer)->state = KVMD_ENDING;
}

void kvmd_drain(struct kvmd *d)
{
	struct kv_event ev = { .type = KV_EVENT_DRAIN, .time_ns = d->now_ns };
	struct session *s;

	if (d->state != KVMD_SERVING) {
		d->state = KVMD_ENDING;
		return;
	}
	d->state = KVMD_DRAINING;
	event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "drain", EVENT_NOBODY,
		  NULL, "%u clients are told", d->nr_sessions);
	io_del(d->io, &d->listener.watch);
	listen_close(&d->listener);
	TAILQ_FOREACH(s, &d->all, link)
	ring_event(s, &ev);
	timer_set(&d->timers, &d->drain_timer,
		  d->now_ns + (u64)d->opt->drain_ms * 1000000);
}

static void signals_ready(struct io_watch *w, u32 events)
{
	struct kvmd *d = container_of(w, struct kvmd, signals);
	struct signalfd_siginfo si;

	while (read(w->fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		log_info("signal", "number=%u pid=%u", si.ssi_signo,
			 si.ssi_pid);
		kvmd_drain(d);
	}
}

static void parent_gone(struct io_watch *w, u32 events)
{
	struct kvmd *d = container_of(w, struct kvmd, parent);

	io_del(d->io, w);
	log_info("parent ended", "pid=%d", (int)getppid());
	kvmd_drain(d);
}

static void late_look(struct timer *t)
{
	weights_retry(container_of(t, struct kvmd, weights.late_timer));
}

/* ---- the loop ---- */

static void core_tick(struct kvmd *d, bool traffic)
{
	if (traffic)
		d->tick_step_ns = TICK_FIRST_NS;
	if (d->now_ns < d->next_tick_ns)
		return;
	mm_tick(d->mm, d->now_ns);
	kvmd_pump(d);
	d->tick_step_ns = min(d->tick_step_ns * 2, TICK_MOST_NS);
	d->next_tick_ns = d->now_ns + d->tick_step_ns;
}

static s64 loop_timeout(struct kvmd *d)
{
	s64 timeout = timer_next_ns(&d->timers, d->now_ns), tick;

	if (d->nr_spinning || d->weights.some_go)
		return 0;
	if (!TAILQ_EMPTY(&d->hot))
		timeout = timeout < 0 ? STALL_LOOK_NS
				      : min(timeout, (s64)STALL_LOOK_NS);
	if (mm_wants_tick(d->mm)) {
		tick = (s64)(d->next_tick_ns - min(d->next_tick_ns, d->now_ns));
		timeout = timeout < 0 ? tick : min(timeout, tick);
	}
	return timeout;
}

/* One in which something was done; the next one begins with it. */
static void turn_over(struct kvmd *d)
{
	u64 now = clock_ns(), took = now - d->turn_ns;

	d->turn_ns = now;
	d->n.loops++;
	d->n.loops_200us += took > TURN_LONG_NS;
	d->n.loops_1ms += took > TURN_TOO_LONG_NS;
	d->n.loop_max_ns = max(d->n.loop_max_ns, took);
}

int kvmd_run(struct kvmd *d)
{
	unsigned int nr, turns = 0;
	s64 timeout;
	int rc = 0;

	favour_loop(); /* threads have been made */
	while (d->state != KVMD_ENDING) {
		d->now_ns = clock_ns();
		if (rc <= 0)
			d->turn_ns = d->now_ns;
		nr = ring_turn(d);
		core_tick(d, nr > 0);
		timer_run(&d->timers, d->now_ns);
		while (session_reap(d) | conn_reap(d))
			;
		while (d->weights.some_go)
			weights_go(d);
		swap_kick(d);
		if (nr || rc > 0)
			turn_over(d);
		rc = 0;
		if (d->state == KVMD_ENDING ||
		    (d->state == KVMD_DRAINING && !d->nr_sessions))
			break;
		timeout = loop_timeout(d);
		if (!timeout && d->nr_spinning && ++turns % SPIN_IO_TURNS)
			continue;
		if (timeout)
			d->n.sleeps++;
		rc = io_wait(d->io, timeout);
		if (rc < 0) {
			log_err("the loop cannot wait", "error=\"%s\"",
				strerror(-rc));
			return rc;
		}
	}
	return 0;
}

/* ---- setup ---- */

static const struct mm_host_ops host_ops = {
	.table_grow = session_table_grow,
	.trace = trace_point,
	.swap_forget = swap_forget_page,
	.spare = weights_spare,
};

static int open_core(struct kvmd *d, char *err)
{
	struct mm_config cfg = {
		.device_bytes = d->dev->bytes,
		.ready_extents = min(READY_EXTENTS, d->dev->nr_extents),
		.seed = d->started_ns,
		.watermark_min = min(d->opt->watermark[0], d->dev->bytes),
		.watermark_low = min(d->opt->watermark[1], d->dev->bytes),
		.watermark_high = min(d->opt->watermark[2], d->dev->bytes),
		.revoke = d->opt->revoke,
		.revoke_ask_ns = (u64)d->opt->revoke_ask_ms * 1000000,
		.revoke_fence_ns = (u64)d->opt->revoke_fence_ms * 1000000,
		.swap = d->opt->swap,
	};
	u32 i;
	int rc;

	for (i = 0; i < MM_TIER_MAX; i++) {
		cfg.swap_bytes[i] = swap_bytes(&d->swap, i);
		cfg.swap_store[i] = swap_room(&d->swap, i);
	}
	d->state_bytes = ALIGN_UP(mm_state_bytes(&cfg), 4096);
	if (d->keep.found) {
		rc = adopt_core(d, &cfg, &host_ops, err);
		if (!rc)
			return 0;
		log_warn("what a kvmd left cannot be used", "text=\"%s\"", err);
		swap_forget(&d->swap);
		rc = keep_forget(&d->keep, d->dev->bytes, err);
		if (rc)
			return rc;
	}
	rc = adopt_core_memory(d, err);
	if (rc)
		return rc;
	rc = mm_create(&cfg, d->state_map, &host_ops, d, &d->mm);
	if (rc)
		return err_set(err, rc, "the core cannot be set up: %s",
			       strerror(-rc));
	keep_put(&d->keep, KEEP_MM, 0, d->keep.block->mm_gen, d->state_fd);
	mm_tick(d->mm, d->now_ns);
	rc = mm_cache_policy(d->mm, d->opt->cache_policy);
	if (rc)
		return err_set(err, rc, "there is no policy %s",
			       d->opt->cache_policy);
	return tenant_setup(d, err);
}

static int open_signals(struct kvmd *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	d->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signals.fd < 0)
		return -errno;
	d->signals.events = EPOLLIN;
	d->signals.kind = IO_LEVEL;
	d->signals.ready = signals_ready;
	return io_add(d->io, &d->signals);
}

static int open_parent(struct kvmd *d)
{
	if (!d->opt->exit_with_parent)
		return 0;
	d->parent.fd = pidfd_open(getppid(), 0);
	/*
	 * EINVAL: the first process of a pid namespace does not see its parent;
	 * the others: a container forbids it.
	 */
	if (d->parent.fd < 0 &&
	    (errno == EINVAL || errno == EPERM || errno == ENOSYS))
		return prctl(PR_SET_PDEATHSIG, SIGTERM) ? -errno : 0;
	if (d->parent.fd < 0)
		return -errno;
	d->parent.events = EPOLLIN;
	d->parent.kind = IO_LEVEL;
	d->parent.ready = parent_gone;
	return io_add(d->io, &d->parent);
}

/* What callbacks count their deadlines from. */
static void look_at_clock(void *ctx)
{
	struct kvmd *d = ctx;

	d->now_ns = d->turn_ns = clock_ns();
}

static int open_loop(struct kvmd *d, char *err)
{
	struct rlimit lim;
	int rc;

	/* descriptors: six a client and one an extent */
	if (!getrlimit(RLIMIT_NOFILE, &lim) && lim.rlim_cur < lim.rlim_max) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	rc = io_create(d->opt->io, &d->io);
	if (rc)
		return err_set(err, rc, "io %s: not possible here: %s",
			       d->opt->io, strerror(-rc));
	d->io->woke = look_at_clock;
	d->io->woke_ctx = d;
	rc = work_pool_create(d->io, NR_WORKERS, &d->pool);
	if (!rc)
		rc = crew_open(d);
	if (!rc)
		rc = open_signals(d);
	if (!rc)
		rc = open_parent(d);
	return rc ? err_set(err, rc, "the loop cannot be set up: %s",
			    strerror(-rc))
		  : 0;
}

static int open_socket(struct kvmd *d, char *err)
{
	struct keep *k = &d->keep;
	int rc = listen_adopt(
		&d->listener, d->opt->socket, keep_take(k, KEEP_LISTEN, 0, 0),
		keep_take(k, KEEP_LOCK, 0, 0), k->block->made_dir);

	if (rc) {
		rc = listen_open(&d->listener, d->opt->socket, err);
		if (rc)
			return rc;
		k->block->made_dir = d->listener.made_dir;
		keep_put(k, KEEP_LOCK, 0, 0, d->listener.lock_fd);
		keep_put(k, KEEP_LISTEN, 0, 0, d->listener.watch.fd);
	}
	d->listener.watch.events = EPOLLIN;
	d->listener.watch.kind = IO_LEVEL;
	d->listener.watch.ready = conn_accept;
	rc = io_add(d->io, &d->listener.watch);
	return rc ? err_set(err, rc, "socket %s: %s", d->opt->socket,
			    strerror(-rc))
		  : 0;
}

static void keeper_gone(struct io_watch *w, u32 events)
{
	struct kvmd *d = container_of(w, struct kvmd, keeper);

	io_del(d->io, w);
	d->keep.lost = true;
	event_add(&d->events, d->now_ns, LOG_LEVEL_WARN, "keeper_gone",
		  EVENT_NOBODY, NULL,
		  "the keeper has gone: if kvmd is killed, nobody goes on");
}

static int open_keep(struct kvmd *d, char *err)
{
	char why[KV_ERRLEN] = "";
	int rc;

	d->keep.owner = d;
	rc = keep_open(&d->keep, d->opt->kept_fd, d->opt->size_bytes, why);

	if (rc)
		return err_set(err, rc, "%s", why);
	if (*why)
		log_warn("what a kvmd left cannot be used", "text=\"%s\"", why);
	d->keeper.fd = d->keep.channel;
	d->keeper.events = EPOLLIN;
	d->keeper.kind = IO_LEVEL;
	d->keeper.ready = keeper_gone;
	return 0;
}

/* The last thing at the start: from now on there is something to go on with. */
static int open_done(struct kvmd *d, char *err)
{
	if (d->keep.channel >= 0 && io_add(d->io, &d->keeper))
		return err_set(err, -ENOMEM, "the keeper cannot be watched");
	swap_deadline(d);
	if (d->keep.found) {
		audit_arm(d);
		adopt_finish(d);
	}
	keep_taken(&d->keep);
	d->keep.block->ready = !d->keep.lost;
	kvmd_pump(d);
	return 0;
}

int kvmd_create(const struct options *opt, struct kvmd **out, char *err)
{
	struct kvmd *d = calloc(1, sizeof(*d));
	int rc;

	if (!d)
		return err_set(err, -ENOMEM, "no memory");
	d->opt = opt;
	d->state_fd = d->signals.fd = d->listener.watch.fd = d->parent.fd = -1;
	d->now_ns = d->started_ns = clock_ns();
	TAILQ_INIT(&d->timers);
	TAILQ_INIT(&d->conns);
	TAILQ_INIT(&d->all);
	TAILQ_INIT(&d->hot);
	TAILQ_INIT(&d->weights.list);
	TAILQ_INIT(&d->weights.late);
	TAILQ_INIT(&d->weights.limited);
	TAILQ_INIT(&d->weights.going);
	TAILQ_INIT(&d->swap.waiting);
	d->drain_timer.fire = drain_over;
	d->audit_timer.fire = audit_fire;
	d->accept_timer.fire = conn_accept_again;
	d->weights.late_timer.fire = late_look;
	d->tick_step_ns = TICK_FIRST_NS;
	d->listener.lock_fd = -1;
	d->keep.channel = d->keep.block_fd = -1;
	ctl_setup();
	crew_init(d);
	rc = trace_setup(err);
	if (!rc)
		rc = open_keep(d, err);
	if (!rc)
		rc = open_loop(d, err);
	if (!rc)
		rc = dev_open(opt->device, opt->size_bytes, d->pool, &d->keep,
			      &d->dev, err);
	if (!rc)
		rc = swap_open(d, err);
	if (!rc)
		rc = gate_create(d) ? err_set(err, -ENOMEM, "no memory") : 0;
	if (!rc)
		rc = open_core(d, err);
	if (!rc)
		rc = open_socket(d, err);
	if (!rc)
		rc = open_done(d, err);
	if (rc) {
		kvmd_destroy(d);
		return rc;
	}
	event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "start", EVENT_NOBODY,
		  NULL, "kvmd %s, pid %d, %s, device %s of %llu bytes, io %s",
		  KV_VERSION, (int)getpid(), opt->socket, opt->device,
		  (unsigned long long)d->dev->bytes, io_name(d->io));
	*out = d;
	return 0;
}

static void pools_flush(struct kvmd *d)
{
	work_pool_flush(d->pool);
	crew_flush(d);
}

void kvmd_destroy(struct kvmd *d)
{
	struct conn *c;

	if (!d)
		return;
	if (d->io)
		io_del(d->io, &d->listener.watch);
	listen_close(&d->listener);
	if (d->pool && d->mm) {
		pools_flush(d);
		session_destroy_all(d);
		TAILQ_FOREACH(c, &d->conns, link)
		conn_close(c);
		pools_flush(d);
		conn_reap(d);
		weights_destroy_all(d);
		weights_memory_flush(d);
		pools_flush(d);
		swap_flush(d);
	}
	crew_destroy(d);
	work_pool_destroy(d->pool);
	gate_destroy(d);
	mm_destroy(d->mm);
	dev_close(d->dev);
	swap_close(d);
	if (d->state_map)
		munmap(d->state_map, d->state_bytes);
	if (d->state_fd >= 0)
		close(d->state_fd);
	if (d->io) {
		io_del(d->io, &d->signals);
		io_del(d->io, &d->parent);
		io_del(d->io, &d->keeper);
	}
	if (d->signals.fd >= 0)
		close(d->signals.fd);
	if (d->parent.fd >= 0)
		close(d->parent.fd);
	io_destroy(d->io);
	keep_close(&d->keep);
	if (!swap_is_stuck(d))
		free(d);
}
