/* SPDX-License-Identifier: MIT */
/*
 * samples.c - measured values, and what is said of them
 *
 * All values are kept, so that a percentile is one: the tail is what such a
 * run is for, and a million of them are eight megabytes.
 */
#include "tools/kvbench/serve/samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void samples_add(struct samples *s, double v)
{
	size_t room;
	double *p;

	if (s->nr == s->room) {
		room = s->room ? 2 * s->room : 256;
		p = realloc(s->v, room * sizeof(*p));
		if (!p) {
			s->lost = true;
			return;
		}
		s->v = p;
		s->room = room;
	}
	s->v[s->nr++] = v;
	s->sorted = false;
}

void samples_fini(struct samples *s)
{
	free(s->v);
	memset(s, 0, sizeof(*s));
}

double samples_mean(const struct samples *s)
{
	double sum = 0;
	size_t i;

	for (i = 0; i < s->nr; i++)
		sum += s->v[i];
	return s->nr ? sum / (double)s->nr : 0;
}

double samples_std(const struct samples *s)
{
	double mean = samples_mean(s), sum = 0;
	size_t i;

	for (i = 0; i < s->nr; i++)
		sum += (s->v[i] - mean) * (s->v[i] - mean);
	return s->nr ? sqrt(sum / (double)s->nr) : 0;
}

static int cmp_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double samples_percentile(struct samples *s, double p)
{
	double at, part;
	size_t i;

	if (!s->nr)
		return 0;
	if (!s->sorted)
		qsort(s->v, s->nr, sizeof(*s->v), cmp_double);
	s->sorted = true;
	at = p / 100 * (double)(s->nr - 1);
	i = (size_t)at;
	if (i + 1 >= s->nr)
		return s->v[s->nr - 1];
	part = at - (double)i;
	return s->v[i] + part * (s->v[i + 1] - s->v[i]);
}

double samples_max(const struct samples *s)
{
	double m = s->nr ? s->v[0] : 0;
	size_t i;

	for (i = 1; i < s->nr; i++)
		m = max(m, s->v[i]);
	return m;
}
