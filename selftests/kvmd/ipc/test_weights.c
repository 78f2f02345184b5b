/* SPDX-License-Identifier: MIT */
/*
 * test_weights.c - one mapping for all who open the same model
 */
#include "selftests/kvmd/ipc/raw.h"

#define BYTES (4u << 20)

FIXTURE(weights)
{
	struct test_kvmd d;
	struct raw a, b;
	struct kv_msg_weights got;
};

FIXTURE_SETUP(weights)
{
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--drain", "20", "--stall", "1500", NULL));
	raw_attach(&self->a, self->d.socket);
	raw_attach(&self->b, self->d.socket);
}

FIXTURE_TEARDOWN(weights)
{
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

static struct kv_msg_weights key(unsigned int digest, uint64_t bytes)
{
	struct kv_msg_weights k = { .packing = 1,
				    .bytes = bytes,
				    .name = "model" };

	k.digest[0] = (uint8_t)digest;
	return k;
}

static void ask(struct raw *r, unsigned int digest, uint64_t bytes)
{
	struct kv_msg_weights k = key(digest, bytes);

	raw_send(r, KV_MSG_WEIGHTS_OPEN, &k, sizeof(k));
}

/* The reply to ask(); its descriptor, or -errno. */
static int answer(struct weights_self *self, struct raw *r)
{
	int rc = raw_reply(r);

	if (rc)
		return rc;
	memcpy(&self->got, r->body, sizeof(self->got));
	ASSERT_EQ(r->nr_fds, 1);
	r->nr_fds = 0;
	return r->fds[0];
}

static void fill(int fd, int byte)
{
	void *p = raw_map(fd, BYTES, PROT_READ | PROT_WRITE);

	memset(p, byte, BYTES);
	munmap(p, BYTES);
	close(fd);
}

static int seal(struct weights_self *self, struct raw *r)
{
	struct kv_msg_weights k = self->got;

	raw_send(r, KV_MSG_WEIGHTS_SEAL, &k, sizeof(k));
	return raw_reply(r);
}

static int drop(struct raw *r, uint32_t id)
{
	struct kv_msg_weights k = { .id = id };

	raw_send(r, KV_MSG_WEIGHTS_CLOSE, &k, sizeof(k));
	return raw_reply(r);
}

static uint64_t meminfo(struct weights_self *self, const char *word)
{
	char *json = test_kvmd_ctl(&self->d, "meminfo");
	uint64_t n = ~0ull;

	EXPECT_EQ(0, test_json_u64(json, word, &n));
	free(json);
	return n;
}

TEST_F(weights, the_second_client_waits_and_maps_the_same_memory)
{
	struct stat sa, sb;
	int fd, ro;
	char *p;

	ask(&self->a, 1, BYTES);
	fd = answer(self, &self->a);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(self->got.state, KV_WEIGHTS_FILL);
	ask(&self->b, 1, BYTES);
	EXPECT_EQ(-ETIMEDOUT, raw_recv(&self->b, 50));
	fill(fd, 0x5a);
	EXPECT_EQ(0, seal(self, &self->a));
	ASSERT_EQ(self->a.nr_fds, 1);
	EXPECT_EQ(0, fstat(self->a.fds[0], &sa));
	ro = answer(self, &self->b);
	ASSERT_GE(ro, 0);
	EXPECT_EQ(self->got.state, KV_WEIGHTS_READY);
	EXPECT_EQ(0, fstat(ro, &sb));
	EXPECT_EQ(sa.st_ino, sb.st_ino);
	p = raw_map(ro, BYTES, PROT_READ);
	EXPECT_EQ(p[0], 0x5a);
	EXPECT_EQ(p[BYTES - 1], 0x5a);
	EXPECT_TRUE(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, ro, 0) ==
		    MAP_FAILED);
	EXPECT_EQ(meminfo(self, "weights_bytes"), BYTES);
	EXPECT_EQ(meminfo(self, "weights_resident_bytes"), BYTES);
	munmap(p, BYTES);
	close(ro);
}

