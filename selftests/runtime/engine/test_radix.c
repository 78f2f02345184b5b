/* SPDX-License-Identifier: MIT */
/*
 * test_radix.c - the order of those that wait, and twins
 *
 * On a simulated machine over a pool that is counted in tokens: how many tokens
 * of prompts are computed is compared with how many there are.
 */
#include <errno.h>
#include <stdlib.h>

#include "runtime/engine/engine.h"
#include "runtime/engine/kv_backend.h"
#include "runtime/model/model.h"
#include "selftests/harness.h"
#include "selftests/runtime/tiny_model.h"

#define VOCAB	   1000u
#define LEN_MAX	   400u
#define PROMPT_MAX 128u
#define FEW	   7u /* of which every order is tried */

struct machine {
	double now;
	u64 tokens;
};

static double machine_now(void *ctx)
{
	return ((struct machine *)ctx)->now;
}

static int machine_run(void *ctx, const struct forward_batch *b)
{
	struct machine *m = ctx;

	m->now += 0.001 + 0.0001 * b->nr_tokens;
	m->tokens += b->nr_tokens;
	return 0;
}

static u32 machine_token(void *ctx, const struct seq *s)
{
	(void)ctx;
	return s->ids[s->nr - 1] % 7;
}

struct fake {
	struct model m;
	struct kern_exec x;
	struct machine clock;
	struct engine_machine machine;
	struct kv_backend *b;
	struct engine *e;
	char err[KV_ERRLEN];
};

static void fake_open(struct fake *f, u32 pool, const struct engine_opts *o)
{
	struct engine_opts eo = *o;

	memset(f, 0, sizeof(*f));
	f->m.hp.vocab = VOCAB;
	f->m.hp.context = 2 * LEN_MAX;
	f->machine = (struct engine_machine){ .now = machine_now,
					      .run = machine_run,
					      .token = machine_token,
					      .ctx = &f->clock };
	eo.machine = &f->machine;
	eo.prefix_cache = true;
	ASSERT_EQ(0, kv_ideal_create(pool, &f->b, f->err));
	ASSERT_EQ(0, engine_create(&f->m, &f->x, f->b, &eo, &f->e, f->err));
}

static void fake_close(struct fake *f)
{
	engine_destroy(f->e);
	f->b->ops->destroy(f->b);
}

/* Prompts that share beginnings, and end in tokens of their own. */
struct prompts {
	u32 nr, len[PROMPT_MAX], ids[PROMPT_MAX][LEN_MAX];
	u32 longest;
	u64 total, distinct;
};

static u32 common(const struct prompts *p, u32 a, u32 b)
{
	u32 i = 0;

	while (i < min(p->len[a], p->len[b]) && p->ids[a][i] == p->ids[b][i])
		i++;
	return i;
}

/* The one behind the last counts with them. */
static void prompts_add(struct prompts *p)
{
	u32 i = p->nr++, k, most = 0;

	for (k = 0; k < i; k++)
		most = max(most, common(p, i, k));
	p->total += p->len[i];
	p->distinct += p->len[i] - min(most, p->len[i] - 1);
	p->longest = max(p->longest, p->len[i]);
}

static void prompts_make(struct prompts *p, u32 nr, u64 seed)
{
	u32 i, k, from;

	*p = (struct prompts){ 0 };
	for (i = 0; i < nr; i++) {
		from = i ? (u32)(test_rand(&seed) % i) : 0;
		/* as much of an earlier one as there is room behind */
		k = i && test_rand(&seed) % 4
			    ? (u32)(test_rand(&seed) % p->len[from])
			    : 0;
		k = min(k, LEN_MAX - 60);
		memcpy(p->ids[i], p->ids[from], k * sizeof(u32));
		p->len[i] = k + 2 + (u32)(test_rand(&seed) % 58);
		for (; k < p->len[i]; k++)
			p->ids[i][k] = (u32)(test_rand(&seed) % VOCAB);
		prompts_add(p);
	}
}

