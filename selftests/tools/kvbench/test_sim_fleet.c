/* SPDX-License-Identifier: MIT */
/*
 * test_sim_fleet.c - the scheduler in time that is counted
 * san: address
 *
 * What can be computed by hand is; whatever is drawn from a seed ends, with
 * every token that was asked for and books that balance, and does so again in
 * the same way.
 */
#include "lib/hash.h"
#include "selftests/harness.h"
#include "tools/kvbench/sim/capacity.h"

/* How it went: all that was asked for was said, and the books balance. */
static void run(const char *text, u64 seed, struct fleet_result *r)
{
	char err[KV_ERRLEN] = "";
	struct work w = { 0 };
	struct sim_setup s;
	u64 wanted = 0;
	u32 i;

	setup_init(&s);
	if (!EXPECT_EQ(0, setup_choose(&s, text, err)))
		TH_LOG("%s", err);
	s.work.seed = s.fleet.world.seed = seed;
	if (!EXPECT_EQ(0, work_make(&s.work, &w, err)))
		TH_LOG("%s", err);
	for (i = 0; i < w.nr; i++)
		wanted += w.request[i].output;
	if (!EXPECT_EQ(0, fleet_run(&s.fleet, &w, r, err)) ||
	    !EXPECT_EQ(0, r->failed) || !EXPECT_EQ(w.nr, r->completed) ||
	    !EXPECT_EQ(wanted, r->output) || !EXPECT_EQ(0, r->faults))
		TH_LOG("%s, seed %llu: %s; %u failed: %s", text,
		       (unsigned long long)seed, err, r->failed,
		       r->first_error);
	work_fini(&w);
	setup_fini(&s);
}

TEST(sim_fleet, one_request_takes_what_its_steps_cost)
{
	struct fleet_result r;

	/* steps of 64 and 36 tokens of prompt, then nine of one token */
	run("workload=random requests=1 rate=inf input-len=100 "
	    "output-len=10 step-tokens=64 cost-step=0.01 "
	    "cost-token=0.001 cost-row=0 cost-work=0",
	    1, &r);
	EXPECT_EQ(1, r.completed);
	EXPECT_EQ(10, r.output);
	EXPECT_EQ(11, r.steps);
	EXPECT_EQ(100, r.prefill);
	EXPECT_EQ(219, (u64)(r.busy * 1e3 + 0.5));
	/* and the first pages of memory have to be made */
	EXPECT_GE(r.duration, r.busy);
	EXPECT_LE(r.duration, r.busy + 0.01);
	EXPECT_EQ(11, (u64)(samples_max(&r.itl) * 1e3 + 0.5));
	/* it waits for its first pages, and for nothing else */
	EXPECT_EQ(1, r.queue.nr);
	EXPECT_LE(samples_max(&r.queue), 0.01);
	fleet_result_fini(&r);
}

TEST(sim_fleet, values_that_never_end_are_refused)
{
	static const char *const bad[] = {
		"turns=0",    "branch=0",      "depth=0",     "block-len=0",
		"requests=0", "burstiness=0",  "think=inf",   "cost-step=inf",
		"most-s=inf", "cost-token=-1", "cost-row=nan"
	};
	struct fleet_result r = { 0 };
	char err[KV_ERRLEN] = "";
	struct sim_setup s;
	u32 i;

	setup_init(&s);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		if (!EXPECT_EQ(-EINVAL, setup_choose(&s, bad[i], err)))
			TH_LOG("%s", bad[i]);
	EXPECT_EQ(0, setup_choose(&s, "rate=inf", err));
	EXPECT_EQ(0, setup_choose(&s, "rate=0", err)); /* a trace's own */
	EXPECT_EQ(-EINVAL, setup_run(&s, &r, err));
	fleet_result_fini(&r);
	setup_fini(&s);
}

TEST(sim_fleet, a_text_may_be_chosen_any_number_of_times)
{
	char err[KV_ERRLEN] = "";
	struct sim_setup s;
	u32 i;

	setup_init(&s);
	for (i = 0; i < 20; i++)
		EXPECT_EQ(0, setup_choose(&s,
					  i % 2 ? "cache-policy=lru trace=a"
						: "cache-policy=reuse",
					  err));
	EXPECT_STREQ("lru", s.fleet.world.cache_policy);
	EXPECT_EQ(2, s.nr_texts);
	setup_fini(&s);
}

