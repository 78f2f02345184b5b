/* SPDX-License-Identifier: MIT */
/*
 * conn.c - a connection to the server, one request at a time
 *
 *	closed -> connecting -> busy -> idle -> busy -> ... -> closed
 *
 * A server may close an idle connection whenever it likes, also while the
 * next request is on its way to it. Such a request, to which not a byte came
 * back, is sent again over a new connection, once: the new one was not idle.
 *
 * A server may also answer before it has the whole request, and close. What
 * cannot be sent any more is then no failure: what it said counts.
 */
#include "tools/kvbench/serve/conn.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

void conn_init(struct conn *c, bool is_chat,
	       void (*choice)(void *arg, bool brings), void *arg)
{
	memset(c, 0, sizeof(*c));
	c->fd = -1;
	answer_init(&c->answer, is_chat, choice, arg);
}

void conn_close(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->state = CONN_CLOSED;
}

void conn_fini(struct conn *c)
{
	conn_close(c);
	answer_fini(&c->answer);
	strbuf_free(&c->out);
	samples_fini(&c->itl);
}

static void want(struct conn *c, int epoll, u32 events)
{
	struct epoll_event e = { .events = events, .data.ptr = c };

	epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
}

/* As much as goes now. */
static void write_some(struct conn *c, int epoll)
{
	ssize_t n = 1;

	while (c->sent < c->out.len && n > 0) {
		n = send(c->fd, c->out.p + c->sent, c->out.len - c->sent,
			 MSG_NOSIGNAL);
		if (n > 0)
			c->sent += (size_t)n;
	}
	if (c->sent < c->out.len && errno == EAGAIN)
		return;
	want(c, epoll, EPOLLIN);
}

int conn_start(struct conn *c, const struct target *t, int epoll)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };

	c->sent = 0;
	c->moved = clock_s();
	if (c->state == CONN_IDLE) {
		c->state = CONN_BUSY;
		c->is_reused = true;
		want(c, epoll, EPOLLIN | EPOLLOUT);
		write_some(c, epoll);
		return 0;
	}
	c->is_reused = false;
	c->fd = target_connect(t);
	if (c->fd < 0) {
		int rc = c->fd;

		c->fd = -1;
		return rc;
	}
	c->state = CONN_CONNECTING;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e)) {
		int rc = -errno;

		conn_close(c);
		return rc;
	}
	return 0;
}

static int connected(struct conn *c)
{
	socklen_t len = sizeof(int);
	int e = 0;

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &len))
		e = errno;
	if (e) {
		failure_set(&c->answer.failure,
			    e == ECONNREFUSED ? "refused" : "connect", "%s",
			    strerror(e));
		c->answer.http.keep_alive = false;
		return 1;
	}
	c->state = CONN_BUSY;
	return 0;
}

/* The connection has ended, in order (@e = 0) or not. */
static int ended(struct conn *c, int e)
{
	const struct http *h = &c->answer.http;

	if (c->is_reused && !h->status && !h->line_len)
		return -EAGAIN;
	if (!e) {
		answer_eof(&c->answer);
		return 1;
	}
	failure_set(&c->answer.failure, "broken", "%s, after %u events",
		    strerror(e), c->answer.nr_events);
	c->answer.http.keep_alive = false;
	return 1;
}

static int read_some(struct conn *c)
{
	static char buf[65536]; /* there is one thread */
	ssize_t n = recv(c->fd, buf, sizeof(buf), 0);

	c->moved = clock_s();
	if (n > 0)
		return answer_take(&c->answer, buf, (size_t)n);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return ended(c, n ? errno : 0);
}

int conn_event(struct conn *c, u32 events, int epoll)
{
	int rc = 0;

	if (c->state == CONN_CONNECTING)
		rc = connected(c);
	if (!rc && (events & EPOLLOUT))
		write_some(c, epoll);
	if (!rc && (events & ~(u32)EPOLLOUT))
		rc = read_some(c);
	if (rc == 1 && c->sent < c->out.len)
		c->answer.http.keep_alive = false;
	return rc;
}
