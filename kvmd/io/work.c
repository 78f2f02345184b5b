/* SPDX-License-Identifier: MIT */
/*
 * work.c - threads for what may not run on the loop
 *
 *	loop --inbox--> queue --thread runs it--> finished --done()--> loop
 *
 * The loop waits for none of them. A thread of low priority may lose its CPU at
 * any instruction, for milliseconds, and with it whatever lock it holds; so the
 * inbox and what is finished are lists that grow at the head by compare and
 * swap and are taken whole, and the lock is one between threads. (Condition
 * variables won't do for the loop either: up to glibc 2.40 a signal may wait
 * until threads that were woken earlier have run.) Only pause, wait, flush and
 * destroy, which wait for threads anyhow, and what is for the end, leave and
 * is_busy, take it on the loop.
 *
 * Sleeping. A thread that finds nothing waits for `news` to move from what it
 * was before it looked. The loop wakes one when it puts a job into an empty
 * inbox; who takes a job and leaves others wakes the next one.
 *
 * A thread that puts the first job among the finished rings an eventfd, on
 * which the loop has an edge watch, holding nothing: the loop may have its CPU
 * at once.
 *
 * Threads of a batch pool let others compute first (favour.c). Each of them
 * tells the end of a few jobs at a time, as long as more are there to be done:
 * the loop, which takes the CPU from one of them, has a turn for each telling.
 */
#include "kvmd/io/work.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "kvmd/io/favour.h"
#include "lib/clock.h"

#define BATCH_MOST 16u
#define BATCH_NS   200000u

/* Any thread puts, at the head; whoever takes, takes all. */
struct work_stack {
	struct work *head;
};

struct work_pool {
	struct io *io;
	struct io_watch watch;
	pthread_t *threads;
	unsigned int nr_threads;
	bool batch;

	struct work_stack inbox, finished;
	u32 news; /* futex: moves when a thread should look again */
	u32 nr_asleep; /* threads that wait for it, or are about to */

	pthread_mutex_t lock; /* covers what follows */
	pthread_cond_t idle; /* a job has ended, for who waits on the loop */
	STAILQ_HEAD(, work) queued;
	unsigned int nr_running, nr_waiting;
	bool paused, stopping;
};

/* Put a chain, the newest first. Return: was it empty? */
static bool stack_put(struct work_stack *s, struct work *newest,
		      struct work *oldest)
{
	struct work *head = __atomic_load_n(&s->head, __ATOMIC_RELAXED);

	do
		oldest->link.stqe_next = head;
	while (!__atomic_compare_exchange_n(&s->head, &head, newest, true,
					    __ATOMIC_SEQ_CST,
					    __ATOMIC_RELAXED));
	return !head;
}

static bool stack_is_empty(const struct work_stack *s)
{
	return !__atomic_load_n(&s->head, __ATOMIC_SEQ_CST);
}

/* All of it, the oldest first. */
static struct work *stack_take(struct work_stack *s)
{
	struct work *w = __atomic_exchange_n(&s->head, NULL, __ATOMIC_SEQ_CST);
	struct work *next, *first = NULL;

	for (; w; w = next) {
		next = w->link.stqe_next;
		w->link.stqe_next = first;
		first = w;
	}
	return first;
}

/* There is something to look at for @most threads. */
static void pool_wake(struct work_pool *p, int most)
{
	__atomic_add_fetch(&p->news, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&p->nr_asleep, __ATOMIC_SEQ_CST))
		syscall(SYS_futex, &p->news, FUTEX_WAKE_PRIVATE, most, NULL,
			NULL, 0);
}

/*
 * The loop takes all that is there, and is rung for once: should that fail,
 * nobody would ring again. EAGAIN: the counter is full, the loop is awake.
 */
