/* SPDX-License-Identifier: MIT */
/*
 * space.c - requests about spaces, their page tables, and whose a page is
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <kv/pte.h>
#include <kv/table.h>
#include "kvmd/ctl/ctl.h"
#include "kvmd/ipc/conn.h"
#include "kvmd/ipc/session.h"
#include "kvmd/kvmd.h"

static json_t *space_json(struct kvmd *d, const struct session *s, u32 space,
			  const struct mm_space_info *info)
{
	json_t *o = json_object();

	ctl_set(o, "client", s->id);
	ctl_set(o, "space", space);
	ctl_set_text(o, "name", s->name);
	ctl_set_text(o, "tenant", s->tenant_name);
	ctl_set(o, "pid", (u64)s->peer.pid);
	ctl_set_text(o, "state",
		     info->state == KV_SPACE_LIVE ? "live" : "dying");
	ctl_set(o, "family", info->family);
	json_object_set_new(o, "parent",
			    info->parent == MM_NONE ? json_null()
						    : ctl_u64(info->parent));
	ctl_set(o, "areas", info->nr_areas);
	ctl_set(o, "len", info->len);
	ctl_set(o, "active_step", info->active_step);
	ctl_set(o, "resv_step", info->resv_step);
	ctl_set(o, "gen", info->gen);
	ctl_set(o, "pages", info->pages);
	ctl_set(o, "pages_shared", info->pages_shared);
	ctl_set(o, "pages_swapped", info->pages_swapped);
	ctl_set(o, "pages_lost", info->pages_lost);
	ctl_set(o, "swap_bytes", info->swap_bytes);
	ctl_set(o, "rss_bytes", info->rss_bytes);
	ctl_set(o, "pss_bytes", info->pss_bytes);
	ctl_set(o, "uss_bytes", info->uss_bytes);
	return o;
}

static void list_of(struct ctl *q, const struct session *s, json_t *a)
{
	struct mm_client_info client;
	struct mm_space_info info;
	u32 i, nr = 0;

	if (mm_client_info(q->d->mm, s->id, &client))
		return;
	for (i = 0; i < KV_SPACE_MAX && nr < client.nr_spaces; i++) {
		if (mm_space_info(q->d->mm, s->id, i, &info))
			continue;
		nr++;
		json_array_append_new(a, space_json(q->d, s, i, &info));
	}
}

static int space_list(struct ctl *q, json_t *out)
{
	const char *arg = ctl_arg(q, 0);
	struct session *s;
	json_t *a;
	int rc;

	if (arg) {
		rc = ctl_session(q, arg, &s);
		if (rc)
			return rc;
	}
	a = json_array();
	if (arg) {
		list_of(q, s, a);
	} else {
		TAILQ_FOREACH(s, &q->d->all, link)
		{
			if (ctl_sees(q, s))
				list_of(q, s, a);
		}
	}
	json_object_set_new(out, "spaces", a);
	return 0;
}

/* "CLIENT:SPACE" */
static int space_named(struct ctl *q, const char *word, struct session **s,
		       u32 *space, struct mm_space_info *info)
{
	char *colon = strchr(word, ':');
	u64 n;
	int rc;

	if (!colon || ctl_number(colon + 1, KV_SPACE_MAX - 1, &n))
		return err_set(q->err, -EINVAL, "space %s: not CLIENT:SPACE",
			       word);
	*colon = '\0';
	rc = ctl_session(q, word, s);
	*colon = ':';
	if (rc)
		return rc;
	*space = (u32)n;
	rc = mm_space_info(q->d->mm, (*s)->id, *space, info);
	return rc ? err_set(q->err, -ENOENT, "space %s: there is none", word)
		  : 0;
}

/* ---- page tables ---- */

typedef void (*pte_fn)(void *ctx, u32 area, u32 page, kv_pte_t pte,
		       u64 offset_bytes);

/*
 * Call @fn for each entry of @space that names a frame. The table is kvmd's
 * own writing, yet its indices are checked: where the table's owner has
 * kvmd's uid it could have written to it.
 */
