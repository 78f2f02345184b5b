/* SPDX-License-Identifier: MIT */
/*
 * test_heap.c - events by time, against a list that is searched
 *
 * san: address
 */
#include <stdlib.h>

#include "lib/heap.h"
#include "selftests/harness.h"

#define MOST 600u

struct list {
	struct event v[MOST];
	u32 nr;
	u64 pushed;
};

/* The earliest, and of those the one that was put in first. */
static u32 first_of(const struct list *l)
{
	u32 i, best = 0;

	for (i = 1; i < l->nr; i++)
		if (l->v[i].at < l->v[best].at ||
		    (l->v[i].at == l->v[best].at &&
		     l->v[i].serial < l->v[best].serial))
			best = i;
	return best;
}

static void push(struct heap *h, struct list *l, u64 at, u32 kind)
{
	struct event *e = &l->v[l->nr++];

	*e = (struct event){
		.at = at, .kind = kind, .who = kind * 3, .serial = l->pushed++
	};
	ASSERT_EQ(0, heap_push(h, at, e->kind, e->who, e->serial));
}

static void pop(struct heap *h, struct list *l)
{
	u32 i = first_of(l);
	struct event e, want = l->v[i];

	EXPECT_EQ(want.at, heap_first(h));
	e = heap_pop(h);
	EXPECT_EQ(want.at, e.at);
	EXPECT_EQ(want.serial, e.serial);
	EXPECT_EQ(want.kind, e.kind);
	EXPECT_EQ(want.who, e.who);
	l->v[i] = l->v[--l->nr];
}

/* Few times, so that many are equal; it fills and empties over and over. */
TEST(heap, what_comes_out_is_the_earliest_and_of_equals_the_first)
{
	static struct list l;
	u64 seed = test_seed();
	struct heap h = { 0 };
	u32 i, round, bias;

	for (round = 0; round < 40; round++) {
		u64 range = 1 + test_rand(&seed) % (round % 2 ? 8 : 100000);

		bias = 20 + (u32)(test_rand(&seed) % 60);
		for (i = 0; i < 1000; i++) {
			EXPECT_EQ(l.nr, h.nr);
			if (!l.nr)
				EXPECT_EQ(~0ull, heap_first(&h));
			if (l.nr < MOST &&
			    (!l.nr || test_rand(&seed) % 100 < bias))
				push(&h, &l, test_rand(&seed) % range,
				     (u32)(test_rand(&seed) % 1000));
			else
				pop(&h, &l);
		}
	}
	while (l.nr)
		pop(&h, &l);
	EXPECT_EQ(0, h.nr);
	heap_fini(&h);
}

TEST(heap, an_empty_one_is_zeroed_and_may_be_used_again)
{
	struct heap h = { 0 };

	heap_fini(&h);
	ASSERT_EQ(0, heap_push(&h, 7, 1, 2, 3));
	EXPECT_EQ(7, heap_first(&h));
	heap_fini(&h);
	EXPECT_EQ(~0ull, heap_first(&h));
	ASSERT_EQ(0, heap_push(&h, 9, 1, 2, 3));
	EXPECT_EQ(3, heap_pop(&h).serial);
	heap_fini(&h);
}

TEST_HARNESS_MAIN
