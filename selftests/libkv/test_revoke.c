/* SPDX-License-Identifier: MIT */
/* timeout: 120 */
/*
 * test_revoke.c - memory comes back from real clients that help, are slow,
 *		   idle or hang
 *
 * A victim, a process of its own, fills the device; then this one, whose
 * tenant is below its low, wants half of it and waits. How long that takes has
 * a bound, and the victim, if it lives, ends with the content that it had, or
 * would have had.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/seq.h"
#include <errno.h>
#include <signal.h>

#define ASK_MS	   200
#define PATIENT_MS 20000 /* instead, for who helps: it needs time for it */
#define FENCE_MS   3000
#define HANG_MS	   600 /* instead, for who hangs: it takes all of it */
#define LATE_MS	   20000 /* a loaded machine, a slow sanitizer */
#define PER_EXTENT 32768u /* tokens of the filling space */
#define NR_FILL	   6u
#define NR_WANT	   4u
#define STEPS	   60u /* of a victim, after which it ends */
#define ADD	   7u

enum manner { HELPS, SLOW, IDLE, HUNG };

struct victim {
	struct seqs c;
	struct seq s;
	uint32_t fill;
	bool filled, asked;
	uint32_t nr_stale, nr_lost, nr_given;
};

static void die(struct victim *v, const char *what, int rc)
{
	printf("victim: %s: %d: %s\n", what, rc, kv_error(v->c.kv));
	fflush(stdout);
	_exit(1);
}

static int fill_create(struct kv *kv, const struct seqs *c, uint32_t *space)
{
	struct kv_space_args a = c->args;

	a.nr_areas = 1;
	return kv_space_create(kv, &a, space);
}

static void fill(struct victim *v)
{
	struct kv_resv_item it = { .nr_tokens = NR_FILL * PER_EXTENT };
	struct kv_step *st;
	int rc = fill_create(v->c.kv, &v->c, &v->fill);

	it.space = v->fill;
	if (!rc)
		rc = kv_step_prepare(v->c.kv, &it, 1, KV_STEP_WAIT, 5000, &st);
	if (rc)
		die(v, "fill", rc);
	kv_step_complete(v->c.kv, st);
	rc = kv_step_commit(v->c.kv, st);
	if (rc)
		die(v, "fill", rc);
	v->filled = true;
}

/* What it was told is lost, it forgets from there on. */
static void forget_lost(struct victim *v)
{
	uint32_t space;
	uint64_t pos;

	if (!kv_step_lost(v->c.kv, &space, &pos))
		die(v, "nothing is said to be lost", 0);
	v->nr_lost++;
	if (v->filled && space == v->fill) {
		kv_space_destroy(v->c.kv, v->fill);
		v->filled = false;
		return;
	}
	if (space != v->s.space)
		die(v, "a space of nobody is lost", (int)space);
	if (seq_truncate(&v->c, &v->s, (uint32_t)pos))
		seq_truncate(&v->c, &v->s, 0);
}

/* @timeout_ms: for the first of them */
static void answer_events(struct victim *v, int timeout_ms)
{
	struct kv_event ev;

	for (; kv_event_wait(v->c.kv, &ev, timeout_ms) > 0; timeout_ms = 0) {
		if (ev.type != KV_EVENT_SHRINK)
			continue;
		v->nr_given++;
		if (v->filled)
			kv_space_destroy(v->c.kv, v->fill);
		v->filled = false;
		kv_shrink(v->c.kv);
	}
}

/*
 * Its step lasts until what it was asked for is due; at its end, before the
 * commit, kvmd takes it.
 */
static void dawdle(struct victim *v)
{
	struct kv_event ev;

	usleep(50000);
	while (!v->asked && kv_event_wait(v->c.kv, &ev, 0) > 0)
		v->asked = ev.type == KV_EVENT_SHRINK;
	if (v->asked)
		usleep(2 * ASK_MS * 1000);
}

static void await_revoke(struct victim *v)
{
	struct kv_event ev = { 0 };

	while (ev.type != KV_EVENT_REVOKE)
		if (kv_event_wait(v->c.kv, &ev, 10000) <= 0)
			die(v, "it was asked, and nothing is taken", 0);
}

