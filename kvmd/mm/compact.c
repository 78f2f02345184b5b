/* SPDX-License-Identifier: MIT */
/*
 * compact.c - pages move together, so that extents come empty
 *
 * A client is charged for whole extents. When pages go here and there, what
 * is left lies in many slabs, and holds far more memory than it fills. Then
 * the pages of one extent after the other go to free frames elsewhere in the
 * client's memory, and the extent goes back.
 *
 * How a page moves is migrate.c's; pages that somebody else works on (swap,
 * publishing) are left alone.
 *
 * Whether a client holds too much is told from its counts: the fewest extents
 * that its frames fit in, against those it has. Which chunks are emptied: of
 * the slabs that are used least and the extents that have free chunks the
 * extent with the fewest bytes in use for which there is room elsewhere; if
 * there is none, such a slab, for its chunks make the room. One at a time for
 * each client. If it cannot be had, the client is left alone for a while.
 *
 * When. If somebody waits for memory that would help: at once, everything that
 * is idle. Else only what nobody used for COMPACT_QUIET_NS, and no more than
 * COMPACT_RATE, unless memory is nearly out.
 *
 * Where to. The client learns of extents from replies (extent_seq), but of the
 * new entry from the table, at any time. So a page goes only to an extent that
 * it is known to have received: a step that has ended was begun after its
 * reply, and the reply said which extents there were (told, seq_known).
 *
 * Pages of a page cache move only while nobody maps them: other clients would
 * have to be given the new extent first, and to have received it.
 */
#include "kvmd/mm/compact.h"
#include "kvmd/mm/background.h"
#include "kvmd/mm/extent.h"
#include "kvmd/mm/migrate.h"
#include "kvmd/mm/prefix.h"
#include "kvmd/mm/rmap.h"
#include "kvmd/mm/ticket.h"

#define COMPACT_LOOK_NS	 10000000ull
#define COMPACT_QUIET_NS 50000000ull
#define COMPACT_AGAIN_NS 100000000ull
#define COMPACT_TRIES	 7u /* and then not before frames come free */
#define COMPACT_RATE	 (256ull << 20) /* bytes a second */
#define COMPACT_BURST	 (16ull << 20)
#define COMPACT_NR	 24u /* chunks and extents that are compared */
#define COMPACT_LOOKS	 6u /* of them whose frames are looked at */

struct job {
	struct mm *mm;
	struct client *c;
	bool pressed; /* somebody waits */
	bool limited; /* by mm->compact_credit */
};

/* ---- may it move? ---- */

static bool space_is_quiet(struct mm *mm, const struct client *c,
			   struct space *sp)
{
	u64 active = space_active(mm, c, sp);

	if (active != sp->seen_active) {
		sp->seen_active = active;
		sp->used_ns = mm->now_ns;
	}
	return mm->now_ns >= sp->used_ns + COMPACT_QUIET_NS;
}

/* A filled frame of a cache that nobody reads. */
static bool cached_can_move(const struct mm *mm, const struct client *cache,
			    const struct frame *f)
{
	const struct prefix_node *x = &mm_nodes(mm)[f->family];

	return f->refs == 1 && !(x->copying & (1u << f->area)) &&
	       !migrate_node_is_read(mm, cache->tenant, f->family);
}

/* K0 */
static bool frame_can_move(const struct job *j, u32 frame)
{
	const struct frame *f = &mm_frames(j->mm)[frame];
	struct space *sps = mm_spaces(j->mm, j->c);
	u32 i;

	if (f->state != FRAME_USED)
		return false;
	if (j->c->state == CLIENT_CACHE)
		return cached_can_move(j->mm, j->c, f);
	if (f->pin > j->c->completed)
		return false;
	rmap_for_each(i, j->mm, j->c, frame)
	{
		if (space_is_busy(j->mm, j->c, &sps[i]) ||
		    (!j->pressed && !space_is_quiet(j->mm, j->c, &sps[i])))
			return false;
	}
	return true;
}

/* ---- what is emptied ---- */

/* Chunks in a row: a slab's, or all of an extent. */
struct run {
	u32 first, nr;
	u64 bytes; /* in use */
};

struct runs {
	u32 nr;
	struct run run[2 * COMPACT_NR];
};

