/* SPDX-License-Identifier: MIT */
/*
 * raw.h - a client of kvmd without libkv: packets and rings by hand
 *
 * For tests that must do what libkv never would. Calls that fail where the
 * test cannot go on end it.
 */
#ifndef SELFTESTS_KVMD_IPC_RAW_H
#define SELFTESTS_KVMD_IPC_RAW_H

#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include <kv/msg.h>
#include <kv/ops.h>
#include <kv/ring.h>
#include <kv/step.h>
#include <kv/table.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define RAW_WAIT_MS 30000
#define RAW_FDS	    256

struct raw {
	int sock;
	struct kv_msg_welcome w;
	int ring_fd, table_fd, status_fd, bell;
	char *ring;
	struct kv_ring_hdr *hdr;
	struct kv_table_hdr *table;
	struct kv_status *status;
	uint32_t sq_tail, cq_head, eq_head;
	uint64_t step, cookie;
	/* the last packet */
	struct kv_msg msg;
	char body[KV_MSG_MAX];
	size_t body_len;
	int fds[RAW_FDS];
	unsigned int nr_fds;
	/* extents, as EXTENT packets told */
	int extent_fd[1024];
	uint32_t nr_extents, extent_seq;
};

static inline int raw_connect(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&sun, sizeof(sun))) {
		close(fd);
		return -errno;
	}
	return fd;
}

static inline void raw_send(struct raw *r, uint32_t type, const void *body,
			    size_t len)
{
	char buf[KV_MSG_MAX * 2];
	struct kv_msg m = { .type = type, .cookie = ++r->cookie };

	memcpy(buf, &m, sizeof(m));
	if (len)
		memcpy(buf + sizeof(m), body, len);
	send(r->sock, buf, sizeof(m) + len, MSG_NOSIGNAL);
}

static inline void raw_fds_close(struct raw *r)
{
	while (r->nr_fds)
		close(r->fds[--r->nr_fds]);
}

/* Take one packet. Return: 1, 0 at the end of the connection, -errno. */
static inline int raw_recv(struct raw *r, int timeout_ms)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * RAW_FDS)];
		struct cmsghdr align;
	} ctl;
	struct pollfd p = { .fd = r->sock, .events = POLLIN };
	struct iovec iov[2] = { { &r->msg, sizeof(r->msg) },
				{ r->body, sizeof(r->body) } };
	struct msghdr mh = { .msg_iov = iov,
			     .msg_iovlen = 2,
			     .msg_control = ctl.buf,
			     .msg_controllen = sizeof(ctl.buf) };
	struct cmsghdr *cm;
	ssize_t n;

	raw_fds_close(r);
	if (poll(&p, 1, timeout_ms) <= 0)
		return -ETIMEDOUT;
	n = recvmsg(r->sock, &mh, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return n < 0 && errno != ECONNRESET ? -errno : 0;
	r->body_len = (size_t)n - sizeof(r->msg);
	if (r->body_len < sizeof(r->body))
		r->body[r->body_len] = '\0';
	for (cm = CMSG_FIRSTHDR(&mh); cm; cm = CMSG_NXTHDR(&mh, cm)) {
		r->nr_fds = (unsigned int)((cm->cmsg_len - CMSG_LEN(0)) /
					   sizeof(int));
		memcpy(r->fds, CMSG_DATA(cm), r->nr_fds * sizeof(int));
	}
	return 1;
}

/* An EXTENT packet: keep its descriptor. */
static inline void raw_extent(struct raw *r)
{
	struct kv_msg_extent x;

	memcpy(&x, r->body, sizeof(x));
	ASSERT_LT(x.extent, 1024u);
	if (x.flags & KV_EXTENT_GONE) { /* repeats its grant's number, or 0 */
		r->nr_extents--;
		return;
	}
	ASSERT_EQ(x.seq, r->extent_seq + 1);
	r->extent_seq = x.seq;
	ASSERT_EQ(r->nr_fds, 1);
	r->extent_fd[x.extent] = r->fds[0];
	r->nr_fds = 0;
	r->nr_extents++;
}

