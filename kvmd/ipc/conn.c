/* SPDX-License-Identifier: MIT */
/*
 * conn.c - a connection: packets in, packets out
 *
 * Each packet is copied out of the socket into a buffer of this file and
 * checked against one table: is this type allowed now, is the body as long as
 * it must be. Descriptors that a client sends are dropped by the kernel, as
 * no room is offered for them. A packet that makes no sense is answered with
 * a sentence; the connection lives on unless framing itself is broken.
 */
#include "kvmd/ipc/conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kvmd/ctl/ctl.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"
#include "include/uapi/kv/trace.h"
#include "kvmd/trace.h"

#define ACCEPTS_PER_TURN 16
#define PACKETS_PER_TURN 16
#define ACCEPT_PAUSE_NS	 100000000ull
#define HELLO_TIMEOUT_NS 5000000000ull
#define SNDBUF_BYTES	 (8 << 20)
#define RETRY_FIRST_NS	 1000000ull
#define RETRY_MOST_NS	 100000000ull

struct packet {
	TAILQ_ENTRY(packet) link;
	size_t len;
	unsigned int nr_fds;
	int fds[CONN_FDS_MAX];
	char data[]; /* [len] */
};

static void packet_free(struct packet *p)
{
	unsigned int i;

	for (i = 0; i < p->nr_fds; i++)
		close(p->fds[i]);
	free(p);
}

void conn_watch(struct conn *c)
{
	bool blocked = !TAILQ_EMPTY(&c->queue);

	c->watch.events = (blocked && !c->retry.armed ? (u32)EPOLLOUT : 0) |
			  (blocked || c->busy || c->paused ? 0 : (u32)EPOLLIN);
	io_mod(c->d->io, &c->watch);
}

/* ---- out ---- */

