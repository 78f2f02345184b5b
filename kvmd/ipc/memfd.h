/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_MEMFD_H
#define KVMD_IPC_MEMFD_H
/*
 * memfd.h - shared memory that the other side cannot pull away
 *
 * Every memory that kvmd shares is a memfd that kvmd made. Three things keep
 * a client from harming kvmd through it:
 *
 *	seals	shrink (and grow, where the size is final) are sealed, and so
 *		are further seals: nobody can cut a mapping of kvmd's off
 *		(SIGBUS), or forbid kvmd to write.
 *	owner	the inode belongs to kvmd's uid and has mode 0600 (0400 for
 *		page tables). A client of another uid that has a read-only
 *		descriptor cannot reopen it for writing through /proc.
 *	copies	what the client can write is copied once before it is used.
 *		KV pages are not used, only moved.
 *
 * Where kvmd and its clients are one uid (--private, tests) the second does
 * not hold: such a client could reopen its page table for writing, as it
 * could ptrace kvmd. There it is a guard against mistakes, not malice.
 */
#include "include/kv/types.h"

#define MEMFD_GROWS    (1u << 0) /* its size may still grow */
#define MEMFD_READABLE (1u << 1) /* mode 0400 instead of 0600 */
#define MEMFD_UNSEALED (1u << 2) /* more seals will follow */

/**
 * memfd_create_sealed - a memfd of @bytes bytes
 * @name: shown in /proc/PID/maps
 * @bytes: size now
 * @flags: MEMFD_*
 *
 * Return: descriptor, read-write, or -errno.
 */
int __must_check memfd_create_sealed(const char *name, u64 bytes,
				     unsigned int flags);
/* memfd_reopen_ro - a second, read-only descriptor of @fd, or -errno */
int __must_check memfd_reopen_ro(int fd);
/* memfd_map - map all of @bytes shared and writable; NULL if impossible */
void *memfd_map(int fd, u64 bytes);
/* memfd_of_text - a read-only, sealed memfd that holds @text, or -errno */
int __must_check memfd_of_text(const char *name, const char *text, size_t len);
/* memfd_resident - bytes the kernel holds for it (st_blocks), or -errno */
s64 memfd_resident(int fd);

#endif
