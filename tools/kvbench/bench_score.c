/* SPDX-License-Identifier: MIT */
/*
 * bench_score.c - the models' scores against the fp32 reference
 *
 * The reference has, per model, texts with the log-probability of each token,
 * and prompts with the tokens that greedy choice goes on with and the margin
 * of each choice over the second best. All of it goes through the engine on
 * pages of a private kvmd, as one batch of three kinds of passage:
 *
 *	text	scored; the mean |difference| of its log-probabilities counts,
 *		the worst text's is the figure
 *	fed	a prompt and its continuation, scored; where the best token is
 *		not the reference's, that choice's margin counts
 *	free	a prompt that the engine goes on with itself, up to where it
 *		leaves the reference: from there on it is another text
 *
 * A difference at a small margin is no fault: both tokens are as good. The
 * figure is the largest margin at which there was one.
 *
 * Each kind of numerics that the kernels know has figures of its own, the worse
 * of both models; what this CPU chooses unasked has them by model.
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/include/kern.h"
#include "tools/kvrun/session.h"

#define SCORE_PASSAGES 64u
#define SCORE_DEVICE   "4G"

enum passage_kind { PASSAGE_TEXT, PASSAGE_FED, PASSAGE_FREE };

struct passage {
	enum passage_kind kind;
	const char *name; /* of a text */
	const json_t *want; /* of a text: [nr - 1]; else [nr - nr_given] */
	u32 nr, nr_given, nr_new;
	u32 *ids; /* [nr] */
	/* what the model says, by the position of the token */
	double *lp; /* [nr] */
	u32 *best; /* [nr] */
	struct request *req;
};

struct score_run {
	struct session s;
	struct passage passages[SCORE_PASSAGES];
	u32 nr;
};

struct score_result {
	double worst; /* text's mean, nat per token */
	double margin;
	u32 nr_choices, nr_differ;
	char texts[FIGURE_NOTE];
};

/* At most so many: of texts and of prompts, tokens of a text, new tokens. */
struct score_size {
	u32 each, text, out;
};

/* A text of Qwen's takes its time: a third of it says the same. */
static const struct score_size sizes[MODEL_NR] = {
	[MODEL_GEMMA] = { SCORE_PASSAGES, 600, ~0u },
	[MODEL_QWEN] = { SCORE_PASSAGES, 200, ~0u },
};
static const struct score_size size_tiny = { 1, 16, 2 };

static void on_score(struct request *r, u32 pos, double lp, u32 best, void *ctx)
{
	struct passage *p = ctx;

	p->lp[pos] = lp;
	p->best[pos] = best;
}

static void on_token(struct request *r, u32 seq, u32 id, void *ctx)
{
	struct passage *p = ctx;

	p->best[p->nr_given + p->nr_new++] = id;
}

static const struct request_events events = { .score = on_score,
					      .token = on_token };

static u32 nr_of(const json_t *array)
{
	return (u32)min(json_array_size(array), (size_t)1 << 20);
}

static int add_passage(struct score_run *run, enum passage_kind kind,
		       const json_t *ref, const struct score_size *size)
{
	const json_t *given = json_object_get(ref, "ids"),
		     *out = json_object_get(ref, "out");
	struct passage *p = &run->passages[run->nr];
	u32 i, nr_want;

	if (run->nr == SCORE_PASSAGES)
		return err_set(run->s.err, -E2BIG,
			       "the reference has too many passages");
	run->nr++;
	p->kind = kind;
	p->name = json_string_value(json_object_get(ref, "name"));
	p->want = json_object_get(ref, kind == PASSAGE_TEXT ? "lp" : "margin");
	p->nr_given = nr_of(given);
	if (kind == PASSAGE_TEXT)
		p->nr_given = min(p->nr_given, size->text);
	p->nr = p->nr_given + min(nr_of(out), size->out);
	nr_want = p->nr - (kind == PASSAGE_TEXT ? 1 : p->nr_given);
	if (p->nr < 2 || !p->nr_given || nr_of(p->want) < nr_want)
		return err_set(run->s.err, -EINVAL,
			       "a passage of the reference is not whole");
	p->ids = calloc(p->nr, sizeof(*p->ids));
	p->lp = calloc(p->nr, sizeof(*p->lp));
	p->best = calloc(p->nr, sizeof(*p->best));
	if (!p->ids || !p->lp || !p->best)
		return err_set(run->s.err, -ENOMEM, "no memory");
	for (i = 0; i < p->nr; i++)
		p->ids[i] = (u32)json_integer_value(
			i < p->nr_given ? json_array_get(given, i)
					: json_array_get(out, i - p->nr_given));
	return 0;
}

