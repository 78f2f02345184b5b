/* SPDX-License-Identifier: MIT */
/*
 * weights.c - file mappings: model weights that kvmd holds once
 */
#include "kvmd/ipc/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/memfd.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"
#include "include/uapi/kv/trace.h"
#include "kvmd/trace.h"

#define FILL_LOOK_NS  250000000u
#define SEAL_RETRY_NS 2000000u
#define SEAL_TRY_NS   1000000000ull
#define PAGE_BYTES    4096ull

static void fill_look(struct timer *t);
static void seal_again(struct timer *t);

static struct weights_user *user_of(const struct weights *w,
				    const struct session *s)
{
	struct weights_user *u;

	TAILQ_FOREACH(u, &w->users, link)
	{
		if (u->session == s)
			return u;
	}
	return NULL;
}

static struct weights *weights_by_id(struct kvmd *d, u32 id)
{
	struct weights *w;

	TAILQ_FOREACH(w, &d->weights.list, link)
	{
		if (w->id == id)
			return w;
	}
	return NULL;
}

/* How often @u's session has @w open, because of the message @cookie. */
static void lease_set(struct weights *w, struct weights_user *u, u32 nr,
		      u64 cookie)
{
	u64 *lease = keep_lease(w->d->keep.block, w->slot, u->session->id);

	u->nr_opens = nr;
	keep_order();
	WRITE_ONCE(*lease, (u64)nr << 32 | (u32)cookie);
	trace_point(w->d, KV_TP_KEEP_LEASE, u->session->id, w->id);
}

/* A predecessor did what @msg asks of the mapping of @slot. */
static bool was_done(const struct session *s, u32 slot,
		     const struct kv_msg *msg)
{
	return s->conn->replays && (u32)*keep_lease(s->d->keep.block, slot,
						    s->id) == (u32)msg->cookie;
}

static void state_set(struct weights *w, enum weights_state state)
{
	w->state = state;
	keep_order();
	w->keep->state = 1 + (u32)state;
}

u32 weights_users(const struct weights *w)
{
	const struct weights_user *u;
	u32 nr = 0;

	TAILQ_FOREACH(u, &w->users, link)
	nr += !u->waits;
	return nr;
}

u32 weights_waiters(const struct weights *w)
{
	const struct weights_user *u;
	u32 nr = 0;

	TAILQ_FOREACH(u, &w->users, link)
	nr += u->waits;
	return nr;
}

u64 weights_of(const struct kvmd *d, const struct session *s)
{
	const struct weights *w;
	const struct weights_user *u;
	u64 bytes = 0;

	TAILQ_FOREACH(w, &d->weights.list, link)
	{
		u = user_of(w, s);
		if (u && !u->waits)
			bytes += w->charged_bytes;
	}
	return bytes;
}

struct weights *weights_new(struct kvmd *d, u32 slot)
{
	struct weights *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->d = d;
	w->slot = slot;
	w->keep = &d->keep.block->weights[slot];
	w->seal_timer.fire = seal_again;
	w->fill_timer.fire = fill_look;
	TAILQ_INIT(&w->users);
	TAILQ_INSERT_TAIL(&d->weights.list, w, link);
	d->weights.nr++;
	return w;
}

struct weights_user *weights_user_add(struct weights *w, struct session *s)
{
	struct weights_user *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->session = s;
	TAILQ_INSERT_TAIL(&w->users, u, link);
	return u;
}

static void user_free(struct weights *w, struct weights_user *u)
{
	TAILQ_REMOVE(&w->users, u, link);
	free(u);
}

/* What is not sealed keeps the record and the charge until it is empty. */
void weights_free(struct weights *w)
{
	bool goes = w->memory && w->state != WEIGHTS_READY;
	struct kvmd *d = w->d;
	struct weights_user *u;

	if (goes)
		w->keep->filler = 0; /* who had it must not go on with it */
	keep_order();
	w->keep->state = goes ? 1 + (u32)WEIGHTS_GOING : 0;
	keep_order();
	weights_memory_let_go(w);
	while ((u = TAILQ_FIRST(&w->users)))
		user_free(w, u);
	timer_cancel(&d->timers, &w->seal_timer);
	timer_cancel(&d->timers, &w->fill_timer);
	if (!goes) {
		mm_tenant_uncharge(d->mm, w->tenant, w->charged_bytes);
		mm_tenant_put(d->mm, w->tenant);
	}
	TAILQ_REMOVE(&d->weights.list, w, link);
	d->weights.nr--;
	free(w);
}

/* ---- filling ---- */

