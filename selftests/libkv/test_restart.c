/* SPDX-License-Identifier: MIT */
/* timeout: 240 */
/* alone: yes */
/* quick: no */
/*
 * test_restart.c - kvmd is killed, and its clients notice nothing
 *
 * Two bystanders work through rounds whose outcome is known, a third client
 * goes through all that a client does. kvmd, under its keeper, dies by SIGKILL:
 * at each of its named transitions, and at random moments, also while it takes
 * over from the one before. Nobody may get a wrong row or an answer that it
 * should not have; the books are checked after each death by kvmd and by the
 * second program, and in the end nothing is held.
 */
#include "selftests/libkv/others.h"
#include <signal.h>
#include <string.h>
#include <kv/trace.h>

FIXTURE(restart)
{
	struct test_kvmd d;
	struct others *o;
};

FIXTURE_SETUP(restart)
{
	self->o = others_new();
	ASSERT_TRUE(self->o != NULL);
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "256M",
				     "--tenant-key", "pid", "--limit", "64M",
				     NULL));
	others_learn(self->o, &self->d);
	ASSERT_EQ(0, test_kvmd_stop(&self->d));
}

FIXTURE_TEARDOWN(restart)
{
	if (self->d.pid <= 0)
		return;
	others_stop(self->o);
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

static void start_kept(struct restart_self *self, bool tight, bool swap,
		       bool revoke)
{
	char path[300];

	snprintf(path, sizeof(path), "%.200s/swap", test_tmpdir());
	ASSERT_EQ(0, test_kvmd_start(
			     &self->d, test_tmpdir(), "--keeper", "--size",
			     tight ? "32M" : "256M", "--tenant-key", "pid",
			     "--limit", tight ? "32M" : "64M", "--swap-file",
			     path, "--swap-size", swap ? "64M" : "4K",
			     "--revoke-ask", revoke ? "0" : "3600000",
			     "--revoke-fence", revoke ? "1" : "30000", NULL));
}

static pid_t start_worker(struct restart_self *self)
{
	char bin[600];
	pid_t pid;

	snprintf(bin, sizeof(bin), "%s/selftests/libkv/kill_client",
		 test_build_dir());
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl(bin, bin, self->d.socket, NULL);
		_exit(127);
	}
	return pid;
}

/* Its limit goes up and down while it works; its wait status. */
static int run_worker(struct restart_self *self, unsigned int every_us)
{
	pid_t pid = start_worker(self);
	char req[64];
	int status, i;

	for (i = 0; !waitpid(pid, &status, WNOHANG); i++) {
		snprintf(req, sizeof(req), "tenant limit pid:%d max=%dM",
			 (int)pid, i % 2 ? 32 : 40);
		if (every_us >= 1000)
			free(test_kvmd_ctl(&self->d, req));
		usleep(every_us);
	}
	return status;
}

/* What has been published stays; of clients nothing does. */
static void expect_in_order(struct restart_self *self, const char *at)
{
	int faults = test_kvmd_check(&self->d);

	if (faults)
		th_fail(__FILE__, __LINE__, "after a death at %s: %d faults",
			at, faults);
}

static void expect_nothing_held(struct restart_self *self)
{
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, 5000));
	EXPECT_EQ(0, test_kvmd_check(&self->d));
}

/* Moves, and what only a failed write brings: the core's own model dies there
 * (test_recover_model); a client's death is no restart's matter. */
static bool is_passed(const char *name)
{
	static const char *const never[] = {
		"swap_back", "swap_lost",   "quarantine",  "demote",
		"demoted",   "demote_back", "turn_revoke",
	};
	size_t i;

	for (i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (!strcmp(never[i], name))
			return false;
	return strncmp(name, "move_", 5) != 0;
}

TEST_F_TIMEOUT(restart, at_each_transition_of_kvmd_costs_nobody, 300)
{
	static const char *const names[] = {
#define ROW(nr, id, name, what) name,
		KV_TRACE_POINTS(ROW)
#undef ROW
	};
	unsigned int i, try, done = 0, total = 0;
	bool tight, swap, revoke, successor;
	char at[64];
	int status;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!is_passed(names[i]))
			continue;
		total++;
		tight = !strcmp(names[i], "release");
		swap = !strncmp(names[i], "swap", 4);
		revoke = !strncmp(names[i], "revoke", 6);
		successor = !strcmp(names[i], "adopted") ||
			    !strcmp(names[i], "resumed");
		snprintf(at, sizeof(at), "%s:%u", names[i],
			 successor || revoke ? 1 : i % 3 + 1);
		setenv(successor ? "KV_KILL_NEXT_AT" : "KV_KILL_AT", at, 1);
		start_kept(self, tight, swap, revoke);
		unsetenv("KV_KILL_AT");
		unsetenv("KV_KILL_NEXT_AT");
		if (!tight)
			others_start(self->o, &self->d);
		/* whether a step is long enough to be killed for is chance */
		for (try = 0; try < 24; try++) {
			if (successor && !try)
				EXPECT_EQ(0, test_kvmd_kill_kept(&self->d));
			status = run_worker(self, revoke ? 4000 : 1000);
			/* a revoke takes tokens, or the client */
			if (status && !revoke)
				th_fail(__FILE__, __LINE__,
					"after a death at %s: status %x", at,
					(unsigned int)status);
			if (test_kvmd_u64(&self->d, "status", "restarts") >=
			    (successor ? 2 : 1))
				break;
		}
		if (try < 24)
			done++;
		else
			TH_LOG("%s: kvmd was not killed", at);
		total -= try == 24 && revoke;
		expect_in_order(self, at);
		others_stop(self->o);
		expect_nothing_held(self);
		EXPECT_EQ(0, test_kvmd_stop(&self->d));
	}
	TH_LOG("figure: kvmd killed at %u/%u transitions", done, total);
	EXPECT_EQ(total, done);
}

TEST_F_TIMEOUT(restart, at_random_moments_costs_nobody, 3600)
{
	uint64_t seed = test_seed(), i, n = getenv("KV_LONG") ? 10000 : 100;
	uint64_t restarts;
	pid_t pid;
	int status;

	start_kept(self, false, true, false);
	others_start(self->o, &self->d);
	pid = start_worker(self);
	for (i = 0; i < n; i++) {
		usleep((useconds_t)(test_rand(&seed) % 20000));
		EXPECT_EQ(0, test_kvmd_kill_kept(&self->d));
		/* some of them while they take over */
		if (test_rand(&seed) % 4 == 0) {
			usleep((useconds_t)(test_rand(&seed) % 6000));
			EXPECT_EQ(0, test_kvmd_kill_kept(&self->d));
		}
		if (i % 20 == 19)
			expect_in_order(self, "random");
		if (waitpid(pid, &status, WNOHANG) == pid) {
			EXPECT_EQ(0, status);
			pid = start_worker(self);
		}
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	restarts = test_kvmd_u64(&self->d, "status", "restarts");
	others_stop(self->o);
	expect_nothing_held(self);
	TH_LOG("figure: %llu restarts; %llu rounds of bystanders unchanged, "
	       "%llu of them short of memory, %llu rows read",
	       (unsigned long long)restarts,
	       (unsigned long long)self->o->rounds,
	       (unsigned long long)self->o->nr_short,
	       (unsigned long long)self->o->rows);
	EXPECT_GE(restarts, n * 9 / 10);
	EXPECT_GT(self->o->rounds, 2);
}

TEST_HARNESS_MAIN
