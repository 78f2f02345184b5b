/* SPDX-License-Identifier: MIT */
/*
 * bench_neighbour.c - what a tenant notices of a greedy neighbour
 *
 * Two tenants, a process and a CPU each, on one device:
 *
 *	protected	has a min. Serves requests: a prompt of a few hot ones,
 *			of which its page cache has most, then a few tokens. A
 *			step computes the same every time
 *	aggressor	has a max, its share. Steps over its sequences in turn,
 *			which also compute the same every time, and pages
 *			those in that are out. Its sequences are 0.75 or 10
 *			times its share
 *
 * The aggressor changes between the two every window. What the protected one
 * sees is compared: the 99th percentile of its steps, everything in them, and
 * the share of its prompts' tokens that were in its cache; medians over the
 * windows. The aggressor computes as long in both: it is the paging that is
 * measured, not the CPU that it would take anyhow. Where kvmd's threads run is
 * kvmd's to decide: it may use both CPUs, and what it takes of the protected
 * one's shows.
 *
 * A window in which others than these took CPUs, as /proc/stat says, is run
 * again.
 *
 * Meanwhile the books are looked at: neither may the protected one fall below
 * its min, once there, or have a page in swap, nor the aggressor be above its
 * max, ever.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEVICE	  "224M"
#define SWAP	  "1400M"
#define MIN_BYTES (80ull << 20) /* of the protected one */
#define LOW_BYTES (120ull << 20)
#define OWN_BYTES (136ull << 20) /* its max */
#define MAX_BYTES (104ull << 20) /* of the aggressor */

#define PROMPT	    256u
#define ANSWER	    32u
#define PROMPTS	    20u /* that come again */
#define BATCH	    8u
#define AGGR_TOKENS 448u /* of a sequence of the aggressor */
#define AGGR_BATCH  2u
#define AGGR_MOST   160u /* sequences */
#define WORK	    480000u /* rounds of multiplications of a step */

#define WINDOWS	  12u /* of each */
#define MOST_S	  200.0 /* for all of them */
#define FOREIGN	  0.04 /* of the CPUs, by others: the window does not count */
#define WINDOW_S  2.0
#define SETTLE_S  0.5 /* at the start of one, not measured */
#define STEPS_MAX 4000u

enum side { INSIDE, TENFOLD, NR_SIDES };

struct window {
	u32 nr; /* steps */
	double ms[STEPS_MAX];
	u64 asked, hit; /* tokens of prompts */
};

/* Between the processes. */
struct shared {
	volatile int side; /* the aggressor's; -1: end */
	volatile int window; /* the protected one's; -1: not measured */
	volatile int ready; /* processes that have begun */
	volatile u64 steps[NR_SIDES]; /* of the aggressor */
	struct window win[NR_SIDES][WINDOWS];
};

struct neighbour_result {
	double p99[NR_SIDES], p50[NR_SIDES], hit[NR_SIDES];
	double p99_ratio, hit_diff; /* diff in points */
	u64 below_min, above_max, swapped, looks, least;
	u32 windows, disturbed;
	u64 swap_in, aggr_steps[NR_SIDES];
	bool checked;
};

/* ---- what both do ---- */

static void pin(u32 cpu)
{
	cpu_set_t have, set;
	u32 i, n = 0;

	if (sched_getaffinity(0, sizeof(have), &have))
		return;
	for (i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &have) || n++ != cpu)
			continue;
		CPU_ZERO(&set);
		CPU_SET(i, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
}

static double sink;

/* Multiplications as a network's, on what fits the first cache. */
static void work(u32 rounds)
{
	static float a[2048], b[2048];
	u32 i, k;

	for (i = 0; i < rounds / 64; i++)
		for (k = 0; k < ARRAY_SIZE(a); k++)
			a[k] = a[k] * 0.999f + b[k] + (float)i;
	sink += (double)a[rounds % ARRAY_SIZE(a)];
}

/* Reads a share of the pages of a prepared step. */
static void read_pages(const struct bench_client *c, u32 space, u32 tokens)
{
	const u32 *t = kv_space_table(c->kv, space, 0);
	const char *base = kv_base(c->kv);
	u64 sum = 0;
	u32 p, k;

	for (p = 0; p < tokens / 16; p++)
		for (k = 0; k < 16384; k += 64)
			sum += *(const u64 *)(base + (u64)t[p] * 16384 + k);
	sink += (double)sum;
}

/* ---- the protected one ---- */

struct serving {
	struct bench_client c;
	struct bench_rng rng;
	u32 space[BATCH], len[BATCH], prompt[BATCH];
	u32 ids[PROMPTS + 1][PROMPT + ANSWER];
};