static struct request *submit(struct fake *f, const u32 *ids, u32 nr,
			      u32 max_new)
{
	struct request_params p = { .prompt = ids,
				    .nr_prompt = nr,
				    .max_new = max_new,
				    .n = 1,
				    .sampling = SAMPLING_GREEDY };
	struct request *r = NULL;

	ASSERT_EQ(0, engine_submit(f->e, &p, &r, f->err));
	return r;
}

/* One step, and what must hold after it. */
static int step(struct fake *f)
{
	int rc = engine_step(f->e, f->err);

	if (!EXPECT_EQ(0, engine_check(f->e, f->err)))
		TH_LOG("%s", f->err);
	return rc;
}

static void run(struct fake *f)
{
	int rc;

	do
		rc = step(f);
	while (rc == 1);
	ASSERT_EQ(0, rc);
}

/* All at once, one at a time; tokens computed. */
static u64 offline(const struct prompts *p, enum engine_order order, u32 pool,
		   const u32 *perm)
{
	struct engine_opts eo = { .order = order, .max_seqs = 1 };
	struct fake f;
	u64 tokens;
	u32 i, k;

	fake_open(&f, pool, &eo);
	for (i = 0; i < p->nr; i++) {
		k = perm ? perm[i] : i;
		submit(&f, p->ids[k], p->len[k], 1);
	}
	run(&f);
	tokens = engine_stats(f.e)->nr_prefill;
	fake_close(&f);
	return tokens;
}

TEST(radix_order, each_token_is_computed_once_if_the_longest_prompt_fits)
{
	static struct prompts p;
	u64 seed, fcfs, worse = 0;

	for (seed = 1; seed <= 20; seed++) {
		prompts_make(&p, 8 + 5 * (u32)seed, seed);
		EXPECT_EQ(p.distinct,
			  offline(&p, ENGINE_ORDER_LPM, p.longest, NULL));
		EXPECT_EQ(p.distinct,
			  offline(&p, ENGINE_ORDER_DFS, p.longest, NULL));
		fcfs = offline(&p, ENGINE_ORDER_FCFS, p.longest, NULL);
		EXPECT_GE(fcfs, p.distinct);
		worse += fcfs > p.distinct;
	}
	EXPECT_GE(worse, 18);
}

/* The next permutation in the order of numbers; false: that was the last. */
static bool permute(u32 *a, u32 nr)
{
	u32 i = nr - 1, k = nr - 1, t;

	while (i && a[i - 1] >= a[i])
		i--;
	if (!i)
		return false;
	while (a[k] <= a[i - 1])
		k--;
	t = a[k];
	a[k] = a[i - 1];
	a[i - 1] = t;
	for (k = nr - 1; i < k; i++, k--) {
		t = a[i];
		a[i] = a[k];
		a[k] = t;
	}
	return true;
}

/* Every order of them, first come, first served: fewest and most tokens. */
static void all_orders(const struct prompts *p, u32 pool, u64 *least, u64 *most)
{
	u32 perm[FEW], i;
	u64 tokens;

	*least = ~0ull;
	*most = 0;
	for (i = 0; i < FEW; i++)
		perm[i] = i;
	do {
		tokens = offline(p, ENGINE_ORDER_FCFS, pool, perm);
		*least = min(*least, tokens);
		*most = max(*most, tokens);
	} while (permute(perm, FEW));
}

TEST_TIMEOUT(radix_order, no_order_of_seven_computes_less, 120)
{
	static struct prompts p;
	u64 seed, least, most;

	for (seed = 30; seed < 34; seed++) {
		prompts_make(&p, FEW, seed);
		all_orders(&p, p.longest, &least, &most);
		TH_LOG("orders of %u prompts: %llu to %llu tokens of %llu", FEW,
		       (unsigned long long)least, (unsigned long long)most,
		       (unsigned long long)p.total);
		EXPECT_EQ(least,
			  offline(&p, ENGINE_ORDER_LPM, p.longest, NULL));
		EXPECT_EQ(least,
			  offline(&p, ENGINE_ORDER_DFS, p.longest, NULL));
		EXPECT_EQ(least, p.distinct);
	}
}

