/* SPDX-License-Identifier: MIT */
/*
 * session.c - a client that is attached: attach, death, and what lies between
 */
#include "kvmd/ipc/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/ipc/ring.h"
#include "kvmd/ipc/tenant.h"
#include "kvmd/kvmd.h"
#include "kvmd/trace.h"
#include "lib/bitmap.h"

#define GRACE_NS 2000000000ull /* for a process that closed its socket only */

void session_free(struct session *s)
{
	if (s->ring)
		munmap(s->ring, KV_RING_SIZE);
	if (s->table)
		munmap(s->table, KV_TABLE_SIZE_MAX);
	if (s->status)
		munmap(s->status, sizeof(struct kv_status));
	if (s->ring_fd >= 0)
		close(s->ring_fd);
	if (s->table_fd >= 0)
		close(s->table_fd);
	if (s->status_fd >= 0)
		close(s->status_fd);
	if (s->doorbell.fd >= 0)
		close(s->doorbell.fd);
	peer_put(&s->peer);
	free(s->cached);
	free(s);
}

static void grace_over(struct timer *t);

/* ---- attach ---- */

struct session *session_new(struct kvmd *d)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->cached =
		calloc(BITMAP_WORDS(d->dev->nr_extents), sizeof(*s->cached));
	if (!s->cached) {
		free(s);
		return NULL;
	}
	s->d = d;
	s->ring_fd = s->table_fd = s->status_fd = s->doorbell.fd = -1;
	s->peer.pidfd = -1;
	s->grace.fire = grace_over;
	s->attached_ns = d->now_ns;
	return s;
}

int session_map(struct session *s)
{
	s->ring = memfd_map(s->ring_fd, KV_RING_SIZE);
	s->table = memfd_map(s->table_fd, KV_TABLE_SIZE_MAX);
	s->status = memfd_map(s->status_fd, sizeof(struct kv_status));
	return s->ring && s->table && s->status ? 0 : -ENOMEM;
}

static int make_memory(struct session *s)
{
	int rc;

	s->table_bytes = KV_TABLE_LEAVES_OFF;
	s->ring_fd = memfd_create_sealed("kvmd-ring", KV_RING_SIZE, 0);
	if (s->ring_fd < 0)
		return s->ring_fd;
	s->table_fd = memfd_create_sealed("kvmd-table", s->table_bytes,
					  MEMFD_GROWS | MEMFD_READABLE);
	if (s->table_fd < 0)
		return s->table_fd;
	s->status_fd =
		memfd_create_sealed("kvmd-status", sizeof(struct kv_status), 0);
	if (s->status_fd < 0)
		return s->status_fd;
	rc = session_map(s);
	if (rc)
		return rc;
	s->doorbell.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->doorbell.fd < 0 ? -errno : 0;
}

/* To be taken apart at the end of the turn. */
static void session_doom(struct session *s)
{
	s->d->nr_doomed += !s->doomed;
	s->doomed = true;
}

static void pid_ready(struct io_watch *w, u32 events)
{
	struct session *s = container_of(w, struct session, pid_watch);

	io_del(s->d->io, w);
	if (s->state == SESSION_LIVE)
		conn_close(s->conn);
	else
		session_doom(s);
}

int session_watch(struct session *s)
{
	struct kvmd *d = s->d;
	int rc;

	s->has_cpus = peer_cpus(&s->peer, &s->cpus);
	s->doorbell.events = EPOLLIN;
	s->doorbell.kind = IO_EDGE;
	s->doorbell.ready = ring_doorbell;
	rc = io_add(d->io, &s->doorbell);
	if (rc || s->peer.hidden) /* its connection's end is all there is */
		return rc;
	s->pid_watch.fd = s->peer.pidfd;
	s->pid_watch.events = EPOLLIN;
	s->pid_watch.kind = IO_LEVEL;
	s->pid_watch.ready = pid_ready;
	return io_add(d->io, &s->pid_watch);
}

