/* SPDX-License-Identifier: MIT */
/*
 * test_uring_full.c - the loop on io_uring while the kernel takes nothing
 *
 * What is submitted is refused as long as a test says, so the queue fills up.
 * A watch whose request found no room in it was never told again; one that was
 * removed kept its slot, and the file, for ever.
 */
#include "selftests/harness.h"
#include <liburing.h>
#include <sys/eventfd.h>

static int submit(struct io_uring *ring);
static int submit_and_get(struct io_uring *ring);
static int submit_and_wait(struct io_uring *ring, struct io_uring_cqe **cqe,
			   unsigned int nr, struct __kernel_timespec *ts,
			   sigset_t *mask);

#define io_uring_submit			 submit
#define io_uring_submit_and_get_events	 submit_and_get
#define io_uring_submit_and_wait_timeout submit_and_wait
/* the compiler does not know that a new ring has room */
#pragma GCC diagnostic ignored "-Wnull-dereference"
#include "kvmd/io/uring.c" /* white box: what it submits */
#undef io_uring_submit
#undef io_uring_submit_and_get_events
#undef io_uring_submit_and_wait_timeout

#define NR 700u /* more than the queue holds */

static bool refused;

static int submit(struct io_uring *ring)
{
	return refused ? -EAGAIN : io_uring_submit(ring);
}

static int submit_and_get(struct io_uring *ring)
{
	return refused ? -EAGAIN : io_uring_submit_and_get_events(ring);
}

static int submit_and_wait(struct io_uring *ring, struct io_uring_cqe **cqe,
			   unsigned int nr, struct __kernel_timespec *ts,
			   sigset_t *mask)
{
	/* a test of what waits for ever would: the loop comes back in time */
	EXPECT_TRUE(!refused || ts);
	return refused ? -EAGAIN
		       : io_uring_submit_and_wait_timeout(ring, cqe, nr, ts,
							  mask);
}

struct seen {
	struct io_watch w;
	unsigned int nr;
	u32 events;
};

FIXTURE(full)
{
	struct io *io;
	struct seen seen[NR];
	int fd; /* is ready */
};

static void on_ready(struct io_watch *w, u32 events)
{
	struct seen *s = container_of(w, struct seen, w);

	s->nr++;
	s->events |= events;
}

FIXTURE_SETUP(full)
{
	int rc;
	u32 i;

	refused = false;
	rc = io_create("uring", &self->io);
	if (rc)
		th_skip("io_uring is not allowed here: %s", strerror(-rc));
	self->fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT_GE(self->fd, 0);
	for (i = 0; i < NR; i++)
		self->seen[i].w = (struct io_watch){ .fd = self->fd,
						     .events = EPOLLIN,
						     .ready = on_ready };
}

FIXTURE_TEARDOWN(full)
{
	io_destroy(self->io);
	close(self->fd);
}

static u32 nr_seen(const struct full_self *self, unsigned int times)
{
	u32 i, nr = 0;

	for (i = 0; i < NR; i++)
		nr += self->seen[i].nr >= times;
	return nr;
}

/* Until each has been told so often. */
static void wait_all(struct full_self *self, unsigned int times)
{
	double end = th_now() + 60;

	while (nr_seen(self, times) < NR && th_now() < end)
		ASSERT_GE(io_wait(self->io, 1000000), 0);
	EXPECT_EQ(NR, nr_seen(self, times));
}

TEST_F(full, watches_that_found_no_room_are_armed_later)
{
	u32 i;

	refused = true;
	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, io_add(self->io, &self->seen[i].w));
	EXPECT_EQ(0, io_wait(self->io, -1));
	EXPECT_EQ(0, io_wait(self->io, 0));
	EXPECT_EQ(0u, nr_seen(self, 1));
	refused = false;
	wait_all(self, 1);
	for (i = 0; i < NR; i++)
		io_del(self->io, &self->seen[i].w);
}

TEST_F(full, watches_are_armed_again_after_their_callback)
{
	u32 i;

	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, io_add(self->io, &self->seen[i].w));
	/* all are out, and their ends there, before the first is told */
	ASSERT_GE(io_uring_submit(&((struct uring *)self->io->priv)->ring), 0);
	while (nr_seen(self, 1) < NR) {
		refused = true;
		EXPECT_GE(io_wait(self->io, 0), 0);
		refused = false;
		EXPECT_GE(io_uring_submit(
				  &((struct uring *)self->io->priv)->ring),
			  0);
	}
	wait_all(self, 3);
	for (i = 0; i < NR; i++)
		io_del(self->io, &self->seen[i].w);
}

TEST_F(full, removed_and_changed_watches_are_cancelled_later)
{
	double end = th_now() + 60;
	u32 i, busy = NR;

	for (i = 0; i < NR; i++) {
		self->seen[i].w.events = EPOLLPRI; /* never */
		ASSERT_EQ(0, io_add(self->io, &self->seen[i].w));
	}
	ASSERT_EQ(0, io_wait(self->io, 0));
	refused = true;
	for (i = 0; i < NR - 1; i++)
		io_del(self->io, &self->seen[i].w);
	self->seen[NR - 1].w.events = EPOLLIN;
	io_mod(self->io, &self->seen[NR - 1].w);
	refused = false;
	while ((busy > 1 || !self->seen[NR - 1].nr) && th_now() < end) {
		ASSERT_GE(io_wait(self->io, 1000000), 0);
		for (i = busy = 0; i < IO_SLOT_MAX; i++)
			busy += self->io->slots[i].in_flight;
	}
	EXPECT_EQ(1u, busy);
	EXPECT_EQ(1u, nr_seen(self, 1));
	io_del(self->io, &self->seen[NR - 1].w);
}

/* A slot that is given away before what it was to be cancelled for. */
TEST_F(full, a_slot_s_next_watch_is_told)
{
	struct seen *s = &self->seen[0];
	u32 i;

	refused = true;
	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, io_add(self->io, &self->seen[i].w));
	for (i = NR; i--;) /* the first free ones are those that lie late */
		io_del(self->io, &self->seen[i].w);
	for (i = 0; i < NR; i++)
		ASSERT_EQ(0, io_add(self->io, &self->seen[i].w));
	refused = false;
	wait_all(self, 1);
	EXPECT_TRUE(s->events == EPOLLIN);
	for (i = 0; i < NR; i++)
		io_del(self->io, &self->seen[i].w);
}

TEST_HARNESS_MAIN
