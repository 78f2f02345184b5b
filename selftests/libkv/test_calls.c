/* SPDX-License-Identifier: MIT */
/* san: address */
/*
 * test_calls.c - every call of libkv against a kvmd: what it does, and what
 *		  it answers to what it cannot do
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/seq.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>

FIXTURE(libkv)
{
	struct test_kvmd d;
	struct seqs c;
	struct seq s[8];
};

FIXTURE_SETUP(libkv)
{
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     NULL));
	ASSERT_EQ(0, seqs_attach(&self->c, self->d.socket, "calls"));
}

FIXTURE_TEARDOWN(libkv)
{
	if (self->d.pid <= 0)
		return;
	EXPECT_EQ(0, self->c.faults);
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	kv_detach(self->c.kv);
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, 3000));
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/* One step over one sequence. */
static int step1(struct libkv_self *self, struct seq *s, uint32_t n)
{
	static uint64_t token = 1;
	int rc = seq_step(&self->c, &s, &n, 1, token, 0, 0);

	token += n;
	return rc;
}

static struct kv_counters counters(const struct libkv_self *self)
{
	struct kv_counters n;

	kv_counters_get(self->c.kv, &n);
	return n;
}

/* An answer that is a refusal, with a sentence. */
static bool refuses(struct libkv_self *self, int want, int rc, const char *word)
{
	bool ok = EXPECT_EQ(want, rc) &
		  EXPECT_TRUE(strstr(kv_error(self->c.kv), word) != NULL);

	TH_LOG("%d: %s", rc, kv_error(self->c.kv));
	return ok;
}

TEST_F(libkv, writes_and_reads_tokens_through_the_table)
{
	struct seq *s = &self->s[0];
	int i;

	ASSERT_EQ(0, seq_create(&self->c, s));
	EXPECT_EQ(0, kv_space_len(self->c.kv, s->space));
	ASSERT_EQ(0, step1(self, s, 37));
	EXPECT_EQ(37, kv_space_len(self->c.kv, s->space));
	for (i = 0; i < 200; i++)
		ASSERT_EQ(0, step1(self, s, 1 + i % 5));
	EXPECT_TRUE(seq_verify(&self->c, s, s->len));
	EXPECT_GT(self->c.checked, 1000);
}

TEST_F(libkv, gives_each_side_of_a_fork_its_own_page_on_the_first_write)
{
	struct seq *p = &self->s[0], *ch = &self->s[1];
	uint32_t before;

	ASSERT_EQ(0, seq_create(&self->c, p));
	ASSERT_EQ(0, step1(self, p, 40));
	ASSERT_EQ(0, seq_fork(&self->c, p, 40, ch));
	EXPECT_EQ(40, kv_space_len(self->c.kv, ch->space));
	before = kv_space_table(self->c.kv, p->space, 0)[2];
	ASSERT_EQ(0, step1(self, ch, 1));
	EXPECT_EQ(before, kv_space_table(self->c.kv, p->space, 0)[2]);
	EXPECT_NE(before, kv_space_table(self->c.kv, ch->space, 0)[2]);
	EXPECT_EQ(kv_space_table(self->c.kv, p->space, 0)[1],
		  kv_space_table(self->c.kv, ch->space, 0)[1]);
	ASSERT_EQ(0, step1(self, p, 1));
	ASSERT_EQ(0, step1(self, ch, 30));
	ASSERT_EQ(0, step1(self, p, 30));
	EXPECT_TRUE(seq_verify(&self->c, p, p->len));
	EXPECT_TRUE(seq_verify(&self->c, ch, ch->len));
	EXPECT_NE(p->token[40], ch->token[40]);
}