static void table_walk(const struct kvmd *d, const struct session *s, u32 space,
		       pte_fn fn, void *ctx)
{
	const struct kv_space_desc *desc = kv_table_space(s->table, space);
	u32 nr_leaves = (u32)((s->table_bytes - KV_TABLE_LEAVES_OFF) /
			      sizeof(struct kv_leaf));
	u32 a, page, leaf;

	for (a = 0; a < desc->nr_areas && a < KV_AREA_MAX; a++) {
		const struct kv_area_desc *area = &desc->area[a];
		const struct kv_geometry *g = mm_geom(d->mm, s->id, area->geom);
		u32 end = min(area->page_end, KV_AREA_PAGES);

		if (!g)
			continue;
		for (page = area->page_first; page < end; page++) {
			kv_pte_t pte;

			leaf = area->leaf[page / KV_LEAF_PTES];
			if (leaf >= nr_leaves)
				continue;
			pte = kv_table_leaf(s->table, leaf)
				      ->pte[page % KV_LEAF_PTES];
			if (pte & (KV_PTE_PRESENT | KV_PTE_MOVING))
				fn(ctx, a, page, pte,
				   (u64)kv_pte_frame(pte) * g->unit_bytes);
		}
	}
}

static void set_flags(json_t *o, kv_pte_t pte)
{
	static const struct {
		u64 bit;
		char c;
	} flags[] = {
		{ KV_PTE_PRESENT, 'p' },  { KV_PTE_PRESENT, 'r' },
		{ KV_PTE_WRITE, 'w' },	  { KV_PTE_SHARED, 's' },
		{ KV_PTE_ACCESSED, 'a' }, { KV_PTE_DIRTY, 'd' },
		{ KV_PTE_MOVING, 'm' },
	};
	char text[ARRAY_SIZE(flags) + 1] = "";
	unsigned int i, n = 0;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		if (pte & flags[i].bit)
			text[n++] = flags[i].c;
	}
	ctl_set_text(o, "flags", text);
}

static void dump_pte(void *ctx, u32 area, u32 page, kv_pte_t pte, u64 offset)
{
	json_t *o = json_object();

	ctl_set(o, "area", area);
	ctl_set(o, "page", page);
	ctl_set(o, "entry", kv_pte_frame(pte));
	ctl_set(o, "offset_bytes", offset);
	ctl_set(o, "extent", offset >> KV_EXTENT_SHIFT);
	set_flags(o, pte);
	ctl_set(o, "gen", (pte & KV_PTE_GEN) >> KV_PTE_GEN_SHIFT);
	json_array_append_new(ctx, o);
}

static int space_dump(struct ctl *q, json_t *out)
{
	struct mm_space_info info;
	struct session *s;
	json_t *a;
	u32 space;
	int rc;

	rc = space_named(q, ctl_arg(q, 0), &s, &space, &info);
	if (rc)
		return rc;
	a = json_array();
	table_walk(q->d, s, space, dump_pte, a);
	json_object_set_new(out, "space", space_json(q->d, s, space, &info));
	json_object_set_new(out, "pages", a);
	return 0;
}

struct area_count {
	u64 pages[KV_AREA_MAX], shared[KV_AREA_MAX];
};

static void count_pte(void *ctx, u32 area, u32 page, kv_pte_t pte, u64 offset)
{
	struct area_count *n = ctx;

	n->pages[area]++;
	n->shared[area] += !!(pte & KV_PTE_SHARED);
}

static int space_show(struct ctl *q, json_t *out)
{
	struct area_count n = { 0 };
	const struct kv_space_desc *desc;
	const struct kv_area_desc *area;
	struct mm_client_info client;
	struct mm_space_info info;
	struct session *s;
	json_t *o, *a, *one;
	u32 space, i;
	int rc;

	rc = space_named(q, ctl_arg(q, 0), &s, &space, &info);
	if (!rc)
		rc = mm_client_info(q->d->mm, s->id, &client);
	if (rc)
		return rc;
	table_walk(q->d, s, space, count_pte, &n);
	desc = kv_table_space(s->table, space);
	o = space_json(q->d, s, space, &info);
	json_object_set_new(o, "ns", ctl_ns(&desc->ns));
	json_object_set_new(o, "rank", ctl_rank(&client.rank));
	a = json_array();
	for (i = 0; i < info.nr_areas && i < KV_AREA_MAX; i++) {
		area = &desc->area[i];
		one = json_object();
		ctl_set(one, "area", i);
		ctl_set(one, "geom", area->geom);
		ctl_set(one, "window", area->window);
		ctl_set(one, "page_first", area->page_first);
		ctl_set(one, "page_end", area->page_end);
		ctl_set(one, "pages", n.pages[i]);
		ctl_set(one, "pages_shared", n.shared[i]);
		ctl_set(one, "head_first", area->head_first);
		ctl_set(one, "heads", area->nr_heads);
		json_array_append_new(a, one);
	}
	json_object_set_new(o, "area", a);
	json_object_set_new(out, "space", o);
	return 0;
}

