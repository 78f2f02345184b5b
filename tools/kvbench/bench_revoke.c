/* SPDX-License-Identifier: MIT */
/*
 * bench_revoke.c - how long memory takes to come back from one who has it
 *
 * A victim, a process of its own, holds seven eighths of a small device. This
 * one wants half of it for a space of a higher priority and waits: the time is
 * that of its reservation, until its pages can be used. The victim
 *
 *	helps	works in steps of a millisecond, gives when asked
 *	slow	works in steps of 20 ms and hears nothing: idle pages are taken
 *	hung	is stopped in a step: killed, and another one is started
 *
 * with 50 ms to give what is asked for and then 200 ms for steps to end. Of
 * what is measured 32 MiB are zeroed, as always before memory changes hands.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ASK_MS	   50
#define FENCE_MS   200
#define PER_EXTENT 16384u /* tokens, in pages of 8 KiB */
#define NR_HAVE	   7u
#define NR_WANT	   4u
#define ROUNDS_MAX 200u

enum manner { HELPS, SLOW, HUNG, NR_MANNERS };

static const char *const manner_names[] = { "helps", "slow", "hung" };
static const u32 manner_rounds[] = { ROUNDS_MAX, 60, 20 };

struct revoke_result {
	double p50, p99, max; /* ms */
	u32 rounds, killed;
};

struct victim {
	pid_t pid;
	int go, done; /* a byte: fill the device, it is filled */
};

/* ---- the victim ---- */

static void nap_us(long us)
{
	struct timespec ts = { .tv_nsec = us * 1000 };

	nanosleep(&ts, NULL);
}

static bool is_asked(struct bench_client *c)
{
	struct kv_event ev;

	while (kv_event_wait(c->kv, &ev, 0) > 0)
		if (ev.type == KV_EVENT_SHRINK)
			return true;
	return false;
}

/* One step over the last token. Return: false when the pages are gone. */
static bool victim_step(struct bench_client *c, u32 space, enum manner manner)
{
	struct kv_resv_item it = { space, 1, NR_HAVE * PER_EXTENT - 1 };
	struct kv_step *st;

	if (kv_step_prepare(c->kv, &it, 1, 0, 0, &st))
		return false;
	if (manner == HUNG)
		raise(SIGSTOP);
	nap_us(manner == SLOW ? 20000 : 1000);
	kv_step_complete(c->kv, st);
	return kv_step_commit(c->kv, st) != -ESHUTDOWN;
}

static void __attribute__((noreturn))
victim_run(const char *socket, enum manner manner, int go, int done)
{
	struct kv_resv_item it = { .nr_tokens = NR_HAVE * PER_EXTENT };
	struct bench_client c;
	struct kv_step *st;
	char x;

	if (bench_client_open(&c, socket, true))
		_exit(1);
	while (read(go, &x, 1) == 1) {
		if (kv_space_create(c.kv, &c.args, &it.space) ||
		    kv_step_prepare(c.kv, &it, 1, KV_STEP_WAIT, 10000, &st))
			_exit(1);
		kv_step_complete(c.kv, st);
		if (kv_step_commit(c.kv, st))
			_exit(1);
		while (is_asked(&c)) /* of the round before */
			;
		if (write(done, &x, 1) != 1)
			_exit(1);
		while (victim_step(&c, it.space, manner))
			if (manner == HELPS && is_asked(&c))
				break;
		kv_space_destroy(c.kv, it.space);
		if (kv_shrink(c.kv) < 0)
			_exit(1);
	}
	_exit(0);
}

static int victim_start(struct victim *v, const char *socket,
			enum manner manner)
{
	int go[2], done[2];

	if (pipe(go))
		return -errno;
	if (pipe(done)) {
		close(go[0]);
		close(go[1]);
		return -ENFILE;
	}
	fflush(NULL);
	v->pid = fork();
	if (!v->pid) {
		close(go[1]);
		victim_run(socket, manner, go[0], done[1]);
	}
	close(go[0]);
	close(done[1]);
	v->go = go[1];
	v->done = done[0];
	return v->pid < 0 ? -errno : 0;
}

static void victim_stop(struct victim *v)
{
	if (v->pid <= 0)
		return;
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
	close(v->go);
	close(v->done);
	v->pid = 0;
}

/* ---- who wants it ---- */

/* Return: seconds, or -errno. */
static double want_once(struct bench_client *c)
{
	struct kv_resv_item it = { .nr_tokens = NR_WANT * PER_EXTENT };
	struct kv_step *st;
	double t;
	int rc = kv_space_create(c->kv, &c->args, &it.space);

	if (rc)
		return rc;
	t = clock_s();
	rc = kv_step_prepare(c->kv, &it, 1, KV_STEP_WAIT, 20000, &st);
	t = clock_s() - t;
	if (!rc) {
		kv_step_complete(c->kv, st);
		rc = kv_step_commit(c->kv, st);
	}
	kv_space_destroy(c->kv, it.space);
	(void)kv_shrink(c->kv);
	return rc ? rc : t;
}

static int one_round(struct bench_client *c, struct victim *v,
		     const char *socket, enum manner manner, double *t)
{
	int rc = v->pid > 0 ? 0 : victim_start(v, socket, manner);
	int status;
	char x = 0;

	if (rc)
		return rc;
	if (write(v->go, &x, 1) != 1 || read(v->done, &x, 1) != 1)
		return -EPIPE;
	if (manner == HUNG &&
	    (waitpid(v->pid, &status, WUNTRACED) < 0 || !WIFSTOPPED(status)))
		return -EPIPE;
	*t = want_once(c);
	if (*t < 0)
		return (int)*t;
	if (manner == HUNG)
		victim_stop(v);
	return 0;
}

