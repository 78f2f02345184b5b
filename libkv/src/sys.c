/* SPDX-License-Identifier: MIT */
/*
 * sys.c - the system calls libkv makes, as 0 or -errno
 *
 * Every function here saves errno and puts it back: the calls of kv.h answer
 * with a code and leave errno to the program.
 */
#include "libkv/src/sys.h"
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SYS_PAGE      ((size_t)4096)
#define SYS_HUGE_PAGE ((size_t)2 << 20)

/* The result of a call that says -1 and errno; errno is put back. */
static int sys_result(long rc, int saved)
{
	int err = errno;

	errno = saved;
	if (rc >= 0)
		return (int)rc;
	return err > 0 ? -err : -EIO;
}

u64 sys_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

void sys_nap_ns(u64 ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / 1000000000u),
			       .tv_nsec = (long)(ns % 1000000000u) };
	int saved = errno;

	nanosleep(&ts, NULL);
	errno = saved;
}

int sys_pid(void)
{
	return (int)getpid();
}

unsigned int sys_nr_cpus(void)
{
	int saved = errno, nr;
	cpu_set_t set;

	CPU_ZERO(&set);
	nr = sched_getaffinity(0, sizeof(set), &set) ? 1 : CPU_COUNT(&set);
	errno = saved;
	return (unsigned int)nr;
}

int sys_map(void *at, size_t bytes, int prot, int flags, int fd, void **out)
{
	int saved = errno;
	void *p = mmap(at, bytes, prot, flags, fd, 0);

	if (p == MAP_FAILED)
		return sys_result(-1, saved);
	*out = p;
	return 0;
}

void sys_unmap(void *at, size_t bytes)
{
	int saved = errno;

	if (at)
		munmap(at, bytes);
	errno = saved;
}

int sys_reserve(size_t bytes, void **out)
{
	void *p;
	size_t skip;
	int rc;

	bytes = ALIGN_UP(bytes, SYS_PAGE);
	rc = sys_map(NULL, bytes + SYS_HUGE_PAGE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, &p);
	if (rc)
		return rc;
	skip = -(uintptr_t)p & (SYS_HUGE_PAGE - 1);
	if (skip)
		sys_unmap(p, skip);
	sys_unmap((u8 *)p + skip + bytes, SYS_HUGE_PAGE - skip);
	*out = (u8 *)p + skip;
	return 0;
}

int sys_protect(void *at, size_t bytes, int prot)
{
	int saved = errno;

	return sys_result(mprotect(at, bytes, prot), saved);
}

void sys_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
}

s64 sys_fd_bytes(int fd)
{
	int saved = errno;
	struct stat st;

	if (fstat(fd, &st))
		return sys_result(-1, saved);
	return st.st_size;
}

int sys_read_at(int fd, void *dst, size_t bytes)
{
	int saved = errno, rc = 0;
	size_t done = 0;
	ssize_t n;

	while (done < bytes) {
		n = pread(fd, (char *)dst + done, bytes - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = n < 0 ? -errno : -EIO;
			break;
		}
		done += (size_t)n;
	}
	errno = saved;
	return rc;
}

int sys_ring_doorbell(int fd)
{
	int saved = errno;
	u64 one = 1;
	ssize_t n;

	do {
		n = write(fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		n = 0; /* it holds all that it can: it has been rung */
	return sys_result(n < 0 ? -1 : 0, saved);
}

int sys_futex_wait(u32 *word, u32 val, u64 timeout_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(timeout_ns / 1000000000u),
			       .tv_nsec = (long)(timeout_ns % 1000000000u) };
	int saved = errno;
	long rc = syscall(SYS_futex, word, FUTEX_WAIT, val, &ts, NULL, 0);

	rc = rc < 0 && errno == ETIMEDOUT ? -ETIMEDOUT : 0;
	errno = saved;
	return (int)rc;
}

int sys_connect(const char *path, u32 timeout_ms)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = timeout_ms / 1000,
			      .tv_usec = (timeout_ms % 1000) * 1000 };
	int sock, saved = errno, rc;
	size_t len = strlen(path);

	if (len >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, len);
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return sys_result(-1, saved);
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	do {
		rc = connect(sock, (struct sockaddr *)&sa, sizeof(sa));
	} while (rc && errno == EINTR);
	rc = sys_result(rc, saved);
	if (rc) {
		sys_close(sock);
		return rc == -EAGAIN ? -ETIMEDOUT : rc;
	}
	return sock;
}

int sys_send(int sock, const void *head, size_t head_bytes, const void *body,
	     size_t body_bytes)
{
	struct iovec iov[2] = {
		{ .iov_base = (void *)(uintptr_t)head, .iov_len = head_bytes },
		{ .iov_base = (void *)(uintptr_t)body, .iov_len = body_bytes },
	};
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = body_bytes ? 2 : 1 };
	int saved = errno, rc;
	ssize_t n;

	do {
		n = sendmsg(sock, &m, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	rc = sys_result(n < 0 ? -1 : 0, saved);
	if (rc == -EPIPE || rc == -ECONNRESET)
		return -ESHUTDOWN;
	return rc == -EAGAIN ? -ETIMEDOUT : rc;
}

/* Take the descriptors out of @m; true if there were more than fit. */
static bool take_fds(struct msghdr *m, int fds[SYS_NR_FDS])
{
	struct cmsghdr *c;
	bool over = m->msg_flags & MSG_CTRUNC;
	int got[SYS_NR_FDS * 2];
	size_t n, i, nr = 0;

	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = min((c->cmsg_len - CMSG_LEN(0)) / sizeof(int),
			ARRAY_SIZE(got));
		memcpy(got, CMSG_DATA(c), n * sizeof(int));
		for (i = 0; i < n; i++) {
			if (nr < SYS_NR_FDS) {
				fds[nr++] = got[i];
			} else {
				close(got[i]);
				over = true;
			}
		}
	}
	return over;
}

int sys_recv(int sock, void *buf, size_t bytes, int fds[SYS_NR_FDS])
{
	char ctl[CMSG_SPACE(sizeof(int) * SYS_NR_FDS * 2)]
		__attribute__((aligned(8)));
	struct iovec iov = { .iov_base = buf, .iov_len = bytes };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = ctl,
			    .msg_controllen = sizeof(ctl) };
	int saved = errno, rc, i;
	bool over;
	ssize_t n;

	for (i = 0; i < SYS_NR_FDS; i++)
		fds[i] = -1;
	do {
		n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		rc = sys_result(-1, saved);
		return rc == -ECONNRESET ? -ESHUTDOWN : rc;
	}
	over = take_fds(&m, fds);
	errno = saved;
	if (!n)
		return -ESHUTDOWN;
	/* cut off though there was room: no descriptor is left here */
	rc = (m.msg_flags & MSG_CTRUNC) && fds[SYS_NR_FDS - 1] < 0 ? -EMFILE
								   : -EPROTO;
	if (over || (m.msg_flags & MSG_TRUNC)) {
		for (i = 0; i < SYS_NR_FDS; i++) {
			sys_close(fds[i]);
			fds[i] = -1;
		}
		return rc;
	}
	return (int)n;
}

int sys_readable(int sock, int timeout_ms)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	int saved = errno, rc;

	rc = poll(&p, 1, timeout_ms);
	if (rc < 0 && errno == EINTR)
		rc = 1; /* the caller looks at its clock and comes back */
	errno = saved;
	return rc > 0 ? 0 : -ETIMEDOUT;
}

bool sys_hung_up(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLRDHUP };
	int saved = errno, rc;

	rc = poll(&p, 1, 0);
	errno = saved;
	return rc > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}
