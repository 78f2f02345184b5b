/* SPDX-License-Identifier: MIT */
/*
 * test_pool.c - every item once, whatever the threads do; idle means asleep
 *
 * san: address thread
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <xmmintrin.h>

#include "kernels/cpu/pool.h"
#include "selftests/kernels/kern_test.h"

struct marks {
	u32 *count; /* [nr] */
	u32 sum;
};

static void mark(void *arg, u32 item, void *scratch)
{
	struct marks *m = arg;

	*(volatile u8 *)scratch = (u8)item;
	__atomic_add_fetch(&m->count[item], 1, __ATOMIC_RELAXED);
}

TEST(pool, runs_each_item_once)
{
	u64 seed = test_seed();

	for (u32 threads = 1; threads <= 5; threads++) {
		struct pool *p;

		ASSERT_EQ(0, pool_create(threads, &p));
		EXPECT_EQ(threads, pool_nr_threads(p));
		for (u32 round = 0; round < 400; round++) {
			u32 nr = kt_below(&seed, 50), bad = 0;
			struct marks m = { calloc(50, sizeof(u32)), 0 };

			pool_run(p, mark, &m, nr);
			for (u32 i = 0; i < 50; i++)
				bad += m.count[i] != (i < nr);
			EXPECT_EQ(0, bad);
			free(m.count);
			if (round % 100 == 99)
				usleep(1000); /* let them fall asleep */
		}
		pool_destroy(p);
	}
}

struct seats {
	u32 nr;
	int cpu[64];
};

/* Waits until each thread has an item: then each is where it belongs. */
static void take_seat(void *arg, u32 item, void *scratch)
{
	struct seats *s = arg;
	cpu_set_t set;

	__atomic_add_fetch(&s->nr, 1, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&s->nr, __ATOMIC_SEQ_CST) % 2)
		usleep(100);
	s->cpu[item] = -1;
	if (!sched_getaffinity(0, sizeof(set), &set) && CPU_COUNT(&set) == 1)
		for (int c = 0; c < CPU_SETSIZE; c++)
			if (CPU_ISSET(c, &set))
				s->cpu[item] = c;
}

TEST(pool, pins_each_thread_to_a_cpu_of_its_own)
{
	struct seats s = { 0 };
	cpu_set_t before;
	struct pool *p;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(before), &before));
	if (CPU_COUNT(&before) < 2)
		SKIP("one CPU");
	ASSERT_EQ(0, pool_create(2, &p));
	ASSERT_EQ(0, pool_pin(p));
	pool_run(p, take_seat, &s, 2);
	EXPECT_GE(s.cpu[0], 0);
	EXPECT_GE(s.cpu[1], 0);
	EXPECT_NE(s.cpu[0], s.cpu[1]);
	EXPECT_TRUE(CPU_ISSET(s.cpu[0], &before));
	/* this thread has one CPU now */
	EXPECT_EQ(-ERANGE, pool_pin(p));
	pool_destroy(p);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(before), &before));
}

struct csr {
	pthread_t caller;
	u32 others, bad;
	bool waited; /* the caller's own */
};

static void check_csr(void *arg, u32 item, void *scratch)
{
	struct csr *c = arg;

	usleep(200); /* so that every thread gets some */
	if (pthread_equal(pthread_self(), c->caller)) {
		/* and one at least, however late it is */
		for (u32 ms = 0; ms < 20000 && !c->waited; ms++) {
			if (__atomic_load_n(&c->others, __ATOMIC_RELAXED))
				break;
			usleep(1000);
		}
		c->waited = true;
		return;
	}
	__atomic_add_fetch(&c->others, 1, __ATOMIC_RELAXED);
	if ((_mm_getcsr() & 0x8040) != 0x8040)
		__atomic_add_fetch(&c->bad, 1, __ATOMIC_RELAXED);
}

TEST(pool, workers_flush_denormals_of_themselves)
{
	struct csr c = { .caller = pthread_self() };
	struct pool *p;

	_mm_setcsr(_mm_getcsr() & ~0x8040u); /* a new thread inherits it */
	ASSERT_EQ(0, pool_create(4, &p));
	pool_run(p, check_csr, &c, 64);
	EXPECT_LT(0, c.others);
	EXPECT_EQ(0, c.bad);
	pool_destroy(p);
}

