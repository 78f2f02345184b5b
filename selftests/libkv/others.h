/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_LIBKV_OTHERS_H
#define SELFTESTS_LIBKV_OTHERS_H
/*
 * others.h - clients that work on while others, or kvmd, are killed
 *
 * Processes, tenants of their own, that go through rounds whose outcome is
 * known from a run that nobody disturbed.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/mix.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NR_BYSTANDERS 2
#define NR_ROUNDS     4
#define ROUND_OPS     150

struct others {
	_Atomic bool stop;
	_Atomic int nr_attached;
	_Atomic uint64_t rounds, wrong, rows, nr_short;
	uint64_t expected[NR_ROUNDS];
	pid_t pid[NR_BYSTANDERS];
};

static struct others *others_new(void)
{
	struct others *o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return o == MAP_FAILED ? NULL : o;
}

/* One round of a bystander: the digest says all that was written. */
static uint64_t one_round(struct mix *m, uint64_t seed, bool *ok)
{
	uint64_t i, digest;

	mix_begin(m, seed, 400);
	for (i = 0; i < ROUND_OPS && *ok; i++)
		*ok = mix_op(m);
	digest = m->digest;
	*ok = *ok && mix_verify(m);
	for (i = 0; i < MIX_SEQS; i++)
		seq_destroy(&m->c, &m->seq[i]);
	return digest;
}

static void bystander(const struct test_kvmd *d, struct others *o)
{
	static struct mix m;
	uint64_t r = 0, digest;
	bool ok = true;

	if (seqs_attach(&m.c, d->socket, "bystander"))
		_exit(2);
	o->nr_attached++;
	while (!o->stop && ok) {
		(void)kv_turn_begin(m.c.kv, 1000); /* with or without it */
		usleep(300);
		kv_turn_end(m.c.kv);
		digest = one_round(&m, r % NR_ROUNDS, &ok);
		/* refused memory it wrote something else, and read it back */
		o->nr_short += m.nr_short > 0;
		if (!m.nr_short && digest != o->expected[r % NR_ROUNDS])
			ok = false;
		o->rounds++;
		r++;
	}
	if (!ok)
		printf("a bystander: answer %d, %llu rows wrong, %llu times "
		       "short of memory\n",
		       m.rc, (unsigned long long)m.c.faults,
		       (unsigned long long)m.nr_short);
	o->wrong += !ok;
	o->rows += m.c.checked;
	kv_detach(m.c.kv);
	_exit(ok ? 0 : 1);
}

/* What the rounds give when nobody dies. */
static void others_learn(struct others *o, const struct test_kvmd *d)
{
	static struct mix m;
	bool ok = true;
	int i;

	ASSERT_EQ(0, seqs_attach(&m.c, d->socket, "undisturbed"));
	for (i = 0; i < NR_ROUNDS; i++)
		o->expected[i] = one_round(&m, (uint64_t)i, &ok);
	ASSERT_TRUE(ok);
	kv_detach(m.c.kv);
}

/* They are attached when it returns: kvmd's death is theirs too from here. */
static void others_start(struct others *o, const struct test_kvmd *d)
{
	pid_t pid;
	int i;

	o->nr_attached = 0;
	for (i = 0; i < NR_BYSTANDERS; i++) {
		pid = fork();
		if (!pid)
			bystander(d, o);
		o->pid[i] = pid; /* the child sees it too */
	}
	for (i = 0; o->nr_attached < NR_BYSTANDERS && i < 10000; i++)
		usleep(1000);
	EXPECT_EQ(NR_BYSTANDERS, o->nr_attached);
}

/* They end well. */
static void others_stop(struct others *o)
{
	int i, status;

	o->stop = true;
	for (i = 0; i < NR_BYSTANDERS; i++) {
		if (o->pid[i] <= 0)
			continue;
		ASSERT_EQ(o->pid[i], waitpid(o->pid[i], &status, 0));
		EXPECT_EQ(0, status);
		o->pid[i] = 0;
	}
	o->stop = false;
	EXPECT_EQ(0, o->wrong);
}

#endif
