/* SPDX-License-Identifier: MIT */
/*
 * pool.c - a few threads that share out the items of a job
 *
 * One word, the ticket, holds everything a thread needs to take an item:
 *
 *	63..48 job number   47..24 items of the job   23..0 next item
 *
 * An item is taken by a compare-and-swap that moves "next" on. The job's
 * function and argument are read only after that: the job cannot end, so
 * they cannot be replaced, before the item is done. A thread that wakes late
 * finds no item left, or takes one of the job that is now running; nobody
 * waits for it. (The job number only tells a sleeper that something moved.)
 *
 * The caller publishes the ticket, works, then waits until nr_done reaches
 * the number of items. Idle threads spin POOL_SPIN_NS, then sleep on a futex;
 * waker and sleeper agree through the sequentially consistent pair
 *
 *	sleeper				caller
 *	nr_sleepers++			ticket = new job
 *	ticket: no item?		nr_sleepers != 0?
 *	futex_wait(wake_seq)		wake_seq++, futex_wake
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
#define TICKET_BITS	 24
#define TICKET_MASK	 ((1u << TICKET_BITS) - 1)

struct worker {
	pthread_t thread;
	struct pool *pool;
	void *scratch;
};

enum { ERRAND_IDLE, ERRAND_POSTED, ERRAND_TAKEN };

struct pool {
	u64 ticket __attribute__((aligned(KV_CACHELINE))); /* atomic */
	u32 nr_done __attribute__((aligned(KV_CACHELINE))); /* atomic, futex */
	u32 caller_sleeps; /* atomic */
	u32 wake_seq __attribute__((aligned(KV_CACHELINE))); /* futex */
	u32 nr_sleepers; /* atomic */
	u32 stop; /* atomic */
	/* Written by the caller before the ticket, read after taking one. */
	pool_fn fn __attribute__((aligned(KV_CACHELINE)));
	void *arg;
	u32 errand __attribute__((aligned(KV_CACHELINE))); /* atomic, futex */
	u32 errand_awaited; /* atomic: the caller sleeps on it */
	/* Written by the caller before the word, read after taking it. */
	pool_errand_fn errand_fn;
	void *errand_arg;
	void *shared; /* pool_shared()'s, NULL if there is none */
	size_t shared_bytes;
	/* Set once. */
	u32 nr_workers; /* threads of our own */
	struct worker *workers; /* [nr_workers + 1], the last is the caller */
};

static void futex_wait(u32 *word, u32 val)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, val, NULL, NULL, 0);
}

static void futex_wake(u32 *word, int nr)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, nr, NULL, NULL, 0);
}

static u32 ticket_next(u64 t)
{
	return (u32)t & TICKET_MASK;
}

static u32 ticket_nr(u64 t)
{
	return (u32)(t >> TICKET_BITS) & TICKET_MASK;
}

