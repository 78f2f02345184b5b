/* SPDX-License-Identifier: MIT */
/*
 * sched_run.c - see sched_run.h
 *
 * A simulated run has its own model structure of the same shape and contiguous
 * pages that nothing is written to, so memory is never short in it.
 */
#include "tools/kvbench/sched_run.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/model/model.h"

#define SIM_TOKENS   4096u /* of a sequence */
#define SIM_SPACES   256u
#define LAW_REQUESTS 24u
#define RATE_FIRST   0.02
#define RATE_LAST    1000.0
#define RATE_HALVES  8u

struct served {
	const struct sched_req *req;
	struct request *r;
	struct run *run;
	double arrived, begun, first, last;
	u32 nr;
};

struct run {
	struct engine *e;
	double (*now)(struct run *run);
	void (*wait)(struct run *run, double until); /* nobody is there */
	double start, clock; /* clock: simulated */
	struct served *v;
	u32 nr, nr_begun, nr_done;
	float *gaps; /* [nr_gaps] seconds between tokens */
	u32 nr_gaps, max_gaps;
	struct sched_law law;
};

static double real_now(struct run *run)
{
	(void)run;
	return bench_now();
}

static void real_wait(struct run *run, double until)
{
	(void)run;
	while (bench_now() < until)
		;
}

static double sim_now(struct run *run)
{
	return run->clock;
}

static void sim_wait(struct run *run, double until)
{
	run->clock = max(run->clock, until);
}

static void on_token(struct request *r, u32 seq, u32 id, void *ctx)
{
	struct served *s = ctx;
	double now = s->run->now(s->run);

	(void)r;
	(void)seq;
	(void)id;
	if (!s->nr++)
		s->first = now;
	else if (s->run->nr_gaps < s->run->max_gaps)
		s->run->gaps[s->run->nr_gaps++] = (float)(now - s->last);
	s->last = now;
}

static void on_done(struct request *r, void *ctx)
{
	struct served *s = ctx;

	(void)r;
	/* as a batch hands it out: with its batch */
	s->last = s->run->now(s->run);
	s->run->nr_done++;
}

static int submit(struct run *run, struct served *s, u32 *ids, u32 vocab,
		  struct bench_rng *rng, char *err)
{
	static const struct request_events events = { .token = on_token,
						      .done = on_done };
	struct request_params p = { .kind = REQUEST_GENERATE,
				    .prompt = ids,
				    .nr_prompt = s->req->in,
				    .max_new = s->req->out,
				    .n = 1,
				    .ignore_eog = true,
				    .sampling = SAMPLING_GREEDY,
				    .events = &events,
				    .ctx = s };
	u32 i;

	for (i = 0; i < s->req->in; i++)
		ids[i] = (u32)(bench_rand(rng) % vocab);
	s->arrived = run->start + s->req->at;
	s->run = run;
	return engine_submit(run->e, &p, &s->r, err);
}

/* Which of them the step that began at @now was the first of. */
static void see_begun(struct run *run, u32 nr_in, double now)
{
	u32 i;

	for (i = run->nr_begun; i < nr_in; i++) {
		struct served *s = &run->v[i];

		if (s->begun <= 0 && s->r->nr_iters)
			s->begun = now;
		if (i == run->nr_begun && s->begun > 0)
			run->nr_begun++;
	}
}

static int loop(struct run *run, u32 vocab, u64 seed, double give_up_s,
		bool *ended, char *err)
{
	struct bench_rng rng = { seed };
	u32 in = 0, *ids = malloc(SIM_TOKENS * sizeof(*ids));
	int rc = ids ? 0 : -ENOMEM;
	double now;

	run->start = run->now(run);
	*ended = true;
	while (rc >= 0 && run->nr_done < run->nr) {
		if (run->nr_done == in)
			run->wait(run, run->start + run->v[in].req->at);
		while (in < run->nr && rc >= 0 &&
		       run->start + run->v[in].req->at <= run->now(run)) {
			rc = submit(run, &run->v[in], ids, vocab, &rng, err);
			in += !rc;
		}
		now = run->now(run);
		if (rc >= 0)
			rc = engine_step(run->e, err);
		see_begun(run, in, now);
		if (give_up_s > 0 && run->nr_begun < in &&
		    run->now(run) - run->v[run->nr_begun].arrived > give_up_s) {
			*ended = false;
			break;
		}
	}
	free(ids);
	return min(rc, 0);
}

