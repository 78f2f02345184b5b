/* SPDX-License-Identifier: MIT */
/*
 * test_io.c - the event loop's two backends, its workers and its timers
 */
#include "selftests/harness.h"
#include <pthread.h>
#include <sched.h>
#include "kvmd/io/guard.h"
#include "kvmd/io/io.h"
#include "kvmd/io/timer.h"
#include "kvmd/io/work.c" /* white box: its lock */
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

FIXTURE(io)
{
	struct io *io;
	int fds[2];
};

FIXTURE_VARIANT(io)
{
	const char *name;
};

FIXTURE_VARIANT_ADD(io, uring){ .name = "uring" };
FIXTURE_VARIANT_ADD(io, epoll){ .name = "epoll" };

FIXTURE_SETUP(io)
{
	int rc = io_create(variant->name, &self->io);

	if (rc && !strcmp(variant->name, "uring"))
		th_skip("io_uring is not allowed here: %s", strerror(-rc));
	ASSERT_EQ(rc, 0);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
				self->fds));
}

FIXTURE_TEARDOWN(io)
{
	io_destroy(self->io);
	close(self->fds[0]);
	close(self->fds[1]);
}

struct seen {
	struct io_watch w;
	struct io *io;
	unsigned int nr;
	u32 events;
	bool del, read;
};

static void on_ready(struct io_watch *w, u32 events)
{
	struct seen *s = container_of(w, struct seen, w);
	char buf[64];

	s->nr++;
	s->events |= events;
	if (s->read && read(w->fd, buf, sizeof(buf)) < 0)
		s->events |= EPOLLERR;
	if (s->del)
		io_del(s->io, w);
}

static struct seen watch(struct io *io, int fd, enum io_kind kind)
{
	struct seen s = {
		.io = io,
		.w = { .fd = fd,
		       .events = EPOLLIN,
		       .kind = kind,
		       .ready = on_ready },
	};

	return s;
}

TEST_F(io, a_level_watch_comes_until_it_is_read)
{
	struct seen s = watch(self->io, self->fds[0], IO_LEVEL);

	ASSERT_EQ(0, io_add(self->io, &s.w));
	EXPECT_EQ(0, io_wait(self->io, 1000000));
	EXPECT_EQ(1, write(self->fds[1], "x", 1));
	EXPECT_EQ(1, io_wait(self->io, 1000000000));
	EXPECT_EQ(1, io_wait(self->io, 1000000000));
	s.read = true;
	EXPECT_EQ(1, io_wait(self->io, 1000000000));
	EXPECT_EQ(3, s.nr);
	EXPECT_EQ(0, io_wait(self->io, 1000000));
	io_del(self->io, &s.w);
}

TEST_F(io, an_edge_watch_comes_once_a_wake_up)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	struct seen s = watch(self->io, fd, IO_EDGE);
	const u64 one = 1;
	int i;

	ASSERT_EQ(0, io_add(self->io, &s.w));
	EXPECT_EQ(0, io_wait(self->io, 1000000));
	for (i = 1; i <= 5; i++) {
		EXPECT_EQ(8, write(fd, &one, 8));
		EXPECT_EQ(1, io_wait(self->io, 1000000000));
		EXPECT_EQ(i, s.nr);
		EXPECT_EQ(0, io_wait(self->io, 1000000));
	}
	io_del(self->io, &s.w);
	close(fd);
}

TEST_F(io, a_removed_watch_is_silent)
{
	struct seen s = watch(self->io, self->fds[0], IO_LEVEL);
	int i;

	s.del = true;
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, io_add(self->io, &s.w));
		EXPECT_EQ(1, write(self->fds[1], "x", 1));
		EXPECT_EQ(1, io_wait(self->io, 1000000000));
		EXPECT_EQ(0, io_wait(self->io, 500000));
	}
	EXPECT_EQ(20, s.nr);
	/* and one that was ready and is removed before it is told */
	s.nr = 0;
	ASSERT_EQ(0, io_add(self->io, &s.w));
	io_del(self->io, &s.w);
	EXPECT_EQ(0, io_wait(self->io, 1000000));
	EXPECT_EQ(0, s.nr);
}

