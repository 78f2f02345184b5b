/* SPDX-License-Identifier: MIT */
/*
 * fleet.c - engines of the simulated world at work
 *
 * One task an engine. Between two steps it takes what has come meanwhile, as
 * a server does; while a step "computes" it sleeps, and the others go on. What
 * a sequence says is a hash of its request and its place, so that a prompt
 * which quotes an answer can be made before there is one.
 */
#include "tools/kvbench/sim/fleet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hash.h"

#define VOCAB	32000u
#define NAP_NS	(200 * WORLD_US) /* as an engine's own */
#define LOOK_NS (20 * WORLD_MS) /* a nap in which nobody's step ends */

struct call { /* a request, on its way */
	struct one *at;
	struct request *r;
	u32 index;
	u64 due, first, last; /* ns */
	struct call *next; /* in a list of its engine */
};

struct one { /* an engine */
	struct fleet *f;
	struct kv_backend *b;
	struct engine *e;
	struct engine_machine machine;
	struct world_cond cond, nap;
	struct call **order; /* [nr_order] those that wait for none, by due */
	u32 nr_order, nr_come, nr_left;
	struct call *later; /* those whose turn came, not their time */
	struct call *ended; /* to be forgotten */
	int rc;
	char err[KV_ERRLEN];
};

struct fleet {
	const struct fleet_cfg *cfg;
	const struct work *work;
	struct fleet_result *r;
	struct world *w;
	struct model model; /* its numbers only */
	struct one *one; /* [nr_engines] */
	struct call *call; /* [work->nr] */
	u64 end;
	/* the cores, if they are shared: first come, first served */
	bool cores_busy;
	struct world_cond **queue; /* [nr_engines] */
	u32 nr_queue;
};

static double sec(u64 ns)
{
	return (double)ns * 1e-9;
}

double sim_cost_of(const struct sim_cost *c, const struct forward_batch *b)
{
	double looks = 0;
	u32 i;

	for (i = 0; i < b->nr_seqs; i++)
		looks += (double)b->seqs[i].nr_rows *
			 (b->seqs[i].pos0 + (b->seqs[i].nr_rows + 1) / 2.0);
	return c->step + c->token * b->nr_tokens + c->out * b->nr_out +
	       c->context * looks;
}

/* ---- the machine ---- */

static double machine_now(void *ctx)
{
	return sec(world_now(((struct one *)ctx)->f->w));
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
	double took = sim_cost_of(&f->cfg->cost, b);

	if (f->cfg->share_cores)
		cores_take(f, o);
	world_sleep(f->w, (u64)(took * 1e9));
	if (f->cfg->share_cores)
		cores_give(f);
	wake_others(f, o);
	f->r->busy += took;
	world_note(f->w, (u64)b->nr_tokens << 32 | b->nr_seqs);
	return 0;
}

static u32 answer_token(u32 request, u32 k)
{
	return (u32)(hash_mix((u64)request << 32 | k) % VOCAB);
}

static u32 machine_token(void *ctx, const struct seq *s)
{
	const struct call *c = s->req->p.ctx;

	return answer_token(c->index, seq_nr_new(s));
}

/* ---- requests ---- */

static void on_token(struct request *r, u32 seq, u32 id, void *ctx)
{
	struct call *c = ctx;
	struct fleet *f = c->at->f;
	u64 now = world_now(f->w);

	if (!c->first) {
		c->first = now;
		samples_add(&f->r->ttft, sec(now - c->due));
	} else {
		samples_add(&f->r->itl, sec(now - c->last));
	}
	c->last = now;
	f->r->output++;
}

/* Those that waited for it have their time now. */
static void follow(struct fleet *f, u32 index)
{
	const struct work *w = f->work;
	struct call *c;
	u32 i;

	/* the ones that wait for another come after it */
	for (i = index + 1; i < w->nr; i++) {
		if (w->request[i].after != index)
			continue;
		c = &f->call[i];
		c->due = world_now(f->w) + (u64)(w->request[i].due * 1e9);
		c->next = c->at->later;
		c->at->later = c;
	}
}

static void ended(struct call *c)
{
	struct one *o = c->at;

	c->next = o->ended;
	o->ended = c;
	o->nr_left--;
	o->f->end = world_now(o->f->w);
	follow(o->f, c->index);
}

