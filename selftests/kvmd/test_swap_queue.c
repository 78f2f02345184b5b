/* SPDX-License-Identifier: MIT */
/*
 * test_swap_queue.c - whose page is next at a swap tier
 */
#include <stdlib.h>
#include "kvmd/mm/state.h"
#include "kvmd/swap_queue.h"
#include "selftests/harness.h"
#include "selftests/kvmd/mm/mmtest.h"

#define TURNS 4096u

struct bench {
	struct swap_queue q;
	struct swap_turn turn[TURNS];
	bool used[TURNS];
	u64 served[MM_TENANT_MAX];
	uint64_t seed;
};

static struct bench *bench_new(void)
{
	struct bench *b = calloc(1, sizeof(*b));

	ASSERT_TRUE(b != NULL);
	swap_queue_init(&b->q);
	b->seed = test_seed();
	return b;
}

static struct swap_turn *add(struct bench *b, u32 tenant, u32 weight, u32 bytes,
			     bool background)
{
	u32 i = 0;

	while (b->used[i])
		i++;
	ASSERT_LT(i, TURNS);
	b->used[i] = true;
	b->turn[i] = (struct swap_turn){ .tenant = tenant,
					 .weight = weight,
					 .bytes = bytes,
					 .background = background };
	swap_queue_add(&b->q, &b->turn[i]);
	return &b->turn[i];
}

/* Return: whose was served; MM_NONE: nobody waits. */
static u32 serve(struct bench *b)
{
	struct swap_turn *t = swap_queue_first(&b->q, NULL, NULL);

	if (!t)
		return MM_NONE;
	swap_queue_begin(&b->q, t);
	b->served[t->tenant] += t->bytes;
	b->used[t - b->turn] = false;
	return t->tenant;
}

static u32 some_bytes(struct bench *b, u32 most)
{
	return (u32)(1 + test_rand(&b->seed) % (most / 4096)) * 4096;
}

static double share(const struct bench *b, u32 i, u32 k)
{
	return (double)b->served[i] / (double)b->served[k];
}

TEST(swap_queue, two_that_always_wait_get_bytes_by_weight)
{
	struct bench *b = bench_new();
	u32 i, who;

	/* Pages of very different sizes. */
	for (i = 0; i < 64; i++)
		add(b, i % 2, i % 2 ? 300 : 100,
		    some_bytes(b, i % 2 ? 32 << 10 : 1 << 20), false);
	for (i = 0; i < 20000; i++) {
		who = serve(b);
		add(b, who, who ? 300 : 100,
		    some_bytes(b, who ? 32 << 10 : 1 << 20), false);
	}
	EXPECT_GE(share(b, 1, 0), 2.7);
	EXPECT_LE(share(b, 1, 0), 3.3);
	free(b);
}

TEST(swap_queue, many_tenants_get_bytes_by_weight)
{
	struct bench *b = bench_new();
	u32 i, n = 16, who;

	for (i = 0; i < 16 * n; i++)
		add(b, i % n, 1 + i % n, 48 << 10, false);
	for (i = 0; i < 40000; i++) {
		who = serve(b);
		add(b, who, 1 + who, 48 << 10, false);
	}
	for (i = 1; i < n; i++) {
		EXPECT_GE(share(b, i, 0), 0.9 * (1 + i));
		EXPECT_LE(share(b, i, 0), 1.1 * (1 + i));
	}
	free(b);
}

TEST(swap_queue, one_alone_is_served_whenever_it_waits)
{
	struct bench *b = bench_new();
	u32 i;

	add(b, 7, 10000, 4096, false);
	EXPECT_EQ(serve(b), 7);
	for (i = 0; i < 1000; i++) {
		add(b, 3, 1, 1 << 20, false);
		EXPECT_EQ(serve(b), 3);
	}
	EXPECT_EQ(serve(b), MM_NONE);
	free(b);
}

TEST(swap_queue, who_did_not_want_its_share_has_saved_none)
{
	struct bench *b = bench_new();
	u32 i, k;

	for (i = 0; i < 1000; i++) {
		add(b, 0, 100, 48 << 10, false);
		serve(b);
	}
	b->served[0] = 0;
	for (i = 0; i < 500; i++)
		for (k = 0; k < 2; k++)
			add(b, k, 100, 48 << 10, false);
	for (i = 0; i < 500; i++)
		serve(b);
	EXPECT_GE(share(b, 1, 0), 0.9);
	EXPECT_LE(share(b, 1, 0), 1.1);
	free(b);
}

