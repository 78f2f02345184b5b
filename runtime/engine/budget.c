/* SPDX-License-Identifier: MIT */
/*
 * budget.c - see budget.h
 */
#include <math.h>
#include <string.h>

#include "runtime/engine/budget.h"

#define FORGET	    64.0 /* steps */
#define FIT	    16u /* steps between two fits */
#define FIRST_FIT   4u
#define HOLD	    0.01 /* pull of a term to what it was, of what steps say */
#define HOLD_FIRST  1e-6
#define DRIFT_STEPS 8u
#define DRIFT_MIN   0.2 /* of the logarithm: a fifth more, or less */
#define NOISE_STEPS 32.0
#define NOISE_MAX   0.5
#define CLEAR	    3.0 /* mean errors; 99 of 100 normal ones are below 3.2 */
#define RATIO_MAX   8.0
#define UP	    8u
#define BLIND_TILES 4u /* tokens, in tiles, while nothing is known */

void budget_init(struct budget *b, double target_s, u32 tile, u32 hi)
{
	*b = (struct budget){
		.target_s = target_s,
		.tile = tile,
		.lo = min(tile, hi),
		.hi = hi,
		.tokens = min(BLIND_TILES * tile, hi),
	};
}

static bool is_known(const struct budget *b)
{
	u32 i;

	for (i = 0; i < BUDGET_TERMS; i++)
		if (b->term[i] > 0)
			return true;
	return false;
}

static void features(const struct budget_load *l, double x[BUDGET_TERMS])
{
	x[BUDGET_STEP] = 1;
	x[BUDGET_TOKEN] = l->tokens;
	x[BUDGET_ROW] = l->rows;
	x[BUDGET_WORK] = l->work;
}

double budget_predict(const struct budget *b, const struct budget_load *l)
{
	double x[BUDGET_TERMS], s = 0;
	u32 i;

	features(l, x);
	for (i = 0; i < BUDGET_TERMS; i++)
		s += b->term[i] * x[i];
	return s;
}

/* Row @i of the equations of the terms in @free, ready to be eliminated. */
static void eliminate(double a[BUDGET_TERMS][BUDGET_TERMS + 1],
		      const bool free[BUDGET_TERMS])
{
	u32 i, j, k;

	for (i = 0; i < BUDGET_TERMS; i++) {
		if (!free[i] || a[i][i] <= 0)
			continue;
		for (j = 0; j < BUDGET_TERMS; j++) {
			double f = a[j][i] / a[i][i];

			if (j == i || !free[j])
				continue;
			for (k = 0; k <= BUDGET_TERMS; k++)
				a[j][k] -= f * a[i][k];
		}
	}
}

/*
 * Least squares without negative terms: the most negative one is left out until
 * there is none. @hold pulls each to what it is, as strongly as a share of what
 * the steps say of it.
 */
static void solve(struct budget *b, double hold)
{
	bool free[BUDGET_TERMS] = { true, true, true, true };
	double a[BUDGET_TERMS][BUDGET_TERMS + 1], v[BUDGET_TERMS];
	u32 i, j, worst;

	do {
		for (i = 0; i < BUDGET_TERMS; i++) {
			double d = hold * b->n[i][i];

			for (j = 0; j < BUDGET_TERMS; j++)
				a[i][j] = b->n[i][j] + (i == j ? d : 0);
			a[i][BUDGET_TERMS] = b->r[i] + d * b->term[i];
		}
		eliminate(a, free);
		worst = BUDGET_TERMS;
		for (i = 0; i < BUDGET_TERMS; i++) {
			v[i] = free[i] && a[i][i] > 0
				       ? a[i][BUDGET_TERMS] / a[i][i]
				       : 0;
			if (v[i] < 0 &&
			    (worst == BUDGET_TERMS ||
			     v[i] * sqrt(b->n[i][i]) <
				     v[worst] * sqrt(b->n[worst][worst])))
				worst = i;
		}
		if (worst < BUDGET_TERMS)
			free[worst] = false;
	} while (worst < BUDGET_TERMS);
	memcpy(b->term, v, sizeof(v));
}

void budget_fit(struct budget *b)
{
	if (!b->nr_seen)
		return;
	solve(b, is_known(b) ? HOLD : HOLD_FIRST);
	b->nr_fit = 0;
}

/* All steps take @f times as long as they did. */
static void scale(struct budget *b, double f)
{
	u32 i;

	for (i = 0; i < BUDGET_TERMS; i++) {
		b->term[i] *= f;
		b->r[i] *= f;
	}
	b->drift = 0;
	b->nr_drift = 0;
}

static void judge(struct budget *b, double ratio)
{
	double log_ratio = log(fmin(fmax(ratio, 1 / RATIO_MAX), RATIO_MAX));

	b->nr_drift++;
	b->drift += (log_ratio - b->drift) / fmin(b->nr_drift, DRIFT_STEPS);
	if (b->nr_drift >= DRIFT_STEPS && fabs(b->drift) > DRIFT_MIN) {
		scale(b, exp(b->drift));
		return;
	}
	b->noise += (fabs(log_ratio) - b->noise) / NOISE_STEPS;
	b->noise = fmin(b->noise, NOISE_MAX);
}

void budget_saw(struct budget *b, const struct budget_load *l, double seconds)
{
	double x[BUDGET_TERMS], w;
	u32 i, j;

	if (!l->rows || seconds <= 0)
		return;
	features(l, x);
	if (is_known(b))
		judge(b, seconds / budget_predict(b, l));
	w = 1 / (seconds * seconds);
	for (i = 0; i < BUDGET_TERMS; i++) {
		b->r[i] += (x[i] * w * seconds) - b->r[i] / FORGET;
		for (j = 0; j < BUDGET_TERMS; j++)
			b->n[i][j] += x[i] * x[j] * w - b->n[i][j] / FORGET;
	}
	b->nr_seen++;
	if (++b->nr_fit >= (is_known(b) ? FIT : FIRST_FIT))
		budget_fit(b);
}

/* What the model says, in whole tiles. */
static u32 wanted(const struct budget *b, const struct budget_load *l, u32 pos)
{
	double room =
		b->target_s / (1 + CLEAR * b->noise) - budget_predict(b, l);
	/* n tokens from @pos on read n * (pos + n / 2) rows */
	double token =
		b->term[BUDGET_TOKEN] + b->term[BUDGET_WORK] * pos * 1e-3;
	double pair = b->term[BUDGET_WORK] * 0.5e-3, tokens;
	u32 whole;

	room = fmax(room, 0);
	tokens = l->tokens +
		 2 * room /
			 fmax(token + sqrt(token * token + 4 * pair * room),
			      1e-12);

	if (!is_known(b))
		return b->tokens;
	whole = (u32)fmin(tokens + 1e-6, b->hi) / b->tile * b->tile;
	return max(min(whole, b->hi), b->lo);
}

u32 budget_tokens(struct budget *b, const struct budget_load *l, u32 pos)
{
	u32 want = wanted(b, l, pos);

	b->nr_up = want > b->tokens ? b->nr_up + 1 : 0;
	if (want < b->tokens || b->nr_up >= UP) {
		b->tokens = want;
		b->nr_up = 0;
		b->nr_moves++;
	}
	return min(max(b->tokens, l->tokens + b->tile), b->hi);
}
