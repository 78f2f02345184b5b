/* SPDX-License-Identifier: MIT */
/*
 * pool.c - a few threads that share out the items of a job
 *
 * Each thread has a range of them, as even as they come, in a word of its own:
 *
 *	63..32 end   31..0 next item
 *
 * It takes its own from the front, and when there is none left those of others
 * from the back. Where items of one job and of the next stand for the same rows
 * a thread so finds most of its input in its own cache; and one that is slowed
 * down is helped out.
 *
 * An item is taken by a compare-and-swap on the word. The job's function and
 * argument are read only after that: the job cannot end, so they cannot be
 * replaced, before the item is done. A thread that wakes late finds no item
 * left, or takes one of the job that is now running, perhaps before all ranges
 * of that are there; nobody waits for it.
 *
 * The caller publishes the ranges, then counts the job, works, and waits until
 * nr_done reaches the number of items. Idle threads spin POOL_SPIN_NS, then
 * sleep on a futex until a job is counted that they have not looked for; waker
 * and sleeper agree through the sequentially consistent pair
 *
 *	sleeper				caller
 *	nr_sleepers++			ranges, job++
 *	job: not a new one?		nr_sleepers != 0?
 *	futex_wait(job)			futex_wake
 *
 * so that at least one sees the other.
 *
 * An errand is one call that is to be made beside the jobs that follow. A
 * worker takes it before its next job, so it displaces no thread that
 * computes, as one more thread would, and the others take what items it does
 * not. It is nobody's or one thread's, by a word of its own:
 *
 *	idle -> posted -> taken -> idle
 *
 * The caller takes it itself when it waits for one that nobody has taken.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <immintrin.h>

#include "kernels/cpu/pool.h"
#include "kernels/include/kern.h"
#include "lib/clock.h"

#define POOL_SPIN_NS	 20000
#define POOL_MAX_THREADS 256
#define SHARED_STEP	 (2u << 20)

struct worker {
	u64 range __attribute__((aligned(KV_CACHELINE))); /* atomic */
	pthread_t thread;
	struct pool *pool;
	void *scratch;
};

enum { ERRAND_IDLE, ERRAND_POSTED, ERRAND_TAKEN };

struct pool {
	u32 nr_done __attribute__((aligned(KV_CACHELINE))); /* atomic, futex */
	u32 caller_sleeps; /* atomic */
	/* Counts jobs, and the end: atomic, futex. */
	u32 job __attribute__((aligned(KV_CACHELINE)));
	u32 nr_sleepers; /* atomic */
	u32 stop; /* atomic */
	/* Written before the ranges, read after taking an item. */
	pool_fn fn __attribute__((aligned(KV_CACHELINE)));
	void *arg;
	u32 nr_items;
	u32 errand __attribute__((aligned(KV_CACHELINE))); /* atomic, futex */
	u32 errand_awaited; /* atomic: the caller sleeps on it */
	/* Written by the caller before the word, read after taking it. */
	pool_errand_fn errand_fn;
	void *errand_arg;
	void *shared; /* pool_shared()'s, NULL if there is none */
	size_t shared_bytes;
	/* Set once. */
	u32 nr_threads; /* the caller included */
	u32 nr_started; /* of our own */
	struct worker *workers; /* [nr_threads], the first is the caller */
};

static void futex_wait(u32 *word, u32 val)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, val, NULL, NULL, 0);
}

static void futex_wake(u32 *word, int nr)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr, NULL, NULL, 0);
}

static u64 range_of(u32 next, u32 end)
{
	return (u64)end << 32 | next;
}

