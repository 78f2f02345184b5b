/* SPDX-License-Identifier: MIT */
/*
 * test_feed.c - jobs to the engine's thread and tokens back
 *
 * san: address thread
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "runtime/server/feed.h"
#include "selftests/runtime/engine/rig.h"

#ifdef __SANITIZE_THREAD__
#define JOBS 40 /* a step takes a hundred times as long */
#else
#define JOBS 120
#endif

struct user {
	struct rig rig;
	struct feed *f;
	struct feed_engine fe;
	pthread_t thread;
	_Atomic int fate; /* what attend() answers */
	_Atomic int turns; /* after which the engine waits; -1: never */
	_Atomic bool failed;
	int rc;
	char err[KV_ERRLEN];
	u32 nr_back, nr_events;
};

/* What came back of a job. */
struct record {
	struct job *job; /* NULL: it is back */
	u32 ids[4][64], nr[4];
	bool ended[4], back;
	int error;
};

static struct user u;
static struct record rec[JOBS];

static int attend(void *ctx, char *err)
{
	int rc, n = atomic_load(&u.turns);

	if (n > 0)
		atomic_compare_exchange_strong(&u.turns, &n, n - 1);
	while (!atomic_load(&u.turns))
		usleep(100);
	rc = atomic_load(&u.fate);
	return rc ? err_set(err, rc, "it is told to end") : 0;
}

static void failed(void *ctx)
{
	atomic_store(&u.failed, true);
}

static void *engine_thread(void *arg)
{
	u.rc = feed_run(u.f, &u.fe, u.err);
	return NULL;
}

static void get_ready(int turns)
{
	struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q4_K);

	memset(&u, 0, sizeof(u));
	memset(rec, 0, sizeof(rec));
	u.turns = turns;
	rig_open(&u.rig, &c, 1, 64);
	ASSERT_EQ(0, feed_create(&u.f));
	u.fe = (struct feed_engine){ .e = u.rig.e,
				     .attend = attend,
				     .failed = failed };
}

static void start_engine(void)
{
	ASSERT_EQ(0, pthread_create(&u.thread, NULL, engine_thread, NULL));
}

/* The engine waits for go_on() after @turns steps at most; -1: never. */
static void begin_for(int turns)
{
	get_ready(turns);
	start_engine();
}

static void begin(void)
{
	begin_for(-1);
}

static void go_on(void)
{
	atomic_store(&u.turns, -1);
}

static void end(void)
{
	feed_end(u.f);
	pthread_join(u.thread, NULL);
	feed_destroy(u.f);
	rig_close(&u.rig);
}

static void submit(struct record *r, u32 n, u32 max_new, u64 seed)
{
	struct job *j = feed_job(n);
	u32 len = 3 + (u32)(seed % 20);

	ASSERT_TRUE(j);
	j->prompt = malloc(len * sizeof(u32));
	ASSERT_TRUE(j->prompt);
	rig_ids(&u.rig, j->prompt, len, seed);
	j->p.nr_prompt = len;
	j->p.max_new = max_new;
	j->p.nr_logprobs = (u32)(seed % 3);
	j->p.sampling = (struct sampling)SAMPLING_GREEDY;
	j->p.sampling.temperature = seed % 2 ? 1.0f : 0.0f;
	j->p.sampling.seed = seed;
	j->owner = r;
	r->job = j;
	feed_submit(u.f, j);
}

static void take_event(const struct feed_event *ev)
{
	struct record *r = ev->job->owner;

	u.nr_events++;
	EXPECT_FALSE(r->back);
	if (!EXPECT_LT(ev->seq, 4) || !EXPECT_LT(r->nr[ev->seq], 64))
		return;
	EXPECT_FALSE(r->ended[ev->seq]);
	EXPECT_LE(ev->lp, 1e-6);
	r->ids[ev->seq][r->nr[ev->seq]++] = ev->id;
	r->ended[ev->seq] = ev->finish != FINISH_NONE;
}

static void take(int timeout_ms)
{
	struct pollfd p = { .fd = feed_fd(u.f), .events = POLLIN };
	struct pile_link *b, *j, *next;
	u32 i;

	poll(&p, 1, timeout_ms);
	feed_take(u.f, &b, &j);
	for (; b; b = next) {
		struct feed_batch *batch =
			container_of(b, struct feed_batch, link);

		next = b->next;
		for (i = 0; i < batch->nr; i++)
			take_event(&batch->ev[i]);
		feed_batch_free(batch);
	}
	for (; j; j = next) {
		struct job *job = container_of(j, struct job, link);
		struct record *r = job->owner;

		next = j->next;
		EXPECT_FALSE(r->back);
		r->back = true;
		r->error = job->error;
		r->job = NULL;
		u.nr_back++;
		feed_job_free(job);
	}
}

TEST_TIMEOUT(feed, brings_each_token_of_each_sample_once_and_in_order, 120)
{
	struct user alone;
	u32 i, k;

	begin();
	for (i = 0; i < JOBS; i++)
		submit(&rec[i], 1 + i % 4, 1 + i % 30, i);
	while (u.nr_back < JOBS)
		take(1000);
	end();
	EXPECT_EQ(0, u.rc);
	/* what the engine says when asked without a feed */
	alone = u;
	{
		struct tiny_cfg c = tiny_qwen(KV_DTYPE_Q4_K);

		rig_open(&alone.rig, &c, 1, 64);
	}
	for (i = 0; i < JOBS; i += 7) {
		u32 ids[32], len = 3 + i % 20;
		struct request_params p;
		struct request *q;

		rig_ids(&alone.rig, ids, len, i);
		p = rig_params(ids, len, 1 + i % 30);
		p.n = 1 + i % 4;
		p.sampling.temperature = i % 2 ? 1.0f : 0.0f;
		p.sampling.seed = i;
		q = rig_submit(&alone.rig, &p);
		rig_run(&alone.rig);
		for (k = 0; k < p.n; k++) {
			if (!EXPECT_EQ(seq_nr_new(q->seqs[k]), rec[i].nr[k]))
				continue;
			EXPECT_EQ(0,
				  memcmp(q->seqs[k]->ids + len, rec[i].ids[k],
					 rec[i].nr[k] * sizeof(u32)));
		}
	}
	rig_close(&alone.rig);
}

