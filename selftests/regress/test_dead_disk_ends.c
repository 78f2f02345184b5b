/* SPDX-License-Identifier: MIT */
/*
 * test_dead_disk_ends.c - a kvmd whose swap file does not answer ends
 *
 * Where io_uring is not allowed threads read and write the file. At its end
 * kvmd waited for them: for ever, if a disk never answered. The same for a
 * thread that gives room back, whatever the loop is on.
 *
 * The disk is a system call that is held (hold.h) and never let go.
 */
#include "selftests/harness.h"
#include "selftests/hold.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/seq.h"
#include <sys/syscall.h>
#include <sys/wait.h>

#define SEQS   24u
#define TOKENS 1000u

#define NR_REMOVED 2 /* the socket and its lock */

static const struct hold_rule removing = { .nr = SYS_unlink };
static const struct hold_rule writing = { .nr = SYS_pwritev };
/* Not those that make a file, nor those that zero the device's memory, which
 * is by the extent. */
static const struct hold_rule discarding = {
	.nr = SYS_fallocate,
	.nr_conds = 2,
	.conds = { { .arg = 1, .value = 0, .differs = true },
		   { .arg = 3, .value = KV_EXTENT_SIZE, .differs = true } },
};

static bool log_has(const struct test_kvmd *d, const char *text)
{
	char line[512];
	FILE *f = fopen(d->log, "re");
	bool has = false;

	while (f && fgets(line, sizeof(line), f))
		has |= strstr(line, text) != NULL;
	if (f)
		fclose(f);
	return has;
}

FIXTURE(dead_disk)
{
	struct test_kvmd d;
	struct seqs c;
	struct seq seq[SEQS];
	int calls;
};

FIXTURE_SETUP(dead_disk)
{
	if (!hold_is_possible())
		th_skip("system calls cannot be held up here");
}

FIXTURE_TEARDOWN(dead_disk)
{
}

static void begin(struct dead_disk_self *self, const struct hold_rule *dead)
{
	char file[300];

	snprintf(file, sizeof(file), "%s/swap", test_tmpdir());
	ASSERT_EQ(0, hold_before(dead, 1));
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--limit", "8M", "--io", "epoll",
				     "--swap-file", file, "--swap-size", "64M",
				     "--swap-discard", NULL));
	self->calls = hold_listener();
	ASSERT_GE(self->calls, 0);
	ASSERT_EQ(0, seqs_attach(&self->c, self->d.socket, "dead"));
}

/* Until a thread of kvmd waits for the disk. */
static void await_call(struct dead_disk_self *self)
{
	uint64_t id;

	ASSERT_EQ(0, hold_next(self->calls, &id, 60000));
}

static void finish(struct dead_disk_self *self)
{
	uint64_t id;

	kv_detach(self->c.kv);
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
	EXPECT_TRUE(log_has(&self->d, "a disk does not answer"));
	EXPECT_EQ(-ESHUTDOWN, hold_next(self->calls, &id, 60000));
	close(self->calls);
}

TEST_F_TIMEOUT(dead_disk, that_is_written_to_is_left, 200)
{
	struct seq *s;
	uint32_t i, add = TOKENS;
	int rc = 0;

	begin(self, &writing);
	for (i = 0; i < SEQS && !rc; i++) {
		s = &self->seq[i];
		ASSERT_EQ(0, seq_create(&self->c, s));
		rc = seq_step(&self->c, &s, &add, 1, 1 + i * TOKENS,
			      KV_STEP_WAIT, 1000);
	}
	EXPECT_EQ(-ETIMEDOUT, rc); /* none of the others leaves */
	await_call(self);
	finish(self);
}

TEST_F_TIMEOUT(dead_disk, that_room_is_given_back_to_is_left, 200)
{
	uint32_t i, add = TOKENS;
	struct seq *s;

	begin(self, &discarding);
	for (i = 0; i < SEQS; i++) {
		s = &self->seq[i];
		ASSERT_EQ(0, seq_create(&self->c, s));
		ASSERT_EQ(0, seq_step(&self->c, &s, &add, 1, 1 + i * TOKENS,
				      KV_STEP_WAIT, 30000));
	}
	for (i = 0; i < SEQS; i++)
		seq_destroy(&self->c, &self->seq[i]);
	await_call(self);
	finish(self);
}

/* Sockets are removed first. Nobody looks at what waits for the swap file. */
static pid_t hold_removal(int calls)
{
	pid_t pid = fork();
	uint64_t id;
	int i;

	if (pid)
		return pid;
	for (i = 0; i < NR_REMOVED; i++)
		if (hold_next(calls, &id, 60000) || hold_let_go(calls, id, 0))
			_exit(1);
	_exit(0);
}

TEST_F_TIMEOUT(dead_disk, whose_file_is_removed_is_left, 200)
{
	int status = -1;
	pid_t pid;

	begin(self, &removing);
	pid = hold_removal(self->calls);
	finish(self);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN
