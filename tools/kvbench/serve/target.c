/* SPDX-License-Identifier: MIT */
/*
 * target.c - the server that is asked; single calls that are waited for
 */
#include "tools/kvbench/serve/target.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tools/kvbench/serve/http.h"

#define CALL_BODY_MAX (8u << 20)
#define CONNECT_S     5.0 /* until the next address of a name is tried */

/* HOST, [HOST], HOST:PORT or [HOST]:PORT. */
static int split(char *s, char **host, const char **port)
{
	char *end;

	*host = s;
	if (*s == '[') {
		*host = s + 1;
		end = strchr(s, ']');
		if (!end)
			return -EINVAL;
		*end++ = '\0';
	} else {
		end = s + strcspn(s, ":");
	}
	*port = "80";
	if (*end == ':') {
		*end = '\0';
		*port = end + 1;
	} else if (*end) {
		return -EINVAL;
	}
	return **host && **port ? 0 : -EINVAL;
}

static void take_address(struct target *t, const struct addrinfo *a)
{
	memcpy(&t->addr, a->ai_addr, a->ai_addrlen);
	t->addr_len = a->ai_addrlen;
}

static bool can_connect(const struct target *t)
{
	struct pollfd p = { .fd = target_connect(t), .events = POLLOUT };
	socklen_t len = sizeof(int);
	int e = 1;

	if (p.fd < 0)
		return false;
	if (poll(&p, 1, (int)(CONNECT_S * 1000)) == 1 &&
	    getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &e, &len))
		e = 1;
	close(p.fd);
	return !e;
}

/* Of several addresses, the first one where somebody listens. */
static void choose_address(struct target *t, const struct addrinfo *list)
{
	const struct addrinfo *a;

	for (a = list; a && list->ai_next; a = a->ai_next) {
		take_address(t, a);
		if (can_connect(t))
			return;
	}
	take_address(t, list);
}

static int look_up(const char *host, const char *port, struct target *t,
		   char *err)
{
	struct addrinfo hint = { .ai_socktype = SOCK_STREAM }, *list;
	int rc = getaddrinfo(host, port, &hint, &list);

	if (rc) {
		snprintf(err, 256, "%.120s port %.20s: %s", host, port,
			 gai_strerror(rc));
		return -EHOSTUNREACH;
	}
	choose_address(t, list);
	freeaddrinfo(list);
	return 0;
}

int target_parse(const char *url, struct target *t, char *err)
{
	char *host, name[256];
	const char *port, *path;
	size_t n;

	memset(t, 0, sizeof(*t));
	snprintf(err, 256, "\"%.180s\" is no http://HOST[:PORT][/PATH]", url);
	if (strncmp(url, "http://", 7))
		return -EINVAL;
	url += 7;
	path = url + strcspn(url, "/");
	n = (size_t)(path - url);
	if (!n || n >= sizeof(name) || strlen(path) >= sizeof(t->base))
		return -EINVAL;
	memcpy(name, url, n);
	name[n] = '\0';
	snprintf(t->host, sizeof(t->host), "%s", name);
	snprintf(t->base, sizeof(t->base), "%s", path);
	n = strlen(t->base);
	while (n && t->base[n - 1] == '/')
		t->base[--n] = '\0';
	if (n >= 3 && !strcmp(t->base + n - 3, "/v1"))
		t->base[n - 3] = '\0';
	if (split(name, &host, &port))
		return -EINVAL;
	return look_up(host, port, t, err);
}

int target_connect(const struct target *t)
{
	int fd, one = 1, rc;

	fd = socket(t->addr.ss_family,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (!connect(fd, (const struct sockaddr *)&t->addr, t->addr_len) ||
	    errno == EINPROGRESS)
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* ---- single calls ---- */

struct call {
	int fd;
	double end;
	struct http http;
	struct strbuf body;
};

static int wait_for(const struct call *c, short events)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	double left = c->end - clock_s();
	int n;

	if (left <= 0)
		return -ETIMEDOUT;
	n = poll(&p, 1, (int)(left * 1000) + 1);
	return n > 0 ? 0 : n ? -errno : -ETIMEDOUT;
}

static int call_send(struct call *c, const struct strbuf *out)
{
	int e = 0, rc = wait_for(c, POLLOUT);
	socklen_t len = sizeof(e);
	size_t at = 0;
	ssize_t n;

	if (!rc && !getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &len) && e)
		return -e;
	while (!rc && at < out->len) {
		n = send(c->fd, out->p + at, out->len - at, MSG_NOSIGNAL);
		if (n >= 0)
			at += (size_t)n;
		else if (errno == EAGAIN)
			rc = wait_for(c, POLLOUT);
		else
			rc = -errno;
	}
	return rc;
}

static int call_body(void *arg, const char *p, size_t len)
{
	struct call *c = arg;

	if (c->body.len + len > CALL_BODY_MAX)
		return -E2BIG;
	strbuf_add(&c->body, p, len);
	return 0;
}

static int call_receive(struct call *c)
{
	char buf[2048];
	size_t used;
	ssize_t n;
	int rc = 0;

	http_init(&c->http, call_body, c);
	while (!rc) {
		n = recv(c->fd, buf, sizeof(buf), 0);
		if (n > 0)
			rc = http_parse(&c->http, buf, (size_t)n, &used);
		else if (!n)
			rc = http_eof(&c->http);
		else if (errno == EAGAIN)
			rc = wait_for(c, POLLIN);
		else
			rc = -errno;
	}
	return rc < 0 ? rc : 0;
}

static int render_get(const struct render *r, const char *path,
		      struct strbuf *out)
{
	strbuf_printf(out, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path,
		      r->host, r->headers);
	return out->failed ? -ENOMEM : 0;
}

int target_call(const struct target *t, const struct render *r,
		const char *path, const struct strbuf *body, double seconds,
		int *status, json_t **out, char *err)
{
	struct call *c = calloc(1, sizeof(*c));
	struct strbuf head = { 0 };
	char full[512];
	int rc;

	*out = NULL;
	if (!c)
		return -ENOMEM;
	c->end = clock_s() + seconds;
	snprintf(full, sizeof(full), "%s%s", t->base, path);
	rc = body ? render_post(r, full, body, &head)
		  : render_get(r, full, &head);
	if (rc)
		goto out_free;
	c->fd = target_connect(t);
	rc = c->fd < 0 ? c->fd : 0;
	if (rc)
		goto out_free;
	rc = call_send(c, &head);
	if (!rc)
		rc = call_receive(c);
	close(c->fd);
	*status = c->http.status;
	if (!rc && c->body.len)
		*out = json_loadb(c->body.p, c->body.len, JSON_ALLOW_NUL, NULL);
out_free:
	if (rc)
		snprintf(err, 256, "http://%.100s%.80s: %s", t->host, full,
			 rc == -EPROTO ? c->http.why : strerror(-rc));
	strbuf_free(&c->body);
	strbuf_free(&head);
	free(c);
	return rc;
}
