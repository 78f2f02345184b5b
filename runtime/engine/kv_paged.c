/* SPDX-License-Identifier: MIT */
/*
 * kv_paged.c - pages from kvmd, through libkv
 *
 * A space has one area per layer group. Nothing is kept here but the open
 * step and the copies it was told to make: those name pages and a number of
 * tokens, and become runs of bytes by the strides of the geometry (one run
 * per layer, head, and K or V: the rows of a head are adjacent).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/engine/kv_backend.h"
#include "runtime/model/model.h"
#include "kv.h"

#define TURN_WAIT_MS 10000 /* then a step computes beside others */

struct paged {
	struct kv_backend b;
	struct kv *kv;
	struct kv_space_args args;
	u64 salt; /* of all spaces */
	struct kv_geometry geom[KV_AREA_MAX]; /* as kvmd answered */
	u32 geom_id[KV_AREA_MAX];
	struct kv_step *step; /* the open one, or NULL */
	struct kern_copy *copies; /* of the open step */
	u32 max_copies;
};

static struct paged *to_paged(struct kv_backend *b)
{
	return container_of(b, struct paged, b);
}

static int paged_space_create(struct kv_backend *b, u32 *space)
{
	struct paged *p = to_paged(b);

	return kv_space_create(p->kv, &p->args, space);
}

static void paged_salt(struct kv_backend *b, u64 salt)
{
	struct paged *p = to_paged(b);

	p->args.ns.salt = p->salt ^ salt;
}

static int paged_space_fork(struct kv_backend *b, u32 parent, u64 len,
			    u32 *space)
{
	return kv_space_fork(to_paged(b)->kv, parent, len, space);
}

static int paged_space_truncate(struct kv_backend *b, u32 space, u64 len)
{
	return kv_space_truncate(to_paged(b)->kv, space, len);
}

static void paged_space_destroy(struct kv_backend *b, u32 space)
{
	kv_space_destroy(to_paged(b)->kv, space);
}

static const u32 *paged_space_table(struct kv_backend *b, u32 space, u32 area)
{
	return kv_space_table(to_paged(b)->kv, space, area);
}

static int paged_step_prepare(struct kv_backend *b,
			      const struct kv_resv_item *items, u32 nr,
			      int timeout_ms)
{
	struct paged *p = to_paged(b);

	return kv_step_prepare(p->kv, items, nr, timeout_ms ? KV_STEP_WAIT : 0,
			       timeout_ms, &p->step);
}

static void paged_step_prefetch(struct kv_backend *b,
				const struct kv_resv_item *items, u32 nr)
{
	/* A hint: whatever fails here is found by step_prepare(). */
	(void)kv_step_prefetch(to_paged(b)->kv, items, nr);
}

static void paged_step_receive(struct kv_backend *b)
{
	/* whatever fails here is found by step_prepare() as well */
	(void)kv_step_receive(to_paged(b)->kv);
}

static const struct kv_geometry *geometry_of(const struct paged *p, u32 id)
{
	u32 i;

	for (i = 0; i < p->b.nr_areas; i++)
		if (p->geom_id[i] == id)
			return &p->geom[i];
	return NULL;
}

static u32 copy_runs(u8 *base, const struct kv_geometry *g,
		     const struct kv_copy *c, struct kern_copy *out)
{
	const u8 *src = base + (u64)c->src * g->unit_bytes;
	u8 *dst = base + (u64)c->dst * g->unit_bytes;
	size_t bytes = (size_t)c->tokens * g->token_stride;
	u32 l, h, v, n = 0;

	for (l = 0; l < g->nr_layers; l++)
		for (h = 0; h < g->nr_kv_heads; h++)
			for (v = 0; v < 2; v++) {
				size_t at = (size_t)l * g->layer_stride +
					    (size_t)h * g->head_stride +
					    v * g->v_offset;

				out[n++] = (struct kern_copy){ dst + at,
							       src + at,
							       bytes };
			}
	return n;
}

