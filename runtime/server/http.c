/* SPDX-License-Identifier: MIT */
/*
 * http.c - libmicrohttpd, driven by the server's loop
 *
 * MHD calls on_request() for the headers, for each piece of a body and for its
 * end. An answer that takes time suspends the connection, and call_has_news()
 * resumes it:
 *
 *	whole	suspended until the call has ended, then on_request() once more
 *	stream	the reader suspends it whenever it has sent all there is
 *
 * MHD does not look at a suspended connection, and it does not see the end of
 * one that comes together with bytes. So each socket is in the loop's own set
 * too, where a client who hangs up is noticed while his request is half sent,
 * waits, computes or is in swap. One who has closed his sending side counts as
 * gone.
 *
 * How long a request may take to be sent is peers.c's; IDLE_S is what is left
 * of it for an answer that nobody reads.
 *
 * What nobody reads piles up in the call. Over a bound it is ended: the engine
 * does not wait for a socket.
 *
 * A body that will be refused is read to its end all the same, and dropped:
 * closing a socket with unread bytes in it would take the answer away from the
 * client. One that is much too long is not.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "runtime/server/server_priv.h"

#define IDLE_S		 120u /* a connection on which nothing moves */
#define DEAD_S		 1u /* one whose client has gone */
#define CONNECTIONS_MAX	 16384u
#define FDS_LEFT	 64u /* for everything else */
#define ROOM_SHARE	 8u /* of all connections one in so many is kept free */
#define BLOCK_BYTES	 (16u << 10)
#define DROP_FACTOR	 8 /* times the limit of bodies that are read */
#define BODIES_FACTOR	 32 /* likewise: of all that are being read */
#define REQUEST_ID_BYTES 128
#define READ_AWAY_BYTES	 (64u << 10) /* of what follows a bad length */

struct exchange {
	struct server *sv;
	struct MHD_Connection *conn;
	struct peer *peer; /* of conn */
	const struct route *route; /* NULL: there is none */
	const char *url; /* MHD's */
	struct strbuf body;
	u64 seen; /* bytes of it, kept or not */
	bool closes; /* where the next request begins is not known */
	struct api_error error; /* the answer, once the body is read */
	struct call *call; /* or NULL */
};

struct server *http_server(struct exchange *x)
{
	return x->sv;
}

const char *http_name(const struct exchange *x)
{
	return x->url + strcspn(x->route->path, "{");
}

u32 http_connections(const struct server *sv)
{
	const union MHD_DaemonInfo *i = MHD_get_daemon_info(
		sv->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);

	return i ? i->num_connections : 0;
}

/* ---- answers ---- */

static const char *header(const struct exchange *x, const char *name)
{
	return MHD_lookup_connection_value(x->conn, MHD_HEADER_KIND, name);
}

static int queue(struct exchange *x, int status, struct MHD_Response *r)
{
	const char *id = header(x, "X-Request-Id");
	enum MHD_Result rc;

	if (!r)
		return MHD_NO;
	if (id && strlen(id) < REQUEST_ID_BYTES)
		MHD_add_response_header(r, "X-Request-Id", id);
	if (x->closes || atomic_load(&x->sv->state) == SERVER_DRAINING)
		MHD_add_response_header(r, "Connection", "close");
	if (x->route)
		x->sv->metrics.http[x->route - routes][status / 100]++;
	rc = MHD_queue_response(x->conn, (unsigned int)status, r);
	MHD_destroy_response(r);
	return (int)rc;
}

/* MHD frees the text. */
static struct MHD_Response *response_of(struct strbuf *b, const char *type)
{
	struct MHD_Response *r;

	if (b->failed || !b->p) {
		strbuf_free(b);
		return NULL;
	}
	r = MHD_create_response_from_buffer(b->len, b->p,
					    MHD_RESPMEM_MUST_FREE);
	if (r)
		MHD_add_response_header(r, "Content-Type", type);
	else
		free(b->p);
	*b = (struct strbuf){ 0 };
	return r;
}

int http_text(struct exchange *x, const char *type, struct strbuf *b)
{
	return queue(x, 200, response_of(b, type));
}

int http_json(struct exchange *x, int status, struct strbuf *b)
{
	return queue(x, status, response_of(b, "application/json"));
}

int http_refuse(struct exchange *x, const struct api_error *e)
{
	struct strbuf b = { 0 };
	struct MHD_Response *r;

	api_error_put(&b, e);
	r = response_of(&b, "application/json");
	if (!r)
		return MHD_NO;
	if (e->status == 429 || e->status == 503)
		MHD_add_response_header(r, "Retry-After", "1");
	if (e->status == 401)
		MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
	if (e->status == 405 && x->route)
		MHD_add_response_header(r, "Allow", x->route->method);
	return queue(x, e->status, r);
}

