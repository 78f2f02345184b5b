/* SPDX-License-Identifier: MIT */
/*
 * fleet.c - engines of the simulated world at work
 *
 * One task an engine. While a step "computes" it sleeps, and the others go on.
 */
#include "tools/kvbench/sim/fleet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/kvbench/sim/calls.h"

#define VOCAB	32000u
#define NAP_NS	(200 * WORLD_US) /* as an engine's own */
#define LOOK_NS (20 * WORLD_MS) /* a nap in which nobody's step ends */

struct one { /* an engine */
	struct fleet *f;
	struct caller *caller;
	struct kv_backend *b;
	struct engine_machine machine;
	struct world_cond cond, nap;
	int rc;
};

struct fleet {
	const struct fleet_cfg *cfg;
	struct world *w;
	struct model model; /* its numbers only */
	struct calls calls;
	struct one *one; /* [nr_engines] */
	/* the cores, if they are shared: first come, first served */
	bool cores_busy;
	struct world_cond **queue; /* [nr_engines] */
	u32 nr_queue;
};

/* ---- the machine ---- */

static double machine_now(void *ctx)
{
	return (double)world_now(((struct one *)ctx)->f->w) * 1e-9;
}

static void cores_take(struct fleet *f, struct one *o)
{
	if (f->cores_busy) {
		f->queue[f->nr_queue++] = &o->cond;
		o->cond.raised = false;
		while (!world_wait(f->w, &o->cond, ~0ull))
			;
	}
	f->cores_busy = true;
}

static void cores_give(struct fleet *f)
{
	f->cores_busy = false;
	if (!f->nr_queue)
		return;
	f->cores_busy = true; /* it is the next one's already */
	world_raise(f->w, f->queue[0]);
	f->nr_queue--;
	memmove(f->queue, f->queue + 1,
		f->nr_queue * sizeof(struct world_cond *));
}

/* A step of @o has ended: what it publishes others may wait for. */
static void wake_others(struct fleet *f, const struct one *o)
{
	u32 i;

	for (i = 0; i < f->cfg->nr_engines; i++)
		if (&f->one[i] != o && f->one[i].nap.waiter)
			world_raise(f->w, &f->one[i].nap);
}

/* Pages that are published are copied before they are found. */
static void machine_nap(void *ctx)
{
	struct one *o = ctx;

	o->nap.raised = false;
	(void)world_wait(o->f->w, &o->nap, LOOK_NS);
	world_sleep(o->f->w, NAP_NS);
}

static int machine_run(void *ctx, const struct forward_batch *b)
{
	struct one *o = ctx;
	struct fleet *f = o->f;
	struct law_load l = law_load_of(&f->model, b);
	double took = law_seconds(&f->cfg->law, &l);

	if (f->cfg->share_cores)
		cores_take(f, o);
	world_sleep(f->w, (u64)(took * 1e9));
	if (f->cfg->share_cores)
		cores_give(f);
	wake_others(f, o);
	f->calls.r->busy += took;
	world_note(f->w, (u64)b->nr_tokens << 32 | b->nr_seqs);
	return 0;
}

static u32 machine_token(void *ctx, const struct seq *s)
{
	return calls_token(&((struct one *)ctx)->f->calls, s);
}

static void run_engine(void *arg)
{
	struct one *o = arg;
	u64 wanted;

	do {
		wanted = simkv_wanted(o->b);
		if (wanted)
			engine_give_back(o->caller->e, wanted);
		o->rc = caller_step(o->caller);
	} while (o->rc > 0);
}

/* ---- a run ---- */

static u64 clock_now(void *ctx)
{
	return world_now(((struct fleet *)ctx)->w);
}

static void clock_sleep(void *ctx, u64 until)
{
	struct world *w = ((struct fleet *)ctx)->w;

	world_sleep(w, until - world_now(w));
}

