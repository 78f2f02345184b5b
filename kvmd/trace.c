/* SPDX-License-Identifier: MIT */
/*
 * trace.c - trace points as crash points
 */
#include "kvmd/trace.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kv/trace.h>
#include "include/kv/errbuf.h"

static struct {
	u32 point; /* 0: none */
	u64 nr_left;
} kill_at;

int trace_setup(char *err)
{
	const char *text = getenv("KV_KILL_AT");
	const char *name;
	size_t len;
	u32 i;

	kill_at.point = 0;
	if (!text || !*text)
		return 0;
	len = strcspn(text, ":");
	for (i = 1; i < KV_TP_MAX; i++) {
		name = kv_trace_name(i);
		if (name && strlen(name) == len && !strncmp(name, text, len))
			kill_at.point = i;
	}
	kill_at.nr_left = text[len] ? strtoull(text + len + 1, NULL, 10) : 1;
	if (!kill_at.point || !kill_at.nr_left)
		return err_set(err, -EINVAL,
			       "KV_KILL_AT=%s: not a trace point and a count",
			       text);
	return 0;
}

void trace_point(void *host, u32 point, u32 client, u64 arg)
{
	if (likely(point != kill_at.point))
		return;
	if (!--kill_at.nr_left)
		kill(getpid(), SIGKILL);
}
