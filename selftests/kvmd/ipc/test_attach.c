/* SPDX-License-Identifier: MIT */
/*
 * test_attach.c - handshake, identity, and the path that kvmd listens on
 */
#include "selftests/kvmd/ipc/raw.h"
#include <grp.h>

FIXTURE(attach)
{
	struct test_kvmd d;
	struct raw r;
};

FIXTURE_VARIANT(attach)
{
	const char *io;
	const char *mask_new; /* do without what is newer than Linux 6.1 */
};

FIXTURE_VARIANT_ADD(attach, uring){ .io = "uring" };
FIXTURE_VARIANT_ADD(attach, epoll){ .io = "epoll" };
FIXTURE_VARIANT_ADD(attach, linux61){ .io = "uring", .mask_new = "1" };

FIXTURE_SETUP(attach)
{
	if (variant->mask_new)
		setenv("KV_MASK_NEW", variant->mask_new, 1);
	ASSERT_EQ(0,
		  test_kvmd_start(&self->d, test_tmpdir(), "--size", "64M",
				  "--io", variant->io, "--drain", "20", NULL));
}

FIXTURE_TEARDOWN(attach)
{
	if (self->d.pid)
		EXPECT_EQ(0, test_kvmd_stop(&self->d));
}

/* Send one HELLO on a connection of its own; the status that comes back. */
static int hello_status(struct attach_self *self, const struct kv_msg_hello *h,
			size_t len)
{
	int rc;

	self->r.sock = raw_connect(self->d.socket);
	ASSERT_GE(self->r.sock, 0);
	raw_send(&self->r, KV_MSG_HELLO, h, len);
	rc = raw_reply(&self->r);
	close(self->r.sock);
	return rc;
}

TEST_F(attach, says_who_and_how_much)
{
	struct raw *r = &self->r;
	char want[KV_NAME_LEN];

	raw_attach(r, self->d.socket);
	snprintf(want, sizeof(want), "uid:%u", getuid());
	EXPECT_STREQ(r->w.tenant_name, want);
	EXPECT_STREQ(r->w.device_name, "cpu:0");
	EXPECT_EQ(r->w.device_bytes, 64ull << 20);
	EXPECT_EQ(r->w.features, KV_FEATURES);
	EXPECT_EQ(r->w.nr_fds, 4);
	EXPECT_EQ(r->table->magic, KV_ABI_MAGIC);
	EXPECT_EQ(r->table->client, r->w.client);
	raw_detach(r);
}

TEST_F(attach, refuses_a_hello_it_cannot_serve)
{
	struct kv_msg_hello h = raw_hello(0);

	h.major = 9;
	EXPECT_EQ(hello_status(self, &h, sizeof(h)), -EPROTO);
	EXPECT_TRUE(strstr(self->r.body, "9.0"));
	h = raw_hello(0);
	h.magic = 1;
	EXPECT_EQ(hello_status(self, &h, sizeof(h)), -EPROTO);
	h = raw_hello(0);
	h.device = 3;
	EXPECT_EQ(hello_status(self, &h, sizeof(h)), -ENODEV);
	EXPECT_TRUE(strstr(self->r.body, "device 3"));
	h = raw_hello(1u << 30);
	EXPECT_EQ(hello_status(self, &h, sizeof(h)), -EINVAL);
	h = raw_hello(0);
	EXPECT_EQ(hello_status(self, &h, 20), -EINVAL);
	EXPECT_TRUE(strstr(self->r.body, "too short"));
}

TEST_F(attach, takes_nothing_but_hello_first)
{
	struct raw *r = &self->r;
	struct kv_msg_geom_add g = { .geom = raw_geometry() };

	r->sock = raw_connect(self->d.socket);
	raw_send(r, KV_MSG_GEOM_ADD, &g, sizeof(g));
	EXPECT_EQ(raw_reply(r), -EPROTO);
	raw_send(r, 4711, NULL, 0);
	EXPECT_EQ(raw_reply(r), -EOPNOTSUPP);
	/* a packet that is none ends the connection */
	EXPECT_EQ(send(r->sock, "x", 1, MSG_NOSIGNAL), 1);
	EXPECT_EQ(raw_recv(r, RAW_WAIT_MS), 0);
	close(r->sock);
	raw_attach(r, self->d.socket);
	raw_send(r, KV_MSG_GEOM_ADD, r->body, KV_MSG_MAX + 100);
	EXPECT_EQ(raw_recv(r, RAW_WAIT_MS), 0);
	raw_detach(r);
}

