/* SPDX-License-Identifier: MIT */
#ifndef LIB_HUGE_H
#define LIB_HUGE_H
/*
 * huge.h - shared memory in huge pages
 *
 * A system gives huge pages to a private mapping that asks for them, but hardly
 * any gives them to a memfd. MADV_COLLAPSE (Linux 6.1) makes them one by one,
 * whatever /sys says of shared memory (but for "deny"), and for all who map it.
 */
#include "include/kv/types.h"

#define HUGE_PAGE (2u << 20) /* of x86-64, and of arm64 as a rule */

/**
 * huge_map - map shared memory where huge pages fit
 * @fd: a memfd, all of which has been given its size; -1: memory of its own
 * @bytes: how much of it, from its beginning
 *
 * Return: its place, a multiple of HUGE_PAGE, to be read and written and given
 * back by munmap(); NULL with errno.
 */
void *huge_map(int fd, u64 bytes);

/**
 * huge_make - make memory huge pages, where the system has some to give
 * @at: of a shared mapping, at a multiple of HUGE_PAGE in memory and file
 * @bytes: a multiple of HUGE_PAGE
 *
 * What is there is copied, which takes as long as copying does; where nothing
 * is, zeros will be, in a third of the time that small pages take. Whatever is
 * read or written meanwhile stays right.
 *
 * Context: any thread; may sleep.
 * Return: 0, or -errno: not on this kernel, or not now. The memory is good.
 */
int huge_make(void *at, u64 bytes);

#endif
