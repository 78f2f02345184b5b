/* SPDX-License-Identifier: MIT */
/*
 * test_recover.c - rules of taking over a block, one by one
 *
 * That a core goes on after a death at any place is test_recover_model.c.
 */
#include <errno.h>
#include <setjmp.h>

#include "include/kv/errbuf.h"
#include "kvmd/mm/state.h"
#include "selftests/kvmd/mm/mmtest.h"

static int recover_as(struct mt *t, u32 client, const struct mm_config *cfg,
		      u32 tiers_lost)
{
	static struct mm_recover_client in[MM_CLIENT_MAX];
	struct mm_recover how = { .clients = in, .tiers_lost = tiers_lost };

	in[client] = (struct mm_recover_client){
		.serial = mm_client_serial(t->state, client),
		.table = t->cl[client].table,
		.status = t->cl[client].status,
	};
	return mm_recover(cfg, t->state, &how, &mt_ops, t, &t->mm);
}

static void come_back(struct mt *t, u32 client)
{
	ASSERT_EQ(recover_as(t, client, &t->cfg, 0), 0);
	ASSERT_GE(mm_client_resume(t->mm, client, &t->cl[client].seq), 0);
	mt_drain(t);
	mm_recover_end(t->mm);
	mt_check(t);
}

TEST(recover, only_of_a_block_of_this_version_and_size)
{
	struct mm_config cfg;
	struct mt t;
	u32 c;

	mt_init(&t, 4, 1);
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	cfg = t.cfg;
	cfg.device_bytes *= 2;
	EXPECT_EQ(recover_as(&t, c, &cfg, 0), -EPROTONOSUPPORT);
	cfg = t.cfg;
	cfg.swap_bytes[0] = 1 << 20;
	EXPECT_EQ(recover_as(&t, c, &cfg, 0), -EPROTONOSUPPORT);
	cfg = t.cfg;
	cfg.swap_store[0] = 1 << 20;
	EXPECT_EQ(recover_as(&t, c, &cfg, 0), -EINVAL);
	t.mm->head.version++;
	EXPECT_EQ(recover_as(&t, c, &t.cfg, 0), -EPROTONOSUPPORT);
	t.mm->head.version--;
	t.mm->head.magic++;
	EXPECT_EQ(recover_as(&t, c, &t.cfg, 0), -EBADMSG);
	t.mm->head.magic = 0;
	EXPECT_EQ(recover_as(&t, c, &t.cfg, 0), -ENOENT);
	t.mm->head.magic = MM_MAGIC;
	come_back(&t, c);
	mt_fini(&t);
}

static const struct mm_swap_set some_set = { 5, 50, 123, true };

TEST(recover, what_was_set_while_it_ran_stays)
{
	struct mm_usage use;
	struct mt t;
	u32 c;

	mt_init(&t, 4, 1);
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	EXPECT_EQ(mm_swap_set(t.mm, &some_set), 0);
	EXPECT_EQ(mm_watermarks(t.mm, 1, 2, 3), 0);
	come_back(&t, c);
	EXPECT_EQ(memcmp(mm_swap_get(t.mm), &some_set, sizeof(some_set)), 0);
	mm_usage_get(t.mm, &use);
	EXPECT_EQ(use.watermark[0], 1);
	EXPECT_EQ(use.watermark[1], 2);
	EXPECT_EQ(use.watermark[2], 3);
	mt_fini(&t);
}

static int convert(struct mt *t, struct mt *to, char *err)
{
	return mm_convert(&t->cfg, to->state, t->state, mm_state_bytes(&t->cfg),
			  t->state_fd, err);
}

