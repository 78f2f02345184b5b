/* SPDX-License-Identifier: MIT */
/*
 * bench_ttft.c - the first token of a conversation whose pages are in swap
 *
 * A conversation of some length waits for its next turn, and its pages have
 * been pushed off the device. Then it goes on: the time is that from the new
 * turn, of one token, to its answer's first. Three ways in turn, in
 * changing order, so that all of them meet the same noise. What counts is the
 * median, over the rounds, of chosen over the way that is the faster in this
 * cell, in the same round: a machine that changes its speed by the minute moves
 * each median by more than it moves that. What is clearly the slower of the
 * first two is not measured on:
 *
 *	swap		all of its pages are read back
 *	recompute	all of its tokens are computed again
 *	chosen		what the engine makes of its measured rates
 *
 * in a grid of
 *
 *	length		Gemma's windows of 512 hold all of the shorter ones; of
 *			the longest they have let go, so it is all or nothing
 *	bandwidth	of what is written to the device: as it is, twice what
 *			would take as long as computing, and a third of it
 *			(--device delay:cpu); what takes as long is measured
 *	load		sequences that decode in the same steps
 */
#include "tools/kvbench/bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <kv.h>
#include "runtime/model/model.h"
#include "tools/kvrun/private_kvmd.h"
#include "tools/kvrun/session.h"

#define TTFT_EXTENTS 10u /* for KV */
#define TTFT_HOG     512u /* tokens of a space that pushes others out */
#define TTFT_HOGS    24u
#define TTFT_ROUNDS  60u
#define TTFT_LEAST   3u /* rounds, whatever time they take */
#define TTFT_SECONDS 14.0 /* of a cell */
#define TTFT_CLEAR   1.4 /* one that takes so much more need not be exact */
#define TTFT_LOAD    4u

enum way { SWAP, RECOMPUTE, CHOSEN, NR_WAYS };

static const enum engine_back ways[] = { ENGINE_BACK_READ, ENGINE_BACK_COMPUTE,
					 ENGINE_BACK_CHEAPER };
static const u32 lengths[] = { 160, 448, 576 };
static const double speeds[] = { 0, 2, 1.0 / 3 }; /* of computing; 0: any */
static const u32 loads[] = { 0, TTFT_LOAD };

#define LEN_MAX	 576u
#define NR_CELLS (ARRAY_SIZE(lengths) * ARRAY_SIZE(speeds) * ARRAY_SIZE(loads))

struct ttft_cell {
	u32 length, load, mib; /* a second; 0: as it is */
	double s[NR_WAYS]; /* medians */
	double ratio; /* median of chosen over the faster one, by round */
	u32 rounds, split, computed; /* of the chosen ones */
};

struct samples {
	double s[NR_WAYS][TTFT_ROUNDS]; /* by round; 0: not measured in it */
	u32 nr[NR_WAYS];
};

struct ttft {
	const struct bench_opts *o;
	struct session s;
	u32 ids[LEN_MAX];
	struct request *load[TTFT_LOAD];
	u32 nr_load;
	double first_s; /* when the conversation's token came */
	double token_s; /* of a prompt that is computed alone */
	u64 token_bytes;
	struct ttft_cell cell[NR_CELLS];
	u32 nr_cells;
};

static void on_token(struct request *r, u32 seq, u32 id, void *ctx)
{
	*(double *)ctx = clock_s();
}

static const struct request_events events = { .token = on_token };

/* ---- what happens to the conversation ---- */

static int step_until_done(struct ttft *t, const struct request *r)
{
	int rc;

	do
		rc = session_step(&t->s);
	while (rc > 0 && r->state != REQUEST_DONE);
	return rc < 0 ? rc : r->error;
}

static bool is_out(const struct ttft *t, const struct request *r)
{
	struct kv_backend *b = t->s.backend;
	u32 n = r->seqs[0]->nr_computed;

	return b->ops->space_out(b, r->seqs[0]->space, n) >=
	       kv_space_bytes(b, n) * 9 / 10;
}

