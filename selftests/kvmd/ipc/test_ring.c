/* SPDX-License-Identifier: MIT */
/*
 * test_ring.c - operations over the rings, of clients good and bad
 */
#include "selftests/kvmd/ipc/raw.h"

FIXTURE(ring)
{
	struct test_kvmd d;
	struct raw r, other;
};

FIXTURE_VARIANT(ring)
{
	const char *io;
};

FIXTURE_VARIANT_ADD(ring, uring){ .io = "uring" };
FIXTURE_VARIANT_ADD(ring, epoll){ .io = "epoll" };

FIXTURE_SETUP(ring)
{
	ASSERT_EQ(0,
		  test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				  "--io", variant->io, "--drain", "20", NULL));
	raw_attach(&self->r, self->d.socket);
}

FIXTURE_TEARDOWN(ring)
{
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

TEST_F(ring, a_reservation_finds_the_table_updated)
{
	struct raw *r = &self->r;
	uint32_t geom = raw_geom(r);
	int space = raw_space(r, geom, 0);
	struct kv_cqe cqe;
	uint32_t i;

	ASSERT_GE(space, 0);
	cqe = raw_reserve(r, (uint32_t)space, 0, 40);
	EXPECT_EQ(cqe.res, 0);
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(kv_pte_can(raw_pte(r, (uint32_t)space, i), 1));
	EXPECT_FALSE(kv_pte_is_present(raw_pte(r, (uint32_t)space, 3)));
	EXPECT_GE(r->nr_extents, 1);
	raw_commit(r, (uint32_t)space, 40);
}

TEST_F(ring, a_write_after_fork_copies_the_tokens_in_use)
{
	struct raw *r = &self->r;
	uint32_t geom = raw_geom(r), a, b;
	const struct kv_copy *copy = raw_arena(r, RAW_OUT_OFF);
	struct kv_cqe cqe;
	int rc;

	a = (uint32_t)raw_space(r, geom, 0);
	raw_reserve(r, a, 0, 37);
	raw_commit(r, a, 37);
	rc = raw_call(r, (struct kv_sqe){ .opcode = KV_OP_SPACE_FORK,
					  .space = a,
					  .arg = { 37 } })
		     .res;
	ASSERT_GE(rc, 0);
	b = (uint32_t)rc;
	kv_store_release(&r->status->space[b].len, 37ull);
	EXPECT_EQ(kv_pte_frame(raw_pte(r, a, 2)),
		  kv_pte_frame(raw_pte(r, b, 2)));
	EXPECT_FALSE(kv_pte_can(raw_pte(r, b, 2), 1));

	cqe = raw_reserve(r, b, 37, 1);
	EXPECT_EQ(cqe.res, 1);
	EXPECT_EQ(cqe.out_len, sizeof(struct kv_copy));
	EXPECT_EQ(copy->tokens, 5);
	EXPECT_EQ(copy->src, kv_pte_frame(raw_pte(r, a, 2)));
	EXPECT_EQ(copy->dst, kv_pte_frame(raw_pte(r, b, 2)));
	EXPECT_TRUE(kv_pte_can(raw_pte(r, b, 2), 1));
	raw_commit(r, b, 38);
	/* the pages before the tail stay shared */
	EXPECT_EQ(kv_pte_frame(raw_pte(r, a, 1)),
		  kv_pte_frame(raw_pte(r, b, 1)));
}

TEST_F(ring, a_reserved_field_of_a_geometry_has_to_be_zero)
{
	struct kv_msg_geom_add g = { .geom = raw_geometry(), .reserved = 1 };

	raw_send(&self->r, KV_MSG_GEOM_ADD, &g, sizeof(g));
	EXPECT_EQ(-EINVAL, raw_reply(&self->r));
	EXPECT_EQ(0, raw_geom(&self->r));
}

TEST_F(ring, two_clients_never_share_an_extent)
{
	struct raw *r = &self->r, *o = &self->other;
	uint32_t i, both = 0, s;

	raw_attach(o, self->d.socket);
	EXPECT_NE(o->w.client, r->w.client);
	s = (uint32_t)raw_space(r, raw_geom(r), 0);
	EXPECT_EQ(raw_reserve(r, s, 0, 64).res, 0);
	s = (uint32_t)raw_space(o, raw_geom(o), 0);
	EXPECT_EQ(raw_reserve(o, s, 0, 64).res, 0);
	for (i = 0; i < 1024; i++)
		both += r->extent_fd[i] && o->extent_fd[i];
	EXPECT_EQ(both, 0);
}

TEST_F(ring, nonsense_is_answered_with_its_error)
{
	static const struct {
		const char *what;
		struct kv_sqe sqe;
		int res;
	} rows[] = {
		{ "opcode", { .opcode = 200 }, -EOPNOTSUPP },
		{ "flag", { .opcode = KV_OP_NOP, .flags = 0x80 }, -EINVAL },
		{ "reserved", { .reserved = { 0, 1, 0 } }, -EINVAL },
		{ "arena end",
		  { .opcode = KV_OP_SPACE_CREATE, .arg_off = KV_ARENA_SIZE },
		  -EINVAL },
		{ "arena far",
		  { .opcode = KV_OP_SPACE_CREATE, .arg_off = 0xfffffff8u },
		  -EINVAL },
		{ "unaligned",
		  { .opcode = KV_OP_SPACE_CREATE, .arg_off = 4 },
		  -EINVAL },
		{ "no items", { .opcode = KV_OP_RESERVE }, -EINVAL },
		{ "no room", { .opcode = KV_OP_RESERVE, .nr = 1 }, -EINVAL },
		{ "too many",
		  { .opcode = KV_OP_RESERVE,
		    .nr = 60000,
		    .out_len = KV_ARENA_SIZE },
		  -EINVAL },
		{ "space",
		  { .opcode = KV_OP_SPACE_DESTROY, .space = ~0u },
		  -ENOENT },
		{ "fork",
		  { .opcode = KV_OP_SPACE_FORK, .space = 99 },
		  -ENOENT },
		{ "ticket",
		  { .opcode = KV_OP_CANCEL, .arg = { 77 } },
		  -ENOENT },
	};
	unsigned int i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!EXPECT_EQ(raw_call(&self->r, rows[i].sqe).res,
			       rows[i].res))
			TH_LOG("row: %s", rows[i].what);
	}
}