/* ---- whose is it ---- */

struct who {
	u64 offset;
	u32 space;
	const struct kvmd *d;
	const struct session *s;
	json_t *pages;
};

static void who_pte(void *ctx, u32 area, u32 page, kv_pte_t pte, u64 offset)
{
	struct who *w = ctx;
	u32 geom = kv_table_space(w->s->table, w->space)->area[area].geom;
	const struct kv_geometry *g = mm_geom(w->d->mm, w->s->id, geom);
	json_t *o;

	if (w->offset < offset || w->offset - offset >= g->page_bytes)
		return;
	o = json_object();
	ctl_set(o, "space", w->space);
	ctl_set(o, "area", area);
	ctl_set(o, "page", page);
	set_flags(o, pte);
	json_array_append_new(w->pages, o);
}

/* OFFSET, or CLIENT:GEOM:ENTRY */
static int who_offset(struct ctl *q, const char *word, u64 *offset)
{
	char text[CTL_LINE_MAX], *geom, *entry, *save = NULL;
	const struct kv_geometry *g;
	struct session *s;
	u64 ng, ne;
	int rc;

	if (!strchr(word, ':'))
		return options_bytes(word, offset)
			       ? err_set(q->err, -EINVAL,
					 "place %s: neither a byte offset nor "
					 "CLIENT:GEOM:ENTRY",
					 word)
			       : 0;
	snprintf(text, sizeof(text), "%s", word);
	strtok_r(text, ":", &save);
	geom = strtok_r(NULL, ":", &save);
	entry = strtok_r(NULL, ":", &save);
	if (!geom || !entry || ctl_number(geom, KV_GEOM_MAX - 1, &ng) ||
	    ctl_number(entry, ~0u, &ne))
		return err_set(q->err, -EINVAL,
			       "place %s: not CLIENT:GEOM:ENTRY", word);
	rc = ctl_session(q, text, &s);
	if (rc)
		return rc;
	g = mm_geom(q->d->mm, s->id, (u32)ng);
	if (!g)
		return err_set(q->err, -ENOENT,
			       "place %s: the client has no such geometry",
			       word);
	*offset = ne * g->unit_bytes;
	return 0;
}

static int who_show(struct ctl *q, json_t *out)
{
	struct who w = { .d = q->d };
	struct mm_space_info info;
	struct session *s = NULL;
	u32 owner;
	int rc;

	rc = who_offset(q, ctl_arg(q, 0), &w.offset);
	if (rc)
		return rc;
	if (w.offset >= q->d->dev->bytes)
		return err_set(q->err, -ENOENT, "place %s: beyond the device",
			       ctl_arg(q, 0));
	owner = mm_extent_owner(q->d->mm, (u32)(w.offset >> KV_EXTENT_SHIFT));
	if (owner < MM_CLIENT_MAX)
		s = q->d->sessions[owner];
	if (s && !ctl_sees(q, s))
		return err_set(q->err, -EPERM,
			       "place %s: belongs to another tenant",
			       ctl_arg(q, 0));
	w.s = s;
	w.pages = json_array();
	for (w.space = 0; s && w.space < KV_SPACE_MAX; w.space++) {
		if (!mm_space_info(q->d->mm, s->id, w.space, &info))
			table_walk(q->d, s, w.space, who_pte, &w);
	}
	ctl_set(out, "offset_bytes", w.offset);
	ctl_set(out, "extent", w.offset >> KV_EXTENT_SHIFT);
	json_object_set_new(out, "client", s ? ctl_u64(s->id) : json_null());
	json_object_set_new(out, "tenant",
			    s ? json_string(s->tenant_name) : json_null());
	json_object_set_new(out, "pid",
			    s ? ctl_u64((u64)s->peer.pid) : json_null());
	json_object_set_new(out, "pages", w.pages);
	return 0;
}

const struct ctl_def ctl_space_defs[] = {
	{ .object = "space",
	  .verb = "list",
	  .args_max = 1,
	  .handle = space_list },
	{ .object = "space",
	  .verb = "show",
	  .args_min = 1,
	  .args_max = 1,
	  .handle = space_show },
	{ .object = "space",
	  .verb = "dump",
	  .args_min = 1,
	  .args_max = 1,
	  .handle = space_dump },
	{ .object = "who", .args_min = 1, .args_max = 1, .handle = who_show },
	{ .object = NULL },
};
