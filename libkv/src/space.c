/* SPDX-License-Identifier: MIT */
/*
 * space.c - geometries, and spaces from creation to destruction
 *
 * Calls here wait for kvmd's answer, except kv_space_destroy(), which is
 * posted and forgotten: the ring keeps the order, so a slot that is given out
 * again was free by then.
 *
 * Fork, truncate and destroy count as after every step prepared before them.
 * What such a step would still do to the lengths is taken out of it here
 * (step_forget_space), so that a commit that comes later cannot bring back
 * tokens that are gone, or write to another sequence's slot.
 */
#include "libkv/src/client.h"
#include <errno.h>
#include <string.h>

int kv_geometry_add(struct kv *kv, struct kv_geometry *geom, u32 *id)
{
	struct kv_msg_geom_add m = { .geom = *geom };
	int rc;

	/* kvmd's own fields, should @geom have been registered before */
	m.geom.unit_bytes = m.geom.slab_chunks = m.geom.slab_pages = 0;
	rc = msg_call(kv, KV_MSG_GEOM_ADD, &m, sizeof(m), NULL,
		      "page geometry");
	if (rc)
		return rc;
	if (m.id >= KV_GEOM_MAX || !m.geom.page_tokens || !m.geom.unit_bytes ||
	    (m.geom.page_tokens & (m.geom.page_tokens - 1))) {
		kv_fail(kv, -EPROTO, "kvmd answered geometry %u of no shape",
			m.id);
		return client_dead(kv, -EPROTO);
	}
	kv->geom[m.id] = m.geom;
	kv->nr_geoms = max(kv->nr_geoms, m.id + 1);
	*geom = m.geom;
	*id = m.id;
	return 0;
}

/* The space behind a slot number, or NULL with a sentence. */
struct space *space_get(struct kv *kv, u32 space)
{
	if (space < KV_SPACE_MAX && kv->space[space].live)
		return &kv->space[space];
	kv_fail(kv, -ENOENT, "there is no space %u", space);
	return NULL;
}

/* Of fewer tokens kvmd knows fewer. */
static void cut_published(struct space *sp, u64 len)
{
	u32 shift = sp->area[0].shift;

	sp->published = min(sp->published, len >> shift << shift);
}

/* What a create or fork that failed means. */
static int slot_fail(struct kv *kv, const char *verb, int rc)
{
	if (kv->dead)
		return rc;
	if (rc == -ENOSPC)
		return kv_fail(kv, rc, "cannot %s a space: %u are live", verb,
			       KV_SPACE_MAX);
	if (rc == -ENODATA)
		return kv_fail(kv, rc,
			       "cannot %s there: a sliding window has let go "
			       "of what the next token would read",
			       verb);
	return kv_fail(kv, rc, "cannot %s a space: %s", verb, strerror(-rc));
}

/* A slot that kvmd answered starts its life here. */
static int slot_begin(struct kv *kv, int slot, const struct space *like)
{
	struct space *sp;
	u64 mark;
	int rc;

	if (slot < 0 || (u32)slot >= KV_SPACE_MAX || kv->space[slot].live) {
		kv_fail(kv, -EPROTO, "kvmd answered slot %d, which is in use",
			slot);
		return client_dead(kv, -EPROTO);
	}
	rc = mirror_get(kv, (u32)slot);
	if (rc) {
		struct kv_sqe sqe = { .opcode = KV_OP_SPACE_DESTROY,
				      .space = (u32)slot };

		ring_post(kv, REQ_FORGET, &sqe);
		return rc;
	}
	sp = &kv->space[slot];
	mark = sp->mark; /* the slot's last life may still be running */
	*sp = *like;
	sp->live = true;
	sp->synced = false;
	sp->mark = mark;
	sp->stamp = 0;
	/* words of an earlier life may be set anywhere */
	for (slot = 0; slot < (int)KV_AREA_MAX; slot++) {
		sp->area[slot].lo = 0;
		sp->area[slot].hi = KV_AREA_PAGES / 64;
	}
	return 0;
}

int kv_space_create(struct kv *kv, const struct kv_space_args *args, u32 *space)
{
	struct kv_sqe sqe = { .opcode = KV_OP_SPACE_CREATE, .nr = 1 };
	struct space like = { .max_tokens = ~0ull };
	u32 a, g;
	int rc;

	if (!args->nr_areas || args->nr_areas > KV_AREA_MAX)
		return kv_fail(kv, -EINVAL, "a space of %u areas: 1 to %u",
			       args->nr_areas, KV_AREA_MAX);
	like.nr_areas = (u8)args->nr_areas;
	for (a = 0; a < args->nr_areas; a++) {
		g = args->area[a].geom;
		if (g >= kv->nr_geoms)
			return kv_fail(
				kv, -EINVAL,
				"area %u names geometry %u, %u are known", a, g,
				kv->nr_geoms);
		like.area[a].shift =
			(u32)__builtin_ctz(kv->geom[g].page_tokens);
		like.area[a].window = args->area[a].window;
		like.area[a].page_bytes = kv->geom[g].page_bytes;
		like.max_tokens = min(like.max_tokens,
				      (u64)KV_AREA_PAGES << like.area[a].shift);
	}
	memcpy(req_arg(kv, REQ_CALL), args, sizeof(*args));
	rc = ring_call(kv, &sqe);
	if (rc < 0)
		return slot_fail(kv, "create", rc);
	KV_POINT(SPACE_CREATED);
	*space = (u32)rc;
	rc = slot_begin(kv, rc, &like);
	if (!rc)
		kv_store_release(&kv->status->space[*space].len, 0);
	return rc;
}

