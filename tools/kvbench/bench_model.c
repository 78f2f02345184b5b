/* SPDX-License-Identifier: MIT */
/*
 * bench_model.c - tokens/s of a model: prompts and generation, by batch
 *
 *	pp512	@batch prompts of 512 random tokens, until each has its first
 *		token
 *	tg64	@batch sequences that each generate 64 tokens after a prompt
 *		of one; the step with the prompts is not on the clock
 *
 * The engine runs as in kvrun, on pages of a private kvmd. Every test runs
 * once to warm up, then three times; the mean and the deviation are printed.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "runtime/model/model.h"
#include "tools/kvrun/session.h"

#define MODEL_LIST_MAX	16
#define MODEL_REPEATS	3
#define MODEL_BATCH_MAX 256

struct model_bench {
	struct session s;
	struct bench_rng rng;
	struct request *req[MODEL_BATCH_MAX];
	u32 *prompt;
};

static int parse_list(const char *text, u32 max_v, u32 *out, u32 *nr)
{
	const char *p = text;
	char *end;

	for (*nr = 0; *nr < MODEL_LIST_MAX; p = end + 1) {
		unsigned long v = strtoul(p, &end, 10);

		if (end == p || !v || v > max_v || (*end && *end != ','))
			return -EINVAL;
		out[(*nr)++] = (u32)v;
		if (!*end)
			return 0;
	}
	return -E2BIG;
}

static int submit(struct model_bench *b, u32 batch, u32 nr_prompt, u32 max_new)
{
	struct request_params p = { .kind = REQUEST_GENERATE,
				    .prompt = b->prompt,
				    .nr_prompt = nr_prompt,
				    .max_new = max_new,
				    .n = 1,
				    .ignore_eog = true,
				    .sampling = SAMPLING_GREEDY };
	u32 i, t;
	int rc = 0;

	for (i = 0; !rc && i < batch; i++) {
		for (t = 0; t < nr_prompt; t++)
			b->prompt[t] = (u32)(bench_rand(&b->rng) %
					     b->s.model->hp.vocab);
		rc = engine_submit(b->s.engine, &p, &b->req[i], b->s.err);
	}
	return rc;
}

/* Steps until all are done; the clock starts behind @untimed steps. */
static int run_steps(struct model_bench *b, u32 batch, u32 untimed,
		     double *seconds)
{
	double start = clock_s();
	u32 i, steps = 0;
	int rc = 1, bad = 0;

	while (rc > 0) {
		rc = session_step(&b->s);
		if (++steps == untimed)
			start = clock_s();
	}
	*seconds = clock_s() - start;
	for (i = 0; i < batch; i++) {
		if (!b->req[i])
			continue;
		if (b->req[i]->error && !rc) {
			bad = b->req[i]->error;
			snprintf(b->s.err, sizeof(b->s.err), "%s",
				 b->req[i]->message);
		}
		engine_forget(b->s.engine, b->req[i]);
		b->req[i] = NULL;
	}
	return rc ? rc : bad;
}

/* @gen 0: a prompt test. Tokens per second of one run. */
static int run_once(struct model_bench *b, u32 batch, u32 prompt, u32 gen,
		    double *tps)
{
	double s;
	int rc = submit(b, batch, gen ? 1 : prompt, gen ? gen + 1 : 1);

	if (!rc)
		rc = run_steps(b, batch, gen ? 1 : 0, &s);
	if (!rc)
		*tps = (double)batch * (gen ? gen : prompt) / s;
	return rc;
}

static const struct report_col model_cols[] = {
	{ "model", "model", 0 },     { "size", "size MiB", 1 },
	{ "params", "params M", 1 }, { "backend", "backend", 0 },
	{ "threads", "threads", 0 }, { "batch", "batch", 0 },
	{ "test", "test", 0 },	     { "tps", "t/s", 2 },
	{ "stddev", "+-", 2 },
};

static double mat_elems(const struct kern_mat *m)
{
	return (double)m->rows * m->cols;
}

