/* SPDX-License-Identifier: MIT */
/*
 * test_ctl_requests_in_one_turn.c - several requests, one hang-up, one crash
 *
 * san: address
 *
 * kvmd read up to 16 packets of a control connection in one turn although the
 * first had started a job that answers. Each job set "busy" back, so that the
 * connection of a peer that hung up was freed under the jobs that were left.
 * Whoever may connect could end the daemon with that.
 */
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"
#include <unistd.h>
#include "include/kv/errbuf.h"
#include "libkv/src/connect.h"

#define ROUNDS	 200
#define REQUESTS 16

static int hang_up_on(const char *path)
{
	struct kv_msg_hello h = { .magic = KV_ABI_MAGIC,
				  .major = KV_ABI_MAJOR,
				  .flags = KV_HELLO_CTL };
	struct kv_msg m = { .type = KV_MSG_CTL };
	int sock, rc, i, fds[SYS_NR_FDS];
	struct kv_msg_welcome w;
	char err[KV_ERRLEN];

	rc = connect_to(path, 5000, &sock, err);
	if (!rc)
		rc = connect_hello(sock, &h, 5000, &w, fds, err);
	if (rc)
		return rc;
	for (i = 0; i < REQUESTS; i++)
		sys_send(sock, &m, sizeof(m), "status", 7);
	close(sock);
	return 0;
}

TEST(ctl_requests, of_one_turn_do_not_outlive_their_connection)
{
	struct test_kvmd d;
	int i;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", NULL));
	for (i = 0; i < ROUNDS; i++)
		ASSERT_EQ(0, hang_up_on(d.socket));
	EXPECT_EQ(0, test_kvmd_check(&d));
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
