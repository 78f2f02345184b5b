/* SPDX-License-Identifier: MIT */
/*
 * bench_engine.c - tokens/s out of a pool that holds four worst cases
 *
 * The real engine runs a real model on pages of a private kvmd whose device
 * has room for the weights and for the KV of four sequences of the longest
 * allowed length, and no more. The same requests run three times:
 *
 *	reserve-max	at most four sequences at a time, since each is entitled
 *			to its worst case; it never runs out
 *	paged		as many as their pages fit; when a step finds none, the
 *			latest arrival is preempted and recomputed later
 *	swap		the same, and there is host memory for the pages of who
 *			is preempted: nothing is computed again
 *
 * Lengths are lognormal as in bench_util.c, at a quarter of ShareGPT's (means
 * 40 in, 85 out, worst case 512 instead of 2,048), so that a run takes a
 * minute; the ratio of worst case to mean, which is what counts, is the same.
 * The rate is that of generated tokens from the first step until nobody waits
 * to begin any more: how the last few end says nothing about either.
 *
 * What more sequences can win is bounded by the machine: a step reads all the
 * weights and multiplies them once per sequence. Where the products of four
 * sequences take as long as the reading, a fifth one is no faster than they
 * are; the printed bound is that ratio, with both at their measured peaks.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <kv.h>
#include <kv/abi.h>
#include "runtime/model/model.h"
#include "tools/kvrun/session.h"

#define ENGINE_CONTEXT	512u
#define ENGINE_WORST	4u
#define ENGINE_REQUESTS 64u
#define ENGINE_SWAP	"256M"
#define ENGINE_MEAN_IN	40.0
#define ENGINE_MEAN_OUT 85.0
/* 512 tokens of Gemma: 32 pages of 48 KiB and of 240 KiB, in whole slabs */
#define ENGINE_POOL ((u64)5 * KV_EXTENT_SIZE)

struct engine_result {
	double tps, seconds, resident;
	double weight_bytes, token_flop; /* of one token's products */
	u64 tokens, preempted;
	u32 max_running;
};

static u32 draw(struct bench_rng *rng, double mean)
{
	double v = exp(log(mean) - 0.5 + bench_normal(rng));

	return v < 1 ? 1 : v > ENGINE_CONTEXT ? ENGINE_CONTEXT : (u32)v;
}

static int submit_all(struct session *s, u64 seed, u32 nr, struct request **req)
{
	struct bench_rng rng = { seed };
	u32 prompt[ENGINE_CONTEXT], i, t, in, out;
	int rc = 0;

	for (i = 0; !rc && i < nr; i++) {
		struct request_params p = { .kind = REQUEST_GENERATE,
					    .prompt = prompt,
					    .n = 1,
					    .ignore_eog = true,
					    .sampling = SAMPLING_GREEDY };

		do {
			in = draw(&rng, ENGINE_MEAN_IN);
			out = draw(&rng, ENGINE_MEAN_OUT);
		} while (in + out > ENGINE_CONTEXT);
		for (t = 0; t < in; t++)
			prompt[t] =
				(u32)(bench_rand(&rng) % s->model->hp.vocab);
		p.nr_prompt = in;
		p.max_new = out;
		rc = engine_submit(s->engine, &p, &req[i], s->err);
	}
	return rc;
}

/* How many run, and how many have not begun. */
static void count_states(struct request *const *req, u32 nr, u32 *running,
			 u32 *waiting)
{
	u32 i;

	*running = *waiting = 0;
	for (i = 0; i < nr; i++) {
		*running += req[i]->state == REQUEST_RUNNING;
		*waiting += req[i]->state == REQUEST_WAITING;
	}
}

static int run_until_admitted(struct session *s, struct request **req, u32 nr,
			      struct engine_result *r)
{
	double start = clock_s(), sum = 0;
	u32 running, waiting, steps = 0;
	int rc;

	do {
		rc = session_step(s);
		if (rc < 0)
			return rc;
		count_states(req, nr, &running, &waiting);
		sum += running;
		steps++;
	} while (rc > 0 && waiting);
	r->seconds = clock_s() - start;
	r->tokens = engine_stats(s->engine)->nr_decode;
	r->tps = (double)r->tokens / r->seconds;
	r->resident = sum / steps;
	while (rc > 0)
		rc = session_step(s);
	r->preempted = engine_stats(s->engine)->nr_preempted;
	r->max_running = engine_stats(s->engine)->max_running;
	return rc;
}

