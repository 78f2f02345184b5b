/* SPDX-License-Identifier: MIT */
/*
 * budget.c - see budget.h
 */
#include <math.h>

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

void budget_fit(struct budget *b)
{
	if (!b->nr_seen)
		return;
	law_fit(&b->law, &b->seen, law_is_known(&b->law) ? HOLD : HOLD_FIRST);
	b->nr_fit = 0;
}

/* All steps take @f times as long as they did. */
static void scale(struct budget *b, double f)
{
	u32 i;

	for (i = 0; i < LAW_TERMS; i++) {
		b->law.term[i] *= f;
		b->seen.r[i] *= f;
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

void budget_saw(struct budget *b, const struct law_load *l, double seconds)
{
	if (!l->rows || seconds <= 0)
		return;
	if (law_is_known(&b->law))
		judge(b, seconds / law_seconds(&b->law, l));
	law_see(&b->seen, l, seconds, 1 / FORGET);
	b->nr_seen++;
	if (++b->nr_fit >= (law_is_known(&b->law) ? FIT : FIRST_FIT))
		budget_fit(b);
}

/* What the model says, in whole tiles. */
static u32 wanted(const struct budget *b, const struct law_load *l, u32 pos,
		  bool scores)
{
	double room =
		b->target_s / (1 + CLEAR * b->noise) - law_seconds(&b->law, l);
	/* n tokens from @pos on read n * (pos + n / 2) rows */
	double work = b->law.term[LAW_WORK] * 1e-3;
	double row = scores ? b->law.term[LAW_ROW] : 0;
	double token = b->law.term[LAW_TOKEN] + row + work * pos;
	double pair = 0.5 * work, tokens;
	u32 whole;

	room = fmax(room, 0);
	tokens = l->tokens +
		 2 * room /
			 fmax(token + sqrt(token * token + 4 * pair * room),
			      1e-12);

	if (!law_is_known(&b->law))
		return b->tokens;
	whole = (u32)fmin(tokens + 1e-6, b->hi) / b->tile * b->tile;
	return max(min(whole, b->hi), b->lo);
}

u32 budget_tokens(struct budget *b, const struct law_load *l, u32 pos,
		  bool scores)
{
	u32 want = wanted(b, l, pos, scores);

	b->nr_up = want > b->tokens ? b->nr_up + 1 : 0;
	if (want < b->tokens || b->nr_up >= UP) {
		b->tokens = want;
		b->nr_up = 0;
		b->nr_moves++;
	}
	return min(max(b->tokens, l->tokens + b->tile), b->hi);
}