static void reply_state(struct weights *w, struct weights_user *u,
			enum kv_weights_state state, int fd)
{
	struct kv_msg_weights out = w->key;

	out.state = state;
	out.id = w->id;
	u->waits = false;
	if (!was_done(u->session, w->slot, &u->msg))
		lease_set(w, u, u->nr_opens + 1, u->msg.cookie);
	conn_reply(u->session->conn, &u->msg, &out, sizeof(out), &fd, 1);
}

/* READY: everybody who waits gets it. */
static void weights_serve(struct weights *w)
{
	struct weights_user *u;
	int ro;

	TAILQ_FOREACH(u, &w->users, link)
	{
		if (!u->waits)
			continue;
		ro = memfd_reopen_ro(w->memory->fd);
		if (ro < 0) {
			session_kick(u->session, "weights %s: %s", w->key.name,
				     strerror(-ro));
			continue;
		}
		reply_state(w, u, KV_WEIGHTS_READY, ro);
		close(ro);
	}
}

/*
 * Does the filler get on? One that is stopped, or hangs, must not hold up its
 * tenant for ever.
 */
static void fill_judge(struct weights *w)
{
	struct kvmd *d = w->d;
	s64 now_bytes = w->memory->resident_bytes;
	u32 waiters = weights_waiters(w);
	u64 now = clock_ns();

	if (now_bytes != w->filled_bytes || !waiters)
		w->progress_ns = now;
	w->filled_bytes = now_bytes;
	timer_set(&d->timers, &w->fill_timer, now + FILL_LOOK_NS);
	if (now - w->progress_ns < (u64)d->opt->stall_ms * 1000000)
		return;
	session_kick(w->filler,
		     "weights %s: it filled nothing in for %u ms while %u "
		     "others wait",
		     w->key.name, d->opt->stall_ms, waiters);
}

/* A thread that is not back yet may wait for what the filler holds up. */
static void fill_look(struct timer *t)
{
	struct weights *w = container_of(t, struct weights, fill_timer);

	if (w->memory->busy) {
		fill_judge(w);
		return;
	}
	timer_set(&w->d->timers, t, clock_ns() + FILL_LOOK_NS);
	weights_memory_look(w);
}

/* It may have been sealed, or asked to be, since that was begun. */
void weights_looked(struct weights *w)
{
	if (w->state == WEIGHTS_FILLING)
		fill_judge(w);
	else if (w->state == WEIGHTS_SEALING)
		weights_memory_seal(w);
}

void weights_fill_watch(struct weights *w)
{
	w->filled_bytes = 0;
	w->progress_ns = clock_ns();
	timer_set(&w->d->timers, &w->fill_timer, w->progress_ns + FILL_LOOK_NS);
}

/* It is new: tell who has asked for it to fill it; or free @w. */
static void weights_offer(struct weights *w)
{
	struct weights_user *u = TAILQ_FIRST(&w->users);
	struct kvmd *d = w->d;
	int rc;

	rc = weights_memory_make(w);
	if (rc) {
		conn_refuse(u->session->conn, &u->msg, rc,
			    "weights %s: no memory for it: %s", w->key.name,
			    strerror(-rc));
		weights_free(w);
		kvmd_pump(d);
		return;
	}
	w->filler = u->session;
	trace_point(d, KV_TP_KEEP_OFFER, w->filler->id, w->id);
	w->keep->filler = 1 + u->session->id;
	weights_fill_watch(w);
	w->d->n.weights_fills++;
	event_add(&w->d->events, w->d->now_ns, LOG_LEVEL_INFO, "weights_fill",
		  u->session->id, u->session->tenant_name, "%s, %llu bytes",
		  w->key.name, (unsigned long long)w->charged_bytes);
	reply_state(w, u, KV_WEIGHTS_FILL, w->memory->fd);
}

/*
 * The filler is gone or gave up, and may still have the memory mapped. Others
 * that wait open another mapping, with memory of its own. @cookie: of its CLOSE
 */
static void weights_refill(struct weights *w, u64 cookie)
{
	struct weights_user *u = user_of(w, w->filler);
	struct kvmd *d = w->d;

	w->keep->filler = 0; /* a successor has none without a lease */
	keep_order();
	if (u) {
		lease_set(w, u, 0, cookie);
		user_free(w, u);
	}
	if (TAILQ_EMPTY(&w->users)) {
		weights_drop(w, "nobody is left to fill it");
		kvmd_pump(d);
		return;
	}
	weights_late_again(w);
	weights_free(w);
	weights_retry(d);
}

