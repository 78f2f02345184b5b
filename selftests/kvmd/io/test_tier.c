/* SPDX-License-Identifier: MIT */
/*
 * test_tier.c - pages to a tier and back
 *
 * san: address thread
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "include/kv/errbuf.h"
#include "kvmd/io/sum.h"
#include "kvmd/io/tier.h"
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"

#define PAGE  (48u << 10)
#define BYTES (16ull << 20)

FIXTURE(tier)
{
	struct io *io;
	struct work_pool *pool;
	struct tier *t;
	char path[300], err[KV_ERRLEN];
	unsigned int done;
	unsigned char *buf, *other;
};

FIXTURE_VARIANT(tier)
{
	const struct tier_ops *ops;
	const char *io;
};

FIXTURE_VARIANT_ADD(tier, ram){ &tier_ram_ops, "auto" };
FIXTURE_VARIANT_ADD(tier, lz4){ &tier_lz4_ops, "auto" };
FIXTURE_VARIANT_ADD(tier, file){ &tier_file_ops, "uring" };
FIXTURE_VARIANT_ADD(tier, file_threads){ &tier_file_ops, "epoll" };

static struct tier_env env(const struct tier_self *self, u64 deadline_ns)
{
	return (struct tier_env){ .io = self->io,
				  .pool = self->pool,
				  .deadline_ns = deadline_ns };
}

FIXTURE_SETUP(tier)
{
	struct tier_env e;
	int rc = io_create(variant->io, &self->io);

	if (rc && !strcmp(variant->io, "uring"))
		th_skip("io_uring is not allowed here: %s", strerror(-rc));
	ASSERT_EQ(0, rc);
	snprintf(self->path, sizeof(self->path), "%s/swap", test_tmpdir());
	ASSERT_EQ(0, work_pool_create(self->io, 2, &self->pool));
	e = env(self, 0);
	ASSERT_EQ(0, tier_open(variant->ops, self->path, BYTES, &e, &self->t,
			       self->err));
	ASSERT_EQ(0, posix_memalign((void **)&self->buf, TIER_ALIGN, PAGE));
	ASSERT_EQ(0, posix_memalign((void **)&self->other, TIER_ALIGN, PAGE));
}

FIXTURE_TEARDOWN(tier)
{
	tier_close(self->t);
	work_pool_destroy(self->pool);
	io_destroy(self->io);
	free(self->buf);
	free(self->other);
}

static void told(struct tier_req *req)
{
	*(bool *)req->priv = true;
}

/* Wait on the loop, as kvmd does. */
static void wait_for(const struct tier_self *self, const bool *done)
{
	while (!*done) {
		tier_kick(self->t);
		ASSERT_LE(0, io_wait(self->io, 1000000));
	}
}

/* One request, waited for. A tier in memory is written and read in place. */
static int one(struct tier_self *self, bool write, u64 off, u64 key, u64 *sum,
	       unsigned char *buf)
{
	bool done = false;
	struct tier_req req = { .tier = self->t,
				.write = write,
				.off = off,
				.bytes = PAGE,
				.buf = buf,
				.priv = &done,
				.done = told };
	unsigned char *at = tier_at(self->t, off);

	if (write)
		*sum = page_sum(buf, PAGE, key);
	if (!at) {
		tier_submit(&req);
		wait_for(self, &done);
	} else if (write) {
		memcpy(at, buf, PAGE);
	} else {
		memcpy(buf, at, PAGE);
	}
	if (req.err || write)
		return req.err;
	return page_sum(buf, PAGE, key) == *sum ? 0 : -EBADMSG;
}

TEST_F(tier, gives_back_what_was_written)
{
	u64 sum[8], seed = 1, i, k;

	for (i = 0; i < 8; i++) {
		for (k = 0; k < PAGE; k++)
			self->buf[k] =
				(unsigned char)(seed = seed * 25214903917 + 11);
		EXPECT_EQ(0, one(self, true, i * PAGE, i, &sum[i], self->buf));
	}
	for (i = 8; i-- > 0;)
		EXPECT_EQ(0,
			  one(self, false, i * PAGE, i, &sum[i], self->other));
	seed = 1;
	for (k = 0; k < PAGE; k++)
		self->buf[k] = (unsigned char)(seed = seed * 25214903917 + 11);
	EXPECT_EQ(0, memcmp(self->buf, self->other, PAGE));
}

TEST_F(tier, finds_a_page_of_another_key_place_or_time)
{
	u64 a = 0, b = 0, old;

	memset(self->buf, 1, PAGE);
	EXPECT_EQ(0, one(self, true, 0, 7, &a, self->buf));
	EXPECT_EQ(0, one(self, true, PAGE, 8, &b, self->buf));
	EXPECT_NE(a, b);
	/* the same bytes, read from where another page lies */
	EXPECT_EQ(-EBADMSG, one(self, false, PAGE, 8, &a, self->other));
	/* a stale one */
	old = a;
	self->buf[PAGE - 1] ^= 0x80;
	EXPECT_EQ(0, one(self, true, 0, 7, &a, self->buf));
	EXPECT_EQ(-EBADMSG, one(self, false, 0, 7, &old, self->other));
	EXPECT_EQ(-EBADMSG, one(self, false, 0, 9, &a, self->other));
	EXPECT_EQ(0, one(self, false, 0, 7, &a, self->other));
}

