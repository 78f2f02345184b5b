/* SPDX-License-Identifier: MIT */
#ifndef KVMD_CTL_EVENTS_H
#define KVMD_CTL_EVENTS_H
/*
 * events.h - the last things that happened, for `kvctl events list`
 *
 * A ring of EVENT_LOG_MAX records; old ones are overwritten. Each is logged
 * as well.
 */
#include <kv/abi.h>
#include "include/kv/types.h"
#include "kvmd/log.h"

#define EVENT_LOG_MAX 256u
#define EVENT_NOBODY  0xffffffffu

struct event_record {
	u64 seq;
	u64 time_ns;
	const char *event; /* one of the words in Documentation/abi/ctl.rst */
	u32 client; /* EVENT_NOBODY: none */
	char tenant[KV_NAME_LEN]; /* "": none */
	char message[160];
};

struct event_log {
	struct event_record ring[EVENT_LOG_MAX];
	u64 next; /* seq of the next one, the first is 1 */
};

/**
 * event_add - remember and log
 * @log: events
 * @now_ns: CLOCK_MONOTONIC
 * @level: for the log
 * @event: word, a constant
 * @client: index or EVENT_NOBODY
 * @tenant: name or NULL
 * @fmt: sentence; text from outside must be log_text()ed
 */
void __printf(7, 8)
	event_add(struct event_log *log, u64 now_ns, enum log_level level,
		  const char *event, u32 client, const char *tenant,
		  const char *fmt, ...);
/* event_get - record @seq, or NULL if it is not there (any more) */
const struct event_record *event_get(const struct event_log *log, u64 seq);

#endif