/* The reply to the last request; extents on the way are kept. */
static inline int raw_reply(struct raw *r)
{
	int rc;

	while ((rc = raw_recv(r, RAW_WAIT_MS)) == 1) {
		if (r->msg.type == KV_MSG_EXTENT) {
			raw_extent(r);
			continue;
		}
		EXPECT_EQ(r->msg.cookie, r->cookie);
		return r->msg.status;
	}
	return rc ? rc : -EPIPE;
}

static inline struct kv_msg_hello raw_hello(uint32_t flags)
{
	struct kv_msg_hello h = {
		.magic = KV_ABI_MAGIC,
		.major = KV_ABI_MAJOR,
		.minor = KV_ABI_MINOR,
		.features = KV_FEATURES,
		.flags = flags,
		.name = "raw",
	};

	return h;
}

static inline void *raw_map(int fd, size_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot, MAP_SHARED, fd, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	return p;
}

/* Connect and shake hands. */
static inline void raw_attach_as(struct raw *r, const char *path,
				 const struct kv_msg_hello *h)
{
	memset(r, 0, sizeof(*r));
	r->sock = raw_connect(path);
	ASSERT_GE(r->sock, 0);
	raw_send(r, KV_MSG_HELLO, h, sizeof(*h));
	ASSERT_EQ(raw_reply(r), 0);
	memcpy(&r->w, r->body, sizeof(r->w));
	ASSERT_EQ(r->nr_fds, 4);
	r->ring_fd = r->fds[0];
	r->table_fd = r->fds[1];
	r->status_fd = r->fds[2];
	r->bell = r->fds[3];
	r->nr_fds = 0;
	r->ring = raw_map(r->ring_fd, KV_RING_SIZE, PROT_READ | PROT_WRITE);
	r->hdr = (void *)r->ring;
	r->table = raw_map(r->table_fd, KV_TABLE_SIZE_MAX, PROT_READ);
	r->status = raw_map(r->status_fd, sizeof(*r->status),
			    PROT_READ | PROT_WRITE);
}

static inline void raw_attach(struct raw *r, const char *path)
{
	const struct kv_msg_hello h = raw_hello(0);

	raw_attach_as(r, path, &h);
}

static inline void raw_detach(struct raw *r)
{
	close(r->sock);
	munmap(r->ring, KV_RING_SIZE);
	munmap(r->table, KV_TABLE_SIZE_MAX);
	munmap(r->status, sizeof(*r->status));
	close(r->ring_fd);
	close(r->table_fd);
	close(r->status_fd);
	close(r->bell);
}

static inline struct kv_geometry raw_geometry(void)
{
	/* 16 tokens, 2 layers, one head of 64: 8 KiB a page */
	struct kv_geometry g = {
		.page_tokens = 16,
		.nr_layers = 2,
		.nr_kv_heads = 1,
		.head_dim = 64,
		.elem = KV_ELEM_BF16,
		.token_stride = 128,
		.head_stride = 128,
		.v_offset = 2048,
		.layer_stride = 4096,
		.page_bytes = 8192,
	};

	return g;
}

static inline uint32_t raw_geom(struct raw *r)
{
	struct kv_msg_geom_add g = { .geom = raw_geometry() };

	raw_send(r, KV_MSG_GEOM_ADD, &g, sizeof(g));
	ASSERT_EQ(raw_reply(r), 0);
	memcpy(&g, r->body, sizeof(g));
	return g.id;
}

static inline void *raw_arena(struct raw *r, uint32_t off)
{
	return r->ring + KV_RING_ARENA_OFF + off;
}

static inline void raw_ring_bell(struct raw *r)
{
	const uint64_t one = 1;

	if (write(r->bell, &one, sizeof(one)) != sizeof(one))
		th_fail(__FILE__, __LINE__, "doorbell: %s", strerror(errno));
}

