/* SPDX-License-Identifier: MIT */
/*
 * fit.c - the cost model that explains measured steps best
 *
 * Weighted by 1 / seconds, so that a step of one token counts as much as one
 * of hundreds. A coefficient that comes out negative is left out, and the
 * others are fitted without it.
 */
#include "tools/kvbench/sim/fit.h"

#include <math.h>

#define NR 4u

static void row_of(const struct fit_step *s, double x[NR])
{
	x[0] = 1 / s->seconds;
	x[1] = s->tokens / s->seconds;
	x[2] = s->out / s->seconds;
	x[3] = s->looks / s->seconds;
}

/* Gauss-Jordan with pivots, in place; false: it is singular. */
static bool solve(double a[NR][NR + 1])
{
	u32 i, k, j, best;

	for (i = 0; i < NR; i++) {
		best = i;
		for (k = i + 1; k < NR; k++)
			if (fabs(a[k][i]) > fabs(a[best][i]))
				best = k;
		if (fabs(a[best][i]) < 1e-12)
			return false;
		for (j = 0; j <= NR; j++) {
			double t = a[i][j];

			a[i][j] = a[best][j];
			a[best][j] = t;
		}
		for (k = 0; k < NR; k++) {
			double by = a[k][i] / a[i][i];

			for (j = i; k != i && j <= NR; j++)
				a[k][j] -= by * a[i][j];
		}
	}
	for (i = 0; i < NR; i++)
		a[i][NR] /= a[i][i];
	return true;
}

/* Scales, so that all coefficients are of one order when they are solved. */
static const double scale[NR] = { 1e-2, 1e-3, 1e-3, 1e-7 };

static bool fit_those(const struct fit_step *steps, u32 nr, u32 without,
		      double c[NR])
{
	double a[NR][NR + 1] = { 0 }, x[NR];
	u32 i, j, k;

	for (i = 0; i < nr; i++) {
		row_of(&steps[i], x);
		for (j = 0; j < NR; j++) {
			for (k = 0; k < NR; k++)
				a[j][k] += x[j] * scale[j] * x[k] * scale[k];
			a[j][NR] += x[j] * scale[j];
		}
	}
	for (j = 0; j < NR; j++) {
		if (!(without >> j & 1))
			continue;
		for (k = 0; k < NR; k++)
			a[j][k] = a[k][j] = 0;
		a[j][j] = 1;
		a[j][NR] = 0;
	}
	if (!solve(a))
		return false;
	for (j = 0; j < NR; j++)
		c[j] = a[j][NR] * scale[j];
	return true;
}

double fit_cost(const struct fit_step *steps, u32 nr, struct sim_cost *out)
{
	double c[NR], x[NR], off = 0, sum;
	u32 without = 0, worst, i, j;

	for (;;) {
		if (!fit_those(steps, nr, without, c))
			return -1;
		worst = 0;
		for (j = 1; j < NR; j++)
			if (c[j] / scale[j] < c[worst] / scale[worst])
				worst = j;
		if (c[worst] >= 0)
			break;
		without |= 1u << worst;
	}
	for (i = 0; i < nr; i++) {
		row_of(&steps[i], x);
		for (sum = 0, j = 0; j < NR; j++)
			sum += c[j] * x[j];
		off += fabs(sum - 1);
	}
	*out = (struct sim_cost){ c[0], c[1], c[2], c[3] };
	return nr ? off / nr : -1;
}
