/* SPDX-License-Identifier: MIT */
/* timeout: 120 */
/*
 * test_containers.c - kvmd and its clients in namespaces of their own
 *
 * Who is in which pid and user namespace decides what the kernel tells kvmd of
 * a peer. Each test makes one such arrangement with unshare() and looks at what
 * has to hold: attach or a refusal that says what to set, a death that is seen,
 * a kill that meets the right process or says that it cannot, nobody taken for
 * another. The variant "masked" does without SO_PEERPIDFD, as Linux 6.1.
 * test_forbidden.c: seccomp and /proc.
 */
#include "selftests/kvmd/ipc/contained.h"
#include <sys/mount.h>

/* ---- a client in a pid namespace of its own ---- */

FIXTURE(inner_client)
{
	struct test_kvmd d;
};

FIXTURE_VARIANT(inner_client)
{
	const char *mask;
};

FIXTURE_VARIANT_ADD(inner_client, peerpidfd){ .mask = "0" };
FIXTURE_VARIANT_ADD(inner_client, masked){ .mask = "1" };

FIXTURE_SETUP(inner_client)
{
	NEED(CLONE_NEWPID, "pid namespaces");
	setenv("KV_MASK_NEW", variant->mask, 1);
	start(&self->d, "uid");
}

FIXTURE_TEARDOWN(inner_client)
{
	if (self->d.pid > 0)
		finish(&self->d);
}

TEST_F(inner_client, is_served_and_its_death_is_seen_at_once)
{
	struct client c;

	client_start(&c, self->d.socket, in_pid_ns);
	EXPECT_GT(pid_of_client(&self->d), 1);
	EXPECT_EQ(1, write(c.go, "x", 1));
	EXPECT_EQ(0, client_end(&c));
	/* well before a moment's grace is over */
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, 1000));
}

TEST_F(inner_client, is_the_process_that_the_operator_kills)
{
	struct client c;
	char *json;

	client_start(&c, self->d.socket, in_pid_ns);
	json = test_kvmd_ctl(&self->d, "kill 0");
	EXPECT_TRUE(json);
	free(json);
	EXPECT_EQ(128, WEXITSTATUS(client_end(&c)));
	EXPECT_EQ(1, count(&self->d, "kills"));
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0, 1000));
}

/* ---- kvmd in a pid namespace, its clients outside ---- */

FIXTURE(inner_kvmd)
{
	struct test_kvmd d;
	int outer;
};

FIXTURE_VARIANT(inner_kvmd)
{
	const char *mask;
	bool blind; /* kvmd has no pidfd of who is outside */
};

FIXTURE_VARIANT_ADD(inner_kvmd, peerpidfd){ .mask = "0", .blind = false };
FIXTURE_VARIANT_ADD(inner_kvmd, masked){ .mask = "1", .blind = true };

static void own_proc(void)
{
	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", "/proc", "proc", 0, NULL))
		_exit(8);
}

/* Into a pid namespace with the next child, and back for those after it. */
static int pid_ns_begin(void)
{
	int outer = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);

	ASSERT_GE(outer, 0);
	ASSERT_EQ(0, unshare(CLONE_NEWPID));
	return outer;
}

static void pid_ns_end(int outer)
{
	ASSERT_EQ(0, setns(outer, CLONE_NEWPID));
	close(outer);
}

static void start_inner(struct test_kvmd *d, const char *key,
			void (*before)(void))
{
	int outer = pid_ns_begin();

	test_kvmd_before = before;
	start(d, key);
	test_kvmd_before = NULL;
	pid_ns_end(outer);
}

FIXTURE_SETUP(inner_kvmd)
{
	NEED(CLONE_NEWPID | CLONE_NEWNS, "pid and mount namespaces");
	setenv("KV_MASK_NEW", variant->mask, 1);
}

FIXTURE_TEARDOWN(inner_kvmd)
{
	if (self->d.pid > 0)
		finish(&self->d);
}

