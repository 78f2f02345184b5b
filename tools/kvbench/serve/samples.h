/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_SAMPLES_H
#define TOOLS_KVBENCH_SERVE_SAMPLES_H
/*
 * samples.h - measured values, and what is said of them
 */
#include "include/kv/types.h"

struct samples {
	double *v;
	size_t nr, room;
	bool sorted;
	bool lost; /* memory ran out: some are missing */
};

void samples_add(struct samples *s, double v);
void samples_fini(struct samples *s);
/* Of no sample, all of these are 0. */
double samples_mean(const struct samples *s);
double samples_std(const struct samples *s); /* of the population */
/* samples_percentile - between two samples in proportion; sorts @s */
double samples_percentile(struct samples *s, double p);
double samples_max(const struct samples *s);

#endif