TEST_F(libkv, forks_in_the_middle_and_truncates)
{
	struct seq *p = &self->s[0], *ch = &self->s[1];

	ASSERT_EQ(0, seq_create(&self->c, p));
	ASSERT_EQ(0, step1(self, p, 90));
	ASSERT_EQ(0, step1(self, p, 10));
	/* the window holds 40 tokens, so 20 is too far back */
	refuses(self, -ENODATA, seq_fork(&self->c, p, 20, ch), "window");
	refuses(self, -ENODATA, seq_truncate(&self->c, p, 20), "window");
	EXPECT_EQ(100, kv_space_len(self->c.kv, p->space));
	ASSERT_EQ(0, seq_fork(&self->c, p, 95, ch));
	ASSERT_EQ(0, step1(self, ch, 3));
	ASSERT_EQ(0, seq_truncate(&self->c, p, 98));
	EXPECT_EQ(98, kv_space_len(self->c.kv, p->space));
	ASSERT_EQ(0, step1(self, p, 3));
	EXPECT_TRUE(seq_verify(&self->c, p, p->len));
	EXPECT_TRUE(seq_verify(&self->c, ch, ch->len));
	ASSERT_EQ(0, seq_truncate(&self->c, ch, 0));
	ASSERT_EQ(0, step1(self, ch, 20));
	refuses(self, -EINVAL, seq_truncate(&self->c, ch, 21), "it has 20");
	refuses(self, -EINVAL, seq_fork(&self->c, ch, 21, &self->s[2]),
		"it has 20");
}

TEST_F(libkv, refuses_what_cannot_be_with_a_sentence)
{
	struct kv *kv = self->c.kv;
	struct kv_space_args args = self->c.args;
	struct kv_geometry bad = self->c.geom[0];
	struct kv_resv_item it[3] = { { .nr_tokens = 1 } };
	struct kv_step *st;
	uint32_t id;

	args.nr_areas = 0;
	refuses(self, -EINVAL, kv_space_create(kv, &args, &id), "0 areas");
	args.nr_areas = 9;
	refuses(self, -EINVAL, kv_space_create(kv, &args, &id), "9 areas");
	args = self->c.args;
	args.area[1].geom = 5;
	refuses(self, -EINVAL, kv_space_create(kv, &args, &id), "geometry 5");
	bad.page_tokens = 17;
	refuses(self, -EINVAL, kv_geometry_add(kv, &bad, &id), "17");
	refuses(self, -ENOENT, kv_space_destroy(kv, 77), "no space 77");
	refuses(self, -ENOENT, kv_space_destroy(kv, ~0u), "no space");
	refuses(self, -ENOENT, kv_space_fork(kv, 3, 0, &id), "no space 3");
	refuses(self, -ENOENT, kv_space_truncate(kv, 3, 0), "no space 3");
	EXPECT_TRUE(kv_space_table(kv, 3, 0) == NULL);
	EXPECT_EQ(0, kv_space_len(kv, 3));
	it[0].space = 3;
	refuses(self, -ENOENT, kv_step_prepare(kv, it, 1, 0, 0, &st), "3");
	ASSERT_EQ(0, seq_create(&self->c, &self->s[0]));
	it[0].space = it[1].space = self->s[0].space;
	it[1].nr_tokens = 1;
	refuses(self, -EINVAL, kv_step_prepare(kv, it, 2, 0, 0, &st), "twice");
	it[0].nr_tokens = 0;
	refuses(self, -EINVAL, kv_step_prepare(kv, it, 1, 0, 0, &st), "0 tok");
	it[0].nr_tokens = 1;
	it[0].pos = 1;
	refuses(self, -EINVAL, kv_step_prepare(kv, it, 1, 0, 0, &st), "at 1");
	it[0].pos = 0;
	it[0].nr_tokens = 16 * KV_AREA_PAGES + 1;
	refuses(self, -E2BIG, kv_step_prepare(kv, it, 1, 0, 0, &st), "most");
	refuses(self, -EINVAL, kv_step_prepare(kv, it, 0, 0, 0, &st), "0 it");
	EXPECT_TRUE(kv_space_table(kv, self->s[0].space, 2) == NULL);
}

TEST_F(libkv, makes_no_request_for_a_step_that_needs_no_page)
{
	struct seq *s[4];
	uint32_t add[4] = { 1, 1, 1, 1 };
	struct kv_counters a, b;
	int i;

	for (i = 0; i < 4; i++) {
		s[i] = &self->s[i];
		ASSERT_EQ(0, seq_create(&self->c, s[i]));
	}
	ASSERT_EQ(0, seq_step(&self->c, s, add, 4, 1, 0, 0));
	a = counters(self);
	for (i = 0; i < 15; i++)
		ASSERT_EQ(0, seq_step(&self->c, s, add, 4, 100, 0, 0));
	b = counters(self);
	EXPECT_EQ(15, b.steps - a.steps);
	EXPECT_EQ(15, b.steps_quiet - a.steps_quiet);
	EXPECT_EQ(0, b.requests - a.requests);
	EXPECT_EQ(0, b.doorbells - a.doorbells);
	EXPECT_EQ(0, b.sleeps - a.sleeps);
	EXPECT_EQ(0, b.packets - a.packets);
	EXPECT_EQ(0, b.table_reads - a.table_reads);
	ASSERT_EQ(0, seq_step(&self->c, s, add, 4, 200, 0, 0));
	EXPECT_EQ(1, counters(self).requests - b.requests);
}

