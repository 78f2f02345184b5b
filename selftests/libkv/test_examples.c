/* SPDX-License-Identifier: MIT */
/*
 * test_examples.c - the two examples of libkv do what their comments say
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"

/* Run an example; its output goes to the log. Return: its exit status. */
static int run(const struct test_kvmd *d, const char *name)
{
	char bin[600];
	int status = -1;
	pid_t pid;

	snprintf(bin, sizeof(bin), "%s/examples/%s", test_build_dir(), name);
	pid = fork();
	if (!pid) {
		execl(bin, bin, d->socket, NULL);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST(examples, run)
{
	struct test_kvmd d;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	EXPECT_EQ(0, run(&d, "fork"));
	EXPECT_EQ(0, run(&d, "weights"));
	EXPECT_EQ(0, test_kvmd_settle(&d, 0, 3000));
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST(examples, say_so_when_there_is_no_kvmd)
{
	struct test_kvmd d = { .socket = "/nonexistent/kvmd.sock" };

	EXPECT_EQ(1, run(&d, "fork"));
}

TEST_HARNESS_MAIN
