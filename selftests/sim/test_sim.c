/* SPDX-License-Identifier: MIT */
/*
 * test_sim.c - the simulator: many seeds, everything at once
 *
 * SEED=n replays one run; SIM_TURNS=n makes the runs longer.
 *
 * san: address
 */
#include "selftests/harness.h"
#include "selftests/sim/sim.h"

static u64 env_u64(const char *name, u64 otherwise)
{
	const char *v = getenv(name);

	return v && *v ? strtoull(v, NULL, 0) : otherwise;
}

static void run_seeds(struct sim_cfg cfg, u64 first, u64 nr)
{
	struct sim *s = calloc(1, sizeof(*s));
	u64 one = env_u64("SEED", 0), i, steps = 0;
	u64 found = 0, waited = 0, spared = 0;

	ASSERT_TRUE(s != NULL);
	cfg.turns = env_u64("SIM_TURNS", cfg.turns);
	for (i = 0; i < (one ? 1 : nr); i++) {
		cfg.seed = one ? one : first + i;
		sim_run(s, &cfg);
		steps += s->nr_steps;
		found += s->nr_room;
		waited += s->nr_room_waits;
		spared += s->nr_spared;
		if (s->nr_errors)
			TH_LOG("SEED=%llu fails", (unsigned long long)cfg.seed);
		ASSERT_EQ(s->nr_errors, 0);
	}
	TH_LOG("seeds from %llu: last run %llu steps, %llu waits, %llu again, "
	       "%llu too big, %llu forks, %llu copies, %llu moves, %llu exits, "
	       "%llu pages out, %llu in, %llu demoted, %llu times lost, "
	       "%llu extents "
	       "revoked, %llu steps stale, %llu killed",
	       (unsigned long long)first, (unsigned long long)s->nr_steps,
	       (unsigned long long)s->nr_waits, (unsigned long long)s->nr_again,
	       (unsigned long long)s->nr_big, (unsigned long long)s->nr_forks,
	       (unsigned long long)s->nr_copies,
	       (unsigned long long)s->nr_moves, (unsigned long long)s->nr_exits,
	       (unsigned long long)s->nr_out, (unsigned long long)s->nr_in,
	       (unsigned long long)s->nr_demoted,
	       (unsigned long long)s->nr_lost,
	       (unsigned long long)s->nr_revoked,
	       (unsigned long long)s->nr_stale,
	       (unsigned long long)s->nr_kills);
	EXPECT_GT(steps, 0);
	if (cfg.room && !one) {
		TH_LOG("%llu of %llu weights that waited found room, %llu idle "
		       "ones went",
		       (unsigned long long)found, (unsigned long long)waited,
		       (unsigned long long)spared);
		EXPECT_GT(spared, 0);
		EXPECT_GT(found, 0);
		EXPECT_LT(found, waited);
	}
	free(s);
}

TEST(sim, calm_runs_keep_every_token)
{
	struct sim_cfg cfg = {
		.turns = 20000, .extents = 40, .ready = 2, .check_every = 500
	};

	run_seeds(cfg, 1, 6);
}

TEST(sim, scarce_memory_with_delays_keeps_every_token)
{
	struct sim_cfg cfg = { .turns = 20000,
			       .extents = 9,
			       .ready = 1,
			       .check_every = 200,
			       .delays = true,
			       .moves = true };

	run_seeds(cfg, 100, 8);
}

TEST(sim, everything_at_once_keeps_every_token)
{
	struct sim_cfg cfg = { .turns = 20000,
			       .extents = 16,
			       .ready = 2,
			       .check_every = 100,
			       .delays = true,
			       .moves = true,
			       .crashes = true,
			       .limits = true,
			       .liar = true,
			       .faults = true };

	run_seeds(cfg, 1000, 12);
}

TEST(sim, swap_keeps_every_token)
{
	struct sim_cfg cfg = { .turns = 20000,
			       .extents = 9,
			       .ready = 1,
			       .check_every = 200,
			       .delays = true,
			       .moves = true,
			       .swap = { 64, 128 } };

	run_seeds(cfg, 2000, 8);
	cfg.delays = false;
	cfg.swap[1] = 0;
	run_seeds(cfg, 2100, 4);
}

/* Scarce memory that takes its time, clients that die, limits that move. */
static struct sim_cfg harsh(void)
{
	return (struct sim_cfg){ .turns = 20000,
				 .extents = 12,
				 .ready = 2,
				 .check_every = 100,
				 .delays = true,
				 .moves = true,
				 .crashes = true,
				 .limits = true };
}

TEST(sim, swap_that_fails_loses_no_token_silently)
{
	struct sim_cfg cfg = harsh();

	cfg.liar = true;
	cfg.faults = true;
	cfg.swap[0] = 48;
	cfg.swap[1] = 64;
	run_seeds(cfg, 3000, 12);
}

TEST(sim, pages_that_go_from_tier_to_tier_keep_every_token)
{
	struct sim_cfg cfg = { .turns = 20000,
			       .extents = 9,
			       .ready = 1,
			       .check_every = 100,
			       .delays = true,
			       .moves = true,
			       .demotes = true,
			       .swap = { 24, 48, 128 } };

	run_seeds(cfg, 5000, 8);
	cfg.packs = true;
	cfg.limits = true;
	run_seeds(cfg, 5100, 6);
	cfg.crashes = true;
	cfg.liar = true;
	cfg.faults = true;
	cfg.revokes = true;
	run_seeds(cfg, 5200, 12);
}

TEST(sim, revokes_of_deaf_and_hung_clients_lose_no_token_silently)
{
	struct sim_cfg cfg = harsh();

	cfg.revokes = true;
	run_seeds(cfg, 4000, 12);
	cfg.swap[0] = 24;
	cfg.liar = true;
	cfg.faults = true;
	run_seeds(cfg, 4100, 8);
}

TEST(sim, weights_that_wait_for_room_lose_no_token_silently)
{
	struct sim_cfg cfg = harsh();

	cfg.room = true;
	run_seeds(cfg, 6000, 4);
	cfg.revokes = true;
	run_seeds(cfg, 6100, 4);
	cfg.swap[0] = 24;
	cfg.liar = true;
	cfg.faults = true;
	run_seeds(cfg, 6200, 6);
}

TEST(sim, the_same_seed_gives_the_same_run)
{
	struct sim_cfg cfg = { .seed = 7,
			       .turns = 5000,
			       .extents = 16,
			       .ready = 2,
			       .delays = true,
			       .moves = true,
			       .crashes = true,
			       .limits = true,
			       .liar = true,
			       .faults = true };
	struct sim *s = calloc(1, sizeof(*s));
	u64 a, b;

	ASSERT_TRUE(s != NULL);
	a = sim_run(s, &cfg);
	EXPECT_EQ(s->nr_errors, 0);
	b = sim_run(s, &cfg);
	EXPECT_EQ(a, b);
	cfg.seed = 8;
	EXPECT_NE(a, sim_run(s, &cfg));
	TH_LOG("seed 7: hash %#llx", (unsigned long long)a);
	free(s);
}

TEST_HARNESS_MAIN
