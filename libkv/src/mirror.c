/* SPDX-License-Identifier: MIT */
/*
 * mirror.c - block tables as kernels read them
 *
 * Per space and area: one u32 per page, and two bitmaps that say which pages
 * are present and which may be written. They are read from the page table
 * that kvmd publishes, whenever the space's generation has moved, under the
 * generation that was loaded first (C3): should kvmd change an entry between
 * the two loads, the next look finds a newer generation and reads again.
 *
 * An entry that is not present leaves the mirror's word as it was, so that
 * the pages a window has left hold stale words that no row reads.
 *
 * The mirrors of all slots lie in one reservation of address space; a slot's
 * part becomes memory when the slot is used for the first time and stays.
 * The words never move: kv_space_table() hands out pointers to them.
 */
#include "libkv/src/client.h"
#include "libkv/src/sys.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define LEAF_WORDS (KV_LEAF_PTES / 64)

int mirror_get(struct kv *kv, u32 space)
{
	u64 bit = 1ull << (space % 64);
	int rc;

	if (kv->has_mirror[space / 64] & bit)
		return 0;
	rc = sys_protect(mirror_of(kv, space, 0),
			 KV_AREA_MAX * sizeof(struct mirror),
			 PROT_READ | PROT_WRITE);
	if (rc)
		return kv_fail(kv, rc,
			       "no memory for the block table of "
			       "space %u",
			       space);
	kv->has_mirror[space / 64] |= bit;
	return 0;
}

/* 64 entries into one word of each bitmap. */
static void read_word(struct mirror *m, u32 word, const kv_pte_t *p)
{
	u64 present = 0, write = 0;
	u32 i;
	u32 *entry = m->entry + word * 64;

	for (i = 0; i < 64; i++) {
		kv_pte_t pte = kv_step_pte(p + i);

		if (!kv_pte_is_present(pte))
			continue;
		/* a running step's kernels may be reading these words */
		if (entry[i] != kv_pte_frame(pte))
			entry[i] = kv_pte_frame(pte);
		present |= 1ull << i;
		write |= (u64)kv_pte_can(pte, 1) << i;
	}
	m->present[word] = present;
	m->write[word] = write;
}

static void clear_words(struct mirror *m, u32 lo, u32 hi)
{
	if (lo >= hi)
		return;
	memset(m->present + lo, 0, (hi - lo) * sizeof(u64));
	memset(m->write + lo, 0, (hi - lo) * sizeof(u64));
}

static void read_area(struct kv *kv, u32 space, u32 area)
{
	const struct kv_area_desc *d =
		&kv_table_space(kv->table, space)->area[area];
	struct mirror *m = mirror_of(kv, space, area);
	struct space *sp = &kv->space[space];
	u32 nr_leaves = kv_load_acquire(&kv->table->nr_leaves);
	u32 end = min(kv_load_relaxed(&d->page_end), KV_AREA_PAGES);
	u32 first = min(kv_load_relaxed(&d->page_first), end);
	u32 lo = first / 64, hi = DIV_ROUND_UP(end, 64), w, leaf;

	clear_words(m, sp->area[area].lo, min(lo, sp->area[area].hi));
	clear_words(m, max(hi, sp->area[area].lo), sp->area[area].hi);
	for (w = lo; w < hi; w++) {
		leaf = kv_load_relaxed(&d->leaf[w / LEAF_WORDS]);
		if (leaf < nr_leaves)
			read_word(m, w,
				  kv_table_leaf(kv->table, leaf)->pte +
					  w % LEAF_WORDS * 64);
		else
			clear_words(m, w, w + 1);
	}
	sp->area[area].lo = lo;
	sp->area[area].hi = hi;
}

void mirror_sync(struct kv *kv, u32 space)
{
	struct space *sp = &kv->space[space];
	u64 gen = kv_step_gen(kv_table_space(kv->table, space));
	u32 a;

	if (sp->synced && gen == sp->gen)
		return;
	for (a = 0; a < sp->nr_areas; a++)
		read_area(kv, space, a);
	sp->gen = gen;
	sp->synced = true;
	kv->nr.table_reads++;
}

/* Are all bits of [first, end) set? */
static bool bits_all(const u64 *bits, u32 first, u32 end)
{
	u64 mask;
	u32 w;

	for (w = first / 64; w <= (end - 1) / 64; w++) {
		mask = ~0ull;
		if (w == first / 64)
			mask &= ~0ull << (first % 64);
		if (w == (end - 1) / 64)
			mask &= ~0ull >> (63 - (end - 1) % 64);
		if ((bits[w] & mask) != mask)
			return false;
	}
	return true;
}

u32 mirror_out(const struct kv *kv, u32 space, u32 area, u64 pos)
{
	const struct space *sp = &kv->space[space];
	const struct mirror *m = mirror_of(kv, space, area);
	u32 shift = sp->area[area].shift, window = sp->area[area].window;
	u64 seen = window && pos + 1 > window ? pos + 1 - window : 0;
	u32 page, end = (u32)min(DIV_ROUND_UP(pos, 1ull << shift),
				 (u64)KV_AREA_PAGES);
	u32 out = 0;

	for (page = (u32)(seen >> shift); page < end; page++)
		out += !(m->present[page / 64] >> (page % 64) & 1);
	return out;
}

u32 mirror_private(const struct kv *kv, u32 space, u32 area)
{
	const struct space *sp = &kv->space[space];
	const struct mirror *m = mirror_of(kv, space, area);
	u32 w, pages = 0;

	for (w = sp->area[area].lo; w < sp->area[area].hi; w++)
		pages += (u32)__builtin_popcountll(m->present[w] & m->write[w]);
	return pages;
}

bool mirror_can(const struct kv *kv, const struct kv_resv_item *it)
{
	const struct space *sp = &kv->space[it->space];
	u32 a;

	for (a = 0; a < sp->nr_areas; a++) {
		const struct mirror *m = mirror_of(kv, it->space, a);
		u32 shift = sp->area[a].shift, window = sp->area[a].window;
		u64 seen = window && it->pos + 1 > window ? it->pos + 1 - window
							  : 0;
		u32 write = (u32)(it->pos >> shift);
		u32 end = (u32)((it->pos + it->nr_tokens - 1) >> shift) + 1;

		if (!bits_all(m->write, write, end) ||
		    !bits_all(m->present, (u32)(seen >> shift), end))
			return false;
	}
	return true;
}
