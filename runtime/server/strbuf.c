/* SPDX-License-Identifier: MIT */
/*
 * strbuf.c - text that grows, and the JSON in it
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/unicode.h"
#include "runtime/server/strbuf.h"

#define FIRST_CAP 256u
#define LARGEST	  9999.0 /* of a logarithm, as vLLM writes it */

void strbuf_free(struct strbuf *b)
{
	free(b->p);
	*b = (struct strbuf){ 0 };
}

/* Room for @more bytes and a NUL. */
static bool reserve(struct strbuf *b, size_t more)
{
	size_t cap = b->cap;
	char *p;

	if (b->failed)
		return false;
	if (b->len + more < cap)
		return true;
	cap = max(2 * cap, b->len + more + 1);
	cap = max(cap, (size_t)FIRST_CAP);
	p = realloc(b->p, cap);
	if (!p) {
		b->failed = true;
		return false;
	}
	b->p = p;
	b->cap = cap;
	return true;
}

void strbuf_add(struct strbuf *b, const char *s, size_t len)
{
	if (!reserve(b, len))
		return;
	memcpy(b->p + b->len, s, len);
	b->len += len;
	b->p[b->len] = '\0';
}

void strbuf_puts(struct strbuf *b, const char *s)
{
	strbuf_add(b, s, strlen(s));
}

void strbuf_printf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !reserve(b, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(b->p + b->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void strbuf_put_uint(struct strbuf *b, u64 v)
{
	char digits[20];
	size_t at = sizeof(digits);

	do
		digits[--at] = (char)('0' + v % 10);
	while (v /= 10);
	strbuf_add(b, digits + at, sizeof(digits) - at);
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void put_special(struct strbuf *b, unsigned char c)
{
	switch (c) {
	case '"':
		strbuf_puts(b, "\\\"");
		break;
	case '\\':
		strbuf_puts(b, "\\\\");
		break;
	case '\n':
		strbuf_puts(b, "\\n");
		break;
	case '\r':
		strbuf_puts(b, "\\r");
		break;
	case '\t':
		strbuf_puts(b, "\\t");
		break;
	default:
		strbuf_printf(b, "\\u%04x", c);
	}
}

void strbuf_put_escaped(struct strbuf *b, const char *s, size_t len)
{
	size_t i = 0, from;
	u32 cp;

	while (i < len) {
		for (from = i; i < len && is_plain((unsigned char)s[i]); i++)
			;
		strbuf_add(b, s + from, i - from);
		if (i == len)
			break;
		if ((unsigned char)s[i] < 0x80) {
			put_special(b, (unsigned char)s[i++]);
			continue;
		}
		from = i;
		i += utf8_decode(s + i, len - i, &cp);
		if (cp == UNICODE_INVALID)
			strbuf_puts(b, "\xef\xbf\xbd");
		else
			strbuf_add(b, s + from, i - from);
	}
}

void strbuf_put_json(struct strbuf *b, const char *s, size_t len)
{
	strbuf_add(b, "\"", 1);
	strbuf_put_escaped(b, s, len);
	strbuf_add(b, "\"", 1);
}

void strbuf_put_real(struct strbuf *b, double v)
{
	if (isnan(v))
		v = 0.0;
	if (v > LARGEST)
		v = LARGEST;
	strbuf_printf(b, "%.7g", v > -LARGEST ? v : -LARGEST);
}

void strbuf_put_ids(struct strbuf *b, const u32 *ids, size_t nr)
{
	size_t i;

	strbuf_add(b, "[", 1);
	for (i = 0; i < nr; i++) {
		if (i)
			strbuf_add(b, ",", 1);
		strbuf_put_uint(b, ids[i]);
	}
	strbuf_add(b, "]", 1);
}
