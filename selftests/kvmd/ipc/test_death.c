/* SPDX-License-Identifier: MIT */
/*
 * test_death.c - clients that die, hang or keep what they gave back
 */
#include "selftests/kvmd/ipc/raw.h"

FIXTURE(death)
{
	struct test_kvmd d;
};

FIXTURE_VARIANT(death)
{
	const char *io;
};

FIXTURE_VARIANT_ADD(death, uring){ .io = "uring" };
FIXTURE_VARIANT_ADD(death, epoll){ .io = "epoll" };

FIXTURE_SETUP(death)
{
	ASSERT_EQ(0,
		  test_kvmd_start(&self->d, test_tmpdir(), "--size", "128M",
				  "--io", variant->io, "--drain", "20", NULL));
}

FIXTURE_TEARDOWN(death)
{
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, RAW_WAIT_MS));
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/* A client that reserves, forks and frees until it is killed. */
static void __attribute__((noreturn)) busy_client(const char *path, int ready)
{
	struct raw r;
	uint32_t geom, s[8];
	unsigned int i, n;
	int rc;

	raw_attach(&r, path);
	geom = raw_geom(&r);
	for (i = 0; i < 8; i++)
		s[i] = (uint32_t)raw_space(&r, geom, i % 2 ? 64 : 0);
	if (write(ready, "x", 1) != 1)
		_exit(1);
	for (n = 0;; n++) {
		i = n % 8;
		raw_reserve(&r, s[i], 0, 16 + n % 4000);
		raw_commit(&r, s[i], 16 + n % 4000);
		rc = raw_call(&r, (struct kv_sqe){ .opcode = KV_OP_SPACE_FORK,
						   .space = s[i],
						   .arg = { 16 } })
			     .res;
		raw_call(&r, (struct kv_sqe){ .opcode = KV_OP_SPACE_DESTROY,
					      .space = s[i] });
		s[i] = rc >= 0 ? (uint32_t)rc
			       : (uint32_t)raw_space(&r, geom, 0);
	}
}

TEST_F(death, a_killed_client_s_memory_comes_back)
{
	unsigned int seed = 4711;
	int fds[2], i, status;
	char x;
	pid_t pid;

	for (i = 0; i < 12; i++) {
		ASSERT_EQ(0, pipe(fds));
		fflush(stdout);
		pid = fork();
		if (!pid)
			busy_client(self->d.socket, fds[1]);
		close(fds[1]);
		ASSERT_EQ(1, read(fds[0], &x, 1));
		usleep((useconds_t)rand_r(&seed) % 20000);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		close(fds[0]);
		if (i % 4 == 3)
			EXPECT_EQ(0, test_kvmd_check(&self->d));
	}
}

TEST_F(death, others_go_on_while_one_dies)
{
	struct raw r;
	uint32_t s;
	int fds[2], i;
	char x;
	pid_t pid;

	raw_attach(&r, self->d.socket);
	s = (uint32_t)raw_space(&r, raw_geom(&r), 0);
	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, pipe(fds));
		fflush(stdout);
		pid = fork();
		if (!pid) {
			raw_detach(&r);
			busy_client(self->d.socket, fds[1]);
		}
		close(fds[1]);
		ASSERT_EQ(1, read(fds[0], &x, 1));
		EXPECT_EQ(0, raw_reserve(&r, s, (uint64_t)i * 1000, 1000).res);
		raw_commit(&r, s, (uint64_t)(i + 1) * 1000);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close(fds[0]);
	}
	EXPECT_EQ(0, test_kvmd_check(&self->d));
	raw_send(&r, KV_MSG_BYE, NULL, 0);
	EXPECT_EQ(0, raw_reply(&r));
	raw_detach(&r);
}

TEST_F(death, closing_the_socket_alone_gives_a_moment_only)
{
	struct raw r;
	uint64_t held;
	uint32_t s;
	double t0;

	raw_attach(&r, self->d.socket);
	s = (uint32_t)raw_space(&r, raw_geom(&r), 0);
	EXPECT_EQ(0, raw_reserve(&r, s, 0, 64).res);
	t0 = th_now();
	close(r.sock);
	/* quarantine while the process lives and has not said BYE */
	usleep(300000);
	held = test_kvmd_u64(&self->d, "meminfo", "held_bytes");
	EXPECT_NE(~0ull, held);
	if (th_now() - t0 < 1.5) /* of kvmd's 2 s */
		EXPECT_LT(0, held);
	else
		TH_LOG("too slow a machine to see it");
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, RAW_WAIT_MS));
}

