/* SPDX-License-Identifier: MIT */
/*
 * test_blocks.c - pieces in chains of blocks, against a model
 *
 * san: address thread
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "kvmd/io/blocks.h"
#include "selftests/harness.h"

#define PIECES 128u /* half of them are more than there is room for */
#define MOST   (40u << 10)
#define ROOM   (1u << 20)

struct piece {
	u32 at, bytes; /* 0: there is none */
	unsigned char with;
};

struct user {
	struct blocks *b;
	struct piece p[PIECES];
	uint64_t seed;
	u64 sum; /* bytes in blocks */
	u32 nr_full, nr_wrong;
	pthread_t thread;
};

static void put(struct user *u, struct piece *p)
{
	unsigned char buf[MOST];
	u32 bytes = 1 + (u32)test_rand(&u->seed) % MOST;
	int rc;

	p->with = (unsigned char)test_rand(&u->seed);
	memset(buf, p->with, bytes);
	buf[bytes - 1] = (unsigned char)~p->with;
	rc = blocks_put(u->b, buf, bytes, &p->at);
	u->nr_full += rc == -ENOSPC;
	if (rc)
		return;
	p->bytes = bytes;
	u->sum += blocks_round(bytes);
}

static void look(struct user *u, const struct piece *p)
{
	unsigned char buf[MOST];
	u32 i;

	blocks_get(u->b, p->at, buf, p->bytes);
	for (i = 0; i + 1 < p->bytes; i++)
		u->nr_wrong += buf[i] != p->with;
	u->nr_wrong += buf[p->bytes - 1] != (unsigned char)~p->with;
}

static void drop(struct user *u, struct piece *p)
{
	blocks_free(u->b, p->at, p->bytes);
	u->sum -= blocks_round(p->bytes);
	p->bytes = 0;
}

static void *use(void *arg)
{
	struct user *u = arg;
	struct piece *p;
	u32 i;

	for (i = 0; i < 20000; i++) {
		p = &u->p[test_rand(&u->seed) % PIECES];
		if (!p->bytes) {
			put(u, p);
			continue;
		}
		look(u, p);
		drop(u, p);
	}
	return NULL;
}

TEST(blocks, pieces_are_what_was_put_and_every_block_is_used)
{
	static struct user u;
	u32 i;

	u.seed = test_seed();
	ASSERT_EQ(0, blocks_create(ROOM, &u.b));
	use(&u);
	EXPECT_EQ(0, u.nr_wrong);
	EXPECT_GT(u.nr_full, 0);
	EXPECT_EQ(u.sum, blocks_used(u.b));
	EXPECT_LE(u.sum, ROOM);
	/* whatever is free, in whatever pieces, can be had as one */
	for (i = 0; i < PIECES; i++)
		if (u.p[i].bytes)
			drop(&u, &u.p[i]);
	EXPECT_EQ(0, blocks_used(u.b));
	for (i = 0; i < ROOM / BLOCK_BYTES; i++) {
		u32 at;

		ASSERT_EQ(0, blocks_put(u.b, "x", 1, &at));
	}
	EXPECT_EQ(ROOM, blocks_used(u.b));
	blocks_destroy(u.b);
}

TEST(blocks, threads_do_not_meet_in_a_piece)
{
	static struct user u[4];
	struct blocks *b;
	u64 sum = 0;
	u32 i;

	ASSERT_EQ(0, blocks_create(ROOM, &b));
	for (i = 0; i < 4; i++) {
		u[i].b = b;
		u[i].seed = test_seed() + i;
		ASSERT_EQ(0, pthread_create(&u[i].thread, NULL, use, &u[i]));
	}
	for (i = 0; i < 4; i++) {
		pthread_join(u[i].thread, NULL);
		EXPECT_EQ(0, u[i].nr_wrong);
		sum += u[i].sum;
	}
	EXPECT_EQ(sum, blocks_used(b));
	blocks_destroy(b);
}

TEST_HARNESS_MAIN
