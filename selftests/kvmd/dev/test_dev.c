/* SPDX-License-Identifier: MIT */
/*
 * test_dev.c - extents of the cpu device, and devices that fail or are late
 */
#include "selftests/harness.h"
#include "include/kv/errbuf.h"
#include "include/uapi/kv/abi.h"
#include "kvmd/dev/dev.h"
#include "kvmd/io/sum.h"
#include <sys/stat.h>

FIXTURE(dev)
{
	struct io *io;
	struct work_pool *pool;
	struct dev *dev;
};

FIXTURE_VARIANT(dev)
{
	const char *spec;
	u64 bytes;
};

#define DEV_BYTES (64ull << 20)
#define DEV_LARGE (300ull << 30) /* more extents than can all be mapped */

FIXTURE_VARIANT_ADD(dev, cpu){ .spec = "cpu", .bytes = DEV_BYTES };
FIXTURE_VARIANT_ADD(dev, large){ .spec = "cpu", .bytes = DEV_LARGE };
FIXTURE_VARIANT_ADD(dev, error){ .spec = "error:cpu", .bytes = DEV_BYTES };
FIXTURE_VARIANT_ADD(dev, delay){ .spec = "delay:error:cpu",
				 .bytes = DEV_BYTES };

static void pool_open(struct dev_self *self)
{
	ASSERT_EQ(0, io_create("auto", &self->io));
	ASSERT_EQ(0, work_pool_create(self->io, 2, &self->pool));
}

FIXTURE_SETUP(dev)
{
	char err[KV_ERRLEN] = "";

	pool_open(self);
	if (dev_open(variant->spec, variant->bytes, self->pool, NULL,
		     &self->dev, err))
		th_fail(__FILE__, __LINE__, "%s", err);
	ASSERT_TRUE(self->dev);
}

FIXTURE_TEARDOWN(dev)
{
	dev_close(self->dev);
	work_pool_destroy(self->pool);
	io_destroy(self->io);
}

struct call {
	struct dev_req req;
	bool done;
};

static void call_done(struct dev_req *req)
{
	container_of(req, struct call, req)->done = true;
}

/* Submit and wait for the end. Return: its error. */
static int run(struct dev_self *self, enum dev_op op, u32 extent, u64 src,
	       u64 dst, u64 bytes)
{
	struct call c = { .req = { .op = op,
				   .extent = extent,
				   .src = src,
				   .dst = dst,
				   .bytes = bytes,
				   .done = call_done } };

	dev_submit(self->dev, &c.req);
	while (!c.done)
		ASSERT_GE(io_wait(self->io, 5000000000), 0);
	return c.req.err;
}

static u64 resident(struct dev_self *self, u32 extent)
{
	return (u64)self->dev->ops->resident(self->dev, extent);
}

static char *export_map(struct dev_self *self, u32 extent, u32 client, int *fd)
{
	char *p;

	*fd = self->dev->ops->export(self->dev, extent, client);
	ASSERT_GE(*fd, 0);
	p = mmap(NULL, KV_EXTENT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd,
		 0);
	ASSERT_TRUE(p != MAP_FAILED);
	return p;
}

static bool all_zero(const char *p)
{
	return !p[0] && !memcmp(p, p + 1, KV_EXTENT_SIZE - 1);
}

TEST_F(dev, an_extent_has_all_of_its_memory_before_it_is_used)
{
	EXPECT_EQ(resident(self, 3), 0);
	EXPECT_EQ(0, run(self, DEV_POPULATE, 3, 0, 0, 0));
	EXPECT_EQ(resident(self, 3), KV_EXTENT_SIZE);
	EXPECT_EQ(0, run(self, DEV_RELEASE, 3, 0, 0, 0));
	EXPECT_EQ(resident(self, 3), 0);
}