static u32 count_killed(const char *socket)
{
	char *json = NULL, *at;
	u32 n = 0;

	if (!kv_ctl(socket, KV_HELLO_ADMIN, "vmstat", &json) && json) {
		at = strstr(json, "\"revokes_killed\":");
		n = at ? (u32)strtoul(at + 17, NULL, 10) : 0;
	}
	free(json);
	return n;
}

static int revoke_rounds(const struct bench_opts *o, enum manner manner,
			 const char *socket, struct revoke_result *r)
{
	u32 most = o->tiny ? 2 : manner_rounds[manner], n = 0;
	static double ms[ROUNDS_MAX];
	struct victim v = { 0 };
	struct bench_client c;
	int rc = bench_client_open(&c, socket, true);

	c.args.priority = 1;
	while (!rc && n < most) {
		rc = one_round(&c, &v, socket, manner, &ms[n]);
		if (!rc)
			ms[n++] *= 1000;
	}
	victim_stop(&v);
	bench_client_close(&c);
	r->rounds = n;
	r->killed = count_killed(socket);
	r->p50 = bench_median(ms, n);
	r->p99 = bench_percentile(ms, n, 99);
	r->max = n ? ms[n - 1] : 0;
	return rc;
}

static int measure(const struct bench_opts *o, enum manner manner,
		   struct revoke_result *r, char *note, size_t len)
{
	static const char *const options[] = {
		"--size",	  "64M", "--revoke-ask", "50",
		"--revoke-fence", "200", NULL,
	};
	struct private_kvmd *d;
	char err[KV_ERRLEN];
	int rc = private_kvmd_start_with(options, &d, err);

	if (rc) {
		snprintf(note, len, "%.150s", err);
		return rc;
	}
	rc = revoke_rounds(o, manner, private_kvmd_socket(d), r);
	private_kvmd_stop(d);
	return rc;
}

/* ---- figures ---- */

static int run_manner(const struct bench_opts *o, enum manner manner,
		      struct figure_result *f)
{
	struct revoke_result r = { 0 };
	int rc = measure(o, manner, &r, f->note, sizeof(f->note));

	if (rc)
		return rc;
	f->measured = r.max;
	f->bound = manner == HELPS  ? 0
		   : manner == SLOW ? ASK_MS
				    : ASK_MS + FENCE_MS;
	if (f->bound > 0)
		snprintf(f->bound_what, sizeof(f->bound_what),
			 "the deadlines that pass before");
	snprintf(f->note, sizeof(f->note),
		 "p50 %.1f, p99 %.1f, max %.1f ms of %u; killed: %u", r.p50,
		 r.p99, r.max, r.rounds, r.killed);
	return 0;
}

static int run_helps(const struct bench_opts *o, struct figure_result *f)
{
	return run_manner(o, HELPS, f);
}

static int run_slow(const struct bench_opts *o, struct figure_result *f)
{
	return run_manner(o, SLOW, f);
}

static int run_hung(const struct bench_opts *o, struct figure_result *f)
{
	return run_manner(o, HUNG, f);
}

FIGURE(revoke_helps, .name = "revoke.helps",
       .what = "32 MiB back from a client that gives when asked, longest of "
	       "200; ask 50 ms, fence 200 ms",
       .unit = "ms", .cmp = CMP_AT_MOST, .target = 100, .run = run_helps);
FIGURE(revoke_slow, .name = "revoke.slow",
       .what = "the same from one that hears nothing, its steps take 20 ms",
       .unit = "ms", .cmp = CMP_AT_MOST, .target = ASK_MS + FENCE_MS,
       .run = run_slow);
FIGURE(revoke_hung, .name = "revoke.hung",
       .what = "the same from one that is stopped in a step, and killed",
       .unit = "ms", .cmp = CMP_AT_MOST, .target = 2 * (ASK_MS + FENCE_MS),
       .run = run_hung);

static const struct report_col revoke_cols[] = {
	{ "client", "client", 0 }, { "p50", "p50 ms", 2 },
	{ "p99", "p99 ms", 2 },	   { "max", "max ms", 2 },
	{ "rounds", "rounds", 0 }, { "killed", "killed", 0 },
};

static int run_revoke(const struct bench_opts *o, struct report *rep)
{
	enum manner m;
	int rc = 0;

	rep->cols = revoke_cols;
	rep->nr_cols = ARRAY_SIZE(revoke_cols);
	for (m = HELPS; !rc && m < NR_MANNERS; m++) {
		struct revoke_result r = { 0 };

		rc = measure(o, m, &r, rep->note, sizeof(rep->note));
		if (!rc)
			report_row(rep,
				   json_pack("{s:s, s:f, s:f, s:f, s:i, s:i}",
					     "client", manner_names[m], "p50",
					     r.p50, "p99", r.p99, "max", r.max,
					     "rounds", (int)r.rounds, "killed",
					     (int)r.killed));
	}
	return rc;
}

SUBJECT(revoke, .name = "revoke",
	.what = "memory back from clients that help, are slow or hang",
	.run = run_revoke);
