/* SPDX-License-Identifier: MIT */
/*
 * rude.c - a client that keeps no rule, for bad_clients.sh
 *
 *	rude scribble SECONDS SEED	write random bytes over all it can write
 *	rude garbage SECONDS SEED	send packets that mean nothing
 *	rude spam SECONDS		ask, and never read an answer
 *	rude reopen			try to get more out of its descriptors
 *	rude punch			take the pages out of its own memory
 *	rude idle NUMBER		connect so often, say nothing, wait
 *	rude hold			attach, take memory, wait to be killed
 *
 * It shakes hands with libkv's own functions and then goes its own way. The
 * socket is $KVMD_SOCKET. Standard output says what happened; the exit status
 * is 0 unless the mode found something that must not be.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <kv/ops.h>
#include <kv/ring.h>
#include <kv/table.h>
#include "include/kv/errbuf.h"
#include "libkv/src/connect.h"

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif

#define EXTENTS_MAX 64u
#define FD_RING	    0
#define FD_TABLE    1
#define FD_STATUS   2
#define FD_BELL	    3

struct rude {
	int sock, fd[SYS_NR_FDS];
	u8 *ring;
	const u8 *table;
	u8 *status;
	u32 sq_tail, cq_head;
	u32 nr_extents;
	u32 index[EXTENTS_MAX];
	int extent_fd[EXTENTS_MAX];
	u8 *extent[EXTENTS_MAX];
};

static u64 rnd_state = 1;

static u64 rnd(void)
{
	rnd_state ^= rnd_state << 13;
	rnd_state ^= rnd_state >> 7;
	rnd_state ^= rnd_state << 17;
	return rnd_state * 0x2545f4914f6cdd1dull;
}

static void fill(void *dst, size_t bytes)
{
	size_t i;
	u64 v;

	for (i = 0; i + 8 <= bytes; i += 8) {
		v = rnd();
		memcpy((u8 *)dst + i, &v, 8);
	}
}

static struct kv_msg_hello good_hello(void)
{
	struct kv_msg_hello h = {
		.magic = KV_ABI_MAGIC,
		.major = KV_ABI_MAJOR,
		.minor = KV_ABI_MINOR,
		.features = KV_FEATURES,
		.rank = { .tp_size = 1, .pp_size = 1 },
		.name = "rude",
	};
	return h;
}

static void leave(struct rude *r)
{
	u32 i;

	sys_unmap(r->ring, KV_RING_SIZE);
	sys_unmap((void *)(uintptr_t)r->table, KV_TABLE_LEAVES_OFF);
	sys_unmap(r->status, sizeof(struct kv_status));
	for (i = 0; i < SYS_NR_FDS; i++)
		sys_close(r->fd[i]);
	for (i = 0; i < r->nr_extents; i++) {
		sys_unmap(r->extent[i], KV_EXTENT_SIZE);
		sys_close(r->extent_fd[i]);
	}
	sys_close(r->sock);
}

static void nobody(struct rude *r)
{
	u32 i;

	memset(r, 0, sizeof(*r));
	r->sock = -1;
	for (i = 0; i < SYS_NR_FDS; i++)
		r->fd[i] = -1;
}

static int enter(struct rude *r)
{
	struct kv_msg_hello h = good_hello();
	struct kv_msg_welcome w;
	char err[KV_ERRLEN];
	void *p = NULL;
	int rc;

	nobody(r);
	rc = connect_to(NULL, 2000, &r->sock, err);
	if (rc)
		goto out_say;
	rc = connect_hello(r->sock, &h, 5000, &w, r->fd, err);
	if (rc == -EUSERS)
		return rc; /* garbage() counts these */
	if (rc)
		goto out_say;
	if (!sys_map(NULL, KV_RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
		     r->fd[FD_RING], &p))
		r->ring = p;
	if (!sys_map(NULL, KV_TABLE_LEAVES_OFF, PROT_READ, MAP_SHARED,
		     r->fd[FD_TABLE], &p))
		r->table = p;
	if (!sys_map(NULL, sizeof(struct kv_status), PROT_READ | PROT_WRITE,
		     MAP_SHARED, r->fd[FD_STATUS], &p))
		r->status = p;
	return r->ring && r->table && r->status ? 0 : -ENOMEM;

