/* SPDX-License-Identifier: MIT */
/*
 * channel.c - packets of proto.h, one at a time
 */
#include "kvmd/keep/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "lib/clock.h"

#define PATIENCE_MS 5000

union control {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

/* One patience for all that are sent one after the other, by one thread. */
static int waited_ms; /* since a descriptor left at once */
static u64 waited_ns; /* when it was waited for last */

/*
 * Too many descriptors are under way to this user, be they others': nothing
 * tells when some have arrived. Return: try again?
 */
static bool send_again(int err)
{
	const struct timespec moment = { .tv_nsec = 1000000 };

	if (err == EINTR)
		return true;
	if (err != ETOOMANYREFS)
		return false;
	if (clock_ns() - waited_ns > PATIENCE_MS * 1000000ull)
		waited_ms = 0;
	if (waited_ms >= PATIENCE_MS)
		return false;
	waited_ms++;
	waited_ns = clock_ns();
	nanosleep(&moment, NULL);
	return true;
}

int channel_send(int sock, const struct keep_msg *msg, int fd)
{
	int before = waited_ms;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)msg,
			     .iov_len = sizeof(*msg) };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control ctl;
	struct cmsghdr *cm;

	if (fd >= 0) {
		memset(&ctl, 0, sizeof(ctl));
		hdr.msg_control = ctl.buf;
		hdr.msg_controllen = sizeof(ctl.buf);
		cm = CMSG_FIRSTHDR(&hdr);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &fd, sizeof(int));
	}
	while (sendmsg(sock, &hdr, MSG_NOSIGNAL) < 0)
		if (!send_again(errno))
			return -errno;
	if (fd >= 0 && waited_ms == before)
		waited_ms = 0;
	return 0;
}

int channel_recv(int sock, struct keep_msg *msg, int *fd, bool wait)
{
	struct iovec iov = { .iov_base = msg, .iov_len = sizeof(*msg) };
	union control ctl;
	struct msghdr hdr = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = ctl.buf,
			      .msg_controllen = sizeof(ctl.buf) };
	struct cmsghdr *cm;
	ssize_t n;

	*fd = -1;
	do {
		n = recvmsg(sock, &hdr,
			    MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	if (!n)
		return 0;
	cm = CMSG_FIRSTHDR(&hdr);
	if (cm && cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS &&
	    cm->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(cm), sizeof(int));
	if (n != (ssize_t)sizeof(*msg)) {
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
		return -EBADMSG;
	}
	return 1;
}
