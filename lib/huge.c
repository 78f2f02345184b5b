/* SPDX-License-Identifier: MIT */
/*
 * huge.c - shared memory in huge pages
 */
#include "lib/huge.h"

#include <errno.h>
#include <sys/mman.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

int huge_make(void *at, u64 bytes)
{
	volatile const char *p = at;
	int saved = errno, rc = 0;
	u64 off;

	madvise(at, bytes, MADV_HUGEPAGE); /* where that is enough */
	/* a range without any page is none that could become huge */
	for (off = 0; off < bytes; off += HUGE_PAGE)
		(void)p[off];
	if (madvise(at, bytes, MADV_COLLAPSE))
		rc = -errno;
	errno = saved;
	return rc;
}
