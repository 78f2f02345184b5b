/* SPDX-License-Identifier: MIT */
/*
 * test_attn.c - paged attention of every row of the table, and its plan
 *
 * san: address
 */
#include "selftests/kernels/attn_tests.h"

static const struct kern_ops *attn_row(u32 i)
{
	const char *name = kern_isa_list()[i];

	return name ? kern_select(name) : NULL;
}

static void attn_begin(void)
{
	kern_thread_init();
}

/* How often a plan has each segment of a row and KV head. */
struct cover {
	u8 nr[40];
};

static void cover_item(const struct kern_attn *a,
		       const struct kern_attn_plan *plan,
		       const struct kern_attn_item *it, struct cover *c,
		       u32 *nr_items)
{
	EXPECT_LE(it->nr_rows * 3, 64);
	EXPECT_LT(it->seg0, it->seg1);
	for (u32 i = it->row; i < it->row + it->nr_rows; i++) {
		const struct kern_attn_row *r = &plan->rows[i];

		for (u32 s = it->seg0; s < it->seg1; s++)
			c[i * 2 + it->kv_head].nr[s]++;
		nr_items[i] += it->kv_head == 0;
		if (r->seq == it->seq)
			continue;
		EXPECT_EQ(0, memcmp(a->seqs[r->seq].table + it->seg0 * 16,
				    a->seqs[it->seq].table + it->seg0 * 16,
				    (it->seg1 - it->seg0) * 64));
	}
}

static void check_cover(const struct kern_attn *a,
			const struct kern_attn_plan *plan)
{
	struct cover *c = calloc(plan->nr_rows * 2, sizeof(*c));
	u32 *nr_items = calloc(plan->nr_rows, sizeof(*nr_items)), merges = 0;
	u64 parts = 0;

	for (u32 i = 0; i < plan->nr_items; i++)
		cover_item(a, plan, &plan->items[i], c, nr_items);
	for (u32 i = 0; i < plan->nr_rows; i++) {
		const struct kern_attn_row *r = &plan->rows[i];
		const struct kern_attn_seq *q = &a->seqs[r->seq];
		u32 pos = q->pos0 + r->row, last = pos / KERN_ATTN_SEGMENT;
		u32 from = q->window && pos >= q->window ? pos - q->window + 1
							 : 0;
		bool split = r->part != KERN_ATTN_WHOLE;

		for (u32 s = from / KERN_ATTN_SEGMENT; s <= last; s++)
			if (c[2 * i].nr[s] != 1 || c[2 * i + 1].nr[s] != 1)
				EXPECT_EQ(i, ~0u);
		EXPECT_EQ(split, nr_items[i] > 1);
		if (split) {
			EXPECT_EQ(i, plan->merges[merges++]);
			EXPECT_EQ(parts, r->part);
			parts += 6 * r->nr_segs;
		}
	}
	EXPECT_EQ(merges, plan->nr_merges);
	EXPECT_EQ(parts, plan->nr_parts);
	free(c);
	free(nr_items);
}

TEST(attn, a_plan_covers_every_row_head_and_segment_once)
{
	enum { SEQS = 5, PAGES = 600 };
	static u32 tables[SEQS][PAGES];
	u64 seed = test_seed();
	struct kern_attn_plan plan = { 0 };

	for (u32 round = 0; round < 200; round++) {
		struct kern_attn_seq s[SEQS] = { 0 };
		struct kern_attn a = {
			.seqs = s,
			.nr_seqs = SEQS,
			.nr_heads = 6,
			.kv = { .nr_kv_heads = 2,
				.head_dim = 64,
				.page_tokens = 16 },
		};
		u32 rows = 0;

		for (u32 i = 0; i < SEQS; i++) {
			u32 common = i ? kt_below(&seed, PAGES) : 0;

			s[i].nr_rows = kt_below(&seed, 3) *
				       kt_below(&seed, i & 1 ? 4 : 60);
			s[i].pos0 = kt_below(&seed, 9000);
			s[i].kv_len = s[i].pos0 + s[i].nr_rows;
			s[i].table = tables[i];
			s[i].window = round & 1 ? 700 : 0;
			for (u32 p = 0; p < PAGES; p++)
				tables[i][p] = p < common ? tables[i - 1][p]
							  : i * PAGES + p;
			rows += s[i].nr_rows;
		}
		ASSERT_EQ(0, kern_attn_plan(&plan, &a, 1 + round % 9));
		EXPECT_EQ(rows, plan.nr_rows);
		check_cover(&a, &plan);
	}
	kern_attn_plan_fini(&plan);
}

TEST_HARNESS_MAIN