TEST(recover, another_builds_block_is_read_or_refused_with_a_sentence)
{
	struct mm_tenant_info info;
	struct mt t, to;
	char err[KV_ERRLEN] = "";
	u32 c, tenant;

	mt_init(&t, 4, 1);
	tenant = mt_tenant(&t, "a", 3 * KV_EXTENT_SIZE);
	EXPECT_EQ(mm_swap_set(t.mm, &some_set), 0);
	c = mt_attach(&t, tenant);
	EXPECT_TRUE(mm_is_ours(&t.cfg, t.state, mm_state_bytes(&t.cfg)));
	t.mm->head.fields_off += 8;
	EXPECT_FALSE(mm_is_ours(&t.cfg, t.state, mm_state_bytes(&t.cfg)));
	EXPECT_EQ(recover_as(&t, c, &t.cfg, 0), -EPROTONOSUPPORT);
	to.cfg = t.cfg;
	to.state = mt_map_state(&to, &to.state_fd);
	EXPECT_EQ(convert(&t, &to, err), -EBADMSG);
	EXPECT_TRUE(strstr(err, "description") != NULL);
	t.mm->head.fields_off -= 8;
	t.mm->head.version++;
	EXPECT_EQ(convert(&t, &to, err), -EPROTONOSUPPORT);
	EXPECT_TRUE(strstr(err, "version") != NULL);
	t.mm->head.version--;
	t.mm->head.magic = 0;
	EXPECT_EQ(convert(&t, &to, err), -ENOENT);
	t.mm->head.magic = MM_MAGIC;
	t.mm->cfg.swap_store[0] = 1 << 20;
	EXPECT_EQ(convert(&t, &to, err), -EINVAL);
	EXPECT_TRUE(strstr(err, "swap") != NULL);
	t.mm->cfg.swap_store[0] = 0;
	/* What was not finished is no core. */
	EXPECT_EQ(recover_as(&to, c, &to.cfg, 0), -ENOENT);
	EXPECT_EQ(convert(&t, &to, err), 0);
	munmap(t.state, mm_state_bytes(&t.cfg));
	close(t.state_fd);
	t.state = to.state;
	t.state_fd = to.state_fd;
	come_back(&t, c);
	ASSERT_EQ(mm_tenant_info(t.mm, tenant, &info), 0);
	EXPECT_EQ(info.limits.max_bytes, 3 * KV_EXTENT_SIZE);
	EXPECT_STREQ(info.name, "a");
	EXPECT_EQ(memcmp(mm_swap_get(t.mm), &some_set, sizeof(some_set)), 0);
	mt_fini(&t);
}

TEST(recover, copies_of_a_reservation_are_answered_after_it)
{
	struct kv_resv_item it = { .nr_tokens = 3, .pos = 20 };
	struct mm_resv r = { .step = 2, .items = &it, .nr_items = 1 };
	struct kv_copy copies[KV_AREA_MAX], again[KV_AREA_MAX] = { { 0 } };
	struct mm_op_answer a;
	struct mt t;
	u32 c, seq;
	u64 extra;

	mt_init(&t, 4, 1);
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	it.space = mt_idle_space(&t, c, mt_geom(&t, c, MT_PAGE), 2);
	ASSERT_GE(mm_space_fork(t.mm, c, it.space, 20), 0);
	mm_op_begin(t.mm, c, 7);
	ASSERT_EQ(mm_reserve(t.mm, c, &r, copies, &seq, &extra), 1);
	mm_op_begin(t.mm, c, 8);
	come_back(&t, c);
	EXPECT_EQ(mm_op_answer(t.mm, c, 8, &a, again), 0);
	ASSERT_EQ(mm_op_answer(t.mm, c, 7, &a, again), 1);
	EXPECT_EQ(a.result, 1);
	EXPECT_EQ(memcmp(copies, again, sizeof(copies[0])), 0);
	EXPECT_EQ(again[0].tokens, 4);
	/* The source stays until that step has ended. */
	EXPECT_EQ(mm_move_page(t.mm, c, it.space, 0, 1, NULL, NULL), -EBUSY);
	mt_fini(&t);
}

