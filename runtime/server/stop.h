/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_SERVER_STOP_H
#define RUNTIME_SERVER_STOP_H
/*
 * stop.h - strings that end a text, found while the text grows
 *
 * The match that ends first counts, and of those that end at the same byte the
 * one that begins first: so it does not matter in which pieces the text came.
 * Text that may still become a match is held back.
 */
#include "kv/types.h"

#define STOP_MAX       64u /* strings */
#define STOP_BYTES_MAX 4096u /* of all of them */

struct stop_list {
	char *s[STOP_MAX]; /* UTF-8, not empty */
	size_t len[STOP_MAX];
	u32 nr;
	size_t bytes;
};

/**
 * stop_add - one more string
 * @s: copied
 *
 * Return: 0, -EINVAL it is empty, -E2BIG too many or too long, -ENOMEM.
 */
int __must_check stop_add(struct stop_list *l, const char *s, size_t len);
void stop_fini(struct stop_list *l);

/**
 * stop_find - has the text met one?
 * @text: @len bytes of whole characters
 * @from: no match ends at or before this byte: what was looked at before
 * @at: where the match begins
 * @end: where it ends
 */
bool stop_find(const struct stop_list *l, const char *text, size_t len,
	       size_t from, size_t *at, size_t *end);

/* How much of the text can no longer become a part of a match. */
size_t stop_safe(const struct stop_list *l, const char *text, size_t len);

#endif