/* Nobody may have it open any more. */
static void weights_released(struct weights *w)
{
	w->idle_since_ns = clock_ns();
	mm_spared(w->d->mm);
	kvmd_pump(w->d);
}

static void seal_failed(struct weights *w, int rc)
{
	if (w->filler)
		conn_refuse(w->filler->conn, &w->seal_msg, rc,
			    "weights %s: cannot be sealed: %s", w->key.name,
			    rc == -EBUSY ? "it is still mapped writable, or "
					   "pinned"
					 : strerror(-rc));
	weights_refill(w, 0);
}

static void seal_answer(struct weights *w, int ro)
{
	struct kv_msg_weights out = w->key;

	out.state = KV_WEIGHTS_READY;
	out.id = w->id;
	conn_reply(w->filler->conn, &w->seal_msg, &out, sizeof(out), &ro, 1);
}

/* A thread has tried to. The filler may have gone since. */
void weights_sealed(struct weights *w, int rc)
{
	const struct session *s = w->filler;
	u32 who = s ? s->id : EVENT_NOBODY;
	u64 now = clock_ns();
	int ro = -1;

	if (rc == -EBUSY && now < w->seal_until_ns) {
		timer_set(&w->d->timers, &w->seal_timer, now + SEAL_RETRY_NS);
		return;
	}
	if (!rc) {
		ro = memfd_reopen_ro(w->memory->fd);
		rc = min(ro, 0);
	}
	if (rc) {
		seal_failed(w, rc);
		return;
	}
	state_set(w, WEIGHTS_READY);
	trace_point(w->d, KV_TP_KEEP_SEALED, who, w->id);
	if (s)
		seal_answer(w, ro);
	close(ro);
	event_add(&w->d->events, w->d->now_ns, LOG_LEVEL_INFO, "weights_ready",
		  who, s ? s->tenant_name : NULL, "%s, %llu bytes", w->key.name,
		  (unsigned long long)w->charged_bytes);
	w->filler = NULL;
	weights_serve(w);
	if (TAILQ_EMPTY(&w->users))
		weights_released(w);
}

static void seal_again(struct timer *t)
{
	weights_memory_seal(container_of(t, struct weights, seal_timer));
}

/* ---- messages ---- */

/* Take @bytes for @tenant, dropping cached mappings if need be. */
static int weights_charge(struct kvmd *d, u32 tenant, u64 bytes)
{
	int rc;

	while ((rc = mm_tenant_charge(d->mm, tenant, bytes)) == -EAGAIN)
		weights_drop_going(d); /* nobody else gets it meanwhile */
	kvmd_pump(d);
	return rc;
}

/* A record for one more; KEEP_WEIGHTS_MAX: all mappings are in use. */
static u32 slot_find(struct kvmd *d, u32 tenant)
{
	u32 slot;

	do {
		for (slot = 0; slot < KEEP_WEIGHTS_MAX; slot++)
			if (!d->keep.block->weights[slot].state)
				return slot;
	} while (weights_drop_for_slot(d, tenant));
	return slot;
}

/* For a successor; the state last. */
static void weights_record(struct weights *w, const char *tenant)
{
	struct keep_weights *r = w->keep;
	struct keep_leases *leases = &w->d->keep.block->leases[w->slot];

	memset(r, 0, sizeof(*r));
	memset(leases, 0, sizeof(*leases));
	r->id = w->id;
	r->charged_bytes = w->charged_bytes;
	r->key = w->key;
	memcpy(r->tenant, tenant, sizeof(r->tenant));
	state_set(w, WEIGHTS_FILLING);
}

static int weights_create(struct kvmd *d, struct session *s,
			  const struct kv_msg_weights *key,
			  struct weights **out)
{
	u64 bytes = ALIGN_UP(key->bytes, PAGE_BYTES);
	struct weights *w;
	u32 slot, tenant;
	int rc;

	rc = mm_tenant_get(d->mm, s->tenant_name, &tenant);
	if (rc)
		return rc;
	rc = weights_charge(d, tenant, bytes);
	if (rc)
		goto out_put_tenant;
	slot = slot_find(d, tenant);
	w = slot < KEEP_WEIGHTS_MAX ? weights_new(d, slot) : NULL;
	if (!w) {
		rc = slot < KEEP_WEIGHTS_MAX ? -ENOMEM : -ENFILE;
		goto out_uncharge;
	}
	w->tenant = tenant;
	w->id = ++d->keep.block->next_weights_id;
	w->key = *key;
	w->charged_bytes = bytes;
	weights_record(w, s->tenant_name);
	*out = w;
	return 0;

out_uncharge:
	mm_tenant_uncharge(d->mm, tenant, bytes);
	kvmd_pump(d);
out_put_tenant:
	mm_tenant_put(d->mm, tenant);
	return rc;
}