/* One step over the filled space and the sequence. */
static int one_step(struct victim *v, enum manner manner)
{
	struct kv_resv_item it[2] = {
		{ v->s.space, ADD, v->s.len },
		{ v->fill, 1, NR_FILL * PER_EXTENT - 1 },
	};
	struct kv_step *st;
	int rc = kv_step_prepare(v->c.kv, it, v->filled ? 2 : 1, KV_STEP_WAIT,
				 5000, &st);

	if (rc)
		return rc;
	kv_step_run_copies(v->c.kv, st);
	seq_verify(&v->c, &v->s, v->s.len);
	seq_write(&v->c, &v->s, v->s.len, ADD, 1 + v->s.len);
	if (manner == SLOW && !v->nr_stale)
		dawdle(v);
	if (manner == HUNG)
		raise(SIGSTOP);
	seq_verify(&v->c, &v->s, v->s.len + ADD);
	kv_step_complete(v->c.kv, st);
	if (v->asked && !v->nr_stale)
		await_revoke(v);
	rc = kv_step_commit(v->c.kv, st);
	if (!rc)
		v->s.len += ADD;
	return rc;
}

static void __attribute__((noreturn))
victim(const char *socket, enum manner manner, int ready, int go)
{
	static struct victim v;
	uint32_t i, n = 0;
	char x;
	int rc;

	if (seqs_attach(&v.c, socket, "victim"))
		_exit(1);
	rc = seq_create(&v.c, &v.s);
	if (rc)
		die(&v, "create", rc);
	fill(&v);
	for (i = 0; n < STEPS && i < 10 * STEPS; i++) {
		if (manner == HELPS) /* it is asked in its midst */
			answer_events(&v, n == 4 && !v.nr_given ? 10000 : 0);
		rc = one_step(&v, n > 5 ? manner : HELPS);
		if (rc == -ENODATA)
			forget_lost(&v);
		else if (rc == -ESTALE)
			v.nr_stale++;
		else if (rc)
			die(&v, "step", rc);
		n += !rc;
		if (n != 4 || rc)
			continue;
		if (write(ready, "x", 1) != 1)
			_exit(1);
		if (manner == IDLE && read(go, &x, 1) != 1)
			_exit(1);
	}
	/* one that is dead gives all */
	if (manner == HELPS && read(go, &x, 1) != 1)
		_exit(1);
	/* the same tokens as without all this, in the same places */
	for (i = 0; i < v.s.len; i++)
		if (v.s.token[i] != 1 + i)
			die(&v, "a token", (int)i);
	if (v.c.faults || n < STEPS || v.s.len < ADD)
		die(&v, "content", (int)v.c.faults);
	printf("# victim: %u stale steps, %u times lost, asked %u times, %llu "
	       "rows\n",
	       v.nr_stale, v.nr_lost, v.nr_given,
	       (unsigned long long)v.c.checked);
	fflush(stdout);
	kv_detach(v.c.kv);
	if (manner == SLOW && (!v.nr_lost || !v.nr_stale))
		_exit(3);
	_exit(manner == IDLE && !v.nr_lost ? 4 : 0);
}

FIXTURE(revoke)
{
	struct test_kvmd d;
	struct seqs c;
	pid_t pid;
	int ready[2], go[2];
};

FIXTURE_SETUP(revoke)
{
	ASSERT_EQ(0, pipe(self->ready));
	ASSERT_EQ(0, pipe(self->go));
}

FIXTURE_TEARDOWN(revoke)
{
	if (self->pid > 0) {
		kill(self->pid, SIGKILL);
		waitpid(self->pid, NULL, 0);
	}
	kv_detach(self->c.kv);
	if (self->d.pid <= 0)
		return;
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, 5000));
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

static uint64_t counter(const struct test_kvmd *d, const char *name)
{
	char *json = test_kvmd_ctl(d, "vmstat");
	uint64_t n = ~0ull;

	if (json)
		test_json_u64(json, name, &n);
	free(json);
	return n;
}

/* A kvmd, and a victim that has filled its device. */
static void start(struct revoke_self *self, enum manner manner)
{
	char ask[16], fence[16], x;

	snprintf(ask, sizeof(ask), "%d", manner == HELPS ? PATIENT_MS : ASK_MS);
	snprintf(fence, sizeof(fence), "%d",
		 manner == HUNG ? HANG_MS : FENCE_MS);
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				     "--tenant-key", "pid", "--revoke-ask", ask,
				     "--revoke-fence", fence, NULL));
	fflush(stdout);
	self->pid = fork();
	if (!self->pid)
		victim(self->d.socket, manner, self->ready[1], self->go[0]);
	ASSERT_EQ(1, read(self->ready[0], &x, 1));
}