/* From here any system call but exit_group kills this process. */
static void forbid_system_calls(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog prog = { .len = 4, .filter = f };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(3);
}

TEST_F(libkv, makes_no_system_call_for_a_step_that_needs_no_page)
{
	pid_t pid = fork();
	int status, i;

	if (!pid) {
		struct kv_resv_item it = { .nr_tokens = 1 };
		struct kv_step *st;
		struct seqs c;
		struct seq *s = &self->s[0];
		uint32_t many = 64;

		/* a client of its own; this many pages, then back to few */
		if (seqs_attach(&c, self->d.socket, "quiet") ||
		    seq_create(&c, s) || seq_step(&c, &s, &many, 1, 1, 0, 0) ||
		    seq_truncate(&c, s, 49))
			_exit(2);
		it.space = s->space;
		it.pos = 49;
		if (kv_step_prepare(c.kv, &it, 1, 0, 0, &st))
			_exit(2);
		kv_step_complete(c.kv, st);
		if (kv_step_commit(c.kv, st))
			_exit(2);
		forbid_system_calls();
		for (i = 50; i < 64; i++) {
			it.pos = (uint64_t)i;
			if (kv_step_prefetch(c.kv, &it, 1) ||
			    kv_step_prepare(c.kv, &it, 1, 0, 0, &st))
				syscall(SYS_exit_group, 4);
			kv_step_run_copies(c.kv, st);
			kv_step_complete(c.kv, st);
			if (kv_step_commit(c.kv, st))
				syscall(SYS_exit_group, 5);
		}
		syscall(SYS_exit_group, 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F(libkv, answers_a_prefetch_while_a_step_runs)
{
	struct seq *s = &self->s[0];
	struct kv_resv_item it[2];
	struct kv_step *st[2];
	struct kv_counters a;
	uint32_t add = 16;
	int i;

	ASSERT_EQ(0, seq_create(&self->c, s));
	it[0] = (struct kv_resv_item){ .space = s->space, .nr_tokens = 16 };
	ASSERT_EQ(0, kv_step_prepare(self->c.kv, it, 1, 0, 0, &st[0]));
	for (i = 0; i < 20; i++) {
		it[1] = it[0];
		it[1].pos += 16;
		ASSERT_EQ(0, kv_step_prefetch(self->c.kv, &it[1], 1));
		EXPECT_EQ(-EBUSY, kv_step_prefetch(self->c.kv, &it[1], 1));
		/* step i computes here */
		seq_write(&self->c, s, s->len, 16, 1000 + (uint64_t)i);
		a = counters(self);
		ASSERT_EQ(0,
			  kv_step_prepare(self->c.kv, &it[1], 1, 0, 0, &st[1]));
		EXPECT_EQ(a.requests, counters(self).requests);
		kv_step_complete(self->c.kv, st[0]);
		ASSERT_EQ(0, kv_step_commit(self->c.kv, st[0]));
		s->len += add;
		EXPECT_TRUE(seq_verify(&self->c, s, s->len));
		EXPECT_GT(kv_step_number(st[1]), kv_step_number(st[0]));
		it[0] = it[1];
		st[0] = st[1];
	}
	kv_step_abandon(self->c.kv, st[0]);
	EXPECT_EQ(20, counters(self).prefetches);
	ASSERT_EQ(0, step1(self, s, 5));
}

TEST_F(libkv, receives_memory_before_the_step_that_uses_it)
{
	struct kv_resv_item it = { .nr_tokens = 16 };
	struct kv_counters a = counters(self), b;
	double end = th_now() + 20;
	struct kv_step *st;

	ASSERT_EQ(0, kv_step_receive(self->c.kv));
	ASSERT_EQ(0, seq_create(&self->c, &self->s[0]));
	it.space = self->s[0].space;
	ASSERT_EQ(0, kv_step_prefetch(self->c.kv, &it, 1));
	do {
		ASSERT_EQ(0, kv_step_receive(self->c.kv));
		b = counters(self);
	} while (b.extents == a.extents && th_now() < end);
	EXPECT_GT(b.extents, a.extents);
	ASSERT_EQ(0, kv_step_receive(self->c.kv));
	ASSERT_EQ(0, kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st));
	EXPECT_EQ(b.extents, counters(self).extents);
	EXPECT_EQ(b.requests, counters(self).requests);
	kv_step_abandon(self->c.kv, st);
	ASSERT_EQ(0, step1(self, &self->s[0], 5));
}

TEST_F(libkv, drops_a_prefetch_that_nobody_wants)
{
	struct seq *p = &self->s[0], *ch = &self->s[1];
	struct kv_resv_item it;
	struct kv_step *st;

	/* the prefetch breaks the shared page: its copy must still happen */
	ASSERT_EQ(0, seq_create(&self->c, p));
	ASSERT_EQ(0, step1(self, p, 5));
	ASSERT_EQ(0, seq_fork(&self->c, p, 5, ch));
	it = (struct kv_resv_item){ .space = ch->space,
				    .nr_tokens = 3,
				    .pos = 5 };
	ASSERT_EQ(0, kv_step_prefetch(self->c.kv, &it, 1));
	ASSERT_EQ(0, step1(self, ch, 2));
	EXPECT_TRUE(seq_verify(&self->c, ch, 7));
	/* the same with a step that is given up */
	ASSERT_EQ(0, seq_fork(&self->c, p, 5, &self->s[2]));
	it.space = self->s[2].space;
	ASSERT_EQ(0, kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st));
	kv_step_abandon(self->c.kv, st);
	EXPECT_EQ(5, kv_space_len(self->c.kv, it.space));
	ASSERT_EQ(0, step1(self, &self->s[2], 2));
	/* and with one given up while another runs */
	ASSERT_EQ(0, seq_fork(&self->c, p, 5, &self->s[3]));
	{
		struct kv_resv_item run = { .space = p->space,
					    .nr_tokens = 1,
					    .pos = 5 };
		struct kv_step *running;

		ASSERT_EQ(0,
			  kv_step_prepare(self->c.kv, &run, 1, 0, 0, &running));
		kv_step_run_copies(self->c.kv, running);
		it.space = self->s[3].space;
		ASSERT_EQ(0, seq_fork(&self->c, &self->s[3], 5, &self->s[4]));
		ASSERT_EQ(0, kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st));
		kv_step_abandon(self->c.kv, st);
		seq_write(&self->c, p, 5, 1, 4711);
		kv_step_complete(self->c.kv, running);
		ASSERT_EQ(0, kv_step_commit(self->c.kv, running));
		p->len = 6;
	}
	ASSERT_EQ(0, step1(self, &self->s[3], 2));
	ASSERT_EQ(0, step1(self, &self->s[4], 2));
	ASSERT_EQ(0, step1(self, p, 2));
}

