/* SPDX-License-Identifier: MIT */
#ifndef SELFTESTS_FAULTS_SITES_H
#define SELFTESTS_FAULTS_SITES_H
/*
 * sites.h - the sites that a program passes, one after the other made to fail
 *
 *	sites_open() - the program runs with sites_preload(), and is done -
 *	sites_take() - for each: sites_arm(), run, sites_fired()
 *
 * shim.h says what a site is.
 */
#include "selftests/faults/shim.h"
#include <stdbool.h>
#include <stddef.h>

struct sites {
	struct shim_map *map;
	char path[256];
	struct site {
		uint64_t key, count; /* how often it was passed */
		uint32_t fn, slot;
	} list[SHIM_SITES];
	uint32_t nr;
};

/* sites_open - a new map in folder @dir; 0 or -errno */
int sites_open(struct sites *s, const char *dir);
void sites_close(struct sites *s);
/* sites_preload - what a child does before it becomes the program */
void sites_preload(const struct sites *s);
/* sites_mode - SHIM_COUNT or SHIM_OFF from now on */
void sites_mode(struct sites *s, enum shim_mode mode);
/**
 * sites_take - the sites that were passed since the last time
 * @seen: SHIM_SITES counts, as they were then; updated
 *
 * Sorted by key. Return: how many.
 */
uint32_t sites_take(struct sites *s, uint64_t *seen);
/* sites_arm - passings nth .. nth + burst - 1 of site @i fail from now on */
void sites_arm(struct sites *s, uint32_t i, uint64_t nth, uint64_t burst);
/* sites_fired - how often something failed since sites_arm() */
uint64_t sites_fired(const struct sites *s);
/* sites_print - which calls of program @exe lead to site @i */
void sites_print(const struct sites *s, uint32_t i, const char *exe);
const char *sites_fn(const struct sites *s, uint32_t i);

#endif
