/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_CONN_H
#define TOOLS_KVBENCH_SERVE_CONN_H
/*
 * conn.h - a connection to the server, one request at a time
 */
#include "tools/kvbench/serve/answer.h"
#include "tools/kvbench/serve/samples.h"
#include "tools/kvbench/serve/target.h"

enum conn_state { CONN_CLOSED, CONN_CONNECTING, CONN_BUSY, CONN_IDLE };

struct conn {
	enum conn_state state;
	int fd;
	bool is_reused; /* another request went over it before */
	u32 request;
	struct strbuf out;
	size_t sent;
	struct answer answer;
	double moved; /* when something went over it last */
	/* of the request */
	double first, last; /* token */
	double end; /* the last event with a choice */
	struct samples itl;
	struct conn *next_free;
};

/* conn_init - @choice is called for each event that has one */
void conn_init(struct conn *c, bool is_chat,
	       void (*choice)(void *arg, bool brings), void *arg);
void conn_fini(struct conn *c);
void conn_close(struct conn *c);

/**
 * conn_start - send what c->out holds
 *
 * Over the connection that is there, or a new one. Return: 0, or -errno if
 * there can be none.
 */
int __must_check conn_start(struct conn *c, const struct target *t, int epoll);

/**
 * conn_event - the socket can be read or written
 *
 * Return: 1 when the request has ended (c->answer says how), 0 if not yet,
 * -EAGAIN if a connection that was idle turned out to be closed: nothing came
 * back, start it again.
 */
int __must_check conn_event(struct conn *c, u32 events, int epoll);

#endif