/* Spaces that want memory, one by one, until it has none left. */
static int push_out(struct ttft *t, const struct request *r)
{
	struct kv_backend *b = t->s.backend;
	u32 hog[TTFT_HOGS], n = 0, i;
	int rc = 0;

	while (!rc && n < TTFT_HOGS && !is_out(t, r)) {
		struct kv_resv_item it = { .nr_tokens = TTFT_HOG };

		rc = b->ops->space_create(b, &hog[n]);
		if (rc)
			break;
		it.space = hog[n++];
		rc = b->ops->step_prepare(b, &it, 1, 10000);
		if (!rc)
			b->ops->step_abandon(b);
	}
	if (!rc && !is_out(t, r))
		rc = -EBUSY;
	for (i = 0; i < n; i++)
		b->ops->space_destroy(b, hog[i]);
	if (rc)
		snprintf(t->s.err, KV_ERRLEN, "pages do not leave: %s",
			 b->ops->error(b));
	return rc;
}

static int one_turn(struct ttft *t, struct request *r, enum way way, double *s)
{
	int rc = push_out(t, r);
	u32 i;

	/* those that decode have been pushed too */
	for (i = 0; !rc && t->nr_load && i < 2; i++)
		rc = min(session_step(&t->s), 0);
	if (rc)
		return rc;
	engine_set_back(t->s.engine, ways[way]);
	*s = clock_s();
	rc = engine_extend(t->s.engine, r, t->ids, r->p.nr_prompt, 1, t->s.err);
	if (!rc)
		rc = step_until_done(t, r);
	*s = t->first_s - *s;
	return rc;
}

static int submit(struct ttft *t, u32 nr, u32 max_new, bool keep,
		  struct request **r)
{
	const struct request_params p = { .kind = REQUEST_GENERATE,
					  .prompt = t->ids,
					  .nr_prompt = nr,
					  .max_new = max_new,
					  .n = 1,
					  .ignore_eog = true,
					  .keep = keep,
					  .sampling = SAMPLING_GREEDY,
					  .events = keep ? &events : NULL,
					  .ctx = &t->first_s };

	return engine_submit(t->s.engine, &p, r, t->s.err);
}

static double median_of(const struct samples *m, enum way way)
{
	double v[TTFT_ROUNDS];
	u32 i, n = 0;

	for (i = 0; i < TTFT_ROUNDS; i++)
		if (m->s[way][i] > 0)
			v[n++] = m->s[way][i];
	return bench_median(v, n);
}

/* Of the rounds that have both. */
static double median_ratio(const struct samples *m, enum way of, enum way over)
{
	double v[TTFT_ROUNDS];
	u32 i, n = 0;

	for (i = 0; i < TTFT_ROUNDS; i++)
		if (m->s[of][i] > 0 && m->s[over][i] > 0)
			v[n++] = m->s[of][i] / m->s[over][i];
	return bench_median(v, n);
}

/* Is it known that the other one is faster? */
static bool is_clear(const struct samples *m, enum way way)
{
	enum way other = way == SWAP ? RECOMPUTE : SWAP;

	return way != CHOSEN && m->nr[way] >= 2 && m->nr[other] >= 2 &&
	       median_of(m, way) > TTFT_CLEAR * median_of(m, other);
}

static int one_sample(struct ttft *t, struct ttft_cell *c, struct samples *m,
		      struct request *r, u32 round, enum way way)
{
	const struct engine_stats *st = engine_stats(t->s.engine);
	u64 split = st->nr_split, computed = st->nr_cheaper;
	int rc;

	if (is_clear(m, way))
		return 0;
	rc = one_turn(t, r, way, &m->s[way][round]);
	m->nr[way] += !rc;
	if (way == CHOSEN) {
		c->split += st->nr_split > split;
		c->computed += st->nr_cheaper > computed;
	}
	return rc;
}

static int one_cell(struct ttft *t, u32 length, u32 mib)
{
	struct ttft_cell *c = &t->cell[t->nr_cells++];
	u32 rounds = t->o->tiny ? 1 : TTFT_ROUNDS, i;
	double from = clock_s();
	struct samples m = { 0 };
	struct request *r;
	enum way w;
	int rc = submit(t, length, 1, true, &r);

	if (!rc)
		rc = step_until_done(t, r);
	*c = (struct ttft_cell){ .length = length,
				 .load = t->nr_load,
				 .mib = mib };
	for (i = 0; !rc && i < rounds; i++) {
		if (i >= TTFT_LEAST && clock_s() - from > TTFT_SECONDS)
			break;
		for (w = SWAP; !rc && w < NR_WAYS; w++)
			rc = one_sample(t, c, &m, r, i, (w + i) % NR_WAYS);
	}
	if (rc)
		return rc;
	c->rounds = m.nr[CHOSEN];
	for (w = SWAP; w < NR_WAYS; w++)
		c->s[w] = median_of(&m, w);
	w = c->s[SWAP] < c->s[RECOMPUTE] ? SWAP : RECOMPUTE;
	if (m.nr[SWAP] != m.nr[RECOMPUTE]) /* the other was given up */
		w = m.nr[SWAP] > m.nr[RECOMPUTE] ? SWAP : RECOMPUTE;
	c->ratio = median_ratio(&m, CHOSEN, w);
	engine_forget(t->s.engine, r);
	return 0;
}

