/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SIM_CAPACITY_H
#define TOOLS_KVBENCH_SIM_CAPACITY_H
/*
 * capacity.h - the highest rate at which a simulation keeps what is asked of it
 */
#include "tools/kvbench/sim/setup.h"

/**
 * sim_capacity - search it, to a hundredth
 * @s: everything but its rate; the same requests come at each
 * @keeps: is it kept in this run?
 * @limit: @keeps is given it
 * @rate: requests/s; 0: none keeps it
 *
 * Return: 0, or as setup_run().
 */
int __must_check sim_capacity(struct sim_setup *s,
			      bool (*keeps)(struct fleet_result *r,
					    double limit),
			      double limit, double *rate, char *err);

#endif