TEST_F(dev, what_was_kept_after_a_scrub_shows_zero_pages_of_its_own)
{
	char *old, *new;
	int fd[2];

	EXPECT_EQ(0, run(self, DEV_POPULATE, 0, 0, 0, 0));
	old = export_map(self, 0, 7, &fd[0]);
	memset(old, 0xaa, KV_EXTENT_SIZE);
	EXPECT_EQ(0, run(self, DEV_SCRUB, 0, 0, 0, 0));
	EXPECT_TRUE(all_zero(old));
	new = export_map(self, 0, 8, &fd[1]);
	EXPECT_TRUE(all_zero(new));
	memset(new, 0x55, KV_EXTENT_SIZE);
	EXPECT_TRUE(all_zero(old));
	memset(old, 0x11, 4096);
	EXPECT_EQ(new[0], 0x55);
	munmap(old, KV_EXTENT_SIZE);
	munmap(new, KV_EXTENT_SIZE);
	close(fd[0]);
	close(fd[1]);
}

struct touch {
	u32 client, extent, nr;
	u64 bytes;
};

static void on_touch(void *ctx, u32 client, u32 extent, u64 bytes)
{
	struct touch *t = ctx;

	t->client = client;
	t->extent = extent;
	t->bytes += bytes;
	t->nr++;
}

TEST_F(dev, a_touch_after_the_scrub_is_found_and_punched)
{
	struct touch t = { 0 };
	char *old;
	int fd;

	EXPECT_EQ(0, run(self, DEV_POPULATE, 2, 0, 0, 0));
	old = export_map(self, 2, 5, &fd);
	EXPECT_EQ(0, run(self, DEV_SCRUB, 2, 0, 0, 0));
	EXPECT_EQ(1, self->dev->ops->audit(self->dev, on_touch, &t));
	EXPECT_EQ(0, t.nr);
	old[12345] = 1;
	EXPECT_EQ(1, self->dev->ops->audit(self->dev, on_touch, &t));
	EXPECT_EQ(1, t.nr);
	EXPECT_EQ(5, t.client);
	EXPECT_EQ(2, t.extent);
	EXPECT_EQ(4096, t.bytes);
	EXPECT_EQ(0, old[12345]);
	self->dev->ops->client_gone(self->dev, 5);
	EXPECT_EQ(0, self->dev->ops->audit(self->dev, on_touch, &t));
	munmap(old, KV_EXTENT_SIZE);
	close(fd);
}

/* The number of a client that has left is given to the next one. */
TEST_F(dev, nobody_is_blamed_for_memory_of_one_that_left_meanwhile)
{
	struct call c = {
		.req = { .op = DEV_RELEASE, .extent = 3, .done = call_done }
	};
	struct touch t = { 0 };
	char *old;
	int fd;

	EXPECT_EQ(0, run(self, DEV_POPULATE, 3, 0, 0, 0));
	old = export_map(self, 3, 5, &fd);
	dev_submit(self->dev, &c.req);
	self->dev->ops->client_gone(self->dev, 5);
	while (!c.done)
		ASSERT_GE(io_wait(self->io, 5000000000), 0);
	old[12345] = 1;
	EXPECT_EQ(0, self->dev->ops->audit(self->dev, on_touch, &t));
	EXPECT_EQ(0, t.nr);
	munmap(old, KV_EXTENT_SIZE);
	close(fd);
}