out_say:
	fprintf(stderr, "rude: %s\n", err);
	return rc;
}

/* One goes: kvmd kills who writes to it once more. */
static void drop_extent(struct rude *r, u32 index)
{
	u32 i;

	for (i = 0; i < r->nr_extents && r->index[i] != index; i++)
		;
	if (i == r->nr_extents)
		return;
	sys_unmap(r->extent[i], KV_EXTENT_SIZE);
	sys_close(r->extent_fd[i]);
	r->nr_extents--;
	r->index[i] = r->index[r->nr_extents];
	r->extent[i] = r->extent[r->nr_extents];
	r->extent_fd[i] = r->extent_fd[r->nr_extents];
}

/* Take what the socket has: extents are mapped, the rest is dropped. */
static void listen_in(struct rude *r)
{
	struct {
		struct kv_msg msg;
		union {
			struct kv_msg_extent extent;
			char bytes[1024];
		} body;
	} in;
	int fds[SYS_NR_FDS], n, i;
	void *p = NULL;

	while ((n = sys_recv(r->sock, &in, sizeof(in), fds)) > 0) {
		if (in.msg.type == KV_MSG_EXTENT && fds[0] >= 0 &&
		    r->nr_extents < EXTENTS_MAX &&
		    !sys_map(NULL, KV_EXTENT_SIZE, PROT_READ | PROT_WRITE,
			     MAP_SHARED, fds[0], &p)) {
			r->index[r->nr_extents] = in.body.extent.extent;
			r->extent[r->nr_extents] = p;
			r->extent_fd[r->nr_extents++] = fds[0];
			fds[0] = -1;
		}
		if (in.msg.type == KV_MSG_EXTENT &&
		    in.body.extent.flags & KV_EXTENT_GONE)
			drop_extent(r, in.body.extent.extent);
		for (i = 0; i < SYS_NR_FDS; i++)
			sys_close(fds[i]);
	}
}

static int add_geometry(struct rude *r)
{
	struct kv_msg m = { .type = KV_MSG_GEOM_ADD, .cookie = 2 };
	struct kv_msg_geom_add g = { .geom = { .page_tokens = 16,
					       .nr_layers = 2,
					       .nr_kv_heads = 1,
					       .head_dim = 32,
					       .elem = KV_ELEM_BF16,
					       .token_stride = 64,
					       .head_stride = 64,
					       .v_offset = 1024,
					       .layer_stride = 2048,
					       .page_bytes = 4096 } };
	int rc = sys_send(r->sock, &m, sizeof(m), &g, sizeof(g));

	sys_readable(r->sock, 1000);
	listen_in(r);
	return rc;
}

/* Hand over @sqe and give kvmd a moment. */
static void post(struct rude *r, const struct kv_sqe *sqe)
{
	struct kv_ring_hdr *h = (void *)r->ring;
	struct kv_sqe *ring = (void *)(r->ring + KV_RING_SQ_OFF);

	ring[r->sq_tail & (KV_SQ_ENTRIES - 1)] = *sqe;
	kv_ring_publish(&h->sq_tail, ++r->sq_tail);
	sys_ring_doorbell(r->fd[FD_BELL]);
	kv_ring_release(&h->cq_head, kv_ring_avail(&h->cq_tail));
}

static void post_reserve(struct rude *r, u32 space, u64 step, u64 pos, u32 nr)
{
	struct kv_resv_item item = { .space = space,
				     .nr_tokens = nr,
				     .pos = pos };
	struct kv_sqe sqe = { .opcode = KV_OP_RESERVE,
			      .nr = 1,
			      .step = step,
			      .arg_off = 4096,
			      .out_off = 65536,
			      .out_len = 65536 };

	memcpy(r->ring + KV_RING_ARENA_OFF + 4096, &item, sizeof(item));
	post(r, &sqe);
}

