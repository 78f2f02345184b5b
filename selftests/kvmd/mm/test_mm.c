/* SPDX-License-Identifier: MIT */
/*
 * test_mm.c - the block, the queue, the trace points
 */
#include "selftests/kvmd/mm/mmtest.h"

TEST(mm, a_wrong_configuration_is_refused)
{
	struct mm_config cfg = { .device_bytes = KV_EXTENT_SIZE + 1 };
	struct mm *mm;

	EXPECT_EQ(mm_state_bytes(&cfg), 0);
	EXPECT_EQ(mm_create(&cfg, &cfg, &mt_ops, NULL, &mm), -EINVAL);
	cfg.device_bytes = 0;
	EXPECT_EQ(mm_state_bytes(&cfg), 0);
	cfg.device_bytes = MM_DEVICE_MAX + KV_EXTENT_SIZE;
	EXPECT_EQ(mm_state_bytes(&cfg), 0);
	cfg.device_bytes = MM_DEVICE_MAX;
	EXPECT_GT(mm_state_bytes(&cfg), 0);
	mm_destroy(NULL);
}

TEST(mm, touches_little_of_its_block)
{
	static const struct mm_host_ops quiet = { .table_grow = mt_grow };
	struct mm_config cfg = { .device_bytes = 8ull << 30,
				 .ready_extents = 4 };
	unsigned char *vec;
	struct mm_request req;
	size_t bytes = mm_state_bytes(&cfg), i, pages = 0;
	void *state = mt_map(bytes, PROT_READ | PROT_WRITE);
	struct mm *mm;

	vec = calloc(1, bytes / 4096 + 1);
	ASSERT_TRUE(vec != NULL);
	ASSERT_EQ(mm_create(&cfg, state, &quiet, NULL, &mm), 0);
	while (mm_next_request(mm, &req))
		;
	ASSERT_EQ(mincore(state, bytes, vec), 0);
	for (i = 0; i < bytes / 4096; i++)
		pages += vec[i] & 1;
	TH_LOG("figure: core state for 8 GiB: %zu KiB of %zu MiB touched",
	       pages * 4, bytes >> 20);
	EXPECT_LT(pages, 256);
	free(vec);
}

TEST(mm, time_only_goes_forward)
{
	struct mt t;
	struct mm_request req;
	u32 tenant, client;
	struct mm_limits lim = { .max_bytes = 0 };

	mt_init(&t, 4, 1);
	tenant = mt_tenant(&t, "a", MM_LIMIT_NONE);
	client = mt_attach(&t, tenant);
	mm_tick(t.mm, 500);
	mm_tick(t.mm, 100);
	ASSERT_EQ(mm_tenant_limit(t.mm, tenant, &lim), 0);
	ASSERT_TRUE(mm_next_request(t.mm, &req));
	EXPECT_EQ(req.type, MM_REQ_EVENT);
	EXPECT_EQ(req.client, client);
	EXPECT_EQ(req.event.type, KV_EVENT_LIMIT);
	EXPECT_EQ(req.event.time_ns, 500);
	mt_fini(&t);
}

TEST(mm, events_beyond_the_queue_are_dropped_and_counted)
{
	struct mm_limits lim = { .max_bytes = 0 };
	struct mm_request req;
	struct mm_counts c;
	struct mt t;
	u32 tenant, i, events = 0;

	mt_init(&t, 4, 1);
	tenant = mt_tenant(&t, "a", MM_LIMIT_NONE);
	mt_attach(&t, tenant);
	for (i = 0; i < 5000; i++)
		ASSERT_EQ(mm_tenant_limit(t.mm, tenant, &lim), 0);
	while (mm_next_request(t.mm, &req))
		events += req.type == MM_REQ_EVENT;
	mm_counts_get(t.mm, &c);
	EXPECT_EQ(events + c.events_dropped, 5000);
	EXPECT_GT(c.events_dropped, 0);
	mt_check(&t);
	mt_fini(&t);
}

TEST(mm, trace_points_have_unique_numbers_and_names)
{
	static const struct {
		u32 nr;
		const char *name;
	} points[] = {
#define POINT(nr, id, name, what) { nr, name },
		KV_TRACE_POINTS(POINT)
#undef POINT
	};
	u32 i, k;

	for (i = 0; i < ARRAY_SIZE(points); i++) {
		EXPECT_LT(points[i].nr, KV_TP_MAX);
		EXPECT_STREQ(kv_trace_name(points[i].nr), points[i].name);
		for (k = 0; k < i; k++)
			EXPECT_NE(strcmp(points[i].name, points[k].name), 0);
	}
	EXPECT_TRUE(kv_trace_name(0) == NULL);
	EXPECT_TRUE(kv_trace_name(KV_TP_MAX) == NULL);
}

static void copy_nothing(void *ctx, u64 src, u64 dst, u64 bytes)
{
	(void)ctx;
	(void)src;
	(void)dst;
	(void)bytes;
}

