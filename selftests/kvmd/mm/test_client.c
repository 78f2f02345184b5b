/* SPDX-License-Identifier: MIT */
/*
 * test_client.c - attach, geometries, exit, gone
 */
#include "selftests/kvmd/mm/mmtest.h"

FIXTURE(client)
{
	struct mt t;
	u32 tenant, client;
};

FIXTURE_SETUP(client)
{
	mt_init(&self->t, 16, 2);
	self->tenant = mt_tenant(&self->t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(&self->t, self->tenant);
}

FIXTURE_TEARDOWN(client)
{
	mt_fini(&self->t);
}

TEST_F(client, finds_its_tables_header_filled_in)
{
	struct kv_table_hdr *h = self->t.cl[self->client].table;

	EXPECT_EQ(h->magic, KV_ABI_MAGIC);
	EXPECT_EQ(h->major, KV_ABI_MAJOR);
	EXPECT_EQ(h->client, self->client);
	EXPECT_EQ(h->hold_step, ~0ull);
	EXPECT_EQ(h->spaces_off, KV_TABLE_SPACES_OFF);
	EXPECT_EQ(h->nr_leaves, 0);
}

TEST_F(client, a_wrong_geometry_is_refused_whatever_is_wrong)
{
	struct kv_geometry good = mt_geometry(48 * 1024), g;
	u32 id, i;

	for (i = 0; i < 16; i++) {
		g = good;
		switch (i) {
		case 0:
			g.page_tokens = 0;
			break;
		case 1:
			g.page_tokens = 12;
			break;
		case 2:
			g.page_tokens = 512;
			break;
		case 3:
			g.nr_layers = 0;
			break;
		case 4:
			g.nr_kv_heads = 0;
			break;
		case 5:
			g.head_dim = 0;
			break;
		case 6:
			g.elem = 9;
			break;
		case 7:
			g.flags = 1;
			break;
		case 8:
			g.page_bytes = 0;
			break;
		case 9:
			g.page_bytes = 48 * 1024 + 1;
			break;
		case 10:
			g.page_bytes = KV_EXTENT_SIZE + 4096;
			break;
		case 11:
			g.layer_stride = 0xffffffff;
			g.nr_layers = 0xffff;
			break;
		case 12:
			g.token_stride = 0xffffffff;
			break;
		case 13:
			g.v_offset = 48 * 1024;
			break;
		case 14:
			g.unit_bytes = 4096;
			break;
		case 15:
			g.reserved[2] = 1;
			break;
		}
		EXPECT_EQ(mm_geom_add(self->t.mm, self->client, &g, &id),
			  -EINVAL);
	}
	for (i = 0; i < KV_GEOM_MAX; i++) {
		g = good;
		EXPECT_EQ(mm_geom_add(self->t.mm, self->client, &g, &id), 0);
		EXPECT_EQ(id, i);
	}
	g = good;
	EXPECT_EQ(mm_geom_add(self->t.mm, self->client, &g, &id), -ENOSPC);
	EXPECT_EQ(self->t.cl[self->client].table->nr_geoms, KV_GEOM_MAX);
	EXPECT_TRUE(mm_geom(self->t.mm, self->client, 0) != NULL);
	EXPECT_TRUE(mm_geom(self->t.mm, self->client, KV_GEOM_MAX) == NULL);
}

TEST_F(client, that_goes_can_ask_for_nothing_more)
{
	struct mt *t = &self->t;
	u32 geom = mt_geom(t, self->client, 48 * 1024);
	u32 space = mt_space(t, self->client, geom);

	mm_client_exit(t->mm, self->client);
	EXPECT_EQ(mt_reserve(t, self->client, space, 0, 1, 0, NULL),
		  -ESHUTDOWN);
	EXPECT_EQ(mm_space_destroy(t->mm, self->client, space), -ESHUTDOWN);
	EXPECT_EQ(mm_shrink(t->mm, self->client), -ESHUTDOWN);
	mm_client_exit(t->mm, self->client);
	mt_check(t);
	mm_client_gone(t->mm, self->client);
	EXPECT_EQ(mm_shrink(t->mm, self->client), -ENOENT);
	mm_client_gone(t->mm, self->client);
	mm_client_gone(t->mm, MM_CLIENT_MAX);
	mm_client_exit(t->mm, ~0u);
	mt_check(t);
}

TEST_F(client, leaves_nothing_behind)
{
	struct mm_tenant_info ti;
	struct mm_client_info ci;
	struct mm_usage u;
	struct mt *t = &self->t;
	u32 geom = mt_geom(t, self->client, 48 * 1024), i, s;

	for (i = 0; i < 20; i++) {
		s = mt_space(t, self->client, geom);
		ASSERT_EQ(mt_reserve(t, self->client, s, 0, 300, 0, NULL), 0);
		ASSERT_GE(mm_space_fork(t->mm, self->client, s, 299), 0);
	}
	mm_client_gone(t->mm, self->client);
	mt_drain(t);
	mt_check(t);
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.held_bytes, 0);
	EXPECT_EQ(u.frame_bytes, 0);
	mm_tenant_info(t->mm, self->tenant, &ti);
	EXPECT_EQ(ti.held_bytes, 0);
	EXPECT_EQ(ti.nr_clients, 0);
	EXPECT_EQ(mm_client_info(t->mm, self->client, &ci), -ENOENT);
}