TEST_F(ring, many_requests_at_once_are_all_answered)
{
	struct raw *r = &self->r;
	struct kv_sqe sqe = { .opcode = KV_OP_NOP };
	uint32_t sent = 0, got = 0;
	struct kv_cqe cqe;

	while (got < 20000) {
		while (sent < 20000 &&
		       r->sq_tail - kv_load_acquire(&r->hdr->sq_head.v) <
			       KV_SQ_ENTRIES) {
			sqe.user_data = sent++;
			raw_push(r, &sqe);
		}
		while (raw_pop(r, &cqe, 0)) {
			ASSERT_EQ(cqe.user_data, got);
			got++;
		}
	}
}

TEST_F(ring, a_client_that_takes_no_answers_only_stops_itself)
{
	struct raw *r = &self->r, *o = &self->other;
	struct kv_sqe sqe = { .opcode = KV_OP_NOP };
	struct kv_cqe cqe;
	uint32_t i;

	for (i = 0; i < KV_CQ_ENTRIES + 200; i++) {
		while (r->sq_tail - kv_load_acquire(&r->hdr->sq_head.v) >=
		       KV_SQ_ENTRIES)
			usleep(100);
		raw_push(r, &sqe);
	}
	raw_attach(o, self->d.socket);
	EXPECT_EQ(raw_call(o, sqe).res, 0);
	/* and goes on when it takes them, without a doorbell */
	for (i = 0; i < KV_CQ_ENTRIES + 200; i++)
		ASSERT_TRUE(raw_pop(r, &cqe, RAW_WAIT_MS));
}

static void expect_kicked(struct raw *r, const char *word)
{
	int rc;

	do {
		rc = raw_recv(r, RAW_WAIT_MS);
	} while (rc == 1 && r->msg.type != (KV_MSG_BYE | KV_MSG_REPLY));
	EXPECT_EQ(rc, 1);
	EXPECT_EQ(r->msg.status, -EPROTO);
	if (!EXPECT_TRUE(strstr(r->body, word)))
		TH_LOG("said: %s", r->body);
	EXPECT_EQ(raw_recv(r, RAW_WAIT_MS), 0);
}

