/* SPDX-License-Identifier: MIT */
/*
 * test_step_deadline.c - how long a step waits for memory, all tries together
 *
 * What was granted may be taken back before it is looked at; then it is asked
 * for once more. Each such try had the whole time that the caller gave.
 *
 * The ring, its kvmd and the clock are this file's: a reservation always gets a
 * ticket, the ticket is granted after GRANT_NS, and the table never shows it.
 */
#include "selftests/harness.h"
#include <sys/mman.h>
#include "libkv/src/client.h"
#include "libkv/src/sys.h"

static u64 test_now(void);
static int test_post(struct kv *kv, enum req_id id, struct kv_sqe *sqe);
static int test_wait(struct kv *kv, enum req_id id, bool ticket, u64 timeout);

#define sys_now_ns test_now
#define ring_post  test_post
#define ring_wait  test_wait
#include "libkv/src/reserve.c" /* white box: what it waits for, how long */
#include "libkv/src/step.c"

#define GRANT_NS 100000000ull

static u64 now_ns = 1;
static unsigned int nr_posts;
static bool cancelled;

static u64 test_now(void)
{
	return now_ns;
}

static int test_post(struct kv *kv, enum req_id id, struct kv_sqe *sqe)
{
	kv->req[id].state = REQ_POSTED;
	cancelled = id == REQ_CANCEL;
	nr_posts += id == REQ_CALL;
	return 0;
}

static int test_wait(struct kv *kv, enum req_id id, bool ticket, u64 timeout)
{
	struct req *r = &kv->req[id];

	if (ticket) {
		r->state = REQ_TICKET;
		return 0;
	}
	if (r->state == REQ_TICKET) {
		now_ns += timeout < GRANT_NS ? timeout : GRANT_NS;
		if (timeout < GRANT_NS)
			return -ETIMEDOUT;
	}
	r->state = REQ_DONE;
	r->cqe = (struct kv_cqe){ .res = cancelled ? -ECANCELED : 0 };
	return 0;
}

static void *memory(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	ASSERT_TRUE(p != MAP_FAILED);
	return p;
}

/* One space without a page. */
static struct kv *make_client(void)
{
	struct kv *kv = memory(sizeof(*kv));
	u32 i;

	kv->sock = -1;
	kv->ring = memory(KV_RING_SIZE);
	kv->hdr = (void *)kv->ring;
	kv->table = memory(KV_TABLE_SIZE_MAX);
	kv->table->hold_step = ~0ull;
	kv->status = memory(sizeof(*kv->status));
	kv->mirror = memory(sizeof(struct mirror) * KV_AREA_MAX);
	for (i = 0; i <= STEP_CARRY; i++)
		kv->open_step[i] = STEP_NONE;
	kv->space[0].live = true;
	kv->space[0].nr_areas = 1;
	kv->space[0].max_tokens = 1000;
	kv->space[0].area[0].shift = 4;
	return kv;
}

TEST(step, waits_as_long_as_it_was_told_however_often_it_asks)
{
	struct kv_resv_item it = { .nr_tokens = 4 };
	struct kv *kv = make_client();
	struct kv_step *st;
	u64 start = now_ns;

	EXPECT_EQ(-ETIMEDOUT,
		  kv_step_prepare(kv, &it, 1, KV_STEP_WAIT, 250, &st));
	TH_LOG("%s", kv->err);
	EXPECT_EQ(250000000ull, now_ns - start);
	EXPECT_EQ(3u, nr_posts);
	/* and who waits for ever hears that this leads to nothing */
	start = now_ns;
	EXPECT_EQ(-EPROTO, kv_step_prepare(kv, &it, 1, KV_STEP_WAIT, -1, &st));
	EXPECT_EQ(GRANT_TRIES * GRANT_NS, now_ns - start);
}

TEST_HARNESS_MAIN
