/* SPDX-License-Identifier: MIT */
/*
 * prefix.c - published prefixes and the spaces that map them
 *
 *	publish	the pages of a space, as far as nobody has published the same
 *		tokens before, are copied into frames of the tenant's cache,
 *		in the host's time
 *	take	the publisher's entries go over to the cache's frames and its
 *		own frames leave: nothing is held twice for longer than that
 *	map	an empty space gets entries for the longest prefix there is
 *
 *	node's page	none -> copying -> filled -> none (evicted)
 *	own frame	used -> pub -> used	while it is copied from
 *
 * What is published is immutable. A space maps it read-only; where it goes on
 * in the middle of a page, or comes back to it after a truncation, its next
 * reservation replaces the page by one of its own and has the tokens in use
 * copied, as after a fork (resv.c).
 *
 * While a frame is copied from (pub) nobody writes to the rows in question: a
 * committed row is written again only after a truncation, which makes the page
 * it ends in read-only if it is being copied, and a frame in this state is
 * not made writable again but replaced.
 *
 * Holds. A space that maps a prefix, or has published one, holds it by one
 * reference to its last node; parents of a node cannot go before it. What a
 * space lets go of, by truncation, destruction or a write, it holds until the
 * steps that may still read it have ended (K7): the reference waits on the
 * client's list for its pin. So a node without a hold is read by nobody, and
 * eviction need not ask who ever mapped it. Frames count their entries too,
 * for the accounts.
 *
 * Take is no move in the sense of the step protocol: both pages have the same
 * rows, so it does not matter which one a running step reads, as long as the
 * old one stays until that step has ended. The entry is replaced, the
 * generation moved, then behind a full barrier the space's marks are read for
 * the old frame's pin: a step that marked before is seen there, one that marks
 * later sees the new entry. It is done only in answer to the client's own
 * calls, so that it has been given the extent before it can see the entry.
 *
 * When a client dies what it published stays. Pages still being copied are
 * finished from its memory, which is not given away before (draining).
 */
#include <errno.h>
#include <string.h>

#include "kvmd/mm/oplog.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/swap.h"
#include "lib/hash.h"

#define TAKE_BATCH 64u

/* ---- entries ---- */

u32 pte_cached(const struct mm *mm, const struct client *c,
	       const struct space_area *a, kv_pte_t pte)
{
	const struct client *cache = cache_of(mm, c->tenant);
	const struct frame_class *cls = &c->cls[a->geom];
	const struct chunk *k;
	u32 chunk = kv_pte_frame(pte) >> (KV_CHUNK_SHIFT - cls->unit_shift);

	if (!cache || !kv_pte_is_present(pte) || chunk >= mm->nr_chunks)
		return MM_NONE;
	k = &mm_chunks(mm)[chunk];
	k -= k->back;
	if (k->state != CHUNK_HEAD || k->client != client_index(mm, cache) ||
	    cache->cls[k->geom].page_units != cls->page_units ||
	    cache->cls[k->geom].unit_shift != cls->unit_shift)
		return MM_NONE;
	return frame_find(mm, k->client, k->geom, &cache->cls[k->geom],
			  kv_pte_frame(pte));
}

bool prefix_drop_entry(struct mm *mm, const struct client *c,
		       const struct space_area *a, kv_pte_t pte)
{
	u32 frame = pte_cached(mm, c, a, pte);

	if (frame == MM_NONE)
		return false;
	frame_put(mm, cache_of(mm, c->tenant),
		  mm_chunks(mm)[frame_head(mm, frame)].geom, frame, 0);
	return true;
}

bool prefix_share_entry(struct mm *mm, const struct client *c,
			const struct space_area *a, kv_pte_t pte)
{
	u32 frame = pte_cached(mm, c, a, pte);

	if (frame != MM_NONE)
		frame_get(cached_class(mm, frame), &mm_frames(mm)[frame]);
	return frame != MM_NONE;
}

