/* SPDX-License-Identifier: MIT */
/*
 * sampler.c - filters and one draw, without sorting a vocabulary
 *
 * Candidates are selected, not sorted: top-k by quickselect, top-p by a
 * quickselect that follows the mass instead of the count. Both use the order
 * (larger logit first, then smaller id), in which no two candidates are
 * equal, and a pivot that depends on the candidates alone, so the result is
 * the same everywhere and the expected time is linear.
 *
 * A row without top-k and top-p is not copied at all: see draw.h. With them
 * only what could be chosen is (raise_floor()).
 *
 * Candidates more than TAIL_NATS below the largest after temperature are
 * left out from the start: e^-40 each, a quarter of a million of them weigh
 * less than 2^-39 of the whole.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/draw.h"
#include "runtime/engine/sampler.h"

#define TAIL_NATS   40.0f
#define SHARE_SLACK 0.01f /* more than rounding makes of a sum's logarithm */

struct cand {
	float x; /* logit / temperature */
	u32 id;
	double p; /* e^(x - max), once weigh() has been here */
};

struct sampler {
	u32 vocab;
	float *x; /* [vocab] penalised logits */
	u32 *count; /* [vocab] all zero between calls */
	struct cand *cand; /* [vocab] */
	double *sums; /* [nr_blocks] */
	float *tops, *ranks; /* [nr_blocks] largest of each; to be sorted */
	u32 nr_blocks;
};

const char *sampler_check(const struct sampling *p)
{
	if (!(p->temperature >= 0.0f && p->temperature <= 1e4f))
		return "the temperature has to be 0 or more";
	if (!(p->top_p > 0.0f && p->top_p <= 1.0f))
		return "top-p has to be above 0 and at most 1";
	if (!(p->min_p >= 0.0f && p->min_p < 1.0f))
		return "min-p has to be at least 0 and below 1";
	if (!(p->repetition > 0.0f && p->repetition <= 1e4f))
		return "the repetition penalty has to be above 0";
	if (!(fabsf(p->presence) <= 1e4f) || !(fabsf(p->frequency) <= 1e4f))
		return "presence and frequency penalties have to be numbers";
	return NULL;
}