/* Each item waits until the other one has begun. */
static void meet(void *arg, u32 item, void *scratch)
{
	u32 *begun = arg;

	__atomic_add_fetch(begun, 1, __ATOMIC_SEQ_CST);
	for (u32 ms = 0; ms < 20000; ms++) {
		if (__atomic_load_n(begun, __ATOMIC_SEQ_CST) % 2 == 0)
			return;
		usleep(1000);
	}
	__atomic_add_fetch(begun, 100, __ATOMIC_SEQ_CST);
}

TEST(pool, wakes_a_sleeping_worker)
{
	struct pool *p;
	u32 begun = 0;

	ASSERT_EQ(0, pool_create(2, &p));
	for (u32 i = 1; i <= 20; i++) {
		usleep(2000);
		pool_run(p, meet, &begun, 2);
		ASSERT_EQ(2 * i, begun);
	}
	pool_destroy(p);
}

struct errand {
	pthread_t caller;
	u32 done, by_worker;
	u32 plain; /* handed over without an atomic */
};

static void run_errand(void *arg)
{
	struct errand *e = arg;

	e->plain++;
	e->by_worker += !pthread_equal(pthread_self(), e->caller);
	e->done++;
}

TEST(pool, an_errand_is_done_once_beside_the_jobs)
{
	struct errand e = { .caller = pthread_self() };
	u64 seed = test_seed();
	u32 i, k, threads;

	for (threads = 1; threads <= 4; threads++) {
		struct marks m = { calloc(50, sizeof(u32)), 0 };
		struct pool *p;
		u32 jobs, sum = 0, want = 0;

		ASSERT_EQ(0, pool_create(threads, &p));
		e.done = e.by_worker = 0;
		for (i = 1; i <= 600; i++) {
			pool_post(p, run_errand, &e);
			jobs = kt_below(&seed, 4);
			for (k = 0; k < jobs; k++, want += 50)
				pool_run(p, mark, &m, 50);
			pool_collect(p);
			ASSERT_EQ(i, e.done);
			e.plain = 0;
			if (i % 100 == 0)
				usleep(1000); /* let them fall asleep */
		}
		for (k = 0; k < 50; k++)
			sum += m.count[k];
		EXPECT_EQ(want, sum);
		if (threads == 1)
			EXPECT_EQ(0, e.by_worker);
		pool_collect(p); /* there is none */
		EXPECT_EQ(600, e.done);
		pool_destroy(p);
		free(m.count);
	}
}

struct long_errand {
	u32 begun, may_end, done; /* atomic, but for the last */
};

static void run_long_errand(void *arg)
{
	struct long_errand *e = arg;

	__atomic_store_n(&e->begun, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&e->may_end, __ATOMIC_SEQ_CST))
		usleep(500);
	usleep(5000); /* who collects is asleep by then */
	e->done = 1;
}

TEST(pool, jobs_go_on_while_a_worker_is_at_an_errand)
{
	struct marks m = { calloc(8, sizeof(u32)), 0 };
	struct pool *p;
	u32 i, k, jobs = 0;

	ASSERT_EQ(0, pool_create(2, &p));
	for (i = 1; i <= 5; i++) {
		struct long_errand e = { 0 };

		usleep(2000); /* the worker is asleep */
		pool_post(p, run_long_errand, &e);
		for (k = 0; !__atomic_load_n(&e.begun, __ATOMIC_SEQ_CST); k++) {
			usleep(500);
			pool_run(p, mark, &m, 8); /* the first wakes it */
		}
		pool_run(p, mark, &m, 8); /* all of it on this thread */
		jobs += k + 1;
		EXPECT_EQ(jobs, m.count[7]);
		__atomic_store_n(&e.may_end, 1, __ATOMIC_SEQ_CST);
		pool_collect(p);
		EXPECT_EQ(1, e.done);
	}
	pool_destroy(p);
	free(m.count);
}

static u64 cpu_us(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (u64)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 +
	       (u64)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void nothing(void *arg, u32 item, void *scratch)
{
}

TEST(pool, is_not_busy_when_idle)
{
	struct pool *p;
	u64 before;

	ASSERT_EQ(0, pool_create(4, &p));
	pool_run(p, nothing, NULL, 100);
	usleep(20000);
	before = cpu_us();
	usleep(300000);
	EXPECT_LT(cpu_us() - before, 20000);
	pool_destroy(p);
}

static void *other_owner(void *arg)
{
	struct marks m = { calloc(8, sizeof(u32)), 0 };
	u32 *bad = arg;
	struct pool *p;

	if (pool_create(2, &p))
		return NULL;
	for (u32 i = 0; i < 2000; i++)
		pool_run(p, mark, &m, 8);
	for (u32 i = 0; i < 8; i++)
		*bad += m.count[i] != 2000;
	pool_destroy(p);
	free(m.count);
	return NULL;
}

TEST(pool, two_pools_do_not_meet)
{
	pthread_t t[2];
	u32 bad[2] = { 0, 0 };

	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&t[i], NULL, other_owner, &bad[i]));
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	EXPECT_EQ(0, bad[0] + bad[1]);
}

