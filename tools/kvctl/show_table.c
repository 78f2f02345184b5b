/* SPDX-License-Identifier: MIT */
/*
 * show_table.c - the tables: which columns each object has
 *
 * A column that is not shown by default is there for -o and -s.
 */
#include "tools/kvctl/kvctl.h"

#include <inttypes.h>

#define TABLE(name, columns, ...)                                   \
	const struct table name = { .cols = columns,                \
				    .nr_cols = ARRAY_SIZE(columns), \
				    ##__VA_ARGS__ }

static const struct col device_cols[] = {
	{ "DEVICE", "name", NULL, COL_STR, 0 },
	{ "BACKEND", "backend", NULL, COL_STR, 0 },
	{ "TOTAL", "total_bytes", NULL, COL_BYTES, 0 },
	{ "HELD", "held_bytes", NULL, COL_BYTES, 0 },
	{ "FRAMES", "frame_bytes", NULL, COL_BYTES, 0 },
	{ "TOKENS", "token_bytes", NULL, COL_BYTES, 0 },
	{ "SHARED", "shared_bytes", NULL, COL_BYTES, 0 },
	{ "SAVED", "saved_bytes", NULL, COL_BYTES, 0 },
	{ "WEIGHTS", "charged_bytes", NULL, COL_BYTES, 0 },
	{ "FREE", "free_bytes", NULL, COL_BYTES, 0 },
	{ "USEFUL", "token_bytes", "frame_bytes", COL_PERCENT, 0 },
	{ "READY", "ready_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "EXTENT", "extent_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "CHUNK", "chunk_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "THP", "thp", NULL, COL_STR, COL_HIDDEN },
	{ "ID", "device", NULL, COL_INT, COL_HIDDEN },
};
TABLE(device_table, device_cols);

static const struct col client_cols[] = {
	{ "CLIENT", "client", NULL, COL_INT, 0 },
	{ "NAME", "name", NULL, COL_STR, 0 },
	{ "PID", "pid", NULL, COL_INT, 0 },
	{ "USER", "uid", NULL, COL_USER, 0 },
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "STATE", "state", NULL, COL_STR, 0 },
	{ "SPACES", "spaces", NULL, COL_INT, 0 },
	{ "HELD", "held_bytes", NULL, COL_BYTES, 0 },
	{ "FRAMES", "frame_bytes", NULL, COL_BYTES, 0 },
	{ "WEIGHTS", "weights_bytes", NULL, COL_BYTES, 0 },
	{ "STEP", "completed", NULL, COL_COUNT, 0 },
	{ "REQUESTS", "requests", NULL, COL_COUNT, 0 },
	{ "ATTACHED", "attached_ns", NULL, COL_NS, COL_HIDDEN },
	{ "UID", "uid", NULL, COL_INT, COL_HIDDEN },
	{ "EXTENTS", "extents", NULL, COL_INT, COL_HIDDEN },
	{ "LEAVES", "leaves", NULL, COL_INT, COL_HIDDEN },
	{ "INVALID", "invalid", NULL, COL_COUNT, COL_HIDDEN },
	{ "TICKETS", "tickets", NULL, COL_INT, COL_HIDDEN },
	{ "TURN", "turn", NULL, COL_STR, 0 },
	{ "TURNS", "turns", NULL, COL_COUNT, COL_HIDDEN },
	{ "T.HELD", "turn_held_ns", NULL, COL_NS, COL_HIDDEN },
	{ "T.WAITED", "turn_waited_ns", NULL, COL_NS, COL_HIDDEN },
	{ "T.REVOKED", "turns_revoked", NULL, COL_COUNT, COL_HIDDEN },
	{ "STEPS", "steps", NULL, COL_COUNT, COL_HIDDEN },
	{ "COMPUTED", "computed_ns", NULL, COL_NS, COL_HIDDEN },
	{ "MODEL", "model", NULL, COL_SHORT, COL_HIDDEN },
	{ "R.TOTAL", "region.total_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "R.SHARED", "region.shared_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "R.RESIDENT", "region.resident_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "R.PURGEABLE", "region.purgeable_bytes", NULL, COL_BYTES,
	  COL_HIDDEN },
	{ "R.ACTIVE", "region.active_bytes", NULL, COL_BYTES, COL_HIDDEN },
};
TABLE(client_table, client_cols);

static const struct col geom_cols[] = {
	{ "GEOM", "geom", NULL, COL_INT, 0 },
	{ "TOKENS", "page_tokens", NULL, COL_INT, 0 },
	{ "LAYERS", "layers", NULL, COL_INT, 0 },
	{ "HEADS", "kv_heads", NULL, COL_INT, 0 },
	{ "DIM", "head_dim", NULL, COL_INT, 0 },
	{ "PAGE", "page_bytes", NULL, COL_BYTES, 0 },
	{ "UNIT", "unit_bytes", NULL, COL_BYTES, 0 },
	{ "CHUNKS/SLAB", "slab_chunks", NULL, COL_INT, 0 },
	{ "PAGES/SLAB", "slab_pages", NULL, COL_INT, 0 },
};
static const TABLE(geom_table, geom_cols, .indent = "  ");

static const struct col tenant_cols[] = {
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "CLIENTS", "clients", NULL, COL_INT, 0 },
	{ "HELD", "held_bytes", NULL, COL_BYTES, 0 },
	{ "WEIGHTS", "charged_bytes", NULL, COL_BYTES, 0 },
	{ "FRAMES", "frame_bytes", NULL, COL_BYTES, 0 },
	{ "PEAK", "max_seen_bytes", NULL, COL_BYTES, 0 },
	{ "MIN", "min_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "LOW", "low_bytes", NULL, COL_BYTES, 0 },
	{ "HIGH", "high_bytes", NULL, COL_LIMIT, 0 },
	{ "MAX", "max_bytes", NULL, COL_LIMIT, 0 },
	{ "WEIGHT", "weight", NULL, COL_INT, COL_HIDDEN },
	{ "T.HELD", "turn_held_ns", NULL, COL_NS, COL_HIDDEN },
	{ "HITS", "limit_hits", NULL, COL_COUNT, 0 },
	{ "TICKETS", "tickets", NULL, COL_INT, 0 },
	{ "ID", "id", NULL, COL_INT, COL_HIDDEN },
	{ "E.LOW", "events.low", NULL, COL_COUNT, COL_HIDDEN },
	{ "E.HIGH", "events.high", NULL, COL_COUNT, COL_HIDDEN },
	{ "E.OOM", "events.oom", NULL, COL_COUNT, COL_HIDDEN },
	{ "E.REFUSED", "events.refused", NULL, COL_COUNT, COL_HIDDEN },
	{ "E.KILL", "events.oom_kill", NULL, COL_COUNT, COL_HIDDEN },
	{ "SWAPOUT", "swap_out_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "SWAPIN", "swap_in_bytes", NULL, COL_BYTES, COL_HIDDEN },
	{ "E.SWAPFAIL", "events.swap_fail", NULL, COL_COUNT, COL_HIDDEN },
	{ "E.REVOKED", "events.revoked", NULL, COL_COUNT, COL_HIDDEN },
};
TABLE(tenant_table, tenant_cols);

static const struct col pressure_cols[] = {
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "SOME10", "some.avg10", NULL, COL_HUNDREDTHS, 0 },
	{ "SOME60", "some.avg60", NULL, COL_HUNDREDTHS, 0 },
	{ "SOME300", "some.avg300", NULL, COL_HUNDREDTHS, 0 },
	{ "SOME(us)", "some.total_us", NULL, COL_INT, 0 },
	{ "FULL10", "full.avg10", NULL, COL_HUNDREDTHS, 0 },
	{ "FULL60", "full.avg60", NULL, COL_HUNDREDTHS, 0 },
	{ "FULL300", "full.avg300", NULL, COL_HUNDREDTHS, 0 },
	{ "FULL(us)", "full.total_us", NULL, COL_INT, 0 },
	{ "WAITING", "waiting", NULL, COL_INT, 0 },
	{ "WORKING", "working", NULL, COL_INT, COL_HIDDEN },
};
static const TABLE(pressure_table, pressure_cols);

static const struct col cache_cols[] = {
	{ "TREE", "tree", NULL, COL_INT, 0 },
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "MODEL", "ns.model", NULL, COL_STR, 0 },
	{ "ADAPTER", "ns.adapter", NULL, COL_STR, COL_HIDDEN },
	{ "SALT", "ns.salt", NULL, COL_STR, COL_HIDDEN },
	{ "PAGES", "pages", NULL, COL_COUNT, 0 },
	{ "HELD", "pages_held", NULL, COL_COUNT, 0 },
	{ "COPYING", "pages_copying", NULL, COL_COUNT, COL_HIDDEN },
	{ "TOKENS", "tokens", NULL, COL_COUNT, 0 },
	{ "BYTES", "bytes", NULL, COL_BYTES, 0 },
	{ "ASKED", "asked_tokens", NULL, COL_COUNT, 0 },
	{ "HIT", "hit_tokens", NULL, COL_COUNT, 0 },
};
static const TABLE(cache_table, cache_cols);

