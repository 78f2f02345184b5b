/* SPDX-License-Identifier: MIT */
/*
 * audit.c - a second opinion on kvmd's books
 *
 *	audit [-v] SOCKET
 *
 * Freezes kvmd and judges it by what lies there: the clients' page tables
 * are walked entry by entry, each extent's memory is asked of the kernel
 * (st_blocks) and what is nobody's is read. Shares with kvmd the headers that
 * say how things are laid out, and no code that keeps them.
 *
 * What must hold:
 *  - every present entry lies in an extent of that client, at the edge of a
 *    page of its geometry, and no two geometries meet in a page
 *  - a frame is in use exactly if entries name it, as often as they do
 *  - every extent that is charged belongs to a client whose table is there
 *  - an extent that is ready is all there, and all zero; a bare one is not
 *    there at all
 *  - what tenants are charged is what their clients hold, within limits
 *
 * Exit status: 0 nothing found, 1 faults (one sentence each on standard
 * output), 2 could not look.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvmd/mm/state.h"
#include "selftests/audit/freeze.h"

struct audit {
	struct books books;
	const struct mm *mm;
	const struct kv_table_hdr *table[MM_CLIENT_MAX];
	u64 table_bytes[MM_CLIENT_MAX];
	const struct book **extent; /* by index, NULL: bare */
	u32 *refs; /* by frame number: entries that name it */
	u8 *geom; /* by frame number: of which geometry, plus one */
	u64 nr_entries, nr_frames, nr_faults, nr_zero;
};