/* ---- the grid ---- */

static int start_load(struct ttft *t, u32 nr)
{
	u32 i, k;
	int rc = 0;

	for (t->nr_load = 0; !rc && t->nr_load < nr; t->nr_load += !rc)
		rc = submit(t, 16 + t->nr_load, 4000, false,
			    &t->load[t->nr_load]);
	for (i = 0; !rc && nr && i < 3; i++)
		rc = min(session_step(&t->s), 0);
	for (k = 0; k < LEN_MAX; k++) /* nothing that anybody else has */
		t->ids[k] = (t->ids[k] * 7 + 1) % t->s.model->hp.vocab;
	return rc;
}

static void stop_load(struct ttft *t)
{
	u32 i;

	for (i = 0; i < t->nr_load; i++) {
		engine_cancel(t->s.engine, t->load[i]);
		engine_forget(t->s.engine, t->load[i]);
	}
	t->nr_load = 0;
}

static int all_cells(struct ttft *t, u32 mib)
{
	u32 i, k, lens = t->o->tiny ? 1 : ARRAY_SIZE(lengths);
	int rc = 0;

	for (i = 0; !rc && i < lens; i++)
		for (k = 0; !rc && k < ARRAY_SIZE(loads); k++) {
			rc = start_load(t, loads[k]);
			if (!rc)
				rc = one_cell(t, lengths[i], mib);
			stop_load(t);
		}
	return rc;
}

/* What a token costs, in seconds and in bytes. */
static int calibrate(struct ttft *t)
{
	struct kv_backend *b = t->s.backend;
	u32 len = t->o->tiny ? 64 : lengths[1], i;
	double s[3];
	struct request *r;
	int rc = 0;

	for (i = 0; !rc && i < ARRAY_SIZE(s); i++) {
		s[i] = clock_s();
		rc = submit(t, len, 1, false, &r);
		if (!rc)
			rc = step_until_done(t, r);
		s[i] = clock_s() - s[i];
		if (!rc)
			engine_forget(t->s.engine, r);
	}
	t->token_s = bench_median(s, ARRAY_SIZE(s)) / len;
	t->token_bytes = kv_space_bytes(b, len) / len;
	return rc;
}

/* The cells of one bandwidth, with a kvmd of their own. */
static int one_speed(struct ttft *t, const char *path, double speed, char *err)
{
	struct session_opts so = { .model = path,
				   .no_prefix_cache = true,
				   .threads = t->o->threads };
	char size[32], delay[48];
	const char *args[] = { "--size",   size,  "--swap-ram", "256M",
			       "--device", "cpu", NULL };
	struct private_kvmd *d;
	double mib = 0;
	u64 bytes, k;
	int rc = model_packed_bytes(path, &bytes, err);

	if (rc)
		return rc;
	snprintf(size, sizeof(size), "%llu",
		 (unsigned long long)(ALIGN_UP(bytes, (u64)KV_EXTENT_SIZE) +
				      (u64)TTFT_EXTENTS * KV_EXTENT_SIZE));
	if (speed > 0) {
		mib = speed * (double)t->token_bytes / t->token_s / (1 << 20);
		mib = max(mib, 1.0);
		snprintf(delay, sizeof(delay), "write:0/%.0f", mib);
		setenv("KV_DELAY", delay, 1);
		args[5] = "delay:cpu";
	}
	rc = private_kvmd_start_with(args, &d, err);
	unsetenv("KV_DELAY");
	if (rc)
		return rc;
	so.socket = private_kvmd_socket(d);
	rc = bench_session(&t->s, &so);
	for (k = 0; !rc && k < LEN_MAX; k++)
		t->ids[k] = (u32)(k * 2654435761u % t->s.model->hp.vocab);
	if (!rc && t->token_s <= 0)
		rc = calibrate(t);
	if (!rc)
		rc = all_cells(t, (u32)(mib + 0.5));
	if (rc)
		snprintf(err, KV_ERRLEN, "%s", t->s.err);
	session_close(&t->s);
	private_kvmd_stop(d);
	return rc;
}

