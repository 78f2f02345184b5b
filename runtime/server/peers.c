/* SPDX-License-Identifier: MIT */
/*
 * peers.c - a list of the connections whose next request is not there yet
 *
 * It is in the order in which states began. How long each may take depends on
 * it, so looking means walking; that is done when the earliest deadline of the
 * last walk has come. Deadlines come nearer in peers_add() and its like only,
 * which see to it that the look is early enough.
 */
#include <sys/socket.h>

#include "runtime/server/peers.h"

#define HEAD_S	  30.0 /* from the connection to the end of the first head */
#define BODY_S	  30.0 /* and a second for each */
#define BODY_RATE 4096.0 /* bytes, but never more than BODY_S ahead */
#define IDLE_S	  120.0 /* from an answer to the end of the next head */
#define GONE_S	  1.0 /* to read what there is of one who has hung up */

static double deadline(const struct peer *p)
{
	double take = HEAD_S;

	if (p->gone)
		take = GONE_S;
	else if (p->state == PEER_BODY)
		return p->until_s;
	else if (p->state == PEER_IDLE)
		take = IDLE_S;
	return p->since_s + take;
}

static void unlink_peer(struct peers *ps, struct peer *p)
{
	if (p->prev)
		p->prev->next = p->next;
	else
		ps->first = p->next;
	if (p->next)
		p->next->prev = p->prev;
	else
		ps->last = p->prev;
	p->prev = p->next = NULL;
}

static void wait_for(struct peers *ps, struct peer *p, enum peer_state state,
		     double now)
{
	double end;

	p->state = state;
	p->since_s = now;
	p->prev = ps->last;
	p->next = NULL;
	if (p->prev)
		p->prev->next = p;
	else
		ps->first = p;
	ps->last = p;
	end = deadline(p);
	if (!ps->look_s || end < ps->look_s)
		ps->look_s = end;
}

static void shut(struct peer *p)
{
	if (!p->shut)
		(void)shutdown(p->fd, SHUT_RDWR);
	p->shut = true;
}

/* One that is shut stays until its owner has seen it. */
static void make_room(struct peers *ps)
{
	struct peer *p = ps->first;

	while (p && p->shut)
		p = p->next;
	if (p)
		shut(p);
}

void peers_add(struct peers *ps, struct peer *p, int fd, double now)
{
	*p = (struct peer){ .fd = fd };
	if (++ps->nr > ps->room && ps->room)
		make_room(ps);
	wait_for(ps, p, PEER_NEW, now);
}

void peers_body(struct peers *ps, struct peer *p, double now)
{
	unlink_peer(ps, p);
	p->until_s = now + BODY_S;
	wait_for(ps, p, PEER_BODY, p->gone ? p->since_s : now);
}

void peers_bytes(struct peer *p, size_t nr, double now)
{
	p->until_s = min(p->until_s + (double)nr / BODY_RATE, now + BODY_S);
}

void peers_busy(struct peers *ps, struct peer *p)
{
	if (p->state == PEER_BUSY)
		return;
	unlink_peer(ps, p);
	p->state = PEER_BUSY;
}

void peers_idle(struct peers *ps, struct peer *p, double now)
{
	if (p->state != PEER_BUSY)
		unlink_peer(ps, p);
	wait_for(ps, p, PEER_IDLE, now);
}

void peers_gone(struct peers *ps, struct peer *p, double now)
{
	if (p->gone)
		return;
	p->gone = true;
	if (p->state == PEER_BUSY)
		return;
	unlink_peer(ps, p);
	wait_for(ps, p, p->state, now);
}

void peers_remove(struct peers *ps, struct peer *p)
{
	if (p->state != PEER_BUSY)
		unlink_peer(ps, p);
	ps->nr--;
}

void peers_expire(struct peers *ps, double now)
{
	struct peer *p;

	if (!ps->look_s || now < ps->look_s)
		return;
	ps->look_s = 0.0;
	for (p = ps->first; p; p = p->next) {
		double end = deadline(p);

		if (p->shut)
			continue;
		if (end <= now)
			shut(p);
		else if (!ps->look_s || end < ps->look_s)
			ps->look_s = end;
	}
}