TEST_F(io, slots_are_reused_without_mixing_up)
{
	struct seen a, b;
	int i;

	for (i = 0; i < 3 * (int)IO_SLOT_MAX; i++) {
		a = watch(self->io, self->fds[0], IO_LEVEL);
		ASSERT_EQ(0, io_add(self->io, &a.w));
		io_del(self->io, &a.w);
		if (i % 64 == 0)
			io_wait(self->io, 0);
	}
	b = watch(self->io, self->fds[0], IO_LEVEL);
	ASSERT_EQ(0, io_add(self->io, &b.w));
	EXPECT_EQ(1, write(self->fds[1], "x", 1));
	while (!b.nr)
		ASSERT_GE(io_wait(self->io, 1000000000), 0);
	EXPECT_EQ(1, b.nr);
	EXPECT_EQ(0, a.nr);
	io_del(self->io, &b.w);
}

TEST_F(io, the_events_of_a_watch_can_change)
{
	struct seen s = watch(self->io, self->fds[0], IO_LEVEL);

	ASSERT_EQ(0, io_add(self->io, &s.w));
	EXPECT_EQ(0, io_wait(self->io, 1000000));
	s.w.events = EPOLLIN | EPOLLOUT;
	io_mod(self->io, &s.w);
	while (!s.nr)
		ASSERT_GE(io_wait(self->io, 1000000000), 0);
	EXPECT_TRUE(s.events & EPOLLOUT);
	io_del(self->io, &s.w);
}

TEST_F(io, a_hang_up_is_told)
{
	struct seen s = watch(self->io, self->fds[0], IO_LEVEL);

	ASSERT_EQ(0, io_add(self->io, &s.w));
	shutdown(self->fds[1], SHUT_RDWR);
	EXPECT_EQ(1, io_wait(self->io, 1000000000));
	EXPECT_TRUE(s.events & EPOLLHUP);
	io_del(self->io, &s.w);
}

/* ---- workers ---- */

struct job {
	struct work w;
	_Atomic int ran;
	int done;
};

static void job_run(struct work *w)
{
	container_of(w, struct job, w)->ran++;
}

static void job_done(struct work *w)
{
	container_of(w, struct job, w)->done++;
}

TEST_F(io, a_job_runs_elsewhere_and_ends_on_the_loop)
{
	struct job jobs[200];
	struct work_pool *p;
	int i, nr = 0;

	memset(jobs, 0, sizeof(jobs));
	ASSERT_EQ(0, work_pool_create(self->io, 2, &p));
	for (i = 0; i < 200; i++) {
		jobs[i].w.run = job_run;
		jobs[i].w.done = job_done;
		work_submit(p, &jobs[i].w);
	}
	while (nr < 200) {
		ASSERT_GE(io_wait(self->io, 2000000000), 0);
		for (i = nr = 0; i < 200; i++)
			nr += jobs[i].done;
	}
	for (i = 0; i < 200; i++)
		EXPECT_EQ(jobs[i].ran, 1);
	work_pool_destroy(p);
}

TEST_F(io, a_paused_pool_begins_nothing)
{
	struct job j = { .w = { .run = job_run, .done = job_done } };
	struct work_pool *p;

	ASSERT_EQ(0, work_pool_create(self->io, 2, &p));
	work_pool_pause(p);
	work_submit(p, &j.w);
	usleep(5000);
	EXPECT_EQ(j.ran, 0);
	work_pool_resume(p);
	work_pool_flush(p);
	EXPECT_EQ(j.done, 1);
	work_pool_destroy(p);
}

static void job_slow(struct work *w)
{
	struct job *j = container_of(w, struct job, w);

	usleep(20000);
	j->ran++;
}

/* A thread that holds the lock has lost its CPU: here, for good. */
TEST_F(io, the_loop_waits_for_no_thread)
{
	struct job jobs[2] = { { .w = { .run = job_slow, .done = job_done } },
			       { .w = { .run = job_run, .done = job_done } } };
	struct work_pool *p;

	ASSERT_EQ(0, work_pool_create(self->io, 1, &p));
	pthread_mutex_lock(&p->lock);
	work_submit(p, &jobs[0].w);
	work_submit(p, &jobs[1].w);
	work_reap(p);
	EXPECT_EQ(jobs[0].ran + jobs[1].ran, 0);
	pthread_mutex_unlock(&p->lock);
	work_pool_flush(p);
	EXPECT_EQ(jobs[0].done + jobs[1].done, 2);
	work_pool_destroy(p);
}

static void job_count(struct work *w)
{
	static int nr;

	container_of(w, struct job, w)->done = ++nr;
}

