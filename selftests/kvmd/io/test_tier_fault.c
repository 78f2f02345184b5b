/* SPDX-License-Identifier: MIT */
/*
 * test_tier_fault.c - what disks do to pages is found, in time, each time
 *
 * san: address thread
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "kvmd/io/sum.h"
#include "kvmd/io/tier.h"
#include "selftests/harness.h"

#define PAGE	 (16u << 10)
#define SLOTS	 64u
#define BYTES	 ((u64)SLOTS * PAGE)
#define FLIGHT	 8u
#define PATIENT	 60000000000ull /* a machine may be busy */
#define DEADLINE 100000000ull /* of what is to be late */

FIXTURE(fault)
{
	struct io *io;
	struct work_pool *pool;
	struct tier *t;
	bool lz4;
	u64 nr;
	char path[300], err[KV_ERRLEN];
};

FIXTURE_VARIANT(fault)
{
	const struct tier_ops *ops;
	const char *io;
};

FIXTURE_VARIANT_ADD(fault, ram){ &tier_ram_ops, "auto" };
FIXTURE_VARIANT_ADD(fault, lz4){ &tier_lz4_ops, "auto" };
FIXTURE_VARIANT_ADD(fault, file){ &tier_file_ops, "uring" };
FIXTURE_VARIANT_ADD(fault, file_threads){ &tier_file_ops, "epoll" };

FIXTURE_SETUP(fault)
{
	int rc = io_create(variant->io, &self->io);
	struct tier_env e;

	if (rc && !strcmp(variant->io, "uring"))
		th_skip("io_uring is not allowed here: %s", strerror(-rc));
	ASSERT_EQ(0, rc);
	snprintf(self->path, sizeof(self->path), "%s/swap", test_tmpdir());
	ASSERT_EQ(0, work_pool_create(self->io, 2, &self->pool));
	e = (struct tier_env){ .io = self->io,
			       .pool = self->pool,
			       .deadline_ns = PATIENT };
	ASSERT_EQ(0, tier_open(variant->ops, self->path, BYTES, &e, &self->t,
			       self->err));
	self->lz4 = variant->ops == &tier_lz4_ops;
}

FIXTURE_TEARDOWN(fault)
{
	tier_close(self->t);
	work_pool_destroy(self->pool);
	io_destroy(self->io);
}

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

static void turn(struct fault_self *self)
{
	tier_kick(self->t);
	ASSERT_LE(0, io_wait(self->io, 1000000));
	tier_expire(self->t, now());
}

/* ---- one of each kind ---- */

struct one {
	struct tier_req req;
	u32 done, released;
};

static void one_done(struct tier_req *req)
{
	container_of(req, struct one, req)->done++;
}

static void one_released(struct tier_req *req)
{
	container_of(req, struct one, req)->released++;
}

static void begin(struct fault_self *self, struct one *o, bool write, u64 off,
		  void *buf)
{
	memset(o, 0, sizeof(*o));
	o->req = (struct tier_req){ .tier = self->t,
				    .write = write,
				    .off = off,
				    .bytes = PAGE,
				    .buf = buf,
				    .done = one_done,
				    .released = one_released };
	tier_submit(&o->req);
}

static int run(struct fault_self *self, bool write, u64 off, void *buf)
{
	struct one o;

	begin(self, &o, write, off, buf);
	while (!o.done)
		turn(self);
	EXPECT_FALSE(o.req.late);
	if (self->lz4 && !write && o.req.err == -EBADMSG) {
		memset(buf, 0, PAGE); /* it knows what is not there */
		return 0;
	}
	return o.req.err;
}

static unsigned char *page(int with)
{
	void *p = NULL;

	ASSERT_EQ(0, posix_memalign(&p, TIER_ALIGN, PAGE));
	return memset(p, with, PAGE);
}

/* A page written over another one, and read back, with one kind of fault. */
static void once(struct fault_self *self, const char *spec, int werr, int rerr,
		 bool right)
{
	unsigned char *a = page(1), *b = page(2), *want = page(2);
	struct tier *bare = self->t;

	if (!bare->ops->at)
		ASSERT_EQ(0, run(self, true, 0, a));
	ASSERT_EQ(0, tier_fault(spec, &self->t, &self->nr, self->err));
	EXPECT_EQ(werr, run(self, true, 0, b));
	memset(b, 0, PAGE);
	EXPECT_EQ(rerr, run(self, false, 0, b));
	if (!werr && !rerr)
		EXPECT_EQ(right,
			  page_sum(b, PAGE, 7) == page_sum(want, PAGE, 7));
	EXPECT_EQ(!!self->nr, !!strcmp(spec, "flip:0"));
	free(a);
	free(b);
	free(want);
}

TEST_F(fault, none_changes_nothing)
{
	once(self, "flip:0", 0, 0, true);
}

