/* SPDX-License-Identifier: MIT */
/*
 * resume.c - clients that outlive kvmd
 *
 *	attach		session_keep(): descriptors to the keeper, then the
 *			record (keep/block.h)
 *	each message	session_msg_begin() .. session_answered()
 *	the end		session_unkeep()
 *
 * and in a successor, around mm_recover():
 *
 *	session_adopt_all()	memory, socket and process of each record
 *	mm_recover()		whose table is not there is lost
 *	session_rejoin_all()	references to tenants; who is not the core's, or
 *				not ours, is at its end
 *	mm_recover_end()
 *	session_resume_all()	lost answers, RESUME and all grants anew; then
 *				what the rings and sockets hold
 *
 * A client sees none of it but a pause: its socket never closes, its rings and
 * its table are the same memory. One that is too old to be told that grants
 * are numbered anew is ended.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/ring.h"
#include "kvmd/ipc/session.h"
#include "kvmd/ipc/tenant.h"
#include "kvmd/kvmd.h"
#include "include/uapi/kv/trace.h"
#include "kvmd/trace.h"
#include "lib/bitmap.h"

/* ---- while it lives ---- */

void session_keep(struct session *s)
{
	struct keep *k = &s->d->keep;
	struct keep_client *r = &k->block->clients[s->id];

	memset(r, 0, sizeof(*r));
	s->keep = r;
	r->serial = mm_client_serial(s->d->mm, s->id);
	r->gen = keep_gen(k);
	r->pid = s->peer.pid;
	r->uid = s->peer.uid;
	r->gid = s->peer.gid;
	r->hidden = s->peer.hidden;
	r->uid_unknown = s->peer.uid_unknown;
	r->features = s->conn->hello.features;
	r->hello = s->conn->hello_msg.cookie;
	memcpy(r->name, s->name, sizeof(r->name));
	memcpy(r->tenant, s->tenant_name, sizeof(r->tenant));
	keep_put(k, KEEP_RING, s->id, r->gen, s->ring_fd);
	keep_put(k, KEEP_TABLE, s->id, r->gen, s->table_fd);
	keep_put(k, KEEP_STATUS, s->id, r->gen, s->status_fd);
	keep_put(k, KEEP_BELL, s->id, r->gen, s->doorbell.fd);
	if (!s->peer.hidden)
		keep_put(k, KEEP_PID, s->id, r->gen, s->peer.pidfd);
	keep_put(k, KEEP_SOCK, s->id, r->gen, s->conn->watch.fd);
	trace_point(s->d, KV_TP_KEEP_ATTACH, s->id, r->gen);
	r->state = KEEP_LIVE;
	trace_point(s->d, KV_TP_KEEP_RECORD, s->id, r->gen);
}

void session_unkeep(struct session *s)
{
	s->keep->state = KEEP_FREE;
	keep_order();
	trace_point(s->d, KV_TP_KEEP_EXIT, s->id, s->keep->gen);
}