static int send_now(struct conn *c, const void *data, size_t len,
		    const int *fds, unsigned int nr_fds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * CONN_FDS_MAX)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data,
			     .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;

	if (nr_fds) {
		memset(&ctl, 0, sizeof(ctl));
		msg.msg_control = ctl.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nr_fds);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int) * nr_fds);
		memcpy(CMSG_DATA(cm), fds, sizeof(int) * nr_fds);
	}
	if (sendmsg(c->watch.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

static int packet_queue(struct conn *c, const void *data, size_t len,
			const int *fds, unsigned int nr_fds)
{
	struct packet *p;

	if (c->nr_queued >= CONN_QUEUE_MAX + c->d->dev->nr_extents)
		return -ENOBUFS;
	p = calloc(1, sizeof(*p) + len);
	if (!p)
		return -ENOMEM;
	memcpy(p->data, data, len);
	p->len = len;
	while (p->nr_fds < nr_fds) {
		p->fds[p->nr_fds] = dup(fds[p->nr_fds]);
		if (p->fds[p->nr_fds] < 0) {
			packet_free(p);
			return -errno;
		}
		p->nr_fds++;
	}
	TAILQ_INSERT_TAIL(&c->queue, p, link);
	c->nr_queued++;
	conn_watch(c);
	return 0;
}

/*
 * Too many descriptors are under way to this user. The socket is writable all
 * the while and nothing tells when some have arrived, so it is tried again,
 * less and less often.
 */
static void send_later(struct conn *c)
{
	c->retry_ns = c->retry_ns ? min(2 * c->retry_ns, RETRY_MOST_NS)
				  : RETRY_FIRST_NS;
	timer_set(&c->d->timers, &c->retry, c->d->now_ns + c->retry_ns);
}

static void send_again(struct timer *t)
{
	conn_flush(container_of(t, struct conn, retry));
}

void conn_send(struct conn *c, const void *data, size_t len, const int *fds,
	       unsigned int nr_fds)
{
	int rc = -EAGAIN;

	if (c->closing)
		return;
	if (TAILQ_EMPTY(&c->queue))
		rc = send_now(c, data, len, fds, nr_fds);
	if (rc == -ETOOMANYREFS)
		send_later(c);
	if (rc == -EAGAIN || rc == -ETOOMANYREFS)
		rc = packet_queue(c, data, len, fds, nr_fds);
	if (rc) {
		log_warn("connection lost", "pid=%d error=\"%s\"",
			 (int)c->peer.pid, strerror(-rc));
		conn_close(c);
	}
}

void conn_flush(struct conn *c)
{
	struct packet *p;
	int rc;

	timer_cancel(&c->d->timers, &c->retry);
	while ((p = TAILQ_FIRST(&c->queue))) {
		rc = send_now(c, p->data, p->len, p->fds, p->nr_fds);
		if (rc == -ETOOMANYREFS)
			send_later(c);
		if (rc == -EAGAIN || rc == -ETOOMANYREFS)
			break;
		if (rc) {
			conn_close(c);
			return;
		}
		c->retry_ns = 0;
		TAILQ_REMOVE(&c->queue, p, link);
		c->nr_queued--;
		packet_free(p);
	}
	conn_watch(c);
}

bool conn_is_blocked(const struct conn *c)
{
	return !TAILQ_EMPTY(&c->queue);
}

void conn_reply(struct conn *c, const struct kv_msg *req, const void *body,
		size_t len, const int *fds, unsigned int nr_fds)
{
	struct {
		struct kv_msg msg;
		char body[512]; /* the longest is struct kv_msg_welcome */
	} out;

	out.msg = (struct kv_msg){
		.type = req->type | KV_MSG_REPLY,
		.cookie = req->cookie,
	};
	if (len)
		memcpy(out.body, body, len);
	conn_send(c, &out, sizeof(out.msg) + len, fds, nr_fds);
	if (c->session)
		session_answered(c->session, req->cookie);
}

void conn_refuse(struct conn *c, const struct kv_msg *req, int rc,
		 const char *fmt, ...)
{
	struct {
		struct kv_msg msg;
		char text[512];
	} out = {
		.msg = {
			.type = req->type | KV_MSG_REPLY,
			.status = rc,
			.cookie = req->cookie,
		},
	};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out.text, sizeof(out.text), fmt, ap);
	va_end(ap);
	log_debug("request refused", "pid=%d type=%u error=%d text=\"%s\"",
		  (int)c->peer.pid, req->type, rc, out.text);
	conn_send(c, &out, sizeof(out.msg) + strlen(out.text) + 1, NULL, 0);
	if (c->session)
		session_answered(c->session, req->cookie);
}

/* ---- handshake ---- */

static void hello_finish(struct conn *c)
{
	struct kv_msg_welcome w;
	int rc;

	timer_cancel(&c->d->timers, &c->deadline);
	if (!(c->hello.flags & KV_HELLO_CTL)) {
		rc = session_attach(c);
		c->state = rc && !c->session ? CONN_NEW : CONN_CLIENT;
		if (rc && c->session) /* it is refused, and was attached */
			conn_close(c);
		if (rc && !c->closing)
			timer_set(&c->d->timers, &c->deadline,
				  c->d->now_ns + HELLO_TIMEOUT_NS);
		return;
	}
	c->state = CONN_CTL;
	memset(&w, 0, sizeof(w));
	session_welcome(c, &w);
	w.client = EVENT_NOBODY;
	conn_reply(c, &c->hello_msg, &w, sizeof(w), NULL, 0);
}

static void ident_run(struct work *w)
{
	struct conn *c = container_of(w, struct conn, ident);

	c->ident_rc = peer_tenant(&c->peer, c->d->opt->tenant_key, c->tenant,
				  c->ident_err);
}

/*
 * Who attaches has a tenant, or hears why it has none. An administrator looks
 * after all tenants without being of one.
 */
static void ident_answer(struct conn *c)
{
	if (!c->ident_rc || (c->sees_all && (c->hello.flags & KV_HELLO_CTL))) {
		hello_finish(c);
		return;
	}
	c->state = CONN_NEW;
	conn_refuse(c, &c->hello_msg, c->ident_rc, "%s", c->ident_err);
}

static void ident_done(struct work *w)
{
	struct conn *c = container_of(w, struct conn, ident);

	c->busy = false;
	if (c->closing)
		return;
	conn_watch(c);
	ident_answer(c);
}

static void handle_hello(struct conn *c, const struct kv_msg *msg,
			 const void *body)
{
	struct kv_msg_hello *h = &c->hello;
	const u32 known = KV_HELLO_CTL | KV_HELLO_ADMIN;

	memcpy(h, body, sizeof(*h));
	c->hello_msg = *msg;
	if (h->magic != KV_ABI_MAGIC || h->major != KV_ABI_MAJOR) {
		conn_refuse(c, msg, -EPROTO,
			    "client speaks ABI %u.%u, kvmd %s speaks %u.%u",
			    h->major, h->minor, KV_VERSION, KV_ABI_MAJOR,
			    KV_ABI_MINOR);
		return;
	}
	if (h->flags & ~known) {
		conn_refuse(c, msg, -EINVAL, "HELLO: unknown flags 0x%x",
			    h->flags & ~known);
		return;
	}
	if (h->device) {
		conn_refuse(c, msg, -ENODEV,
			    "device %u: kvmd has device 0 only", h->device);
		return;
	}
	if ((h->flags & KV_HELLO_ADMIN) && !c->sees_all) {
		conn_refuse(c, msg, -EPERM,
			    "uid %u: may not administer this kvmd (uid 0 and "
			    "uid %u may)",
			    c->peer.uid, geteuid());
		return;
	}
	c->admin = h->flags & KV_HELLO_ADMIN;
	log_text(h->name, sizeof(h->name),
		 (const char *)body + offsetof(struct kv_msg_hello, name),
		 sizeof(h->name));
	if (c->d->opt->tenant_key == TENANT_KEY_CGROUP) {
		c->state = CONN_IDENT;
		c->busy = true;
		conn_watch(c);
		c->ident.run = ident_run;
		c->ident.done = ident_done;
		work_submit(c->d->pool, &c->ident);
		return;
	}
	ident_run(&c->ident);
	ident_answer(c);
}

/* ---- in ---- */

static void handle_bye(struct conn *c, const struct kv_msg *msg,
		       const void *body)
{
	c->said_bye = true;
	conn_reply(c, msg, NULL, 0, NULL, 0);
	conn_close(c);
}

static void handle_geom_add(struct conn *c, const struct kv_msg *msg,
			    const void *body)
{
	session_geom_add(c->session, msg, body);
}

static void handle_weights_open(struct conn *c, const struct kv_msg *msg,
				const void *body)
{
	weights_open(c->d, c->session, msg, body);
}

static void handle_weights_seal(struct conn *c, const struct kv_msg *msg,
				const void *body)
{
	weights_seal(c->d, c->session, msg, body);
}

static void handle_weights_close(struct conn *c, const struct kv_msg *msg,
				 const void *body)
{
	weights_close(c->d, c->session, msg, body);
}

#define IN(state) (1u << (state))

static const struct msg_def {
	const char *name;
	u32 states; /* in which it may come */
	size_t body_min;
	void (*handle)(struct conn *c, const struct kv_msg *msg,
		       const void *body);
} msg_defs[] = {
	[KV_MSG_HELLO] = { "HELLO", IN(CONN_NEW), sizeof(struct kv_msg_hello),
			   handle_hello },
	[KV_MSG_GEOM_ADD] = { "GEOM_ADD", IN(CONN_CLIENT),
			      sizeof(struct kv_msg_geom_add), handle_geom_add },
	[KV_MSG_WEIGHTS_OPEN] = { "WEIGHTS_OPEN", IN(CONN_CLIENT),
				  sizeof(struct kv_msg_weights),
				  handle_weights_open },
	[KV_MSG_WEIGHTS_SEAL] = { "WEIGHTS_SEAL", IN(CONN_CLIENT),
				  sizeof(struct kv_msg_weights),
				  handle_weights_seal },
	[KV_MSG_WEIGHTS_CLOSE] = { "WEIGHTS_CLOSE", IN(CONN_CLIENT),
				   sizeof(struct kv_msg_weights),
				   handle_weights_close },
	[KV_MSG_BYE] = { "BYE", IN(CONN_CLIENT) | IN(CONN_CTL), 0, handle_bye },
};

static void packet_handle(struct conn *c, const char *buf, size_t len)
{
	const struct msg_def *def = NULL;
	struct kv_msg msg;

	memcpy(&msg, buf, sizeof(msg));
	buf += sizeof(msg);
	len -= sizeof(msg);
	if (msg.type == KV_MSG_CTL && c->state == CONN_CTL) {
		ctl_request(c, &msg, buf, len);
		return;
	}
	if (msg.type < ARRAY_SIZE(msg_defs))
		def = &msg_defs[msg.type];
	if (!def || !def->handle) {
		conn_refuse(c, &msg, -EOPNOTSUPP, "message type %u is unknown",
			    msg.type);
	} else if (!(def->states & IN(c->state))) {
		conn_refuse(c, &msg, -EPROTO, "%s is not possible %s",
			    def->name,
			    c->state == CONN_NEW   ? "before HELLO"
			    : c->state == CONN_CTL ? "on a control connection"
						   : "now");
	} else if (len < def->body_min) {
		conn_refuse(c, &msg, -EINVAL,
			    "%s: a body of %zu bytes is too short, %zu are "
			    "needed",
			    def->name, len, def->body_min);
	} else {
		def->handle(c, &msg, buf);
	}
}

/* A client whose message waits is not read; it is, once it has its answer. */
static void conn_pace(struct conn *c)
{
	bool waits = c->session && c->session->keep->msg_bytes;

	if (c->closing || waits == c->paused)
		return;
	c->paused = waits;
	conn_watch(c);
}

void conn_answered(struct conn *c)
{
	if (c->paused)
		conn_pace(c);
}

static void conn_read(struct conn *c)
{
	static char buf[KV_MSG_MAX]; /* the loop's thread alone reads */
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr msg;
	ssize_t n;
	int i;

	for (i = 0; i < PACKETS_PER_TURN && !c->closing; i++) {
		/* one at a time: a job keeps the connection by c->busy */
		if (c->busy || c->paused || conn_is_blocked(c))
			return;
		msg = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1 };
		if (c->session && !session_msg_begin(c->session))
			return;
		n = recvmsg(c->watch.fd, &msg, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < (ssize_t)sizeof(struct kv_msg) ||
		    (msg.msg_flags & MSG_TRUNC)) {
			if (n > 0)
				log_warn("connection closed",
					 "pid=%d text=\"a packet of a size "
					 "that none has\"",
					 (int)c->peer.pid);
			conn_close(c);
			return;
		}
		c->d->n.messages++;
		if (c->session)
			trace_point(c->d, KV_TP_MSG_BEGIN, c->session->id, 0);
		packet_handle(c, buf, (size_t)n);
		conn_pace(c);
	}
}

