/* SPDX-License-Identifier: MIT */
/* timeout: 240 */
/*
 * test_turns.c - processes that compute by turns, and what ends a turn
 *
 * Actors: processes with a client each that do what they are told over a pipe
 * and answer. So a test says in which order things happen, whatever the
 * machine's speed; nothing is judged by the time that it took.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include <kv.h>
#include <sched.h>

#define NR_ACTORS 3
#define NOT_YET	  99 /* no answer so far */
#define SOON_MS	  30000 /* an answer that has to come has come by then */

struct actor {
	pid_t pid;
	int to, from; /* our ends */
};

FIXTURE(turns)
{
	struct test_kvmd d;
	struct actor a[NR_ACTORS];
};

static void start(struct turns_self *self, const char *option)
{
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--tenant-key", "pid", option, NULL));
}

FIXTURE_SETUP(turns)
{
	start(self, NULL);
}

FIXTURE_TEARDOWN(turns)
{
	int i;

	for (i = 0; i < NR_ACTORS; i++)
		if (self->a[i].pid > 0) {
			kill(self->a[i].pid, SIGKILL);
			waitpid(self->a[i].pid, NULL, 0);
		}
	if (self->d.pid > 0)
		EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/* ---- actors ---- */

static void pin(unsigned int cpus)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < 8; i++)
		if (cpus & (1u << i))
			CPU_SET(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/*
 * b: begin, e: end, p: pass, t: begin with little time, a digit: processors,
 * as bits. The answer is the call's.
 */
static void __attribute__((noreturn)) act(const char *socket, int in, int out)
{
	struct kv_attach_opts o = { .sz = sizeof(o), .socket = socket };
	signed char answer;
	struct kv *kv;
	char what;

	if (kv_attach(&o, &kv))
		_exit(1);
	while (read(in, &what, 1) == 1) {
		answer = 0;
		if (what == 'b')
			answer = (signed char)kv_turn_begin(kv, -1);
		else if (what == 't')
			answer = (signed char)kv_turn_begin(kv, 20);
		else if (what == 'e')
			kv_turn_end(kv);
		else if (what == 'p')
			kv_turn_pass(kv);
		else
			pin((unsigned int)(what - '0'));
		if (write(out, &answer, 1) != 1)
			break;
	}
	_exit(0);
}

static void actor_start(struct turns_self *self, int i)
{
	struct actor *a = &self->a[i];
	int to[2], from[2];

	ASSERT_EQ(0, pipe2(to, O_CLOEXEC));
	ASSERT_EQ(0, pipe2(from, O_CLOEXEC));
	fflush(stdout);
	a->pid = fork();
	if (!a->pid) {
		close(to[1]);
		close(from[0]);
		act(self->d.socket, to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	a->to = to[1];
	a->from = from[0];
}

static void tell(struct turns_self *self, int i, char what)
{
	ASSERT_EQ(1, write(self->a[i].to, &what, 1));
}

static int hear(struct turns_self *self, int i, int ms)
{
	struct pollfd p = { .fd = self->a[i].from, .events = POLLIN };
	signed char answer;

	if (poll(&p, 1, ms) <= 0 || read(p.fd, &answer, 1) != 1)
		return NOT_YET;
	return answer;
}

/* Tell, and wait for the answer. */
static int doing(struct turns_self *self, int i, char what)
{
	tell(self, i, what);
	return hear(self, i, SOON_MS);
}

static void start_two(struct turns_self *self)
{
	actor_start(self, 0);
	actor_start(self, 1);
}

/* What kvctl shows of an actor's turn. */
static bool shows(struct turns_self *self, int i, const char *turn)
{
	char key[40], want[40], *json = test_kvmd_ctl(&self->d, "client list");
	const char *at, *state;
	bool yes;

	snprintf(key, sizeof(key), "\"pid\":%d,", (int)self->a[i].pid);
	snprintf(want, sizeof(want), "\"turn\":\"%s\"", turn);
	at = json ? strstr(json, key) : NULL;
	state = at ? strstr(at, "\"turn\":") : NULL;
	yes = state && !strncmp(state, want, strlen(want));
	free(json);
	return yes;
}

static bool soon_shows(struct turns_self *self, int i, const char *turn)
{
	double end = th_now() + SOON_MS / 1000;

	while (th_now() < end) {
		if (shows(self, i, turn))
			return true;
		usleep(1000);
	}
	return false;
}

/* Actor 0 computes, actor 1 waits for that. */
static void one_computes_one_waits(struct turns_self *self)
{
	start_two(self);
	ASSERT_EQ(1, doing(self, 0, 'b'));
	tell(self, 1, 'b');
	ASSERT_TRUE(soon_shows(self, 1, "waits"));
	ASSERT_TRUE(shows(self, 0, "has"));
}

/* ---- who is alone ---- */

TEST_F(turns, one_alone_asks_once_and_makes_no_call_afterwards)
{
	struct kv_attach_opts o = { .sz = sizeof(o), .socket = self->d.socket };
	struct kv_counters before, after;
	struct kv *kv;
	int i;

	ASSERT_EQ(0, kv_attach(&o, &kv));
	EXPECT_EQ(1, kv_turn_begin(kv, -1));
	kv_turn_end(kv);
	kv_counters_get(kv, &before);
	EXPECT_EQ(1, before.turns_asked);
	for (i = 0; i < 10000; i++) {
		EXPECT_EQ(1, kv_turn_begin(kv, -1));
		kv_turn_end(kv);
	}
	kv_turn_pass(kv);
	EXPECT_EQ(1, kv_turn_begin(kv, -1));
	kv_turn_end(kv);
	kv_counters_get(kv, &after);
	EXPECT_EQ(0, memcmp(&before, &after, sizeof(before)));
	EXPECT_EQ(10002, test_kvmd_u64(&self->d, "client list", "steps"));
	EXPECT_EQ(1, test_kvmd_u64(&self->d, "vmstat", "turns"));
	kv_detach(kv);
}

TEST_F(turns, clients_on_other_processors_compute_at_the_same_time)
{
	cpu_set_t set;

	sched_getaffinity(0, sizeof(set), &set);
	if (!CPU_ISSET(0, &set) || !CPU_ISSET(1, &set))
		SKIP("processors 0 and 1 are needed");
	start_two(self);
	ASSERT_EQ(0, doing(self, 0, '1'));
	ASSERT_EQ(0, doing(self, 1, '2'));
	EXPECT_EQ(1, doing(self, 0, 'b'));
	EXPECT_EQ(1, doing(self, 1, 'b'));
	/* now they meet: kvmd looks at that now and then */
	ASSERT_EQ(0, doing(self, 0, 'e'));
	ASSERT_EQ(0, doing(self, 1, 'e'));
	ASSERT_EQ(0, doing(self, 0, '3'));
	EXPECT_TRUE(soon_shows(self, 0, "idle") || shows(self, 1, "idle"));
	ASSERT_EQ(1, doing(self, 0, 'b'));
	tell(self, 1, 'b');
	EXPECT_TRUE(soon_shows(self, 1, "waits"));
	EXPECT_EQ(0, doing(self, 0, 'e'));
	EXPECT_EQ(1, hear(self, 1, SOON_MS));
}

TEST_F(turns, where_kvmd_has_none_all_compute_at_the_same_time)
{
	ASSERT_EQ(0, test_kvmd_stop(&self->d));
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--turns", "off", NULL));
	start_two(self);
	EXPECT_EQ(1, doing(self, 0, 'b'));
	EXPECT_EQ(1, doing(self, 1, 'b'));
}

/* ---- one after the other ---- */

TEST_F(turns, one_computes_when_the_other_has_ended)
{
	one_computes_one_waits(self);
	EXPECT_EQ(0, doing(self, 0, 'e'));
	EXPECT_EQ(1, hear(self, 1, SOON_MS));
	EXPECT_TRUE(shows(self, 1, "has"));
	EXPECT_FALSE(shows(self, 0, "has"));
	/* and back */
	tell(self, 0, 'b');
	ASSERT_TRUE(soon_shows(self, 0, "waits"));
	EXPECT_EQ(0, doing(self, 1, 'e'));
	EXPECT_EQ(1, hear(self, 0, SOON_MS));
}

TEST_F(turns, a_turn_that_is_not_used_goes_to_who_waits)
{
	start_two(self);
	/* between two steps */
	ASSERT_EQ(1, doing(self, 0, 'b'));
	ASSERT_EQ(0, doing(self, 0, 'e'));
	EXPECT_EQ(1, doing(self, 1, 'b'));
	ASSERT_EQ(0, doing(self, 1, 'e'));
	/* and one that has said that none comes */
	ASSERT_EQ(1, doing(self, 0, 'b'));
	ASSERT_EQ(0, doing(self, 0, 'e'));
	ASSERT_EQ(0, doing(self, 0, 'p'));
	EXPECT_EQ(1, doing(self, 1, 'b'));
}

TEST_F(turns, who_has_waited_long_enough_computes_beside)
{
	one_computes_one_waits(self);
	actor_start(self, 2);
	EXPECT_EQ(0, doing(self, 2, 't'));
	EXPECT_FALSE(shows(self, 2, "waits"));
	EXPECT_EQ(0, doing(self, 2, 'e'));
	EXPECT_EQ(0, doing(self, 0, 'e'));
	EXPECT_EQ(1, hear(self, 1, SOON_MS));
	EXPECT_EQ(0, doing(self, 1, 'e'));
	EXPECT_EQ(1, doing(self, 2, 'b'));
}

/* Steps of many, none of them beside another. */
TEST_F(turns, of_several_never_two_compute)
{
	struct {
		_Atomic int inside, twice, done;
	} *sh = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kv_attach_opts o = { .sz = sizeof(o), .socket = self->d.socket };
	struct kv *kv;
	pid_t pid[4];
	int i, k;

	for (i = 0; i < 4; i++) {
		fflush(stdout);
		pid[i] = fork();
		if (pid[i])
			continue;
		if (kv_attach(&o, &kv))
			_exit(1);
		for (k = 0; k < 60; k++) {
			if (kv_turn_begin(kv, -1) != 1)
				_exit(2);
			sh->twice += sh->inside++ != 0;
			usleep(500u * (unsigned int)(i + 1));
			sh->inside--;
			kv_turn_end(kv);
			sh->done++;
			if (k % 8 == 7)
				usleep(2000);
		}
		kv_detach(kv);
		_exit(0);
	}
	for (i = 0; i < 4; i++) {
		int status = -1;

		EXPECT_EQ(pid[i], waitpid(pid[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(240, sh->done);
	EXPECT_EQ(0, sh->twice);
}

/* ---- who ends or stops ---- */

TEST_F(turns, a_holder_that_is_killed_leaves_the_turn)
{
	one_computes_one_waits(self);
	kill(self->a[0].pid, SIGKILL);
	EXPECT_EQ(1, hear(self, 1, SOON_MS));
}

TEST_F(turns, a_holder_that_stops_loses_the_turn_and_goes_on_later)
{
	one_computes_one_waits(self);
	kill(self->a[0].pid, SIGSTOP);
	EXPECT_EQ(1, hear(self, 1, SOON_MS));
	EXPECT_EQ(1, test_kvmd_u64(&self->d, "vmstat", "turn_revokes"));
	kill(self->a[0].pid, SIGCONT);
	EXPECT_EQ(0, doing(self, 0, 'e'));
	tell(self, 0, 'b');
	ASSERT_TRUE(soon_shows(self, 0, "waits"));
	EXPECT_EQ(0, doing(self, 1, 'e'));
	EXPECT_EQ(1, hear(self, 0, SOON_MS));
}

TEST_F(turns, one_that_stops_between_steps_is_not_waited_for)
{
	start_two(self);
	ASSERT_EQ(1, doing(self, 0, 'b'));
	ASSERT_EQ(0, doing(self, 0, 'e'));
	kill(self->a[0].pid, SIGSTOP);
	EXPECT_EQ(1, doing(self, 1, 'b'));
	kill(self->a[0].pid, SIGCONT);
}

TEST_F(turns, a_waiter_that_stops_is_passed_over_and_asks_again)
{
	one_computes_one_waits(self);
	actor_start(self, 2);
	tell(self, 2, 'b');
	ASSERT_TRUE(soon_shows(self, 2, "waits"));
	kill(self->a[1].pid, SIGSTOP);
	kill(self->a[2].pid, SIGSTOP);
	EXPECT_EQ(0, doing(self, 0, 'e'));
	/* both are granted it in turn, and do not take it while 0 waits */
	EXPECT_EQ(1, doing(self, 0, 'b'));
	kill(self->a[1].pid, SIGCONT);
	kill(self->a[2].pid, SIGCONT);
	EXPECT_EQ(0, doing(self, 0, 'e'));
	EXPECT_EQ(0, doing(self, 0, 'p'));
	if (hear(self, 1, 0) == NOT_YET)
		EXPECT_EQ(1, hear(self, 2, SOON_MS));
}

TEST_F(turns, whoever_waits_hears_that_kvmd_has_gone)
{
	one_computes_one_waits(self);
	test_kvmd_kill(&self->d);
	self->d.pid = 0;
	EXPECT_EQ(-ESHUTDOWN, hear(self, 1, SOON_MS));
}

TEST_F(turns, a_kvmd_that_is_killed_keeps_nobody_waiting)
{
	uint64_t seed = test_seed();
	int i, has = 0;

	ASSERT_EQ(0, test_kvmd_stop(&self->d));
	start(self, "--keeper");
	one_computes_one_waits(self);
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, test_kvmd_kill_kept(&self->d));
		usleep((useconds_t)(test_rand(&seed) % 30000));
		EXPECT_EQ(0, doing(self, has, 'e'));
		ASSERT_EQ(1, hear(self, !has, SOON_MS));
		tell(self, has, 'b');
		ASSERT_TRUE(soon_shows(self, has, "waits"));
		has = !has;
	}
	EXPECT_LE(20, test_kvmd_u64(&self->d, "status", "restarts"));
}

/* At the points of a turn: what is only half done then. */
TEST_F_TIMEOUT(turns, a_kvmd_that_is_killed_in_passing_the_turn_on_loses_none,
	       120)
{
	static const char *const points[] = { "turn_begin", "turn_end",
					      "turn_revoke", "ring_commit" };
	unsigned int i, n;
	char at[40];

	for (i = 0; i < sizeof(points) / sizeof(points[0]); i++)
		for (n = 2; n < 4; n++) {
			ASSERT_EQ(0, test_kvmd_stop(&self->d));
			snprintf(at, sizeof(at), "%s:%u", points[i],
				 i == 1	  ? n - 1
				 : i == 2 ? 1
					  : n);
			setenv("KV_KILL_AT", at, 1);
			start(self, "--keeper");
			unsetenv("KV_KILL_AT");
			start_two(self);
			ASSERT_EQ(1, doing(self, 0, 'b'));
			tell(self, 1, 'b');
			if (i == 2)
				kill(self->a[0].pid, SIGSTOP);
			else
				ASSERT_EQ(0, doing(self, 0, 'e'));
			EXPECT_EQ(1, hear(self, 1, SOON_MS));
			kill(self->a[0].pid, SIGCONT);
			tell(self, 0, i == 2 ? 'e' : 'b');
			EXPECT_EQ(0, doing(self, 1, 'e'));
			EXPECT_LE(0, hear(self, 0, SOON_MS));
			EXPECT_LE(1, test_kvmd_u64(&self->d, "status",
						   "restarts"));
			kill(self->a[0].pid, SIGKILL);
			kill(self->a[1].pid, SIGKILL);
			waitpid(self->a[0].pid, NULL, 0);
			waitpid(self->a[1].pid, NULL, 0);
			self->a[0].pid = self->a[1].pid = 0;
		}
}

TEST_HARNESS_MAIN
