/* SPDX-License-Identifier: MIT */
/*
 * test_rw.c - runs of neighbours, what is short, what fails, what waits
 *
 * san: address thread
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kvmd/io/rw.h"
#include "selftests/harness.h"

static ssize_t test_preadv(int fd, const struct iovec *iov, int nr, off_t off);
#define preadv test_preadv
#include "kvmd/io/rw_threads.c" /* white box: what it calls */
#undef preadv

static _Atomic bool disk_is_dead;
static _Atomic unsigned int nr_kept;
static sem_t comes_to_life;

static ssize_t test_preadv(int fd, const struct iovec *iov, int nr, off_t off)
{
	if (!disk_is_dead)
		return preadv(fd, iov, nr, off);
	nr_kept++;
	sem_wait(&comes_to_life);
	errno = EIO;
	return -1;
}

#define UNIT RW_ALIGN
#define NR   600u

FIXTURE(rw)
{
	struct io *io;
	struct rw *rw;
	int fd;
};

FIXTURE_VARIANT(rw)
{
	const char *io;
};

FIXTURE_VARIANT_ADD(rw, uring){ "uring" };
FIXTURE_VARIANT_ADD(rw, threads){ "epoll" };

FIXTURE_SETUP(rw)
{
	char path[300];
	int rc = io_create(variant->io, &self->io);

	if (rc && !strcmp(variant->io, "uring"))
		th_skip("io_uring is not allowed here: %s", strerror(-rc));
	ASSERT_EQ(0, rc);
	snprintf(path, sizeof(path), "%s/file", test_tmpdir());
	self->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(0, ftruncate(self->fd, 64 << 20));
	ASSERT_EQ(0, rw_create(self->io, self->fd, &self->rw));
	EXPECT_STREQ(strcmp(variant->io, "uring") ? "threads" : "uring",
		     self->rw->ops->name);
}

FIXTURE_TEARDOWN(rw)
{
	rw_destroy(self->rw);
	io_destroy(self->io);
	close(self->fd);
}

static unsigned int nr_done;
static int last_err;

static void told(struct rw_req *req)
{
	nr_done++;
	last_err = req->err;
}

static void *aligned(size_t bytes)
{
	void *p = NULL;

	ASSERT_EQ(0, posix_memalign(&p, RW_ALIGN, bytes));
	memset(p, 0, bytes);
	return p;
}

static void begin(struct rw *rw, struct rw_req *req, bool write, u64 off,
		  u32 bytes, void *buf)
{
	*req = (struct rw_req){ .write = write,
				.off = off,
				.bytes = bytes,
				.buf = buf,
				.done = told };
	rw_submit(rw, req);
}

static void run(const struct rw_self *self, unsigned int nr)
{
	while (nr_done < nr) {
		rw_kick(self->rw);
		ASSERT_LE(0, io_wait(self->io, 1000000000));
	}
}

TEST_F(rw, neighbours_go_to_the_kernel_as_one)
{
	static struct rw_req req[128];
	unsigned char *buf = aligned(128 * UNIT), *got = aligned(128 * UNIT);
	u32 i, k;

	for (i = 0; i < 128; i++) {
		k = i * 37 % 128; /* in any order */
		memset(buf + k * UNIT, (int)k + 1, UNIT);
		begin(self->rw, &req[k], true, (100 + k) * UNIT, UNIT,
		      buf + k * UNIT);
	}
	run(self, 128);
	EXPECT_EQ(2, self->rw->nr_runs);
	ASSERT_EQ(128 * UNIT, pread(self->fd, got, 128 * UNIT, 100 * UNIT));
	EXPECT_EQ(0, memcmp(buf, got, 128 * UNIT));
	memset(got, 0, 128 * UNIT);
	for (i = 0; i < 128; i++) /* each to the other end of memory */
		begin(self->rw, &req[i], false, (100 + i) * UNIT, UNIT,
		      got + (127 - i) * UNIT);
	run(self, 256);
	EXPECT_EQ(4, self->rw->nr_runs);
	for (i = 0; i < 128; i++)
		EXPECT_EQ(0,
			  memcmp(buf + i * UNIT, got + (127 - i) * UNIT, UNIT));
	free(buf);
	free(got);
}