/* Pages out, back, in and lost; the points passed are added to @passed. */
static void swap_pages(u64 passed[KV_TP_MAX])
{
	struct mt t;
	struct mt_resv r;
	u32 a, g, s, k, i;

	mt_init_swap(&t, 1, 1, 8 << 20, 0);
	a = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	g = mt_geom(&t, a, 512 * 1024);
	s = mt_space(&t, a, g);
	k = mt_space(&t, a, g);
	ASSERT_EQ(mt_reserve(&t, a, s, 0, 16 * 16, 0, NULL), 0);
	mt_complete_all(&t, a);
	t.mark = &t.cl[a].status->space[s];
	t.mark_at = KV_TP_SWAP_OUT;
	ASSERT_EQ(mt_reserve(&t, a, k, 0, 16, 0, &r), -EAGAIN);
	t.mark = NULL;
	kv_step_mark(&t.cl[a].status->space[s], 0);
	ASSERT_EQ(mt_reserve(&t, a, k, 0, 16, 0, &r), 0);
	mt_complete_all(&t, a);
	ASSERT_EQ(mm_space_destroy(t.mm, a, k), 0);
	t.hold_swap = true;
	ASSERT_EQ(mt_reserve(&t, a, s, 255, 1, 0, &r), -EINPROGRESS);
	mt_swap_answer(&t, 0);
	mt_drain(&t);
	mt_complete_all(&t, a);
	t.hold_swap = false;
	k = mt_space(&t, a, g);
	ASSERT_EQ(mt_reserve(&t, a, k, 0, 16, 0, &r), 0);
	mt_complete_all(&t, a);
	ASSERT_EQ(mm_space_destroy(t.mm, a, k), 0);
	t.swap_err = -EIO;
	ASSERT_EQ(mt_reserve(&t, a, s, 255, 1, 0, &r), -ENODATA);
	mt_check(&t);
	for (i = 0; i < KV_TP_MAX; i++)
		passed[i] += t.passed[i];
	mt_fini(&t);
}

/* Pages that go on to the second tier, and some that cannot. */
static void demote_pages(u64 passed[KV_TP_MAX])
{
	const struct mm_config cfg = {
		.device_bytes = 2ull * KV_EXTENT_SIZE,
		.swap_bytes = { 18 * (u64)MT_PAGE, 64 * (u64)MT_PAGE },
		.swap.demote_low = 25,
		.swap.demote_high = 50,
		.ready_extents = 1,
	};
	struct mt t;
	u32 a, g, s, i;

	mt_init_cfg(&t, &cfg);
	a = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	g = mt_geom(&t, a, MT_PAGE);
	for (i = 0; i < 6; i++) {
		s = mt_space(&t, a, g);
		mm_tick(t.mm, (i + 1) * 1000);
		t.hold_swap = i == 3;
		(void)mt_reserve(&t, a, s, 0, 14 * 16, KV_SQE_WAIT, NULL);
		mt_drain(&t);
		while (t.hold_swap && t.nr_io) {
			enum mm_req_type type = t.io_type[0];
			struct mm_swap_io io = t.io[0];

			memmove(t.io, t.io + 1, --t.nr_io * sizeof(t.io[0]));
			memmove(t.io_type, t.io_type + 1,
				t.nr_io * sizeof(t.io_type[0]));
			mt_swap_answer_one(&t, &io, type,
					   type == MM_REQ_DEMOTE ? -EIO : 0);
			mt_drain(&t);
		}
		mt_complete_all(&t, a);
	}
	mt_check(&t);
	for (i = 0; i < KV_TP_MAX; i++)
		passed[i] += t.passed[i];
	mt_fini(&t);
}

/* A publisher, one that maps it, and one that wants the room. */
static void pass_prefix_points(u64 passed[KV_TP_MAX])
{
	u32 a, g, s, m, seq, i, tokens[64];
	struct mt t;

	for (i = 0; i < 64; i++)
		tokens[i] = i;
	mt_init(&t, 4, 1);
	a = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	g = mt_geom(&t, a, 448 * 1024);
	s = mt_space(&t, a, g);
	ASSERT_EQ(mt_reserve(&t, a, s, 0, 64, 0, NULL), 0);
	kv_store_release(&t.cl[a].status->space[s].len, 64);
	mt_complete_all(&t, a);
	ASSERT_EQ(mm_prefix_publish(t.mm, a, s, 0, tokens, 64, true, &seq), 64);
	mt_drain(&t);
	m = mt_space(&t, a, g);
	ASSERT_EQ(mm_prefix_map(t.mm, a, m, tokens, 64, &seq), 64);
	ASSERT_EQ(mt_reserve(&t, a, s, 64, 1, 0, NULL), 0);
	mt_complete_all(&t, a);
	ASSERT_EQ(mm_space_destroy(t.mm, a, s), 0);
	ASSERT_EQ(mm_space_destroy(t.mm, a, m), 0);
	mm_cache_drop(t.mm, 0, false);
	mt_check(&t);
	for (i = 0; i < KV_TP_MAX; i++)
		passed[i] += t.passed[i];
	mt_fini(&t);
}

