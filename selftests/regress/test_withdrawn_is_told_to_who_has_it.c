/* SPDX-License-Identifier: MIT */
/*
 * test_withdrawn_is_told_to_who_has_it.c - each extent that any client's
 * prefixes had filled was withdrawn from all clients of the tenant
 *
 * Who had ever mapped a page of the tenant's cache was told of each extent that
 * the cache gave back, also of those that others had filled and emptied. One
 * that was idle, and so did not read, was sent thousands of packets for what
 * others did, and ended when there was no more room for them.
 */
#include "selftests/kvmd/ipc/raw.h"

#define TOKENS 64u /* four pages of 2 MiB: an extent */
#define ROUNDS 8u

/* A page of 2 MiB, of 16 tokens. */
static uint32_t large_geom(struct raw *r)
{
	struct kv_msg_geom_add g = {
		.geom = {
			.page_tokens = 16,
			.nr_layers = 64,
			.nr_kv_heads = 4,
			.head_dim = 128,
			.elem = KV_ELEM_BF16,
			.token_stride = 1024,
			.head_stride = 256,
			.v_offset = 16384,
			.layer_stride = 32768,
			.page_bytes = 2u << 20,
		},
	};

	raw_send(r, KV_MSG_GEOM_ADD, &g, sizeof(g));
	ASSERT_EQ(0, raw_reply(r));
	memcpy(&g, r->body, sizeof(g));
	return g.id;
}

static struct kv_sqe about_tokens(struct raw *r, uint16_t opcode,
				  uint32_t space, uint32_t first)
{
	uint32_t *ids = raw_arena(r, 0), i;

	for (i = 0; i < TOKENS; i++)
		ids[i] = first + i;
	return (struct kv_sqe){ .opcode = opcode, .space = space };
}

/* Tokens from @first on are computed, published and in the cache. */
static void publish(struct raw *r, uint32_t geom, uint32_t first)
{
	int space = raw_space(r, geom, 0);
	struct kv_sqe sqe;
	struct kv_cqe c;

	ASSERT_GE(space, 0);
	ASSERT_GE(raw_reserve(r, (uint32_t)space, 0, TOKENS).res, 0);
	raw_commit(r, (uint32_t)space, TOKENS);
	do { /* room may come in a moment */
		sqe = about_tokens(r, KV_OP_PREFIX_PUBLISH, (uint32_t)space,
				   first);
		sqe.arg[1] = TOKENS;
		c = raw_call(r, sqe);
		ASSERT_GE(c.res, 0);
	} while (c.res < (int)TOKENS);
	raw_call(r, (struct kv_sqe){ .opcode = KV_OP_SPACE_DESTROY,
				     .space = (uint32_t)space });
	space = raw_space(r, geom, 0);
	ASSERT_GE(space, 0);
	do { /* it is copied meanwhile */
		sqe = about_tokens(r, KV_OP_PREFIX_FIND, (uint32_t)space,
				   first);
		sqe.arg[0] = TOKENS;
		c = raw_call(r, sqe);
		ASSERT_GE(c.res, 0);
	} while (c.res < (int)TOKENS);
	raw_call(r, (struct kv_sqe){ .opcode = KV_OP_SPACE_DESTROY,
				     .space = (uint32_t)space });
}

/* Map what was published. Return: the space. */
static uint32_t map(struct raw *r, uint32_t geom, uint32_t first)
{
	int space = raw_space(r, geom, 0);
	struct kv_sqe sqe;

	ASSERT_GE(space, 0);
	sqe = about_tokens(r, KV_OP_PREFIX_MAP, (uint32_t)space, first);
	sqe.arg[0] = TOKENS;
	ASSERT_EQ(TOKENS, raw_call(r, sqe).res);
	return (uint32_t)space;
}

/* Withdrawals of the cache's extents among what came until now. */
static unsigned int nr_told(struct raw *r)
{
	const struct kv_msg_geom_add again = { .geom = raw_geometry() };
	struct kv_msg_extent x;
	unsigned int nr = 0;

	raw_send(r, KV_MSG_GEOM_ADD, &again, sizeof(again));
	for (;;) {
		ASSERT_EQ(1, raw_recv(r, RAW_WAIT_MS));
		if (r->msg.type != KV_MSG_EXTENT)
			break;
		memcpy(&x, r->body, sizeof(x));
		nr += x.flags == (KV_EXTENT_GONE | KV_EXTENT_SHARED);
		if (!(x.flags & KV_EXTENT_GONE)) /* of a successor */
			r->extent_seq = x.seq;
	}
	EXPECT_EQ(0, r->msg.status);
	return nr;
}

static uint64_t drop(const struct test_kvmd *d)
{
	return test_kvmd_u64(d, "cache drop", "bytes");
}

TEST_TIMEOUT(withdrawn, is_told_to_who_has_it, 200)
{
	static struct raw idle, busy;
	uint32_t geom, space, i;
	struct test_kvmd d;

	ASSERT_EQ(0,
		  test_kvmd_start(&d, test_tmpdir(), "--size", "256M", NULL));
	raw_attach(&idle, d.socket);
	raw_attach(&busy, d.socket);
	geom = large_geom(&busy);
	publish(&busy, geom, 1000);
	geom = large_geom(&idle);
	space = map(&idle, geom, 1000);
	EXPECT_EQ(0u, nr_told(&idle));
	for (i = 1; i <= ROUNDS; i++) {
		publish(&busy, geom, 1000 + i * TOKENS);
		raw_call(&busy, (struct kv_sqe){ .opcode = KV_OP_SHRINK });
		EXPECT_LE(TOKENS / 16 * (2ull << 20), drop(&d));
	}
	EXPECT_EQ(0u, nr_told(&idle));
	/* and of what it has it is told, once */
	raw_call(&idle, (struct kv_sqe){ .opcode = KV_OP_SPACE_DESTROY,
					 .space = space });
	drop(&d);
	EXPECT_EQ(1u, nr_told(&idle));
	publish(&busy, geom, 1000);
	drop(&d);
	EXPECT_EQ(0u, nr_told(&idle));
	raw_fds_close(&idle);
	raw_fds_close(&busy);
	raw_detach(&idle);
	raw_detach(&busy);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

/* A successor does not know what was told; who has it is told all the same. */
TEST_TIMEOUT(withdrawn, is_told_by_the_next_kvmd_too, 200)
{
	static struct raw r;
	uint32_t geom, space;
	struct test_kvmd d;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--keeper", "--size",
				     "256M", NULL));
	raw_attach(&r, d.socket);
	geom = large_geom(&r);
	publish(&r, geom, 1000);
	space = map(&r, geom, 1000);
	EXPECT_EQ(0u, nr_told(&r));
	ASSERT_EQ(0, test_kvmd_kill_kept(&d));
	ASSERT_EQ(1, raw_recv(&r, RAW_WAIT_MS));
	ASSERT_EQ(KV_MSG_RESUME, r.msg.type);
	EXPECT_EQ(0u, nr_told(&r));
	raw_call(&r, (struct kv_sqe){ .opcode = KV_OP_SPACE_DESTROY,
				      .space = space });
	EXPECT_LE(TOKENS / 16 * (2ull << 20), drop(&d));
	EXPECT_EQ(1u, nr_told(&r));
	drop(&d);
	EXPECT_EQ(0u, nr_told(&r));
	raw_fds_close(&r);
	raw_detach(&r);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