/* Wait for half of the device. Return: how long, in ms. */
static double want(struct revoke_self *self, enum manner manner)
{
	struct kv_resv_item it = { .nr_tokens = NR_WANT * PER_EXTENT };
	struct kv_step *st;
	char req[80];
	double t0;
	int rc;

	start(self, manner);
	ASSERT_EQ(0, seqs_attach(&self->c, self->d.socket, "wants"));
	snprintf(req, sizeof(req), "tenant limit pid:%d low=%uM", (int)getpid(),
		 8 * NR_WANT);
	free(test_kvmd_ctl(&self->d, req));
	ASSERT_EQ(0, fill_create(self->c.kv, &self->c, &it.space));
	if (manner == HUNG) /* until it is */
		while (waitpid(self->pid, &rc, WUNTRACED) == self->pid &&
		       !WIFSTOPPED(rc))
			;
	t0 = th_now();
	rc = kv_step_prepare(self->c.kv, &it, 1, KV_STEP_WAIT, 40000, &st);
	t0 = (th_now() - t0) * 1000;
	if (!EXPECT_EQ(0, rc))
		TH_LOG("%s", kv_error(self->c.kv));
	if (!rc) {
		kv_step_complete(self->c.kv, st);
		EXPECT_EQ(0, kv_step_commit(self->c.kv, st));
	}
	return t0;
}

/* The victim ends well, once there is room for it again. */
static void expect_victim_ends(struct revoke_self *self)
{
	int status = -1;

	EXPECT_EQ(1, write(self->go[1], "x", 1));
	EXPECT_EQ(self->pid, waitpid(self->pid, &status, 0));
	EXPECT_EQ(0, status);
	self->pid = 0;
}

TEST_F(revoke, who_helps_gives_it_at_once)
{
	double ms = want(self, HELPS);

	TH_LOG("figure: revoke, a client that helps: %.2f ms", ms);
	EXPECT_LT(ms, PATIENT_MS);
	expect_victim_ends(self);
	EXPECT_EQ(0, counter(&self->d, "revoke_lost"));
	EXPECT_EQ(0, counter(&self->d, "revokes_killed"));
	EXPECT_GE(counter(&self->d, "revokes_given"), 1);
}

TEST_F(revoke, who_is_slow_loses_it_within_the_bound_and_computes_it_again)
{
	double ms = want(self, SLOW);

	TH_LOG("figure: revoke, a slow client: %.2f ms of at most %d", ms,
	       ASK_MS + FENCE_MS);
	EXPECT_GE(ms, ASK_MS - 1);
	EXPECT_LE(ms, ASK_MS + FENCE_MS + LATE_MS);
	expect_victim_ends(self);
	EXPECT_GT(counter(&self->d, "revoke_lost"), 0);
	EXPECT_EQ(0, counter(&self->d, "revokes_killed"));
}

TEST_F(revoke, who_is_idle_loses_it_and_goes_on_later)
{
	double ms = want(self, IDLE);

	EXPECT_GE(ms, ASK_MS - 1);
	EXPECT_LE(ms, ASK_MS + LATE_MS);
	expect_victim_ends(self);
	EXPECT_EQ(0, counter(&self->d, "revokes_killed"));
}

TEST_F(revoke, who_hangs_is_killed_within_the_bound)
{
	double ms = want(self, HUNG);
	int status = -1;

	TH_LOG("figure: revoke, a hung client: %.2f ms of at most %d", ms,
	       ASK_MS + HANG_MS);
	EXPECT_GE(ms, ASK_MS + HANG_MS - 1);
	EXPECT_LE(ms, ASK_MS + HANG_MS + LATE_MS);
	EXPECT_EQ(self->pid, waitpid(self->pid, &status, 0));
	self->pid = 0;
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_EQ(1, counter(&self->d, "revokes_killed"));
	EXPECT_EQ(1, counter(&self->d, "kills"));
}

TEST_F(revoke, the_administrator_takes_what_min_does_not_protect)
{
	char req[80], *json;
	uint64_t n = 0;

	start(self, IDLE);
	snprintf(req, sizeof(req), "tenant limit pid:%d low=24M min=24M",
		 (int)self->pid);
	free(test_kvmd_ctl(&self->d, req));
	json = test_kvmd_ctl(&self->d, "client revoke 0 max");
	ASSERT_TRUE(json != NULL);
	EXPECT_EQ(0, test_json_u64(json, "asked_bytes", &n));
	free(json);
	EXPECT_GE(n, 32u << 20);
	EXPECT_LE(test_kvmd_settle(&self->d, 24u << 20, ASK_MS + LATE_MS), 0);
	json = test_kvmd_ctl(&self->d, "client list");
	ASSERT_TRUE(json != NULL);
	EXPECT_EQ(0, test_json_u64(json, "held_bytes", &n));
	free(json);
	EXPECT_EQ(n, 24u << 20);
	ASSERT_EQ(0, seqs_attach(&self->c, self->d.socket, "looks"));
	expect_victim_ends(self);
}

TEST_HARNESS_MAIN