static int ttft(const struct bench_opts *o, const struct ttft **out, char *note)
{
	static struct ttft memo;
	char path[MODEL_PATH], err[KV_ERRLEN] = "";
	int rc = model_path(MODEL_GEMMA, o->model, path, note);
	u32 i;

	*out = &memo;
	if (rc || memo.o)
		return rc;
	memo.o = o;
	for (i = 0; !rc && i < ARRAY_SIZE(speeds); i++)
		rc = one_speed(&memo, path, speeds[i], err);
	if (rc) {
		memo.o = NULL;
		snprintf(note, FIGURE_NOTE, "%.150s", err);
	}
	return rc;
}

static int run_worst(const struct bench_opts *o, struct figure_result *f)
{
	const struct ttft_cell *worst;
	double ratio[NR_CELLS];
	const struct ttft *t;
	int rc = ttft(o, &t, f->note);
	u32 i;

	if (rc)
		return rc;
	worst = t->cell;
	for (i = 0; i < t->nr_cells; i++) {
		ratio[i] = t->cell[i].ratio;
		if (ratio[i] > worst->ratio)
			worst = &t->cell[i];
	}
	f->measured = worst->ratio;
	snprintf(f->note, sizeof(f->note),
		 "of %u cells; median %.2f; worst: %u tokens, %u MiB/s, load "
		 "%u: swap %.0f, recompute %.0f, chosen %.0f ms",
		 t->nr_cells, bench_median(ratio, t->nr_cells), worst->length,
		 worst->mib, worst->load, worst->s[SWAP] * 1e3,
		 worst->s[RECOMPUTE] * 1e3, worst->s[CHOSEN] * 1e3);
	return 0;
}

static int run_computed(const struct bench_opts *o, struct figure_result *f)
{
	u32 i, n = 0, split = 0, all = 0;
	const struct ttft *t;
	int rc = ttft(o, &t, f->note);

	if (rc)
		return rc;
	for (i = 0; i < t->nr_cells; i++) {
		n += t->cell[i].s[RECOMPUTE] < t->cell[i].s[SWAP];
		split += t->cell[i].split;
		all += t->cell[i].rounds;
	}
	f->measured = (double)n / t->nr_cells;
	snprintf(f->note, sizeof(f->note),
		 "%u of %u cells; %u of %u turns took a part from each", n,
		 t->nr_cells, split, all);
	return 0;
}

FIGURE(ttft_worst, .name = "ttft.worst",
       .what = "first token of a conversation in swap, over the faster of "
	       "reading and computing all; worst cell of a grid",
       .unit = "x", .cmp = CMP_AT_MOST, .target = 1.05, .run = run_worst);
FIGURE(ttft_computed, .name = "ttft.computed",
       .what = "share of the grid's cells in which computing is the faster",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 0.33, .run = run_computed);

static const struct report_col ttft_cols[] = {
	{ "tokens", "tokens", 0 },	 { "mib", "MiB/s", 0 },
	{ "load", "load", 0 },		 { "swap", "swap ms", 1 },
	{ "recompute", "recompute", 1 }, { "chosen", "chosen", 1 },
	{ "ratio", "ratio", 3 },	 { "rounds", "rounds", 0 },
	{ "computed", "computed", 0 },	 { "split", "in part", 0 },
};

static int run_ttft(const struct bench_opts *o, struct report *rep)
{
	const struct ttft *t;
	int rc = ttft(o, &t, rep->note);
	u32 i;

	rep->cols = ttft_cols;
	rep->nr_cols = ARRAY_SIZE(ttft_cols);
	for (i = 0; !rc && i < t->nr_cells; i++) {
		const struct ttft_cell *c = &t->cell[i];

		report_row(rep,
			   json_pack("{s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:i, "
				     "s:i, s:i}",
				     "tokens", (int)c->length, "mib",
				     (int)c->mib, "load", (int)c->load, "swap",
				     c->s[SWAP] * 1e3, "recompute",
				     c->s[RECOMPUTE] * 1e3, "chosen",
				     c->s[CHOSEN] * 1e3, "ratio", c->ratio,
				     "rounds", (int)c->rounds, "computed",
				     (int)c->computed, "split", (int)c->split));
	}
	return rc;
}

SUBJECT(ttft, .name = "ttft",
	.what = "first token of a conversation in swap: read, computed, chosen",
	.run = run_ttft);
