/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_SERVER_PRIV_H
#define RUNTIME_SERVER_SERVER_PRIV_H
/*
 * server_priv.h - the server's state, shared by server.c, http.c, routes.c,
 *	call.c, prompt.c and reply.c
 *
 * All of it is the server thread's, but for state and the eventfd.
 */
#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "runtime/model/vocab.h"
#include "runtime/server/api_error.h"
#include "runtime/server/feed.h"
#include "runtime/server/metrics.h"
#include "runtime/server/params.h"
#include "runtime/server/peers.h"
#include "runtime/server/server.h"
#include "runtime/server/strbuf.h"

enum server_state { SERVER_LOADING, SERVER_READY, SERVER_DRAINING };

struct call;

struct server {
	const struct server_opts *o;
	struct feed *feed;
	pthread_t thread;
	_Atomic int state;
	_Atomic bool quit;
	int nudge; /* eventfd: look at state and quit */
	int listen_fd, ep;
	u32 port;
	struct MHD_Daemon *daemon;

	/* set before it is ready */
	struct server_model m;
	u32 *eog; /* [nr_eog] */
	u32 nr_eog;
	size_t longest_piece;
	s64 started; /* unix time */

	struct metrics metrics;
	struct peers peers;
	u64 body_bytes; /* of bodies that are being read */
	struct call *calls; /* those whose jobs are not all back */
	u32 nr_seqs; /* of those that have room */
	u32 nr_left; /* of the roomless */
	u32 nr_streams;
	u64 next_id;
	u32 nr_exchanges;
	bool fed; /* the feed has been told to end */
	double drain_end_s; /* 0: not draining */
	double ping_look_s; /* streams are looked at again then */
};

/* ---- call.c: one request for text ---- */

struct lps {
	struct strbuf tokens, lps, tops, offsets; /* chat: tokens alone */
	u32 nr;
};

/* How far the characters of a text have been counted. */
struct char_count {
	size_t at; /* bytes */
	size_t nr;
};

struct choice {
	struct vocab_stream vs;
	char *text; /* all of it so far, whole characters */
	size_t len;
	size_t looked; /* for stop strings */
	size_t shown; /* bytes that have been sent */
	u32 nr_tokens;
	double cum;
	const char *finish; /* NULL: it goes on */
	bool opened; /* chat: its role has been sent */
	struct lps lps; /* not sent yet */
	struct char_count counted; /* with logprobs: an echo's and of text */
};

/* A prompt of a call, and its samples. */
struct part {
	struct call *call;
	struct job *job; /* NULL: it is back */
	u32 nr_prompt, nr_cached;
	char *echo; /* the prompt's text, or NULL */
	size_t echo_len;
	bool from_text; /* the echo is what the client sent */
	bool has_special; /* and tokens were added around it */
	double started_s, first_s, last_s;
	struct choice *choices; /* [best_of] */
};

struct call {
	struct call *prev, *next;
	struct server *sv;
	struct MHD_Connection *conn; /* NULL: nobody is there */
	struct peer *peer; /* of conn */
	bool suspended; /* MHD waits to be told */
	bool dead; /* nobody reads it any more */
	bool ended; /* out is complete */
	bool roomless; /* abandoned in the queue: it is not in its way */
	struct gen_params g;
	char id[48];
	s64 created;
	struct part *parts; /* [nr_parts] */
	u32 nr_parts, nr_back;
	u64 nr_scores; /* that are kept of their prompts */
	struct strbuf head; /* what each chunk begins with */
	struct strbuf out;
	size_t sent; /* of out */
	size_t grace; /* of what is not sent: at most so much are scores */
	struct api_error error; /* status 0: none */
	double arrived_s;
	double made_s; /* of the oldest token not sent; 0: none */
	double spoke_s; /* a stream: when something was last put */
};

/**
 * call_create - read a body and make its jobs
 * @body: not needed any more when this returns
 */
int __must_check call_create(struct server *sv, const json_t *body, bool chat,
			     struct call **out, struct api_error *err);
/* Is it the model that is served here? */
int __must_check call_check_model(const struct server *sv, const char *name,
				  struct api_error *err);
/* The engine's from here on. */
void call_submit(struct call *c);
void call_event(const struct feed_batch *b, const struct feed_event *ev);
void call_job_back(struct job *j);
/* A comment, which clients pass over, if the stream is silent for too long. */
void call_ping(struct call *c, double now);
/* Its client has gone: free it, now or when its jobs are back. */
void call_leave(struct call *c);
void call_cancel(struct call *c);
/* Likewise, and nobody will read its answer: its place in the queue is free. */
void call_abandon(struct call *c);
/* There is more to send, or all of it: http.c. */
void call_has_news(struct call *c);

/* ---- prompt.c ---- */

/* @text: a string; @key: its name in the body */
int __must_check prompt_ids(struct server *sv, const char *key,
			    const json_t *text, unsigned int flags, u32 **ids,
			    size_t *nr, struct api_error *err);
int __must_check prompt_chat(struct server *sv, const json_t *messages,
			     u32 **ids, size_t *nr, struct api_error *err);
/* prompt_nr - how many prompts a call has, whatever they are */
u32 prompt_nr(const struct call *c);
/* The prompts of a call become its parts and their jobs. */
int __must_check prompt_parts(struct call *c, struct api_error *err);

/* ---- reply.c ---- */

void reply_head(struct call *c);
void reply_logprob(struct call *c, struct choice *ch,
		   const struct feed_event *ev,
		   const struct token_logprob *top);
/* Those of the prompt, before any of the answer. */
void reply_prompt_logprobs(struct call *c, struct part *p, struct choice *ch);
/* The text from ch->shown to @to, and whether that is all. */
void reply_chunk(struct call *c, struct part *p, struct choice *ch, size_t to);
/* What ends a stream: usage, if it was asked for, and [DONE]. */
void reply_stream_end(struct call *c);
void reply_stream_error(struct call *c);
void reply_whole(struct call *c);
void lps_free(struct lps *l);

/* ---- http.c ---- */

struct exchange; /* a request that MHD is at */

int __must_check http_start(struct server *sv, char *err);
void http_stop(struct server *sv);
/* Its client has hung up, or reads nothing. */
void http_dead(struct call *c);
void http_gone(struct server *sv, struct peer *p);
/* Send an object; @b is emptied. */
int http_json(struct exchange *x, int status, struct strbuf *b);
int http_refuse(struct exchange *x, const struct api_error *e);
int http_text(struct exchange *x, const char *type, struct strbuf *b);
/* The answer comes from a call, by and by. */
int http_call(struct exchange *x, struct call *c);
struct server *http_server(struct exchange *x);
/* The body, to be json_decref()ed; NULL: it has been refused. */
json_t *http_body(struct exchange *x);
u32 http_connections(const struct server *sv);
/* What stands in the request's path where its route has a name in braces. */
const char *http_name(const struct exchange *x);

/* ---- routes.c ---- */

struct route {
	const char *path; /* at its end perhaps a name in braces */
	const char *method;
	bool open; /* no key is asked for */
	bool loads; /* may be asked before the model is loaded */
	int (*fn)(struct exchange *x);
};

extern const struct route routes[];
extern const u32 nr_routes;

#endif
