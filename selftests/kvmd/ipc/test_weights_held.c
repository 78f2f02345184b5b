/* SPDX-License-Identifier: MIT */
/*
 * test_weights_held.c - what kvmd does for others while the kernel takes its
 * time to seal weights, or to empty them
 *
 * Each such call of kvmd's does not return before the test says so (hold.h).
 */
#include "selftests/hold.h"
#include "selftests/kvmd/ipc/raw.h"
#include <linux/falloc.h>
#include <sys/syscall.h>

#define BYTES	(4u << 20)
#define WAIT_MS 60000
#define NO_FD	-1

FIXTURE(held)
{
	struct test_kvmd d;
	struct raw a, b, c;
	struct kv_msg_weights got;
	int calls; /* that are held; NO_FD: no more */
};

static const struct hold_rule sealing = {
	.nr = SYS_fcntl,
	.nr_conds = 2,
	.conds = { { .arg = 1, .value = F_ADD_SEALS },
		   { .arg = 2, .value = F_SEAL_WRITE | F_SEAL_SEAL } },
};
/* Of all of it: extents are larger. */
static const struct hold_rule emptying = {
	.nr = SYS_fallocate,
	.nr_conds = 3,
	.conds = { { .arg = 1,
		     .value = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
		   { .arg = 2, .value = 0 },
		   { .arg = 3, .value = BYTES } },
};

static void start(struct held_self *self, const struct hold_rule *what)
{
	ASSERT_EQ(0, hold_before(what, 1));
	ASSERT_EQ(0, test_kvmd_start(&self->d, test_tmpdir(), "--keeper",
				     "--size", "64M", "--drain", "20", NULL));
	self->calls = hold_listener();
	ASSERT_GE(self->calls, 0);
	raw_attach(&self->a, self->d.socket);
	raw_attach(&self->b, self->d.socket);
}

FIXTURE_SETUP(held)
{
	self->calls = NO_FD;
}

FIXTURE_TEARDOWN(held)
{
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/* The next call; it is held. */
static uint64_t next_call(struct held_self *self)
{
	uint64_t id = 0;

	ASSERT_EQ(0, hold_next(self->calls, &id, WAIT_MS));
	return id;
}

/* It goes on, or fails with @err. */
static void let_go(struct held_self *self, uint64_t id, int err)
{
	ASSERT_EQ(0, hold_let_go(self->calls, id, err));
}

/* Nobody is told of calls from now on: they fail. */
static void hold_no_more(struct held_self *self)
{
	close(self->calls);
	self->calls = NO_FD;
}

static void ask_for(struct raw *r, unsigned int digest)
{
	struct kv_msg_weights k = { .packing = 1,
				    .digest = { (uint8_t)digest },
				    .bytes = BYTES,
				    .name = "model" };

	raw_send(r, KV_MSG_WEIGHTS_OPEN, &k, sizeof(k));
}

static void ask(struct raw *r)
{
	ask_for(r, 1);
}

/* The reply to ask(), of this state; its descriptor. */
static int answer(struct held_self *self, struct raw *r, uint32_t state)
{
	ASSERT_EQ(0, raw_reply(r));
	memcpy(&self->got, r->body, sizeof(self->got));
	EXPECT_EQ(self->got.state, state);
	ASSERT_EQ(r->nr_fds, 1);
	r->nr_fds = 0;
	return r->fds[0];
}

static void fill(int fd)
{
	char *p = raw_map(fd, BYTES, PROT_READ | PROT_WRITE);

	memset(p, 0x5a, BYTES);
	munmap(p, BYTES);
	close(fd);
}

static void expect_filled(int fd)
{
	char *p = raw_map(fd, BYTES, PROT_READ);

	EXPECT_EQ(p[0], 0x5a);
	EXPECT_EQ(p[BYTES - 1], 0x5a);
	munmap(p, BYTES);
	close(fd);
}

/* Let @a fill them and say so. The seal is held. */
static uint64_t fill_and_seal(struct held_self *self)
{
	ask(&self->a);
	fill(answer(self, &self->a, KV_WEIGHTS_FILL));
	raw_send(&self->a, KV_MSG_WEIGHTS_SEAL, &self->got, sizeof(self->got));
	return next_call(self);
}

/* Until kvctl's list of weights has @text. */
static void wait_for_weights(struct held_self *self, const char *text)
{
	double end = th_now() + WAIT_MS * 1e-3;
	bool has = false;
	char *json;

	while (!has && th_now() < end) {
		json = test_kvmd_ctl(&self->d, "weights list");
		has = json && strstr(json, text);
		free(json);
		usleep(1000);
	}
	if (!EXPECT_TRUE(has))
		TH_LOG("no %s", text);
}

TEST_F(held, a_seal_that_takes_long_keeps_nobody_else_waiting)
{
	uint64_t call;

	start(self, &sealing);
	call = fill_and_seal(self);
	raw_geom(&self->b);
	wait_for_weights(self, "\"sealing\"");
	ask(&self->b);
	wait_for_weights(self, "\"waiters\":1");
	let_go(self, call, 0);
	EXPECT_EQ(0, raw_reply(&self->a));
	EXPECT_EQ(1, self->a.nr_fds);
	expect_filled(answer(self, &self->b, KV_WEIGHTS_READY));
	hold_no_more(self);
}

static void filler_dies(struct held_self *self)
{
	raw_detach(&self->a);
	wait_for_weights(self, "\"filler\":null");
}

TEST_F(held, a_filler_that_dies_while_they_are_sealed_has_filled_them)
{
	uint64_t call;

	start(self, &sealing);
	call = fill_and_seal(self);
	ask(&self->b);
	filler_dies(self);
	let_go(self, call, 0);
	expect_filled(answer(self, &self->b, KV_WEIGHTS_READY));
	hold_no_more(self);
}

TEST_F(held, if_nobody_is_left_when_they_are_sealed_they_are_kept)
{
	uint64_t call;

	start(self, &sealing);
	call = fill_and_seal(self);
	filler_dies(self);
	let_go(self, call, 0);
	wait_for_weights(self, "\"ready\"");
	ask(&self->b);
	expect_filled(answer(self, &self->b, KV_WEIGHTS_READY));
	hold_no_more(self);
}

TEST_F(held, what_a_filler_that_died_left_unsealable_is_filled_anew)
{
	uint64_t call;

	start(self, &sealing);
	call = fill_and_seal(self);
	ask(&self->b);
	filler_dies(self);
	let_go(self, call, EPERM);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	hold_no_more(self);
}

/* The successor goes on with @r. */
static void expect_resumed(struct raw *r)
{
	ASSERT_EQ(1, raw_recv(r, RAW_WAIT_MS));
	EXPECT_EQ(KV_MSG_RESUME, r->msg.type);
}

TEST_F(held, a_seal_that_a_killed_kvmd_began_is_finished_by_the_next)
{
	start(self, &sealing);
	fill_and_seal(self);
	ask(&self->b);
	wait_for_weights(self, "\"waiters\":1");
	ASSERT_EQ(0, test_kvmd_kill_kept(&self->d));
	let_go(self, next_call(self), 0);
	expect_resumed(&self->a);
	expect_resumed(&self->b);
	EXPECT_EQ(0, raw_reply(&self->a));
	EXPECT_EQ(1, self->a.nr_fds);
	expect_filled(answer(self, &self->b, KV_WEIGHTS_READY));
	hold_no_more(self);
}

static uint64_t blocks(int fd)
{
	struct stat st;

	ASSERT_EQ(0, fstat(fd, &st));
	return (uint64_t)st.st_blocks;
}

/* Give up what is half filled, and keep it mapped. */
static int fill_and_give_up(struct held_self *self, char **p)
{
	int fd;

	ask(&self->a);
	fd = answer(self, &self->a, KV_WEIGHTS_FILL);
	*p = raw_map(fd, BYTES, PROT_READ | PROT_WRITE);
	memset(*p, 1, BYTES / 2);
	ask(&self->b);
	wait_for_weights(self, "\"waiters\":1");
	raw_send(&self->a, KV_MSG_WEIGHTS_CLOSE, &self->got, sizeof(self->got));
	EXPECT_EQ(0, raw_reply(&self->a));
	return fd;
}

static void wait_until_empty(int fd)
{
	double end = th_now() + WAIT_MS * 1e-3;

	while (blocks(fd) && th_now() < end)
		usleep(1000);
	EXPECT_EQ(blocks(fd), 0);
}

TEST_F(held, memory_that_takes_long_to_empty_keeps_nobody_waiting)
{
	uint64_t call;
	char *p;
	int fd;

	start(self, &emptying);
	fd = fill_and_give_up(self, &p);
	call = next_call(self);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	raw_geom(&self->b);
	EXPECT_GT(blocks(fd), 0);
	let_go(self, call, 0);
	wait_until_empty(fd);
	hold_no_more(self);
	munmap(p, BYTES);
	close(fd);
}

TEST_F(held, memory_that_a_killed_kvmd_was_to_empty_the_next_one_empties)
{
	char *p;
	int fd;

	start(self, &emptying);
	fd = fill_and_give_up(self, &p);
	next_call(self);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	ASSERT_EQ(0, test_kvmd_kill_kept(&self->d));
	let_go(self, next_call(self), 0);
	wait_until_empty(fd);
	expect_resumed(&self->b);
	raw_geom(&self->b);
	hold_no_more(self);
	munmap(p, BYTES);
	close(fd);
}

/* Who has nothing open any more was taken for the filler. */
TEST_F(held, a_filler_whose_close_killed_kvmd_fills_no_more)
{
	char *p;
	int fd;

	setenv("KV_KILL_AT", "keep_lease:2", 1); /* the first is its own */
	start(self, &emptying);
	unsetenv("KV_KILL_AT");
	ask(&self->a);
	fd = answer(self, &self->a, KV_WEIGHTS_FILL);
	p = raw_map(fd, BYTES, PROT_READ | PROT_WRITE);
	memset(p, 1, BYTES / 2);
	ask(&self->b);
	wait_for_weights(self, "\"waiters\":1");
	raw_send(&self->a, KV_MSG_WEIGHTS_CLOSE, &self->got, sizeof(self->got));
	let_go(self, next_call(self), 0);
	expect_resumed(&self->a);
	expect_resumed(&self->b);
	EXPECT_EQ(0, raw_reply(&self->a));
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	wait_until_empty(fd);
	hold_no_more(self);
	munmap(p, BYTES);
	close(fd);
}

static uint64_t charged(struct held_self *self)
{
	return test_kvmd_u64(&self->d, "meminfo", "weights_bytes");
}

static void wait_until_charged(struct held_self *self, uint64_t bytes)
{
	double end = th_now() + WAIT_MS * 1e-3;

	while (charged(self) != bytes && th_now() < end)
		usleep(1000);
	EXPECT_EQ(charged(self), bytes);
}

TEST_F(held, memory_is_charged_until_it_is_empty_whoever_is_killed)
{
	uint64_t call;
	char *p;
	int fd;

	start(self, &emptying);
	fd = fill_and_give_up(self, &p);
	next_call(self);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	EXPECT_EQ(charged(self), 2ull * BYTES);
	ASSERT_EQ(0, test_kvmd_kill_kept(&self->d));
	call = next_call(self);
	expect_resumed(&self->b);
	EXPECT_EQ(charged(self), 2ull * BYTES);
	let_go(self, call, 0);
	wait_until_charged(self, BYTES);
	EXPECT_EQ(blocks(fd), 0);
	hold_no_more(self);
	munmap(p, BYTES);
	close(fd);
}

static void limit(struct held_self *self, unsigned int bytes)
{
	char req[128], *json;

	snprintf(req, sizeof(req), "tenant limit uid:%u max=%u", getuid(),
		 bytes);
	json = test_kvmd_ctl(&self->d, req);
	EXPECT_TRUE(json);
	free(json);
}

/* The limit is that of one: the other one's memory has to come back first. */
TEST_F(held, who_fills_instead_at_the_limit_waits_for_empty_memory)
{
	uint64_t call;
	char *p;
	int fd;

	start(self, &emptying);
	limit(self, BYTES + BYTES / 2);
	fd = fill_and_give_up(self, &p);
	call = next_call(self);
	EXPECT_EQ(charged(self), BYTES);
	raw_geom(&self->a); /* others are served meanwhile */
	EXPECT_EQ(-ETIMEDOUT, raw_recv(&self->b, 0));
	let_go(self, call, 0);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	EXPECT_EQ(blocks(fd), 0);
	EXPECT_EQ(charged(self), BYTES);
	hold_no_more(self);
	munmap(p, BYTES);
	close(fd);
}

/* All of the device but what ask() wants. */
static void fill_the_rest(struct held_self *self)
{
	struct kv_msg_weights k = { .packing = 1,
				    .digest = { 2 },
				    .bytes = (64u << 20) - BYTES,
				    .name = "other" };

	raw_attach(&self->c, self->d.socket);
	raw_send(&self->c, KV_MSG_WEIGHTS_OPEN, &k, sizeof(k));
	ASSERT_EQ(0, raw_reply(&self->c));
	raw_fds_close(&self->c);
}

TEST_F(held, who_fills_instead_on_a_full_device_waits_for_empty_memory)
{
	uint64_t call;
	char *p;
	int fd;

	start(self, &emptying);
	fill_the_rest(self);
	fd = fill_and_give_up(self, &p);
	call = next_call(self);
	raw_geom(&self->a);
	EXPECT_EQ(-ETIMEDOUT, raw_recv(&self->b, 0));
	let_go(self, call, 0);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	EXPECT_EQ(blocks(fd), 0);
	hold_no_more(self);
	munmap(p, BYTES);
	close(fd);
}

/* Ten seconds, as for room that does not come. */
TEST_F(held, who_waits_for_memory_that_is_never_empty_is_refused)
{
	char *p;
	int fd;

	start(self, &emptying);
	limit(self, BYTES + BYTES / 2);
	fd = fill_and_give_up(self, &p);
	next_call(self);
	EXPECT_EQ(-EDQUOT, raw_reply(&self->b));
	munmap(p, BYTES);
	close(fd);
}

/* Each of them waited as long as the first one. */
TEST_F(held, memory_that_is_held_up_is_waited_for_once)
{
	char *p;
	int fd;

	start(self, &emptying);
	fill_the_rest(self);
	fd = fill_and_give_up(self, &p);
	next_call(self);
	EXPECT_EQ(-ENOSPC, raw_reply(&self->b));
	ask(&self->b);
	charged(self); /* kvmd has looked at what came before */
	ASSERT_EQ(1, raw_recv(&self->b, 0));
	EXPECT_EQ(-ENOSPC, self->b.msg.status);
	munmap(p, BYTES);
	close(fd);
}

/* Begin to fill, and give up. It is emptied. */
static void give_up(struct held_self *self, unsigned int digest)
{
	ask_for(&self->a, digest);
	close(answer(self, &self->a, KV_WEIGHTS_FILL));
	raw_send(&self->a, KV_MSG_WEIGHTS_CLOSE, &self->got, sizeof(self->got));
	EXPECT_EQ(0, raw_reply(&self->a));
}

/* It was taken for memory that comes, for ever. */
TEST_F(held, a_ticket_does_not_wait_for_memory_that_is_held_up)
{
	struct kv_cqe cqe;
	uint32_t geom;

	start(self, &emptying);
	limit(self, KV_EXTENT_SIZE + BYTES / 2);
	give_up(self, 1);
	next_call(self);
	geom = raw_geom(&self->b);
	cqe = raw_reserve_with(&self->b, KV_SQE_WAIT,
			       (uint32_t)raw_space(&self->b, geom, 0), 0, 16);
	ASSERT_TRUE(cqe.flags & KV_CQE_MORE);
	ASSERT_TRUE(raw_pop(&self->b, &cqe, WAIT_MS));
	EXPECT_EQ(-E2BIG, cqe.res);
}

/* The second one waited on, for a limit that does not concern it. */
TEST_F(held, who_waits_at_the_limit_shares_what_another_fills)
{
	uint64_t call;
	char *json;

	start(self, &emptying);
	raw_attach(&self->c, self->d.socket);
	limit(self, 2 * BYTES + BYTES / 2);
	give_up(self, 1);
	give_up(self, 2);
	call = next_call(self);
	ask_for(&self->b, 3);
	EXPECT_EQ(2ull * BYTES, charged(self)); /* it waits by now */
	ask_for(&self->c, 3);
	EXPECT_EQ(2ull * BYTES, charged(self));
	let_go(self, call, 0);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	json = test_kvmd_ctl(&self->d, "weights list");
	EXPECT_TRUE(json && strstr(json, "\"waiters\":1"));
	free(json);
	hold_no_more(self);
}

/* Kill who is about to empty memory; the next one is, then. */
static void kill_while_it_empties(struct held_self *self)
{
	ASSERT_EQ(0, test_kvmd_kill_kept(&self->d));
	next_call(self);
	expect_resumed(&self->b);
}

TEST_F(held, memory_that_the_next_one_does_not_come_to_empty_is_found_again)
{
	char *p;
	int fd;

	start(self, &emptying);
	fd = fill_and_give_up(self, &p);
	next_call(self);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	kill_while_it_empties(self);
	ASSERT_EQ(0, test_kvmd_kill_kept(&self->d));
	let_go(self, next_call(self), 0);
	wait_until_empty(fd);
	expect_resumed(&self->b);
	hold_no_more(self);
	munmap(p, BYTES);
	close(fd);
}

/* What it looks at is what teardown does: the books, and how kvmd ends. */
TEST_F(held, memory_that_is_never_empty_keeps_kvmd_from_no_audit_and_no_end)
{
	char *p;
	int fd;

	start(self, &emptying);
	fd = fill_and_give_up(self, &p);
	next_call(self);
	close(answer(self, &self->b, KV_WEIGHTS_FILL));
	munmap(p, BYTES);
	close(fd);
}

TEST_F(held, a_seal_that_never_returns_keeps_kvmd_from_no_audit_and_no_end)
{
	start(self, &sealing);
	fill_and_seal(self);
}

TEST_HARNESS_MAIN
