/* SPDX-License-Identifier: MIT */
/*
 * read_file.c - whole files: prompts and lists of ids
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/kvrun/read_file.h"

#define SPACE " \t\r\n"

static int read_stream(FILE *f, char **text, size_t *len)
{
	size_t cap = 1 << 16, n = 0, got;
	char *buf = malloc(cap), *more;

	while (buf && (got = fread(buf + n, 1, cap - n - 1, f)) > 0) {
		n += got;
		if (cap - n > 1)
			continue;
		cap *= 2;
		more = realloc(buf, cap);
		if (!more)
			free(buf);
		buf = more;
	}
	if (!buf)
		return -ENOMEM;
	if (ferror(f)) {
		free(buf);
		return errno ? -errno : -EIO;
	}
	buf[n] = '\0';
	*text = buf;
	*len = n;
	return 0;
}

int read_file(const char *path, char **text, size_t *len, char *err)
{
	bool is_stdin = !strcmp(path, "-");
	FILE *f = is_stdin ? stdin : fopen(path, "re");
	int rc = f ? 0 : -errno;

	if (!rc)
		rc = read_stream(f, text, len);
	if (f && !is_stdin)
		fclose(f);
	if (rc)
		return err_set(err, rc, "%s: %s", path, strerror(-rc));
	return 0;
}

int read_ids(const char *path, u32 **ids, size_t *nr, char *err)
{
	char *text, *p, *end;
	size_t len, n = 0;
	u32 *list;
	int rc = read_file(path, &text, &len, err);

	if (rc)
		return rc;
	list = malloc((len / 2 + 1) * sizeof(*list));
	if (!list)
		rc = err_set(err, -ENOMEM, "%s: no memory", path);
	p = text + strspn(text, SPACE);
	while (!rc && *p) {
		unsigned long long v = strtoull(p, &end, 10);

		if (*p < '0' || *p > '9' || v > 0xffffffffull ||
		    (*end && !strchr(SPACE, *end))) {
			rc = err_set(
				err, -EINVAL, "%s: '%.*s' is no token id", path,
				(int)min(strcspn(p, SPACE), (size_t)16), p);
			break;
		}
		list[n++] = (u32)v;
		p = end + strspn(end, SPACE);
	}
	if (!rc && p != text + len)
		rc = err_set(err, -EINVAL, "%s: there is a zero byte in it",
			     path);
	free(text);
	if (rc) {
		free(list);
		return rc;
	}
	*ids = list;
	*nr = n;
	return 0;
}