TEST_F(death, scrubbed_memory_shows_nothing_of_its_last_owner)
{
	struct raw r;
	uint32_t i, s, nr;
	int pass;
	char *p;

	for (pass = 0; pass < 2; pass++) {
		raw_attach(&r, self->d.socket);
		s = (uint32_t)raw_space(&r, raw_geom(&r), 0);
		EXPECT_EQ(0, raw_reserve(&r, s, 0, 16000).res);
		for (i = 0, nr = 0; i < 16; i++) {
			if (!r.extent_fd[i])
				continue;
			p = raw_map(r.extent_fd[i], KV_EXTENT_SIZE,
				    PROT_READ | PROT_WRITE);
			EXPECT_TRUE(!p[0] &&
				    !memcmp(p, p + 1, KV_EXTENT_SIZE - 1));
			memset(p, 0xee, KV_EXTENT_SIZE);
			munmap(p, KV_EXTENT_SIZE);
			close(r.extent_fd[i]);
			nr++;
		}
		EXPECT_GE(nr, 1);
		raw_send(&r, KV_MSG_BYE, NULL, 0);
		EXPECT_EQ(0, raw_reply(&r));
		raw_detach(&r);
		EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, RAW_WAIT_MS));
	}
}

/* Give back all extents, then write to one of them. */
static void __attribute__((noreturn)) greedy_client(const char *path)
{
	struct raw r;
	struct kv_cqe cqe;
	volatile char *p = NULL;
	uint32_t s, i;

	raw_attach(&r, path);
	s = (uint32_t)raw_space(&r, raw_geom(&r), 0);
	raw_reserve(&r, s, 0, 16000);
	raw_commit(&r, s, 16000);
	for (i = 0; i < 16 && !p; i++) {
		if (r.extent_fd[i])
			p = raw_map(r.extent_fd[i], KV_EXTENT_SIZE,
				    PROT_READ | PROT_WRITE);
	}
	raw_call(&r,
		 (struct kv_sqe){ .opcode = KV_OP_SPACE_DESTROY, .space = s });
	cqe = raw_call(&r, (struct kv_sqe){ .opcode = KV_OP_SHRINK });
	if (cqe.res < 1 || !p)
		_exit(1);
	usleep(50000);
	for (;;) {
		p[4096] = 1;
		usleep(1000);
	}
}

TEST_F(death, a_client_that_uses_what_it_gave_back_is_killed)
{
	uint64_t n = 0;
	char *json;
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		greedy_client(self->d.socket);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	json = test_kvmd_ctl(&self->d, "vmstat");
	EXPECT_EQ(0, test_json_u64(json, "audit_faults", &n));
	EXPECT_GE(n, 1);
	free(json);
}

TEST_F(death, the_operator_can_kill_one)
{
	struct raw r;
	char x, *json;
	int fds[2], status;
	pid_t pid;

	ASSERT_EQ(0, pipe(fds));
	fflush(stdout);
	pid = fork();
	if (!pid)
		busy_client(self->d.socket, fds[1]);
	ASSERT_EQ(1, read(fds[0], &x, 1));
	json = test_kvmd_ctl(&self->d, "kill 0");
	EXPECT_TRUE(json);
	free(json);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	(void)r;
}

/* ---- devices that fail ---- */

TEST(device, memory_that_cannot_be_had_is_told_and_tried_again)
{
	struct test_kvmd d;
	struct raw r;
	struct kv_cqe cqe;
	uint32_t s;
	double end;

	setenv("KV_FAULT", "populate:1,populate:2,populate:3,populate:4", 1);
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "32M",
				     "--device", "error:cpu", "--drain", "20",
				     NULL));
	raw_attach(&r, d.socket);
	s = (uint32_t)raw_space(&r, raw_geom(&r), 0);
	end = th_now() + 20;
	do {
		cqe = raw_reserve(&r, s, 0, 64);
		EXPECT_TRUE(cqe.res == 0 || cqe.res == -EAGAIN);
	} while (cqe.res && th_now() < end);
	EXPECT_EQ(cqe.res, 0);
	raw_detach(&r);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST(device, a_descriptor_that_cannot_be_passed_costs_its_client_only)
{
	struct test_kvmd d;
	struct raw r, o;
	uint32_t s;

	setenv("KV_FAULT", "export:1:EMFILE", 1);
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
				     "--device", "error:cpu", "--drain", "20",
				     NULL));
	raw_attach(&r, d.socket);
	raw_attach(&o, d.socket);
	s = (uint32_t)raw_space(&r, raw_geom(&r), 0);
	memset(raw_arena(&r, 0), 0, 64);
	*(struct kv_resv_item *)raw_arena(&r, 0) =
		(struct kv_resv_item){ .space = s, .nr_tokens = 16 };
	raw_push(&r, &(struct kv_sqe){ .opcode = KV_OP_RESERVE,
				       .nr = 1,
				       .step = 1,
				       .out_off = RAW_OUT_OFF,
				       .out_len = 64 });
	EXPECT_EQ(1, raw_recv(&r, RAW_WAIT_MS));
	EXPECT_EQ(r.msg.status, -EPROTO);
	EXPECT_TRUE(strstr(r.body, "cannot be passed"));
	s = (uint32_t)raw_space(&o, raw_geom(&o), 0);
	EXPECT_EQ(0, raw_reserve(&o, s, 0, 16).res);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
