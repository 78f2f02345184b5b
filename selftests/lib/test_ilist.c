/* SPDX-License-Identifier: MIT */
/*
 * test_ilist.c - lists of indices against an array
 */
#include "lib/hash.h"
#include "lib/ilist.h"
#include "selftests/harness.h"

#define N 16u

struct thing {
	u32 pad;
	struct ilink link;
};

/* The list holds exactly model[0..nr), both ways. */
static void expect_list(const struct ilist *l, struct thing *t,
			const u32 *model, u32 nr)
{
	u32 i, k = 0, last = ILIST_NONE;

	EXPECT_EQ(l->nr, nr);
	EXPECT_EQ(ilist_is_empty(l), nr == 0);
	ilist_for_each (i, l, ILINKS(t, link)) {
		ASSERT_LT(k, nr);
		EXPECT_EQ(i, model[k++]);
		EXPECT_EQ(t[i].link.prev, last);
		last = i;
	}
	EXPECT_EQ(k, nr);
	EXPECT_EQ(l->last, last);
}

static u32 model_find(const u32 *model, u32 nr, u32 v)
{
	u32 i;

	for (i = 0; i < nr; i++)
		if (model[i] == v)
			break;
	return i;
}

static void model_insert(u32 *model, u32 *nr, u32 at, u32 v)
{
	memmove(&model[at + 1], &model[at], (*nr - at) * sizeof(*model));
	model[at] = v;
	++*nr;
}

TEST(ilist, keeps_the_order_of_an_array)
{
	struct thing t[N];
	u32 model[N + 1], nr = 0, i, at, round;
	struct ilist l;
	u64 rng = 3;

	memset(t, 0xee, sizeof(t));
	ilist_init(&l);
	for (round = 0; round < 5000; round++) {
		i = (u32)(hash_random(&rng) % N);
		at = model_find(model, nr, i);
		if (at < nr) {
			ilist_del(&l, ILINKS(t, link), i);
			memmove(&model[at], &model[at + 1],
				(nr - at - 1) * sizeof(*model));
			nr--;
		} else if (round % 3 == 0) {
			ilist_add_head(&l, ILINKS(t, link), i);
			model_insert(model, &nr, 0, i);
		} else if (round % 3 == 1 || !nr) {
			ilist_add_tail(&l, ILINKS(t, link), i);
			model_insert(model, &nr, nr, i);
		} else {
			at = (u32)(hash_random(&rng) % (nr + 1));
			ilist_add_before(&l, ILINKS(t, link),
					 at < nr ? model[at] : ILIST_NONE, i);
			model_insert(model, &nr, at, i);
		}
		expect_list(&l, t, model, nr);
	}
}

TEST(ilist, a_safe_walk_may_delete_where_it_stands)
{
	struct thing t[N];
	struct ilist l;
	u32 i, next, n = 0;

	ilist_init(&l);
	for (i = 0; i < N; i++)
		ilist_add_tail(&l, ILINKS(t, link), i);
	ilist_for_each_safe (i, next, &l, ILINKS(t, link)) {
		n++;
		if (i % 2)
			ilist_del(&l, ILINKS(t, link), i);
	}
	EXPECT_EQ(n, N);
	EXPECT_EQ(l.nr, N / 2);
	EXPECT_EQ(ilist_pop(&l, ILINKS(t, link)), 0);
	while (ilist_pop(&l, ILINKS(t, link)) != ILIST_NONE)
		;
	EXPECT_TRUE(ilist_is_empty(&l));
}

/* Two lists of every length, none included, become one. */
TEST(ilist, appends_a_list_to_another)
{
	struct thing t[N];
	u32 model[N], cut, end, i;
	struct ilist a, b;

	for (cut = 0; cut <= N; cut++)
		for (end = cut; end <= N; end++) {
			memset(t, 0xee, sizeof(t));
			ilist_init(&a);
			ilist_init(&b);
			for (i = 0; i < end; i++) {
				ilist_add_tail(i < cut ? &a : &b,
					       ILINKS(t, link), N - 1 - i);
				model[i] = N - 1 - i;
			}
			ilist_append(&a, &b, ILINKS(t, link));
			expect_list(&a, t, model, end);
			expect_list(&b, t, NULL, 0);
		}
}

TEST_HARNESS_MAIN
