/* SPDX-License-Identifier: MIT */
/*
 * work.c - threads for what may not run on the loop
 *
 * Two queues under one mutex: jobs to run and jobs that have run. A thread
 * that puts the first job there rings an eventfd, on which the loop has an edge
 * watch; the loop takes the whole finished queue at once and calls done()
 * outside of the lock.
 *
 * Threads of a batch pool let others compute first (favour.c).
 */
#include "kvmd/io/work.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "kvmd/io/favour.h"

TAILQ_HEAD(work_list, work);

struct work_pool {
	struct io *io;
	struct io_watch watch;
	pthread_t *threads;
	unsigned int nr_threads;
	bool batch;

	pthread_mutex_t lock; /* covers what follows */
	pthread_cond_t wake; /* a job came, or resume, or stop */
	pthread_cond_t idle; /* a job has ended */
	struct work_list queued, finished;
	unsigned int nr_running;
	bool paused, stopping;
};

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

static void *work_thread(void *arg)
{
	struct work_pool *p = arg;
	struct work *w;
	bool first;

	if (p->batch)
		favour_others();
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!p->stopping && (p->paused || TAILQ_EMPTY(&p->queued)))
			pthread_cond_wait(&p->wake, &p->lock);
		w = TAILQ_FIRST(&p->queued);
		if (!w)
			break;
		TAILQ_REMOVE(&p->queued, w, link);
		p->nr_running++;
		pthread_mutex_unlock(&p->lock);
		w->run(w);
		pthread_mutex_lock(&p->lock);
		p->nr_running--;
		first = TAILQ_EMPTY(&p->finished);
		TAILQ_INSERT_TAIL(&p->finished, w, link);
		pthread_cond_broadcast(&p->idle);
		if (first)
			ring_loop(p);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void work_reap(struct work_pool *p)
{
	struct work_list list = TAILQ_HEAD_INITIALIZER(list);
	struct work *w;

	pthread_mutex_lock(&p->lock);
	TAILQ_CONCAT(&list, &p->finished, link);
	pthread_mutex_unlock(&p->lock);
	while ((w = TAILQ_FIRST(&list))) {
		TAILQ_REMOVE(&list, w, link);
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
	TAILQ_INIT(&p->queued);
	TAILQ_INIT(&p->finished);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
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
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (i = 0; i < p->nr_threads; i++)
		pthread_join(p->threads[i], NULL);
	work_reap(p);
	io_del(p->io, &p->watch);
	if (p->watch.fd >= 0)
		close(p->watch.fd);
	pthread_cond_destroy(&p->idle);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->threads);
	free(p);
}

void work_submit(struct work_pool *p, struct work *w)
{
	pthread_mutex_lock(&p->lock);
	TAILQ_INSERT_TAIL(&p->queued, w, link);
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

void work_pool_pause(struct work_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->paused = true;
	while (p->nr_running)
		pthread_cond_wait(&p->idle, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

void work_pool_resume(struct work_pool *p)
{
	pthread_mutex_lock(&p->lock);
	p->paused = false;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
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
	while (!rc && TAILQ_EMPTY(&p->finished) &&
	       (p->nr_running || !TAILQ_EMPTY(&p->queued)))
		rc = pthread_cond_timedwait(&p->idle, &p->lock, &until);
	pthread_mutex_unlock(&p->lock);
	work_reap(p);
}

void work_pool_flush(struct work_pool *p)
{
	pthread_mutex_lock(&p->lock);
	while (p->nr_running || !TAILQ_EMPTY(&p->queued))
		pthread_cond_wait(&p->idle, &p->lock);
	pthread_mutex_unlock(&p->lock);
	work_reap(p);
}