static void drop_body(struct exchange *x)
{
	x->sv->body_bytes -= x->body.len;
	strbuf_free(&x->body);
}

json_t *http_body(struct exchange *x)
{
	json_error_t why;
	struct api_error e = { 0 };
	json_t *v = json_loadb(x->body.p ? x->body.p : "", x->body.len,
			       JSON_ALLOW_NUL, &why);

	drop_body(x);
	if (v)
		return v;
	(void)api_refuse(&e, 400, NULL, "the body is no JSON: %s (line %d)",
			 why.text, why.line);
	(void)http_refuse(x, &e);
	return NULL;
}

/* ---- answers of calls ---- */

static void suspend(struct call *c)
{
	c->suspended = true;
	MHD_suspend_connection(c->conn);
}

static void resume(struct call *c)
{
	if (!c->conn || !c->suspended)
		return;
	c->suspended = false;
	MHD_resume_connection(c->conn);
}

/*
 * A connection whose reader fails right after it was resumed is in none of
 * MHD's sets any more. Only its walk over timeouts still finds it, and that one
 * ends at the first connection that is in time; those that have a timeout of
 * their own are looked at in each run.
 */
void http_dead(struct call *c)
{
	if (c->dead)
		return;
	c->dead = true;
	call_abandon(c);
	(void)MHD_set_connection_option(c->conn, MHD_CONNECTION_OPTION_TIMEOUT,
					DEAD_S);
	(void)shutdown(c->peer->fd, SHUT_RDWR);
	resume(c);
}

void http_gone(struct server *sv, struct peer *p)
{
	peers_gone(&sv->peers, p, clock_s());
	if (p->owner)
		http_dead(p->owner);
}

void call_has_news(struct call *c)
{
	if (!c->conn)
		return;
	if (c->g.stream &&
	    c->out.len - c->sent > c->sv->o->max_unread + c->grace) {
		c->sv->metrics.slow += !c->dead;
		http_dead(c);
	}
	if (c->g.stream || c->ended)
		resume(c);
}

static void note_emitted(struct call *c)
{
	if (c->made_s)
		hist_observe(&c->sv->metrics, HIST_EMIT, clock_s() - c->made_s);
	c->made_s = 0.0;
}