/* Without those that are as long as the longest. */
static void drop_longest(const struct prompts *p, struct prompts *out)
{
	u32 i;

	*out = (struct prompts){ 0 };
	for (i = 0; i < p->nr; i++) {
		if (p->len[i] == p->longest)
			continue;
		out->len[out->nr] = p->len[i];
		memcpy(out->ids[out->nr], p->ids[i], p->len[i] * sizeof(u32));
		prompts_add(out);
	}
}

/*
 * The longest prompt is refused, in whatever order it comes. The others are
 * served; at best each of their tokens is computed once, though looking for
 * room for the longest one empties the cache.
 */
TEST_TIMEOUT(radix_order, in_a_pool_one_token_short_the_others_are_served, 120)
{
	static struct prompts p, rest;
	u64 seed, least, most, lpm;

	for (seed = 30; seed < 34; seed++) {
		prompts_make(&p, FEW, seed);
		drop_longest(&p, &rest);
		all_orders(&p, p.longest - 1, &least, &most);
		lpm = offline(&p, ENGINE_ORDER_LPM, p.longest - 1, NULL);
		TH_LOG("one token short: %llu to %llu tokens, by hits %llu; "
		       "%llu of those that fit are distinct",
		       (unsigned long long)least, (unsigned long long)most,
		       (unsigned long long)lpm,
		       (unsigned long long)rest.distinct);
		EXPECT_EQ(least, rest.distinct);
		EXPECT_GE(lpm, least);
		EXPECT_LE(lpm, most);
	}
}

TEST(radix_order, in_a_pool_one_token_short_the_longest_prompt_fails)
{
	struct engine_opts eo = { .max_seqs = 1 };
	static struct prompts p;
	struct request *r[20];
	u32 i, failed = 0;
	struct fake f;

	prompts_make(&p, 20, 5);
	fake_open(&f, p.longest - 1, &eo);
	for (i = 0; i < p.nr; i++)
		r[i] = submit(&f, p.ids[i], p.len[i], 1);
	run(&f);
	for (i = 0; i < p.nr; i++) {
		failed += r[i]->error != 0;
		EXPECT_EQ(r[i]->error, p.len[i] == p.longest ? -E2BIG : 0);
	}
	EXPECT_GE(failed, 1);
	fake_close(&f);
}

/*
 * One prompt that shares nothing, among others that share much and go on
 * coming.
 */
static u32 overtaken(enum engine_order order, u32 most)
{
	struct engine_opts eo = { .order = order,
				  .max_seqs = 2,
				  .overtake_max = most };
	u32 ids[100], i, k, before = 0;
	struct request *cold, *r;
	u64 seed = 3;
	struct fake f;

	fake_open(&f, 4000, &eo);
	for (i = 0; i < 100; i++)
		ids[i] = i < 60 ? 7 : (u32)(test_rand(&seed) % VOCAB);
	submit(&f, ids, 100, 2);
	step(&f);
	ids[0] = 8;
	cold = submit(&f, ids, 100, 2);
	ids[0] = 7;
	for (i = 0; i < 400; i++) {
		for (k = 0; k < 2; k++) {
			ids[80] = (u32)(test_rand(&seed) % VOCAB);
			ids[81] = i;
			r = submit(&f, ids, 100, 2);
			EXPECT_EQ(r->state, REQUEST_WAITING);
		}
		before += cold->state == REQUEST_WAITING;
		ASSERT_EQ(1, step(&f));
	}
	EXPECT_LE(engine_stats(f.e)->max_overtaken, most);
	EXPECT_NE(cold->state, REQUEST_WAITING);
	run(&f);
	i = engine_stats(f.e)->max_overtaken;
	EXPECT_LE(i, most);
	fake_close(&f);
	return i;
}

TEST(radix_order, nobody_is_overtaken_more_often_than_is_allowed)
{
	EXPECT_EQ(0, overtaken(ENGINE_ORDER_FCFS, 5));
	EXPECT_EQ(5, overtaken(ENGINE_ORDER_LPM, 5));
	EXPECT_EQ(40, overtaken(ENGINE_ORDER_LPM, 40));
	EXPECT_LE(overtaken(ENGINE_ORDER_DFS, 5), 5);
}

