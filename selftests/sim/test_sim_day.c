/* SPDX-License-Identifier: MIT */
/*
 * test_sim_day.c - 24 hours of a thousand clients
 *
 * timeout: 300
 */
#include "selftests/harness.h"
#include "selftests/sim/day.h"

static void tell(const struct day_result *r, u32 hours)
{
	const struct mm_counts *n = &r->counts;

	TH_LOG("figure: %u hours, %u clients at once: %llu events, %llu steps, "
	       "%llu conversations, %llu deaths",
	       hours, r->most_clients, (unsigned long long)r->events,
	       (unsigned long long)r->steps,
	       (unsigned long long)r->conversations,
	       (unsigned long long)r->deaths);
	TH_LOG("%llu tokens computed, %llu found; %llu waits, %.0f ms at most; "
	       "%llu pages out, %llu in, %llu lost, %llu evicted, %llu "
	       "reclaims, %llu in the background",
	       (unsigned long long)r->tokens, (unsigned long long)r->mapped,
	       (unsigned long long)r->waits, (double)r->max_wait_ns * 1e-6,
	       (unsigned long long)n->swap_out, (unsigned long long)n->swap_in,
	       (unsigned long long)r->lost,
	       (unsigned long long)n->prefix_evicted,
	       (unsigned long long)n->reclaims,
	       (unsigned long long)n->reclaims_background);
}

TEST_TIMEOUT(sim_day, a_thousand_clients_for_24_hours, 300)
{
	/* another day each time only where there is time to look at it */
	struct day_cfg cfg = { .seed = getenv("KV_LONG") ? test_seed() : 1,
			       .nr_clients = 1000,
			       .hours = 24,
			       .extents = 1024,
			       .swap_mib = 16384,
			       .think_s = 6000,
			       .check_every = 50000 };
	struct day_result r;

	if (getenv("KV_LONG"))
		cfg.think_s = 120;
	day_run(&cfg, &r);
	tell(&r, cfg.hours);
	EXPECT_EQ(0, r.errors);
	EXPECT_GT(r.mapped, 0);
	EXPECT_GT(r.counts.swap_out, 0);
}

TEST(sim_day, the_same_seed_gives_the_same_day)
{
	struct day_cfg cfg = { .seed = 7,
			       .nr_clients = 100,
			       .hours = 2,
			       .extents = 64,
			       .swap_mib = 1024,
			       .think_s = 60,
			       .check_every = 5000 };
	struct day_result a, b, c;

	day_run(&cfg, &a);
	day_run(&cfg, &b);
	cfg.seed = 8;
	day_run(&cfg, &c);
	EXPECT_EQ(0, a.errors + b.errors + c.errors);
	EXPECT_EQ(a.hash, b.hash);
	EXPECT_NE(a.hash, c.hash);
}

TEST_HARNESS_MAIN
