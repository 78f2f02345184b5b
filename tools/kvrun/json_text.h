/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVRUN_JSON_TEXT_H
#define TOOLS_KVRUN_JSON_TEXT_H
/*
 * json_text.h - the little JSON that kvrun speaks: strings and id lists
 */
#include <stdio.h>

#include "kv/types.h"

/**
 * json_put_str - write @len bytes as a JSON string, quotes included
 *
 * The output is valid UTF-8 whatever the bytes are: what is none becomes
 * U+FFFD.
 */
void json_put_str(FILE *out, const char *s, size_t len);

/* Write [1,2,3]. */
void json_put_ids(FILE *out, const u32 *ids, size_t nr);

/**
 * json_get_str - read one JSON string
 * @in: @len bytes, the string and nothing but white space around it
 * @out: set on success to a buffer to free(); may hold NUL bytes
 * @out_len: its length
 *
 * An escaped surrogate without its partner becomes the three bytes that
 * would encode it, which are no UTF-8.
 * Return: 0, -EINVAL, -ENOMEM.
 */
int __must_check json_get_str(const char *in, size_t len, char **out,
			      size_t *out_len);

#endif