/* A space and some memory, in the way that is meant. */
static void take_memory(struct rude *r, u32 tokens)
{
	struct kv_space_args args = { .nr_areas = 1 };
	struct kv_sqe sqe = { .opcode = KV_OP_SPACE_CREATE };
	int i;

	add_geometry(r);
	memcpy(r->ring + KV_RING_ARENA_OFF, &args, sizeof(args));
	post(r, &sqe);
	post_reserve(r, 0, 1, 0, tokens);
	for (i = 0; i < 200 && !r->nr_extents; i++) {
		sys_readable(r->sock, 10);
		listen_in(r);
	}
}

/* ---- scribble ---- */

/* Requests that are nearly right: in range more often than not. */
static void odd_request(struct rude *r)
{
	struct kv_sqe sqe = {
		.opcode = (u8)(rnd() % (KV_OP_NR + 1)),
		.flags = rnd() % 8 ? 0 : (u8)rnd(),
		.nr = (u16)(rnd() % 4 ? rnd() % 4 : rnd()),
		.space = (u32)(rnd() % 4 ? rnd() % 6 : rnd()),
		.user_data = rnd(),
		.step = rnd() % 4 ? r->sq_tail : rnd(),
		.arg = { rnd() % 4 ? rnd() % 200 : rnd(), rnd() % 3 },
		.arg_off = (u32)(rnd() % 8 ? rnd() % 512 * 8 : rnd()),
		.out_off = (u32)(rnd() % 8 ? 65536 : rnd()),
		.out_len = (u32)(rnd() % 8 ? 65536 : rnd()),
	};
	struct kv_resv_item *items =
		(void *)(r->ring + KV_RING_ARENA_OFF + sqe.arg_off % 4096);
	u32 i;

	for (i = 0; i < 4; i++)
		items[i] = (struct kv_resv_item){
			.space = (u32)(rnd() % 8 ? rnd() % 6 : rnd()),
			.nr_tokens = (u32)(rnd() % 8 ? rnd() % 300 : rnd()),
			.pos = rnd() % 8 ? rnd() % 300 : rnd(),
		};
	if (sqe.opcode == KV_OP_SPACE_CREATE && rnd() % 2)
		memcpy(items,
		       &(struct kv_space_args){
			       .nr_areas = (u16)(1 + rnd() % 5),
			       .area = { { .window = (u32)(rnd() % 64) } } },
		       sizeof(struct kv_space_args));
	post(r, &sqe);
}

static void scribble_once(struct rude *r, unsigned int how)
{
	struct kv_status *st = (void *)r->status;
	u32 i;

	switch (how) {
	case 0: /* the whole ring, indices and all */
		fill(r->ring, KV_RING_SIZE);
		sys_ring_doorbell(r->fd[FD_BELL]);
		break;
	case 1: /* entries and arena, indices left alone */
		fill(r->ring + KV_RING_SQ_OFF, KV_RING_SIZE - KV_RING_SQ_OFF);
		r->sq_tail += (u32)(rnd() % 64);
		kv_ring_publish(
			&((struct kv_ring_hdr *)(void *)r->ring)->sq_tail,
			r->sq_tail);
		sys_ring_doorbell(r->fd[FD_BELL]);
		break;
	case 2: /* lengths and marks */
		fill(r->status, sizeof(struct kv_status));
		odd_request(r);
		break;
	case 3: /* small lies */
		st->space[rnd() % 8].len = rnd() % 400;
		st->space[rnd() % 8].active_step = rnd() % 100;
		st->rank[0].completed = rnd() % 100;
		odd_request(r);
		break;
	case 4: /* its memory */
		for (i = 0; i < r->nr_extents; i++)
			fill(r->extent[i] + rnd() % 2000 * 4096, 8192);
		odd_request(r);
		break;
	default:
		odd_request(r);
	}
	listen_in(r);
}

static int scribble(unsigned int seconds, u64 seed)
{
	u64 end = sys_now_ns() + seconds * 1000000000ull;
	unsigned int nr = 0, rounds = 0, i, how;
	struct rude r;

	rnd_state = seed * 2 + 1;
	while (sys_now_ns() < end) {
		if (enter(&r)) {
			leave(&r);
			return 1;
		}
		take_memory(&r, 4000);
		how = (unsigned int)(rnd() % 6);
		for (i = 0; i < 3000 && sys_now_ns() < end; i++, nr++) {
			scribble_once(&r, how ? 2 + (unsigned int)(rnd() % 4)
					      : (unsigned int)(rnd() % 2));
			if (sys_hung_up(r.sock))
				break;
		}
		leave(&r);
		rounds++;
	}
	printf("scribbled %u times as %u clients\n", nr, rounds);
	return nr < 100;
}

