/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_FAILURES_H
#define TOOLS_KVBENCH_SERVE_FAILURES_H
/*
 * failures.h - what went wrong, counted per kind, the first of each in words
 */
#include <jansson.h>
#include <stdio.h>
#include "include/kv/types.h"

#define FAILURE_KIND 24
#define FAILURE_WHAT 160

struct failure {
	char kind[FAILURE_KIND]; /* "" is none */
	char what[FAILURE_WHAT];
};

#define FAILURE_KINDS 32

struct failures {
	u32 nr; /* of all kinds */
	u32 nr_kinds;
	struct failure first[FAILURE_KINDS]; /* the last one: all others */
	u32 count[FAILURE_KINDS];
};

/* failure_set - unless it is set; control characters become blanks */
__printf(3, 4) void failure_set(struct failure *f, const char *kind,
				const char *fmt, ...);
void failures_add(struct failures *all, const struct failure *f);
/* failures_json - {"kind": {"count": n, "first": "..."}} */
json_t *failures_json(const struct failures *all);
void failures_print(FILE *out, const struct failures *all);

#endif
