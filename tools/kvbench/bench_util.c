/* SPDX-License-Identifier: MIT */
/*
 * bench_util.c - how much of the allocated KV memory holds tokens
 *
 * Requests with ShareGPT-like lengths run through the real mm core: prompt
 * and answer lognormal with means 161 and 338, together at most 2,048 tokens.
 * The queue never runs dry. A step computes the prompts of what was admitted
 * and one token of every other sequence. Admission is first come first
 * served while 1 % of the pool stays free; when a step finds no page, the
 * latest arrival is preempted, its pages go, and it is recomputed later, at
 * the head of the queue; nobody is admitted then until somebody finishes.
 * Steps count as equally long.
 *
 *	paged		pages are reserved as tokens need them
 *	reserve-max	a sequence reserves all 2,048 tokens when it starts
 *
 * After a warm-up every step adds to the averages:
 *	frames	tokens committed / tokens that the frames in use could hold
 *	chunks	bytes of committed tokens / bytes of extents held
 */
#include "tools/kvbench/bench.h"
#include "tools/kvbench/mmhost.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define UTIL_CONTEXT 2048u /* tokens of the worst case */
#define UTIL_SIGMA   1.0 /* of both lognormals */

struct util_params {
	u64 pool_bytes;
	u32 page_tokens;
	u32 layers; /* of one KV head of 256: 1 KiB a token and layer */
	bool reserve_max;
	u32 steps, warmup;
	u64 seed;
};

struct util_stats {
	double frames, chunks; /* shares, 0..1 */
	double resident; /* sequences, time-averaged */
	u64 tokens; /* generated, each once, after the warm-up */
	u64 finished, preempted, recomputed;
	u32 max_resident;
	/* of the steps after the warm-up: for a cost model */
	double mean_prefill;
};

struct useq {
	u32 space;
	u32 prompt, total; /* total = prompt + answer */
	u32 len; /* committed */
	u32 generated; /* survives preemption */
	u64 arrival;
};

struct util_sim {
	const struct util_params *p;
	struct mmhost h;
	struct bench_rng rng;
	struct kv_space_args space_args;
	struct useq *run; /* by arrival */
	u32 nr_run, max_run;
	struct useq *wait; /* [max_run] preempted, by arrival */
	u32 nr_wait;
	bool hold; /* preempted: admit nobody until somebody finishes */
	u64 arrivals;
	u64 pool_pages, used_pages;
	double mu_in, mu_out;
	struct util_stats st;
};

static u32 draw(struct util_sim *s, double mu)
{
	double v = exp(mu + UTIL_SIGMA * bench_normal(&s->rng));

	if (v >= UTIL_CONTEXT)
		return UTIL_CONTEXT;
	return v < 1 ? 1 : (u32)(v + 0.5);
}

static void draw_lengths(struct util_sim *s, u32 *prompt, u32 *total)
{
	do {
		*prompt = draw(s, s->mu_in);
		*total = *prompt + draw(s, s->mu_out);
	} while (*prompt >= UTIL_CONTEXT || *total > UTIL_CONTEXT);
}

/*
 * The limit of 2,048 tokens cuts the tails off, so the untruncated means have
 * to lie above the wanted ones: raise them until the drawn means agree.
 */
static void fit_lengths(struct util_sim *s)
{
	const double want_in = 161, want_out = 338;
	struct bench_rng keep = s->rng;
	const u32 nr = s->p->steps < 1000 ? 2000 : 40000;
	u32 round, i, prompt, total;
	double in, out;

	s->mu_in = log(want_in) - UTIL_SIGMA * UTIL_SIGMA / 2;
	s->mu_out = log(want_out) - UTIL_SIGMA * UTIL_SIGMA / 2;
	for (round = 0; round < 12; round++) {
		s->rng.s = 12345;
		in = out = 0;
		for (i = 0; i < nr; i++) {
			draw_lengths(s, &prompt, &total);
			in += prompt;
			out += total - prompt;
		}
		s->mu_in += log(want_in * nr / in);
		s->mu_out += log(want_out * nr / out);
	}
	s->rng = keep;
}

static u32 pages_of(const struct util_sim *s, u32 tokens)
{
	return DIV_ROUND_UP(tokens, s->p->page_tokens);
}