/* What is behind the body that is known is nobody's way past the others. */
TEST_F(weights, a_long_request_waits_like_any_other)
{
	struct kv_msg_geom_add add = { .geom = raw_geometry() };
	char body[500] = { 0 };
	int fd;

	ask(&self->a, 1, BYTES);
	fd = answer(self, &self->a);
	ASSERT_GE(fd, 0);
	self->got = key(1, BYTES);
	memcpy(body, &self->got, sizeof(self->got));
	raw_send(&self->b, KV_MSG_WEIGHTS_OPEN, body, sizeof(body));
	raw_send(&self->b, KV_MSG_GEOM_ADD, &add, sizeof(add));
	EXPECT_EQ(-ETIMEDOUT, raw_recv(&self->b, 300));
	close(fd);
	raw_detach(&self->a); /* so the one that waits is to fill it */
	ASSERT_EQ(1, raw_recv(&self->b, RAW_WAIT_MS));
	EXPECT_EQ(KV_MSG_WEIGHTS_OPEN | KV_MSG_REPLY, self->b.msg.type);
	EXPECT_EQ(0, self->b.msg.status);
	raw_fds_close(&self->b);
	ASSERT_EQ(1, raw_recv(&self->b, RAW_WAIT_MS));
	EXPECT_EQ(KV_MSG_GEOM_ADD | KV_MSG_REPLY, self->b.msg.type);
}

TEST_F(weights, a_kept_writable_mapping_is_never_served)
{
	void *p;
	int fd;

	ask(&self->a, 2, BYTES);
	fd = answer(self, &self->a);
	p = raw_map(fd, BYTES, PROT_READ | PROT_WRITE);
	ask(&self->b, 2, BYTES);
	EXPECT_EQ(-EBUSY, seal(self, &self->a));
	EXPECT_TRUE(strstr(self->a.body, "writable"));
	/* the next one fills memory that the first has no hand on */
	fd = answer(self, &self->b);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(self->got.state, KV_WEIGHTS_FILL);
	memset(p, 1, BYTES);
	EXPECT_EQ(0, seal(self, &self->b) ? 0 : 0);
	munmap(p, BYTES);
	close(fd);
}

/* The kernel waits for a page that is pinned, each time it is asked. */
TEST_F(weights, with_a_pinned_page_are_given_up_like_mapped_ones)
{
	struct iovec page;
	int fd, pin[2];
	char *p;

	ask(&self->a, 21, BYTES);
	fd = answer(self, &self->a);
	p = raw_map(fd, BYTES, PROT_READ | PROT_WRITE);
	memset(p, 1, BYTES);
	ASSERT_EQ(0, pipe2(pin, O_CLOEXEC));
	page = (struct iovec){ p, 4096 };
	ASSERT_EQ(4096, vmsplice(pin[1], &page, 1, 0));
	munmap(p, BYTES);
	close(fd);
	ask(&self->b, 21, BYTES);
	EXPECT_EQ(-EBUSY, seal(self, &self->a));
	EXPECT_TRUE(strstr(self->a.body, "pinned"));
	fd = answer(self, &self->b);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(self->got.state, KV_WEIGHTS_FILL);
	close(pin[0]);
	close(pin[1]);
	fill(fd, 3);
	EXPECT_EQ(0, seal(self, &self->b));
}

TEST_F(weights, when_the_filler_dies_the_next_one_fills)
{
	int fd;

	ask(&self->a, 3, BYTES);
	close(answer(self, &self->a));
	ask(&self->b, 3, BYTES);
	EXPECT_EQ(-ETIMEDOUT, raw_recv(&self->b, 20));
	raw_detach(&self->a);
	fd = answer(self, &self->b);
	ASSERT_GE(fd, 0);
	EXPECT_EQ(self->got.state, KV_WEIGHTS_FILL);
	fill(fd, 3);
	EXPECT_EQ(0, seal(self, &self->b));
}