static u32 paged_step_copies(struct kv_backend *b,
			     const struct kern_copy **list)
{
	struct paged *p = to_paged(b);
	const struct kv_copy *copies;
	const struct kv_geometry *g;
	u32 i, nr, want = 0, n = 0;
	struct kern_copy *more;

	nr = kv_step_copies(p->step, &copies);
	for (i = 0; i < nr; i++) {
		g = geometry_of(p, copies[i].geom);
		if (g)
			want += 2 * g->nr_layers * g->nr_kv_heads;
	}
	if (want > p->max_copies) {
		more = realloc(p->copies, want * sizeof(*more));
		if (!more) { /* still right, only not through the op table */
			kv_step_run_copies(p->kv, p->step);
			return 0;
		}
		p->copies = more;
		p->max_copies = want;
	}
	for (i = 0; i < nr; i++) {
		g = geometry_of(p, copies[i].geom);
		if (g)
			n += copy_runs(kv_base(p->kv), g, &copies[i],
				       p->copies + n);
	}
	*list = p->copies;
	return n;
}

static void paged_turn_begin(struct kv_backend *b)
{
	/* kvmd's end is found by the next call that needs it */
	(void)kv_turn_begin(to_paged(b)->kv, TURN_WAIT_MS);
}

static void paged_turn_end(struct kv_backend *b, bool more)
{
	struct paged *p = to_paged(b);

	kv_turn_end(p->kv);
	if (!more)
		kv_turn_pass(p->kv);
}

static int paged_step_commit(struct kv_backend *b)
{
	struct paged *p = to_paged(b);
	struct kv_step *step = p->step;

	p->step = NULL;
	kv_step_complete(p->kv, step);
	return kv_step_commit(p->kv, step);
}

static void paged_step_abandon(struct kv_backend *b)
{
	struct paged *p = to_paged(b);

	kv_step_abandon(p->kv, p->step);
	p->step = NULL;
}

static u32 paged_prefix_map(struct kv_backend *b, u32 space, const u32 *ids,
			    u32 nr)
{
	u64 len = 0;

	return kv_prefix_map(to_paged(b)->kv, space, ids, nr, &len) ? 0
								    : (u32)len;
}

static void paged_prefix_find(struct kv_backend *b, u32 space, const u32 *ids,
			      u32 nr, bool announce, struct kv_found *out)
{
	struct kv_prefix_found f;

	if (kv_prefix_find(to_paged(b)->kv, space, ids, nr,
			   announce ? KV_FIND_ANNOUNCE : 0, &f))
		f = (struct kv_prefix_found){ 0 };
	*out = (struct kv_found){
		.len = (u32)f.len,
		.soon = (u32)f.soon,
		.known = (u32)f.known,
	};
}

static void paged_prefix_publish(struct kv_backend *b, u32 space,
				 const u32 *ids, u32 nr, bool resume)
{
	u64 len;

	(void)kv_prefix_publish(to_paged(b)->kv, space, ids, nr,
				resume ? KV_PUBLISH_RESUME : 0, &len);
}

static void paged_shrink(struct kv_backend *b)
{
	(void)kv_shrink(to_paged(b)->kv);
}

static u64 paged_swap_room(struct kv_backend *b)
{
	struct kv_stats s;
	u64 own, all;

	if (kv_stats_get(to_paged(b)->kv, &s))
		return 0;
	own = s.tenant.swap_max - min(s.tenant.swap_max, s.tenant.swapped);
	all = s.device.swap_bytes -
	      min(s.device.swap_bytes, s.device.swap_used);
	return min(own, all);
}

static u64 paged_space_out(struct kv_backend *b, u32 space, u64 nr)
{
	return kv_space_out(to_paged(b)->kv, space, nr);
}

static bool paged_space_whole(struct kv_backend *b, u64 nr)
{
	u32 i;

	for (i = 0; i < b->nr_areas; i++)
		if (!kv_area_whole(nr, b->law[i].window))
			return false;
	return true;
}

static u64 paged_space_private(struct kv_backend *b, u32 space)
{
	return kv_space_private(to_paged(b)->kv, space);
}

static u64 slab_bytes(const struct kv_geometry *g)
{
	return (u64)g->slab_chunks * KV_CHUNK_SIZE;
}

/* What pages fill of so many bytes of slabs, at worst. */
static u64 without_rests(const struct paged *p, u64 bytes)
{
	u64 least = bytes;
	u32 i;

	for (i = 0; i < p->b.nr_areas; i++) {
		const struct kv_geometry *g = &p->geom[i];

		least = min(least, bytes / slab_bytes(g) * g->slab_pages *
					   g->page_bytes);
	}
	return least;
}

