/* SPDX-License-Identifier: MIT */
/*
 * stop.c - strings that end a text
 *
 * Both the text and the strings are UTF-8, and a string begins with the first
 * byte of a character: so does every match, and every part of one that is held
 * back. No character is cut.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/server/stop.h"

int stop_add(struct stop_list *l, const char *s, size_t len)
{
	char *copy;

	if (!len)
		return -EINVAL;
	if (l->nr == STOP_MAX || len > STOP_BYTES_MAX - l->bytes)
		return -E2BIG;
	copy = malloc(len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, s, len);
	l->s[l->nr] = copy;
	l->len[l->nr++] = len;
	l->bytes += len;
	return 0;
}

void stop_fini(struct stop_list *l)
{
	u32 i;

	for (i = 0; i < l->nr; i++)
		free(l->s[i]);
	l->nr = 0;
	l->bytes = 0;
}

bool stop_find(const struct stop_list *l, const char *text, size_t len,
	       size_t from, size_t *at, size_t *end)
{
	size_t e, longest;
	u32 i;

	for (e = from + 1; l->nr && e <= len; e++) {
		longest = 0;
		for (i = 0; i < l->nr; i++)
			if (l->len[i] <= e && l->len[i] > longest &&
			    !memcmp(text + e - l->len[i], l->s[i], l->len[i]))
				longest = l->len[i];
		if (!longest)
			continue;
		*at = e - longest;
		*end = e;
		return true;
	}
	return false;
}

size_t stop_safe(const struct stop_list *l, const char *text, size_t len)
{
	size_t held = 0, k;
	u32 i;

	for (i = 0; i < l->nr; i++)
		for (k = min(l->len[i] - 1, len); k > held; k--)
			if (!memcmp(text + len - k, l->s[i], k)) {
				held = k;
				break;
			}
	return len - held;
}