void session_unkeep_fds(struct session *s)
{
	static const enum keep_kind kinds[] = {
		KEEP_SOCK,   KEEP_PID,	 KEEP_BELL,
		KEEP_STATUS, KEEP_TABLE, KEEP_RING,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		keep_drop(&s->d->keep, kinds[i], s->id, s->keep->gen);
}

/* ---- messages ---- */

/*
 * The beginning of the packet that is next in the socket, which is all that is
 * looked at of one; bytes, less than a header's: there is none, or no message.
 */
static ssize_t msg_peek(const struct session *s, char *buf)
{
	return recv(s->conn->watch.fd, buf, KEEP_MSG_MAX,
		    MSG_PEEK | MSG_DONTWAIT);
}

bool session_msg_begin(struct session *s)
{
	ssize_t n = msg_peek(s, s->keep->msg);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false; /* what comes now is remembered the next time */
	if (n < (ssize_t)sizeof(struct kv_msg))
		return true;
	keep_order();
	s->keep->msg_bytes = (u32)n;
	trace_point(s->d, KV_TP_MSG_TAKEN, s->id, (u64)n);
	return true;
}

bool session_msg_is_next(struct session *s)
{
	char next[KEEP_MSG_MAX];
	ssize_t n = msg_peek(s, next);

	return n > 0 && (u32)n == s->keep->msg_bytes &&
	       !memcmp(next, s->keep->msg, (size_t)n);
}

void session_answered(struct session *s, u64 cookie)
{
	struct kv_msg msg;

	if (!s->keep || !s->keep->msg_bytes)
		return;
	memcpy(&msg, s->keep->msg, sizeof(msg));
	if (msg.cookie != cookie)
		return;
	trace_point(s->d, KV_TP_MSG_DONE, s->id, cookie);
	s->keep->msg_bytes = 0;
	conn_answered(s->conn);
}

/* ---- in a successor ---- */

static int take_fds(struct session *s, u32 i)
{
	struct keep *k = &s->d->keep;
	const struct keep_client *r = s->keep;
	struct stat st;

	s->ring_fd = keep_take(k, KEEP_RING, i, r->gen);
	s->table_fd = keep_take(k, KEEP_TABLE, i, r->gen);
	s->status_fd = keep_take(k, KEEP_STATUS, i, r->gen);
	s->doorbell.fd = keep_take(k, KEEP_BELL, i, r->gen);
	s->peer.pidfd = r->hidden ? -1 : keep_take(k, KEEP_PID, i, r->gen);
	if (s->ring_fd < 0 || s->table_fd < 0 || s->status_fd < 0 ||
	    s->doorbell.fd < 0 || (s->peer.pidfd < 0 && !r->hidden) ||
	    fstat(s->table_fd, &st))
		return -EBADF;
	s->table_bytes = (u64)st.st_size;
	return session_map(s);
}

/*
 * The core takes nothing over of one that leaves but what it holds: its table
 * says so too, and that a step which it has under way is void (revoke_exit()).
 */
static void close_table(struct session *s)
{
	struct kv_space_desc *sp =
		(void *)((char *)s->table + KV_TABLE_SPACES_OFF);
	u32 i;

	for (i = 0; i < KV_SPACE_MAX; i++)
		if (sp[i].state != KV_SPACE_FREE)
			kv_store_release(&sp[i].state, KV_SPACE_FREE);
	kv_store_release(&s->table->hold_step, 0);
	kv_store_release(&s->table->epoch, s->table->epoch + 1);
}

static struct session *adopt(struct kvmd *d, u32 i)
{
	struct keep_client *r = &d->keep.block->clients[i];
	struct session *s = session_new(d);
	int sock = keep_take(&d->keep, KEEP_SOCK, i, r->gen);

	if (!s)
		goto out_close;
	s->keep = r;
	s->id = i;
	s->peer.pid = r->pid;
	s->peer.uid = r->uid;
	s->peer.gid = r->gid;
	if (r->has_cache) /* which ones, and what was not told: unknown */
		memset(s->cached, 0xff,
		       BITMAP_WORDS(d->dev->nr_extents) * sizeof(*s->cached));
	s->peer.hidden = r->hidden;
	s->peer.uid_unknown = r->uid_unknown;
	memcpy(s->name, r->name, sizeof(s->name));
	memcpy(s->tenant_name, r->tenant, sizeof(s->tenant_name));
	if (take_fds(s, i))
		goto out_free;
	s->state = SESSION_LEAVING;
	if (r->state == KEEP_LIVE && sock >= 0) {
		s->conn = conn_adopt(d, sock, &s->peer, r);
		if (!s->conn)
			goto out_free;
		s->conn->session = s;
		s->state = SESSION_LIVE;
		sock = -1;
	}
	if (s->state == SESSION_LEAVING)
		close_table(s);
	if (sock >= 0)
		close(sock);
	return s;

out_free:
	session_free(s);
out_close:
	if (sock >= 0)
		close(sock);
	return NULL;
}

void session_adopt_all(struct kvmd *d, struct mm_recover_client *out)
{
	const struct keep_client *r = d->keep.block->clients;
	struct session *s;
	u32 i;

	for (i = 0; i < MM_CLIENT_MAX; i++) {
		if (r[i].state == KEEP_FREE)
			continue;
		s = adopt(d, i);
		if (!s) {
			log_warn("client is lost", "client=%u name=%s", i,
				 r[i].name);
			continue;
		}
		d->sessions[i] = s;
		TAILQ_INSERT_TAIL(&d->all, s, link);
		d->nr_sessions++;
		if (s->state != SESSION_LIVE)
			continue;
		out[i].serial = r[i].serial;
		out[i].table = s->table;
		out[i].status = s->status;
	}
}

/* It is not the core's, or its tenant is not there: nothing is left of it. */
static void discard(struct session *s)
{
	struct kvmd *d = s->d;

	if (s->conn) {
		s->conn->session = NULL;
		conn_close(s->conn);
	}
	d->sessions[s->id] = NULL;
	TAILQ_REMOVE(&d->all, s, link);
	d->nr_sessions--;
	session_unkeep(s);
	session_unkeep_fds(s);
	session_free(s);
}

void session_forget_all(struct kvmd *d)
{
	struct session *s;

	while ((s = TAILQ_FIRST(&d->all)))
		discard(s);
}

static void tell_resume(struct session *s)
{
	struct {
		struct kv_msg msg;
		struct kv_msg_resume body;
	} out = { .msg = { .type = KV_MSG_RESUME } };
	int nr;

	if (!(s->keep->features & KV_FEAT_RESUME)) {
		session_kick(s, "kvmd was replaced, and this client's libkv is "
				"too old to go on with its successor");
		return;
	}
	nr = mm_client_resume(s->d->mm, s->id, &out.body.seq);
	if (nr < 0) {
		session_kick(s, "kvmd was replaced: %s", strerror(-nr));
		return;
	}
	out.body.nr = (u32)nr;
	s->extent_seq = out.body.seq;
	if (!s->keep->welcomed && session_send_welcome(s))
		session_kick(s, "attach failed");
	conn_send(s->conn, &out, sizeof(out), NULL, 0);
	s->resuming = (u32)nr;
}

/* A slot of the core's that a process has. */
static bool is_client(const struct kvmd *d, u32 id)
{
	struct mm_client_info info;

	return !mm_client_info(d->mm, id, &info) && info.state <= 2;
}

/* Is it the core's still? Then it has its tenant, and is watched. */
static int rejoin(struct session *s)
{
	struct kvmd *d = s->d;
	int rc;

	if (mm_client_serial(d->mm, s->id) != s->keep->serial ||
	    !is_client(d, s->id))
		return -ENOENT;
	rc = tenant_get(d, s->tenant_name, &s->tenant);
	if (rc)
		return rc;
	s->attached = true;
	return session_watch(s);
}

/* Clients of the core that were never told, or were on their way out. */
static void end_strangers(struct kvmd *d)
{
	u32 i;

	for (i = 0; i < MM_CLIENT_MAX; i++)
		if (!d->sessions[i] && is_client(d, i))
			mm_client_gone(d->mm, i);
}

static void mark_gone(const struct kvmd *d, u32 client, bool *gone)
{
	if (client < MM_CLIENT_MAX && !d->sessions[client])
		gone[client] = true;
}

/* The device still has memory down to clients that are not there. */
static void forget_gone(struct kvmd *d)
{
	const struct keep_block *b = d->keep.block;
	bool gone[MM_CLIENT_MAX] = { false };
	u32 i;

	for (i = 0; i < d->dev->nr_extents; i++)
		mark_gone(d, b->extents[i].client, gone);
	for (i = 0; i < KEEP_RETIRED_MAX; i++)
		if (b->retired[i].gen)
			mark_gone(d, b->retired[i].client, gone);
	for (i = 0; i < MM_CLIENT_MAX; i++)
		if (gone[i])
			d->dev->ops->client_gone(d->dev, i);
}

void session_rejoin_all(struct kvmd *d)
{
	struct session *s, *next;

	for (s = TAILQ_FIRST(&d->all); s; s = next) {
		next = TAILQ_NEXT(s, link);
		if (rejoin(s))
			discard(s);
	}
	end_strangers(d);
	forget_gone(d);
}

void session_resume_all(struct kvmd *d)
{
	struct session *s;

	TAILQ_FOREACH(s, &d->all, link)
	{
		if (s->state == SESSION_LIVE) {
			ring_adopt(s);
			tell_resume(s);
		} else {
			session_grace(s);
		}
	}
	d->adopting = false;
	kvmd_pump(d);
	gate_adopt_all(d);
	TAILQ_FOREACH(s, &d->all, link)
	{
		if (s->state != SESSION_LIVE || s->doomed)
			continue;
		s->resuming = 0;
		trace_point(d, KV_TP_RESUMED, s->id, 0);
		ring_resume(s);
		if (conn_resume(s->conn))
			session_kick(s, "kvmd was replaced and has no memory");
	}
}