/* An entry for a cache's frame, which the client will be able to see. */
static kv_pte_t entry_make(struct mm *mm, struct client *c, u32 frame, u64 gen)
{
	const struct frame_class *cls = cached_class(mm, frame);

	cache_grant(mm, c, frame / FRAMES_PER_CHUNK / KV_EXTENT_CHUNKS);
	return pte_make(frame_entry(mm, cls, frame),
			KV_PTE_PRESENT | KV_PTE_SHARED, gen);
}

/* ---- holds ---- */

#define REF_LINKS(mm) ILINKS(mm_refs(mm), link)

u32 prefix_hold(struct mm *mm, struct client *c, u32 node)
{
	struct prefix_ref *refs = mm_refs(mm);
	u32 r = mm->ref_free;

	if (r)
		mm->ref_free = refs[r].link.next;
	else if (mm->ref_top == MM_REF_MAX)
		return 0;
	else
		r = mm->ref_top++;
	refs[r].node = node;
	refs[r].pin = 0;
	mm_order();
	refs[r].client = client_index(mm, c);
	mm_nodes(mm)[node].holds++;
	node_settle(mm, node);
	ilist_add_tail(&c->refs, REF_LINKS(mm), r);
	return r;
}

static void ref_end(struct mm *mm, struct ilist *list, u32 r)
{
	struct prefix_ref *refs = mm_refs(mm);

	mm_nodes(mm)[refs[r].node].holds--;
	node_settle(mm, refs[r].node);
	ilist_del(list, REF_LINKS(mm), r);
	refs[r].client = MM_NONE;
	refs[r].link.next = mm->ref_free;
	mm->ref_free = r;
	mm->dirty = true; /* it may be evicted for somebody now */
}

static void ref_leave(struct mm *mm, struct client *c, u32 r, u64 pin)
{
	if (pin <= c->completed) {
		ref_end(mm, &c->refs, r);
		return;
	}
	mm_refs(mm)[r].pin = pin;
	ilist_del(&c->refs, REF_LINKS(mm), r);
	ilist_add_tail(&c->refs_leaving, REF_LINKS(mm), r);
	mm->nr_refs_leaving++;
}

void prefix_reap(struct mm *mm, struct client *c)
{
	u32 tenant = c->tenant, r;

	while (c->refs_leaving.nr) {
		r = c->refs_leaving.first;
		if (mm_refs(mm)[r].pin > c->completed)
			return;
		mm->nr_refs_leaving--;
		ref_end(mm, &c->refs_leaving, r);
	}
	if (mm->tenants[tenant].dropping)
		mm_cache_drop(mm, tenant, true);
}

u32 prefix_node(const struct mm *mm, const struct space *sp, u32 page)
{
	u32 n = mm_refs(mm)[sp->ref].node;

	while (mm_nodes(mm)[n].depth > page)
		n = mm_nodes(mm)[n].parent;
	return n;
}

void prefix_cut(struct mm *mm, struct client *c, struct space *sp, u32 pages,
		u64 pin)
{
	u32 old = sp->ref, r = 0;

	sp->chain = min(sp->chain, pages);
	sp->cached = min(sp->cached, pages);
	if (!old || prefix_depth(mm, sp) < pages)
		return;
	if (pages) {
		r = prefix_hold(mm, c, prefix_node(mm, sp, pages - 1));
		if (!r)
			return; /* it holds more than it needs, then */
	}
	sp->ref = r;
	ref_leave(mm, c, old, pin);
}

/* One more than the last page from @page on that @sp maps of the cache. */
static u32 mapped_end(const struct mm *mm, const struct client *c,
		      const struct space *sp, u32 page)
{
	u32 k, i, end = page;

	for (k = 0; k < sp->nr_areas; k++) {
		const struct space_area *a = &sp->area[k];

		for (i = a->page_end; i > max(end, a->page_first); i--)
			if (pte_cached(mm, c, a, *pte_at(c, a, i - 1)) !=
			    MM_NONE)
				end = i;
	}
	return end;
}

