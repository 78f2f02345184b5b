/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVRUN_READ_FILE_H
#define TOOLS_KVRUN_READ_FILE_H
#include "kv/errbuf.h"
#include "kv/types.h"

/**
 * read_file - all bytes of a file
 * @path: its name, "-" is standard input
 * @text: set on success to a NUL-terminated buffer to free()
 *
 * Return: 0 or -errno.
 */
int __must_check read_file(const char *path, char **text, size_t *len,
			   char *err);

/**
 * read_ids - the token ids of a file, separated by white space
 * @ids: set on success to an array to free()
 *
 * Return: 0, -EINVAL for what is no id, or -errno.
 */
int __must_check read_ids(const char *path, u32 **ids, size_t *nr, char *err);

#endif