static int sim_init(struct util_sim *s, const struct util_params *p)
{
	const struct kv_geometry *g;
	int rc;

	memset(s, 0, sizeof(*s));
	s->p = p;
	s->rng.s = p->seed;
	rc = mmhost_init(&s->h, p->pool_bytes, 0);
	if (rc)
		return rc;
	rc = mmhost_geom(&s->h, p->page_tokens, p->layers, 1, 256);
	if (rc < 0)
		return rc;
	g = mm_geom(s->h.mm, s->h.client, (u32)rc);
	s->space_args.nr_areas = 1;
	s->space_args.area[0].geom = (u32)rc;
	s->space_args.area[0].nr_heads = 1;
	s->pool_pages =
		p->pool_bytes / KV_CHUNK_SIZE / g->slab_chunks * g->slab_pages;
	s->max_run = (u32)min(s->pool_pages, (u64)KV_SPACE_MAX);
	s->run = calloc(s->max_run, sizeof(*s->run));
	s->wait = calloc(s->max_run, sizeof(*s->wait));
	fit_lengths(s);
	return s->run && s->wait ? 0 : -ENOMEM;
}

static void sim_fini(struct util_sim *s)
{
	free(s->run);
	free(s->wait);
	if (s->h.mm)
		mmhost_fini(&s->h);
}

/* Pages that the books say a sequence of @len committed tokens has. */
static u32 seq_pages(const struct util_sim *s, u32 len)
{
	return pages_of(s, s->p->reserve_max ? UTIL_CONTEXT : len);
}

static int seq_end(struct util_sim *s, u32 i)
{
	struct useq *q = &s->run[i];
	int rc = mm_space_destroy(s->h.mm, s->h.client, q->space);

	mmhost_drain(&s->h);
	s->used_pages -= seq_pages(s, q->len);
	memmove(q, q + 1, (s->nr_run - i - 1) * sizeof(*q));
	s->nr_run--;
	return rc;
}

/* The latest arrival gives its pages up and goes to the head of the queue. */
static int preempt_last(struct util_sim *s)
{
	struct useq q;
	u32 i;

	if (!s->nr_run || s->nr_wait == s->max_run)
		return -ENOSPC;
	q = s->run[s->nr_run - 1];
	s->st.preempted++;
	s->hold = true;
	s->st.recomputed += q.len;
	for (i = s->nr_wait; i && s->wait[i - 1].arrival > q.arrival; i--)
		s->wait[i] = s->wait[i - 1];
	s->wait[i] = q;
	s->nr_wait++;
	return seq_end(s, s->nr_run - 1);
}

/* Tokens [pos, pos + n) of sequence i. */
static int seq_reserve(struct util_sim *s, const struct useq *q, u32 pos, u32 n)
{
	struct kv_resv_item item = { .space = q->space,
				     .nr_tokens = n,
				     .pos = pos };
	struct kv_copy copies[KV_AREA_MAX];

	return mmhost_reserve(&s->h, &item, 1, copies);
}

static void seq_set_len(struct util_sim *s, struct useq *q, u32 len)
{
	if (!s->p->reserve_max)
		s->used_pages += pages_of(s, len) - pages_of(s, q->len);
	q->len = len;
	mmhost_set_len(&s->h, q->space, len);
}

/* One more sequence, if it fits. 1 admitted, 0 not now, -errno. */
static int admit(struct util_sim *s, u32 *prefill)
{
	struct useq q = { 0 };
	struct bench_rng keep = s->rng;
	u32 first, pages;
	int rc;

	if (s->nr_run == s->max_run || (s->hold && s->nr_run))
		return 0;
	if (s->nr_wait)
		q = s->wait[0];
	else
		draw_lengths(s, &q.prompt, &q.total);
	first = q.prompt + q.generated; /* recompute what was generated */
	pages = s->p->reserve_max ? pages_of(s, UTIL_CONTEXT)
				  : pages_of(s, first) + 1;
	if (s->used_pages + pages +
		    (s->p->reserve_max ? 0 : s->pool_pages / 100) >
	    s->pool_pages)
		goto not_now;
	rc = mm_space_create(s->h.mm, s->h.client, &s->space_args);
	if (rc < 0)
		return rc;
	q.space = (u32)rc;
	rc = seq_reserve(s, &q, 0, s->p->reserve_max ? UTIL_CONTEXT : first);
	if (rc == -EAGAIN) {
		mm_space_destroy(s->h.mm, s->h.client, q.space);
		mmhost_drain(&s->h);
		goto not_now;
	}
	if (rc < 0)
		return rc;
	if (s->nr_wait)
		memmove(s->wait, s->wait + 1, --s->nr_wait * sizeof(q));
	else
		q.arrival = ++s->arrivals;
	if (s->p->reserve_max)
		s->used_pages += pages;
	q.len = 0;
	seq_set_len(s, &q, first);
	s->run[s->nr_run++] = q;
	*prefill += first;
	return 1;
not_now:
	if (!s->nr_wait)
		s->rng = keep; /* the same request is asked for next time */
	return 0;
}