/* Memory taken from one that is idle, from one that ends its step, and not. */
static void revoke_pages(u64 passed[KV_TP_MAX])
{
	const struct mm_config cfg = { .device_bytes = 4ull * KV_EXTENT_SIZE,
				       .revoke = MM_REVOKE_ADMIN };
	struct mt t;
	u64 asked;
	u32 a, g, s, i;

	mt_init_cfg(&t, &cfg);
	a = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	g = mt_geom(&t, a, 512 * 1024);
	s = mt_space(&t, a, g);
	ASSERT_EQ(mt_reserve(&t, a, s, 0, 16 * 16, 0, NULL), 0);
	ASSERT_EQ(mm_revoke(t.mm, a, 1, &asked), 0);
	kv_step_end(&t.cl[a].status->rank[0], t.cl[a].step);
	mm_tick(t.mm, 1);
	mt_drain(&t);
	ASSERT_EQ(mm_space_truncate(t.mm, a, s, 0), 0);
	ASSERT_EQ(mt_reserve(&t, a, s, 0, 16 * 16, 0, NULL), 0);
	ASSERT_EQ(mm_revoke(t.mm, a, 1, &asked), 0);
	mm_tick(t.mm, 2);
	mt_drain(&t);
	EXPECT_EQ(t.cl[a].kills, 1);
	mt_check(&t);
	for (i = 0; i < KV_TP_MAX; i++)
		passed[i] += t.passed[i];
	mt_fini(&t);
}

/* Short lives that pass every point of the core. */
TEST(mm, every_trace_point_of_the_core_is_passed)
{
	struct mt t;
	struct mt_resv r;
	struct mm_limits lim = { .max_bytes = MM_LIMIT_NONE };
	u32 tenant, a, g, s, i, missing = 0;
	int w, f;

	mt_init(&t, 4, 1);
	tenant = mt_tenant(&t, "a", MM_LIMIT_NONE);
	a = mt_attach(&t, tenant);
	g = mt_geom(&t, a, 448 * 1024);
	s = mt_space(&t, a, g);
	w = mt_space2(&t, a, g, 16, MM_NONE, 0);
	ASSERT_EQ(mt_reserve(&t, a, (u32)w, 0, 32, 0, NULL), 0);
	ASSERT_EQ(mt_reserve(&t, a, (u32)w, 32, 16, 0, NULL), 0);
	ASSERT_EQ(mt_reserve(&t, a, s, 0, 40, 0, NULL), 0);
	f = mm_space_fork(t.mm, a, s, 40);
	ASSERT_EQ(mt_reserve(&t, a, (u32)f, 40, 1, 0, NULL), 1);
	mt_complete_all(&t, a);
	ASSERT_EQ(mm_move_page(t.mm, a, s, 0, 0, copy_nothing, NULL), 0);
	t.mark_at = KV_TP_MOVE_FENCE;
	t.mark = &t.cl[a].status->space[s];
	ASSERT_EQ(mm_move_page(t.mm, a, s, 0, 0, copy_nothing, NULL), -EBUSY);
	t.mark = NULL;
	kv_step_mark(&t.cl[a].status->space[s], 0);
	ASSERT_EQ(mm_space_truncate(t.mm, a, s, 3), 0);
	ASSERT_GE(mt_reserve(&t, a, s, 3, 50 * 16, 0, NULL), 0);
	ASSERT_EQ(mt_reserve(&t, a, (u32)f, 41, 30 * 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	ASSERT_EQ(mm_cancel(t.mm, a, r.extra), 0);
	mt_drain(&t);
	ASSERT_EQ(mt_reserve(&t, a, (u32)f, 41, 30 * 16, KV_SQE_WAIT, &r),
		  -EINPROGRESS);
	ASSERT_EQ(mm_space_destroy(t.mm, a, s), 0);
	mt_complete_all(&t, a);
	ASSERT_EQ(mm_space_destroy(t.mm, a, (u32)f), 0);
	mt_complete_all(&t, a);
	mm_shrink(t.mm, a);
	mt_drain(&t);
	ASSERT_EQ(mm_tenant_limit(t.mm, tenant, &lim), 0);
	ASSERT_EQ(mm_tenant_charge(t.mm, tenant, 20 << 20), 0);
	mt_drain(&t);
	mm_client_exit(t.mm, a);
	mm_client_gone(t.mm, a);
	mt_drain(&t);
	mt_check(&t);
	swap_pages(t.passed);
	demote_pages(t.passed);
	pass_prefix_points(t.passed);
	revoke_pages(t.passed);
	for (i = 1; i < 100; i++) {
		if (!kv_trace_name(i) || t.passed[i])
			continue;
		TH_LOG("%s was not passed", kv_trace_name(i));
		missing++;
	}
	EXPECT_EQ(missing, 0);
	mt_fini(&t);
}

TEST_HARNESS_MAIN
