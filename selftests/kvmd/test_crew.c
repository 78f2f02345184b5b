/* SPDX-License-Identifier: MIT */
/*
 * test_crew.c - where kvmd's threads run that work for a tenant
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/seq.h"
#include "include/kv/types.h"
#include <dirent.h>
#include <sched.h>
#include <sys/resource.h>

#define SEQS   48u /* 300 KiB each, one and a half times the limit */
#define TOKENS 1000u

FIXTURE(crew)
{
	struct test_kvmd d;
	cpu_set_t all, one;
	struct seqs c;
	struct seq seq[SEQS];
};

/* The client has one CPU before it attaches. */
FIXTURE_SETUP(crew)
{
	int cpu = 0;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(self->all), &self->all));
	if (CPU_COUNT(&self->all) < 2)
		th_skip("there is one CPU for all");
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--tenant-key", "pid", "--limit", "8M",
				     "--swap-ram", "64M", NULL));
	while (!CPU_ISSET(cpu, &self->all))
		cpu++;
	CPU_ZERO(&self->one);
	CPU_SET(cpu, &self->one);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(self->one), &self->one));
	ASSERT_EQ(0, seqs_attach(&self->c, self->d.socket, "crew"));
}

FIXTURE_TEARDOWN(crew)
{
	if (self->d.pid <= 0)
		return;
	sched_setaffinity(0, sizeof(self->all), &self->all);
	kv_detach(self->c.kv);
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

static bool loop_is_on(const struct test_kvmd *d, const cpu_set_t *cpus)
{
	cpu_set_t set;

	return !sched_getaffinity(d->pid, sizeof(set), &set) &&
	       CPU_EQUAL(&set, cpus);
}

/*
 * Steps over all sequences, which do not fit together: twice each, and on until
 * kvmd's loop is on @cpus. NULL: wherever it is. Return: whether it was there.
 */
static bool page(struct crew_self *self, const cpu_set_t *cpus)
{
	double end = th_now() + 30;
	u64 token = 1;
	bool on = !cpus;
	u32 i;

	for (i = 0; i < SEQS; i++)
		ASSERT_EQ(0, seq_create(&self->c, &self->seq[i]));
	for (i = 0; i < 2 * SEQS || (!on && th_now() < end); i++) {
		struct seq *s = &self->seq[i % SEQS];
		u32 add = s->len ? 1 : TOKENS;

		if (s->len == SEQ_LEN_MAX)
			break;
		ASSERT_EQ(0, seq_step(&self->c, &s, &add, 1, token,
				      KV_STEP_WAIT, 10000));
		token += add;
		on = on || loop_is_on(&self->d, cpus);
	}
	EXPECT_EQ(self->c.faults, 0);
	return on;
}

/* Threads of kvmd that may run on @cpus only; @nice: of that priority. */
static u32 threads_on(const struct test_kvmd *d, const cpu_set_t *cpus,
		      int nice)
{
	struct dirent *e;
	char path[64];
	cpu_set_t set;
	u32 nr = 0;
	DIR *dir;
	int tid;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)d->pid);
	dir = opendir(path);
	while (dir && (e = readdir(dir))) {
		tid = (int)strtol(e->d_name, NULL, 10);
		if (!tid || sched_getaffinity(tid, sizeof(set), &set))
			continue;
		nr += CPU_EQUAL(&set, cpus) &&
		      getpriority(PRIO_PROCESS, (id_t)tid) == nice;
	}
	if (dir)
		closedir(dir);
	return nr;
}

TEST_F(crew, pages_are_copied_where_their_tenant_may_run)
{
	EXPECT_EQ(threads_on(&self->d, &self->one, 10), 0);
	page(self, NULL);
	EXPECT_GE(threads_on(&self->d, &self->one, 10), 1);
}

TEST_F(crew, the_loop_is_with_those_who_keep_it_busy)
{
	double end;

	EXPECT_TRUE(loop_is_on(&self->d, &self->all));
	EXPECT_TRUE(page(self, &self->one));
	end = th_now() + 30;
	while (!loop_is_on(&self->d, &self->all) && th_now() < end)
		usleep(10000);
	EXPECT_TRUE(loop_is_on(&self->d, &self->all));
}

TEST_HARNESS_MAIN
