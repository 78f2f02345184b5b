/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_NOMEM_H
#define SELFTESTS_NOMEM_H
/*
 * nomem.h - the C library's allocator, replaced by one that counts, and fails
 * the n-th call
 *
 * arm(n), run what is tested, disarm(): fired says whether a call failed,
 * nr_live what was allocated and not freed in between. It replaces malloc()
 * for the whole program: one source file of a test includes this, and none
 * that AddressSanitizer, with an allocator of its own, is built into.
 */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t nr, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

/* libc itself (strdup) is to use them: no -fvisibility=hidden for these */
#define REPLACES __attribute__((visibility("default")))

static long countdown; /* 0: off */
static long nr_live;
static bool armed, fired;

static bool fails(void)
{
	if (!countdown || --countdown)
		return false;
	fired = true;
	errno = ENOMEM;
	return true;
}

static void *counted(void *p)
{
	nr_live += armed && p;
	return p;
}

REPLACES void *malloc(size_t size)
{
	return fails() ? NULL : counted(__libc_malloc(size));
}

REPLACES void *calloc(size_t nr, size_t size)
{
	return fails() ? NULL : counted(__libc_calloc(nr, size));
}

REPLACES void *realloc(void *p, size_t size)
{
	if (fails())
		return NULL;
	return p ? __libc_realloc(p, size) : counted(__libc_malloc(size));
}

REPLACES void *reallocarray(void *p, size_t nr, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(nr, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, bytes);
}

REPLACES int posix_memalign(void **out, size_t align, size_t size)
{
	*out = fails() ? NULL : counted(__libc_memalign(align, size));
	return *out ? 0 : ENOMEM;
}

REPLACES void free(void *p)
{
	nr_live -= armed && p;
	__libc_free(p);
}

static void arm(long n)
{
	nr_live = 0;
	fired = false;
	armed = true;
	countdown = n;
}

static void disarm(void)
{
	countdown = 0;
	armed = false;
}

#endif
