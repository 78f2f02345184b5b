/* SPDX-License-Identifier: MIT */
/*
 * test_harness.c - the harness judged by itself
 *
 * san: address thread
 *
 * harness_victim.c holds tests that fail, crash, hang and skip; these run
 * them one by one and read the TAP that comes out.
 */
#include "selftests/harness.h"

/* Run one test of the victim. Return: its exit status, output in @out. */
static int run_victim(const char *filter, char *out, size_t len)
{
	char cmd[640], self[256] = "";
	char *slash;
	int status;
	FILE *f;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return -1;
	slash = strrchr(self, '/');
	if (!slash)
		return -1;
	*slash = '\0';
	snprintf(cmd, sizeof(cmd),
		 "env -u TEST_SCALE '%s/harness_victim' -t '%s' 2>&1", self,
		 filter);
	f = popen(cmd, "r");
	if (!f)
		return -1;
	out[fread(out, 1, len - 1, f)] = '\0';
	status = pclose(f);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect_victim(const char *name, int want, const char *line)
{
	char out[8192];

	EXPECT_EQ(want, run_victim(name, out, sizeof(out)));
	if (!EXPECT_TRUE(strstr(out, line)))
		TH_LOG("wanted \"%s\" in:\n%s", line, out);
}

FIXTURE(sized)
{
	int twice;
};

FIXTURE_VARIANT(sized)
{
	int n;
};

FIXTURE_VARIANT_ADD(sized, two){ .n = 2 };
FIXTURE_VARIANT_ADD(sized, three){ .n = 3 };

FIXTURE_SETUP(sized)
{
	self->twice = variant->n * 2;
}

FIXTURE_TEARDOWN(sized)
{
}

TEST_F(sized, runs_once_per_variant)
{
	EXPECT_EQ(variant->n * 2, self->twice);
	TH_LOG("n is %d", variant->n);
}

TEST(harness, counts_a_failed_check_and_goes_on)
{
	expect_victim("victim.fails_a_check", 1, "# went on");
	expect_victim("victim.fails_a_check", 1, "\nnot ok 1 victim.fails");
}

TEST(harness, names_the_values)
{
	expect_victim("victim.fails_a_check", 1, "1 == 2 does not hold: 1, 2");
	expect_victim("victim.asserts", 1, "\"a\", \"b\"");
}

TEST(harness, names_the_signal)
{
	expect_victim("victim.crashes", 1, "killed by SIGKILL");
}

TEST(harness, fails_a_test_that_leaves_early)
{
	expect_victim("victim.leaves_early", 1, "before its end");
}

TEST(harness, stops_a_test_that_hangs)
{
	expect_victim("victim.hangs", 1, "ran longer than 1 s");
}

TEST(harness, does_not_take_a_forged_result)
{
	expect_victim("victim.forges_a_result", 1, "\nnot ok 1");
	expect_victim("victim.forges_a_result", 1, "# ok 1 victim");
}

TEST(harness, counts_failures_of_a_forked_child)
{
	expect_victim("victim.fails_in_its_own_child", 1, "\nnot ok 1");
}

TEST(harness, fails_when_nothing_was_selected)
{
	expect_victim("no.such.test", 1, "1..0");
}

TEST(harness, skips_with_exit_status_four)
{
	expect_victim("victim.skips", TH_EXIT_SKIP, "# SKIP no reason at all");
}

TEST(harness, tears_down_after_a_failed_assert)
{
	expect_victim("cleanup.*", 1, "# teardown saw 1");
}

TEST(harness, compares_by_value_across_types)
{
	struct {
		unsigned int three : 3;
	} bits = { 3 };
	unsigned char c = 200;
	int x = -1;

	EXPECT_TRUE(th_holds(TH_VAL(-1), TH_VAL(4294967295u), TH_NE));
	EXPECT_TRUE(th_holds(TH_VAL(-1), TH_VAL(0u), TH_LT));
	EXPECT_TRUE(th_holds(TH_VAL(NAN), TH_VAL(NAN), TH_NE));
	EXPECT_FALSE(th_holds(TH_VAL(NAN), TH_VAL(0.0), TH_LE));
	EXPECT_EQ(200, c);
	EXPECT_EQ(3, bits.three);
	EXPECT_NE(NULL, &x);
	EXPECT_EQ(0, x + 1);
	EXPECT_NEAR(0.1f, 0.1, 1e-6);
}

TEST(harness, gives_a_seed_that_can_be_replayed)
{
	uint64_t s;

	setenv("SEED", "77", 1);
	s = test_seed();
	EXPECT_EQ(77, s);
	EXPECT_NE(test_rand(&s), test_rand(&s));
}

TEST(harness, gives_a_directory_of_its_own)
{
	EXPECT_EQ(0, access(test_tmpdir(), W_OK));
}

TEST_HARNESS_MAIN
