/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_PEERS_H
#define RUNTIME_SERVER_PEERS_H
/*
 * peers.h - the connections, and how long they may take to say what they want
 *
 *	peers_add()	NEW	a request's head is waited for, 30 s
 *	peers_body()	BODY	its body is, 30 s
 *	peers_bytes()		and a second more per 4 KiB that come, but never
 *				more than 30 s from then
 *	peers_busy()	BUSY	the request is there: it takes what it takes
 *	peers_idle()	IDLE	it has been answered; the next head, 120 s
 *	peers_remove()
 *
 * So bytes that trickle in do not prolong it, nor do many that came at once. A
 * peer that is late is shut down, which its owner reads as the end of the
 * connection, and so is one that has hung up and has not sent all of a
 * request; one that is BUSY never is. When there is hardly room for another,
 * the one that has been waited for longest makes it.
 *
 * All times are given: nothing here looks at a clock.
 */
#include <stdbool.h>

#include "kv/types.h"

enum peer_state { PEER_NEW, PEER_BODY, PEER_BUSY, PEER_IDLE };

struct peer {
	struct peer *prev, *next; /* of those that are waited for */
	int fd; /* its owner's */
	enum peer_state state;
	bool gone; /* it has hung up, or half */
	bool shut;
	double since_s; /* the state, or gone */
	double until_s; /* BODY: all of it has to be there */
	void *owner; /* for whoever uses this */
	void *heard; /* likewise: whose head is being read, or NULL */
};

struct peers {
	struct peer *first, *last; /* waited for; the longest first */
	u32 nr; /* of all */
	u32 room; /* more than these are too many; 0: never */
	double look_s; /* peers_expire() then; 0: nobody is waited for */
};

void peers_add(struct peers *ps, struct peer *p, int fd, double now);
void peers_body(struct peers *ps, struct peer *p, double now);
void peers_bytes(struct peer *p, size_t nr, double now);
void peers_busy(struct peers *ps, struct peer *p);
void peers_idle(struct peers *ps, struct peer *p, double now);
/* It sends nothing more; what it has sent may still be read. */
void peers_gone(struct peers *ps, struct peer *p, double now);
void peers_remove(struct peers *ps, struct peer *p);

/* Shut those down that are late, once look_s has come, and set it anew. */
void peers_expire(struct peers *ps, double now);

#endif