TEST_F(io, one_thread_runs_jobs_and_tells_their_ends_in_order)
{
	struct job jobs[100];
	struct work_pool *p;
	int i;

	memset(jobs, 0, sizeof(jobs));
	ASSERT_EQ(0, work_pool_create(self->io, 1, &p));
	work_pool_pause(p);
	for (i = 0; i < 100; i++) {
		jobs[i].w.run = job_run;
		jobs[i].w.done = job_count;
		work_submit(p, &jobs[i].w);
	}
	work_pool_resume(p);
	work_pool_flush(p);
	for (i = 1; i < 100; i++)
		EXPECT_EQ(jobs[i].done, jobs[i - 1].done + 1);
	work_pool_destroy(p);
}

/* Whatever they tell together: each job once, and pauses in between. */
TEST_F(io, a_batch_pool_tells_the_end_of_each_job_once)
{
	static struct job jobs[2000];
	struct work_pool *p;
	int i;

	memset(jobs, 0, sizeof(jobs));
	ASSERT_EQ(0, work_pool_create_batch(self->io, 2, &p));
	for (i = 0; i < 2000; i++) {
		jobs[i].w.run = job_run;
		jobs[i].w.done = job_done;
		jobs[i].w.slow = i % 7 == 0;
		work_submit(p, &jobs[i].w);
		if (i % 300 == 0)
			work_pool_pause(p);
		if (i % 300 == 20)
			work_pool_resume(p);
		if (i % 700 == 650)
			work_pool_flush(p);
	}
	work_pool_flush(p);
	for (i = 0; i < 2000; i++)
		EXPECT_TRUE(jobs[i].ran == 1 && jobs[i].done == 1);
	work_pool_destroy(p);
}

TEST_F(io, threads_run_where_they_are_placed)
{
	cpu_set_t one, got;
	struct work_pool *p;
	int cpu = sched_getcpu();

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ASSERT_EQ(0, work_pool_create(self->io, 2, &p));
	work_pool_place(p, &one);
	ASSERT_EQ(0, pthread_getaffinity_np(p->threads[1], sizeof(got), &got));
	EXPECT_TRUE(CPU_EQUAL(&one, &got));
	work_pool_destroy(p);
}

/* ---- timers ---- */

struct alarm {
	struct timer t;
	struct timer_list *l;
	int nr;
};

static void ring(struct timer *t)
{
	container_of(t, struct alarm, t)->nr++;
}

/* A file that is cut off is memory that is gone. */
static int touch(void *arg)
{
	return *(volatile char *)arg;
}

TEST(guard, memory_that_went_bad_is_an_error)
{
	int fd = memfd_create("test", MFD_CLOEXEC), i;
	char *p;

	ASSERT_EQ(0, ftruncate(fd, 8192));
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	p[0] = 7;
	EXPECT_EQ(guard_call(touch, p + 4096), 0);
	ASSERT_EQ(0, ftruncate(fd, 4096));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(guard_call(touch, p + 4096), -EIO);
		EXPECT_EQ(guard_call(touch, p), 7);
	}
	munmap(p, 8192);
	close(fd);
}

TEST(guard, outside_of_it_such_memory_is_the_end)
{
	int fd = memfd_create("test", MFD_CLOEXEC), status;
	char *p;
	pid_t pid;

	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(p, MAP_FAILED);
	pid = fork();
	if (!pid) {
		signal(SIGBUS, SIG_DFL); /* no sanitizer's */
		_exit(guard_call(touch, p) == -EIO ? touch(p) : 1);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	munmap(p, 4096);
	close(fd);
}

TEST(timer, those_due_fire_in_order_and_once)
{
	struct timer_list l = TAILQ_HEAD_INITIALIZER(l);
	struct alarm a[100];
	unsigned int i;

	memset(a, 0, sizeof(a));
	for (i = 0; i < 100; i++) {
		a[i].t.fire = ring;
		timer_set(&l, &a[i].t, 1000 + i * 37 % 100);
	}
	EXPECT_EQ(timer_next_ns(&l, 900), 100);
	timer_cancel(&l, &a[0].t);
	timer_run(&l, 1049);
	for (i = 1; i < 100; i++)
		EXPECT_EQ(a[i].nr, i * 37 % 100 <= 49);
	EXPECT_EQ(a[0].nr, 0);
	EXPECT_EQ(timer_next_ns(&l, 1049), 1);
	timer_run(&l, 5000);
	timer_run(&l, 5000);
	EXPECT_EQ(timer_next_ns(&l, 5000), -1);
	for (i = 1; i < 100; i++)
		EXPECT_EQ(a[i].nr, 1);
}

TEST_HARNESS_MAIN