static const struct col swap_cols[] = {
	{ "TIER", "tier", NULL, COL_STR, 0 },
	{ "ROOM", "room_bytes", NULL, COL_BYTES, 0 },
	{ "USED", "used_bytes", NULL, COL_BYTES, 0 },
	{ "PAGES", "page_bytes", NULL, COL_BYTES, 0 },
	{ "RATIO", "ratio", NULL, COL_HUNDREDTHS, 0 },
	{ "WAITING", "waiting", NULL, COL_COUNT, 0 },
	{ "MOVING", "moving_bytes", NULL, COL_BYTES, 0 },
};
static const TABLE(swap_table, swap_cols);

static const struct col space_cols[] = {
	{ "CLIENT", "client", NULL, COL_INT, 0 },
	{ "SPACE", "space", NULL, COL_INT, 0 },
	{ "NAME", "name", NULL, COL_STR, 0 },
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "STATE", "state", NULL, COL_STR, 0 },
	{ "FAMILY", "family", NULL, COL_INT, 0 },
	{ "PARENT", "parent", NULL, COL_INT, 0 },
	{ "TOKENS", "len", NULL, COL_COUNT, 0 },
	{ "PAGES", "pages", NULL, COL_COUNT, 0 },
	{ "SHARED", "pages_shared", NULL, COL_COUNT, 0 },
	{ "SWAPPED", "pages_swapped", NULL, COL_COUNT, 0 },
	{ "RSS", "rss_bytes", NULL, COL_BYTES, 0 },
	{ "PSS", "pss_bytes", NULL, COL_BYTES, 0 },
	{ "USS", "uss_bytes", NULL, COL_BYTES, 0 },
	{ "PID", "pid", NULL, COL_INT, COL_HIDDEN },
	{ "AREAS", "areas", NULL, COL_INT, COL_HIDDEN },
	{ "ACTIVE", "active_step", NULL, COL_INT, COL_HIDDEN },
	{ "RESERVED", "resv_step", NULL, COL_INT, COL_HIDDEN },
	{ "GEN", "gen", NULL, COL_INT, COL_HIDDEN },
};
TABLE(space_table, space_cols);