TEST_F(attach, an_older_client_gets_the_features_both_know)
{
	struct kv_msg_hello h = raw_hello(0);
	struct kv_msg_welcome w;

	h.features = KV_FEAT_WINDOW | 1ull << 60;
	EXPECT_EQ(hello_status(self, &h, sizeof(h)), 0);
	memcpy(&w, self->r.body, sizeof(w));
	EXPECT_EQ(w.features, KV_FEAT_WINDOW);
}

TEST_F(attach, a_client_cannot_write_grow_or_shrink_what_is_not_its_own)
{
	struct raw *r = &self->r;

	raw_attach(r, self->d.socket);
	EXPECT_TRUE(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, r->table_fd, 0) ==
		    MAP_FAILED);
	EXPECT_NE(0, ftruncate(r->table_fd, 0));
	EXPECT_NE(0, ftruncate(r->ring_fd, 0));
	EXPECT_NE(0, ftruncate(r->ring_fd, 1 << 30));
	EXPECT_NE(0, ftruncate(r->status_fd, 4096));
	EXPECT_NE(0, fcntl(r->ring_fd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_NE(0, fcntl(r->table_fd, F_ADD_SEALS, F_SEAL_WRITE));
	raw_detach(r);
}

TEST_F(attach, another_uid_cannot_reopen_its_table_for_writing)
{
	struct raw *r = &self->r;
	char path[64];

	if (geteuid())
		th_skip("needs root to become another user");
	raw_attach(r, self->d.socket);
	ASSERT_EQ(0, setgroups(0, NULL));
	ASSERT_EQ(0, setresgid(65534, 65534, 65534));
	ASSERT_EQ(0, setresuid(65534, 65534, 65534));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", r->table_fd);
	EXPECT_LT(open(path, O_RDWR), 0);
	EXPECT_EQ(errno, EACCES);
	EXPECT_NE(0, fchmod(r->table_fd, 0666));
	/* it may not stop the daemon either: leave that to the parent's end */
	self->d.pid = 0;
}

TEST_F(attach, five_hundred_clients_come_and_go)
{
	struct raw *r;
	int i;

	for (i = 0; i < 500; i++) {
		r = &self->r;
		raw_attach(r, self->d.socket);
		EXPECT_EQ(r->w.client, 0);
		raw_send(r, KV_MSG_BYE, NULL, 0);
		EXPECT_EQ(raw_reply(r), 0);
		raw_detach(r);
	}
	EXPECT_EQ(0, test_kvmd_check(&self->d));
}

TEST(tenant, follows_from_what_the_kernel_says)
{
	static const char *const keys[] = { "uid", "pid", "cgroup" };
	struct test_kvmd d;
	struct raw r;
	char want[KV_NAME_LEN];
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
					     "--tenant-key", keys[i], "--drain",
					     "20", NULL));
		raw_attach(&r, d.socket);
		snprintf(want, sizeof(want), "%s", "cg:/");
		if (i < 2)
			snprintf(want, sizeof(want), "%s:%d", keys[i],
				 i ? (int)getpid() : (int)getuid());
		EXPECT_EQ(0, strncmp(r.w.tenant_name, want,
				     i < 2 ? sizeof(want) : 3));
		raw_detach(&r);
		EXPECT_EQ(0, test_kvmd_stop(&d));
	}
}

TEST(end, each_signal_tells_clients_and_leaves_nothing)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	const struct kv_event *ev;
	char pid_file[300], lock[140];
	struct test_kvmd d;
	struct raw r;
	int i, status;

	snprintf(pid_file, sizeof(pid_file), "%s/pid", test_tmpdir());
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M",
					     "--pid-file", pid_file, "--drain",
					     "100", NULL));
		snprintf(lock, sizeof(lock), "%s.lock", d.socket);
		raw_attach(&r, d.socket);
		usleep(10000);
		EXPECT_EQ(0, access(pid_file, F_OK));
		EXPECT_EQ(0, access(lock, F_OK));
		kill(d.pid, signals[i]);
		ASSERT_EQ(d.pid, waitpid(d.pid, &status, 0));
		EXPECT_TRUE(WIFEXITED(status) && !WEXITSTATUS(status));
		ev = (void *)(r.ring + KV_RING_EQ_OFF);
		EXPECT_EQ(1, r.hdr->eq_tail.v);
		EXPECT_EQ(KV_EVENT_DRAIN, ev->type);
		EXPECT_NE(0, access(d.socket, F_OK));
		EXPECT_NE(0, access(lock, F_OK));
		EXPECT_NE(0, access(pid_file, F_OK));
		raw_detach(&r);
	}
}

/* ---- the path ---- */