/* Put a request on the ring; wake kvmd if it sleeps. */
static inline void raw_push(struct raw *r, const struct kv_sqe *sqe)
{
	struct kv_sqe *ring = (void *)(r->ring + KV_RING_SQ_OFF);

	ring[r->sq_tail & (KV_SQ_ENTRIES - 1)] = *sqe;
	kv_ring_publish(&r->hdr->sq_tail, ++r->sq_tail);
	if (kv_ring_must_wake(&r->hdr->sq_sleeping))
		raw_ring_bell(r);
}

/* Take a completion if one comes in time. */
static inline bool raw_pop(struct raw *r, struct kv_cqe *cqe, int timeout_ms)
{
	struct kv_cqe *ring = (void *)(r->ring + KV_RING_CQ_OFF);
	double end = th_now() + timeout_ms * 1e-3;

	while (kv_ring_avail(&r->hdr->cq_tail) == r->cq_head) {
		if (th_now() > end)
			return false;
		usleep(20);
	}
	*cqe = ring[r->cq_head & (KV_CQ_ENTRIES - 1)];
	kv_ring_release(&r->hdr->cq_head, ++r->cq_head);
	/* descriptors that it speaks of are on the socket already */
	while (r->extent_seq < cqe->extent_seq) {
		ASSERT_EQ(raw_recv(r, RAW_WAIT_MS), 1);
		ASSERT_EQ(r->msg.type, KV_MSG_EXTENT);
		raw_extent(r);
	}
	return true;
}

/* One request, one answer. */
static inline struct kv_cqe raw_call(struct raw *r, struct kv_sqe sqe)
{
	struct kv_cqe cqe = { .res = -ETIMEDOUT };

	sqe.user_data = 0x1234 + r->sq_tail;
	raw_push(r, &sqe);
	if (EXPECT_TRUE(raw_pop(r, &cqe, RAW_WAIT_MS)))
		EXPECT_EQ(cqe.user_data, sqe.user_data);
	return cqe;
}

static inline int raw_space(struct raw *r, uint32_t geom, uint32_t window)
{
	struct kv_space_args *a = raw_arena(r, 0);

	memset(a, 0, sizeof(*a));
	a->nr_areas = 1;
	a->area[0].geom = geom;
	a->area[0].window = window;
	a->area[0].nr_heads = 1;
	return raw_call(r, (struct kv_sqe){ .opcode = KV_OP_SPACE_CREATE }).res;
}

#define RAW_OUT_OFF 65536u

/* Reserve tokens [pos, pos + nr) of @space for the next step. */
static inline struct kv_cqe raw_reserve_with(struct raw *r, uint8_t flags,
					     uint32_t space, uint64_t pos,
					     uint32_t nr)
{
	struct kv_resv_item *it = raw_arena(r, 0);

	*it = (struct kv_resv_item){ .space = space,
				     .nr_tokens = nr,
				     .pos = pos };
	return raw_call(r,
			(struct kv_sqe){
				.opcode = KV_OP_RESERVE,
				.flags = flags,
				.nr = 1,
				.step = ++r->step,
				.out_off = RAW_OUT_OFF,
				.out_len = sizeof(struct kv_copy) * KV_AREA_MAX,
			});
}

static inline struct kv_cqe raw_reserve(struct raw *r, uint32_t space,
					uint64_t pos, uint32_t nr)
{
	return raw_reserve_with(r, 0, space, pos, nr);
}

/* The step has ended and its tokens count. */
static inline void raw_commit(struct raw *r, uint32_t space, uint64_t len)
{
	kv_step_end(&r->status->rank[0], r->step);
	kv_step_store_len(&r->status->space[space], len, r->table);
}

static inline kv_pte_t raw_pte(struct raw *r, uint32_t space, uint32_t page)
{
	const struct kv_space_desc *d = kv_table_space(r->table, space);
	uint32_t leaf = d->area[0].leaf[page / KV_LEAF_PTES];

	if (leaf >= kv_load_acquire(&r->table->nr_leaves))
		return 0;
	return kv_step_pte(
		&kv_table_leaf(r->table, leaf)->pte[page % KV_LEAF_PTES]);
}

#endif
