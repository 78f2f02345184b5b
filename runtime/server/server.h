/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_SERVER_H
#define RUNTIME_SERVER_SERVER_H
/*
 * server.h - an HTTP server in OpenAI's dialect, for one engine
 *
 *	server_start()		listens; /health says that it is loading
 *	server_ready()		requests are taken
 *	feed_run()		this thread is the engine's until the end
 *	server_stop()		joins the other one
 *
 * The server is one thread with one loop. It ends the feed when it has been
 * told to drain and its last request is done.
 */
#include "kv/errbuf.h"
#include "kv/types.h"

struct chat_template;
struct feed;
struct kv;
struct server;
struct vocab;

struct server_opts {
	const char *host;
	u32 port; /* 0: any */
	const char *api_key; /* NULL: none is asked for */
	const char *name; /* of the model */
	const char *root; /* what the model was made from */
	u32 max_queue; /* sequences that may wait; more are refused */
	u32 max_seqs; /* that may run */
	u64 max_body; /* bytes */
	u64 max_unread; /* bytes of a stream that nobody reads */
	double drain_s; /* how long running requests may take at the end */
	u32 ping_s; /* a stream that says nothing for so long does; 0: never */
};

/* What is known once the model is loaded; outlives the server. */
struct server_model {
	const struct vocab *vocab;
	const struct chat_template *tmpl; /* NULL: it has none */
	u32 context;
	struct kv *kv; /* NULL: no kvmd */
	u32 max_fan; /* samples of a request */
	u32 page_tokens;
};

/**
 * server_start - listen, in a thread of its own
 * @o: outlives the server
 * @out: on success only; server_stop() it
 * @err: KV_ERRLEN bytes
 */
int __attribute__((warn_unused_result))
server_start(const struct server_opts *o, struct feed *f, struct server **out,
	     char *err);
u32 server_port(const struct server *sv);
int __attribute__((warn_unused_result))
server_ready(struct server *sv, const struct server_model *m, char *err);
/*
 * No more requests; the feed ends when those there are have been answered, or
 * the time is over. A signal handler may call it.
 */
void server_drain(struct server *sv);
/* The end, in order: what is left is cancelled. NULL is fine. */
void server_stop(struct server *sv);

#endif