/* Run kvmd on @path; its exit status, or -1 if it still runs @seconds later. */
static int kvmd_status_in(double seconds, const char *path, const char *opt,
			  const char *arg, uid_t uid)
{
	char bin[600];
	double end;
	int status;
	pid_t pid;

	snprintf(bin, sizeof(bin), "%s/bin/kvmd", test_build_dir());
	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
			    setresuid(uid, uid, uid)))
			_exit(99);
		execl(bin, bin, "--socket", path, "--size", "64M",
		      "--exit-with-parent", opt, arg, NULL);
		_exit(98);
	}
	end = th_now() + seconds;
	while (th_now() < end) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
		usleep(1000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

static int kvmd_status(const char *path, const char *opt, const char *arg,
		       uid_t uid)
{
	return kvmd_status_in(20, path, opt, arg, uid);
}

TEST(listen, a_second_kvmd_is_refused)
{
	struct test_kvmd d;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	EXPECT_EQ(7, kvmd_status(d.socket, NULL, NULL, 0));
	/* and the first one still serves */
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
	EXPECT_NE(0, access(d.socket, F_OK));
}

TEST(listen, a_dead_one_s_socket_is_replaced)
{
	struct test_kvmd d, e;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	test_kvmd_kill(&d);
	ASSERT_EQ(0, access(d.socket, F_OK));
	e = d;
	EXPECT_EQ(0, kvmd_status(d.socket, "--check", NULL, 0));
	EXPECT_EQ(-1, kvmd_status_in(1, d.socket, NULL, NULL, 0));
	unlink(e.socket);
}

TEST(listen, what_is_no_socket_is_left_alone)
{
	char path[320];
	int fd;

	snprintf(path, sizeof(path), "%s/file", test_tmpdir());
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	EXPECT_EQ(write(fd, "mine", 4), 4);
	close(fd);
	EXPECT_EQ(1, kvmd_status(path, NULL, NULL, 0));
	EXPECT_EQ(0, access(path, F_OK));
}

TEST(listen, nothing_is_left_behind)
{
	char path[320], lock[340];

	snprintf(path, sizeof(path), "%s/new/sock", test_tmpdir());
	snprintf(lock, sizeof(lock), "%s.lock", path);
	EXPECT_EQ(0, kvmd_status(path, "--check", NULL, 0));
	EXPECT_NE(0, access(path, F_OK));
	EXPECT_NE(0, access(lock, F_OK));
	*strrchr(path, '/') = '\0';
	EXPECT_NE(0, access(path, F_OK));
}

TEST(listen, no_permission_has_a_status_of_its_own)
{
	char path[320];

	if (geteuid())
		th_skip("needs root to become another user");
	snprintf(path, sizeof(path), "%s/sock", test_tmpdir());
	EXPECT_EQ(0, chmod(test_tmpdir(), 0755));
	EXPECT_EQ(4, kvmd_status(path, "--check", NULL, 65534));
}

TEST(listen, wrong_usage_is_told_apart)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/sock", test_tmpdir());
	EXPECT_EQ(2, kvmd_status(path, "--size", "lots", 0));
	EXPECT_EQ(2, kvmd_status(path, "--tenant-key", "name", 0));
	EXPECT_EQ(2, kvmd_status(path, "--no-such", NULL, 0));
	EXPECT_EQ(1, kvmd_status(path, "--device", "tape", 0));
	EXPECT_EQ(1, kvmd_status(path, "--device", "error:", 0));
	memset(path, 'x', 200);
	path[200] = '\0';
	EXPECT_EQ(1, kvmd_status(path, NULL, NULL, 0));
}

/* Connect as another user. Return: 0 or errno. */
static int connect_as(const char *path, uid_t uid, gid_t gid)
{
	int status = 0, rc;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (setgroups(0, NULL) || setresgid(gid, gid, gid) ||
		    setresuid(uid, uid, uid))
			_exit(99);
		rc = raw_connect(path);
		_exit(rc < 0 ? -rc : 0);
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

TEST(listen, the_group_kvmem_may_attach_and_nobody_else)
{
	struct group *g = getgrnam("kvmem");
	struct test_kvmd d;

	if (geteuid() || !g)
		th_skip("needs root and a group kvmem");
	ASSERT_EQ(0, chmod(test_tmpdir(), 0755));
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	EXPECT_EQ(0, connect_as(d.socket, 65534, g->gr_gid));
	EXPECT_EQ(EACCES, connect_as(d.socket, 65534, 65534));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST(listen, strangers_are_kept_out_by_the_mode)
{
	struct test_kvmd d;
	struct stat st;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	ASSERT_EQ(0, stat(d.socket, &st));
	if (!geteuid() && getgrnam("kvmem"))
		EXPECT_EQ(st.st_mode & 0777, 0660);
	else
		EXPECT_EQ(st.st_mode & 0777, 0600);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