/* ---- garbage on the socket ---- */

static int open_socket(void)
{
	char err[KV_ERRLEN];
	int sock = -1;

	if (connect_to(NULL, 2000, &sock, err)) {
		fprintf(stderr, "rude: %s\n", err);
		return -1;
	}
	return sock;
}

static void garbage_packet(int sock)
{
	struct {
		struct kv_msg msg;
		u8 body[8192];
	} out;
	size_t len = rnd() % 4 ? rnd() % 200 : rnd() % sizeof(out.body);
	union {
		char buf[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} ctl;
	struct iovec iov = { .iov_base = &out, .iov_len = sizeof(out.msg) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[4] = { sock, 0, 1, 2 };
	struct cmsghdr *c;

	fill(&out, sizeof(out));
	if (rnd() % 8)
		out.msg.type = (u32)(rnd() % 12);
	if (out.msg.type == KV_MSG_HELLO && rnd() % 2) {
		struct kv_msg_hello h = good_hello();

		if (rnd() % 2) {
			h.steps_from = rnd();
			fill(&h.rank, sizeof(h.rank));
			fill(&h.ns, sizeof(h.ns));
			fill(h.name, sizeof(h.name));
		}
		memcpy(out.body, &h, sizeof(h));
		len = sizeof(h);
	}
	iov.iov_len = rnd() % 16 ? sizeof(out.msg) + len % sizeof(out.body)
				 : rnd() % 16;
	if (!(rnd() % 8)) { /* descriptors that nobody wants */
		m.msg_control = ctl.buf;
		m.msg_controllen = sizeof(ctl.buf);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(fds));
		memcpy(CMSG_DATA(c), fds, sizeof(fds));
	}
	sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int garbage(unsigned int seconds, u64 seed)
{
	u64 end = sys_now_ns() + seconds * 1000000000ull;
	unsigned int nr = 0, rounds = 0, refused = 0, i;
	struct rude r;

	rnd_state = seed * 2 + 1;
	while (sys_now_ns() < end) {
		nobody(&r);
		/* kvmd lets a user have only so many clients at a time */
		if (rnd() % 8) {
			r.sock = open_socket();
		} else if (enter(&r)) {
			refused++;
			sys_nap_ns(100000000);
		}
		if (r.sock < 0)
			continue;
		for (i = 0; i < 200 && !sys_hung_up(r.sock); i++, nr++) {
			garbage_packet(r.sock);
			listen_in(&r);
		}
		leave(&r);
		rounds++;
	}
	printf("sent %u packets on %u connections, %u times it was told that "
	       "it has too many\n",
	       nr, rounds, refused);
	return nr < 100;
}

static int spam(unsigned int seconds)
{
	u64 end = sys_now_ns() + seconds * 1000000000ull;
	struct kv_msg_hello h = good_hello();
	struct kv_msg m = { .type = KV_MSG_HELLO };
	static const char line[] = "status";
	int sock = open_socket();
	unsigned int nr = 0;

	if (sock < 0)
		return 1;
	h.flags = KV_HELLO_CTL;
	sys_send(sock, &m, sizeof(m), &h, sizeof(h));
	m.type = KV_MSG_CTL;
	fcntl(sock, F_SETFL, O_NONBLOCK);
	while (sys_now_ns() < end && !sys_hung_up(sock)) {
		if (!sys_send(sock, &m, sizeof(m), line, sizeof(line)))
			nr++;
		else
			sys_nap_ns(1000000);
	}
	printf("asked %u times\n", nr);
	close(sock);
	return 0;
}

/* ---- descriptors ---- */

static int nr_bad;

/* @done: what must have failed has not. */
static void must_fail(bool done, const char *what)
{
	if (done) {
		printf("possible: %s\n", what);
		nr_bad++;
	}
}

static void try_reopen(int fd, const char *what)
{
	char path[64], text[128];
	int got;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	got = open(path, O_RDWR | O_CLOEXEC);
	snprintf(text, sizeof(text), "open %s for writing", what);
	must_fail(got >= 0, text);
	if (got >= 0)
		close(got);
}

static void try_resize(int fd, const char *what)
{
	char text[128];
	struct stat st;

	if (fstat(fd, &st))
		return;
	snprintf(text, sizeof(text), "shrink %s", what);
	must_fail(!ftruncate(fd, 0), text);
	snprintf(text, sizeof(text), "grow %s", what);
	must_fail(!ftruncate(fd, st.st_size + 4096), text);
	snprintf(text, sizeof(text), "seal %s", what);
	must_fail(!fcntl(fd, F_ADD_SEALS, 0x10 /* future write */), text);
	snprintf(text, sizeof(text), "write behind %s", what);
	must_fail(pwrite(fd, "x", 1, st.st_size) > 0, text);
	fstat(fd, &st);
	snprintf(text, sizeof(text), "change the mode of %s", what);
	must_fail(getuid() && !fchmod(fd, 0666), text);
}

static int reopen(void)
{
	static const char *const names[] = { "the ring", "the table",
					     "the status", "an extent" };
	struct rude r;
	void *p = NULL;
	u32 i;

	if (enter(&r))
		return 1;
	take_memory(&r, 2000);
	if (!r.nr_extents) {
		printf("got no extent\n");
		return 1;
	}
	for (i = 0; i < 3; i++)
		try_resize(r.fd[i], names[i]);
	try_resize(r.extent_fd[0], names[3]);
	try_reopen(r.fd[FD_TABLE], names[FD_TABLE]);
	must_fail(!sys_map(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			   r.fd[FD_TABLE], &p),
		  "map the table writable");
	must_fail(!sys_protect((void *)(uintptr_t)r.table, 4096,
			       PROT_READ | PROT_WRITE),
		  "make the table's mapping writable");
	/* kvmd must not read it with O_NONBLOCK gone */
	fcntl(r.fd[FD_BELL], F_SETFL, 0);
	sys_ring_doorbell(r.fd[FD_BELL]);
	post(&r, &(struct kv_sqe){ .opcode = KV_OP_NOP });
	leave(&r);
	printf("%d things were possible that must not be\n", nr_bad);
	return nr_bad > 0;
}

static int punch(void)
{
	const int how = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	struct rude r;
	u32 i;

	if (enter(&r))
		return 1;
	take_memory(&r, 40000);
	for (i = 0; i < r.nr_extents; i++)
		fallocate(r.extent_fd[i], how, 0, KV_EXTENT_SIZE);
	fallocate(r.fd[FD_RING], how, 0, KV_RING_SIZE);
	fallocate(r.fd[FD_STATUS], how, 0, sizeof(struct kv_status));
	printf("punched %u extents\n", r.nr_extents);
	fflush(stdout);
	pause();
	return 0;
}

static int idle(unsigned int nr)
{
	unsigned int i, got = 0;

	for (i = 0; i < nr; i++)
		got += open_socket() >= 0;
	printf("%u of %u connected\n", got, nr);
	fflush(stdout);
	pause();
	return 0;
}

static int hold(void)
{
	struct rude r;

	if (enter(&r))
		return 1;
	take_memory(&r, 20000);
	printf("holds %u extents\n", r.nr_extents);
	fflush(stdout);
	pause();
	return 0;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	unsigned int n = argc > 2 ? (unsigned int)strtoul(argv[2], NULL, 10)
				  : 1;
	u64 seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;

	signal(SIGPIPE, SIG_IGN);
	if (!strcmp(mode, "scribble"))
		return scribble(n, seed);
	if (!strcmp(mode, "garbage"))
		return garbage(n, seed);
	if (!strcmp(mode, "spam"))
		return spam(n);
	if (!strcmp(mode, "reopen"))
		return reopen();
	if (!strcmp(mode, "punch"))
		return punch();
	if (!strcmp(mode, "idle"))
		return idle(n);
	if (!strcmp(mode, "hold"))
		return hold();
	fprintf(stderr, "rude: no mode '%s'\n", mode);
	return 2;
}
