/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_HTTP_H
#define TOOLS_KVBENCH_SERVE_HTTP_H
/*
 * http.h - reading an HTTP/1.1 answer piece by piece
 *
 * Pieces may be cut anywhere. The body is handed on as it comes, without
 * the framing (chunks, length or the end of the connection).
 */
#include "include/kv/types.h"

#define HTTP_LINE 4096

enum http_state {
	HTTP_STATUS,
	HTTP_HEADER,
	HTTP_CHUNK_SIZE,
	HTTP_CHUNK,
	HTTP_CHUNK_END,
	HTTP_TRAILER,
	HTTP_LENGTH, /* a body of known length */
	HTTP_UNTIL_EOF,
	HTTP_DONE,
	HTTP_BAD,
};

/* Return: 0 to go on, else -errno, which http_parse() hands back. */
typedef int (*http_body_fn)(void *arg, const char *p, size_t len);

struct http {
	enum http_state state;
	http_body_fn body;
	void *arg;
	int status; /* 0 until it has come */
	bool keep_alive, chunked, has_length;
	bool event_stream, is_json; /* what Content-Type says */
	u64 left; /* of the body or of the chunk */
	u32 line_len, head_bytes;
	const char *why; /* it is no HTTP */
	char line[HTTP_LINE];
};

void http_init(struct http *h, http_body_fn body, void *arg);

/**
 * http_parse - take the next bytes of the connection
 * @used: how many of them belonged to this answer
 *
 * Return: 1 when the answer is whole, 0 if more is to come, -EPROTO if this
 * is no HTTP (h->why), or what the body's function returned.
 */
int __must_check http_parse(struct http *h, const char *p, size_t len,
			    size_t *used);

/* http_eof - the connection has ended: 1 if that ends the answer, -EPROTO */
int __must_check http_eof(struct http *h);

#endif
