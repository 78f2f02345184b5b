/* SPDX-License-Identifier: MIT */
#ifndef KVMD_DEV_WRAP_H
#define KVMD_DEV_WRAP_H
/*
 * wrap.h - what devices that stand in front of another one have in common
 *
 * A wrapper's private part begins with struct wrap. The wrap_*() functions
 * are the members of a table that pass everything on.
 */
#include "kvmd/dev/dev.h"

struct wrap {
	struct dev *inner;
};

int wrap_open(struct dev *dev, const char *args, u64 bytes, char *err);
void wrap_close(struct dev *dev);
void wrap_submit(struct dev *dev, struct dev_req *req);
int wrap_export(struct dev *dev, u32 extent, u32 client);
s64 wrap_resident(struct dev *dev, u32 extent);
int wrap_extent_fd(struct dev *dev, u32 extent);
bool wrap_stream_gone(struct dev *dev, u32 client, bool process_gone);
bool wrap_fence(struct dev *dev, const u64 *completed, u64 step);
u32 wrap_audit(struct dev *dev,
	       void (*touched)(void *ctx, u32 client, u32 extent, u64 bytes),
	       void *ctx);
void wrap_client_gone(struct dev *dev, u32 client);
void wrap_facts(struct dev *dev, struct dev_facts *out);
void wrap_adopt(struct dev *dev);

/**
 * wrap_rules - parse "OP:NUMBER[REST][,...]" from an environment variable
 * @name: of the variable; unset means no rule
 * @rule: called for each; @rest is what follows the number, not terminated
 *	at the comma; 0, or -EINVAL refuses it
 * @priv: for @rule
 * @err: KV_ERRLEN bytes for a sentence
 *
 * Return: 0 or -EINVAL.
 */
int wrap_rules(const char *name,
	       int (*rule)(void *priv, enum dev_op op, u64 number,
			   const char *rest, size_t rest_len),
	       void *priv, char *err);

#endif
