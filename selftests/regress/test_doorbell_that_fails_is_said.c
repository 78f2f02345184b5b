/* SPDX-License-Identifier: MIT */
/*
 * test_doorbell_that_fails_is_said.c - libkv waited for ever for the answer to
 * a request that it could not wake kvmd for
 *
 * As where a program has closed all descriptors it does not know. The next call
 * has to say so, and each one after it.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include "libkv/src/client.h"
#include <kv.h>

TEST_TIMEOUT(doorbell, that_cannot_be_rung_is_said, 60)
{
	struct kv_attach_opts o = { .sz = sizeof(o) };
	struct test_kvmd d;
	struct kv *kv;
	int fd, i;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "32M",
				     "--spin", "0", NULL));
	o.socket = d.socket;
	ASSERT_EQ(0, kv_attach(&o, &kv));
	EXPECT_GE(kv_shrink(kv), 0);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(kv->doorbell, dup2(fd, kv->doorbell));
	for (i = 0; i < 20000 && !kv_load_acquire(&kv->hdr->sq_sleeping.v); i++)
		usleep(1000); /* until kvmd sleeps */
	EXPECT_EQ(-EBADF, kv_shrink(kv));
	EXPECT_TRUE(strstr(kv_error(kv), "cannot be woken"));
	EXPECT_EQ(-EBADF, kv_shrink(kv));
	kv_detach(kv);
	close(fd);
	EXPECT_EQ(0, test_kvmd_settle(&d, 0, 5000));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
