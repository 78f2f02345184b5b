/* SPDX-License-Identifier: MIT */
/*
 * server.c - the server's thread: one loop over sockets and the engine's news
 *
 *	loading -> ready -> draining -> the feed ends -> stopped
 *
 * In a round of the loop: who has hung up; the tokens and jobs that the engine
 * has put; then MHD, which reads requests and writes what there is; then whose
 * request has not come in time. All calls into MHD come from here.
 *
 * A drain takes no new requests and gives those there are drain_s. Then they
 * are cancelled, which ends them within a step of the engine. When the last
 * one is back the feed is told to end, and whoever runs it stops the server.
 */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "runtime/server/server_priv.h"

#define BACKLOG	    1024
#define SEND_BYTES  (128 << 10) /* what the kernel keeps of an answer */
#define EVENTS	    64
#define DRAIN_MS    50
#define MOST_MS	    60000.0
#define LAST_WORD_S 2.0 /* for the answers of the last requests to be read */

static int bind_one(const struct addrinfo *a)
{
	const int on = 1, send_bytes = SEND_BYTES;
	int fd = socket(a->ai_family,
			a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
			a->ai_protocol);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* its connections have it from the listener */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
	if (bind(fd, a->ai_addr, a->ai_addrlen) || listen(fd, BACKLOG)) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static u32 port_of(int fd)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	char port[16] = "0";

	if (getsockname(fd, (struct sockaddr *)&sa, &len) ||
	    getnameinfo((struct sockaddr *)&sa, len, NULL, 0, port,
			sizeof(port), NI_NUMERICSERV | NI_NUMERICHOST))
		return 0;
	return (u32)strtoul(port, NULL, 10);
}

static int open_listener(struct server *sv, char *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_PASSIVE };
	struct addrinfo *list, *a;
	char port[16];
	int rc;

	snprintf(port, sizeof(port), "%u", sv->o->port);
	rc = getaddrinfo(sv->o->host, port, &hints, &list);
	if (rc)
		return err_set(err, -EINVAL, "--host %s: %s", sv->o->host,
			       gai_strerror(rc));
	rc = -EADDRNOTAVAIL;
	for (a = list; a && rc < 0; a = a->ai_next)
		rc = bind_one(a);
	freeaddrinfo(list);
	if (rc < 0)
		return err_set(err, rc, "%s port %u: %s", sv->o->host,
			       sv->o->port, strerror(-rc));
	sv->listen_fd = rc;
	sv->port = port_of(rc);
	return 0;
}

