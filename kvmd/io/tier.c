/* SPDX-License-Identifier: MIT */
/*
 * tier.c - pages to a tier and back, in time
 *
 *	out -> ended (done)
 *	out -> late (done) -> ended (released)
 *
 * All requests of a tier have the same time, so the oldest is the first to be
 * late. A write that was given up may still reach its place, at any time, also
 * after the place was given to another page. Its checksum would tell; but so
 * that nothing is lost that need not be, a write to where a late one may still
 * land is refused.
 */
#include "kvmd/io/tier.h"

#include <errno.h>
#include <stdlib.h>
#include "include/kv/errbuf.h"
#include "lib/clock.h"

#define CLOSE_ROUNDS 100
#define CLOSE_MS     10

int tier_open(const struct tier_ops *ops, const char *arg, u64 bytes,
	      const struct tier_env *env, struct tier **out, char *err)
{
	struct tier *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(err, -ENOMEM, "swap %s: no memory", ops->name);
	t->ops = ops;
	t->env = *env;
	t->bytes = bytes - bytes % TIER_ALIGN;
	t->fd = -1;
	TAILQ_INIT(&t->out);
	TAILQ_INIT(&t->late);
	rc = ops->open(t, arg, err);
	if (rc) {
		free(t);
		return rc;
	}
	if (!t->room)
		t->room = t->bytes;
	*out = t;
	return 0;
}

void tier_close(struct tier *t)
{
	int i;

	if (!t)
		return;
	for (i = 0; t->nr_late && i < CLOSE_ROUNDS; i++)
		tier_wait(t, CLOSE_MS);
	t->ops->close(t);
	if (!t->busy)
		free(t);
}

void *tier_at(struct tier *t, u64 off)
{
	return t->ops->at ? t->ops->at(t, off) : NULL;
}

void tier_forget(struct tier *t, u64 off)
{
	if (t->ops->forget)
		t->ops->forget(t, off);
}

static bool late_write_at(const struct tier *t, u64 off, u32 bytes)
{
	const struct tier_req *req;

	TAILQ_FOREACH(req, &t->late, link)
	{
		if (req->write && req->off < off + bytes &&
		    off < req->off + req->bytes)
			return true;
	}
	return false;
}

static u64 due_ns(const struct tier *t)
{
	return t->env.deadline_ns ? clock_ns() + t->env.deadline_ns : ~0ull;
}

void tier_submit(struct tier_req *req)
{
	struct tier *t = req->tier;

	req->err = 0;
	req->late = false;
	req->stored = req->bytes;
	if (req->write && late_write_at(t, req->off, req->bytes)) {
		req->err = -EBUSY;
		req->done(req);
		return;
	}
	req->due_ns = due_ns(t);
	TAILQ_INSERT_TAIL(&t->out, req, link);
	t->nr_out++;
	t->ops->submit(t, req);
}

void tier_end(struct tier_req *req, int err)
{
	struct tier *t = req->tier;

	if (req->late) {
		TAILQ_REMOVE(&t->late, req, link);
		t->nr_late--;
		req->released(req);
		return;
	}
	TAILQ_REMOVE(&t->out, req, link);
	t->nr_out--;
	req->err = err;
	req->done(req);
}

void tier_kick(struct tier *t)
{
	if (t->ops->kick)
		t->ops->kick(t);
}

void tier_wait(struct tier *t, int ms)
{
	if (t->ops->wait)
		t->ops->wait(t, ms);
}

void tier_deadline(struct tier *t, u64 deadline_ns)
{
	struct tier_req *req;

	t->env.deadline_ns = deadline_ns;
	TAILQ_FOREACH(req, &t->out, link)
	{
		req->due_ns = due_ns(t);
	}
}

u64 tier_due_ns(const struct tier *t)
{
	const struct tier_req *req = TAILQ_FIRST(&t->out);

	return req && req->due_ns != ~0ull ? req->due_ns : 0;
}

void tier_expire(struct tier *t, u64 now)
{
	struct tier_req *req;

	while ((req = TAILQ_FIRST(&t->out)) && req->due_ns <= now) {
		TAILQ_REMOVE(&t->out, req, link);
		t->nr_out--;
		TAILQ_INSERT_TAIL(&t->late, req, link);
		t->nr_late++;
		t->gave_up++;
		req->late = true;
		req->err = -ETIMEDOUT;
		req->done(req);
	}
}