TEST_F(tier, what_is_discarded_gives_its_room_back)
{
	struct stat before, after;
	u64 sum = 0;
	u32 i;

	if (!self->t->ops->discard)
		th_skip("it gives nothing back");
	memset(self->buf, 7, PAGE);
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, one(self, true, i * PAGE, i, &sum, self->buf));
	if (variant->ops == &tier_file_ops)
		ASSERT_EQ(0, stat(self->path, &before));
	EXPECT_EQ(0, self->t->ops->discard(self->t, 0, PAGE));
	/* its neighbour is what it was, and it can be written again */
	EXPECT_EQ(0, one(self, false, PAGE, 1, &sum, self->other));
	EXPECT_EQ(-EBADMSG, one(self, false, 0, 1, &sum, self->other));
	EXPECT_EQ(0, self->other[PAGE / 2]);
	if (variant->ops == &tier_file_ops) {
		ASSERT_EQ(0, stat(self->path, &after));
		EXPECT_EQ(PAGE / 512,
			  (int)(before.st_blocks - after.st_blocks));
	}
	EXPECT_EQ(0, one(self, true, 0, 5, &sum, self->buf));
	EXPECT_EQ(0, one(self, false, 0, 5, &sum, self->other));
}

/* ---- lz4 ---- */

FIXTURE(lz4)
{
	struct tier_self tier;
	u32 stored; /* by the last write */
};

FIXTURE_SETUP(lz4)
{
	struct tier_self *s = &self->tier;
	struct tier_env e;

	ASSERT_EQ(0, io_create("auto", &s->io));
	ASSERT_EQ(0, work_pool_create(s->io, 2, &s->pool));
	e = env(s, 0);
	ASSERT_EQ(0, tier_open(&tier_lz4_ops, NULL, BYTES, &e, &s->t, s->err));
	ASSERT_EQ(0, posix_memalign((void **)&s->buf, TIER_ALIGN, PAGE));
	ASSERT_EQ(0, posix_memalign((void **)&s->other, TIER_ALIGN, PAGE));
}

FIXTURE_TEARDOWN(lz4)
{
	tier_close(self->tier.t);
	work_pool_destroy(self->tier.pool);
	io_destroy(self->tier.io);
	free(self->tier.buf);
	free(self->tier.other);
}

static int lz4_one(struct lz4_self *self, bool write, u64 off, void *buf)
{
	bool done = false;
	struct tier_req req = { .tier = self->tier.t,
				.write = write,
				.off = off,
				.bytes = PAGE,
				.buf = buf,
				.priv = &done,
				.done = told };

	tier_submit(&req);
	wait_for(&self->tier, &done);
	if (write)
		self->stored = req.stored;
	return req.err;
}

static void fill_random(unsigned char *buf, size_t bytes, uint64_t *seed)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		buf[i] = (unsigned char)test_rand(seed);
}

TEST_F(lz4, a_page_takes_what_is_left_of_it)
{
	struct tier_self *s = &self->tier;
	uint64_t seed = test_seed();
	u32 i;

	EXPECT_EQ(BYTES, s->t->room);
	EXPECT_GT(s->t->bytes, BYTES);
	memset(s->buf, 3, PAGE);
	EXPECT_EQ(0, lz4_one(self, true, 0, s->buf));
	EXPECT_EQ(1024, self->stored);
	/* as numbers do: 8 bits of 16 are one of a few, the others noise */
	fill_random(s->buf, PAGE, &seed);
	for (i = 0; i < PAGE; i += 2) {
		s->buf[i] &= 0x7f;
		s->buf[i + 1] = (unsigned char)(0x3f | (s->buf[i + 1] & 0x80));
	}
	EXPECT_EQ(0, lz4_one(self, true, PAGE, s->buf));
	EXPECT_GE(self->stored, PAGE / 2);
	EXPECT_LE(self->stored, PAGE / 2 + 2048);
	EXPECT_EQ(0, lz4_one(self, false, PAGE, s->other));
	EXPECT_EQ(0, memcmp(s->buf, s->other, PAGE));
	/* nothing of it does: it is kept as it is */
	fill_random(s->buf, PAGE, &seed);
	EXPECT_EQ(0, lz4_one(self, true, 2 * PAGE, s->buf));
	EXPECT_EQ(PAGE, self->stored);
	EXPECT_EQ(0, lz4_one(self, false, 2 * PAGE, s->other));
	EXPECT_EQ(0, memcmp(s->buf, s->other, PAGE));
	EXPECT_EQ(0, lz4_one(self, false, 0, s->other));
	EXPECT_EQ(3, s->other[PAGE - 1]);
}

