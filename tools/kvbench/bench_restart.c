/* SPDX-License-Identifier: MIT */
/*
 * bench_restart.c - how long clients wait for kvmd's successor
 *
 * A client holds 100,000 pages (small: 4,096) in eight spaces of different
 * lengths. kvmd is killed, and at once the client creates a space and reserves
 * a page in it: the time is that until it has it. In it are the keeper's notice
 * of the death, a new process, descriptors of each extent handed over twice,
 * the walk over all entries, and that the client is woken.
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/client.h"

#include <errno.h>
#include <signal.h>

#define PAGE_TOKENS 16u
#define NR_SPACES   8u
#define PAGES	    100000u
#define PAGES_TINY  4096u
#define STEP_TOKENS 16384u
#define ROUNDS_MAX  200u

struct restart_result {
	double p50, p99, max; /* ms */
	u32 rounds, restarts;
};

static int fill(struct bench_client *c, u32 pages)
{
	u32 space, i, pos, n, len;
	int rc = 0;

	for (i = 0; !rc && i < NR_SPACES; i++) {
		/* the sum over all of them is @pages */
		len = (pages / NR_SPACES +
		       (i % 2 ? 1 : -1) * (s32)(i / 2) * (s32)(pages / 128)) *
		      PAGE_TOKENS;
		rc = kv_space_create(c->kv, &c->args, &space);
		for (pos = 0; !rc && pos < len; pos += n) {
			n = min(STEP_TOKENS, len - pos);
			rc = bench_client_step(c, space, pos, n, NULL);
		}
	}
	return rc;
}

static int one_round(struct bench_client *c, const char *socket, double *ms)
{
	u64 pid = bench_ask_number(socket, "status", "\"pid\":");
	u32 space;
	double t;
	int rc;

	if (!pid)
		return -ESRCH;
	t = clock_s();
	if (kill((pid_t)pid, SIGKILL))
		return -errno;
	rc = kv_space_create(c->kv, &c->args, &space);
	if (!rc)
		rc = bench_client_step(c, space, 0, 1, NULL);
	*ms = (clock_s() - t) * 1000;
	return rc ? rc : kv_space_destroy(c->kv, space);
}

static int measure(const struct bench_opts *o, struct restart_result *r,
		   char *note, size_t len)
{
	static const char *const options[] = { "--size", "1G", "--keeper",
					       NULL };
	u32 most = o->tiny ? 3 : ROUNDS_MAX, n = 0;
	static double ms[ROUNDS_MAX];
	struct private_kvmd *d;
	struct bench_client c;
	char err[KV_ERRLEN];
	int rc = private_kvmd_start_with(options, &d, err);

	if (rc) {
		snprintf(note, len, "%.150s", err);
		return rc;
	}
	rc = bench_client_open(&c, private_kvmd_socket(d), true);
	if (!rc)
		rc = fill(&c, o->tiny ? PAGES_TINY : PAGES);
	while (!rc && n < most) {
		rc = one_round(&c, private_kvmd_socket(d), &ms[n]);
		n += !rc;
	}
	if (rc && c.kv)
		snprintf(note, len, "%.150s", kv_error(c.kv));
	r->restarts = (u32)bench_ask_number(private_kvmd_socket(d), "status",
					    "\"restarts\":");
	r->rounds = n;
	r->p50 = bench_median(ms, n);
	r->p99 = bench_percentile(ms, n, 99);
	r->max = n ? ms[n - 1] : 0;
	bench_client_close(&c);
	private_kvmd_stop(d);
	if (!rc && r->restarts != n)
		rc = -EPROTO;
	return rc;
}

static int run_figure(const struct bench_opts *o, struct figure_result *f)
{
	struct restart_result r = { 0 };
	int rc = measure(o, &r, f->note, sizeof(f->note));

	if (rc)
		return rc;
	f->measured = r.p99;
	snprintf(f->note, sizeof(f->note),
		 "p50 %.1f, p99 %.1f, max %.1f ms of %u kills", r.p50, r.p99,
		 r.max, r.rounds);
	return 0;
}

FIGURE(restart, .name = "restart.p99",
       .what = "kvmd is killed: until a client with 100,000 pages has another "
	       "one, 99 of 100",
       .unit = "ms", .cmp = CMP_AT_MOST, .target = 1000, .run = run_figure);

static const struct report_col restart_cols[] = {
	{ "p50", "p50 ms", 2 },
	{ "p99", "p99 ms", 2 },
	{ "max", "max ms", 2 },
	{ "kills", "kills", 0 },
};

static int run_restart(const struct bench_opts *o, struct report *rep)
{
	struct restart_result r = { 0 };
	int rc;

	rep->cols = restart_cols;
	rep->nr_cols = ARRAY_SIZE(restart_cols);
	rc = measure(o, &r, rep->note, sizeof(rep->note));
	if (!rc)
		report_row(rep, json_pack("{s:f, s:f, s:f, s:i}", "p50", r.p50,
					  "p99", r.p99, "max", r.max, "kills",
					  (int)r.rounds));
	return rc;
}

SUBJECT(restart, .name = "restart",
	.what = "what a client waits when kvmd is killed", .run = run_restart);