/* Who knows more of the next step later asks once more. */
TEST_F(libkv, drops_an_answered_prefetch_for_a_later_one)
{
	struct seq *p = &self->s[0], *ch = &self->s[1];
	struct kv_resv_item it[2];
	struct kv_counters a;
	struct kv_step *st;

	ASSERT_EQ(0, seq_create(&self->c, p));
	ASSERT_EQ(0, step1(self, p, 21));
	it[1] = (struct kv_resv_item){ .space = p->space,
				       .nr_tokens = 16,
				       .pos = 21 };
	ASSERT_EQ(0, kv_step_prefetch(self->c.kv, &it[1], 1));
	/* kvmd answers in order, so with the fork it is seen answered */
	ASSERT_EQ(0, seq_fork(&self->c, p, 21, ch));
	it[0] = it[1];
	it[0].space = ch->space;
	ASSERT_EQ(0, kv_step_prefetch(self->c.kv, it, 2));
	EXPECT_EQ(-EBUSY, kv_step_prefetch(self->c.kv, it, 2));
	a = counters(self);
	EXPECT_EQ(2, a.prefetches);
	ASSERT_EQ(0, kv_step_prepare(self->c.kv, it, 2, 0, 0, &st));
	EXPECT_EQ(a.requests, counters(self).requests);
	kv_step_run_copies(self->c.kv, st);
	seq_write(&self->c, ch, 21, 16, 1);
	seq_write(&self->c, p, 21, 16, 2);
	kv_step_complete(self->c.kv, st);
	ASSERT_EQ(0, kv_step_commit(self->c.kv, st));
	EXPECT_TRUE(seq_verify(&self->c, ch, 37));
	EXPECT_TRUE(seq_verify(&self->c, p, 37));
	ch->len = p->len = 37;
	ASSERT_EQ(0, step1(self, ch, 2));
	ASSERT_EQ(0, step1(self, p, 2));
}