static double percentile_of(const float *v, u32 nr, double p)
{
	double *d = malloc(max(nr, 1u) * sizeof(*d)), r;
	u32 i;

	if (!d || !nr) {
		free(d);
		return 0;
	}
	for (i = 0; i < nr; i++)
		d[i] = (double)v[i];
	r = bench_percentile(d, nr, p);
	free(d);
	return r;
}

static void judge(struct run *run, struct sched_result *r)
{
	float *v = calloc(3 * (size_t)run->nr, sizeof(*v));
	float *norm = v, *ttft = v + run->nr, *queue = v + 2 * run->nr;
	double end = run->start;
	u32 i, n = 0, tokens = 0;

	for (i = 0; v && i < run->nr; i++) {
		const struct served *s = &run->v[i];

		if (!s->r || s->r->state != REQUEST_DONE || !s->nr)
			continue;
		norm[n] = (float)((s->last - s->arrived) / s->nr);
		ttft[n] = (float)(s->first - s->arrived);
		queue[n++] = (float)(s->begun - s->arrived);
		tokens += s->nr;
		end = max(end, s->last);
	}
	r->seconds = end - run->start;
	r->tps = r->seconds > 0 ? tokens / r->seconds : 0;
	if (v) {
		r->norm_p50 = percentile_of(norm, n, 50);
		r->ttft_p50 = percentile_of(ttft, n, 50);
		r->queue_p50 = percentile_of(queue, n, 50);
	}
	r->tbt_p50 = percentile_of(run->gaps, run->nr_gaps, 50);
	r->tbt_p99 = percentile_of(run->gaps, run->nr_gaps, 99);
	r->tbt_p999 = percentile_of(run->gaps, run->nr_gaps, 99.9);
	r->tbt_max = percentile_of(run->gaps, run->nr_gaps, 100);
	free(v);
}

static int run_init(struct run *run, const struct sched_req *req, u32 nr)
{
	u32 i;

	run->nr = nr;
	run->v = calloc(nr, sizeof(*run->v));
	for (i = 0; i < nr; i++)
		run->max_gaps += req[i].out;
	run->gaps = malloc(max(run->max_gaps, 1u) * sizeof(*run->gaps));
	for (i = 0; run->v && i < nr; i++)
		run->v[i].req = &req[i];
	return run->v && run->gaps ? 0 : -ENOMEM;
}

static void run_fini(struct run *run)
{
	u32 i;

	for (i = 0; run->v && run->e && i < run->nr; i++)
		if (run->v[i].r) {
			engine_cancel(run->e, run->v[i].r);
			engine_forget(run->e, run->v[i].r);
		}
	free(run->v);
	free(run->gaps);
}

int sched_real(struct session *s, const struct sched_req *req, u32 nr, u64 seed,
	       struct sched_result *r)
{
	struct run run = { .e = s->engine, .now = real_now, .wait = real_wait };
	int rc = run_init(&run, req, nr);

	if (!rc)
		rc = loop(&run, s->model->hp.vocab, seed, 0, &r->ended, s->err);
	if (!rc)
		judge(&run, r);
	run_fini(&run);
	return rc;
}

/* ---- simulated ---- */

static double machine_now(void *ctx)
{
	return ((struct run *)ctx)->clock;
}

static int machine_run(void *ctx, const struct forward_batch *b)
{
	struct run *run = ctx;
	const struct sched_law *law = &run->law;
	double work = 0;
	u32 i;

	for (i = 0; i < b->nr_seqs; i++)
		work += b->seqs[i].nr_rows *
			(b->seqs[i].pos0 + (b->seqs[i].nr_rows + 1) / 2.0);
	run->clock += law->step_s + law->token_s * b->nr_tokens +
		      law->row_s * b->nr_out + law->work_s * work * 1e-3;
	return 0;
}

static u32 machine_token(void *ctx, const struct seq *s)
{
	(void)ctx;
	(void)s;
	return 0;
}

