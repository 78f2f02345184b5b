/* SPDX-License-Identifier: MIT */
/*
 * trace.c - trace points as crash points, and as probes
 */
#include "kvmd/trace.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <kv/trace.h>
#include "include/kv/errbuf.h"
#include "include/kv/usdt.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"

struct kill_at {
	u32 point; /* 0: none */
	u64 nr_left;
};

static struct kill_at kill_self, kill_client;

/* The rows of trace.h that a revoke passes. */
#define REVOKE_FIRST 90u
#define REVOKE_LAST  99u

/*
 * The semaphores of the probes "point" and "revoke", and beside them whether a
 * kill is armed: one look at all says that nobody cares about any point.
 */
static union {
	struct {
		u16 point, revoke, kill_armed;
	};
	u64 any;
} kvmd_point_semaphore __attribute__((used, section(".probes"), aligned(8)));
__asm__(".set kvmd_revoke_semaphore, kvmd_point_semaphore + 2");

static int read_kill_at(const char *var, struct kill_at *k, char *err)
{
	const char *text = getenv(var);
	const char *name;
	size_t len;
	u32 i;

	k->point = 0;
	if (!text || !*text)
		return 0;
	len = strcspn(text, ":");
	for (i = 1; i < KV_TP_MAX; i++) {
		name = kv_trace_name(i);
		if (name && strlen(name) == len && !strncmp(name, text, len))
			k->point = i;
	}
	k->nr_left = text[len] ? strtoull(text + len + 1, NULL, 10) : 1;
	if (!k->point || !k->nr_left)
		return err_set(err, -EINVAL,
			       "%s=%s: not a trace point and a count", var,
			       text);
	return 0;
}

int trace_setup(char *err)
{
	int rc = read_kill_at("KV_KILL_AT", &kill_self, err);

	if (!rc)
		rc = read_kill_at("KV_KILL_CLIENT_AT", &kill_client, err);
	kvmd_point_semaphore.kill_armed = kill_self.point || kill_client.point;
	return rc;
}

/* The client that a point is about; for extents that are nobody's, any. */
static const struct session *find_victim(const struct kvmd *d, u32 client)
{
	const struct session *s;

	if (client < MM_CLIENT_MAX) {
		s = d->sessions[client];
		return s && !strncmp(s->name, "victim", 6) ? s : NULL;
	}
	TAILQ_FOREACH(s, &d->all, link)
	{
		if (!strncmp(s->name, "victim", 6))
			return s;
	}
	return NULL;
}

static void kill_victim(const struct kvmd *d, u32 client)
{
	const struct session *s = find_victim(d, client);

	if (!s || --kill_client.nr_left)
		return;
	kill_client.point = 0;
	peer_kill(&s->peer);
}

static void __cold point_watched(void *host, u32 point, u32 client, u64 arg)
{
	USDT(kvmd, point, point, client, arg);
	if (point >= REVOKE_FIRST && point <= REVOKE_LAST)
		USDT(kvmd, revoke, point, client, arg);
	if (point == kill_client.point)
		kill_victim(host, client);
	if (point == kill_self.point && !--kill_self.nr_left)
		kill(getpid(), SIGKILL);
}

void trace_point(void *host, u32 point, u32 client, u64 arg)
{
	if (unlikely(READ_ONCE(kvmd_point_semaphore.any)))
		point_watched(host, point, client, arg);
}