/*
 * A crowd that comes and goes, of prompts that share much, some cancelled and
 * of several priorities, with less room than they want: engine_check() after
 * each step.
 */
static u32 crowd(enum engine_order order, u32 most, u64 seed)
{
	struct engine_opts eo = { .order = order,
				  .step_tokens = 96,
				  .max_seqs = 6,
				  .overtake_max = most };
	static struct prompts p;
	struct request *r[PROMPT_MAX] = { NULL };
	u32 i, in = 0, ended = 0;
	struct fake f;

	prompts_make(&p, PROMPT_MAX, seed);
	fake_open(&f, 2500, &eo);
	while (ended < p.nr) {
		while (in < p.nr && test_rand(&seed) % 3) {
			struct request_params rp = {
				.prompt = p.ids[in],
				.nr_prompt = p.len[in],
				.max_new = 1 + (u32)(test_rand(&seed) % 30),
				.n = test_rand(&seed) % 8 ? 1 : 2,
				.priority = (s32)(test_rand(&seed) % 8) == 0,
				.sampling = SAMPLING_GREEDY,
			};

			ASSERT_EQ(0, engine_submit(f.e, &rp, &r[in++], f.err));
		}
		ASSERT_LE(0, step(&f));
		i = (u32)(test_rand(&seed) % p.nr);
		if (r[i] && test_rand(&seed) % 8 == 0)
			engine_cancel(f.e, r[i]);
		for (i = 0; i < in; i++) {
			if (!r[i] || r[i]->state != REQUEST_DONE)
				continue;
			engine_forget(f.e, r[i]);
			r[i] = NULL;
			ended++;
		}
	}
	i = engine_stats(f.e)->max_overtaken;
	fake_close(&f);
	return i;
}

TEST(radix_order, a_crowd_stays_in_order_and_within_the_bound)
{
	u64 seed = test_seed(), end = seed + 12;
	u32 lpm = 0, dfs = 0, far = 0;

	for (; seed < end; seed++) {
		EXPECT_EQ(0, crowd(ENGINE_ORDER_FCFS, 3, seed));
		lpm = max(lpm, crowd(ENGINE_ORDER_LPM, 3, seed));
		dfs = max(dfs, crowd(ENGINE_ORDER_DFS, 3, seed));
		far = max(far, crowd(ENGINE_ORDER_LPM, 100, seed));
	}
	EXPECT_EQ(3, lpm);
	EXPECT_EQ(3, dfs);
	EXPECT_GT(far, 3);
}

/* What is computed serves more of those that wait. */
TEST(radix_order, of_cold_beginnings_the_one_that_most_wait_for_comes_first)
{
	struct engine_opts eo = { .max_seqs = 1 };
	struct request *alone, *r[3];
	u32 ids[160], i, done = 0;
	struct fake f;

	for (i = 0; i < 160; i++)
		ids[i] = i;
	fake_open(&f, 1000, &eo);
	alone = submit(&f, ids + 40, 20, 1); /* it came first, and is short */
	for (i = 0; i < 3; i++) {
		ids[100] = 200 + i;
		r[i] = submit(&f, ids, 120 + i, 1);
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(1, step(&f));
		EXPECT_EQ(REQUEST_WAITING, alone->state);
	}
	for (i = 0; i < 3; i++)
		done += r[i]->state == REQUEST_DONE;
	EXPECT_EQ(3, done);
	run(&f);
	EXPECT_EQ(REQUEST_DONE, alone->state);
	EXPECT_EQ(3, engine_stats(f.e)->max_overtaken);
	fake_close(&f);
}

TEST(radix_twins, a_page_in_common_is_worth_a_step)
{
	struct engine_opts eo = { .max_seqs = 8 };
	u32 ids[60], i;
	struct fake f;

	for (i = 0; i < 60; i++)
		ids[i] = i;
	fake_open(&f, 1000, &eo);
	for (i = 0; i < 4; i++) {
		ids[24] = 100 + i;
		submit(&f, ids, 60, 2);
	}
	run(&f);
	EXPECT_EQ(24 + 4 * 36, engine_stats(f.e)->nr_prefill);
	fake_close(&f);
}

