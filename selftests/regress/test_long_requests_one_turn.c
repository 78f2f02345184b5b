/* SPDX-License-Identifier: MIT */
/*
 * test_long_requests_one_turn.c - a client that forks long spaces holds up
 * nobody for long
 *
 * A turn of the loop took 64 requests from a client, whatever they cost. A
 * ring full of forks of spaces with thousands of pages each kept all other
 * clients, and the socket, waiting for as long as they took together.
 */
#include "selftests/kvmd/ipc/raw.h"

#define TOKENS (16384u * 16u) /* as many pages as an area can have */
#define FORKS  64u

static void push_forks(struct raw *r, uint32_t space)
{
	struct kv_sqe *ring = (void *)(r->ring + KV_RING_SQ_OFF);
	uint32_t i;

	for (i = 0; i < FORKS; i++)
		ring[(r->sq_tail + i) & (KV_SQ_ENTRIES - 1)] = (struct kv_sqe){
			.opcode = KV_OP_SPACE_FORK,
			.space = space,
			.arg = { TOKENS },
			.user_data = i,
		};
	r->sq_tail += FORKS;
	kv_ring_publish(&r->hdr->sq_tail, r->sq_tail);
	if (kv_ring_must_wake(&r->hdr->sq_sleeping))
		raw_ring_bell(r);
}

/* Turns in which some ring had requests. */
static uint64_t turns(struct test_kvmd *d)
{
	char *json = test_kvmd_ctl(d, "vmstat");
	uint64_t n = 0;

	EXPECT_EQ(0, test_json_u64(json, "ring_batches", &n));
	free(json);
	return n;
}

TEST(long_requests, of_one_client_do_not_run_in_one_turn)
{
	struct test_kvmd d;
	struct kv_cqe cqe;
	uint64_t before;
	uint32_t space;
	struct raw a;
	int i;

	ASSERT_EQ(0,
		  test_kvmd_start(&d, test_tmpdir(), "--size", "256M", NULL));
	raw_attach(&a, d.socket);
	space = (uint32_t)raw_space(&a, raw_geom(&a), 0);
	cqe = raw_reserve(&a, space, 0, TOKENS);
	ASSERT_EQ(cqe.res, 0);
	raw_commit(&a, space, TOKENS);
	before = turns(&d);
	push_forks(&a, space);
	for (i = 0; i < (int)FORKS; i++) {
		ASSERT_TRUE(raw_pop(&a, &cqe, RAW_WAIT_MS));
		EXPECT_GE(cqe.res, 0);
	}
	EXPECT_GE(turns(&d), before + 8);
	raw_detach(&a);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