TEST_F(inner_kvmd, sees_the_death_of_who_has_pid_0)
{
	struct client c, other;

	start_inner(&self->d, "uid", own_proc);
	client_start(&c, self->d.socket, as_it_is);
	EXPECT_EQ(0, pid_of_client(&self->d));
	client_start(&other, self->d.socket, as_it_is);
	kill(c.pid, SIGKILL);
	client_end(&c);
	EXPECT_EQ(1, write(other.go, "x", 1));
	EXPECT_EQ(0, client_end(&other));
	/* without a pidfd only after the moment that a living one would get */
	EXPECT_EQ(0, test_kvmd_settle(&self->d, 0,
				      variant->blind ? RAW_WAIT_MS : 1000));
}

TEST_F(inner_kvmd, says_that_it_cannot_kill_who_is_outside)
{
	struct client c;
	char *json = NULL;

	start_inner(&self->d, "uid", own_proc);
	client_start(&c, self->d.socket, as_it_is);
	EXPECT_EQ(-EINVAL,
		  kv_ctl(self->d.socket, KV_HELLO_ADMIN, "kill 0", &json));
	EXPECT_TRUE(json && strstr(json, "pid namespace does not reach"));
	free(json);
	EXPECT_EQ(0, count(&self->d, "kills"));
	EXPECT_EQ(1, write(c.go, "x", 1));
	EXPECT_EQ(0, client_end(&c));
}

/* A step that never ends, in memory that is wanted. */
static void hoard(const char *path, int ready)
{
	struct raw r;

	raw_attach(&r, path);
	if (raw_reserve(&r, (uint32_t)raw_space(&r, raw_geom(&r), 0), 0, 64)
		    .res)
		_exit(3);
	if (write(ready, "x", 1) != 1)
		_exit(4);
	while (raw_recv(&r, 60000) == 1) {
		if (strstr(r.body, "cannot kill it"))
			_exit(0);
	}
	_exit(5);
}

TEST_F(inner_kvmd, cuts_off_who_it_cannot_kill)
{
	struct client other;
	int fds[2], status;
	char x, *json;
	pid_t pid;

	start_inner(&self->d, "uid", own_proc);
	ASSERT_EQ(0, pipe(fds));
	fflush(stdout);
	pid = fork();
	if (!pid)
		hoard(self->d.socket, fds[1]);
	ASSERT_EQ(1, read(fds[0], &x, 1));
	client_start(&other, self->d.socket, as_it_is);
	json = test_kvmd_ctl(&self->d, "client revoke 0 8M");
	EXPECT_TRUE(json);
	free(json);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, count(&self->d, "kills"));
	EXPECT_EQ(1, count(&self->d, "kicks"));
	EXPECT_EQ(1, write(other.go, "x", 1));
	EXPECT_EQ(0, client_end(&other));
}

TEST_F(inner_kvmd, refuses_a_tenant_by_pid)
{
	char text[512];

	start_inner(&self->d, "pid", own_proc);
	EXPECT_EQ(-ESRCH, try_attach(self->d.socket, 0, 0, text));
	EXPECT_TRUE(strstr(text, "--tenant-key uid"));
	/* an administrator may look all the same, others may not */
	EXPECT_EQ(0, try_attach(self->d.socket, 0, KV_HELLO_CTL, text));
	EXPECT_EQ(-ESRCH,
		  try_attach(self->d.socket, STRANGER, KV_HELLO_CTL, text));
}

TEST_F(inner_kvmd, refuses_a_tenant_by_a_cgroup_it_cannot_read)
{
	char text[512];

	start_inner(&self->d, "cgroup", own_proc);
	EXPECT_EQ(-ESRCH, try_attach(self->d.socket, 0, 0, text));
	EXPECT_TRUE(strstr(text, "/proc does not show it"));
}