void prefix_write(struct mm *mm, struct client *c, struct space *sp, u32 page,
		  u64 pin)
{
	sp->chain = min(sp->chain, page);
	sp->cached = min(sp->cached, page);
	prefix_cut(mm, c, sp, mapped_end(mm, c, sp, sp->chain), pin);
}

int prefix_fork(struct mm *mm, struct client *c, const struct space *parent,
		struct space *child, u32 pages)
{
	u32 depth;

	child->ref = child->chain = child->cached = 0;
	if (!parent->ref || !pages)
		return 0;
	depth = prefix_depth(mm, parent);
	child->ref = prefix_hold(
		mm, c, prefix_node(mm, parent, min(depth, pages - 1)));
	if (!child->ref)
		return -ENOSPC;
	child->chain = min(parent->chain, pages);
	child->cached = min(parent->cached, pages);
	return 0;
}

/*
 * An idle space gives up the prefix that it maps, so that it can be evicted:
 * K0 to K5 as in move.c, but nothing is moved. The entries say that the pages
 * are lost; whoever uses the space again maps the prefix anew, if it is still
 * there.
 */
bool prefix_give_up(struct mm *mm, struct client *c, struct space *sp)
{
	u64 pin = space_pin(mm, c, sp);
	bool busy;
	u32 k, page;

	for (k = 0; k < sp->nr_areas; k++)
		for (page = sp->area[k].page_first; page < sp->area[k].page_end;
		     page++) {
			kv_pte_t *p = pte_at(c, &sp->area[k], page);

			if (pte_cached(mm, c, &sp->area[k], *p) != MM_NONE)
				kv_move_begin(p, *p);
		}
	space_bump(mm, c, sp);
	kv_move_fence();
	busy = space_is_busy(mm, c, sp);
	for (k = 0; k < sp->nr_areas; k++)
		for (page = sp->area[k].page_first; page < sp->area[k].page_end;
		     page++) {
			struct space_area *a = &sp->area[k];
			kv_pte_t *p = pte_at(c, a, page);
			kv_pte_t was = (*p & ~KV_PTE_MOVING) | KV_PTE_PRESENT;

			if (!(*p & KV_PTE_MOVING) ||
			    pte_cached(mm, c, a, was) == MM_NONE)
				continue;
			if (!busy) {
				prefix_drop_entry(mm, c, a, was);
				a->nr_out++;
				was = PTE_LOST;
			}
			kv_move_end(
				p, pte_make(0, was & ~KV_PTE_GEN, sp->gen + 1));
		}
	space_bump(mm, c, sp);
	if (!busy)
		prefix_cut(mm, c, sp, 0, pin);
	return !busy;
}

/* What a client that is gone maps of its tenant's cache. */
static void drop_entries(struct mm *mm, const struct client *c,
			 const struct space *sp)
{
	u32 k, page;

	for (k = 0; k < sp->nr_areas; k++) {
		const struct space_area *a = &sp->area[k];

		for (page = a->page_first; page < a->page_end; page++)
			prefix_drop_entry(mm, c, a, *pte_at(c, a, page));
	}
}

void prefix_client_gone(struct mm *mm, struct client *c)
{
	u32 i;

	for (i = 0; i < c->space_top; i++)
		if (mm_spaces(mm, c)[i].state == KV_SPACE_LIVE &&
		    mm_spaces(mm, c)[i].ref)
			drop_entries(mm, c, &mm_spaces(mm, c)[i]);
	while (c->refs.nr)
		ref_end(mm, &c->refs, c->refs.first);
	mm->nr_refs_leaving -= c->refs_leaving.nr;
	while (c->refs_leaving.nr)
		ref_end(mm, &c->refs_leaving, c->refs_leaving.first);
}

/* ---- map ---- */

/* What is looked for, by whom; @soon: pages that are being copied count. */
struct lookup {
	const struct client *c;
	const struct space *sp;
	u32 tree, nr;
	const u32 *tokens; /* [nr] */
	bool soon;
};

static bool node_has(const struct lookup *l, const struct prefix_node *x,
		     u32 area)
{
	return x->frame[area] != MM_NONE &&
	       (l->soon || !(x->copying & (1u << area)));
}

