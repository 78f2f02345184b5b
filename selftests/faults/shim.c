/* SPDX-License-Identifier: MIT */
/*
 * shim.c - LD_PRELOAD: functions that fail where a test wants it
 *
 * See shim.h. KV_SHIM_MAP names the map; without it nothing is done. What the
 * shim itself calls is not looked at (@inside). With KV_SHIM_LATE set, nothing
 * else is either before the program calls shim_ready(): what it does first to
 * have something to compare with.
 */
#include "selftests/faults/shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <poll.h>
#include <unistd.h>

#define EXPORT	 __attribute__((visibility("default")))
#define FRAMES	 32
#define TLS_FAST __attribute__((tls_model("initial-exec")))

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

EXPORT void shim_ready(void);

static struct shim_map *map;
static bool dormant;
static uintptr_t exe_base, exe_end, crypto_base, crypto_end;
static __thread int inside TLS_FAST;

static const int errors[SHIM_NR_FN] = {
#define ERROR(name, err) [SHIM_##name] = err,
	SHIM_FUNCTIONS(ERROR)
#undef ERROR
};

static void find_range(const struct dl_phdr_info *info, uintptr_t *from,
		       uintptr_t *to)
{
	uintptr_t end;
	int i;

	*from = info->dlpi_addr;
	for (i = 0; i < info->dlpi_phnum; i++) {
		end = *from + info->dlpi_phdr[i].p_vaddr +
		      info->dlpi_phdr[i].p_memsz;
		if (info->dlpi_phdr[i].p_type == PT_LOAD && end > *to)
			*to = end;
	}
}

/* The first object is the program. */
static int find_objects(struct dl_phdr_info *info, size_t size, void *data)
{
	if (!exe_end)
		find_range(info, &exe_base, &exe_end);
	else if (strstr(info->dlpi_name, "libcrypto"))
		find_range(info, &crypto_base, &crypto_end);
	return 0;
}