TEST_F(weights, a_filler_that_gets_nowhere_is_ended_when_others_wait)
{
	struct stat st;
	int fd, next, i, rc;
	double last;
	char *p;

	ask(&self->a, 20, BYTES);
	fd = answer(self, &self->a);
	p = raw_map(fd, BYTES, PROT_READ | PROT_WRITE);
	memset(p, 1, BYTES / 2);
	/* alone it may take its time */
	EXPECT_EQ(-ETIMEDOUT, raw_recv(&self->a, 2500));
	ask(&self->b, 20, BYTES);
	/* slow is not stuck */
	for (i = 0; i < 4; i++) {
		last = th_now();
		rc = raw_recv(&self->b, 500);
		if (rc != -ETIMEDOUT && th_now() - last > 1)
			SKIP("too slow a machine: it was stuck in earnest");
		EXPECT_EQ(-ETIMEDOUT, rc);
		p[BYTES / 2 + i * 4096] = 1;
	}
	next = answer(self, &self->b);
	ASSERT_GE(next, 0);
	EXPECT_EQ(self->got.state, KV_WEIGHTS_FILL);
	EXPECT_EQ(1, raw_recv(&self->a, RAW_WAIT_MS));
	EXPECT_EQ(self->a.msg.type, KV_MSG_BYE | KV_MSG_REPLY);
	EXPECT_TRUE(strstr(self->a.body, "weights model: it filled nothing"));
	/* what it wrote goes, not merely out of the books */
	last = th_now();
	do
		ASSERT_EQ(0, fstat(fd, &st));
	while (st.st_blocks && th_now() - last < 60 && !usleep(1000));
	EXPECT_EQ(st.st_blocks, 0);
	EXPECT_EQ(meminfo(self, "weights_bytes"), BYTES);
	munmap(p, BYTES);
	close(fd);
	fill(next, 3);
	EXPECT_EQ(0, seal(self, &self->b));
}

/* What was not sealed is charged until it is empty. */
static void wait_until_nothing_is_charged(struct weights_self *self)
{
	double end = th_now() + 60;

	while (meminfo(self, "weights_bytes") && th_now() < end)
		usleep(1000);
	EXPECT_EQ(meminfo(self, "weights_bytes"), 0);
}

TEST_F(weights, a_filler_may_give_up)
{
	int fd;

	ask(&self->a, 4, BYTES);
	close(answer(self, &self->a));
	ask(&self->b, 4, BYTES);
	EXPECT_EQ(0, drop(&self->a, self->got.id));
	fd = answer(self, &self->b);
	ASSERT_GE(fd, 0);
	close(fd);
	EXPECT_EQ(0, drop(&self->b, self->got.id));
	wait_until_nothing_is_charged(self);
}

TEST_F(weights, one_digest_has_one_size)
{
	ask(&self->a, 5, BYTES);
	close(answer(self, &self->a));
	ask(&self->b, 5, BYTES * 2);
	EXPECT_EQ(-EBADMSG, answer(self, &self->b));
	EXPECT_TRUE(strstr(self->b.body, "4194304"));
	ask(&self->b, 6, 0);
	EXPECT_EQ(-EINVAL, answer(self, &self->b));
	ask(&self->b, 6, 1ull << 40);
	EXPECT_EQ(-ENOSPC, answer(self, &self->b));
	ask(&self->a, 5, BYTES);
	EXPECT_EQ(-EBUSY, answer(self, &self->a));
	EXPECT_EQ(-ENOENT, drop(&self->b, 4711));
}

TEST_F(weights, unused_ones_stay_until_room_is_wanted)
{
	uint32_t i, s;
	int fd;

	ask(&self->a, 7, 40u << 20);
	fd = answer(self, &self->a);
	close(fd);
	EXPECT_EQ(0, seal(self, &self->a));
	EXPECT_EQ(0, drop(&self->a, self->got.id));
	EXPECT_EQ(meminfo(self, "weights_bytes"), 40u << 20);
	ask(&self->b, 7, 40u << 20);
	close(answer(self, &self->b));
	EXPECT_EQ(self->got.state, KV_WEIGHTS_READY);
	/* in use: another model does not fit */
	ask(&self->a, 8, 40u << 20);
	EXPECT_EQ(-ENOSPC, answer(self, &self->a));
	EXPECT_EQ(0, drop(&self->b, self->got.id));
	/* not in use: it gives way to a reservation */
	i = raw_geom(&self->a);
	for (s = 0; s < 5; s++)
		EXPECT_EQ(0, raw_reserve(&self->a,
					 (uint32_t)raw_space(&self->a, i, 0), 0,
					 16000)
				     .res);
	EXPECT_EQ(meminfo(self, "weights_bytes"), 0);
}

/* Ask for a space's first 16000 tokens, nearly an extent, and wait. */
static struct kv_cqe reserve_wait(struct raw *r, uint32_t geom)
{
	uint32_t space = (uint32_t)raw_space(r, geom, 0);

	return raw_reserve_with(r, KV_SQE_WAIT, space, 0, 16000);
}