static void on_done(struct request *r, void *ctx)
{
	struct call *c = ctx;
	struct fleet *f = c->at->f;
	u64 now = world_now(f->w);
	u32 nr = seq_nr_new(r->seqs[0]);

	ended(c);
	if (r->error) {
		if (!f->r->failed++)
			snprintf(f->r->first_error, KV_ERRLEN, "%s",
				 r->message ? r->message : strerror(-r->error));
		return;
	}
	f->r->completed++;
	samples_add(&f->r->e2e, sec(now - c->due));
	samples_add(&f->r->norm, sec(now - c->due) / max(nr, 1u));
	if (nr > 1)
		samples_add(&f->r->tpot, sec(now - c->first) / (nr - 1));
}

static u32 render(const struct fleet *f, u32 index, u32 *ids, u32 room)
{
	const struct work_request *q = &f->work->request[index];
	u32 i, k, n = 0;

	for (i = 0; i < q->nr_segments; i++) {
		const struct segment *s =
			&f->work->segment[q->first_segment + i];

		for (k = 0; k < s->len && n < room; k++)
			ids[n++] =
				s->role == SEGMENT_ANSWER
					? answer_token(s->of, k)
					: (u32)(hash_mix(s->name + k) % VOCAB);
	}
	return n;
}

static int submit(struct one *o, struct call *c)
{
	static const struct request_events events = { .token = on_token,
						      .done = on_done };
	struct fleet *f = o->f;
	u32 *ids = malloc(f->cfg->context * sizeof(*ids));
	struct request_params p = {
		.kind = REQUEST_GENERATE,
		.prompt = ids,
		.max_new = f->work->request[c->index].output,
		.n = 1,
		.ignore_eog = true,
		.sampling = SAMPLING_GREEDY,
		.events = &events,
		.ctx = c,
	};
	int rc;

	if (!ids)
		return err_set(o->err, -ENOMEM, "no memory");
	p.nr_prompt = render(f, c->index, ids, f->cfg->context);
	rc = engine_submit(o->e, &p, &c->r, o->err);
	free(ids);
	f->r->input += p.nr_prompt;
	if (rc == -EINVAL) {
		if (!f->r->failed++)
			snprintf(f->r->first_error, KV_ERRLEN, "%s", o->err);
		ended(c);
		return 0;
	}
	return rc;
}

/* Of those that came later: submit what is due. */
static int take_later(struct one *o, u64 *next)
{
	struct call *c, **at = &o->later;
	int rc = 0, nr = 0;

	while (!rc && (c = *at)) {
		if (c->due > world_now(o->f->w)) {
			*next = min(*next, c->due);
			at = &c->next;
			continue;
		}
		*at = c->next;
		rc = submit(o, c);
		nr++;
	}
	return rc ? rc : nr;
}

/* How many have come; *@next: when the next one does. */
static int take_due(struct one *o, u64 *next)
{
	struct call *c;
	int rc, nr = 0;

	for (; o->ended; o->ended = o->ended->next)
		if (o->ended->r)
			engine_forget(o->e, o->ended->r);
	*next = ~0ull;
	for (; o->nr_come < o->nr_order; o->nr_come++) {
		c = o->order[o->nr_come];
		if (c->due > world_now(o->f->w)) {
			*next = c->due;
			break;
		}
		rc = submit(o, c);
		if (rc)
			return rc;
		nr++;
	}
	rc = take_later(o, next);
	return rc < 0 ? rc : nr + rc;
}

static void run_engine(void *arg)
{
	struct one *o = arg;
	u64 next, wanted;
	int nr;

	while (o->nr_left && !o->rc) {
		wanted = simkv_wanted(o->b);
		if (wanted)
			engine_give_back(o->e, wanted);
		nr = take_due(o, &next);
		o->rc = nr < 0 ? nr : engine_step(o->e, o->err);
		if (o->rc || !o->nr_left) {
			o->rc = min(o->rc, 0);
			continue;
		}
		/* nothing to do until the next one comes */
		nr = take_due(o, &next);
		if (nr < 0)
			o->rc = nr;
		else if (!nr && next == ~0ull)
			o->rc = err_set(o->err, -EDEADLK,
					"%u requests never come", o->nr_left);
		else if (!nr)
			world_sleep(o->f->w, next - world_now(o->f->w));
	}
}