TEST_F(inner_kvmd, finds_the_cgroup_through_a_proc_that_shows_all)
{
	struct client c;
	char *json, text[512];

	/* no /proc of its own: the outer one, where numbers are others */
	start_inner(&self->d, "cgroup", NULL);
	if (variant->blind) {
		EXPECT_EQ(-ESRCH, try_attach(self->d.socket, 0, 0, text));
		return;
	}
	client_start(&c, self->d.socket, as_it_is);
	json = test_kvmd_ctl(&self->d, "client list");
	EXPECT_TRUE(json && strstr(json, "\"tenant\":\"cg:"));
	free(json);
	EXPECT_EQ(1, write(c.go, "x", 1));
	EXPECT_EQ(0, client_end(&c));
}

/* As a container's first process, with the one that started it outside. */
TEST_F(inner_kvmd, ends_with_its_parent)
{
	struct test_kvmd d = { 0 };
	int fds[2], i;
	pid_t pid;

	ASSERT_EQ(0, pipe(fds));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		start_inner(&d, "uid", own_proc);
		if (write(fds[1], &d, sizeof(d)) != sizeof(d))
			_exit(1);
		pause();
	}
	ASSERT_EQ((ssize_t)sizeof(d), read(fds[0], &d, sizeof(d)));
	EXPECT_EQ(0, access(d.socket, F_OK));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	for (i = 0; i < 3000 && !access(d.socket, F_OK); i++)
		usleep(10000);
	EXPECT_NE(0, access(d.socket, F_OK));
}

/* ---- user namespaces ---- */

static const char *uid_map; /* of the user namespace that comes next */

/*
 * Into a user namespace. Its map is written by a child that stays outside, as
 * newuidmap would.
 */
static void in_user_ns(void)
{
	char path[64];
	int fds[2], fd, status;
	pid_t pid, me = getpid();
	char x;

	if (pipe(fds))
		_exit(9);
	pid = fork();
	if (!pid) {
		close(fds[1]);
		if (read(fds[0], &x, 1) != 1)
			_exit(1);
		snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)me);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, uid_map, strlen(uid_map)) < 0)
			_exit(1);
		_exit(0);
	}
	if (unshare(CLONE_NEWUSER) || (uid_map && write(fds[1], "x", 1) != 1))
		_exit(10);
	close(fds[1]);
	if (waitpid(pid, &status, 0) != pid || (uid_map && status))
		_exit(11);
}

static void in_user_ns_as_stranger(void)
{
	as_stranger();
	prctl(PR_SET_DUMPABLE, 1); /* or its own map is root's */
	in_user_ns();
	if (uid_map && geteuid())
		_exit(12); /* it is root there */
}

FIXTURE(users)
{
	struct test_kvmd d;
};

FIXTURE_SETUP(users)
{
	NEED(CLONE_NEWUSER, "user namespaces");
	uid_map = NULL;
}

FIXTURE_TEARDOWN(users)
{
	if (self->d.pid > 0)
		finish(&self->d);
}

/* A tenant's name in kvmd's list of clients, or "" */
static void tenant_of_client(const struct test_kvmd *d, char *out)
{
	char *json = test_kvmd_ctl(d, "client list"), *at;

	out[0] = '\0';
	at = json ? strstr(json, "\"tenant\":\"") : NULL;
	if (at)
		sscanf(at, "\"tenant\":\"%31[^\"]", out);
	free(json);
}

TEST_F(users, who_is_root_in_his_own_namespace_is_himself_outside)
{
	char tenant[KV_NAME_LEN], want[KV_NAME_LEN], map[64];
	struct client c;

	start(&self->d, "uid");
	snprintf(map, sizeof(map), "0 %u 1", STRANGER);
	uid_map = map;
	client_start(&c, self->d.socket, in_user_ns_as_stranger);
	snprintf(want, sizeof(want), "uid:%u", STRANGER);
	tenant_of_client(&self->d, tenant);
	EXPECT_STREQ(want, tenant);
	EXPECT_EQ(1, write(c.go, "x", 1));
	EXPECT_EQ(0, client_end(&c));
}