TEST_F(fault, a_flipped_bit_does_not_match)
{
	unsigned char *b = page(2);
	u64 sum;

	ASSERT_EQ(0, tier_fault("flip:1", &self->t, &self->nr, self->err));
	EXPECT_EQ(0, run(self, true, 0, b)); /* once as it is written, */
	EXPECT_EQ(0, run(self, false, 0, b)); /* once as it is read */
	EXPECT_EQ(2, self->nr);
	sum = page_sum(b, PAGE, 7);
	EXPECT_NE(page_sum(memset(b, 2, PAGE), PAGE, 7), sum);
	free(b);
}

TEST_F(fault, a_torn_page_does_not_match)
{
	once(self, "torn:1", 0, 0, false);
}

TEST_F(fault, a_misdirected_page_does_not_match)
{
	once(self, "misdirected:1:3", 0, 0, false);
}

TEST_F(fault, what_is_short_or_fails_says_so)
{
	once(self, "short:1", -ENOSPC, -EIO, false);
}

TEST_F(fault, a_full_disk_says_so)
{
	once(self, "enospc:1", -ENOSPC, 0, false);
}

TEST_F(fault, an_error_is_an_error)
{
	once(self, "eio:1", -EIO, -EIO, false);
}

/*
 * Each read of another page lets what was held back go on. It has to have ended
 * before its own page is read: a tier need not stand both at a time.
 */
static bool lands(struct fault_self *self, unsigned char with,
		  unsigned char *got)
{
	int i;

	for (i = 0; i < 100; i++)
		EXPECT_EQ(0, run(self, false, PAGE, got));
	tier_wait(self->t, 10000);
	EXPECT_EQ(0, run(self, false, 0, got));
	return got[0] == with && got[PAGE - 1] == with;
}

TEST_F(fault, what_is_reordered_lands_behind_a_later_write)
{
	unsigned char *a = page(1), *b = page(2), *got = page(0);

	ASSERT_EQ(0, tier_fault("reordered:1", &self->t, &self->nr, self->err));
	EXPECT_EQ(0, run(self, true, 0, a));
	memset(a, 9, PAGE); /* it was told: the memory is the caller's */
	EXPECT_TRUE(lands(self, 1, got));
	EXPECT_EQ(0, run(self, true, 0, b));
	EXPECT_TRUE(lands(self, 2, got));
	free(a);
	free(b);
	free(got);
}

/* Nobody waited for the write that comes later. */
TEST_F(fault, what_is_reordered_lands_before_the_end)
{
	unsigned char *buf, *got;
	int fd;

	if (self->lz4)
		th_skip("its memory cannot be looked at");
	buf = page(0x11);
	got = page(0);
	fd = self->t->fd >= 0 ? dup(self->t->fd) : open(self->path, O_RDONLY);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, tier_fault("reordered:1", &self->t, &self->nr, self->err));
	EXPECT_EQ(0, run(self, true, 0, buf));
	tier_close(self->t);
	self->t = NULL;
	EXPECT_EQ(PAGE, pread(fd, got, PAGE, 0));
	EXPECT_EQ(0, memcmp(got, buf, PAGE));
	close(fd);
	free(buf);
	free(got);
}

TEST_F(fault, a_stuck_page_is_given_up_and_its_memory_is_kept)
{
	unsigned char *a = page(1), *b = page(2);
	struct one w, r, again;
	u64 from = now();

	ASSERT_EQ(0, tier_fault("stuck:1", &self->t, &self->nr, self->err));
	self->t->env.deadline_ns = DEADLINE;
	begin(self, &w, true, 0, a);
	begin(self, &r, false, PAGE, b);
	EXPECT_NE(0, tier_due_ns(self->t));
	while (!w.done || !r.done)
		turn(self);
	EXPECT_GE(now() - from, DEADLINE);
	EXPECT_EQ(-ETIMEDOUT, w.req.err);
	EXPECT_EQ(-ETIMEDOUT, r.req.err);
	EXPECT_TRUE(w.req.late);
	EXPECT_EQ(0, w.released + r.released);
	EXPECT_EQ(2, self->t->nr_late);
	EXPECT_EQ(0, tier_due_ns(self->t));
	/* what is late may still land there, and nowhere else */
	begin(self, &again, true, PAGE / 2, b);
	EXPECT_EQ(1, again.done);
	EXPECT_EQ(-EBUSY, again.req.err);
	EXPECT_FALSE(again.req.late);
	while (!w.released || !r.released)
		tier_wait(self->t, 1);
	EXPECT_EQ(1, w.done);
	EXPECT_EQ(1, r.done);
	if (!self->lz4) /* the read has written, into its own memory */
		EXPECT_EQ(0, b[0]);
	EXPECT_EQ(0, self->t->nr_late);
	free(a);
	free(b);
}

TEST_F(fault, a_deadline_holds_for_what_is_out)
{
	unsigned char *a = page(1);
	u64 from = now();
	struct one w;

	ASSERT_EQ(0, tier_fault("stuck:1", &self->t, &self->nr, self->err));
	tier_deadline(self->t, 0);
	begin(self, &w, true, 0, a);
	EXPECT_EQ(0, tier_due_ns(self->t));
	tier_deadline(self->t, PATIENT);
	EXPECT_GE(tier_due_ns(self->t), from + PATIENT);
	tier_deadline(self->t, 0);
	EXPECT_EQ(0, tier_due_ns(self->t));
	tier_deadline(self->t, DEADLINE);
	EXPECT_LT(tier_due_ns(self->t), from + PATIENT);
	while (!w.done)
		turn(self);
	EXPECT_EQ(-ETIMEDOUT, w.req.err);
	while (!w.released)
		tier_wait(self->t, 1);
	free(a);
}