static void __attribute__((format(printf, 2, 3)))
fault(struct audit *a, const char *fmt, ...)
{
	va_list ap;

	if (a->nr_faults++ > 50)
		return;
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static const void *map_ro(int fd, u64 bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int map_books(struct audit *a)
{
	unsigned int i;

	for (i = 0; i < a->books.nr; i++) {
		const struct book *b = &a->books.book[i];

		if (b->kind == BOOK_STATE)
			a->mm = map_ro(b->fd, a->books.state_bytes);
		if (b->kind == BOOK_TABLE && b->client < MM_CLIENT_MAX) {
			a->table[b->client] = map_ro(b->fd, b->bytes);
			a->table_bytes[b->client] = b->bytes;
		}
	}
	if (!a->mm || a->mm->head.magic != MM_MAGIC ||
	    !mm_is_ours(&a->mm->cfg, a->mm, a->books.state_bytes)) {
		fprintf(stderr, "audit: kvmd's state has another layout\n");
		return -EPROTO;
	}
	a->extent = calloc(a->mm->nr_extents, sizeof(*a->extent));
	a->refs = calloc((size_t)a->mm->nr_chunks * FRAMES_PER_CHUNK,
			 sizeof(*a->refs));
	a->geom = calloc((size_t)a->mm->nr_chunks * FRAMES_PER_CHUNK, 1);
	if (!a->extent || !a->refs || !a->geom)
		return -ENOMEM;
	for (i = 0; i < a->books.nr; i++) {
		const struct book *b = &a->books.book[i];

		if (b->kind == BOOK_EXTENT && b->extent < a->mm->nr_extents)
			a->extent[b->extent] = b;
	}
	return 0;
}

/* ---- tables ---- */

/* Is @owner the page cache of @client's tenant? */
static bool is_cache_of(const struct audit *a, u32 owner, u32 client)
{
	const struct client *cs = mm_clients(a->mm);

	return owner < MM_CLIENT_MAX && cs[owner].state == CLIENT_CACHE &&
	       cs[owner].tenant == cs[client].tenant;
}

/* It has gone, and some of its pages are still on their way. */
static bool is_draining(const struct audit *a, u32 client)
{
	return mm_clients(a->mm)[client].state == CLIENT_DRAINING;
}

/* Does somebody hold memory under this number? */
static bool is_there(const struct audit *a, u32 client)
{
	return client < MM_CLIENT_MAX &&
	       (a->table[client] ||
		mm_clients(a->mm)[client].state == CLIENT_CACHE ||
		is_draining(a, client));
}

static void entry_check(struct audit *a, u32 client, u32 space, u32 area,
			u32 page, const struct kv_geometry *g, u32 geom,
			kv_pte_t pte)
{
	u64 off = (u64)kv_pte_frame(pte) * g->unit_bytes;
	u32 chunk = (u32)(off >> KV_CHUNK_SHIFT), head, frame;
	const struct chunk *c;
	const struct extent *x;
	bool cached;
	u64 in;

	a->nr_entries++;
	if (chunk >= a->mm->nr_chunks) {
		fault(a,
		      "client %u space %u area %u page %u: beyond the "
		      "device",
		      client, space, area, page);
		return;
	}
	x = &mm_extents(a->mm)[chunk / KV_EXTENT_CHUNKS];
	cached = is_cache_of(a, x->client, client);
	if ((x->state != EXTENT_GRANTED && x->state != EXTENT_QUARANTINE) ||
	    (x->client != client && !cached))
		fault(a,
		      "client %u space %u area %u page %u: extent %u is not "
		      "its own",
		      client, space, area, page, chunk / KV_EXTENT_CHUNKS);
	c = &mm_chunks(a->mm)[chunk];
	head = chunk - (c->state == CHUNK_BODY ? c->back : 0);
	c = &mm_chunks(a->mm)[head];
	in = off - ((u64)head << KV_CHUNK_SHIFT);
	if (cached && c->geom < KV_GEOM_MAX &&
	    !memcmp(&mm_clients(a->mm)[x->client].cls[c->geom].geom, g,
		    sizeof(*g)))
		geom = c->geom;
	if (c->state != CHUNK_HEAD || c->geom != geom ||
	    c->client != x->client || (cached && (pte & KV_PTE_WRITE)) ||
	    in % g->page_bytes || in / g->page_bytes >= g->slab_pages) {
		fault(a,
		      "client %u space %u area %u page %u: no page of "
		      "geometry %u lies at %llu",
		      client, space, area, page, geom, (unsigned long long)off);
		return;
	}
	frame = head * FRAMES_PER_CHUNK + (u32)(in / g->page_bytes);
	if (!a->refs[frame]++)
		a->nr_frames++;
	else if (a->geom[frame] != geom + 1)
		fault(a, "client %u: geometries %u and %u meet at %llu", client,
		      geom, a->geom[frame] - 1u, (unsigned long long)off);
	a->geom[frame] = (u8)(geom + 1);
	if (mm_frames(a->mm)[frame].page != page ||
	    mm_frames(a->mm)[frame].area != area)
		fault(a,
		      "client %u space %u area %u page %u: its frame says "
		      "area %u page %u",
		      client, space, area, page, mm_frames(a->mm)[frame].area,
		      mm_frames(a->mm)[frame].page);
}

static void area_walk(struct audit *a, u32 client, u32 space, u32 area,
		      const struct kv_area_desc *d)
{
	const struct client *c = &mm_clients(a->mm)[client];
	u64 nr_leaves = (a->table_bytes[client] - KV_TABLE_LEAVES_OFF) /
			sizeof(struct kv_leaf);
	const struct kv_leaf *leaves =
		(const void *)((const char *)a->table[client] +
			       KV_TABLE_LEAVES_OFF);
	u32 page, leaf;
	kv_pte_t pte;

	if (d->geom >= c->nr_geoms || d->page_end > KV_AREA_PAGES ||
	    d->page_first > d->page_end) {
		fault(a, "client %u space %u area %u: makes no sense", client,
		      space, area);
		return;
	}
	for (page = 0; page < KV_AREA_PAGES; page++) {
		bool inside = page >= d->page_first && page < d->page_end;

		leaf = d->leaf[page / KV_LEAF_PTES];
		if (leaf >= nr_leaves) {
			if (inside)
				fault(a,
				      "client %u space %u area %u page %u: "
				      "no leaf",
				      client, space, area, page);
			page |= KV_LEAF_PTES - 1;
			continue;
		}
		pte = leaves[leaf].pte[page % KV_LEAF_PTES];
		if (!(pte & (KV_PTE_PRESENT | KV_PTE_MOVING))) {
			if (inside && !(pte & KV_PTE_SWAPPED))
				fault(a,
				      "client %u space %u area %u page %u: "
				      "a hole",
				      client, space, area, page);
			continue;
		}
		if (!inside)
			fault(a,
			      "client %u space %u area %u page %u: outside "
			      "of what may be present",
			      client, space, area, page);
		entry_check(a, client, space, area, page, &c->cls[d->geom].geom,
			    d->geom, pte);
	}
}

static const struct kv_space_desc *space_of(const struct audit *a, u32 client,
					    u32 space)
{
	const char *p = (const char *)a->table[client] + KV_TABLE_SPACES_OFF;

	return (const struct kv_space_desc *)(const void *)p + space;
}

static void tables_walk(struct audit *a)
{
	const struct kv_space_desc *d;
	u32 client, space, area;

	for (client = 0; client < MM_CLIENT_MAX; client++) {
		if (!a->table[client])
			continue;
		for (space = 0; space < KV_SPACE_MAX; space++) {
			d = space_of(a, client, space);
			if (d->state != KV_SPACE_LIVE)
				continue;
			for (area = 0; area < d->nr_areas && area < KV_AREA_MAX;
			     area++)
				area_walk(a, client, space, area,
					  &d->area[area]);
		}
	}
}

/* ---- frames ---- */

static void slab_check(struct audit *a, u32 head)
{
	const struct chunk *c = &mm_chunks(a->mm)[head];
	const struct kv_geometry *g;
	u32 k, used = 0, frame;
	const struct frame *f;
	bool in_use;

	if (!is_there(a, c->client)) {
		fault(a, "chunk %u: a slab of client %u, which is not there",
		      head, c->client);
		return;
	}
	if (is_draining(a, c->client))
		return; /* no table says which of its frames are in use */
	g = &mm_clients(a->mm)[c->client].cls[c->geom].geom;
	if (c->nr_fresh > g->slab_pages) {
		fault(a, "chunk %u: %u frames handed out of %u", head,
		      c->nr_fresh, g->slab_pages);
		return;
	}
	/* behind these stands what a former owner of the chunk left */
	for (k = 0; k < c->nr_fresh; k++) {
		frame = head * FRAMES_PER_CHUNK + k;
		f = &mm_frames(a->mm)[frame];
		/* entries that are moving name the last two */
		in_use = f->state == FRAME_USED || f->state == FRAME_PUB ||
			 f->state == FRAME_OUT || f->state == FRAME_MOVE;
		if (in_use && f->refs != a->refs[frame])
			fault(a,
			      "chunk %u frame %u: %u entries name it, it "
			      "counts %u",
			      head, k, a->refs[frame], f->refs);
		if (f->state == FRAME_USED && !a->refs[frame])
			fault(a, "chunk %u frame %u of client %u: leaked", head,
			      k, c->client);
		if (!in_use && a->refs[frame])
			fault(a,
			      "chunk %u frame %u of client %u (state %u): in "
			      "state %u, and %u entries name it",
			      head, k, c->client,
			      mm_clients(a->mm)[c->client].state, f->state,
			      a->refs[frame]);
		used += f->state != FRAME_FREE;
		a->refs[frame] = 0;
	}
	if (used != c->nr_used)
		fault(a, "chunk %u: %u frames are not free, it counts %u", head,
		      used, c->nr_used);
}

/* A published page's frames are the tree's, whoever maps them too. */
static void nodes_count(struct audit *a)
{
	const struct prefix_node *x = mm_nodes(a->mm);
	u32 i, k;

	for (i = 0; i < a->mm->node_top; i++)
		for (k = 0; x[i].state == NODE_LIVE && k < KV_AREA_MAX; k++)
			if (x[i].frame[k] < a->mm->nr_chunks * FRAMES_PER_CHUNK)
				a->refs[x[i].frame[k]]++;
}

static void slabs_check(struct audit *a)
{
	u32 i;

	nodes_count(a);
	for (i = 0; i < a->mm->nr_chunks; i++) {
		if (mm_chunks(a->mm)[i].state == CHUNK_HEAD)
			slab_check(a, i);
	}
	for (i = 0; i < a->mm->nr_chunks * FRAMES_PER_CHUNK; i++) {
		if (a->refs[i])
			fault(a, "frame %u: entries name it, no slab has it",
			      i);
	}
}

/* ---- extents and tenants ---- */

static void zero_check(struct audit *a, const struct book *b)
{
	const char *p = map_ro(b->fd, KV_EXTENT_SIZE);

	if (!p) {
		fault(a, "extent %u: cannot be read", b->extent);
		return;
	}
	if (p[0] || memcmp(p, p + 1, KV_EXTENT_SIZE - 1))
		fault(a, "extent %u: nobody's, and not zero", b->extent);
	a->nr_zero++;
	munmap((void *)(uintptr_t)p, KV_EXTENT_SIZE);
}

static void extent_check(struct audit *a, u32 i)
{
	const struct extent *x = &mm_extents(a->mm)[i];
	const struct book *b = a->extent[i];
	struct stat st = { 0 };
	u64 bytes;

	if (b && fstat(b->fd, &st))
		fault(a, "extent %u: %s", i, strerror(errno));
	bytes = (u64)st.st_blocks * 512;
	switch (x->state) {
	case EXTENT_BARE:
		if (b)
			fault(a, "extent %u: bare, and has %llu bytes", i,
			      (unsigned long long)bytes);
		break;
	case EXTENT_READY:
		if (bytes != KV_EXTENT_SIZE)
			fault(a, "extent %u: ready with %llu bytes", i,
			      (unsigned long long)bytes);
		if (b)
			zero_check(a, b);
		break;
	case EXTENT_GRANTED:
	case EXTENT_QUARANTINE:
		if (!is_there(a, x->client))
			fault(a,
			      "extent %u: held by client %u, which is not "
			      "there",
			      i, x->client);
		if (!b || bytes > KV_EXTENT_SIZE)
			fault(a, "extent %u: granted with %llu bytes", i,
			      (unsigned long long)bytes);
		break;
	default: /* FILLING, SCRUBBING: one that a worker has failed at */
		break;
	}
}

static void tenants_check(struct audit *a)
{
	u64 held[MM_TENANT_MAX] = { 0 }, charged = 0;
	const struct tenant *t;
	const struct extent *x;
	u32 i;

	for (i = 0; i < a->mm->nr_extents; i++) {
		x = &mm_extents(a->mm)[i];
		if ((x->state == EXTENT_GRANTED ||
		     x->state == EXTENT_QUARANTINE) &&
		    x->client < MM_CLIENT_MAX)
			held[mm_clients(a->mm)[x->client].tenant %
			     MM_TENANT_MAX] += KV_EXTENT_SIZE;
	}
	for (i = 0; i < MM_TENANT_MAX; i++) {
		t = &a->mm->tenants[i];
		if (t->held != held[i])
			fault(a,
			      "tenant %.32s: charged with %llu bytes of "
			      "extents, its clients hold %llu",
			      t->name, (unsigned long long)t->held,
			      (unsigned long long)held[i]);
		charged += t->charged;
	}
	if (charged != a->mm->charged)
		fault(a,
		      "weights: tenants are charged %llu bytes, the device "
		      "%llu",
		      (unsigned long long)charged,
		      (unsigned long long)a->mm->charged);
}

int main(int argc, char **argv)
{
	bool verbose = argc > 1 && !strcmp(argv[1], "-v");
	static struct audit a;
	int rc;
	u32 i;

	if (argc != 2 + verbose) {
		fprintf(stderr, "usage: audit [-v] SOCKET\n");
		return 2;
	}
	rc = freeze_begin(argv[1 + verbose], &a.books);
	if (!rc)
		rc = map_books(&a);
	if (!rc) {
		tables_walk(&a);
		slabs_check(&a);
		for (i = 0; i < a.mm->nr_extents; i++)
			extent_check(&a, i);
		tenants_check(&a);
	}
	freeze_end(&a.books);
	if (!rc && (verbose || a.nr_faults))
		printf("%llu entries, %llu frames, %llu ready extents read, "
		       "%llu faults\n",
		       (unsigned long long)a.nr_entries,
		       (unsigned long long)a.nr_frames,
		       (unsigned long long)a.nr_zero,
		       (unsigned long long)a.nr_faults);
	free(a.extent);
	free(a.refs);
	free(a.geom);
	return rc ? 2 : a.nr_faults ? 1 : 0;
}
