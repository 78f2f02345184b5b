/* SPDX-License-Identifier: MIT */
/*
 * test_who_does_not_read_is_not_read.c - answers that nobody took filled kvmd's
 * descriptors
 *
 * An answer carries one. What the socket had no room for was kept, up to
 * thousands of them, for each connection that only asked.
 */
#include "selftests/kvmd/ipc/raw.h"
#include <dirent.h>

#define MANY 60000u

static unsigned int nr_fds_of(pid_t pid)
{
	unsigned int nr = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	ASSERT_TRUE(dir != NULL);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

TEST_TIMEOUT(unread, answers_are_not_kept_without_end, 300)
{
	const struct kv_msg_hello h = raw_hello(KV_HELLO_CTL);
	const char req[] = "status";
	unsigned int nr, got = 0, fds;
	double before;
	struct test_kvmd d;
	struct pollfd p;
	struct raw r;

	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "32M", NULL));
	memset(&r, 0, sizeof(r));
	r.sock = raw_connect(d.socket);
	ASSERT_GE(r.sock, 0);
	raw_send(&r, KV_MSG_HELLO, &h, sizeof(h));
	ASSERT_EQ(0, raw_reply(&r));
	fds = nr_fds_of(d.pid);
	p = (struct pollfd){ .fd = r.sock, .events = POLLOUT };
	for (nr = 0; nr < MANY && poll(&p, 1, 2000) == 1; nr++)
		raw_send(&r, KV_MSG_CTL, req, sizeof(req) - 1);
	TH_LOG("%u requests, %u descriptors, %u before", nr, nr_fds_of(d.pid),
	       fds);
	EXPECT_LT(nr, MANY);
	EXPECT_LT(nr_fds_of(d.pid), fds + 20);
	before = test_cpu_s(d.pid);
	usleep(500000);
	EXPECT_TRUE(test_cpu_s(d.pid) - before < 0.25); /* it spun */
	/* and each is answered, once they are read */
	while (got < nr && raw_recv(&r, RAW_WAIT_MS) == 1)
		got++;
	EXPECT_EQ(nr, got);
	raw_fds_close(&r);
	close(r.sock);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_HARNESS_MAIN