TEST(recover, pages_of_a_lost_tier_are_lost_and_others_are_not)
{
	struct mm_space_info si;
	struct mt_resv r;
	u32 c, geom, old, spaces[2], i;
	struct mt t;

	mt_init_swap(&t, 4, 1, 4 * MT_PAGE, 64 * MT_PAGE);
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	geom = mt_geom(&t, c, MT_PAGE);
	old = mt_idle_space(&t, c, geom, 8);
	for (i = 0; i < 2; i++)
		spaces[i] = mt_idle_space(&t, c, geom, 30);
	ASSERT_GT(mt_nr_swapped(&t, c, old), 4);
	ASSERT_EQ(recover_as(&t, c, &t.cfg, 1), 0);
	mt_check(&t);
	ASSERT_EQ(mm_space_info(t.mm, c, old, &si), 0);
	EXPECT_EQ(si.pages_lost, 4);
	EXPECT_EQ(si.pages + si.pages_swapped, 4);
	ASSERT_EQ(mm_space_destroy(t.mm, c, spaces[0]), 0);
	EXPECT_EQ(mt_reserve(&t, c, old, 8 * 16, 1, 0, &r), -ENODATA);
	mt_fini(&t);
}

TEST(recover, a_client_without_its_table_is_quarantined)
{
	struct mm_client_info ci;
	struct mm_usage u;
	struct mt t;
	u32 c;

	mt_init(&t, 4, 1);
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	mt_idle_space(&t, c, mt_geom(&t, c, MT_PAGE), 20);
	ASSERT_EQ(recover_as(&t, c + 1, &t.cfg, 0), 0);
	mt_check(&t);
	ASSERT_EQ(mm_client_info(t.mm, c, &ci), 0);
	EXPECT_EQ(ci.state, 2);
	mm_usage_get(t.mm, &u);
	EXPECT_GE(u.held_bytes, 20 * MT_PAGE);
	mm_client_gone(t.mm, c);
	mt_drain(&t);
	mm_usage_get(t.mm, &u);
	EXPECT_EQ(u.held_bytes, 0);
	mt_check(&t);
	mt_fini(&t);
}

static sigjmp_buf death;

static void die_in_take(void *host, u32 point, u32 client, u64 arg)
{
	(void)host;
	(void)client;
	(void)arg;
	if (point == KV_TP_PREFIX_TAKE)
		siglongjmp(death, 1);
}

TEST(recover, what_a_running_step_reads_stays_until_it_ends)
{
	static const struct mm_host_ops deadly = { .table_grow = mt_grow,
						   .trace = die_in_take };
	struct mm_client_info ci;
	u32 c, s, seq, tokens[64];
	static struct mt t;

	memset(tokens, 1, sizeof(tokens));
	mt_init(&t, 4, 2);
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	s = mt_idle_space(&t, c, mt_geom(&t, c, MT_PAGE), 4);
	kv_store_release(&t.cl[c].status->space[s].len, 64);
	ASSERT_EQ(mm_prefix_publish(t.mm, c, s, 0, tokens, 64, false, &seq),
		  64);
	mt_drain(&t);
	kv_step_mark(&t.cl[c].status->space[s], ++t.cl[c].step);
	t.mm->ops = &deadly;
	if (!sigsetjmp(death, 0)) {
		mt_reserve(&t, c, s, 64, 1, 0, NULL);
		ASSERT_TRUE(false);
	}
	come_back(&t, c);
	/* Its own frame of the page that is the cache's now, and a fresh one.
	 */
	ASSERT_EQ(mm_client_info(t.mm, c, &ci), 0);
	EXPECT_EQ(ci.frame_bytes, 5 * MT_PAGE);
	t.cl[c].step++;
	mt_complete_all(&t, c);
	ASSERT_EQ(mm_client_info(t.mm, c, &ci), 0);
	EXPECT_EQ(ci.frame_bytes, 4 * MT_PAGE);
	mt_fini(&t);
}