static void conn_ready(struct io_watch *w, u32 events)
{
	struct conn *c = container_of(w, struct conn, watch);

	if (events & EPOLLOUT)
		conn_flush(c);
	if (events & EPOLLIN)
		conn_read(c);
	/* what was sent before the hang-up has been read by now, or never */
	if (!c->closing && (events & (EPOLLHUP | EPOLLERR)) &&
	    !(events & EPOLLIN))
		conn_close(c);
}

static void hello_late(struct timer *t)
{
	struct conn *c = container_of(t, struct conn, deadline);

	log_warn("connection closed", "pid=%d text=\"no HELLO in time\"",
		 (int)c->peer.pid);
	conn_close(c);
}

/* ---- life ---- */

static struct conn *conn_new(struct kvmd *d, int fd)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->d = d;
	TAILQ_INIT(&c->queue);
	c->peer.pidfd = -1;
	c->watch.fd = fd;
	c->watch.events = EPOLLIN;
	c->watch.kind = IO_LEVEL;
	c->watch.ready = conn_ready;
	c->deadline.fire = hello_late;
	c->retry.fire = send_again;
	return c;
}

static void conn_link(struct conn *c)
{
	TAILQ_INSERT_TAIL(&c->d->conns, c, link);
	c->d->nr_conns++;
}

