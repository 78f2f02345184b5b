/* SPDX-License-Identifier: MIT */
#ifndef KVMD_IPC_FEATURE_H
#define KVMD_IPC_FEATURE_H
/*
 * feature.h - may kernel features newer than the base system's be tried?
 *
 * The base system is Debian 12 with Linux 6.1. What came later is tried and
 * done without where it is refused; KV_MASK_NEW=1 in the environment acts as
 * if all of it were, so that tests on a new kernel run the older path.
 */
#include <stdlib.h>
#include "include/kv/types.h"

static inline bool feature_may_try_new(void)
{
	const char *mask = getenv("KV_MASK_NEW");

	return !mask || *mask != '1';
}

#endif
