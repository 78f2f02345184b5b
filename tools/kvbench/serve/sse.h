/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KVBENCH_SERVE_SSE_H
#define TOOLS_KVBENCH_SERVE_SSE_H
/*
 * sse.h - events out of a text/event-stream, cut anywhere
 */
#include "include/kv/types.h"

#define SSE_EVENT_MAX (1u << 20)

struct sse_event {
	const char *data; /* ends with a zero byte */
	size_t len;
	bool error; /* "event: error", or a field "error" */
};

/* Return: 0 to go on, else -errno, which sse_parse() hands back. */
typedef int (*sse_event_fn)(void *arg, const struct sse_event *e);

struct sse {
	sse_event_fn event;
	void *arg;
	char *line, *data;
	size_t line_len, line_room, data_len, data_room;
	bool has_data, error, after_cr, past_bom;
	u32 nr_comments;
};

void sse_init(struct sse *s, sse_event_fn event, void *arg);
void sse_fini(struct sse *s);
/* sse_reset - of the same object: another stream, the memory kept */
void sse_reset(struct sse *s);

/**
 * sse_parse - take the next bytes of the stream
 *
 * An event that the stream's end cuts off is none.
 *
 * Return: 0, -E2BIG (an event of more than SSE_EVENT_MAX), -ENOMEM, or what
 * the event's function returned.
 */
int __must_check sse_parse(struct sse *s, const char *p, size_t len);

#endif