/* Serve @c, a client of a predecessor. */
int conn_resume(struct conn *c)
{
	struct keep_client *k = c->session->keep;
	char msg[KEEP_MSG_MAX];
	u32 bytes = k->msg_bytes;

	if (io_add(c->d->io, &c->watch))
		return -ENOMEM;
	if (!bytes)
		return 0;
	memcpy(msg, k->msg, sizeof(msg));
	if (session_msg_is_next(c->session)) {
		k->msg_bytes = 0; /* it is read like any other */
		return 0;
	}
	c->replays = true;
	packet_handle(c, msg, bytes);
	c->replays = false;
	conn_pace(c);
	return 0;
}

struct conn *conn_adopt(struct kvmd *d, int fd, const struct peer *peer,
			const struct keep_client *keep)
{
	struct conn *c = conn_new(d, fd);

	if (!c)
		return NULL;
	c->state = CONN_CLIENT;
	c->peer = *peer;
	c->peer.pidfd = dup(peer->pidfd);
	c->hello.features = keep->features;
	c->hello_msg.type = KV_MSG_HELLO;
	c->hello_msg.cookie = keep->hello;
	memcpy(c->tenant, keep->tenant, sizeof(c->tenant));
	c->sees_all = peer_is_admin(&c->peer);
	conn_link(c);
	return c;
}