/* What has been sent does not pile up behind one who is always a bit late. */
static void drop_sent(struct call *c)
{
	struct strbuf *b = &c->out;

	if (c->sent < b->len && c->sent < BLOCK_BYTES)
		return;
	b->len -= c->sent;
	memmove(b->p, b->p + c->sent, b->len);
	c->sent = 0;
}

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t room)
{
	struct call *c = cls;
	size_t n = min(room, c->out.len - c->sent);

	if (c->dead)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (n) {
		memcpy(buf, c->out.p + c->sent, n);
		c->sent += n;
		c->grace = min(c->grace, c->out.len - c->sent);
		note_emitted(c);
		drop_sent(c);
		return (ssize_t)n;
	}
	if (c->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	suspend(c);
	return 0;
}

static int begin_stream(struct exchange *x, struct call *c)
{
	struct MHD_Response *r = MHD_create_response_from_callback(
		MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_stream, c, NULL);

	if (r) {
		MHD_add_response_header(r, "Content-Type",
					"text/event-stream; charset=utf-8");
		MHD_add_response_header(r, "Cache-Control", "no-cache");
		MHD_add_response_header(r, "X-Accel-Buffering", "no");
	}
	return queue(x, 200, r);
}

int http_call(struct exchange *x, struct call *c)
{
	int rc = MHD_YES;

	x->call = c;
	c->conn = x->conn;
	c->peer = x->peer;
	c->peer->owner = c;
	call_submit(c);
	if (c->g.stream)
		rc = begin_stream(x, c);
	else
		suspend(c);
	if (c->peer->gone)
		http_dead(c);
	return rc;
}

/* A call that is not streamed has ended, or nobody wants it any more. */
static int answer_call(struct exchange *x)
{
	struct call *c = x->call;

	if (c->dead || !c->ended)
		return MHD_NO;
	note_emitted(c);
	return c->error.status ? http_refuse(x, &c->error)
			       : http_json(x, 200, &c->out);
}

/* ---- requests ---- */

static bool is_path(const struct route *r, const char *url)
{
	size_t n = strcspn(r->path, "{");

	return r->path[n] ? !strncmp(r->path, url, n) && url[n]
			  : !strcmp(r->path, url);
}

static const struct route *find_route(const char *url)
{
	u32 i;

	for (i = 0; i < nr_routes; i++)
		if (is_path(&routes[i], url))
			return &routes[i];
	return NULL;
}

/* Takes as long whatever the key is. */
static bool is_key(const char *key, const char *given)
{
	size_t n = strlen(key), m = strlen(given), i;
	u8 other = n != m;

	for (i = 0; i < m; i++)
		other |= (u8)(given[i] ^ key[i % (n ? n : 1)]);
	return !other;
}

static bool has_key(const struct exchange *x)
{
	const char *key = x->sv->o->api_key;
	const char *auth = header(x, "Authorization");

	if (!key)
		return true;
	return auth && !strncasecmp(auth, "Bearer ", 7) &&
	       is_key(key, auth + 7);
}

static bool is_method(const struct route *r, const char *method)
{
	return !strcmp(r->method, method) ||
	       (!strcmp(method, "HEAD") && !strcmp(r->method, "GET"));
}

/* Can it be computed now? */
static void look_at_state(struct exchange *x)
{
	int state = atomic_load(&x->sv->state);

	if (x->route->loads || state == SERVER_READY)
		return;
	(void)api_refuse(&x->error, 503, NULL,
			 state == SERVER_LOADING ? "the model is being loaded"
						 : "the server is ending");
}

struct framing {
	u32 nr; /* headers that say where the body ends */
	bool unknown; /* one of them in a way that is not known here */
};

static enum MHD_Result count_framing(void *cls, enum MHD_ValueKind kind,
				     const char *key, const char *value)
{
	struct framing *f = cls;
	bool coded = !strcasecmp(key, "Transfer-Encoding");

	f->nr += coded || !strcasecmp(key, "Content-Length");
	f->unknown |= coded && (!value || strcasecmp(value, "chunked"));
	return MHD_YES;
}

/* Whoever is between the client and here may take another end for the body's.
 */
static bool is_framed(struct exchange *x)
{
	struct framing f = { 0 };

	MHD_get_connection_values(x->conn, MHD_HEADER_KIND, count_framing, &f);
	x->closes = f.nr > 1 || f.unknown;
	if (f.nr > 1)
		(void)api_refuse(&x->error, 400, NULL,
				 "more than one header says how long the body "
				 "is");
	else if (f.unknown)
		(void)api_refuse(&x->error, 501, NULL,
				 "of transfer codings only 'chunked' is known "
				 "here");
	return !x->closes;
}

/* What is wrong with it before its body is known. */
static void look_at_head(struct exchange *x, const char *url,
			 const char *method)
{
	const struct route *r = x->route = find_route(url);
	struct api_error *e = &x->error;

	if (!is_framed(x)) {
		return;
	} else if (!(r && r->open) && !has_key(x)) {
		(void)api_refuse(e, 401, NULL,
				 "the key in the Authorization header is not "
				 "the right one");
		e->code = "invalid_api_key";
	} else if (!r) {
		(void)api_refuse(e, 404, NULL, "there is nothing at %.200s",
				 url);
	} else if (!is_method(r, method)) {
		(void)api_refuse(e, 405, NULL, "%s takes %s, not %.16s",
				 r->path, r->method, method);
	} else {
		look_at_state(x);
	}
}

static void too_large(struct exchange *x)
{
	(void)api_refuse(&x->error, 413, NULL,
			 "the body has more than %llu bytes",
			 (unsigned long long)x->sv->o->max_body);
	drop_body(x);
}

/* Refused before it is sent: it is too long to be read, or may be held back. */
static bool refuse_early(struct exchange *x)
{
	const char *length = header(x, "Content-Length");
	unsigned long long n = length ? strtoull(length, NULL, 10) : 0;

	if (n > x->sv->o->max_body && !x->error.status)
		too_large(x);
	return x->error.status && n &&
	       (n > DROP_FACTOR * x->sv->o->max_body || header(x, "Expect"));
}

static void keep(struct exchange *x, const char *data, size_t len)
{
	struct server *sv = x->sv;
	size_t before = x->body.len;

	if (sv->body_bytes + len > BODIES_FACTOR * sv->o->max_body) {
		(void)api_refuse(&x->error, 503, NULL,
				 "too many bodies are being read");
		drop_body(x);
		return;
	}
	strbuf_add(&x->body, data, len);
	sv->body_bytes += x->body.len - before;
}

static int take_body(struct exchange *x, const char *data, size_t len)
{
	x->seen += len;
	peers_bytes(x->peer, len, clock_s());
	if (x->seen > x->sv->o->max_body) {
		if (!x->error.status)
			too_large(x);
		if (x->seen > DROP_FACTOR * x->sv->o->max_body)
			return MHD_NO;
	}
	if (!x->error.status)
		keep(x, data, len);
	return MHD_YES;
}

static int on_end(struct exchange *x)
{
	if (x->call)
		return answer_call(x);
	peers_busy(&x->sv->peers, x->peer);
	if (x->body.failed)
		(void)api_refuse(&x->error, 500, NULL,
				 "no memory for the body");
	if (!x->error.status)
		look_at_state(x); /* the body took its time */
	if (x->error.status)
		return http_refuse(x, &x->error);
	return x->route->fn(x);
}

/* The head is there. */
static int on_head(struct exchange *x, const char *url, const char *method)
{
	look_at_head(x, url, method);
	if (!x->closes && !refuse_early(x)) {
		peers_body(&x->sv->peers, x->peer, clock_s());
		return MHD_YES;
	}
	peers_busy(&x->sv->peers, x->peer);
	return http_refuse(x, &x->error);
}

static struct peer *peer_of(struct MHD_Connection *conn)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(
		conn, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return i ? i->socket_context : NULL;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn,
				  const char *url, const char *method,
				  const char *version, const char *data,
				  size_t *len, void **ctx)
{
	struct exchange *x = *ctx;
	int rc;

	if (!x) {
		struct peer *p = peer_of(conn);

		x = p ? calloc(1, sizeof(*x)) : NULL;
		if (!x)
			return MHD_NO;
		x->sv = cls;
		x->conn = conn;
		x->peer = p;
		p->heard = NULL;
		x->sv->nr_exchanges++;
		*ctx = x;
		return (enum MHD_Result)on_head(x, url, method);
	}
	x->url = url;
	if (*len) {
		rc = take_body(x, data, *len);
		*len = 0;
		return (enum MHD_Result)rc;
	}
	return (enum MHD_Result)on_end(x);
}

static void on_completed(void *cls, struct MHD_Connection *conn, void **ctx,
			 enum MHD_RequestTerminationCode how)
{
	struct exchange *x = *ctx;
	struct peer *p = peer_of(conn);

	if (p)
		p->heard = NULL; /* its headers go */
	if (!x)
		return;
	x->peer->owner = NULL;
	if (x->call) {
		x->call->peer = NULL;
		call_leave(x->call);
	}
	peers_idle(&x->sv->peers, x->peer, clock_s());
	x->sv->nr_exchanges--;
	drop_body(x);
	free(x);
	*ctx = NULL;
}

static struct peer *new_peer(struct server *sv, int fd)
{
	struct peer *p = calloc(1, sizeof(*p));
	struct epoll_event ev = { .events = EPOLLRDHUP | EPOLLET,
				  .data.ptr = p };

	if (!p) {
		(void)shutdown(fd, SHUT_RDWR);
		return NULL;
	}
	peers_add(&sv->peers, p, fd, clock_s());
	/* without it who hangs up is noticed when something is sent */
	(void)epoll_ctl(sv->ep, EPOLL_CTL_ADD, fd, &ev);
	return p;
}

static void on_connection(void *cls, struct MHD_Connection *conn, void **ctx,
			  enum MHD_ConnectionNotificationCode what)
{
	struct server *sv = cls;
	struct peer *p = *ctx;

	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *i = MHD_get_connection_info(
			conn, MHD_CONNECTION_INFO_CONNECTION_FD);

		*ctx = i ? new_peer(sv, i->connect_fd) : NULL;
		return;
	}
	if (!p)
		return;
	(void)epoll_ctl(sv->ep, EPOLL_CTL_DEL, p->fd, NULL);
	peers_remove(&sv->peers, p);
	free(p);
	*ctx = NULL;
}