static int add_fd(struct server *sv, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return epoll_ctl(sv->ep, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

/* ---- the loop ---- */

static void take_news(struct server *sv)
{
	struct pile_link *batches, *jobs, *next;
	u32 i;

	feed_take(sv->feed, &batches, &jobs);
	for (; batches; batches = next) {
		struct feed_batch *b =
			container_of(batches, struct feed_batch, link);

		next = batches->next;
		for (i = 0; i < b->nr; i++)
			call_event(b, &b->ev[i]);
		feed_batch_free(b);
	}
	for (; jobs; jobs = next) {
		next = jobs->next;
		call_job_back(container_of(jobs, struct job, link));
	}
}

static void cancel_all(struct server *sv)
{
	struct call *c;

	for (c = sv->calls; c; c = c->next)
		call_cancel(c);
}

static void drain(struct server *sv)
{
	double now = clock_s();

	if (sv->fed)
		return;
	if (!sv->drain_end_s)
		sv->drain_end_s = now + sv->o->drain_s;
	if (now >= sv->drain_end_s || atomic_load(&sv->quit))
		cancel_all(sv);
	if (sv->calls)
		return;
	feed_end(sv->feed);
	sv->fed = true;
}

/*
 * Proxies and clients give up on a connection that is silent, and a request may
 * wait for memory, or a long prompt, for minutes.
 */
static void ping(struct server *sv)
{
	double now = clock_s();
	struct call *c;

	if (!sv->o->ping_s || !sv->nr_streams || now < sv->ping_look_s)
		return;
	sv->ping_look_s = now + sv->o->ping_s * 0.25;
	for (c = sv->calls; c; c = c->next)
		call_ping(c, now);
}

static int timeout_of(struct server *sv)
{
	MHD_UNSIGNED_LONG_LONG ms;
	double most = MOST_MS;

	if (atomic_load(&sv->state) == SERVER_DRAINING)
		most = DRAIN_MS;
	else if (sv->nr_streams && sv->o->ping_s)
		most = min(most, sv->o->ping_s * 250.0);
	if (sv->peers.look_s)
		most = min(most, (sv->peers.look_s - clock_s()) * 1e3 + 1.0);
	if (MHD_get_timeout(sv->daemon, &ms) == MHD_YES)
		most = min(most, (double)ms);
	return (int)max(most, 0.0);
}

static void one_round(struct server *sv)
{
	struct epoll_event ev[EVENTS];
	int i, n = epoll_wait(sv->ep, ev, EVENTS, timeout_of(sv));
	u64 nudges;

	for (i = 0; i < n; i++)
		if (ev[i].data.ptr)
			http_gone(sv, ev[i].data.ptr);
	if (read(sv->nudge, &nudges, sizeof(nudges)) < 0)
		nudges = 0;
	take_news(sv);
	ping(sv);
	if (atomic_load(&sv->state) == SERVER_DRAINING)
		drain(sv);
	MHD_run(sv->daemon);
	peers_expire(&sv->peers, clock_s());
}

static void *serve(void *arg)
{
	struct server *sv = arg;
	double end;

	while (!atomic_load(&sv->quit))
		one_round(sv);
	end = clock_s() + LAST_WORD_S;
	while (sv->nr_exchanges && clock_s() < end)
		one_round(sv);
	http_stop(sv);
	return NULL;
}

/* ---- what others call ---- */

static void nudge(struct server *sv)
{
	const u64 one = 1;

	if (write(sv->nudge, &one, sizeof(one)) < 0)
		return; /* it is full: the loop is awake */
}

static void free_server(struct server *sv)
{
	if (sv->daemon)
		http_stop(sv);
	if (sv->listen_fd >= 0)
		close(sv->listen_fd);
	if (sv->ep >= 0)
		close(sv->ep);
	if (sv->nudge >= 0)
		close(sv->nudge);
	free(sv->eog);
	free(sv);
}

int server_start(const struct server_opts *o, struct feed *f,
		 struct server **out, char *err)
{
	struct server *sv = calloc(1, sizeof(*sv));
	int rc;

	if (!sv)
		return err_set(err, -ENOMEM, "no memory");
	sv->o = o;
	sv->feed = f;
	sv->listen_fd = -1;
	sv->started = (s64)time(NULL);
	sv->ep = epoll_create1(EPOLL_CLOEXEC);
	sv->nudge = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = sv->ep < 0 || sv->nudge < 0 ? -errno : 0;
	if (!rc)
		rc = add_fd(sv, sv->nudge);
	if (!rc)
		rc = add_fd(sv, feed_fd(f));
	if (rc)
		err_set(err, rc, "epoll: %s", strerror(-rc));
	else
		rc = open_listener(sv, err);
	if (!rc)
		rc = http_start(sv, err);
	if (!rc) {
		rc = -pthread_create(&sv->thread, NULL, serve, sv);
		if (rc)
			err_set(err, rc, "a thread: %s", strerror(-rc));
	}
	if (rc) {
		free_server(sv);
		return rc;
	}
	*out = sv;
	return 0;
}

u32 server_port(const struct server *sv)
{
	return sv->port;
}

/* Tokens that end a text, and how long the longest one is. */
static int look_at_vocab(struct server *sv, const struct vocab *v)
{
	u32 id, nr = vocab_size(v);
	size_t len;

	sv->eog = malloc((nr + 1) * sizeof(*sv->eog));
	if (!sv->eog)
		return -ENOMEM;
	sv->longest_piece = 1;
	for (id = 0; id < nr; id++) {
		(void)vocab_piece(v, id, &len);
		sv->longest_piece = max(sv->longest_piece, len);
		if (vocab_is_eog(v, id))
			sv->eog[sv->nr_eog++] = id;
	}
	return 0;
}

int server_ready(struct server *sv, const struct server_model *m, char *err)
{
	int loading = SERVER_LOADING;

	sv->m = *m;
	if (look_at_vocab(sv, m->vocab))
		return err_set(err, -ENOMEM, "no memory");
	atomic_compare_exchange_strong(&sv->state, &loading, SERVER_READY);
	return 0;
}

void server_drain(struct server *sv)
{
	atomic_store(&sv->state, SERVER_DRAINING);
	nudge(sv);
}

void server_stop(struct server *sv)
{
	if (!sv)
		return;
	atomic_store(&sv->state, SERVER_DRAINING);
	atomic_store(&sv->quit, true);
	nudge(sv);
	pthread_join(sv->thread, NULL);
	free_server(sv);
}
