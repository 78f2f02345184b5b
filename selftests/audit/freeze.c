/* SPDX-License-Identifier: MIT */
/*
 * freeze.c - have kvmd stand still and hand out its books
 *
 * Speaks the control protocol by itself (Documentation/abi/ctl.rst), so that
 * the audit depends on neither kvmd's nor libkv's code.
 */
#include "selftests/audit/freeze.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <kv/msg.h>

#define PACKET_FDS 253
#define WAIT_MS	   20000

static int complain(int rc, const char *what)
{
	fprintf(stderr, "audit: %s: %s\n", what, strerror(-rc));
	return rc;
}

static int packet_send(int sock, uint32_t type, const void *body, size_t len)
{
	char buf[1024];
	struct kv_msg m = { .type = type, .cookie = 1 };

	memcpy(buf, &m, sizeof(m));
	memcpy(buf + sizeof(m), body, len);
	return send(sock, buf, sizeof(m) + len, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* One packet; its descriptors are appended to b->fds. */
static ssize_t packet_recv(struct books *b, struct kv_msg *m, char *body,
			   size_t size)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * PACKET_FDS)];
		struct cmsghdr align;
	} ctl;
	struct iovec iov[2] = { { m, sizeof(*m) }, { body, size - 1 } };
	struct msghdr mh = { .msg_iov = iov,
			     .msg_iovlen = 2,
			     .msg_control = ctl.buf,
			     .msg_controllen = sizeof(ctl.buf) };
	struct pollfd p = { .fd = b->sock, .events = POLLIN };
	struct cmsghdr *cm;
	unsigned int nr;
	int *fds;
	ssize_t n;

	if (poll(&p, 1, WAIT_MS) <= 0)
		return -ETIMEDOUT;
	n = recvmsg(b->sock, &mh, MSG_CMSG_CLOEXEC);
	if (n < (ssize_t)sizeof(*m))
		return n < 0 ? -errno : -EPIPE;
	body[n - (ssize_t)sizeof(*m)] = '\0';
	for (cm = CMSG_FIRSTHDR(&mh); cm; cm = CMSG_NXTHDR(&mh, cm)) {
		nr = (unsigned int)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		fds = realloc(b->fds, (b->nr_fds + nr) * sizeof(int));
		if (!fds)
			return -ENOMEM;
		b->fds = fds;
		memcpy(b->fds + b->nr_fds, CMSG_DATA(cm), nr * sizeof(int));
		b->nr_fds += nr;
	}
	return n - (ssize_t)sizeof(*m);
}

static int hello(struct books *b)
{
	struct kv_msg_hello h = {
		.magic = KV_ABI_MAGIC,
		.major = KV_ABI_MAJOR,
		.flags = KV_HELLO_CTL | KV_HELLO_ADMIN,
		.name = "audit",
	};
	char body[KV_MSG_MAX];
	struct kv_msg m;
	ssize_t n;
	int rc;

	rc = packet_send(b->sock, KV_MSG_HELLO, &h, sizeof(h));
	if (rc)
		return complain(rc, "HELLO");
	n = packet_recv(b, &m, body, sizeof(body));
	if (n < 0)
		return complain((int)n, "WELCOME");
	if (m.status)
		return complain(m.status, body);
	return 0;
}

static int book_add(struct books *b, json_t *o, int fd)
{
	static const char *const kinds[] = { "state", "table", "status",
					     "extent" };
	const char *kind = json_string_value(json_object_get(o, "kind"));
	struct book *k = &b->book[b->nr];
	unsigned int i;

	for (i = 0; i < 4 && kind; i++) {
		if (strcmp(kind, kinds[i]))
			continue;
		k->kind = (enum book_kind)i;
		k->fd = fd;
		k->client = (uint32_t)json_integer_value(
			json_object_get(o, "client"));
		k->extent = (uint32_t)json_integer_value(
			json_object_get(o, "extent"));
		k->bytes = (uint64_t)json_integer_value(
			json_object_get(o, "bytes"));
		b->nr++;
		return 0;
	}
	return complain(-EPROTO, "a descriptor of an unknown kind");
}

/* The JSON that the last descriptor holds says what the others are. */
static int books_read(struct books *b, uint64_t bytes)
{
	int fd = b->fds[b->nr_fds - 1], rc = 0;
	json_t *top, *list, *o;
	json_error_t err;
	size_t i;
	char *text;

	text = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (text == MAP_FAILED)
		return complain(-errno, "JSON");
	top = json_loadb(text, bytes, 0, &err);
	munmap(text, bytes);
	if (!top)
		return complain(-EPROTO, err.text);
	b->state_bytes = (uint64_t)json_integer_value(
		json_object_get(top, "state_bytes"));
	list = json_object_get(top, "fds");
	b->book = calloc(json_array_size(list) + 1, sizeof(*b->book));
	if (json_array_size(list) + 1 != b->nr_fds || !b->book)
		rc = complain(-EPROTO, "descriptors and their list differ");
	json_array_foreach(list, i, o)
	{
		if (!rc)
			rc = book_add(b, o, b->fds[i]);
	}
	json_decref(top);
	return rc;
}

int freeze_begin(const char *path, struct books *b)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	static const char request[] = "audit freeze";
	struct kv_msg_ctl ctl = { 0 };
	char body[KV_MSG_MAX];
	struct kv_msg m;
	ssize_t n;
	int rc;

	memset(b, 0, sizeof(*b));
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	b->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (b->sock < 0 ||
	    connect(b->sock, (struct sockaddr *)&sun, sizeof(sun)))
		return complain(-errno, path);
	rc = hello(b);
	if (rc)
		return rc;
	rc = packet_send(b->sock, KV_MSG_CTL, request, sizeof(request));
	while (!rc && !ctl.bytes) {
		n = packet_recv(b, &m, body, sizeof(body));
		if (n < 0)
			return complain((int)n, request);
		if (m.status)
			return complain(m.status, body);
		if (n >= (ssize_t)sizeof(ctl))
			memcpy(&ctl, body, sizeof(ctl));
	}
	return rc || !b->nr_fds ? -EPROTO : books_read(b, ctl.bytes);
}

void freeze_end(struct books *b)
{
	static const char request[] = "audit thaw";
	char body[KV_MSG_MAX];
	struct kv_msg m;

	if (b->sock >= 0) {
		if (!packet_send(b->sock, KV_MSG_CTL, request, sizeof(request)))
			packet_recv(b, &m, body, sizeof(body));
		close(b->sock);
	}
	while (b->nr_fds)
		close(b->fds[--b->nr_fds]);
	free(b->fds);
	free(b->book);
	b->sock = -1;
}
