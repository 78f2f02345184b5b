/* SPDX-License-Identifier: MIT */
/*
 * test_sim_long.c - ten million turns of eight clients, limits moving
 *
 * long: yes
 * timeout: 300
 */
#include "selftests/harness.h"
#include "selftests/sim/sim.h"

TEST_TIMEOUT(sim, ten_million_turns_stay_within_every_limit, 280)
{
	struct sim_cfg cfg = { .turns = 1000000,
			       .extents = 24,
			       .ready = 2,
			       .check_every = 5000,
			       .delays = true,
			       .moves = true,
			       .crashes = true,
			       .limits = true,
			       .liar = true,
			       .faults = true };
	struct sim *s = calloc(1, sizeof(*s));
	u64 steps = 0, turns = 0, first = (u64)th_now();

	ASSERT_TRUE(s != NULL);
	for (cfg.seed = first; cfg.seed < first + 10; cfg.seed++) {
		sim_run(s, &cfg);
		if (s->nr_errors)
			TH_LOG("SEED=%llu fails", (unsigned long long)cfg.seed);
		ASSERT_EQ(s->nr_errors, 0);
		steps += s->nr_steps;
		turns += s->turn;
	}
	TH_LOG("figure: simulator %llu turns, %llu steps compared, seeds from "
	       "%llu: 0 faults, 0 bytes over a limit",
	       (unsigned long long)turns, (unsigned long long)steps,
	       (unsigned long long)first);
	free(s);
}

TEST_HARNESS_MAIN