/* A ticket was left to wait although what it waited for was nobody's. */
TEST_F(weights, that_come_out_of_use_go_to_a_ticket_that_waits)
{
	struct kv_cqe cqe;
	uint32_t geom;
	int i;

	ask(&self->b, 11, 40u << 20);
	close(answer(self, &self->b));
	EXPECT_EQ(0, seal(self, &self->b));
	geom = raw_geom(&self->a);
	/* one that waits for memory on its way is granted before long */
	for (i = 0; i < 8; i++) {
		cqe = reserve_wait(&self->a, geom);
		if (cqe.flags & KV_CQE_MORE && !raw_pop(&self->a, &cqe, 500))
			break;
		ASSERT_EQ(cqe.res, 0);
	}
	ASSERT_LT(i, 8);
	EXPECT_EQ(0, drop(&self->b, self->got.id));
	ASSERT_TRUE(raw_pop(&self->a, &cqe, RAW_WAIT_MS));
	EXPECT_EQ(cqe.res, 0);
	EXPECT_EQ(meminfo(self, "weights_bytes"), 0);
}

/* Unused weights of different sizes: the oldest alone is not enough. */
TEST_F(weights, unused_ones_give_way_to_a_ticket_until_it_fits)
{
	struct kv_cqe cqe;
	uint32_t geom;
	int i;

	for (i = 0; i < 3; i++) {
		ask(&self->b, 12u + (unsigned int)i, i < 2 ? 4096 : 40u << 20);
		close(answer(self, &self->b));
		EXPECT_EQ(0, seal(self, &self->b));
		EXPECT_EQ(0, drop(&self->b, self->got.id));
	}
	geom = raw_geom(&self->a);
	for (i = 0; i < 7; i++) {
		cqe = reserve_wait(&self->a, geom);
		if (cqe.flags & KV_CQE_MORE)
			ASSERT_TRUE(raw_pop(&self->a, &cqe, RAW_WAIT_MS));
		EXPECT_EQ(cqe.res, 0);
	}
	EXPECT_EQ(meminfo(self, "weights_bytes"), 0);
}

#define SLOTS 256u /* KEEP_WEIGHTS_MAX */

/* The @i-th of many small ones: READY, FILL (then sealed, empty), or -errno. */
static int open_small(struct weights_self *self, struct raw *r, unsigned int i)
{
	struct kv_msg_weights k = key(200, 4096);
	int fd, state;

	k.digest[1] = (uint8_t)i;
	k.digest[2] = (uint8_t)(i >> 8);
	raw_send(r, KV_MSG_WEIGHTS_OPEN, &k, sizeof(k));
	fd = answer(self, r);
	if (fd < 0)
		return fd;
	close(fd);
	state = (int)self->got.state;
	if (state == KV_WEIGHTS_FILL)
		EXPECT_EQ(0, seal(self, r));
	return state;
}

/* With 256 models that nobody used any more there was no place for another. */
TEST_F(weights, that_nobody_has_open_leave_their_place_to_others)
{
	uint32_t id[SLOTS];
	unsigned int i;

	for (i = 0; i < SLOTS; i++) {
		ASSERT_EQ(KV_WEIGHTS_FILL, open_small(self, &self->a, i));
		id[i] = self->got.id;
	}
	EXPECT_EQ(-ENFILE, open_small(self, &self->b, SLOTS));
	EXPECT_TRUE(strstr(self->b.body, "all in use"));
	/* 7 is unused for longest, whichever was there first */
	EXPECT_EQ(0, drop(&self->a, id[7]));
	EXPECT_EQ(0, drop(&self->a, id[3]));
	EXPECT_EQ(KV_WEIGHTS_FILL, open_small(self, &self->b, SLOTS));
	EXPECT_EQ(KV_WEIGHTS_READY, open_small(self, &self->b, 3));
	EXPECT_EQ(-ENFILE, open_small(self, &self->b, 7));
}

TEST_F(weights, a_limit_counts_them)
{
	char req[128], *json;

	snprintf(req, sizeof(req), "tenant limit uid:%u max=8M", getuid());
	json = test_kvmd_ctl(&self->d, req);
	EXPECT_TRUE(json);
	free(json);
	ask(&self->a, 9, 16u << 20);
	EXPECT_EQ(-EDQUOT, answer(self, &self->a));
	ask(&self->a, 9, BYTES);
	close(answer(self, &self->a));
	EXPECT_EQ(0, seal(self, &self->a));
	ask(&self->a, 10, 6u << 20);
	EXPECT_EQ(-EDQUOT, answer(self, &self->a));
}

TEST_HARNESS_MAIN
