/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_LAW_H
#define RUNTIME_ENGINE_LAW_H
/*
 * law.h - what a step takes
 *
 * A sum of four terms:
 *
 *	step		whatever is in it: the weights are read
 *	token * tokens	products
 *	row * rows	logits of rows that decide a token
 *	work * work	attention: a thousand rows of K and V that one token
 *			reads, of a layer
 *
 * They are fitted to steps of which it is known what was in them and how long
 * they took: least squares of the relative errors, so that a step of one token
 * counts as much as one of hundreds, and none of them negative. The engine
 * keeps a budget by that (budget.h), and a simulation takes its time by it.
 */
#include "kv/types.h"

struct model;
struct forward_batch;

enum law_term { LAW_STEP, LAW_TOKEN, LAW_ROW, LAW_WORK, LAW_TERMS };

/* Seconds of each; all 0: it is not known. */
struct law {
	double term[LAW_TERMS];
};

/**
 * struct law_load - what is in a step
 * @tokens: of all sequences
 * @rows: of them with logits
 * @work: thousands of rows of K and V that its tokens read, of a layer
 */
struct law_load {
	u32 tokens, rows;
	double work;
};

/* Normal equations of the relative errors of steps; zeroed: of none. */
struct law_sums {
	double n[LAW_TERMS][LAW_TERMS], r[LAW_TERMS];
};

/* law_work - of @nr tokens from position @pos on; windows see no further */
double law_work(const struct model *m, u32 nr, u32 pos);
/* law_load_of - a batch */
struct law_load law_load_of(const struct model *m,
			    const struct forward_batch *b);
/* law_seconds - what a step takes; 0: the law is not known */
double law_seconds(const struct law *law, const struct law_load *l);
bool law_is_known(const struct law *law);

/**
 * law_see - a step that took so long
 * @forget: share of what earlier steps said that is forgotten for it
 */
void law_see(struct law_sums *s, const struct law_load *l, double seconds,
	     double forget);
/**
 * law_fit - the terms that explain what was seen
 * @hold: pull of each to what it was, of what the steps say of it; above 0,
 *	so that steps that are all alike leave alone what they do not say
 */
void law_fit(struct law *law, const struct law_sums *s, double hold);

#endif
