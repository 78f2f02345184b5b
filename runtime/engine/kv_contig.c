/* SPDX-License-Identifier: MIT */
/*
 * kv_contig.c - the contiguous reference: a run of pages per sequence
 *
 * One anonymous mapping per area, max_spaces runs of max_pages pages each,
 * populated by touch and given back by MADV_DONTNEED. The block table of a
 * space is base, base + 1, base + 2, ..., so the same kernels run over it.
 * A fork copies pages; a window keeps everything.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/engine/kv_none.h"
#include "runtime/model/model.h"

struct contig {
	struct kv_backend b;
	u32 max_spaces, max_pages;
	size_t region[KV_AREA_MAX]; /* bytes of each area's mapping */
	u32 *tables; /* [max_spaces][max_pages], the same for all areas */
	u64 *len; /* [max_spaces] tokens with pages */
	bool *used; /* [max_spaces] */
	struct kv_resv_item items[KV_RESV_MAX];
	u32 nr_items;
	const char *error;
};

static struct contig *to_contig(struct kv_backend *b)
{
	return container_of(b, struct contig, b);
}

static u8 *run_of(struct contig *c, u32 area, u32 space)
{
	return c->b.kv[area].base +
	       (u64)space * c->max_pages * c->b.kv[area].unit;
}

static int contig_space_create(struct kv_backend *b, u32 *space)
{
	struct contig *c = to_contig(b);
	u32 i;

	for (i = 0; i < c->max_spaces; i++) {
		if (c->used[i])
			continue;
		c->used[i] = true;
		c->len[i] = 0;
		*space = i;
		return 0;
	}
	c->error = "every sequence of the contiguous region is in use";
	return -ENOSPC;
}

static int contig_space_fork(struct kv_backend *b, u32 parent, u64 len,
			     u32 *space)
{
	struct contig *c = to_contig(b);
	u32 a;
	int rc;

	rc = contig_space_create(b, space);
	if (rc)
		return rc;
	for (a = 0; a < b->nr_areas; a++)
		memcpy(run_of(c, a, *space), run_of(c, a, parent),
		       DIV_ROUND_UP(len, MODEL_PAGE_TOKENS) * b->kv[a].unit);
	c->len[*space] = len;
	return 0;
}

static int contig_space_truncate(struct kv_backend *b, u32 space, u64 len)
{
	to_contig(b)->len[space] = len;
	return 0;
}

static void contig_space_destroy(struct kv_backend *b, u32 space)
{
	struct contig *c = to_contig(b);
	u32 a;

	for (a = 0; a < b->nr_areas; a++)
		madvise(run_of(c, a, space), c->max_pages * b->kv[a].unit,
			MADV_DONTNEED);
	c->used[space] = false;
}

static const u32 *contig_space_table(struct kv_backend *b, u32 space, u32 area)
{
	struct contig *c = to_contig(b);

	return c->tables + (size_t)space * c->max_pages;
}

static int contig_step_prepare(struct kv_backend *b,
			       const struct kv_resv_item *items, u32 nr,
			       int timeout_ms)
{
	struct contig *c = to_contig(b);
	u32 i;

	if (nr > KV_RESV_MAX)
		return -EINVAL;
	for (i = 0; i < nr; i++)
		if (items[i].pos + items[i].nr_tokens >
		    (u64)c->max_pages * MODEL_PAGE_TOKENS) {
			c->error = "the sequence is longer than its run of the "
				   "contiguous region";
			return -E2BIG;
		}
	memcpy(c->items, items, nr * sizeof(*items));
	c->nr_items = nr;
	return 0;
}

static int contig_step_commit(struct kv_backend *b)
{
	struct contig *c = to_contig(b);
	u32 i;

	for (i = 0; i < c->nr_items; i++)
		c->len[c->items[i].space] =
			c->items[i].pos + c->items[i].nr_tokens;
	c->nr_items = 0;
	return 0;
}

static void contig_step_abandon(struct kv_backend *b)
{
	to_contig(b)->nr_items = 0;
}

static const char *contig_error(struct kv_backend *b)
{
	return to_contig(b)->error;
}

static void contig_destroy(struct kv_backend *b)
{
	struct contig *c = to_contig(b);
	u32 a;

	for (a = 0; a < b->nr_areas; a++)
		if (b->kv[a].base)
			munmap(b->kv[a].base, c->region[a]);
	free(c->tables);
	free(c->len);
	free(c->used);
	free(c);
}

static u64 contig_space_private(struct kv_backend *b, u32 space)
{
	(void)b;
	(void)space;
	return 0;
}

static u64 contig_limit(struct kv_backend *b)
{
	(void)b;
	return ~0ull;
}

static const struct kv_backend_ops contig_ops = {
	.name = "contig",
	.space_create = contig_space_create,
	.space_fork = contig_space_fork,
	.space_truncate = contig_space_truncate,
	.space_destroy = contig_space_destroy,
	.space_table = contig_space_table,
	.step_prepare = contig_step_prepare,
	.step_prefetch = kv_none_step_prefetch,
	.step_copies = kv_none_step_copies,
	.step_commit = contig_step_commit,
	.step_abandon = contig_step_abandon,
	.prefix_map = kv_none_prefix_map,
	.prefix_publish = kv_none_prefix_publish,
	.shrink = kv_none_shrink,
	.swap_room = kv_none_swap_room,
	.space_out = kv_none_space_out,
	.space_whole = kv_none_space_whole,
	.space_private = contig_space_private,
	.limit = contig_limit,
	.lost = kv_none_lost,
	.error = contig_error,
	.destroy = contig_destroy,
};

static int map_area(struct contig *c, const struct model_area *a,
		    struct kern_kv *kv)
{
	void *p;

	model_area_kv(a, kv);
	c->region[c->b.nr_areas] =
		(size_t)c->max_spaces * c->max_pages * a->geom.page_bytes;
	p = mmap(NULL, c->region[c->b.nr_areas], PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	kv->base = p;
	/* its region is there whatever it holds: nothing is counted */
	c->b.law[c->b.nr_areas].page_tokens = MODEL_PAGE_TOKENS;
	c->b.nr_areas++;
	return 0;
}

int kv_contig_create(const struct model *m, u32 max_spaces, u32 max_tokens,
		     struct kv_backend **out, char *err)
{
	struct contig *c = calloc(1, sizeof(*c));
	u64 i, nr;
	int rc = 0;

	if (!c)
		return err_set(err, -ENOMEM, "no memory");
	c->b.ops = &contig_ops;
	c->error = "no error";
	c->max_spaces = max_spaces;
	c->max_pages = DIV_ROUND_UP(max_tokens, MODEL_PAGE_TOKENS);
	nr = (u64)max_spaces * c->max_pages;
	c->tables = nr <= ~0u ? malloc(nr * sizeof(u32)) : NULL;
	c->len = calloc(max_spaces, sizeof(*c->len));
	c->used = calloc(max_spaces, sizeof(*c->used));
	if (!c->tables || !c->len || !c->used)
		rc = -ENOMEM;
	for (i = 0; i < m->nr_areas && !rc; i++)
		rc = map_area(c, &m->area[i], &c->b.kv[i]);
	if (rc) {
		contig_destroy(&c->b);
		return err_set(err, rc,
			       "no address space for %u contiguous sequences "
			       "of %u tokens",
			       max_spaces, max_tokens);
	}
	for (i = 0; i < nr; i++)
		c->tables[i] = (u32)i;
	*out = &c->b;
	return 0;
}
