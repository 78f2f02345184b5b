/* SPDX-License-Identifier: MIT */
/*
 * test_peer.c - what is read of a peer's cgroup
 */
#include "kvmd/ipc/peer.c"
#include "selftests/harness.h"

/* The tenant that the text of a /proc/PID/cgroup gives. */
static const char *tenant(const char *text)
{
	static char name[KV_NAME_LEN];
	FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
	char *path = NULL;

	snprintf(name, sizeof(name), "none");
	ASSERT_TRUE(f != NULL);
	if (!cgroup_parse(f, &path))
		cgroup_name(path, name);
	free(path);
	fclose(f);
	return name;
}

TEST(cgroup, of_the_unified_hierarchy_is_the_tenant)
{
	EXPECT_STREQ("cg:/user.slice/x", tenant("0::/user.slice/x\n"));
	EXPECT_STREQ("cg:/user.slice/x",
		     tenant("1:name=systemd:/y\n0::/user.slice/x\n"));
	EXPECT_STREQ("cg:/", tenant("0::/\n"));
	EXPECT_STREQ("none", tenant("\n:\nx\n"));
}

TEST(cgroup, at_a_root_gives_way_to_one_that_says_more)
{
	EXPECT_STREQ("cg:/y", tenant("1:name=systemd:/y\n0::/\n"));
	EXPECT_STREQ("cg:/", tenant("1:name=systemd:/\n4:memory:/\n0::/\n"));
}

TEST(cgroup, of_another_hierarchy_is_not_taken_for_one_of_the_unified)
{
	EXPECT_STREQ("cg:memory:/x", tenant("4:memory:/x\n0::/\n"));
	EXPECT_STREQ("cg:/x", tenant("4:memory:/y\n0::/x\n"));
}

TEST(cgroup, seen_from_a_namespace_keeps_its_way_there)
{
	EXPECT_STREQ("cg:/../../system.slice/x",
		     tenant("0::/../../system.slice/x\n"));
}

/* Whoever may make cgroups chooses their names. */
TEST(cgroup, with_a_long_path_is_not_read_as_two_lines)
{
	char text[4096], other[KV_NAME_LEN];
	size_t n, pad;

	for (pad = 400; pad < 600; pad++) {
		n = (size_t)snprintf(text, sizeof(text), "1:name=systemd:/");
		memset(text + n, 'a', pad);
		snprintf(text + n + pad, sizeof(text) - n - pad,
			 "0::/system.slice/victim\n");
		EXPECT_NE(0, strcmp("cg:/system.slice/victim", tenant(text)));
		EXPECT_EQ(0, strncmp("cg:", tenant(text), 3));
	}
	/* what differs beyond any buffer differs */
	n = (size_t)snprintf(text, sizeof(text), "0::/");
	memset(text + n, 'a', 3000);
	snprintf(text + n + 3000, 900, "/this-is-the-same-end\n");
	memcpy(other, tenant(text), sizeof(other));
	text[2000] = 'b';
	EXPECT_NE(0, strcmp(other, tenant(text)));
}

TEST(cgroup, of_this_process_is_found_through_its_pidfd)
{
	struct peer p = { .pid = 1, .pidfd = pidfd_open(getpid(), 0) };
	char name[KV_NAME_LEN], err[KV_ERRLEN], *path = NULL;
	char want[KV_NAME_LEN];

	/* the number that credentials gave is not what is looked at */
	ASSERT_GE(p.pidfd, 0);
	ASSERT_EQ(0, cgroup_read(getpid(), &path));
	cgroup_name(path, want);
	free(path);
	EXPECT_EQ(getpid(), proc_pid(&p));
	EXPECT_EQ(0, peer_tenant(&p, TENANT_KEY_CGROUP, name, err));
	EXPECT_STREQ(want, name);
	peer_put(&p);
	EXPECT_EQ(-ESRCH, peer_tenant(&p, TENANT_KEY_CGROUP, name, err));
}

TEST(user, without_a_number_is_nobody_and_not_everybody)
{
	struct peer a = { .uid = 65534, .pidfd = -1, .uid_unknown = true };
	struct peer b = { .uid = 65534, .pidfd = -1 };
	char name[KV_NAME_LEN], err[KV_ERRLEN];

	EXPECT_FALSE(peer_same_user(&a, &a));
	EXPECT_FALSE(peer_same_user(&a, &b));
	EXPECT_TRUE(peer_same_user(&b, &b));
	EXPECT_EQ(-EOVERFLOW, peer_tenant(&a, TENANT_KEY_UID, name, err));
	EXPECT_EQ(0, peer_tenant(&b, TENANT_KEY_UID, name, err));
	EXPECT_STREQ("uid:65534", name);
	a.uid = geteuid();
	EXPECT_FALSE(peer_is_admin(&a));
}

TEST(user, nobody_is_a_user_where_all_are_mapped)
{
	if (!all_users_mapped())
		SKIP("this user namespace has no number for some");
	EXPECT_FALSE(is_unknown(65534));
	EXPECT_FALSE(is_unknown(0));
}

TEST_HARNESS_MAIN