TEST_F(dev, an_exported_extent_goes_to_no_second_client)
{
	int fd;

	EXPECT_EQ(-ENXIO, self->dev->ops->export(self->dev, 1, 1));
	EXPECT_EQ(0, run(self, DEV_POPULATE, 1, 0, 0, 0));
	fd = self->dev->ops->export(self->dev, 1, 1);
	EXPECT_GE(fd, 0);
	EXPECT_EQ(-EBUSY, self->dev->ops->export(self->dev, 1, 2));
	EXPECT_NE(0, ftruncate(fd, 0));
	EXPECT_NE(0, ftruncate(fd, 1 << 30));
	EXPECT_NE(0, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	close(fd);
}

TEST_F(dev, a_copy_moves_bytes_between_extents)
{
	char *a, *b;
	int fd[2], i;

	EXPECT_EQ(0, run(self, DEV_POPULATE, 0, 0, 0, 0));
	EXPECT_EQ(0, run(self, DEV_POPULATE, 1, 0, 0, 0));
	a = export_map(self, 0, 1, &fd[0]);
	b = export_map(self, 1, 2, &fd[1]);
	for (i = 0; i < 1 << 20; i++)
		a[8192 + i] = (char)(i * 7);
	EXPECT_EQ(0,
		  run(self, DEV_COPY, 0, 8192, KV_EXTENT_SIZE + 4096, 1 << 20));
	EXPECT_EQ(0, memcmp(a + 8192, b + 4096, 1 << 20));
	EXPECT_EQ(0, b[4095]);
	EXPECT_EQ(0, b[4096 + (1 << 20)]);
	munmap(a, KV_EXTENT_SIZE);
	munmap(b, KV_EXTENT_SIZE);
	close(fd[0]);
	close(fd[1]);
}

struct page_call {
	struct dev_req req;
	bool done;
};

static void page_done(struct dev_req *req)
{
	container_of(req, struct page_call, req)->done = true;
}

/* 8 KiB of extent 1, from 4096 on, and @buf; @wrong: its sum. */
static int page(struct dev_self *self, enum dev_op op, char *buf, bool wrong)
{
	struct page_call c = { .req = { .op = op,
					.src = KV_EXTENT_SIZE + 4096,
					.dst = KV_EXTENT_SIZE + 4096,
					.bytes = 8192,
					.buf = buf,
					.key = 77,
					.sum = 1,
					.check = wrong,
					.done = page_done } };

	dev_submit(self->dev, &c.req);
	while (!c.done)
		ASSERT_GE(io_wait(self->io, 5000000000), 0);
	if (!wrong)
		EXPECT_EQ(c.req.sum, page_sum(buf, 8192, 77));
	return c.req.err;
}

TEST_F(dev, a_page_is_summed_up_on_its_way)
{
	char *buf = aligned_alloc(4096, 8192), *p;
	int fd;

	EXPECT_EQ(0, run(self, DEV_POPULATE, 1, 0, 0, 0));
	p = export_map(self, 1, 1, &fd);
	memset(p + 4096, 'a', 8192);
	memset(buf, 'x', 8192);
	EXPECT_EQ(0, page(self, DEV_READ, buf, false));
	EXPECT_EQ(0, memcmp(buf, p + 4096, 8192));
	memset(buf, 'b', 8192);
	EXPECT_EQ(0, page(self, DEV_WRITE, buf, false));
	EXPECT_EQ(0, memcmp(buf, p + 4096, 8192));
	EXPECT_EQ(0, p[4095]);
	EXPECT_EQ(0, p[4096 + 8192]);
	/* what is not what it should be does not stay */
	memset(buf, 'c', 8192);
	EXPECT_EQ(-EBADMSG, page(self, DEV_WRITE, buf, true));
	EXPECT_NE('c', p[4096]);
	EXPECT_EQ(0, memcmp(p + 4096, p + 4097, 8191));
	munmap(p, KV_EXTENT_SIZE);
	close(fd);
	free(buf);
}

TEST_F(dev, a_fence_passes_with_its_step)
{
	u64 completed = 4;

	EXPECT_TRUE(self->dev->ops->fence(self->dev, &completed, 4));
	EXPECT_FALSE(self->dev->ops->fence(self->dev, &completed, 5));
	EXPECT_FALSE(self->dev->ops->stream_gone(self->dev, 0, false));
	EXPECT_TRUE(self->dev->ops->stream_gone(self->dev, 0, true));
}

/* ---- wrappers ---- */

static int open_with(struct dev_self *self, const char *name, const char *value,
		     const char *spec, char *err)
{
	setenv(name, value, 1);
	pool_open(self);
	return dev_open(spec, DEV_BYTES, self->pool, NULL, &self->dev, err);
}

TEST(error, fails_the_nth_as_configured)
{
	struct dev_self self = { 0 };
	char err[KV_ERRLEN] = "";

	ASSERT_EQ(0, open_with(&self, "KV_FAULT",
			       "populate:2,scrub:1+:EIO,export:1:EMFILE",
			       "error:cpu", err));
	EXPECT_EQ(0, run(&self, DEV_POPULATE, 0, 0, 0, 0));
	EXPECT_EQ(-ENOMEM, run(&self, DEV_POPULATE, 1, 0, 0, 0));
	EXPECT_EQ(0, run(&self, DEV_POPULATE, 1, 0, 0, 0));
	EXPECT_EQ(-EIO, run(&self, DEV_SCRUB, 0, 0, 0, 0));
	EXPECT_EQ(-EIO, run(&self, DEV_SCRUB, 0, 0, 0, 0));
	EXPECT_EQ(-EMFILE, self.dev->ops->export(self.dev, 0, 0));
	dev_teardown_body(&self, NULL);
}

TEST(error, says_what_it_does_not_understand)
{
	static const char *const wrong[] = { "populate",   "populate:",
					     "populate:x", "fly:1",
					     "scrub:1:EX", "scrub:0" };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct dev_self self = { 0 };
		char err[KV_ERRLEN] = "";

		EXPECT_EQ(-EINVAL, open_with(&self, "KV_FAULT", wrong[i],
					     "error:cpu", err));
		EXPECT_TRUE(strstr(err, "KV_FAULT"));
		dev_teardown_body(&self, NULL);
	}
}

