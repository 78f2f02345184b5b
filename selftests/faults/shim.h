/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_FAULTS_SHIM_H
#define SELFTESTS_FAULTS_SHIM_H
/*
 * shim.h - what a test and the program it lets fail have in common
 *
 * shim.so is preloaded into the program (LD_PRELOAD) and stands in front of the
 * C library's allocator and of what makes system calls. A *site* is one of
 * these functions together with the calls of the program that lead to it,
 * SHIM_DEPTH deep: memfd_create() below session_attach() is another site than
 * below extent_submit(). The addresses are relative to the program, so a site
 * is the same one in the next run.
 *
 * The map is a file that both sides have mapped. The shim adds sites as they
 * are passed and counts; the test sets what is to fail, before the program
 * starts or while it runs:
 *
 *	mode COUNT	sites are found and counted
 *	mode FAIL	passings nth .. nth + burst - 1 of the target, counted
 *			from when it was set, fail; nothing else does
 *	mode OFF	nothing is looked at but the number of live allocations
 */
#include <stdatomic.h>
#include <stdint.h>

#define SHIM_DEPTH 6u
#define SHIM_SITES 8192u /* a power of two, as a hash table */

/* name, what it fails with */
/* clang-format off */
#define SHIM_FUNCTIONS(X)                                                                                           \
	X(malloc, ENOMEM)                                                                                           \
	X(calloc, ENOMEM) X(realloc, ENOMEM) X(posix_memalign, ENOMEM) X(mmap, ENOMEM) X(                           \
		mprotect,                                                                                           \
		ENOMEM) X(madvise,                                                                                  \
			  ENOMEM) X(memfd_create,                                                                   \
				    EMFILE) X(ftruncate,                                                            \
					      ENOSPC) X(fallocate,                                                  \
							ENOSPC) X(fchmod,                                           \
								  EPERM) X(fcntl,                                   \
									   EMFILE)                                  \
		X(dup, EMFILE) X(eventfd, EMFILE) X(epoll_create1, EMFILE) X(                                       \
			epoll_ctl,                                                                                  \
			ENOMEM) X(epoll_pwait2,                                                                     \
				  EINTR) X(signalfd,                                                                \
					   EMFILE) X(pipe2,                                                         \
						     EMFILE) X(pidfd_open,                                          \
							       EMFILE) X(pidfd_send_signal,                         \
									 EPERM)                                     \
			X(socket, EMFILE) X(bind, EACCES) X(listen, ENOMEM) X(                                      \
				connect,                                                                            \
				EAGAIN) X(accept4,                                                                  \
					  EMFILE) X(getsockopt,                                                     \
						    ENOBUFS) X(setsockopt,                                          \
							       ENOMEM) X(sendmsg,                                   \
									 ENOBUFS)                                   \
				X(recvmsg, ENOMEM) X(poll, ENOMEM) X(                                               \
					open,                                                                       \
					EMFILE) X(fopen,                                                            \
						  EMFILE) X(fstat,                                                  \
							    ENOMEM) X(read,                                         \
								      EIO) X(write,                                 \
									     EIO)                                   \
					X(pread, EIO) X(pwrite, EIO) X(preadv, EIO) X(                              \
						pwritev,                                                            \
						EIO) X(mkdir,                                                       \
						       EACCES) X(chmod,                                             \
								 EPERM) X(chown, EPERM)                             \
						X(flock, ENOLCK) X(ioctl, EIO) X(                                   \
							prctl,                                                      \
							EPERM) X(pthread_create,                                    \
								 EAGAIN) X(sched_getaffinity,                       \
									   EPERM)                                   \
							X(io_uring_queue_init,                                      \
							  ENOMEM) X(io_uring_queue_init_params,                     \
								    ENOMEM) X(io_uring_register_eventfd,            \
									      ENOMEM)                               \
								X(io_uring_register_files,                          \
								  ENOMEM) X(io_uring_submit,                        \
									    EAGAIN)                                 \
									X(io_uring_submit_and_get_events,           \
									  EAGAIN)                                   \
										X(io_uring_submit_and_wait_timeout, \
										  EAGAIN)

/* clang-format on */

enum shim_fn {
#define SHIM_ENUM(name, err) SHIM_##name,
	SHIM_FUNCTIONS(SHIM_ENUM)
#undef SHIM_ENUM
		SHIM_NR_FN
};

enum shim_mode {
	SHIM_OFF,
	SHIM_COUNT,
	SHIM_FAIL,
};

struct shim_site {
	_Atomic uint64_t key; /* 0: free; of fn and frames */
	uint32_t fn;
	uint32_t nr_frames;
	uint64_t frame[SHIM_DEPTH]; /* innermost first, offsets */
	_Atomic uint64_t count;
};

struct shim_map {
	_Atomic uint32_t mode;
	_Atomic uint32_t fn; /* of the target */
	_Atomic uint64_t target; /* its key */
	_Atomic uint64_t nth, burst; /* the first one is 1 */
	_Atomic uint64_t passed; /* the target, since it was set */
	_Atomic uint64_t fired; /* how often it failed */
	_Atomic int64_t live; /* allocations that are not freed */
	_Atomic uint64_t overflow; /* passings that found no room for a site */
	struct shim_site site[SHIM_SITES];
};

#endif
