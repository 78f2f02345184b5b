/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_CONN_H
#define KVMD_IPC_CONN_H
/*
 * conn.h - a connection: packets in, packets out
 *
 *	NEW -> IDENT -> CTL | CLIENT -> closing -> freed at the end of a turn
 *
 *	NEW	connected; HELLO is awaited, not for long
 *	IDENT	a worker asks the system who the peer is; nothing is read
 *	CTL	inspection: CTL requests only
 *	CLIENT	has a session. Its messages are answered one at a time, and
 *		each is remembered until it has been (keep/block.h)
 *
 * A packet that the socket has no room for is kept, with duplicates of its
 * descriptors, and sent when there is room. Without privileges there may also
 * be too many descriptors under way to the user; of their arrival no event
 * tells, so that is tried again later. A peer that lets more than
 * CONN_QUEUE_MAX pile up is dropped; all extents that it has may go beside
 * these, as that is nothing it has asked for.
 */
#include <sys/queue.h>
#include <kv/msg.h>
#include "include/kv/errbuf.h"
#include "include/kv/types.h"
#include "kvmd/io/io.h"
#include "kvmd/io/timer.h"
#include "kvmd/io/work.h"
#include "kvmd/ipc/peer.h"

struct kvmd;
struct session;
struct packet;
struct keep_client;

#define CONN_QUEUE_MAX 4096u
#define CONN_FDS_MAX   200u
#define CONN_MAX       2048u /* connections at a time */
#define CONN_UID_MAX   512u /* of them one unprivileged user's */

enum conn_state {
	CONN_NEW,
	CONN_IDENT,
	CONN_CTL,
	CONN_CLIENT,
};

struct conn {
	struct kvmd *d;
	enum conn_state state;
	bool closing; /* nothing is sent or read any more */
	bool busy; /* a worker has ident or ctl work of it */
	bool said_bye; /* the client has unmapped everything */
	bool admin; /* HELLO asked for it, and may */
	bool sees_all; /* peer is an admin, whether it asked or not */
	bool replays; /* what a predecessor has begun to answer */
	bool paused; /* CLIENT: not read until a message has its answer */
	struct peer peer;
	char tenant[KV_NAME_LEN];
	struct session *session;
	struct io_watch watch;
	struct timer deadline;
	struct timer retry; /* armed: no room for descriptors */
	u64 retry_ns; /* after this long; 0: there was room */
	TAILQ_HEAD(, packet) queue;
	unsigned int nr_queued;
	struct kv_msg hello_msg; /* while in IDENT */
	struct kv_msg_hello hello;
	struct work ident;
	int ident_rc;
	char ident_err[KV_ERRLEN];
	TAILQ_ENTRY(conn) link;
};

/*
 * conn_accept - callback of the listening socket. Who cannot be taken, for want
 * of descriptors, say, stays in the backlog: the socket is let alone until
 * accept_timer, as it would be ready again at once.
 */
void conn_accept(struct io_watch *w, u32 events);
/* conn_accept_again - callback of accept_timer */
void conn_accept_again(struct timer *t);

/**
 * conn_send - send or queue one packet
 * @c: connection; nothing happens when it is closing
 * @data: packet
 * @len: bytes
 * @fds: descriptors, borrowed
 * @nr_fds: at most CONN_FDS_MAX
 */
void conn_send(struct conn *c, const void *data, size_t len, const int *fds,
	       unsigned int nr_fds);
/* conn_reply - answer @req with @body, and descriptors */
void conn_reply(struct conn *c, const struct kv_msg *req, const void *body,
		size_t len, const int *fds, unsigned int nr_fds);
/* conn_refuse - answer @req with -errno and a sentence */
void __printf(4, 5) conn_refuse(struct conn *c, const struct kv_msg *req,
				int rc, const char *fmt, ...);
/**
 * conn_adopt - a client's connection, of a predecessor
 * @d: daemon
 * @fd: socket, the connection's from now on
 * @peer: who is there; its pidfd is duplicated
 * @keep: its record
 *
 * Return: it, not yet served; NULL: no memory.
 */
struct conn *conn_adopt(struct kvmd *d, int fd, const struct peer *peer,
			const struct keep_client *keep);
/* conn_resume - serve it; first what its predecessor did not answer */
int conn_resume(struct conn *c);
/* conn_close - no more; it is freed at the end of the turn */
void conn_close(struct conn *c);
/* conn_reap - free what is closing; true if something was */
bool conn_reap(struct kvmd *d);
/* conn_answered - the session's message has its answer: read on */
void conn_answered(struct conn *c);
/* conn_flush - send what is queued, as far as there is room */
void conn_flush(struct conn *c);
/*
 * conn_watch - look for what may come now: who does not read what it is told is
 * not read either, and neither is one that has a request under way
 */
void conn_watch(struct conn *c);
/* conn_is_blocked - packets wait for room in the socket */
bool conn_is_blocked(const struct conn *c);

#endif