TEST_F(rw, no_more_is_in_flight_than_may_be)
{
	static struct rw_req req[96];
	unsigned char *buf = aligned(96 << 20), *large = aligned(12 << 20);
	u32 i;

	for (i = 0; i < 96; i++)
		begin(self->rw, &req[i], i % 2, (u64)(i % 48) << 20, 1 << 20,
		      buf + ((size_t)i << 20));
	run(self, 96);
	EXPECT_LE(self->rw->most_bytes, RW_FLIGHT_BYTES);
	EXPECT_GT(self->rw->most_bytes, RW_FLIGHT_BYTES / 2);
	/* one that is larger goes alone */
	begin(self->rw, &req[0], true, 0, 12 << 20, large);
	begin(self->rw, &req[1], true, 12 << 20, 1 << 20, buf);
	run(self, 98);
	EXPECT_EQ(0, last_err);
	EXPECT_EQ(0, self->rw->flight_bytes);
	EXPECT_EQ(0, self->rw->nr_flight);
	free(buf);
	free(large);
}

TEST_F(rw, the_end_of_the_file_is_an_error)
{
	unsigned char *buf = aligned(4 * UNIT);
	struct rw_req req;

	begin(self->rw, &req, false, (64 << 20) - 2 * UNIT, 4 * UNIT, buf);
	run(self, 1);
	EXPECT_EQ(-EIO, last_err);
	free(buf);
}

static unsigned int nr_tasks(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned int nr = 0;

	while (dir && readdir(dir))
		nr++;
	if (dir)
		closedir(dir);
	return nr;
}

TEST(rw_threads, that_a_disk_keeps_are_left_behind_and_begin_nothing)
{
	static struct rw_req req[2 * NR_THREADS];
	static struct rw *left; /* no leak: they have it */
	double end = th_now() + 60;
	unsigned int tasks, i;
	unsigned char *buf = aligned(2 * NR_THREADS * UNIT);
	struct io *io;
	int fd;

	ASSERT_EQ(0, sem_init(&comes_to_life, 0, 0));
	ASSERT_EQ(0, io_create("epoll", &io));
	fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, rw_create(io, fd, &left));
	disk_is_dead = true;
	for (i = 0; i < 2 * NR_THREADS; i++) /* no neighbours */
		begin(left, &req[i], false, 2 * i * UNIT, UNIT, buf + i * UNIT);
	rw_kick(left);
	while (nr_kept < NR_THREADS && th_now() < end)
		usleep(1000);
	ASSERT_EQ(NR_THREADS, nr_kept);
	tasks = nr_tasks() - NR_THREADS;
	rw_destroy(left);
	EXPECT_EQ(2 * NR_THREADS, left->nr_flight);
	io_destroy(io);
	close(fd);
	for (i = 0; i < NR_THREADS; i++)
		sem_post(&comes_to_life);
	while (nr_tasks() > tasks && th_now() < end)
		usleep(1000);
	EXPECT_EQ(tasks, nr_tasks());
	EXPECT_EQ(NR_THREADS, nr_kept);
	EXPECT_EQ(0u, nr_done);
}

/* ---- a disk of this file's own, that does as the seed says ---- */

static struct rw_run *out[RW_RUNS];
static uint64_t seed;
static u32 nr_out;

static int fake_init(struct rw *rw)
{
	return 0;
}

static void fake_fini(struct rw *rw)
{
}

static void fake_start(struct rw *rw, struct rw_run *r)
{
	out[nr_out++] = r;
}

static void fake_wait(struct rw *rw, int ms)
{
}

static const struct rw_ops fake_ops = {
	.name = "fake",
	.init = fake_init,
	.fini = fake_fini,
	.start = fake_start,
	.wait = fake_wait,
};

static unsigned char *disk;

/* Move @bytes of what is left of a run. */
static void move(struct rw_run *r, u32 bytes)
{
	u64 at = rw_run_place(r);
	u32 i, n;

	for (i = 0; bytes; i++) {
		n = min(bytes, (u32)r->at[i].iov_len);
		if (r->write)
			memcpy(disk + at, r->at[i].iov_base, n);
		else
			memcpy(r->at[i].iov_base, disk + at, n);
		at += n;
		bytes -= n;
	}
}

