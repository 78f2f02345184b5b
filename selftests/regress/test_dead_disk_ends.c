/* SPDX-License-Identifier: MIT */
/*
 * test_dead_disk_ends.c - a kvmd whose swap file does not answer ends
 *
 * Where io_uring is not allowed threads read and write the file. At its end
 * kvmd waited for them: for ever, if a disk never answered. The same for a
 * thread that gives room back, whatever the loop is on.
 *
 * The disk is a system call that a filter hands to a listener who says nothing.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/seq.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SEQS   24u
#define TOKENS 1000u

static unsigned int dead[2];

/*
 * The calls @dead never return. Of fallocate() those do that make a file, and
 * those by which the device's memory is zeroed, which is by the extent.
 */
static int silence(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, dead[0], 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, dead[1], 0, 6),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, args[3])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KV_EXTENT_SIZE, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .filter = f,
				   .len = sizeof(f) / sizeof(f[0]) };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			    SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
}

static void on_a_dead_disk(void)
{
	int fd = silence();

	/* kvmd has the listener itself, and knows nothing of it */
	if (fd < 0 || fcntl(fd, F_SETFD, 0))
		_exit(13);
}

static bool can_be_silenced(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(silence() < 0);
	return waitpid(pid, &status, 0) == pid && !status;
}

/* Is a thread of @pid in the call? */
static bool is_in(pid_t pid, unsigned int call)
{
	char path[400], line[32], want[16];
	struct dirent *e;
	bool in = false;
	DIR *dir;
	FILE *f;

	snprintf(want, sizeof(want), "%u ", call);
	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && !in && (e = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%s/syscall",
			 (int)pid, e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		in = fgets(line, sizeof(line), f) &&
		     !strncmp(line, want, strlen(want));
		fclose(f);
	}
	if (dir)
		closedir(dir);
	return in;
}

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
};

FIXTURE_SETUP(dead_disk)
{
	if (!can_be_silenced())
		th_skip("system calls cannot be held up here");
}

FIXTURE_TEARDOWN(dead_disk)
{
}

static void begin(struct dead_disk_self *self, unsigned int a, unsigned int b)
{
	char file[300];

	dead[0] = a;
	dead[1] = b;
	snprintf(file, sizeof(file), "%s/swap", test_tmpdir());
	test_kvmd_before = on_a_dead_disk;
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--limit", "8M", "--io", "epoll",
				     "--swap-file", file, "--swap-size", "64M",
				     "--swap-discard", NULL));
	test_kvmd_before = NULL;
	ASSERT_EQ(0, seqs_attach(&self->c, self->d.socket, "dead"));
}

/* Until a thread of kvmd is in @call, or that is not to be seen here. */
static void await_call(struct dead_disk_self *self, unsigned int call)
{
	double end = th_now() + 60;

	while (!is_in(self->d.pid, call) && th_now() < end)
		usleep(1000);
	ASSERT_TRUE(is_in(self->d.pid, call));
}

static void finish(struct dead_disk_self *self)
{
	kv_detach(self->c.kv);
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
	EXPECT_TRUE(log_has(&self->d, "a disk does not answer"));
}

TEST_F_TIMEOUT(dead_disk, that_is_written_to_is_left, 200)
{
	struct seq *s;
	uint32_t i, add = TOKENS;
	int rc = 0;

	begin(self, SYS_pwritev, SYS_preadv);
	for (i = 0; i < SEQS && !rc; i++) {
		s = &self->seq[i];
		ASSERT_EQ(0, seq_create(&self->c, s));
		rc = seq_step(&self->c, &s, &add, 1, 1 + i * TOKENS,
			      KV_STEP_WAIT, 1000);
	}
	EXPECT_EQ(-ETIMEDOUT, rc); /* none of the others leaves */
	await_call(self, SYS_pwritev);
	finish(self);
}

TEST_F_TIMEOUT(dead_disk, that_room_is_given_back_to_is_left, 200)
{
	uint32_t i, add = TOKENS;
	struct seq *s;

	begin(self, SYS_fallocate, SYS_fallocate);
	for (i = 0; i < SEQS; i++) {
		s = &self->seq[i];
		ASSERT_EQ(0, seq_create(&self->c, s));
		ASSERT_EQ(0, seq_step(&self->c, &s, &add, 1, 1 + i * TOKENS,
				      KV_STEP_WAIT, 30000));
	}
	for (i = 0; i < SEQS; i++)
		seq_destroy(&self->c, &self->seq[i]);
	await_call(self, SYS_fallocate);
	finish(self);
}

TEST_HARNESS_MAIN