TEST_F(libkv, takes_two_prepared_steps_and_no_third)
{
	struct seq *s = &self->s[0];
	struct kv_resv_item it = { .nr_tokens = 1 };
	struct kv_step *st[3];
	int i;

	ASSERT_EQ(0, seq_create(&self->c, s));
	it.space = s->space;
	for (i = 0; i < 2; i++, it.pos++)
		ASSERT_EQ(0, kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st[i]));
	refuses(self, -EBUSY, kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st[2]),
		"two");
	refuses(self, -EBUSY, kv_step_commit(self->c.kv, st[0]), "completed");
	seq_write(&self->c, s, 0, 2, 9);
	for (i = 0; i < 2; i++) {
		kv_step_complete(self->c.kv, st[i]);
		EXPECT_EQ(0, kv_step_commit(self->c.kv, st[i]));
	}
	EXPECT_EQ(2, kv_space_len(self->c.kv, s->space));
}

TEST_F(libkv, lets_truncate_and_destroy_win_over_a_prepared_step)
{
	struct seq *s = &self->s[0];
	struct kv_resv_item it[2];
	struct kv_step *st;

	ASSERT_EQ(0, seq_create(&self->c, s));
	ASSERT_EQ(0, seq_create(&self->c, &self->s[1]));
	it[0] = (struct kv_resv_item){ .space = s->space, .nr_tokens = 10 };
	it[1] = (struct kv_resv_item){ .space = self->s[1].space,
				       .nr_tokens = 4 };
	ASSERT_EQ(0, kv_step_prepare(self->c.kv, it, 2, 0, 0, &st));
	seq_write(&self->c, s, 0, 10, 50);
	ASSERT_EQ(0, kv_space_truncate(self->c.kv, s->space, 6));
	seq_destroy(&self->c, &self->s[1]);
	ASSERT_EQ(0, seq_create(&self->c, &self->s[2]));
	kv_step_complete(self->c.kv, st);
	ASSERT_EQ(0, kv_step_commit(self->c.kv, st));
	EXPECT_EQ(6, kv_space_len(self->c.kv, s->space));
	EXPECT_EQ(0, kv_space_len(self->c.kv, self->s[2].space));
	s->len = 6;
	ASSERT_EQ(0, step1(self, s, 20));
	EXPECT_EQ(0, counters(self).forgotten_errors);
}

static void *complete_later(void *arg)
{
	void **a = arg;

	usleep(2000);
	kv_step_complete(a[0], a[1]);
	return NULL;
}

TEST_F(libkv, takes_the_completion_from_another_thread)
{
	struct kv_resv_item it = { .nr_tokens = 1 };
	struct kv_step *st;
	pthread_t t;
	void *a[2];
	int i, rc;

	ASSERT_EQ(0, seq_create(&self->c, &self->s[0]));
	it.space = self->s[0].space;
	for (i = 0; i < 50; i++, it.pos++) {
		ASSERT_EQ(0, kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st));
		a[0] = self->c.kv;
		a[1] = st;
		ASSERT_EQ(0, pthread_create(&t, NULL, complete_later, a));
		do {
			rc = kv_step_commit(self->c.kv, st);
		} while (rc == -EBUSY);
		EXPECT_EQ(0, rc);
		pthread_join(t, NULL);
	}
	EXPECT_EQ(50, kv_space_len(self->c.kv, it.space));
}