/* A match: so many nodes of mm_path(), whole pages but for the last. */
struct match {
	u32 nr; /* nodes */
	u64 len; /* tokens */
};

/* Can a row at @len go on where each area has @run[] pages before @pages? */
static bool can_resume(const struct lookup *l, const u32 run[KV_AREA_MAX],
		       u32 pages, u64 len)
{
	const struct space *sp = l->sp;
	u32 k;

	for (k = 0; k < sp->nr_areas; k++)
		if (sp->area[k].window &&
		    pages - min(area_first_needed(l->c, &sp->area[k], len),
				pages) >
			    run[k])
			return false;
	return true;
}

/* Can the child that has most of the tokens be gone on from in its middle? */
static void match_tail(const struct mm *mm, const struct lookup *l, u32 root,
		       const u32 run[KV_AREA_MAX], u32 pages, struct match *m)
{
	u32 pt = 1u << mm->trees[l->tree].page_shift, at = pages * pt;
	u32 nr = min(l->nr - at, pt), common = 0, n, k;

	n = nr ? node_find(mm, root, l->tokens + at, nr, &common) : MM_NONE;
	if (n == MM_NONE || !can_resume(l, run, pages, (u64)at + common))
		return;
	for (k = 0; k < l->sp->nr_areas; k++)
		if (!node_has(l, &mm_nodes(mm)[n], k))
			return;
	mm_path(mm)[pages] = n;
	*m = (struct match){ .nr = pages + 1, .len = (u64)at + common };
}

static struct match match_find(struct mm *mm, const struct lookup *l)
{
	u32 pt = 1u << mm->trees[l->tree].page_shift, n = MM_NONE, pages = 0;
	u32 run[KV_AREA_MAX] = { 0 }, common, k, next;
	const struct space *sp = l->sp;
	u32 *path = mm_path(mm);
	struct match m = { 0 };
	bool whole;

	for (;; pages++) {
		u32 root = *node_children(mm, l->tree, n), at = pages * pt;

		next = l->nr - at < pt ? MM_NONE
				       : node_find(mm, root, l->tokens + at, pt,
						   &common);
		whole = next != MM_NONE && common == pt;
		for (k = 0; whole && k < sp->nr_areas; k++)
			whole = sp->area[k].window ||
				node_has(l, &mm_nodes(mm)[next], k);
		if (!whole) {
			match_tail(mm, l, root, run, pages, &m);
			return m;
		}
		n = path[pages] = next;
		for (k = 0; k < sp->nr_areas; k++)
			run[k] = node_has(l, &mm_nodes(mm)[n], k) ? run[k] + 1
								  : 0;
		if (can_resume(l, run, pages + 1, (pages + 1ull) * pt))
			m = (struct match){ .nr = pages + 1,
					    .len = (pages + 1ull) * pt };
	}
}

static bool is_empty(const struct space *sp)
{
	u32 k;

	for (k = 0; k < sp->nr_areas; k++)
		if (sp->area[k].page_first || sp->area[k].page_end)
			return false;
	return !sp->ref;
}

/* What nodes spell of a sequence, whether they have pages or not. */
static u32 known_tokens(const struct mm *mm, u32 tree, const u32 *tokens,
			u32 nr)
{
	u32 pt = 1u << mm->trees[tree].page_shift, at, n, common;
	u32 root = mm->trees[tree].child;

	for (at = 0; at < nr; at += pt) {
		n = node_find(mm, root, tokens + at, min(nr - at, pt), &common);
		if (n == MM_NONE || common < pt)
			return at + common;
		root = mm_nodes(mm)[n].child;
	}
	return nr;
}

