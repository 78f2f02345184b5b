/* SPDX-License-Identifier: MIT */
/*
 * test_child_detaches.c - a forked child that detached ended its parent's
 * session
 *
 * It has the same socket: its BYE was the parent's, whose memory went at once.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include <kv.h>
#include <sys/wait.h>

TEST(child, that_detaches_leaves_its_parent_attached)
{
	struct kv_attach_opts o = { .sz = sizeof(o) };
	struct test_kvmd d;
	struct kv *kv;
	int status;
	pid_t pid;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "32M", NULL));
	o.socket = d.socket;
	ASSERT_EQ(0, kv_attach(&o, &kv));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		kv_detach(kv);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, test_kvmd_u64(&d, "status", "clients"));
	EXPECT_GE(kv_shrink(kv), 0);
	EXPECT_GE(kv_shrink(kv), 0);
	kv_detach(kv);
	EXPECT_EQ(0, test_kvmd_settle(&d, 0, 20000));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