TEST_F(libkv, says_who_holds_the_memory_when_there_is_none)
{
	const struct kv_holder *h;
	struct seq *s[2] = { &self->s[0], &self->s[1] };
	struct kv_resv_item it = { .nr_tokens = 4 * 16384 };
	struct kv_step *st;
	uint64_t t0;
	uint32_t add = 16;
	int i, rc = 0;

	/* 64 MiB in pages of 4 KiB and 12 KiB: 4 spaces of 16 Mi each */
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, seq_create(&self->c, s[i]));
	it.space = s[0]->space;
	it.nr_tokens = 16384 * 16;
	refuses(self, -E2BIG, kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st),
		"more than");
	EXPECT_EQ(0, seq_step(&self->c, &s[1], &add, 1, 1, 0, 0));
	free(test_kvmd_ctl(&self->d, "tenant limit uid:0 max=16M"));
	for (i = 0; i < 100 && !rc; i++) {
		it = (struct kv_resv_item){ .space = s[0]->space,
					    .nr_tokens = 1024,
					    .pos = (uint64_t)i * 1024 };
		rc = kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st);
		if (!rc) {
			kv_step_complete(self->c.kv, st);
			ASSERT_EQ(0, kv_step_commit(self->c.kv, st));
		}
	}
	if (rc == -E2BIG)
		SKIP("the space alone reached the limit");
	refuses(self, -EAGAIN, rc, "short");
	ASSERT_GE(kv_step_holders(self->c.kv, &h), 1);
	EXPECT_GT(h->held_bytes, 0);
	EXPECT_GT(kv_step_short(self->c.kv), 0);
	t0 = (uint64_t)(th_now() * 1000);
	refuses(self, -ETIMEDOUT,
		kv_step_prepare(self->c.kv, &it, 1, KV_STEP_WAIT, 50, &st),
		"50 ms");
	EXPECT_GE((uint64_t)(th_now() * 1000) - t0, 49);
	EXPECT_EQ(1, counters(self).tickets);
	/* all that was there still is, and can go on once there is room */
	EXPECT_TRUE(seq_verify(&self->c, s[1], 16));
	free(test_kvmd_ctl(&self->d, "tenant limit uid:0 max=max"));
	ASSERT_EQ(0,
		  kv_step_prepare(self->c.kv, &it, 1, KV_STEP_WAIT, 5000, &st));
	kv_step_abandon(self->c.kv, st);
}

static void *raise_limit(void *arg)
{
	usleep(50000);
	free(test_kvmd_ctl(arg, "tenant limit uid:0 max=max"));
	return NULL;
}

TEST_F(libkv, waits_with_a_ticket_until_there_is_memory)
{
	struct kv_resv_item it = { .nr_tokens = 4096 };
	struct kv_step *st;
	pthread_t t;

	free(test_kvmd_ctl(&self->d, "tenant limit uid:0 max=8M"));
	ASSERT_EQ(0, seq_create(&self->c, &self->s[0]));
	ASSERT_EQ(0, seq_create(&self->c, &self->s[1]));
	ASSERT_EQ(0, step1(self, &self->s[1], 16));
	it.space = self->s[0].space;
	ASSERT_EQ(0, pthread_create(&t, NULL, raise_limit, &self->d));
	EXPECT_EQ(0, kv_step_prepare(self->c.kv, &it, 1, KV_STEP_WAIT, 10000,
				     &st));
	pthread_join(t, NULL);
	kv_step_abandon(self->c.kv, st);
}

TEST_F(libkv, reads_its_account_without_a_call)
{
	struct kv_stats s;
	uint64_t calls = counters(self).requests;
	int i;

	free(test_kvmd_ctl(&self->d, "tenant limit uid:0 max=24M"));
	ASSERT_EQ(0, seq_create(&self->c, &self->s[0]));
	ASSERT_EQ(0, step1(self, &self->s[0], 1000));
	calls = counters(self).requests;
	for (i = 0; i < 200; i++) {
		ASSERT_EQ(0, kv_stats_get(self->c.kv, &s));
		if (s.client.nr_spaces == 1 && s.client.frames)
			break;
		usleep(5000);
	}
	EXPECT_EQ(24ull << 20, s.tenant.max_bytes);
	EXPECT_EQ(s.client.held, s.tenant.held);
	EXPECT_EQ(s.client.nr_extents * KV_EXTENT_SIZE, s.client.held);
	EXPECT_LE(s.client.frames, s.client.held);
	EXPECT_EQ(1, s.device.nr_clients);
	EXPECT_EQ(1, s.client.nr_spaces);
	EXPECT_EQ(kv_info(self->c.kv)->device_bytes, s.device.bytes);
	EXPECT_EQ(calls, counters(self).requests);
}

