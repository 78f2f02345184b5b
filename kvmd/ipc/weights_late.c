/* SPDX-License-Identifier: MIT */
/*
 * weights_late.c - OPENs that wait for memory
 *
 *	late	the device has no room: first come, first served. The core makes
 *		some for the first one (mm/room.c)
 *	limited	the tenant's limit is in use, in part by memory that is being
 *		emptied. None of these holds up another
 *
 * Both wait while something comes, for WEIGHTS_WAIT_NS at most. Memory that
 * a client holds up in the kernel may never be empty: what is not within that
 * time comes to nobody any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/session.h"
#include "kvmd/ipc/weights.h"
#include "kvmd/kvmd.h"

#define PAGE_BYTES   4096ull
#define LATE_LOOK_NS 5000000u /* between looks whether it is there */

static struct weights_lates *list_of(struct kvmd *d,
				     const struct weights_late *l)
{
	return l->limited ? &d->weights.limited : &d->weights.late;
}

static struct weights_late *late_new(struct session *s,
				     const struct kv_msg *msg, const void *body)
{
	struct weights_late *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->session = s;
	l->msg = *msg;
	memcpy(&l->body, body, sizeof(l->body));
	return l;
}

/* Nobody has to give way for it any more. */
static void room_end(struct kvmd *d, struct weights_late *l)
{
	if (l->has_room)
		mm_room_end(d->mm);
	l->has_room = false;
}

static void late_remove(struct kvmd *d, struct weights_late *l)
{
	room_end(d, l);
	TAILQ_REMOVE(list_of(d, l), l, link);
}

static void late_free(struct kvmd *d, struct weights_late *l)
{
	late_remove(d, l);
	free(l);
}

static u64 bytes_of(const struct kv_msg_weights *body)
{
	return ALIGN_UP(body->bytes, PAGE_BYTES);
}

/* Would @bytes more fit the limit of @tenant, without @less? */
static bool limit_has(const struct kvmd *d, u32 tenant, u64 bytes, u64 less)
{
	struct mm_tenant_info info;
	u64 used;

	if (mm_tenant_info(d->mm, tenant, &info))
		return false;
	used = info.held_bytes + info.charged_bytes;
	return used - min(used, less) + bytes <= info.limits.max_bytes;
}

/* What is being emptied makes it fit. */
static bool limit_comes(const struct kvmd *d, u32 tenant, u64 bytes)
{
	return limit_has(d, tenant, bytes, weights_coming(d, tenant));
}

static bool is_over(const struct kvmd *d, const struct weights_late *l)
{
	return d->now_ns - l->since_ns >= WEIGHTS_WAIT_NS;
}

/*
 * No room: does it help the first one that waits to wait on? Nobody else has to
 * give way as long as what is being emptied may be enough.
 */
static bool room_comes(struct kvmd *d, struct weights_late *l)
{
	u64 bytes = bytes_of(&l->body);
	bool makes;

	if (!l->since_ns)
		l->since_ns = d->now_ns;
	if (!l->has_room && weights_coming(d, MM_NONE) >= bytes &&
	    !is_over(d, l))
		return true;
	makes = mm_room_wait(d->mm, l->session->id, bytes);
	if (makes && (!l->has_room || mm_room_comes(d->mm)))
		l->since_ns = d->now_ns;
	l->has_room = makes;
	return (makes || weights_coming(d, MM_NONE)) && !is_over(d, l);
}

bool weights_wait(struct kvmd *d, struct session *s, const struct kv_msg *msg,
		  const void *body, struct weights_late *late, int rc)
{
	struct weights_late *l = late ? late : late_new(s, msg, body);
	bool limited = rc == -EDQUOT;

	if (!l)
		return false;
	if (limited && !limit_comes(d, s->tenant, bytes_of(&l->body))) {
		if (!late)
			free(l);
		return false;
	}
	if (late && l->limited == limited)
		return limited ? !is_over(d, l) : room_comes(d, l);
	if (late)
		late_remove(d, l);
	l->limited = limited;
	l->since_ns = limited ? d->now_ns : 0;
	TAILQ_INSERT_TAIL(list_of(d, l), l, link);
	return true;
}

void weights_late_again(struct weights *w)
{
	struct weights_late *l = TAILQ_FIRST(&w->d->weights.late);
	struct weights_user *u;

	if (l) { /* the first one no longer; its wait begins when it is again */
		room_end(w->d, l);
		l->since_ns = 0;
	}
	TAILQ_FOREACH_REVERSE(u, &w->users, weights_users, link)
	{
		l = late_new(u->session, &u->msg, &w->key);
		if (l)
			TAILQ_INSERT_HEAD(&w->d->weights.late, l, link);
		else
			conn_refuse(u->session->conn, &u->msg, -ENOMEM,
				    "weights %s: %s", w->key.name,
				    strerror(ENOMEM));
	}
}

static void list_exit(struct kvmd *d, struct weights_lates *list,
		      const struct session *s)
{
	struct weights_late *l, *next;

	for (l = TAILQ_FIRST(list); l; l = next) {
		next = TAILQ_NEXT(l, link);
		if (l->session == s)
			late_free(d, l);
	}
}

void weights_late_exit(struct kvmd *d, const struct session *s)
{
	list_exit(d, &d->weights.late, s);
	list_exit(d, &d->weights.limited, s);
}

/* Return: it waits on; where, is its own matter. */
static bool try_again(struct kvmd *d, struct weights_late *l)
{
	if (weights_open_try(d, l->session, &l->msg, &l->body, l))
		return true;
	late_free(d, l);
	return false;
}

static void retry_limited(struct kvmd *d)
{
	struct weights_late *l, *next;
	u64 bytes;
	u32 tenant;

	for (l = TAILQ_FIRST(&d->weights.limited); l; l = next) {
		next = TAILQ_NEXT(l, link);
		tenant = l->session->tenant;
		bytes = bytes_of(&l->body);
		if (limit_has(d, tenant, bytes, 0) || is_over(d, l) ||
		    weights_find(d, &l->body, tenant) ||
		    !limit_comes(d, tenant, bytes))
			try_again(d, l);
	}
}

void weights_retry(struct kvmd *d)
{
	struct weights_late *l;

	retry_limited(d);
	while ((l = TAILQ_FIRST(&d->weights.late)))
		if (try_again(d, l) && l == TAILQ_FIRST(&d->weights.late))
			break;
	if (l || !TAILQ_EMPTY(&d->weights.limited))
		timer_set(&d->timers, &d->weights.late_timer,
			  d->now_ns + LATE_LOOK_NS);
}
