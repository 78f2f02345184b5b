/* SPDX-License-Identifier: MIT */
/*
 * events.c - the last things that happened
 */
#include "kvmd/ctl/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void event_add(struct event_log *log, u64 now_ns, enum log_level level,
	       const char *event, u32 client, const char *tenant,
	       const char *fmt, ...)
{
	struct event_record *r;
	va_list ap;

	if (!log->next)
		log->next = 1;
	r = &log->ring[log->next % EVENT_LOG_MAX];
	memset(r, 0, sizeof(*r));
	r->seq = log->next++;
	r->time_ns = now_ns;
	r->event = event;
	r->client = client;
	if (tenant)
		snprintf(r->tenant, sizeof(r->tenant), "%s", tenant);
	va_start(ap, fmt);
	vsnprintf(r->message, sizeof(r->message), fmt, ap);
	va_end(ap);
	if (client == EVENT_NOBODY)
		log_write(level, event, "text=\"%s\"", r->message);
	else
		log_write(level, event, "client=%u tenant=\"%s\" text=\"%s\"",
			  client, r->tenant, r->message);
}

const struct event_record *event_get(const struct event_log *log, u64 seq)
{
	const struct event_record *r = &log->ring[seq % EVENT_LOG_MAX];

	return seq && r->seq == seq ? r : NULL;
}