static bool may_not(void *ctx, const struct swap_turn *t)
{
	return t->tenant != *(const u32 *)ctx;
}

TEST(swap_queue, who_may_not_begin_holds_up_nobody_and_keeps_its_place)
{
	struct bench *b = bench_new();
	struct swap_turn *t;
	u32 slow = 0, i;

	for (i = 0; i < 40; i++)
		add(b, i % 2, 100, 48 << 10, false);
	for (i = 0; i < 20; i++) {
		t = swap_queue_first(&b->q, may_not, &slow);
		ASSERT_TRUE(t != NULL);
		EXPECT_EQ(t->tenant, 1);
		swap_queue_begin(&b->q, t);
	}
	EXPECT_TRUE(!swap_queue_first(&b->q, may_not, &slow));
	add(b, 1, 100, 48 << 10, false);
	for (i = 0; i < 20; i++)
		EXPECT_EQ(serve(b), 0); /* it has had less */
	EXPECT_EQ(serve(b), 1);
	free(b);
}

TEST(swap_queue, pages_in_the_background_go_behind_their_tenants_others)
{
	struct bench *b = bench_new();
	struct swap_turn *back = add(b, 0, 1, 4096, true), *t;
	u32 i;

	for (i = 0; i < 8; i++)
		add(b, 0, 1, 4096, false);
	for (i = 0; i < 8; i++) {
		EXPECT_NE(swap_queue_first(&b->q, NULL, NULL), back);
		serve(b);
	}
	EXPECT_EQ(swap_queue_first(&b->q, NULL, NULL), back);
	/* but not behind other tenants' */
	add(b, 1, 1, 4096, false);
	add(b, 1, 1, 4096, false);
	t = swap_queue_first(&b->q, NULL, NULL);
	serve(b);
	EXPECT_TRUE(t == back || swap_queue_first(&b->q, NULL, NULL) == back);
	free(b);
}

TEST(swap_queue, what_is_taken_back_has_cost_nothing)
{
	struct bench *b = bench_new();
	struct swap_turn *t;
	u32 i;

	for (i = 0; i < 100; i++) {
		t = add(b, 0, 1, 1 << 20, false);
		swap_queue_del(&b->q, t);
		b->used[t - b->turn] = false;
	}
	EXPECT_EQ(b->q.nr, 0);
	add(b, 0, 1, 4096, false);
	add(b, 1, 1, 4096, false);
	EXPECT_EQ(serve(b), 0);
	EXPECT_EQ(serve(b), 1);
	free(b);
}

/* ---- the core and the queue together ---- */

#define USERS 3u /* clients of a tenant */
#define PAGES 400u
#define SMALL (64u << 10)

/* Clients that want one of two spaces by turns, and have room for less. */
struct world {
	struct mt t;
	struct swap_queue q;
	struct swap_turn turn[TURNS];
	struct mm_swap_io io[TURNS];
	enum mm_req_type type[TURNS];
	bool used[TURNS];
	u32 tenant[2], client[2 * USERS], space[2 * USERS][2], last[2 * USERS];
	bool waits[2 * USERS];
	u32 done, served;
};

static void world_setup(struct world *w, u32 nr_tenants)
{
	const struct mm_config cfg = {
		.device_bytes = 32ull * KV_EXTENT_SIZE,
		.swap_bytes = { 1 << 30 },
		.ready_extents = 1,
	};
	struct mm_limits lim = { .max_bytes = 14 * KV_EXTENT_SIZE };
	u32 i, k;

	swap_queue_init(&w->q);
	mt_init_cfg(&w->t, &cfg);
	for (i = 0; i < nr_tenants; i++) {
		w->tenant[i] = mt_tenant(&w->t, i ? "b" : "a", MM_LIMIT_NONE);
		lim.weight = i ? 300 : 100;
		ASSERT_EQ(mm_tenant_limit(w->t.mm, w->tenant[i], &lim), 0);
	}
	for (i = 0; i < nr_tenants * USERS; i++) {
		w->client[i] = mt_attach(&w->t, w->tenant[i / USERS]);
		mt_geom(&w->t, w->client[i], SMALL);
		for (k = 0; k < 2; k++) {
			w->space[i][k] =
				mt_idle_space(&w->t, w->client[i], 0, PAGES);
			mm_tick(w->t.mm, w->t.mm->now_ns + 1000);
		}
	}
	w->t.hold_swap = true;
	w->done = w->t.nr_done;
}