int kv_space_fork(struct kv *kv, u32 parent, u64 len, u32 *child)
{
	struct kv_sqe sqe = { .opcode = KV_OP_SPACE_FORK,
			      .space = parent,
			      .arg = { len } };
	struct space *sp = space_get(kv, parent);
	int rc;

	if (!sp)
		return -ENOENT;
	if (len > sp->end)
		return kv_fail(kv, -EINVAL,
			       "fork of space %u at token %llu, it has %llu",
			       parent, (unsigned long long)len,
			       (unsigned long long)sp->end);
	rc = ring_call(kv, &sqe);
	if (rc < 0)
		return slot_fail(kv, "fork", rc);
	KV_POINT(SPACE_FORKED);
	*child = (u32)rc;
	rc = slot_begin(kv, rc, sp);
	if (rc)
		return rc;
	kv->space[*child].len = kv->space[*child].end = len;
	cut_published(&kv->space[*child], len);
	kv_store_release(&kv->status->space[*child].len, len);
	return 0;
}

int kv_space_destroy(struct kv *kv, u32 space)
{
	struct kv_sqe sqe = { .opcode = KV_OP_SPACE_DESTROY, .space = space };
	struct space *sp = space_get(kv, space);
	int rc;

	if (!sp)
		return -ENOENT;
	rc = ring_post(kv, REQ_FORGET, &sqe);
	if (rc)
		return rc;
	KV_POINT(SPACE_DESTROYED);
	step_forget_space(kv, space, 0);
	sp->live = false;
	return 0;
}

int kv_space_truncate(struct kv *kv, u32 space, u64 len)
{
	struct kv_sqe sqe = { .opcode = KV_OP_SPACE_TRUNCATE,
			      .space = space,
			      .arg = { len } };
	struct space *sp = space_get(kv, space);
	int rc;

	if (!sp)
		return -ENOENT;
	if (len > sp->end)
		return kv_fail(kv, -EINVAL,
			       "truncate of space %u to %llu, it has %llu",
			       space, (unsigned long long)len,
			       (unsigned long long)sp->end);
	rc = ring_call(kv, &sqe);
	if (rc < 0)
		return slot_fail(kv, "truncate", rc);
	KV_POINT(SPACE_TRUNCATED);
	step_forget_space(kv, space, len);
	sp->end = len;
	cut_published(sp, len);
	if (len < sp->len) {
		sp->len = len;
		kv_store_release(&kv->status->space[space].len, len);
	}
	return 0;
}

u64 kv_space_len(const struct kv *kv, u32 space)
{
	return space < KV_SPACE_MAX && kv->space[space].live
		       ? kv->space[space].len
		       : 0;
}

u64 kv_space_out(struct kv *kv, u32 space, u64 pos)
{
	u64 bytes = 0;
	u32 a;

	if (space >= KV_SPACE_MAX || !kv->space[space].live)
		return 0;
	mirror_sync(kv, space);
	for (a = 0; a < kv->space[space].nr_areas; a++)
		bytes += (u64)mirror_out(kv, space, a, pos) *
			 kv->space[space].area[a].page_bytes;
	return bytes;
}

u64 kv_space_private(struct kv *kv, u32 space)
{
	u64 bytes = 0;
	u32 a;

	if (space >= KV_SPACE_MAX || !kv->space[space].live)
		return 0;
	mirror_sync(kv, space);
	for (a = 0; a < kv->space[space].nr_areas; a++)
		bytes += (u64)mirror_private(kv, space, a) *
			 kv->space[space].area[a].page_bytes;
	return bytes;
}

const u32 *kv_space_table(struct kv *kv, u32 space, u32 area)
{
	if (space >= KV_SPACE_MAX || !kv->space[space].live ||
	    area >= kv->space[space].nr_areas)
		return NULL;
	return mirror_of(kv, space, area)->entry;
}

int kv_shrink(struct kv *kv)
{
	struct kv_sqe sqe = { .opcode = KV_OP_SHRINK };
	int rc = ring_call(kv, &sqe), drained;

	if (rc < 0)
		return kv->dead ? rc
				: kv_fail(kv, rc,
					  "cannot give extents back: "
					  "%s",
					  strerror(-rc));
	drained = msg_drain(kv);
	return drained ? drained : rc;
}