static const struct col area_cols[] = {
	{ "AREA", "area", NULL, COL_INT, 0 },
	{ "GEOM", "geom", NULL, COL_INT, 0 },
	{ "WINDOW", "window", NULL, COL_INT, 0 },
	{ "FIRST", "page_first", NULL, COL_INT, 0 },
	{ "END", "page_end", NULL, COL_INT, 0 },
	{ "PAGES", "pages", NULL, COL_INT, 0 },
	{ "SHARED", "pages_shared", NULL, COL_INT, 0 },
	{ "HEAD", "head_first", NULL, COL_INT, 0 },
	{ "HEADS", "heads", NULL, COL_INT, 0 },
};
static const TABLE(area_table, area_cols, .indent = "  ");

static const struct col pte_cols[] = {
	{ "AREA", "area", NULL, COL_INT, 0 },
	{ "PAGE", "page", NULL, COL_INT, 0 },
	{ "ENTRY", "entry", NULL, COL_INT, 0 },
	{ "EXTENT", "extent", NULL, COL_INT, 0 },
	{ "OFFSET", "offset_bytes", NULL, COL_INT, 0 },
	{ "FLAGS", "flags", NULL, COL_STR, 0 },
	{ "GEN", "gen", NULL, COL_INT, 0 },
};
static const TABLE(pte_table, pte_cols);

static const struct col weights_cols[] = {
	{ "ID", "weights", NULL, COL_INT, 0 },
	{ "NAME", "name", NULL, COL_STR, 0 },
	{ "DIGEST", "digest", NULL, COL_SHORT, 0 },
	{ "TENANT", "tenant", NULL, COL_STR, 0 },
	{ "STATE", "state", NULL, COL_STR, 0 },
	{ "SIZE", "bytes", NULL, COL_BYTES, 0 },
	{ "RESIDENT", "resident_bytes", NULL, COL_BYTES, 0 },
	{ "OPEN", "open", NULL, COL_INT, 0 },
	{ "WAITERS", "waiters", NULL, COL_INT, COL_HIDDEN },
	{ "FILLER", "filler", NULL, COL_INT, COL_HIDDEN },
	{ "PACKING", "packing", NULL, COL_INT, COL_HIDDEN },
	{ "ISA", "isa", NULL, COL_INT, COL_HIDDEN },
	{ "IDLE", "idle_ns", NULL, COL_NS, COL_HIDDEN },
};
static const TABLE(weights_table, weights_cols);