/* ---- a run ---- */

static int open_one(struct fleet *f, struct one *o, u32 i, char *err)
{
	struct engine_opts eo = f->cfg->engine;
	int rc;

	o->f = f;
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
	rc = engine_create(&f->model, NULL, o->b, &eo, &o->e, err);
	if (!rc)
		rc = world_spawn(f->w, run_engine, o);
	return rc;
}

static int by_due(const void *a, const void *b)
{
	const struct call *x = *(struct call *const *)a;
	const struct call *y = *(struct call *const *)b;

	if (x->due != y->due)
		return x->due < y->due ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

static int sort_calls(struct fleet *f, struct one *o)
{
	u32 i;

	o->order = calloc(max(o->nr_left, 1u), sizeof(struct call *));
	if (!o->order)
		return -ENOMEM;
	for (i = 0; i < f->work->nr; i++)
		if (f->call[i].at == o &&
		    f->work->request[i].after == WORK_NONE)
			o->order[o->nr_order++] = &f->call[i];
	qsort(o->order, o->nr_order, sizeof(struct call *), by_due);
	return 0;
}

static int open_fleet(struct fleet *f, char *err)
{
	u32 i;
	int rc = world_create(&f->cfg->world, &f->w);

	if (rc)
		return err_set(err, rc, "the world: %s", strerror(-rc));
	f->model.hp.vocab = VOCAB;
	f->model.hp.context = f->cfg->context;
	for (i = 0; i < f->work->nr; i++) {
		const struct work_request *q = &f->work->request[i];
		struct one *o = &f->one[q->session % f->cfg->nr_engines];

		f->call[i].at = o;
		f->call[i].index = i;
		f->call[i].due = (u64)(q->due * 1e9);
		o->nr_left++;
	}
	for (i = 0; i < f->cfg->nr_engines; i++) {
		rc = sort_calls(f, &f->one[i]);
		if (rc)
			return err_set(err, rc, "no memory");
	}
	for (i = 0; !rc && i < f->cfg->nr_engines; i++)
		rc = open_one(f, &f->one[i], i, err);
	return rc;
}

static void add_stats(struct fleet_result *r, const struct engine_stats *s)
{
	r->mapped += s->nr_mapped;
	r->prefill += s->nr_prefill;
	r->preempted += s->nr_preempted;
	r->turns += s->nr_turns;
	r->steps += s->nr_steps;
	r->lost += s->nr_lost;
	r->max_running = max(r->max_running, (u64)s->max_running);
}

static void close_fleet(struct fleet *f)
{
	u32 i, bad = 0;

	for (i = 0; i < f->cfg->nr_engines; i++) {
		if (f->one[i].e)
			add_stats(f->r, engine_stats(f->one[i].e));
		engine_destroy(f->one[i].e);
		if (f->one[i].b) {
			bad += simkv_bad(f->one[i].b);
			f->one[i].b->ops->destroy(f->one[i].b);
		}
		free(f->one[i].order);
	}
	if (f->w) {
		f->r->faults = bad + mm_check(world_mm(f->w), NULL, NULL);
		f->r->hash = world_hash(f->w);
	}
	world_destroy(f->w);
}

int fleet_run(const struct fleet_cfg *cfg, const struct work *work,
	      struct fleet_result *r, char *err)
{
	struct fleet f = { .cfg = cfg, .work = work, .r = r };
	u32 i;
	int rc = -ENOMEM;

	memset(r, 0, sizeof(*r));
	f.one = calloc(cfg->nr_engines, sizeof(*f.one));
	f.call = calloc(max(work->nr, 1u), sizeof(*f.call));
	f.queue = calloc(cfg->nr_engines, sizeof(struct world_cond *));
	if (f.one && f.call && f.queue)
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
			rc = err_set(err, f.one[i].rc, "%s", f.one[i].err);
	r->duration = sec(f.end);
	if (f.one && f.call && f.queue)
		close_fleet(&f);
	free(f.one);
	free(f.call);
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
}