/* ---- all kinds, many pages ---- */

enum { SLOT_EMPTY, SLOT_KEPT, SLOT_BUSY };

struct model_io {
	struct fault_self *self;
	struct tier_req req;
	u32 slot;
	bool busy;
};

static struct {
	int state;
	u64 key, sum;
	unsigned char byte; /* of the page's content */
} slots[SLOTS];
static struct model_io ios[FLIGHT];
static u64 nr_read, nr_lost, nr_refused, nr_wrong;

static void model_free(struct model_io *io)
{
	memset(io->req.buf, 0xee, PAGE); /* nobody reads or writes it now */
	free(io->req.buf);
	io->busy = false;
}

static void model_released(struct tier_req *req)
{
	model_free(container_of(req, struct model_io, req));
}

static void model_done(struct tier_req *req)
{
	struct model_io *io = container_of(req, struct model_io, req);
	u32 s = io->slot;
	u32 i;

	if (req->write) {
		slots[s].state = req->err ? SLOT_EMPTY : SLOT_KEPT;
		nr_refused += req->err != 0;
	} else if (req->err ||
		   page_sum(req->buf, PAGE, slots[s].key) != slots[s].sum) {
		slots[s].state = SLOT_EMPTY; /* lost, and found to be */
		nr_lost++;
	} else {
		slots[s].state = SLOT_KEPT;
		nr_read++;
		for (i = 0; i < PAGE; i++)
			nr_wrong += ((unsigned char *)req->buf)[i] !=
				    slots[s].byte;
	}
	if (!req->late)
		model_free(io);
}

static void model_begin(struct fault_self *self, struct model_io *io,
			uint64_t *seed)
{
	static u64 keys;
	u32 s = (u32)test_rand(seed) % SLOTS;

	if (slots[s].state == SLOT_BUSY)
		return;
	*io = (struct model_io){ .self = self, .slot = s, .busy = true };
	io->req = (struct tier_req){ .tier = self->t,
				     .write = slots[s].state == SLOT_EMPTY ||
					      test_rand(seed) % 3 == 0,
				     .off = (u64)s * PAGE,
				     .bytes = PAGE,
				     .done = model_done,
				     .released = model_released };
	if (io->req.write) {
		slots[s].key = ++keys;
		slots[s].byte = (unsigned char)(test_rand(seed));
		io->req.buf = page(slots[s].byte);
		slots[s].sum = page_sum(io->req.buf, PAGE, slots[s].key);
	} else {
		io->req.buf = page(0xcc);
	}
	slots[s].state = SLOT_BUSY;
	tier_submit(&io->req);
}

/* @deadline_ns: until all is asked for; what is stuck then ends soon. */
static void model(struct fault_self *self, const char *spec, u32 rounds,
		  u64 deadline_ns)
{
	uint64_t seed = test_seed();
	u32 i, k, busy = 0;
	char text[64];

	snprintf(text, sizeof(text), "%s:%llu", spec,
		 (unsigned long long)test_rand(&seed));
	ASSERT_EQ(0, tier_fault(text, &self->t, &self->nr, self->err));
	self->t->env.deadline_ns = deadline_ns;
	for (i = 0; i < rounds; i++) {
		for (k = 0; k < FLIGHT; k++)
			if (!ios[k].busy)
				model_begin(self, &ios[k], &seed);
		turn(self);
	}
	tier_deadline(self->t, DEADLINE);
	do {
		tier_wait(self->t, 1);
		tier_expire(self->t, now());
		for (k = busy = 0; k < FLIGHT; k++)
			busy += ios[k].busy;
	} while (busy);
	TH_LOG("%llu faults: %llu pages lost, %llu not written; %llu read",
	       (unsigned long long)self->nr, (unsigned long long)nr_lost,
	       (unsigned long long)nr_refused, (unsigned long long)nr_read);
	EXPECT_EQ(0, nr_wrong);
	/* a misdirected write costs two pages, and nothing costs more */
	EXPECT_LE(nr_lost + nr_refused, 2 * self->nr + self->t->gave_up);
	EXPECT_EQ(0, self->t->nr_out + self->t->nr_late);
}

TEST_F(fault, of_all_kinds_none_goes_undetected)
{
	model(self, "all:0.01", 2000, DEADLINE);
	EXPECT_GT(nr_lost, 0);
	EXPECT_GT(nr_refused, 0);
}

TEST_F(fault, one_in_a_thousand_of_each_costs_what_it_touches)
{
	model(self, "all:0.001", 3000, PATIENT);
	EXPECT_GT(nr_read, 10 * (nr_lost + nr_refused));
}

TEST_HARNESS_MAIN
