/* SPDX-License-Identifier: MIT */
/*
 * test_attn_plan_nomem.c - a plan that found no memory can be made again
 *
 * A plan keeps its arrays from step to step. Each allocation of a larger step
 * fails once; the next try with the same plan has to give what a fresh one
 * does, in arrays as large as it believes they are.
 */
#include "selftests/nomem.h"

#include "kernels/cpu/attn_plan.h"
#include "selftests/harness.h"

enum { SEQS = 9, PAGES = 128 };

struct step {
	struct kern_attn_seq seqs[SEQS];
	u32 tables[SEQS][PAGES];
	struct kern_attn a;
};

/* @nr sequences that share half of their pages, the last a prompt. */
static void make_step(struct step *s, u32 nr)
{
	*s = (struct step){ 0 };
	for (u32 i = 0; i < nr; i++) {
		struct kern_attn_seq *q = &s->seqs[i];

		q->nr_rows = i + 1 == nr ? 100 : 1;
		q->pos0 = 1500 + 16 * i;
		q->kv_len = q->pos0 + q->nr_rows;
		q->table = s->tables[i];
		for (u32 p = 0; p < PAGES; p++)
			s->tables[i][p] = p < 32 ? p : i * PAGES + p;
	}
	s->a = (struct kern_attn){
		.seqs = s->seqs,
		.nr_seqs = nr,
		.nr_heads = 4,
		.kv = { .page_tokens = 16, .nr_kv_heads = 1, .head_dim = 64 },
	};
}

static bool is_same(const struct kern_attn_plan *a,
		    const struct kern_attn_plan *b)
{
	return a->nr_rows == b->nr_rows && a->nr_items == b->nr_items &&
	       a->nr_merges == b->nr_merges && a->nr_parts == b->nr_parts &&
	       !memcmp(a->rows, b->rows, a->nr_rows * sizeof(*a->rows)) &&
	       !memcmp(a->items, b->items, a->nr_items * sizeof(*a->items)) &&
	       !memcmp(a->merges, b->merges, a->nr_merges * sizeof(u32));
}

TEST(attn_plan_nomem, the_next_try_gives_what_a_fresh_plan_does)
{
	static struct step small, large;
	struct kern_attn_plan want = { 0 };
	long n = 0;
	int rc;

	make_step(&small, 2);
	make_step(&large, SEQS);
	ASSERT_EQ(0, kern_attn_plan(&want, &large.a, 4));
	EXPECT_GT(want.nr_merges, 0);
	do {
		struct kern_attn_plan plan = { 0 };

		arm(0);
		rc = kern_attn_plan(&plan, &small.a, 4);
		EXPECT_EQ(0, rc);
		countdown = ++n;
		rc = kern_attn_plan(&plan, &large.a, 4);
		countdown = 0;
		/* the C library sorts without memory too */
		EXPECT_TRUE(rc == 0 || (rc == -ENOMEM && fired));
		rc = kern_attn_plan(&plan, &large.a, 4);
		EXPECT_EQ(0, rc);
		if (!EXPECT_TRUE(is_same(&plan, &want)))
			TH_LOG("allocation %ld", n);
		kern_attn_plan_fini(&plan);
		disarm();
		EXPECT_EQ(0, nr_live);
	} while (fired);
	TH_LOG("%ld allocations", n - 1);
	EXPECT_GT(n, 5);
	kern_attn_plan_fini(&want);
}

TEST_HARNESS_MAIN