TEST_F(libkv, gives_extents_back)
{
	struct seq *s = &self->s[0];
	uint64_t held;
	char *json;

	ASSERT_EQ(0, seq_create(&self->c, s));
	ASSERT_EQ(0, step1(self, s, 1000));
	seq_destroy(&self->c, s);
	EXPECT_GE(kv_shrink(self->c.kv), 0);
	json = test_kvmd_ctl(&self->d, "meminfo");
	ASSERT_EQ(0, test_json_u64(json, "held_bytes", &held));
	EXPECT_LE(held, 2 * KV_EXTENT_SIZE);
	free(json);
	ASSERT_EQ(0, seq_create(&self->c, s));
	ASSERT_EQ(0, step1(self, s, 1000));
}

TEST_F(libkv, ends_every_call_when_kvmd_is_killed)
{
	struct seq *s = &self->s[0];
	struct kv_event ev;
	uint32_t id;

	ASSERT_EQ(0, seq_create(&self->c, s));
	ASSERT_EQ(0, step1(self, s, 10));
	test_kvmd_kill(&self->d);
	/* what is mapped stays, and needs nobody */
	EXPECT_TRUE(seq_verify(&self->c, s, 10));
	EXPECT_EQ(0, step1(self, s, 1));
	refuses(self, -ESHUTDOWN, step1(self, s, 100), "kvmd has gone");
	EXPECT_EQ(-ESHUTDOWN, kv_space_create(self->c.kv, &self->c.args, &id));
	EXPECT_EQ(-ESHUTDOWN, kv_space_truncate(self->c.kv, s->space, 1));
	EXPECT_EQ(-ESHUTDOWN, kv_event_wait(self->c.kv, &ev, -1));
	kv_detach(self->c.kv);
}

TEST_F(libkv, has_room_for_4096_spaces)
{
	struct kv_resv_item it = { .nr_tokens = 1 };
	static uint32_t id[KV_SPACE_MAX + 1];
	struct kv_space_args one = self->c.args;
	struct kv_step *st;
	unsigned int i;

	one.nr_areas = 1;
	for (i = 0; i < KV_SPACE_MAX; i++)
		ASSERT_EQ(0, kv_space_create(self->c.kv, &one, &id[i]));
	refuses(self, -ENOSPC, kv_space_create(self->c.kv, &one, &id[i]),
		"4096");
	it.space = id[KV_SPACE_MAX - 1];
	ASSERT_EQ(0, kv_step_prepare(self->c.kv, &it, 1, 0, 0, &st));
	kv_step_complete(self->c.kv, st);
	ASSERT_EQ(0, kv_step_commit(self->c.kv, st));
	for (i = 0; i < KV_SPACE_MAX; i++)
		ASSERT_EQ(0, kv_space_destroy(self->c.kv, id[i]));
	ASSERT_EQ(0, kv_space_create(self->c.kv, &one, &id[0]));
	EXPECT_EQ(0, counters(self).forgotten_errors);
}

TEST_F(libkv, answers_questions_on_a_connection_of_their_own)
{
	char *json = NULL;

	EXPECT_EQ(0, kv_ctl(self->d.socket, 0, "client list", &json));
	EXPECT_TRUE(json && strstr(json, "\"name\":\"calls\""));
	free(json);
	EXPECT_EQ(-EINVAL, kv_ctl(self->d.socket, 0, "make coffee", &json));
	TH_LOG("%s", json ? json : "no sentence");
	EXPECT_TRUE(json && json[0]);
	free(json);
}

TEST_F(libkv, touches_no_extent_that_was_taken_back_before_it_was_mapped)
{
	struct seq *s = &self->s[0];
	struct kv_resv_item it = { .nr_tokens = 8000 };

	ASSERT_EQ(0, seq_create(&self->c, s));
	ASSERT_EQ(0, seq_create(&self->c, &self->s[1]));
	it.space = s->space;
	ASSERT_EQ(0, kv_step_prefetch(self->c.kv, &it, 1));
	usleep(50000); /* granted, its descriptors are queued */
	seq_destroy(&self->c, s);
	usleep(50000); /* but the step's number is open and pins them */
	ASSERT_EQ(0, step1(self, &self->s[1], 5));
	/* who touches memory after it was taken is killed, after a while */
	usleep(1500000);
	EXPECT_GE(kv_shrink(self->c.kv), 0);
	ASSERT_EQ(0, step1(self, &self->s[1], 50));
}

