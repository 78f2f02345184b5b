/* SPDX-License-Identifier: MIT */
/* timeout: 180 */
/* alone: yes */
/* quick: no */
/*
 * test_kill.c - clients are killed at every named transition, others work on
 *
 * The victim (kill_client) goes through all that a client does and dies by
 * SIGKILL: at each of libkv's own points, at each point of kvmd that is passed
 * on a client's behalf, and at random ones. Two bystanders, tenants of their
 * own, meanwhile work through rounds whose outcome is known from a run that
 * nobody disturbed. After each death the victim's memory has to come back and
 * the books have to be in order; in the end nothing is held by anyone.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/others.h"
#include "libkv/src/point.h"
#include <kv/trace.h>

#define VICTIM_US 40000u /* about as long as it takes */

FIXTURE(kill)
{
	struct test_kvmd d;
	struct others *o;
};

/* A bystander that is refused memory says something else than it learned, so
 * the limit leaves it room also while its own frames are on their way out. */
static void start_kvmd(struct kill_self *self, const char *size,
		       const char *limit, const char *swap, bool revoke)
{
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", size,
				     "--tenant-key", "pid", "--limit", limit,
				     "--swap-ram", swap, "--revoke-ask",
				     revoke ? "0" : "3600000", "--revoke-fence",
				     revoke ? "1" : "30000", NULL));
}

static void expect_nothing_held(struct kill_self *self)
{
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, 5000));
	EXPECT_EQ(0, test_kvmd_u64(&self->d, "meminfo", "frame_bytes"));
	EXPECT_EQ(0, test_kvmd_u64(&self->d, "meminfo", "swap_used_bytes"));
	EXPECT_EQ(0, test_kvmd_u64(&self->d, "meminfo", "weights_open_bytes"));
	EXPECT_EQ(0, test_kvmd_check(&self->d));
}

FIXTURE_SETUP(kill)
{
	self->o = others_new();
	start_kvmd(self, "256M", "64M", "0", false);
	others_learn(self->o, &self->d);
}

FIXTURE_TEARDOWN(kill)
{
	if (self->d.pid <= 0)
		return;
	others_stop(self->o);
	expect_nothing_held(self);
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/*
 * The victim's limit goes up and down, so that its tickets are granted, and
 * what it holds is taken.
 */
static int wait_with_limits(const struct test_kvmd *d, pid_t pid,
			    unsigned int every_us)
{
	char req[64];
	int status, i;

	for (i = 0; !waitpid(pid, &status, WNOHANG); i++) {
		snprintf(req, sizeof(req), "tenant limit pid:%d max=%dM",
			 (int)pid, i % 2 ? 32 : 40);
		free(test_kvmd_ctl(d, req));
		usleep(every_us);
	}
	return status;
}

/* Run the victim. Return: its wait status. */
static int run_victim(struct kill_self *self, const char *at,
		      const char *counts, unsigned int limits_us)
{
	char bin[600];
	int status = -1;
	pid_t pid;

	snprintf(bin, sizeof(bin), "%s/selftests/libkv/kill_client",
		 test_build_dir());
	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (at)
			setenv("KV_KILL_AT", at, 1);
		execl(bin, bin, self->d.socket, counts, NULL);
		_exit(127);
	}
	if (limits_us)
		return wait_with_limits(&self->d, pid, limits_us);
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static bool was_killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

/* kvmd has let go of the victim, and its books are in order. */
static bool expect_recovery(struct kill_self *self, const char *at)
{
	double end = th_now() + 30;
	bool there = true;
	char *json;

	while (there && th_now() < end) {
		json = test_kvmd_ctl(&self->d, "client list");
		there = !json || strstr(json, "\"victim\"");
		free(json);
		if (there)
			usleep(1000);
	}
	json = test_kvmd_ctl(&self->d, "check");
	if (!there && json && strstr(json, "\"faults\":[]")) {
		free(json);
		return true;
	}
	th_fail(__FILE__, __LINE__, "after a death at %s: victim %s, %s", at,
		there ? "still there" : "gone", json ? json : "no answer");
	free(json);
	return false;
}

/* How often the scenario passes each point, if nobody kills it. */
static void read_counts(struct kill_self *self, uint64_t count[200],
			uint64_t *any)
{
	static const struct {
		unsigned int nr;
		const char *name;
	} rows[] = {
#define ROW(nr, id, name, what) { nr, name },
		KV_TRACE_LIBKV(ROW)
#undef ROW
	};
	char path[300], word[64];
	unsigned long long n;
	size_t i;
	FILE *f;

	snprintf(path, sizeof(path), "%.200s/counts", test_tmpdir());
	ASSERT_EQ(0, run_victim(self, NULL, path, 0));
	f = fopen(path, "re");
	ASSERT_TRUE(f != NULL);
	while (fscanf(f, "%63s %llu", word, &n) == 2) {
		for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			if (!strcmp(rows[i].name, word))
				count[rows[i].nr] = n;
		}
		if (!strcmp(word, "any"))
			*any = n;
	}
	fclose(f);
}

