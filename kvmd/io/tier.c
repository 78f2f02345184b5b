/* SPDX-License-Identifier: MIT */
/*
 * tier.c - pages to a tier and back, with their checksums
 */
#include "kvmd/io/tier.h"

#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>
#include "include/kv/errbuf.h"

int tier_open(const struct tier_ops *ops, const char *arg, u64 bytes,
	      struct work_pool *pool, struct tier **out, char *err)
{
	struct tier *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(err, -ENOMEM, "swap %s: no memory", ops->name);
	t->ops = ops;
	t->pool = pool;
	t->bytes = bytes - bytes % TIER_ALIGN;
	rc = ops->open(t, arg, err);
	if (rc) {
		free(t);
		return rc;
	}
	*out = t;
	return 0;
}

void tier_close(struct tier *t)
{
	if (!t)
		return;
	t->ops->close(t);
	free(t);
}

void *tier_at(struct tier *t, u64 off)
{
	return t->ops->at ? t->ops->at(t, off) : NULL;
}

static void tier_run(struct work *w)
{
	struct tier_req *req = container_of(w, struct tier_req, work);
	const struct tier_ops *ops = req->tier->ops;

	if (req->write) {
		req->sum = XXH3_64bits_withSeed(req->buf, req->bytes, req->key);
		if (ops->write)
			req->err = ops->write(req->tier, req->off, req->buf,
					      req->bytes);
		return;
	}
	if (ops->read)
		req->err = ops->read(req->tier, req->off, req->buf, req->bytes);
	if (!req->err &&
	    XXH3_64bits_withSeed(req->buf, req->bytes, req->key) != req->sum)
		req->err = -EBADMSG;
}

static void tier_done(struct work *w)
{
	struct tier_req *req = container_of(w, struct tier_req, work);

	req->done(req);
}

void tier_submit(struct tier_req *req)
{
	req->err = 0;
	req->work.run = tier_run;
	req->work.done = tier_done;
	work_submit(req->tier->pool, &req->work);
}
