/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_DIST_H
#define TOOLS_KVBENCH_SERVE_DIST_H
/*
 * dist.h - distributions of lengths and of the time between arrivals
 */
#include "tools/kvbench/bench.h"

enum dist_kind { DIST_FIXED, DIST_UNIFORM, DIST_LOGNORMAL, DIST_PARETO };

struct dist {
	enum dist_kind kind;
	double a; /* the value, the least one, or the mean */
	double b; /* the largest one, sigma, or alpha */
	u32 max; /* longer ones become this */
};

#define DIST_MAX 32768u

/**
 * dist_parse - read a distribution of lengths
 * @s: "N", "fixed:N", "LO:HI", "uniform:LO:HI", "lognormal:MEAN:SIGMA[:MAX]",
 *	"pareto:MEAN:ALPHA[:MAX]"
 *
 * Return: true if it is one.
 */
bool dist_parse(const char *s, struct dist *d);

/* dist_draw - a length, at least 1 */
u32 dist_draw(const struct dist *d, struct bench_rng *r);
/* dist_mean - what it is on average, if nothing were cut off at ->max */
double dist_mean(const struct dist *d);

/**
 * gamma_draw - a number of a gamma distribution
 * @shape: > 0
 *
 * Return: a number with mean @shape and variance @shape.
 */
double gamma_draw(double shape, struct bench_rng *r);

/**
 * arrival_times - when requests come, from the start on
 * @rate: of them a second; INFINITY: all at once
 * @burstiness: 1 is Poisson's; below, they come in bursts; above, evenly
 * @t: [nr] seconds, rising
 */
void arrival_times(double rate, double burstiness, u64 seed, double *t, u32 nr);

#endif
