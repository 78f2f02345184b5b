/* SPDX-License-Identifier: MIT */
/*
 * sample.c - medians, and random numbers that a seed replays
 */
#include "tools/kvbench/bench.h"

#include <math.h>
#include <sched.h>
#include <stdlib.h>

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bench_percentile(double *v, size_t n, double p)
{
	size_t i;

	if (!n)
		return 0;
	qsort(v, n, sizeof(*v), cmp_double);
	i = (size_t)(p / 100 * (double)n);
	return v[i < n ? i : n - 1];
}

double bench_median(double *v, size_t n)
{
	return bench_percentile(v, n, 50);
}

/* splitmix64: every seed is a good one. */
u64 bench_rand(struct bench_rng *r)
{
	u64 z = r->s += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

double bench_uniform(struct bench_rng *r)
{
	return (double)(bench_rand(r) >> 11) * 0x1p-53;
}

/* Box-Muller, one of the pair. */
double bench_normal(struct bench_rng *r)
{
	double u = 1 - bench_uniform(r), v = bench_uniform(r);

	return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

u32 bench_threads(const struct bench_opts *o)
{
	cpu_set_t set;
	int n;

	if (o->threads)
		return o->threads;
	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	n = CPU_COUNT(&set);
	return n > 0 ? (u32)n : 1;
}