static int begin_request(struct serving *s, u32 i, struct window *w)
{
	double u = bench_uniform(&s->rng);
	u32 which = (u32)(u * u * PROMPTS); /* some come more often */
	u64 len = 0;
	int rc;

	rc = kv_space_create(s->c.kv, &s->c.args, &s->space[i]);
	if (rc)
		return rc;
	s->prompt[i] = which;
	rc = kv_prefix_map(s->c.kv, s->space[i], s->ids[which], PROMPT - 1,
			   &len);
	if (rc)
		return rc;
	s->len[i] = (u32)len;
	w->asked += PROMPT - 1;
	w->hit += len;
	return 0;
}

/* One step of all; requests that have ended make room for others. */
static int serve_step(struct serving *s, struct window *w)
{
	struct kv_resv_item it[BATCH];
	struct kv_step *st;
	u64 len;
	u32 i;
	int rc = 0;

	for (i = 0; !rc && i < BATCH; i++) {
		if (s->len[i] >= PROMPT + ANSWER) {
			kv_space_destroy(s->c.kv, s->space[i]);
			rc = begin_request(s, i, w);
		}
		it[i] = (struct kv_resv_item){
			.space = s->space[i],
			.pos = s->len[i],
			.nr_tokens = s->len[i] < PROMPT ? PROMPT - s->len[i]
							: 1,
		};
	}
	if (!rc)
		rc = kv_step_prepare(s->c.kv, it, BATCH, KV_STEP_WAIT, 10000,
				     &st);
	if (rc)
		return rc;
	kv_step_run_copies(s->c.kv, st);
	for (i = 0; i < BATCH; i++)
		read_pages(&s->c, s->space[i], s->len[i]);
	work(WORK);
	kv_step_complete(s->c.kv, st);
	rc = kv_step_commit(s->c.kv, st);
	for (i = 0; !rc && i < BATCH; i++) {
		s->len[i] += it[i].nr_tokens;
		if (s->len[i] == PROMPT)
			(void)kv_prefix_publish(s->c.kv, s->space[i],
						s->ids[s->prompt[i]], PROMPT,
						KV_PUBLISH_RESUME, &len);
	}
	return rc;
}

static void __attribute__((noreturn))
serve(const char *socket, struct shared *sh, u64 seed)
{
	static struct serving s;
	static struct window rest;
	struct window *w;
	double from;
	u32 i, k;
	int at, rc;

	pin(0);
	s.rng.s = seed;
	rc = bench_client_open(&s.c, socket, false);
	for (i = 0; i < PROMPTS; i++)
		for (k = 0; k < PROMPT; k++)
			s.ids[i][k] = i * 1000 + k;
	for (i = 0; !rc && i < BATCH; i++)
		rc = begin_request(&s, i, &rest);
	while (!rc && sh->side >= 0) {
		at = sh->window;
		w = at < 0 ? &rest : &sh->win[sh->side][at];
		from = clock_s();
		rc = serve_step(&s, w);
		if (at >= 0 && w->nr < STEPS_MAX)
			w->ms[w->nr++] = (clock_s() - from) * 1e3;
		if (sh->ready == 0)
			sh->ready = 1;
	}
	_exit(rc ? 1 : 0);
}

/* ---- the aggressor ---- */

static int aggr_step(struct bench_client *c, const u32 *space, u32 *len)
{
	struct kv_resv_item it[AGGR_BATCH];
	struct kv_step *st;
	u32 i;
	int rc;

	for (i = 0; i < AGGR_BATCH; i++)
		it[i] = (struct kv_resv_item){
			.space = space[i],
			.pos = len[i] ? len[i] - 1 : 0,
			.nr_tokens = len[i] ? 1 : AGGR_TOKENS,
		};
	rc = kv_step_prepare(c->kv, it, AGGR_BATCH, KV_STEP_WAIT, 10000, &st);
	if (rc)
		return rc;
	kv_step_run_copies(c->kv, st);
	for (i = 0; i < AGGR_BATCH; i++)
		read_pages(c, space[i], len[i]);
	work(WORK);
	kv_step_complete(c->kv, st);
	rc = kv_step_commit(c->kv, st);
	for (i = 0; i < AGGR_BATCH; i++)
		len[i] = AGGR_TOKENS;
	return rc;
}

