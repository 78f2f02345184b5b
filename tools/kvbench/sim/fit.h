/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SIM_FIT_H
#define TOOLS_KVBENCH_SIM_FIT_H
/*
 * fit.h - the cost model that explains measured steps best
 */
#include "tools/kvbench/sim/fleet.h"

/* A step that was measured. */
struct fit_step {
	double tokens, out, looks; /* as sim_cost_of() counts them */
	double seconds;
};

/**
 * fit_cost - least squares of relative errors, no coefficient below 0
 * @steps: [nr]
 * @out: what they cost
 *
 * Return: the mean of |relative error|; negative: they do not tell.
 */
double fit_cost(const struct fit_step *steps, u32 nr, struct sim_cost *out);

/**
 * measure_cost - run a model's steps and fit them
 * @path: GGUF file
 * @threads: 0: all
 * @out: what its steps cost
 * @off: mean of |relative error|
 * @nr: of steps that were measured
 */
int __must_check measure_cost(const char *path, u32 threads,
			      struct sim_cost *out, double *off, u32 *nr,
			      char *err);

#endif