/* An item of @w's range: the next, or the last if it is @stolen. */
static bool take(struct worker *w, bool stolen, u32 *item)
{
	u64 was = __atomic_load_n(&w->range, __ATOMIC_SEQ_CST), is;

	do {
		u32 next = (u32)was, end = (u32)(was >> 32);

		if (next == end)
			return false;
		*item = stolen ? end - 1 : next;
		is = stolen ? range_of(next, end - 1) : range_of(next + 1, end);
	} while (!__atomic_compare_exchange_n(&w->range, &was, is, false,
					      __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	return true;
}

/* One's own item, or that of the next thread that has one. */
static bool find_item(struct pool *p, struct worker *self, u32 *item)
{
	struct worker *w = self;

	for (u32 i = 0; i < p->nr_threads; i++) {
		if (take(w, w != self, item))
			return true;
		if (++w == p->workers + p->nr_threads)
			w = p->workers;
	}
	return false;
}

/* Run the errand, if there is one that nobody has taken. */
static void errand_run(struct pool *p)
{
	u32 posted = ERRAND_POSTED;

	if (__atomic_load_n(&p->errand, __ATOMIC_SEQ_CST) != ERRAND_POSTED ||
	    !__atomic_compare_exchange_n(&p->errand, &posted, ERRAND_TAKEN,
					 false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return;
	p->errand_fn(p->errand_arg);
	__atomic_store_n(&p->errand, ERRAND_IDLE, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&p->errand_awaited, __ATOMIC_SEQ_CST))
		futex_wake(&p->errand, 1);
}

/* Take and run items until there is none. */
static void work(struct pool *p, struct worker *self)
{
	u32 item;

	while (find_item(p, self, &item)) {
		/* the job may be over as soon as this one counts as done */
		u32 nr = p->nr_items;

		p->fn(p->arg, item, self->scratch);
		if (__atomic_add_fetch(&p->nr_done, 1, __ATOMIC_SEQ_CST) ==
			    nr &&
		    __atomic_load_n(&p->caller_sleeps, __ATOMIC_SEQ_CST))
			futex_wake(&p->nr_done, 1);
	}
}

static bool should_wake(struct pool *p, u32 seen)
{
	return __atomic_load_n(&p->job, __ATOMIC_SEQ_CST) != seen ||
	       __atomic_load_n(&p->errand, __ATOMIC_SEQ_CST) == ERRAND_POSTED ||
	       __atomic_load_n(&p->stop, __ATOMIC_SEQ_CST);
}

/* Until there is a job after @seen, or something else to do. */
static void worker_idle(struct pool *p, u32 seen)
{
	u64 until = clock_ns() + POOL_SPIN_NS;

	do {
		for (int i = 0; i < 32; i++) {
			if (should_wake(p, seen))
				return;
			_mm_pause();
		}
	} while (clock_ns() < until);
	__atomic_add_fetch(&p->nr_sleepers, 1, __ATOMIC_SEQ_CST);
	while (!should_wake(p, seen))
		futex_wait(&p->job, seen);
	__atomic_sub_fetch(&p->nr_sleepers, 1, __ATOMIC_SEQ_CST);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct pool *p = w->pool;

	kern_thread_init();
	while (!__atomic_load_n(&p->stop, __ATOMIC_SEQ_CST)) {
		u32 seen = __atomic_load_n(&p->job, __ATOMIC_SEQ_CST);

		errand_run(p);
		work(p, w);
		worker_idle(p, seen);
	}
	return NULL;
}

/* Count a job, or the end. */
static void wake_workers(struct pool *p, u32 nr)
{
	__atomic_add_fetch(&p->job, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&p->nr_sleepers, __ATOMIC_SEQ_CST))
		futex_wake(&p->job, (int)min(nr, (u32)INT_MAX));
}

static void wait_done(struct pool *p, u32 nr)
{
	u64 until = 0;
	u32 done;

	for (;;) {
		for (int i = 0; i < 64; i++) {
			if (__atomic_load_n(&p->nr_done, __ATOMIC_SEQ_CST) ==
			    nr)
				return;
			_mm_pause();
		}
		if (!until)
			until = clock_ns() + POOL_SPIN_NS;
		else if (clock_ns() >= until)
			break;
	}
	__atomic_store_n(&p->caller_sleeps, 1, __ATOMIC_SEQ_CST);
	while ((done = __atomic_load_n(&p->nr_done, __ATOMIC_SEQ_CST)) != nr)
		futex_wait(&p->nr_done, done);
	__atomic_store_n(&p->caller_sleeps, 0, __ATOMIC_SEQ_CST);
}

/* First item of thread i. The caller has one if there is any. */
static u32 share(const struct pool *p, u32 i)
{
	return (u32)DIV_ROUND_UP((u64)p->nr_items * i, (u64)p->nr_threads);
}

void pool_run(struct pool *p, pool_fn fn, void *arg, u32 nr_items)
{
	if (nr_items <= 1 || p->nr_threads == 1) {
		for (u32 i = 0; i < nr_items; i++)
			fn(arg, i, pool_scratch(p));
		return;
	}
	p->fn = fn;
	p->arg = arg;
	p->nr_items = nr_items;
	__atomic_store_n(&p->nr_done, 0, __ATOMIC_SEQ_CST);
	/* The caller's own last: hardly anybody helps it before it begins. */
	for (u32 i = p->nr_threads; i--;)
		__atomic_store_n(&p->workers[i].range,
				 range_of(share(p, i), share(p, i + 1)),
				 __ATOMIC_SEQ_CST);
	wake_workers(p, nr_items - 1);
	work(p, &p->workers[0]);
	wait_done(p, nr_items);
}

void pool_post(struct pool *p, pool_errand_fn fn, void *arg)
{
	p->errand_fn = fn;
	p->errand_arg = arg;
	/* the next job wakes who sleeps */
	__atomic_store_n(&p->errand, ERRAND_POSTED, __ATOMIC_SEQ_CST);
}

void pool_collect(struct pool *p)
{
	u64 until = 0;
	u32 state;

	errand_run(p);
	while (__atomic_load_n(&p->errand, __ATOMIC_SEQ_CST) != ERRAND_IDLE) {
		_mm_pause();
		if (!until)
			until = clock_ns() + POOL_SPIN_NS;
		else if (clock_ns() >= until)
			break;
	}
	__atomic_store_n(&p->errand_awaited, 1, __ATOMIC_SEQ_CST);
	while ((state = __atomic_load_n(&p->errand, __ATOMIC_SEQ_CST)) !=
	       ERRAND_IDLE)
		futex_wait(&p->errand, state);
	__atomic_store_n(&p->errand_awaited, 0, __ATOMIC_SEQ_CST);
}

u32 pool_nr_threads(const struct pool *p)
{
	return p->nr_threads;
}

void *pool_scratch(struct pool *p)
{
	return p->workers[0].scratch;
}

static u32 nr_allowed_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	return (u32)max(1, CPU_COUNT(&set));
}

int pool_pin(struct pool *p)
{
	cpu_set_t all, one;
	u32 i = 0;
	int cpu, err = 0;

	if (sched_getaffinity(0, sizeof(all), &all))
		return -errno;
	if ((u32)CPU_COUNT(&all) < pool_nr_threads(p))
		return -ERANGE;
	for (cpu = 0; cpu < CPU_SETSIZE && i < p->nr_threads && !err; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		err = -pthread_setaffinity_np(i ? p->workers[i].thread
						: pthread_self(),
					      sizeof(one), &one);
		i++;
	}
	return err;
}

static void *memory_map(size_t bytes)
{
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return m == MAP_FAILED ? NULL : m;
}

static void shared_free(struct pool *p)
{
	if (p->shared)
		munmap(p->shared, p->shared_bytes);
	p->shared = NULL;
	p->shared_bytes = 0;
}

void *pool_shared(struct pool *p, size_t bytes)
{
	if (bytes <= p->shared_bytes)
		return p->shared;
	shared_free(p);
	bytes = ALIGN_UP(bytes, (size_t)SHARED_STEP);
	p->shared = memory_map(bytes);
	if (p->shared) {
		madvise(p->shared, bytes, MADV_HUGEPAGE); /* if it can */
		p->shared_bytes = bytes;
	}
	return p->shared;
}

static int start_workers(struct pool *p)
{
	int err = 0;

	for (u32 i = 0; i < p->nr_threads; i++) {
		p->workers[i].pool = p;
		p->workers[i].scratch = memory_map(POOL_SCRATCH_BYTES);
		if (!p->workers[i].scratch)
			return -ENOMEM;
	}
	for (u32 i = 1; i < p->nr_threads && !err; i++) {
		struct worker *w = &p->workers[i];

		err = -pthread_create(&w->thread, NULL, worker_main, w);
		p->nr_started += !err;
	}
	return err;
}

int pool_create(u32 nr_threads, struct pool **out)
{
	u32 nr = nr_threads ? nr_threads : nr_allowed_cpus();
	struct pool *p = aligned_alloc(KV_CACHELINE, sizeof(*p));
	size_t bytes;
	int err;

	if (!p)
		return -ENOMEM;
	*p = (struct pool){ .nr_threads = min(nr, (u32)POOL_MAX_THREADS) };
	bytes = p->nr_threads * sizeof(*p->workers);
	p->workers = aligned_alloc(KV_CACHELINE, bytes);
	if (!p->workers) {
		free(p);
		return -ENOMEM;
	}
	memset(p->workers, 0, bytes);
	err = start_workers(p);
	if (err)
		pool_destroy(p);
	else
		*out = p;
	return err;
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	__atomic_store_n(&p->stop, 1, __ATOMIC_SEQ_CST);
	wake_workers(p, p->nr_threads);
	for (u32 i = 1; i <= p->nr_started; i++)
		pthread_join(p->workers[i].thread, NULL);
	for (u32 i = 0; i < p->nr_threads; i++)
		if (p->workers[i].scratch)
			munmap(p->workers[i].scratch, POOL_SCRATCH_BYTES);
	shared_free(p);
	free(p->workers);
	free(p);
}