struct starts {
	u32 nr; /* atomic */
	u32 item[6];
};

/* The first two wait for each other, so that two threads have one each. */
static void start(void *arg, u32 item, void *scratch)
{
	struct starts *s = arg;
	u32 i = __atomic_fetch_add(&s->nr, 1, __ATOMIC_SEQ_CST);

	s->item[i] = item;
	for (u32 ms = 0; i < 2 && ms < 20000; ms++) {
		if (__atomic_load_n(&s->nr, __ATOMIC_SEQ_CST) >= 2)
			return;
		usleep(1000);
	}
}

/*
 * Unless it is still looking for items of the job before: then it may find one
 * of the other's first, which it has time not to.
 */
TEST(pool, a_thread_begins_with_its_own_share)
{
	struct pool *p;
	u32 own = 0;

	ASSERT_EQ(0, pool_create(2, &p));
	for (u32 i = 0; i < 20; i++) {
		struct starts s = { 0 };

		usleep(2000);
		pool_run(p, start, &s, 6);
		EXPECT_EQ(6, s.nr);
		own += min(s.item[0], s.item[1]) == 0 &&
		       max(s.item[0], s.item[1]) == 3;
	}
	EXPECT_LE(15, own);
	pool_destroy(p);
}

/* Of those that keep scores within 0.02 nat, the fastest of this CPU. */
TEST(select, chooses_bf16_where_an_instruction_has_it_else_int16)
{
	u32 want = KERN_NUMERICS_BF16;

	unsetenv("KV_ISA");
	if (kern_select("amx"))
		want = KERN_NUMERICS_BF16_ATTN;
	else if (kern_select("avx2int16") && !kern_select("avx512bf16"))
		want = KERN_NUMERICS_INT16;
	EXPECT_EQ(want, kern_select(NULL)->numerics);
}

TEST(select, knows_its_rows_and_refuses_others)
{
	const char *const *isa = kern_isa_list();

	unsetenv("KV_ISA");
	EXPECT_EQ(KERN_NUMERICS_BF16, kern_select(*isa)->numerics);
	for (; *isa; isa++)
		EXPECT_EQ(0, strcmp(*isa, kern_select(*isa)->name));
	EXPECT_EQ(0, strcmp("refint16", isa[-1]));
	EXPECT_EQ(NULL, kern_select("sse9"));
	setenv("KV_ISA", "ref", 1);
	EXPECT_EQ(0, strcmp("ref", kern_select(NULL)->name));
	setenv("KV_ISA", "none", 1);
	EXPECT_EQ(NULL, kern_select(NULL));
}

TEST(select, every_row_has_every_function)
{
	for (const char *const *isa = kern_isa_list(); *isa; isa++) {
		const struct kern_ops *ops = kern_select(*isa);
		const void *pack = &ops->gemm_pack, *gated = &ops->gemm_gated;
		void *const *fn = (void *const *)(const void *)&ops->dequant;
		void *const *end = (void *const *)(const void *)(ops + 1);

		for (; fn < end; fn++)
			if (fn != pack && fn != gated)
				EXPECT_NE(NULL, *fn);
	}
}

/* A row's gemm() reads no other row's order. */
TEST(select, who_packs_x_is_who_multiplies)
{
	for (const char *const *isa = kern_isa_list(); *isa; isa++) {
		const struct kern_ops *ops = kern_select(*isa);

		for (const char *const *b = kern_isa_list(); *b; b++) {
			const struct kern_ops *o = kern_select(*b);

			if (ops->gemm_pack)
				EXPECT_EQ(o->gemm == ops->gemm,
					  o->gemm_pack == ops->gemm_pack);
			if (ops->gemm_gated)
				EXPECT_EQ(o->gemm == ops->gemm,
					  o->gemm_gated == ops->gemm_gated);
		}
	}
}

TEST_HARNESS_MAIN
