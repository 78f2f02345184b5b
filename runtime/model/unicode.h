/* SPDX-License-Identifier: MIT */
#ifndef RUNTIME_MODEL_UNICODE_H
#define RUNTIME_MODEL_UNICODE_H
/*
 * unicode.h - UTF-8 and the character classes that tokenizers ask for
 */
#include "kv/types.h"

enum unicode_class {
	UNICODE_OTHER, /* marks, punctuation, symbols, controls, unassigned */
	UNICODE_LETTER,
	UNICODE_NUMBER,
	UNICODE_SPACE,
};

#define UNICODE_INVALID	    0xffffffffu
#define UNICODE_REPLACEMENT "\xef\xbf\xbd"

/**
 * utf8_decode - the character at the start of a text
 * @s: the text, @len bytes of it, at least 1
 * @cp: set to the code point, or UNICODE_INVALID
 *
 * Strict: no overlong form, no surrogate, nothing above U+10FFFF.
 * Return: bytes used, 1 for an invalid byte.
 */
size_t utf8_decode(const char *s, size_t len, u32 *cp);

/**
 * utf8_check - what the bytes at @s may be
 *
 * Return: the length of the character there; 0 if the @len bytes are the
 * beginning of one; minus the number of bytes to replace by one U+FFFD if
 * they can never be one.
 */
int utf8_check(const char *s, size_t len);

/* Encode @cp at @out (4 bytes of room). Return: bytes written. */
size_t utf8_encode(u32 cp, char *out);

enum unicode_class unicode_class(u32 cp);

/* May this go to a terminal? Not UNICODE_INVALID, nor what controls it. */
static inline bool unicode_is_text(u32 cp)
{
	return cp >= 0x20 && cp != UNICODE_INVALID && (cp < 0x7f || cp > 0x9f);
}

#endif
