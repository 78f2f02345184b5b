/* SPDX-License-Identifier: MIT */
/*
 * growing.c - prefixes that clients have said they are computing
 *
 * Two servers of one model that are given the same prompt at once would both
 * compute it: it is published only when it is there. So a client announces a
 * prompt when it begins with it, and who asks what is published of a sequence
 * is told as well how much of it somebody else has announced. It may wait for
 * that.
 *
 * It is a hint and no more. An announcement holds nothing and promises nothing;
 * it is gone when the space has published as much, is cut or destroyed, when
 * its client is gone and when kvmd is. Who waits for one must not do so for
 * ever.
 *
 * Kept are no tokens but, for each whole page, a hash of all tokens up to its
 * end: two sequences have a page in common if the hashes are equal, and all
 * before it then too, so the longest common part is found by bisection. A
 * collision makes somebody wait in vain.
 */
#include "kvmd/ipc/growing.h"

#include <stdlib.h>
#include "lib/hash.h"

static u64 *hashes_of(const struct mm_found *f, const u32 *tokens, u32 nr,
		      u32 *pages)
{
	u64 *hash, h = f->key;
	u32 i;

	*pages = nr >> f->page_shift;
	hash = *pages ? malloc(*pages * sizeof(*hash)) : NULL;
	for (i = 0; hash && i < *pages; i++) {
		h = hash_bytes(tokens + ((u64)i << f->page_shift),
			       sizeof(*tokens) << f->page_shift, h);
		hash[i] = h;
	}
	return hash;
}

static u32 common_pages(const struct growing_one *o, const u64 *hash, u32 nr)
{
	u32 lo = 0, hi = min(o->nr, nr), mid;

	while (lo < hi) {
		mid = (lo + hi + 1) / 2;
		if (o->hash[mid - 1] == hash[mid - 1])
			lo = mid;
		else
			hi = mid - 1;
	}
	return lo;
}

/*
 * Of @nr pages in common, all that can be gone on from where an engine keeps
 * windows after one of them, two, four ... (runtime/engine/twins.c).
 */
static u32 to_go_on_from(const struct mm_found *f, u32 nr)
{
	u64 at = DIV_ROUND_UP((u64)f->window, 1ull << f->page_shift) * 2;

	if (nr <= at)
		return nr;
	while (at <= nr / 2)
		at *= 2;
	return (u32)at;
}

static bool others(const struct growing *g, u32 client, u64 key)
{
	u32 i;

	for (i = 0; i < g->nr; i++)
		if (g->one[i].client != client && g->one[i].key == key)
			return true;
	return false;
}

u64 growing_find(const struct growing *g, u32 client, const struct mm_found *f,
		 const u32 *tokens, u32 nr)
{
	u32 pages, best = 0, n, i;
	u64 *hash;

	if (!others(g, client, f->key))
		return 0;
	hash = hashes_of(f, tokens, nr, &pages);
	for (i = 0; hash && i < g->nr; i++) {
		const struct growing_one *o = &g->one[i];

		if (o->client == client || o->key != f->key)
			continue;
		n = common_pages(o, hash, pages);
		if (f->window && n < o->nr)
			n = to_go_on_from(f, n);
		best = max(best, n);
	}
	free(hash);
	return (u64)best << f->page_shift;
}

void growing_add(struct growing *g, u32 client, u32 space,
		 const struct mm_found *f, const u32 *tokens, u32 nr)
{
	struct growing_one o = {
		.client = client, .space = space, .key = f->key, .len = nr
	};

	growing_drop(g, client, space);
	if (g->nr == GROWING_MAX)
		return;
	o.hash = hashes_of(f, tokens, nr, &o.nr);
	if (o.hash)
		g->one[g->nr++] = o;
}

u64 growing_ask(struct growing *g, u32 client, u32 space,
		const struct mm_found *f, const u32 *tokens, u32 nr,
		bool announce)
{
	u64 soon = growing_find(g, client, f, tokens, nr);

	soon = max(soon, (u64)f->soon);
	if (announce && soon < f->len + GROWING_WORTH)
		growing_add(g, client, space, f, tokens, nr);
	return soon;
}

static void drop(struct growing *g, u32 i)
{
	free(g->one[i].hash);
	g->one[i] = g->one[--g->nr];
}

void growing_published(struct growing *g, u32 client, u32 space, u64 len)
{
	u32 i;

	for (i = 0; i < g->nr; i++) {
		const struct growing_one *o = &g->one[i];

		if (o->client == client && o->space == space && o->len <= len)
			drop(g, i--);
	}
}

void growing_drop(struct growing *g, u32 client, u32 space)
{
	u32 i;

	for (i = 0; i < g->nr; i++)
		if (g->one[i].client == client &&
		    (space == MM_NONE || g->one[i].space == space))
			drop(g, i--);
}