static int engine_mode(const struct bench_opts *o, const char *path,
		       u32 max_seqs, const char *swap, struct engine_result *r,
		       char *err)
{
	struct engine_opts eo = { .context = ENGINE_CONTEXT,
				  .max_seqs = max_seqs };
	struct session_opts so = { .model = path,
				   .private = true,
				   .swap = swap,
				   .context = ENGINE_CONTEXT,
				   .threads = o->threads };
	u32 nr = o->tiny ? 6 : ENGINE_REQUESTS, i;
	struct request *req[ENGINE_REQUESTS] = { NULL };
	static struct session s;
	char size[32];
	u64 bytes;
	int rc = model_packed_bytes(path, &bytes, err);

	if (rc)
		return rc;
	snprintf(size, sizeof(size), "%llu",
		 (unsigned long long)(ALIGN_UP(bytes, (u64)KV_EXTENT_SIZE) +
				      ENGINE_POOL));
	so.size = size;
	rc = bench_session(&s, &so);
	if (!rc) {
		/* the same session, with a limit of its own on sequences */
		engine_destroy(s.engine);
		s.engine = NULL;
		eo.vocab = s.vocab;
		rc = engine_create(s.model, &s.exec, s.backend, &eo, &s.engine,
				   s.err);
	}
	if (!rc) {
		r->weight_bytes = (double)s.weights->bytes;
		r->token_flop = 2 * model_products(s.model);
		rc = submit_all(&s, o->seed, nr, req);
	}
	if (!rc)
		rc = run_until_admitted(&s, req, nr, r);
	for (i = 0; !rc && i < nr; i++)
		rc = req[i]->error;
	if (rc)
		snprintf(err, KV_ERRLEN, "%s", s.err);
	session_close(&s);
	return rc;
}

static int run_all(const struct bench_opts *o, struct engine_result r[3],
		   char *note)
{
	static struct engine_result memo[3];
	static bool have;
	char path[MODEL_PATH], err[KV_ERRLEN] = "";
	int rc = model_path(MODEL_GEMMA, o->model, path, note);

	if (rc)
		return rc;
	if (!have) {
		rc = engine_mode(o, path, ENGINE_WORST, NULL, &memo[0], err);
		if (!rc)
			rc = engine_mode(o, path, 256, NULL, &memo[1], err);
		if (!rc)
			rc = engine_mode(o, path, 256, ENGINE_SWAP, &memo[2],
					 err);
		if (rc) {
			snprintf(note, FIGURE_NOTE, "%.150s", err);
			return rc;
		}
		have = true;
	}
	r[0] = memo[0];
	r[1] = memo[1];
	r[2] = memo[2];
	return 0;
}

/* Tokens/s if a step took the longer of reading and multiplying. */
static double roofline(const struct bench_opts *o,
		       const struct engine_result *r, const char **unit)
{
	double read = r->weight_bytes / bw_read_peak(o);
	double multiply =
		r->resident * r->token_flop / bw_product_peak(o, unit);

	return r->resident / max(read, multiply);
}

static int run_tps(const struct bench_opts *o, struct figure_result *f)
{
	struct engine_result r[3];
	int rc = run_all(o, r, f->note);
	const char *unit;

	if (rc)
		return rc;
	if (bw_product_peak(o, &unit) > 0) {
		f->bound =
			roofline(o, &r[1], &unit) / roofline(o, &r[0], &unit);
		snprintf(f->bound_what, sizeof(f->bound_what),
			 "reads and %s at their peaks", unit);
	}
	f->measured = r[1].tps / r[0].tps;
	snprintf(f->note, sizeof(f->note),
		 "%.1f t/s with %.1f resident (%llu preempted) against %.1f "
		 "t/s with %.1f; lengths / 4",
		 r[1].tps, r[1].resident, (unsigned long long)r[1].preempted,
		 r[0].tps, r[0].resident);
	return 0;
}

static int run_resident(const struct bench_opts *o, struct figure_result *f)
{
	struct engine_result r[3];
	int rc = run_all(o, r, f->note);

	if (rc)
		return rc;
	f->measured = r[1].resident / r[0].resident;
	snprintf(f->note, sizeof(f->note), "most at once: %u against %u",
		 r[1].max_running, r[0].max_running);
	return 0;
}

FIGURE(engine_tps, .name = "engine.tokens",
       .what = "tokens/s of the engine in a pool of 4 worst cases, over "
	       "reserve-max",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 2, .run = run_tps);
static int run_swap(const struct bench_opts *o, struct figure_result *f)
{
	struct engine_result r[3];
	int rc = run_all(o, r, f->note);

	if (rc)
		return rc;
	f->measured = r[2].tps / r[1].tps;
	snprintf(f->note, sizeof(f->note),
		 "%.1f t/s (%llu preempted) against %.1f t/s (%llu)", r[2].tps,
		 (unsigned long long)r[2].preempted, r[1].tps,
		 (unsigned long long)r[1].preempted);
	return 0;
}

FIGURE(engine_swap, .name = "engine.swap",
       .what = "tokens/s where preempted pages go to host memory, over "
	       "computing them again",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.95, .run = run_swap);
FIGURE(engine_resident, .name = "engine.resident",
       .what = "sequences resident meanwhile, over reserve-max", .unit = "x",
       .cmp = CMP_AT_LEAST, .target = 4, .run = run_resident);