static unsigned int nr_of_uid(const struct kvmd *d, uid_t uid)
{
	const struct conn *c;
	unsigned int nr = 0;

	TAILQ_FOREACH(c, &d->conns, link)
	nr += c->peer.uid == uid;
	return nr;
}

static int conn_create(struct kvmd *d, int fd)
{
	const int sndbuf = SNDBUF_BYTES;
	struct conn *c = conn_new(d, fd);
	int rc;

	if (!c)
		return -ENOMEM;
	rc = peer_get(fd, &c->peer);
	if (!rc && (d->nr_conns >= CONN_MAX ||
		    (!peer_is_admin(&c->peer) &&
		     nr_of_uid(d, c->peer.uid) >= CONN_UID_MAX)))
		rc = -EUSERS;
	if (rc)
		goto out_free;
	/* room for the descriptors of a large grant; more as root */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, sizeof(sndbuf)))
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
	c->sees_all = peer_is_admin(&c->peer);
	rc = io_add(d->io, &c->watch);
	if (rc)
		goto out_free;
	/* now_ns is from before the wait that this connection ended */
	timer_set(&d->timers, &c->deadline, clock_ns() + HELLO_TIMEOUT_NS);
	conn_link(c);
	return 0;

out_free:
	peer_put(&c->peer);
	free(c);
	return rc;
}

static void accept_pause(struct kvmd *d, int rc)
{
	if (!d->accept_failed)
		log_warn("accept failed", "error=\"%s\"", strerror(-rc));
	d->accept_failed = true;
	io_del(d->io, &d->listener.watch);
	timer_set(&d->timers, &d->accept_timer, d->now_ns + ACCEPT_PAUSE_NS);
}

void conn_accept_again(struct timer *t)
{
	struct kvmd *d = container_of(t, struct kvmd, accept_timer);

	if (d->listener.watch.fd < 0)
		return; /* kvmd takes nobody any more */
	if (io_add(d->io, &d->listener.watch))
		timer_set(&d->timers, t, d->now_ns + ACCEPT_PAUSE_NS);
}

void conn_accept(struct io_watch *w, u32 events)
{
	struct kvmd *d = container_of(w, struct kvmd, listener.watch);
	int i, fd, rc;

	for (i = 0; i < ACCEPTS_PER_TURN; i++) {
		fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			if (errno != EAGAIN && errno != EINTR &&
			    errno != ECONNABORTED)
				accept_pause(d, -errno);
			return;
		}
		d->accept_failed = false;
		rc = conn_create(d, fd);
		if (rc) {
			log_warn("connection refused", "error=\"%s\"",
				 strerror(-rc));
			close(fd);
		}
	}
}

void conn_close(struct conn *c)
{
	if (c->closing)
		return;
	c->closing = true;
	c->d->nr_closing++;
	timer_cancel(&c->d->timers, &c->deadline);
	timer_cancel(&c->d->timers, &c->retry);
	io_del(c->d->io, &c->watch);
	shutdown(c->watch.fd, SHUT_RDWR);
}

bool conn_reap(struct kvmd *d)
{
	struct conn *c, *next;
	struct packet *p;
	bool any = false;

	if (!d->nr_closing)
		return false;
	for (c = TAILQ_FIRST(&d->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (!c->closing || c->busy)
			continue;
		any = true;
		if (c->session)
			session_hangup(c->session);
		if (d->frozen_by == c)
			d->frozen_by = NULL;
		while ((p = TAILQ_FIRST(&c->queue))) {
			TAILQ_REMOVE(&c->queue, p, link);
			packet_free(p);
		}
		close(c->watch.fd);
		peer_put(&c->peer);
		TAILQ_REMOVE(&d->conns, c, link);
		d->nr_conns--;
		d->nr_closing--;
		free(c);
	}
	return any;
}