double model_products(const struct model *m)
{
	double n = mat_elems(&m->head);
	u32 i;

	for (i = 0; i < m->hp.nr_layers; i++) {
		const struct model_layer *l = &m->layers[i];

		n += mat_elems(&l->q) + mat_elems(&l->k) + mat_elems(&l->v) +
		     mat_elems(&l->o) + mat_elems(&l->gate) +
		     mat_elems(&l->up) + mat_elems(&l->down);
	}
	return n;
}

static double model_params(const struct model *m)
{
	double n = model_products(m) + (double)m->nr_vectors;

	return m->head.data == m->embed.data ? n : n + mat_elems(&m->embed);
}

static int model_row(const struct bench_opts *o, struct model_bench *b,
		     struct report *rep, u32 batch, u32 prompt, u32 gen)
{
	u32 repeats = o->tiny ? 1 : MODEL_REPEATS, i;
	double tps[MODEL_REPEATS], mean = 0, var = 0, warm;
	const char *slash = strrchr(o->model, '/');
	struct stat st = { 0 };
	char test[24];
	int rc = o->tiny ? 0 : run_once(b, batch, prompt, gen, &warm);

	for (i = 0; !rc && i < repeats; i++) {
		rc = run_once(b, batch, prompt, gen, &tps[i]);
		mean += rc ? 0 : tps[i] / repeats;
	}
	if (rc)
		return rc;
	for (i = 0; i < repeats; i++)
		var += (tps[i] - mean) * (tps[i] - mean) / repeats;
	stat(o->model, &st);
	snprintf(test, sizeof(test), gen ? "tg%u" : "pp%u", gen ? gen : prompt);
	report_row(rep,
		   json_pack("{s:s, s:f, s:f, s:s, s:i, s:i, s:s, s:f, s:f}",
			     "model", slash ? slash + 1 : o->model, "size",
			     (double)st.st_size / 1048576, "params",
			     model_params(b->s.model) / 1e6, "backend",
			     "kvmd cpu", "threads", (int)bench_threads(o),
			     "batch", (int)batch, "test", test, "tps", mean,
			     "stddev", sqrt(var)));
	return 0;
}

static int run_rows(const struct bench_opts *o, struct model_bench *b,
		    struct report *rep, const u32 *prompts, u32 nr_prompts,
		    const u32 *batches, u32 nr_batches)
{
	u32 i, j;
	int rc = 0;

	for (j = 0; !rc && j < nr_batches; j++)
		for (i = 0; !rc && i < nr_prompts; i++)
			rc = model_row(o, b, rep, batches[j], prompts[i], 0);
	for (j = 0; !rc && o->nr_tokens && j < nr_batches; j++)
		rc = model_row(o, b, rep, batches[j], 1, o->nr_tokens);
	return rc;
}

static int run_model(const struct bench_opts *o, struct report *rep)
{
	struct session_opts so = { .model = o->model,
				   .private = true,
				   .size = "4G",
				   .threads = o->threads };
	u32 prompts[MODEL_LIST_MAX], batches[MODEL_LIST_MAX], np, nb, i;
	static struct model_bench b;
	u32 longest = 1;
	int rc;

	rep->cols = model_cols;
	rep->nr_cols = ARRAY_SIZE(model_cols);
	if (!o->model || parse_list(o->prompts, 1u << 20, prompts, &np) ||
	    parse_list(o->batches, MODEL_BATCH_MAX, batches, &nb)) {
		snprintf(rep->note, sizeof(rep->note),
			 "model wants -m FILE, -p and -b lists of numbers");
		return -EINVAL;
	}
	for (i = 0; i < np; i++)
		longest = max(longest, prompts[i]);
	b.rng.s = o->seed;
	b.prompt = calloc(longest, sizeof(*b.prompt));
	if (!b.prompt)
		return -ENOMEM;
	rc = bench_session(&b.s, &so);
	if (!rc)
		rc = run_rows(o, &b, rep, prompts, np, batches, nb);
	if (rc)
		snprintf(rep->note, sizeof(rep->note), "%.250s", b.s.err);
	session_close(&b.s);
	free(b.prompt);
	return rc;
}

SUBJECT(model, .name = "model",
	.what = "tokens/s of a model, with llama-bench's columns",
	.run = run_model);
