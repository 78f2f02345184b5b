/* SPDX-License-Identifier: MIT */
/*
 * cache_tree.c - a trace through the prefix trees of the mm core
 *
 * Each request is a sequence as a runtime has it: a space maps what is
 * published of the prompt, the rest gets pages, all of it is published, and
 * the space goes. A block is a page of one token, and the cache is as large as
 * its number of nodes.
 */
#include <errno.h>
#include <string.h>

#include "tools/kvbench/bench.h"
#include "tools/kvbench/cache_trace.h"
#include "tools/kvbench/mmhost.h"

#define DEVICE_BYTES (1ull << 30)
#define PIECE	     512u /* blocks published at a time */

static int publish_all(struct mmhost *h, u32 space, const u32 *ref, u32 nr,
		       u32 from)
{
	u32 seq, to;
	int rc;

	/* in pieces, as a prompt is computed in chunks */
	while (from < nr) {
		to = min(nr, from + PIECE);
		rc = mm_prefix_publish(h->mm, h->client, space, from,
				       ref + from, to - from, false, &seq);
		mmhost_drain(h);
		if (rc < 0)
			return rc;
		if ((u32)rc < to)
			return 0; /* the request alone fills the cache */
		from = to;
	}
	return 0;
}

/* Return: hits, or -errno. */
static int serve(struct mmhost *h, u32 geom, const u32 *ref, u32 nr)
{
	struct kv_space_args args = {
		.nr_areas = 1, .area[0] = { .geom = geom, .nr_heads = 4 }
	};
	struct kv_copy copies[KV_AREA_MAX];
	struct kv_resv_item it;
	int space = mm_space_create(h->mm, h->client, &args), hits, rc = 0;
	u32 seq;

	if (space < 0)
		return space;
	hits = mm_prefix_map(h->mm, h->client, (u32)space, ref, nr, &seq);
	if (hits < 0)
		return hits;
	it = (struct kv_resv_item){ .space = (u32)space,
				    .nr_tokens = nr - (u32)hits,
				    .pos = (u64)hits };
	if (it.nr_tokens)
		rc = mmhost_reserve(h, &it, 1, copies);
	mmhost_set_len(h, (u32)space, nr);
	mmhost_complete(h);
	if (rc >= 0)
		rc = publish_all(h, (u32)space, ref, nr, (u32)hits);
	if (rc >= 0)
		rc = mm_space_destroy(h->mm, h->client, (u32)space);
	mmhost_drain(h);
	return rc < 0 ? rc : hits;
}

int cache_tree_replay(const struct cache_trace *t, u32 nr_blocks,
		      enum policy_kind kind, u32 check,
		      struct cache_result *res)
{
	struct mmhost h;
	double begin;
	u32 i;
	int rc = mmhost_init(&h, DEVICE_BYTES, nr_blocks), geom;

	memset(res, 0, sizeof(*res));
	if (rc)
		return rc;
	rc = mm_cache_policy(h.mm, policy_kind_name(kind));
	geom = mmhost_geom(&h, 1, 1, 4, 256);
	begin = clock_s();
	for (i = 0; !rc && i < t->nr_requests; i++) {
		u32 nr = t->begin[i + 1] - t->begin[i];

		if (!nr)
			continue;
		rc = serve(&h, (u32)geom, t->ref + t->begin[i], nr);
		if (rc > 0) {
			res->hits += (u64)rc;
			rc = 0;
		}
		if (!rc && check && i % check == 0 &&
		    mm_check(h.mm, NULL, NULL))
			rc = -EUCLEAN;
	}
	res->seconds = clock_s() - begin;
	mmhost_fini(&h);
	return rc;
}