static int add_passages(struct score_run *run, const json_t *ref,
			const struct score_size *size)
{
	const json_t *texts = json_object_get(ref, "texts"),
		     *greedy = json_object_get(ref, "greedy");
	u32 nr_texts = min(nr_of(texts), size->each),
	    nr_greedy = min(nr_of(greedy), size->each), i;
	int rc = 0;

	if (!nr_texts || !nr_greedy)
		return err_set(run->s.err, -EINVAL,
			       "the reference has no texts or no choices");
	for (i = 0; !rc && i < nr_texts; i++)
		rc = add_passage(run, PASSAGE_TEXT, json_array_get(texts, i),
				 size);
	for (i = 0; !rc && i < 2 * nr_greedy; i++)
		rc = add_passage(run, i % 2 ? PASSAGE_FREE : PASSAGE_FED,
				 json_array_get(greedy, i / 2), size);
	return rc;
}

static int submit(struct score_run *run, struct passage *p)
{
	bool is_free = p->kind == PASSAGE_FREE;
	const struct request_params rp = {
		.kind = is_free ? REQUEST_GENERATE : REQUEST_SCORE,
		.prompt = p->ids,
		.nr_prompt = is_free ? p->nr_given : p->nr,
		.max_new = is_free ? p->nr - p->nr_given : 0,
		.n = 1,
		.ignore_eog = true,
		.sampling = SAMPLING_GREEDY,
		.events = &events,
		.ctx = p,
	};

	return engine_submit(run->s.engine, &rp, &p->req, run->s.err);
}

static int run_passages(struct score_run *run)
{
	struct request *req;
	u32 i;
	int rc = 0;

	for (i = 0; !rc && i < run->nr; i++)
		rc = submit(run, &run->passages[i]);
	if (rc)
		return rc;
	do
		rc = session_step(&run->s);
	while (rc > 0);
	for (i = 0; !rc && i < run->nr; i++) {
		req = run->passages[i].req;
		if (req->error)
			rc = err_set(run->s.err, req->error, "%s",
				     req->message ? req->message
						  : strerror(-req->error));
	}
	return rc;
}

static double wanted(const struct passage *p, u32 i)
{
	return json_number_value(json_array_get(p->want, i));
}

static int compare_text(struct score_run *run, const struct passage *p,
			struct score_result *r)
{
	size_t at = strlen(r->texts);
	double sum = 0;
	u32 i;

	for (i = 1; i < p->nr; i++)
		sum += fabs(p->lp[i] - wanted(p, i - 1));
	if (!isfinite(sum))
		return err_set(run->s.err, -EDOM,
			       "a score of the text %s is no number",
			       p->name ? p->name : "without a name");
	sum /= p->nr - 1;
	r->worst = max(r->worst, sum);
	snprintf(r->texts + at, sizeof(r->texts) - at, "%s%s %.4f",
		 at ? ", " : "", p->name ? p->name : "text", sum);
	return 0;
}

static void compare_choices(const struct passage *p, struct score_result *r)
{
	u32 i;

	for (i = p->nr_given; i < p->nr; i++) {
		r->nr_choices++;
		if (p->best[i] == p->ids[i])
			continue;
		r->nr_differ++;
		r->margin = max(r->margin, wanted(p, i - p->nr_given));
		if (p->kind == PASSAGE_FREE)
			break;
	}
}

static int compare(struct score_run *run, struct score_result *r)
{
	const struct passage *p;
	int rc = 0;

	memset(r, 0, sizeof(*r));
	for (p = run->passages; !rc && p < run->passages + run->nr; p++) {
		if (p->kind == PASSAGE_TEXT)
			rc = compare_text(run, p, r);
		else
			compare_choices(p, r);
	}
	return rc;
}

