/* SPDX-License-Identifier: MIT */
/*
 * connect.c - reaching kvmd and saying hello
 *
 * What can go wrong here is what a person meets first, so each failure says
 * which socket, what is the matter with it and, where there is one, what to
 * do. A daemon of another ABI is told by its magic and major number, before
 * anything else of its answer is looked at.
 */
#include "libkv/src/connect.h"
#include "include/kv/errbuf.h"
#include "libkv/src/point.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int connect_fail(char *err, int rc, const char *path)
{
	switch (rc) {
	case -ENOENT:
	case -ENOTDIR:
		return err_set(err, -ENOENT,
			       "no kvmd at %s: there is no such socket (is "
			       "kvmd running? KVMD_SOCKET names another)",
			       path);
	case -ECONNREFUSED:
		return err_set(err, rc,
			       "no kvmd at %s: nobody listens on that socket",
			       path);
	case -EACCES:
	case -EPERM:
		return err_set(err, -EACCES,
			       "not allowed to use %s (group kvmem may)", path);
	case -EPROTOTYPE:
	case -ENOTSOCK:
		return err_set(err, -EPROTO, "%s is not a socket of kvmd's",
			       path);
	case -ENAMETOOLONG:
		return err_set(err, rc,
			       "the path of the socket is too long: %s", path);
	case -ETIMEDOUT:
		return err_set(err, rc, "kvmd at %s takes no connection", path);
	}
	return err_set(err, rc, "cannot connect to %s: %s", path,
		       strerror(-rc));
}

int connect_to(const char *path, u32 timeout_ms, int *sock, char *err)
{
	int rc;

	if (!path || !*path)
		path = getenv("KVMD_SOCKET");
	if (!path || !*path)
		path = KV_SOCKET_PATH;
	rc = sys_connect(path, timeout_ms);
	if (rc < 0)
		return connect_fail(err, rc, path);
	*sock = rc;
	return 0;
}

struct answer {
	struct kv_msg msg;
	union {
		struct kv_msg_welcome welcome;
		char text[1024];
	} body;
};

static int wait_answer(int sock, u32 timeout_ms, struct answer *a,
		       int fds[SYS_NR_FDS], char *err)
{
	u64 end = sys_now_ns() + (u64)timeout_ms * 1000000u, now;
	int n;

	for (;;) {
		n = sys_recv(sock, a, sizeof(*a), fds);
		if (n != -EAGAIN)
			break;
		now = sys_now_ns();
		if (now >= end)
			return err_set(err, -ETIMEDOUT,
				       "kvmd did not answer within %u ms",
				       timeout_ms);
		sys_readable(sock, (int)((end - now) / 1000000u) + 1);
	}
	if (n == -ESHUTDOWN)
		return err_set(err, -ECONNRESET,
			       "kvmd closed the connection without an answer");
	if (n == -EMFILE)
		return err_set(err, n,
			       "kvmd's descriptors cannot be received: this "
			       "process has too many open files");
	if (n < 0)
		return err_set(err, n, "the answer is none of kvmd's");
	return n;
}

/* Is what came after the head a WELCOME that we can live with? */
static int check_answer(const struct answer *a, int n, char *err)
{
	const struct kv_msg_welcome *w = &a->body.welcome;
	int body = n - (int)sizeof(a->msg);

	if (body < 0 || a->msg.type != (KV_MSG_HELLO | KV_MSG_REPLY))
		return err_set(err, -EPROTO, "the answer is none of kvmd's");
	if (a->msg.status < 0 && body > 0 && a->body.text[0])
		return err_set(err, a->msg.status, "%.*s",
			       min(body, KV_ERRLEN - 1), a->body.text);
	if (a->msg.status < 0)
		return err_set(err, a->msg.status, "kvmd refuses: %s",
			       strerror(-a->msg.status));
	if (body < 8 || w->magic != KV_ABI_MAGIC)
		return err_set(err, -EPROTO, "the answer is none of kvmd's");
	if (w->major != KV_ABI_MAJOR)
		return err_set(err, -EPROTO,
			       "kvmd speaks ABI %u.%u, this libkv %u.%u",
			       w->major, w->minor, KV_ABI_MAJOR, KV_ABI_MINOR);
	if ((size_t)body < sizeof(*w))
		return err_set(err, -EPROTO,
			       "kvmd's welcome has %d bytes, not %zu", body,
			       sizeof(*w));
	return 0;
}

int connect_hello(int sock, const struct kv_msg_hello *hello, u32 timeout_ms,
		  struct kv_msg_welcome *welcome, int fds[SYS_NR_FDS],
		  char *err)
{
	struct kv_msg m = { .type = KV_MSG_HELLO, .cookie = 1 };
	struct answer a;
	int rc, n, i;

	memset(&a, 0, sizeof(a));
	for (i = 0; i < SYS_NR_FDS; i++)
		fds[i] = -1;
	rc = sys_send(sock, &m, sizeof(m), hello, sizeof(*hello));
	if (rc)
		return err_set(err, rc == -ESHUTDOWN ? -ECONNRESET : rc,
			       "kvmd closed the connection");
	KV_POINT(ATTACH_HELLO);
	n = wait_answer(sock, timeout_ms, &a, fds, err);
	if (n < 0)
		return n;
	rc = check_answer(&a, n, err);
	if (rc) {
		for (i = 0; i < SYS_NR_FDS; i++) {
			sys_close(fds[i]);
			fds[i] = -1;
		}
		return rc;
	}
	*welcome = a.body.welcome;
	welcome->device_name[KV_NAME_LEN - 1] = '\0';
	welcome->tenant_name[KV_NAME_LEN - 1] = '\0';
	welcome->version[KV_NAME_LEN - 1] = '\0';
	return 0;
}
