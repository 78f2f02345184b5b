/* SPDX-License-Identifier: MIT */
/*
 * test_stop_ends_wait.c - who waits for memory hears that it should stop
 *
 * A signal that came while a reservation waited with a ticket was seen only
 * when the wait was over: after 30 s, or never.
 */
#include "selftests/libkv/seq.h"
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include <signal.h>

#define TOKENS 1024u

static volatile sig_atomic_t stop;

static void on_alarm(int sig)
{
	stop = sig;
}

/* All the memory there is. Return: tokens in the space. */
static uint64_t take_all(struct seqs *c, struct seq *s)
{
	struct kv_resv_item it = { .nr_tokens = TOKENS };
	struct kv_step *st;

	ASSERT_EQ(0, seq_create(c, s));
	it.space = s->space;
	while (!kv_step_prepare(c->kv, &it, 1, 0, 0, &st)) {
		kv_step_complete(c->kv, st);
		ASSERT_EQ(0, kv_step_commit(c->kv, st));
		it.pos += TOKENS;
	}
	return it.pos;
}

TEST(stop, ends_a_wait_for_memory)
{
	struct kv_attach_opts o = { .sz = sizeof(o), .stop = &stop };
	static struct seqs a, b;
	static struct seq sa, sb;
	struct kv_resv_item it = { .nr_tokens = TOKENS };
	struct kv_step *st;
	struct test_kvmd d;
	uint64_t tickets;
	struct kv *kv;
	char *json;
	double t0;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "24M", NULL));
	ASSERT_EQ(0, seqs_attach(&a, d.socket, "holds"));
	ASSERT_GT(take_all(&a, &sa), 0);
	o.socket = d.socket;
	ASSERT_EQ(0, kv_attach(&o, &kv));
	ASSERT_EQ(0, seqs_begin(&b, kv));
	ASSERT_EQ(0, seq_create(&b, &sb));
	it.space = sb.space;
	signal(SIGALRM, on_alarm);
	ualarm(200000, 0);
	t0 = th_now();
	EXPECT_EQ(-EINTR, kv_step_prepare(kv, &it, 1, KV_STEP_WAIT, -1, &st));
	EXPECT_LT(th_now() - t0, 10.0);
	EXPECT_TRUE(strstr(kv_error(kv), "stopped"));
	/* the ticket is gone, and the next wait works */
	json = test_kvmd_ctl(&d, "tenant list");
	EXPECT_EQ(0, test_json_u64(json, "tickets", &tickets));
	EXPECT_EQ(tickets, 0);
	free(json);
	stop = 0;
	EXPECT_EQ(-ETIMEDOUT,
		  kv_step_prepare(kv, &it, 1, KV_STEP_WAIT, 50, &st));
	seq_destroy(&a, &sa);
	EXPECT_EQ(0, kv_step_prepare(kv, &it, 1, KV_STEP_WAIT, 5000, &st));
	kv_step_complete(kv, st);
	EXPECT_EQ(0, kv_step_commit(kv, st));
	kv_detach(kv);
	kv_detach(a.kv);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