/* One token of every sequence that runs. */
static int decode(struct util_sim *s, bool count)
{
	u32 i;
	int rc;

	for (i = 0; i < s->nr_run; i++) {
		struct useq *q = &s->run[i];

		/* only the first token of a page can be missing one */
		while (!s->p->reserve_max && q->len % s->p->page_tokens == 0) {
			rc = seq_reserve(s, q, q->len, 1);
			if (rc >= 0)
				break;
			if (rc != -EAGAIN)
				return rc;
			rc = preempt_last(s);
			if (rc)
				return rc;
			if (i >= s->nr_run)
				return 0; /* it was this one */
		}
		seq_set_len(s, q, q->len + 1);
		q->generated++;
		s->st.tokens += count;
	}
	for (i = s->nr_run; i--;) {
		if (s->run[i].len < s->run[i].total)
			continue;
		s->st.finished++;
		s->hold = false;
		rc = seq_end(s, i);
		if (rc)
			return rc;
	}
	return 0;
}

static void sample(struct util_sim *s, u32 *nr_samples)
{
	struct mm_usage u;

	mm_usage_get(s->h.mm, &u);
	s->st.frames += (double)u.token_bytes / (double)u.frame_bytes;
	s->st.chunks += (double)u.token_bytes / (double)u.held_bytes;
	s->st.resident += s->nr_run;
	s->st.max_resident = max(s->st.max_resident, s->nr_run);
	(*nr_samples)++;
}

static int util_sim_run(const struct util_params *p, struct util_stats *out)
{
	struct util_sim s;
	u32 step, nr_samples = 0, prefill;
	int rc = sim_init(&s, p);

	for (step = 0; !rc && step < p->steps; step++) {
		prefill = 0;
		while ((rc = admit(&s, &prefill)) > 0)
			;
		if (rc)
			break;
		rc = decode(&s, step >= p->warmup);
		mmhost_complete(&s.h);
		if (step < p->warmup || !s.nr_run)
			continue;
		s.st.mean_prefill += prefill;
		sample(&s, &nr_samples);
	}
	if (!rc && mm_check(s.h.mm, NULL, NULL))
		rc = -EUCLEAN;
	if (!rc && nr_samples) {
		s.st.frames /= nr_samples;
		s.st.chunks /= nr_samples;
		s.st.resident /= nr_samples;
		s.st.mean_prefill /= nr_samples;
	}
	*out = s.st;
	sim_fini(&s);
	return rc;
}

/* ---- the figures: the two modes on Gemma's full-attention pages ---- */

static int headline(const struct bench_opts *o, bool reserve_max,
		    struct util_stats *out)
{
	static struct util_stats memo[2];
	static bool have[2];
	struct util_params p = { .pool_bytes = o->tiny ? 64ull << 20
						       : 512ull << 20,
				 .page_tokens = 16,
				 .layers = 3,
				 .reserve_max = reserve_max,
				 .steps = o->tiny ? 400 : 12000,
				 .warmup = o->tiny ? 100 : 2000,
				 .seed = o->seed };
	int rc = 0;

	if (!have[reserve_max]) {
		rc = util_sim_run(&p, &memo[reserve_max]);
		have[reserve_max] = !rc;
	}
	*out = memo[reserve_max];
	return rc;
}

static int run_frames(const struct bench_opts *o, struct figure_result *r)
{
	struct util_stats st;
	int rc = headline(o, false, &st);

	r->measured = 100 * st.frames;
	r->bound = 100;
	snprintf(r->bound_what, sizeof(r->bound_what), "no waste");
	snprintf(r->note, sizeof(r->note),
		 "%.0f sequences resident, %llu finished, %llu preempted",
		 st.resident, (unsigned long long)st.finished,
		 (unsigned long long)st.preempted);
	return rc;
}

static int run_chunks(const struct bench_opts *o, struct figure_result *r)
{
	struct util_stats st;
	int rc = headline(o, false, &st);

	r->measured = 100 * st.chunks;
	r->bound = 100.0 * 42 * 48 / 2048;
	snprintf(r->bound_what, sizeof(r->bound_what),
		 "42 pages of 48 KiB in a chunk");
	return rc;
}

static int run_reserve_max(const struct bench_opts *o, struct figure_result *r)
{
	struct util_stats st;
	int rc = headline(o, true, &st);

	r->measured = 100 * st.frames;
	snprintf(r->note, sizeof(r->note),
		 "%.0f sequences resident, %llu finished", st.resident,
		 (unsigned long long)st.finished);
	return rc;
}

