/* SPDX-License-Identifier: MIT */
/*
 * test_forbidden.c - system calls that a container forbids, /proc that it hides
 */
#include "selftests/kvmd/ipc/contained.h"
#include "selftests/libkv/seq.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/syscall.h>

/* ---- system calls that a container forbids ---- */

static unsigned int forbidden[4], nr_forbidden;
static unsigned int forbidden_errno;

static void under_seccomp(void)
{
	struct sock_filter f[16];
	struct sock_fprog prog = { .filter = f };
	unsigned int i, n = 0;

	f[n++] = (struct sock_filter)BPF_STMT(
		BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (i = 0; i < nr_forbidden; i++) {
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
						      forbidden[i], 0, 1);
		f[n++] = (struct sock_filter)BPF_STMT(
			BPF_RET | BPF_K, SECCOMP_RET_ERRNO | forbidden_errno);
	}
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
					      SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(13);
}

FIXTURE(forbidden)
{
	struct test_kvmd d;
};

FIXTURE_VARIANT(forbidden)
{
	unsigned int err;
};

/* docker and podman say the one, a kernel without it the other */
FIXTURE_VARIANT_ADD(forbidden, eperm){ .err = EPERM };
FIXTURE_VARIANT_ADD(forbidden, enosys){ .err = ENOSYS };

FIXTURE_SETUP(forbidden)
{
	forbidden_errno = variant->err;
	nr_forbidden = 0;
}

FIXTURE_TEARDOWN(forbidden)
{
	test_kvmd_before = NULL;
	if (self->d.pid > 0)
		finish(&self->d);
}

static void forbid_io_uring(void)
{
	forbidden[nr_forbidden++] = SYS_io_uring_setup;
	forbidden[nr_forbidden++] = SYS_io_uring_enter;
	forbidden[nr_forbidden++] = SYS_io_uring_register;
}

static int append(struct seqs *c, struct seq *s, uint32_t add, uint64_t token)
{
	return seq_step(c, &s, &add, 1, token, KV_STEP_WAIT, RAW_WAIT_MS);
}

TEST_F(forbidden, io_uring_leaves_epoll_and_threads)
{
	static struct seq s[64];
	static struct seqs c;
	unsigned int i, nr;
	char file[300], *json;

	forbid_io_uring();
	test_kvmd_before = under_seccomp;
	snprintf(file, sizeof(file), "%.250s/swap", test_tmpdir());
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "16M",
				     "--swap-file", file, "--swap-size", "64M",
				     "--drain", "20", NULL));
	json = test_kvmd_ctl(&self->d, "status");
	EXPECT_TRUE(json && strstr(json, "\"io\":\"epoll\""));
	free(json);
	ASSERT_EQ(0, seqs_attach(&c, self->d.socket, "forbidden"));
	for (nr = 0; nr < 64 && !count(&self->d, "swap_out"); nr++) {
		ASSERT_EQ(0, seq_create(&c, &s[nr]));
		ASSERT_EQ(0, append(&c, &s[nr], 1000, 1 + nr * 5000ull));
	}
	/* each step compares what it reads: what had left is back as it was */
	for (i = 0; i < nr; i++)
		EXPECT_EQ(0, append(&c, &s[i], 1, 2000 + i * 5000ull));
	EXPECT_GT(count(&self->d, "swap_out"), 0);
	EXPECT_GT(count(&self->d, "swap_in"), 0);
	EXPECT_EQ(0, c.faults);
	kv_detach(c.kv);
}

TEST_F(forbidden, io_uring_that_was_asked_for_is_said_to_be_impossible)
{
	char bin[600], none[300], text[512] = "";
	int fds[2], status;
	pid_t pid;

	forbid_io_uring();
	snprintf(bin, sizeof(bin), "%s/bin/kvmd", test_build_dir());
	snprintf(none, sizeof(none), "%s/none.sock", test_tmpdir());
	ASSERT_EQ(0, pipe(fds));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(fds[1], STDERR_FILENO);
		under_seccomp();
		execl(bin, bin, "--check", "--io", "uring", "--size", "32M",
		      "--socket", none, NULL);
		_exit(127);
	}
	close(fds[1]);
	while (read(fds[0], text + strlen(text),
		    sizeof(text) - 1 - strlen(text)) > 0)
		;
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_NE(0, status);
	EXPECT_TRUE(strstr(text, "io uring: not possible here"));
}

TEST_F(forbidden, io_uring_is_nothing_to_a_client)
{
	struct client c;

	start(&self->d, "uid");
	forbid_io_uring();
	client_start(&c, self->d.socket, under_seccomp);
	EXPECT_EQ(1, write(c.go, "x", 1));
	EXPECT_EQ(0, client_end(&c));
}

TEST_F(forbidden, pidfds_leave_the_end_of_the_connection)
{
	struct client c;

	if (geteuid())
		SKIP("root is needed");
	setenv("KV_MASK_NEW", "1", 1);
	forbidden[nr_forbidden++] = SYS_pidfd_open;
	/* the parent is watched by one as well */
	test_kvmd_before = under_seccomp;
	start(&self->d, "uid");
	client_start(&c, self->d.socket, as_it_is);
	kill(c.pid, SIGKILL);
	client_end(&c);
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, RAW_WAIT_MS));
}

/* ---- /proc ---- */

static void without_proc(void)
{
	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/proc", "tmpfs", MS_RDONLY, NULL))
		_exit(14);
}

static void with_hidepid(void)
{
	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", "/proc", "proc", 0, "hidepid=2"))
		_exit(15);
	if (setgroups(0, NULL) || setresgid(ANOTHER, ANOTHER, ANOTHER) ||
	    setresuid(ANOTHER, ANOTHER, ANOTHER))
		_exit(16);
}

TEST(proc, that_is_not_there_is_said_at_the_start)
{
	char bin[600], none[300], text[512] = "";
	int fds[2], status;
	pid_t pid;

	NEED(CLONE_NEWNS, "mount namespaces");
	snprintf(bin, sizeof(bin), "%s/bin/kvmd", test_build_dir());
	snprintf(none, sizeof(none), "%s/none.sock", test_tmpdir());
	ASSERT_EQ(0, pipe(fds));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		dup2(fds[1], STDERR_FILENO);
		without_proc();
		execl(bin, bin, "--check", "--size", "32M", "--socket", none,
		      NULL);
		_exit(127);
	}
	close(fds[1]);
	while (read(fds[0], text + strlen(text),
		    sizeof(text) - 1 - strlen(text)) > 0)
		;
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	EXPECT_TRUE(strstr(text, "/proc"));
}

TEST(proc, with_hidepid_says_what_to_change)
{
	struct test_kvmd d;
	char text[512];

	NEED(CLONE_NEWNS, "mount namespaces");
	ASSERT_EQ(0, chmod(test_tmpdir(), 0777));
	test_kvmd_before = with_hidepid;
	start(&d, "cgroup");
	EXPECT_EQ(-ENOENT, try_attach(d.socket, STRANGER, 0, text));
	EXPECT_TRUE(strstr(text, "hidepid"));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
