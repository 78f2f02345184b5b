/* SPDX-License-Identifier: MIT */
/*
 * huge.c - weights in huge pages, made while the model runs already
 *
 * A decode reads all weights for a token, from pages of 4 KiB: a walk through
 * the page table for each, and no prefetching by the CPU from one to the next.
 * In huge pages it reads 4 to 6 % faster. The memory is kvmd's, a memfd, and
 * systems do not give those huge pages by themselves; MADV_COLLAPSE asks for
 * them one by one, whatever the system's switches say, and for all who map it.
 *
 * That copies: a second for each GiB, too long for a first token to wait. So a
 * thread does it, resting after each page for as long as it took. It has the
 * usual priority: one that waits for a CPU while it holds the lock of the
 * address space would keep the others from their page faults. Of several
 * runtimes with one model each finds done what another did.
 *
 * The thread owns nothing; struct huge is freed by huge_stop(), which joins it.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "include/kv/types.h"
#include "tools/kvrun/huge.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define HUGE_BYTES ((size_t)2 << 20)

struct huge {
	pthread_t thread;
	char *at; /* the next page */
	size_t nr; /* pages left */
	atomic_bool stop;
	bool joined;
};

static void rest_since(const struct timespec *from)
{
	struct timespec now, d;

	clock_gettime(CLOCK_MONOTONIC, &now);
	d.tv_sec = now.tv_sec - from->tv_sec;
	d.tv_nsec = now.tv_nsec - from->tv_nsec;
	if (d.tv_nsec < 0) {
		d.tv_sec--;
		d.tv_nsec += 1000000000;
	}
	nanosleep(&d, NULL);
}

static void *collapse(void *arg)
{
	struct huge *h = arg;

	for (; h->nr && !h->stop; h->nr--, h->at += HUGE_BYTES) {
		struct timespec from;

		clock_gettime(CLOCK_MONOTONIC, &from);
		if (madvise(h->at, HUGE_BYTES, MADV_COLLAPSE))
			break; /* not this kernel, or no memory */
		rest_since(&from);
	}
	return NULL;
}

struct huge *huge_start(const void *addr, size_t bytes)
{
	uintptr_t first = ALIGN_UP((uintptr_t)addr, HUGE_BYTES);
	uintptr_t end = (uintptr_t)addr + bytes;
	size_t nr = first < end ? (end - first) / HUGE_BYTES : 0;
	struct huge *h = nr ? calloc(1, sizeof(*h)) : NULL;

	if (!h)
		return NULL;
	h->at = (char *)first;
	h->nr = nr;
	if (pthread_create(&h->thread, NULL, collapse, h)) {
		free(h);
		return NULL;
	}
	return h;
}

void huge_wait(struct huge *h)
{
	if (!h || h->joined)
		return;
	pthread_join(h->thread, NULL);
	h->joined = true;
}

void huge_stop(struct huge *h)
{
	if (!h)
		return;
	h->stop = true;
	huge_wait(h);
	free(h);
}