TEST(sim_fleet, the_same_seed_gives_the_same_run)
{
	const char *text = "workload=chat requests=60 rate=2 engines=2 "
			   "pool=24M swap-ram=64M share-cores=yes";
	struct fleet_result a, b, c;

	run(text, 5, &a);
	run(text, 5, &b);
	run(text, 6, &c);
	EXPECT_EQ(a.hash, b.hash);
	EXPECT_NE(a.hash, c.hash);
	EXPECT_EQ(a.steps, b.steps);
	fleet_result_fini(&a);
	fleet_result_fini(&b);
	fleet_result_fini(&c);
}

/* A millisecond for each token of a step, and none for the step. */
TEST(sim_fleet, who_has_ended_is_computed_in_a_padded_batch_and_not_said)
{
	const char *text = "workload=random requests=4 rate=inf input-len=16 "
			   "output-len=1:9 batching=request max-seqs=4 "
			   "cost-step=0 cost-token=0.001 cost-row=0 "
			   "cost-work=0 pad=";
	struct fleet_result drained, padded;
	char how[256];

	snprintf(how, sizeof(how), "%s0", text);
	run(how, 1, &drained);
	snprintf(how, sizeof(how), "%s4", text);
	run(how, 1, &padded);
	EXPECT_EQ(drained.output, padded.output);
	EXPECT_EQ(drained.steps, padded.steps);
	EXPECT_EQ(4 * 16 + drained.output - 4, (u64)(drained.busy * 1e3 + 0.5));
	EXPECT_EQ(4 * 16 + 4 * (padded.steps - 1),
		  (u64)(padded.busy * 1e3 + 0.5));
	EXPECT_GT(padded.busy, drained.busy);
	EXPECT_EQ(drained.itl.nr, padded.itl.nr);
	fleet_result_fini(&drained);
	fleet_result_fini(&padded);
}

/* Turns are for short memory: here first come is first served. */
TEST(sim_fleet, who_waits_for_a_place_takes_no_turn)
{
	struct fleet_result r;

	run("workload=random requests=12 rate=inf input-len=50 output-len=200 "
	    "max-seqs=4 pool=1G swap-ram=1G slice-ms=100 preempt=swap",
	    1, &r);
	EXPECT_EQ(0, r.turns);
	EXPECT_GT(r.duration, 1);
	fleet_result_fini(&r);
}

TEST(sim_fleet, shared_cores_compute_for_one_at_a_time)
{
	struct fleet_result r;

	run("requests=80 rate=inf engines=3 share-cores=yes", 3, &r);
	EXPECT_EQ(80, r.completed);
	EXPECT_GT(r.busy, 0.9 * r.duration);
	EXPECT_LE(r.busy, r.duration + 1e-6);
	fleet_result_fini(&r);
	run("requests=80 rate=inf engines=3", 3, &r);
	EXPECT_GT(r.busy, 2 * r.duration);
	fleet_result_fini(&r);
}

TEST(sim_fleet, a_second_engine_finds_what_the_first_has_published)
{
	const char *text = "workload=shared-prefix requests=40 rate=0.2 "
			   "prefixes=1 prefix-len=1000 engines=2 prefix-cache=";
	char with[256];
	struct fleet_result r;

	snprintf(with, sizeof(with), "%syes", text);
	run(with, 1, &r);
	/* of 40 times 1000 tokens two engines computed one each, or fewer */
	EXPECT_GE(r.mapped, 38u * 500);
	fleet_result_fini(&r);
	snprintf(with, sizeof(with), "%sno", text);
	run(with, 1, &r);
	EXPECT_EQ(0, r.mapped);
	fleet_result_fini(&r);
}

/*
 * A request that gave way in the middle of a step comes back; what is asked for
 * ahead of that is the token it stands at, not the one after it.
 */
TEST(sim_fleet, who_gave_way_is_asked_for_where_it_stands)
{
	struct fleet_result r;

	run("workload=shared-prefix requests=62 rate=4 pool=107M "
	    "swap-disk=100M engines=3 step-tokens=64 max-seqs=8 "
	    "input-len=20:300 output-len=1:120",
	    22, &r);
	EXPECT_EQ(62, r.completed);
	EXPECT_GT(r.preempted, 0);
	fleet_result_fini(&r);
}

/*
 * Three engines whose sequences fit one at a time: without kvmd's word each of
 * them holds a part, and requests fail that waited in vain.
 */
TEST(sim_fleet, engines_that_wait_for_each_other_get_on_all_the_same)
{
	struct fleet_result r;

	run("workload=random requests=40 rate=4 engines=3 "
	    "step-tokens=16 max-seqs=1 preempt=recompute "
	    "prefix-cache=no input-len=500:800 "
	    "output-len=200:400 model=qwen pool=40M",
	    3, &r);
	EXPECT_EQ(40, r.completed);
	EXPECT_GT(r.preempted, 0);
	fleet_result_fini(&r);
}