/* ---- lengths that are none ---- */

/* The first line of a request; its headers are to come, then on_request(). */
static void *on_line(void *cls, const char *url, struct MHD_Connection *conn)
{
	struct peer *p = peer_of(conn);

	(void)cls;
	(void)url;
	if (p)
		p->heard = conn;
	return NULL; /* what *ctx is at first */
}

/* The status that a Content-Length earns before anything else; 0: none. */
static int bad_length(struct MHD_Connection *conn)
{
	const char *v;
	size_t len;

	if (MHD_lookup_connection_value(conn, MHD_HEADER_KIND,
					"Transfer-Encoding") ||
	    !MHD_lookup_connection_value_n(conn, MHD_HEADER_KIND,
					   "Content-Length",
					   strlen("Content-Length"), &v, &len))
		return 0;
	if (!len || !v || strspn(v, "0123456789") != len)
		return 400;
	errno = 0;
	return strtoull(v, NULL, 10) == ULLONG_MAX && errno ? 413 : 0;
}

static void put_answer(struct strbuf *b, const struct api_error *e)
{
	struct strbuf body = { 0 };

	api_error_put(&body, e);
	strbuf_printf(b,
		      "HTTP/1.1 %d %s\r\n"
		      "Content-Type: application/json\r\n"
		      "Content-Length: %zu\r\n"
		      "Connection: close\r\n\r\n",
		      e->status,
		      e->status == 413 ? "Content Too Large" : "Bad Request",
		      body.len);
	strbuf_add(b, body.p ? body.p : "", body.len);
	b->failed |= body.failed;
	strbuf_free(&body);
}