/*
 * Could what its tickets want be had from its own memory if pages moved? They
 * take free frames and free chunks as they are, unless chunks have to lie side
 * by side; but a slab of another class may come free.
 */
static bool helps_itself(const struct client *c)
{
	u32 g;

	for (g = 0; g < c->nr_geoms; g++) {
		const struct frame_class *cls = &c->cls[g];

		if (cls->nr_free >= c->wants[g] + cls->geom.slab_pages ||
		    (c->wants[g] > cls->nr_free && cls->geom.slab_chunks > 1))
			return true;
	}
	return false;
}

/* Extents that the client could do without. */
static u32 excess(const struct client *c)
{
	u64 frames[KV_GEOM_MAX] = { 0 }, wanted[KV_GEOM_MAX] = { 0 };
	u32 g, least, has = c->nr_extents - c->nr_empty;

	for (g = 0; g < c->nr_geoms; g++) {
		frames[g] = c->cls[g].nr_used - c->cls[g].nr_leaving;
		wanted[g] = frames[g] + c->wants[g];
	}
	least = slab_extents_min(c, frames);
	if (has <= least)
		return 0;
	if (!c->revoke.state && slab_extents_min(c, wanted) >= has &&
	    !helps_itself(c))
		return 0;
	return has - least;
}

/* Is there room elsewhere for what lies there? Adds up the bytes. */
static bool run_fits(const struct mm *mm, const struct client *c, struct run *r)
{
	const struct chunk *k = &mm_chunks(mm)[r->first];
	u32 need[KV_GEOM_MAX] = { 0 }, i;

	r->bytes = 0;
	for (i = 0; i < r->nr; i++) {
		const struct kv_geometry *g = &c->cls[k[i].geom].geom;

		if (k[i].state != CHUNK_HEAD)
			continue;
		r->bytes += (u64)k[i].nr_used * g->page_bytes;
		need[k[i].geom] += g->slab_pages;
	}
	if (r->nr == KV_EXTENT_CHUNKS)
		return slab_fits_outside(
			c, need,
			mm_extents(mm)[r->first / KV_EXTENT_CHUNKS].free_mask);
	return need[k->geom] <= c->cls[k->geom].nr_free;
}

static void consider(const struct mm *mm, const struct client *c, u32 first,
		     u32 nr, struct runs *rs)
{
	struct run r = { .first = first, .nr = nr };

	if (rs->nr < ARRAY_SIZE(rs->run) && run_fits(mm, c, &r) && r.bytes)
		rs->run[rs->nr++] = r;
}

/* The slabs used least, and the extents they lie in. */
static void consider_slabs(const struct mm *mm, const struct client *c,
			   struct runs *rs)
{
	u32 g, b, head, n, chunks;

	for (g = 0; g < c->nr_geoms; g++) {
		const struct frame_class *cls = &c->cls[g];

		chunks = cls->geom.slab_chunks;
		n = COMPACT_NR / c->nr_geoms + 1;
		for (b = 0; b < SLAB_BUCKETS && n; b++)
			ilist_for_each (head, &cls->bucket[b],
					ILINKS(mm_chunks(mm), link)) {
				if (!n)
					break;
				n--;
				consider(mm, c, head & ~3u, 4, rs);
				if (chunks < KV_EXTENT_CHUNKS)
					consider(mm, c, head, chunks, rs);
			}
	}
}

/* Extents with free chunks, those with the most first. */
static void consider_extents(const struct mm *mm, const struct client *c,
			     struct runs *rs)
{
	u32 free, mask, e, n = COMPACT_NR / 2;

	for (free = 3; free; free--)
		for (mask = 1; mask < EXTENT_ALL_FREE; mask++) {
			if ((u32)__builtin_popcount(mask) != free)
				continue;
			ilist_for_each (e, &c->extents[mask],
					ILINKS(mm_extents(mm), link)) {
				if (!n--)
					return;
				consider(mm, c, e * KV_EXTENT_CHUNKS,
					 KV_EXTENT_CHUNKS, rs);
			}
		}
}

/* What is used there may move, or goes by itself. */
static bool run_can_empty(const struct job *j, const struct run *r)
{
	const struct chunk *k = &mm_chunks(j->mm)[r->first];
	u32 i, n, frame;

	for (i = 0; i < r->nr; i++)
		for (n = 0; k[i].state == CHUNK_HEAD && n < k[i].nr_fresh;
		     n++) {
			frame = (r->first + i) * FRAMES_PER_CHUNK + n;
			switch (mm_frames(j->mm)[frame].state) {
			case FRAME_FREE:
			case FRAME_LEAVING:
				break;
			default:
				if (!frame_can_move(j, frame))
					return false;
			}
		}
	return true;
}

