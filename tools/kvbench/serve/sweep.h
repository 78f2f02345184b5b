/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_SWEEP_H
#define TOOLS_KVBENCH_SERVE_SWEEP_H
/*
 * sweep.h - the highest rate at which a server keeps what is asked of it
 */
#include <jansson.h>
#include "include/kv/types.h"

#define SWEEP_POINTS 64u

struct sweep_opts {
	double low, high; /* rates it looks between; it starts at low */
	double precision; /* ends when the two are this close: 0.1 is 10 % */
	u32 max_points; /* of the search */
	u32 repeat; /* times that both ends are tried again, in turn */
	u64 seed;
};

struct sweep_point {
	double rate;
	u32 round; /* 0: of the search; else of the repetition */
	u64 seed;
	bool ok;
	char why[128]; /* it is not */
	json_t *figures;
};

struct sweep {
	struct sweep_point point[SWEEP_POINTS];
	u32 nr;
	double capacity; /* 0: none of the rates is kept */
	double failed_at; /* the lowest rate above that is not; 0: none */
	u32 ok_at, tries_at; /* at the capacity, with the repetitions */
	u32 ok_above, tries_above;
	bool is_interrupted; /* only points are there */
	char verdict[160];
};

/**
 * sweep_measure_fn - one point
 * @p: rate and seed are set; ok, why and figures are to be
 *
 * Return: 0, or -errno: the sweep ends. -EINTR ends it with the points so far.
 */
typedef int (*sweep_measure_fn)(void *arg, struct sweep_point *p);

/**
 * sweep_run - search, then repeat
 * @s: sweep_fini() it in any case
 */
int __must_check sweep_run(const struct sweep_opts *o, sweep_measure_fn measure,
			   void *arg, struct sweep *s);
void sweep_fini(struct sweep *s);
/* sweep_json - {"capacity", "verdict", "points": [...]} */
json_t *sweep_json(const struct sweep *s);

#endif
