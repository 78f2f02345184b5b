/* SPDX-License-Identifier: MIT */
/*
 * sse.c - events out of a text/event-stream, cut anywhere
 *
 * A line ends with LF, CR or CRLF; an empty one ends the event, whose "data"
 * fields are joined by LF. Comments, which keep a connection awake, and
 * fields of other names are passed over.
 */
#include "tools/kvbench/serve/sse.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void sse_init(struct sse *s, sse_event_fn event, void *arg)
{
	memset(s, 0, sizeof(*s));
	s->event = event;
	s->arg = arg;
}

void sse_fini(struct sse *s)
{
	free(s->line);
	free(s->data);
	s->line = s->data = NULL;
	s->line_room = s->data_room = 0;
}

void sse_reset(struct sse *s)
{
	s->line_len = s->data_len = 0;
	s->has_data = s->error = s->after_cr = s->past_bom = false;
	s->nr_comments = 0;
}

static int append(char **buf, size_t *len, size_t *room, const char *p,
		  size_t n)
{
	size_t want = *len + n + 1;
	char *b;

	if (want > SSE_EVENT_MAX)
		return -E2BIG;
	if (want > *room) {
		want = max(want, 2 * *room + 256);
		b = realloc(*buf, want);
		if (!b)
			return -ENOMEM;
		*buf = b;
		*room = want;
	}
	memcpy(*buf + *len, p, n);
	*len += n;
	(*buf)[*len] = '\0';
	return 0;
}

static int dispatch(struct sse *s)
{
	struct sse_event e = { .error = s->error };
	bool has = s->has_data;

	s->has_data = s->error = false;
	e.len = s->data_len;
	s->data_len = 0;
	if (!has)
		return 0;
	e.data = s->data;
	return s->event(s->arg, &e);
}

static int take_field(struct sse *s, const char *value, size_t len)
{
	int rc;

	if (s->has_data) {
		rc = append(&s->data, &s->data_len, &s->data_room, "\n", 1);
		if (rc)
			return rc;
	}
	s->has_data = true;
	return append(&s->data, &s->data_len, &s->data_room, value, len);
}

static bool is_name(const char *p, size_t len, const char *name)
{
	return len == strlen(name) && !memcmp(p, name, len);
}

static int take_line(struct sse *s)
{
	const char *p = s->line, *colon, *v;
	size_t len = s->line_len, name_len;

	s->line_len = 0;
	if (!s->past_bom && len >= 3 && !memcmp(p, "\xef\xbb\xbf", 3)) {
		p += 3;
		len -= 3;
	}
	s->past_bom = true;
	if (!len)
		return dispatch(s);
	colon = memchr(p, ':', len);
	name_len = colon ? (size_t)(colon - p) : len;
	if (!name_len) {
		s->nr_comments++;
		return 0;
	}
	v = colon ? colon + 1 : p + len;
	if (v < p + len && *v == ' ')
		v++;
	len -= (size_t)(v - p);
	if (is_name(p, name_len, "data"))
		return take_field(s, v, len);
	if (is_name(p, name_len, "error")) {
		s->error = true;
		return take_field(s, v, len);
	}
	if (is_name(p, name_len, "event"))
		s->error = is_name(v, len, "error");
	return 0;
}

int sse_parse(struct sse *s, const char *p, size_t len)
{
	size_t at = 0, n;
	int rc;

	while (at < len) {
		if (s->after_cr) {
			s->after_cr = false;
			if (p[at] == '\n') {
				at++;
				continue;
			}
		}
		for (n = at; n < len && p[n] != '\n' && p[n] != '\r'; n++)
			;
		rc = append(&s->line, &s->line_len, &s->line_room, p + at,
			    n - at);
		if (rc)
			return rc;
		if (n == len)
			return 0;
		s->after_cr = p[n] == '\r';
		at = n + 1;
		rc = take_line(s);
		if (rc)
			return rc;
	}
	return 0;
}
