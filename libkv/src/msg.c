/* SPDX-License-Identifier: MIT */
/*
 * msg.c - the socket after the handshake: requests, and extents as they come
 *
 * kvmd sends EXTENT packets whenever it likes; a packet that is not the reply
 * one waits for is therefore dealt with on the way:
 *
 *	EXTENT with a descriptor	mapped over the reserved offset space
 *	EXTENT, KV_EXTENT_GONE		the reservation is put back over it
 *	RESUME				another kvmd: grants are numbered anew
 *	BYE				the end; its sentence says why
 *	a reply with another cookie	dropped, its descriptors closed
 *
 * Grants are numbered without gaps; a completion says up to which number they
 * must be here before its reply means anything. GONE repeats the number of the
 * grant that it ends.
 *
 * A descriptor is mapped populated: kvmd has the pages already, and a fault
 * per page in the middle of a kernel would cost more. This touches all of the
 * extent, which a client may not do once it was taken back (kvmd kills it).
 * It cannot have been (but behind RESUME, where nothing is populated: it was
 * mapped before): an extent is granted for a reservation whose frames in
 * it are pinned until that step's number is closed, which libkv does after it
 * has received the reservation's extents.
 */
#include "libkv/src/client.h"
#include "libkv/src/sys.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct packet {
	struct kv_msg msg;
	union {
		struct kv_msg_extent extent;
		struct kv_msg_resume resume;
		char bytes[1024];
	} body;
};

static void close_fds(int fds[SYS_NR_FDS])
{
	int i;

	for (i = 0; i < SYS_NR_FDS; i++)
		sys_close(fds[i]);
}

static bool is_bye(const struct packet *p)
{
	return (p->msg.type & ~KV_MSG_REPLY) == KV_MSG_BYE;
}

static void bye_take(struct kv *kv, const struct packet *p, int bytes)
{
	int len = min(bytes - (int)sizeof(p->msg), KV_ERRLEN - 1);

	if (p->msg.status < 0 && len > 0)
		snprintf(kv->bye, sizeof(kv->bye), "%.*s", len, p->body.bytes);
}

/*
 * What lies in the socket behind a hang-up: kvmd says why it ends a client
 * before it closes. A reset is told once, before what is still there.
 */
static void bye_listen(struct kv *kv)
{
	int fds[SYS_NR_FDS], n, misses = 0;
	struct packet p;

	if (kv->listened || kv->sock < 0)
		return;
	kv->listened = true;
	while (!kv->bye[0] && misses < 2) {
		n = sys_recv(kv->sock, &p, sizeof(p), fds);
		close_fds(fds);
		if (n < (int)sizeof(p.msg))
			misses++;
		else if (is_bye(&p))
			bye_take(kv, &p, n);
	}
}

int client_dead(struct kv *kv, int rc)
{
	int was = __atomic_load_n(&kv->dead, __ATOMIC_RELAXED);

	if (!was) {
		__atomic_store_n(&kv->dead, rc, __ATOMIC_RELAXED);
		was = rc;
	}
	if (was != -ESHUTDOWN)
		return was;
	bye_listen(kv);
	if (kv->bye[0])
		return kv_fail(kv, was, "kvmd has ended this client: %s",
			       kv->bye);
	return kv_fail(kv, was, "kvmd has gone: the socket is closed");
}

/* Map an extent, or put the reservation back where one was. */
static int extent_map(struct kv *kv, const struct kv_msg_extent *e, int fd)
{
	u8 *at = kv->base + ((u64)e->extent << KV_EXTENT_SHIFT);
	int rc, prot = PROT_READ, how = MAP_SHARED | MAP_FIXED;
	void *p;

	if (e->flags & KV_EXTENT_GONE) {
		rc = sys_map(at, KV_EXTENT_SIZE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				     MAP_FIXED,
			     -1, &p);
		KV_POINT(EXTENT_GONE);
	} else {
		KV_POINT(EXTENT_RECEIVED);
		if (!(e->flags & KV_EXTENT_SHARED))
			prot |= PROT_WRITE;
		if (!(e->flags & KV_EXTENT_AGAIN))
			how |= MAP_POPULATE;
		rc = sys_map(at, KV_EXTENT_SIZE, prot, how, fd, &p);
		KV_POINT(EXTENT_MAPPED);
	}
	if (rc) {
		kv_fail(kv, rc, "cannot map extent %u: %s", e->extent,
			strerror(-rc));
		return client_dead(kv, rc);
	}
	kv->nr.extents++;
	return 0;
}

static int extent_take(struct kv *kv, const struct packet *p, int bytes, int fd)
{
	const struct kv_msg_extent *e = &p->body.extent;
	bool gone;

	if ((size_t)bytes < sizeof(p->msg) + sizeof(*e)) {
		kv_fail(kv, -EPROTO, "kvmd sent an extent message of %d bytes",
			bytes);
		return client_dead(kv, -EPROTO);
	}
	gone = e->flags & KV_EXTENT_GONE;
	if ((!gone && e->seq != kv->extent_seq + 1) ||
	    e->extent >= kv->info.device_bytes >> KV_EXTENT_SHIFT ||
	    (fd < 0) != gone) {
		kv_fail(kv, -EPROTO,
			"kvmd sent extent %u as number %u after number %u",
			e->extent, e->seq, kv->extent_seq);
		return client_dead(kv, -EPROTO);
	}
	if (!gone) {
		kv->extent_seq = e->seq;
		kv->resume_left -= kv->resume_left > 0;
	}
	return extent_map(kv, e, fd);
}