TEST_F(lz4, what_is_forgotten_gives_its_room_back)
{
	struct tier_self *s = &self->tier;
	uint64_t seed = test_seed();
	u32 n = (u32)(BYTES / PAGE), i, k;

	for (k = 0; k < 3; k++) {
		for (i = 0; i < n; i++) {
			fill_random(s->buf, PAGE, &seed);
			EXPECT_EQ(0,
				  lz4_one(self, true, i * (u64)PAGE, s->buf));
		}
		EXPECT_EQ(-ENOSPC, lz4_one(self, true, n * (u64)PAGE, s->buf));
		EXPECT_EQ(-EBADMSG,
			  lz4_one(self, false, n * (u64)PAGE, s->other));
		for (i = 0; i < n; i++)
			tier_forget(s->t, i * (u64)PAGE);
		EXPECT_EQ(-EBADMSG, lz4_one(self, false, 0, s->other));
	}
}

TEST_F(lz4, a_page_written_over_another_takes_its_place)
{
	struct tier_self *s = &self->tier;
	u32 i;

	for (i = 0; i < 2 * BYTES / PAGE; i++) {
		memset(s->buf, (int)i, PAGE);
		EXPECT_EQ(0, lz4_one(self, true, 0, s->buf));
	}
	EXPECT_EQ(0, lz4_one(self, false, 0, s->other));
	EXPECT_EQ(0, memcmp(s->buf, s->other, PAGE));
}

TEST(page_sum, is_the_same_on_every_cpu_and_on_the_way)
{
	static unsigned char buf[4096 + 7], to[sizeof(buf) + 64];
	uint64_t seed = test_seed(), sum;
	size_t i, at;

	for (i = 0; i < sizeof(buf); i++)
		buf[i] = (unsigned char)test_rand(&seed);
	for (i = 0; i < sizeof(buf); i += 97)
		EXPECT_EQ(XXH3_64bits_withSeed(buf, i, seed),
			  page_sum(buf, i, seed));
	for (i = 0; i < 200; i++) {
		size_t n = i % 2 ? test_rand(&seed) % sizeof(buf)
				 : 1024 * (i % 5);
		const unsigned char *from =
			buf + test_rand(&seed) % (sizeof(buf) - n + 1);

		at = i % 3 ? test_rand(&seed) % 64 : 0;
		sum = XXH3_64bits_withSeed(from, n, seed);
		memset(to, 0x5a, sizeof(to));
		ASSERT_EQ(sum, page_move(to + at, from, n, seed));
		ASSERT_EQ(0, memcmp(to + at, from, n));
		ASSERT_EQ(0x5a, to[at + n]);
		ASSERT_TRUE(!at || to[at - 1] == 0x5a);
	}
}

TEST(tier_file, is_removed_at_the_end_if_kvmd_made_it)
{
	char path[300], err[KV_ERRLEN];
	struct tier_env e = { 0 };
	struct tier *t, *u;
	struct stat st;
	int fd;

	ASSERT_EQ(0, io_create("auto", &e.io));

	snprintf(path, sizeof(path), "%s/swap", test_tmpdir());
	ASSERT_EQ(0, tier_open(&tier_file_ops, path, BYTES, &e, &t, err));
	ASSERT_EQ(0, stat(path, &st));
	EXPECT_EQ((long long)BYTES, (long long)st.st_size);
	EXPECT_EQ(0600, st.st_mode & 0777);
	/* and is nobody else's meanwhile */
	EXPECT_EQ(-EAGAIN, tier_open(&tier_file_ops, path, BYTES, &e, &u, err));
	EXPECT_TRUE(strstr(err, "another kvmd"));
	tier_close(t);
	EXPECT_NE(0, stat(path, &st));
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, tier_open(&tier_file_ops, path, BYTES, &e, &t, err));
	tier_close(t);
	EXPECT_EQ(0, stat(path, &st));
	close(fd);
	io_destroy(e.io);
}

TEST(tier_file, says_what_is_wrong_with_its_path)
{
	char err[KV_ERRLEN], path[300];
	struct tier_env e = { 0 };
	struct tier *t;

	ASSERT_EQ(0, io_create("auto", &e.io));
	EXPECT_EQ(-ENOENT, tier_open(&tier_file_ops, "/nonexistent/swap", BYTES,
				     &e, &t, err));
	EXPECT_TRUE(strstr(err, "/nonexistent/swap"));
	EXPECT_EQ(-EINVAL,
		  tier_open(&tier_file_ops, "/dev/null", BYTES, &e, &t, err));
	EXPECT_TRUE(strstr(err, "neither a file nor a partition"));
	snprintf(path, sizeof(path), "%s/link", test_tmpdir());
	ASSERT_EQ(0, symlink("/tmp", path));
	EXPECT_GT(0, tier_open(&tier_file_ops, path, BYTES, &e, &t, err));
	snprintf(path, sizeof(path), "%s/huge", test_tmpdir());
	EXPECT_GT(0, tier_open(&tier_file_ops, path, 1ull << 50, &e, &t, err));
	EXPECT_NE(0, access(path, F_OK));
	io_destroy(e.io);
}

TEST_HARNESS_MAIN