static void refuse_create(struct session *s, const struct kv_msg *msg,
			  const struct kv_msg_weights *key, int rc)
{
	const char *why = strerror(-rc);

	if (rc == -EDQUOT)
		why = "over the tenant's limit";
	if (rc == -ENOSPC)
		why = "the device is full";
	if (rc == -ENFILE)
		why = "kvmd has as many mappings as it can, all in use";
	conn_refuse(s->conn, msg, rc,
		    "weights %s: %llu bytes for tenant %s: %s", key->name,
		    (unsigned long long)key->bytes, s->tenant_name, why);
}

static bool same_key(const struct weights *w, const struct kv_msg_weights *key,
		     u32 tenant)
{
	return !memcmp(w->key.digest, key->digest, sizeof(key->digest)) &&
	       w->key.packing == key->packing && w->key.isa == key->isa &&
	       w->tenant == tenant;
}

struct weights *weights_find(const struct kvmd *d,
			     const struct kv_msg_weights *key, u32 tenant)
{
	struct weights *w;

	TAILQ_FOREACH(w, &d->weights.list, link)
	{
		if (same_key(w, key, tenant))
			break;
	}
	return w;
}

/*
 * A predecessor was killed while it answered this OPEN: what it gave, it gives
 * once more. Return: whether there was anything.
 */
static bool open_again(struct weights *w, struct session *s,
		       const struct kv_msg *msg)
{
	struct weights_user *u = user_of(w, s);
	bool fills = w->filler == s && w->state == WEIGHTS_FILLING;

	if (!fills && !(u && was_done(s, w->slot, msg)))
		return false;
	if (!u)
		u = weights_user_add(w, s);
	if (!u) {
		session_kick(s, "weights %s: %s", w->key.name,
			     strerror(ENOMEM));
		return true;
	}
	u->msg = *msg;
	u->waits = true;
	if (fills)
		reply_state(w, u, KV_WEIGHTS_FILL, w->memory->fd);
	else
		weights_serve(w);
	return true;
}

int weights_open_try(struct kvmd *d, struct session *s,
		     const struct kv_msg *msg, const void *body,
		     struct weights_late *late)
{
	struct kv_msg_weights key;
	struct weights_user *u = NULL;
	struct weights *w;
	bool is_new;
	int rc = 0;

	memcpy(&key, body, sizeof(key));
	log_text(key.name, sizeof(key.name),
		 (const char *)body + offsetof(struct kv_msg_weights, name),
		 sizeof(key.name));
	if (!key.bytes || key.bytes > d->dev->bytes) {
		refuse_create(s, msg, &key, key.bytes ? -ENOSPC : -EINVAL);
		return 0;
	}
	w = weights_find(d, &key, s->tenant);
	if (w && w->key.bytes != key.bytes) {
		conn_refuse(s->conn, msg, -EBADMSG,
			    "weights %s: this digest is known with %llu bytes, "
			    "not %llu",
			    key.name, (unsigned long long)w->key.bytes,
			    (unsigned long long)key.bytes);
		return 0;
	}
	if (w && s->conn->replays && open_again(w, s, msg))
		return 0;
	if (w && (u = user_of(w, s)) && (u->waits || w->filler == s)) {
		conn_refuse(s->conn, msg, -EBUSY,
			    "weights %s: this client is opening it already",
			    key.name);
		return 0;
	}
	is_new = !w;
	if (is_new && !late && !TAILQ_EMPTY(&d->weights.late))
		rc = -ENOSPC;
	else if (is_new)
		rc = weights_create(d, s, &key, &w);
	if ((rc == -ENOSPC || rc == -EDQUOT) &&
	    weights_wait(d, s, msg, body, late, rc))
		return -EAGAIN;
	if (rc) {
		refuse_create(s, msg, &key, rc);
		return 0;
	}
	if (!u)
		u = weights_user_add(w, s);
	if (!u) {
		if (is_new)
			weights_free(w);
		kvmd_pump(d);
		conn_refuse(s->conn, msg, -ENOMEM, "weights %s: %s", key.name,
			    strerror(ENOMEM));
		return 0;
	}
	u->msg = *msg;
	u->waits = true;
	if (is_new) {
		weights_offer(w);
	} else if (w->state == WEIGHTS_READY) {
		d->n.weights_hits++;
		weights_serve(w);
	}
	return 0;
}