/* Extents before slabs, then the one with the fewest bytes in use. */
static struct run *best_of(struct runs *rs)
{
	struct run *best = NULL, *r;

	for (r = rs->run; r < rs->run + rs->nr; r++)
		if (r->nr &&
		    (!best || r->nr / 4 > best->nr / 4 ||
		     (r->nr / 4 == best->nr / 4 && r->bytes < best->bytes)))
			best = r;
	return best;
}

static bool choose(const struct job *j)
{
	struct compact *w = &j->c->compact;
	struct runs rs = { 0 };
	struct space *sps = mm_spaces(j->mm, j->c);
	struct run *r;
	u32 looks, nr, i;

	/* When was each of them last used? */
	for (i = 0; i < j->c->space_top && !j->pressed; i++)
		if (sps[i].state == KV_SPACE_LIVE && j->c->table)
			space_is_quiet(j->mm, j->c, &sps[i]);
	consider_extents(j->mm, j->c, &rs);
	consider_slabs(j->mm, j->c, &rs);
	for (looks = 0; looks < COMPACT_LOOKS && (r = best_of(&rs)); looks++) {
		if (run_can_empty(j, r)) {
			w->first = r->first + 1;
			w->nr = r->nr;
			return true;
		}
		nr = r->nr;
		r->nr = 0;
		/* Many extents may be busy; a slab has its chance too. */
		if (nr == KV_EXTENT_CHUNKS && looks == COMPACT_LOOKS / 2)
			for (r = rs.run; r < rs.run + rs.nr; r++)
				r->nr = r->nr < KV_EXTENT_CHUNKS ? r->nr : 0;
	}
	return false;
}

/* ---- one client ---- */

static bool may_begin(const struct job *j, u64 bytes)
{
	return j->mm->nr_moving < MOVE_IO_MAX &&
	       (!j->limited || j->mm->compact_credit >= bytes);
}

/* Pages of the run that is being emptied begin to move. */
static void batch_begin(const struct job *j)
{
	struct mm *mm = j->mm;
	u32 first = j->c->compact.first - 1, i, n;
	const struct chunk *k = &mm_chunks(mm)[first];

	for (i = 0; i < j->c->compact.nr; i++)
		for (n = 0; k[i].state == CHUNK_HEAD && n < k[i].nr_fresh;
		     n++) {
			u64 bytes = j->c->cls[k[i].geom].geom.page_bytes;
			u32 frame = (first + i) * FRAMES_PER_CHUNK + n;

			if (!frame_can_move(j, frame))
				continue;
			if (!may_begin(j, bytes) ||
			    !migrate_begin(mm, j->c, frame))
				goto end;
			mm->compact_credit -=
				min(mm->compact_credit, j->limited ? bytes : 0);
		}
end:
	migrate_batch(mm, j->c);
}

/* Has the run come empty? Then it is counted, and the extent goes back. */
static bool run_is_empty(struct mm *mm, struct client *c)
{
	struct compact *w = &c->compact;
	u32 first = w->first - 1, i, e = first / KV_EXTENT_CHUNKS;
	const struct extent *x = &mm_extents(mm)[e];
	bool ours = x->state == EXTENT_GRANTED &&
		    x->client == client_index(mm, c);

	for (i = 0; ours && i < w->nr; i++)
		if (mm_chunks(mm)[first + i].state != CHUNK_FREE)
			return false;
	mm->counts.compact_freed_chunks += w->nr;
	mm->counts.compact_freed_extents += !ours ||
					    x->free_mask == EXTENT_ALL_FREE;
	w->first = 0;
	w->tries = 0;
	w->look = true; /* for more */
	if (!ticket_needs(mm, c->tenant))
		extent_trim(mm, c, 0, false);
	return true;
}

/* @pressed: what is idle would not do either. */
static void give_up(struct mm *mm, struct compact *w, bool pressed)
{
	w->first = 0;
	w->look = false;
	if (pressed)
		w->soon_ns = mm->now_ns + COMPACT_LOOK_NS;
	w->again_ns = mm->now_ns + (COMPACT_AGAIN_NS << w->tries);
	w->tries += w->tries < COMPACT_TRIES;
}