TEST_TIMEOUT(feed, gives_every_job_back_once_whatever_is_cancelled, 120)
{
	u64 seed = test_seed();
	struct feed_state st;
	u32 i = 0, k;

	begin();
	while (u.nr_back < JOBS) {
		if (i < JOBS && test_rand(&seed) % 2) {
			submit(&rec[i], 1 + (u32)(test_rand(&seed) % 4),
			       1 + (u32)(test_rand(&seed) % 60), i);
			i++;
		}
		if (i && test_rand(&seed) % 2) {
			struct record *r = &rec[test_rand(&seed) % i];

			if (r->job && test_rand(&seed) % 2)
				feed_cancel(u.f, r->job);
			else if (r->job)
				feed_cancel_seq(
					u.f, r->job,
					(u32)(test_rand(&seed) % r->job->p.n));
		}
		take(i == JOBS ? 100 : (int)(test_rand(&seed) % 3));
	}
	for (k = 0; k < JOBS; k++)
		EXPECT_EQ(0, rec[k].error);
	/* what it says is of the end of a step, which may be still to come */
	do
		feed_state(u.f, &st);
	while (st.nr_running + st.nr_waiting && !usleep(1000));
	/* all 64 spaces of the backend are free again */
	end();
}

TEST(feed, of_one_sample_that_is_cancelled_the_others_go_on)
{
	begin_for(20);
	submit(&rec[0], 3, 60, 4);
	while (!rec[0].nr[1])
		take(1000);
	feed_cancel_seq(u.f, rec[0].job, 1);
	go_on();
	while (!u.nr_back)
		take(1000);
	EXPECT_EQ(60, rec[0].nr[0]);
	EXPECT_EQ(60, rec[0].nr[2]);
	EXPECT_LT(rec[0].nr[1], 60);
	end();
}

TEST(feed, an_engine_that_fails_fails_every_job)
{
	u32 i;

	begin_for(20);
	for (i = 0; i < 10; i++)
		submit(&rec[i], 1, 60, i);
	take(1000);
	atomic_store(&u.fate, -ESHUTDOWN);
	go_on();
	while (u.nr_back < 10)
		take(1000);
	EXPECT_TRUE(rec[9].error == -ESHUTDOWN);
	submit(&rec[10], 1, 5, 1);
	while (u.nr_back < 11)
		take(1000);
	EXPECT_EQ(-ESHUTDOWN, rec[10].error);
	EXPECT_TRUE(atomic_load(&u.failed));
	end();
	EXPECT_EQ(-ESHUTDOWN, u.rc);
	EXPECT_EQ(0, strcmp("it is told to end", u.err));
}

TEST(feed, a_bad_job_fails_alone)
{
	begin();
	submit(&rec[0], 1, 10, 2);
	submit(&rec[1], 1, 0, 2); /* no token is asked for */
	while (u.nr_back < 2)
		take(1000);
	EXPECT_EQ(0, rec[0].error);
	EXPECT_EQ(10, rec[0].nr[0]);
	EXPECT_EQ(-EINVAL, rec[1].error);
	end();
}

/* A step that waited for memory lost its place to whoever hung up. */
TEST(feed, only_who_has_begun_ends_a_wait_for_memory)
{
	struct job *j = feed_job(1), *k = feed_job(1);
	struct feed *f;

	ASSERT_EQ(0, feed_create(&f));
	feed_submit(f, j);
	feed_submit(f, k);
	feed_cancel(f, j);
	EXPECT_EQ(0, *feed_stop_word(f));
	atomic_store(&k->begun, true);
	feed_cancel(f, k);
	EXPECT_EQ(1, *feed_stop_word(f));
	feed_destroy(f);
	feed_job_free(k);
	feed_job_free(j);
}

/* Who drained was woken by what he asked for, in every round. */
TEST(feed, who_is_cancelled_once_more_wakes_nobody)
{
	struct job *j = feed_job(1);
	struct feed *f;
	u64 nr;

	ASSERT_EQ(0, feed_create(&f));
	feed_submit(f, j);
	feed_cancel(f, j);
	EXPECT_EQ(8, read(feed_fd(f), &nr, sizeof(nr)));
	feed_cancel(f, j);
	EXPECT_EQ(-1, read(feed_fd(f), &nr, sizeof(nr)));
	EXPECT_EQ(EAGAIN, errno);
	feed_destroy(f);
	feed_job_free(j);
}

/* They came back when the step did that had to wait for memory. */
TEST(feed, who_hangs_up_before_the_engine_took_him_needs_no_engine)
{
	u32 i;

	get_ready(-1);
	for (i = 0; i < 5; i++)
		submit(&rec[i], 1, 4, i);
	feed_cancel(u.f, rec[1].job);
	feed_cancel(u.f, rec[4].job);
	take(0);
	EXPECT_EQ(2, u.nr_back);
	EXPECT_TRUE(rec[1].back && rec[4].back);
	start_engine();
	while (u.nr_back < 5)
		take(1000);
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(i == 1 || i == 4 ? 0 : 4, rec[i].nr[0]);
		EXPECT_EQ(0, rec[i].error);
	}
	end();
}

TEST_HARNESS_MAIN