void weights_open(struct kvmd *d, struct session *s, const struct kv_msg *msg,
		  const void *body)
{
	if (weights_open_try(d, s, msg, body, NULL))
		weights_retry(d); /* it may be the first */
}

/* A predecessor has sealed it and may not have said so. */
static bool seal_again_reply(struct weights *w, struct session *s,
			     const struct kv_msg *msg)
{
	struct kv_msg_weights out = w->key;
	int ro;

	if (w->state != WEIGHTS_READY || w->keep->filler != 1 + s->id)
		return false;
	out.state = KV_WEIGHTS_READY;
	out.id = w->id;
	ro = memfd_reopen_ro(w->memory->fd);
	if (ro < 0)
		session_kick(s, "weights %s: %s", w->key.name, strerror(-ro));
	else
		conn_reply(s->conn, msg, &out, sizeof(out), &ro, 1);
	if (ro >= 0)
		close(ro);
	return true;
}

void weights_seal(struct kvmd *d, struct session *s, const struct kv_msg *msg,
		  const void *body)
{
	struct kv_msg_weights in;
	struct weights *w;

	memcpy(&in, body, sizeof(in));
	w = weights_by_id(d, in.id);
	if (w && s->conn->replays && seal_again_reply(w, s, msg))
		return;
	if (!w || w->filler != s || w->state != WEIGHTS_FILLING) {
		conn_refuse(s->conn, msg, w ? -EPERM : -ENOENT,
			    "weights %u: not this client's to seal", in.id);
		return;
	}
	state_set(w, WEIGHTS_SEALING);
	timer_cancel(&d->timers, &w->fill_timer);
	w->seal_msg = *msg;
	w->seal_until_ns = clock_ns() + SEAL_TRY_NS;
	if (!w->memory->busy) /* it is looked at, and sealed then */
		weights_memory_seal(w);
}

/* Return: @w goes with it. */
static bool filler_leaves(struct weights *w, u64 cookie)
{
	if (w->state == WEIGHTS_FILLING) {
		weights_refill(w, cookie);
		return true;
	}
	w->filler = NULL;
	return false;
}

/* One lease less, or as many as @u has. */
static void user_release(struct weights *w, struct weights_user *u, bool all,
			 u64 cookie)
{
	if (w->filler == u->session && filler_leaves(w, cookie))
		return;
	if (!u->waits && !all && u->nr_opens > 1) {
		lease_set(w, u, u->nr_opens - 1, cookie);
		return;
	}
	if (w->keep->filler == 1 + u->session->id)
		w->keep->filler = 0; /* the number may be another's soon */
	lease_set(w, u, 0, cookie);
	user_free(w, u);
	weights_released(w);
}

/* A predecessor has done this CLOSE; the mapping may be gone since. */
static bool was_closed(const struct session *s, u32 id,
		       const struct kv_msg *msg)
{
	const struct keep_block *b = s->d->keep.block;
	u32 i;

	for (i = 0; i < KEEP_WEIGHTS_MAX; i++)
		if (b->weights[i].id == id && was_done(s, i, msg))
			return true;
	return false;
}

void weights_close(struct kvmd *d, struct session *s, const struct kv_msg *msg,
		   const void *body)
{
	struct kv_msg_weights in;
	struct weights_user *u;
	struct weights *w;

	memcpy(&in, body, sizeof(in));
	if (s->conn->replays && was_closed(s, in.id, msg)) {
		conn_reply(s->conn, msg, NULL, 0, NULL, 0);
		return;
	}
	w = weights_by_id(d, in.id);
	u = w ? user_of(w, s) : NULL;
	if (!u) {
		conn_refuse(s->conn, msg, -ENOENT,
			    "weights %u: this client has no such mapping open",
			    in.id);
		return;
	}
	user_release(w, u, false, msg->cookie);
	conn_reply(s->conn, msg, NULL, 0, NULL, 0);
}

void weights_session_exit(struct kvmd *d, struct session *s)
{
	struct weights_user *u = NULL;
	struct weights *w;

	weights_late_exit(d, s);
	do { /* from the start each time: releasing one may end others */
		TAILQ_FOREACH(w, &d->weights.list, link)
		{
			u = user_of(w, s);
			if (u || w->filler == s)
				break;
		}
		if (w && u)
			user_release(w, u, true, 0);
		else if (w) /* a predecessor had not told it yet */
			filler_leaves(w, 0);
	} while (w);
}

void weights_destroy_all(struct kvmd *d)
{
	struct weights *w;

	while ((w = TAILQ_FIRST(&d->weights.list)))
		weights_free(w);
}
