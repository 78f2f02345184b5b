/* SPDX-License-Identifier: MIT */
/*
 * text.c - text that grows at its end
 */
#include "tools/kvbench/serve/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_fini(struct text *t)
{
	free(t->p);
	memset(t, 0, sizeof(*t));
}

static bool make_room(struct text *t, size_t len)
{
	size_t room = max(t->len + len + 1, 2 * t->room + 64);
	char *p;

	if (t->failed || t->len + len < t->room)
		return !t->failed;
	p = realloc(t->p, room);
	if (!p) {
		t->failed = true;
		return false;
	}
	t->p = p;
	t->room = room;
	return true;
}

void text_put(struct text *t, const char *p, size_t len)
{
	if (!make_room(t, len))
		return;
	memcpy(t->p + t->len, p, len);
	t->len += len;
	t->p[t->len] = '\0';
}

void text_puts(struct text *t, const char *s)
{
	text_put(t, s, strlen(s));
}

void text_printf(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !make_room(t, (size_t)n))
		return;
	va_start(ap, fmt);
	vsnprintf(t->p + t->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	t->len += (size_t)n;
}

void text_put_u32(struct text *t, u32 v)
{
	char buf[10], *p = buf + sizeof(buf);

	do {
		*--p = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	text_put(t, p, (size_t)(buf + sizeof(buf) - p));
}

void text_put_escaped(struct text *t, const char *p, size_t len)
{
	size_t i, from = 0;

	for (i = 0; i < len; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c >= ' ' && c != '"' && c != '\\')
			continue;
		text_put(t, p + from, i - from);
		from = i + 1;
		if (c >= ' ')
			text_printf(t, "\\%c", c);
		else
			text_printf(t, "\\u%04x", c);
	}
	text_put(t, p + from, len - from);
}
