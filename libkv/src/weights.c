/* SPDX-License-Identifier: MIT */
/*
 * weights.c - a model's weights, held once by kvmd for all who run it
 *
 *	open -> READY -> mapped read-only
 *	     -> FILL -> mapped writable -> filled -> unmapped, closed -> SEAL
 *			    |				-> mapped read-only
 *			    `-> gave up -> CLOSE: the next one fills
 *
 * The writable mapping and its descriptor are gone before the seal is asked
 * for: kvmd seals against writing, which a writable mapping would refuse.
 * While another client fills, the open simply waits.
 */
#include "libkv/src/client.h"
#include "libkv/src/sys.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* At a multiple of a huge page, so that some can be had. */
static int map_memory(const struct kv_msg_weights *m, int prot, int fd,
		      void **out)
{
	void *at;
	int rc = sys_reserve(m->bytes, &at);

	if (rc)
		return rc;
	rc = sys_map(at, m->bytes, prot, MAP_SHARED | MAP_FIXED, fd, out);
	if (rc)
		sys_unmap(at, m->bytes);
	return rc;
}

static int weights_map(struct kv *kv, const struct kv_msg_weights *m, int fd,
		       struct kv_weights *out)
{
	void *p;
	int rc = map_memory(m, PROT_READ, fd, &p);

	if (rc)
		return kv_fail(kv, rc, "cannot map weights %s: %s", m->name,
			       strerror(-rc));
	KV_POINT(WEIGHTS_MAPPED);
	*out = (struct kv_weights){ .addr = p, .bytes = m->bytes, .id = m->id };
	return 0;
}

/* Write all of it, unmap. The descriptor is the caller's. */
static int weights_fill(struct kv *kv, const struct kv_msg_weights *m, int fd,
			int (*fill)(void *dst, size_t bytes, void *ctx),
			void *ctx)
{
	void *p;
	int rc = map_memory(m, PROT_READ | PROT_WRITE, fd, &p);

	if (rc)
		return kv_fail(kv, rc, "cannot map weights %s to fill: %s",
			       m->name, strerror(-rc));
	KV_POINT(WEIGHTS_FILLING);
	rc = fill ? fill(p, m->bytes, ctx) : -EINVAL;
	sys_unmap(p, m->bytes);
	KV_POINT(WEIGHTS_FILLED);
	if (rc)
		kv_fail(kv, rc, "weights %s were not filled: %s", m->name,
			strerror(-rc));
	return rc;
}

static void weights_drop(struct kv *kv, const struct kv_msg_weights *m)
{
	struct kv_msg_weights close_it = *m;
	char said[KV_ERRLEN];

	/* the sentence of what went wrong is to stay */
	memcpy(said, kv->err, sizeof(said));
	msg_call(kv, KV_MSG_WEIGHTS_CLOSE, &close_it, sizeof(close_it), NULL,
		 "weights");
	memcpy(kv->err, said, sizeof(said));
}

/* The reply to OPEN or SEAL: a size that is ours, and a descriptor. */
static int weights_check(struct kv *kv, const struct kv_msg_weights *key,
			 const struct kv_msg_weights *m, int fd)
{
	s64 has = fd < 0 ? -1 : sys_fd_bytes(fd);

	if (has >= (s64)key->bytes && m->bytes == key->bytes)
		return 0;
	return kv_fail(kv, -EPROTO, "kvmd sent %lld bytes for weights of %llu",
		       (long long)has, (unsigned long long)key->bytes);
}

int kv_weights_open(struct kv *kv, const struct kv_msg_weights *key,
		    int (*fill)(void *dst, size_t bytes, void *ctx), void *ctx,
		    struct kv_weights *out)
{
	struct kv_msg_weights m = *key;
	int rc, fd;

	if (!key->bytes)
		return kv_fail(kv, -EINVAL, "weights of no bytes");
	m.state = m.id = 0;
	m.name[KV_NAME_LEN - 1] = '\0';
	rc = msg_call(kv, KV_MSG_WEIGHTS_OPEN, &m, sizeof(m), &fd, "weights");
	if (rc)
		return rc;
	rc = weights_check(kv, key, &m, fd);
	if (!rc && m.state == KV_WEIGHTS_FILL) {
		rc = weights_fill(kv, &m, fd, fill, ctx);
		sys_close(fd);
		fd = -1;
		if (!rc)
			rc = msg_call(kv, KV_MSG_WEIGHTS_SEAL, &m, sizeof(m),
				      &fd, "weights");
		if (!rc)
			rc = weights_check(kv, key, &m, fd);
	}
	if (!rc)
		rc = weights_map(kv, &m, fd, out);
	sys_close(fd);
	if (rc)
		weights_drop(kv, &m);
	return rc;
}

void kv_weights_close(struct kv *kv, struct kv_weights *w)
{
	struct kv_msg_weights m = { .id = w ? w->id : 0 };

	if (!w || !w->addr)
		return;
	sys_unmap((void *)(uintptr_t)w->addr, w->bytes);
	KV_POINT(WEIGHTS_CLOSED);
	weights_drop(kv, &m);
	*w = (struct kv_weights){ 0 };
}
