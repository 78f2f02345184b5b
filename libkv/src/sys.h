/* SPDX-License-Identifier: MIT */
#ifndef LIBKV_SYS_H
#define LIBKV_SYS_H
/*
 * sys.h - the system calls libkv makes, as 0 or -errno
 *
 * Each wrapper leaves errno as it found it, so that no call of the library
 * changes it. Interrupted calls are repeated unless it is said otherwise.
 */
#include <sys/socket.h>
#include "include/kv/types.h"

#define SYS_NR_FDS 4 /* descriptors one packet may carry */

u64 sys_now_ns(void);
void sys_nap_ns(u64 ns);
/* sys_pid - this process */
int sys_pid(void);
/* sys_nr_cpus - processors this thread may run on */
unsigned int sys_nr_cpus(void);

/* sys_map - mmap with the given flags; *@out is untouched on an error */
int sys_map(void *at, size_t bytes, int prot, int flags, int fd, void **out);
/*
 * sys_reserve - address space for @bytes, in whole pages, at a multiple of a
 * huge page: at another place no page table entry could hold one
 */
int sys_reserve(size_t bytes, void **out);
void sys_unmap(void *at, size_t bytes);
int sys_protect(void *at, size_t bytes, int prot);
void sys_close(int fd);
/* sys_fd_bytes - size of the file behind @fd, or -errno */
s64 sys_fd_bytes(int fd);
/* sys_read_at - all of [0, @bytes) of @fd, -EIO if it is shorter */
int sys_read_at(int fd, void *dst, size_t bytes);
/* sys_ring_doorbell - add one to an eventfd */
int sys_ring_doorbell(int fd);

/* sys_futex_wait - sleep while *@word is @val; -ETIMEDOUT, 0 otherwise */
int sys_futex_wait(u32 *word, u32 val, u64 timeout_ns);

/**
 * sys_connect - a SOCK_SEQPACKET connection
 * @path: of the socket
 * @timeout_ms: for connect() and every later send
 *
 * Return: the socket, or -errno.
 */
int sys_connect(const char *path, u32 timeout_ms);
/* sys_send - one packet from two pieces */
int sys_send(int sock, const void *head, size_t head_bytes, const void *body,
	     size_t body_bytes);

/**
 * sys_recv - one packet, if there is one
 * @sock: socket
 * @buf: room for the packet
 * @bytes: of @buf
 * @fds: descriptors that came with it, -1 where none
 *
 * Return: its bytes; -EAGAIN none there; -ESHUTDOWN the other side is gone;
 * -EPROTO it was longer than @buf, or held more than SYS_NR_FDS descriptors;
 * -EMFILE this process may not open as many as it held.
 */
int sys_recv(int sock, void *buf, size_t bytes, int fds[SYS_NR_FDS]);
/* sys_readable - wait for a packet or the end; 0, -ETIMEDOUT */
int sys_readable(int sock, int timeout_ms);
/* sys_hung_up - has the other side closed? */
bool sys_hung_up(int sock);

#endif