static int attach_mm(struct session *s, const struct kv_msg_hello *h)
{
	struct mm_attach at = {
		.table = s->table,
		.status = s->status,
		.rank = h->rank,
		.ns = h->ns,
		.steps_from = h->steps_from,
	};
	int rc;

	memcpy(at.name, s->name, sizeof(at.name));
	rc = tenant_get(s->d, s->tenant_name, &s->tenant);
	if (rc)
		return rc;
	at.tenant = s->tenant;
	rc = mm_client_attach(s->d->mm, &at, &s->id);
	if (rc) {
		mm_tenant_put(s->d->mm, s->tenant);
		return rc;
	}
	s->attached = true;
	s->d->sessions[s->id] = s;
	return 0;
}

void session_welcome(const struct conn *c, struct kv_msg_welcome *w)
{
	const struct kvmd *d = c->d;

	w->magic = KV_ABI_MAGIC;
	w->major = KV_ABI_MAJOR;
	w->minor = KV_ABI_MINOR;
	w->features = c->hello.features & KV_FEATURES;
	w->device_bytes = d->dev->bytes;
	w->limit_bytes = d->dev->bytes;
	w->ring_bytes = KV_RING_SIZE;
	w->table_bytes = KV_TABLE_SIZE_MAX;
	w->status_bytes = sizeof(struct kv_status);
	w->extent_bytes = KV_EXTENT_SIZE;
	w->chunk_bytes = KV_CHUNK_SIZE;
	snprintf(w->device_name, sizeof(w->device_name), "cpu:0");
	memcpy(w->tenant_name, c->tenant, sizeof(w->tenant_name));
	snprintf(w->version, sizeof(w->version), "%s", KV_VERSION);
}

int session_send_welcome(struct session *s)
{
	struct conn *c = s->conn;
	struct mm_tenant_info info;
	struct kv_msg_welcome w;
	int fds[4], ro;

	ro = memfd_reopen_ro(s->table_fd);
	if (ro < 0)
		return ro;
	memset(&w, 0, sizeof(w));
	session_welcome(c, &w);
	w.client = s->id;
	w.tenant = s->tenant;
	w.nr_fds = ARRAY_SIZE(fds);
	if (!mm_tenant_info(s->d->mm, s->tenant, &info))
		w.limit_bytes = min(info.limits.max_bytes, s->d->dev->bytes);
	fds[0] = s->ring_fd;
	fds[1] = ro;
	fds[2] = s->status_fd;
	fds[3] = s->doorbell.fd;
	conn_reply(c, &c->hello_msg, &w, sizeof(w), fds, ARRAY_SIZE(fds));
	close(ro);
	s->keep->welcomed = true;
	return 0;
}

/*
 * Clients that left are counted until their slot is free: who attaches and
 * leaves in a loop must not take the slots of all others.
 */
static int room_for(struct conn *c)
{
	const struct session *s;
	unsigned int nr = 0;

	if (c->d->nr_sessions >= MM_CLIENT_MAX) {
		conn_refuse(c, &c->hello_msg, -EUSERS,
			    "process %d: kvmd has %u clients, one more is "
			    "not possible",
			    (int)c->peer.pid, MM_CLIENT_MAX);
		return -EUSERS;
	}
	if (peer_is_admin(&c->peer))
		return 0;
	TAILQ_FOREACH(s, &c->d->all, link)
	nr += s->peer.uid == c->peer.uid;
	if (nr < CONN_UID_MAX)
		return 0;
	conn_refuse(c, &c->hello_msg, -EUSERS,
		    "process %d: user %u has %u clients, one more is not "
		    "possible",
		    (int)c->peer.pid, c->peer.uid, nr);
	return -EUSERS;
}