TEST_F_TIMEOUT(kill, at_each_transition_of_libkv_costs_nobody_else, 300)
{
	static const struct {
		unsigned int nr;
		const char *name;
	} rows[] = {
#define ROW(nr, id, name, what) { nr, name },
		KV_TRACE_LIBKV(ROW)
#undef ROW
	};
	unsigned int i, done = 0, total = sizeof(rows) / sizeof(rows[0]);
	uint64_t count[200] = { 0 }, any = 0, twice = 0;
	char at[64];

	read_counts(self, count, &any);
	others_start(self->o, &self->d);
	for (i = 0; i < total; i++) {
		if (rows[i].nr == LIBKV_RESUMED) {
			done++; /* test_restart has it */
			continue;
		}
		snprintf(at, sizeof(at), "%s:1", rows[i].name);
		if (EXPECT_TRUE(was_killed(run_victim(self, at, NULL, 0))) &
		    expect_recovery(self, at))
			done++;
		else
			TH_LOG("point %s", at);
		if (count[rows[i].nr] < 2)
			continue;
		snprintf(at, sizeof(at), "%s:%llu", rows[i].name,
			 (unsigned long long)(count[rows[i].nr] + 1) / 2);
		run_victim(self, at, NULL, 0);
		expect_recovery(self, at);
		twice++;
	}
	others_stop(self->o);
	TH_LOG("figure: killed at %u/%u transitions of libkv (%llu of them a second "
	       "time); %llu rounds of bystanders unchanged",
	       done, total, (unsigned long long)twice,
	       (unsigned long long)self->o->rounds);
	EXPECT_EQ(total, done);
	EXPECT_GT(self->o->rounds, 2);
}