TEST_F(client, a_new_one_in_an_old_slot_gets_nothing_of_the_old)
{
	struct mm_request req;
	struct mm_client_info ci;
	struct mt *t = &self->t;
	u32 geom = mt_geom(t, self->client, 48 * 1024);
	u32 space = mt_space(t, self->client, geom), again;
	struct kv_resv_item it = { .space = space, .nr_tokens = 1 };
	struct mm_resv r = { .step = 1, .items = &it, .nr_items = 1 };
	struct kv_copy copies[4];
	u32 seq, grants = 0;
	u64 extra;

	/* A grant is queued, the client goes, its slot is taken again. */
	ASSERT_EQ(mm_reserve(t->mm, self->client, &r, copies, &seq, &extra), 0);
	mm_client_gone(t->mm, self->client);
	{
		struct mm_attach at = {
			.tenant = self->tenant,
			.table = t->cl[self->client].table,
			.status = t->cl[self->client].status,
		};

		memset(at.table, 0, KV_TABLE_LEAVES_OFF);
		ASSERT_EQ(mm_client_attach(t->mm, &at, &again), 0);
	}
	EXPECT_EQ(again, self->client);
	while (mm_next_request(t->mm, &req)) {
		grants += req.type == MM_REQ_GRANT;
		if (req.type == MM_REQ_SCRUB)
			mm_scrub_done(t->mm, req.extent, 0);
		if (req.type == MM_REQ_POPULATE)
			mm_populate_done(t->mm, req.extent, 0);
	}
	EXPECT_EQ(grants, 0);
	EXPECT_EQ(mm_client_info(t->mm, again, &ci), 0);
	EXPECT_EQ(ci.nr_spaces, 0);
	EXPECT_EQ(ci.nr_geoms, 0);
	mt_check(t);
}

TEST_F(client, attaching_nonsense_is_refused)
{
	struct mm_attach at = { .tenant = self->tenant };
	u32 id;

	EXPECT_EQ(mm_client_attach(self->t.mm, &at, &id), -EINVAL);
	at.tenant = MM_TENANT_MAX;
	EXPECT_EQ(mm_client_attach(self->t.mm, &at, &id), -ENOENT);
	at.tenant = self->tenant + 1;
	EXPECT_EQ(mm_client_attach(self->t.mm, &at, &id), -ENOENT);
}

TEST_HARNESS_MAIN
