/* SPDX-License-Identifier: MIT */
/*
 * huge.c - shared memory in huge pages
 */
#include "lib/huge.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

void *huge_map(int fd, u64 bytes)
{
	const int flags = MAP_SHARED | MAP_NORESERVE | MAP_FIXED |
			  (fd < 0 ? MAP_ANONYMOUS : 0);
	const u64 room = ALIGN_UP(bytes, HUGE_PAGE) + HUGE_PAGE;
	char *base, *at, *end;

	base = mmap(NULL, room, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	at = (char *)ALIGN_UP((uintptr_t)base, HUGE_PAGE);
	if (mmap(at, bytes, PROT_READ | PROT_WRITE, flags, fd, 0) ==
	    MAP_FAILED) {
		munmap(base, room);
		return NULL;
	}
	if (at > base)
		munmap(base, (size_t)(at - base));
	end = at + ALIGN_UP(bytes, 4096); /* in whole pages */
	munmap(end, (size_t)(base + room - end));
	return at;
}

int huge_make(void *at, u64 bytes)
{
	int saved = errno, rc = 0;
	u64 off;

	madvise(at, bytes, MADV_HUGEPAGE); /* where that is enough */
	/* a range without any page is none that could become huge */
	for (off = 0; off < bytes && !rc; off += HUGE_PAGE)
		if (madvise((char *)at + off, 4096, MADV_POPULATE_READ))
			rc = -errno;
	if (!rc && madvise(at, bytes, MADV_COLLAPSE))
		rc = -errno;
	errno = saved;
	return rc;
}
