/* SPDX-License-Identifier: MIT */
/*
 * ctl.c - one question to kvmd's control interface, one JSON object back
 *
 * A connection of its own for each question: it has no rings and no memory,
 * so that asking works when nothing else does. The answer comes as a memfd,
 * copied here.
 */
#include "libkv/src/client.h"
#include "libkv/src/connect.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CTL_TIMEOUT_MS 30000u
#define CTL_JSON_MAX   (256u << 20)

static char *copy_text(const char *text, size_t bytes)
{
	char *s = malloc(bytes + 1);

	if (!s)
		return NULL;
	memcpy(s, text, bytes);
	s[bytes] = '\0';
	return s;
}

static int read_json(int fd, u64 bytes, char **json)
{
	char *s;
	int rc;

	if (fd < 0 || bytes > CTL_JSON_MAX)
		return -EPROTO;
	s = malloc(bytes + 1);
	if (!s)
		return -ENOMEM;
	rc = sys_read_at(fd, s, bytes);
	if (rc) {
		free(s);
		return rc;
	}
	s[bytes] = '\0';
	*json = s;
	return 0;
}

struct ctl_reply {
	struct kv_msg msg;
	union {
		struct kv_msg_ctl ctl;
		char text[1024];
	} body;
};

static int take_reply(const struct ctl_reply *r, int n, int fd, char **json)
{
	size_t body = (size_t)n - sizeof(r->msg);

	if (r->msg.type != (KV_MSG_CTL | KV_MSG_REPLY))
		return -EPROTO;
	if (r->msg.status < 0) {
		*json = copy_text(r->body.text, strnlen(r->body.text, body));
		return r->msg.status;
	}
	if (body < sizeof(r->body.ctl))
		return -EPROTO;
	return read_json(fd, r->body.ctl.bytes, json);
}

static int ask(int sock, const char *request, char **json)
{
	struct kv_msg m = { .type = KV_MSG_CTL, .cookie = 2 };
	u64 end = sys_now_ns() + CTL_TIMEOUT_MS * 1000000ull;
	struct ctl_reply r;
	int fds[SYS_NR_FDS], n, rc, i;

	rc = sys_send(sock, &m, sizeof(m), request, strlen(request) + 1);
	if (rc)
		return rc;
	for (;;) {
		n = sys_recv(sock, &r, sizeof(r), fds);
		if (n != -EAGAIN)
			break;
		if (sys_now_ns() >= end)
			return -ETIMEDOUT;
		sys_readable(sock, 1000);
	}
	if (n < 0)
		return n;
	rc = n < (int)sizeof(r.msg) ? -EPROTO : take_reply(&r, n, fds[0], json);
	for (i = 0; i < SYS_NR_FDS; i++)
		sys_close(fds[i]);
	return rc;
}

int kv_ctl(const char *socket, unsigned int flags, const char *request,
	   char **json)
{
	struct kv_msg_hello hello = {
		.magic = KV_ABI_MAGIC,
		.major = KV_ABI_MAJOR,
		.minor = KV_ABI_MINOR,
		.features = KV_FEATURES,
		.flags = KV_HELLO_CTL | (flags & KV_HELLO_ADMIN),
		.name = "kv_ctl",
	};
	struct kv_msg_welcome welcome;
	int sock = -1, fds[SYS_NR_FDS], rc, i;
	char err[KV_ERRLEN] = "";

	*json = NULL;
	if (strlen(request) + 1 > KV_MSG_MAX - sizeof(struct kv_msg))
		return -E2BIG;
	rc = connect_to(socket, 5000, &sock, err);
	if (!rc)
		rc = connect_hello(sock, &hello, 5000, &welcome, fds, err);
	if (!rc) {
		for (i = 0; i < SYS_NR_FDS; i++)
			sys_close(fds[i]);
		rc = ask(sock, request, json);
		if (rc && !*json) {
			err_set(err, rc, "kvmd gives no answer: %s",
				strerror(-rc));
			*json = copy_text(err, strlen(err));
		}
	} else {
		*json = copy_text(err, strlen(err));
	}
	sys_close(sock);
	return rc;
}