TEST_F(users, who_is_unmapped_in_his_own_namespace_is_himself_outside)
{
	char tenant[KV_NAME_LEN], want[KV_NAME_LEN];
	struct client c;

	start(&self->d, "uid");
	client_start(&c, self->d.socket, in_user_ns_as_stranger);
	snprintf(want, sizeof(want), "uid:%u", STRANGER);
	tenant_of_client(&self->d, tenant);
	EXPECT_STREQ(want, tenant);
	EXPECT_EQ(1, write(c.go, "x", 1));
	EXPECT_EQ(0, client_end(&c));
}

/* kvmd in a namespace that has a number for root and STRANGER. */
static void start_mapped(struct test_kvmd *d, const char *key)
{
	static char map[64];

	snprintf(map, sizeof(map), "0 0 1\n1000 %u 1", STRANGER);
	uid_map = map;
	test_kvmd_before = in_user_ns;
	start(d, key);
	test_kvmd_before = NULL;
}

TEST_F(users, a_mapped_one_has_the_tenant_of_his_number_inside)
{
	char tenant[KV_NAME_LEN];
	struct client c;

	start_mapped(&self->d, "uid");
	client_start(&c, self->d.socket, as_stranger);
	tenant_of_client(&self->d, tenant);
	EXPECT_STREQ("uid:1000", tenant);
	EXPECT_EQ(1, write(c.go, "x", 1));
	EXPECT_EQ(0, client_end(&c));
}

TEST_F(users, unmapped_ones_are_refused_and_not_made_one_tenant)
{
	char text[512];

	start_mapped(&self->d, "uid");
	EXPECT_EQ(-EOVERFLOW, try_attach(self->d.socket, ANOTHER, 0, text));
	EXPECT_TRUE(strstr(text, "not mapped into kvmd's user namespace"));
	EXPECT_TRUE(strstr(text, "--tenant-key cgroup"));
	/* neither may it look around */
	EXPECT_EQ(-EOVERFLOW,
		  try_attach(self->d.socket, ANOTHER, KV_HELLO_CTL, text));
	EXPECT_EQ(0, try_attach(self->d.socket, STRANGER, 0, text));
}

TEST_F(users, unmapped_ones_are_told_apart_by_cgroup)
{
	char text[512], tenant[KV_NAME_LEN];
	struct client c;

	start_mapped(&self->d, "cgroup");
	EXPECT_EQ(0, try_attach(self->d.socket, ANOTHER, 0, text));
	client_start(&c, self->d.socket, as_stranger);
	tenant_of_client(&self->d, tenant);
	EXPECT_EQ(0, strncmp(tenant, "cg:", 3));
	EXPECT_EQ(1, write(c.go, "x", 1));
	EXPECT_EQ(0, client_end(&c));
}

TEST_F(users, an_unmapped_kvmd_has_no_administrator_by_accident)
{
	struct test_kvmd d;
	char text[512];

	/* its own uid shows as everybody else's does */
	test_kvmd_before = in_user_ns;
	start(&d, "cgroup");
	test_kvmd_before = NULL;
	EXPECT_EQ(-EPERM, try_attach(d.socket, ANOTHER,
				     KV_HELLO_CTL | KV_HELLO_ADMIN, text));
	EXPECT_EQ(0, try_attach(d.socket, ANOTHER, 0, text));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

/* A client whose user namespace is not below kvmd's: no right to signal it. */
TEST_F(users, one_that_may_not_be_killed_is_cut_off)
{
	int fds[2], status;
	char x, *json;
	pid_t pid;

	start_mapped(&self->d, "cgroup");
	ASSERT_EQ(0, pipe(fds));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		as_uid(ANOTHER);
		hoard(self->d.socket, fds[1]);
	}
	ASSERT_EQ(1, read(fds[0], &x, 1));
	json = test_kvmd_ctl(&self->d, "client revoke 0 8M");
	EXPECT_TRUE(json);
	free(json);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, count(&self->d, "kicks"));
}

TEST_HARNESS_MAIN
