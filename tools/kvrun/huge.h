/* SPDX-License-Identifier: MIT */
#ifndef KVRUN_HUGE_H
#define KVRUN_HUGE_H
/*
 * huge.h - weights in huge pages, made while the model runs already
 */
#include <stddef.h>

struct huge;

/**
 * huge_start - have a thread move what a shared mapping shows to huge pages
 * @addr: stays mapped until huge_stop(); what lies in front of the first
 *	  boundary of a huge page stays as it is
 * @bytes: of the mapping
 *
 * A kernel that cannot, or has no memory for it, leaves the pages as they are.
 *
 * Return: NULL where there is no whole huge page, or no thread for it: nothing
 * is lost but speed.
 */
struct huge *huge_start(const void *addr, size_t bytes);

/* Until it is done. @h may be NULL. */
void huge_wait(struct huge *h);

/* End it where it is, within one page's time, and free it. @h may be NULL. */
void huge_stop(struct huge *h);

#endif