/* The same for all spaces that could map the same tree. */
static u64 tree_key(const struct mm *mm, const struct client *c,
		    const struct space *sp)
{
	const struct kv_space_desc *d = space_desc(mm, c, sp);
	u64 h = hash_bytes(&d->ns, sizeof(d->ns), c->tenant);
	u32 k;

	for (k = 0; k < sp->nr_areas; k++) {
		const struct frame_class *cls = &c->cls[sp->area[k].geom];

		h = hash_bytes(&cls->geom, sizeof(cls->geom), h);
		h = hash_add(h, sp->area[k].window);
		h = hash_add(h, (u64)d->area[k].head_first << 32 |
					d->area[k].nr_heads);
	}
	return h;
}

/* A client's space that maps no page yet, to look for a prefix with. */
static int find_empty(struct mm *mm, u32 client, u32 space, struct client **c,
		      struct space **sp)
{
	int rc = mm_client_live(mm, client, c);

	if (rc)
		return rc;
	*sp = space_find(mm, *c, space);
	if (!*sp)
		return -ENOENT;
	return is_empty(*sp) ? 0 : -EINVAL;
}

int mm_prefix_find(struct mm *mm, u32 client, u32 space, const u32 *tokens,
		   u32 nr, struct mm_found *out)
{
	struct lookup l = { .tokens = tokens };
	struct client *c;
	struct space *sp;
	u32 tree, k;
	int rc;

	rc = find_empty(mm, client, space, &c, &sp);
	if (rc)
		return rc;
	*out = (struct mm_found){
		.key = tree_key(mm, c, sp),
		.page_shift = c->cls[sp->area[0].geom].page_shift,
	};
	for (k = 0; k < sp->nr_areas; k++)
		out->window = max(out->window, sp->area[k].window);
	tree = tree_find(mm, c, sp);
	if (tree == MM_NONE)
		return 0;
	l.c = c;
	l.sp = sp;
	l.tree = tree;
	l.nr = min(nr, KV_AREA_PAGES << out->page_shift);
	out->len = (u32)match_find(mm, &l).len;
	l.soon = true;
	out->soon = (u32)match_find(mm, &l).len;
	out->known = known_tokens(mm, tree, tokens, l.nr);
	return 0;
}

static int map_leaves(struct mm *mm, struct client *c, struct space *sp,
		      const struct match *m)
{
	u32 k, leaves = 0;

	for (k = 0; k < sp->nr_areas; k++)
		leaves += pgtable_leaves_missing(
			&sp->area[k],
			area_first_needed(c, &sp->area[k], m->len), m->nr);
	return pgtable_grow(mm, c, leaves);
}

static void map_area(struct mm *mm, struct client *c, struct space *sp, u32 k,
		     const struct match *m)
{
	struct kv_area_desc *d = &space_desc(mm, c, sp)->area[k];
	struct space_area *a = &sp->area[k];
	u32 page, frame;

	a->page_first = min(area_first_needed(c, a, m->len), m->nr);
	a->page_end = m->nr;
	pgtable_add(c, a, d, a->page_first, a->page_end);
	for (page = a->page_first; page < m->nr; page++) {
		frame = mm_nodes(mm)[mm_path(mm)[page]].frame[k];
		frame_get(cached_class(mm, frame), &mm_frames(mm)[frame]);
		kv_store_relaxed(pte_at(c, a, page),
				 entry_make(mm, c, frame, sp->gen + 1));
	}
	kv_store_relaxed(&d->page_first, a->page_first);
	kv_store_relaxed(&d->page_end, a->page_end);
	mm->counts.faults_prefix += m->nr - a->page_first;
}

