/* SPDX-License-Identifier: MIT */
/*
 * audit.c - stand still and show everything
 *
 * The loop's thread stays in audit_freeze() until the connection says "audit
 * thaw", ends, or FREEZE_MAX_MS have passed: nothing else can change kvmd's
 * books meanwhile, as nobody else may. Workers are paused first, so that no
 * extent is between two states. Clients go on computing; what they ask for
 * waits in their rings.
 *
 * The descriptors are read-only and go out at most CONN_FDS_MAX a packet,
 * before the packet with the JSON that says which is which.
 */
#include "kvmd/ctl/audit.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "kvmd/ctl/ctl.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"

#define FREEZE_MAX_MS 30000

struct fd_list {
	struct conn *c;
	const struct kv_msg *msg;
	json_t *json;
	int fds[CONN_FDS_MAX];
	unsigned int nr;
	int err;
};

static void fds_flush(struct fd_list *l)
{
	const struct kv_msg_ctl body = { 0 };

	if (l->nr)
		conn_reply(l->c, l->msg, &body, sizeof(body), l->fds, l->nr);
	while (l->nr)
		close(l->fds[--l->nr]);
}

/* Queue a read-only descriptor of @fd; the caller describes it. */
static json_t *fds_add(struct fd_list *l, int fd, const char *kind)
{
	json_t *o = json_object();
	int ro = memfd_reopen_ro(fd);

	ctl_set_text(o, "kind", kind);
	if (ro < 0) {
		l->err = ro;
		ctl_set_text(o, "kind", "lost");
		json_array_append_new(l->json, o);
		return o;
	}
	if (l->nr == CONN_FDS_MAX)
		fds_flush(l);
	l->fds[l->nr++] = ro;
	json_array_append_new(l->json, o);
	return o;
}

static void list_all(struct kvmd *d, struct fd_list *l)
{
	struct session *s;
	json_t *o;
	u32 i, owner;
	int fd;

	fds_add(l, d->state_fd, "state");
	TAILQ_FOREACH(s, &d->all, link)
	{
		o = fds_add(l, s->table_fd, "table");
		ctl_set(o, "client", s->id);
		ctl_set(o, "pid", (u64)s->peer.pid);
		ctl_set(o, "bytes", s->table_bytes);
		ctl_set_text(o, "state",
			     s->state == SESSION_LIVE ? "live" : "exiting");
		o = fds_add(l, s->status_fd, "status");
		ctl_set(o, "client", s->id);
	}
	for (i = 0; i < d->dev->nr_extents; i++) {
		fd = d->dev->ops->extent_fd(d->dev, i);
		if (fd < 0)
			continue;
		owner = mm_extent_owner(d->mm, i);
		o = fds_add(l, fd, "extent");
		ctl_set(o, "extent", i);
		json_object_set_new(o, "owner",
				    owner == MM_NONE ? json_null()
						     : ctl_u64(owner));
		ctl_set_text(o, "state",
			     owner == MM_NONE ? "ready" : "granted");
	}
}

/* What the frozen connection says. Return: false to thaw. */
static bool frozen_packet(struct kvmd *d, struct conn *c)
{
	struct {
		struct kv_msg msg;
		char line[CTL_LINE_MAX + 1];
	} in;
	ssize_t n;

	memset(&in, 0, sizeof(in));
	n = recv(c->watch.fd, &in, sizeof(in) - 1, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n < (ssize_t)sizeof(in.msg))
		return false;
	if (in.msg.type == KV_MSG_CTL && !strcmp(in.line, "audit thaw")) {
		ctl_request(c, &in.msg, in.line, strlen(in.line));
		return false;
	}
	conn_refuse(c, &in.msg, -EBUSY,
		    "kvmd is frozen: only \"audit thaw\" is possible");
	return true;
}

static void frozen_loop(struct kvmd *d, struct conn *c)
{
	struct pollfd p[2] = { { .fd = c->watch.fd, .events = POLLIN },
			       { .fd = d->signals.fd, .events = POLLIN } };
	u64 end = clock_ns() + (u64)FREEZE_MAX_MS * 1000000;
	u64 now, left;
	bool later;

	while ((now = clock_ns()) < end && !c->closing) {
		later = c->retry.armed; /* the loop's timers do not run */
		left = later ? min(c->retry_ns, end - now) : end - now;
		p[0].events = POLLIN;
		if (conn_is_blocked(c) && !later)
			p[0].events |= POLLOUT;
		if (poll(p, 2, (int)(left / 1000000) + 1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			break;
		if (later || (p[0].revents & POLLOUT))
			conn_flush(c);
		if ((p[0].revents & (POLLIN | POLLHUP | POLLERR)) &&
		    !frozen_packet(d, c))
			break;
	}
}

int audit_freeze(struct ctl *q, json_t *out)
{
	struct kvmd *d = q->d;
	struct fd_list l = { .c = q->c, .msg = q->msg };
	struct kv_msg_ctl body;
	char *text;
	int fd;

	work_pool_flush(d->pool);
	crew_flush(d);
	work_pool_pause(d->pool);
	crew_pause(d);
	swap_pause(d);
	kvmd_pump(d);
	l.json = json_array();
	list_all(d, &l);
	fds_flush(&l);
	ctl_set(out, "state_bytes", d->state_bytes);
	json_object_set_new(out, "fds", l.json);
	text = json_dumps(out, JSON_COMPACT);
	fd = text ? memfd_of_text("kvmd-ctl", text, strlen(text)) : -ENOMEM;
	if (fd < 0 || l.err) {
		free(text);
		if (fd >= 0)
			close(fd);
		work_pool_resume(d->pool);
		crew_resume(d);
		swap_resume(d);
		return err_set(q->err, fd < 0 ? fd : l.err,
			       "audit: descriptors cannot be passed: %s",
			       strerror(fd < 0 ? -fd : -l.err));
	}
	body.bytes = strlen(text);
	conn_reply(q->c, q->msg, &body, sizeof(body), &fd, 1);
	close(fd);
	free(text);
	q->answered = true;

	event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "freeze", EVENT_NOBODY,
		  NULL, "pid %d audits", (int)q->c->peer.pid);
	d->frozen_by = q->c;
	frozen_loop(d, q->c);
	d->frozen_by = NULL;
	d->now_ns = clock_ns();
	work_pool_resume(d->pool);
	crew_resume(d);
	swap_resume(d);
	event_add(&d->events, d->now_ns, LOG_LEVEL_INFO, "thaw", EVENT_NOBODY,
		  NULL, "pid %d is done", (int)q->c->peer.pid);
	return 0;
}

int audit_thaw(struct ctl *q, json_t *out)
{
	json_object_set_new(out, "frozen", json_false());
	return 0;
}
