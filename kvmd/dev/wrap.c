/* SPDX-License-Identifier: MIT */
/*
 * wrap.c - what devices that stand in front of another one have in common
 */
#include "kvmd/dev/wrap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "include/kv/errbuf.h"

static struct dev *inner(struct dev *dev)
{
	return ((struct wrap *)dev->priv)->inner;
}

int wrap_open(struct dev *dev, const char *args, u64 bytes, char *err)
{
	struct wrap *w = dev->priv;

	if (!*args)
		return err_set(err, -EINVAL,
			       "device %s: needs another device behind it, "
			       "such as %s:cpu",
			       dev->ops->name, dev->ops->name);
	return dev_open(args, bytes, dev->pool, dev->keep, &w->inner, err);
}

void wrap_close(struct dev *dev)
{
	dev_close(inner(dev));
	free(dev->priv);
}

void wrap_submit(struct dev *dev, struct dev_req *req)
{
	inner(dev)->ops->submit(inner(dev), req);
}

int wrap_export(struct dev *dev, u32 extent, u32 client)
{
	return inner(dev)->ops->export(inner(dev), extent, client);
}

s64 wrap_resident(struct dev *dev, u32 extent)
{
	return inner(dev)->ops->resident(inner(dev), extent);
}

int wrap_extent_fd(struct dev *dev, u32 extent)
{
	return inner(dev)->ops->extent_fd(inner(dev), extent);
}

bool wrap_stream_gone(struct dev *dev, u32 client, bool process_gone)
{
	return inner(dev)->ops->stream_gone(inner(dev), client, process_gone);
}

bool wrap_fence(struct dev *dev, const u64 *completed, u64 step)
{
	return inner(dev)->ops->fence(inner(dev), completed, step);
}

u32 wrap_audit(struct dev *dev,
	       void (*touched)(void *ctx, u32 client, u32 extent, u64 bytes),
	       void *ctx)
{
	return inner(dev)->ops->audit(inner(dev), touched, ctx);
}

void wrap_client_gone(struct dev *dev, u32 client)
{
	inner(dev)->ops->client_gone(inner(dev), client);
}

void wrap_facts(struct dev *dev, struct dev_facts *out)
{
	inner(dev)->ops->facts(inner(dev), out);
}

void wrap_adopt(struct dev *dev)
{
	inner(dev)->ops->adopt(inner(dev));
}

static int parse_op(const char *word, size_t len, enum dev_op *out)
{
	unsigned int i;

	for (i = 0; i < DEV_OP_NR; i++) {
		if (strlen(dev_op_name(i)) == len &&
		    !strncmp(dev_op_name(i), word, len)) {
			*out = (enum dev_op)i;
			return 0;
		}
	}
	return -EINVAL;
}

int wrap_rules(const char *name,
	       int (*rule)(void *priv, enum dev_op op, u64 number,
			   const char *rest, size_t rest_len),
	       void *priv, char *err)
{
	const char *text = getenv(name), *p = text;
	enum dev_op op;
	size_t len, word;
	char *end;
	u64 number;

	while (p && *p) {
		len = strcspn(p, ",");
		word = strcspn(p, ":,");
		if (word >= len || parse_op(p, word, &op))
			goto bad;
		errno = 0;
		number = strtoull(p + word + 1, &end, 10);
		if (errno || end == p + word + 1 || end > p + len ||
		    rule(priv, op, number, end, (size_t)(p + len - end)))
			goto bad;
		p += len + (p[len] == ',');
	}
	return 0;

bad:
	return err_set(err, -EINVAL, "%s=%s: cannot be understood at \"%s\"",
		       name, text, p);
}
