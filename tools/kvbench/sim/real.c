/* SPDX-License-Identifier: MIT */
/*
 * real.c - what is simulated, with a real model in real time
 */
#include "tools/kvbench/sim/real.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tools/kvbench/sim/calls.h"

#define KV_BYTES (1ull << 30)

static int failed(const struct real *x, int rc, char *err)
{
	if (rc)
		snprintf(err, FIGURE_NOTE, "%.150s", x->s.err);
	return rc;
}

int real_open(struct real *x, const char *path, u32 threads, char *err)
{
	u64 bytes;
	int rc;

	memset(x, 0, sizeof(*x));
	x->s.fd = -1;
	rc = model_path(MODEL_GEMMA, path, x->path, err);
	if (rc)
		return rc;
	rc = model_packed_bytes(x->path, &bytes, x->s.err);
	if (rc)
		return failed(x, rc, err);
	snprintf(x->size, sizeof(x->size), "%llu",
		 (unsigned long long)(ALIGN_UP(bytes, 2ull << 20) + KV_BYTES));
	x->so = (struct session_opts){ .model = x->path,
				       .private = true,
				       .size = x->size,
				       .no_prefix_cache = true,
				       .threads = threads };
	return failed(x, session_open(&x->s, &x->so) ? -EIO : 0, err);
}

void real_close(struct real *x)
{
	session_close(&x->s);
}

int real_engine(struct real *x, const struct engine_opts *eo, char *err)
{
	struct engine_opts own = *eo;

	own.vocab = x->s.vocab;
	engine_destroy(x->s.engine);
	x->s.engine = NULL;
	return failed(x,
		      engine_create(x->s.model, &x->s.exec, x->s.backend, &own,
				    &x->s.engine, x->s.err),
		      err);
}

static u64 clock_now(void *ctx)
{
	(void)ctx;
	return (u64)(bench_now() * 1e9);
}

static void clock_sleep(void *ctx, u64 until)
{
	u64 now = clock_now(ctx), ns = until - min(until, now);
	struct timespec ts = { (time_t)(ns / 1000000000),
			       (long)(ns % 1000000000) };

	nanosleep(&ts, NULL);
}

static int drive(struct real *x, const struct work *w, struct fleet_result *r)
{
	struct calls c = { .work = w,
			   .clock = { clock_now, clock_sleep, NULL },
			   .r = r,
			   .vocab = x->s.model->hp.vocab,
			   .context = x->s.model->hp.context,
			   .nr_callers = 1 };
	int rc = calls_init(&c);

	if (rc)
		err_set(x->s.err, rc, "no memory for the requests");
	else
		c.caller->e = x->s.engine;
	do {
		rc = rc ? rc : session_attend(&x->s);
		if (rc)
			break;
		rc = caller_step(c.caller);
		if (rc < 0)
			err_set(x->s.err, rc, "%s", c.caller->err);
		if (rc <= 0)
			break;
		rc = 0;
	} while (true);
	calls_add_stats(&c);
	r->busy = engine_stats(x->s.engine)->compute_s;
	calls_fini(&c);
	return rc;
}

int real_run(struct real *x, const struct sim_setup *s, struct fleet_result *r,
	     char *err)
{
	struct work w = { 0 };
	char why[KV_ERRLEN] = "";
	int rc;

	memset(r, 0, sizeof(*r));
	rc = work_make(&s->work, &w, why);
	if (rc)
		snprintf(err, FIGURE_NOTE, "%.150s", why);
	if (!rc)
		rc = real_engine(x, &s->fleet.engine, err);
	if (!rc)
		rc = failed(x, drive(x, &w, r), err);
	work_fini(&w);
	return rc;
}
