/* SPDX-License-Identifier: MIT */
/*
 * dev.c - devices by name
 *
 * A specification is a chain of names: wrappers first, each opens what stands
 * behind its colon and passes on what it does not change.
 */
#include "kvmd/dev/dev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "include/kv/errbuf.h"
#include "include/uapi/kv/abi.h"

static const struct dev_ops *const backends[] = {
	&dev_cpu_ops,
	&dev_error_ops,
	&dev_delay_ops,
};

static const char *const op_names[DEV_OP_NR] = {
	[DEV_POPULATE] = "populate", [DEV_SCRUB] = "scrub",
	[DEV_RELEASE] = "release",   [DEV_COPY] = "copy",
	[DEV_READ] = "read",	     [DEV_WRITE] = "write",
	[DEV_EXPORT] = "export",
};

int dev_open(const char *spec, u64 bytes, struct work_pool *pool,
	     struct keep *keep, struct dev **out, char *err)
{
	size_t len = strcspn(spec, ":");
	const char *args = spec[len] ? spec + len + 1 : "";
	const struct dev_ops *ops = NULL;
	struct dev *dev;
	unsigned int i;
	int rc;

	for (i = 0; i < ARRAY_SIZE(backends); i++) {
		if (strlen(backends[i]->name) == len &&
		    !strncmp(backends[i]->name, spec, len))
			ops = backends[i];
	}
	if (!ops)
		return err_set(err, -ENODEV,
			       "device %.*s: no such backend (cpu; error: and "
			       "delay: in front of it)",
			       (int)len, spec);
	if (bytes < KV_EXTENT_SIZE || bytes > 1ull << 46)
		return err_set(
			err, -EINVAL,
			"device %s: a size of %llu bytes is not possible "
			"(8M .. 64T)",
			spec, (unsigned long long)bytes);
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return err_set(err, -ENOMEM, "device %s: no memory", spec);
	dev->ops = ops;
	dev->pool = pool;
	dev->keep = keep;
	dev->nr_extents = (u32)(bytes >> KV_EXTENT_SHIFT);
	dev->bytes = (u64)dev->nr_extents << KV_EXTENT_SHIFT;
	rc = ops->open(dev, args, dev->bytes, err);
	if (rc) {
		free(dev);
		return rc;
	}
	*out = dev;
	return 0;
}

void dev_adopt(struct dev *dev)
{
	dev->ops->adopt(dev);
}

void dev_close(struct dev *dev)
{
	if (!dev)
		return;
	dev->ops->close(dev);
	free(dev);
}

void dev_submit(struct dev *dev, struct dev_req *req)
{
	req->err = 0;
	dev->ops->submit(dev, req);
}

const char *dev_op_name(enum dev_op op)
{
	return op_names[op];
}