TEST_F(ring, a_tail_that_jumps_costs_the_connection)
{
	struct raw *r = &self->r;

	kv_ring_publish(&r->hdr->sq_tail, r->sq_tail + KV_SQ_ENTRIES + 1);
	raw_ring_bell(r);
	expect_kicked(r, "submission ring");
	/* kvmd and the others live on */
	raw_attach(&self->other, self->d.socket);
	EXPECT_EQ(raw_call(&self->other, (struct kv_sqe){ 0 }).res, 0);
}

TEST_F(ring, a_completion_head_that_jumps_costs_the_connection)
{
	struct raw *r = &self->r;

	kv_ring_release(&r->hdr->cq_head, 5);
	raw_push(r, &(struct kv_sqe){ 0 });
	expect_kicked(r, "completion ring");
}

TEST_F(ring, a_full_device_is_said_with_the_holders)
{
	struct raw *r = &self->r;
	const struct kv_holder *h = raw_arena(r, RAW_OUT_OFF);
	uint32_t geom = raw_geom(r), s, i;
	struct kv_resv_item *it = raw_arena(r, 0);
	struct kv_cqe cqe = { 0 };

	for (i = 0; i < 64 && cqe.res >= 0; i++) {
		s = (uint32_t)raw_space(r, geom, 0);
		*it = (struct kv_resv_item){ .space = s, .nr_tokens = 16384 };
		cqe = raw_call(r, (struct kv_sqe){ .opcode = KV_OP_RESERVE,
						   .nr = 1,
						   .step = ++r->step,
						   .out_off = RAW_OUT_OFF,
						   .out_len = 1024 });
	}
	EXPECT_EQ(cqe.res, -EAGAIN);
	EXPECT_GT(cqe.extra, 0);
	EXPECT_GE(cqe.out_len, sizeof(*h));
	EXPECT_GE(h->held_bytes, 56u << 20);
}

TEST_F(ring, a_ticket_is_granted_when_another_client_goes)
{
	struct raw *r = &self->r, *o = &self->other;
	uint32_t geom = raw_geom(r), s, i;
	struct kv_resv_item *it;
	struct kv_sqe sqe;
	struct kv_cqe cqe = { 0 };

	raw_attach(o, self->d.socket);
	for (i = 0; i < 7; i++) {
		s = (uint32_t)raw_space(r, geom, 0);
		EXPECT_EQ(raw_reserve(r, s, 0, 16000).res, 0);
	}
	geom = raw_geom(o);
	s = (uint32_t)raw_space(o, geom, 0);
	it = raw_arena(o, 0);
	*it = (struct kv_resv_item){ .space = s, .nr_tokens = 32000 };
	sqe = (struct kv_sqe){ .opcode = KV_OP_RESERVE,
			       .flags = KV_SQE_WAIT,
			       .nr = 1,
			       .step = 1,
			       .user_data = 99,
			       .out_off = RAW_OUT_OFF,
			       .out_len = 1024 };
	raw_push(o, &sqe);
	ASSERT_TRUE(raw_pop(o, &cqe, RAW_WAIT_MS));
	EXPECT_EQ(cqe.res, -EAGAIN);
	EXPECT_EQ(cqe.flags, KV_CQE_MORE);
	EXPECT_NE(cqe.extra, 0);
	EXPECT_FALSE(raw_pop(o, &cqe, 50));
	raw_send(r, KV_MSG_BYE, NULL, 0);
	ASSERT_TRUE(raw_pop(o, &cqe, RAW_WAIT_MS));
	EXPECT_EQ(cqe.user_data, 99);
	EXPECT_EQ(cqe.res, 0);
	EXPECT_EQ(cqe.flags, 0);
	EXPECT_TRUE(kv_pte_can(raw_pte(o, s, 1999), 1));
}

TEST_F(ring, an_idle_kvmd_sleeps)
{
	uint64_t before, after;
	char *json;

	raw_call(&self->r, (struct kv_sqe){ 0 });
	usleep(100000);
	json = test_kvmd_ctl(&self->d, "vmstat");
	ASSERT_EQ(0, test_json_u64(json, "sleeps", &before));
	free(json);
	usleep(300000);
	json = test_kvmd_ctl(&self->d, "vmstat");
	ASSERT_EQ(0, test_json_u64(json, "sleeps", &after));
	free(json);
	/* connecting and asking takes a few wake-ups itself */
	EXPECT_LE(after - before, 20);
}

TEST_HARNESS_MAIN