__attribute__((constructor)) static void shim_begin(void)
{
	const char *path = getenv("KV_SHIM_MAP");
	void *warm[2], *p;
	long fd;

	if (!path)
		return;
	inside++;
	unsetenv("LD_PRELOAD"); /* of this program only */
	dl_iterate_phdr(find_objects, NULL);
	backtrace(warm, 2); /* loads what it needs */
	fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		_exit(126);
	p = (void *)syscall(SYS_mmap, NULL, sizeof(*map),
			    PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		_exit(126);
	syscall(SYS_close, fd);
	dormant = getenv("KV_SHIM_LATE") != NULL;
	map = p;
	inside--;
}

EXPORT void shim_ready(void)
{
	dormant = false;
}

/*
 * The calls of the program that lead here; 0: libcrypto asks for itself, which
 * follows a null pointer when its own first allocations fail.
 */
static uint32_t walk(uint64_t frame[SHIM_DEPTH])
{
	void *at[FRAMES];
	int i, n = backtrace(at, FRAMES);
	uint32_t nr = 0;

	for (i = 0; i < n && nr < SHIM_DEPTH; i++) {
		if (!nr && (uintptr_t)at[i] >= crypto_base &&
		    (uintptr_t)at[i] < crypto_end)
			return 0;
		if ((uintptr_t)at[i] >= exe_base && (uintptr_t)at[i] < exe_end)
			frame[nr++] = (uintptr_t)at[i] - exe_base;
	}
	return nr;
}

static uint64_t key_of(uint32_t fn, const uint64_t *frame, uint32_t nr)
{
	uint64_t key = fn + 1;
	uint32_t i;

	for (i = 0; i < nr; i++) {
		key = (key ^ frame[i]) * 0x9e3779b97f4a7c15ull;
		key ^= key >> 31;
	}
	return key ? key : 1;
}

static void count_site(uint32_t fn, uint64_t key, const uint64_t *frame,
		       uint32_t nr)
{
	struct shim_site *s;
	uint64_t was;
	uint32_t i, j;

	for (i = 0; i < SHIM_SITES; i++) {
		s = &map->site[(key + i) & (SHIM_SITES - 1)];
		was = 0;
		if (atomic_compare_exchange_strong(&s->key, &was, key)) {
			s->fn = fn;
			for (j = 0; j < nr; j++)
				s->frame[j] = frame[j];
			s->nr_frames = nr;
			was = key;
		}
		if (was == key) {
			s->count++;
			return;
		}
	}
	map->overflow++;
}

/* One passing. Return: it is to fail; errno is set then. */
static bool fails(enum shim_fn fn)
{
	uint64_t frame[SHIM_DEPTH], key, n;
	bool yes = false;
	int saved = errno;
	uint32_t nr;

	if (!map || inside || dormant)
		return false;
	if (map->mode == SHIM_OFF ||
	    (map->mode == SHIM_FAIL && map->fn != (uint32_t)fn))
		return false;
	inside++;
	nr = walk(frame);
	key = key_of(fn, frame, nr);
	if (nr && map->mode == SHIM_COUNT) {
		count_site(fn, key, frame, nr);
	} else if (nr && key == map->target) {
		n = ++map->passed;
		yes = n >= map->nth && n < map->nth + map->burst;
		map->fired += yes;
	}
	inside--;
	errno = yes ? errors[fn] : saved;
	return yes;
}

/* ---- the allocator ---- */

static void *counted(void *p)
{
	if (map && p)
		map->live++;
	return p;
}

EXPORT void *malloc(size_t size)
{
	return fails(SHIM_malloc) ? NULL : counted(__libc_malloc(size));
}

EXPORT void *calloc(size_t nr, size_t size)
{
	return fails(SHIM_calloc) ? NULL : counted(__libc_calloc(nr, size));
}

EXPORT void *realloc(void *p, size_t size)
{
	void *q;

	if (fails(SHIM_realloc))
		return NULL;
	q = __libc_realloc(p, size);
	if (!p)
		counted(q);
	else if (map && !q && !size)
		map->live--;
	return q;
}

EXPORT void *reallocarray(void *p, size_t nr, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(nr, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, bytes);
}

EXPORT int posix_memalign(void **out, size_t align, size_t size)
{
	void *p = fails(SHIM_posix_memalign)
			  ? NULL
			  : counted(__libc_memalign(align, size));

	if (!p)
		return ENOMEM;
	*out = p;
	return 0;
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	return fails(SHIM_posix_memalign)
		       ? NULL
		       : counted(__libc_memalign(align, size));
}

EXPORT void free(void *p)
{
	if (map && p)
		map->live--;
	__libc_free(p);
}

/* ---- the others ---- */

#define REAL(name) ((__typeof__(&(name)))find(&real[SHIM_##name], #name))

static void *real[SHIM_NR_FN];

static void *find(void **slot, const char *name)
{
	void *p = __atomic_load_n(slot, __ATOMIC_ACQUIRE);

	if (p)
		return p;
	inside++;
	p = dlsym(RTLD_NEXT, name);
	inside--;
	__atomic_store_n(slot, p, __ATOMIC_RELEASE);
	return p;
}

/* One that says -1 and errno. */
#define WRAP(type, name, params, args)                                  \
	EXPORT type name params                                         \
	{                                                               \
		return fails(SHIM_##name) ? (type)-1 : REAL(name) args; \
	}

WRAP(int, mprotect, (void *p, size_t len, int prot), (p, len, prot))
WRAP(int, madvise, (void *p, size_t len, int advice), (p, len, advice))
WRAP(int, memfd_create, (const char *name, unsigned int flags), (name, flags))
WRAP(int, ftruncate, (int fd, off_t len), (fd, len))
WRAP(int, fallocate, (int fd, int mode, off_t at, off_t len),
     (fd, mode, at, len))
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(int, dup, (int fd), (fd))
int eventfd(unsigned int n, int flags);
WRAP(int, eventfd, (unsigned int n, int flags), (n, flags))
WRAP(int, epoll_create1, (int flags), (flags))
WRAP(int, epoll_ctl, (int ep, int op, int fd, struct epoll_event *ev),
     (ep, op, fd, ev))
WRAP(int, epoll_pwait2,
     (int ep, struct epoll_event *ev, int max, const struct timespec *ts,
      const sigset_t *set),
     (ep, ev, max, ts, set))
int signalfd(int fd, const sigset_t *set, int flags);
WRAP(int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags))
WRAP(int, pipe2, (int fds[2], int flags), (fds, flags))
int pidfd_open(pid_t pid, unsigned int flags);
WRAP(int, pidfd_open, (pid_t pid, unsigned int flags), (pid, flags))
int pidfd_send_signal(int fd, int sig, siginfo_t *info, unsigned int flags);
WRAP(int, pidfd_send_signal,
     (int fd, int sig, siginfo_t *info, unsigned int flags),
     (fd, sig, info, flags))
WRAP(int, socket, (int domain, int type, int proto), (domain, type, proto))
WRAP(int, bind, (int fd, const struct sockaddr *sa, socklen_t len),
     (fd, sa, len))
WRAP(int, listen, (int fd, int n), (fd, n))
WRAP(int, connect, (int fd, const struct sockaddr *sa, socklen_t len),
     (fd, sa, len))
WRAP(int, accept4, (int fd, struct sockaddr *sa, socklen_t *len, int flags),
     (fd, sa, len, flags))
WRAP(int, getsockopt, (int fd, int level, int opt, void *val, socklen_t *len),
     (fd, level, opt, val, len))
WRAP(int, setsockopt,
     (int fd, int level, int opt, const void *val, socklen_t len),
     (fd, level, opt, val, len))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags),
     (fd, m, flags))
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
WRAP(int, poll, (struct pollfd * p, nfds_t nr, int ms), (p, nr, ms))
WRAP(int, fstat, (int fd, struct stat *st), (fd, st))
WRAP(ssize_t, read, (int fd, void *buf, size_t len), (fd, buf, len))
WRAP(ssize_t, write, (int fd, const void *buf, size_t len), (fd, buf, len))
WRAP(ssize_t, pread, (int fd, void *buf, size_t len, off_t at),
     (fd, buf, len, at))