static u64 paged_limit(struct kv_backend *b)
{
	struct paged *p = to_paged(b);
	u64 others, own, all, rests = 0;
	struct kv_stats s;
	u32 i;

	if (kv_stats_get(p->kv, &s))
		return ~0ull;
	others = s.tenant.held - min(s.tenant.held, s.client.held);
	own = s.tenant.max_bytes -
	      min(s.tenant.max_bytes, s.tenant.charged + others);
	others = s.device.held - min(s.device.held, s.client.held);
	all = s.device.bytes - min(s.device.bytes, s.device.charged + others);
	all = min(own, all) / KV_EXTENT_SIZE * KV_EXTENT_SIZE;
	for (i = 0; i < b->nr_areas;
	     i++) /* each area has one it does not fill */
		rests += slab_bytes(&p->geom[i]);
	return without_rests(p, all - min(all, rests));
}

static u64 paged_missing(struct kv_backend *b)
{
	return kv_step_short(to_paged(b)->kv);
}

static bool paged_lost(struct kv_backend *b, u32 *space)
{
	u64 pos;

	return kv_step_lost(to_paged(b)->kv, space, &pos);
}

static const char *paged_error(struct kv_backend *b)
{
	return kv_error(to_paged(b)->kv);
}

static void paged_destroy(struct kv_backend *b)
{
	struct paged *p = to_paged(b);

	if (p->step)
		paged_step_abandon(b);
	free(p->copies);
	free(p);
}

static const struct kv_backend_ops paged_ops = {
	.name = "paged",
	.space_create = paged_space_create,
	.salt = paged_salt,
	.space_fork = paged_space_fork,
	.space_truncate = paged_space_truncate,
	.space_destroy = paged_space_destroy,
	.space_table = paged_space_table,
	.step_prepare = paged_step_prepare,
	.step_prefetch = paged_step_prefetch,
	.step_receive = paged_step_receive,
	.step_copies = paged_step_copies,
	.turn_begin = paged_turn_begin,
	.turn_end = paged_turn_end,
	.step_commit = paged_step_commit,
	.step_abandon = paged_step_abandon,
	.prefix_map = paged_prefix_map,
	.prefix_find = paged_prefix_find,
	.prefix_publish = paged_prefix_publish,
	.shrink = paged_shrink,
	.swap_room = paged_swap_room,
	.space_out = paged_space_out,
	.space_whole = paged_space_whole,
	.space_private = paged_space_private,
	.limit = paged_limit,
	.missing = paged_missing,
	.lost = paged_lost,
	.error = paged_error,
	.destroy = paged_destroy,
};

int kv_paged_create(struct kv *kv, const struct model *m,
		    const struct kv_namespace *ns, struct kv_backend **out,
		    char *err)
{
	struct paged *p = calloc(1, sizeof(*p));
	u32 i;
	int rc;

	if (!p)
		return err_set(err, -ENOMEM, "no memory");
	p->b.ops = &paged_ops;
	p->b.nr_areas = m->nr_areas;
	p->kv = kv;
	p->args.nr_areas = (u16)m->nr_areas;
	p->args.ns = *ns;
	p->salt = ns->salt;
	for (i = 0; i < m->nr_areas; i++) {
		p->geom[i] = m->area[i].geom;
		rc = kv_geometry_add(kv, &p->geom[i], &p->geom_id[i]);
		if (rc) {
			err_set(err, rc, "the page geometry was refused: %s",
				kv_error(kv));
			free(p);
			return rc;
		}
		p->args.area[i] = (struct kv_area_args){
			.geom = p->geom_id[i],
			.window = m->area[i].window,
			.nr_heads = p->geom[i].nr_kv_heads,
		};
		p->b.law[i] = (struct kv_area_law){
			.page_tokens = p->geom[i].page_tokens,
			.page_bytes = p->geom[i].page_bytes,
			.window = m->area[i].window,
		};
		p->b.windows |= m->area[i].window != 0;
		model_area_kv(&m->area[i], &p->b.kv[i]);
		p->b.kv[i].base = kv_base(kv);
		p->b.kv[i].unit = p->geom[i].unit_bytes;
	}
	*out = &p->b;
	return 0;
}