TEST(radix_twins, what_they_share_is_computed_once)
{
	struct engine_opts eo = { .max_seqs = 16 };
	static struct prompts p;
	struct fake f;
	u32 i;

	for (i = 0; i < 12; i++) {
		u32 k;

		p.len[i] = 330;
		for (k = 0; k < 330; k++)
			p.ids[i][k] = k < 300 ? k : k + 40 * (i + 1);
	}
	for (u32 order = 0; order < ENGINE_ORDER_NR; order++) {
		if (order == ENGINE_ORDER_FCFS)
			eo.max_seqs = 8; /* as many as that may be */
		eo.order = order;
		fake_open(&f, 8000, &eo);
		for (i = 0; i < 12; i++)
			submit(&f, p.ids[i], p.len[i], 3);
		run(&f);
		EXPECT_EQ(300 + 12 * 30, engine_stats(f.e)->nr_prefill);
		EXPECT_GE(engine_stats(f.e)->nr_twins, 11);
		fake_close(&f);
	}
}

TEST(radix_twins, who_waits_goes_on_when_the_other_one_is_cancelled)
{
	struct engine_opts eo = { .step_tokens = 64, .max_seqs = 16 };
	struct request *a, *b;
	u32 ids[300], i;
	struct fake f;

	for (i = 0; i < 300; i++)
		ids[i] = i;
	fake_open(&f, 4000, &eo);
	a = submit(&f, ids, 300, 2);
	b = submit(&f, ids, 300, 2);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(1, step(&f));
	EXPECT_EQ(REQUEST_WAITING, b->state);
	EXPECT_EQ(128, a->seqs[0]->nr_computed);
	engine_cancel(f.e, a);
	ASSERT_EQ(1, step(&f));
	EXPECT_EQ(REQUEST_RUNNING, b->state);
	/* what had been computed was published */
	EXPECT_EQ(128 + 64, b->seqs[0]->nr_computed);
	run(&f);
	EXPECT_EQ(0, b->error);
	EXPECT_EQ(300, engine_stats(f.e)->nr_prefill);
	fake_close(&f);
}

TEST(radix_twins, a_cache_of_blocks_finds_less)
{
	struct engine_opts eo = { .max_seqs = 1 };
	u64 mapped[2];
	u32 ids[200], i, k;
	struct fake f;

	for (k = 0; k < 2; k++) {
		eo.prefix_unit = k ? 16 : 0;
		fake_open(&f, 4000, &eo);
		for (i = 0; i < 200; i++)
			ids[i] = i;
		submit(&f, ids, 200, 1);
		ids[107] = 0;
		submit(&f, ids, 200, 1);
		run(&f);
		mapped[k] = engine_stats(f.e)->nr_mapped;
		fake_close(&f);
	}
	EXPECT_EQ(107, mapped[0]);
	EXPECT_EQ(96, mapped[1]);
}

/* One prompt after the other; tokens of the last one that were mapped. */
static u64 mapped_of_last(struct fake *f, const char *prompts)
{
	u64 before = 0;
	u32 ids[100], i;

	for (; *prompts; prompts++) {
		for (i = 0; i < ARRAY_SIZE(ids); i++)
			ids[i] = (u32)(*prompts - 'a') * 100 + i;
		before = engine_stats(f->e)->nr_mapped;
		submit(f, ids, ARRAY_SIZE(ids), 1);
		run(f);
	}
	return engine_stats(f->e)->nr_mapped - before;
}

TEST(radix_cache, what_nobody_mapped_goes_before_what_is_older)
{
	struct engine_opts eo = { .max_seqs = 1 };
	struct fake f;

	fake_open(&f, 320, &eo);
	EXPECT_EQ(99, mapped_of_last(&f, "aabcda"));
	fake_close(&f);
	fake_open(&f, 320, &eo);
	EXPECT_EQ(99, mapped_of_last(&f, "aabbccdb"));
	EXPECT_TRUE(mapped_of_last(&f, "a") < 99);
	fake_close(&f);
}

TEST_HARNESS_MAIN