/* Return: true if pages are on their way. */
static bool compact_client(const struct job *j)
{
	struct mm *mm = j->mm;
	struct compact *w = &j->c->compact;

	if (j->c->state == CLIENT_LIVE)
		client_reap(mm, j->c);
	if (w->first)
		run_is_empty(mm, j->c);
	if (!w->first) {
		if (mm->now_ns < (j->pressed ? w->soon_ns : w->again_ns))
			return w->moving;
		if (!excess(j->c)) {
			w->look = false;
			w->tries = 0;
			return w->moving;
		}
		if (!choose(j)) {
			give_up(mm, w, j->pressed);
			return w->moving;
		}
	}
	if (!may_begin(j, KV_EXTENT_SIZE))
		return w->moving; /* later */
	batch_begin(j);
	if (!w->moving && !run_is_empty(mm, j->c))
		give_up(mm, w, j->pressed);
	return w->moving;
}

static bool may_compact(const struct client *c)
{
	return c->state == CLIENT_CACHE ||
	       (c->state == CLIENT_LIVE &&
		c->revoke.state != MM_REVOKE_FENCED &&
		c->revoke.state != MM_REVOKE_KILLED);
}

/* Is it worth a look? It has what it needs, unless frames came free since. */
static bool client_is_due(const struct client *c)
{
	const struct compact *w = &c->compact;

	return (w->look || w->first || w->moving || w->tries) && may_compact(c);
}

/* Has it more than it needs, and is there a chance to change that soon? */
static bool client_wants(const struct client *c)
{
	const struct compact *w = &c->compact;

	return client_is_due(c) &&
	       (w->first || w->moving ||
		((w->look || w->tries < COMPACT_TRIES) && excess(c)));
}

/* ---- when ---- */

bool compact_run(struct mm *mm)
{
	struct client *cs = mm_clients(mm);
	u32 i, head = mm->queue_tail;
	bool low = background_is_low(mm);

	if (!mm->compact_look)
		return false;
	mm->compact_look = false;
	mm->compact_wants = false;
	ilist_for_each (i, &mm->clients, ILINKS(cs, link)) {
		struct compact *w = &cs[i].compact;
		struct job j = { .mm = mm, .c = &cs[i], .limited = !low };

		if (!client_is_due(&cs[i]))
			continue;
		if (w->look)
			w->tries = 0;
		j.pressed = ticket_needs(mm, cs[i].tenant);
		j.limited &= !j.pressed;
		compact_client(&j);
		mm->compact_wants |= client_wants(&cs[i]);
	}
	return head != mm->queue_tail;
}

bool compact_for(struct mm *mm, const struct client *c, enum ticket_block block)
{
	struct client *cs = mm_clients(mm);
	bool on_its_way = false;
	u32 i;

	ilist_for_each (i, &mm->clients, ILINKS(cs, link)) {
		struct job j = { .mm = mm, .c = &cs[i], .pressed = true };

		if (client_is_due(&cs[i]) &&
		    (block == BLOCK_DEVICE || cs[i].tenant == c->tenant))
			on_its_way |= compact_client(&j);
	}
	return on_its_way;
}

bool compact_wants_tick(const struct mm *mm)
{
	const struct client *cs = mm_clients(mm);
	u32 i;

	if (!mm->compact_wants)
		return false;
	ilist_for_each (i, &mm->clients, ILINKS(mm_clients(mm), link))
		if (client_wants(&cs[i]))
			return true;
	return false;
}

void compact_tick(struct mm *mm)
{
	u64 since = mm->now_ns - mm->compact_looked_ns;

	if (since < COMPACT_LOOK_NS)
		return;
	since = min(since, 1000000000ull);
	mm->compact_credit =
		min(mm->compact_credit + since * (COMPACT_RATE >> 20) / 1000 *
						 (1ull << 20) / 1000000,
		    COMPACT_BURST);
	mm->compact_looked_ns = mm->now_ns;
	mm->compact_look = true;
}

void compact_page_done(struct mm *mm, struct client *c, int err)
{
	if (c->compact.first && !run_is_empty(mm, c) && err)
		give_up(mm, &c->compact, true);
	mm->compact_look = true;
}