/*
 * Engines with a prefix each that nearly fills the device: who has it is at
 * work with it until it is done, and it is not taken from him between two
 * steps, nor lost by turns again and again.
 */
TEST_TIMEOUT(sim_fleet, prefixes_that_fit_one_at_a_time_are_used_in_turn, 120)
{
	u32 i, n = getenv("KV_LONG") ? 200 : 16;
	struct fleet_result r;
	char text[512];

	run("workload=shared-prefix requests=67 rate=4 pool=50M "
	    "swap-ram=80M engines=3 step-tokens=16 max-seqs=4 "
	    "input-len=20:300 output-len=1:120 model=qwen",
	    31, &r);
	EXPECT_EQ(67, r.completed);
	EXPECT_LT(r.lost, 67); /* 2,095 were */
	EXPECT_LT(r.duration, 600); /* 1,470 and more */
	fleet_result_fini(&r);
	for (i = 1; i <= n; i++) {
		snprintf(text, sizeof(text),
			 "workload=shared-prefix requests=%u rate=%u pool=%uM "
			 "swap-ram=%uM engines=%u step-tokens=%u max-seqs=%u "
			 "prefix-len=%u preempt=%s input-len=20:300 "
			 "output-len=1:120 model=qwen most-s=20000",
			 30 + i % 20, 1 + i % 5, 50 + i % 3 * 8, i % 3 * 40,
			 2 + i % 3, 16u << i % 3, 1u << i % 4,
			 400 + i % 4 * 150, i % 5 ? "swap" : "recompute");
		run(text, i, &r);
		fleet_result_fini(&r);
	}
}

/* Two that come together: one of them computes what they share. */
TEST(sim_fleet, an_engine_waits_for_what_another_one_is_computing)
{
	struct fleet_result r;

	run("workload=shared-prefix requests=2 rate=inf engines=2 "
	    "model=qwen prefixes=1 prefix-len=1000 input-len=40 "
	    "output-len=4",
	    1, &r);
	EXPECT_EQ(2, r.completed);
	EXPECT_LE(r.prefill, 1000 + 2 * 40 + 16);
	fleet_result_fini(&r);
}

TEST(sim_fleet, orders_are_compared)
{
	static const char *const orders[] = { "lpm", "dfs", "fcfs" };
	struct fleet_result r;
	u64 mapped[3];
	char text[256];
	u32 i;

	for (i = 0; i < 3; i++) {
		snprintf(text, sizeof(text),
			 "workload=tot requests=120 rate=inf pool=24M "
			 "max-seqs=2 prefix-cache=yes order=%s",
			 orders[i]);
		run(text, 2, &r);
		mapped[i] = r.mapped;
		TH_LOG("%s: %llu tokens were mapped", orders[i],
		       (unsigned long long)r.mapped);
		fleet_result_fini(&r);
	}
	EXPECT_GT(mapped[0], mapped[2]);
}