static const struct col owner_cols[] = {
	{ "SPACE", "space", NULL, COL_INT, 0 },
	{ "AREA", "area", NULL, COL_INT, 0 },
	{ "PAGE", "page", NULL, COL_INT, 0 },
	{ "FLAGS", "flags", NULL, COL_STR, 0 },
};
static const TABLE(owner_table, owner_cols, .indent = "  ");

int show_device_list(const struct invocation *inv, json_t *a)
{
	return tab_print(inv->opt, &device_table, member(a, "devices"));
}

int show_client_list(const struct invocation *inv, json_t *a)
{
	return tab_print(inv->opt, &client_table, member(a, "clients"));
}

int show_tenant_list(const struct invocation *inv, json_t *a)
{
	return tab_print(inv->opt, &tenant_table, member(a, "tenants"));
}

/* One line about what kvctl changes, then the tiers. */
int show_swap_list(const struct invocation *inv, json_t *a)
{
	if (!inv->opt->no_header)
		printf("deadline %" PRIu64 " ms, demote %" PRIu64 ",%" PRIu64
		       " %%, discard %s\n",
		       member_u64(a, "deadline_ms"),
		       member_u64(a, "demote_low"),
		       member_u64(a, "demote_high"),
		       json_is_true(member(a, "discard")) ? "on" : "off");
	return tab_print(inv->opt, &swap_table, member(a, "tiers"));
}

int show_cache_list(const struct invocation *inv, json_t *a)
{
	return tab_print(inv->opt, &cache_table, member(a, "trees"));
}

/* The row without a tenant is the device's. */
int show_pressure(const struct invocation *inv, json_t *a)
{
	return tab_print(inv->opt, &pressure_table, member(a, "pressure"));
}

int show_space_list(const struct invocation *inv, json_t *a)
{
	return tab_print(inv->opt, &space_table, member(a, "spaces"));
}

int show_weights_list(const struct invocation *inv, json_t *a)
{
	return tab_print(inv->opt, &weights_table, member(a, "weights"));
}

int show_client(const struct invocation *inv, json_t *a)
{
	struct options plain = *inv->opt;

	plain.columns = plain.sort = NULL;
	show_object(inv, a);
	return tab_print(&plain, &geom_table, member(a, "client.geometries"));
}

int show_space(const struct invocation *inv, json_t *a)
{
	struct options plain = *inv->opt;
	json_t *areas = member(a, "space.area");

	plain.columns = plain.sort = NULL;
	show_object(inv, a);
	return tab_print(&plain, &area_table, areas);
}

/* One line about the space, then its page table. */
int show_space_dump(const struct invocation *inv, json_t *a)
{
	const json_t *s = member(a, "space");
	char name[64];

	fmt_clean(name, sizeof(name), member_str(s, "name"));
	if (!inv->opt->no_header)
		printf("space %" PRIu64 ":%" PRIu64 " of %s (pid %" PRIu64
		       "): %" PRIu64 " tokens, %" PRIu64 " pages, %" PRIu64
		       " shared\n",
		       member_u64(s, "client"), member_u64(s, "space"), name,
		       member_u64(s, "pid"), member_u64(s, "len"),
		       member_u64(s, "pages"), member_u64(s, "pages_shared"));
	return tab_print(inv->opt, &pte_table, member(a, "pages"));
}

int show_who(const struct invocation *inv, json_t *a)
{
	char tenant[64];

	fmt_clean(tenant, sizeof(tenant), member_str(a, "tenant"));
	if (!json_is_integer(member(a, "client"))) {
		printf("offset %" PRIu64 " (extent %" PRIu64 "): nobody's\n",
		       member_u64(a, "offset_bytes"), member_u64(a, "extent"));
		return EX_KV_OK;
	}
	if (!inv->opt->no_header)
		printf("offset %" PRIu64 " (extent %" PRIu64
		       "): client %" PRIu64 " (pid %" PRIu64 "), tenant %s\n",
		       member_u64(a, "offset_bytes"), member_u64(a, "extent"),
		       member_u64(a, "client"), member_u64(a, "pid"), tenant);
	if (!json_array_size(member(a, "pages"))) {
		if (!inv->opt->no_header)
			printf("  no space has a page there\n");
		return EX_KV_OK;
	}
	return tab_print(inv->opt, &owner_table, member(a, "pages"));
}