/* Its process was not there to hear of it, and kvmd not to see it give. */
TEST(recover, a_client_has_all_its_time_once_more_when_it_is_back)
{
	const struct mm_config cfg = {
		.device_bytes = 8 * KV_EXTENT_SIZE,
		.ready_extents = 1,
		.revoke = MM_REVOKE_ADMIN,
		.revoke_ask_ns = 100000000,
		.revoke_fence_ns = 100000000,
	};
	struct mm_client_info ci;
	u64 asked, hour = 3600000000000;
	struct mt t;
	u32 c;

	mt_init_cfg(&t, &cfg);
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	mt_idle_space(&t, c, mt_geom(&t, c, MT_PAGE), 20);
	kv_step_mark(&t.cl[c].status->space[0], ++t.cl[c].step);
	ASSERT_EQ(mm_revoke(t.mm, c, KV_EXTENT_SIZE, &asked), 0);
	ASSERT_EQ(recover_as(&t, c, &t.cfg, 0), 0);
	mm_recover_end(t.mm);
	mm_tick(t.mm, hour);
	mt_drain(&t);
	ASSERT_EQ(mm_client_info(t.mm, c, &ci), 0);
	EXPECT_EQ(ci.revoke, MM_REVOKE_ASKED);
	ASSERT_GE(mm_client_resume(t.mm, c, &t.cl[c].seq), 0);
	mm_tick(t.mm, hour + 99000000);
	mt_drain(&t);
	ASSERT_EQ(mm_client_info(t.mm, c, &ci), 0);
	EXPECT_EQ(ci.revoke, MM_REVOKE_ASKED);
	EXPECT_GT(t.cl[c].nr_events[KV_EVENT_SHRINK], 1);
	mm_tick(t.mm, hour + 101000000);
	mt_drain(&t);
	ASSERT_EQ(mm_client_info(t.mm, c, &ci), 0);
	EXPECT_EQ(ci.revoke, MM_REVOKE_FENCED);
	/* Killed again: it stays fenced, and has its time once more. */
	ASSERT_EQ(recover_as(&t, c, &t.cfg, 0), 0);
	mm_recover_end(t.mm);
	EXPECT_EQ(t.cl[c].table->hold_step, t.cl[c].step - 1);
	mm_tick(t.mm, 2 * hour);
	ASSERT_GE(mm_client_resume(t.mm, c, &t.cl[c].seq), 0);
	mm_tick(t.mm, 2 * hour + 99000000);
	mt_drain(&t);
	EXPECT_EQ(t.cl[c].kills, 0);
	mm_tick(t.mm, 2 * hour + 101000000);
	mt_drain(&t);
	EXPECT_EQ(t.cl[c].kills, 1);
	mt_check(&t);
	mt_fini(&t);
}

/* 100 spaces of 1,000 pages that fill 782 extents. */
TEST(recover, takes_milliseconds_for_100_thousand_pages)
{
	double begin, best = 1;
	struct mm_usage u;
	u32 c, geom, i;
	struct mt t;

	mt_init(&t, 800, 1);
	c = mt_attach(&t, mt_tenant(&t, "a", MM_LIMIT_NONE));
	geom = mt_geom(&t, c, 64 << 10);
	for (i = 0; i < 100; i++)
		mt_idle_space(&t, c, geom, 1000);
	for (i = 0; i < 5; i++) {
		begin = th_now();
		ASSERT_EQ(recover_as(&t, c, &t.cfg, 0), 0);
		best = min(best, th_now() - begin);
	}
	TH_LOG("figure: a core with 100,000 pages of one client: %.2f ms",
	       best * 1e3);
	mt_check(&t);
	mm_usage_get(t.mm, &u);
	EXPECT_EQ(u.frame_bytes, 100000ull * (64 << 10));
	mt_fini(&t);
}

TEST_HARNESS_MAIN