static void ring_loop(const struct work_pool *p)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	const u64 one = 1;

	while (write(p->watch.fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		nanosleep(&moment, NULL);
}

/* Under the lock. NULL: there is none. */
static struct work *next_job(struct work_pool *p)
{
	struct work *w, *next;

	if (p->paused)
		return NULL;
	for (w = stack_take(&p->inbox); w; w = next) {
		next = w->link.stqe_next;
		STAILQ_INSERT_TAIL(&p->queued, w, link);
	}
	w = STAILQ_FIRST(&p->queued);
	if (w)
		STAILQ_REMOVE_HEAD(&p->queued, link);
	return w;
}

/* The lock is held around it. @seen: news, before there was no job */
static void thread_sleep(struct work_pool *p, u32 seen)
{
	pthread_mutex_unlock(&p->lock);
	__atomic_add_fetch(&p->nr_asleep, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &p->news, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
	__atomic_sub_fetch(&p->nr_asleep, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&p->lock);
}

static void tell_ends(struct work_pool *p, struct work *newest,
		      struct work *oldest)
{
	if (stack_put(&p->finished, newest, oldest))
		ring_loop(p);
}

/* Likewise: a job, and in a batch pool those behind it. */
static void thread_run(struct work_pool *p, struct work *w)
{
	u64 until = p->batch ? clock_ns() + BATCH_NS : 0;
	struct work *oldest = NULL, *newest = NULL;
	unsigned int n = 0;

	p->nr_running++;
	while (w) {
		bool more = !STAILQ_EMPTY(&p->queued);

		pthread_mutex_unlock(&p->lock);
		if (more)
			pool_wake(p, 1);
		if (w->slow && newest) {
			tell_ends(p, newest, oldest);
			newest = NULL;
		}
		w->run(w);
		oldest = newest ? oldest : w;
		w->link.stqe_next = newest;
		newest = w;
		more = p->batch && ++n < BATCH_MOST && clock_ns() < until;
		pthread_mutex_lock(&p->lock);
		w = more ? next_job(p) : NULL;
	}
	pthread_mutex_unlock(&p->lock);
	tell_ends(p, newest, oldest);
	pthread_mutex_lock(&p->lock);
	p->nr_running--;
	if (p->nr_waiting)
		pthread_cond_broadcast(&p->idle);
}

static void *work_thread(void *arg)
{
	struct work_pool *p = arg;
	struct work *w;
	u32 seen;

	if (p->batch)
		favour_others();
	pthread_mutex_lock(&p->lock);
	for (;;) {
		seen = __atomic_load_n(&p->news, __ATOMIC_SEQ_CST);
		w = next_job(p);
		if (w)
			thread_run(p, w);
		else if (p->stopping)
			break;
		else
			thread_sleep(p, seen);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void work_reap(struct work_pool *p)
{
	struct work *w, *next;

	for (w = stack_take(&p->finished); w; w = next) {
		next = w->link.stqe_next;
		w->done(w);
	}
}

static void work_ready(struct io_watch *w, u32 events)
{
	work_reap(container_of(w, struct work_pool, watch));
}

static int pool_create(struct io *io, unsigned int nr_threads, bool batch,
		       struct work_pool **out)
{
	struct work_pool *p = calloc(1, sizeof(*p));
	int rc = -ENOMEM;

	if (!p)
		return -ENOMEM;
	p->io = io;
	p->batch = batch;
	STAILQ_INIT(&p->queued);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->idle, NULL);
	p->watch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->watch.events = EPOLLIN;
	p->watch.kind = IO_EDGE;
	p->watch.ready = work_ready;
	p->threads = calloc(nr_threads, sizeof(*p->threads));
	if (p->watch.fd < 0 || !p->threads)
		goto out_destroy;
	rc = io_add(io, &p->watch);
	if (rc)
		goto out_destroy;
	while (p->nr_threads < nr_threads) {
		rc = -pthread_create(&p->threads[p->nr_threads], NULL,
				     work_thread, p);
		if (rc)
			goto out_destroy;
		p->nr_threads++;
	}
	*out = p;
	return 0;

out_destroy:
	work_pool_destroy(p);
	return rc;
}

int work_pool_create(struct io *io, unsigned int nr_threads,
		     struct work_pool **out)
{
	return pool_create(io, nr_threads, false, out);
}

int work_pool_create_batch(struct io *io, unsigned int nr_threads,
			   struct work_pool **out)
{
	return pool_create(io, nr_threads, true, out);
}

void work_pool_destroy(struct work_pool *p)
{
	unsigned int i;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	p->paused = false;
	pthread_mutex_unlock(&p->lock);
	pool_wake(p, INT_MAX);
	for (i = 0; i < p->nr_threads; i++)
		pthread_join(p->threads[i], NULL);
	work_reap(p);
	io_del(p->io, &p->watch);
	if (p->watch.fd >= 0)
		close(p->watch.fd);
	pthread_cond_destroy(&p->idle);
	pthread_mutex_destroy(&p->lock);
	free(p->threads);
	free(p);
}

void work_pool_leave(struct work_pool *p)
{
	unsigned int i;

	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	p->paused = true; /* what is queued stays there */
	pthread_mutex_unlock(&p->lock);
	pool_wake(p, INT_MAX);
	for (i = 0; i < p->nr_threads; i++)
		pthread_detach(p->threads[i]);
	io_del(p->io, &p->watch); /* whose eventfd a thread may still ring */
}

void work_pool_place(struct work_pool *p, const cpu_set_t *cpus)
{
	unsigned int i;

	for (i = 0; i < p->nr_threads; i++)
		(void)pthread_setaffinity_np(p->threads[i], sizeof(*cpus),
					     cpus);
}

void work_submit(struct work_pool *p, struct work *w)
{
	if (stack_put(&p->inbox, w, w))
		pool_wake(p, 1);
}

/* Under the lock. */
static bool is_busy(const struct work_pool *p)
{
	return p->nr_running || !STAILQ_EMPTY(&p->queued) ||
	       !stack_is_empty(&p->inbox);
}

bool work_pool_is_busy(struct work_pool *p)
{
	bool busy;

	pthread_mutex_lock(&p->lock);
	busy = is_busy(p);
	pthread_mutex_unlock(&p->lock);
	return busy;
}

void work_pool_pause(struct work_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->paused = true;
	p->nr_waiting++;
	while (p->nr_running)
		pthread_cond_wait(&p->idle, &p->lock);
	p->nr_waiting--;
	pthread_mutex_unlock(&p->lock);
}

void work_pool_resume(struct work_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->paused = false;
	pthread_mutex_unlock(&p->lock);
	pool_wake(p, INT_MAX);
}

void work_pool_wait(struct work_pool *p, int ms)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (ms % 1000) * 1000000l;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&p->lock);
	p->nr_waiting++;
	while (!rc && stack_is_empty(&p->finished) && is_busy(p))
		rc = pthread_cond_timedwait(&p->idle, &p->lock, &until);
	p->nr_waiting--;
	pthread_mutex_unlock(&p->lock);
	work_reap(p);
}

void work_pool_flush(struct work_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->nr_waiting++;
	while (is_busy(p))
		pthread_cond_wait(&p->idle, &p->lock);
	p->nr_waiting--;
	pthread_mutex_unlock(&p->lock);
	work_reap(p);
}
