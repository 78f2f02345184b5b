/* SPDX-License-Identifier: MIT */
/*
 * law.c - what a step takes
 */
#include <math.h>
#include <string.h>

#include "runtime/engine/law.h"
#include "runtime/model/forward.h"

double law_work(const struct model *m, u32 nr, u32 pos)
{
	double rows = 0, layers = 0, seen = pos + (nr + 1) / 2.0;
	u32 a;

	for (a = 0; a < m->nr_areas; a++) {
		const struct model_area *area = &m->area[a];
		double n = area->nr_layers;

		rows += n *
			(area->window ? min(seen, (double)area->window) : seen);
		layers += n;
	}
	return nr * rows / layers * 1e-3;
}

struct law_load law_load_of(const struct model *m,
			    const struct forward_batch *b)
{
	struct law_load l = { .tokens = b->nr_tokens, .rows = b->nr_out };
	u32 i;

	for (i = 0; i < b->nr_seqs; i++)
		l.work += law_work(m, b->seqs[i].nr_rows, b->seqs[i].pos0);
	return l;
}

static void features(const struct law_load *l, double x[LAW_TERMS])
{
	x[LAW_STEP] = 1;
	x[LAW_TOKEN] = l->tokens;
	x[LAW_ROW] = l->rows;
	x[LAW_WORK] = l->work;
}

double law_seconds(const struct law *law, const struct law_load *l)
{
	double x[LAW_TERMS], s = 0;
	u32 i;

	features(l, x);
	for (i = 0; i < LAW_TERMS; i++)
		s += law->term[i] * x[i];
	return s;
}

bool law_is_known(const struct law *law)
{
	u32 i;

	for (i = 0; i < LAW_TERMS; i++)
		if (law->term[i] > 0)
			return true;
	return false;
}

void law_see(struct law_sums *s, const struct law_load *l, double seconds,
	     double forget)
{
	double x[LAW_TERMS], w = 1 / (seconds * seconds);
	u32 i, j;

	features(l, x);
	for (i = 0; i < LAW_TERMS; i++) {
		s->r[i] += x[i] * w * seconds - s->r[i] * forget;
		for (j = 0; j < LAW_TERMS; j++)
			s->n[i][j] += x[i] * x[j] * w - s->n[i][j] * forget;
	}
}

/* Solve the equations of the terms in @free, in place. */
static void eliminate(double a[LAW_TERMS][LAW_TERMS + 1],
		      const bool free[LAW_TERMS])
{
	u32 i, j, k;

	for (i = 0; i < LAW_TERMS; i++) {
		if (!free[i] || a[i][i] <= 0)
			continue;
		for (j = 0; j < LAW_TERMS; j++) {
			double f = a[j][i] / a[i][i];

			if (j == i || !free[j])
				continue;
			for (k = 0; k <= LAW_TERMS; k++)
				a[j][k] -= f * a[i][k];
		}
	}
}

/* The most negative term is left out until there is none. */
void law_fit(struct law *law, const struct law_sums *s, double hold)
{
	bool free[LAW_TERMS] = { true, true, true, true };
	double a[LAW_TERMS][LAW_TERMS + 1], v[LAW_TERMS];
	u32 i, j, worst;

	do {
		for (i = 0; i < LAW_TERMS; i++) {
			double d = hold * s->n[i][i];

			for (j = 0; j < LAW_TERMS; j++)
				a[i][j] = s->n[i][j] + (i == j ? d : 0);
			a[i][LAW_TERMS] = s->r[i] + d * law->term[i];
		}
		eliminate(a, free);
		worst = LAW_TERMS;
		for (i = 0; i < LAW_TERMS; i++) {
			v[i] = free[i] && a[i][i] > 0
				       ? a[i][LAW_TERMS] / a[i][i]
				       : 0;
			if (v[i] < 0 &&
			    (worst == LAW_TERMS ||
			     v[i] * sqrt(s->n[i][i]) <
				     v[worst] * sqrt(s->n[worst][worst])))
				worst = i;
		}
		if (worst < LAW_TERMS)
			free[worst] = false;
	} while (worst < LAW_TERMS);
	memcpy(law->term, v, sizeof(v));
}
