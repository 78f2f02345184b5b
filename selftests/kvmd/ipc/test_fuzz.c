/* SPDX-License-Identifier: MIT */
/*
 * test_fuzz.c - clients that write garbage wherever they can
 *
 * Seeded: SEED=N replays. kvmd must live, its books must stay in order, and
 * an honest client beside it must be served.
 *
 * san: address
 */
#include "selftests/kvmd/ipc/raw.h"

FIXTURE(fuzz)
{
	struct test_kvmd d;
	struct raw honest;
	uint32_t space;
	uint64_t seed;
};

FIXTURE_SETUP(fuzz)
{
	const char *seed = getenv("SEED");

	self->seed = seed ? strtoull(seed, NULL, 0) : 20261123;
	TH_LOG("SEED=%llu", (unsigned long long)self->seed);
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--drain", "20", NULL));
	raw_attach(&self->honest, self->d.socket);
	self->space =
		(uint32_t)raw_space(&self->honest, raw_geom(&self->honest), 0);
}

FIXTURE_TEARDOWN(fuzz)
{
	struct raw *r = &self->honest;

	EXPECT_EQ(0, raw_reserve(r, self->space, 0, 64).res);
	raw_commit(r, self->space, 64);
	EXPECT_TRUE(kv_pte_can(raw_pte(r, self->space, 3), 1));
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* Small numbers and edges are met more often than any other. */
static uint64_t odd_number(uint64_t *seed)
{
	static const uint64_t edges[] = {
		0,	  1,	    7,		 16,	     255,
		256,	  1024,	    4095,	 4096,	     KV_ARENA_SIZE - 8,
		1u << 20, 1u << 31, 0xffffffffu, 1ull << 32, ~0ull,
		~0ull - 7
	};
	uint64_t n = next(seed);

	switch (n % 4) {
	case 0:
		return edges[(n >> 8) % (sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return (n >> 8) % 32;
	case 2:
		return (n >> 8) % KV_ARENA_SIZE & ~7ull;
	default:
		return n >> 8;
	}
}

TEST_F(fuzz, requests_of_random_fields)
{
	uint64_t seed = self->seed;
	struct kv_sqe sqe;
	struct kv_cqe cqe;
	struct raw r;
	int i, geom;

	raw_attach(&r, self->d.socket);
	geom = (int)raw_geom(&r);
	for (i = 0; i < 4; i++)
		raw_space(&r, (uint32_t)geom, i & 1 ? 32 : 0);
	for (i = 0; i < 30000; i++) {
		if (i % 64 == 0) { /* arguments: random words */
			uint64_t *a = raw_arena(&r, 0);
			int k;

			for (k = 0; k < 512; k++)
				a[k] = odd_number(&seed);
		}
		sqe = (struct kv_sqe){
			.opcode = (uint8_t)(next(&seed) % 10),
			.flags = (uint8_t)(next(&seed) % 16
						   ? 0
						   : odd_number(&seed)),
			.nr = (uint16_t)odd_number(&seed),
			.space = (uint32_t)odd_number(&seed),
			.step = next(&seed) % 4 ? ++r.step : odd_number(&seed),
			.arg = { odd_number(&seed), odd_number(&seed) },
			.arg_off = (uint32_t)odd_number(&seed),
			.out_off = (uint32_t)odd_number(&seed),
			.out_len = (uint32_t)odd_number(&seed),
		};
		if (next(&seed) % 8 == 0) { /* a likely one */
			sqe.arg_off = 0;
			sqe.space %= 8;
			sqe.nr %= 4;
			sqe.out_off = 65536;
			sqe.out_len = 4096;
		}
		while (r.sq_tail - kv_load_acquire(&r.hdr->sq_head.v) >=
		       KV_SQ_ENTRIES)
			usleep(10);
		raw_push(&r, &sqe);
		while (raw_pop(&r, &cqe, 0))
			;
		r.status->space[next(&seed) % 16].len = odd_number(&seed);
		r.status->space[next(&seed) % 16].active_step =
			odd_number(&seed);
		if (i % 16 == 0)
			r.status->rank[0].completed = odd_number(&seed);
	}
	raw_detach(&r);
}

TEST_F(fuzz, scribbling_over_the_whole_ring)
{
	uint64_t seed = self->seed;
	struct raw r;
	int i, k;

	for (i = 0; i < 60; i++) {
		raw_attach(&r, self->d.socket);
		raw_space(&r, raw_geom(&r), 0);
		for (k = 0; k < 40; k++) {
			uint32_t *word = (uint32_t *)(void *)r.ring;
			int n;

			for (n = 0; n < 200; n++)
				word[next(&seed) % (KV_RING_ARENA_OFF / 4)] =
					(uint32_t)odd_number(&seed);
			/* a tail that may just be possible */
			if (k % 2)
				kv_ring_publish(&r.hdr->sq_tail,
						(uint32_t)(next(&seed) % 300));
			raw_ring_bell(&r);
		}
		raw_detach(&r);
	}
}

TEST_F(fuzz, packets_of_random_bytes)
{
	uint64_t seed = self->seed;
	char buf[KV_MSG_MAX + 64];
	struct raw r;
	struct kv_msg m;
	size_t len;
	unsigned int k;
	int i;

	for (i = 0; i < 2000; i++) {
		if (i % 20 == 0) {
			if (i)
				raw_detach(&r);
			raw_attach(&r, self->d.socket);
		}
		len = odd_number(&seed) % sizeof(buf);
		for (k = 0; k < len; k++)
			buf[k] = (char)next(&seed);
		m = (struct kv_msg){ .type = (uint32_t)(next(&seed) % 10),
				     .cookie = 1 };
		memcpy(buf, &m, sizeof(m));
		if (next(&seed) % 4 == 0)
			memset(buf + sizeof(m), 0, sizeof(buf) - sizeof(m));
		if (send(r.sock, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
			raw_detach(&r);
			raw_attach(&r, self->d.socket);
		}
		while (raw_recv(&r, 0) == 1)
			;
		raw_fds_close(&r);
	}
	raw_detach(&r);
}

TEST_F(fuzz, control_lines_of_random_words)
{
	static const char *const words[] = {
		"status",  "space", "list",  "show",   "dump",	"client",
		"tenant",  "limit", "max=",  "max=1G", "uid:0", "0:0",
		"0",	   "-1",    "0:0:0", "9999",   "who",	"events",
		"weights", "check", "thaw",  "audit",  "::",	"x"
	};
	const unsigned int nr_words = sizeof(words) / sizeof(words[0]);
	struct kv_msg_hello h = raw_hello(KV_HELLO_CTL);
	uint64_t seed = self->seed;
	struct raw r = { 0 };
	char line[1200];
	size_t len;
	int i, rc;

	r.sock = raw_connect(self->d.socket);
	raw_send(&r, KV_MSG_HELLO, &h, sizeof(h));
	ASSERT_EQ(0, raw_reply(&r));
	for (i = 0; i < 1500; i++) {
		len = 0;
		do {
			len += (size_t)snprintf(line + len, sizeof(line) - len,
						"%s ",
						words[next(&seed) % nr_words]);
		} while (next(&seed) % 3 && len < 1000);
		if (next(&seed) % 16 == 0)
			line[next(&seed) % len] = (char)next(&seed);
		raw_send(&r, KV_MSG_CTL, line, len);
		rc = raw_reply(&r);
		EXPECT_TRUE(rc <= 0 && rc != -EPIPE && rc != -ETIMEDOUT);
		EXPECT_TRUE(rc || r.nr_fds == 1);
	}
	raw_fds_close(&r);
	close(r.sock);
}

TEST_HARNESS_MAIN
