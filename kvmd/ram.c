/* SPDX-License-Identifier: MIT */
/*
 * ram.c - how much memory this process's cgroups let it have
 */
#include "kvmd/ram.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_ROOM 1024 /* a cgroup deeper than that counts for nothing */

/* The number in a file; ~0: there is none, or it says "max". */
static u64 read_limit(const char *dir, const char *file)
{
	char path[PATH_ROOM + 64], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "re");
	if (!f)
		return ~0ull;
	if (!fgets(text, sizeof(text), f) || *text < '0' || *text > '9')
		text[0] = '\0';
	fclose(f);
	return *text ? strtoull(text, NULL, 10) : ~0ull;
}

/* The least limit of the cgroup @path below @root, and of all above it. */
static u64 walk_up(const char *root, const char *path, const char *file)
{
	char dir[PATH_ROOM];
	size_t base = strlen(root);
	u64 least = ~0ull;
	char *slash;

	if (snprintf(dir, sizeof(dir), "%s%s", root, path) >= PATH_ROOM)
		return least;
	for (;;) {
		least = min(least, read_limit(dir, file));
		slash = strrchr(dir, '/');
		if (!slash || (size_t)(slash - dir) < base)
			return least;
		*slash = '\0';
	}
}

/* Is "memory" one of the controllers of a v1 line? */
static bool has_memory(const char *controllers, size_t len)
{
	const char *at = controllers, *end = controllers + len;
	size_t n;

	while (at < end) {
		n = strcspn(at, ",:");
		if (n == 6 && !strncmp(at, "memory", 6))
			return true;
		at += n + 1;
	}
	return false;
}

u64 ram_limit(const char *cgroups, const char *root)
{
	char *line = NULL, *name, *path, v1[PATH_ROOM];
	FILE *f = fopen(cgroups, "re");
	u64 least = ~0ull;
	size_t size = 0;

	if (!f)
		return least;
	snprintf(v1, sizeof(v1), "%s/memory", root);
	while (getline(&line, &size, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		name = strchr(line, ':');
		path = name ? strchr(name + 1, ':') : NULL;
		if (!path)
			continue;
		if (path == name + 1)
			least = min(least,
				    walk_up(root, path + 1, "memory.max"));
		else if (has_memory(name + 1, (size_t)(path - name) - 1))
			least = min(least, walk_up(v1, path + 1,
						   "memory.limit_in_bytes"));
	}
	free(line);
	fclose(f);
	return least;
}
