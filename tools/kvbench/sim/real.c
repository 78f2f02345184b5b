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
#define TURN_NS	 500000000ull
#define NAP_NS	 50000000ull

static int failed(const struct real *x, int rc, char *err)
{
	return rc ? err_set(err, rc, "%s", x->s.err) : 0;
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
	return failed(x, bench_session(&x->s, &x->so), err);
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

/* One setup at work; its time runs while it has its turn. */
struct turn {
	struct work work;
	struct calls calls;
	struct engine *e;
	u64 late,
		since; /* ns: its clock is so late; it waits since then, or 0 */
	bool done;
	struct law_sums sums; /* of its steps */
	double all[LAW_TERMS], seconds;
};

static u64 now_ns(void)
{
	return (u64)(clock_s() * 1e9);
}

static u64 clock_now(void *ctx)
{
	const struct turn *t = ctx;

	return (t->since ? t->since : now_ns()) - t->late;
}

/* Not too long: kvmd may have something to say. */
static void clock_sleep(void *ctx, u64 until)
{
	u64 now = clock_now(ctx), left = until - min(until, now);
	struct timespec ts = { 0, (long)min(left, NAP_NS) };

	nanosleep(&ts, NULL);
}

static int turn_open(struct real *x, struct turn *t, const struct sim_setup *s,
		     struct fleet_result *r, char *err)
{
	int rc = work_make(&s->work, &t->work, err);

	if (!rc)
		rc = real_engine(x, &s->fleet.engine, err);
	if (rc)
		return rc;
	t->e = x->s.engine;
	x->s.engine = NULL; /* the turn's */
	t->calls = (struct calls){ .work = &t->work,
				   .clock = { clock_now, clock_sleep, t },
				   .r = r,
				   .vocab = x->s.model->hp.vocab,
				   .context = x->s.model->hp.context,
				   .nr_callers = 1 };
	if (calls_init(&t->calls))
		return err_set(err, -ENOMEM, "no memory");
	t->calls.caller->e = t->e;
	t->since = now_ns();
	return 0;
}

static void note_step(struct turn *t)
{
	const struct engine_stats *st = engine_stats(t->e);

	law_see(&t->sums, &st->load, st->load_s, 0);
	t->all[LAW_STEP]++;
	t->all[LAW_TOKEN] += st->load.tokens;
	t->all[LAW_ROW] += st->load.rows;
	t->all[LAW_WORK] += st->load.work;
	t->seconds += st->load_s;
}

/* Of steps that others delayed the fit is below the mean: as long in all. */
static struct law law_of(const struct turn *t)
{
	struct law law = { 0 };
	double sum = 0;
	u32 i;

	law_fit(&law, &t->sums, 1e-9);
	for (i = 0; i < LAW_TERMS; i++)
		sum += law.term[i] * t->all[i];
	for (i = 0; i < LAW_TERMS && sum > 0; i++)
		law.term[i] *= t->seconds / sum;
	return law;
}

static void turn_close(struct turn *t)
{
	if (t->e) {
		calls_add_stats(&t->calls);
		t->calls.r->law = law_of(t);
		t->calls.r->busy = engine_stats(t->e)->compute_s;
	}
	calls_fini(&t->calls);
	engine_destroy(t->e);
	work_fini(&t->work);
}

/* Until it is done, or its turn over. */
static int turn_take(struct real *x, struct turn *t, u64 ns)
{
	u64 from = now_ns(), steps;
	int rc;

	t->late += from - t->since;
	t->since = 0;
	x->s.engine = t->e; /* what kvmd tells is for it */
	do {
		rc = session_attend(&x->s);
		if (!rc) {
			steps = engine_stats(t->e)->nr_steps;
			rc = caller_step(t->calls.caller);
			if (engine_stats(t->e)->nr_steps != steps)
				note_step(t);
			if (rc < 0)
				err_set(x->s.err, rc, "%s",
					t->calls.caller->err);
		}
	} while (rc > 0 && now_ns() - from < ns);
	x->s.engine = NULL;
	t->done = !rc;
	t->since = now_ns();
	/* what was asked for ahead is for a step that does not come now */
	x->s.backend->ops->step_prefetch(x->s.backend, NULL, 0);
	return min(rc, 0);
}

int real_run(struct real *x, const struct sim_setup *s, u32 nr,
	     struct fleet_result *r, char *err)
{
	struct turn turn[REAL_TURNS] = { 0 };
	u32 i, left = nr;
	int rc = 0;

	memset(r, 0, nr * sizeof(*r));
	for (i = 0; i < nr && !rc; i++)
		rc = turn_open(x, &turn[i], &s[i], &r[i], err);
	while (!rc && left)
		for (left = 0, i = 0; i < nr && !rc; i++) {
			if (!turn[i].done)
				rc = failed(x,
					    turn_take(x, &turn[i],
						      nr > 1 ? TURN_NS : ~0ull),
					    err);
			left += !turn[i].done;
		}
	for (i = 0; i < nr; i++)
		turn_close(&turn[i]);
	return rc;
}

int real_and_simulated(struct real *x, const struct sim_setup *s,
		       struct fleet_result *real, struct fleet_result *sim,
		       char *err)
{
	struct sim_setup by = *s;
	int rc = real_run(x, s, 1, real, err);

	memset(sim, 0, sizeof(*sim));
	if (rc)
		return rc;
	by.fleet.law = real->law;
	return setup_run(&by, sim, err);
}