static void __attribute__((noreturn))
press(const char *socket, struct shared *sh, u32 inside, u32 tenfold)
{
	static u32 space[AGGR_MOST], len[AGGR_MOST];
	struct bench_client c;
	u32 i = 0, k, nr;
	int rc, side;

	pin(1);
	rc = bench_client_open(&c, socket, false);
	for (k = 0; !rc && k < tenfold; k++)
		rc = kv_space_create(c.kv, &c.args, &space[k]);
	while (!rc && sh->side >= 0) {
		side = sh->side;
		nr = side == TENFOLD ? tenfold : inside;
		i = (i + AGGR_BATCH) % (nr - nr % AGGR_BATCH);
		rc = aggr_step(&c, space + i, len + i);
		sh->steps[max(side, 0)]++;
		if (sh->ready == 1)
			sh->ready = 2;
	}
	_exit(rc ? 1 : 0);
}

/* ---- who looks on ---- */

static void nap(double s)
{
	struct timespec ts = { .tv_sec = (time_t)s,
			       .tv_nsec = (long)((s - (time_t)s) * 1e9) };

	nanosleep(&ts, NULL);
}

static u64 number(const json_t *t, const char *key)
{
	return (u64)json_integer_value(json_object_get(t, key));
}

static json_t *ask(const char *socket, const char *what)
{
	char *json = NULL;
	json_t *v = NULL;

	if (!kv_ctl(socket, KV_HELLO_ADMIN, what, &json) && json)
		v = json_loads(json, 0, NULL);
	free(json);
	return v;
}

static void look(const char *socket, const char *own, const char *other,
		 struct neighbour_result *r)
{
	json_t *v = ask(socket, "tenant list"), *t;
	size_t i;

	json_array_foreach(json_object_get(v, "tenants"), i, t)
	{
		const char *name =
			json_string_value(json_object_get(t, "tenant"));

		if (name && !strcmp(name, own)) {
			r->below_min += number(t, "held_bytes") +
						number(t, "charged_bytes") <
					MIN_BYTES;
			r->swapped += number(t, "swap_bytes") > 0;
			if (!r->looks++ || number(t, "held_bytes") < r->least)
				r->least = number(t, "held_bytes");
		} else if (name && !strcmp(name, other)) {
			r->above_max += max(number(t, "held_bytes"),
					    number(t, "max_seen_bytes")) >
					MAX_BYTES;
		}
	}
	json_decref(v);
}

static int limit(const char *socket, pid_t pid, u64 min, u64 max)
{
	char what[160], *json = NULL;
	int rc;

	snprintf(what, sizeof(what),
		 "tenant limit pid:%d max=%llu low=%llu min=%llu", (int)pid,
		 (unsigned long long)max,
		 (unsigned long long)(min ? LOW_BYTES : 0),
		 (unsigned long long)min);
	rc = kv_ctl(socket, KV_HELLO_ADMIN, what, &json);
	free(json);
	return rc;
}

/* A process that waits until its limits are set. */
static pid_t start(const char *socket, struct shared *sh, bool serves, u64 seed,
		   u32 inside, u32 tenfold)
{
	int go[2];
	char x = 0;
	pid_t pid;

	if (pipe(go))
		return -1;
	fflush(NULL);
	pid = fork();
	if (!pid) {
		if (read(go[0], &x, 1) != 1)
			_exit(1);
		if (serves)
			serve(socket, sh, seed);
		press(socket, sh, inside, tenfold);
	}
	if (pid > 0 && (limit(socket, pid, serves ? MIN_BYTES : 0,
			      serves ? OWN_BYTES : MAX_BYTES) ||
			write(go[1], &x, 1) != 1)) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(go[0]);
	close(go[1]);
	return pid;
}

static bool has_ended(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) != 0;
}

/* ---- who else takes CPUs ---- */

struct watched {
	const char *socket;
	char name[2][32]; /* tenants */
	pid_t pid[4]; /* of all that belong to the measurement */
};

/* Ticks that a process has run. */
static double ticks_of(pid_t pid)
{
	unsigned long user = 0, system = 0;
	char path[32], line[512] = "", *at;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	if (!f)
		return 0;
	if (fgets(line, sizeof(line), f) && (at = strrchr(line, ')')))
		(void)sscanf(at,
			     ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
			     "%lu %lu",
			     &user, &system);
	fclose(f);
	return (double)(user + system);
}