int sched_simulated(const struct sched_law *law, const struct engine_opts *eo,
		    const struct sched_req *req, u32 nr, double give_up_s,
		    struct sched_result *r, char *note)
{
	struct model m = { .hp = { .vocab = 1000, .context = SIM_TOKENS },
			   .nr_areas = 1 };
	struct run run = { .now = sim_now, .wait = sim_wait, .law = *law };
	const struct engine_machine machine = { .now = machine_now,
						.run = machine_run,
						.token = machine_token,
						.ctx = &run };
	struct engine_opts o = *eo;
	struct kern_exec x = { 0 };
	struct kv_backend *b = NULL;
	char err[KV_ERRLEN] = "";
	int rc = run_init(&run, req, nr);

	m.area[0].geom.page_tokens = MODEL_PAGE_TOKENS;
	m.area[0].nr_layers = 1;
	m.area[0].geom.page_bytes = 4096;
	o.machine = &machine;
	if (!rc)
		rc = kv_contig_create(&m, SIM_SPACES, SIM_TOKENS, &b, err);
	if (!rc)
		rc = engine_create(&m, &x, b, &o, &run.e, err);
	if (!rc)
		rc = loop(&run, m.hp.vocab, 1, give_up_s, &r->ended, err);
	if (!rc)
		judge(&run, r);
	else
		snprintf(note, FIGURE_NOTE, "%.150s", err);
	run_fini(&run);
	engine_destroy(run.e);
	if (b)
		b->ops->destroy(b);
	return rc;
}

/* ---- the real model ---- */

int sched_engine(struct session *s, const struct engine_opts *eo, char *note)
{
	struct engine_opts own = *eo;
	int rc;

	own.vocab = s->vocab;
	engine_destroy(s->engine);
	s->engine = NULL;
	rc = engine_create(s->model, &s->exec, s->backend, &own, &s->engine,
			   s->err);
	if (rc)
		snprintf(note, FIGURE_NOTE, "%.150s", s->err);
	return rc;
}

int sched_session(const struct bench_opts *o, struct session *s, char *note)
{
	static struct session_opts so;
	static char path[MODEL_PATH];
	int rc = model_path(MODEL_GEMMA, o->model, path, note);

	memset(s, 0, sizeof(*s));
	s->fd = -1;
	if (rc)
		return rc;
	so = (struct session_opts){ .model = path,
				    .private = true,
				    .size = "1G",
				    .no_prefix_cache = true,
				    .threads = o->threads };
	rc = session_open(s, &so) ? -EIO : 0;
	if (rc)
		snprintf(note, FIGURE_NOTE, "%.150s", s->err);
	return rc;
}

int sched_law_of(const struct bench_opts *o, struct sched_law *law, char *note)
{
	static const struct engine_opts eo = { .step_tokens = 512,
					       .max_seqs = 32,
					       .tbt_slo_ms = 100000 };
	struct sched_req req[LAW_REQUESTS];
	u32 i, nr = o->tiny ? 4 : LAW_REQUESTS;
	static struct sched_law memo;
	const struct engine_stats *st;
	struct sched_result r;
	struct session s;
	int rc = 0;

	if (memo.step_s <= 0) {
		for (i = 0; i < nr; i++)
			req[i] = (struct sched_req){
				.in = 16 << (i % 6),
				.out = o->tiny ? 8 : 24 + i,
			};
		rc = sched_session(o, &s, note);
		if (!rc)
			rc = sched_engine(&s, &eo, note);
		if (!rc)
			rc = sched_real(&s, req, nr, o->seed, &r);
		if (!rc) {
			st = engine_stats(s.engine);
			memo = (struct sched_law){ st->budget_step_s,
						   st->budget_token_s,
						   st->budget_row_s,
						   st->budget_work_s };
		}
		session_close(&s);
	}
	*law = memo;
	return rc;
}

void sched_arrivals(struct sched_req *req, u32 nr, double rate, u64 seed)
{
	struct bench_rng rng = { seed };
	double at = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		if (rate > 0)
			at -= log(1 - bench_uniform(&rng)) / rate;
		req[i].at = at;
	}
}

double sched_most_rate(bool (*keeps)(double rate, const void *ctx),
		       const void *ctx)
{
	double lo = 0, hi = RATE_FIRST, mid;
	u32 i;

	while (hi < RATE_LAST && keeps(hi, ctx)) {
		lo = hi;
		hi *= 2;
	}
	for (i = 0; i < RATE_HALVES && (lo > 0 || i < RATE_HALVES / 2); i++) {
		mid = (lo + hi) / 2;
		if (keeps(mid, ctx))
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}
