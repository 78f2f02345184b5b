/* SPDX-License-Identifier: MIT */
/*
 * test_info.c - figures agree with what was done
 */
#include "selftests/kvmd/mm/mmtest.h"

#define PAGE (48u * 1024)

FIXTURE(info)
{
	struct mt t;
	u32 tenant, client, geom, space;
};

FIXTURE_SETUP(info)
{
	struct mt *t = &self->t;

	mt_init(t, 8, 1);
	self->tenant = mt_tenant(t, "a", MM_LIMIT_NONE);
	self->client = mt_attach(t, self->tenant);
	self->geom = mt_geom(t, self->client, PAGE);
	self->space = mt_space(t, self->client, self->geom);
	ASSERT_EQ(mt_reserve(t, self->client, self->space, 0, 160, 0, NULL), 0);
	t->cl[self->client].status->space[self->space].len = 152;
}

FIXTURE_TEARDOWN(info)
{
	mt_fini(&self->t);
}

TEST_F(info, of_a_space_splits_shared_pages_among_its_mappers)
{
	struct mt *t = &self->t;
	struct mm_space_info si;
	int child = mm_space_fork(t->mm, self->client, self->space, 64);

	ASSERT_GE(child, 0);
	ASSERT_EQ(mm_space_info(t->mm, self->client, self->space, &si), 0);
	EXPECT_EQ(si.pages, 10);
	EXPECT_EQ(si.pages_shared, 4);
	EXPECT_EQ(si.rss_bytes, 10 * PAGE);
	EXPECT_EQ(si.uss_bytes, 6 * PAGE);
	EXPECT_EQ(si.pss_bytes, 8 * PAGE);
	EXPECT_EQ(si.len, 152);
	EXPECT_EQ(si.resv_step, 1);
	EXPECT_EQ(mm_space_info(t->mm, self->client, 99, &si), -ENOENT);
	EXPECT_EQ(mm_space_info(t->mm, ~0u, 0, &si), -ENOENT);
}

TEST_F(info, of_use_counts_tokens_and_what_sharing_saves)
{
	struct mt *t = &self->t;
	struct mm_usage u;
	int child;

	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.frame_bytes, 10 * PAGE);
	EXPECT_EQ(u.token_bytes, 152 * PAGE / 16);
	EXPECT_EQ(u.saved_bytes, 0);
	child = mm_space_fork(t->mm, self->client, self->space, 152);
	ASSERT_GE(child, 0);
	t->cl[self->client].status->space[child].len = 152;
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.frame_bytes, 10 * PAGE);
	EXPECT_EQ(u.shared_bytes, 10 * PAGE);
	EXPECT_EQ(u.saved_bytes, 10 * PAGE);
	EXPECT_EQ(u.token_bytes, 152 * PAGE / 16);
	/* A length nobody can believe counts as the pages there are. */
	t->cl[self->client].status->space[child].len = ~0ull;
	t->cl[self->client].status->space[self->space].len = ~0ull;
	mm_usage_get(t->mm, &u);
	EXPECT_EQ(u.token_bytes, 10 * PAGE);
}

TEST_F(info, of_clients_and_tenants_adds_up)
{
	struct mm_client_info ci;
	struct mm_tenant_info ti;
	struct mt *t = &self->t;

	ASSERT_EQ(mm_client_info(t->mm, self->client, &ci), 0);
	ASSERT_EQ(mm_tenant_info(t->mm, self->tenant, &ti), 0);
	EXPECT_STREQ(ci.name, "test");
	EXPECT_EQ(ci.nr_spaces, 1);
	EXPECT_EQ(ci.held_bytes, KV_EXTENT_SIZE);
	EXPECT_EQ(ti.held_bytes, ci.held_bytes);
	EXPECT_EQ(ti.frame_bytes, 10 * PAGE);
	EXPECT_EQ(ci.frame_bytes, 10 * PAGE);
	EXPECT_EQ(ti.nr_clients, 1);
	EXPECT_EQ(mm_client_info(t->mm, MM_CLIENT_MAX, &ci), -ENOENT);
}

/* Parallel samples of one prompt: what the closed form says is saved. */
TEST_F(info, samples_of_one_prompt_save_the_closed_form)
{
	struct mt *t = &self->t;
	u32 n, prompt = 150, tail = 80, s[6], i, k;
	struct mm_usage u, before;

	for (n = 2; n <= 6; n += 2) {
		mm_usage_get(t->mm, &before);
		s[0] = mt_space(t, self->client, self->geom);
		ASSERT_EQ(mt_reserve(t, self->client, s[0], 0, prompt, 0, NULL),
			  0);
		for (i = 1; i < n; i++) {
			int rc = mm_space_fork(t->mm, self->client, s[0],
					       prompt);

			ASSERT_GE(rc, 0);
			s[i] = (u32)rc;
		}
		for (k = 0; k < tail; k++)
			for (i = 0; i < n; i++)
				ASSERT_GE(mt_reserve(t, self->client, s[i],
						     prompt + k, 1, 0, NULL),
					  0);
		mt_complete_all(t, self->client);
		mm_usage_get(t->mm, &u);
		/* Whole pages of the prompt, once instead of n times. */
		EXPECT_EQ(u.saved_bytes - before.saved_bytes,
			  (u64)(n - 1) * (prompt / 16) * PAGE);
		EXPECT_EQ(u.frame_bytes - before.frame_bytes,
			  (n * DIV_ROUND_UP(prompt + tail, 16) -
			   (n - 1) * (prompt / 16)) *
				  (u64)PAGE);
		for (i = 0; i < n; i++)
			mm_space_destroy(t->mm, self->client, s[i]);
		mt_complete_all(t, self->client);
	}
	mt_check(t);
}

TEST_HARNESS_MAIN
