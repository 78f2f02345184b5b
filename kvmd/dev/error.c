/* SPDX-License-Identifier: MIT */
/*
 * error.c - a device whose operations fail as configured
 *
 * `--device error:cpu` with KV_FAULT in the environment: a list of
 * OP:NTH[+][:ERROR]. The NTH operation of that kind fails (with "+" each one
 * from there on) with ENOMEM, or with the error named: EIO ENOSPC EMFILE.
 * The failure is told as a real one would be, later and on the loop.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "include/kv/errbuf.h"
#include "kvmd/dev/wrap.h"

#define RULES_MAX 16

struct fault_rule {
	enum dev_op op;
	u64 nth;
	bool onwards;
	int err;
};

struct error_dev {
	struct wrap wrap;
	struct fault_rule rules[RULES_MAX];
	unsigned int nr_rules;
	u64 count[DEV_OP_NR];
};

static const struct {
	const char *name;
	int err;
} error_names[] = {
	{ "ENOMEM", -ENOMEM },
	{ "EIO", -EIO },
	{ "ENOSPC", -ENOSPC },
	{ "EMFILE", -EMFILE },
};

static int error_rule(void *priv, enum dev_op op, u64 nth, const char *rest,
		      size_t len)
{
	struct error_dev *e = priv;
	struct fault_rule *r = &e->rules[e->nr_rules];
	unsigned int i;

	if (e->nr_rules == RULES_MAX || !nth)
		return -EINVAL;
	*r = (struct fault_rule){ .op = op, .nth = nth, .err = -ENOMEM };
	if (len && *rest == '+') {
		r->onwards = true;
		rest++;
		len--;
	}
	e->nr_rules++;
	if (!len)
		return 0;
	for (i = 0; *rest == ':' && i < ARRAY_SIZE(error_names); i++) {
		if (strlen(error_names[i].name) == len - 1 &&
		    !strncmp(error_names[i].name, rest + 1, len - 1)) {
			r->err = error_names[i].err;
			return 0;
		}
	}
	return -EINVAL;
}

static int error_open(struct dev *dev, const char *args, u64 bytes, char *err)
{
	struct error_dev *e = calloc(1, sizeof(*e));
	int rc;

	if (!e)
		return err_set(err, -ENOMEM, "device error: no memory");
	dev->priv = e;
	rc = wrap_rules("KV_FAULT", error_rule, e, err);
	if (!rc)
		rc = wrap_open(dev, args, bytes, err);
	if (rc)
		free(e);
	return rc;
}

/* Count one operation; the error that it is to fail with, or 0. */
static int error_next(struct error_dev *e, enum dev_op op)
{
	u64 n = ++e->count[op];
	unsigned int i;

	for (i = 0; i < e->nr_rules; i++) {
		const struct fault_rule *r = &e->rules[i];

		if (r->op == op && (r->onwards ? n >= r->nth : n == r->nth))
			return r->err;
	}
	return 0;
}

static void error_run(struct work *w)
{
}

static void error_done(struct work *w)
{
	struct dev_req *req = container_of(w, struct dev_req, work);

	req->done(req);
}

static void error_submit(struct dev *dev, struct dev_req *req)
{
	req->err = error_next(dev->priv, req->op);
	if (!req->err) {
		wrap_submit(dev, req);
		return;
	}
	req->dev = dev;
	req->work.run = error_run;
	req->work.done = error_done;
	work_submit(dev->pool, &req->work);
}

static int error_export(struct dev *dev, u32 extent, u32 client)
{
	int rc = error_next(dev->priv, DEV_EXPORT);

	return rc ? rc : wrap_export(dev, extent, client);
}

const struct dev_ops dev_error_ops = {
	.name = "error",
	.open = error_open,
	.close = wrap_close,
	.submit = error_submit,
	.export = error_export,
	.resident = wrap_resident,
	.extent_fd = wrap_extent_fd,
	.stream_gone = wrap_stream_gone,
	.fence = wrap_fence,
	.audit = wrap_audit,
	.client_gone = wrap_client_gone,
	.facts = wrap_facts,
	.adopt = wrap_adopt,
};