static int run_ratio(const struct bench_opts *o, struct figure_result *r)
{
	struct util_stats paged, whole;
	int rc = headline(o, false, &paged);

	if (!rc)
		rc = headline(o, true, &whole);
	if (!rc)
		r->measured = paged.frames / whole.frames;
	return rc;
}

/* A pool of exactly 4 x 2,048 tokens: pages of 64 KiB fill an extent. */
static int small_pool(const struct bench_opts *o, bool reserve_max,
		      struct util_stats *out)
{
	struct util_params p = { .pool_bytes = 4ull * UTIL_CONTEXT * 4096,
				 .page_tokens = 16,
				 .layers = 4,
				 .reserve_max = reserve_max,
				 .steps = o->tiny ? 600 : 60000,
				 .warmup = o->tiny ? 100 : 2000,
				 .seed = o->seed };

	return util_sim_run(&p, out);
}

static int run_resident(const struct bench_opts *o, struct figure_result *r)
{
	struct util_stats paged, whole;
	int rc = small_pool(o, false, &paged);

	if (!rc)
		rc = small_pool(o, true, &whole);
	if (rc)
		return rc;
	r->measured = paged.resident / whole.resident;
	snprintf(r->note, sizeof(r->note),
		 "%.1f against %.1f; %.2f tokens generated a step for one; "
		 "%.1f %% recomputed",
		 paged.resident, whole.resident,
		 (double)paged.tokens / (double)whole.tokens,
		 100.0 * (double)paged.recomputed / (double)paged.tokens);
	return 0;
}

FIGURE(util_frames, .name = "util.frames",
       .what = "KV bytes in use by tokens, of frames in use; 16-token pages",
       .unit = "%", .cmp = CMP_AT_LEAST, .target = 96, .run = run_frames);
FIGURE(util_chunks, .name = "util.chunks",
       .what = "KV bytes in use by tokens, of extents held; 16-token pages",
       .unit = "%", .cmp = CMP_AT_LEAST, .target = 90, .run = run_chunks);
FIGURE(util_reserve_max, .name = "util.reserve_max",
       .what = "the same when each sequence reserves 2,048 tokens", .unit = "%",
       .cmp = CMP_AT_MOST, .target = 25, .run = run_reserve_max);
FIGURE(util_ratio, .name = "util.ratio",
       .what = "useful share, paged over reserve-max", .unit = "x",
       .cmp = CMP_AT_LEAST, .target = 3.8, .run = run_ratio);
FIGURE(util_resident, .name = "util.resident",
       .what = "sequences resident in a pool of 4 worst cases, over "
	       "reserve-max",
       .unit = "x", .cmp = CMP_AT_LEAST, .target = 4, .run = run_resident);

/* ---- kvbench util: the sweep over page sizes ---- */

static const struct report_col util_cols[] = {
	{ "mode", "mode", 0 },		 { "page_tokens", "page", 0 },
	{ "frames", "frames %", 2 },	 { "chunks", "chunks %", 2 },
	{ "resident", "resident", 1 },	 { "finished", "finished", 0 },
	{ "preempted", "preempted", 0 },
};

static int util_row(const struct bench_opts *o, struct report *rep, u32 page,
		    bool reserve_max)
{
	struct util_params p = { .pool_bytes = o->tiny ? 64ull << 20
						       : 256ull << 20,
				 .page_tokens = page,
				 .layers = 4,
				 .reserve_max = reserve_max,
				 .steps = o->tiny ? 300 : 8000,
				 .warmup = o->tiny ? 100 : 2000,
				 .seed = o->seed };
	struct util_stats st;
	int rc = util_sim_run(&p, &st);

	if (!rc)
		report_row(rep,
			   json_pack("{s:s, s:i, s:f, s:f, s:f, s:I, s:I}",
				     "mode",
				     reserve_max ? "reserve-max" : "paged",
				     "page_tokens", (int)page, "frames",
				     100 * st.frames, "chunks", 100 * st.chunks,
				     "resident", st.resident, "finished",
				     (json_int_t)st.finished, "preempted",
				     (json_int_t)st.preempted));
	return rc;
}

static int run_util(const struct bench_opts *o, struct report *rep)
{
	static const u32 sizes[] = { 1, 8, 16, 32, 64, 128 };
	unsigned int i;
	int rc = 0;

	rep->cols = util_cols;
	rep->nr_cols = ARRAY_SIZE(util_cols);
	for (i = 0; !rc && i < ARRAY_SIZE(sizes); i++)
		rc = util_row(o, rep, sizes[i], false);
	if (!rc)
		rc = util_row(o, rep, 16, true);
	return rc;
}

SUBJECT(util, .name = "util",
	.what = "useful share of allocated KV, by page size (mm core)",
	.run = run_util);