/* Another kvmd goes on: everything is granted once more, in a row. */
static int resume_take(struct kv *kv, const struct packet *p, int bytes)
{
	if ((size_t)bytes < sizeof(p->msg) + sizeof(p->body.resume)) {
		kv_fail(kv, -EPROTO, "kvmd sent a resume message of %d bytes",
			bytes);
		return client_dead(kv, -EPROTO);
	}
	kv->extent_seq = p->body.resume.seq;
	kv->resume_left = p->body.resume.nr;
	kv->nr.resumes++;
	KV_POINT(RESUMED);
	return 0;
}

/*
 * One packet. 0: an extent or something stale; 1: the reply to @cookie, whose
 * first descriptor is the caller's; -EAGAIN: nothing there.
 */
static int packet_take(struct kv *kv, u64 cookie, struct packet *p, int *bytes,
		       int *fd)
{
	int fds[SYS_NR_FDS], n, rc = 0;

	n = sys_recv(kv->sock, p, sizeof(*p), fds);
	if (n == -EAGAIN)
		return n;
	if (n < 0 || (size_t)n < sizeof(p->msg) || is_bye(p)) {
		close_fds(fds);
		if (n >= (int)sizeof(p->msg))
			bye_take(kv, p, n);
		else if (n > 0)
			n = -EPROTO;
		if (n == -EPROTO)
			kv_fail(kv, n, "kvmd sent a packet that is no message");
		if (n == -EMFILE)
			n = kv_fail(kv, -EPROTO,
				    "kvmd's descriptor cannot be received: "
				    "this process has too many open files");
		return client_dead(kv, n == -EPROTO ? n : -ESHUTDOWN);
	}
	kv->nr.packets++;
	if (p->msg.type == KV_MSG_EXTENT) {
		rc = extent_take(kv, p, n, fds[0]);
	} else if (p->msg.type == KV_MSG_RESUME) {
		rc = resume_take(kv, p, n);
	} else if (cookie && p->msg.cookie == cookie &&
		   (p->msg.type & KV_MSG_REPLY)) {
		*fd = fds[0];
		*bytes = n - (int)sizeof(p->msg);
		fds[0] = -1;
		rc = 1;
	}
	close_fds(fds);
	return rc;
}

int msg_drain(struct kv *kv)
{
	struct packet p;
	int rc, bytes, fd;

	if (kv->dead)
		return client_dead(kv, kv->dead);
	do {
		rc = packet_take(kv, 0, &p, &bytes, &fd);
	} while (!rc);
	return rc == -EAGAIN ? 0 : rc;
}

int msg_extents(struct kv *kv, u32 seq)
{
	struct packet p;
	int rc, bytes, fd;

	while (kv->resume_left || (s32)(seq - kv->extent_seq) > 0) {
		rc = packet_take(kv, 0, &p, &bytes, &fd);
		if (rc == -EAGAIN)
			sys_readable(kv->sock, 1000);
		else if (rc)
			return rc;
	}
	return 0;
}

/**
 * msg_call - ask on the socket and wait for the answer
 * @kv: handle
 * @type: enum kv_msg_type
 * @body: request, overwritten by the reply's body
 * @bytes: of both
 * @fd: the descriptor that came with the reply, -1 if none; may be NULL
 * @what: for the sentence, should there be no better one
 *
 * Return: the reply's status, or why there is none.
 */
int msg_call(struct kv *kv, u32 type, void *body, size_t bytes, int *fd,
	     const char *what)
{
	struct kv_msg m = { .type = type, .cookie = ++kv->cookie };
	struct packet p;
	int rc, got = 0, got_fd = -1;

	if (fd)
		*fd = -1;
	if (kv->dead)
		return client_dead(kv, kv->dead);
	rc = sys_send(kv->sock, &m, sizeof(m), body, bytes);
	if (rc == -ESHUTDOWN)
		return client_dead(kv, rc);
	if (rc)
		return kv_fail(kv, rc, "%s: cannot send: %s", what,
			       strerror(-rc));
	KV_POINT(MSG_SENT);
	do {
		rc = packet_take(kv, m.cookie, &p, &got, &got_fd);
		if (rc == -EAGAIN) {
			sys_readable(kv->sock, 1000);
			rc = 0;
		}
	} while (!rc);
	if (rc < 0)
		return rc;
	KV_POINT(MSG_ANSWERED);
	if (fd)
		*fd = got_fd;
	else
		sys_close(got_fd);
	if (p.msg.status < 0) {
		got = max(min(got, KV_ERRLEN - 1), 0);
		if (got && p.body.bytes[0])
			kv_fail(kv, 0, "%.*s", got, p.body.bytes);
		else
			kv_fail(kv, 0, "%s: %s", what, strerror(-p.msg.status));
		return p.msg.status;
	}
	if (body)
		memcpy(body, p.body.bytes, min(bytes, (size_t)max(got, 0)));
	return p.msg.status;
}
