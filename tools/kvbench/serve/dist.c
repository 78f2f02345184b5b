/* SPDX-License-Identifier: MIT */
/*
 * dist.c - distributions of lengths and of the time between arrivals
 *
 * The time between arrivals is of a gamma distribution whose shape is the
 * burstiness and whose mean is 1/rate: shape 1 is the exponential one of a
 * Poisson process. They are drawn before the run starts and depend on the
 * seed alone, not on how the server does.
 */
#include "tools/kvbench/serve/dist.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	enum dist_kind kind;
	int least, most; /* numbers behind the name */
} kinds[] = {
	{ "fixed", DIST_FIXED, 1, 1 },
	{ "uniform", DIST_UNIFORM, 2, 2 },
	{ "lognormal", DIST_LOGNORMAL, 2, 3 },
	{ "pareto", DIST_PARETO, 2, 3 },
};

/* Numbers with colons between them. Return: how many, -1: something else. */
static int numbers(const char *s, double *v, int room)
{
	char *end;
	int n;

	for (n = 0; n < room; n++) {
		errno = 0;
		v[n] = strtod(s, &end);
		if (end == s || errno || !isfinite(v[n]))
			return -1;
		if (!*end)
			return n + 1;
		if (*end != ':')
			return -1;
		s = end + 1;
	}
	return -1;
}

static bool is_sound(const struct dist *d)
{
	if (d->a < 1 || d->a > 1e7 || d->max < 1)
		return false;
	switch (d->kind) {
	case DIST_UNIFORM:
		return d->b >= d->a && d->b <= 1e7;
	case DIST_LOGNORMAL:
		return d->b >= 0 && d->b <= 10;
	case DIST_PARETO:
		return d->b > 1 && d->b <= 100;
	default:
		return true;
	}
}

bool dist_parse(const char *s, struct dist *d)
{
	size_t len = strcspn(s, ":"), i;
	double v[3];
	int n;

	memset(d, 0, sizeof(*d));
	d->max = 10000000;
	n = numbers(s, v, 2);
	if (n > 0) {
		d->kind = n == 1 ? DIST_FIXED : DIST_UNIFORM;
		d->a = v[0];
		d->b = n == 2 ? v[1] : v[0];
		return is_sound(d);
	}
	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strlen(kinds[i].name) == len &&
		    !strncmp(kinds[i].name, s, len))
			break;
	if (i == ARRAY_SIZE(kinds) || !s[len])
		return false;
	n = numbers(s + len + 1, v, kinds[i].most);
	if (n < kinds[i].least)
		return false;
	d->kind = kinds[i].kind;
	d->a = v[0];
	d->b = n > 1 ? v[1] : v[0];
	if (d->kind >= DIST_LOGNORMAL)
		d->max = n > 2 && v[2] >= 1 && v[2] <= 1e7 ? (u32)v[2]
			 : n > 2			   ? 0
							   : DIST_MAX;
	return is_sound(d);
}

double dist_mean(const struct dist *d)
{
	return d->kind == DIST_UNIFORM ? (d->a + d->b) / 2 : d->a;
}

u32 dist_draw(const struct dist *d, struct bench_rng *r)
{
	double x = d->a;

	switch (d->kind) {
	case DIST_FIXED:
		break;
	case DIST_UNIFORM:
		x = floor(d->a) +
		    floor(bench_uniform(r) * (floor(d->b) - floor(d->a) + 1));
		break;
	case DIST_LOGNORMAL:
		x = exp(log(d->a) - d->b * d->b / 2 + d->b * bench_normal(r));
		break;
	case DIST_PARETO:
		x = d->a * (d->b - 1) / d->b *
		    pow(1 - bench_uniform(r), -1 / d->b);
		break;
	}
	x = max(1.0, floor(x + 0.5));
	return (u32)min(x, (double)d->max);
}

/*
 * Marsaglia and Tsang's method: a cubed normal number, accepted most of the
 * time; for a shape below 1 the one of shape + 1, times u^(1/shape).
 */
double gamma_draw(double shape, struct bench_rng *r)
{
	double d, c, x, v, u, boost = 1;

	if (shape < 1) {
		boost = pow(1 - bench_uniform(r), 1 / shape);
		shape += 1;
	}
	d = shape - 1.0 / 3;
	c = 1 / sqrt(9 * d);
	for (;;) {
		x = bench_normal(r);
		v = 1 + c * x;
		if (v <= 0)
			continue;
		v = v * v * v;
		u = 1 - bench_uniform(r);
		if (log(u) < x * x / 2 + d - d * v + d * log(v))
			return d * v * boost;
	}
}

void arrival_times(double rate, double burstiness, u64 seed, double *t, u32 nr)
{
	struct bench_rng r = { .s = seed };
	double at = 0;
	u32 i;

	for (i = 0; i < nr; i++) {
		if (isfinite(rate))
			at += gamma_draw(burstiness, &r) / (burstiness * rate);
		t[i] = at;
	}
}
