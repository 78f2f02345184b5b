/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SIM_REAL_H
#define TOOLS_KVBENCH_SIM_REAL_H
/*
 * real.h - what is simulated, with a real model in real time
 *
 * The same setup gives the same requests to the same scheduler; what differs is
 * that kernels compute, on pages of a private kvmd. And the law of their steps,
 * which simulations take their time by, is measured here and nowhere else.
 */
#include "tools/kvbench/sim/setup.h"
#include "tools/kvrun/session.h"

struct real {
	struct session s;
	struct session_opts so;
	char path[MODEL_PATH], size[32];
};

/**
 * real_open - the model, and room for K and V
 * @x: real_close() it in any case; one at a time
 * @path: GGUF file, NULL: Gemma's
 * @threads: 0: all
 * @err: KV_ERRLEN bytes
 *
 * Return: 0, -EOPNOTSUPP: there is no model, or -errno.
 */
int __must_check real_open(struct real *x, const char *path, u32 threads,
			   char *err);
void real_close(struct real *x);
/* real_engine - another engine, without requests; @err: as real_open() */
int __must_check real_engine(struct real *x, const struct engine_opts *eo,
			     char *err);

/* Setups that run in turns, at most. */
#define REAL_TURNS 3u

/**
 * real_run - the requests of each setup through an engine of its own
 * @s, @r: [nr] as fleet_run() has it; fleet_result_fini() them in any case
 *
 * Several run in turns of half a second, and time stands still for who has
 * none: whatever else is on the machine is so for all of them. Queues are
 * measured of one alone. What a setup says of engines in the plural, of memory
 * and of costs is not for real ones.
 */
int __must_check real_run(struct real *x, const struct sim_setup *s, u32 nr,
			  struct fleet_result *r, char *err);

/**
 * real_and_simulated - the same for real, then by the law of its own steps
 * @real, @sim: fleet_result_fini() both in any case
 *
 * So what else was on the machine is in both, and what is off is the
 * simulation.
 */
int __must_check real_and_simulated(struct real *x, const struct sim_setup *s,
				    struct fleet_result *real,
				    struct fleet_result *sim, char *err);

/**
 * real_law - what its steps take
 * @tiny: what shows that it works
 * @law: the fit to some mixes of prompts and answers
 * @off: mean of |relative error|
 * @nr: kinds of steps that were measured
 */
int __must_check real_law(struct real *x, bool tiny, struct law *law,
			  double *off, u32 *nr, char *err);
/* real_law_here - of the model of @o; measured once */
int __must_check real_law_here(const struct bench_opts *o, struct law *law,
			       char *err);

#endif