/* Ticks of all CPUs that nobody of ours had; *@all: with ours and idle ones. */
static double foreign_ticks(const struct watched *w, double *all)
{
	unsigned long t[8] = { 0 };
	double busy;
	FILE *f = fopen("/proc/stat", "r");
	u32 i;

	*all = 0;
	if (!f)
		return 0;
	(void)fscanf(f, "cpu %lu %lu %lu %lu %lu %lu %lu %lu", &t[0], &t[1],
		     &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]);
	fclose(f);
	for (i = 0; i < 8; i++)
		*all += (double)t[i];
	busy = *all - (double)(t[3] + t[4]); /* idle, waiting for a disk */
	for (i = 0; i < ARRAY_SIZE(w->pid); i++)
		busy -= ticks_of(w->pid[i]);
	return busy;
}

/* ---- the windows ---- */

static int one_window(struct shared *sh, const struct watched *w, u32 at,
		      enum side side, double length, struct neighbour_result *r,
		      bool *disturbed)
{
	double foreign, all, before_all, before, until;
	u32 i;

	memset(&sh->win[side][at], 0, sizeof(sh->win[side][at]));
	sh->side = (int)side;
	nap(min(length, SETTLE_S));
	before = foreign_ticks(w, &before_all);
	sh->window = (int)at;
	until = clock_s() + length;
	while (clock_s() < until) {
		look(w->socket, w->name[0], w->name[1], r);
		nap(0.05);
	}
	sh->window = -1;
	nap(0.05); /* its last step */
	foreign = foreign_ticks(w, &all) - before;
	*disturbed = foreign > FOREIGN * (all - before_all);
	for (i = 0; i < 2; i++)
		if (has_ended(w->pid[i]))
			return -ECHILD;
	return 0;
}

static int all_windows(const struct bench_opts *o, struct shared *sh,
		       const struct watched *w, struct neighbour_result *r)
{
	double length = o->tiny ? 0.2 : WINDOW_S, from = clock_s();
	u32 most = o->tiny ? 1 : WINDOWS, nr[NR_SIDES] = { 0, 0 };
	enum side side = INSIDE;
	bool disturbed;
	int rc = 0;

	while (!rc && nr[TENFOLD] < most) {
		rc = one_window(sh, w, nr[side], side, length, r, &disturbed);
		r->disturbed += disturbed;
		if (disturbed && clock_s() - from < MOST_S && !o->tiny)
			continue;
		nr[side]++;
		side = side == INSIDE ? TENFOLD : INSIDE;
		if (clock_s() - from > MOST_S)
			most = min(most, max(nr[INSIDE], 1u));
	}
	r->windows = nr[TENFOLD];
	return rc;
}

/* Until the cache is warm and the aggressor has written all it has. */
static int warm_up(const struct bench_opts *o, struct shared *sh,
		   const pid_t pid[2])
{
	double until = clock_s() + (o->tiny ? 3 : 8);

	sh->side = TENFOLD;
	while (clock_s() < until || sh->ready < 2) {
		nap(0.05);
		if (has_ended(pid[0]) || has_ended(pid[1]) ||
		    clock_s() > until + 20)
			return -ECHILD;
	}
	return 0;
}

static void evaluate(struct shared *sh, struct neighbour_result *r)
{
	double p99[WINDOWS], p50[WINDOWS], hit[WINDOWS];
	u32 windows = r->windows, i;
	enum side side;

	for (side = INSIDE; side < NR_SIDES; side++) {
		for (i = 0; i < windows; i++) {
			struct window *w = &sh->win[side][i];

			p99[i] = bench_percentile(w->ms, w->nr, 99);
			p50[i] = bench_percentile(w->ms, w->nr, 50);
			hit[i] = w->asked ? (double)w->hit / (double)w->asked
					  : 0;
		}
		r->p99[side] = bench_median(p99, windows);
		r->p50[side] = bench_median(p50, windows);
		r->hit[side] = bench_median(hit, windows);
		r->aggr_steps[side] = sh->steps[side];
	}
	r->p99_ratio = r->p99[TENFOLD] / r->p99[INSIDE];
	r->hit_diff = 100 * (r->hit[INSIDE] - r->hit[TENFOLD]);
}

