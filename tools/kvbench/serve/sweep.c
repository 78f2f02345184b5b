/* SPDX-License-Identifier: MIT */
/*
 * sweep.c - the highest rate at which a server keeps what is asked of it
 *
 *	bracket	double the rate until it fails (or halve it until it holds)
 *	bisect	the geometric middle, until both ends are close
 *	repeat	both ends in turn, with other seeds: one run of an open loop
 *		near capacity says little. A lower end that fails more often
 *		than not becomes the upper one, and the next lower rate that
 *		held is tried; an upper end that holds becomes the capacity.
 *		Then between the new ends, and again.
 *
 * In turn, because a machine that is slower for a minute is slower for both.
 */
#include "tools/kvbench/serve/sweep.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "lib/hash.h"

struct search {
	const struct sweep_opts *o;
	struct sweep *s;
	sweep_measure_fn measure;
	void *arg;
	u32 round;
	int rc;
};

/* Return: whether it held; false too when the sweep has to end. */
static bool try_rate(struct search *x, double rate)
{
	struct sweep *s = x->s;
	struct sweep_point *p = &s->point[s->nr];

	if (x->rc || s->nr == SWEEP_POINTS)
		return false;
	*p = (struct sweep_point){
		.rate = rate,
		.round = x->round,
		.seed = hash_add(x->o->seed, s->nr) >> 12,
	};
	x->rc = x->measure(x->arg, p);
	if (x->rc) {
		json_decref(p->figures);
		return false;
	}
	s->nr++;
	return p->ok;
}

static bool may_search(const struct search *x)
{
	return !x->rc && x->s->nr < min(x->o->max_points, SWEEP_POINTS);
}

/* low holds (or is 0), high fails (or is 0). */
static void bracket(struct search *x, double *low, double *high)
{
	double rate = x->o->low;

	*low = *high = 0;
	if (try_rate(x, rate)) {
		*low = rate;
		while (may_search(x) && !*high && *low < x->o->high) {
			rate = min(2 * *low, x->o->high);
			if (try_rate(x, rate))
				*low = rate;
			else
				*high = rate;
		}
		return;
	}
	*high = rate;
	while (may_search(x) && !*low && rate > x->o->low / 64) {
		rate /= 2;
		if (try_rate(x, rate))
			*low = rate;
		else
			*high = rate;
	}
}

/* With points up to number @most. */
static void bisect(struct search *x, double *low, double *high, u32 most)
{
	double middle;

	while (!x->rc && x->s->nr<most && * low> 0 && *high > 0 &&
	       *high / *low > 1 + x->o->precision) {
		middle = sqrt(*low * *high);
		if (try_rate(x, middle))
			*low = middle;
		else
			*high = middle;
	}
}

static void count(const struct sweep *s, double rate, u32 *ok, u32 *tries)
{
	u32 i;

	*ok = *tries = 0;
	for (i = 0; i < s->nr; i++) {
		if (s->point[i].rate != rate)
			continue;
		++*tries;
		*ok += s->point[i].ok;
	}
}

static bool mostly(const struct sweep *s, double rate)
{
	u32 ok, tries;

	count(s, rate, &ok, &tries);
	return 2 * ok > tries;
}

/* The highest rate below that held, mostly; 0: there is none. */
static double next_lower(const struct sweep *s, double rate)
{
	double best = 0;
	u32 i;

	for (i = 0; i < s->nr; i++)
		if (s->point[i].rate < rate && s->point[i].rate > best &&
		    mostly(s, s->point[i].rate))
			best = s->point[i].rate;
	return best;
}

/* The lowest rate above that failed, at least half the time; 0: none. */
static double next_higher(const struct sweep *s, double rate)
{
	double best = 0;
	u32 i;

	for (i = 0; i < s->nr; i++)
		if (s->point[i].rate > rate &&
		    (!best || s->point[i].rate < best) &&
		    !mostly(s, s->point[i].rate))
			best = s->point[i].rate;
	return best;
}

static void repeat(struct search *x, double *low, double *high)
{
	u32 step, k;

	for (step = 0; step < 6 && *low > 0 && !x->rc; step++) {
		for (k = 0; k < x->o->repeat; k++) {
			x->round++;
			try_rate(x, *low);
			if (*high > 0)
				try_rate(x, *high);
		}
		if (*high > 0 && mostly(x->s, *high)) {
			*low = *high;
			*high = next_higher(x->s, *low);
		} else if (!mostly(x->s, *low)) {
			*high = *low;
			*low = next_lower(x->s, *high);
		} else {
			return;
		}
		bisect(x, low, high, min(x->s->nr + 4, SWEEP_POINTS));
	}
	if (*low > 0 && !mostly(x->s, *low)) {
		*high = *low;
		*low = next_lower(x->s, *high);
	}
}

/* What was measured until then is of use, but is no answer. */
static void interrupt(struct sweep *s)
{
	s->is_interrupted = true;
	snprintf(s->verdict, sizeof(s->verdict),
		 "interrupted after %u points: no capacity was found", s->nr);
}

static void judge(struct sweep *s, double low, double high)
{
	s->capacity = low;
	s->failed_at = high;
	count(s, low, &s->ok_at, &s->tries_at);
	count(s, high, &s->ok_above, &s->tries_above);
	if (low <= 0)
		snprintf(s->verdict, sizeof(s->verdict),
			 "none: %.4g/s already is too much", high);
	else if (high <= 0)
		snprintf(s->verdict, sizeof(s->verdict),
			 "at least %.4g/s: it held in %u of %u runs and no "
			 "higher rate was tried that failed",
			 low, s->ok_at, s->tries_at);
	else
		snprintf(s->verdict, sizeof(s->verdict),
			 "%.4g/s: it held in %u of %u runs, %.4g/s in %u of %u",
			 low, s->ok_at, s->tries_at, high, s->ok_above,
			 s->tries_above);
}

int sweep_run(const struct sweep_opts *o, sweep_measure_fn measure, void *arg,
	      struct sweep *s)
{
	struct search x = { .o = o, .s = s, .measure = measure, .arg = arg };
	double low, high;

	memset(s, 0, sizeof(*s));
	bracket(&x, &low, &high);
	bisect(&x, &low, &high, min(o->max_points, SWEEP_POINTS));
	if (!x.rc)
		repeat(&x, &low, &high);
	if (!x.rc)
		judge(s, low, high);
	if (x.rc != -EINTR || !s->nr)
		return x.rc;
	interrupt(s);
	return 0;
}

void sweep_fini(struct sweep *s)
{
	u32 i;

	for (i = 0; i < s->nr; i++)
		json_decref(s->point[i].figures);
	memset(s, 0, sizeof(*s));
}

json_t *sweep_json(const struct sweep *s)
{
	json_t *points = json_array(), *p;
	u32 i;

	for (i = 0; i < s->nr; i++) {
		p = json_pack("{s:f, s:i, s:b, s:s}", "rate", s->point[i].rate,
			      "round", (int)s->point[i].round, "ok",
			      s->point[i].ok, "why", s->point[i].why);
		if (s->point[i].figures)
			json_object_set(p, "figures", s->point[i].figures);
		json_array_append_new(points, p);
	}
	return json_pack("{s:f, s:f, s:i, s:i, s:i, s:i, s:s, s:b, s:o}",
			 "capacity", s->capacity, "failed_at", s->failed_at,
			 "ok_at", (int)s->ok_at, "tries_at", (int)s->tries_at,
			 "ok_above", (int)s->ok_above, "tries_above",
			 (int)s->tries_above, "verdict", s->verdict,
			 "is_interrupted", s->is_interrupted, "points", points);
}