/* Unread bytes would take the answer away from the client. */
static void read_away(int fd)
{
	char away[1024];
	u32 left = READ_AWAY_BYTES / sizeof(away);

	while (left && recv(fd, away, sizeof(away), MSG_DONTWAIT) > 0)
		left--;
}

/* MHD's own answer has nowhere to go after this; it closes the connection. */
static void refuse_length(const struct peer *p, int status)
{
	struct api_error e = { 0 };
	struct strbuf b = { 0 };

	(void)api_refuse(&e, status, NULL,
			 status == 413 ? "the Content-Length is too large"
				       : "the Content-Length is no number");
	put_answer(&b, &e);
	if (!b.failed &&
	    send(p->fd, b.p, b.len, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		read_away(p->fd);
	(void)shutdown(p->fd, SHUT_WR);
	strbuf_free(&b);
}

/*
 * MHD refuses a Content-Length that is no number without asking anybody, and
 * 0.9.75 sends the head of its answer twice: it takes the request for one that
 * is still to be answered. All it does before is to log why. So what it logs is
 * only looked at for that: whose head comes with such a length gets our answer,
 * and MHD finds the socket shut. It does not say which one it is at, but each
 * that is found is one.
 */
static void __attribute__((format(printf, 2, 0)))
on_log(void *cls, const char *fmt, va_list ap)
{
	struct server *sv = cls;
	struct peer *p, *next;
	int status;

	(void)ap;
	if (!strstr(fmt, "Content-Length"))
		return;
	for (p = sv->peers.first; p; p = next) {
		next = p->next;
		status = p->heard ? bad_length(p->heard) : 0;
		if (!status)
			continue;
		p->heard = NULL; /* the end of its head may be still to come */
		refuse_length(p, status);
		http_gone(sv, p);
	}
}

/* ---- the daemon ---- */

/* As many as descriptors allow. */
static unsigned int connection_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return 256;
	if (l.rlim_cur < l.rlim_max) {
		l.rlim_cur =
			min(l.rlim_max, (rlim_t)(CONNECTIONS_MAX + FDS_LEFT));
		if (setrlimit(RLIMIT_NOFILE, &l) ||
		    getrlimit(RLIMIT_NOFILE, &l))
			return 256;
	}
	return (unsigned int)min(max(l.rlim_cur, (rlim_t)(2 * FDS_LEFT)) -
					 FDS_LEFT,
				 (rlim_t)CONNECTIONS_MAX);
}

int http_start(struct server *sv, char *err)
{
	struct epoll_event ev = { .events = EPOLLIN };
	const union MHD_DaemonInfo *i;
	unsigned int limit = connection_limit();

	sv->peers.room = limit - limit / ROOM_SHARE;
	sv->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0,
		NULL, NULL, on_request, sv, MHD_OPTION_EXTERNAL_LOGGER, on_log,
		sv, MHD_OPTION_URI_LOG_CALLBACK, on_line, sv,
		MHD_OPTION_LISTEN_SOCKET, sv->listen_fd,
		MHD_OPTION_NOTIFY_COMPLETED, on_completed, sv,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, sv,
		MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
		MHD_OPTION_CONNECTION_LIMIT, limit, MHD_OPTION_END);
	if (!sv->daemon)
		return err_set(err, -ENOMEM, "libmicrohttpd does not start");
	sv->listen_fd = -1; /* the daemon's now */
	i = MHD_get_daemon_info(sv->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!i || epoll_ctl(sv->ep, EPOLL_CTL_ADD, i->epoll_fd, &ev))
		return err_set(err, -EIO, "libmicrohttpd has no epoll");
	return 0;
}

void http_stop(struct server *sv)
{
	struct call *c;

	for (c = sv->calls; c; c = c->next)
		resume(c); /* MHD wants none suspended */
	if (sv->daemon)
		MHD_stop_daemon(sv->daemon);
	sv->daemon = NULL;
}