/* SIGKILL from outside, wherever the victim is by then. */
static int run_victim_for(struct kill_self *self, unsigned int us)
{
	char bin[600];
	int status = -1;
	pid_t pid;

	snprintf(bin, sizeof(bin), "%s/selftests/libkv/kill_client",
		 test_build_dir());
	fflush(stdout);
	pid = fork();
	if (!pid) {
		execl(bin, bin, self->d.socket, NULL);
		_exit(127);
	}
	usleep(us);
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

/*
 * One kill: at a transition among the first, attach and first steps, at any
 * one, or at any time. Return: the victim did not end before.
 */
static bool kill_somewhere(struct kill_self *self, uint64_t any, uint64_t i,
			   uint64_t *seed, char *at, size_t size)
{
	uint64_t r = test_rand(seed);

	if (i % 3 == 2) {
		snprintf(at, size, "%llu us",
			 (unsigned long long)(r % VICTIM_US));
		return was_killed(run_victim_for(self, r % VICTIM_US));
	}
	snprintf(at, size, "any:%llu",
		 (unsigned long long)(1 + r % (i % 3 ? any * 9 / 10 : 200)));
	return was_killed(run_victim(self, at, NULL, 0));
}

/* @n kills, audited by the second program while the others work. */
static uint64_t kill_many(struct kill_self *self, uint64_t any, uint64_t n,
			  uint64_t *seed)
{
	uint64_t i, killed = 0, audits = 0;
	char at[64];

	/* a run may end before its point: those do not count */
	for (i = 0; killed < n && i < 2 * n; i++) {
		killed += kill_somewhere(self, any, i, seed, at, sizeof(at));
		if (!expect_recovery(self, at))
			break;
		if (i % 20 != 19)
			continue;
		if (!EXPECT_EQ(0, test_kvmd_check(&self->d)))
			break;
		audits++;
	}
	TH_LOG("%llu killed, %llu audits", (unsigned long long)killed,
	       (unsigned long long)audits);
	return killed;
}

TEST_F_TIMEOUT(kill, at_random_moments_costs_nobody_else, 1200)
{
	uint64_t seed = test_seed(), count[200] = { 0 }, any = 0;
	uint64_t n = getenv("KV_LONG") ? 10000 : 300, killed, held;

	read_counts(self, count, &any);
	ASSERT_GT(any, 100);
	others_start(self->o, &self->d);
	killed = kill_many(self, any, n / 2, &seed);
	others_stop(self->o);
	expect_nothing_held(self);
	/* and where pages are on their way to swap and back */
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
	start_kvmd(self, "256M", "64M", "64M", false);
	others_start(self->o, &self->d);
	killed += kill_many(self, any, n - n / 2, &seed);
	others_stop(self->o);
	held = test_kvmd_settle(&self->d, 0, 5000);
	TH_LOG("figure: killed at %llu random moments; %llu bytes leaked; %llu "
	       "rounds of bystanders unchanged, %llu of them short of memory, "
	       "%llu rows read",
	       (unsigned long long)killed, (unsigned long long)held,
	       (unsigned long long)self->o->rounds,
	       (unsigned long long)self->o->nr_short,
	       (unsigned long long)self->o->rows);
	EXPECT_LE(self->o->nr_short * 100, self->o->rounds);
	EXPECT_EQ(n, killed);
}

/* Points that no living client's request passes. */
static bool is_never_on_behalf(const char *name)
{
	static const char *const never[] = {
		"attach", /* the client's end: attach_hello, attach_welcome */
		"exit",
		"gone",
		"keep_exit",
		/* the disk's, or what a device does beside it: test_demote */
		"demote",
		"demoted",
		"demote_back",
		"quarantine", /* it is dead by then */
		/* a step that comes between, a read that fails: test_swap */
		"swap_back",
		"swap_lost",
		/* two tiers: test_demote, the simulator */
		"demote",
		"demoted",
		"demote_back",
		/* it would take a second each time: test_turns */
		"turn_revoke",
		/* with a successor's: test_restart */
		"adopted",
		"resumed",
	};
	size_t i;

	for (i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		if (!strcmp(never[i], name))
			return true;
	}
	/* moves come with compaction; the simulator kills there */
	return !strncmp(name, "move_", 5);
}

TEST_F_TIMEOUT(kill, at_each_transition_of_kvmd_costs_nobody_else, 300)
{
	static const char *const names[] = {
#define ROW(nr, id, name, what) name,
		KV_TRACE_POINTS(ROW)
#undef ROW
	};
	unsigned int i, try, done = 0, total = 0;
	char at[64];
	bool killed, tight, swap, revoke;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (is_never_on_behalf(names[i]))
			continue;
		total++;
		killed = false;
		EXPECT_EQ(0, test_kvmd_stop(&self->d));
		snprintf(at, sizeof(at), "%s:1", names[i]);
		setenv("KV_KILL_CLIENT_AT", at, 1);
		/* memory goes back to the system where it is all in use */
		tight = !strcmp(names[i], "release");
		swap = !strncmp(names[i], "swap", 4);
		/* what is over the limit goes at once, and who uses it */
		revoke = !strncmp(names[i], "revoke", 6);
		start_kvmd(self, tight ? "32M" : "256M", tight ? "32M" : "64M",
			   swap ? "64M" : "0", revoke);
		unsetenv("KV_KILL_CLIENT_AT");
		if (!tight)
			others_start(self->o, &self->d);
		/* who needs fresh memory when is a matter of chance */
		for (try = 0; try < 24 && !killed; try++)
			killed = was_killed(run_victim(self, NULL, NULL,
						       revoke ? 4000 : 300));
		if (killed)
			done += expect_recovery(self, at);
		else
			TH_LOG("%s: nobody was killed", names[i]);
		/* how far a revoke has to go is a matter of time, too */
		total -= !killed && revoke;
		others_stop(self->o);
		expect_nothing_held(self);
	}
	TH_LOG("figure: killed at %u/%u transitions of kvmd", done, total);
	EXPECT_EQ(total, done);
}

TEST_HARNESS_MAIN