int sampler_create(u32 vocab, struct sampler **out)
{
	struct sampler *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->vocab = vocab;
	s->x = malloc(vocab * sizeof(*s->x));
	s->count = calloc(vocab, sizeof(*s->count));
	s->cand = malloc(vocab * sizeof(*s->cand));
	s->nr_blocks = DIV_ROUND_UP(vocab, DRAW_BLOCK);
	s->sums = malloc(s->nr_blocks * sizeof(*s->sums));
	s->tops = malloc(s->nr_blocks * sizeof(*s->tops));
	s->ranks = malloc(s->nr_blocks * sizeof(*s->ranks));
	if (!s->x || !s->count || !s->cand || !s->sums || !s->tops ||
	    !s->ranks) {
		sampler_free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

void sampler_free(struct sampler *s)
{
	if (!s)
		return;
	free(s->x);
	free(s->count);
	free(s->cand);
	free(s->sums);
	free(s->tops);
	free(s->ranks);
	free(s);
}

static bool has_penalties(const struct sampling *p)
{
	return p->repetition != 1.0f || p->presence != 0.0f ||
	       p->frequency != 0.0f;
}

static bool has_ends(const struct sampling *p)
{
	return p->nr_ends && p->min_new;
}

/* Is a row looked at as it is? */
static bool is_plain(const struct sampling *p)
{
	return !has_penalties(p) && !p->nr_bias && !has_ends(p);
}

bool sampler_is_argmax(const struct sampling *p)
{
	return p->temperature == 0.0f && is_plain(p);
}

/* Each id once: its first occurrence finds the count and clears it. */
static void penalise(struct sampler *s, const struct sampling *p,
		     const struct sampler_history *h)
{
	u32 i, n;

	for (i = h->nr_prompt; i < h->nr; i++)
		s->count[h->ids[i]] += 2;
	for (i = 0; i < h->nr_prompt; i++)
		s->count[h->ids[i]] |= 1;
	for (i = 0; i < h->nr; i++) {
		float *x = &s->x[h->ids[i]];

		if (!s->count[h->ids[i]])
			continue;
		n = s->count[h->ids[i]] / 2;
		s->count[h->ids[i]] = 0;
		*x = *x > 0.0f ? *x / p->repetition : *x * p->repetition;
		if (n)
			*x -= p->presence + p->frequency * (float)n;
	}
}

/* What the caller wants of single tokens, after the penalties. */
static void lean(struct sampler *s, const struct sampling *p,
		 const struct sampler_history *h)
{
	u32 i;

	for (i = 0; i < p->nr_bias; i++)
		s->x[p->bias[i].id] += p->bias[i].bias;
	if (h->nr - h->nr_prompt >= p->min_new)
		return;
	for (i = 0; i < p->nr_ends; i++)
		s->x[p->ends[i]] = -INFINITY;
}

static u32 argmax(const float *x, u32 nr)
{
	u32 i, best = 0;

	for (i = 1; i < nr; i++)
		if (x[i] > x[best] || (isnan(x[best]) && !isnan(x[i])))
			best = i;
	return best;
}

/* splitmix64's finaliser: every input bit reaches every output bit. */
static u64 mix(u64 z)
{
	z += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* In [0, 1). */
static double uniform(u64 seed, u64 stream, u64 position)
{
	u64 z = mix(mix(mix(seed) ^ stream) ^ position);

	return (double)(z >> 11) * 0x1p-53;
}

static bool before(const struct cand *a, const struct cand *b)
{
	return a->x > b->x || (a->x == b->x && a->id < b->id);
}

static void swap(struct cand *a, struct cand *b)
{
	struct cand t = *a;

	*a = *b;
	*b = t;
}

/*
 * Partition c[lo, hi) around a median of three: what comes before the pivot
 * to the left of it. Returns where the pivot is.
 */
static u32 partition(struct cand *c, u32 lo, u32 hi)
{
	u32 mid = lo + (hi - lo) / 2, last = hi - 1, i, to = lo;

	if (before(&c[mid], &c[lo]))
		swap(&c[mid], &c[lo]);
	if (before(&c[last], &c[lo]))
		swap(&c[last], &c[lo]);
	if (before(&c[last], &c[mid]))
		swap(&c[last], &c[mid]);
	swap(&c[mid], &c[last]);
	for (i = lo; i < last; i++)
		if (before(&c[i], &c[last]))
			swap(&c[i], &c[to++]);
	swap(&c[to], &c[last]);
	return to;
}

/* Bring the first k of n to the front. */
static void select_count(struct cand *c, u32 n, u32 k)
{
	u32 lo = 0, hi = n, at;

	while (hi - lo > 1) {
		at = partition(c, lo, hi);
		if (at == k || at + 1 == k)
			return;
		if (at > k)
			hi = at;
		else
			lo = at + 1;
	}
}

/* Bring the shortest front of a mass of at least @want to the front. */
static u32 select_mass(struct cand *c, u32 n, double want)
{
	u32 lo = 0, hi = n, at, i;
	double before_lo = 0.0, left;

	while (lo < hi) {
		at = partition(c, lo, hi);
		for (left = 0.0, i = lo; i < at; i++)
			left += c[i].p;
		if (before_lo + left >= want && at > lo) {
			hi = at;
			continue;
		}
		before_lo += left + c[at].p;
		if (before_lo >= want)
			return at + 1;
		lo = at + 1;
	}
	return max(hi, 1u);
}

static double mass(const struct cand *c, u32 n)
{
	double sum = 0.0;
	u32 i;

	for (i = 0; i < n; i++)
		sum += c[i].p;
	return sum;
}

/* What is below it, after temperature, is not within reach of the largest. */
static float floor_of(const struct sampling *p, float top)
{
	if (p->min_p > 0.0f)
		return fmaxf(top - TAIL_NATS, top + logf(p->min_p));
	return top - TAIL_NATS;
}

static int by_fall(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x < y) - (x > y);
}

/*
 * Below which no candidate is chosen, whatever else there is. Of k blocks each
 * has one as large as the k-th largest of the blocks' largest. And all that
 * are below a share of the mass that top-p leaves out, a share for each, weigh
 * less than that together. *@all: the mass of all candidates, if that was
 * needed.
 */
static float raise_floor(struct sampler *s, const struct sampling *p,
			 const struct draw *d, double *all)
{
	float share;

	*all = 0;
	if (p->top_k && p->top_k <= s->nr_blocks) {
		memcpy(s->ranks, s->tops, s->nr_blocks * sizeof(*s->ranks));
		qsort(s->ranks, s->nr_blocks, sizeof(*s->ranks), by_fall);
		return fmaxf(d->floor, s->ranks[p->top_k - 1] * d->inv);
	}
	if (p->top_k)
		return d->floor;
	*all = draw_sum(d, s->sums);
	share = (1.0f - p->top_p) * (float)*all / (float)s->vocab;
	return fmaxf(d->floor, d->top + logf(share) - SHARE_SLACK);
}

/* Candidates that reach the floor, in the order of their ids. */
static u32 collect(struct sampler *s, const struct draw *d, float floor)
{
	u32 b, i, end, n = 0;

	for (b = 0; b < s->nr_blocks; b++) {
		if (!(s->tops[b] * d->inv >= floor))
			continue;
		end = min((b + 1) * DRAW_BLOCK, s->vocab);
		for (i = b * DRAW_BLOCK; i < end; i++) {
			float v = d->x[i] * d->inv;

			if (v >= floor)
				s->cand[n++] = (struct cand){ .x = v, .id = i };
		}
	}
	return n;
}

static void weigh(struct cand *c, u32 n, float top)
{
	u32 i;

	for (i = 0; i < n; i++)
		c[i].p = (double)draw_exp(c[i].x - top);
}

u32 sampler_pick(struct sampler *s, const struct sampling *p,
		 const float *logits, const struct sampler_history *h,
		 u64 stream)
{
	struct draw d = { .nr = s->vocab, .inv = 1.0f / p->temperature };
	const float *x = logits;
	double u, sum, all;
	u32 i, n;

	if (!is_plain(p)) {
		memcpy(s->x, logits, s->vocab * sizeof(*s->x));
		if (has_penalties(p))
			penalise(s, p, h);
		lean(s, p, h);
		x = s->x;
	}
	if (p->temperature == 0.0f)
		return argmax(x, s->vocab);
	draw_tops(x, s->vocab, s->tops);
	d.x = x;
	d.top = draw_max(s->tops, s->nr_blocks) * d.inv;
	d.floor = floor_of(p, d.top);
	if (!isfinite(d.top))
		return argmax(x, s->vocab);
	u = uniform(p->seed, stream, h->nr);
	if (!p->top_k && p->top_p >= 1.0f)
		return draw_pick(&d, s->sums, u);
	n = collect(s, &d, raise_floor(s, p, &d, &all));
	if (p->top_k && p->top_k < n) {
		select_count(s->cand, n, p->top_k);
		n = p->top_k;
	}
	weigh(s->cand, n, d.top);
	if (p->top_p < 1.0f)
		n = select_mass(s->cand, n,
				(double)p->top_p *
					(all > 0 ? all : mass(s->cand, n)));
	sum = mass(s->cand, n);
	u *= sum;
	for (i = 0; i + 1 < n; i++) {
		u -= s->cand[i].p;
		if (u < 0.0)
			break;
	}
	return s->cand[i].id;
}
