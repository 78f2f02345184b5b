/* SPDX-License-Identifier: MIT */
/*
 * test_channel.c - packets between kvmd and its keeper
 */
#include "kvmd/keep/channel.h"

#include "selftests/harness.h"
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define NR_FILES  128
#define MOMENT_US 200000

static int others[2];

/* As of a user who may not exceed the limit. */
static void be_limited(void)
{
	struct __user_cap_header_struct h = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct none[2] = { 0 };
	struct rlimit lim = { NR_FILES, NR_FILES };

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &lim));
	ASSERT_EQ(0, syscall(SYS_capset, &h, none));
}

/* Leave descriptors under way until no more may be. */
static void fill(void)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} ctl = { 0 };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = ctl.buf,
			     .msg_controllen = sizeof(ctl.buf) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, others));
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	while (sendmsg(others[0], &mh, MSG_DONTWAIT) == 1)
		;
	ASSERT_EQ(ETOOMANYREFS, errno);
}

static void let_arrive(int sig)
{
	close(others[0]);
	close(others[1]);
}

TEST(channel, waits_until_a_descriptor_may_be_sent)
{
	const struct itimerval moment = { .it_value.tv_usec = MOMENT_US };
	const struct keep_msg m = { .op = KEEP_PUT, .index = 7 };
	struct keep_msg got;
	int pair[2], fd;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	be_limited();
	fill();
	signal(SIGALRM, let_arrive);
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &moment, NULL));
	ASSERT_EQ(0, channel_send(pair[0], &m, STDOUT_FILENO));
	ASSERT_EQ(1, channel_recv(pair[1], &got, &fd, false));
	EXPECT_EQ(7u, got.index);
	EXPECT_GE(fd, 0);
}

TEST_HARNESS_MAIN