static bool has_bad_unit(const struct rw_run *r, u32 bad)
{
	return r->off <= (u64)bad * UNIT && (u64)bad * UNIT < r->off + r->bytes;
}

/* End one run: whole, in part, interrupted, or not at all. */
static void end_one(struct rw *rw, u32 bad)
{
	u32 i = (u32)test_rand(&seed) % nr_out;
	struct rw_run *r = out[i];
	u32 left = r->bytes - r->did;

	out[i] = out[--nr_out];
	if (has_bad_unit(r, bad)) {
		rw_run_done(r, -EIO);
	} else if (test_rand(&seed) % 8 == 0 && r->tries < 3) {
		rw_run_done(r, test_rand(&seed) % 2 ? -EINTR : -EAGAIN);
	} else {
		if (test_rand(&seed) % 4 == 0 && left > UNIT)
			left = UNIT + (u32)test_rand(&seed) % (left - UNIT);
		move(r, left);
		rw_run_done(r, (int)left);
	}
	rw_kick(rw);
}

static struct rw_req model_req[NR];
static bool model_told[NR];

static void model_done(struct rw_req *req)
{
	u32 i = (u32)(req - model_req);

	EXPECT_FALSE(model_told[i]);
	model_told[i] = true;
	nr_done++;
}

/*
 * Requests of 1 to 4 units; those of a class of places are written or read,
 * each by itself right or, with a bad unit in it, wrong.
 */
TEST(rw_model, each_request_ends_once_and_only_the_bad_unit_fails)
{
	u32 i, units = 0, bad, len, seen = 0;
	unsigned char *mem, *want;
	bool write = false;
	struct io *io;
	struct rw *rw;
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	seed = test_seed();
	ASSERT_EQ(0, io_create("epoll", &io));
	ASSERT_EQ(0, rw_create(io, fd, &rw));
	rw->ops->fini(rw);
	rw->ops = &fake_ops;
	mem = aligned(NR * 4 * UNIT);
	disk = aligned(NR * 4 * UNIT);
	want = aligned(NR * 4 * UNIT);
	for (i = 0; i < NR * 4 * UNIT; i++)
		disk[i] = want[i] = (unsigned char)(i / 512);
	bad = (u32)test_rand(&seed) % NR;
	for (i = 0; i < NR; i++, units += len) {
		write = i % 16 ? write : test_rand(&seed) % 2;
		struct rw_req *req = &model_req[i];

		len = 1 + (u32)test_rand(&seed) % 4;
		*req = (struct rw_req){ .write = write,
					.off = (u64)units * UNIT,
					.bytes = len * UNIT,
					.buf = mem + units * UNIT,
					.done = model_done };
		if (req->write) {
			memset(req->buf, (int)i ^ 0x5a, req->bytes);
			memset(want + req->off, (int)i ^ 0x5a, req->bytes);
		}
	}
	for (i = 0; nr_done < NR;) {
		if (i < NR && (test_rand(&seed) % 8 || !nr_out)) {
			rw_submit(rw, &model_req[i ^ 3]);
			i++;
			if (test_rand(&seed) % 16 == 0 || i == NR)
				rw_kick(rw);
		} else if (nr_out) {
			end_one(rw, bad);
		} else {
			rw_kick(rw);
		}
	}
	EXPECT_EQ(0, nr_out);
	EXPECT_LT(rw->nr_runs, NR * 9 / 10); /* some were neighbours */
	for (i = 0; i < NR; i++) {
		struct rw_req *req = &model_req[i];
		bool hit = req->off <= (u64)bad * UNIT &&
			   (u64)bad * UNIT < req->off + req->bytes;

		EXPECT_EQ(hit ? -EIO : 0, req->err);
		seen += hit;
		if (!hit)
			EXPECT_EQ(0, memcmp(req->write ? disk + req->off
						       : req->buf,
					    want + req->off, req->bytes));
	}
	EXPECT_EQ(1, seen);
	rw_destroy(rw);
	io_destroy(io);
	close(fd);
	free(mem);
	free(disk);
	free(want);
}

TEST_HARNESS_MAIN
