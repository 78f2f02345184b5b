/* SPDX-License-Identifier: MIT */
/*
 * http.c - reading an HTTP/1.1 answer piece by piece
 *
 *	status -> header -> chunk size -> chunk -> chunk end -> ... -> trailer
 *	                 -> length                                  -> done
 *	                 -> until eof
 *
 * Only lines are kept, one at a time, and they are bounded; the body goes on
 * as it comes. An answer with a 1xx status is dropped, another one follows.
 */
#include "tools/kvbench/serve/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEAD_BYTES_MAX 65536u

void http_init(struct http *h, http_body_fn body, void *arg)
{
	h->state = HTTP_STATUS;
	h->body = body;
	h->arg = arg;
	h->status = 0;
	h->keep_alive = true;
	h->chunked = h->has_length = h->event_stream = h->is_json = false;
	h->left = 0;
	h->line_len = h->head_bytes = 0;
	h->why = NULL;
}

static int bad(struct http *h, const char *why)
{
	h->state = HTTP_BAD;
	h->why = why;
	return -EPROTO;
}

static int take_status(struct http *h)
{
	const char *s = h->line;

	if (strncmp(s, "HTTP/1.", 7) || (s[7] != '0' && s[7] != '1') ||
	    s[8] != ' ')
		return bad(h, "no HTTP/1.1 status line");
	if (s[9] < '1' || s[9] > '5' || s[10] < '0' || s[10] > '9' ||
	    s[11] < '0' || s[11] > '9' || (s[12] && s[12] != ' '))
		return bad(h, "no status in the status line");
	h->status = (s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0');
	h->keep_alive = s[7] == '1';
	h->state = HTTP_HEADER;
	return 0;
}

/* The value of header @name if the line is one, without blanks around it. */
static const char *header(struct http *h, const char *name)
{
	size_t n = strlen(name);
	char *v;

	if (strncasecmp(h->line, name, n) || h->line[n] != ':')
		return NULL;
	v = h->line + n + 1;
	v += strspn(v, " \t");
	for (n = strlen(v); n && (v[n - 1] == ' ' || v[n - 1] == '\t'); n--)
		v[n - 1] = '\0';
	return v;
}

static int take_length(struct http *h, const char *v)
{
	char *end;
	u64 n;

	errno = 0;
	n = strtoull(v, &end, 10);
	if (*v < '0' || *v > '9' || *end || errno)
		return bad(h, "Content-Length is no number");
	if (h->has_length && h->left != n)
		return bad(h, "two different lengths");
	h->has_length = true;
	h->left = n;
	return 0;
}

static int take_header(struct http *h)
{
	const char *v;

	if (!strchr(h->line, ':'))
		return bad(h, "a header without a colon");
	v = header(h, "Content-Length");
	if (v)
		return take_length(h, v);
	v = header(h, "Transfer-Encoding");
	if (v) {
		if (strcasecmp(v, "chunked"))
			return bad(h, "an unknown Transfer-Encoding");
		h->chunked = true;
	}
	v = header(h, "Connection");
	if (v && strcasestr(v, "close"))
		h->keep_alive = false;
	else if (v && strcasestr(v, "keep-alive"))
		h->keep_alive = true;
	v = header(h, "Content-Type");
	if (v) {
		h->event_stream = !strncasecmp(v, "text/event-stream", 17);
		h->is_json = !strncasecmp(v, "application/json", 16);
	}
	return 0;
}

static void head_ends(struct http *h)
{
	if (h->status < 200)
		http_init(h, h->body, h->arg);
	else if (h->status == 204 || h->status == 304)
		h->state = HTTP_DONE;
	else if (h->chunked)
		h->state = HTTP_CHUNK_SIZE;
	else if (h->has_length)
		h->state = h->left ? HTTP_LENGTH : HTTP_DONE;
	else
		h->state = HTTP_UNTIL_EOF;
}

static int take_chunk_size(struct http *h)
{
	u64 n = 0;
	u32 i;

	for (i = 0; h->line[i]; i++) {
		char c = h->line[i];
		int d = c >= '0' && c <= '9'   ? c - '0'
			: c >= 'a' && c <= 'f' ? c - 'a' + 10
			: c >= 'A' && c <= 'F' ? c - 'A' + 10
					       : -1;

		if (d < 0)
			break;
		if (n >> 48)
			return bad(h, "a chunk without end");
		n = n * 16 + (u64)d;
	}
	if (!i || (h->line[i] && !strchr("; \t", h->line[i])))
		return bad(h, "no size of a chunk");
	h->left = n;
	h->state = n ? HTTP_CHUNK : HTTP_TRAILER;
	return 0;
}

/* h->line is whole. */
static int take_line(struct http *h)
{
	switch (h->state) {
	case HTTP_STATUS:
		return h->line_len ? take_status(h) : 0;
	case HTTP_HEADER:
		if (h->line_len)
			return take_header(h);
		head_ends(h);
		return 0;
	case HTTP_CHUNK_SIZE:
		return take_chunk_size(h);
	case HTTP_CHUNK_END:
		if (h->line_len)
			return bad(h, "a chunk longer than it says");
		h->state = HTTP_CHUNK_SIZE;
		return 0;
	case HTTP_TRAILER:
		if (!h->line_len)
			h->state = HTTP_DONE;
		return 0;
	default:
		return bad(h, "a line where none belongs");
	}
}

static int line_bytes(struct http *h, const char *p, size_t len, size_t *used)
{
	const char *nl = memchr(p, '\n', len);
	size_t n = nl ? (size_t)(nl - p) : len;
	int rc;

	*used = n + (nl != NULL);
	if (h->line_len + n >= HTTP_LINE)
		return bad(h, "a line that is too long");
	memcpy(h->line + h->line_len, p, n);
	h->line_len += (u32)n;
	if (!nl)
		return 0;
	/* Of the head only: chunk sizes come as long as the answer does. */
	if (h->state <= HTTP_HEADER || h->state == HTTP_TRAILER) {
		h->head_bytes += h->line_len;
		if (h->head_bytes > HEAD_BYTES_MAX)
			return bad(h, "headers without end");
	}
	if (h->line_len && h->line[h->line_len - 1] == '\r')
		h->line_len--;
	h->line[h->line_len] = '\0';
	if (strlen(h->line) != h->line_len)
		return bad(h, "a zero byte in a line");
	rc = take_line(h);
	h->line_len = 0;
	return rc;
}

static int body_bytes(struct http *h, const char *p, size_t len, size_t *used)
{
	size_t n = len;
	int rc;

	if (h->state != HTTP_UNTIL_EOF)
		n = min((u64)n, h->left);
	*used = n;
	rc = h->body ? h->body(h->arg, p, n) : 0;
	if (rc || h->state == HTTP_UNTIL_EOF)
		return rc;
	h->left -= n;
	if (!h->left)
		h->state = h->state == HTTP_CHUNK ? HTTP_CHUNK_END : HTTP_DONE;
	return 0;
}

int http_parse(struct http *h, const char *p, size_t len, size_t *used)
{
	size_t at = 0, n;
	int rc = 0;

	while (at < len && !rc && h->state < HTTP_DONE) {
		if (h->state == HTTP_CHUNK || h->state == HTTP_LENGTH ||
		    h->state == HTTP_UNTIL_EOF)
			rc = body_bytes(h, p + at, len - at, &n);
		else
			rc = line_bytes(h, p + at, len - at, &n);
		at += n;
	}
	*used = at;
	if (rc)
		return rc;
	return h->state == HTTP_BAD ? -EPROTO : h->state == HTTP_DONE;
}

int http_eof(struct http *h)
{
	if (h->state == HTTP_DONE)
		return 1;
	if (h->state == HTTP_UNTIL_EOF) {
		h->state = HTTP_DONE;
		h->keep_alive = false;
		return 1;
	}
	if (h->state != HTTP_BAD)
		h->why = h->status || h->line_len
				 ? "the connection ended within the answer"
				 : "the connection ended without an answer";
	h->state = HTTP_BAD;
	return -EPROTO;
}
