/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_ENGINE_BUDGET_H
#define RUNTIME_ENGINE_BUDGET_H
/*
 * budget.h - how many tokens a step may have, that it ends in time
 *
 * What a step takes is a law of four terms (law.h). Each step that somebody
 * waits for a token of says how long it took; what a step said FORGET steps ago
 * counts a third of what the last one says. Steps that are all alike say
 * nothing about three of the terms: these stay near what they were. When steps
 * take longer or shorter altogether, because others use the machine, all terms
 * are scaled at once: a prompt does not have to be computed to learn what one
 * would take now.
 *
 * The budget is the largest multiple of the tile of which the model says that
 * the step ends in time, with what the errors of the model lately were kept
 * clear of. It goes down at once, and up when it could for UP steps.
 *
 * No clock and no engine in here: one is told.
 */
#include "runtime/engine/law.h"

struct budget {
	double target_s;
	u32 tile, lo, hi;

	struct law law;
	double noise; /* mean of the model's relative errors */
	u32 tokens; /* the budget */
	u64 nr_moves;

	struct law_sums seen;
	double drift; /* mean logarithm of measured over predicted */
	u32 nr_seen, nr_fit, nr_drift; /* steps: all, since a fit, a scaling */
	u32 nr_up; /* steps in which it could have gone up */
};

/**
 * budget_init - a budget that knows nothing yet
 * @target_s: from one token to the next
 * @tile: rows that products are computed by; the budget is a multiple
 * @hi: tokens of a step at most
 */
void budget_init(struct budget *b, double target_s, u32 tile, u32 hi);
/* budget_saw - a step with @rows > 0 took so long */
void budget_saw(struct budget *b, const struct law_load *l, double seconds);
/* budget_fit - the terms from all that was seen, now */
void budget_fit(struct budget *b);
/**
 * budget_tokens - tokens that the next step may have
 * @l: what is in it already
 * @pos: where the prompt is of which it would be filled up
 * @scores: and each of its tokens has logits
 *
 * Return: at least a tile more than it has: prompts always get on.
 */
u32 budget_tokens(struct budget *b, const struct law_load *l, u32 pos,
		  bool scores);

#endif