int mm_prefix_map(struct mm *mm, u32 client, u32 space, const u32 *tokens,
		  u32 nr, u32 *extent_seq)
{
	struct match m = { 0 };
	struct lookup l;
	struct client *c;
	struct space *sp;
	u32 tree, k;
	int rc;

	rc = find_empty(mm, client, space, &c, &sp);
	if (rc)
		return rc;
	client_reap(mm, c);
	tree = tree_find(mm, c, sp);
	if (tree != MM_NONE) {
		nr = min(nr, KV_AREA_PAGES << mm->trees[tree].page_shift);
		l = (struct lookup){ c, sp, tree, nr, tokens, false };
		m = match_find(mm, &l);
		mm->trees[tree].asked_tokens += nr;
	}
	mm->counts.prefix_maps++;
	mm->counts.prefix_asked_tokens += nr;
	if (!m.len)
		return 0;
	rc = map_leaves(mm, c, sp, &m);
	op_begin(c, OP_MAP, space, 0);
	if (!rc)
		sp->ref = prefix_hold(mm, c, mm_path(mm)[m.nr - 1]);
	if (rc || !sp->ref)
		return op_end(c, rc);
	for (k = 0; k < sp->nr_areas; k++)
		map_area(mm, c, sp, k, &m);
	sp->chain = (u32)(m.len >> mm->trees[tree].page_shift);
	sp->cached = sp->chain;
	sp->used_ns = mm->now_ns;
	space_bump(mm, c, sp);
	for (k = 0; k < m.nr; k++)
		node_hit(mm, mm_path(mm)[k]);
	mm->trees[tree].hits++;
	mm->trees[tree].hit_tokens += m.len;
	mm->counts.prefix_hits++;
	mm->counts.prefix_hit_tokens += m.len;
	*extent_seq = c->extent_seq;
	mm_trace(mm, KV_TP_PREFIX_MAP, client, space);
	return op_end(c, (int)m.len);
}

/* ---- take ---- */

struct take {
	u32 nr;
	u32 geom[TAKE_BATCH], frame[TAKE_BATCH]; /* own ones that leave */
};

/* The frames that entries named before stay for the steps that read them. */
static void take_end(struct mm *mm, struct client *c, struct space *sp,
		     struct take *t)
{
	u64 pin;

	space_bump(mm, c, sp);
	kv_move_fence();
	pin = space_pin(mm, c, sp);
	while (t->nr) {
		t->nr--;
		frame_put(mm, c, t->geom[t->nr], t->frame[t->nr], pin);
	}
}

/* One page in one area. */
static void take_page(struct mm *mm, struct client *c, struct space *sp, u32 k,
		      u32 page, u32 to, struct take *t)
{
	struct space_area *a = &sp->area[k];
	kv_pte_t *p = pte_at(c, a, page), pte = *p;
	u32 own = pte_frame(mm, c, a, pte);

	if (pte & KV_PTE_MOVING || pte_cached(mm, c, a, pte) != MM_NONE)
		return;
	if (kv_pte_is_present(pte)) {
		if (own == MM_NONE)
			return;
		t->geom[t->nr] = a->geom;
		t->frame[t->nr++] = own;
	}
	frame_get(cached_class(mm, to), &mm_frames(mm)[to]);
	kv_move_end(p, entry_make(mm, c, to, sp->gen + 1));
	mm_order();
	if (!kv_pte_is_present(pte))
		pgtable_drop_out(mm, c, a, pte); /* swapped, or lost */
	mm_trace(mm, KV_TP_PREFIX_TAKE, client_index(mm, c), page);
}

void prefix_take(struct mm *mm, struct client *c, struct space *sp, u32 below)
{
	u32 *path = mm_path(mm), top = min(sp->chain, below), page, k, n;
	const struct prefix_node *x;
	struct take t = { 0 };

	if (!sp->ref || sp->cached >= top)
		return;
	n = prefix_node(mm, sp, top - 1);
	for (page = top; page-- > sp->cached; n = mm_nodes(mm)[n].parent)
		path[page] = n;
	for (page = sp->cached; page < top; page++) {
		x = &mm_nodes(mm)[path[page]];
		if (x->copying)
			break;
		for (k = 0; k < sp->nr_areas; k++)
			if (x->frame[k] != MM_NONE &&
			    page >= sp->area[k].page_first &&
			    page < sp->area[k].page_end)
				take_page(mm, c, sp, k, page, x->frame[k], &t);
		if (t.nr > TAKE_BATCH - KV_AREA_MAX)
			take_end(mm, c, sp, &t);
	}
	if (page > sp->cached)
		take_end(mm, c, sp, &t);
	sp->cached = page;
}