/* Anything, as it comes; a sequence of each engine fits. */
TEST_TIMEOUT(sim_fleet, whatever_is_asked_ends_and_the_books_balance, 120)
{
	static const char *const kinds[] = { "random",	      "sharegpt",
					     "shared-prefix", "fewshot",
					     "tot",	      "chat" };
	static const char *const prefills[] = { "chunked", "whole", "apart" };
	static const char *const admits[] = { "overcommit", "peak", "strict" };
	u64 seed = test_seed(), done = 0, short_runs = 0;
	u32 n = getenv("KV_LONG") ? 400 : 40, i, engines;

	for (i = 0; i < n; i++) {
		bool tight = i % 4 == 0; /* whatever the seed is */
		struct fleet_result r;
		char text[512];

		engines = 1 + (u32)(test_rand(&seed) % 3);
		snprintf(text, sizeof(text),
			 "workload=%s requests=%u rate=%u pool=%uM "
			 "swap-ram=%uM swap-disk=%uM engines=%u "
			 "share-cores=%s step-tokens=%u max-seqs=%u "
			 "preempt=%s batching=%s prefill=%s admit=%s "
			 "tbt-slo-ms=%u prefix-cache=%s input-len=20:300 "
			 "output-len=1:120 model=%s think=1 wait-ms=1000000 "
			 "most-s=100000",
			 kinds[test_rand(&seed) % ARRAY_SIZE(kinds)],
			 (tight ? 40 : 10) + (u32)(test_rand(&seed) % 60),
			 1 + (u32)(test_rand(&seed) % 8) + 8 * tight,
			 48 * engines + (u32)(test_rand(&seed) % 60) * !tight,
			 (u32)(test_rand(&seed) % 3 * 40),
			 (u32)(test_rand(&seed) % 2 * 100), engines,
			 test_rand(&seed) % 2 ? "yes" : "no",
			 16u << test_rand(&seed) % 5,
			 1u << (test_rand(&seed) % 7 | (tight ? 4 : 0)),
			 test_rand(&seed) % 2 ? "swap" : "recompute",
			 test_rand(&seed) % 5 ? "iteration" : "request",
			 prefills[test_rand(&seed) % 3],
			 admits[test_rand(&seed) % 3 * !tight],
			 (u32)(test_rand(&seed) % 3 * 150),
			 test_rand(&seed) % 4 ? "yes" : "no",
			 test_rand(&seed) % 2 ? "gemma" : "qwen");
		run(text, i, &r);
		done += r.completed;
		short_runs += r.preempted || r.turns;
		fleet_result_fini(&r);
	}
	TH_LOG("%llu requests, memory was short in %llu of %u runs",
	       (unsigned long long)done, (unsigned long long)short_runs, n);
	EXPECT_GT(short_runs, 0);
}

/* A step of decodes takes 13 ms and a little; a whole prompt half a second. */
TEST(sim_fleet, an_engine_with_a_target_learns_what_its_steps_take)
{
	const char *text = "workload=random requests=60 rate=1 "
			   "input-len=800:1600 output-len=100 max-seqs=16 "
			   "step-tokens=2048 prefix-cache=no ";
	struct fleet_result r;
	char with[256];

	snprintf(with, sizeof(with), "%stbt-slo-ms=60", text);
	run(with, 1, &r);
	EXPECT_LE(samples_percentile(&r.itl, 99), 0.061);
	/* and makes use of it: four tiles would take 36 ms */
	EXPECT_GT(samples_percentile(&r.itl, 99), 0.045);
	fleet_result_fini(&r);
	snprintf(with, sizeof(with), "%sprefill=whole", text);
	run(with, 1, &r);
	EXPECT_GT(samples_percentile(&r.itl, 99), 0.3);
	fleet_result_fini(&r);
}

static bool is_quick(struct fleet_result *r, double limit)
{
	return samples_percentile(&r->norm, 50) <= limit;
}

TEST(sim_fleet, a_capacity_is_kept_and_a_little_more_is_not)
{
	static const double limits[] = { 0.03, 0.05, 0.1 };
	char err[KV_ERRLEN] = "";
	struct fleet_result r;
	struct sim_setup s;
	double rate, last = 0;
	u32 i, k;

	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		setup_init(&s);
		ASSERT_EQ(0, setup_choose(&s,
					  "workload=random requests=150 "
					  "input-len=8:32 output-len=1:64 "
					  "max-seqs=16",
					  err));
		ASSERT_EQ(0, sim_capacity(&s, is_quick, limits[i], &rate, err));
		EXPECT_GT(rate, last);
		for (k = 0; k < 2; k++) {
			s.work.rate = k ? rate * 1.011 : rate;
			ASSERT_EQ(0, setup_run(&s, &r, err));
			if (!EXPECT_EQ(!k, is_quick(&r, limits[i])))
				TH_LOG("limit %g, rate %g", limits[i],
				       s.work.rate);
			fleet_result_fini(&r);
		}
		last = rate;
		setup_fini(&s);
	}
}

TEST(sim_fleet, what_cannot_be_chosen_is_said)
{
	struct sim_setup s;
	char err[KV_ERRLEN];

	setup_init(&s);
	EXPECT_EQ(-EINVAL, setup_set(&s, "pool", "12Q", err));
	EXPECT_EQ(-EINVAL, setup_set(&s, "engines", "-1", err));
	EXPECT_EQ(-EINVAL, setup_set(&s, "prefix-cache", "maybe", err));
	EXPECT_EQ(-EINVAL, setup_set(&s, "order", "hits", err));
	EXPECT_EQ(-EINVAL, setup_choose(&s, "engines=2 pool", err));
	EXPECT_EQ(-EINVAL, setup_set(&s, "nothing", "1", err));
	EXPECT_EQ(0, strncmp(err, "there is nothing called", 23));
	setup_fini(&s);
}

TEST_HARNESS_MAIN
