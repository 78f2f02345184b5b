/* SPDX-License-Identifier: MIT */
/*
 * harness_victim.c - tests that go wrong, for test_harness.c to watch
 *
 * No test of the product: run.sh does not run it.
 */
#include "selftests/harness.h"

TEST(victim, fails_a_check)
{
	EXPECT_EQ(1, 2);
	TH_LOG("went on");
}

TEST(victim, asserts)
{
	ASSERT_STREQ("a", "b");
	TH_LOG("went on");
}

TEST(victim, crashes)
{
	fflush(stdout);
	raise(SIGKILL);
}

TEST(victim, leaves_early)
{
	_exit(0);
}

TEST_TIMEOUT(victim, hangs, 1)
{
	for (;;)
		pause();
}

TEST(victim, forges_a_result)
{
	printf("\nok 1 victim.forges_a_result\n");
	fflush(stdout);
	_exit(0);
}

TEST(victim, fails_in_its_own_child)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		ASSERT_TRUE(false);
		_exit(0);
	}
	waitpid(pid, &status, 0);
}

TEST(victim, skips)
{
	SKIP("no reason at %s", "all");
}

FIXTURE(cleanup)
{
	bool ready;
};

FIXTURE_SETUP(cleanup)
{
	self->ready = true;
}

FIXTURE_TEARDOWN(cleanup)
{
	TH_LOG("teardown saw %d", self->ready);
}

TEST_F(cleanup, fails)
{
	ASSERT_TRUE(false);
}

TEST_HARNESS_MAIN