int session_attach(struct conn *c)
{
	struct kvmd *d = c->d;
	struct session *s;
	int rc = -ESHUTDOWN;

	if (d->state != KVMD_SERVING) {
		conn_refuse(c, &c->hello_msg, rc, "kvmd is going down");
		return rc;
	}
	rc = room_for(c);
	if (rc)
		return rc;
	s = session_new(d);
	if (!s) {
		conn_refuse(c, &c->hello_msg, -ENOMEM, "kvmd has no memory");
		return -ENOMEM;
	}
	s->peer = c->peer;
	s->peer.pidfd = -1;
	s->conn = c;
	memcpy(s->tenant_name, c->tenant, sizeof(s->tenant_name));
	memcpy(s->name, c->hello.name, sizeof(s->name));
	rc = c->peer.pidfd < 0 && !c->peer.hidden ? -ESRCH : 0;
	if (!rc && !c->peer.hidden) {
		s->peer.pidfd = fcntl(c->peer.pidfd, F_DUPFD_CLOEXEC, 0);
		rc = s->peer.pidfd < 0 ? -errno : 0;
	}
	if (!rc)
		rc = make_memory(s);
	if (!rc)
		rc = attach_mm(s, &c->hello);
	if (rc) {
		conn_refuse(c, &c->hello_msg, rc,
			    "process %d: cannot be attached: %s",
			    (int)c->peer.pid, strerror(-rc));
		session_free(s);
		return rc;
	}
	TAILQ_INSERT_TAIL(&d->all, s, link);
	d->nr_sessions++;
	c->session = s;
	session_keep(s);
	rc = session_watch(s);
	if (!rc)
		rc = session_send_welcome(s);
	if (rc) {
		conn_refuse(c, &c->hello_msg, rc,
			    "process %d: cannot be attached: %s",
			    (int)c->peer.pid, strerror(-rc));
		session_kick(s, "attach failed: %s", strerror(-rc));
		return rc;
	}
	d->n.attaches++;
	ring_wake(s);
	event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "client_attach", s->id,
		  s->tenant_name, "%s (pid %d, uid %u)", s->name,
		  (int)s->peer.pid, s->peer.uid);
	kvmd_pump(d);
	return 0;
}

/* Once, also if a predecessor was killed between the deed and the answer. */
static int geom_add(struct session *s, const struct kv_msg *msg,
		    struct kv_msg_geom_add *g)
{
	const u64 name = 1ull << 63 | msg->cookie;
	struct mm_op_answer a;

	if (s->conn->replays && mm_op_answer(s->d->mm, s->id, name, &a, NULL)) {
		g->id = (u32)a.result;
		g->geom = *mm_geom(s->d->mm, s->id, g->id);
		return 0;
	}
	mm_op_begin(s->d->mm, s->id, name);
	return mm_geom_add(s->d->mm, s->id, &g->geom, &g->id);
}

void session_geom_add(struct session *s, const struct kv_msg *msg,
		      const void *body)
{
	struct kv_msg_geom_add g;
	int rc;

	memcpy(&g, body, sizeof(g));
	rc = g.reserved ? -EINVAL : geom_add(s, msg, &g);
	kvmd_pump(s->d);
	if (rc == -ENOSPC)
		conn_refuse(s->conn, msg, rc,
			    "geometry: a client may have %u, this is one more",
			    KV_GEOM_MAX);
	else if (rc)
		conn_refuse(s->conn, msg, rc,
			    "geometry: %u tokens, %u layers, %u heads of %u, "
			    "strides %u/%u/%u/%u, %u bytes a page: %s",
			    g.geom.page_tokens, g.geom.nr_layers,
			    g.geom.nr_kv_heads, g.geom.head_dim,
			    g.geom.token_stride, g.geom.head_stride,
			    g.geom.v_offset, g.geom.layer_stride,
			    g.geom.page_bytes,
			    rc == -EINVAL ? "not possible" : strerror(-rc));
	else
		conn_reply(s->conn, msg, &g, sizeof(g), NULL, 0);
}

int session_table_grow(void *host, u32 client, u32 nr_leaves)
{
	struct kvmd *d = host;
	struct session *s = d->sessions[client];
	u64 bytes =
		KV_TABLE_LEAVES_OFF + (u64)nr_leaves * sizeof(struct kv_leaf);

	if (!s || nr_leaves > KV_LEAF_MAX)
		return -EINVAL;
	if (bytes <= s->table_bytes)
		return 0;
	if (ftruncate(s->table_fd, (off_t)bytes))
		return -errno;
	s->table_bytes = bytes;
	return 0;
}

