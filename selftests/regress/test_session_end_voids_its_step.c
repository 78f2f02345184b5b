/* SPDX-License-Identifier: MIT */
/*
 * test_session_end_voids_its_step.c - a step whose session had ended counted
 *
 * kvmd ends a session whose process lives on, as when it cannot pass it an
 * extent. Its pages were emptied after a moment of grace, and a step that was
 * still computing read zeros and was committed as if they were its tokens'.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "selftests/libkv/seq.h"
#include "libkv/src/client.h"
#include <sys/socket.h>

TEST(session, that_has_ended_voids_the_step_under_way)
{
	struct kv_resv_item it = { .nr_tokens = 40 };
	static struct seqs c;
	static struct seq s;
	struct test_kvmd d;
	struct kv_step *st;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "32M", NULL));
	ASSERT_EQ(0, seqs_attach(&c, d.socket, "cut off"));
	ASSERT_EQ(0, seq_create(&c, &s));
	it.space = s.space;
	ASSERT_EQ(0, kv_step_prepare(c.kv, &it, 1, 0, 0, &st));
	ASSERT_EQ(0, shutdown(c.kv->sock, SHUT_RDWR));
	ASSERT_EQ(0, test_kvmd_settle(&d, 0, 20000));
	kv_step_complete(c.kv, st);
	EXPECT_EQ(-ESHUTDOWN, kv_step_commit(c.kv, st));
	it.nr_tokens = 1;
	EXPECT_EQ(-ESHUTDOWN, kv_step_prepare(c.kv, &it, 1, 0, 0, &st));
	kv_detach(c.kv);
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