TEST(delay, takes_its_time)
{
	struct dev_self self = { 0 };
	char err[KV_ERRLEN] = "";
	double from;

	ASSERT_EQ(0, open_with(&self, "KV_DELAY", "populate:50000", "delay:cpu",
			       err));
	from = th_now();
	EXPECT_EQ(0, run(&self, DEV_POPULATE, 0, 0, 0, 0));
	EXPECT_GE(th_now() - from, 0.05);
	EXPECT_EQ(resident(&self, 0), KV_EXTENT_SIZE);
	dev_teardown_body(&self, NULL);
}

TEST(delay, lets_copies_pass_at_its_rate)
{
	static const char *const wrong[] = { "read:0/", "read:0/0", "read:0/x",
					     "read:0/1x", "read:0:1" };
	struct dev_self self = { 0 };
	char err[KV_ERRLEN] = "";
	struct call c[4];
	unsigned int i;
	double from;

	for (i = 0; i < ARRAY_SIZE(wrong); i++) {
		EXPECT_EQ(-EINVAL, open_with(&self, "KV_DELAY", wrong[i],
					     "delay:cpu", err));
		dev_teardown_body(&self, NULL);
		memset(&self, 0, sizeof(self));
	}
	ASSERT_EQ(0,
		  open_with(&self, "KV_DELAY", "copy:0/10", "delay:cpu", err));
	EXPECT_EQ(0, run(&self, DEV_POPULATE, 0, 0, 0, 0));
	EXPECT_EQ(0, run(&self, DEV_POPULATE, 1, 0, 0, 0));
	from = th_now();
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = (struct call){ .req = { .op = DEV_COPY,
					       .src = i << 18,
					       .dst = KV_EXTENT_SIZE +
						      (i << 18),
					       .bytes = 1 << 18,
					       .done = call_done } };
		dev_submit(self.dev, &c[i].req);
	}
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		while (!c[i].done)
			ASSERT_GE(io_wait(self.io, 5000000000), 0);
		EXPECT_EQ(0, c[i].req.err);
	}
	EXPECT_GE(th_now() - from, 0.1); /* a MiB at 10 a second */
	dev_teardown_body(&self, NULL);
}

TEST_HARNESS_MAIN
