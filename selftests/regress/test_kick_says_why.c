/* SPDX-License-Identifier: MIT */
/*
 * test_kick_says_why.c - a client that is ended hears the reason
 *
 * kvmd sends BYE with a sentence before it closes the socket of a client that
 * broke the rules. libkv looked for another type of packet, and not at all
 * when it found the hang-up while it waited on the ring: whatever the reason,
 * all that was said was that kvmd had gone.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "libkv/src/client.h"
#include "libkv/src/sys.h"

static void scribble(struct kv *kv)
{
	/* a tail that no ring of this size can have */
	__atomic_store_n(&kv->hdr->sq_tail.v, kv->sq_tail + 4711,
			 __ATOMIC_SEQ_CST);
	kv->sq_tail += 4711;
}

TEST(kick, a_call_on_the_ring_says_why)
{
	struct kv_attach_opts o = { .sz = sizeof(o) };
	struct test_kvmd d;
	struct kv *kv;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	o.socket = d.socket;
	ASSERT_EQ(0, kv_attach(&o, &kv));
	scribble(kv);
	EXPECT_EQ(0, sys_ring_doorbell(kv->doorbell));
	EXPECT_EQ(-ESHUTDOWN, ring_wait(kv, REQ_CALL, false, 5000000000ull));
	EXPECT_TRUE(strstr(kv_error(kv), "submission ring makes no sense"));
	/* and whatever is called afterwards */
	EXPECT_EQ(-ESHUTDOWN, kv_shrink(kv));
	EXPECT_TRUE(strstr(kv_error(kv), "submission ring makes no sense"));
	kv_detach(kv);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST(kick, a_call_on_the_socket_says_why)
{
	struct kv_attach_opts o = { .sz = sizeof(o) };
	struct kv_msg_weights w = { .bytes = 4096, .name = "none" };
	struct test_kvmd d;
	struct kv *kv;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	o.socket = d.socket;
	ASSERT_EQ(0, kv_attach(&o, &kv));
	scribble(kv);
	EXPECT_EQ(0, sys_ring_doorbell(kv->doorbell));
	usleep(100000);
	EXPECT_EQ(-ESHUTDOWN, msg_call(kv, KV_MSG_WEIGHTS_OPEN, &w, sizeof(w),
				       NULL, "weights"));
	EXPECT_TRUE(strstr(kv_error(kv), "submission ring makes no sense"));
	kv_detach(kv);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
