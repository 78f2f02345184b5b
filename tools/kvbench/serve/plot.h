/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_PLOT_H
#define TOOLS_KVBENCH_SERVE_PLOT_H
/*
 * plot.h - pictures of what was measured, as SVG
 */
#include <jansson.h>
#include "include/kv/types.h"

/**
 * plot_dir - all pictures that there is something for
 * @dir: made if it is not there
 * @run: what --save-result has of a run, or NULL
 * @sweep: of a sweep, or NULL
 * @steps: a log of steps, or NULL
 *
 * Return: 0, -errno; it has said what is wrong.
 */
int __must_check plot_dir(const char *dir, const json_t *run,
			  const json_t *sweep, const char *steps);

/* Each writes a file; -errno, and what is wrong in @err, 256 bytes. */
int __must_check plot_sweep(const char *path, const json_t *const *sweeps,
			    const char *const *names, u32 nr, char *err);
int __must_check plot_hits(const char *path, const json_t *run, char *err);
int __must_check plot_steps(const char *path, const char *log, char *err);

/* plot_main - kvbench plot sweep|hits|steps FILE... -o X.svg */
int plot_main(int argc, char **argv);

#endif