static int measure(const struct bench_opts *o, struct neighbour_result *r,
		   char *err)
{
	static const char *const options[] = {
		"--size",	DEVICE, "--swap-ram", SWAP,
		"--tenant-key", "pid",	NULL,
	};
	u32 share = (u32)(MAX_BYTES / (AGGR_TOKENS * (18ull << 10)));
	u32 inside = share * 3 / 4, tenfold = min(share * 10, AGGR_MOST), i;
	struct private_kvmd *d;
	struct watched w = { 0 };
	struct shared *sh;
	pid_t pid[2] = { -1, -1 };
	json_t *v;
	int rc = private_kvmd_start_with(options, &d, err);

	if (rc)
		return rc;
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE,
		  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sh->window = -1;
	for (i = 0; i < 2; i++)
		pid[i] = start(private_kvmd_socket(d), sh, !i, o->seed, inside,
			       o->tiny ? inside * 2 : tenfold);
	w.socket = private_kvmd_socket(d);
	for (i = 0; i < 2; i++) {
		w.pid[i] = pid[i];
		snprintf(w.name[i], sizeof(w.name[i]), "pid:%d", (int)pid[i]);
	}
	w.pid[2] = getpid();
	w.pid[3] = (pid_t)bench_ask_number(w.socket, "status", "\"pid\":");
	rc = pid[0] < 0 || pid[1] < 0 ? -ECHILD : warm_up(o, sh, pid);
	if (!rc)
		rc = all_windows(o, sh, &w, r);
	if (rc)
		err_set(err, rc, "a tenant's process has ended");
	else
		evaluate(sh, r);
	r->swap_in = bench_ask_number(w.socket, "vmstat", "\"swap_in\":");
	v = ask(private_kvmd_socket(d), "check");
	r->checked = json_is_true(json_object_get(v, "ok"));
	json_decref(v);
	sh->side = -1;
	for (i = 0; i < 2; i++)
		if (pid[i] > 0) {
			kill(pid[i], SIGKILL);
			waitpid(pid[i], NULL, 0);
		}
	munmap(sh, sizeof(*sh));
	private_kvmd_stop(d);
	return rc;
}

/* ---- figures ---- */

static int neighbour(const struct bench_opts *o, struct neighbour_result *r,
		     char *note)
{
	static struct neighbour_result memo;
	static bool have;
	char err[KV_ERRLEN] = "";
	int rc = 0;

	if (!have)
		rc = measure(o, &memo, err);
	if (rc) {
		snprintf(note, FIGURE_NOTE, "%.150s", err);
		return rc;
	}
	have = true;
	*r = memo;
	return 0;
}

static int run_p99(const struct bench_opts *o, struct figure_result *f)
{
	struct neighbour_result r;
	int rc = neighbour(o, &r, f->note);

	if (rc)
		return rc;
	f->measured = r.p99_ratio;
	snprintf(f->note, sizeof(f->note),
		 "p99 %.2f ms, %.2f inside; p50 %.2f, %.2f; %u windows, %u "
		 "disturbed; aggressor's steps %llu, %llu; %llu pages in",
		 r.p99[TENFOLD], r.p99[INSIDE], r.p50[TENFOLD], r.p50[INSIDE],
		 r.windows, r.disturbed,
		 (unsigned long long)r.aggr_steps[TENFOLD],
		 (unsigned long long)r.aggr_steps[INSIDE],
		 (unsigned long long)r.swap_in);
	return 0;
}

static int run_hit(const struct bench_opts *o, struct figure_result *f)
{
	struct neighbour_result r;
	int rc = neighbour(o, &r, f->note);

	if (rc)
		return rc;
	f->measured = r.hit_diff;
	snprintf(f->note, sizeof(f->note), "%.1f %%, %.1f %% inside",
		 100 * r.hit[TENFOLD], 100 * r.hit[INSIDE]);
	return 0;
}

static int run_limits(const struct bench_opts *o, struct figure_result *f)
{
	struct neighbour_result r;
	int rc = neighbour(o, &r, f->note);

	if (rc)
		return rc;
	f->measured =
		(double)(r.below_min + r.above_max + r.swapped + !r.checked);
	snprintf(f->note, sizeof(f->note),
		 "%llu looks: %llu below min (least %llu MiB), %llu with pages "
		 "in swap, %llu above max; fsck %s",
		 (unsigned long long)r.looks, (unsigned long long)r.below_min,
		 (unsigned long long)r.least >> 20,
		 (unsigned long long)r.swapped, (unsigned long long)r.above_max,
		 r.checked ? "clean" : "found faults");
	return 0;
}

FIGURE(neighbour_p99, .name = "neighbour.p99",
       .what = "p99 of a protected tenant's steps beside one at 10 times its "
	       "share, over one inside it",
       .unit = "x", .cmp = CMP_AT_MOST, .target = 1.05, .run = run_p99);
FIGURE(neighbour_hit, .name = "neighbour.hits",
       .what = "points of the protected tenant's hit rate lost to it",
       .unit = "points", .cmp = CMP_AT_MOST, .target = 2, .run = run_hit);
FIGURE(neighbour_limits, .name = "neighbour.limits",
       .what = "looks that found a min or a max broken", .unit = "looks",
       .cmp = CMP_EQUAL, .target = 0, .run = run_limits);