WRAP(ssize_t, pwrite, (int fd, const void *buf, size_t len, off_t at),
     (fd, buf, len, at))
WRAP(ssize_t, preadv, (int fd, const struct iovec *v, int nr, off_t at),
     (fd, v, nr, at))
WRAP(ssize_t, pwritev, (int fd, const struct iovec *v, int nr, off_t at),
     (fd, v, nr, at))
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(int, chmod, (const char *path, mode_t mode), (path, mode))
WRAP(int, chown, (const char *path, uid_t uid, gid_t gid), (path, uid, gid))
int flock(int fd, int op);
WRAP(int, flock, (int fd, int op), (fd, op))
WRAP(int, sched_getaffinity, (pid_t pid, size_t size, cpu_set_t *set),
     (pid, size, set))

EXPORT void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t off)
{
	return fails(SHIM_mmap) ? MAP_FAILED
				: REAL(mmap)(at, len, prot, flags, fd, off);
}

/* NULL and errno */
EXPORT FILE *fopen(const char *path, const char *mode)
{
	return fails(SHIM_fopen) ? NULL : REAL(fopen)(path, mode);
}

EXPORT int pthread_create(pthread_t *t, const pthread_attr_t *attr,
			  void *(*run)(void *), void *arg)
{
	return fails(SHIM_pthread_create)
		       ? EAGAIN
		       : REAL(pthread_create)(t, attr, run, arg);
}

/* The last argument of these is a number or a pointer, or is not there. */
EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return fails(SHIM_fcntl) ? -1 : REAL(fcntl)(fd, cmd, arg);
}

int ioctl(int fd, unsigned long cmd, ...);

EXPORT int ioctl(int fd, unsigned long cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return fails(SHIM_ioctl) ? -1 : REAL(ioctl)(fd, cmd, arg);
}

EXPORT int open(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = va_arg(ap, mode_t);
	va_end(ap);
	return fails(SHIM_open) ? -1 : REAL(open)(path, flags, mode);
}

int prctl(int op, ...);

EXPORT int prctl(int op, ...)
{
	unsigned long a[4];
	va_list ap;
	int i;

	va_start(ap, op);
	for (i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	return fails(SHIM_prctl) ? -1 : REAL(prctl)(op, a[0], a[1], a[2], a[3]);
}

/* liburing's say -errno. */
#define URING(name, params, args)               \
	int name params;                        \
	EXPORT int name params                  \
	{                                       \
		int saved = errno;              \
                                                \
		if (!fails(SHIM_##name))        \
			return REAL(name) args; \
		errno = saved;                  \
		return -errors[SHIM_##name];    \
	}

URING(io_uring_queue_init, (unsigned int n, void *ring, unsigned int flags),
      (n, ring, flags))
URING(io_uring_queue_init_params, (unsigned int n, void *ring, void *params),
      (n, ring, params))
URING(io_uring_register_eventfd, (void *ring, int fd), (ring, fd))
URING(io_uring_register_files, (void *ring, const int *fds, unsigned int nr),
      (ring, fds, nr))
URING(io_uring_submit, (void *ring), (ring))
URING(io_uring_submit_and_get_events, (void *ring), (ring))
URING(io_uring_submit_and_wait_timeout,
      (void *ring, void *cqe, unsigned int nr, void *ts, void *set),
      (ring, cqe, nr, ts, set))