static int open_one(struct fleet *f, struct one *o, u32 i, char *err)
{
	struct engine_opts eo = f->cfg->engine;
	int rc;

	o->f = f;
	o->caller = &f->calls.caller[i];
	o->machine = (struct engine_machine){
		.now = machine_now,
		.run = machine_run,
		.token = machine_token,
		.nap = machine_nap,
		.ctx = o,
	};
	eo.machine = &o->machine;
	rc = simkv_create(f->w, "sim", f->cfg->shape, &o->b);
	if (rc)
		return err_set(err, rc, "engine %u: %s", i, strerror(-rc));
	rc = engine_create(&f->model, NULL, o->b, &eo, &o->caller->e, err);
	if (!rc)
		rc = world_spawn(f->w, run_engine, o);
	return rc;
}

static void set_model(struct fleet *f)
{
	const struct simkv_shape *s = f->cfg->shape;
	u32 i;

	f->model.hp.vocab = VOCAB;
	f->model.hp.context = f->cfg->context;
	f->model.nr_areas = s->nr_areas;
	for (i = 0; i < s->nr_areas; i++) {
		f->model.area[i].nr_layers = s->area[i].nr_layers;
		f->model.area[i].window = s->area[i].window;
	}
}

static int open_fleet(struct fleet *f, char *err)
{
	u32 i;
	int rc = world_create(&f->cfg->world, &f->w);

	if (rc)
		return err_set(err, rc, "the world: %s", strerror(-rc));
	set_model(f);
	if (calls_init(&f->calls))
		return err_set(err, -ENOMEM, "no memory for the requests");
	for (i = 0; !rc && i < f->cfg->nr_engines; i++)
		rc = open_one(f, &f->one[i], i, err);
	return rc;
}

static void close_fleet(struct fleet *f)
{
	u32 i, bad = 0;

	calls_add_stats(&f->calls);
	for (i = 0; i < f->cfg->nr_engines; i++) {
		if (f->one[i].caller)
			engine_destroy(f->one[i].caller->e);
		if (f->one[i].b) {
			bad += simkv_bad(f->one[i].b);
			f->one[i].b->ops->destroy(f->one[i].b);
		}
	}
	calls_fini(&f->calls);
	if (f->w) {
		f->calls.r->faults = bad + mm_check(world_mm(f->w), NULL, NULL);
		f->calls.r->hash = world_hash(f->w);
	}
	world_destroy(f->w);
}

int fleet_run(const struct fleet_cfg *cfg, const struct work *work,
	      struct fleet_result *r, char *err)
{
	struct fleet f = { .cfg = cfg };
	u32 i;
	int rc = -ENOMEM;

	f.calls = (struct calls){
		.work = work,
		.clock = { clock_now, clock_sleep, &f },
		.r = r,
		.vocab = VOCAB,
		.context = cfg->context,
		.nr_callers = cfg->nr_engines,
	};
	memset(r, 0, sizeof(*r));
	f.one = calloc(cfg->nr_engines, sizeof(*f.one));
	f.queue = calloc(cfg->nr_engines, sizeof(struct world_cond *));
	if (f.one && f.queue)
		rc = open_fleet(&f, err);
	else
		err_set(err, rc, "no memory for the simulation");
	if (!rc) {
		rc = world_run(f.w, (u64)(cfg->most_s * 1e9));
		if (rc)
			err_set(err, rc, "%u of %u requests ended: %s",
				r->completed + r->failed, work->nr,
				strerror(-rc));
	}
	for (i = 0; f.one && !rc && i < cfg->nr_engines; i++)
		if (f.one[i].rc)
			rc = err_set(err, f.one[i].rc, "%s",
				     f.one[i].caller->err);
	if (f.one && f.queue)
		close_fleet(&f);
	free(f.one);
	free(f.queue);
	return rc;
}

void fleet_result_fini(struct fleet_result *r)
{
	samples_fini(&r->ttft);
	samples_fini(&r->itl);
	samples_fini(&r->tpot);
	samples_fini(&r->e2e);
	samples_fini(&r->norm);
	samples_fini(&r->queue);
}
