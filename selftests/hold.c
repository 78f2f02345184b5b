/* SPDX-License-Identifier: MIT */
/*
 * hold.c - system calls of a kvmd that do not return before the test says so
 *
 * What becomes kvmd makes the filter and sends the listener back through a pair
 * of sockets, before it is kvmd.
 */
#include "selftests/hold.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "include/kv/types.h"
#include "selftests/harness.h"
#include "selftests/lib_kvmd.h"

#define INSNS_MAX 64u

union control {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static const struct hold_rule *the_rules;
static unsigned int nr_rules;
static int channel[2];

/* ---- the filter ---- */

static struct sock_filter load(size_t from)
{
	return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					    (u32)from);
}

/* Over @left, if it is @value or, @differs, if not. */
static struct sock_filter skip(u32 value, bool differs, unsigned int left)
{
	return (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value,
					    (u8)(differs ? 0 : left),
					    (u8)(differs ? left : 0));
}

static unsigned int rule_put(struct sock_filter *f, const struct hold_rule *r)
{
	unsigned int n = 0, left = 2 * r->nr_conds + 1, i;

	f[n++] = load(offsetof(struct seccomp_data, nr));
	f[n++] = skip(r->nr, true, left);
	for (i = 0; i < r->nr_conds; i++) {
		left -= 2;
		f[n++] = load(offsetof(struct seccomp_data, args) +
			      r->conds[i].arg * sizeof(u64));
		f[n++] = skip(r->conds[i].value, !r->conds[i].differs, left);
	}
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
					      SECCOMP_RET_USER_NOTIF);
	return n;
}

/* From now on calls of this process are held. The listener, or -errno. */
static int filter_make(const struct hold_rule *rules, unsigned int nr)
{
	struct sock_filter f[INSNS_MAX];
	struct sock_fprog prog = { .filter = f };
	unsigned int n = 0, i;
	int fd;

	for (i = 0; i < nr; i++) {
		if (n + 2 * rules[i].nr_conds + 4 > INSNS_MAX)
			return -E2BIG;
		n += rule_put(f + n, &rules[i]);
	}
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
					      SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)n;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			  SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
	return fd < 0 ? -errno : fd;
}

/* ---- the listener comes back ---- */

static int fd_send(int sock, int fd)
{
	union control ctl = { 0 };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = ctl.buf,
			     .msg_controllen = sizeof(ctl.buf) };
	struct cmsghdr *cm = CMSG_FIRSTHDR(&mh);

	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &fd, sizeof(fd));
	return sendmsg(sock, &mh, 0) == 1 ? 0 : -errno;
}

static int fd_recv(int sock)
{
	union control ctl;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = ctl.buf,
			     .msg_controllen = sizeof(ctl.buf) };
	int fd;

	if (recvmsg(sock, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0)
		return -errno;
	if (!CMSG_FIRSTHDR(&mh))
		return -EBADMSG;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(fd));
	return fd;
}

static void tell_and_hold(void)
{
	int fd = filter_make(the_rules, nr_rules);

	if (fd < 0 || fd_send(channel[1], fd))
		_exit(13);
	close(fd);
}

int hold_before(const struct hold_rule *rules, unsigned int nr)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel))
		return -errno;
	the_rules = rules;
	nr_rules = nr;
	test_kvmd_before = tell_and_hold;
	return 0;
}

int hold_listener(void)
{
	int fd = fd_recv(channel[0]);

	test_kvmd_before = NULL;
	close(channel[0]);
	close(channel[1]);
	return fd;
}

bool hold_is_possible(void)
{
	const struct hold_rule none = { .nr = ~0u };
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(filter_make(&none, 1) < 0);
	return waitpid(pid, &status, 0) == pid && !status;
}

/* ---- calls ---- */

/* For poll(), until @end. */
static int ms_left(double end)
{
	double ms = (end - th_now()) * 1e3;

	return ms > 0 ? (int)ms + 1 : 0;
}

int hold_next(int listener, uint64_t *id, int timeout_ms)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	double end = th_now() + timeout_ms * 1e-3;
	struct seccomp_notif n;
	int rc;

	do { /* ENOENT: who called has been killed meanwhile */
		rc = poll(&p, 1, ms_left(end));
		if (rc < 0 && errno == EINTR)
			continue;
		if (rc != 1)
			return rc ? -errno : -ETIMEDOUT;
		if (!(p.revents & POLLIN))
			return -ESHUTDOWN;
		memset(&n, 0, sizeof(n));
		rc = ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n);
		if (rc && errno != ENOENT && errno != EINTR)
			return -errno;
	} while (rc);
	*id = n.id;
	return 0;
}

int hold_let_go(int listener, uint64_t id, int err)
{
	struct seccomp_notif_resp r = {
		.id = id,
		.error = -err,
		.flags = err ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE,
	};

	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r) ? -errno : 0;
}