static void want(struct world *w, u32 i)
{
	int rc;

	w->last[i] = !w->last[i];
	rc = mt_reserve(&w->t, w->client[i], w->space[i][w->last[i]],
			PAGES * 16 - 1, 1, KV_SQE_WAIT, NULL);
	w->waits[i] = rc == -EINPROGRESS;
	if (!w->waits[i])
		mt_complete_all(&w->t, w->client[i]);
}

static void to_queue(struct world *w)
{
	u32 i, k = 0;

	for (i = 0; i < w->t.nr_io; i++) {
		while (w->used[k])
			k++;
		w->used[k] = true;
		w->io[k] = w->t.io[i];
		w->type[k] = w->t.io_type[i];
		w->turn[k] = (struct swap_turn){ .tenant = w->io[k].payer,
						 .weight = w->io[k].weight,
						 .bytes = w->io[k].bytes };
		swap_queue_add(&w->q, &w->turn[k]);
	}
	w->t.nr_io = 0;
}

/* Some pages move; whose step is served then wants its other space. */
static void world_turn(struct world *w, u32 users)
{
	struct swap_turn *t;
	u32 i, k;

	for (i = 0; i < users; i++)
		if (!w->waits[i])
			want(w, i);
	to_queue(w);
	for (i = 0; i < 16 && (t = swap_queue_first(&w->q, NULL, NULL)); i++) {
		k = (u32)(t - w->turn);
		swap_queue_begin(&w->q, t);
		w->used[k] = false;
		w->served++;
		mt_swap_answer_one(&w->t, &w->io[k], w->type[k], 0);
	}
	mm_tick(w->t.mm, w->t.mm->now_ns + 1000000);
	mt_drain(&w->t);
	for (; w->done < w->t.nr_done; w->done++)
		for (k = 0; k < users; k++)
			if (w->t.done[w->done % MT_DONE].client ==
			    w->client[k]) {
				w->waits[k] = false;
				mt_complete_all(&w->t, w->client[k]);
			}
}

static u64 moved(const struct world *w, u32 i)
{
	struct mm_tenant_info ti;

	EXPECT_EQ(mm_tenant_info(w->t.mm, w->tenant[i], &ti), 0);
	return ti.swap_out_bytes + ti.swap_in_bytes;
}

TEST(swap_share, two_tenants_that_swap_all_the_time_move_bytes_by_weight)
{
	struct world *w = calloc(1, sizeof(*w));
	u64 a, b;
	u32 i;

	ASSERT_TRUE(w != NULL);
	world_setup(w, 2);
	for (i = 0; i < 200; i++)
		world_turn(w, 2 * USERS);
	a = moved(w, 0);
	b = moved(w, 1);
	w->served = 0;
	for (i = 0; i < 2000; i++)
		world_turn(w, 2 * USERS);
	a = moved(w, 0) - a;
	b = moved(w, 1) - b;
	TH_LOG("%llu MiB and %llu MiB: 1 to %.2f; busy %u of 32000",
	       (unsigned long long)a >> 20, (unsigned long long)b >> 20,
	       (double)b / (double)a, w->served);
	EXPECT_GE((double)b / (double)a, 2.7);
	EXPECT_LE((double)b / (double)a, 3.3);
	EXPECT_GE(w->served, 30000);
	mt_check(&w->t);
	mt_fini(&w->t);
	free(w);
}

TEST(swap_share, one_alone_has_all_of_it)
{
	struct world *w = calloc(1, sizeof(*w));
	u32 i;

	ASSERT_TRUE(w != NULL);
	world_setup(w, 1);
	for (i = 0; i < 500; i++)
		world_turn(w, USERS);
	TH_LOG("busy %u of 8000", w->served);
	EXPECT_GE(w->served, 7000);
	mt_check(&w->t);
	mt_fini(&w->t);
	free(w);
}

TEST_HARNESS_MAIN
