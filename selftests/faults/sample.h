/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_FAULTS_SAMPLE_H
#define SELFTESTS_FAULTS_SAMPLE_H
/*
 * sample.h - which of the sites fail in this run
 */
#include "selftests/faults/sites.h"
#include "selftests/harness.h"
#include <stdlib.h>

/* The daily sample is one that was looked at; with KV_LONG another each time.
 */
static inline uint64_t sample_seed(void)
{
	return getenv("KV_LONG") || getenv("SEED") ? test_seed() : 1;
}

/* Is site @i in the sample? KV_FAULT_SITE=key takes that one alone. */
static inline bool sample_has(const struct sites *s, uint64_t *seed, uint32_t i,
			      uint32_t sample)
{
	const char *one = getenv("KV_FAULT_SITE");

	if (one)
		return strtoull(one, NULL, 16) == s->list[i].key;
	if (getenv("KV_FAULT_SAMPLE"))
		sample = (uint32_t)strtoul(getenv("KV_FAULT_SAMPLE"), NULL, 10);
	return getenv("KV_LONG") || s->nr <= sample ||
	       test_rand(seed) % s->nr < sample;
}

#endif
