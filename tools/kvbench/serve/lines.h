/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_LINES_H
#define TOOLS_KVBENCH_SERVE_LINES_H
/*
 * lines.h - files with a JSON object a line: traces, logs of steps
 */
#include <jansson.h>
#include "include/kv/types.h"

/**
 * lines_load - all of a file
 * @what: what a line is, for the sentence: "step"
 * @is_growing: it may be written to: a last line without its end is left out
 * @take: 0, 1: no more is wanted, -EINVAL: that is none, or another -errno;
 *	@v is NULL if the line is no JSON
 * @err: 256 bytes
 *
 * Empty lines are passed over. Return: 0, -EINVAL also if there was no line,
 * or -errno.
 */
int __must_check lines_load(const char *path, const char *what, bool is_growing,
			    int (*take)(void *ctx, const json_t *v), void *ctx,
			    char *err);

#endif
