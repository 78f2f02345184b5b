/* SPDX-License-Identifier: MIT */
/*
 * test_turn_asked_while_had.c - who asked for the turn that it had slept on
 *
 * Nobody else may want it any more, or kvmd has been replaced meanwhile and
 * gave it more time: the word did not change, and who had asked waits for a
 * newer one.
 */
#include "selftests/kvmd/ipc/raw.h"
#include <kv/turn.h>

static uint32_t ask(struct raw *r)
{
	struct kv_turn *t = kv_ring_turn(r->ring);
	uint32_t word = kv_turn_say(t, KV_TURN_WAITING), i;
	struct kv_cqe cqe;

	cqe = raw_call(r, (struct kv_sqe){ .opcode = KV_OP_TURN });
	EXPECT_EQ(0, cqe.res);
	for (i = 0; i < 1000 && kv_load_acquire(&t->word) == word; i++)
		usleep(10000);
	EXPECT_NE(word, kv_load_acquire(&t->word));
	return kv_load_acquire(&t->word);
}

TEST(turn, that_is_asked_for_while_it_is_had_is_granted_anew)
{
	struct test_kvmd d;
	struct raw r;
	int i;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "32M", NULL));
	raw_attach(&r, d.socket);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(KV_TURN_GRANTED, ask(&r) & KV_TURN_FLAGS);
	raw_detach(&r);
	EXPECT_EQ(0, test_kvmd_settle(&d, 0, 20000));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