struct filler {
	int rc; /* to answer */
	int calls;
};

static int fill(void *dst, size_t bytes, void *ctx)
{
	struct filler *f = ctx;

	f->calls++;
	memset(dst, 0x6b, bytes);
	return f->rc;
}

TEST_F(libkv, fills_weights_once_and_maps_them_read_only)
{
	struct kv_msg_weights key = { .packing = 1,
				      .bytes = 1000000,
				      .name = "calls" };
	struct filler f = { .rc = -ENODATA };
	struct kv_weights w[2];

	/* a filler that gives up leaves nothing behind */
	refuses(self, -ENODATA,
		kv_weights_open(self->c.kv, &key, fill, &f, &w[0]),
		"not filled");
	f.rc = 0;
	ASSERT_EQ(0, kv_weights_open(self->c.kv, &key, fill, &f, &w[0]));
	ASSERT_EQ(0, kv_weights_open(self->c.kv, &key, NULL, NULL, &w[1]));
	EXPECT_EQ(2, f.calls);
	EXPECT_EQ(1000000, w[1].bytes);
	/* where huge pages can lie */
	EXPECT_EQ(0, (uintptr_t)w[1].addr % (2u << 20));
	EXPECT_EQ(0x6b, ((const uint8_t *)w[1].addr)[999999]);
	EXPECT_EQ(-1, mprotect((void *)(uintptr_t)w[1].addr, 4096,
			       PROT_READ | PROT_WRITE));
	kv_weights_close(self->c.kv, &w[0]);
	EXPECT_TRUE(w[0].addr == NULL);
	kv_weights_close(self->c.kv, &w[0]);
	EXPECT_EQ(0x6b, ((const uint8_t *)w[1].addr)[0]);
	key.bytes++;
	refuses(self, -EBADMSG,
		kv_weights_open(self->c.kv, &key, fill, &f, &w[0]), "calls");
	kv_weights_close(self->c.kv, &w[1]);
	key.bytes = 0;
	EXPECT_EQ(-EINVAL, kv_weights_open(self->c.kv, &key, fill, &f, &w[0]));
	key.bytes = 1ull << 30;
	key.digest[0] = 1;
	refuses(self, -ENOSPC,
		kv_weights_open(self->c.kv, &key, fill, &f, &w[0]), "calls");
	free(test_kvmd_ctl(&self->d, "tenant limit uid:0 max=8M"));
	key.bytes = 16u << 20;
	refuses(self, -EDQUOT,
		kv_weights_open(self->c.kv, &key, fill, &f, &w[0]), "calls");
	EXPECT_EQ(2, f.calls);
}

struct listener {
	struct kv *kv;
	uint64_t limit;
	int last;
};

static void *listen_for_events(void *arg)
{
	struct listener *l = arg;
	struct kv_event ev;

	while ((l->last = kv_event_wait(l->kv, &ev, 5000)) == 1) {
		if (ev.type == KV_EVENT_LIMIT)
			l->limit = ev.arg;
		if (ev.type == KV_EVENT_DRAIN)
			break;
	}
	return NULL;
}

TEST_F(libkv, hears_of_limits_and_of_the_end)
{
	struct listener l = { .kv = self->c.kv };
	struct kv_event ev;
	pthread_t t;

	EXPECT_EQ(0, kv_event_wait(self->c.kv, &ev, 0));
	EXPECT_EQ(0, kv_event_wait(self->c.kv, &ev, 10));
	ASSERT_EQ(0, pthread_create(&t, NULL, listen_for_events, &l));
	free(test_kvmd_ctl(&self->d, "tenant limit uid:0 max=16M"));
	usleep(20000);
	kill(self->d.pid, SIGTERM);
	pthread_join(t, NULL);
	EXPECT_EQ(16 << 20, l.limit);
	EXPECT_EQ(1, l.last);
	kv_detach(self->c.kv);
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

TEST_HARNESS_MAIN
