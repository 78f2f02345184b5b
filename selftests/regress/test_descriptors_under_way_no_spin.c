/* SPDX-License-Identifier: MIT */
/*
 * test_descriptors_under_way_no_spin.c - who cannot be sent a descriptor yet
 * costs nothing
 *
 * Without privileges no more descriptors may be under way to a user than a
 * process may have open. What could not be sent for that was tried again when
 * the socket was writable, which it was all the while: the loop ran without a
 * pause until others had read what they were sent.
 */
#include "selftests/kvmd/ipc/raw.h"
#include <sys/prctl.h>
#include <sys/resource.h>

#define NR_FILES 128
#define A_PACKET 32
#define PACKETS	 (2 * NR_FILES / A_PACKET)

#define CAP_SYS_ADMIN_NR    21
#define CAP_SYS_RESOURCE_NR 24

/* As of a user who may not exceed the limit. */
static void without_privilege(void)
{
	struct rlimit lim = { NR_FILES, NR_FILES };

	prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN_NR, 0, 0, 0);
	prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE_NR, 0, 0, 0);
	setrlimit(RLIMIT_NOFILE, &lim);
}

/* Leave descriptors under way, more than kvmd may have. */
static void fill(int sock)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * A_PACKET)];
		struct cmsghdr align;
	} ctl;
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = ctl.buf,
			     .msg_controllen = sizeof(ctl.buf) };
	int fds[A_PACKET], i;
	struct cmsghdr *cm;

	for (i = 0; i < A_PACKET; i++)
		fds[i] = STDOUT_FILENO;
	memset(&ctl, 0, sizeof(ctl));
	cm = CMSG_FIRSTHDR(&mh);
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cm), fds, sizeof(fds));
	for (i = 0; i < PACKETS; i++)
		ASSERT_EQ(1, sendmsg(sock, &mh, MSG_DONTWAIT));
}

static void attach_late(const char *io)
{
	const struct kv_msg_hello h = raw_hello(0);
	struct test_kvmd d;
	double before;
	int pair[2];
	struct raw r;

	ASSERT_EQ(0,
		  socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	test_kvmd_before = without_privilege;
	ASSERT_EQ(0, test_kvmd_start(&d, test_tmpdir(), "--size", "64M", "--io",
				     io, NULL));
	fill(pair[0]);
	memset(&r, 0, sizeof(r));
	r.sock = raw_connect(d.socket);
	ASSERT_GE(r.sock, 0);
	raw_send(&r, KV_MSG_HELLO, &h, sizeof(h));
	EXPECT_EQ(-ETIMEDOUT, raw_recv(&r, 300));
	before = test_cpu_s(d.pid);
	EXPECT_EQ(-ETIMEDOUT, raw_recv(&r, 1000));
	EXPECT_TRUE(test_cpu_s(d.pid) - before < 0.25); /* it spun */
	/* and when they have arrived, or nobody is there to take them */
	close(pair[0]);
	close(pair[1]);
	EXPECT_EQ(0, raw_reply(&r));
	EXPECT_EQ(KV_MSG_HELLO | KV_MSG_REPLY, r.msg.type);
	EXPECT_EQ(4, r.nr_fds);
	raw_fds_close(&r);
	close(r.sock);
	EXPECT_EQ(0, test_kvmd_stop(&d));
}

TEST_TIMEOUT(descriptors_under_way, do_not_keep_the_loop_awake, 120)
{
	attach_late("auto");
	attach_late("epoll");
}

TEST_HARNESS_MAIN
