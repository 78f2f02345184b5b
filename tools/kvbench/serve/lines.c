/* SPDX-License-Identifier: MIT */
/*
 * lines.c - files with a JSON object a line
 */
#include "tools/kvbench/serve/lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int take_line(const char *line, int (*take)(void *ctx, const json_t *v),
		     void *ctx)
{
	json_t *v = json_loads(line, 0, NULL);
	int rc = take(ctx, v);

	json_decref(v);
	return rc;
}

static void say(const char *path, const char *what, u32 nr, int rc, char *err)
{
	if (rc != -EINVAL)
		snprintf(err, 256, "%.200s: %s", path, strerror(-rc));
	else if (nr)
		snprintf(err, 256, "%.160s: line %u is no %s", path, nr, what);
	else
		snprintf(err, 256, "%.160s: there is no %s in it", path, what);
}

int lines_load(const char *path, const char *what, bool is_growing,
	       int (*take)(void *ctx, const json_t *v), void *ctx, char *err)
{
	FILE *f = fopen(path, "re");
	u32 nr = 0, taken = 0;
	char *line = NULL;
	size_t room = 0;
	int rc = 0;

	if (!f) {
		rc = -errno;
		say(path, what, 0, rc, err);
		return rc;
	}
	while (!rc && getline(&line, &room, f) > 0) {
		nr++;
		if (!line[strspn(line, " \t\r\n")] ||
		    (is_growing && !strchr(line, '\n') && feof(f)))
			continue;
		rc = take_line(line, take, ctx);
		taken++;
	}
	rc = min(rc, 0);
	if (!rc && ferror(f))
		rc = -EIO;
	if (!rc && !taken) {
		rc = -EINVAL;
		nr = 0;
	}
	if (rc)
		say(path, what, nr, rc, err);
	free(line);
	fclose(f);
	return rc;
}
