/* SPDX-License-Identifier: MIT */
/*
 * values.c - values of options; what is none is said
 */
#include "tools/kvbench/serve/values.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool value_real(const char *s, double least, double most, double *out)
{
	char *end;
	double v = strtod(s, &end);

	if (end == s || *end || !(v >= least && v <= most)) {
		fprintf(stderr, "kvbench: \"%s\" is no number of %g to %g\n", s,
			least, most);
		return false;
	}
	*out = v;
	return true;
}

bool value_whole(const char *s, u32 least, u32 most, u32 *out)
{
	double v;

	if (!value_real(s, least, most, &v))
		return false;
	if (v != floor(v)) {
		fprintf(stderr, "kvbench: \"%s\" is no whole number\n", s);
		return false;
	}
	*out = (u32)v;
	return true;
}

int value_word(const char *s, const char *const *words)
{
	int i;

	for (i = 0; words[i]; i++)
		if (!strcmp(words[i], s))
			return i;
	fprintf(stderr, "kvbench: \"%s\" is none of", s);
	for (i = 0; words[i]; i++)
		fprintf(stderr, " %s", words[i]);
	fputc('\n', stderr);
	return -1;
}

bool value_lengths(const char *s, struct dist *d, bool *has)
{
	*has = dist_parse(s, d);
	if (!*has)
		fprintf(stderr,
			"kvbench: \"%s\" is no length: N, LO:HI, "
			"lognormal:MEAN:SIGMA[:MAX] or "
			"pareto:MEAN:ALPHA[:MAX] with ALPHA > 1\n",
			s);
	return *has;
}

bool value_two(const char *s, double least, double *low, double *high)
{
	char *end;

	*low = strtod(s, &end);
	if (end != s && *end == ':') {
		const char *second = end + 1;

		*high = strtod(second, &end);
		if (end != second && !*end && *low >= least && *high > *low &&
		    *high <= 1e9)
			return true;
	}
	fprintf(stderr, "kvbench: \"%s\" is no LO:HI\n", s);
	return false;
}
