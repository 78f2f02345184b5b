/* SPDX-License-Identifier: MIT */
/*
 * test_parent_dies_first.c - kvmd --exit-with-parent of a parent long gone
 *
 * A kvrun --private that was killed before its kvmd had come as far as to
 * watch it left that kvmd behind for ever: it watched whoever had inherited
 * it. What tells is the pipe of --ready-fd, which nobody reads then.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

/* In the grandchild: wait for the parent's end, then become kvmd. */
static void __attribute__((noreturn))
late_kvmd(pid_t parent, int ready, const char *dir)
{
	char bin[600], socket[300], fd[16];

	while (getppid() == parent)
		nap();
	snprintf(bin, sizeof(bin), "%s/bin/kvmd", test_build_dir());
	snprintf(socket, sizeof(socket), "%s/late.sock", dir);
	snprintf(fd, sizeof(fd), "%d", ready);
	execl(bin, bin, "--socket", socket, "--size", "8M",
	      "--exit-with-parent", "--ready-fd", fd, "--drain", "10", NULL);
	_exit(127);
}

TEST(exit_with_parent, holds_for_a_parent_that_died_before_the_start)
{
	const char *dir = test_tmpdir();
	int fds[2], status = 0, i;
	pid_t parent, got = 0;
	char path[300];

	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));
	ASSERT_EQ(0, pipe(fds));
	parent = fork();
	ASSERT_GE(parent, 0);
	if (!parent) {
		close(fds[0]);
		parent = getpid();
		if (!fork())
			late_kvmd(parent, fds[1], dir);
		_exit(0);
	}
	close(fds[0]);
	close(fds[1]);
	ASSERT_EQ(parent, waitpid(parent, NULL, 0));
	for (i = 0; i < 500 && !got; i++) {
		got = waitpid(-1, &status, WNOHANG);
		nap();
	}
	ASSERT_GT(got, 0);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	snprintf(path, sizeof(path), "%s/late.sock", dir);
	EXPECT_NE(0, access(path, F_OK));
}

TEST_HARNESS_MAIN