/* ---- the end ---- */

void session_kick(struct session *s, const char *fmt, ...)
{
	va_list ap;

	if (s->doomed || s->state != SESSION_LIVE)
		return;
	session_doom(s);
	s->kicked = true;
	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
	s->d->n.kicks++;
	s->d->last_kick_ns = s->d->now_ns;
	event_add(&s->d->events, s->d->now_ns, LOG_LEVEL_WARN, "client_kick",
		  s->id, s->tenant_name, "%s (pid %d): %s", s->name,
		  (int)s->peer.pid, s->why);
}

/* LIVE to LEAVING: nothing is taken from it any more. */
static void session_leave(struct session *s)
{
	struct kvmd *d = s->d;

	s->state = SESSION_LEAVING;
	s->keep->state = KEEP_LEAVING;
	keep_drop(&d->keep, KEEP_SOCK, s->id, s->keep->gen);
	s->conn = NULL;
	io_del(d->io, &s->doorbell);
	ring_forget(s);
	weights_session_exit(d, s);
	gate_leave(s);
	growing_drop(&d->growing, s->id, MM_NONE);
	mm_client_exit(d->mm, s->id);
	d->n.detaches++;
	event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "client_exit", s->id,
		  s->tenant_name, "%s (pid %d)", s->name, (int)s->peer.pid);
	kvmd_pump(d);
}

static void session_gone(struct session *s)
{
	struct kvmd *d = s->d;

	timer_cancel(&d->timers, &s->grace);
	io_del(d->io, &s->pid_watch);
	session_unkeep(s);
	d->dev->ops->client_gone(d->dev, s->id);
	mm_client_gone(d->mm, s->id);
	session_unkeep_fds(s);
	d->sessions[s->id] = NULL;
	/* a process's own tenant ends with it */
	if (d->opt->tenant_key == TENANT_KEY_PID)
		mm_cache_drop(d->mm, s->tenant, true);
	mm_tenant_put(d->mm, s->tenant);
	TAILQ_REMOVE(&d->all, s, link);
	d->nr_sessions--;
	d->nr_doomed -= s->doomed;
	session_free(s);
	kvmd_pump(d);
}

static void grace_over(struct timer *t)
{
	struct session *s = container_of(t, struct session, grace);

	log_warn("memory taken",
		 "client=%u pid=%d text=\"closed its socket%s\"", s->id,
		 (int)s->peer.pid, s->peer.hidden ? "" : " and lives on");
	session_doom(s);
}

void session_hangup(struct session *s)
{
	struct conn *c = s->conn;
	struct kvmd *d = s->d;
	bool over;

	over = c->said_bye ||
	       d->dev->ops->stream_gone(d->dev, s->id, peer_is_gone(&s->peer));
	c->session = NULL;
	session_leave(s);
	if (over)
		session_gone(s);
	else
		session_grace(s);
}

void session_grace(struct session *s)
{
	timer_set(&s->d->timers, &s->grace, s->d->now_ns + GRACE_NS);
}

bool session_reap(struct kvmd *d)
{
	struct session *s, *next;
	bool any = false;

	if (!d->nr_doomed)
		return false;
	for (s = TAILQ_FIRST(&d->all); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (!s->doomed)
			continue;
		any = true;
		s->doomed = false;
		d->nr_doomed--;
		if (s->state == SESSION_LEAVING) {
			session_gone(s);
			continue;
		}
		conn_refuse(s->conn, &(struct kv_msg){ .type = KV_MSG_BYE },
			    -EPROTO, "%s", s->why);
		conn_close(s->conn);
	}
	return any;
}

void session_destroy_all(struct kvmd *d)
{
	struct session *s;

	while ((s = TAILQ_FIRST(&d->all))) {
		if (s->state == SESSION_LIVE) {
			s->conn->session = NULL;
			session_leave(s);
		}
		session_gone(s);
	}
}