static bool ticket_has_item(u64 t)
{
	return ticket_next(t) < ticket_nr(t);
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
static void work(struct pool *p, void *scratch)
{
	u64 t = __atomic_load_n(&p->ticket, __ATOMIC_SEQ_CST);

	while (ticket_has_item(t)) {
		u32 nr = ticket_nr(t), done;

		if (!__atomic_compare_exchange_n(&p->ticket, &t, t + 1, false,
						 __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			continue;
		p->fn(p->arg, ticket_next(t), scratch);
		done = __atomic_add_fetch(&p->nr_done, 1, __ATOMIC_SEQ_CST);
		if (done == nr &&
		    __atomic_load_n(&p->caller_sleeps, __ATOMIC_SEQ_CST))
			futex_wake(&p->nr_done, 1);
		t = __atomic_load_n(&p->ticket, __ATOMIC_SEQ_CST);
	}
}

static bool should_wake(struct pool *p)
{
	return ticket_has_item(__atomic_load_n(&p->ticket, __ATOMIC_SEQ_CST)) ||
	       __atomic_load_n(&p->errand, __ATOMIC_SEQ_CST) == ERRAND_POSTED ||
	       __atomic_load_n(&p->stop, __ATOMIC_SEQ_CST);
}

static void worker_idle(struct pool *p)
{
	u64 until = clock_ns() + POOL_SPIN_NS;

	do {
		for (int i = 0; i < 32; i++) {
			if (should_wake(p))
				return;
			_mm_pause();
		}
	} while (clock_ns() < until);
	__atomic_add_fetch(&p->nr_sleepers, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		u32 seq = __atomic_load_n(&p->wake_seq, __ATOMIC_SEQ_CST);

		if (should_wake(p))
			break;
		futex_wait(&p->wake_seq, seq);
	}
	__atomic_sub_fetch(&p->nr_sleepers, 1, __ATOMIC_SEQ_CST);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	kern_thread_init();
	while (!__atomic_load_n(&w->pool->stop, __ATOMIC_SEQ_CST)) {
		errand_run(w->pool);
		work(w->pool, w->scratch);
		worker_idle(w->pool);
	}
	return NULL;
}

static void wake_workers(struct pool *p, u32 nr)
{
	if (!__atomic_load_n(&p->nr_sleepers, __ATOMIC_SEQ_CST))
		return;
	__atomic_add_fetch(&p->wake_seq, 1, __ATOMIC_SEQ_CST);
	futex_wake(&p->wake_seq, (int)min(nr, (u32)INT_MAX));
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

static void run_job(struct pool *p, pool_fn fn, void *arg, u32 nr)
{
	u64 t = __atomic_load_n(&p->ticket, __ATOMIC_SEQ_CST);
	u64 job = (t >> 2 * TICKET_BITS) + 1;

	p->fn = fn;
	p->arg = arg;
	__atomic_store_n(&p->nr_done, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&p->ticket,
			 job << 2 * TICKET_BITS | (u64)nr << TICKET_BITS,
			 __ATOMIC_SEQ_CST);
	wake_workers(p, nr - 1);
	work(p, pool_scratch(p));
	wait_done(p, nr);
}

struct shifted {
	pool_fn fn;
	void *arg;
	u32 first;
};

static void run_shifted(void *arg, u32 item, void *scratch)
{
	struct shifted *s = arg;

	s->fn(s->arg, s->first + item, scratch);
}

void pool_run(struct pool *p, pool_fn fn, void *arg, u32 nr_items)
{
	struct shifted s = { fn, arg, 0 };

	if (nr_items == 1 || !p->nr_workers) {
		for (u32 i = 0; i < nr_items; i++)
			fn(arg, i, pool_scratch(p));
		return;
	}
	while (nr_items - s.first > TICKET_MASK) {
		run_job(p, run_shifted, &s, TICKET_MASK);
		s.first += TICKET_MASK;
	}
	if (nr_items > s.first)
		run_job(p, run_shifted, &s, nr_items - s.first);
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
	return p->nr_workers + 1;
}

void *pool_scratch(struct pool *p)
{
	return p->workers[p->nr_workers].scratch;
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
	for (cpu = 0; cpu < CPU_SETSIZE && i <= p->nr_workers && !err; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		err = -pthread_setaffinity_np(i < p->nr_workers
						      ? p->workers[i].thread
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

static void *scratch_map(void)
{
	return memory_map(POOL_SCRATCH_BYTES);
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

int pool_create(u32 nr_threads, struct pool **out)
{
	u32 nr = nr_threads ? nr_threads : nr_allowed_cpus();
	struct pool *p = aligned_alloc(KV_CACHELINE, sizeof(*p));
	int err = -ENOMEM;

	if (!p)
		return -ENOMEM;
	*p = (struct pool){ 0 };
	nr = min(nr, (u32)POOL_MAX_THREADS);
	p->workers = calloc(nr, sizeof(*p->workers));
	if (!p->workers)
		goto out_free;
	/* The caller's scratch moves along as the last one. */
	p->workers[0].scratch = scratch_map();
	if (!p->workers[0].scratch)
		goto out_free;
	for (u32 i = 0; i + 1 < nr; i++) {
		struct worker *w = &p->workers[i];
		void *mine = scratch_map();

		if (!mine)
			goto out_destroy;
		p->workers[i + 1].scratch = w->scratch;
		w->scratch = mine;
		w->pool = p;
		err = -pthread_create(&w->thread, NULL, worker_main, w);
		if (err) {
			munmap(mine, POOL_SCRATCH_BYTES);
			w->scratch = p->workers[i + 1].scratch;
			p->workers[i + 1].scratch = NULL;
			goto out_destroy;
		}
		p->nr_workers++;
		err = -ENOMEM;
	}
	*out = p;
	return 0;
out_destroy:
	pool_destroy(p);
	return err;
out_free:
	free(p->workers);
	free(p);
	return err;
}

void pool_destroy(struct pool *p)
{
	if (!p)
		return;
	__atomic_store_n(&p->stop, 1, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&p->wake_seq, 1, __ATOMIC_SEQ_CST);
	futex_wake(&p->wake_seq, INT_MAX);
	for (u32 i = 0; i < p->nr_workers; i++)
		pthread_join(p->workers[i].thread, NULL);
	for (u32 i = 0; i <= p->nr_workers; i++)
		munmap(p->workers[i].scratch, POOL_SCRATCH_BYTES);
	shared_free(p);
	free(p->workers);
	free(p);
}
