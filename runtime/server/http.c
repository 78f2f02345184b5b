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
 * MHD does not look at a suspended connection; its socket is in the loop's own
 * set meanwhile, so that a client who hangs up is noticed while his request
 * waits, computes or is in swap. One who has closed his sending side counts as
 * gone.
 *
 * What nobody reads piles up in the call. Over a bound it is ended: the engine
 * does not wait for a socket.
 *
 * A body that will be refused is read to its end all the same, and dropped:
 * closing a socket with unread bytes in it would take the answer away from the
 * client. One that is much too long is not.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "runtime/server/server_priv.h"

#define IDLE_S		 120u /* a connection without a request */
#define DEAD_S		 1u /* one whose client has gone */
#define CONNECTIONS_MAX	 16384u
#define FDS_LEFT	 64u /* for everything else */
#define BLOCK_BYTES	 (16u << 10)
#define DROP_FACTOR	 8 /* times the limit of bodies that are read */
#define REQUEST_ID_BYTES 128

struct exchange {
	struct server *sv;
	struct MHD_Connection *conn;
	const struct route *route; /* NULL: there is none */
	const char *url; /* MHD's */
	struct strbuf body;
	u64 seen; /* bytes of it, kept or not */
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
	if (atomic_load(&x->sv->state) == SERVER_DRAINING)
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

json_t *http_body(struct exchange *x)
{
	json_error_t why;
	struct api_error e = { 0 };
	json_t *v = json_loadb(x->body.p ? x->body.p : "", x->body.len,
			       JSON_ALLOW_NUL, &why);

	strbuf_free(&x->body);
	if (v)
		return v;
	(void)api_refuse(&e, 400, NULL, "the body is no JSON: %s (line %d)",
			 why.text, why.line);
	(void)http_refuse(x, &e);
	return NULL;
}

/* ---- answers of calls ---- */

static void watch(struct call *c)
{
	struct epoll_event ev = { .events = EPOLLRDHUP | EPOLLET,
				  .data.ptr = c };
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(
		c->conn, MHD_CONNECTION_INFO_CONNECTION_FD);

	c->fd = i ? i->connect_fd : -1;
	if (c->fd >= 0 && epoll_ctl(c->sv->ep, EPOLL_CTL_ADD, c->fd, &ev))
		c->fd = -1; /* then it is noticed when something is sent */
}

static void unwatch(struct call *c)
{
	if (c->fd >= 0)
		(void)epoll_ctl(c->sv->ep, EPOLL_CTL_DEL, c->fd, NULL);
	c->fd = -1;
}

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
	call_cancel(c);
	(void)MHD_set_connection_option(c->conn, MHD_CONNECTION_OPTION_TIMEOUT,
					DEAD_S);
	if (c->fd >= 0)
		(void)shutdown(c->fd, SHUT_RDWR);
	resume(c);
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
	x->call = c;
	c->conn = x->conn;
	watch(c);
	call_submit(c);
	if (c->g.stream)
		return begin_stream(x, c);
	suspend(c);
	return MHD_YES;
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

/* What is wrong with it before its body is known. */
static void look_at_head(struct exchange *x, const char *url,
			 const char *method)
{
	const struct route *r = x->route = find_route(url);
	struct api_error *e = &x->error;

	if (!(r && r->open) && !has_key(x)) {
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
	strbuf_free(&x->body);
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

static int take_body(struct exchange *x, const char *data, size_t len)
{
	x->seen += len;
	if (x->seen > x->sv->o->max_body) {
		if (!x->error.status)
			too_large(x);
		if (x->seen > DROP_FACTOR * x->sv->o->max_body)
			return MHD_NO;
	}
	if (!x->error.status)
		strbuf_add(&x->body, data, len);
	return MHD_YES;
}

static int on_end(struct exchange *x)
{
	if (x->call)
		return answer_call(x);
	if (x->body.failed)
		(void)api_refuse(&x->error, 500, NULL,
				 "no memory for the body");
	if (!x->error.status)
		look_at_state(x); /* the body took its time */
	if (x->error.status)
		return http_refuse(x, &x->error);
	return x->route->fn(x);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *conn,
				  const char *url, const char *method,
				  const char *version, const char *data,
				  size_t *len, void **ctx)
{
	struct exchange *x = *ctx;
	int rc;

	if (!x) {
		x = calloc(1, sizeof(*x));
		if (!x)
			return MHD_NO;
		x->sv = cls;
		x->conn = conn;
		x->sv->nr_exchanges++;
		*ctx = x;
		look_at_head(x, url, method);
		if (refuse_early(x))
			return (enum MHD_Result)http_refuse(x, &x->error);
		return MHD_YES;
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

	if (!x)
		return;
	if (x->call) {
		unwatch(x->call);
		call_leave(x->call);
	}
	x->sv->nr_exchanges--;
	strbuf_free(&x->body);
	free(x);
	*ctx = NULL;
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

	sv->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME,
				      0, NULL, NULL, on_request, sv,
				      MHD_OPTION_LISTEN_SOCKET, sv->listen_fd,
				      MHD_OPTION_NOTIFY_COMPLETED, on_completed,
				      sv, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_S,
				      MHD_OPTION_CONNECTION_LIMIT,
				      connection_limit(), MHD_OPTION_END);
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
