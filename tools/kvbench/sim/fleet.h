/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SIM_FLEET_H
#define TOOLS_KVBENCH_SIM_FLEET_H
/*
 * fleet.h - engines of the simulated world at work
 *
 * The engines are the real ones, scheduler and all; their machine takes the
 * time that a law says and computes nothing. A session stays with one engine.
 */
#include "runtime/engine/engine.h"
#include "tools/kvbench/serve/samples.h"
#include "tools/kvbench/serve/work.h"
#include "tools/kvbench/sim/backend.h"

struct fleet_cfg {
	struct world_cfg world;
	const struct simkv_shape *shape;
	struct engine_opts engine; /* the machine is the fleet's */
	struct law law; /* of steps */
	u32 nr_engines;
	bool share_cores; /* one step at a time of all engines */
	u32 context;
	double most_s; /* of the world's time; -ETIMEDOUT afterwards */
};

struct fleet_result {
	u32 completed, failed;
	u64 input, output, mapped, prefill, preempted, turns, steps, lost;
	u64 max_running;
	double duration; /* s, from the start to the last end */
	double busy; /* s of steps, of all engines */
	/* s; norm: e2e a token; queue: until a request's first step */
	struct samples ttft, itl, tpot, e2e, norm, queue;
	struct law law; /* of the steps, if they were real */
	u32 faults; /* mm_check() at the end, steps that were none */
	u64 hash;
	char first_error[KV_ERRLEN];
};

/**
 * fleet_run - all requests of @work, to their end
 * @r: fleet_result_fini() it in any case
 * @err: KV_ERRLEN bytes
 *
 * Return: 0, also if requests failed; -EDEADLK, -ETIMEDOUT: some never ended.
 */
int __must_check fleet_run(const struct fleet_cfg *cfg, const struct work *work,
			   struct fleet_result *r, char *err);
void fleet_result_fini(struct fleet_result *r);

#endif
