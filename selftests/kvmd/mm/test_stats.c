/* SPDX-License-Identifier: MIT */
/* san: address thread */
/*
 * test_stats.c - accounts in the clients' tables are those of the core, and a
 * reader gets one moment's figures however fast they are written
 */
#include <kv/stats.h>
#include <pthread.h>

#include "selftests/kvmd/mm/mmtest.h"

#define PAGE   (48u * 1024)
#define PERIOD 10000000ull
#define WRITES 200000u

static struct kv_stats account(struct mt *t, u32 client)
{
	struct kv_stats s;

	ASSERT_TRUE(kv_stats_read(kv_table_stats(t->cl[client].table), &s));
	return s;
}

TEST(stats, are_those_of_the_core_after_a_period)
{
	static struct mt t;
	struct mm_tenant_info ti;
	struct mm_usage u;
	struct kv_stats s;
	u32 tenant, client, geom, space;

	mt_init(&t, 8, 1);
	tenant = mt_tenant(&t, "a", 5 * KV_EXTENT_SIZE);
	client = mt_attach(&t, tenant);
	geom = mt_geom(&t, client, PAGE);
	mm_tick(t.mm, 2 * PERIOD);
	space = mt_space(&t, client, geom);
	ASSERT_EQ(mt_reserve(&t, client, space, 0, 160, 0, NULL), 0);
	EXPECT_TRUE(mm_wants_tick(t.mm));
	mm_tick(t.mm, 3 * PERIOD);
	EXPECT_TRUE(!mm_wants_tick(t.mm));
	s = account(&t, client);
	mm_usage_get(t.mm, &u);
	ASSERT_EQ(mm_tenant_info(t.mm, tenant, &ti), 0);
	EXPECT_EQ(s.time_ns, 3 * PERIOD);
	EXPECT_EQ(s.device.bytes, u.device_bytes);
	EXPECT_EQ(s.device.held, u.held_bytes);
	EXPECT_EQ(s.device.ready, u.ready_bytes);
	EXPECT_EQ(s.tenant.max_bytes, 5 * KV_EXTENT_SIZE);
	EXPECT_EQ(s.tenant.held, ti.held_bytes);
	EXPECT_EQ(s.client.frames, 10 * PAGE);
	EXPECT_EQ(s.client.nr_spaces, 1);
	mt_fini(&t);
}

TEST(stats, wait_for_the_period_and_are_then_written_once)
{
	static struct mt t;
	struct kv_stats s;
	u32 client, geom, space;

	mt_init(&t, 8, 1);
	client = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	geom = mt_geom(&t, client, PAGE);
	mm_tick(t.mm, 2 * PERIOD);
	space = mt_space(&t, client, geom);
	ASSERT_EQ(mt_reserve(&t, client, space, 0, 16, 0, NULL), 0);
	mm_tick(t.mm, 3 * PERIOD - 1);
	EXPECT_EQ(account(&t, client).client.frames, 0);
	EXPECT_TRUE(mm_wants_tick(t.mm));
	mm_tick(t.mm, 3 * PERIOD);
	s = account(&t, client);
	EXPECT_EQ(s.client.frames, PAGE);
	mm_tick(t.mm, 9 * PERIOD);
	EXPECT_EQ(account(&t, client).seq, s.seq);
	mt_fini(&t);
}

/* Who was refused by a limit told the one before. */
TEST(stats, a_limit_is_there_before_it_refuses)
{
	const struct mm_limits lim = { .max_bytes = 3 * KV_EXTENT_SIZE,
				       .weight = 100 };
	static struct mt t;
	u32 tenant, client;

	mt_init(&t, 8, 1);
	tenant = mt_tenant(&t, "a", MM_LIMIT_NONE);
	client = mt_attach(&t, tenant);
	mm_tick(t.mm, 2 * PERIOD);
	mt_space(&t, client, mt_geom(&t, client, PAGE));
	mt_drain(&t);
	EXPECT_EQ(account(&t, client).time_ns, 2 * PERIOD);
	EXPECT_EQ(account(&t, client).tenant.max_bytes, MM_LIMIT_NONE);
	ASSERT_EQ(0, mm_tenant_limit(t.mm, tenant, &lim));
	mt_drain(&t);
	EXPECT_EQ(account(&t, client).tenant.max_bytes, 3 * KV_EXTENT_SIZE);
	mt_fini(&t);
}

static void *write_stats(void *arg)
{
	struct kv_stats s = { 0 };
	u32 i;

	for (i = 1; i <= WRITES; i++) {
		s.time_ns = i;
		s.device.bytes = i;
		s.client.nr_tickets = i;
		kv_stats_write(arg, &s);
	}
	return NULL;
}

TEST(stats, are_never_read_torn)
{
	static struct kv_stats shared;
	struct kv_stats s;
	u32 got = 0;
	pthread_t t;

	ASSERT_EQ(pthread_create(&t, NULL, write_stats, &shared), 0);
	do {
		if (!kv_stats_read(&shared, &s))
			continue;
		got++;
		ASSERT_EQ(s.time_ns, s.device.bytes);
		ASSERT_EQ(s.time_ns, s.client.nr_tickets);
	} while (s.time_ns < WRITES);
	pthread_join(t, NULL);
	EXPECT_GT(got, 0);
}

TEST(stats, of_a_writer_that_died_are_not_given_out)
{
	static struct kv_stats shared;
	struct kv_stats s = { 0 };

	kv_stats_write(&shared, &s);
	EXPECT_TRUE(kv_stats_read(&shared, &s));
	shared.seq |= 1;
	EXPECT_TRUE(!kv_stats_read(&shared, &s));
	kv_stats_write(&shared, &s);
	EXPECT_TRUE(kv_stats_read(&shared, &s));
}

TEST_HARNESS_MAIN