/* The best row of this CPU, or NULL: the one that a session takes unasked. */
static const char *isa_of(enum kern_numerics how)
{
	const char *const *isa = kern_isa_list();

	if (how == KERN_NUMERICS_BF16)
		return NULL;
	while (kern_select(*isa)->numerics != how)
		isa++; /* ref's rows are any CPU's */
	return *isa;
}

static int score_model(const struct bench_opts *o, enum model_id id,
		       enum kern_numerics how, const char *path,
		       const json_t *ref, struct score_result *r, char *note)
{
	static struct score_run run;
	const struct session_opts so = { .model = path,
					 .private = true,
					 .size = SCORE_DEVICE,
					 .isa = isa_of(how),
					 .threads = o->threads };
	u32 i;
	int rc;

	memset(&run, 0, sizeof(run));
	rc = bench_session(&run.s, &so);
	if (!rc)
		rc = add_passages(&run, ref, o->tiny ? &size_tiny : &sizes[id]);
	if (!rc)
		rc = run_passages(&run);
	if (!rc)
		rc = compare(&run, r);
	if (rc)
		snprintf(note, FIGURE_NOTE, "%.150s", run.s.err);
	session_close(&run.s);
	for (i = 0; i < run.nr; i++) {
		free(run.passages[i].ids);
		free(run.passages[i].lp);
		free(run.passages[i].best);
	}
	return rc;
}

static int score_once(const struct bench_opts *o, enum model_id id,
		      enum kern_numerics how, const struct score_result **out,
		      char *note)
{
	static struct score_result memo[KERN_NUMERICS_NR][MODEL_NR];
	static bool have[KERN_NUMERICS_NR][MODEL_NR];
	char path[MODEL_PATH];
	json_t *ref;
	int rc;

	*out = &memo[how][id];
	if (have[how][id])
		return 0;
	rc = model_path(id, NULL, path, note);
	if (!rc)
		rc = model_reference(o, id, "reference.json", &ref, note);
	if (rc)
		return rc;
	rc = score_model(o, id, how, path, ref, &memo[how][id], note);
	json_decref(ref);
	have[how][id] = !rc;
	return rc;
}

static int run_score(const struct bench_opts *o, enum model_id id,
		     struct figure_result *f)
{
	const struct score_result *r;
	int rc = score_once(o, id, kern_select(NULL)->numerics, &r, f->note);

	if (rc)
		return rc;
	f->measured = r->worst;
	snprintf(f->note, sizeof(f->note), "%.120s; %u tokens each", r->texts,
		 o->tiny ? size_tiny.text : sizes[id].text);
	return 0;
}

static int run_margin(const struct bench_opts *o, enum model_id id,
		      struct figure_result *f)
{
	const struct score_result *r;
	int rc = score_once(o, id, kern_select(NULL)->numerics, &r, f->note);

	if (rc)
		return rc;
	f->measured = r->margin;
	snprintf(f->note, sizeof(f->note),
		 "%u of %u choices differ, fed with the reference's ids or "
		 "free",
		 r->nr_differ, r->nr_choices);
	return 0;
}

/* Both models' results with these numerics. */
static int score_other(const struct bench_opts *o, enum kern_numerics how,
		       const struct score_result *r[MODEL_NR],
		       struct figure_result *f)
{
	int rc = score_once(o, MODEL_GEMMA, how, &r[MODEL_GEMMA], f->note);

	if (!rc)
		rc = score_once(o, MODEL_QWEN, how, &r[MODEL_QWEN], f->note);
	return rc;
}

static int run_score_other(const struct bench_opts *o, enum kern_numerics how,
			   struct figure_result *f)
{
	const struct score_result *r[MODEL_NR];
	int rc = score_other(o, how, r, f);

	if (rc)
		return rc;
	f->measured = max(r[MODEL_GEMMA]->worst, r[MODEL_QWEN]->worst);
	snprintf(f->note, sizeof(f->note), "%s: Gemma %.60s; Qwen %.60s",
		 isa_of(how), r[MODEL_GEMMA]->texts, r[MODEL_QWEN]->texts);
	return 0;
}

