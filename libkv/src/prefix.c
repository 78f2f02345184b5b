/* SPDX-License-Identifier: MIT */
/*
 * prefix.c - what has been published of a sequence, and what others have
 *
 * A space remembers how many whole pages of it kvmd knows, by this client's
 * publication or by having mapped them, so that only the tokens behind them
 * are sent. kvmd's own count is the truth: where it knows of fewer (it could
 * not keep them, or the space was cut) all is sent again.
 */
#include "libkv/src/client.h"
#include <errno.h>
#include <string.h>

#define TOKENS_MAX \
	((KV_ARENA_SIZE - (u64)REQ_PREFIX * ARENA_REQ_BYTES) / sizeof(u32))

static u64 whole_pages(const struct space *sp, u64 tokens)
{
	return tokens >> sp->area[0].shift << sp->area[0].shift;
}

static bool has_prefixes(const struct kv *kv)
{
	return kv->info.features & KV_FEAT_PREFIX;
}

int kv_prefix_map(struct kv *kv, u32 space, const u32 *tokens, u64 nr, u64 *len)
{
	struct kv_sqe sqe = { .opcode = KV_OP_PREFIX_MAP, .space = space };
	struct space *sp = space_get(kv, space);
	int rc;

	*len = 0;
	if (!sp)
		return -ENOENT;
	if (sp->end)
		return kv_fail(kv, -EINVAL,
			       "space %u has tokens, a prefix cannot be mapped "
			       "into it",
			       space);
	if (!nr || !has_prefixes(kv))
		return 0;
	sqe.arg[0] = min(nr, TOKENS_MAX);
	memcpy(req_arg(kv, REQ_PREFIX), tokens, sqe.arg[0] * sizeof(*tokens));
	rc = ring_call_as(kv, REQ_PREFIX, &sqe);
	if (kv->dead)
		return rc;
	if (rc < 0)
		return kv_fail(kv, rc, "no prefix for space %u: %s", space,
			       strerror(-rc));
	if ((u64)rc > sqe.arg[0]) {
		kv_fail(kv, -EPROTO, "kvmd mapped %d tokens of %llu", rc,
			(unsigned long long)sqe.arg[0]);
		return client_dead(kv, -EPROTO);
	}
	KV_POINT(PREFIX_MAPPED);
	sp->len = sp->end = (u64)rc;
	sp->published = whole_pages(sp, sp->len);
	kv_store_release(&kv->status->space[space].len, sp->len);
	*len = sp->len;
	return 0;
}

int kv_prefix_find(struct kv *kv, u32 space, const u32 *tokens, u64 nr,
		   unsigned int flags, struct kv_prefix_found *found)
{
	struct kv_sqe sqe = { .opcode = KV_OP_PREFIX_FIND, .space = space };
	struct space *sp = space_get(kv, space);
	u64 extra;
	int rc;

	*found = (struct kv_prefix_found){ 0 };
	if (!sp)
		return -ENOENT;
	if (sp->end)
		return kv_fail(kv, -EINVAL, "space %u has tokens", space);
	if (!nr || !has_prefixes(kv))
		return 0;
	sqe.arg[0] = min(nr, TOKENS_MAX);
	sqe.arg[1] = flags & KV_FIND_ANNOUNCE ? 1 : 0;
	memcpy(req_arg(kv, REQ_PREFIX), tokens, sqe.arg[0] * sizeof(*tokens));
	rc = ring_call_as(kv, REQ_PREFIX, &sqe);
	if (rc == -EOPNOTSUPP)
		return 0; /* an older kvmd */
	if (kv->dead)
		return rc;
	if (rc < 0)
		return kv_fail(kv, rc, "space %u cannot be asked for: %s",
			       space, strerror(-rc));
	extra = kv->req[REQ_PREFIX].cqe.extra;
	found->len = (u64)rc;
	found->known = extra & 0xffffffffu;
	found->soon = extra >> 32;
	return 0;
}

/* Once, from token @from on. Return: tokens published, or -errno. */
static int publish(struct kv *kv, u32 space, u64 from, const u32 *tokens,
		   u64 nr, unsigned int flags)
{
	struct kv_sqe sqe = { .opcode = KV_OP_PREFIX_PUBLISH,
			      .space = space,
			      .arg = { from, min(nr, from + TOKENS_MAX) } };
	int rc;

	if (flags & KV_PUBLISH_RESUME)
		sqe.flags = KV_SQE_RESUME;
	memcpy(req_arg(kv, REQ_PREFIX), tokens + from,
	       (sqe.arg[1] - from) * sizeof(*tokens));
	rc = ring_call_as(kv, REQ_PREFIX, &sqe);
	KV_POINT(PREFIX_PUBLISHED);
	return rc;
}

int kv_prefix_publish(struct kv *kv, u32 space, const u32 *tokens, u64 nr,
		      unsigned int flags, u64 *len)
{
	struct space *sp = space_get(kv, space);
	int rc;

	*len = 0;
	if (!sp)
		return -ENOENT;
	nr = min(nr, sp->len);
	*len = min(nr, sp->published);
	if (!has_prefixes(kv) || nr < sp->published)
		return 0;
	/* all of it is known: but for the windows, to go on from here */
	if (nr == sp->published && !(nr && flags & KV_PUBLISH_RESUME))
		return 0;
	rc = publish(kv, space, sp->published, tokens, nr, flags);
	if (rc == -ENODATA && sp->published) {
		sp->published = 0;
		rc = publish(kv, space, 0, tokens, nr, flags);
	}
	if (kv->dead)
		return rc;
	if (rc < 0)
		return kv_fail(kv, rc, "space %u cannot be published: %s",
			       space, strerror(-rc));
	*len = (u64)rc;
	sp->published = whole_pages(sp, min((u64)rc, nr));
	return 0;
}
