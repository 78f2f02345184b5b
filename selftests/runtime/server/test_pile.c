/* SPDX-License-Identifier: MIT */
/*
 * test_pile.c - what many threads put, one takes, in order and once
 *
 * san: address thread
 */
#include <pthread.h>

#include "kv/types.h"
#include "runtime/server/pile.h"
#include "selftests/harness.h"

#define THREADS 4
#define EACH	20000

struct item {
	struct pile_link link;
	u32 who, nr;
};

static struct pile pile;
static struct item items[THREADS][EACH];

static void *put_all(void *arg)
{
	struct item *list = arg;
	u32 i;

	for (i = 0; i < EACH; i++)
		pile_put(&pile, &list[i].link);
	return NULL;
}

TEST(pile, gives_each_once_in_its_threads_order)
{
	pthread_t t[THREADS];
	u32 next[THREADS] = { 0 }, total = 0, i, k;
	struct pile_link *l, *after;

	for (i = 0; i < THREADS; i++) {
		for (k = 0; k < EACH; k++)
			items[i][k] = (struct item){ .who = i, .nr = k };
		ASSERT_EQ(0, pthread_create(&t[i], NULL, put_all, items[i]));
	}
	while (total < THREADS * EACH)
		for (l = pile_take(&pile); l; l = after) {
			struct item *it = container_of(l, struct item, link);

			after = l->next;
			ASSERT_EQ(next[it->who], it->nr);
			next[it->who]++;
			total++;
		}
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	EXPECT_FALSE(pile_take(&pile));
}

TEST_HARNESS_MAIN