static int run_margin_other(const struct bench_opts *o, enum kern_numerics how,
			    struct figure_result *f)
{
	const struct score_result *r[MODEL_NR];
	int rc = score_other(o, how, r, f);

	if (rc)
		return rc;
	f->measured = max(r[MODEL_GEMMA]->margin, r[MODEL_QWEN]->margin);
	snprintf(f->note, sizeof(f->note),
		 "%s: of %u choices of Gemma %u differ, of %u of Qwen %u",
		 isa_of(how), r[MODEL_GEMMA]->nr_choices,
		 r[MODEL_GEMMA]->nr_differ, r[MODEL_QWEN]->nr_choices,
		 r[MODEL_QWEN]->nr_differ);
	return 0;
}

static int run_score_gemma(const struct bench_opts *o, struct figure_result *f)
{
	return run_score(o, MODEL_GEMMA, f);
}

static int run_score_qwen(const struct bench_opts *o, struct figure_result *f)
{
	return run_score(o, MODEL_QWEN, f);
}

static int run_margin_gemma(const struct bench_opts *o, struct figure_result *f)
{
	return run_margin(o, MODEL_GEMMA, f);
}

static int run_margin_qwen(const struct bench_opts *o, struct figure_result *f)
{
	return run_margin(o, MODEL_QWEN, f);
}

FIGURE(score_gemma, .name = "score.gemma",
       .what = "mean |log-probability - fp32 reference's| of Gemma 3 270M, "
	       "the worst text's",
       .unit = "nat", .cmp = CMP_AT_MOST, .target = 0.02,
       .run = run_score_gemma);
FIGURE(score_qwen, .name = "score.qwen",
       .what = "mean |log-probability - fp32 reference's| of Qwen2.5-Coder "
	       "1.5B, the worst text's",
       .unit = "nat", .cmp = CMP_AT_MOST, .target = 0.02,
       .run = run_score_qwen);
FIGURE(margin_gemma, .name = "margin.gemma",
       .what = "largest margin at which Gemma's best token is not the "
	       "reference's",
       .unit = "nat", .cmp = CMP_AT_MOST, .target = 0.1,
       .run = run_margin_gemma);
FIGURE(margin_qwen, .name = "margin.qwen",
       .what = "largest margin at which Qwen's best token is not the "
	       "reference's",
       .unit = "nat", .cmp = CMP_AT_MOST, .target = 0.1,
       .run = run_margin_qwen);
/* Both figures of one kind of numerics, under one name. */
#define FIGURES_WITH(id, numerics, how, most, most_margin)                   \
	static int run_score_##id(const struct bench_opts *o,                \
				  struct figure_result *f)                   \
	{                                                                    \
		return run_score_other(o, numerics, f);                      \
	}                                                                    \
	static int run_margin_##id(const struct bench_opts *o,               \
				   struct figure_result *f)                  \
	{                                                                    \
		return run_margin_other(o, numerics, f);                     \
	}                                                                    \
	FIGURE(score_##id, .name = "score." #id,                             \
	       .what = "mean |log-probability - fp32 reference's| with " how \
		       ", the worst text's of both models",                  \
	       .unit = "nat", .cmp = CMP_AT_MOST, .target = (most),          \
	       .run = run_score_##id);                                       \
	FIGURE(margin_##id, .name = "margin." #id,                           \
	       .what = "largest margin at which the best token with " how    \
		       " is not the reference's, of both models",            \
	       .unit = "nat", .cmp = CMP_AT_MOST, .target = (most_margin),   \
	       .run = run_margin_##id)

FIGURES_WITH(bf16, KERN_NUMERICS_BF16, "bf16 products", 0.02, 0.1);
FIGURES_WITH(int16, KERN_NUMERICS_INT16, "int16 products", 0.02, 0.1);
FIGURES_WITH(int8, KERN_NUMERICS_INT8, "int8 products", 0.03, 0.35);
FIGURES_WITH(bf16attn, KERN_NUMERICS_BF16_ATTN, "attention in bf16", 0.02, 0.1);
